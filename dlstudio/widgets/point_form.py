"""The form in which the next point of a search is put together, and its ranges are changed."""

from __future__ import annotations

import html
import json
import math
from collections.abc import Callable, Mapping
from typing import Any

import ipywidgets as widgets

from dlstudio.errors import DLStudioError
from dlstudio.figures.studies import are_numbers, choice_names
from dlstudio.figures.theme import escape
from dlstudio.tuning.search import Search
from dlstudio.tuning.space import Axis, Space
from dlstudio.widgets.markup import complaint, note

__all__ = ["PointForm"]

OPEN = "suggested"


class ParameterField(widgets.VBox):
    """One parameter: the value to try, and for a range its two ends.

    Args:
        axis: the parameter.
        change: called with this field when another range is asked for.
    """

    def __init__(self, axis: Axis, change: Callable[[ParameterField], None]) -> None:
        self.axis = axis
        name = widgets.HTML(f'<span class="dls-parameter">{html.escape(axis.name)}</span>')
        parts: list[widgets.Widget] = [name]
        self.control: widgets.ValueWidget
        if axis.is_range:
            self.control = widgets.Text(placeholder=OPEN, tooltip=f"{axis.name}: the value to try; empty: suggested")
            self.low, self.high = (widgets.Text(tooltip=f"{axis.name}: {end} end") for end in ("lower", "upper"))
            self.set = widgets.Button(description="Set range", tooltip="Search this range from now on")
            self.set.on_click(lambda _: change(self))
            row = widgets.HBox([self.low, widgets.HTML("to"), self.high, self.set])
            row.add_class("dls-range")
            parts += [self.control, row]
        else:
            options = [(OPEN, None), *((name, at) for at, name in enumerate(choice_names(axis)))]
            self.control = widgets.Dropdown(options=options, value=None, tooltip=f"{axis.name}: the choice to try")
            parts.append(self.control)
        super().__init__(parts)
        self.add_class("dls-parameter-card")
        self.take(axis)

    def take(self, axis: Axis) -> None:
        """Show the range as it is now."""
        self.axis = axis
        if axis.is_range:
            for box, end in ((self.low, axis.low), (self.high, axis.high)):
                if box.placeholder != f"{end:g}":
                    box.placeholder, box.value = f"{end:g}", ""

    @property
    def is_open(self) -> bool:
        """Whether the value is left to the search."""
        return self.control.value.strip() in ("", OPEN) if self.axis.is_range else self.control.value is None

    def value(self) -> Any:
        """The value to try, which may be the choice None; None, too, where it `is_open`.

        Raises:
            DLStudioError: it is no number.
        """
        if self.is_open:
            return None
        if not self.axis.is_range:
            return self.axis.choices[self.control.value]
        return _number(self.axis, self.control.value.strip())

    def clear(self) -> None:
        """Leave the value to the search."""
        self.control.value = "" if self.axis.is_range else None

    def fill(self, value: Any) -> None:
        """Put the value of a trial in."""
        if self.axis.is_range:
            self.control.value = _written(value)
        else:
            known = [json.dumps(choice) for choice in self.axis.choices]  # True is not 1 here
            text = json.dumps(value)
            self.control.value = known.index(text) if text in known else None

    def fill_place(self, value: Any, exact: bool) -> bool:
        """Put in where somebody clicked, on an axis of a picture; False where nothing of this parameter lies there.

        Outside the range that is its nearest end, and between choices on a scale the nearest choice.
        """
        is_number = isinstance(value, int | float) and math.isfinite(value)
        if not self.axis.is_range:
            names = [escape(name) for name in choice_names(self.axis)]
            if str(value) in names:
                self.control.value = names.index(str(value))
            elif is_number and are_numbers(self.axis):
                self.control.value = min(range(len(names)), key=lambda at: abs(self.axis.choices[at] - value))
            else:
                return False
        elif is_number:
            self.control.value = _written(_allowed(self.axis, value if exact else float(f"{value:.3g}")))
        else:
            return False
        return True

    def ends(self) -> tuple[float, float]:
        """The ends that are asked for; one that is left empty stays as it is.

        Raises:
            DLStudioError: one is no number.
        """
        low, high = self.low.value.strip(), self.high.value.strip()
        return _number(self.axis, low) if low else self.axis.low, _number(self.axis, high) if high else self.axis.high


class PointForm(widgets.VBox):
    """A value for each parameter, to be tried next; what is left empty is suggested. Ranges can be changed.

    Args:
        search: the search.

    Attributes:
        fields: by name of the parameter.
        go: the button.
    """

    def __init__(self, search: Search) -> None:
        self._search = search
        self.fields = {name: ParameterField(axis, self._set_range) for name, axis in search.space.axes.items()}
        self.go = widgets.Button(description="Try these values next")
        self.go.add_class("dls-start")
        self.go.on_click(lambda _: self.enqueue())
        self.clear = widgets.Button(description="Clear")
        self.clear.on_click(lambda _: self.fill({}))
        self.message = widgets.HTML()
        self.message.add_class("dls-message")
        cards = widgets.HBox(list(self.fields.values()))
        cards.add_class("dls-parameters")
        foot = widgets.HBox([self.go, self.clear, self.message])
        foot.add_class("dls-pick")
        lead = '<p class="dls-caption">Click a trial, or a place in Slices or Two parameters, to fill this in.</p>'
        super().__init__([widgets.HTML(lead), cards, foot])
        self.add_class("dls-point-form")

    def take(self, space: Space, live: bool) -> None:
        """Show the ranges as they are now; a search that is over takes no further points."""
        for name, axis in space.axes.items():
            self.fields[name].take(axis)
        if self.go.disabled == live:
            self.go.disabled = not live
            for field in self.fields.values():
                if field.axis.is_range:
                    field.set.disabled = not live

    def fill(self, params: Mapping[str, Any]) -> None:
        """Put the values of a trial in; what is not among them is left to the search."""
        for name, field in self.fields.items():
            if name in params:
                field.fill(params[name])
            else:
                field.clear()

    def enqueue(self) -> None:
        """Have these values tried next, and say so, or what is wrong with them."""
        try:
            params = {name: field.value() for name, field in self.fields.items() if not field.is_open}
            if not params:
                raise DLStudioError("at least one value", "none", "Click a point, or fill in a value.")
            self._search.enqueue(params)
        except Exception as error:
            # A click has no cell to print a traceback under.
            self.message.value = complaint(error)
        else:
            said = ", ".join(f"{name} = {_written(value)}" for name, value in params.items())
            self.message.value = note(f"Queued: {said}. It is tried as soon as a worker is free.")

    def _set_range(self, field: ParameterField) -> None:
        name = field.axis.name
        try:
            low, high = field.ends()
            self._search.set_range(name, low, high)
        except Exception as error:
            self.message.value = complaint(error)
        else:
            self.message.value = note(f"{name} will be searched from {low:g} to {high:g}.")


def _number(axis: Axis, text: str) -> float:
    try:
        value = float(text)
    except ValueError as error:
        raise DLStudioError(f"a number for {axis.name}", repr(text), f"For example {axis.low:g}.") from error
    return int(value) if isinstance(axis.low, int) and value == int(value) else value


def _allowed(axis: Axis, value: float) -> float:
    """The value of a range that is next to another one."""
    within = min(max(value, axis.low), axis.high)
    if axis.step is not None:
        within = axis.low + axis.step * round((within - axis.low) / axis.step)
    return round(within) if isinstance(axis.low, int) else float(min(max(within, axis.low), axis.high))


def _written(value: Any) -> str:
    return repr(value) if isinstance(value, float) else str(value)
