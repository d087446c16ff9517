"""The cockpit of a search: its trials in pictures and in a table while it goes on, and everything that steers it."""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Callable
from typing import Any

import ipywidgets as widgets
import plotly.graph_objects as go

from dlstudio.errors import DLStudioError
from dlstudio.figures import trials, tuning
from dlstudio.runs.run import RunState
from dlstudio.summary.words import label
from dlstudio.tuning.result import SearchResult
from dlstudio.tuning.search import Search
from dlstudio.widgets.chart import Chart
from dlstudio.widgets.markup import complaint, note, standing
from dlstudio.widgets.point_form import PointForm
from dlstudio.widgets.sheets import style
from dlstudio.widgets.trial_curves import TrialCurves
from dlstudio.widgets.trial_table import TrialTable, told

__all__ = ["Cockpit"]

CURVES, HISTORY, FRONT = "Curves", "Best so far", "Front"
IMPORTANCE, SLICES, PLANE, PARALLEL = "Importance", "Slices", "Two parameters", "All parameters"
_VIEW_MIME = "application/vnd.jupyter.widget-view+json"
PATIENCE = 8
"""A picture that took a second to draw is drawn again after so many seconds, so that the kernel stays free."""
_SAID = {
    "pause": "The trials will pause after their current step, and no other begins.",
    "resume": "The search will go on.",
    "stop": "The search will stop; dls.tune(resume=…) continues it.",
}


class Cockpit(widgets.VBox):
    """A search as it goes on, and what steers it: pictures in tabs, a form for the next point, a table of trials.

    The browser asks for news twice a second while the search is live and the view can be seen; no thread runs here.
    Figures and rows travel as messages, so a saved notebook stays small. Messages arrive on a thread of their own:
    the buttons work while a cell is running.

    Args:
        search: what to show, live or over.

    Attributes:
        search: what is shown.
        result: what it has found, as last read.
        pages, chart: the tabs and their picture.
        form: for the point to try next.
        trials: the table.

    Example:
        >>> Cockpit(dls.open_search("my-search"))
    """

    def __init__(self, search: Search) -> None:
        self.search = search
        self._lock = threading.RLock()
        self._version, self._known = 0, ""
        self._drawn: tuple[Any, ...] = ()
        self._next_draw = self._next_shares = 0.0
        self._shares: tuple[int, Any] = (-1, {})
        self._curves = TrialCurves(search)
        self._metrics = search.settings.metrics
        self._state: RunState = search.state()
        self.result = self._read()
        self.head, self.message = widgets.HTML(), widgets.HTML()
        pages = [
            HISTORY,
            CURVES,
            *([FRONT] if len(self._metrics) in (2, 3) else []),
            IMPORTANCE,
            SLICES,
            PLANE,
            PARALLEL,
        ]
        self.pages = widgets.ToggleButtons(options=pages)
        self.pages.add_class("dls-pages")
        self.metric = widgets.Dropdown(
            options=[(label(name), at) for at, name in enumerate(self._metrics)], description="Metric"
        )
        names = list(self.result.space)
        self.across, self.up = (
            widgets.Dropdown(
                options=[("the most important", None), *((name, name) for name in names)], description=side
            )
            for side in ("Across", "Up")
        )
        self.choices = widgets.HBox([self.metric, self.across, self.up])
        self.choices.add_class("dls-choices")
        self.chart = Chart(on_pick=self._pick)
        self.form = PointForm(search)
        self.trials = TrialTable(self._news, self._act)
        look = widgets.HTML(style("frame.css", "explorer.css", "cockpit.css"))
        parts = [look, self.head, self._controls(), self.message, self.pages, self.choices, self.chart, self.form]
        super().__init__([*parts, self.trials])
        self.add_class("dls-explorer")
        self.add_class("dls-cockpit")
        for chosen in (self.pages, self.metric, self.across, self.up):
            chosen.observe(lambda _: self._draw(), "value")
        self._show()
        self._draw()

    def __repr__(self) -> str:
        return "\n".join(
            [f"Search {self.search.name!r} ({self.search.key}): {self._state.status}", *self.result.summary]
        )

    def _repr_mimebundle_(self, **kwargs: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        view = {"version_major": 2, "version_minor": 0, "model_id": self.model_id}
        return {"text/plain": repr(self), _VIEW_MIME: view}, {}

    # -- reading --------------------------------------------------------------------------------------------------

    def refresh(self) -> None:
        """Read what is new, and show it."""
        with self._lock:
            self._state = self.search.state()
            self.result = self._read()
            self._show()
            if time.monotonic() >= self._next_draw or self._state.is_over:
                self._draw()

    def _read(self) -> SearchResult:
        return self.search.result(importance=False)

    def _news(self) -> tuple[int, dict[str, Any], bool]:
        with self._lock:
            self.refresh()
            live = not self._state.is_over
            kept = self.search.kept
            rows = self.result.rows
            known = repr((live, kept, [(row.number, row.state, row.values, len(row.reports)) for row in rows]))
            if known != self._known:
                self._known, self._version = known, self._version + 1
            return self._version, told(self.result, kept, live), not live

    # -- showing --------------------------------------------------------------------------------------------------

    def _show(self) -> None:
        live = not self._state.is_over
        text = head(self.result, self._state)
        if text != self.head.value:
            self.head.value = text
        paused = self._state.status == "PAUSED"
        for button, usable, seen in (
            (self.pause, live and not paused, not paused),
            (self.resume, live and paused, paused),
            (self.stop, live, True),
            (self.add, live, True),
        ):
            if button.disabled == usable:
                button.disabled = not usable
            display = "" if seen else "none"
            if button.layout.display != display:
                button.layout.display = display
        self.form.take(self.search.space, live)

    def _draw(self) -> None:
        with self._lock:
            page, metric = str(self.pages.value), int(self.metric.value)
            for choice, there in (
                (self.metric, len(self._metrics) > 1 and page != FRONT),
                (self.across, page == PLANE),
                (self.up, page == PLANE),
            ):
                display = "" if there else "none"
                if choice.layout.display != display:
                    choice.layout.display = display
            rows = self.result.rows
            counted = [(row.state, row.values, len(row.reports) if page == CURVES else 0) for row in rows]
            # What a run records by itself grows without a word in the study.
            grown = int(time.monotonic()) if page == CURVES and not self._state.is_over else 0
            drawn = (page, metric, self.across.value, self.up.value, grown, repr(counted))
            if drawn == self._drawn:
                return
            began = time.monotonic()
            result = self._weighed() if page in (IMPORTANCE, SLICES, PLANE, PARALLEL) else self.result
            figure = self._picture(page, metric, result)
            # Where a reader has zoomed in one picture is no place in another one.
            figure.update_layout(uirevision=f"{page} {metric} {self.across.value} {self.up.value}")
            self.chart.draw(figure, f"{page}: {trials.spoken(result, metric)}. {' '.join(result.summary)}")
            self._drawn = drawn
            self._next_draw = time.monotonic() + PATIENCE * (time.monotonic() - began)

    def _picture(self, page: str, metric: int, result: SearchResult) -> go.Figure:
        draw: dict[str, Callable[[], go.Figure]] = {
            CURVES: lambda: trials.curves(self._curves.of(result, metric), metric),
            FRONT: lambda: tuning.front(result),
            HISTORY: lambda: trials.history(result, metric),
            IMPORTANCE: lambda: tuning.importance(result, metric),
            SLICES: lambda: tuning.slices(result, metric),
            PLANE: lambda: tuning.contour(result, self.across.value, self.up.value, metric),
            PARALLEL: lambda: tuning.parallel(result, metric),
        }
        return draw[page]()

    def _weighed(self) -> SearchResult:
        """The result with what each parameter matters, which takes a second with thousands of trials."""
        n = sum(row.state == "complete" for row in self.result.rows)
        if n != self._shares[0] and (time.monotonic() >= self._next_shares or self._state.is_over):
            began = time.monotonic()
            self._shares = (n, self.search.result().importances)
            self._next_shares = time.monotonic() + PATIENCE * (time.monotonic() - began)
        return dataclasses.replace(self.result, importances=self._shares[1])

    # -- steering -------------------------------------------------------------------------------------------------

    def _controls(self) -> widgets.HBox:
        def button(words: str, title: str, press: Callable[[], None]) -> widgets.Button:
            made = widgets.Button(description=words, tooltip=title)
            made.on_click(lambda _: press())
            return made

        self.pause = button(
            "Pause", "Pause the trials after their current step; begin no other", lambda: self._tell("pause")
        )
        self.resume = button("Resume", "Go on", lambda: self._tell("resume"))
        self.add = button("Add a worker", "One more process that trains", self._add)
        self.stop = button("Stop…", "Stop the search; asks first", lambda: self._ask(True))
        self.yes = button("Yes, stop the search", "Trials that go on are stopped", lambda: self._ask(False, do=True))
        self.no = button("Keep searching", "Do not stop", lambda: self._ask(False))
        self.yes.add_class("dls-danger")
        self.sure = widgets.HBox([self.yes, self.no])
        self.sure.layout.display = "none"
        row = widgets.HBox([self.pause, self.resume, self.add, self.stop, self.sure])
        row.add_class("dls-pick")
        row.add_class("dls-steer")
        return row

    def _ask(self, asking: bool, *, do: bool = False) -> None:
        self.sure.layout.display = "" if asking else "none"
        self.stop.layout.display = "none" if asking else ""
        if do:
            self._tell("stop")

    def _add(self) -> None:
        self._do(lambda: self.search.add_workers(1), "One more worker is being started.")

    def _tell(self, what: str) -> None:
        self._do(getattr(self.search, what), _SAID[what])

    def _act(self, what: str, number: int) -> None:
        if what == "use":
            self._use(number)
        elif what == "stop":
            self._do(lambda: self.search.stop_trial(number), f"Trial {number} will stop; the search goes on.")
        else:
            self._do(lambda: self.search.keep_trial(number), f"Trial {number} will not be pruned.")

    def _do(self, act: Callable[[], object], said: str) -> None:
        try:
            act()
        except Exception as error:
            # A click has no cell to print a traceback under.
            self.message.value = complaint(error)
        else:
            self.message.value = note(said)

    def _use(self, number: int) -> None:
        rows = {row.number: row for row in self.result.rows}
        if number not in rows:
            raise DLStudioError("the number of a trial", str(number), "See search.trials.")
        self.form.fill(rows[number].params)
        self.form.message.value = note(f"The values of trial {number}; change some, and try them.")

    def _pick(self, pick: dict[str, Any]) -> None:
        with self._lock:
            figure = self.chart.figure
            axes = (figure.layout.meta or {}).get("axes", {}) if figure is not None else {}
            trial = pick.get("trial")
            if isinstance(trial, int) and any(row.number == trial for row in self.result.rows):
                self._use(trial)
                return
            placed = {axes[axis]: value for axis, value in pick.get("axes", {}).items() if axis in axes}
            exact = bool(pick.get("exact"))
            filled = [name for name, value in placed.items() if self.form.fields[name].fill_place(value, exact)]
            if filled:
                self.form.message.value = note(f"{' and '.join(filled)} as clicked; the rest as it stands.")
            elif placed:
                self.form.message.value = note("No value of a parameter lies where you clicked.")


def head(result: SearchResult, state: RunState) -> str:
    """How a search stands, as HTML."""
    over = sum(row.state in ("complete", "pruned", "failed") for row in result.rows)
    why = [state.reason] if state.reason and state.status != "FINISHED" else []
    metrics = " · ".join(trials.spoken(result, at) for at in range(len(result.metrics)))
    about = f"{over:,} of {result.n_trials:,} trials · {metrics}"
    share = over / max(1, result.n_trials)
    return standing(result.name, state.status, about, share, [*why, *result.summary], result.findings)
