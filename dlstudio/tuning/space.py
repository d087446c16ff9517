"""What a search may choose from: names of recipe fields with their ranges, checked before anything starts."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import numpy as np
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
    distribution_to_json,
    json_to_distribution,
)

from dlstudio.errors import DLStudioError, unknown_name
from dlstudio.training.fields import is_json
from dlstudio.training.recipe import Recipe
from dlstudio.tuning.paths import check_apart, check_change, field_of

__all__ = ["Axis", "Space", "check_axis", "read_space"]

_SHAPES = "a list of choices, (low, high) or (low, high, 'log'), or an Optuna distribution"


@dataclass(frozen=True, kw_only=True)
class Axis:
    """One thing that is searched.

    Attributes:
        name: a recipe field, a dotted option such as ``"model_options.dropout"``, or an argument of one's own.
        distribution: what Optuna samples from.
        values: for choices, what stands for each of the distribution's choices; None where they stand for themselves.
    """

    name: str
    distribution: BaseDistribution
    values: tuple[Any, ...] | None = None

    @property
    def is_range(self) -> bool:
        """Whether it has a low and a high end."""
        return isinstance(self.distribution, FloatDistribution | IntDistribution)

    @property
    def low(self) -> float:
        """The lower end of a range."""
        assert isinstance(self.distribution, FloatDistribution | IntDistribution)
        return self.distribution.low

    @property
    def high(self) -> float:
        """The upper end of a range."""
        assert isinstance(self.distribution, FloatDistribution | IntDistribution)
        return self.distribution.high

    @property
    def step(self) -> float | None:
        """What values of a range are multiples of, counted from its lower end; None where all are allowed."""
        assert isinstance(self.distribution, FloatDistribution | IntDistribution)
        return self.distribution.step

    @property
    def choices(self) -> tuple[Any, ...]:
        """What may be chosen; empty for a range."""
        if self.values is not None:
            return self.values
        return tuple(self.distribution.choices) if isinstance(self.distribution, CategoricalDistribution) else ()

    def within(self, low: float, high: float) -> Axis:
        """Return the axis with other ends; where it has a step, with those of its values that lie between them.

        Raises:
            DLStudioError: it is a choice, the ends are no range, or no value lies between them.
        """
        if not self.is_range:
            raise DLStudioError("a parameter with a range", f"the choice {self.name!r}", "Enqueue the values you want.")
        made = _range(self.name, (low, high, *(["log"] if getattr(self.distribution, "log", False) else [])))
        if isinstance(self.distribution, IntDistribution) and not isinstance(made, IntDistribution):
            raise DLStudioError(f"whole numbers for {self.name!r}", f"({low!r}, {high!r})", "Give two whole numbers.")
        if self.step is not None:
            low, high = self._on_grid(low, math.ceil), self._on_grid(high, math.floor)
            if low > high:
                raise DLStudioError(
                    f"ends with a value of {self.name!r} between", "none", f"Its step is {self.step:g}."
                )
        if isinstance(self.distribution, FloatDistribution):
            made = FloatDistribution(float(low), float(high), log=self.distribution.log, step=self.distribution.step)
        elif isinstance(self.distribution, IntDistribution) and not self.distribution.log:
            made = IntDistribution(int(low), int(high), step=self.distribution.step)
        return dataclasses.replace(self, distribution=made)

    def _on_grid(self, value: float, rounded: Callable[[float], int]) -> float:
        """The value of a range with a step that is next to another one."""
        assert self.step is not None
        n = rounded(round((value - self.low) / self.step, 9))
        return type(self.low)(Decimal(str(self.low)) + n * Decimal(str(self.step)))  # 0.3, and not 0.30000000000000004

    def meaning(self, value: Any) -> Any:
        """What a value that Optuna knows stands for."""
        if self.values is None:
            return value
        assert isinstance(self.distribution, CategoricalDistribution)
        return self.values[self.distribution.choices.index(value)]

    def label(self, value: Any) -> Any:
        """What Optuna calls a value that was tried; the reverse of `meaning`."""
        if self.values is None:
            return value
        assert isinstance(self.distribution, CategoricalDistribution)
        return self.distribution.choices[[json.dumps(choice) for choice in self.values].index(json.dumps(value))]

    def known(self, value: Any) -> Any:
        """What Optuna calls a value that somebody asks for.

        Raises:
            DLStudioError: it is outside the range, between its steps, or no choice.
        """
        value = _native(value)
        if not self.is_range:
            pairs = list(zip(self.distribution.choices, self.choices, strict=True))  # type: ignore[attr-defined]
            for choice, meaning in pairs:
                if repr(meaning) == repr(value):  # 1, 1.0 and True are three choices, which == does not tell apart
                    return choice
            for choice, meaning in pairs:
                if meaning == value and isinstance(meaning, bool) == isinstance(value, bool):
                    return choice
            raise DLStudioError(f"{self.name} to be one of {list(self.choices)}", repr(value), "Choose one of these.")
        whole = isinstance(self.distribution, IntDistribution)
        good = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
        if not good or not self.low <= value <= self.high or (whole and value != int(value)):
            kind = "a whole number" if whole else "a number"
            raise DLStudioError(
                f"{self.name} to be {kind} of {self.low:g} to {self.high:g}", repr(value), "Widen the range first."
            )
        if self.step is not None and not math.isclose(value, self._on_grid(value, round), rel_tol=1e-9, abs_tol=1e-12):
            raise DLStudioError(
                f"{self.name} to be {self.low:g} plus a multiple of {self.step:g}",
                repr(value),
                f"Take {self._on_grid(value, round):g}.",
            )
        return int(value) if whole else float(value)


@dataclass(frozen=True, kw_only=True)
class Space:
    """Everything that is searched, by name."""

    axes: Mapping[str, Axis]

    @property
    def distributions(self) -> dict[str, BaseDistribution]:
        """What Optuna samples from, by name."""
        return {name: axis.distribution for name, axis in self.axes.items()}

    def axis(self, name: str) -> Axis:
        """Return one axis.

        Raises:
            DLStudioError: there is none of that name; the nearest is suggested.
        """
        if name not in self.axes:
            raise unknown_name("parameter of the search", name, self.axes)
        return self.axes[name]

    def within(self, ranges: Mapping[str, Sequence[float]]) -> Space:
        """Return the space with other ends of some of its ranges."""
        changed = {name: self.axis(name).within(*ends) for name, ends in ranges.items()}
        return Space(axes={**self.axes, **changed})

    def known(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """Check values somebody asks for, and return what Optuna calls them.

        Raises:
            DLStudioError: a name or a value is not in the space.
        """
        return {name: self.axis(name).known(value) for name, value in params.items()}

    def meanings(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """What Optuna's values stand for."""
        return {name: self.axes[name].meaning(value) if name in self.axes else value for name, value in params.items()}

    def to_json(self) -> dict[str, Any]:
        """Plain values, read back by `from_json`."""
        return {
            name: {"distribution": distribution_to_json(axis.distribution), "values": axis.values}
            for name, axis in self.axes.items()
        }

    @classmethod
    def from_json(cls, plain: Mapping[str, Any]) -> Space:
        """Read what `to_json` returned."""
        axes = {}
        for name, axis in plain.items():
            values = None if axis["values"] is None else tuple(axis["values"])
            axes[name] = Axis(name=name, distribution=json_to_distribution(axis["distribution"]), values=values)
        return cls(axes=axes)

    def described(self) -> dict[str, str]:
        """The space in a few words a parameter."""
        return {name: _words(axis) for name, axis in self.axes.items()}


def _words(axis: Axis) -> str:
    if not axis.is_range:
        return "one of " + ", ".join(map(str, axis.choices))
    steps = f" in steps of {axis.step:g}" if axis.step is not None and (axis.step != 1) else ""
    return f"{axis.low:g} to {axis.high:g}{steps}" + (", log scale" if getattr(axis.distribution, "log", False) else "")


def read_space(space: Mapping[str, Any], recipe: Recipe | None) -> Space:
    """Read a space as people write it.

    Args:
        space: by name a list of choices, ``(low, high)`` of whole numbers or of floats, the same with ``"log"`` as
            the third, or an Optuna distribution.
        recipe: what the names are fields of; None for a function, whose arguments may have any name.

    Raises:
        DLStudioError: it is empty, names an unknown field (the nearest is suggested), or has a range that the
            recipe does not allow.

    Example:
        >>> read_space({"lr": (1e-4, 1e-1, "log"), "batch_size": [32, 64]}, Recipe())
    """
    if not isinstance(space, Mapping) or not space:
        raise DLStudioError(
            "a space of at least one parameter", repr(space), "For example space={'lr': (1e-4, 1e-1, 'log')}."
        )
    floats = {field.name for field in Recipe.schema() if field.kind == "float"} if recipe is not None else set()
    read = Space(axes={name: _axis(name, given, whole=name not in floats) for name, given in space.items()})
    if recipe is not None:
        check_apart(read.axes)
        for axis in read.axes.values():
            check_axis(recipe, axis, read)
    return read


def _axis(name: object, given: Any, *, whole: bool) -> Axis:
    if not isinstance(name, str) or not name:
        raise DLStudioError("text as the name of a parameter", repr(name), "Name a field of the recipe.")
    if isinstance(given, CategoricalDistribution):
        return _choice(name, list(given.choices))
    if isinstance(given, BaseDistribution):
        return Axis(name=name, distribution=given)
    if isinstance(given, list):
        return _choice(name, given)
    if isinstance(given, tuple):
        return Axis(name=name, distribution=_range(name, given, whole=whole))
    raise DLStudioError(f"{_SHAPES} for {name!r}", repr(given), f"For example {name!r}: [1, 2, 4].")


def _choice(name: str, choices: list[Any]) -> Axis:
    choices = [_native(choice) for choice in choices]
    if not choices or not is_json(choices):
        got = "an empty list" if not choices else f"{choices!r}"
        raise DLStudioError(
            f"choices for {name!r} that are names, numbers, lists or mappings",
            got,
            "Tune a function fn(rec, config) that turns names into objects.",
        )
    plain = all(choice is None or isinstance(choice, str | int | float | bool) for choice in choices)
    # Optuna tells choices apart by ==, for which True is 1 and 1.0 is 1.
    if plain and len(set(choices)) == len(choices):
        return Axis(name=name, distribution=CategoricalDistribution(choices))
    labels = [choice if isinstance(choice, str) else json.dumps(choice) for choice in choices]
    if len(set(labels)) < len(labels):
        labels = [json.dumps(choice) for choice in choices]  # "1.5" beside 1.5
    if len(set(labels)) < len(labels):
        raise DLStudioError(f"choices for {name!r} that differ", repr(choices), "Leave out what is there twice.")
    return Axis(name=name, distribution=CategoricalDistribution(labels), values=tuple(choices))


def _native(value: Any) -> Any:
    """A value as it comes back from a file: lists for tuples, Python's own numbers for NumPy's."""
    if isinstance(value, list | tuple):
        return [_native(one) for one in value]
    if isinstance(value, Mapping):
        return {key: _native(one) for key, one in value.items()}
    return value.item() if isinstance(value, np.generic) else value


def _range(name: str, given: tuple[Any, ...], *, whole: bool = True) -> BaseDistribution:
    """Read a range; of whole numbers where both ends are, unless that is not `whole`."""
    given = tuple(_native(given))
    low, high, *rest = given if len(given) in (2, 3) else (None, None)
    numbers = all(isinstance(end, int | float) and not isinstance(end, bool) for end in (low, high))
    if not numbers or rest not in ([], ["log"]):
        if numbers and isinstance(rest[0], int | float) and not isinstance(rest[0], bool):
            example = f"optuna.distributions.IntDistribution({low}, {high}, step={rest[0]})"
        elif any(isinstance(end, str) for end in given[:2]):
            example = repr(list(given))
        else:
            example = "(16, 128)" if whole else "(1e-4, 1e-1, 'log')"
        raise DLStudioError(f"{_SHAPES} for {name!r}", repr(given), f"For example {name!r}: {example}.")
    assert low is not None and high is not None
    log = bool(rest)
    if not (math.isfinite(low) and math.isfinite(high)) or low > high or (log and low <= 0):
        what = "two finite numbers above 0, the lower one first" if log else "two finite numbers, the lower one first"
        raise DLStudioError(f"{what}, for {name!r}", repr(given), "Correct the range.")
    if whole and isinstance(low, int) and isinstance(high, int):
        return IntDistribution(low, high, log=log)
    return FloatDistribution(float(low), float(high), log=log)


def check_axis(recipe: Recipe, axis: Axis, space: Space) -> None:
    """Try the ends of a range, or every choice, on the recipe itself.

    Args:
        recipe: that is searched around.
        axis: to check.
        space: what else is searched; which models there are decides which options.

    Raises:
        DLStudioError: the recipe has no such field or option, or does not allow one of the values.
    """
    models = space.axes["model"].choices if "model" in space.axes else ()
    field = field_of(recipe, axis.name)
    is_option = "." in axis.name
    if axis.is_range and not is_option and field.kind not in ("int", "float"):
        raise DLStudioError(f"choices for {axis.name!r}, {field.range_text}", "a range", f"Write {axis.name!r}: [...].")
    if axis.is_range and field.kind == "int" and not isinstance(axis.distribution, IntDistribution):
        raise DLStudioError(
            f"whole numbers for {axis.name!r}", f"({axis.low:g}, {axis.high:g})", "Write whole numbers without a point."
        )
    for value in (axis.low, axis.high) if axis.is_range else axis.choices:
        check_change(recipe, axis.name, value, models)
