"""Which components of a recipe matter: a figure fit for a paper."""

from __future__ import annotations

import numpy as np
import plotly.graph_objects as go

from dlstudio.figures import theme
from dlstudio.figures.comparison import VERDICT_COLORS
from dlstudio.figures.theme import ACCENT, MUTED, escape, translucent
from dlstudio.summary.words import label
from dlstudio.tuning.ablation_result import AblationResult

__all__ = ["cells", "effects"]

MOST_CELLS = 40
_SYMBOLS = {
    "better": "triangle-right",
    "worse": "triangle-left",
    "equivalent": "square",
    "no difference shown": "circle",
}


def effects(result: AblationResult) -> go.Figure:
    """Draw what every component brings, with intervals: its metric with less without it, the largest on top."""
    frame = result.effects
    frame = frame.iloc[np.argsort(-frame["difference"].abs().fillna(0).to_numpy(), kind="stable")]
    frame = frame.sort_values("kind", key=lambda kinds: kinds != "main", kind="stable").reset_index(drop=True)
    figure = go.Figure()
    if result.margin is not None:
        figure.add_vrect(
            x0=-result.margin, x1=result.margin, fillcolor=translucent(ACCENT, 0.08), line_width=0, layer="below"
        )
    figure.add_vline(x=0, line={"color": MUTED, "width": 1, "dash": "dot"})
    for verdict, paint in VERDICT_COLORS.items():
        part = frame[frame["verdict"] == verdict]
        if not len(part):
            continue
        at, low, high = (part[name].to_numpy(dtype=np.float64) for name in ("difference", "low", "high"))
        figure.add_scatter(
            x=at,
            y=part.index.to_numpy(dtype=np.float64),
            mode="markers",
            name=verdict,
            marker={"color": paint, "size": 11, "symbol": _SYMBOLS.get(verdict, "circle-open")},
            error_x={"array": high - at, "arrayminus": at - low, "color": paint, "thickness": 1.8, "width": 4},
            text=[escape(sentence) for sentence in part["sentence"]],
            hovertemplate="%{x:+.4g}<br>%{text}<extra></extra>",
        )
    n = frame["n"].max() if len(frame) else 0
    theme.apply(
        figure,
        x_title=f"{label(result.metric)} with it, less without ({100 * result.level:g} % intervals, up to {n} seeds)",
        y_title="",
        height=140 + 44 * max(len(frame), 2),
    )
    named = [f"{on}  (without: {off})"[:60] for on, off in zip(frame["factor"], frame["without"], strict=True)]
    figure.update_yaxes(
        tickvals=list(range(len(frame))),
        ticktext=[escape(name) for name in named],
        range=[len(frame) - 0.4, -0.6],
        showgrid=False,
    )
    return figure.update_layout(showlegend=True, margin_t=48)


def cells(result: AblationResult) -> go.Figure:
    """Draw the metric of every combination that was trained: each seed a dot, the mean and its interval."""
    frame, runs = result.cells.head(MOST_CELLS), result.runs
    place = {cell: at for at, cell in enumerate(frame["cell"])}
    done = runs[(runs["state"] == "complete") & runs["cell"].isin(list(place))]
    figure = go.Figure()
    figure.add_scatter(
        x=done["value"].to_numpy(dtype=np.float64),
        y=np.array([place[cell] + 0.22 for cell in done["cell"]], dtype=np.float64),
        mode="markers",
        name="one seed",
        marker={"color": translucent(ACCENT, 0.35), "size": 7},
        text=[
            f"{escape(label_)}, seed {escape(seed)}" for label_, seed in zip(done["label"], done["seed"], strict=True)
        ],
        hovertemplate="%{text}<br>%{x:.5g}<extra></extra>",
    )
    mean, low, high = (frame[name].to_numpy(dtype=np.float64) for name in ("mean", "low", "high"))
    figure.add_scatter(
        x=mean,
        y=np.arange(len(frame), dtype=np.float64),
        mode="markers",
        name="mean",
        marker={"color": ACCENT, "size": 10, "symbol": "diamond"},
        error_x={"array": high - mean, "arrayminus": mean - low, "color": ACCENT, "thickness": 1.6, "width": 4},
        text=[escape(one) for one in frame["label"]],
        hovertemplate="%{text}<br>%{x:.5g}<extra></extra>",
    )
    theme.apply(figure, x_title=label(result.metric), y_title="", height=140 + 40 * max(len(frame), 2))
    figure.update_yaxes(
        tickvals=list(range(len(frame))),
        ticktext=[escape(f"{one}"[:44]) for one in frame["label"]],
        range=[len(frame) - 0.4, -0.6],
        showgrid=False,
    )
    return figure.update_layout(margin_t=48)
