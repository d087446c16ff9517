"""All slices tested at once, and of those that are worse the ones that explain the others."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from dlstudio.stats import holm
from dlstudio.trust.slice_evidence import Floats, Ints, Population, Tally, interval, p_worse
from dlstudio.trust.slicing import Cut, Grid

__all__ = ["Listed", "Search"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Listed:
    """Slices worth listing.

    Attributes:
        places: in the grid, the strongest evidence first; those shown to be worse come before the others.
        within: int64, for a slice found inside a listed one, that one's place in `places`; else -1.
        n_redundant, n_unlisted: how many are shown too but explained by these; how many there was no room for.
    """

    places: list[int]
    within: Ints
    n_redundant: int
    n_unlisted: int


class Search:
    """Every slice of a grid tested against the rows outside it.

    Args:
        cuts: the columns.
        loss: float64 (n,).
        depth, min_rows, threshold, level: as in `find_slices`.

    Attributes:
        grid: the slices.
        p, adjusted: float64, one-sided p-values; after Holm among slices of as many columns, and Bonferroni for how
            many columns there may be. So the few single values do not pay for all intersections.
        low, high: float64, intervals of the differences that hold together at `level`.
        shown: bool, whether a slice is shown to be worse.
    """

    def __init__(
        self, cuts: Sequence[Cut], loss: Floats, *, depth: int, min_rows: int, threshold: float, level: float
    ) -> None:
        self.is_rate = bool(np.isin(loss, (0.0, 1.0)).all())
        # Centred, so that the sums of powers keep their digits; no difference and no test changes by that.
        self._middle = 0.0 if self.is_rate else float(loss.mean())
        self.grid = Grid(cuts, loss - self._middle, depth, min_rows)
        self._all = Population.of(self.grid.loss)
        self._min_rows, self._alpha = min_rows, 1 - level
        tally = self.grid.tally
        self.p = p_worse(tally, self._all, is_rate=self.is_rate)
        sizes = np.array([len(parts) for parts in self.grid.conditions], dtype=np.int64)
        self.adjusted, self._times, levels = np.ones(len(sizes)), np.ones(len(sizes)), np.unique(sizes)
        for size in levels:
            own = sizes == size
            self.adjusted[own] = np.minimum(1, len(levels) * holm(self.p[own]))
            self._times[own] = len(levels) * own.sum()
        self.low, self.high = interval(tally, self._all, 1 - self._alpha / self._times, is_rate=self.is_rate)
        self.shown = (self.adjusted <= self._alpha) & (self.low > threshold)
        self._evidence = _z(tally, self._all)

    def means(self, places: Sequence[int]) -> tuple[Floats, Floats]:
        """Return the mean losses in slices, and elsewhere."""
        tally = self.grid.tally[np.asarray(places, dtype=np.int64)]
        elsewhere = (self._all.total - tally.total) / (self._all.n - tally.n)
        return tally.total / tally.n + self._middle, elsewhere + self._middle

    def listed(self, at_most: int) -> Listed:
        """Choose the slices that explain all that are shown, then the strongest of the others."""
        around: dict[int, int] = {}
        candidates = np.flatnonzero(self.shown)
        waiting = [(-1, candidates)]
        while waiting and len(around) <= at_most:
            outer, inside = waiting.pop(0)
            found = self._explaining(outer, inside, at_most + 1 - len(around))
            around |= dict.fromkeys(found, outer)
            for place in found:
                inner = [other for other in candidates.tolist() if other not in around and self._is_part(other, place)]
                waiting.append((place, np.array(inner, dtype=np.int64)))
        full = len(around) > at_most
        kept = sorted(list(around)[:at_most], key=self._rank)
        n_others = len(candidates) - len(kept)
        for place in kept:
            if around[place] < 0:
                around[place] = self._around(place, kept)
        within = [kept.index(around[place]) if around[place] >= 0 else -1 for place in kept]
        kept += self._others(kept, at_most)
        return Listed(
            places=kept,
            within=np.array(within + [-1] * (len(kept) - len(within)), dtype=np.int64),
            n_redundant=0 if full else n_others,
            n_unlisted=n_others if full else 0,
        )

    def _is_part(self, inner: int, outer: int) -> bool:
        return set(self.grid.conditions[outer]) < set(self.grid.conditions[inner])

    def _rank(self, place: int) -> tuple[float, float]:
        return float(self.adjusted[place]), -float(self._evidence[place])  # the smallest are all 0

    def _explaining(self, outer: int, candidates: Ints, at_most: int) -> list[int]:
        """Pick slices inside `outer` (-1: among all rows), each the strongest once the rows of those before are gone.

        So a slice stays out that is worse only by rows of another, and one that merely contains a worse one.
        """
        if not len(candidates):
            return []
        grid = self.grid
        left = np.arange(len(grid.loss)) if outer < 0 else grid.rows_of(outer)
        tally = grid.tally[candidates] if outer < 0 else grid.of(left, candidates)
        found: list[int] = []
        while len(candidates) and len(found) < at_most:
            among = Population.of(grid.loss[left])
            enough = (tally.n >= self._min_rows) & (among.n - tally.n >= self._min_rows)
            candidates, tally = candidates[enough], tally[enough]
            if not len(candidates):
                break
            p = p_worse(tally, among, is_rate=self.is_rate) * self._times[candidates]
            best = int(np.lexsort((-_z(tally, among), p))[0])
            if p[best] > self._alpha:
                break
            found.append(int(candidates[best]))
            taken = grid.meets(found[-1], left)
            gone, left = left[taken], left[~taken]
            kept = np.arange(len(candidates)) != best
            candidates, tally = candidates[kept], tally[kept] - grid.of(gone, candidates[kept])
        return found

    def _around(self, inner: int, kept: Sequence[int]) -> int:
        """The listed slice that one found before it lies in and is worse than the rest of; -1 without."""
        for outer in kept:
            if self._is_part(inner, outer) and self._explaining(outer, np.array([inner]), 1):
                return outer
        return -1

    def _others(self, kept: Sequence[int], at_most: int) -> list[int]:
        """The strongest of those not shown, of which none is part of another or of one that is."""
        taken = [set(self.grid.conditions[place]) for place in kept]
        found: list[int] = []
        unshown = np.flatnonzero(~self.shown)
        for place in unshown[np.lexsort((-self._evidence[unshown], self.adjusted[unshown]))]:
            if len(kept) + len(found) >= at_most:
                break
            own = set(self.grid.conditions[place])
            if not any(own <= other or other <= own for other in taken):
                taken.append(own)
                found.append(int(place))
        return found


def _z(tally: Tally, among: Population) -> Floats:
    """How far a slice's mean lies above that of all, in standard errors, up to a factor that all slices share."""
    n = tally.n.astype(np.float64)
    found: Floats = (tally.total - n * among.total / among.n) * np.sqrt(among.n / (n * (among.n - n)))
    return found
