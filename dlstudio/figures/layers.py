"""The layers × steps heat map: where in the network something happens, and when."""

from __future__ import annotations

import math

import numpy as np
import plotly.graph_objects as go

from dlstudio.errors import unknown_name
from dlstudio.figures import theme
from dlstudio.figures.drawing import MAX_CROSSES, STEP, or_note
from dlstudio.figures.theme import MUTED, STATUS_COLORS, escape, xs
from dlstudio.summary.curves import LAYER_STATS
from dlstudio.summary.numbers import TrainingSummary

_STATS = {
    "grad_norm": "Gradient norm (L2)",
    "weight_norm": "Weight norm (L2)",
    "update_norm": "Update norm (L2)",
    "update_ratio": "Update / weight norm (ratio)",
}


def layers(summary: TrainingSummary, stat: str = "grad_norm") -> go.Figure:
    """Heat map of one statistic of every watched parameter over steps; colours are powers of ten.

    Args:
        summary: the run.
        stat: ``"grad_norm"``, ``"weight_norm"``, ``"update_norm"`` or ``"update_ratio"``.

    Raises:
        DLStudioError: there is no such statistic.
    """
    if stat not in LAYER_STATS:
        raise unknown_name("layer statistic", stat, LAYER_STATS)
    figure = go.Figure()
    history = summary.layers
    height = 260
    if history is not None and history.stats[stat].size:
        matrix = history.stats[stat].T
        with np.errstate(divide="ignore", invalid="ignore"):
            shown = np.where(matrix > 0, np.log10(matrix), np.nan).astype(np.float32)
        shown[~np.isfinite(shown)] = np.nan
        finite = shown[np.isfinite(shown)]
        low, high = (math.floor(finite.min()), math.ceil(finite.max())) if finite.size else (-1, 0)
        every = max(1, (high - low) // 6)
        ticks = list(range(low, max(high, low + 1) + 1, every))
        names = [escape(name if len(name) <= 40 else "…" + name[-39:]) for name in history.names]
        rows = np.arange(len(names), dtype=np.int32)
        figure.add_heatmap(
            x=xs(history.steps),
            y=rows,
            z=shown,
            customdata=matrix,
            zmin=low,
            zmax=ticks[-1],
            hoverongaps=False,
            colorscale=theme.SEQUENTIAL,
            text=[[name] * matrix.shape[1] for name in names] if len(names) < 60 else None,
            hovertemplate=("%{text}<br>" if len(names) < 60 else "parameter %{y}<br>")
            + "step %{x:,}<br>"
            + escape(_STATS[stat])
            + " %{customdata:.3g}<extra></extra>",
            colorbar={
                "title": {"text": _STATS[stat], "side": "right", "font": {"size": 12, "color": MUTED}},
                "tickvals": ticks,
                "ticktext": [f"10<sup>{tick}</sup>" for tick in ticks],
                "thickness": 12,
                "outlinewidth": 0,
            },
        )
        at_row, at_column = np.nonzero(~np.isfinite(matrix))
        if at_row.size:
            figure.add_scatter(
                x=xs(history.steps[at_column[:MAX_CROSSES]]),
                y=at_row[:MAX_CROSSES].astype(np.int32),
                mode="markers",
                marker={"symbol": "x", "size": 7, "color": STATUS_COLORS["FAILED"]},
                name="not a finite number",
                hovertemplate="not a finite number, step %{x:,}<extra></extra>",
                showlegend=True,
            )
        step = max(1, len(names) // 40)
        figure.update_yaxes(
            tickvals=rows[::step],
            ticktext=names[::step],
            range=[len(names) - 0.5, -0.5],
            tickfont={"size": 10},
            showgrid=False,
        )
        figure.update_xaxes(showgrid=False)
        height = min(900, max(260, 110 + 24 * len(names)))
    theme.apply(figure, x_title=STEP, y_title="Parameter (first layer on top)", height=height)
    figure.layout.yaxis.title.standoff = 6
    figure.layout.margin.t = 14
    return or_note(figure, summary, "layer statistics")
