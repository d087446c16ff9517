"""How sure one can be of a rate, a mean, a slope or a gap, in closed forms for rows that are independent."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from dlstudio import scoring, stats
from dlstudio.fairness.counts import RATES, SLOPE, Array, Interval, Tally

__all__ = ["Evidence", "balanced_accuracy", "f1"]


class Evidence:
    """Intervals and tests of groups whose rows are independent.

    Args:
        tally: of g groups; pairs are given as places in it.
    """

    def __init__(self, tally: Tally) -> None:
        self.tally = tally

    def among(self, name: str) -> Array:
        """Return how many independent parts, here rows, a metric of every group rests on."""
        return self.tally.among(name)

    def interval(self, name: str, level: float) -> Interval:
        """Return the interval of a rate, a mean, a slope, ``"f1"`` or ``"balanced_accuracy"`` in every group."""
        negative, false, missed, hit = self.tally.cells.T
        if name == "f1":
            return scoring.f1(hit, false, missed, level)[1:]
        if name == "balanced_accuracy":
            right, n = np.stack([hit, negative], axis=-1), np.stack([hit + missed, negative + false], axis=-1)
            return scoring.balanced_accuracy(right, n, level)[1:]
        return self.tally.interval(name, level)

    def difference(self, name: str, a: Any, b: Any, level: float) -> Interval:
        """Return intervals of ``value[a] - value[b]``."""
        if name in RATES:
            have, among = self.tally.rate(name)
            return stats.difference_interval(have[a], among[a], have[b], among[b], level)
        if name == SLOPE:
            return self._slopes(a, b, level)[:2]
        mean, variance, n = self.tally.moments(name)
        return stats.mean_difference_interval(mean[a], variance[a], n[a], mean[b], variance[b], n[b], level)

    def ratio(self, name: str, a: Any, b: Any, level: float) -> Interval:
        """Return intervals of ``value[a] / value[b]`` of what is never negative; NaN where a slope is."""
        if name in RATES:
            have, among = self.tally.rate(name)
            return stats.ratio_interval(have[a], among[a], have[b], among[b], level)
        value, (low, high) = self.tally.value(name), self.tally.interval(name, level)
        value = np.where(value >= 0, value, np.nan)
        return stats.ratio_of(value[a], low[a], high[a], value[b], low[b], high[b])

    def p(self, name: str, a: Any, b: Any) -> Array:
        """Return p-values of no difference: a permutation test of rates, Welch's of means, Wald's of slopes."""
        if name in RATES:
            have, among = self.tally.rate(name)
            return stats.same_proportion_p(have[a], among[a], have[b], among[b])
        if name == SLOPE:
            return self._slopes(a, b, 0.95)[2]
        mean, variance, n = self.tally.moments(name)
        return stats.same_mean_p(mean[a], variance[a], n[a], mean[b], variance[b], n[b])

    def _slopes(self, a: Any, b: Any, level: float) -> tuple[Array, Array, Array]:
        """Lower and upper limits of differences of slopes, and p-values of none."""
        from scipy.stats import t

        assert self.tally.slopes is not None
        difference, error, freedom = self.tally.slopes.apart(a, b)
        half = t.ppf(0.5 + level / 2, freedom) * error
        with np.errstate(divide="ignore", invalid="ignore"):
            return difference - half, difference + half, 2 * t.sf(np.abs(difference) / error, freedom)


def f1(cells: npt.NDArray[Any]) -> Array:
    """Return F1 of counts (..., 4); NaN where there is neither a positive nor a positive prediction."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(2 * cells[..., 3] / (2 * cells[..., 3] + cells[..., 1] + cells[..., 2]))


def balanced_accuracy(cells: npt.NDArray[Any]) -> Array:
    """Return the mean of true-positive and true-negative rate of counts (..., 4)."""
    with np.errstate(divide="ignore", invalid="ignore"):
        hit = cells[..., 3] / (cells[..., 2] + cells[..., 3])
        return np.asarray((hit + cells[..., 0] / (cells[..., 0] + cells[..., 1])) / 2)
