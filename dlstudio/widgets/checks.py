"""The page "Checks" of the explorer: whether other methods agree, and whether the explanation stands up to tests."""

from __future__ import annotations

import html
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import ipywidgets as widgets

from dlstudio.explain.checking import CheckStopped
from dlstudio.explain.checks import CHECKS, Check, Checked, row_names
from dlstudio.explain.quality.agreement_result import AgreementResult
from dlstudio.explain.result import Explanation
from dlstudio.figures.checked import compared
from dlstudio.runs.run import Run
from dlstudio.widgets.card import Told
from dlstudio.widgets.markup import caption, complaint, note

if TYPE_CHECKING:
    from dlstudio.explain.session import Session

__all__ = ["Checks", "put_away"]


class Checks(widgets.VBox):
    """Both checks of the shown explanation, one below the other. What is saved with the run is shown at once.

    Args:
        session: gives the explained run's model and data; asked when they are first needed.
        run: the explained run.
        busy: held while something is explained, as a model can be explained by one thread at a time.

    Attributes:
        agreement, quality: the two sections.
    """

    def __init__(self, session: Callable[[], Session], run: Run, busy: threading.Lock) -> None:
        self.agreement, self.quality = (Section(check, session, run, busy) for check in CHECKS)
        super().__init__([self.agreement, self.quality])

    def offer(self, explanation: Explanation, at: int) -> None:
        """Show what is known of an explanation, and offer the rest; `at` is the row that the reader looks at."""
        for section in (self.agreement, self.quality):
            section.offer(explanation, at)

    def wait(self) -> None:
        """Wait until what a button began is done."""
        for section in (self.agreement, self.quality):
            section.wait()

    def end(self) -> None:
        """End what is being computed."""
        for section in (self.agreement, self.quality):
            section.cancel.set()
        self.wait()


class Section(widgets.VBox):
    """One check: its question, a button where there is no answer yet, and the answer in words and pictures.

    Args:
        check: which one.
        session, run, busy: as in `Checks`.

    Attributes:
        told: the answer; None where there is none yet.
        row: which row the last picture shows, of a comparison of methods.
    """

    def __init__(self, check: Check, session: Callable[[], Session], run: Run, busy: threading.Lock) -> None:
        self.check = check
        self.told: Told | None = None
        self.row: widgets.Dropdown | None = None
        self.cancel = threading.Event()
        self._session, self._run, self._busy = session, run, busy
        self._explanation: Explanation | None = None
        self._made: list[Checked] = []
        self._worker: threading.Thread | None = None
        self.start = widgets.Button(description=check.button)
        self.start.add_class("dls-start")
        self.stop = widgets.Button(description="Stop", tooltip="Keep nothing of it")
        self.stop.layout.display = "none"
        self.message = widgets.HTML()
        self.message.add_class("dls-message")
        self.start.on_click(lambda _: self._begin())
        self.stop.on_click(lambda _: self.cancel.set())
        bar = widgets.HBox([self.start, self.stop, self.message])
        bar.add_class("dls-choices")
        title = f'<h3 class="dls-question">{html.escape(check.question)}</h3>'
        about = f'<div class="dls-words"><p>{html.escape(check.intro)}</p></div>'
        self.body = widgets.VBox()
        self.body.add_class("dls-answer")
        super().__init__([widgets.HTML(title + about), bar, self.body])

    def offer(self, explanation: Explanation, at: int) -> None:
        """Show the answer for an explanation where it is known, else the button."""
        if self._explanation is explanation:
            return
        self.cancel.set()  # an answer to what was shown before is of no use any more
        self._explanation = explanation
        misfit = self.check.misfit(explanation)
        self.start.layout.display, self.start.disabled = "none" if misfit else None, False
        self.start.tooltip = self.check.cost(explanation)
        made = next((result for result in self._made if self.check.fits(result, explanation)), None)
        known = None if misfit else made or self.check.saved(explanation, self._run)
        self._show(known, at)
        if known is None:
            self.message.value = note(misfit or self.check.cost(explanation))
        else:
            self.message.value = note("Not saved with the run." if known is made else "Saved with the run.")

    def wait(self) -> None:
        """Wait until what the button began is done."""
        if self._worker is not None:
            self._worker.join()

    def _begin(self) -> None:
        if self._explanation is None or self.start.disabled:
            return
        self.cancel = threading.Event()
        self.start.disabled, self.stop.layout.display = True, None
        self.message.value = note("Reading the model and the data …")
        self._worker = threading.Thread(target=self._work, args=(self._explanation, self.cancel), daemon=True)
        self._worker.start()

    def _work(self, explanation: Explanation, cancel: threading.Event) -> None:
        def say(markup: str) -> None:
            if self._explanation is explanation:
                self.message.value = markup

        def tell(done: int, of: int) -> None:
            say(note(f"{done} of {of} {self.check.steps} …"))

        started = time.monotonic()
        try:
            with self._busy:
                found = self.check.make(self._session(), explanation, progress=tell, cancel=cancel)
            self._made.append(found)
            if self._explanation is explanation:
                self._show(found, 0)
            say(note(f"Took {time.monotonic() - started:.1f} s. Not saved with the run."))
        except CheckStopped:
            say(note(f"Stopped. {self.check.cost(explanation)}"))
        except Exception as error:
            # A click has no cell to print a traceback under: whatever went wrong is said beside the button.
            say(complaint(error))
        finally:
            if self._explanation is explanation:
                self.start.disabled, self.stop.layout.display = False, "none"

    def _show(self, result: Checked | None, at: int) -> None:
        for part in self.body.children:
            put_away(part)
        self.told, self.row = None, None
        self.stop.layout.display = "none"
        if result is not None:
            self.start.layout.display = None if self.check.unfinished(result) else "none"
            self.told = Told(result)
            if isinstance(result, AgreementResult) and result.sound.any():
                self._choose_row(self.told, result, at)
        self.body.children = () if self.told is None else (self.told,)

    def _choose_row(self, told: Told, result: AgreementResult, at: int) -> None:
        """Let the reader say which row is shown by all methods; to begin with the one they look at, if it is there."""
        explanation = self._explanation
        assert explanation is not None
        names = row_names(result, explanation)
        looked_at = result.rows.tolist().index(row) if (row := int(explanation.rows[at])) in result.rows else 0
        *before, above, chart = told.children

        def draw(place: int) -> None:
            words, figure = compared(result, place, names[place])
            above.value = caption(words)
            told.charts[-1].draw(figure, words)

        self.row = widgets.Dropdown(
            description="Row", options=[(name, place) for place, name in enumerate(names)], value=looked_at
        )
        pick = widgets.HBox([self.row])
        pick.add_class("dls-pick")
        told.children = (*before, pick, above, chart)
        self.row.observe(lambda change: draw(change["new"]), "value")
        draw(looked_at)


def put_away(part: widgets.Widget) -> None:
    """Take a widget and all its parts from the page."""
    for child in getattr(part, "children", ()):
        put_away(child)
    part.close()
