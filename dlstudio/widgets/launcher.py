"""The form that starts a training run."""

from __future__ import annotations

import html
import threading
from typing import Any

import ipywidgets as widgets

from dlstudio.errors import DLStudioError
from dlstudio.runs.run import Run
from dlstudio.training.launch import launch
from dlstudio.training.recipe import Recipe
from dlstudio.widgets.form import CARDS, code, controls
from dlstudio.widgets.live import LiveView
from dlstudio.widgets.sheets import style


class Launcher(widgets.VBox):
    """A form made from the recipe's schema, with the code it stands for; *Start* launches in the background.

    Attributes:
        fields: the controls by field name.
        run: the run that was started last, or None.
    """

    def __init__(self) -> None:
        self.fields = controls()
        self.run: Run | None = None
        self._started: list[str] = []
        self._lock = threading.Lock()
        self.start = widgets.Button(description="Start", tooltip="Launch this training in the background")
        self.start.add_class("dls-start")
        self.message = widgets.HTML()
        self.message.add_class("dls-message")
        self.code = widgets.HTML()
        self.view = widgets.VBox()
        placed = {name for names in CARDS.values() for name in names}
        more = [name for name in self.fields if name not in placed]
        cards = widgets.HBox([self._card(title, names) for title, names in CARDS.items()])
        cards.add_class("dls-cards")
        rest = widgets.VBox([self.fields[name] for name in more])
        rest.add_class("dls-more")
        self.more = widgets.Accordion([rest], titles=("More",), selected_index=None)
        foot = widgets.HBox([self.start, self.message])
        foot.add_class("dls-foot")
        look = widgets.HTML(style("frame.css", "launcher.css"))
        form = widgets.VBox([look, cards, self.more, self.code, foot])
        form.add_class("dls-launcher")
        super().__init__([form, self.view])
        for field in self.fields.values():
            field.control.observe(self._changed, "value")
        self.start.on_click(self._start)
        self._changed()

    def _card(self, title: str, names: tuple[str, ...]) -> widgets.VBox:
        card = widgets.VBox([widgets.HTML(f"<h4>{html.escape(title)}</h4>"), *(self.fields[name] for name in names)])
        card.add_class("dls-form-card")
        return card

    def recipe(self) -> Recipe | None:
        """The recipe as the form stands, or None where something in it is wrong; what is wrong is shown."""
        values: dict[str, Any] = {}
        wrong = []
        for name, field in self.fields.items():
            try:
                values[name] = field.value()
                field.show_error(None)
            except DLStudioError as error:
                field.show_error(str(error))
                wrong.append(field.field.label)
        if wrong:
            self._say(f"Correct first: {', '.join(wrong)}.", wrong=True)
            return None
        try:
            recipe = Recipe(**values)
        except DLStudioError as error:
            self._say(str(error), wrong=True)
            return None
        self.code.value = (
            f'<div class="dls-code"><span>The same in code</span><pre>{html.escape(code(values))}</pre></div>'
        )
        return recipe

    def _changed(self, _: Any = None) -> None:
        self._say("")
        self.start.disabled = self.recipe() is None

    def _say(self, words: str, *, wrong: bool = False) -> None:
        kind, role = ("dls-error", "alert") if wrong else ("dls-said", "status")
        self.message.value = f'<span class="{kind}" role="{role}">{html.escape(words)}</span>' if words else ""

    def _start(self, _: widgets.Button) -> None:
        # A second click waits for the first: each starts a run of its own, and only the latest is shown.
        with self._lock:
            recipe = self.recipe()
            if recipe is None:
                return
            try:
                self.run = launch(recipe)
                view = LiveView(self.run)
            except Exception as error:
                # A click has no cell to print a traceback under: whatever went wrong is said beside the button.
                self._say(str(error) if isinstance(error, DLStudioError) else repr(error), wrong=True)
                return
            earlier, self.view.children = self.view.children, (view,)
            for widget in earlier:
                widget.close()
            others = f" Started before: {', '.join(self._started[-5:])}." if self._started else ""
            self._say(f"Started {self.run.name} ({self.run.key}). It goes on if you close this page.{others}")
            self._started.append(self.run.name)


def launcher() -> Launcher:
    """Show a form that starts training runs; in a notebook it appears under the cell.

    It offers every field of a `Recipe` with its range, the data sets and models that come with dlstudio, and the
    devices of this machine with their free memory. *Start* returns at once; the run is detached and appears below
    as a live view. `show` finds it again after a restart of the kernel.

    Returns:
        The form.

    Example:
        >>> dls.launcher()
    """
    return Launcher()
