"""Metrics of groups with their intervals, and gaps between groups with what can be said of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from dlstudio.data.groups import AND
from dlstudio.errors import unknown_name
from dlstudio.fairness.counts import OBSERVED, RATES, SLOPE
from dlstudio.fairness.gaps import NO_GAP, SHOWN, TOO_FEW
from dlstudio.fairness.result import FairnessAudit
from dlstudio.fairness.words import METRIC_WORDS, combined, deciding, jointly
from dlstudio.figures import theme
from dlstudio.figures.theme import ACCENT, LINE, MUTED, PALETTE, escape, note, short, translucent
from dlstudio.results import records
from dlstudio.wording import p_words

__all__ = ["gaps", "groups", "intersections", "pictures"]

Rows: TypeAlias = list[dict[str, Any]]

PANELS = {
    "binary": ("selection_rate", "true_positive_rate", "false_positive_rate", "positive_predictive_value"),
    "regression": ("mean_prediction", "mean_error", "mean_absolute_error"),
}
MOST_PANELS = 4
LABEL, NAME = 24, 16
"""Characters of the name of a group, alone and beside another."""
VERDICTS = {
    SHOWN: (PALETTE[1], "diamond"),
    NO_GAP: (ACCENT, "circle"),
    TOO_FEW: (MUTED, "circle-open"),
}
AIR, FEW = 0.05, "too few rows"


def groups(audit: FairnessAudit, feature: str | None = None, metrics: Sequence[str] = ()) -> go.Figure:
    """Draw metrics of the groups of a column, a panel each, with intervals; the dotted line is everybody together.

    Of groups with too few rows to be compared, only that is said. Of several classes, their true-positive rates are
    drawn.

    Args:
        audit: what `dlstudio.audit_fairness` returned.
        feature: the column; the first by default.
        metrics: which ones, as `by_group` names them; those that gaps are about by default.

    Raises:
        DLStudioError: there is no such column or metric.
    """
    feature = audit.features[0] if feature is None else feature
    if feature not in audit.features:
        raise unknown_name("sensitive column", feature, audit.features)
    names = audit.group_names[audit.features.index(feature)]
    known = set(audit.groups_table["metric"].tolist())
    for metric in metrics:
        if metric not in known:
            raise unknown_name("metric", metric, known)
    panels = _panels(audit, metrics)
    figure = make_subplots(cols=len(panels), shared_yaxes=True, horizontal_spacing=0.03)
    cells = {
        (row["sensitive_feature"], row["outcome"], row["metric"], row["group"]): row
        for row in records(audit.groups_table)
    }
    for column, (outcome, metric) in enumerate(panels, 1):
        rows = [cells[feature, outcome, metric, name] for name in names]
        _dots(figure, rows, column)
        whole = cells["", outcome, metric, "overall"]["value"] * _scale(metric)
        if math.isfinite(whole):
            figure.add_vline(whole, line={"color": MUTED, "width": 1, "dash": "dot"}, row=1, col=column)
    theme.apply(figure, height=130 + 26 * max(len(names), 3))
    for column, (outcome, metric) in enumerate(panels, 1):
        words = METRIC_WORDS[metric]
        of = f",<br>{escape(short(outcome, LABEL))}" if outcome else ""
        figure.update_xaxes(
            title_text=f"{escape(words[:1].upper() + words[1:])}{of} ({_unit(metric)})",
            title_font_size=11.5,
            row=1,
            col=column,
        )
    sizes = [cells[feature, "", "count", name]["value"] for name in names]
    labels = [f"{short(name, LABEL)} ({size:,.0f})" for name, size in zip(names, sizes, strict=True)]
    figure.update_yaxes(range=[len(names) - 0.5, -0.5], showgrid=False, ticks="")
    figure.update_yaxes(
        tickvals=np.arange(len(names), dtype=np.int32), ticktext=[escape(label) for label in labels],
        title_text=escape(f"{short(feature, LABEL)} (rows)"), row=1, col=1,
    )  # fmt: skip
    figure.update_layout(margin_t=16, margin_b=64, showlegend=False)
    return figure


def gaps(audit: FairnessAudit, feature: str | None = None) -> go.Figure:
    """Draw for every criterion the gap of the pair that carries its verdict, with its interval.

    Full orange diamonds are gaps that are shown; at blue circles none is shown, and their intervals say how large one
    may still be; for open grey circles there are too few data. Where too few rows could count, nothing is drawn. Within
    the shaded band a gap does not count. Since the pairs were chosen, intervals hold for all pairs of a criterion.

    Args:
        audit: what `dlstudio.audit_fairness` returned.
        feature: the column; all by default.

    Raises:
        DLStudioError: there is no such column.
    """
    if feature is not None and feature not in audit.features:
        raise unknown_name("sensitive column", feature, audit.features)
    rows = [row for row in deciding(audit) if feature in (None, row["sensitive_feature"])]
    labels = [
        f"{row['sensitive_feature']}{_class(row)}, {row['criterion'].removesuffix('_difference').replace('_', ' ')}:"
        f" {short(row['group'], NAME)} − {short(row['reference'], NAME)}"
        for row in rows
    ]
    return _forest(audit, rows, labels, "Criterion: group − reference")


def intersections(audit: FairnessAudit, top: int = 15) -> go.Figure:
    """Draw the combinations of groups with the strongest evidence of a gap to everybody else.

    Intervals hold for all combinations at once.

    Args:
        audit: what `dlstudio.audit_fairness` returned.
        top: how many rows to draw.
    """
    rows: dict[Any, dict[str, Any]] = {}
    for row in records(audit.intersections_table):
        if math.isfinite(row["p_value"]) and len(rows) < top:  # one rate is part of two criteria
            key = tuple(row[name] for name in ("sensitive_feature", "outcome", "group", "metric"))
            rows.setdefault(key, jointly(row))
    labels = [
        f"{combined(row['sensitive_feature'], _each_short(row['group']))} ({row['n']:,}){_class(row)}:"
        f" {METRIC_WORDS[row['metric']]}"
        for row in rows.values()
    ]
    return _forest(audit, list(rows.values()), labels, "Combination (rows): what differs")


def pictures(audit: FairnessAudit) -> list[tuple[str, go.Figure]]:
    """Draw a whole audit: captions and figures of every column's groups, of all gaps, and of combinations."""
    found = [
        (
            "How far apart groups are by each criterion. Orange diamonds are gaps that the data show. At blue circles"
            " no gap is shown; the interval says how large one may still be. For open grey circles there are not"
            " enough data." + (" Gaps within the shaded band do not count." if audit.threshold else ""),
            gaps(audit),
        )
    ]
    for feature in audit.features:
        words = "with intervals; the dotted line is everybody together. Nothing is drawn of too few rows to compare."
        found.append((f"{feature}: what each group gets, {words}", groups(audit, feature)))
    if np.isfinite(audit.intersections_table["p_value"]).any():
        words = "Combinations of groups against everybody else, the strongest evidence on top."
        found.append((words, intersections(audit)))
    return found


def _panels(audit: FairnessAudit, metrics: Sequence[str]) -> list[tuple[str, str]]:
    """What is drawn side by side: outcome and metric."""
    table = audit.groups_table
    outcomes = list(dict.fromkeys(table["outcome"].tolist()))
    if audit.task != "multiclass":
        return [("", metric) for metric in metrics or PANELS[audit.task]]
    classes = [outcome for outcome in outcomes if outcome]
    if not metrics:
        return [("", "accuracy"), *((outcome, "true_positive_rate") for outcome in classes[: MOST_PANELS - 1])]
    there = set(zip(table["outcome"].tolist(), table["metric"].tolist(), strict=True))
    return [(outcome, metric) for metric in metrics for outcome in outcomes if (outcome, metric) in there][:MOST_PANELS]


def _dots(figure: go.Figure, rows: Rows, column: int) -> None:
    for at, row in enumerate(rows):
        if not row["enough"]:
            figure.add_annotation(
                text=FEW, x=0, xref="x domain", y=at, xanchor="left", showarrow=False,
                font={"color": MUTED, "size": 11}, row=1, col=column,
            )  # fmt: skip
    places = [at for at, row in enumerate(rows) if row["enough"] and math.isfinite(row["value"])]
    chosen = [rows[at] for at in places]
    scale = _scale(rows[0]["metric"])
    value, low, high = (
        scale * np.array([row[key] for row in chosen], dtype=np.float64) for key in ("value", "low", "high")
    )
    figure.add_scatter(
        x=value,
        y=np.array(places, dtype=np.int32),
        mode="markers",
        marker={"size": 9, "color": ACCENT, "symbol": "circle"},
        error_x=_whiskers(value, low, high, ACCENT),
        text=[_said(row) for row in chosen],
        hovertemplate="%{text}<extra></extra>",
        row=1,
        col=column,
    )


def _said(row: dict[str, Any]) -> str:
    number = _format(row["metric"])
    lines = [f"{short(row['group'], 60)}: {METRIC_WORDS[row['metric']]} {number(row['value'])}"]
    if math.isfinite(row["low"]):
        lines.append(f"interval {number(row['low'])} to {number(row['high'])}")
    if math.isfinite(row["numerator"]) and row["metric"] in RATES:
        lines.append(f"{row['numerator']:,.0f} of {row['denominator']:,.0f} rows")
    return "<br>".join(map(escape, lines))


def _forest(audit: FairnessAudit, rows: Rows, labels: list[str], y_title: str) -> go.Figure:
    figure = go.Figure()
    scale = 1.0 if audit.task == "regression" else 100.0
    value, low, high = (
        scale * np.array([row[key] for row in rows], dtype=np.float64) for key in ("value", "low", "high")
    )
    told = [math.isfinite(row["p_value"]) for row in rows]
    for verdict, (paint, symbol) in VERDICTS.items():
        chosen = [at for at, row in enumerate(rows) if row["verdict"] == verdict and told[at]]
        if not chosen:
            continue
        figure.add_scatter(
            x=value[chosen],
            y=np.array(chosen, dtype=np.int32),
            mode="markers",
            name=verdict,
            marker={"size": 10, "color": paint, "symbol": symbol, "line": {"width": 1.5, "color": paint}},
            error_x=_whiskers(value[chosen], low[chosen], high[chosen], paint),
            text=[_gap_said(audit, rows[at]) for at in chosen],
            hovertemplate="%{text}<extra></extra>",
        )
    unit = "unit of the target" if audit.task == "regression" else "percentage points"
    if any(row["metric"] == SLOPE for row in rows):
        unit += "; of slopes, hundredths"
    theme.apply(
        figure,
        x_title=f"Gap with its interval ({unit})",
        y_title=y_title,
        height=130 + 24 * max(len(rows), 4),
    )
    figure.add_vline(0, line={"color": MUTED, "width": 1}, layer="below")
    if audit.threshold:
        figure.add_vrect(
            -scale * audit.threshold,
            scale * audit.threshold,
            fillcolor=translucent(LINE, 0.7),
            line_width=0,
            layer="below",
        )
    figure.update_yaxes(
        tickvals=np.arange(len(rows), dtype=np.int32), ticktext=[escape(label) for label in labels],
        range=[max(len(rows), 1) - 0.5, -0.5], showgrid=False,
    )  # fmt: skip
    band = np.array([-1.0, 0.0, 1.0]) * scale * audit.threshold
    ends = np.concatenate([low[told], high[told], value[told], band])
    ends = ends[np.isfinite(ends)]
    air = AIR * max(float(np.ptp(ends)), 1e-9)
    figure.update_xaxes(range=[float(ends.min()) - air, float(ends.max()) + air])
    figure.update_layout(margin_t=48, showlegend=True)
    for at in np.flatnonzero(~np.array(told, dtype=bool)).tolist() if any(told) else ():
        figure.add_annotation(text=FEW, x=0, y=at, xanchor="left", showarrow=False, font={"color": MUTED})
    if not any(told):
        note(figure, "Nothing could be compared")
    return figure


def _gap_said(audit: FairnessAudit, row: dict[str, Any]) -> str:
    points = audit.task != "regression" and row["metric"] != SLOPE
    number = _format("calibration_bias" if points else row["metric"])
    lines = [
        f"{METRIC_WORDS[row['metric']]}: {short(row['group'], 40)} − {short(row['reference'], 40)}",
        f"{number(row['value'])}, interval {number(row['low'])} to {number(row['high'])}",
        f"{row['verdict']}; {p_words(row['p_adjusted'])}, adjusted",
    ]
    return "<br>".join(map(escape, lines))


def _whiskers(value: Any, low: Any, high: Any, paint: str) -> dict[str, Any]:
    return {
        "array": np.nan_to_num(high - value), "arrayminus": np.nan_to_num(value - low), "color": paint,
        "thickness": 1.5, "width": 4,
    }  # fmt: skip


def _format(metric: str) -> Any:
    if metric == "calibration_bias":
        return lambda number: f"{100 * number:+.1f} points"
    return "{:.1%}".format if _scale(metric) != 1 else "{:.4g}".format


def _scale(metric: str) -> float:
    plain = metric in ("count", "mean_target", OBSERVED, SLOPE) or metric in PANELS["regression"]
    return 1.0 if plain else 100.0


def _unit(metric: str) -> str:
    if metric == "count":
        return "rows"
    if metric in (OBSERVED, SLOPE):
        return "1 is right"
    return "points" if metric == "calibration_bias" else "%" if _scale(metric) != 1 else "unit of the target"


def _class(row: dict[str, Any]) -> str:
    return f", {row['outcome']}" if row["outcome"] else ""


def _each_short(group: str) -> str:
    return AND.join(short(name, NAME) for name in group.split(AND))
