"""A plotly figure in a notebook that leaves nothing of itself in the saved file."""

from __future__ import annotations

from collections.abc import Callable
from importlib import resources
from typing import TYPE_CHECKING, Any

import anywidget
import traitlets

from dlstudio.widgets.live import plotly_source

if TYPE_CHECKING:
    import plotly.graph_objects as go

__all__ = ["Chart"]

_STATIC = resources.files("dlstudio.widgets") / "static"


class Chart(anywidget.AnyWidget):
    """A place for one figure after another; the browser asks for the figure when it shows the place.

    The figure travels as a message and is never widget state, so a saved notebook stays small.

    Args:
        on_pick: called with every place of a figure that is clicked: ``axes``, the value on each axis by its name in
            plotly; ``exact``, whether a point lies there; ``trial``, what the point has as ``customdata``, or None.

    Attributes:
        figure: what is shown, or None.
    """

    _esm = "\n".join((_STATIC / name).read_text(encoding="utf-8") for name in ("page.js", "figure.js"))
    alt = traitlets.Unicode().tag(sync=True)
    """What the figure shows, for those who cannot see it."""

    picking = traitlets.Bool(False).tag(sync=True)
    """Whether clicks are told."""

    def __init__(self, on_pick: Callable[[dict[str, Any]], None] | None = None, **traits: Any) -> None:
        super().__init__(picking=on_pick is not None, **traits)
        self.figure: go.Figure | None = None
        self._on_pick = on_pick
        self.on_msg(self._receive)

    def draw(self, figure: go.Figure, alt: str) -> None:
        """Show a figure in place of the one before."""
        self.figure = figure
        self.alt = alt
        self._tell()

    def _receive(self, _: Any, content: dict[str, Any], buffers: list[Any]) -> None:
        if content.get("type") == "plotly":
            self.send({"type": "plotly", "client": str(content.get("client", ""))}, [plotly_source()])
        elif content.get("type") == "figure":
            self._tell()
        elif content.get("type") == "pick" and self._on_pick is not None:
            self._on_pick(content)

    def _tell(self) -> None:
        if self.figure is not None:
            self.send({"type": "figure"}, [self.figure.to_json().encode()])
