"""The components of a recipe that an ablation takes out, and the recipes it trains."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from dlstudio.errors import DLStudioError
from dlstudio.training.fields import describe
from dlstudio.training.recipe import Recipe
from dlstudio.tuning.paths import changed, check_change, value_of

__all__ = ["Factor", "cell_label", "cell_recipe", "read_factors"]

Changes = Mapping[str, Any]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Factor:
    """One component.

    Attributes:
        name: what people call it.
        off: what is changed in the recipe to take it out; several ways are told apart.
        labels: of each way.
    """

    name: str
    off: tuple[Changes, ...]
    labels: tuple[str, ...]


def read_factors(recipe: Recipe, factors: Mapping[str, Any]) -> list[Factor]:
    """Read factors as people write them.

    Args:
        recipe: with all of them on.
        factors: by name what takes it out: a mapping of recipe fields, dotted for options, to values; or, under the
            name of a field, its value without it; or a list of these.

    Raises:
        DLStudioError: there is none, a field is unknown (the nearest is suggested), a value is out of its range, or
            nothing changes.

    Example:
        >>> read_factors(recipe, {"dropout": {"model_options.dropout": 0.0}, "schedule": "constant"})
    """
    if not isinstance(factors, Mapping) or not factors:
        raise DLStudioError(
            "factors by name, each with what takes it out", describe(factors), "Try {'schedule': 'constant'}."
        )
    found = []
    for name, given in factors.items():
        if not isinstance(name, str) or not name.strip():
            raise DLStudioError("text as the name of a factor", repr(name), "Name what it takes out.")
        ways = list(given) if isinstance(given, list) else [given]
        if not ways:
            raise DLStudioError(f"a value of {name!r} without it", "an empty list", f"Try {{{name!r}: [...]}}.")
        off = tuple(dict(way) if isinstance(way, Mapping) else {name: way} for way in ways)
        for changes in off:
            _check(recipe, name, changes)
        found.append(Factor(name=name, off=off, labels=tuple(_label(name, changes) for changes in off)))
        if len({repr(changes) for changes in off}) < len(off):
            raise DLStudioError(f"different values without {name!r}", repr(ways), "Leave out what is there twice.")
    return found


def cell_recipe(recipe: Recipe, factors: Sequence[Factor], levels: Sequence[int]) -> Recipe:
    """Return the recipe of a cell.

    Raises:
        DLStudioError: two factors change the same field in different ways, or the values contradict each other.
    """
    merged: dict[str, Any] = {}
    for factor, level in zip(factors, levels, strict=True):
        if level:
            for field, value in factor.off[level - 1].items():
                if field in merged and merged[field] != value:
                    raise DLStudioError(
                        "factors that change different things",
                        f"{factor.name!r} and another one, both of which change {field!r}",
                        "Make one factor of them, or take design='one-out'.",
                    )
                merged[field] = value
    return changed(recipe, merged) if merged else recipe


def cell_label(factors: Sequence[Factor], levels: Sequence[int]) -> str:
    """Return what a cell is called: "full", or what it goes without."""
    without = [
        f"{factor.name} ({factor.labels[level - 1]})" if len(factor.off) > 1 else factor.name
        for factor, level in zip(factors, levels, strict=True)
        if level
    ]
    return "without " + ", ".join(without) if without else "full"


def _check(recipe: Recipe, name: str, changes: Changes) -> None:
    if not changes:
        raise DLStudioError(f"what to change without {name!r}", "nothing", "Name a recipe field and its value.")
    for path, value in changes.items():
        if path == "seed":
            raise DLStudioError("a field that changes what is learned", repr(path), "Seeds are repetitions: seeds=5.")
        check_change(recipe, path, value, [changes["model"]] if "model" in changes else ())
    off = changed(recipe, changes)
    same = [path for path in changes if value_of(off, path) == value_of(recipe, path)]
    if len(same) == len(changes):
        got = ", ".join(f"{path}={value_of(recipe, path)!r}" for path in same)
        raise DLStudioError(f"a value without {name!r} that differs", f"{got} already", "Switch it on in the recipe.")


def _label(name: str, changes: Changes) -> str:
    return ", ".join(
        _word(value) if path == name else f"{path.removeprefix('model_options.')}={_word(value)}"
        for path, value in changes.items()
    )


def _word(value: Any) -> str:
    return value if isinstance(value, str) else describe(value)
