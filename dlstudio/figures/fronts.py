"""Trade-offs between variants: two objectives against each other, or three as colour beside them."""

from __future__ import annotations

import numpy as np
import plotly.graph_objects as go

from dlstudio.compare.fronts import ParetoFront
from dlstudio.figures import theme
from dlstudio.figures.theme import ACCENT, MUTED, escape
from dlstudio.summary.words import label

__all__ = ["front"]

MOST_NAMES = 15


def front(result: ParetoFront) -> go.Figure:
    """Draw what nothing else beats in everything as diamonds joined by a line, and the rest as grey dots.

    Of three objectives the third is the colour of the diamonds.
    """
    names = list(result.objectives)
    on = np.flatnonzero(result.on_front)
    on = on[np.argsort(result.values[on, 0], kind="stable")]
    off = np.flatnonzero(~result.on_front)
    hover = "%{text}<extra></extra>"
    figure = go.Figure()
    figure.add_scatter(
        x=result.values[off, 0],
        y=result.values[off, 1],
        mode="markers",
        name="beaten by another",
        marker={"color": MUTED, "size": 7, "opacity": 0.55},
        text=[_hover(result, int(at)) for at in off],
        hovertemplate=hover,
    )
    third = len(names) == 3
    paint: dict[str, object] = {"color": ACCENT}
    if third:
        bar = {"title": {"text": escape(label(names[2])), "side": "right"}, "thickness": 12}
        paint = {
            "color": result.values[on, 2], "colorscale": theme.SEQUENTIAL, "showscale": True, "colorbar": bar
        }  # fmt: skip
    figure.add_scatter(
        x=result.values[on, 0],
        y=result.values[on, 1],
        mode="markers" + ("" if third else "+lines") + ("+text" if len(on) <= MOST_NAMES else ""),
        name="on the front",
        marker={"size": 12, "symbol": "diamond", **paint},
        line={"color": ACCENT, "width": 1, "dash": "dot"},
        text=[escape(result.names[at][:30]) for at in on],
        textposition="top center",
        customdata=[_hover(result, int(at)) for at in on],
        hovertemplate="%{customdata}<extra></extra>",
    )
    theme.apply(
        figure, x_title=_better(names[0], result), y_title=_better(names[1], result), height=440
    )  # fmt: skip
    return figure.update_layout(showlegend=True, margin_t=56)


def _better(name: str, result: ParetoFront) -> str:
    return f"{label(name)} ({'more' if result.objectives[name] == 'max' else 'less'} is better)"


def _hover(result: ParetoFront, at: int) -> str:
    told = [
        f"{escape(label(name))} {value:.4g}" for name, value in zip(result.objectives, result.values[at], strict=True)
    ]
    beaten = result.dominator[at]
    told += [] if beaten < 0 else [f"beaten by {escape(result.names[beaten])}"]
    return "<br>".join([escape(result.names[at]), *told])
