"""What a run recorded, in bounded memory: exact facts of every series, and few enough points to draw.

A builder takes the increments of a telemetry reader as they come. However long the run, it keeps a bounded
number of points, while counts, first, last, lowest and highest values stay exact.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from dlstudio.results import equal, value
from dlstudio.telemetry.downsample import minmax
from dlstudio.telemetry.reader import LayerBlock

Array = npt.NDArray[Any]

LAYER_STATS = ("grad_norm", "weight_norm", "update_norm", "update_ratio")


@value
@dataclass(frozen=True, kw_only=True, eq=False)
class Curve:
    """One recorded series, thinned for drawing, with exact facts of all its points.

    Attributes:
        key: the name it was logged under, such as ``"val/loss"``.
        x: where the kept points lie, shape ``(m,)``: completed optimiser steps (int64), or seconds since
            the start of the run (float64) for machine use.
        values: float64, shape ``(m,)``; NaN and infinities are kept.
        n: how many points were recorded.
        first, last: the first and the last recorded value.
        last_x: where the last point lies.
        min, max: lowest and highest finite value; None when no value is finite.
        min_x, max_x: where they lie, the earliest place if there are several.
        n_nonfinite: how many values are NaN or infinite.
        first_nonfinite_x: where the first of those lies, or None.
    """

    key: str
    x: Array
    values: Array
    n: int
    first: float
    last: float
    last_x: float
    min: float | None
    min_x: float | None
    max: float | None
    max_x: float | None
    n_nonfinite: int
    first_nonfinite_x: float | None

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Curve) and equal(self.__dict__, other.__dict__)


@value
@dataclass(frozen=True, kw_only=True, eq=False)
class LayerHistory:
    """Statistics of every watched parameter over the run, in few enough columns to draw.

    Attributes:
        names: the ``P`` parameter names, in the order of the model.
        steps: int64, shape ``(m,)``: the last step of every column.
        stats: float32, each of shape ``(m, P)``, under ``grad_norm``, ``weight_norm``, ``update_norm`` and
            ``update_ratio``; a column holds the highest value of its steps, or a non-finite one if there is
            any.
        n_steps: how many steps were sampled.
    """

    names: list[str]
    steps: Array
    stats: dict[str, Array]
    n_steps: int

    def __eq__(self, other: object) -> bool:
        return isinstance(other, LayerHistory) and equal(self.__dict__, other.__dict__)


class CurveBuilder:
    """Collects one series.

    Args:
        key: its name.
        points: how many points to aim for in `curve`.
    """

    def __init__(self, key: str, points: int) -> None:
        self._key, self._points = key, points
        self._x: list[Array] = []
        self._values: list[Array] = []
        self._n_kept = 0
        unknown = ("first", "min", "min_x", "max", "max_x", "first_nonfinite_x")
        self._facts: dict[str, Any] = {"n": 0, "n_nonfinite": 0, **dict.fromkeys(unknown)}

    def add(self, x: Array, values: Array) -> None:
        """Append points, `x` and `values` both of shape ``(n,)``."""
        if not len(values):
            return
        facts = self._facts
        if facts["first"] is None:
            facts["first"] = float(values[0])
        facts["n"] += len(values)
        facts["last"], facts["last_x"] = float(values[-1]), _plain(x[-1])
        finite = np.isfinite(values)
        if not finite.all():
            facts["n_nonfinite"] += int((~finite).sum())
            if facts["first_nonfinite_x"] is None:
                facts["first_nonfinite_x"] = _plain(x[np.argmin(finite)])
        if finite.any():
            at, lowest = int(np.argmin(np.where(finite, values, np.inf))), facts["min"]
            if lowest is None or values[at] < lowest:
                facts["min"], facts["min_x"] = float(values[at]), _plain(x[at])
            at, highest = int(np.argmax(np.where(finite, values, -np.inf))), facts["max"]
            if highest is None or values[at] > highest:
                facts["max"], facts["max_x"] = float(values[at]), _plain(x[at])
        self._x.append(x)
        self._values.append(np.asarray(values, np.float64))
        self._n_kept += len(values)
        if self._n_kept > 32 * self._points:
            self._thin(8 * self._points)

    def _thin(self, n_out: int) -> tuple[Array, Array]:
        x, values = minmax(np.concatenate(self._x), np.concatenate(self._values), n_out)
        self._x, self._values, self._n_kept = [x], [values], len(values)
        return x, values

    def curve(self) -> Curve:
        """The series so far."""
        x, values = np.concatenate(self._x), np.concatenate(self._values)
        self._x, self._values = [x], [values]
        x, values = minmax(x, values, self._points)
        return Curve(key=self._key, x=x, values=values, **self._facts)


class LayersBuilder:
    """Collects the layer statistics of a run.

    Args:
        columns: how many columns to keep at most.
    """

    def __init__(self, columns: int) -> None:
        self._columns = columns
        self._models: dict[tuple[str, ...], list[tuple[Array, dict[str, Array]]]] = {}
        self._n_steps: dict[tuple[str, ...], int] = {}

    def add(self, block: LayerBlock) -> None:
        """Append the sampled steps of one block."""
        model = (block.family, *block.names)
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = block.stats["update_norm"] / block.stats["weight_norm"]
        stats = {stat: block.stats[stat] for stat in LAYER_STATS[:3]} | {"update_ratio": ratio}
        parts = self._models.setdefault(model, [])
        parts.append((block.steps, stats))
        self._n_steps[model] = self._n_steps.get(model, 0) + len(block.steps)
        if sum(len(steps) for steps, _ in parts) > 4 * self._columns:
            self._models[model] = [_reduce(*_join(parts), self._columns * 2)]

    def history(self) -> LayerHistory | None:
        """All watched parameters so far; None when nothing was watched."""
        models = [(names, *_reduce(*_join(parts), self._columns)) for (_, *names), parts in self._models.items()]
        if not models:
            return None
        n_steps = max(self._n_steps.values())
        if len(models) == 1:
            names, steps, stats = models[0]
            return LayerHistory(names=list(names), steps=steps, stats=stats, n_steps=n_steps)
        # Several models were watched: one row a step that any of them was sampled at, NaN where it was not.
        all_names = []
        for number, (names, _, _) in enumerate(models, 1):
            all_names += names if number == 1 else [f"model{number}.{name}" for name in names]
        steps = np.unique(np.concatenate([steps for _, steps, _ in models]))
        merged = {stat: np.full((len(steps), len(all_names)), np.nan, np.float32) for stat in LAYER_STATS}
        start = 0
        for names, part_steps, stats in models:
            for stat, matrix in stats.items():
                merged[stat][np.searchsorted(steps, part_steps), start : start + len(names)] = matrix
            start += len(names)
        return LayerHistory(names=all_names, steps=steps, stats=merged, n_steps=n_steps)


def _plain(x: np.generic) -> int | float:
    plain: int | float = x.item()
    return plain


def _join(parts: list[tuple[Array, dict[str, Array]]]) -> tuple[Array, dict[str, Array]]:
    if len(parts) == 1:
        return parts[0]
    steps = np.concatenate([steps for steps, _ in parts])
    return steps, {stat: np.concatenate([stats[stat] for _, stats in parts]) for stat in LAYER_STATS}


def _reduce(steps: Array, stats: dict[str, Array], columns: int) -> tuple[Array, dict[str, Array]]:
    if len(steps) <= columns:
        return steps, stats
    starts = np.linspace(0, len(steps), columns, endpoint=False).astype(np.int64)
    ends = np.append(starts[1:], len(steps)) - 1
    # np.maximum hands NaN on, so a broken step is not averaged away.
    return steps[ends], {stat: np.maximum.reduceat(matrix, starts, axis=0) for stat, matrix in stats.items()}
