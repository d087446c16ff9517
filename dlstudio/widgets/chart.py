"""A plotly figure in a notebook that leaves nothing of itself in the saved file."""

from __future__ import annotations

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

    Attributes:
        figure: what is shown, or None.
    """

    _esm = "\n".join((_STATIC / name).read_text(encoding="utf-8") for name in ("page.js", "figure.js"))
    alt = traitlets.Unicode().tag(sync=True)
    """What the figure shows, for those who cannot see it."""

    def __init__(self, **traits: Any) -> None:
        super().__init__(**traits)
        self.figure: go.Figure | None = None
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

    def _tell(self) -> None:
        if self.figure is not None:
            self.send({"type": "figure"}, [self.figure.to_json().encode()])
