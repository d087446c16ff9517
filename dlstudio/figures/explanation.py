"""Pictures of an explanation: what moved one prediction, and what matters over all rows.

A refused explanation gives a figure with the reasons and no numbers; above a suspect one a band says why.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import plotly.graph_objects as go

from dlstudio.explain.methods import METHODS
from dlstudio.explain.parts import Part, aligned, check_row, number, of_inputs, parts, ranking, signed
from dlstudio.explain.result import Explanation
from dlstudio.explain.words import ROW_NAMES, UNSIGNED, output_name, unit
from dlstudio.figures.highlights import tokens
from dlstudio.figures.overlays import average, heat_strip, overlay
from dlstudio.figures.spread import beeswarm, dependence
from dlstudio.figures.theme import ACCENT, INK, MUTED, escape
from dlstudio.figures.verdict import axis_title, finish, refusable, short, sign_color

__all__ = [
    "average",
    "bars",
    "beeswarm",
    "dependence",
    "figure_of",
    "heat_strip",
    "importance",
    "overlay",
    "tokens",
    "waterfall",
]

ROW_PX = 27
NOTABLE = 0.01
"""Share of the output's range from which a gap gets a bar of its own."""


@refusable
def waterfall(explanation: Explanation, at: int, top: int = 12) -> go.Figure:
    """How the reasons lead from the reference output to that of one row, the strongest first.

    The rest of the reasons is one bar; what the sum misses, where it misses more than 1 % of the output's range, is a
    grey one. For a method that promises no sum the picture is `bars`.

    Args:
        explanation: what to draw.
        at: the row, counted within the explanation.
        top: how many reasons get a bar of their own.

    Raises:
        DLStudioError: there is no such row.
    """
    at = check_row(explanation, at)
    if explanation.gap is None:
        return bars(explanation, at, top)
    found, rest = _strongest(parts(explanation, at), top)
    method = METHODS.get(explanation.method)
    reference = method.reference if method else "baseline"
    start = 0.0 if reference == "none" else float(explanation.baseline_value[at])
    end = float(explanation.prediction[at])
    names = [part.text for part in found]
    steps = [part.attribution for part in found]
    colors = [sign_color(step) for step in steps]
    if rest:
        names.append(f"{len(rest):,} others")
        steps.append(sum(part.attribution for part in rest))
        colors.append(sign_color(steps[-1]))
    missing = end - start - sum(steps)
    if abs(missing) > NOTABLE * explanation.output_range:
        names.append("not accounted for")
        steps.append(missing)
        colors.append("#8a97a5")
    moves = np.array(steps)
    ends = start + np.cumsum(moves)
    rows = np.arange(1, len(steps) + 1)
    figure = _bars(moves, rows, colors, names, list(map(signed, steps)), base=ends - moves)
    for place, stop in enumerate([start, *ends.tolist()]):
        figure.add_shape(
            type="line", x0=stop, x1=stop, y0=place + (0.31 if place else 0.2), y1=place + 0.69,
            line={"color": "#8a97a5", "width": 1},
        )  # fmt: skip
    _numbers(figure, ends, rows, moves)
    figure.add_scatter(
        x=[start, end],
        y=[0, len(steps) + 1],
        mode="markers+text",
        marker={"symbol": "diamond", "size": 10, "color": INK},
        text=[f"  {number(start)}", f"  <b>{number(end)}</b>"],
        textposition="middle right",
        textfont={"size": 12, "color": INK},
        hoverinfo="skip",
        cliponaxis=False,
    )
    begin = {"baseline": "at the baseline", "background": "mean of the background", "none": "from zero"}[reference]
    names = [begin, *names, f"this {ROW_NAMES[explanation.modality]}"]
    _frame(figure, names, np.concatenate([[start, end], ends]))
    figure.update_xaxes(title_text=escape(f"Output for {output_name(explanation, at)} ({unit(explanation)})"))
    return finish(figure, explanation, height=70 + ROW_PX * len(names))


@refusable
def bars(explanation: Explanation, at: int, top: int = 12) -> go.Figure:
    """The strongest reasons of one row as bars from zero, with whiskers of one standard error where there is one.

    Args:
        explanation: what to draw.
        at: the row, counted within the explanation.
        top: how many reasons are shown.

    Raises:
        DLStudioError: there is no such row.
    """
    at = check_row(explanation, at)
    found, rest = _strongest(parts(explanation, at), top)
    plain = explanation.method in UNSIGNED
    values = np.array([part.attribution for part in found])
    errors = np.nan_to_num(np.array([part.standard_error for part in found]))
    rows = np.arange(len(found))
    whiskers = bool(errors.any())
    figure = _bars(
        values,
        rows,
        ACCENT if plain else [sign_color(value) for value in values],
        [part.text for part in found],
        [
            signed(value) + (f" ± {number(error)}" if whiskers else "")
            for value, error in zip(values.tolist(), errors.tolist(), strict=True)
        ],
        error_x={"type": "data", "array": errors, "thickness": 1.2, "width": 4, "color": INK} if whiskers else None,
    )
    ends = values + np.where(values < 0, -errors, errors)
    _numbers(figure, ends, rows, values, plain)
    _frame(figure, [part.text for part in found], np.append(ends, 0.0))
    _zero(figure)
    note = f"; {len(rest):,} weaker ones left out" if rest else ""
    title = axis_title(explanation, at) + ("; whiskers: one standard error" if whiskers else "") + note
    figure.update_xaxes(title_text=escape(title))
    return finish(figure, explanation, height=70 + ROW_PX * max(len(found), 2))


@refusable
def importance(explanation: Explanation, top: int = 20) -> go.Figure:
    """What matters over all rows: mean |attribution| of columns, words, channels and steps, or regions of an image."""
    found = ranking(explanation)
    shown = [part for part in found[:top] if part.attribution] or found[:1]
    values = np.array([part.attribution for part in shown])
    rows = np.arange(len(shown))
    names = [part.name for part in shown]
    figure = _bars(values, rows, ACCENT, names, [f"{value:.4g}" for value in values.tolist()])
    _numbers(figure, values, rows, values, plain=True)
    _frame(figure, names, np.append(values, 0.0))
    _zero(figure)
    n = len(explanation)
    title = f"{axis_title(explanation, mean=True)}, {n:,} {ROW_NAMES[explanation.modality]}{'s' if n > 1 else ''}"
    figure.update_xaxes(title_text=escape(title))
    return finish(figure, explanation, height=70 + ROW_PX * max(len(shown), 2))


def figure_of(explanation: Explanation, at: int | None = None) -> go.Figure:
    """The picture that fits: of one row by its modality, or with ``at=None`` of all rows.

    One row: a waterfall for tables, bars for words, an overlay for images, a heat strip for sequences; bars for the
    units of a layer. All rows: a beeswarm for tables, a mean map for images and sequences, importance for words.

    Raises:
        DLStudioError: there is no such row.

    Example:
        >>> figure_of(e, at=0).write_html("why.html")
    """
    like_inputs = of_inputs(explanation)
    mapped = explanation.modality in ("image", "sequence") and explanation.attributions.ndim >= 3
    if at is None:
        if mapped:
            return average(explanation)
        swarm = explanation.modality == "tabular" and len(explanation) > 1 and like_inputs
        return beeswarm(explanation) if swarm else importance(explanation)
    if explanation.modality == "image" and mapped:
        return overlay(explanation, at)
    if explanation.modality == "sequence" and mapped and like_inputs:
        return heat_strip(explanation, at)
    return waterfall(explanation, at) if explanation.modality == "tabular" else bars(explanation, at)


def _bars(
    lengths: npt.NDArray[Any],
    rows: npt.NDArray[Any],
    colors: str | Sequence[str],
    names: Sequence[str],
    told: Sequence[str],
    **more: Any,
) -> go.Figure:
    """A figure of lying bars; on hovering each tells its name, and below it what is `told` of it."""
    figure = go.Figure()
    figure.add_bar(
        x=lengths,
        y=rows,
        orientation="h",
        width=0.62,
        marker_color=colors,
        customdata=np.array([[short(name, 80), text] for name, text in zip(names, told, strict=True)]),
        hovertemplate="%{customdata[0]}<br>%{customdata[1]}<extra></extra>",
        **more,
    )
    return figure


def _strongest(found: Sequence[Part], top: int) -> tuple[list[Part], list[Part]]:
    """The parts with the largest |attribution|, and the others that count for anything; one alone is no "others"."""
    ordered = sorted(found, key=lambda part: -abs(part.attribution))
    moving = [part for part in ordered if part.attribution] or ordered[:1]
    cut = len(moving) if len(moving) == top + 1 else top
    return moving[:cut], moving[cut:]


def _numbers(
    figure: go.Figure, ends: npt.NDArray[Any], rows: npt.NDArray[Any], values: npt.NDArray[Any], plain: bool = False
) -> None:
    """Write every value beyond the end of its bar."""
    figure.add_scatter(
        x=ends,
        y=rows,
        mode="text",
        text=[f"\u2002{text}\u2002" for text in aligned(values.tolist(), plain=plain)],
        textposition=["middle left" if value < 0 else "middle right" for value in values.tolist()],
        textfont={"size": 12, "color": MUTED},
        hoverinfo="skip",
        cliponaxis=False,
    )


def _frame(figure: go.Figure, names: Sequence[str], reach: npt.NDArray[Any]) -> None:
    """Name the rows from the top down, and leave room beside the bars for their numbers."""
    low, high = float(reach.min()), float(reach.max())
    room = 0.18 * (high - low) or 1.0
    figure.update_layout(showlegend=False, bargap=0)
    figure.update_xaxes(range=[low - (room if low else 0), high + (room if high else 0)])
    figure.update_yaxes(
        tickvals=list(range(len(names))),
        ticktext=[short(name) for name in names],
        range=[len(names) - 0.4, -0.6],
        showgrid=False,
        ticks="",
        tickfont={"size": 12, "color": INK},
    )


def _zero(figure: go.Figure) -> None:
    figure.update_xaxes(zeroline=True, zerolinecolor="#8a97a5", zerolinewidth=1)
