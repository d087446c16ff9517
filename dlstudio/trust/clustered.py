"""Metrics of predicted classes whose rows belong together: what every row adds to an error, summed by cluster."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import numpy.typing as npt

from dlstudio import scoring
from dlstudio.trust.estimates import Estimate, f1_parts

__all__ = ["clustered_classes", "clustered_per_class"]

Array = npt.NDArray[Any]


def clustered_classes(
    found: list[Estimate], y_true: Array, y_pred: Array, confusion: Array, clusters: Array, level: float
) -> list[Estimate]:
    """Return metrics of predicted classes with intervals that let rows of a cluster be alike.

    Args:
        found: the metrics, as `of_classes` returns them.
        y_true, y_pred: int (n,), true and predicted classes.
        confusion: int (classes, classes), their rows by true and predicted class.
        clusters: int (n,), which rows belong together.
        level: of confidence.
    """
    n_classes, right = len(confusion), y_true == y_pred
    n_true, hits = (np.bincount(labels, minlength=n_classes) for labels in (y_true, y_true[right]))
    recall = hits / np.maximum(n_true, 1)
    parts = {
        "accuracy": (right - right.mean()) / len(right),
        "balanced_accuracy": (right - recall[y_true]) / n_true[y_true] / (n_true > 0).sum(),
        "f1": f1_parts(confusion)[1][y_true, y_pred],
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
