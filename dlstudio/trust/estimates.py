"""The metrics that a model is signed off by, each with an interval."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import numpy.typing as npt

from dlstudio import scoring, stats

__all__ = ["Estimate", "average_precision_parts", "f1_parts", "of_classes", "of_scores", "of_values"]

Array = npt.NDArray[Any]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Estimate:
    """One metric of one evaluation.

    Attributes:
        metric: its name, as scikit-learn writes it.
        value, low, high: NaN where it is undefined, as AUC is for a single class.
        baseline: what a model gets that knows the shares of the classes, or the mean, and nothing else; NaN where there
            is no such value.
        n: rows it rests on.
        interval: the kind of interval.
    """

    metric: str
    value: float
    low: float
    high: float
    baseline: float = float("nan")
    n: int
    interval: str


def of_classes(confusion: Array, level: float) -> list[Estimate]:
    """Return the metrics of predicted classes from a confusion matrix (true class, predicted class).

    Means over classes (balanced accuracy; F1 of more than two) are of the classes that have rows.
    """
    n, right, per_class = int(confusion.sum()), np.diag(confusion), confusion.sum(axis=1)
    there = per_class > 0
    share = per_class / n
    low, high = stats.wilson(right.sum(), n, level)
    found = [_estimate("accuracy", right.sum() / n, low, high, share.max(), n, "Wilson")]
    value, low, high = scoring.balanced_accuracy(right[there], per_class[there], level)
    found.append(_estimate("balanced_accuracy", value, low, high, 1 / there.sum(), n, "Newcombe"))
    if len(confusion) > 2:
        mean, parts = f1_parts(confusion)
        alike = there.sum() ** 2 / (1 / per_class[there]).sum()  # rows that count where classes weigh alike
        ends = scoring.within_unit(mean, float(np.sqrt((confusion * parts**2).sum())), alike, level)
        most = 2 * share.max() / (1 + share.max()) / there.sum()  # always answering it
        return [*found, _estimate("f1", mean, *ends, most, n, "delta")]
    (tn, fp), (fn, tp) = confusion.tolist()
    for name, count, of, baseline in (
        ("precision", tp, tp + fp, share[1]), ("recall", tp, tp + fn, np.nan), ("specificity", tn, tn + fp, np.nan),
    ):  # fmt: skip
        low, high = stats.wilson(count, of, level)
        found.append(_estimate(name, count / of if of else np.nan, low, high, baseline, of, "Wilson"))
    value, low, high = scoring.f1(tp, fp, fn, level)
    found.append(_estimate("f1", value, low, high, 2 * share[1] / (1 + share[1]), n, "Wilson, transformed"))
    return found


def f1_parts(confusion: Array) -> scoring.Parts:
    """Return F1 and what a row of every cell (true class, predicted class) adds to its error.

    It is that of class 1 of two, or the mean over more, of the classes that are there or predicted.
    """
    both = confusion.sum(axis=1) + confusion.sum(axis=0)
    counted = both > 0 if len(both) > 2 else np.arange(2) == 1
    weight = counted / np.maximum(both, 1) / counted.sum()
    f1 = 2 * np.diag(confusion) / np.maximum(both, 1)
    return float(f1[counted].mean()), weight[:, None] * (2 * np.eye(len(f1)) - f1[:, None]) - weight * f1


def of_scores(y: Array, y_score: Array, level: float, clusters: Array | None = None) -> list[Estimate]:
    """Return the metrics of probabilities (n,) of class 1 or (n, classes), whose ranks are judged class by class."""
    both = scoring.every_class(y_score)
    n, n_classes = both.shape
    share = np.bincount(y, minlength=n_classes) / n
    judged = [k for k in ([1] if n_classes == 2 else range(n_classes)) if 0 < share[k] < 1]
    found = []
    # An average precision of rows that are ranked blindly is the share of positives.
    for name, parts, blind in (
        ("auc", scoring.auc_parts, lambda k: 0.5), ("average_precision", average_precision_parts, lambda k: share[k]),
    ):  # fmt: skip
        each = [parts(y == k, both[:, k]) for k in judged]
        method = "DeLong" if name == "auc" else "influence"
        if not each:
            found.append(_estimate(name, np.nan, np.nan, np.nan, np.nan, n, method))
            continue
        value = float(np.mean([one for one, _ in each]))
        deviation = scoring.deviation_of(np.mean([each_row for _, each_row in each], axis=0), clusters)
        smallest = min(min(share[k], 1 - share[k]) for k in judged) * n
        smallest = smallest if clusters is None else min(smallest, len(np.unique(clusters)))
        low, high = scoring.within_unit(value, deviation, smallest, level)
        found.append(_estimate(name, value, low, high, np.mean([blind(k) for k in judged]), n, method))
    eps = np.finfo(np.float64).eps
    sure = np.clip(both / both.sum(axis=1, keepdims=True), eps, 1 - eps)
    happened = np.eye(n_classes)[y]
    known = share[share > 0]
    halved = 2 if n_classes == 2 else 1
    for name, rows, baseline in (
        ("log_loss", -np.log(sure[np.arange(n), y]), -(known * np.log(known)).sum()),
        ("brier", ((both - happened) ** 2).sum(axis=1) / halved, (share * (1 - share)).sum() / halved),
    ):
        low, high = scoring.mean_interval(rows, level, clusters)
        found.append(_estimate(name, rows.mean(), np.maximum(low, 0), high, baseline, n, "Student"))
    return found


def average_precision_parts(positive: Array, score: Array) -> scoring.Parts:
    """Return the average precision, as scikit-learn defines it, and what every row adds to its error.

    A row adds its own precision where it is positive, and lowers or raises that of all positives scored no higher: the
    infinitesimal jackknife.

    References:
        Efron, The jackknife, the bootstrap and other resampling plans (1982).
    """
    order = np.argsort(-score, kind="stable")
    hit = positive[order].astype(np.float64)
    ordered = score[order]
    last = np.flatnonzero(np.append(ordered[1:] != ordered[:-1], True))  # of the rows with the same score
    tie = np.searchsorted(last, np.arange(len(order)))
    seen, hits = last + 1.0, np.cumsum(hit)[last]
    precision = hits / seen
    new = np.diff(hits, prepend=0.0)
    n_pos = hits[-1]
    value = float((new * precision).sum() / n_pos)
    after = lambda terms: np.cumsum(terms[::-1])[::-1]  # noqa: E731
    raised, lowered = after(new / seen), after(new * precision / seen)
    added = (hit * (precision[tie] - value) + hit * raised[tie] - lowered[tie]) / n_pos
    found = np.empty(len(order))
    found[order] = added
    return value, found


def of_values(y_true: Array, y_pred: Array, level: float, clusters: Array | None = None) -> list[Estimate]:
    """Return the metrics of predicted quantities; all but R² are in the unit of the target."""
    n = len(y_true)
    among = n if clusters is None else len(np.unique(clusters))
    off = y_pred - y_true
    away = y_true - y_true.mean()
    low, high = scoring.mean_interval(off, level, clusters)
    found = [_estimate("bias", off.mean(), low, high, 0.0, n, "Student")]
    low, high = scoring.mean_interval(np.abs(off), level, clusters)
    baseline = np.abs(y_true - np.median(y_true)).mean()
    found.append(_estimate("mae", np.abs(off).mean(), np.maximum(low, 0), high, baseline, n, "Student"))
    mse, variance = float((off**2).mean()), float((away**2).mean())
    # On the scale of logarithms, where squared errors are least skew.
    half = scoring.quantile(level, among) * _relative_error(off**2 / mse if mse else np.ones(n), clusters)
    rmse = np.sqrt(mse)
    found.append(
        _estimate("rmse", rmse, rmse * np.exp(-half / 2), rmse * np.exp(half / 2), np.sqrt(variance), n, "delta")
    )
    if n < 2 or not variance:
        return [*found, _estimate("r2", np.nan, np.nan, np.nan, 0.0, n, "delta")]
    rest = mse / variance
    half = scoring.quantile(level, among) * _relative_error(
        (off**2 / mse if mse else np.ones(n)) - away**2 / variance + 1, clusters
    )
    found.append(_estimate("r2", 1 - rest, 1 - rest * np.exp(half), 1 - rest * np.exp(-half), 0.0, n, "delta"))
    return found


def _estimate(metric: str, value: Any, low: Any, high: Any, baseline: Any, n: int, interval: str) -> Estimate:
    return Estimate(
        metric=metric, value=float(value), low=float(low), high=float(high), baseline=float(baseline), n=int(n),
        interval=interval,
    )  # fmt: skip


def _relative_error(rows: Array, clusters: Array | None) -> float:
    """Standard error of a mean that is 1."""
    if len(rows) < 2:
        return float("nan")
    return scoring.deviation_of((rows - 1) / np.sqrt(len(rows) * (len(rows) - 1)), clusters)
