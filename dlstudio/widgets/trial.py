"""The page "What if" of the explorer: change a row, and see what the model says then and why."""

from __future__ import annotations

import html
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import ipywidgets as widgets

from dlstudio.explain.result import Explanation
from dlstudio.explain.trying import INTRO, Field, change, fields, outcomes, sentence, spans, try_out
from dlstudio.explain.words import headline
from dlstudio.figures.explanation import tokens
from dlstudio.figures.explored import changed
from dlstudio.widgets.chart import Chart
from dlstudio.widgets.markup import complaint

if TYPE_CHECKING:
    from dlstudio.explain.session import Session

__all__ = ["Trial"]

N_SHOWN = 8
CHOOSE = "a column …"


class Trial(widgets.VBox):
    """A form that changes a row, with the model's answer before and after.

    Args:
        session: gives the explained run's model and data; asked when they are first needed.

    Attributes:
        controls: by column; for texts ``"text"``, for images ``"lines"`` and ``"columns"``, for sequences ``"steps"``
            and ``"channel"``.
        tried: the explanation of the row as it is and as changed; None before anything was tried.
    """

    def __init__(self, session: Callable[[], Session]) -> None:
        self._session = session
        self._shown: tuple[Explanation, int] | None = None
        self.controls: dict[str, Any] = {}
        self.tried: Explanation | None = None
        self._fields: dict[str, Field] = {}
        self.intro, self.answer, self.text = widgets.HTML(), widgets.HTML(), widgets.HTML()
        self.more = widgets.Dropdown(description="Also change", options=[CHOOSE], tooltip="Another column to change")
        self.form = widgets.VBox()
        self.form.add_class("dls-form")
        self.go = widgets.Button(description="Try it", tooltip="Ask the model about the changed row")
        self.go.add_class("dls-start")
        self.reset = widgets.Button(description="Start over", tooltip="Back to the row as it is")
        self.reset.add_class("dls-plain")
        self.chart = Chart()
        foot = widgets.HBox([self.go, self.reset, self.more])
        foot.add_class("dls-choices")
        super().__init__([self.intro, self.form, foot, self.answer, self.text, self.chart])
        self.go.on_click(lambda _: self.run())
        self.reset.on_click(lambda _: self._again())
        self.more.observe(lambda change: self._add(change["new"]), "value")

    def offer(self, explanation: Explanation, at: int) -> None:
        """Offer a row to be changed, counted within the explanation; what was tried on another one goes."""
        if self._shown is not None and self._shown[0] is explanation and self._shown[1] == at:
            return
        self._shown, self.tried = (explanation, at), None
        self.answer.value = self.text.value = ""
        self.chart.layout.display = "none"
        for control in self.controls.values():
            control.close()
        self.controls, self._fields = {}, {}
        refused = explanation.verdict == "refused"
        self.go.disabled = refused
        row = int(explanation.rows[at])
        told = "This explanation was refused, so nothing is tried on it." if refused else INTRO[explanation.modality]
        self.intro.value = f'<p class="dls-said">Row {row:,} of the data. {html.escape(told)}</p>'
        try:
            if not refused:
                self._make(explanation, row)
        except Exception as error:
            self.answer.value = complaint(error)
        self.more.layout.display = None if self._fields and len(self._fields) > len(self.controls) else "none"
        self.form.children = tuple(self.controls.values())

    def run(self) -> None:
        """Ask the model about the row as the form has it, and show its answer; what is wrong is said."""
        if self._shown is None:
            return
        explanation, at = self._shown
        try:
            values = {name: control.value for name, control in self.controls.items()}
            edited, said = change(self._session(), int(explanation.rows[at]), values)
            self.tried = try_out(self._session(), explanation, at, edited)
            figure = changed(self.tried)
        except Exception as error:
            # A click has no cell to print a traceback under: whatever went wrong is said below the button.
            self.answer.value = complaint(error)
            return
        self.answer.value = _answer(self.tried, said)
        self.text.value = tokens(self.tried, 1) if self.tried.modality == "text" else ""
        self.chart.layout.display = None
        self.chart.draw(figure, headline(self.tried, 1))

    def _again(self) -> None:
        if self._shown is not None:
            shown, self._shown = self._shown, None
            self.offer(*shown)

    def _make(self, explanation: Explanation, row: int) -> None:
        session = self._session()
        if explanation.modality == "tabular":
            found = fields(session, row, explanation)
            self._fields = {field.name: field for field in found}
            self.controls = {field.name: _control(field) for field in found[:N_SHOWN]}
            self.more.options = [CHOOSE, *(field.name for field in found[N_SHOWN:])]
        elif explanation.modality == "text":
            self.controls = {"text": widgets.Textarea(value=sentence(session, row), rows=5, description="Text")}
        else:
            self.controls = {name: _range(name.title(), size) for name, size in spans(session).items()}
            if explanation.modality == "sequence":
                names = [("all of them", None), *((item, item) for item in session.dataset.feature_names)]
                self.controls["channel"] = widgets.Dropdown(description="Channel", options=names)
        for control in self.controls.values():
            control.add_class("dls-field")

    def _add(self, name: str) -> None:
        if name in self._fields and name not in self.controls:
            self.controls[name] = _control(self._fields[name])
            self.controls[name].add_class("dls-field")
            self.form.children = tuple(self.controls.values())
            self.more.value = CHOOSE


def _control(field: Field) -> Any:
    if field.choices:
        options = [*field.choices, *([field.value] if field.value not in field.choices else [])]
        return widgets.Dropdown(description=field.name, options=options, value=field.value)
    tip = f"In the data from {field.low:g} to {field.high:g}"
    if field.value is None:
        return widgets.Text(description=field.name, value="", placeholder="missing", tooltip=tip)
    return widgets.FloatText(description=field.name, value=field.value, step=field.step or None, tooltip=tip)


def _range(name: str, size: int) -> Any:
    third = size // 3
    return widgets.IntRangeSlider(
        value=(third, size - third), min=0, max=size, description=name, tooltip="from, and up to but without"
    )


def _answer(tried: Explanation, said: str) -> str:
    rows = "".join(
        f"<tr><th>{html.escape(name)}</th><td>{html.escape(before)}</td><td>→</td><td>{html.escape(after)}</td></tr>"
        for name, before, after in outcomes(tried)
    )
    note = f'<p class="dls-said">{html.escape(said)}</p>' if said else ""
    return (
        f'<table class="dls-outcomes"><tr><td></td><td>as it is</td><td></td><td>as changed</td></tr>{rows}</table>'
        f'{note}<div class="dls-words"><p>{html.escape(headline(tried, 1))}</p></div>'
    )
