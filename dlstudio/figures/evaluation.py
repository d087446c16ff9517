"""An evaluation drawn: metrics with intervals, confusion, curves with bands, thresholds with costs."""

from __future__ import annotations

from typing import Any

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from dlstudio.errors import DLStudioError, unknown_name
from dlstudio.figures import theme
from dlstudio.figures.theme import ACCENT, MUTED, PALETTE, color, escape, translucent
from dlstudio.results import records
from dlstudio.trust.evaluation_result import Evaluation
from dlstudio.trust.evaluation_words import LOWER_IS_BETTER, METRICS
from dlstudio.trust.weighing import RATES, TOLD

__all__ = ["confusion", "metrics", "precision_recall", "predicted", "roc", "thresholds"]

MAX_CURVES = 8
MAX_NUMBERS = 15
"""Classes up to which the cells of a confusion matrix show their numbers."""


def metrics(result: Evaluation) -> go.Figure:
    """Draw every metric with its interval, and where a model that knows nothing would be (grey tick).

    Metrics of a regression in the unit of the target are drawn as shares of what that model gets.
    """
    rows = [row for row in records(result.tables["metrics"]) if np.isfinite(row["value"])]
    regression = result.task == "regression"
    if regression:
        rows = [row for row in rows if row["metric"] != "bias"]
    value, low, high, blind = (np.array([row[key] for row in rows]) for key in ("value", "low", "high", "baseline"))
    if regression:  # an error of the target's unit and R² share an axis only as shares
        unit = np.array([row["baseline"] if row["metric"] != "r2" and row["baseline"] else 1.0 for row in rows])
        value, low, high, blind = value / unit, low / unit, high / unit, blind / unit
    places = np.arange(len(rows), dtype=np.int32)
    figure = go.Figure()
    figure.add_scatter(
        x=value,
        y=places,
        mode="markers",
        name="this model",
        marker={"size": 10, "color": ACCENT},
        error_x={"array": high - value, "arrayminus": value - low, "color": ACCENT, "thickness": 1.5, "width": 4},
        text=[f"{row['value']:.4g} ({row['low']:.4g} to {row['high']:.4g}), {row['n']:,} rows" for row in rows],
        hovertemplate="%{text}<extra></extra>",
    )
    figure.add_scatter(
        x=blind,
        y=places,
        mode="markers",
        name="knows nothing of the row",
        marker={"symbol": "line-ns", "size": 15, "line": {"width": 2, "color": MUTED}},
        hovertemplate="%{x:.3f}<extra></extra>",
    )
    arrows = {True: " (lower is better)", False: ""}
    labels = [f"{METRICS[row['metric']]} {row['value']:.3g}{arrows[row['metric'] in LOWER_IS_BETTER]}" for row in rows]
    title = "Value (errors: share of the error of a constant)" if regression else "Value (share, or nats for log loss)"
    theme.apply(figure, x_title=title, y_title="Metric", height=130 + 26 * max(len(rows), 3))
    figure.update_yaxes(tickvals=places, ticktext=labels, range=[len(rows) - 0.5, -0.5], showgrid=False)
    figure.update_xaxes(rangemode="tozero" if min(low.min(initial=0), 0) >= 0 else "normal")
    figure.update_layout(margin_t=48)
    return figure


def confusion(result: Evaluation) -> go.Figure:
    """Draw the confusion matrix: shares of each true class by predicted class, with the counts.

    Raises:
        DLStudioError: of a regression.
    """
    if result.confusion is None:
        raise DLStudioError("an evaluation of classes", "a regression", "Use figures.evaluation.predicted.")
    counts = result.confusion
    totals = counts.sum(axis=1, keepdims=True)
    share = 100 * counts / np.maximum(totals, 1)
    names = [escape(name if len(name) <= 24 else f"{name[:23]}…") for name in result.class_names]
    small = len(names) <= MAX_NUMBERS
    text = [
        [f"{count:,}<br>{part:.0f} %" for count, part in zip(*rows, strict=True)]
        for rows in zip(counts, share, strict=True)
    ]
    figure = go.Figure(
        go.Heatmap(
            z=share,
            x=np.arange(len(names), dtype=np.int32),
            y=np.arange(len(names), dtype=np.int32),
            zmin=0,
            zmax=100,
            colorscale=[[0.0, "#f7f9fb"], [0.5, "#9cc3e0"], [1.0, "#00335a"]],
            text=text if small else None,
            texttemplate="%{text}" if small else None,
            customdata=counts,
            hovertemplate="truly %{y}, predicted %{x}<br>%{customdata:,} rows, %{z:.1f} % of the class<extra></extra>",
            colorbar={
                "title": {"text": "Share of the<br>true class (%)", "font": {"size": 12}},
                "outlinewidth": 0,
                "thickness": 12,
            },
            xgap=1,
            ygap=1,
        )
    )
    shown = [f"{name} ({int(total):,})" for name, total in zip(names, totals[:, 0], strict=True)]
    theme.apply(
        figure, x_title="Predicted class", y_title="True class (rows)", height=150 + max(46 * min(len(names), 12), 120)
    )
    ticks = np.arange(len(names), dtype=np.int32)
    figure.update_xaxes(tickvals=ticks, ticktext=names, showgrid=False)
    figure.update_yaxes(tickvals=ticks, ticktext=shown, autorange="reversed", showgrid=False)
    return figure


def roc(result: Evaluation, outcome: str | None = None) -> go.Figure:
    """Draw the ROC curve with its band; of more than two classes each against the rest.

    Args:
        result: what `dlstudio.evaluate` returned.
        outcome: one class of several, with its band; None draws up to eight without bands.

    Raises:
        DLStudioError: there are no scores, or no such class.
    """
    return _curves(result, "roc", outcome, "False positive rate (%)", "True positive rate (%)")


def precision_recall(result: Evaluation, outcome: str | None = None) -> go.Figure:
    """Draw precision against recall with its band; of more than two classes each against the rest.

    Args:
        result: what `dlstudio.evaluate` returned.
        outcome: one class of several, with its band; None draws up to eight without bands.

    Raises:
        DLStudioError: there are no scores, or no such class.
    """
    return _curves(
        result, "precision_recall", outcome, "Recall (% of the positives)", "Precision (% of those said yes to)"
    )


def thresholds(result: Evaluation, at: float = 0.5) -> go.Figure:
    """Draw what thresholds from 0 to 1 do: rates above and, with costs, the mean cost of a row below.

    Args:
        result: what `dlstudio.evaluate` returned.
        at: the threshold to mark.

    Raises:
        DLStudioError: there are no scores of two classes.
    """
    points = [(threshold, result.at(threshold)) for threshold in np.linspace(0, 1, 101).tolist()]
    x = np.array([threshold for threshold, _ in points])
    n_panels = 2 if result.costs else 1
    figure = make_subplots(rows=n_panels, shared_xaxes=True, vertical_spacing=0.09)
    dashes = ("solid", "dash", "dot", "dashdot")
    for number, name in enumerate(TOLD):
        words = RATES[name][0]
        value, low, high = (100 * np.array([point.rates[name][k] for _, point in points]) for k in range(3))
        _band(figure, x, low, high, color(number), name, row=1)
        figure.add_scatter(
            x=x, y=value, mode="lines", name=words, legendgroup=name, row=1, col=1,
            line={"color": color(number), "width": 2, "dash": dashes[number]},
            hovertemplate="threshold %{x:.2f}<br>%{y:.1f} %<extra>" + words + "</extra>",
        )  # fmt: skip
    if result.costs:
        value, low, high = (np.array([point.cost[k] for _, point in points]) for k in range(3))
        _band(figure, x, low, high, PALETTE[4], "cost", row=2)
        figure.add_scatter(
            x=x, y=value, mode="lines", name="cost", showlegend=False, row=2, col=1,
            line={"color": PALETTE[4], "width": 2},
            hovertemplate="threshold %{x:.2f}<br>cost %{y:.3g}<extra></extra>",
        )  # fmt: skip
        best = result.cheapest
        if best is not None and np.isfinite(best.threshold):
            figure.add_scatter(
                x=np.array([best.threshold]), y=np.array([result.at(best.threshold).cost[0]]), mode="markers",
                name="cheapest", row=2, col=1, marker={"size": 11, "symbol": "diamond", "color": PALETTE[1]},
                error_x={
                    "array": [min(best.high, 1.0) - best.threshold], "arrayminus": [best.threshold - best.low],
                    "color": PALETTE[1], "thickness": 1.5, "width": 4,
                },
                hovertemplate="cheapest at %{x:.3f}: %{y:.3g}<extra></extra>",
            )  # fmt: skip
    theme.apply(figure, height=340 if n_panels == 1 else 500)
    figure.add_vline(at, line={"color": MUTED, "width": 1.5, "dash": "dash"})
    figure.update_xaxes(range=[0, 1])
    figure.update_xaxes(
        title_text=f"Threshold (score from which on {escape(_positive(result))} is predicted)", row=n_panels
    )
    figure.update_yaxes(title_text="Share (%)", range=[-2, 102], row=1, col=1)
    if result.costs:
        figure.update_yaxes(title_text="Mean cost (a row)", row=2, col=1)
    figure.update_layout(margin_t=80)
    return figure


def predicted(result: Evaluation) -> go.Figure:
    """Draw predicted against true values of a regression (up to 2,000 rows); on the line is right.

    Raises:
        DLStudioError: of classes.
    """
    points = result.tables.get("points")
    if points is None:
        raise DLStudioError(
            "an evaluation of a regression", f"one of {result.task}", "Use figures.evaluation.confusion."
        )
    true, said = points["y_true"].astype(np.float64), points["y_pred"].astype(np.float64)
    ends = np.array([min(true.min(), said.min()), max(true.max(), said.max())])
    figure = go.Figure()
    figure.add_scatter(
        x=ends, y=ends, mode="lines", name="exactly right", line={"color": MUTED, "width": 1.5, "dash": "dot"},
        hoverinfo="skip",
    )  # fmt: skip
    figure.add_scattergl(
        x=said,
        y=true,
        mode="markers",
        name=f"{len(true):,} of {result.n:,} rows",
        marker={"size": 6, "color": ACCENT, "opacity": 0.5},
        text=[f"row {row}" for row in points["row"]],
        hovertemplate="%{text}<br>predicted %{x:.4g}<br>true %{y:.4g}<extra></extra>",
    )
    unit = f"{result.target} " if result.target else ""
    return theme.apply(
        figure, x_title=f"Predicted {unit}(unit of the target)", y_title=f"True {unit}(unit of the target)", height=380
    )


def _curves(result: Evaluation, curve: str, outcome: str | None, x_title: str, y_title: str) -> go.Figure:
    table = result.tables.get("curves")
    if not table:
        raise DLStudioError("an evaluation with scores of classes", "one without", "Pass y_score= to evaluate.")
    names = list(dict.fromkeys(table["outcome"].tolist()))
    if outcome is not None and outcome not in names:
        raise unknown_name("class", outcome, [name for name in names if name])
    shown = names[:MAX_CURVES] if outcome is None else [outcome]
    figure = go.Figure()
    for number, name in enumerate(shown):
        rows = np.flatnonzero((table["curve"] == curve) & (table["outcome"] == name))
        x, y, low, high = (100 * table[key][rows].astype(np.float64) for key in ("x", "y", "low", "high"))
        if len(shown) == 1:
            _band(figure, x, low, high, color(number), curve, words=f"{100 * result.level:g} % band")
        figure.add_scatter(
            x=x,
            y=y,
            mode="lines",
            name=escape(name or _positive(result)),
            line={"color": color(number), "width": 2, "dash": ("solid", "dash", "dot", "dashdot")[number % 4]},
            hovertemplate="%{x:.0f} %, %{y:.1f} %<extra>" + escape(name) + "</extra>",
        )
    blind = np.array([0.0, 100.0])
    share = None if curve == "roc" else _share(result, shown)
    if curve == "roc" or share is not None:
        figure.add_scatter(
            x=blind,
            y=blind if share is None else np.array([share, share]),
            mode="lines",
            name="chance",
            line={"color": MUTED, "width": 1.5, "dash": "dot"},
            hoverinfo="skip",
        )
    theme.apply(figure, x_title=x_title, y_title=y_title, height=380)
    figure.update_xaxes(range=[-2, 102])
    figure.update_yaxes(range=[-2, 102])
    figure.update_layout(margin_t=56)
    return figure


def _share(result: Evaluation, shown: list[str]) -> float | None:
    """The share of positives in per cent, where one class is drawn."""
    if result.confusion is None or len(shown) > 1:
        return None
    at = result.class_names.index(shown[0]) if shown[0] else 1
    return float(100 * result.confusion[at].sum() / result.confusion.sum())


def _band(
    figure: go.Figure, x: Any, low: Any, high: Any, paint: str, group: str, *, row: int | None = None, words: str = ""
) -> None:
    kept = np.isfinite(low) & np.isfinite(high)
    place = {} if row is None else {"row": row, "col": 1}
    figure.add_scatter(
        x=np.concatenate([x[kept], x[kept][::-1]]), y=np.concatenate([high[kept], low[kept][::-1]]),
        fill="toself", mode="lines", line={"width": 0}, fillcolor=translucent(paint, 0.15),
        name=words, legendgroup=group, showlegend=bool(words), hoverinfo="skip", **place,
    )  # fmt: skip


def _positive(result: Evaluation) -> str:
    return f"{result.class_names[1]!r}" if len(result.class_names) == 2 else "each class"
