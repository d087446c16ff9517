"""The search for thresholds by group: of all that keep a limit of the gap, the most accurate ones."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import numpy.typing as npt

from dlstudio.errors import DLStudioError
from dlstudio.fairness.mitigation.rates import POSITIVE, SELECTED, TRUE, N, criterion_named
from dlstudio.fairness.mitigation.rates import rates as rates_of

__all__ = ["MIN_DENOMINATOR", "Search"]

Array = npt.NDArray[np.float64]
Whole = npt.NDArray[np.int64]

MIN_DENOMINATOR = 30
"""A threshold found on fewer rows follows their chance."""
ROUNDING = 1e-12
"""Sums of fractions round by less, and fractions of fewer than a million rows differ by more."""


class Search:
    """All thresholds of all groups, ready to be searched for any limit of the gap.

    Where the lowest rates of all groups are known, every group can choose for itself among the thresholds that lead to
    at most `max_gap` more. These follow each other, as rates fall where thresholds rise. So the best choice over all
    lowest rates is the best of all. Lowest rates are gone through in boxes: if a box starts at its least ones and may
    go `max_gap` beyond its largest, no choice in it is better than the best there. Only boxes that may hold something
    better than what is known are halved, down to single rates; so nothing is left out.
    """

    def __init__(
        self,
        y: Whole,
        scores: Array,
        codes: npt.NDArray[np.intp],
        n_groups: int,
        criterion: str,
        *,
        threshold: float = 0.5,
        min_denominator: int = MIN_DENOMINATOR,
    ) -> None:
        names = criterion_named(criterion)
        self.threshold = threshold
        self.shared = np.zeros(n_groups, dtype=np.bool_)
        self._choices: dict[int, _Choices] = {}
        for group in range(n_groups):
            mine = codes == group
            candidates, counts = _candidates(y[mine], scores[mine], threshold)
            fractions = [rates_of(counts, name) for name in names]
            if any(denominator[0] < max(1, min_denominator) for _, denominator in fractions):
                self.shared[group] = True
                continue
            right = counts[:, N] - counts[:, POSITIVE] - counts[:, SELECTED] + 2 * counts[:, TRUE]
            # Of thresholds that are equally right, the one nearest to the common one.
            away = np.minimum(np.abs(candidates - threshold), 1.0)
            self._choices[group] = _Choices(candidates, right - 1e-3 * away, [count / n for count, n in fractions])
        large = self._choices.values()
        known = [[np.zeros(1), *(one.rates[place] for one in large)] for place in range(len(names))]
        self._levels = [np.unique(np.concatenate(rates)) for rates in known]

    def need_two(self, names: Any) -> None:
        """Check that there are groups to be compared.

        Raises:
            DLStudioError: fewer than two groups are large enough.
        """
        if len(self._choices) < 2:
            said = ", ".join(str(names[place]) for place in self._choices) or "none"
            raise DLStudioError(
                "two groups with enough rows of each kind", said, "Merge small groups, or lower min_denominator."
            )

    def compared(self, counts: Whole) -> Whole:
        """Return counts (groups, 4) without those of groups that are too small to count in the gap."""
        return np.where(self.shared[:, None], 0, counts)

    def best(self, max_gap: float) -> Array:
        """Return the most accurate thresholds (groups,) whose gap is at most `max_gap`."""
        first = np.zeros((1, len(self._levels)), dtype=np.int64)
        last = np.array([[len(levels) - 1 for levels in self._levels]])
        most, lowest = -np.inf, self._rates(last)
        while len(first):
            middle = (first + last) // 2
            some = self._rates(middle)
            found = self._merit(some, some + max_gap)
            place = int(found.argmax())
            if found[place] > most:
                most, lowest = found[place], some[place : place + 1]
            first, last = _halves(first, middle, last)
            better = self._merit(self._rates(first), self._rates(last) + max_gap) > most
            first, last = first[better], last[better]
        thresholds = np.full(len(self.shared), self.threshold)
        for group, one in self._choices.items():
            thresholds[group] = one.best(lowest, lowest + max_gap)
        return thresholds

    def _rates(self, places: Whole) -> Array:
        """Levels of rates (boxes, rates) at their places."""
        return np.stack([levels[at] for levels, at in zip(self._levels, places.T, strict=True)], axis=1)

    def _merit(self, low: Array, high: Array) -> Array:
        """The most that groups can reach with rates from `low` to `high` (boxes, rates); -inf where one cannot."""
        total: Array = np.sum([one.most(low, high) for one in self._choices.values()], axis=0)
        return total


class _Choices:
    """The thresholds of one group, falling, what each is worth, and the rates it leads to, which rise.

    Row k of the table has the most of 2**k thresholds from each on, so that any range is two of its entries.
    """

    def __init__(self, thresholds: Array, merits: Array, rates: list[Array]) -> None:
        self.thresholds, self.rates = thresholds, rates
        rows = [merits]
        while (width := 1 << len(rows)) <= len(merits):
            row = np.full(len(merits), -np.inf)
            here = len(merits) - width + 1
            row[:here] = np.maximum(rows[-1][:here], rows[-1][width // 2 : width // 2 + here])
            rows.append(row)
        self._table = np.stack(rows)

    def most(self, low: Array, high: Array) -> Array:
        """The largest merit of thresholds with all rates from `low` to `high` (boxes, rates); -inf where none has."""
        start, end = self._range(low, high)
        row = np.frexp(np.maximum(end - start, 1))[1] - 1
        inside = np.minimum(start, len(self.thresholds) - 1), np.maximum(end - (1 << row), 0)
        found = np.maximum(self._table[row, inside[0]], self._table[row, inside[1]])
        return np.where(end > start, found, -np.inf)

    def best(self, low: Array, high: Array) -> float:
        """The threshold of the largest merit in one box (1, rates)."""
        start, end = (int(place[0]) for place in self._range(low, high))
        return float(self.thresholds[start + int(self._table[0, start:end].argmax())])

    def _range(self, low: Array, high: Array) -> tuple[Whole, Whole]:
        starts = [np.searchsorted(rate, low[:, at] - ROUNDING, side="left") for at, rate in enumerate(self.rates)]
        ends = [np.searchsorted(rate, high[:, at] + ROUNDING, side="right") for at, rate in enumerate(self.rates)]
        return np.max(starts, axis=0), np.min(ends, axis=0)


def _halves(first: Whole, middle: Whole, last: Whole) -> tuple[Whole, Whole]:
    """Boxes (boxes, rates) cut in the middle of every rate; those of a single level of each are done."""
    several = (first < last).any(axis=1)
    first, middle, last = first[several], middle[several], last[several]
    starts, ends = [], []
    for upper in itertools.product((False, True), repeat=first.shape[1]):
        starts.append(np.where(upper, middle + 1, first))
        ends.append(np.where(upper, last, middle))
    start, end = np.concatenate(starts), np.concatenate(ends)
    there = (start <= end).all(axis=1)
    return start[there], end[there]


def _candidates(y: Whole, scores: Array, threshold: float) -> tuple[Array, Whole]:
    """Thresholds of one group that decide differently, falling, each with counts (thresholds, 4)."""
    order = np.argsort(-scores, kind="stable")
    scores, positive = scores[order], np.concatenate([[0], np.cumsum(y[order])])
    ends = np.flatnonzero(np.diff(scores, append=-np.inf) < 0) + 1  # how many are chosen by each distinct score
    higher, lower = scores[ends[:-1] - 1], scores[ends[:-1]]
    between = np.maximum((higher + lower) / 2, np.nextafter(lower, np.inf))  # neighbouring numbers have no middle
    candidates = np.unique(np.concatenate([[-np.inf, np.inf, threshold], between]))[::-1]
    selected = np.searchsorted(-scores, -candidates, side="right")
    columns = (np.full(len(candidates), len(y)), np.full(len(candidates), positive[-1]), selected, positive[selected])
    return candidates, np.stack(columns, axis=-1).astype(np.int64)
