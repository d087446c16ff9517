"""What a model's outputs are worth, by scikit-learn, which is imported at the first evaluation only."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["predictions", "score"]

_Array = npt.NDArray[Any]


def predictions(task: str, outputs: _Array) -> tuple[_Array, _Array]:
    """Turn raw outputs into predicted values and scores.

    Args:
        task: ``"binary"``, ``"multiclass"`` or ``"regression"``.
        outputs: logits float (n, classes), or values float (n,).

    Returns:
        ``(y_pred, y_score)``: for classes the index int64 (n,) and the probabilities float (n, classes); for
        regression the values float (n,) twice.
    """
    if task == "regression":
        return outputs, outputs
    shifted = np.exp(outputs - outputs.max(axis=1, keepdims=True))
    return outputs.argmax(axis=1).astype(np.int64), shifted / shifted.sum(axis=1, keepdims=True)


def score(task: str, y_true: _Array, outputs: _Array) -> dict[str, float]:
    """Return the metrics of one evaluation.

    Args:
        task: ``"binary"``, ``"multiclass"`` or ``"regression"``.
        y_true: class indices (n,), or values (n,).
        outputs: logits (n, classes), or values (n,).

    Returns:
        ``accuracy``, ``balanced_accuracy``, ``auc`` (one class against the rest, macro mean) and ``f1`` (of
        class 1 when binary, else macro mean); or ``mae``, ``rmse`` and ``r2``. A metric that is undefined, as
        AUC is for a single class and everything is for non-finite outputs, is NaN.
    """
    y_pred, y_score = predictions(task, outputs)
    finite = bool(np.isfinite(outputs).all())
    return (
        _regression(y_true, y_pred, finite) if task == "regression" else _classes(task, y_true, y_pred, y_score, finite)
    )


def _regression(y_true: _Array, y_pred: _Array, finite: bool) -> dict[str, float]:
    if not finite:
        return dict.fromkeys(("mae", "rmse", "r2"), float("nan"))
    from sklearn import metrics

    return {
        "mae": float(metrics.mean_absolute_error(y_true, y_pred)),
        "rmse": float(metrics.root_mean_squared_error(y_true, y_pred)),
        "r2": float(metrics.r2_score(y_true, y_pred)) if len(y_true) > 1 else float("nan"),
    }


def _classes(task: str, y_true: _Array, y_pred: _Array, y_score: _Array, finite: bool) -> dict[str, float]:
    if not finite:
        return dict.fromkeys(("accuracy", "balanced_accuracy", "auc", "f1"), float("nan"))
    from sklearn import metrics

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a class that is absent from a small part is no news
        found = {
            "accuracy": float(metrics.accuracy_score(y_true, y_pred)),
            "balanced_accuracy": float(metrics.balanced_accuracy_score(y_true, y_pred)),
            "f1": float(metrics.f1_score(y_true, y_pred, average="binary" if task == "binary" else "macro")),
        }
    found["auc"] = _auc(metrics, y_true, y_score)
    return found


def _auc(metrics: Any, y_true: _Array, y_score: _Array) -> float:
    """The mean over the classes that have rows on both sides."""
    present = [c for c in range(y_score.shape[1]) if 0 < int((y_true == c).sum()) < len(y_true)]
    if y_score.shape[1] == 2:
        present = [c for c in present if c == 1]
    values = [float(metrics.roc_auc_score(y_true == c, y_score[:, c])) for c in present]
    return float(np.mean(values)) if values else float("nan")
