"""Trade-offs: which variants nothing else beats in every respect."""

from __future__ import annotations

import bisect
import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt

from dlstudio.compare.result import Comparison
from dlstudio.errors import DLStudioError, unknown_name
from dlstudio.results import Result

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["ParetoFront", "front_of", "pareto"]

Array: TypeAlias = npt.NDArray[np.float64]

_AT_ONCE = 2**22


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class ParetoFront(Result, schema=1):
    """What nothing else beats in every respect, and what beats the rest.

    Attributes:
        objectives: ``"max"`` or ``"min"`` by name.
        names: of all that have every objective.
        values: float64 (n, objectives).
        n_averaged: int64 (n,), runs that each is the mean of; 1 for what was taken as it is.
        on_front: bool (n,).
        dominator: int64 (n,), for what is not on the front, the place of one on it that is at least as good in
            everything and better in something: the best of these in the first objective; -1 on the front.
        left_out: (name, why) of what lacks an objective or has one that is not finite.

    Example:
        >>> front = dls.pareto(c, {"test/auc": "max", "latency_ms": "min"})
        >>> front.members
        ('small', 'wide')
    """

    objectives: Mapping[str, str]
    names: tuple[str, ...]
    values: Array
    n_averaged: npt.NDArray[np.int64]
    on_front: npt.NDArray[np.bool_]
    dominator: npt.NDArray[np.int64]
    left_out: tuple[tuple[str, str], ...] = ()

    def __len__(self) -> int:
        return int(self.on_front.sum())

    @property
    def members(self) -> tuple[str, ...]:
        """Names on the front, the best in the first objective first."""
        return tuple(self.frame().query("on_front")["name"])

    def frame(self) -> pd.DataFrame:
        """Return a row per name: ``name``, the objectives, ``n``, ``on_front``, ``dominated_by``; the front first."""
        import pandas as pd

        beaten = [None if at < 0 else self.names[at] for at in self.dominator]
        objectives = {name: self.values[:, at] for at, name in enumerate(self.objectives)}
        found = pd.DataFrame(
            {"name": list(self.names), **objectives, "n": self.n_averaged, "on_front": self.on_front}
        ).assign(dominated_by=pd.Series(beaten, dtype=object))
        first, best = next(iter(self.objectives.items()))
        return found.sort_values(
            ["on_front", first], ascending=[False, best == "min"], kind="stable", ignore_index=True
        )

    @property
    def summary(self) -> tuple[str, ...]:
        """What is on the front and what was left out, in sentences."""
        way = {"max": "higher", "min": "lower"}
        about = " and ".join(f"{way[best]} {name}" for name, best in self.objectives.items())
        shown = ", ".join(self.members[:6]) + (f" and {len(self) - 6} more" if len(self) > 6 else "")
        said = [f"{len(self)} of {len(self.names)} are beaten by none in everything ({about}): {shown}."]
        if self.left_out:
            said.append(f"{len(self.left_out)} left out, for instance {self.left_out[0][0]}: {self.left_out[0][1]}.")
        if self.n_averaged.max(initial=1) > 1:
            said.append("These are means over runs: neighbours on the front need not differ by more than chance.")
        return tuple(said)


def pareto(what: Any, objectives: Mapping[str, str], *, by: str | None = None) -> ParetoFront:
    """Find what nothing else beats in every objective at once.

    Equals are both on the front, or both off it. A run without an objective, or with one that is not finite, is left
    out, as is one that the comparison left out; a variant, only if that is so of all its runs.

    Args:
        what: a comparison, whose variants are compared by the means of their runs; or a frame, a row each, named by its
            column ``name`` or else by its index.
        objectives: two or three columns, each ``"max"`` or ``"min"``. Of a comparison: a metric, a setting as
            ``config.lr``, or a measure such as ``latency_ms`` (see `dls.measure`).
        by: a column whose equal values are averaged; ``"key"`` of a comparison takes every run on its own.

    Raises:
        DLStudioError: a column is unknown (the nearest is named) or has no numbers, nothing has every objective, or the
            objectives are no mapping.

    Example:
        >>> dls.pareto(dls.list_runs(), {"test/auc": "max", "wall_s": "min"}).frame()
    """
    import pandas as pd

    directions = _checked(objectives)
    reasons: Mapping[str, str] = {}
    unused = np.zeros(0, dtype=np.bool_)
    if isinstance(what, Comparison):
        frame, by = what.runs, "variant" if by is None else by
        unused, reasons = frame["value"].isna().to_numpy(), dict(what.left_out)
    elif isinstance(what, pd.DataFrame):
        frame = what
    else:
        raise DLStudioError(
            "a comparison or a frame", type(what).__name__, "Pass dls.compare(...), or dls.list_runs() for all runs."
        )
    for name in (*directions, *([by] if by else [])):
        if name not in frame:
            raise unknown_name("column", name, [str(column) for column in frame])
    numbers = frame[list(directions)].apply(pd.to_numeric, errors="coerce").to_numpy(dtype=np.float64)
    column = by or ("name" if "name" in frame else None)
    labels = np.array([str(one) for one in (frame.index if column is None else frame[column])], dtype=object)
    complete = np.isfinite(numbers).all(axis=1)
    complete[: len(unused)] &= ~unused
    if by is None:
        n = np.ones(int(complete.sum()), dtype=np.int64)
        names, values, missing = labels[complete], numbers[complete], np.flatnonzero(~complete)
    else:
        codes, every = pd.factorize(labels)
        count = np.bincount(codes[complete], minlength=len(every))
        sums = np.stack([np.bincount(codes[complete], column, len(every)) for column in numbers[complete].T], axis=1)
        some = count > 0
        names, values, n = np.asarray(every)[some], sums[some] / count[some, None], count[some]
        missing = np.array([np.flatnonzero(codes == code)[0] for code in np.flatnonzero(~some)], dtype=np.int64)
    if not len(names):
        raise DLStudioError("something with every objective", "nothing", f"Measure {', '.join(directions)} first.")
    on_front, dominator = front_of(values, [directions[name] for name in directions])

    def why(row: int) -> str:
        if len(unused) and unused[row]:
            return reasons.get(str(frame["name"].iloc[row]), "left out of the comparison")
        return _why(numbers[row], list(directions))

    return ParetoFront(
        objectives=directions,
        names=tuple(names),
        values=values,
        n_averaged=n,
        on_front=on_front,
        dominator=dominator,
        left_out=tuple((labels[row], why(int(row))) for row in missing),
    )


def front_of(values: Array, directions: list[str]) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.int64]]:
    """Return which rows no other row dominates, and for every other a row on the front that dominates it, else -1.

    Args:
        values: (n, 2 or 3), finite.
        directions: ``"max"`` or ``"min"`` of each column.
    """
    costs = values * np.array([-1.0 if best == "max" else 1.0 for best in directions])
    distinct, place = np.unique(costs, axis=0, return_inverse=True)  # in the order of the first cost, then the next
    place = place.reshape(-1)
    if costs.shape[1] == 2:
        lowest = np.minimum.accumulate(distinct[:, 1])
        on_front = np.concatenate([[True], distinct[1:, 1] < lowest[:-1]])
    else:
        on_front = _staircase(distinct)
    front = np.flatnonzero(on_front)
    first_row = np.full(len(distinct), len(place))
    np.minimum.at(first_row, place, np.arange(len(place)))
    beaten_by = np.full(len(distinct), -1)
    beaten = np.flatnonzero(~on_front)
    step = max(1, _AT_ONCE // max(1, len(front)))
    for rows in (beaten[start : start + step] for start in range(0, len(beaten), step)):
        better = np.ones((len(rows), len(front)), dtype=bool)
        for column in distinct.T:
            better &= column[front][None] <= column[rows][:, None]
        beaten_by[rows] = first_row[front[better.argmax(axis=1)]]
    return on_front[place], beaten_by[place]


def _staircase(points: Array) -> npt.NDArray[np.bool_]:
    """Which of distinct points, sorted by the first cost, no other is as good as in all three.

    The front of the other two costs so far is a staircase: sorted by one, falling in the other.
    """
    on_front = np.zeros(len(points), dtype=bool)
    second: list[float] = []
    third: list[float] = []
    for row, (_, y, z) in enumerate(points.tolist()):
        at = bisect.bisect_right(second, y)
        if at and third[at - 1] <= z:
            continue
        on_front[row] = True
        start = bisect.bisect_left(second, y)
        end = start
        while end < len(third) and third[end] >= z:
            end += 1
        second[start:end], third[start:end] = [y], [z]
    return on_front


def _checked(objectives: Any) -> dict[str, str]:
    if not isinstance(objectives, Mapping):
        remedy = "Try {'val/auc': 'max', 'latency_ms': 'min'}."
        raise DLStudioError("objectives as a mapping of name to 'max' or 'min'", f"{objectives!r:.80}", remedy)
    given = dict(objectives)
    if not 2 <= len(given) <= 3:
        raise DLStudioError(
            "two or three objectives", f"{len(given)}: {list(given)}", "Try {'val/auc': 'max', 'latency_ms': 'min'}."
        )
    for name, best in given.items():
        if best not in ("max", "min"):
            raise unknown_name(f"direction of {name}:", best, ("max", "min"))
    return given


def _why(numbers: Array, names: list[str]) -> str:
    missing = [name for name, number in zip(names, numbers, strict=True) if np.isnan(number)]
    odd = [f"{name} is {number}" for name, number in zip(names, numbers, strict=True) if np.isinf(number)]
    return ", ".join([*(f"no {name}" for name in missing), *odd]) or "no run has every objective"
