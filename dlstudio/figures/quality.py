"""Scores of an explanation: the output as features go and come back, and attributions as weights become random."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from dlstudio.errors import DLStudioError
from dlstudio.explain.quality.scores import QualityResult
from dlstudio.figures import theme
from dlstudio.figures.theme import ACCENT, MUTED, PALETTE, escape, translucent

__all__ = ["randomisation", "removal"]

LABEL = 26


def removal(result: QualityResult) -> go.Figure:
    """Draw the output as features are taken away (left) and put back (right), the largest attribution first.

    The line is the mean over rows, the band where random orders lie (mean ± 2 standard deviations). Good attributions
    leave the band quickly: downwards on the left, upwards on the right.

    Args:
        result: what `dlstudio.score_explanation` returned.

    Raises:
        DLStudioError: removal was not scored.
    """
    if result.deletion is None or result.insertion is None:
        raise DLStudioError("a result with the score 'removal'", "one without", _why(result, "removal"))
    assert result.random_deletion is not None and result.random_insertion is not None
    figure = make_subplots(cols=2, shared_yaxes=True, horizontal_spacing=0.06)
    sides = ((result.deletion, result.random_deletion), (result.insertion, result.random_insertion))
    for column, (rows, by_chance) in enumerate(sides, start=1):
        _band(figure, result.shares, by_chance, column)
        figure.add_scatter(
            x=result.shares,
            y=rows.mean(axis=0),
            mode="lines+markers",
            name="largest attribution first",
            showlegend=column == 1,
            line={"color": ACCENT, "width": 2.5},
            marker={"size": 5},
            hovertemplate="%{x:.0%} of the features<br>output %{y:.3f}<extra></extra>",
            row=1,
            col=column,
        )
    theme.apply(figure, y_title="Output (share of its range)", height=330)
    for column, words in ((1, "Features taken away (share)"), (2, "Features put back (share)")):
        figure.update_xaxes(title_text=words, tickformat=".0%", range=[-0.02, 1.02], row=1, col=column)
    figure.layout.margin.t = 44
    return figure


def randomisation(result: QualityResult) -> go.Figure:
    """Draw how alike attributions stay while the weights become random, layer after layer from the output on.

    The line is the median row, the band the middle half of the rows. It should fall: an explanation that stays near 1
    shows the inputs, not what the model learned.

    Args:
        result: what `dlstudio.score_explanation` returned.

    Raises:
        DLStudioError: the parameter randomisation was not scored.
    """
    if result.similarity is None or not len(result.similarity):
        why = _why(result, "parameter_randomisation")
        raise DLStudioError("a result with the score 'parameter_randomisation'", "one without", why)
    known = np.isfinite(result.similarity).any(axis=1)
    low, middle, high = (np.full(1 + len(result.layers), np.nan) for _ in range(3))
    for line, share in ((low, 25), (middle, 50), (high, 75)):
        line[0] = 1.0
        line[1:][known] = np.nanpercentile(result.similarity[known], share, axis=1)
    names = ["trained", *result.layers]
    places = np.arange(len(names), dtype=np.int32)
    figure = go.Figure()
    kept = np.isfinite(middle)
    shade = translucent(ACCENT, 0.15)
    _ribbon(figure, places[kept], low[kept], high[kept], fillcolor=shade, name="middle half of the rows")
    figure.add_scatter(
        x=places,
        y=middle,
        mode="lines+markers",
        name="median row",
        line={"color": ACCENT, "width": 2.5},
        marker={"size": 7},
        text=[escape(name) for name in names],
        hovertemplate="%{text}<br>rank correlation %{y:.2f}<extra></extra>",
    )
    figure.add_hline(0, line={"color": MUTED, "width": 1, "dash": "dot"}, layer="below")
    theme.apply(
        figure,
        x_title="Weights made random, from the last layer to the first",
        y_title="Rank correlation of |attributions|",
        height=330,
    )
    shown = [escape(name if len(name) <= LABEL else f"…{name[1 - LABEL :]}") for name in names]
    figure.update_xaxes(tickvals=places, ticktext=shown, showgrid=False, range=[-0.3, len(names) - 0.7])
    figure.update_yaxes(range=[min(-0.25, float(np.nanmin(low)) - 0.05), 1.05])
    figure.layout.margin.t = 44
    return figure


def _band(figure: go.Figure, shares: npt.NDArray[np.float64], by_chance: npt.NDArray[np.float64], column: int) -> None:
    mean, spread = by_chance.mean(axis=0), 2 * by_chance.std(axis=0, ddof=1)
    place = {"row": 1, "col": column, "legendgroup": "random"}
    shade = translucent(MUTED, 0.2)
    _ribbon(figure, shares, mean - spread, mean + spread, fillcolor=shade, showlegend=False, **place)
    figure.add_scatter(
        x=shares,
        y=mean,
        mode="lines",
        line={"color": PALETTE[1], "width": 1.5, "dash": "dash"},
        name="random orders (mean ± 2 sd)",
        showlegend=column == 1,
        hovertemplate="%{x:.0%} of the features, at random<br>output %{y:.3f}<extra></extra>",
        **place,
    )


def _ribbon(figure: go.Figure, x: npt.NDArray[Any], low: npt.NDArray[Any], high: npt.NDArray[Any], **how: Any) -> None:
    """Fill what lies between two lines."""
    around = np.concatenate([x, x[::-1]])
    figure.add_scatter(
        x=around, y=np.concatenate([high, low[::-1]]), fill="toself", mode="lines", line={"width": 0},
        hoverinfo="skip", **how,
    )  # fmt: skip


def _why(result: QualityResult, name: str) -> str:
    said = result.skipped.get(name)
    return f"It was left out: {said}." if said else f"Score again with {name!r} among scores=."
