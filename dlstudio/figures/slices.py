"""Slices of the rows: how much worse each is than elsewhere, with its interval."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import plotly.graph_objects as go

from dlstudio.figures import theme
from dlstudio.figures.theme import ACCENT, MUTED, PALETTE, escape, note, short
from dlstudio.trust.slice_result import RATE, SliceResult
from dlstudio.wording import p_words, percent

__all__ = ["slices"]

LABEL = 44


def slices(result: SliceResult, top: int = 15) -> go.Figure:
    """Draw how far the mean loss of each slice lies above that elsewhere, the strongest evidence on top.

    Full orange diamonds are slices shown to be worse, open blue circles those not shown; the whiskers are intervals
    that are wide enough for all slices tested together.

    Args:
        result: what `dlstudio.find_slices` returned.
        top: how many to draw.
    """
    n = min(top, len(result))
    rate = result.measure == RATE
    scale = 100 if rate else 1
    gaps, low, high = (scale * values[:n] for values in (result.difference, result.low, result.high))
    figure = go.Figure()
    for name, shown, paint, symbol in (
        ("worse than elsewhere", True, PALETTE[1], "diamond"),
        ("not shown to be worse", False, ACCENT, "circle-open"),
    ):
        places = np.flatnonzero(result.shown[:n] == shown)
        if len(places):
            figure.add_scatter(
                x=gaps[places],
                y=places.astype(np.int32),
                mode="markers",
                name=name,
                marker={"size": 10, "color": paint, "symbol": symbol, "line": {"width": 1.5, "color": paint}},
                error_x={
                    "array": (high - gaps)[places],
                    "arrayminus": (gaps - low)[places],
                    "color": paint,
                    "thickness": 1.5,
                    "width": 4,
                },
                text=[_hover(result, int(place)) for place in places],
                hovertemplate="%{text}<extra></extra>",
            )
    unit = "percentage points" if rate else "unit of the loss"
    theme.apply(
        figure,
        x_title=f"{result.measure.capitalize()} above that elsewhere ({unit})",
        y_title="Slice (rows)",
        height=130 + 26 * max(n, 4),
    )
    labels = [f"{short(result.slices[place], LABEL)} ({result.n[place]:,})" for place in range(n)]
    figure.update_yaxes(
        tickvals=np.arange(n, dtype=np.int32),
        ticktext=[escape(label) for label in labels],
        range=[max(n, 1) - 0.5, -0.5],
        showgrid=False,
    )
    figure.add_vline(0, line={"color": MUTED, "width": 1}, layer="below")
    if result.threshold:
        figure.add_vline(scale * result.threshold, line={"color": MUTED, "width": 1, "dash": "dash"}, layer="below")
    figure.update_layout(margin_t=48, showlegend=True)
    if n:
        _range(figure, low, high)
    else:
        note(figure, f"No slice has {result.min_rows:,} rows or more")
    return figure


def _range(figure: go.Figure, low: npt.NDArray[np.float64], high: npt.NDArray[np.float64]) -> None:
    """Show all whiskers and 0, with a little air."""
    start, end = min(0.0, float(np.nanmin(low))), max(0.0, float(np.nanmax(high)))
    air = 0.04 * max(end - start, 1e-12)
    figure.update_xaxes(range=[start - air, end + air])


def _hover(result: SliceResult, place: int) -> str:
    said = percent if result.measure == RATE else "{:.4g}".format
    lines = [
        f"{result.slices[place]} ({result.n[place]:,} rows)",
        f"{result.measure} {said(result.value[place])}, elsewhere {said(result.elsewhere[place])}",
        f"{p_words(result.p_adjusted[place])} after correction for {result.n_tested:,} slices",
    ]
    if result.within[place] >= 0:
        lines.append(f"worse still than the rest of: {result.slices[result.within[place]]}")
    return "<br>".join(map(escape, lines))
