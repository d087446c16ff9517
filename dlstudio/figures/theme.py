"""One look for every figure: a colour-blind safe palette, one accent, quiet axes. Registered on import."""

from __future__ import annotations

import html
from typing import Any

import numpy as np
import numpy.typing as npt
import plotly.graph_objects as go
import plotly.io as pio

__all__ = [
    "ACCENT", "FONT", "PALETTE", "STATUS_COLORS", "apply", "color", "escape", "note", "or_note", "short", "translucent",
    "xs",
]  # fmt: skip

INK, MUTED, LINE, SURFACE, PAGE = "#1b2733", "#5b6b7a", "#e3e8ee", "#ffffff", "#f7f9fb"
ACCENT = "#0072b2"
PALETTE = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000", "#f0e442")
"""Okabe and Ito's eight colours, which people with any colour vision can tell apart."""
STATUS_COLORS = {
    "QUEUED": "#5b6b7a",
    "RUNNING": "#0072b2",
    "PAUSED": "#e69f00",
    "FINISHED": "#009e73",
    "FAILED": "#d55e00",
    "KILLED": "#7a3e9d",
}
SEVERITY_COLORS = {"info": "#0072b2", "warning": "#e69f00", "critical": "#d55e00"}
FONT = 'system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif'
SEQUENTIAL = "Viridis"

_AXIS = {
    "gridcolor": LINE,
    "linecolor": "#c3ccd5",
    "showline": True,
    "ticks": "outside",
    "tickcolor": "#c3ccd5",
    "ticklen": 4,
    "zeroline": False,
    "automargin": True,
    "title": {"font": {"size": 12, "color": MUTED}, "standoff": 10},
    "tickfont": {"size": 11, "color": MUTED},
}
pio.templates["dlstudio"] = go.layout.Template(
    layout={
        "font": {"family": FONT, "size": 13, "color": INK},
        "title": {"font": {"size": 15, "color": INK}, "x": 0, "xref": "paper", "xanchor": "left"},
        "colorway": list(PALETTE),
        "paper_bgcolor": SURFACE,
        "plot_bgcolor": SURFACE,
        "xaxis": _AXIS,
        "yaxis": _AXIS,
        "margin": {"l": 64, "r": 20, "t": 34, "b": 48},
        "legend": {
            "orientation": "h",
            "x": 1,
            "xanchor": "right",
            "y": 1.02,
            "yanchor": "bottom",
            "bgcolor": "rgba(0,0,0,0)",
            "font": {"size": 12, "color": INK},
        },
        "hoverlabel": {
            "bgcolor": SURFACE,
            "bordercolor": LINE,
            "font": {"family": FONT, "size": 12, "color": INK},
        },
        "colorscale": {"sequential": SEQUENTIAL},
    }
)


def apply(
    figure: go.Figure,
    *,
    title: str = "",
    x_title: str | None = None,
    y_title: str | None = None,
    height: int = 340,
) -> go.Figure:
    """Give a figure the studio's look; afterwards it is legible on its own, on a light and on a dark page.

    Args:
        figure: the figure to change.
        title: plain text; it is escaped here.
        x_title, y_title: axis titles with their unit, escaped here; None leaves the axes as they are.
        height: in pixels.

    Returns:
        The same figure.
    """
    # The zoom a reader has chosen stays while a live figure is drawn again.
    figure.update_layout(template="dlstudio", height=height, uirevision="keep", title_text=escape(title) or None)
    if x_title is not None:
        figure.update_xaxes(title_text=escape(x_title))
    if y_title is not None:
        figure.layout.yaxis.title.text = escape(y_title)
    return figure


def escape(text: object) -> str:
    """Make any text inert for plotly, which reads a subset of HTML in titles, names, ticks and hover texts.

    Example:
        >>> escape("<b>run</b>")
        '&lt;b&gt;run&lt;/b&gt;'
    """
    return html.escape(str(text), quote=False)


def short(text: object, most: int) -> str:
    """Cut text to what fits beside a picture; it is not escaped yet.

    Example:
        >>> short("a very long name", 8)
        'a very …'
    """
    text = str(text)
    return text if len(text) <= most else f"{text[: most - 1]}…"


def note(figure: go.Figure, words: str) -> go.Figure:
    """Write words, escaped already, into the middle of an empty figure."""
    return figure.add_annotation(
        text=words, showarrow=False, xref="paper", yref="paper", x=0.5, y=0.5, font={"color": MUTED}
    )


def or_note(figure: go.Figure, words: str) -> go.Figure:
    """Say in a figure that draws nothing why; words are escaped already."""
    if not figure.data:
        note(figure, words)
        figure.update_layout(height=160)
        figure.update_xaxes(visible=False)
        figure.update_yaxes(visible=False)
    return figure


def color(position: int) -> str:
    """The categorical colour at a position, going round after eight."""
    return PALETTE[position % len(PALETTE)]


def translucent(hex_color: str, opacity: float) -> str:
    """A hex colour as CSS ``rgba(…)``."""
    red, green, blue = (int(hex_color[at : at + 2], 16) for at in (1, 3, 5))
    return f"rgba({red},{green},{blue},{opacity:g})"


def xs(values: npt.ArrayLike) -> npt.NDArray[Any]:
    """Steps as int32, else float64: plotly would send int64 as a slow list of JSON numbers."""
    array = np.asarray(values)
    if array.dtype.kind in "iu" and (not array.size or abs(array).max() < 2**31):
        return array.astype(np.int32)
    return array.astype(np.float64)
