"""Which components of a recipe matter: a figure fit for a paper."""

from __future__ import annotations

import numpy as np
import plotly.graph_objects as go

from dlstudio.figures import intervals, theme
from dlstudio.figures.theme import escape, short
from dlstudio.summary.words import label
from dlstudio.tuning.ablation_result import AblationResult

__all__ = ["cells", "effects"]

MOST_CELLS = 40
LABEL = 60


def effects(result: AblationResult) -> go.Figure:
    """Draw what every component brings, with intervals: its metric with less without it, the largest on top."""
    frame = result.effects
    frame = frame.iloc[np.argsort(-frame["difference"].abs().fillna(0).to_numpy(), kind="stable")]
    frame = frame.sort_values("kind", key=lambda kinds: kinds != "main", kind="stable").reset_index(drop=True)
    at, low, high = (frame[name].to_numpy(dtype=np.float64) for name in ("difference", "low", "high"))
    texts = [f"{one:+.4g}<br>{escape(said)}" for one, said in zip(at, frame["sentence"], strict=True)]
    figure = go.Figure()
    intervals.contrasts(figure, at, low, high, verdicts=list(frame["verdict"]), texts=texts, margin=result.margin)
    n = frame["n"].max() if len(frame) else 0
    theme.apply(
        figure,
        x_title=f"{label(result.metric)} with it, less without ({100 * result.level:g} % intervals, up to {n} seeds)",
        y_title="",
        height=140 + 44 * max(len(frame), 2),
    )
    named = [f"{on}  (without: {off})" for on, off in zip(frame["factor"], frame["without"], strict=True)]
    intervals.named(figure, [short(name, LABEL) for name in named])
    return figure


def cells(result: AblationResult) -> go.Figure:
    """Draw the metric of every combination that was trained: each seed a dot, the mean and its interval."""
    frame, runs = result.cells.head(MOST_CELLS), result.runs
    place = {cell: at for at, cell in enumerate(frame["cell"])}
    done = runs[(runs["state"] == "complete") & runs["cell"].isin(list(place))]
    figure = go.Figure()
    texts = [f"{escape(name)}, seed {escape(seed)}" for name, seed in zip(done["label"], done["seed"], strict=True)]
    values = done["value"].to_numpy(dtype=np.float64)
    intervals.dots(figure, values, [place[cell] for cell in done["cell"]], texts, "one seed")
    mean, low, high = (frame[name].to_numpy(dtype=np.float64) for name in ("mean", "low", "high"))
    intervals.means(figure, mean, low, high, [escape(one) for one in frame["label"]], "mean")
    theme.apply(figure, x_title=label(result.metric), y_title="", height=140 + 40 * max(len(frame), 2))
    intervals.named(figure, [short(one, LABEL) for one in frame["label"]])
    return figure
