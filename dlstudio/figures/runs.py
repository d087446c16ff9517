"""Several runs in one figure."""

from __future__ import annotations

from collections.abc import Sequence

import plotly.graph_objects as go

from dlstudio.figures import theme
from dlstudio.figures.drawing import STEP, line
from dlstudio.figures.theme import color
from dlstudio.summary.numbers import TrainingSummary
from dlstudio.summary.words import label


def overlay(summaries: Sequence[TrainingSummary], key: str, *, log: bool = False) -> go.Figure:
    """Draw one recorded curve of several runs over each other; runs without it are left out.

    Args:
        summaries: the runs, in the order of the legend.
        key: what to draw, such as ``"val/loss"``.
        log: draw the values logarithmically.
    """
    figure = go.Figure()
    seen: dict[str, int] = {}
    for at, summary in enumerate(summaries):
        seen[summary.name] = seen.get(summary.name, 0) + 1
        name = summary.name if seen[summary.name] == 1 else f"{summary.name} ({seen[summary.name]})"
        if key in summary.curves:
            line(figure, summary.curves[key], color(at), name=name, points=True)
    theme.apply(figure, x_title=STEP, y_title=label(key), height=440)
    figure.update_layout(showlegend=True)
    if log:
        figure.update_layout(yaxis_type="log")
    return figure
