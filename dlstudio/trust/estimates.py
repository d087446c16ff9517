"""The metrics that a model is signed off by, each with an interval."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import numpy.typing as npt

from dlstudio import stats

__all__ = ["Estimate", "auc_parts", "average_precision_parts", "f_interval", "of_classes", "of_scores", "of_values"]

Array = npt.NDArray[Any]
Parts = tuple[float, Array]
"""A metric and, for every row, what it adds to the metric's error: their squares sum to its variance."""


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


def of_classes(confusion: Array, level: float, n_resamples: int, generator: np.random.Generator) -> list[Estimate]:
    """Return the metrics of predicted classes from a confusion matrix (true class, predicted class).

    Means over classes (balanced accuracy; F1 of more than two) are of the classes that have rows.
    """
    n, right, per_class = int(confusion.sum()), np.diag(confusion), confusion.sum(axis=1)
    there = per_class > 0
    share = per_class / n
    low, high = stats.wilson(right.sum(), n, level)
    found = [_estimate("accuracy", right.sum() / n, low, high, share.max(), n, "Wilson")]
    # Independent proportions: the distances of Wilson's limits add up as standard errors do (Newcombe; Zou and Donner).
    recall = right[there] / per_class[there]
    lows, highs = stats.wilson(right[there], per_class[there], level)
    k = len(recall)
    found.append(_estimate(
        "balanced_accuracy", recall.mean(), recall.mean() - np.sqrt(((recall - lows) ** 2).sum()) / k,
        recall.mean() + np.sqrt(((highs - recall) ** 2).sum()) / k, 1 / k, n, "Newcombe",
    ))  # fmt: skip
    if len(confusion) > 2:
        drawn = stats.resampled_counts(confusion.ravel(), n_resamples, generator).reshape(-1, *confusion.shape)
        low, high = stats.percentiles(_macro_f1(drawn), level)
        value = float(_macro_f1(confusion[None])[0])
        blind = np.outer(per_class, np.eye(len(confusion))[share.argmax()])[None]
        return [*found, _estimate("f1", value, low, high, _macro_f1(blind)[0], n, "bootstrap")]
    (tn, fp), (fn, tp) = confusion.tolist()
    for name, count, of, baseline in (
        ("precision", tp, tp + fp, share[1]), ("recall", tp, tp + fn, np.nan), ("specificity", tn, tn + fp, np.nan),
    ):  # fmt: skip
        low, high = stats.wilson(count, of, level)
        found.append(_estimate(name, count / of if of else np.nan, low, high, baseline, of, "Wilson"))
    value, low, high = f_interval(tp, fp, fn, level)
    found.append(_estimate("f1", value, low, high, 2 * share[1] / (1 + share[1]), n, "Wilson, transformed"))
    return found


def f_interval(tp: Any, fp: Any, fn: Any, level: float) -> tuple[Any, Any, Any]:
    """Return F1 with an interval; NaN where there are neither positives nor predicted ones.

    Of the rows that are no true negatives, the true positives are a binomial proportion J, and F1 is 2 J / (1 + J).
    """
    tp, some = np.asarray(tp), np.asarray(tp) + fp + fn
    with np.errstate(invalid="ignore", divide="ignore"):
        share = tp / some
    low, high = stats.wilson(tp, some, level)
    return 2 * share / (1 + share), 2 * low / (1 + low), 2 * high / (1 + high)


def of_scores(y: Array, y_score: Array, level: float) -> list[Estimate]:
    """Return the metrics of probabilities (n,) of class 1 or (n, classes), whose ranks are judged class by class."""
    both = np.stack([1 - y_score, y_score], axis=1) if y_score.ndim == 1 else y_score
    n, n_classes = both.shape
    share = np.bincount(y, minlength=n_classes) / n
    judged = [k for k in ([1] if n_classes == 2 else range(n_classes)) if 0 < share[k] < 1]
    found = []
    # An average precision of rows that are ranked blindly is the share of positives.
    for name, parts, blind in (
        ("auc", auc_parts, lambda k: 0.5), ("average_precision", average_precision_parts, lambda k: share[k]),
    ):  # fmt: skip
        each = [parts(y == k, both[:, k]) for k in judged]
        method = "DeLong" if name == "auc" else "influence"
        if not each:
            found.append(_estimate(name, np.nan, np.nan, np.nan, np.nan, n, method))
            continue
        value = float(np.mean([one for one, _ in each]))
        deviation = float(np.sqrt((np.mean([each_row for _, each_row in each], axis=0) ** 2).sum()))
        smallest = min(min(share[k], 1 - share[k]) for k in judged) * n
        low, high = _within_unit(value, deviation, smallest, level)
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
        ends = _mean_interval(rows, level)
        found.append(_estimate(name, rows.mean(), np.maximum(ends[0], 0), ends[1], baseline, n, "Student"))
    return found


def auc_parts(positive: Array, score: Array) -> Parts:
    """Return the area under the ROC curve, ties counting half, and what every row adds to its error.

    References:
        DeLong, DeLong and Clarke-Pearson, Comparing the areas under two or more correlated ROC curves (1988); Sun and
        Xu, Fast implementation of DeLong's algorithm (2014).
    """
    from scipy.stats import rankdata

    n_pos, n_neg = int(positive.sum()), int((~positive).sum())
    # How many of the other class lie below a row, ties half: its rank among all less its rank among its own.
    below = rankdata(score)
    below[positive] -= rankdata(score[positive])
    below[~positive] -= rankdata(score[~positive])
    share = np.where(positive, below / n_neg, 1 - below / n_pos)
    value = float(share[positive].mean())
    size = np.where(positive, n_pos, n_neg)
    return value, (share - value) / np.sqrt(size * np.maximum(size - 1, 1))


def average_precision_parts(positive: Array, score: Array) -> Parts:
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


def of_values(y_true: Array, y_pred: Array, level: float) -> list[Estimate]:
    """Return the metrics of predicted quantities; all but R² are in the unit of the target."""
    n = len(y_true)
    off = y_pred - y_true
    away = y_true - y_true.mean()
    low, high = _mean_interval(off, level)
    found = [_estimate("bias", off.mean(), low, high, 0.0, n, "Student")]
    low, high = _mean_interval(np.abs(off), level)
    baseline = np.abs(y_true - np.median(y_true)).mean()
    found.append(_estimate("mae", np.abs(off).mean(), np.maximum(low, 0), high, baseline, n, "Student"))
    mse, variance = float((off**2).mean()), float((away**2).mean())
    # On the scale of logarithms, where squared errors are least skew.
    half = _t(level, n) * _relative_error(off**2 / mse if mse else np.ones(n))
    rmse = np.sqrt(mse)
    found.append(
        _estimate("rmse", rmse, rmse * np.exp(-half / 2), rmse * np.exp(half / 2), np.sqrt(variance), n, "delta")
    )
    if n < 2 or not variance:
        return [*found, _estimate("r2", np.nan, np.nan, np.nan, 0.0, n, "delta")]
    rest = mse / variance
    half = _t(level, n) * _relative_error((off**2 / mse if mse else np.ones(n)) - away**2 / variance + 1)
    found.append(_estimate("r2", 1 - rest, 1 - rest * np.exp(half), 1 - rest * np.exp(-half), 0.0, n, "delta"))
    return found


def _estimate(metric: str, value: Any, low: Any, high: Any, baseline: Any, n: int, interval: str) -> Estimate:
    return Estimate(
        metric=metric, value=float(value), low=float(low), high=float(high), baseline=float(baseline), n=int(n),
        interval=interval,
    )  # fmt: skip


def _macro_f1(confusions: Array) -> Array:
    """Mean F1 over the classes of matrices (draws, true, predicted) that are there or predicted."""
    right = np.diagonal(confusions, axis1=1, axis2=2)
    both = confusions.sum(axis=1) + confusions.sum(axis=2)
    with np.errstate(invalid="ignore", divide="ignore"):
        found: Array = np.nansum(2 * right / both, axis=1) / (both > 0).sum(axis=1)
    return found


def _within_unit(value: float, deviation: float, n: float, level: float) -> tuple[float, float]:
    """An interval of a share-like metric: symmetric on the scale of logits."""
    if 0 < value < 1 and deviation > 0:
        logit, half = np.log(value / (1 - value)), _t(level, n) * deviation / (value * (1 - value))
        ends = 1 / (1 + np.exp(-(logit + np.array([-half, half]))))
        return float(ends[0]), float(ends[1])
    # No row is ranked wrongly (or none rightly): a deviation of 0 says too much. As if of n rows all were right.
    low, high = stats.wilson(value * n, n, level)
    return float(low), float(high)


def _mean_interval(rows: Array, level: float) -> stats.Interval:
    return stats.mean_interval(rows.mean(), rows.var(ddof=1) if len(rows) > 1 else np.nan, len(rows), level)


def _relative_error(rows: Array) -> float:
    """Standard error of a mean that is 1."""
    return float(rows.std(ddof=1) / np.sqrt(len(rows))) if len(rows) > 1 else float("nan")


def _t(level: float, n: float) -> float:
    """Student's quantile: of n rows the spread is itself an estimate."""
    from scipy.stats import t

    return float(t.ppf(0.5 + level / 2, max(n - 1, 1)))
