"""Learning rates and batch sizes that were tried before a training."""

from __future__ import annotations

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from dlstudio.figures import theme
from dlstudio.figures.theme import ACCENT, MUTED, PALETTE
from dlstudio.tuning.batch_sizes import BatchSizes
from dlstudio.tuning.learning_rates import LearningRates

__all__ = ["batch_sizes", "learning_rates"]


def learning_rates(result: LearningRates) -> go.Figure:
    """Draw the loss over the learning rate, as it came and smoothed, with the suggestion."""
    figure = go.Figure()
    finite = np.isfinite(result.loss)
    figure.add_scatter(
        x=result.lr[finite],
        y=result.loss[finite],
        mode="markers",
        name="loss of a batch",
        marker={"color": MUTED, "size": 4, "opacity": 0.5},
        hovertemplate="rate %{x:.2g}<br>loss %{y:.4g}<extra></extra>",
    )
    figure.add_scatter(
        x=result.lr,
        y=result.smoothed,
        mode="lines",
        name="smoothed",
        line={"color": ACCENT, "width": 2.5},
        hovertemplate="rate %{x:.2g}<br>smoothed loss %{y:.4g}<extra></extra>",
    )
    if result.suggestion is not None:
        near = float(np.interp(np.log(result.suggestion), np.log(result.lr), result.smoothed))
        figure.add_scatter(
            x=[result.suggestion],
            y=[near],
            mode="markers+text",
            name="suggestion",
            marker={"color": PALETTE[1], "size": 13, "symbol": "diamond"},
            text=[f"{result.suggestion:.2g}"],
            textposition="top right",
            hovertemplate="suggested: %{x:.3g}<extra></extra>",
        )
    theme.apply(figure, x_title="Learning rate", y_title="Loss of a batch", height=380)
    figure.update_xaxes(type="log", exponentformat="power")
    calm = np.concatenate([result.smoothed[np.isfinite(result.smoothed)], [result.first_loss]])
    calm = calm[np.isfinite(calm)]
    if len(calm):  # what diverges must not flatten the rest
        low, high = float(calm.min()), float(np.quantile(calm, 0.97))
        room = 0.15 * max(high - low, 1e-9)
        figure.update_yaxes(range=[low - room, max(high, result.first_loss) + 2 * room])
    return figure.update_layout(showlegend=True)


def batch_sizes(result: BatchSizes) -> go.Figure:
    """Draw rows a second and memory, where it could be told, over the batch size; what did not fit is a cross."""
    frame = result.frame()
    timed, refused = frame[frame["rows_per_s"].notna()], frame[~frame["fits"]]
    panels = [("rows_per_s", "Rows a second", "%{y:,.0f} rows a second")]
    if timed["memory_mib"].notna().any():
        panels.append(("memory_mib", "Memory (MiB)", "%{y:,.1f} MiB"))
    figure = make_subplots(rows=1, cols=len(panels), horizontal_spacing=0.12)
    for at, (column, title, hover) in enumerate(panels, 1):
        figure.add_scatter(
            x=timed["batch_size"].to_numpy(dtype=np.float64),
            y=timed[column].to_numpy(),
            mode="lines+markers",
            line={"color": ACCENT, "width": 2},
            marker={
                "size": [13 if size == result.suggestion else 7 for size in timed["batch_size"]],
                "color": [PALETTE[1] if size == result.suggestion else ACCENT for size in timed["batch_size"]],
            },
            hovertemplate=f"%{{x:,}} rows a batch<br>{hover}<extra></extra>",
            showlegend=False,
            row=1,
            col=at,
        )
        figure.update_yaxes(title_text=title, row=1, col=at)
    if len(refused):
        figure.add_scatter(
            x=refused["batch_size"].to_numpy(dtype=np.float64),
            y=np.zeros(len(refused)),
            mode="markers",
            marker={"symbol": "x", "size": 10, "color": PALETTE[1]},
            hovertemplate="%{x:,} rows do not fit<extra></extra>",
            showlegend=False,
            row=1,
            col=1,
        )
    theme.apply(figure, height=340)
    figure.update_xaxes(type="log", title_text="Batch size (rows)")
    figure.update_yaxes(rangemode="tozero")
    return figure
