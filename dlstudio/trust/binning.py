"""What binned scores would show by chance alone, and what the Brier score is made of."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import numpy.typing as npt

from dlstudio.scoring import Bins, drawn_gaps, errors_together, mean_interval

__all__ = ["BrierParts", "brier_parts", "by_chance"]

Array = npt.NDArray[np.float64]

CELL = 1 / 100
"""Scores of a bin this near to each other are drawn together when outcomes are drawn anew."""


def by_chance(
    bins: Bins,
    y: npt.NDArray[np.int64],
    scores: Array,
    n_draws: int,
    generator: np.random.Generator,
    clusters: Any = None,
) -> Array:
    """Draw the calibration errors (n_draws,) of rows whose scores are exactly right: what chance alone brings about.

    With clusters, all errors of a cluster are reversed together or stay as they are; where they are fewer than the
    scores would bring about in independent rows, that is added.

    References:
        Bröcker and Smith, Increasing the reliability of reliability diagrams (2007).
    """
    if clusters is not None:
        together = errors_together(bins, y - scores, clusters)
        expected = np.bincount(bins.index, weights=scores * (1 - scores)) / bins.n**2
        rest = np.sqrt(np.maximum(expected - (together**2).sum(axis=0), 0))
        drawn = drawn_gaps(together, n_draws, generator) + rest * generator.standard_normal((n_draws, len(rest)))
        return np.asarray(np.abs(drawn) @ bins.weight)
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


def brier_parts(y: npt.NDArray[np.int64], scores: Array, bins: Bins, level: float, clusters: Any = None) -> BrierParts:
    """Take a Brier score apart.

    References:
        Murphy, A new vector partition of the probability score (1973); Stephenson et al., Two extra components in the
        Brier score decomposition (2008).
    """
    squares = (scores - y) ** 2
    low, high = mean_interval(squares, level, clusters)
    rate = y.mean()
    off_score, off_rate = scores - bins.mean_score[bins.index], y - bins.rate[bins.index]
    return BrierParts(
        score=float(squares.mean()),
        low=max(low, 0.0),
        high=min(high, 1.0),
        reliability=float((bins.weight * bins.gap**2).sum()),
        resolution=float((bins.weight * (bins.rate - rate) ** 2).sum()),
        uncertainty=float(rate * (1 - rate)),
        within_bins=float((off_score**2).mean() - 2 * (off_score * off_rate).mean()),
    )
