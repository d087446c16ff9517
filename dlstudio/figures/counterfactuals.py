"""The figure of a `CounterfactualResult`: what would have to change, side by side."""

from __future__ import annotations

import textwrap

import numpy as np
import plotly.graph_objects as go

from dlstudio.explain.counterfactuals.result import CounterfactualResult, shown
from dlstudio.figures import theme
from dlstudio.figures.theme import MUTED, SURFACE, escape
from dlstudio.figures.verdict import INK_ON_COLOR

__all__ = ["counterfactuals"]

DIVERGING = ((0.0, "#0072b2"), (0.5, "#ffffff"), (1.0, "#d55e00"))
ROW_PX = 34


def counterfactuals(result: CounterfactualResult) -> go.Figure:
    """Draw a table of changes: a column for each counterfactual, the nearest first, a row for each column changed.

    A cell says from what to what; its colour how far, vermilion upwards and blue downwards, grey for another category.
    Without counterfactuals the figure says why there is none.

    Example:
        >>> figures.counterfactuals.counterfactuals(dls.find_counterfactuals(run, row=17)).show()
    """
    figure = go.Figure()
    if not len(result):
        theme.apply(figure, height=160)
        why = "<br>".join(map(escape, textwrap.wrap(result.reason, 70)))
        figure.add_annotation(
            text=why, showarrow=False, xref="paper", yref="paper", x=0.5, y=0.5, font={"color": MUTED, "size": 14}
        )
        figure.update_xaxes(visible=False)
        figure.update_yaxes(visible=False)
        return figure
    order = np.lexsort((-result.changed.sum(axis=0), result.changed.argmax(axis=0)))
    rows = [at for at in order.tolist() if result.changed[:, at].any()]
    heads = [
        f"{escape(decision)}<br>{distance:.3g} away"
        for decision, distance in zip(result.decisions, result.distance.tolist(), strict=True)
    ]
    names = [escape(result.columns[at]) for at in rows]
    shifts = np.where(result.changed, result.shifts, np.nan).T[rows]
    nominal = np.array([isinstance(result.original[at], str) for at in rows])
    texts = [[_cell(result, number, at) for number in range(len(result))] for at in rows]
    reach = float(np.nanmax(np.abs(shifts)))
    common = {"x": list(range(len(result))), "y": list(range(len(rows))), "xgap": 3, "ygap": 3, "hoverongaps": False}
    figure.add_heatmap(
        **common,
        z=np.where(nominal[:, None], np.nan, shifts),
        text=texts,
        colorscale=DIVERGING,
        zmin=-reach,
        zmax=reach,
        colorbar={
            "title": {"text": "Shift (units)", "side": "right", "font": {"size": 12, "color": MUTED}},
            "tickfont": {"size": 11, "color": MUTED},
            "thickness": 12,
            "outlinewidth": 0,
        },
        showscale=not nominal.all(),
        hovertemplate="%{text}<br>%{z:.3g} units<extra></extra>",
    )
    figure.add_heatmap(
        **common,
        z=np.where(nominal[:, None] & np.isfinite(shifts), 1.0, np.nan),
        text=texts,
        colorscale=((0, "#dfe5ec"), (1, "#dfe5ec")),
        showscale=False,
        hovertemplate="%{text}<br>another category<extra></extra>",
    )
    for y, line in enumerate(texts):
        for x, text in enumerate(line):
            if text:
                strong = not nominal[y] and abs(shifts[y, x]) > 0.6 * reach
                font = {"size": 12, "color": SURFACE if strong else INK_ON_COLOR}
                figure.add_annotation(x=x, y=y, text=text, showarrow=False, font=font)
    theme.apply(figure, height=110 + ROW_PX * len(rows))
    figure.update_layout(margin={"t": 84, "b": 16})
    figure.update_xaxes(
        title_text=f"Instead of {escape(result.decision)}: decision, and distance from the row (units)",
        side="top",
        showgrid=False,
        tickvals=list(range(len(result))),
        ticktext=heads,
        range=[-0.5, len(result) - 0.5],
    )
    figure.update_yaxes(
        title_text="Column that changes",
        showgrid=False,
        tickvals=list(range(len(rows))),
        ticktext=names,
        range=[len(rows) - 0.5, -0.5],
    )
    return figure


def _cell(result: CounterfactualResult, number: int, at: int) -> str:
    if not result.changed[number, at]:
        return ""
    return escape(f"{shown(result.original[at])} → {shown(result.values[number][at])}")
