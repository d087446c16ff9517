"""Growing series in bounded memory, cut into buckets that never change once they are full.

Bucket ``i`` covers the points ``[i · size, (i + 1) · size)``. When all buckets are used, neighbours are
merged and `size` doubles, which starts a new `generation`. Between two generations only the last bucket
changes and new ones follow, so a reader that knows how many whole buckets it has needs nothing but the rest.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

NAN, POSITIVE_INFINITY, NEGATIVE_INFINITY = 1, 2, 4
LAYER_STATS = ("grad_norm", "update_ratio", "weight_norm")

_X_MIN, _Y_MIN, _X_MAX, _Y_MAX, _SUM, _COUNT, _X_BAD, _FLAGS = range(8)


class Buckets:
    """What curves and layer histories share: the arithmetic of bucket numbers."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.size = 1
        self.generation = 0
        self.n_points = 0

    @property
    def n(self) -> int:
        """How many buckets are in use."""
        return -(-self.n_points // self.size)

    @property
    def n_whole(self) -> int:
        """How many buckets will not change before the next generation."""
        return self.n_points // self.size

    def _make_room(self, n_new: int) -> None:
        while self.n_points + n_new > self.capacity * self.size:
            self._merge()
            self.size *= 2
            self.generation += 1

    def _merge(self) -> None:
        raise AssertionError("a kind of buckets says how two of them merge")


class CurveBuckets(Buckets):
    """One curve: lowest and highest point, mean and non-finite values of every bucket.

    Args:
        capacity: how many buckets at most; an even number.

    Attributes:
        last: the last value added, None before the first.
        last_x: where it lies.
        n_nonfinite: how many values were NaN or infinite.
    """

    def __init__(self, capacity: int = 400) -> None:
        super().__init__(capacity)
        self._rows = np.empty((capacity, 8))
        self.last: float | None = None
        self.last_x: float | None = None
        self.n_nonfinite = 0

    def add(self, x: Array, values: Array) -> None:
        """Append points, `x` and `values` both of shape ``(n,)``."""
        if not len(values):
            return
        values = np.asarray(values, np.float64)
        self._make_room(len(values))
        first, n_open = self.n_whole, self.n_points % self.size
        rows = _curve_rows(np.asarray(x, np.float64), values, n_open, self.size)
        if n_open:
            rows[:1] = _combine(self._rows[first : first + 1], rows[:1])
        self._rows[first : first + len(rows)] = rows
        self.n_points += len(values)
        self.n_nonfinite += int(np.count_nonzero(~np.isfinite(values)))
        self.last, self.last_x = float(values[-1]), float(x[-1])

    def _merge(self) -> None:
        used = self._rows[: self.n]
        merged = used[::2].copy()
        merged[: len(used) // 2] = _combine(used[0 : len(used) // 2 * 2 : 2], used[1::2])
        self._rows[: len(merged)] = merged

    def points(self, start: int = 0, stop: int | None = None) -> tuple[Array, Array, Array, Array]:
        """Return buckets ``[start, stop)`` as they are drawn.

        Returns:
            ``(x, y, bad_x, bad)``: x float64 ``(n, 2)`` in ascending order; y float32 ``(n, 3)`` with the
            values at those two places and the mean of the bucket, NaN in a bucket without finite values; the
            ``m`` buckets with non-finite values as float64 ``(m,)``, the place of the first of them, and
            int32 ``(m, 2)``, the bucket's number and which kinds it holds (`NAN`, `POSITIVE_INFINITY`,
            `NEGATIVE_INFINITY`).
        """
        rows = self._rows[start : self.n if stop is None else min(stop, self.n)]
        swap = rows[:, _X_MAX] < rows[:, _X_MIN]
        places, values = rows[:, [_X_MIN, _X_MAX]], np.empty((len(rows), 3))
        values[:, :2] = rows[:, [_Y_MIN, _Y_MAX]]
        places[swap], values[swap, :2] = places[swap, ::-1], values[swap, 1::-1]
        with np.errstate(invalid="ignore"):
            values[:, 2] = rows[:, _SUM] / rows[:, _COUNT]
        bad = np.flatnonzero(rows[:, _FLAGS])
        kinds = np.stack([bad + start, rows[bad, _FLAGS].astype(np.int64)], axis=1).astype(np.int32)
        return places, to_float32(values), rows[bad, _X_BAD], kinds


def _curve_rows(x: Array, values: Array, n_open: int, size: int) -> Array:
    """Buckets of new points, of which the first continues a bucket that already holds `n_open` points."""
    n = -(-(n_open + len(values)) // size)
    finite = np.isfinite(values)
    here = slice(n_open, n_open + len(values))
    places = np.full(n * size, np.nan)
    places[here] = x
    low, high = np.full(n * size, np.inf), np.full(n * size, -np.inf)
    low[here], high[here] = np.where(finite, values, np.inf), np.where(finite, values, -np.inf)
    summed, counted = np.zeros(n * size), np.zeros(n * size)
    summed[here], counted[here] = np.where(finite, values, 0.0), finite
    each = np.arange(n) * size
    at_low = each + low.reshape(n, size).argmin(axis=1)
    at_high = each + high.reshape(n, size).argmax(axis=1)
    counts = counted.reshape(n, size).sum(axis=1)
    rows = np.empty((n, 8))
    rows[:, _X_MIN], rows[:, _Y_MIN] = places[at_low], np.where(counts > 0, low[at_low], np.nan)
    rows[:, _X_MAX], rows[:, _Y_MAX] = places[at_high], np.where(counts > 0, high[at_high], np.nan)
    rows[:, _SUM], rows[:, _COUNT] = summed.reshape(n, size).sum(axis=1), counts
    rows[:, _X_BAD], rows[:, _FLAGS] = np.nan, 0
    # A bucket without finite values still has a place, so that the line breaks where it should.
    empty = counts == 0
    if empty.any():
        first = np.minimum(np.maximum(each, n_open), n_open + len(values) - 1)
        rows[empty, _X_MIN] = rows[empty, _X_MAX] = places[first[empty]]
    if not finite.all():
        odd = values[~finite]
        flags = np.where(np.isnan(odd), NAN, np.where(odd > 0, POSITIVE_INFINITY, NEGATIVE_INFINITY))
        bucket = (n_open + np.flatnonzero(~finite)) // size
        kinds = np.zeros(n, np.int64)
        np.bitwise_or.at(kinds, bucket, flags)
        present, first_bad = np.unique(bucket, return_index=True)
        rows[:, _FLAGS] = kinds
        rows[present, _X_BAD] = x[~finite][first_bad]
    return rows


def _combine(a: Array, b: Array) -> Array:
    """Merge buckets `a` with the later buckets `b`, row by row; of equal extremes the earlier stays."""
    merged = a.copy()
    with np.errstate(invalid="ignore"):
        lower = (b[:, _Y_MIN] < a[:, _Y_MIN]) | (np.isnan(a[:, _Y_MIN]) & ~np.isnan(b[:, _Y_MIN]))
        higher = (b[:, _Y_MAX] > a[:, _Y_MAX]) | (np.isnan(a[:, _Y_MAX]) & ~np.isnan(b[:, _Y_MAX]))
    merged[lower, _X_MIN : _Y_MIN + 1] = b[lower, _X_MIN : _Y_MIN + 1]
    merged[higher, _X_MAX : _Y_MAX + 1] = b[higher, _X_MAX : _Y_MAX + 1]
    merged[:, _SUM : _COUNT + 1] += b[:, _SUM : _COUNT + 1]
    merged[:, _X_BAD] = np.where(np.isnan(a[:, _X_BAD]), b[:, _X_BAD], a[:, _X_BAD])
    merged[:, _FLAGS] = a[:, _FLAGS].astype(np.int64) | b[:, _FLAGS].astype(np.int64)
    return merged


def to_float32(values: Array) -> Array:
    """Convert to float32; what is finite stays finite."""
    limit = float(np.finfo(np.float32).max)
    clipped = np.where(np.isfinite(values), np.clip(values, -limit, limit), values)
    return np.asarray(clipped, np.float32)


class LayerBuckets(Buckets):
    """Layer statistics: a bucket holds every layer's highest value in its steps, or NaN if there was one.

    Args:
        names: the parameter names, in the order of the model.
        capacity: how many buckets (columns of the heat map) at most; an even number.
        max_rows: beyond so many parameters, neighbours share a row that shows their highest value.
    """

    def __init__(self, names: list[str], capacity: int = 200, max_rows: int = 400) -> None:
        super().__init__(capacity)
        self.n_parameters = len(names)
        self.per_row = -(-len(names) // max_rows)
        self._starts = np.arange(0, len(names), self.per_row)
        ends = [*self._starts[1:], len(names)]
        self.rows = [
            names[a] if b - a == 1 else f"{names[a]} … {names[b - 1]}" for a, b in zip(self._starts, ends, strict=True)
        ]
        self._steps = np.empty((capacity, 2))
        self._stats = {stat: np.empty((capacity, len(self.rows)), np.float32) for stat in LAYER_STATS}

    def add(self, steps: Array, stats: dict[str, Array]) -> None:
        """Append samples: `steps` of shape ``(n,)``, three norms of shape ``(n, P)``."""
        if not len(steps):
            return
        self._make_room(len(steps))
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = stats["update_norm"] / stats["weight_norm"]
        new = {"grad_norm": stats["grad_norm"], "update_ratio": ratio, "weight_norm": stats["weight_norm"]}
        first, n_open = self.n_whole, self.n_points % self.size
        edges = np.arange(-n_open, len(steps), self.size)
        starts = np.maximum(edges, 0)
        used = slice(first, first + len(starts))
        for stat, values in new.items():
            rows = np.maximum.reduceat(values, self._starts, axis=1) if self.per_row > 1 else values
            columns = np.maximum.reduceat(rows, starts, axis=0)
            if n_open:
                columns[0] = np.maximum(columns[0], self._stats[stat][first])
            self._stats[stat][used] = columns
        begin = self._steps[first, 0] if n_open else steps[0]
        self._steps[used, 0] = steps[starts]
        self._steps[used, 1] = steps[np.minimum(edges + self.size, len(steps)) - 1]
        self._steps[first, 0] = begin
        self.n_points += len(steps)

    def _merge(self) -> None:
        n = self.n
        for columns in self._stats.values():
            merged = columns[:n:2].copy()
            merged[: n // 2] = np.maximum(merged[: n // 2], columns[1:n:2])
            columns[: len(merged)] = merged
        ends = np.append(self._steps[1:n:2, 1], self._steps[n - 1 : n, 1] if n % 2 else [])
        starts = self._steps[:n:2, 0].copy()
        self._steps[: len(starts), 0], self._steps[: len(starts), 1] = starts, ends

    def columns(self, stat: str, start: int = 0, stop: int | None = None) -> tuple[Array, Array]:
        """Return buckets ``[start, stop)`` of one statistic.

        Returns:
            ``(steps, values)``: float64 ``(n, 2)``, the first and last step of every bucket; float32
            ``(n, len(rows))``.
        """
        used = slice(start, self.n if stop is None else min(stop, self.n))
        return self._steps[used], self._stats[stat][used]


ZERO, NOT_A_NUMBER, INFINITE = -32768, 32766, 32767


def quantise(values: Array) -> Array:
    """Return log10 of norms in thousandths, as int16, exact to 0.12 %.

    Three codes are set apart: `ZERO` for 0, `NOT_A_NUMBER` and `INFINITE`.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        logs = np.log10(np.abs(values)) * 1000
    codes: Array = np.clip(np.nan_to_num(logs, posinf=0, neginf=0), -32767, 32765).round().astype(np.int16)
    codes[values == 0] = ZERO
    codes[np.isnan(values)] = NOT_A_NUMBER
    codes[np.isinf(values)] = INFINITE
    return codes
