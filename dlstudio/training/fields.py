"""Fields of a recipe: how each is described to people, and what values it takes. Imports no torch."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from dlstudio.errors import DLStudioError, unknown_name

__all__ = ["Field", "check", "describe", "described", "fields_of", "is_json"]


_NOUNS = {
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "text": "a text",
    "names": "a list of names",
    "options": "a mapping of option names to values",
    "any": "a name or an object",
    "choice": "",
}


@dataclass(frozen=True, kw_only=True)
class Field:
    """One field of a recipe, as a form, a table or a help text needs it.

    `kind` is one of ``"text"``, ``"names"`` (a tuple of texts), ``"options"`` (a mapping), ``"int"``,
    ``"float"``, ``"bool"``, ``"choice"`` and ``"any"`` (a name or an object). `minimum` and `maximum` bound a
    number; the minimum itself is excluded when `above` is true. `suggestions` are values a form may offer
    where others are possible too.
    """

    name: str
    kind: str
    label: str
    help: str
    group: str
    default: Any = None
    choices: tuple[str, ...] = ()
    suggestions: tuple[str, ...] = ()
    minimum: float | None = None
    maximum: float | None = None
    above: bool = False
    optional: bool = False
    unit: str | None = None

    @property
    def range_text(self) -> str:
        """The values that are allowed, in words."""
        noun = _NOUNS[self.kind] or "one of " + ", ".join(repr(choice) for choice in self.choices)
        if self.minimum is not None:
            noun += f" above {self.minimum:g}" if self.above else f" of at least {self.minimum:g}"
        if self.maximum is not None:
            noun += f"{' and' if self.minimum is not None else ' of'} at most {self.maximum:.10g}"
        return noun + (" or None" if self.optional else "")


def described(kind: str, group: str, label: str, help: str, default: Any = None, **rules: Any) -> Any:
    """Declare a dataclass field together with its description; `rules` are further attributes of `Field`."""
    metadata = {"kind": kind, "label": label, "help": help, "group": group, **rules}
    if kind == "options":
        return dataclasses.field(default_factory=dict, metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


def fields_of(cls: type) -> tuple[Field, ...]:
    """Describe every field of a dataclass whose fields were declared with `described`."""
    found = []
    for field in dataclasses.fields(cls):
        default = {} if field.metadata["kind"] == "options" else field.default
        found.append(Field(name=field.name, default=default, **field.metadata))
    return tuple(found)


def check(field: Field, value: Any) -> Any:
    """Return `value` in the field's own type.

    Numbers written as text (``"1e-3"``, which YAML reads as text) become numbers, lists become tuples.

    Raises:
        DLStudioError: the value is of another type or out of range.
    """
    if value is None and field.optional:
        return None
    reader: Callable[[Field, Any], Any] = _READERS[field.kind]
    try:
        read = reader(field, value)
    except (TypeError, ValueError):
        raise _out_of_range(field, value) from None
    if field.kind in ("int", "float"):
        low = field.minimum is not None and (read < field.minimum or (field.above and read == field.minimum))
        if low or (field.maximum is not None and read > field.maximum):
            raise _out_of_range(field, value)
    return read


def _out_of_range(field: Field, value: Any) -> DLStudioError:
    default = f" The default is {field.default!r}." if field.default is not None else ""
    return DLStudioError(
        f"{field.name} to be {field.range_text}", f"{field.name}={value!r}", f"Change {field.name}.{default}"
    )


def _read_int(field: Field, value: Any) -> int:
    if isinstance(value, bool):
        raise TypeError
    if isinstance(value, str):
        value = float(value)
    whole = int(value)
    if whole != value:
        raise ValueError
    return whole


def _read_float(field: Field, value: Any) -> float:
    if isinstance(value, bool):
        raise TypeError
    number = float(value)
    if not math.isfinite(number):
        raise ValueError
    return number


def _read_bool(field: Field, value: Any) -> bool:
    if value not in (True, False):
        raise TypeError
    return bool(value)


def _read_text(field: Field, value: Any) -> str:
    if not isinstance(value, str) or not value.strip():
        raise TypeError
    return value


def _read_choice(field: Field, value: Any) -> str:
    if isinstance(value, str) and value not in field.choices:
        raise unknown_name(field.name, value, field.choices)
    if not isinstance(value, str):
        raise TypeError
    return value


def _read_names(field: Field, value: Any) -> tuple[str, ...]:
    names = (value,) if isinstance(value, str) else tuple(value)
    if not all(isinstance(name, str) for name in names):
        raise TypeError
    return names


def _read_options(field: Field, value: Any) -> dict[str, Any]:
    if not isinstance(value, Mapping) or not all(isinstance(name, str) for name in value):
        raise TypeError
    return dict(value)


_READERS: dict[str, Callable[[Field, Any], Any]] = {
    "int": _read_int,
    "float": _read_float,
    "bool": _read_bool,
    "text": _read_text,
    "choice": _read_choice,
    "names": _read_names,
    "options": _read_options,
    "any": lambda field, value: value,
}


def describe(value: object) -> str:
    """Say in a few words what a Python object is, such as ``"DataFrame (1989 x 59)"``."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {describe(item)}" for key, item in value.items()) + "}"
    if isinstance(value, tuple | list) and len(value) <= 4 and not is_json(value):
        return "(" + ", ".join(describe(item) for item in value) + ")"
    if is_json(value):
        return repr(value)
    name = getattr(value, "__qualname__", None) or type(value).__qualname__
    shape = getattr(value, "shape", None)
    if isinstance(shape, tuple):
        return f"{name} ({' x '.join(str(n) for n in shape)})"
    return str(name)


def is_json(value: object) -> bool:
    """Whether a value is made of texts, numbers, lists and mappings only."""
    if isinstance(value, Mapping):
        return all(isinstance(key, str) and is_json(item) for key, item in value.items())
    if isinstance(value, list | tuple):
        return all(is_json(item) for item in value)
    return value is None or isinstance(value, str | int | float | bool)
