"""A comparison in a notebook: its words, pictures and tables, and a button for the seeds that it lacks."""

from __future__ import annotations

import html
import threading
from typing import Any

import ipywidgets as widgets

from dlstudio.compare.missing import MissingSeed, missing_seeds
from dlstudio.compare.result import Comparison
from dlstudio.compare.words import listed
from dlstudio.runs.run import Run
from dlstudio.training.launch import launch
from dlstudio.widgets.card import Told
from dlstudio.widgets.markup import complaint, note
from dlstudio.widgets.sheets import style

__all__ = ["ComparisonCard"]

_FEW = 10


class ComparisonCard(Told):
    """A comparison with the seeds that are missing, which *Train them* launches in the background.

    Args:
        result: what `dlstudio.compare` returned.

    Attributes:
        missing: the seeds that variants lack.
        launch: the button; hidden where nothing can be launched.
        launched: the runs that it started.

    Example:
        >>> card = ComparisonCard(dls.compare(metric="val/auc"))
        >>> [(one.variant, one.seed) for one in card.missing]
        [('dropout', 3)]
    """

    children: Any

    def __init__(self, result: Comparison) -> None:
        super().__init__(result, widgets.HTML(style("frame.css", "explorer.css")))
        self.add_class("dls-explorer")
        self.missing: tuple[MissingSeed, ...] = missing_seeds(result)
        self.launched: list[Run] = []
        self._lock = threading.Lock()
        able = [one.recipe for one in self.missing if one.recipe is not None]
        self._waiting = list(able)
        self.launch = widgets.Button(
            description=f"Train {'it' if len(able) == 1 else 'them'}",
            tooltip="Launch these trainings in the background, one after the other",
        )
        self.launch.add_class("dls-start")
        self.message = widgets.HTML()
        self.message.add_class("dls-message")
        if not self.missing:
            return
        if not able:
            self.launch.layout.display = "none"
        foot = widgets.HBox([self.launch, self.message])
        foot.add_class("dls-choices")
        box = widgets.VBox([widgets.HTML(_told(self.missing)), foot])
        box.add_class("dls-missing")
        style_sheet, words, *rest = self.children
        self.children = (style_sheet, words, box, *rest)
        self.launch.on_click(lambda _: self._start())

    def _start(self) -> None:
        with self._lock:  # a second click waits, and then finds nothing left to start
            if self.launch.disabled:
                return
            self.launch.disabled = True
            try:
                while self._waiting:
                    self.launched.append(launch(self._waiting[0]))
                    self._waiting.pop(0)
            except Exception as error:
                # A click has no cell to print a traceback under: whatever went wrong is said beside the button.
                self.message.value = complaint(error)
                self.launch.disabled = False
                return
            names = listed((run.name for run in self.launched), _FEW)
            self.message.value = note(f"Started {names}. Compare again once they have finished.")


def _told(missing: tuple[MissingSeed, ...]) -> str:
    seeds: dict[str, list[str]] = {}
    for one in missing:
        seeds.setdefault(one.variant, []).append(str(one.seed))
    lines = [f"{name}: {listed(some, _FEW)}" for name, some in list(seeds.items())[:_FEW]]
    more = f"; and {len(seeds) - _FEW} more variants" if len(seeds) > _FEW else ""
    why = {one.variant: one.why_not for one in missing if one.why_not}
    cannot = "".join(f" {name} cannot be trained from here: {reason}." for name, reason in list(why.items())[:_FEW])
    words = f"{'; '.join(lines)}{more}.{cannot}"
    return f'<p class="dls-question">Missing seeds</p><p class="dls-said">{html.escape(words)}</p>'
