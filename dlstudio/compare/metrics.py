"""Metrics of rows, and what each row of the data adds to one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from dlstudio.errors import unknown_name
from dlstudio.scoring import auc_parts, every_class

__all__ = ["ROW_METRICS", "auc_rows", "base_name", "metric_of_rows", "row_losses"]

Array = npt.NDArray[Any]


def base_name(metric: str) -> str:
    """Return a metric's name without the part of the data it was measured on.

    Example:
        >>> base_name("val/auc")
        'auc'
    """
    return metric.rsplit("/", 1)[-1]


def row_losses(metric: str, y_true: Array, y_pred: Array, y_score: Array | None) -> Array | None:
    """Return what each row adds to a metric that is a mean over rows, (n,) float64; None for any other metric."""
    if metric == "accuracy":
        return np.asarray(y_pred == y_true, dtype=np.float64)
    if metric in ("log_loss", "brier") and y_score is not None:
        both = every_class(y_score)
        if metric == "log_loss":
            eps = np.finfo(np.float64).eps
            return np.asarray(-np.log(np.clip(both[np.arange(len(both)), y_true], eps, 1.0)))
        squares = ((both - np.eye(both.shape[1])[y_true]) ** 2).sum(axis=1)
        return np.asarray(squares / (2 if both.shape[1] == 2 else 1))
    if metric in ("mae", "mse"):
        off = y_pred.astype(np.float64) - y_true
        return np.asarray(np.abs(off) if metric == "mae" else off**2)
    return None


def auc_rows(y_true: Array, y_score: Array) -> tuple[float, Array]:
    """Return the area under the ROC curve and what every row adds to its error.

    The squares of the second sum to DeLong's variance, and those of the difference of two models to that of their
    difference. Of several classes, each against the rest, the mean.

    References:
        DeLong, DeLong and Clarke-Pearson, Comparing the areas under two or more correlated ROC curves (1988).
    """
    scores = [(1, y_score)] if y_score.ndim == 1 else list(enumerate(y_score.T))
    if y_score.ndim == 2 and y_score.shape[1] == 2:
        scores = [(1, y_score[:, 1])]
    parts = [auc_parts(y_true == k, score) for k, score in scores if 0 < np.count_nonzero(y_true == k) < len(y_true)]
    if not parts:
        return float("nan"), np.full(len(y_true), np.nan)
    return float(np.mean([value for value, _ in parts])), np.mean([rows for _, rows in parts], axis=0)


def _balanced(y_true: Array, y_pred: Array, y_score: Array | None) -> float:
    return float(np.mean([(y_pred[y_true == k] == k).mean() for k in np.unique(y_true)]))


def _f1(y_true: Array, y_pred: Array, y_score: Array | None) -> float:
    classes = np.unique(np.concatenate([y_true, y_pred]))
    judged = [1] if set(classes.tolist()) <= {0, 1} else classes.tolist()
    each = []
    for k in judged:
        right, said, there = ((y_pred == k) & (y_true == k)).sum(), (y_pred == k).sum(), (y_true == k).sum()
        each.append(2 * right / (said + there) if said + there else np.nan)
    return float(np.mean(each))


def _rmse(y_true: Array, y_pred: Array, y_score: Array | None) -> float:
    return float(np.sqrt(((y_pred - y_true) ** 2).mean()))


def _r2(y_true: Array, y_pred: Array, y_score: Array | None) -> float:
    spread = ((y_true - y_true.mean()) ** 2).sum()
    return float(1 - ((y_pred - y_true) ** 2).sum() / spread) if spread else float("nan")


_OF_ROWS: dict[str, Callable[[Array, Array, Array | None], float]] = {
    "balanced_accuracy": _balanced, "f1": _f1, "rmse": _rmse, "r2": _r2,
}  # fmt: skip
ROW_METRICS = {
    "class": ("accuracy", "balanced_accuracy", "f1"),
    "score": ("auc", "log_loss", "brier"),
    "value": ("mae", "mse", "rmse", "r2"),
}
"""Metrics by what they need: classes, probabilities, or quantities."""


def metric_of_rows(metric: str, y_true: Array, y_pred: Array, y_score: Array | None) -> float:
    """Return a metric of rows.

    Raises:
        DLStudioError: there is no metric of that name.
    """
    if metric == "auc" and y_score is not None:
        return auc_rows(y_true, y_score)[0]
    rows = row_losses(metric, y_true, y_pred, y_score)
    if rows is not None:
        return float(rows.mean())
    if metric not in _OF_ROWS:
        raise unknown_name("metric of rows", metric, sum(ROW_METRICS.values(), ()))
    return _OF_ROWS[metric](y_true, y_pred, y_score)
