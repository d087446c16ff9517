"""Metrics of predicted classes whose rows belong together: what every row adds to an error, summed by cluster."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import numpy.typing as npt

from dlstudio import scoring
from dlstudio.trust.estimates import Estimate

__all__ = ["clustered_classes", "clustered_per_class"]

Array = npt.NDArray[Any]


def clustered_classes(
    found: list[Estimate], y_true: Array, y_pred: Array, n_classes: int, clusters: Array, level: float
) -> list[Estimate]:
    """Return metrics of predicted classes with intervals that let rows of a cluster be alike.

    Args:
        found: the metrics, as `of_classes` returns them.
        y_true, y_pred: int (n,), true and predicted classes.
        n_classes: how many there are.
        clusters: int (n,), which rows belong together.
        level: of confidence.
    """
    right = y_true == y_pred
    n_true, n_said = (np.bincount(labels, minlength=n_classes) for labels in (y_true, y_pred))
    hits = np.bincount(y_true[right], minlength=n_classes)
    counted = (np.arange(2) == 1) if n_classes == 2 else n_true + n_said > 0
    with np.errstate(invalid="ignore", divide="ignore"):
        recall, f1, both = hits / n_true, 2 * hits / (n_true + n_said), n_true + n_said
        of_true = np.where(counted[y_true], (2 * right - f1[y_true]) / both[y_true], 0)
        of_said = np.where(counted[y_pred], f1[y_pred] / both[y_pred], 0)
    parts = {
        "accuracy": (right - right.mean()) / len(right),
        "balanced_accuracy": (right - recall[y_true]) / n_true[y_true] / (n_true > 0).sum(),
        "f1": (of_true - of_said) / counted.sum(),
    }
    if n_classes == 2:
        parts |= {
            "precision": _share(y_pred == 1, right), "recall": _share(y_true == 1, right),
            "specificity": _share(y_true == 0, right),
        }  # fmt: skip
    n = len(np.unique(clusters))
    ends = [_ends(one.value, parts[one.metric], clusters, min(one.n, n), level) for one in found]
    return [
        dataclasses.replace(one, interval="delta", low=low, high=high)
        for one, (low, high) in zip(found, ends, strict=True)
    ]


def clustered_per_class(
    rows: list[dict[str, Any]], y_true: Array, y_pred: Array, clusters: Array, level: float
) -> None:
    """Replace the limits of precision, recall and F1 in a table of one row per class."""
    for k, row in enumerate(rows):
        true, said = y_true == k, y_pred == k
        both = true.astype(np.int64) + said
        parts = {
            "precision": _share(said, true), "recall": _share(true, said),
            "f1": (2 * (true & said) - row["f1"] * both) / max(int(both.sum()), 1),
        }  # fmt: skip
        for name, among in (("precision", said), ("recall", true), ("f1", true | said)):
            n = len(np.unique(clusters[among]))
            row[f"{name}_low"], row[f"{name}_high"] = _ends(row[name], parts[name], clusters, n, level)


def _share(among: Array, have: Array) -> Array:
    """What every row adds to the error of the share of some rows that have it."""
    n = max(int(among.sum()), 1)
    return np.asarray(among * (have - (among & have).sum() / n) / n)


def _ends(value: float, parts: Array, clusters: Array, n: int, level: float) -> tuple[float, float]:
    if not np.isfinite(value) or not n:
        return float("nan"), float("nan")
    return scoring.within_unit(value, scoring.deviation_of(parts, clusters), n, level)
