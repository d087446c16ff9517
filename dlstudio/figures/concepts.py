"""Scores of concepts beside what random examples score."""

from __future__ import annotations

import numpy as np
import plotly.graph_objects as go

from dlstudio.explain.concepts.explain_concepts import ConceptResult
from dlstudio.figures import theme
from dlstudio.figures.theme import ACCENT, MUTED, escape, translucent

__all__ = ["concepts"]

MAX_POINTS = 100


def concepts(result: ConceptResult) -> go.Figure:
    """Draw the score of every concept: repeats as small points, their mean as a diamond.

    The grey band is where means of random examples stay 95 times in 100. Filled diamonds are concepts that are used,
    by the test that also corrects for their number.

    Args:
        result: what `dlstudio.explain_concepts` returned.
    """
    figure = go.Figure()
    names = [*result.concepts, "random examples"]
    figure.add_vrect(*result.chance, fillcolor=MUTED, opacity=0.14, line_width=0, layer="below")
    figure.add_vline(0.5, line={"color": MUTED, "width": 1, "dash": "dot"}, layer="below")
    for used in (True, False):
        chosen = np.flatnonzero(result.used == used)
        if len(chosen):
            _row_points(figure, result.scores[chosen], chosen, ACCENT if used else MUTED)
    _row_points(figure, result.random_scores[None, :MAX_POINTS], np.array([len(result.concepts)]), MUTED)
    for used, words in ((True, "used"), (False, "not told from random")):
        chosen = np.flatnonzero(result.used == used)
        if not len(chosen):
            continue
        figure.add_scatter(
            x=result.score[chosen],
            y=chosen.astype(np.int32),
            mode="markers",
            name=f"mean, {words}",
            cliponaxis=False,
            marker={
                "symbol": "diamond" if used else "diamond-open",
                "size": 13,
                "color": ACCENT if used else MUTED,
                "line": {"width": 2, "color": ACCENT if used else MUTED},
            },
            customdata=np.stack([result.p_adjusted[chosen], result.accuracy[chosen]], axis=1),
            text=[escape(result.concepts[at]) for at in chosen],
            hovertemplate="%{text}<br>score %{x:.0%}<br>p (Holm) %{customdata[0]:.2g}"
            "<br>unseen examples recognised %{customdata[1]:.0%}<extra></extra>",
        )
    figure.add_scatter(  # nothing but the band's entry in the legend
        x=[None],
        y=[None],
        mode="markers",
        name="95 % of random means",
        marker={"symbol": "square", "size": 13, "color": translucent(MUTED, 0.25)},
    )
    title = f"Share of rows whose output rises towards the concept (layer {result.layer})"
    theme.apply(figure, x_title=title, y_title="Concept", height=120 + 44 * len(names))
    figure.update_xaxes(range=[-0.02, 1.02], tickformat=".0%")
    shown = [escape(name if len(name) <= 30 else name[:29] + "…") for name in names]
    figure.update_yaxes(
        tickvals=list(range(len(names))), ticktext=shown, range=[len(names) - 0.5, -0.5], showgrid=False
    )
    figure.layout.margin.t = 44
    return figure


def _row_points(figure: go.Figure, scores: np.ndarray, rows: np.ndarray, color: str) -> None:
    """Small points of single repeats, spread upwards and downwards so that equal ones can be seen."""
    n = scores.shape[1]
    spread = np.linspace(-0.28, 0.28, n) if n > 1 else np.zeros(1)
    figure.add_scatter(
        x=scores.ravel(),
        y=(rows[:, None] + spread[None]).ravel().astype(np.float32),
        mode="markers",
        showlegend=False,
        cliponaxis=False,
        marker={"size": 5, "color": translucent(color, 0.45)},
        hovertemplate="one repeat: %{x:.0%}<extra></extra>",
    )
