"""How sure one can be where rows belong together: clusters are drawn anew for intervals and exchanged for tests."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import numpy.typing as npt

from dlstudio import stats
from dlstudio.fairness.clusters import Clusters
from dlstudio.fairness.counts import AMONG, CRITERIA, OBSERVED, RATES, SLOPE, Array, Interval, Tally, tally
from dlstudio.fairness.evidence import Evidence, balanced_accuracy, f1
from dlstudio.fairness.inputs import Outcome
from dlstudio.fairness.resampled import limits, permuted_p, student_p, studentised

__all__ = ["ClusteredEvidence", "clustered_evidence"]

MOST_AT_ONCE = 4_000_000
"""Numbers in the largest array of draws."""
TESTED = tuple(dict.fromkeys(name for metrics in CRITERIA.values() for name in metrics if name != SLOPE))


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
    both, at = np.unique(clusters.codes * n_groups + codes, return_inverse=True)
    parts = tally(at, len(both), outcome)
    group, cluster = both % n_groups, both // n_groups
    whole, drawn = tally(codes, n_groups, outcome), _drawn(parts, group, cluster, n_groups, clusters)
    of_clusters = tally(clusters.codes, clusters.n, outcome)
    names = (*AMONG, *whole.names, *(("calibration_error",) if OBSERVED in whole.names else ()))
    counting = {name: _counting(name, parts, of_clusters, group, cluster, n_groups, rest) for name in names}
    if rest:
        whole, drawn = whole.with_rest(), drawn.with_rest()
    return ClusteredEvidence(whole, drawn, of_clusters, clusters, clusters.groups(codes), counting)


def _drawn(
    parts: Tally, group: npt.NDArray[np.int64], cluster: npt.NDArray[np.int64], n_groups: int, clusters: Clusters
) -> Tally:
    """Add up the groups in every draw of clusters: cells (draws, groups, 4), means (3, draws, groups)."""
    table = np.concatenate([parts.cells.T, *parts.means.values()]).T
    found = np.empty((clusters.n_draws, n_groups, table.shape[1]))
    members = [np.flatnonzero(group == one) for one in range(n_groups)]
    start = 0
    for counts in clusters.counts(max(1, MOST_AT_ONCE // len(group))):
        for one, chosen in enumerate(members):
            found[start : start + len(counts), one] = counts[:, cluster[chosen]] @ table[chosen]
        start += len(counts)
    means = {name: np.moveaxis(found[..., 4 + 3 * at : 7 + 3 * at], -1, 0) for at, name in enumerate(parts.means)}
    return Tally(cells=found[..., :4], means=means, shifts=parts.shifts)


def _counting(
    name: str,
    parts: Tally,
    of_clusters: Tally,
    group: npt.NDArray[np.int64],
    cluster: npt.NDArray[np.int64],
    n_groups: int,
    rest: bool,
) -> Array:
    """In how many clusters a group has a row that could count; where several kinds are needed, the rarer one's."""
    kinds: list[tuple[Array, Array]] = (
        [(parts.cells @ np.array(among), of_clusters.cells @ np.array(among)) for among in AMONG[name]]
        if name in AMONG
        else [(parts.among(name), of_clusters.among(name))]
    )
    found = []
    for own, whole in kinds:
        of_group = np.bincount(group, own > 0, minlength=n_groups)
        alone = np.bincount(group, (own > 0) & (own == whole[cluster]), minlength=n_groups)
        found.append(np.concatenate([of_group, (whole > 0).sum() - alone]) if rest else of_group)
    return np.asarray(np.min(found, axis=0), dtype=np.float64)


class ClusteredEvidence(Evidence):
    """Intervals from the cluster bootstrap, widened for few clusters; tests from permutations of whole clusters.

    What is permuted is the difference over its standard error, so that clusters of other sizes in one group than in the
    other do not count as a gap. Where clusters have rows of several groups, they cannot be exchanged; the test is then
    Student's with the bootstrap's standard error.

    Args:
        tally: of the groups; of twice as many where everybody else follows.
        drawn: of every draw, which comes first in its arrays.
        of_clusters: of every cluster.
        clusters: of the rows.
        group: (clusters,) their groups; None if some cluster has rows of several.
        counting: by metric, in how many clusters of each group something could count.

    References:
        Janssen, Studentized permutation tests for non-i.i.d. hypotheses and the generalized Behrens-Fisher problem
        (1997).
    """

    def __init__(
        self,
        tally: Tally,
        drawn: Tally,
        of_clusters: Tally,
        clusters: Clusters,
        group: npt.NDArray[np.int32] | None,
        counting: dict[str, Array],
    ) -> None:
        super().__init__(tally)
        self._cells = drawn.cells
        self._values = {name: drawn.value(name) for name in tally.names}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # what is unknown in every draw has no variance: NaN
            self._variance = {name: np.nanvar(values, axis=0) for name, values in self._values.items()}
        self._of_clusters, self._clusters = of_clusters, clusters
        self._group, self._counting = group, counting
        self._p: dict[tuple[int, int], dict[str, float]] = {}

    def among(self, name: str) -> Array:
        """Return in how many clusters of every group something could count."""
        return self._counting[name]

    def interval(self, name: str, level: float) -> Interval:
        if name == SLOPE:
            return super().interval(name, level)
        n = self.among(name)
        if name in ("f1", "balanced_accuracy"):
            draws = (f1 if name == "f1" else balanced_accuracy)(self._cells)
            return stats.expanded_percentiles(draws, n - 1, level)
        low, high = stats.expanded_percentiles(self._values[name], n - 1, level)
        if name == "calibration_bias":
            return self._at_least(low, high, self.tally.value(name), self._promised(), n - 1, level)
        if name not in RATES and name != OBSERVED:
            return low, high
        of = 1.0 if name in RATES else self.tally.value("mean_score")
        value = np.nan_to_num(self.tally.value(name if name in RATES else "base_rate"))
        with np.errstate(divide="ignore", invalid="ignore"):
            flat_low, flat_high = (side / of for side in stats.wilson(value * n, n, level))
        return np.where(low == high, flat_low, low), np.where(low == high, flat_high, high)

    def difference(self, name: str, a: Any, b: Any, level: float) -> Interval:
        if name == SLOPE:
            return super().difference(name, a, b, level)
        values, freedom = self._values[name], self._freedom(name, a, b)
        value, n = self.tally.value(name), self.among(name)
        low, high = limits(values[:, a] - values[:, b], value[a] - value[b], freedom, level)
        if name == "calibration_bias":
            least = self._promised()
            return self._at_least(low, high, value[a] - value[b], least[a] + least[b], freedom, level)
        if name not in RATES:
            return low, high
        value = np.nan_to_num(value)
        flat_low, flat_high = stats.difference_interval(value[a] * n[a], n[a], value[b] * n[b], n[b], level)
        flat = low == high
        return np.where(flat, flat_low, np.maximum(low, -1)), np.where(flat, flat_high, np.minimum(high, 1))

    def ratio(self, name: str, a: Any, b: Any, level: float) -> Interval:
        if name == SLOPE:
            return super().ratio(name, a, b, level)
        values, value, n = self._values[name], self.tally.value(name), self.among(name)
        with np.errstate(divide="ignore", invalid="ignore"):
            drawn, freedom = values[:, a] / values[:, b], self._freedom(name, a, b)
            low, high = limits(drawn, value[a] / value[b], freedom, level, of_ratio=True)
        if name not in RATES:
            return low, high
        value = np.nan_to_num(value)
        flat_low, flat_high = stats.ratio_interval(value[a] * n[a], n[a], value[b] * n[b], n[b], level)
        return np.where(low == high, flat_low, low), np.where(low == high, flat_high, high)

    def p(self, name: str, a: Any, b: Any) -> Array:
        if name == SLOPE:
            return super().p(name, a, b)
        return np.array([self._pair(int(one), int(other))[name] for one, other in zip(a, b, strict=True)])

    def _freedom(self, name: str, a: Any, b: Any) -> Array:
        one, two, n = self._variance[name][a], self._variance[name][b], self.among(name)
        with np.errstate(divide="ignore", invalid="ignore"):
            freedom = (one + two) ** 2 / (one**2 / (n[a] - 1) + two**2 / (n[b] - 1))
        return np.asarray(np.where(one + two > 0, freedom, np.minimum(n[a], n[b]) - 1))

    def _promised(self) -> Array:
        """The smallest error that a mean score less its base rate can have, squared."""
        with np.errstate(divide="ignore", invalid="ignore"):
            return self.tally.promised() / self.tally.among("calibration_bias")

    @staticmethod
    def _at_least(low: Array, high: Array, value: Array, least: Array, freedom: Array, level: float) -> Interval:
        from scipy.stats import t

        half = t.ppf(0.5 + level / 2, freedom) * np.sqrt(least)
        return np.minimum(low, value - half), np.maximum(high, value + half)

    def _pair(self, a: int, b: int) -> dict[str, float]:
        if (a, b) not in self._p:
            names = [name for name in TESTED if name in self._values]
            found = np.array([self.tally.value(name)[a] - self.tally.value(name)[b] for name in names])
            test = self._bootstrapped if self._group is None else self._permuted
            p = dict(zip(names, test(names, found, a, b), strict=True))
            if "calibration_bias" in p:
                at, least = names.index("calibration_bias"), self._promised()
                freedom = self._freedom("calibration_bias", [a], [b])[0]
                p[names[at]] = max(p[names[at]], student_p(found[at], float(np.sqrt(least[a] + least[b])), freedom))
            self._p[a, b] = p
        return self._p[a, b]

    def _bootstrapped(self, names: list[str], found: Array, a: int, b: int) -> list[float]:
        p = []
        for name, value in zip(names, found, strict=True):
            draws = self._values[name][:, a] - self._values[name][:, b]
            draws = draws[~np.isnan(draws)]
            if not len(draws):
                p.append(float("nan"))
            elif value and not np.ptp(draws):  # every draw shows the gap: as little chance as so many draws can tell
                p.append(2 / (1 + len(draws)))
            else:
                p.append(student_p(value, float(draws.std()), float(self._freedom(name, [a], [b])[0])))
        return p

    def _permuted(self, names: list[str], found: Array, a: int, b: int) -> list[float]:
        of_a, of_b = self._members(a), self._members(b)
        both = np.flatnonzero(of_a | of_b)
        have, among = (np.stack(part, axis=1)[both] for part in zip(*map(self._sums, names), strict=True))
        table = np.concatenate([have, among, have**2, have * among, among**2], axis=1)
        total, n_a, n_draws = table.sum(axis=0), int(of_a.sum()), self._clusters.n_draws
        rng = np.random.default_rng([self._clusters.seed, a, b])
        drawn = np.empty((n_draws, len(names)))
        at_once = max(1, MOST_AT_ONCE // len(both))
        for start in range(0, n_draws, at_once):
            chosen = np.zeros((min(at_once, n_draws - start), len(both)))
            for one in chosen:
                one[rng.permutation(len(both))[:n_a]] = 1
            sums = chosen @ table
            drawn[start : start + len(chosen)] = studentised(sums, total - sums)
        sums = of_a[both].astype(np.float64) @ table
        seen = studentised(sums[None], total[None] - sums[None])[0]
        p = []
        for at, name in enumerate(names):
            chance = permuted_p(float(seen[at]), drawn[:, at], float(self._freedom(name, [a], [b])[0]))
            rates = {self.tally.value(name)[a], self.tally.value(name)[b]}
            if name in RATES and rates == {0.0, 1.0}:  # nothing varies within groups: clusters are as good as rows
                n, hit = self.among(name), self.tally.value(name)
                chance = min(chance, float(stats.same_proportion_p(n[a] * hit[a], n[a], n[b] * hit[b], n[b])))
            p.append(chance)
        return p

    def _members(self, group: int) -> npt.NDArray[np.bool_]:
        assert self._group is not None
        n_groups = int(self._group.max()) + 1
        return np.asarray(self._group == group if group < n_groups else self._group != group - n_groups)

    def _sums(self, name: str) -> tuple[Array, Array]:
        if name in RATES:
            have, among = self._of_clusters.rate(name)
            return have.astype(np.float64), among.astype(np.float64)
        n, total, _ = self._of_clusters.means[name]
        return total, n
