"""Scores in bins: what was promised, what happened, and how far apart the two are, with its uncertainty."""

from __future__ import annotations

import dataclasses

import numpy as np
import numpy.typing as npt

from dlstudio import stats

__all__ = ["Bins", "BrierParts", "binned", "brier_parts", "by_chance", "error_interval", "score_edges"]

Array = npt.NDArray[np.float64]

CELL = 1 / 100
"""Scores of a bin this near to each other are drawn together when outcomes are drawn anew."""
HALVINGS = 40


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


def by_chance(bins: Bins, scores: Array, n_draws: int, generator: np.random.Generator) -> Array:
    """Draw the calibration errors (n_draws,) of rows whose scores are exactly right: what chance alone brings about.

    References:
        Bröcker and Smith, Increasing the reliability of reliability diagrams (2007).
    """
    cell = bins.index * round(2 / CELL) + np.minimum(scores / CELL, 1 / CELL).astype(np.int64)
    _, place = np.unique(cell, return_inverse=True)
    n = np.bincount(place)
    sums = np.bincount(place, weights=scores)
    bin_of_cell = np.zeros(len(n), dtype=np.int64)
    bin_of_cell[place] = bins.index
    draws = generator.binomial(n, np.clip(sums / n, 0, 1), size=(n_draws, len(n))) - sums
    gaps = np.add.reduceat(draws, np.searchsorted(bin_of_cell, np.arange(len(bins.n))), axis=1)
    found: Array = np.abs(gaps).sum(axis=1) / len(scores)
    return found


def error_interval(
    bins: Bins, scores: Array, level: float, n_draws: int, generator: np.random.Generator
) -> tuple[float, float]:
    """Return an interval of the calibration error of these bins, which chance makes look larger than it is.

    A resampled error is larger still than the observed one, and never 0: its percentiles are no interval. So the limits
    are the errors under which one as large (or as small) as the observed would be rare. Which bins they lie in is
    unknown and decides how much chance adds: the lower limit puts them where gaps stand out, the upper one everywhere.
    """
    size = bins.ece
    sharp = np.bincount(bins.index, weights=scores * (1 - scores)) / bins.n
    rate = (bins.positives + 1) / (bins.n + 2)
    spread = np.sqrt(np.maximum(sharp, rate * (1 - rate)) / bins.n)
    noise = generator.standard_normal((n_draws, len(bins.n))) * spread
    tail = (1 - level) / 2
    # Of the observed gaps a part is noise, which would count twice towards the lower limit.
    beyond = np.sqrt(np.maximum(bins.gap**2 - spread**2, 0)) * np.sign(bins.gap)

    def limit(share: float, gaps: Array, seen: float) -> float:
        total = (bins.weight * np.abs(gaps)).sum()
        shape = gaps / total if total else np.ones(len(bins.n))
        low, high = 0.0, 1.0
        for _ in range(HALVINGS):
            middle = (low + high) / 2
            drawn = (bins.weight * np.abs(middle * shape + noise)).sum(axis=1)
            low, high = (middle, high) if np.quantile(drawn, share) < seen else (low, middle)
        return low

    even = np.ones(len(bins.n))
    # An error that is small by luck does not show more than a usual one of exactly right scores would.
    usual = float(np.median((bins.weight * np.abs(noise)).sum(axis=1)))
    return min(limit(1 - tail, beyond, size), size), max(limit(tail, even, max(size, usual)), size)


@dataclasses.dataclass(frozen=True, kw_only=True)
class BrierParts:
    """The mean squared error of scores, and what it is made of.

    ``score = reliability - resolution + uncertainty + within_bins``, exactly; the last part is 0 where all scores of a
    bin are equal.

    Attributes:
        score, low, high: the Brier score, with its interval.
        reliability: mean squared gap between scores and rates; 0 is best.
        resolution: variance of the rates over bins; the more, the better.
        uncertainty: variance of the outcomes, which no model changes.
        within_bins: what scores do inside bins; below 0 where they order rows there too.
    """

    score: float
    low: float
    high: float
    reliability: float
    resolution: float
    uncertainty: float
    within_bins: float


def brier_parts(y: npt.NDArray[np.int64], scores: Array, bins: Bins, level: float) -> BrierParts:
    """Take a Brier score apart.

    References:
        Murphy, A new vector partition of the probability score (1973); Stephenson et al., Two extra components in the
        Brier score decomposition (2008).
    """
    squares = (scores - y) ** 2
    low, high = stats.mean_interval(squares.mean(), squares.var(ddof=1) if len(y) > 1 else np.nan, len(y), level)
    rate = y.mean()
    off_score, off_rate = scores - bins.mean_score[bins.index], y - bins.rate[bins.index]
    return BrierParts(
        score=float(squares.mean()),
        low=max(float(low), 0.0),
        high=min(float(high), 1.0),
        reliability=float((bins.weight * bins.gap**2).sum()),
        resolution=float((bins.weight * (bins.rate - rate) ** 2).sum()),
        uncertainty=float(rate * (1 - rate)),
        within_bins=float((off_score**2).mean() - 2 * (off_score * off_rate).mean()),
    )
