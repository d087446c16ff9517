"""What a counterfactual may change, and the columns of a table under these constraints."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from dlstudio.errors import DLStudioError, unknown_name
from dlstudio.explain.counterfactuals.space import DECIMALS, Array, Column
from dlstudio.results import value

__all__ = ["Constraints", "category_column", "check_names", "number_column"]

MANY_CHOICES = 200
DIRECTIONS = ("up", "down")


@value
@dataclasses.dataclass(frozen=True, kw_only=True)
class Constraints:
    """What a counterfactual may change. A column that is not named may move within the values of the background.

    Attributes:
        immutable: columns that stay as they are.
        ranges: column to (lowest, highest) value that it may move to; None leaves an end open.
        directions: column to ``"up"`` or ``"down"``. Categories follow the order in which `categories` lists them.
        categories: column to the values that it may move to. A column of numbers becomes one of codes: moving to any
            other costs the same.

    The row's own value is always allowed, also where it lies outside a range.

    Example:
        >>> Constraints(immutable=("age",), ranges={"income": (0, 90_000)}, directions={"education": "up"},
        ...             categories={"education": ("school", "college", "university")})
    """

    immutable: Sequence[str] = ()
    ranges: Mapping[str, Sequence[float | None]] = dataclasses.field(default_factory=dict)
    directions: Mapping[str, str] = dataclasses.field(default_factory=dict)
    categories: Mapping[str, Sequence[Any]] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        immutable = (self.immutable,) if isinstance(self.immutable, str) else self.immutable
        if not isinstance(immutable, Iterable):
            raise DLStudioError("names of columns as immutable", repr(immutable), "Write immutable=('age',).")
        object.__setattr__(self, "immutable", tuple(immutable))
        for what in ("ranges", "directions", "categories"):
            given = getattr(self, what)
            if not isinstance(given, Mapping):
                raise DLStudioError(f"{what} by column", repr(given), f"Write {what}={{'age': ...}}.")
        for name in self.ranges:
            if name in self.categories:
                raise DLStudioError(
                    f"a range of {name!r} or the values it may take", "both", "Leave out those that it may not take."
                )
        object.__setattr__(self, "directions", dict(self.directions))
        for name, direction in self.directions.items():
            if direction not in DIRECTIONS:
                raise unknown_name(f"direction of {name!r}", direction, DIRECTIONS)
        ranges = {name: _range(name, ends) for name, ends in self.ranges.items()}
        object.__setattr__(self, "ranges", ranges)
        categories = {name: _listed(name, values) for name, values in self.categories.items()}
        object.__setattr__(self, "categories", categories)


def _range(name: str, ends: Any) -> tuple[float | None, float | None]:
    try:
        low, high = (None if end is None else float(end) for end in ends)
        good = all(end is None or not math.isnan(end) for end in (low, high))
        good = good and (low is None or high is None or low <= high)
    except (TypeError, ValueError):
        good = False
    if not good:
        raise DLStudioError(
            f"a range (lowest, highest) of {name!r}", repr(ends), "Write for instance (0, 100), or (0, None)."
        )
    return low, high


def _listed(name: str, values: Any) -> tuple[Any, ...]:
    if isinstance(values, str) or not isinstance(values, Iterable) or not (listed := tuple(values)):
        raise DLStudioError(f"a list of values that {name!r} may take", repr(values), "Write for instance ('a', 'b').")
    return tuple(item.item() if isinstance(item, np.generic) else item for item in listed)


def check_names(constraints: Constraints, names: Sequence[str]) -> None:
    """Raise for a constraint on a column that does not exist."""
    for group in (constraints.immutable, constraints.ranges, constraints.directions, constraints.categories):
        for name in group:
            if name not in names:
                raise unknown_name("column", name, names)


def number_column(
    name: str,
    features: tuple[int, ...],
    current: float,
    known: Array | None,
    constraints: Constraints,
    *,
    whole: bool = False,
    fixed: bool = False,
    offset: float = 0.0,
    slope: float = 1.0,
    shown: str | None = None,
) -> Column:
    """Describe a column of numbers.

    Args:
        name, features, current, offset, slope: as in `Column`.
        shown: the row's own value as people read it, where it is no number.
        known: raw values of the background; they give range, unit and the number of decimals.
        constraints: what may change.
        whole: only whole numbers are allowed, whatever `known` holds.
        fixed: the column may not change.
    """
    if name in constraints.categories and not fixed:
        return _codes(name, features, current, constraints, offset, slope)
    distinct = np.unique(known) if known is not None and len(known) else None
    step = _step(distinct, current, whole)
    if step:  # data of single precision say 47.900002
        current = round(current, DECIMALS)
    low, high = (-math.inf, math.inf) if distinct is None else (float(distinct[0]), float(distinct[-1]))
    if distinct is not None:
        unit = _unit(known)
    if name in constraints.ranges:
        least, most = constraints.ranges[name]
        low = low if least is None else least
        high = high if most is None else most
        if low > high:  # an open end that the background closes on the wrong side
            low, high = (low, low) if least is not None else (high, high)
    if distinct is None:
        unit = high - low if math.isfinite(high - low) and high > low else 1.0
    if step:
        low, high = _on_lattice(low, step, up=True), _on_lattice(high, step, up=False)
    switch = distinct is not None and len(distinct) == 2 and step == 1 and name not in constraints.ranges
    if switch and distinct is not None:
        unit = float(distinct[1] - distinct[0])
    direction = constraints.directions.get(name)
    low, high = (max(low, current) if direction == "up" else low), (min(high, current) if direction == "down" else high)
    choices = None
    if fixed or name in constraints.immutable or low > high:
        choices = np.empty(0)
    elif switch and distinct is not None:
        choices = distinct[(distinct != current) & (distinct >= low) & (distinct <= high)].astype(np.float64)
    elif step and (high - low) / step < MANY_CHOICES:
        lattice = np.round(np.arange(round((high - low) / step) + 1) * step + low, DECIMALS)
        choices = lattice[lattice != current]
    return Column(
        name=name, features=features, current=current, shown=current if shown is None else shown, choices=choices,
        low=low, high=high, step=step, unit=unit, offset=offset, slope=slope,
    )  # fmt: skip


def category_column(
    name: str,
    features: tuple[int, ...],
    labels: Sequence[str],
    codes: Array,
    current: int,
    constraints: Constraints,
    *,
    shown: float | str | None = None,
    order: Sequence[int] | None = None,
) -> Column:
    """Describe a column of categories.

    Args:
        name, features, codes, current: as in `Column`.
        labels: all categories of the encoding.
        constraints: what may change; without a list, to any category but "missing".
        shown: the row's own category as people read it, where the encoding does not know it.
        order: the positions that `constraints` lists, where it lists any.
    """
    if name in constraints.ranges:
        raise DLStudioError(
            f"categories for {name!r}, as it is no column of numbers",
            "a range",
            f"Pass categories={{{name!r}: (...)}}.",
        )
    if order is None and name in constraints.categories:
        wanted = [str(item) for item in constraints.categories[name]]
        for item in wanted:
            if item not in labels:
                raise unknown_name(f"category of {name!r}", item, labels)
        order = [list(labels).index(item) for item in wanted]
    choices = [at for at in range(len(labels)) if labels[at] != "missing"] if order is None else list(order)
    if name in constraints.directions:
        if order is None:
            if not all(_is_number(label) for label in labels if label != "missing"):
                raise DLStudioError(
                    f"the order of the categories of {name!r}, to tell up from down",
                    f"directions={{{name!r}: {constraints.directions[name]!r}}} alone",
                    f"List them from low to high: categories={{{name!r}: (...)}}.",
                )
            choices.sort(key=lambda at: float(labels[at]))
        if current not in choices:
            choices = []  # nowhere in the order: neither up nor down from it
        else:
            at = choices.index(current)
            choices = choices[at:] if constraints.directions[name] == "up" else choices[: at + 1]
    if name in constraints.immutable:
        choices = []
    return Column(
        name=name, features=features, current=float(current), labels=tuple(labels), codes=np.asarray(codes, np.float64),
        shown=shown if shown is not None else labels[current] if current >= 0 else "none of the known",
        choices=np.array(sorted(set(choices) - {current}), dtype=np.float64),
    )  # fmt: skip


def _codes(
    name: str, features: tuple[int, ...], current: float, constraints: Constraints, offset: float, slope: float
) -> Column:
    """A column of numbers whose allowed values are listed: codes, all equally far from each other."""
    try:
        listed = [float(item) for item in constraints.categories[name]]
    except (TypeError, ValueError):
        got = repr(tuple(constraints.categories[name]))
        raise DLStudioError(f"numbers as the values of {name!r}", got, "List numbers.") from None
    values = listed if current in listed else [*listed, current]
    codes = np.zeros((len(values), len(features)))
    codes[:, 0] = (np.array(values) - offset) / slope
    labels = [f"{item:.12g}" for item in values]
    order = [values.index(item) for item in listed]
    return category_column(name, features, labels, codes, values.index(current), constraints, order=order)


def _is_number(label: str) -> bool:
    try:
        return math.isfinite(float(label))
    except ValueError:
        return False


def _unit(known: Array | None) -> float:
    """The median absolute deviation; the standard deviation where more than half of the values are the same."""
    assert known is not None
    spread = float(np.median(np.abs(known - np.median(known))))
    return spread or float(np.std(known)) or 1.0


def _step(distinct: Array | None, current: float, whole: bool) -> float:
    """The largest of 1, 0.1, 0.01 and 0.001 that all values are multiples of, or 0."""
    if whole:
        return 1.0
    if distinct is None or len(distinct) < 2:
        return 0.0
    numbers = np.append(distinct, current)
    for decimals in range(DECIMALS + 1):
        scaled = numbers * 10.0**decimals
        if np.all(np.abs(scaled - np.round(scaled)) < 1e-3) and np.abs(scaled).max() < 2**40:
            return float(10.0**-decimals)
    return 0.0


def _on_lattice(end: float, step: float, *, up: bool) -> float:
    """The last multiple of `step` inside a range that ends here."""
    if not math.isfinite(end):
        return end
    steps = math.ceil(end / step - 1e-6) if up else math.floor(end / step + 1e-6)
    return round(steps * step, DECIMALS)
