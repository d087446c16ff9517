"""The explorer: an explanation row by row and as a whole, computed another way, tried on changed rows, and checked."""

from __future__ import annotations

import html
import threading
import time
from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import ipywidgets as widgets

from dlstudio.errors import DLStudioError
from dlstudio.explain.exploring import PREDICTED, offered, outcome, outputs_offered, story, typical
from dlstudio.explain.parts import check_row
from dlstudio.explain.result import Explanation
from dlstudio.explain.words import describe, headline, method_title
from dlstudio.figures import explanation as figures
from dlstudio.figures.explored import features_of, overall, views
from dlstudio.runs.run import Run, open_run
from dlstudio.widgets.chart import Chart
from dlstudio.widgets.checks import Checks, put_away
from dlstudio.widgets.markup import complaint, head, note, paragraphs
from dlstudio.widgets.sheets import style
from dlstudio.widgets.trial import Trial

if TYPE_CHECKING:
    from dlstudio.explain.session import Session

__all__ = ["Explorer"]

PAGES = ("One row", "All rows", "What if", "Checks")
MOST_S = 120.0
"""A method that takes longer is stopped; the rows explained by then are shown."""
TOLD_EVERY_S = 0.3
_VIEW_MIME = "application/vnd.jupyter.widget-view+json"


class Explorer(widgets.VBox):
    """An explanation to look through: the verdict, one row after another, all rows, and what would change a row.

    With an explanation of a run in this studio home other methods and classes can be chosen, rows be changed and the
    explanation be checked; what is computed here is shown and not saved. Figures travel as messages, so a saved
    notebook stays small.

    Args:
        explanation: what to show.

    Attributes:
        explanation: what is shown now.
        run: the run it is of; None where there is none here.
        picture, whole: the charts of one row and of all rows.
        trial, checks: the pages "What if" and "Checks"; None without a run.

    Example:
        >>> Explorer(dls.explain("my-run"))
    """

    def __init__(self, explanation: Explanation) -> None:
        self.explanation = explanation
        self.run = _run_of(explanation)
        self._worker: threading.Thread | None = None
        self._cancel = threading.Event()
        self.head = widgets.HTML()
        self.pages = widgets.ToggleButtons(options=PAGES if self.run else PAGES[:2])
        self.pages.add_class("dls-pages")
        self.choices = self._choices()
        self.page = widgets.VBox([self._row_page(), self._whole_page()])
        self._busy = threading.Lock()
        self.trial = Trial(lambda: self.session) if self.run else None
        self.checks = Checks(lambda: self.session, self.run, self._busy) if self.run else None
        self.page.children += tuple(part for part in (self.trial, self.checks) if part is not None)
        look = widgets.HTML(style("frame.css", "explorer.css"))
        super().__init__([look, self.head, self.choices, self.pages, self.page])
        self.add_class("dls-explorer")
        self.pages.observe(lambda _: self._turn(), "value")
        self._take(explanation)
        self._turn()

    def __repr__(self) -> str:
        return "\n".join(describe(self.explanation))

    def _repr_mimebundle_(self, **kwargs: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        view = {"version_major": 2, "version_minor": 0, "model_id": self.model_id}
        return {"text/plain": repr(self), _VIEW_MIME: view}, {}

    @cached_property
    def session(self) -> Session:
        """The run's model and data, read when they are first needed.

        Raises:
            DLStudioError: the run cannot be explained again.
        """
        from dlstudio.explain.session import Session

        if self.run is None:
            raise DLStudioError("an explanation of a run", "one without", "Explain a run: dls.explain(run).")
        return Session(self.run)

    @property
    def at(self) -> int:
        """The row that is shown, counted within the explanation."""
        return int(self.row.value) - 1

    def explain(self, method: str, target: int = PREDICTED) -> None:
        """Explain the same rows by another method or for another class, and show that.

        Args:
            method: name of the method.
            target: the class; `PREDICTED` for the predicted one, or the only output.

        Raises:
            DLStudioError: the method fails on this run; the explanation before stays.
        """
        told = 0.0

        def tell(done: int, of: int) -> None:
            nonlocal told
            if time.monotonic() - told > TOLD_EVERY_S:
                told = time.monotonic()
                self.message.value = note(f"Explained {done:,} of {of:,} …")

        rows, chosen = self.explanation.rows, None if target == PREDICTED else target
        found = self.session.explain(
            rows, method=method, target=chosen, progress=tell, cancel=self._cancel, max_seconds=MOST_S
        )
        self._take(found)
        left = len(rows) - len(found)
        cut = f"; {left:,} of {len(rows):,} rows were left out for time" if left else ""
        self.message.value = note(f"{method_title(found)} took {found.wall_s:.1f} s{cut}.")

    def wait(self) -> None:
        """Wait until what a button began is done."""
        if self._worker is not None:
            self._worker.join()
        if self.checks:
            self.checks.wait()

    def close(self) -> None:
        """End what is being computed, and take the explorer and its parts from the page."""
        self._cancel.set()
        if self.checks:
            self.checks.end()
        self.wait()
        for part in self.children:
            put_away(part)
        super().close()

    def _choices(self) -> widgets.HBox:
        names = offered(self.explanation.modality)
        if self.explanation.method not in names.values():
            names = {method_title(self.explanation): self.explanation.method} | names
        outputs = outputs_offered(self.explanation)
        targets = set(self.explanation.target.tolist())
        target = targets.pop() if len(targets) == 1 else PREDICTED
        self.method = widgets.Dropdown(
            description="Method", options=list(names.items()), value=self.explanation.method, tooltip="How to explain"
        )
        self.target = widgets.Dropdown(
            description="Explain",
            options=list(outputs.items()) or [("the prediction", PREDICTED)],
            tooltip="Which output",
        )
        if target in outputs.values():
            self.target.value = target
        self.target.layout.display = None if outputs else "none"
        self.start = widgets.Button(description="Compute", tooltip="Explain the same rows this way")
        self.start.add_class("dls-start")
        self.stop = widgets.Button(description="Stop", tooltip="Keep the explanation before")
        self.stop.layout.display = "none"
        self.message = widgets.HTML()
        self.message.add_class("dls-message")
        self.start.on_click(lambda _: self._begin())
        self.stop.on_click(lambda _: self._cancel.set())
        shown = widgets.HBox([self.method, self.target, self.start, self.stop, self.message])
        shown.add_class("dls-choices")
        shown.layout.display = None if self.run else "none"
        return shown

    def _row_page(self) -> widgets.VBox:
        n = len(self.explanation)
        self.row = widgets.BoundedIntText(value=1, min=1, max=n, description="Row", tooltip=f"1 to {n:,}")
        self.back = widgets.Button(description="‹", tooltip="The row before")
        self.next = widgets.Button(description="›", tooltip="The row after")
        for button, step in ((self.back, -1), (self.next, 1)):
            button.add_class("dls-step")
            button.on_click(lambda _, step=step: self.show_row(self.at + step))
        self.jump = widgets.Dropdown(description="Go to", options=[("…", -1)], tooltip="Rows worth a look")
        self.opacity = widgets.FloatSlider(
            value=0.85, min=0, max=1, step=0.05, description="Map", readout=False, continuous_update=False,
            tooltip="How strongly the map covers the image",
        )  # fmt: skip
        self.about = widgets.HTML()
        self.text, self.reasons = widgets.HTML(), widgets.HTML()
        self.picture = Chart()
        pick = widgets.HBox([self.row, self.back, self.next, self.about, self.jump, self.opacity])
        pick.add_class("dls-pick")
        self.row.observe(lambda _: self._draw_row(), "value")
        self.opacity.observe(lambda _: self._draw_row(), "value")
        self.jump.observe(
            lambda change: self.show_row(self.at if change["new"] in (None, -1) else change["new"]), "value"
        )
        return widgets.VBox([pick, self.text, self.picture, self.reasons])

    def _whole_page(self) -> widgets.VBox:
        self.view = widgets.Dropdown(description="Show", tooltip="Which picture of all rows")
        self.feature = widgets.Dropdown(description="Feature", tooltip="The most important first")
        self.whole, self.summary = Chart(), widgets.HTML()
        pick = widgets.HBox([self.view, self.feature])
        pick.add_class("dls-pick")
        self.view.observe(lambda _: self._draw_whole(), "value")
        self.feature.observe(lambda _: self._draw_whole(), "value")
        return widgets.VBox([pick, self.whole, self.summary])

    def show_row(self, at: int) -> None:
        """Show a row, counted within the explanation; beyond either end the last one there is."""
        self.row.value = max(0, min(at, len(self.explanation) - 1)) + 1

    def _take(self, explanation: Explanation) -> None:
        at = min(self.at, len(explanation) - 1)
        self.explanation = explanation
        self.head.value = head(explanation, self.run.name if self.run else explanation.model or "Explanation")
        self.row.max, self.row.value = len(explanation), at + 1
        rows = typical(explanation)
        self.jump.options = [("…", -1), *((f"{name} (row {place + 1})", place) for name, place in rows.items())]
        mapped = explanation.modality == "image" and explanation.verdict != "refused"
        self.opacity.layout.display = None if mapped else "none"
        _offer(self.view, views(explanation))
        _offer(self.feature, features_of(explanation) if "One feature" in self.view.options else ())
        self._draw_row()
        self._draw_whole()

    def _draw_row(self) -> None:
        explanation, at = self.explanation, check_row(self.explanation, self.at)
        number = f"row {int(explanation.rows[at]):,} of the data: " if self.run else ""
        self.about.value = f'<span class="dls-about">{html.escape(number + outcome(explanation, at))}</span>'
        self.text.value = figures.tokens(explanation, at) if explanation.modality == "text" else ""
        mapped = explanation.modality == "image" and explanation.attributions.ndim >= 3
        figure = figures.overlay(explanation, at, self.opacity.value) if mapped else figures.figure_of(explanation, at)
        self.picture.draw(figure, headline(explanation, at))
        self.reasons.value = paragraphs(story(explanation, at))
        self.back.disabled, self.next.disabled = at == 0, at == len(explanation) - 1
        self._offer_page()

    def _draw_whole(self) -> None:
        one = self.view.value == "One feature"
        self.feature.layout.display = None if one else "none"
        if self.view.value is None or (one and self.feature.value is None):
            return
        self.whole.draw(overall(self.explanation, self.view.value, self.feature.value), headline(self.explanation))
        self.summary.value = paragraphs(story(self.explanation))

    def _turn(self) -> None:
        for name, page in zip(PAGES, self.page.children, strict=False):
            page.layout.display = None if name == self.pages.value else "none"
        self._offer_page()

    def _offer_page(self) -> None:
        if self.trial and self.pages.value == "What if":
            self.trial.offer(self.explanation, self.at)
        elif self.checks and self.pages.value == "Checks":
            self.checks.offer(self.explanation, self.at)

    def _begin(self) -> None:
        if self._worker is not None and self._worker.is_alive():
            return
        self._cancel.clear()
        self.start.disabled, self.stop.layout.display = True, None
        self.message.value = note("Reading the model and the data …")
        self._worker = threading.Thread(target=self._work, args=(self.method.value, self.target.value), daemon=True)
        self._worker.start()

    def _work(self, method: str, target: int) -> None:
        try:
            with self._busy:
                self.explain(method, target)
        except Exception as error:
            # A click has no cell to print a traceback under: whatever went wrong is said beside the button.
            self.message.value = note("Stopped.") if self._cancel.is_set() else complaint(error)
        finally:
            self.start.disabled, self.stop.layout.display = False, "none"


def _run_of(explanation: Explanation) -> Run | None:
    if not explanation.run:
        return None
    try:
        return open_run(explanation.run)
    except DLStudioError:
        return None  # of another studio home: what was computed can still be looked at


def _offer(choice: widgets.Dropdown, options: Sequence[str]) -> None:
    """Offer other options; what was chosen stays chosen where it is still among them, else it is the first."""
    before = choice.value
    choice.options = options
    if options:
        choice.value = before if before in options else options[0]
