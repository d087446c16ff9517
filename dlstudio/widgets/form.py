"""A recipe as form controls: one per field of its schema, read back as the text or choice that was made."""

from __future__ import annotations

import ast
import html
from collections.abc import Mapping
from typing import Any

import ipywidgets as widgets

from dlstudio.data.load import available as available_data
from dlstudio.errors import DLStudioError
from dlstudio.models.build import available as available_models
from dlstudio.telemetry.machine import gpus
from dlstudio.training.fields import Field, check
from dlstudio.training.recipe import Recipe

CARDS: Mapping[str, tuple[str, ...]] = {
    "Data & model": ("data", "model", "epochs", "batch_size", "seed", "name"),
    "Optimisation": ("optimizer", "lr", "schedule", "warmup_steps", "weight_decay", "clip_norm"),
    "Hardware": ("device", "precision", "devices", "strategy", "compile"),
}
"""Which fields stand where; what is named nowhere comes under "More"."""


class FieldControl(widgets.VBox):
    """One field: its label and control, a line of help, and what is wrong with its value.

    Args:
        field: the field of the recipe's schema.
        options: ``{choice: description}`` for a field that is chosen from a list.
    """

    def __init__(self, field: Field, options: Mapping[str, str] | None = None) -> None:
        self.field, self.options = field, dict(options or {})
        self.control = _control(field, self.options)
        self.note = widgets.HTML()
        super().__init__([self.control, self.note])
        self.add_class("dls-field")
        self.add_class(f"dls-field-{field.name.replace('_', '-')}")
        self.show_error(None)

    def value(self) -> Any:
        """The value as a recipe takes it.

        Raises:
            DLStudioError: it cannot be read, or is out of the field's range.
        """
        raw = self.control.value
        if isinstance(raw, str):
            raw = raw.strip()
            if raw == "" and (self.field.optional or self.field.kind in ("names", "options")):
                raw = None if self.field.optional else self.field.default
            elif self.field.kind == "names":
                raw = tuple(part.strip() for part in raw.split(",") if part.strip())
            elif self.field.kind == "options":
                raw = read_options(raw)
        return check(self.field, raw)

    def show_error(self, words: str | None) -> None:
        """Say what is wrong with the value; None takes the complaint back."""
        if words is None:
            chosen = self.options.get(self.control.value) if self.options else None
            self.note.value = f'<span class="dls-help">{html.escape(chosen or self.field.help)}</span>'
            self.remove_class("dls-field-wrong")
        else:
            self.note.value = f'<span class="dls-error" role="alert">{html.escape(words)}</span>'
            self.add_class("dls-field-wrong")


def _control(field: Field, options: Mapping[str, str]) -> widgets.ValueWidget:
    common: dict[str, Any] = {"description": field.label, "tooltip": field.help}
    if options:
        return widgets.Dropdown(options=list(options), value=_among(field.default, options), **common)
    if field.choices:
        return widgets.Dropdown(options=list(field.choices), value=field.default, **common)
    if field.kind == "bool":
        return widgets.Checkbox(value=field.default, indent=False, **common)
    default = "" if field.default in (None, (), {}) else f"{field.default}"
    hint = {"names": "one, two", "options": "hidden=64, dropout=0.1"}.get(field.kind, "none" if field.optional else "")
    return widgets.Text(value=default, placeholder=hint, **common)


def _among(default: Any, options: Mapping[str, str]) -> str:
    return default if default in options else next(iter(options))


def read_options(text: str) -> dict[str, Any]:
    """Read ``name=value, name=value`` with plain Python values.

    Raises:
        DLStudioError: it is written in another way.

    Example:
        >>> read_options("hidden=128, dropout=0.1")
        {'hidden': 128, 'dropout': 0.1}
    """
    try:
        call = ast.parse(f"f({text})", mode="eval").body
        if not isinstance(call, ast.Call) or call.args or any(word.arg is None for word in call.keywords):
            raise ValueError(text)
        return {str(word.arg): ast.literal_eval(word.value) for word in call.keywords}
    except (SyntaxError, ValueError) as error:
        raise DLStudioError(
            "options as name=value, name=value", repr(text), "For example hidden=128, dropout=0.1."
        ) from error


def device_options() -> dict[str, str]:
    """The devices a recipe may name on this machine, each with a line that describes it."""
    found = {"auto": "The GPU if there is one, else the CPU.", "cpu": "The processor."}
    for gpu in gpus():
        free, total = gpu["free_mib"] / 1024, gpu["total_mib"] / 1024
        found[f"cuda:{gpu['index']}"] = f"{gpu['name']}: {free:.1f} of {total:.1f} GiB free."
    if len(found) == 2:
        found["auto"] = "The CPU: no NVIDIA GPU was found."
    return found


def controls() -> dict[str, FieldControl]:
    """One control for every field of a recipe."""
    options = {"data": available_data(), "model": available_models(), "device": device_options()}
    return {field.name: FieldControl(field, options.get(field.name)) for field in Recipe.schema()}


def code(values: Mapping[str, Any]) -> str:
    """The code that launches the same recipe; fields at their default are left out.

    Example:
        >>> print(code({"data": "mortgage", "epochs": 5}))
        dls.launch(dls.Recipe(data='mortgage', epochs=5))
    """
    defaults = {field.name: field.default for field in Recipe.schema()}
    chosen = [
        f"{name}={value!r}" for name, value in values.items() if value != defaults[name] or name in ("data", "model")
    ]
    inner = ", ".join(chosen)
    if len(inner) > 70:
        inner = "\n    " + ",\n    ".join(chosen) + ",\n"
    return f"dls.launch(dls.Recipe({inner}))"
