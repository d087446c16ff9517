"""The rows that can be reached from one table row: its columns, their allowed values, and distances between them."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["DECIMALS", "Column", "Space"]

Array = npt.NDArray[Any]
DECIMALS = 3
"""Numbers are told apart from whole ones up to this many decimals; beyond, any number is allowed."""


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Column:
    """One column of a table as a search sees it.

    A point holds one float a column: the raw number, or the position of a category in `labels`.

    Attributes:
        name: what people call it.
        features: positions in the model's input that it decides.
        current: the row's own value; -1 for a category that the encoding does not know.
        shown: the row's own value as people read it.
        labels, codes: of categories: their names; float (labels, features), what each writes into the input.
        choices: the allowed values other than `current`, in order; None where any number from `low` to `high` is.
        low, high: float ends.
        step: distance of allowed numbers, 1 for whole ones; 0 for any.
        unit: one unit of distance: the median absolute deviation where there is a background.
        offset, slope: the input is ``(number - offset) / slope``.
    """

    name: str
    features: tuple[int, ...]
    current: float
    shown: float | str
    labels: tuple[str, ...] = ()
    codes: Array | None = None
    choices: Array | None = None
    low: float = 0.0
    high: float = 0.0
    step: float = 0.0
    unit: float = 1.0
    offset: float = 0.0
    slope: float = 1.0

    @property
    def free(self) -> bool:
        """Whether it may change at all."""
        if self.choices is not None:
            return len(self.choices) > 0
        return self.low < self.high or (self.low == self.high and self.low != self.current)

    @property
    def ends(self) -> tuple[float, float]:
        """The lowest and the highest number that it may have."""
        allowed = (self.low, self.high) if self.choices is None else (self.choices.min(), self.choices.max())
        return min(allowed[0], self.current), max(allowed[1], self.current)

    def shows(self, number: float) -> float | str:
        """A value of a point as people read it."""
        if number == self.current:
            return self.shown
        return self.labels[int(number)] if self.labels else float(number)

    @functools.cached_property
    def _allowed(self) -> Array:
        assert self.choices is not None
        return np.sort(np.append(self.choices, self.current))

    def snap(self, numbers: Array) -> Array:
        """The nearest allowed values; the row's own stays."""
        if self.choices is not None:
            if not len(self.choices):
                return np.full_like(numbers, self.current)
            allowed = self._allowed
            after = np.clip(np.searchsorted(allowed, numbers), 1, len(allowed) - 1)
            lower, upper = allowed[after - 1], allowed[after]
            return np.where(numbers - lower <= upper - numbers, lower, upper)
        snapped = numbers if self.step == 0 else np.round(numbers / self.step) * self.step
        if self.step and self.step < 1:  # 3 * 0.1 is not the number that 0.3 is written for
            snapped = np.round(snapped, DECIMALS)
        return np.where(numbers == self.current, self.current, np.clip(snapped, self.low, self.high))


class Space:
    """The rows that can be reached from one row.

    Args:
        row: (features,), the model's input.
        columns: one a column of the table.
    """

    def __init__(self, row: Array, columns: Sequence[Column]) -> None:
        self.row = row
        self.columns = tuple(columns)
        self.start = np.array([column.current for column in columns], dtype=np.float64)
        self.free = [at for at, column in enumerate(columns) if column.free]
        self.nominal = np.array([bool(column.labels) for column in columns])
        self.unit = np.array([column.unit for column in columns])

    def snap(self, points: Array) -> Array:
        """Move points (k, columns) to the nearest allowed ones."""
        snapped = np.tile(self.start, (len(points), 1))
        for at in self.free:
            snapped[:, at] = self.columns[at].snap(points[:, at])
        return snapped

    def encode(self, points: Array) -> Array:
        """Return what the model is given for points (k, columns): (k, features) in the row's type."""
        rows = np.tile(self.row, (len(points), 1))
        for at in self.free:
            column, moved = self.columns[at], points[:, at] != self.start[at]
            if column.codes is not None:
                rows[np.ix_(moved, column.features)] = column.codes[points[moved, at].astype(np.int64)]
            else:
                rows[moved, column.features[0]] = (points[moved, at] - column.offset) / column.slope
        return rows

    def shifts(self, points: Array) -> Array:
        """Return how far every column moved (k, columns), in units and with its sign; 1 for another category."""
        moved = points - self.start
        shifts: Array = np.where(self.nominal, moved != 0, moved / self.unit)
        return shifts

    def signature(self, points: Array) -> Array:
        """Return which way every column went, int64 (k, columns): 0, up 1, down -1, or 2 and more by category."""
        sign = np.sign(points - self.start)
        return np.where(self.nominal & (sign != 0), points + 2, sign).astype(np.int64)

    def distance(self, points: Array, norm: str) -> Array:
        """Return the distance (k,) of every point from the row, in units."""
        shifts = self.shifts(points)
        lengths: Array = np.abs(shifts).sum(axis=1) if norm == "l1" else np.sqrt((shifts**2).sum(axis=1))
        return lengths
