"""Calibration: what was promised against what happened, by bin, by group, before and after a fix."""

from __future__ import annotations

from typing import Any

import numpy as np
import plotly.graph_objects as go

from dlstudio.errors import DLStudioError, unknown_name
from dlstudio.figures import theme
from dlstudio.figures.theme import ACCENT, MUTED, PALETTE, color, escape, translucent
from dlstudio.trust.calibration_result import FIXES, CalibrationResult

__all__ = ["calibration_errors", "calibration_fixes", "reliability"]

SYMBOLS = ("circle", "diamond", "square", "triangle-up", "cross", "x", "star", "pentagon")
DASHES = ("solid", "dash", "dot", "dashdot")
PAINT = {"miscalibration shown": PALETTE[1], "no miscalibration shown": ACCENT, "not enough data": MUTED}
MARK = {"miscalibration shown": "diamond", "no miscalibration shown": "circle", "not enough data": "circle-open"}
MAX_GROUPS = 6


def reliability(result: CalibrationResult, *, column: str = "", outcome: str = "") -> go.Figure:
    """Draw the reliability diagram: what happened (with intervals) against what was promised; on the line is right.

    Below the line scores promise too much, above it too little. The bars at the bottom say how many rows a bin has.

    Args:
        result: what `dlstudio.assess_calibration` returned.
        column: draw its groups (the six largest of more) instead of all rows.
        outcome: of more than two classes, the class whose probability to draw; "" is the predicted class.

    Raises:
        DLStudioError: the column was not assessed, or there is no such class.
    """
    table = result.tables["reliability"]
    known = [name for name in np.unique(table["column"]).tolist() if name]
    if column and column not in known:
        raise unknown_name("column", column, known)
    outcomes = np.unique(table["outcome"][table["column"] == ""]).tolist()
    if outcome not in outcomes:
        raise unknown_name("class", outcome, [name for name in outcomes if name])
    chosen = (table["scores"] == "given") & (table["column"] == column) & (table["outcome"] == outcome)
    groups = np.unique(table["group"][chosen])
    sizes = np.array([int(table["n"][chosen & (table["group"] == group)].sum()) for group in groups])
    figure = go.Figure()
    _diagonal(figure)
    most = 1.0
    for number, at in enumerate(np.argsort(-sizes, kind="stable")[:MAX_GROUPS]):
        rows = np.flatnonzero(chosen & (table["group"] == groups[at]))
        name = f"{column} = {groups[at]} ({sizes[at]:,} rows)" if column else f"{sizes[at]:,} rows"
        _bins(figure, table, rows, name, number)
        if not column:
            most = max(most, float(table["n"][rows].max()))
            _counts(figure, table, rows)
    what = _whose(result, outcome)
    theme.apply(figure, x_title=f"Mean score: {what} (%)", y_title=f"What happened: {_event(result, outcome)} (%)")
    _square(figure)
    if not column:
        hidden = {"overlaying": "y", "range": [0, 6 * most], "visible": False, "fixedrange": True}
        figure.update_layout(yaxis2=hidden)
    else:
        figure.update_layout(height=380, margin_t=44 + 20 * min(len(groups) + 1, MAX_GROUPS + 1))
    return figure


def calibration_fixes(result: CalibrationResult) -> go.Figure:
    """Draw the reliability diagram before and after every fix, on rows that the fixes were not fitted on.

    Raises:
        DLStudioError: no fix was judged.
    """
    table = result.tables["reliability"]
    names = [name for name in ("before", *FIXES) if len(table) and (table["scores"] == name).any()]
    if len(names) < 2:
        why = "; ".join(f"{name}: {said}" for name, said in result.skipped.items()) or "none was asked for"
        raise DLStudioError("a result with fixes", f"one without ({why})", "Assess with fix= and enough rows.")
    figure = go.Figure()
    _diagonal(figure)
    errors = _fix_errors(result)
    for number, name in enumerate(names):
        rows = np.flatnonzero(table["scores"] == name)
        error = errors[name]
        said = f"{FIXES.get(name, 'Before')} ({100 * error:.1f} points off)"
        _bins(figure, table, rows, said, number, dash=DASHES[number % len(DASHES)])
    theme.apply(
        figure,
        x_title=f"Mean score: {_whose(result, '')} (%)",
        y_title=f"What happened: {_event(result, '')} (%)",
        height=420,
    )
    _square(figure)
    figure.update_layout(margin_t=110)  # five entries take three lines
    return figure


def calibration_errors(result: CalibrationResult) -> go.Figure:
    """Draw the calibration error of all rows, classes and groups with intervals; grey ticks are what chance brings."""
    table = result.tables["errors"]
    n = len(table["n"])
    places = np.arange(n)
    figure = go.Figure()
    for verdict, paint in PAINT.items():
        rows = np.flatnonzero(table["verdict"] == verdict)
        if not len(rows):
            continue
        value, low, high = (100 * table[name][rows].astype(np.float64) for name in ("ece", "low", "high"))
        figure.add_scatter(
            x=value,
            y=places[rows].astype(np.int32),
            mode="markers",
            name=verdict,
            marker={"size": 10, "color": paint, "symbol": MARK[verdict], "line": {"width": 1.5, "color": paint}},
            error_x={
                "array": high - value, "arrayminus": value - low, "color": paint, "thickness": 1.5, "width": 4,
            },
            text=[f"{_label(table, row)}<br>adjusted p {table['p_adjusted'][row]:.3g}" for row in rows],
            hovertemplate="%{text}<br>off by %{x:.1f} points<extra></extra>",
        )  # fmt: skip
    figure.add_scatter(
        x=100 * table["by_chance"].astype(np.float64),
        y=places.astype(np.int32),
        mode="markers",
        name="exactly right scores would show",
        marker={"symbol": "line-ns", "size": 15, "line": {"width": 2, "color": MUTED}},
        hovertemplate="by chance %{x:.1f} points<extra></extra>",
    )
    theme.apply(
        figure,
        x_title="Calibration error (percentage points)",
        y_title="Rows assessed",
        height=170 + 26 * max(n, 3),
    )
    labels = [_label(table, row) for row in places]
    figure.update_yaxes(tickvals=places.astype(np.int32), ticktext=labels, range=[n - 0.5, -0.5], showgrid=False)
    figure.update_xaxes(rangemode="tozero")
    if result.threshold:
        figure.add_vline(100 * result.threshold, line={"color": MUTED, "width": 1, "dash": "dash"}, layer="below")
    figure.update_layout(margin_t=96)
    return figure


def _bins(figure: go.Figure, table: Any, rows: Any, name: str, number: int, *, dash: str = "solid") -> None:
    rows = rows[np.argsort(table["mean_score"][rows], kind="stable")]
    x, y, low, high = (100 * table[key][rows].astype(np.float64) for key in ("mean_score", "rate", "low", "high"))
    paint = color(number)
    bars = {"array": high - y, "arrayminus": y - low, "color": translucent(paint, 0.6), "thickness": 1.5, "width": 3}
    figure.add_scatter(
        x=x,
        y=y,
        mode="lines+markers",
        name=escape(name),
        line={"color": paint, "width": 1.5, "dash": dash},
        marker={"size": 8, "color": paint, "symbol": SYMBOLS[number % len(SYMBOLS)]},
        error_y=bars,
        text=[f"{table['n_positive'][row]:,} of {table['n'][row]:,} rows" for row in rows],
        hovertemplate="promised %{x:.1f} %<br>happened %{y:.1f} %<br>%{text}<extra></extra>",
    )


def _counts(figure: go.Figure, table: Any, rows: Any) -> None:
    low, high = 100 * table["bin_low"][rows], 100 * table["bin_high"][rows]
    figure.add_bar(
        x=(low + high) / 2,
        y=table["n"][rows].astype(np.float64),
        width=np.maximum(high - low, 0.4),
        yaxis="y2",
        name="rows in the bin",
        marker={"color": translucent(MUTED, 0.18), "line": {"width": 1, "color": "#ffffff"}},
        hovertemplate="%{y:,} rows<extra></extra>",
    )


def _diagonal(figure: go.Figure) -> None:
    figure.add_scatter(
        x=np.array([0.0, 100.0]),
        y=np.array([0.0, 100.0]),
        mode="lines",
        name="exactly right",
        line={"color": MUTED, "width": 1.5, "dash": "dot"},
        hoverinfo="skip",
    )


def _square(figure: go.Figure) -> None:
    figure.update_xaxes(range=[-2, 102])
    figure.update_yaxes(range=[-2, 102], selector={"overlaying": None})
    figure.update_layout(margin_t=56, bargap=0)


def _whose(result: CalibrationResult, outcome: str) -> str:
    if outcome or result.task == "binary":
        return f"probability of {outcome or result.class_names[1]!r}"
    return "probability of the predicted class"


def _event(result: CalibrationResult, outcome: str) -> str:
    if outcome or result.task == "binary":
        return f"rows that are {outcome or result.class_names[1]!r}"
    return "predictions that are right"


def _label(table: Any, row: Any) -> str:
    if table["column"][row]:
        label = f"{table['column'][row]} = {table['group'][row]}"
    else:
        label = f"class {table['outcome'][row]}" if table["outcome"][row] else "all rows"
    label = label if len(label) <= 40 else f"{label[:39]}…"
    return escape(f"{label} ({table['n'][row]:,})")


def _fix_errors(result: CalibrationResult) -> dict[str, float]:
    table = result.tables["fixes"]
    rows = np.flatnonzero(table["metric"] == "ece")
    errors = {str(table["method"][row]): float(table["after"][row]) for row in rows}
    return {"before": float(table["before"][rows[0]]), **errors}
