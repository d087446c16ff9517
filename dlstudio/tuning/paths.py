"""What a search and an ablation change in a recipe: its fields by name, with dots what is in its options."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from dlstudio.errors import DLStudioError, unknown_name
from dlstudio.training.fields import Field
from dlstudio.training.naming import check_names
from dlstudio.training.recipe import Recipe

__all__ = ["FIXED", "changed", "check_apart", "check_change", "field_of", "value_of"]

FIXED = frozenset({"name", "variant", "devices", "strategy", "device"})
"""Fields that name a run or bind it to a machine."""


def changed(recipe: Recipe, params: Mapping[str, Any]) -> Recipe:
    """Return a recipe with other values; dotted names reach into options.

    Raises:
        DLStudioError: a field is unknown, a value is out of its range, one name is inside another, or inside what
            holds no names.

    Example:
        >>> changed(recipe, {"lr": 0.01, "model_options.dropout": 0.2})
    """
    check_apart(params)
    whole: dict[str, Any] = {}
    for name, value in params.items():
        field, *path = name.split(".")
        if not path:
            whole[name] = value
            continue
        inside = whole.setdefault(field, _copied(getattr(recipe, field)))
        for part in path[:-1]:
            inside = _named(inside, name).setdefault(part, {})
        _named(inside, name)[path[-1]] = value
    return recipe.replace(**whole)


def check_apart(names: Iterable[str]) -> None:
    """Check that no name is inside another one, which would leave open what is meant.

    Raises:
        DLStudioError: one is.
    """
    known = list(names)
    for outer in known:
        for inner in known:
            if inner.startswith(f"{outer}."):
                remedy = f"Write {outer!r} with all that is in it, or only names with dots."
                raise DLStudioError("names that are not inside each other", f"{outer!r} and {inner!r}", remedy)


def check_change(recipe: Recipe, name: str, value: Any, models: Sequence[Any] = ()) -> None:
    """Check that a recipe allows another value.

    Args:
        recipe: to change.
        name: of the field, dotted for options.
        value: that it shall have.
        models: that it may have then; none for its own.

    Raises:
        DLStudioError: the field or option is unknown (the nearest is suggested), names a run or a machine, or does not
            allow the value.
    """
    field = field_of(recipe, name)
    made = changed(recipe, {name: value})
    if field.name in ("data", "model"):
        check_names(made)
    if field.kind == "options":
        given = getattr(made, field.name)
        option = name.split(".")[1:2]
        _check_options({key: given[key] for key in option or given}, models or (recipe.model,))


def field_of(recipe: Recipe, name: str) -> Field:
    """Return the field that a name is of, or inside of.

    Raises:
        DLStudioError: it is unknown (the nearest is suggested), not what a network learns by, or has nothing inside.
    """
    first, *path = str(name).split(".")
    fields = {field.name: field for field in recipe.schema()}
    if first not in fields:
        known = [
            *(key for key in fields if key not in FIXED),
            *(f"model_options.{key}" for key in recipe.model_options),
        ]
        raise unknown_name("recipe field", name, known)
    if first in FIXED:
        raise DLStudioError("a field that changes what is learned", repr(name), "Set it in the recipe itself.")
    if path and fields[first].kind != "options":
        raise DLStudioError(
            "dots only inside the recipe's options", repr(name), f"Write {first!r} or 'model_options.NAME'."
        )
    return fields[first]


def value_of(recipe: Recipe, name: str) -> Any:
    """Return what a recipe has under a name, for options that it leaves out the network's own; None without one."""
    field, *rest = name.split(".")
    value = getattr(recipe, field)
    for part in rest:
        if not isinstance(value, Mapping) or part not in value:
            return _default(recipe, part) if field == "model_options" and len(rest) == 1 else None
        value = value[part]
    return value


def _check_options(given: Mapping[str, Any], models: Sequence[Any]) -> None:
    """Check options of networks that are known by name; every one that has an option has to allow its value."""
    if not all(isinstance(model, str) for model in models):
        return
    from dlstudio.models.build import check_option, options

    known = {model: options(model) for model in models}
    for option, value in given.items():
        able = [model for model in models if option in known[model]]
        if not able and option != "n_tokens":
            names = dict.fromkeys(key for model in models for key in known[model])
            raise unknown_name(f"{' or '.join(models)} option", option, names)
        for model in able:
            check_option(model, option, value)


def _named(inside: Any, name: str) -> dict[str, Any]:
    if not isinstance(inside, dict):
        remedy = f"Give all of {name.rpartition('.')[0]!r} instead."
        raise DLStudioError("dots only where there are names inside", f"{name!r}, inside {inside!r}", remedy)
    return inside


def _copied(options: Any) -> Any:
    return {key: _copied(value) for key, value in options.items()} if isinstance(options, Mapping) else options


def _default(recipe: Recipe, option: str) -> Any:
    if not isinstance(recipe.model, str):
        return None
    from dlstudio.models.build import options

    return options(recipe.model).get(option)
