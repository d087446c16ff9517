"""What scores and decisions are worth: AUC, F1, balanced accuracy and calibration error, each with an interval.

Audits by group and assessments of a whole model take these from here, so that the same rows have the same numbers.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import numpy.typing as npt

from dlstudio import stats

__all__ = [
    "Bins", "auc", "auc_parts", "balanced_accuracy", "binned", "calibration_bins", "deviation_of", "drawn_gaps",
    "error_interval", "errors_around", "errors_together", "every_class", "f1", "mean_interval", "quantile",
    "score_edges", "within_unit",
]  # fmt: skip

Array = npt.NDArray[np.float64]
Estimated = tuple[float, float, float]
"""A value with its lower and upper limit."""
Parts = tuple[float, Array]
"""A metric and, for every row, what it adds to the metric's error: their squares sum to its variance."""

N_BINS = 15
PER_BIN = 10
"""Rows an adaptive bin should have, with fewer bins where rows are few."""
HALVINGS = 25
AT_ONCE = 4096
"""Clusters that are drawn at once."""


def every_class(score: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return the probability of every class (n, classes), of two classes from that of class 1 (n,)."""
    return np.stack([1 - score, score], axis=1) if score.ndim == 1 else score


def auc(positive: npt.NDArray[np.bool_], score: Array, level: float, clusters: Any = None) -> Estimated:
    """Return the area under the ROC curve with DeLong's interval, symmetric on the scale of logits.

    Args:
        positive: bool (n,).
        score: (n,), larger for what is more likely positive; ties count half.
        level: of confidence.
        clusters: int (n,), which rows belong together and may be alike; None where all are independent.

    Returns:
        NaN where there is no positive or no negative row.
    """
    rarer = min(int(positive.sum()), int((~positive).sum()))
    if not rarer:
        return float("nan"), float("nan"), float("nan")
    value, parts = auc_parts(positive, score)
    n = rarer if clusters is None else min(rarer, len(np.unique(clusters)))
    return value, *within_unit(value, deviation_of(parts, clusters), n, level)


def auc_parts(positive: npt.NDArray[np.bool_], score: Array) -> Parts:
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


def deviation_of(parts: npt.NDArray[Any], clusters: Any = None) -> float:
    """Return the standard error of a metric from what every row adds to its error.

    With clusters, rows of one add up before they are squared, so that they may be as alike as they like.

    References:
        Obuchowski, Nonparametric analysis of clustered ROC curve data (1997).
    """
    if clusters is not None:
        _, place = np.unique(clusters, return_inverse=True)
        parts = np.bincount(place, weights=parts)
        parts = parts * np.sqrt(len(parts) / max(len(parts) - 1, 1))
    return float(np.sqrt((parts**2).sum()))


def mean_interval(rows: npt.NDArray[Any], level: float, clusters: Any = None) -> tuple[float, float]:
    """Return Student's interval of the mean of values (n,); NaN for a single one."""
    if clusters is None:
        ends = stats.mean_interval(rows.mean(), rows.var(ddof=1) if len(rows) > 1 else np.nan, len(rows), level)
        return float(ends[0]), float(ends[1])
    mean = float(rows.mean())
    half = quantile(level, len(np.unique(clusters))) * deviation_of((rows - mean) / len(rows), clusters)
    return mean - half, mean + half


def within_unit(value: float, deviation: float, n: float, level: float) -> tuple[float, float]:
    """Return an interval of a metric from 0 to 1, symmetric on the scale of logits; `n` independent parts."""
    if 0 < value < 1 and deviation > 0:
        logit, half = np.log(value / (1 - value)), quantile(level, n) * deviation / (value * (1 - value))
        ends = 1 / (1 + np.exp(-(logit + np.array([-half, half]))))
        return float(ends[0]), float(ends[1])
    # No row is wrong (or none right): a deviation of 0 says too much. As if of n rows all were right.
    low, high = stats.wilson(value * n, n, level)
    return float(low), float(high)


def quantile(level: float, n: float) -> float:
    """Return Student's quantile: of n rows the spread is itself an estimate."""
    from scipy.stats import t

    return float(t.ppf(0.5 + level / 2, max(n - 1, 1)))


def f1(tp: Any, fp: Any, fn: Any, level: float) -> tuple[Any, Any, Any]:
    """Return F1 with an interval; NaN where there are neither positives nor predicted ones. Counts may be arrays.

    Of the rows that are no true negatives, the true positives are a binomial proportion J, and F1 is 2 J / (1 + J).
    """
    tp, some = np.asarray(tp), np.asarray(tp) + fp + fn
    with np.errstate(invalid="ignore", divide="ignore"):
        share = tp / some
    low, high = stats.wilson(tp, some, level)
    return 2 * share / (1 + share), 2 * low / (1 + low), 2 * high / (1 + high)


def balanced_accuracy(right: Any, n: Any, level: float) -> tuple[Any, Any, Any]:
    """Return the mean over classes, along the last axis, of the share that is right, with an interval.

    Independent proportions: the distances of Wilson's limits add up as standard errors do (Newcombe; Zou and Donner).

    Args:
        right, n: (…, classes), rows predicted rightly and rows of each class; NaN where a class has none.
        level: of confidence.
    """
    right, n = np.asarray(right), np.asarray(n)
    with np.errstate(invalid="ignore", divide="ignore"):
        recall = right / n
    lows, highs = stats.wilson(right, n, level)
    value, k = recall.mean(axis=-1), recall.shape[-1]
    low = value - np.sqrt(((recall - lows) ** 2).sum(axis=-1)) / k
    return value, low, value + np.sqrt(((highs - recall) ** 2).sum(axis=-1)) / k


@dataclasses.dataclass(frozen=True, kw_only=True)
class Bins:
    """Rows gathered by their score, the lowest first; empty bins are left out.

    Attributes:
        low, high: float64 (bins,), where each begins and ends; its own end belongs to the last bin only.
        n: int64 (bins,), rows.
        positives: int64 (bins,), rows that turned out 1.
        mean_score: float64 (bins,), what was promised.
        index: int64 (n,), the bin of every row.
    """

    low: Array
    high: Array
    n: npt.NDArray[np.int64]
    positives: npt.NDArray[np.int64]
    mean_score: Array
    index: npt.NDArray[np.int64]

    @property
    def rate(self) -> Array:
        """What happened: the share of rows that turned out 1."""
        found: Array = self.positives / self.n
        return found

    @property
    def gap(self) -> Array:
        """Rate minus mean score; below 0 where the scores promise too much."""
        return self.rate - self.mean_score

    @property
    def weight(self) -> Array:
        """The share of all rows."""
        found: Array = self.n / max(1, self.n.sum())
        return found

    @property
    def ece(self) -> float:
        """Expected calibration error: the mean size of the gaps, rows counting alike."""
        return float((self.weight * np.abs(self.gap)).sum())

    @property
    def mce(self) -> float:
        """Maximum calibration error: the size of the largest gap."""
        return float(np.abs(self.gap).max(initial=0.0))

    @property
    def rmsce(self) -> float:
        """Root mean square calibration error, rows counting alike."""
        return float(np.sqrt((self.weight * self.gap**2).sum()))


def score_edges(scores: Array, n_bins: int, *, adaptive: bool) -> Array:
    """Return where bins begin, without the first and with no end: (at most n_bins - 1,), increasing.

    Adaptive bins hold equally many rows, save that equal scores stay together. The others are equally wide; their
    edges are whole fractions, so that a score of 0.29 is in the bin that begins at 0.29.
    """
    if not adaptive:
        return np.arange(1, n_bins) / n_bins
    ordered = np.sort(scores)
    edges: Array = np.unique(ordered[np.arange(1, n_bins) * len(ordered) // n_bins])
    inner: Array = edges[edges > ordered[0]]
    return inner


def binned(y: npt.NDArray[np.int64], scores: Array, n_bins: int, *, adaptive: bool) -> Bins:
    """Gather rows by score.

    Args:
        y: (n,) 0 or 1, what happened.
        scores: (n,) from 0 to 1, the probability of 1 that was promised.
        n_bins: at most this many.
        adaptive: equally many rows in each, instead of equal widths.

    Example:
        >>> bins = binned(np.array([1, 0]), np.array([0.95, 1.0]), 15, adaptive=False)
        >>> round(bins.ece, 3)  # both are in the last bin: |0.5 - 0.975|
        0.475
    """
    edges = score_edges(scores, n_bins, adaptive=adaptive)
    place = np.searchsorted(edges, scores, side="right")
    n = np.bincount(place, minlength=len(edges) + 1)
    sums = np.bincount(place, weights=scores, minlength=len(n))
    positives = np.bincount(place, weights=y, minlength=len(n)).astype(np.int64)
    first, last = (float(scores.min()), float(scores.max())) if adaptive and len(scores) else (0.0, 1.0)
    low, high = np.concatenate([[first], edges]), np.concatenate([edges, [last]])
    kept = n > 0
    return Bins(
        low=low[kept], high=high[kept], n=n[kept], positives=positives[kept], mean_score=sums[kept] / n[kept],
        index=(np.cumsum(kept) - 1)[place],
    )  # fmt: skip


def calibration_bins(y: npt.NDArray[Any], scores: Array, n_bins: int = N_BINS, *, adaptive: bool = True) -> Bins:
    """Return the bins that calibration is judged by: as `binned`, but adaptive ones have ten rows at least."""
    return binned(y, scores, min(n_bins, max(1, len(y) // PER_BIN)) if adaptive else n_bins, adaptive=adaptive)


def error_interval(
    bins: Bins, y: npt.NDArray[Any], scores: Array, level: float, n_draws: int, seed: int, clusters: Any = None
) -> tuple[float, float]:
    """Return an interval of the calibration error of these bins, which chance makes look larger than it is.

    A resampled error is larger still than the observed one, and never 0: its percentiles are no interval. So the limits
    are the errors under which one as large (or as small) as the observed would be rare. Which bins they lie in is
    unknown and decides how much chance adds: the lower limit puts them where gaps stand out, the upper one everywhere.

    Args:
        bins: of the rows.
        y, scores: (n,), as they were binned.
        level: of confidence.
        n_draws, seed: of what chance adds; the same rows and seed have the same limits.
        clusters: int (n,), which rows belong together and may be alike; None where all are independent.
    """
    size, tail = bins.ece, (1 - level) / 2
    chance = _Chance.of(bins, y, scores, level, n_draws, seed, clusters)

    def below(share: float, gaps: Array, seen: float) -> bool:
        return bool(np.quantile(chance.errors(gaps), share) < seen)

    def limit(share: float, shape: Array, seen: float) -> float:
        low, high = 0.0, 1.0
        for _ in range(HALVINGS):
            middle = (low + high) / 2
            low, high = (middle, high) if below(share, middle * shape, seen) else (low, middle)
        return low

    none, even = np.zeros(len(bins.n)), np.where(bins.gap < 0, -1.0, 1.0)
    # Errors of clusters shrink towards the observed gaps, so that what exactly right scores explain is asked apart.
    least = limit(1 - tail, chance.shape, size) if below(1 - tail, none, size) else 0.0
    # An error that is small by luck does not show more than a usual one of exactly right scores would.
    usual = float(np.median(chance.errors(none)))
    return min(least, size), max(limit(tail, even, max(size, usual)), size)


def errors_around(
    error: float, bins: Bins, y: npt.NDArray[Any], scores: Array, level: float, n_draws: int, seed: int,
    clusters: Any = None,
) -> Array:  # fmt: skip
    """Draw the calibration errors (n_draws,) of rows whose true one is `error`, in the bins where gaps stand out.

    The lower limit of `error_interval`, whose arguments these are, is the error of which but few are larger than the
    observed one.
    """
    chance = _Chance.of(bins, y, scores, level, n_draws, seed, clusters)
    return chance.errors(error * chance.shape)


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Chance:
    """What chance adds to the gaps of bins; with clusters it depends on what the gaps are without it.

    The errors of a cluster are what its rows are off by beyond such gaps. Beyond the observed ones they would be too
    small: a bin of one cluster would have none.

    References:
        Cameron, Gelbach and Miller, Bootstrap-based improvements for inference with clustered errors (2008).

    Attributes:
        bins: of the rows.
        shape: (bins,), where gaps stand out, in parts that make an error of 1.
        variance: (bins,), of gaps of independent rows.
        normal: (n_draws, bins), standard normal.
        drawn, drawn_part: (n_draws, bins), gaps that clusters bring about if scores are right, and how much they
            change for each unit of the true gap.
        moments: (3, bins), variance of `drawn`, covariance with `drawn_part`, and the variance of that.
    """

    bins: Bins
    shape: Array
    variance: Array
    normal: Array
    drawn: Array
    drawn_part: Array
    moments: Array

    @classmethod
    def of(
        cls, bins: Bins, y: npt.NDArray[Any], scores: Array, level: float, n_draws: int, seed: int, clusters: Any
    ) -> _Chance:
        generator, k = np.random.default_rng(seed), len(bins.n)
        sharp = np.bincount(bins.index, weights=scores * (1 - scores)) / bins.n
        rate = (bins.positives + 1) / (bins.n + 2)
        variance = np.maximum(sharp, rate * (1 - rate)) / bins.n
        drawn, moments = np.zeros((n_draws, 2 * k)), np.zeros((3, k))
        if clusters is not None:
            off, part = (errors_together(bins, of, clusters) for of in (y - scores, np.ones(len(scores))))
            wider = quantile(level, len(off)) / quantile(level, np.inf)
            drawn = wider * drawn_gaps(np.hstack([off, part]), n_draws, generator)
            moments = np.stack([(off**2).sum(axis=0), (off * part).sum(axis=0), (part**2).sum(axis=0)])
        # Of the observed gaps a part is noise, which would count twice towards the lower limit.
        beyond = np.sqrt(np.maximum(bins.gap**2 - np.maximum(variance, moments[0]), 0))
        shape = np.where(beyond.any(), beyond, 1.0) * np.where(bins.gap < 0, -1.0, 1.0)
        return cls(
            bins=bins, shape=shape / (bins.weight * np.abs(shape)).sum(), variance=variance,
            normal=generator.standard_normal((n_draws, k)), drawn=drawn[:, :k], drawn_part=drawn[:, k:],
            moments=moments,
        )  # fmt: skip

    def errors(self, gaps: Array) -> Array:
        """Draw calibration errors (n_draws,) of rows whose true gaps are these (bins,)."""
        alike = self.moments[0] - 2 * gaps * self.moments[1] + gaps**2 * self.moments[2]
        # Outcomes that could have happened count, however few did.
        rest = np.sqrt(np.maximum(self.variance - alike, 0))
        noise = self.normal * rest + self.drawn - gaps * self.drawn_part
        return np.asarray((self.bins.weight * np.abs(gaps + noise)).sum(axis=1))


def errors_together(bins: Bins, off: Array, clusters: Any) -> Array:
    """Return what every cluster adds to the gap of every bin, (clusters, bins), from the errors of rows (n,)."""
    codes, place = np.unique(clusters, return_inverse=True)
    shape = len(codes), len(bins.n)
    sums = np.bincount(place * shape[1] + bins.index, weights=off, minlength=shape[0] * shape[1]).reshape(shape)
    return np.asarray(sums / bins.n * np.sqrt(shape[0] / max(shape[0] - 1, 1)))


def drawn_gaps(together: Array, n_draws: int, generator: np.random.Generator) -> Array:
    """Return gaps (n_draws, bins) as chance brings them about: of every cluster the errors as they are or reversed.

    References:
        Wu, Jackknife, bootstrap and other resampling methods in regression analysis (1986).
    """
    found = np.zeros((n_draws, together.shape[1]))
    for start in range(0, len(together), AT_ONCE):
        some = together[start : start + AT_ONCE]
        found += (2.0 * generator.integers(2, size=(n_draws, len(some))) - 1) @ some
    return found
