"""How sure one can be of a rate, a mean or a gap: closed forms for single rows, resampling of clusters of rows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from dlstudio import stats
from dlstudio.fairness.counts import MEANS, RATES, Array, Interval, Tally, tally
from dlstudio.fairness.inputs import Outcome

__all__ = ["Clusters", "Evidence", "balanced_accuracy", "clustered_evidence", "f1"]

MOST_AT_ONCE = 4_000_000
"""Numbers in the largest array of draws."""
FEW_EXTREME = 10
"""With fewer permutations than this beyond what was observed, their normal tail says more than their number."""


class Evidence:
    """Intervals and tests of groups whose rows are independent.

    Args:
        tally: of g groups; pairs are given as places in it.
    """

    def __init__(self, tally: Tally) -> None:
        self.tally = tally

    def interval(self, name: str, level: float) -> Interval:
        """Return the interval of a rate, a mean, ``"f1"`` or ``"balanced_accuracy"`` in every group."""
        if name == "f1":  # a growing function of the proportion TP / (TP + FP + FN)
            hit, among = self.tally.cells[:, 3], self.tally.cells[:, 1:].sum(axis=1)
            low, high = stats.wilson(hit, among, level)
            return 2 * low / (1 + low), 2 * high / (1 + high)
        if name == "balanced_accuracy":
            rates = ("true_positive_rate", "true_negative_rate")
            value = balanced_accuracy(self.tally.cells)
            parts = [(self.tally.value(rate), *self.tally.interval(rate, level)) for rate in rates]
            below, above = ([abs(part[0] - part[side]) for part in parts] for side in (1, 2))
            return value - np.hypot(*below) / 2, value + np.hypot(*above) / 2
        return self.tally.interval(name, level)

    def difference(self, name: str, a: Any, b: Any, level: float) -> Interval:
        """Return intervals of ``value[a] - value[b]``."""
        if name in RATES:
            have, among = self.tally.rate(name)
            return stats.difference_interval(have[a], among[a], have[b], among[b], level)
        mean, variance, n = self.tally.moments(name)
        return stats.mean_difference_interval(mean[a], variance[a], n[a], mean[b], variance[b], n[b], level)

    def ratio(self, name: str, a: Any, b: Any, level: float) -> Interval:
        """Return intervals of ``value[a] / value[b]`` of a rate."""
        have, among = self.tally.rate(name)
        return stats.ratio_interval(have[a], among[a], have[b], among[b], level)

    def p(self, name: str, a: Any, b: Any) -> Array:
        """Return p-values of no difference: a permutation test of rates, Welch's of means."""
        if name in RATES:
            have, among = self.tally.rate(name)
            return stats.same_proportion_p(have[a], among[a], have[b], among[b])
        mean, variance, n = self.tally.moments(name)
        return stats.same_mean_p(mean[a], variance[a], n[a], mean[b], variance[b], n[b])


def f1(cells: npt.NDArray[Any]) -> Array:
    """Return F1 of counts (..., 4); NaN where there is neither a positive nor a positive prediction."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(2 * cells[..., 3] / (2 * cells[..., 3] + cells[..., 1] + cells[..., 2]))


def balanced_accuracy(cells: npt.NDArray[Any]) -> Array:
    """Return the mean of true-positive and true-negative rate of counts (..., 4)."""
    with np.errstate(divide="ignore", invalid="ignore"):
        hit = cells[..., 3] / (cells[..., 2] + cells[..., 3])
        return np.asarray((hit + cells[..., 0] / (cells[..., 0] + cells[..., 1])) / 2)


@dataclass(frozen=True, kw_only=True, eq=False)
class Clusters:
    """Rows that belong together, such as those of one person, and how to draw them anew.

    Attributes:
        codes: int (n,), the cluster of every row, from 0.
        n: how many clusters there are.
        n_draws, seed: of the resampling.
    """

    codes: npt.NDArray[np.int64]
    n: int
    n_draws: int
    seed: int

    def counts(self, at_once: int = 1) -> Iterator[Array]:
        """Yield how often each cluster is drawn with replacement: (up to `at_once` draws, n), always the same."""
        rng = np.random.default_rng(self.seed)
        for start in range(0, self.n_draws, at_once):
            draws = range(min(at_once, self.n_draws - start))
            yield np.array(
                [np.bincount(rng.integers(self.n, size=self.n), minlength=self.n) for _ in draws], dtype=np.float64
            )

    def groups(self, codes: npt.NDArray[np.int32]) -> npt.NDArray[np.int32] | None:
        """Return the group of every cluster; None if some cluster has rows of several groups."""
        found = np.zeros(self.n, dtype=np.int32)
        found[self.codes] = codes
        return found if (found[self.codes] == codes).all() else None


def clustered_evidence(
    codes: npt.NDArray[np.int32], n_groups: int, outcome: Outcome, clusters: Clusters, *, rest: bool
) -> ClusteredEvidence:
    """Draw clusters anew and add up every draw.

    Args:
        codes: (n,) the group of every row.
        n_groups: how many there are.
        outcome: what was predicted.
        clusters: of the rows.
        rest: whether everybody else than each group follows the groups.
    """
    whole, drawn = tally(codes, n_groups, outcome), _drawn(codes, n_groups, outcome, clusters)
    if rest:
        whole, drawn = whole.with_rest(), drawn.with_rest()
    return ClusteredEvidence(whole, drawn, tally(clusters.codes, clusters.n, outcome), clusters, codes)


def _drawn(codes: npt.NDArray[np.int32], n_groups: int, outcome: Outcome, clusters: Clusters) -> Tally:
    """Add up the groups in every draw of clusters: cells (draws, groups, 4), means (3, draws, groups)."""
    both, at = np.unique(clusters.codes * n_groups + codes, return_inverse=True)
    parts = tally(at, len(both), outcome)
    table = np.concatenate([parts.cells.T, *parts.means.values()]).T
    found = np.empty((clusters.n_draws, n_groups, table.shape[1]))
    members = [np.flatnonzero(both % n_groups == group) for group in range(n_groups)]
    start = 0
    for counts in clusters.counts(max(1, MOST_AT_ONCE // len(both))):
        for group, chosen in enumerate(members):
            found[start : start + len(counts), group] = counts[:, both[chosen] // n_groups] @ table[chosen]
        start += len(counts)
    means = {name: np.moveaxis(found[..., 4 + 3 * at : 7 + 3 * at], -1, 0) for at, name in enumerate(parts.means)}
    return Tally(cells=found[..., :4], means=means, shifts=parts.shifts)


class ClusteredEvidence(Evidence):
    """Intervals from the cluster bootstrap, tests from permutations of whole clusters.

    Where clusters have rows of several groups, they cannot be exchanged; the test is then a normal one with the
    bootstrap's standard error.

    Args:
        tally: of the groups; of twice as many where everybody else follows.
        drawn: of every draw, which comes first in its arrays.
        of_clusters: of every cluster.
        clusters: of the rows.
        codes: (n,) the group of every row.
    """

    def __init__(
        self, tally: Tally, drawn: Tally, of_clusters: Tally, clusters: Clusters, codes: npt.NDArray[np.int32]
    ) -> None:
        super().__init__(tally)
        self._cells = drawn.cells
        self._values = {name: drawn.value(name) for name in (*RATES, *tally.means)}
        self._of_clusters, self._clusters = of_clusters, clusters
        self._group, self._n_groups = clusters.groups(codes), int(codes.max()) + 1
        pairs = np.unique(codes.astype(np.int64) * clusters.n + clusters.codes)
        n_clusters = np.bincount(pairs // clusters.n, minlength=self._n_groups)
        self._n_clusters = np.concatenate([n_clusters, np.maximum(clusters.n - n_clusters, 1)]).astype(np.float64)
        self._p: dict[tuple[int, int], dict[str, float]] = {}

    def interval(self, name: str, level: float) -> Interval:
        if name in ("f1", "balanced_accuracy"):
            return stats.percentiles((f1 if name == "f1" else balanced_accuracy)(self._cells), level)
        low, high = stats.percentiles(self._values[name], level)
        if name not in RATES:
            return low, high
        n = self._n_clusters[: len(low)]
        flat_low, flat_high = stats.wilson(np.nan_to_num(self.tally.value(name)) * n, n, level)
        return np.where(low == high, flat_low, low), np.where(low == high, flat_high, high)

    def difference(self, name: str, a: Any, b: Any, level: float) -> Interval:
        values = self._values[name]
        low, high = stats.percentiles(values[:, a] - values[:, b], level)
        if name not in RATES:
            return low, high
        value, n = np.nan_to_num(self.tally.value(name)), self._n_clusters
        flat_low, flat_high = stats.difference_interval(value[a] * n[a], n[a], value[b] * n[b], n[b], level)
        return np.where(low == high, flat_low, low), np.where(low == high, flat_high, high)

    def ratio(self, name: str, a: Any, b: Any, level: float) -> Interval:
        values = self._values[name]
        with np.errstate(divide="ignore", invalid="ignore"):
            return stats.percentiles(values[:, a] / values[:, b], level)

    def p(self, name: str, a: Any, b: Any) -> Array:
        return np.array([self._pair(int(one), int(other))[name] for one, other in zip(a, b, strict=True)])

    def _pair(self, a: int, b: int) -> dict[str, float]:
        if (a, b) not in self._p:
            names = [name for name in self._values if name in RATES or name in MEANS]
            found = np.array([self.tally.value(name)[a] - self.tally.value(name)[b] for name in names])
            self._p[a, b] = dict(zip(names, self._test(names, found, a, b), strict=True))
        return self._p[a, b]

    def _test(self, names: list[str], found: Array, a: int, b: int) -> list[float]:
        if self._group is None:
            drawn = np.stack([self._values[name][:, a] - self._values[name][:, b] for name in names], axis=1)
            return [_bootstrap_p(one, draws[~np.isnan(draws)]) for one, draws in zip(found, drawn.T, strict=True)]
        of_a, of_b = self._members(a), self._members(b)
        both = np.flatnonzero(of_a | of_b)
        parts = [self._sums(name) for name in names]
        have, among = (np.stack([part[which] for part in parts], axis=1)[both] for which in (0, 1))
        n_a, n_draws = int(of_a.sum()), self._clusters.n_draws
        rng = np.random.default_rng([self._clusters.seed, a, b])
        drawn = np.empty((n_draws, len(names)))
        at_once = max(1, MOST_AT_ONCE // len(both))
        for start in range(0, n_draws, at_once):
            chosen = np.zeros((min(at_once, n_draws - start), len(both)))
            for one in chosen:
                one[rng.permutation(len(both))[:n_a]] = 1
            have_a, among_a = chosen @ have, chosen @ among
            with np.errstate(divide="ignore", invalid="ignore"):
                drawn[start : start + len(chosen)] = have_a / among_a - (have.sum(axis=0) - have_a) / (
                    among.sum(axis=0) - among_a
                )
        return [_permuted_p(one, draws[~np.isnan(draws)]) for one, draws in zip(found, drawn.T, strict=True)]

    def _members(self, group: int) -> npt.NDArray[np.bool_]:
        assert self._group is not None
        return np.asarray(self._group == group if group < self._n_groups else self._group != group - self._n_groups)

    def _sums(self, name: str) -> tuple[Array, Array]:
        if name in RATES:
            return self._of_clusters.rate(name)
        n, total, _ = self._of_clusters.means[name]
        return total, n


def _permuted_p(found: float, draws: Array) -> float:
    if np.isnan(found) or not len(draws):
        return float("nan")
    p = stats.permutation_p(found, draws)
    if p * (1 + len(draws)) - 1 >= FEW_EXTREME:
        return p
    return min(p, _normal_p(found, float(np.sqrt(np.mean(draws**2)))))


def _bootstrap_p(found: float, draws: Array) -> float:
    if not len(draws):
        return float("nan")
    if found and not np.ptp(draws):  # every draw shows the gap: as little chance as so many draws can tell
        return 2 / (1 + len(draws))
    return _normal_p(found, float(draws.std()))


def _normal_p(found: float, error: float) -> float:
    from scipy.special import ndtr

    if np.isnan(found) or np.isnan(error):
        return float("nan")
    return float(2 * ndtr(-abs(found) / error)) if error > 0 else 1.0
