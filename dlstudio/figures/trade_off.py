"""What a smaller gap between groups costs in accuracy, and what an operating point changes for whom."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import plotly.graph_objects as go

from dlstudio.errors import DLStudioError
from dlstudio.fairness.mitigation.trade_off_result import SPOKEN, TradeOff
from dlstudio.figures import theme
from dlstudio.figures.theme import ACCENT, MUTED, PALETTE, color, escape

__all__ = ["operating_point", "trade_off"]

Array = npt.NDArray[np.float64]

SYMBOLS = ("square", "diamond", "triangle-up", "star")


def trade_off(result: TradeOff, at: int | None = None) -> go.Figure:
    """Draw accuracy over the gap, judged on rows that nothing was fitted on. Up and left is better.

    The model as it is, variants and the chosen point have bars: the intervals of both numbers.

    Args:
        result: what `dlstudio.trade_off` returned.
        at: the chosen point, if any.

    Raises:
        DLStudioError: there is no such point.
    """
    _checked(result, at)
    figure = go.Figure()
    kinds = np.array(result.kinds)
    path = np.flatnonzero((kinds == "thresholds") & np.isfinite(result.gap))
    hover = "%{text}<br>gap %{x:.3f}, accuracy %{customdata:.1f} %<extra></extra>"
    if len(path):
        figure.add_scatter(
            x=result.gap[path],
            y=result.accuracy[path],
            mode="lines+markers",
            name="thresholds by group",
            line={"color": ACCENT, "width": 1.5},
            marker={"size": 7, "color": ACCENT},
            text=[escape(result.names[place]) for place in path],
            customdata=100 * result.accuracy[path],
            hovertemplate=hover,
        )
    for number, place in enumerate(np.flatnonzero(kinds == "variant")):
        _point(figure, result, int(place), color(number + 2), SYMBOLS[number % len(SYMBOLS)], 11)
    _point(figure, result, 0, MUTED, "x", 11)
    if at is not None and at:
        _point(figure, result, at, PALETTE[1], "circle-open", 17, name="chosen")
    theme.apply(
        figure,
        x_title=f"{SPOKEN[result.criterion].capitalize()} (0 to 1; smaller is better)",
        y_title=f"Accuracy (share of {result.n_rows:,} rows)",
        height=400,
    )
    figure.update_xaxes(rangemode="tozero")
    figure.update_yaxes(tickformat=".1%")
    figure.update_layout(margin_t=56)
    return figure


def operating_point(result: TradeOff, at: int) -> go.Figure:
    """Draw the share of every group that is given class 1, as the model is and at a point, with intervals.

    Of groups with too few rows to be compared only the name is there.

    Args:
        result: what `dlstudio.trade_off` returned.
        at: the point.

    Raises:
        DLStudioError: there is no such point.
    """
    _checked(result, at)
    listed = np.flatnonzero(result.counts[0, :, 0] > 0)
    heights = np.flatnonzero(result.compared[listed])
    there = listed[heights]
    rates, low, high = result.selection_rate, result.selection_low, result.selection_high
    figure = go.Figure()
    # Beside each other, not over each other, where little changes.
    drawn = [(0, "as it is", MUTED, "x", -0.12), (at, "at this point", ACCENT, "circle", 0.12)]
    for point, name, paint, symbol, shift in drawn if at else drawn[:1]:
        figure.add_scatter(
            x=rates[point, there],
            y=heights + shift,
            mode="markers",
            name=name,
            marker={"color": paint, "size": 10, "symbol": symbol},
            error_x={
                "array": high[point, there] - rates[point, there],
                "arrayminus": rates[point, there] - low[point, there],
                "color": paint,
                "thickness": 1.5,
                "width": 3,
            },
            customdata=100 * rates[point, there],
            text=[escape(f"{result.groups[place]}, {result.counts[0, place, 0]:,} rows") for place in there],
            hovertemplate=f"%{{text}}<br>{name} %{{customdata:.1f}} %<extra></extra>",
        )
    theme.apply(
        figure,
        x_title=f"Share that is given “{result.positive}” ({100 * result.level:g} % intervals)",
        y_title=result.sensitive_feature,
        height=130 + 46 * max(len(listed), 2),
    )
    figure.update_xaxes(tickformat=".0%", range=[-0.02, 1.02])
    figure.update_yaxes(
        tickvals=list(range(len(listed))),
        ticktext=[
            escape(result.groups[place] + ("" if result.compared[place] else " (too few rows)")) for place in listed
        ],
        range=[len(listed) - 0.5, -0.5],
        showgrid=False,
    )
    figure.update_layout(margin_t=44)
    return figure


def _point(
    figure: go.Figure, result: TradeOff, at: int, paint: str, symbol: str, size: int, name: str | None = None
) -> None:
    gap, accuracy = result.gap[at : at + 1], result.accuracy[at : at + 1]
    figure.add_scatter(
        x=gap,
        y=accuracy,
        mode="markers",
        name=escape(name or result.names[at]),
        marker={"color": paint, "size": size, "symbol": symbol, "line": {"width": 2, "color": paint}},
        error_x=_bars(gap, np.maximum(result.gap_low[at : at + 1], 0), result.gap_high[at : at + 1], paint),
        error_y=_bars(accuracy, result.accuracy_low[at : at + 1], result.accuracy_high[at : at + 1], paint),
        text=[escape(result.names[at])],
        customdata=100 * accuracy,
        hovertemplate="%{text}<br>gap %{x:.3f}, accuracy %{customdata:.1f} %<extra></extra>",
    )


def _bars(middle: Array, low: Array, high: Array, paint: str) -> dict[str, object]:
    return {"array": high - middle, "arrayminus": middle - low, "color": paint, "thickness": 1.2, "width": 4}


def _checked(result: TradeOff, at: int | None) -> None:
    if at is not None and not 0 <= at < len(result):
        raise DLStudioError(f"a point from 0 to {len(result) - 1}", f"at={at}", "Choose one of the points.")
