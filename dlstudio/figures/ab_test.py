"""A/B tests: what a plan can show, and where a running test stands."""

from __future__ import annotations

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from dlstudio.compare.planning import ABPlan
from dlstudio.compare.sequential import SequentialTest
from dlstudio.figures import theme
from dlstudio.figures.theme import ACCENT, MUTED, PALETTE, translucent, xs

__all__ = ["monitored", "plan"]


def plan(result: ABPlan) -> go.Figure:
    """Draw the power of a planned test over its rows, and over the size of the effect."""
    curve = result.curve
    figure = make_subplots(rows=1, cols=2, shared_yaxes=True, horizontal_spacing=0.06)
    for at, (x, power, here, hover) in enumerate(
        (
            (curve["n_control"], curve["power"], result.n_control, "%{x:,} rows of control"),
            (curve["effect"], curve["power_of_effect"], result.effect, "effect %{x:.4g}"),
        ),
        start=1,
    ):
        figure.add_scatter(
            x=xs(x),
            y=power,
            mode="lines",
            line={"color": ACCENT, "width": 2},
            hovertemplate=f"{hover}<br>power %{{y:.1%}}<extra></extra>",
            showlegend=False,
            row=1,
            col=at,
        )
        figure.add_scatter(
            x=[here],
            y=[result.power],
            mode="markers",
            marker={"color": PALETTE[1], "size": 11, "symbol": "diamond"},
            hovertemplate=f"the plan: {hover}<br>power %{{y:.1%}}<extra></extra>",
            showlegend=False,
            row=1,
            col=at,
        )
    theme.apply(figure, y_title="Chance to show the effect", height=340)
    figure.update_yaxes(tickformat=".0%", range=[0, 1.03])
    figure.update_xaxes(title_text="Rows of the control arm", type="log", row=1, col=1)
    figure.update_xaxes(title_text="Effect (treatment less control)", row=1, col=2)
    return figure


def monitored(result: SequentialTest) -> go.Figure:
    """Draw the difference of two arms at every look, with the interval that holds at all looks together."""
    rows = result.n_a + result.n_b
    known = np.isfinite(result.low) & np.isfinite(result.high)
    figure = go.Figure()
    outline = {"mode": "lines", "line_width": 0, "showlegend": False, "hoverinfo": "skip"}
    figure.add_scatter(x=xs(rows[known]), y=result.high[known], **outline)
    figure.add_scatter(
        x=xs(rows[known]), y=result.low[known], fill="tonexty", fillcolor=translucent(ACCENT, 0.16), **outline
    )
    figure.add_scatter(
        x=xs(rows),
        y=result.difference,
        mode="lines+markers",
        line={"color": ACCENT, "width": 2},
        marker={"size": 5},
        customdata=np.stack([result.low, result.high, result.p_value], axis=1),
        hovertemplate="%{x:,} rows<br>%{y:.4g} (%{customdata[0]:.4g} to %{customdata[1]:.4g})"
        "<br>p = %{customdata[2]:.3g} at any look<extra></extra>",
        showlegend=False,
    )
    figure.add_hline(y=0, line={"color": MUTED, "width": 1, "dash": "dot"})
    if result.margin is not None:
        figure.add_hrect(y0=-result.margin, y1=result.margin, fillcolor=translucent(MUTED, 0.1), line_width=0)
    theme.apply(
        figure,
        x_title="Rows of both arms so far",
        y_title=f"Difference, B less A ({100 * result.level:g} % at all looks)",
        height=360,
    )
    if result.kind == "proportion":
        figure.update_yaxes(tickformat=".1%")
    return figure
