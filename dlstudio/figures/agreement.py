"""Several explanations of the same rows: how far they agree, and side by side on one scale."""

from __future__ import annotations

import math

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from dlstudio.errors import DLStudioError
from dlstudio.explain.quality.agreement_result import AgreementResult
from dlstudio.figures import theme
from dlstudio.figures.theme import LINE, MUTED, color, escape, short
from dlstudio.figures.verdict import DIVERGING, INK_ON_COLOR, SIZES

__all__ = ["agreement", "side_by_side"]

SYMBOLS = ("circle", "diamond", "square", "triangle-up", "cross", "x", "star", "triangle-down")
COLUMNS = 4
LABEL = 30


def agreement(result: AgreementResult) -> go.Figure:
    """Draw how alike each two methods order the features (left), and how many of the strongest they share (right).

    Methods that were refused are marked with † and count for nothing.

    Args:
        result: what `dlstudio.compare_explanations` returned.
    """
    m = len(result.methods)
    names = [escape(title) + ("" if sound else " †") for title, sound in zip(result.titles, result.sound, strict=True)]
    figure = make_subplots(cols=2, horizontal_spacing=0.09)
    shown = (
        (result.rank_correlation, -1.0, DIVERGING, "Rank correlation", "%{customdata}: %{z:.2f}", ".2f"),
        (result.top_overlap, 0.0, SIZES, f"Shared top {result.k}", "%{customdata}: %{z:.0%} shared", ".0%"),
    )
    for column, (values, least, scale, words, hover, form) in enumerate(shown, start=1):
        drawn = np.where(np.outer(result.sound, result.sound), values, np.nan)
        drawn[np.diag_indices(m)] = np.nan  # every method agrees with itself
        figure.add_heatmap(
            z=drawn,
            x=np.arange(m, dtype=np.int32),
            y=np.arange(m, dtype=np.int32),
            zmin=least,
            zmax=1.0,
            colorscale=[list(stop) for stop in scale],
            showscale=False,
            xgap=2,
            ygap=2,
            hoverongaps=False,
            customdata=[[f"{one} and {other}" for other in names] for one in names],
            hovertemplate=f"{hover}<extra></extra>",
            row=1,
            col=column,
        )
        for row, other in np.argwhere(np.isfinite(drawn)):
            value = float(drawn[row, other])
            dark = abs(value) > 0.62 if least < 0 else value > 0.62
            figure.add_annotation(
                x=int(other), y=int(row), text=format(value, form), showarrow=False, row=1, col=column,
                font={"size": 12, "color": "#ffffff" if dark else INK_ON_COLOR},
            )  # fmt: skip
        figure.update_xaxes(title_text=words, side="bottom", row=1, col=column)
    theme.apply(figure, height=150 + 40 * m)
    figure.update_xaxes(tickvals=list(range(m)), ticktext=names, showgrid=False, ticks="", tickangle=-35)
    figure.update_yaxes(tickvals=list(range(m)), ticktext=names, showgrid=False, ticks="", range=[m - 0.5, -0.5])
    figure.update_yaxes(showticklabels=False, row=1, col=2)
    figure.layout.margin.t = 14
    return figure


def side_by_side(result: AgreementResult, at: int = 0, top: int = 10) -> go.Figure:
    """Draw one row's attributions by every method that was not refused, as shares of the sum of their sizes.

    Images become one map a method; everything else one line a feature with a mark for every method, the features that
    matter most to any of them.

    Args:
        result: what `dlstudio.compare_explanations` returned.
        at: the row, counted within the result.
        top: how many features to show.

    Raises:
        DLStudioError: there is no such row, or every method was refused.
    """
    if not 0 <= at < len(result):
        raise DLStudioError(f"a row from 0 to {len(result) - 1}", f"at={at}", "Choose one of the explained rows.")
    if not result.sound.any():
        raise DLStudioError("a method that was not refused", "none", "See result.verdict_reasons.")
    if result.modality == "image" and len(result.shape) == 2:
        return _maps(result, at)
    return _marks(result, at, top)


def _marks(result: AgreementResult, at: int, top: int) -> go.Figure:
    chosen = np.flatnonzero(result.sound)
    values = result.shares[chosen, at]
    order = np.argsort(-np.abs(values).max(axis=0), kind="stable")[:top]
    names = [escape(short(result.feature_names[place], LABEL)) for place in order]
    figure = go.Figure()
    n = len(chosen)
    for number, (method, row) in enumerate(zip(chosen, values, strict=True)):
        offset = 0.0 if n == 1 else 0.5 * (number / (n - 1) - 0.5)
        figure.add_scatter(
            x=row[order],
            y=np.arange(len(order)) + offset,
            mode="markers",
            name=escape(result.titles[method]),
            marker={"symbol": SYMBOLS[number % len(SYMBOLS)], "size": 9, "color": color(number),
                    "line": {"width": 1, "color": "#ffffff"}},
            text=names,
            hovertemplate="%{fullData.name}<br>%{text}: %{x:.1%}<extra></extra>",
        )  # fmt: skip
    figure.add_vline(0, line={"color": MUTED, "width": 1}, layer="below")
    theme.apply(
        figure,
        x_title="Attribution (share of the sum of all sizes in the row)",
        y_title="Token" if result.modality == "text" else "Feature",
        height=140 + 32 * len(order),
    )
    figure.update_xaxes(tickformat=".0%")
    figure.update_yaxes(
        tickvals=list(range(len(names))), ticktext=names, range=[len(names) - 0.5, -0.5], gridcolor=LINE
    )
    figure.layout.margin.t = 44 + 22 * (n // 4)
    return figure


def _maps(result: AgreementResult, at: int) -> go.Figure:
    chosen = np.flatnonzero(result.sound)
    columns = min(COLUMNS, len(chosen))
    rows = math.ceil(len(chosen) / columns)
    maps = result.shares[chosen, at].reshape(-1, *result.shape)
    # One scale for all; a few loud pixels of one method must not wash out the others.
    limit = float(np.quantile(np.abs(maps), 0.995)) or float(np.abs(maps).max()) or 1.0
    figure = make_subplots(
        rows=rows,
        cols=columns,
        subplot_titles=[escape(result.titles[method]) for method in chosen],
        horizontal_spacing=0.03,
        vertical_spacing=0.09,
    )
    for number, image in enumerate(maps):
        figure.add_heatmap(
            z=image.astype(np.float32),
            zmin=-limit,
            zmax=limit,
            colorscale=[list(stop) for stop in DIVERGING],
            showscale=number == 0,
            colorbar={"title": {"text": "Share"}, "thickness": 10, "outlinewidth": 0, "tickformat": ".1%"},
            hovertemplate="row %{y}, column %{x}: %{z:.2%}<extra></extra>",
            row=number // columns + 1,
            col=number % columns + 1,
        )
    theme.apply(figure, height=60 + 210 * rows)
    figure.update_xaxes(visible=False)
    figure.update_yaxes(visible=False, autorange="reversed", scaleanchor=None)
    for number in range(len(maps)):
        axis = "" if number == 0 else str(number + 1)
        figure.layout[f"yaxis{axis}"].update(scaleanchor=f"x{axis}", constrain="domain")
        figure.layout[f"xaxis{axis}"].update(constrain="domain")
    figure.update_annotations(font_size=13)
    figure.update_layout(margin={"l": 10, "r": 10, "t": 34, "b": 10})
    return figure
