"""Training rows that helped or hindered a row, and those that influence themselves the most."""

from __future__ import annotations

import numpy as np
import plotly.graph_objects as go

from dlstudio.errors import DLStudioError
from dlstudio.explain.influence.result import InfluenceResult, label_of
from dlstudio.figures import theme
from dlstudio.figures.theme import ACCENT, PALETTE, color, escape, note

__all__ = ["influence", "self_influence"]

MAX_POINTS = 5000
MAX_LABELS = 7


def influence(result: InfluenceResult, at: int = 0, top: int = 8) -> go.Figure:
    """Draw the training rows that lowered a row's loss the most (blue), and those that raised it (orange, hatched).

    Args:
        result: what `dlstudio.trace_influence` returned.
        at: which of the explained rows.
        top: how many of each to draw.

    Raises:
        DLStudioError: there is no such row.
    """
    if not 0 <= at < len(result):
        raise DLStudioError(f"a row from 0 to {len(result) - 1}", f"at={at}", "Choose one of the explained rows.")
    figure = go.Figure()
    bars: list[str] = []
    for name, places, values, sign, paint, pattern in (
        ("lowered the loss", result.proponents, result.proponent_influence, 1, ACCENT, ""),
        ("raised the loss", result.opponents, result.opponent_influence, -1, PALETTE[1], "/"),
    ):
        kept = np.flatnonzero(sign * values[at, :top] > 0)
        if not len(kept):
            continue
        chosen, shown = places[at, kept], values[at, kept]
        labels = [
            escape(f"row {result.train_rows[place]} · {label_of(result, result.y_train[place])}") for place in chosen
        ]
        figure.add_bar(
            x=shown.astype(np.float64),
            y=np.arange(len(bars), len(bars) + len(labels), dtype=np.int32),
            orientation="h",
            name=name,
            marker={
                "color": paint,
                "pattern": {"shape": pattern, "fillmode": "overlay", "fgcolor": "#ffffff", "size": 7, "solidity": 0.2},
            },
            text=labels,
            textposition="none",
            hovertemplate="%{text}<br>influence %{x:.4g}<extra></extra>",
        )
        bars += labels
    unit = "loss, up to a factor" if _guessed(result) else "loss"
    said = "" if result.y_pred is None else f", predicted {label_of(result, result.y_pred[at])}"
    theme.apply(
        figure,
        title=f"Row {result.rows[at]}: {label_of(result, result.y_true[at])}{said}",
        x_title=f"Fall of its loss by training on the row ({unit})",
        y_title="Training row · target",
        height=130 + 22 * max(len(bars), 4),
    )
    figure.update_yaxes(tickvals=list(range(len(bars))), ticktext=bars, range=[len(bars) - 0.5, -0.5], showgrid=False)
    figure.update_layout(margin_t=64, bargap=0.25, showlegend=True)
    if not bars:
        _note(figure, "No training row influences this one: its loss has no gradient at these checkpoints")
    return figure


def self_influence(result: InfluenceResult) -> go.Figure:
    """Draw the influence of every training row on itself, the largest first; wrong labels gather on the left.

    Of more than 5,000 rows the largest are drawn.

    Args:
        result: what `dlstudio.trace_influence` returned.
    """
    order = np.argsort(-result.self_influence, kind="stable")[:MAX_POINTS]
    figure = go.Figure()
    targets = result.y_train[order]
    classes = np.unique(targets) if targets.dtype.kind in "iub" else np.zeros(0)
    few = 0 < len(classes) <= MAX_LABELS
    groups = [(label_of(result, one), targets == one) for one in classes] if few else [("", np.ones(len(order), bool))]
    for number, (name, chosen) in enumerate(groups):
        places = np.flatnonzero(chosen)
        figure.add_scattergl(
            x=(places + 1).astype(np.int32),
            y=result.self_influence[order[places]].astype(np.float64),
            mode="markers",
            name=escape(name),
            showlegend=few,
            marker={"size": 6, "color": color(number) if few else ACCENT, "opacity": 0.75, "symbol": number % 6},
            text=[
                escape(f"row {result.train_rows[place]} · {label_of(result, result.y_train[place])}")
                for place in order[places]
            ],
            hovertemplate="%{text}<br>self-influence %{y:.4g}<extra></extra>",
        )
    unit = "loss, up to a factor" if _guessed(result) else "loss"
    theme.apply(
        figure,
        x_title="Rank (1 = influences itself the most)",
        y_title=f"Self-influence ({unit})",
        height=340,
    )
    figure.update_yaxes(rangemode="tozero")
    return figure


def _guessed(result: InfluenceResult) -> bool:
    return any(finding.code == "DLS428" for finding in result.findings)


def _note(figure: go.Figure, words: str) -> None:
    note(figure, words)
    figure.update_xaxes(visible=False)
    figure.update_yaxes(visible=False)
