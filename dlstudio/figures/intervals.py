"""Means and differences with their intervals, one row each: how comparisons and ablations are drawn."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import plotly.graph_objects as go

from dlstudio.figures.theme import ACCENT, MUTED, PALETTE, escape, translucent
from dlstudio.repetitions import BETTER, EQUIVALENT, NOT_ENOUGH, NOT_SHOWN, WORSE

__all__ = ["contrasts", "dots", "means", "named"]

Values = npt.NDArray[np.float64]

_MARKS = {
    BETTER: (PALETTE[2], "triangle-right"),
    WORSE: (PALETTE[1], "triangle-left"),
    EQUIVALENT: (ACCENT, "square"),
    NOT_SHOWN: (MUTED, "circle"),
    NOT_ENOUGH: (PALETTE[4], "circle-open"),
}
"""The colour and the form of every verdict."""


def dots(figure: go.Figure, x: Sequence[float] | Values, rows: Sequence[int], texts: list[str], name: str) -> None:
    """Draw single repetitions, pale, a little below the row they belong to."""
    figure.add_scatter(
        x=np.asarray(x, dtype=np.float64),
        y=np.asarray(rows, dtype=np.float64) + 0.22,
        mode="markers",
        name=name,
        marker={"color": translucent(ACCENT, 0.35), "size": 7},
        text=texts,
        hovertemplate="%{text}<br>%{x:.5g}<extra></extra>",
    )


def means(figure: go.Figure, mean: Values, low: Values, high: Values, texts: list[str], name: str) -> None:
    """Draw the mean of every row, from the top, with its interval."""
    figure.add_scatter(
        x=mean,
        y=np.arange(len(mean), dtype=np.float64),
        mode="markers",
        name=name,
        marker={"color": ACCENT, "size": 10, "symbol": "diamond"},
        error_x={"array": high - mean, "arrayminus": mean - low, "color": ACCENT, "thickness": 1.6, "width": 4},
        text=texts,
        hovertemplate="%{text}<br>%{x:.5g}<extra></extra>",
    )


def contrasts(
    figure: go.Figure, at: Values, low: Values, high: Values, *, verdicts: list[str], texts: list[str],
    margin: float | None,
) -> None:  # fmt: skip
    """Draw the difference of every row with its interval, by verdict; differences within the margin lie in a band."""
    if margin is not None:
        figure.add_vrect(x0=-margin, x1=margin, fillcolor=translucent(ACCENT, 0.08), line_width=0, layer="below")
    figure.add_vline(x=0, line={"color": MUTED, "width": 1, "dash": "dot"})
    for verdict, (paint, symbol) in _MARKS.items():
        rows = np.flatnonzero(np.array(verdicts, dtype=object) == verdict)
        if not len(rows):
            continue
        figure.add_scatter(
            x=at[rows],
            y=rows.astype(np.float64),
            mode="markers",
            name=verdict,
            marker={"color": paint, "size": 11, "symbol": symbol},
            error_x={
                "array": (high - at)[rows],
                "arrayminus": (at - low)[rows],
                "color": paint,
                "thickness": 1.8,
                "width": 4,
            },
            text=[texts[row] for row in rows],
            hovertemplate="%{text}<extra></extra>",
        )
    figure.update_layout(showlegend=True)


def named(figure: go.Figure, names: list[str]) -> None:
    """Name every row, from the top; the names are escaped here."""
    figure.update_yaxes(
        tickvals=list(range(len(names))),
        ticktext=[escape(name) for name in names],
        range=[len(names) - 0.4, -0.6],
        showgrid=False,
    )
    figure.update_layout(legend={"y": 1.01}, margin_t=48)
