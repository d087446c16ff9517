"""How right a model stays while its inputs are attacked or corrupted."""

from __future__ import annotations

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from dlstudio.errors import DLStudioError
from dlstudio.figures import theme
from dlstudio.figures.theme import MUTED, color, escape, translucent
from dlstudio.trust.robustness_result import RobustnessCurve, RobustnessResult, titled

__all__ = ["attacks", "corruptions"]

SYMBOLS = ("circle", "diamond", "square")


def attacks(result: RobustnessResult) -> go.Figure:
    """Draw accuracy (or the mean absolute error) over the size of an attacker's change, with intervals.

    Args:
        result: what `dlstudio.assess_robustness` returned.

    Raises:
        DLStudioError: nothing was attacked.
    """
    chosen = _curves(result, "attack")
    figure = go.Figure()
    for number, one in enumerate(chosen):
        _draw(figure, result, one, number, titled(one.name))
    size = "no input by more than" if result.norm == "linf" else "by a length of at most"
    theme.apply(
        figure,
        x_title=f"Changed on purpose, {size} … ({chosen[0].unit})",
        y_title=_y_title(result),
        height=340,
    )
    _scale(figure, result, chosen)
    figure.update_layout(margin_t=44)
    return figure


def corruptions(result: RobustnessResult) -> go.Figure:
    """Draw accuracy (or the mean absolute error) over the strength of every corruption, a panel each.

    Args:
        result: what `dlstudio.assess_robustness` returned.

    Raises:
        DLStudioError: nothing was corrupted.
    """
    chosen = _curves(result, "corruption")
    figure = make_subplots(
        cols=len(chosen),
        shared_yaxes=True,
        horizontal_spacing=0.05,
        subplot_titles=[escape(titled(one.name)) for one in chosen],
    )
    for number, one in enumerate(chosen):
        _draw(figure, result, one, number, "", column=number + 1)
    theme.apply(figure, y_title=_y_title(result), height=340)
    for number, one in enumerate(chosen):
        share = one.name == "missing"
        words = one.unit[:1].upper() + one.unit[1:] if share else f"Strength ({one.unit})"
        figure.update_xaxes(title_text=escape(words), row=1, col=number + 1)
        if share:
            figure.update_xaxes(tickformat=".0%", row=1, col=number + 1)
    _scale(figure, result, chosen)
    figure.update_layout(margin_t=44, showlegend=False)
    figure.update_annotations(font={"size": 13})
    return figure


def _curves(result: RobustnessResult, kind: str) -> list[RobustnessCurve]:
    chosen = [one for one in result.curves.values() if one.kind == kind]
    if not chosen:
        said = "; ".join(f"{name}: {why}" for name, why in result.skipped.items())
        article = "an" if kind == "attack" else "a"
        raise DLStudioError(f"a result with {article} {kind}", "one without", said or f"Assess again with {kind}s.")
    return chosen


def _draw(
    figure: go.Figure, result: RobustnessResult, one: RobustnessCurve, number: int, name: str, column: int | None = None
) -> None:
    place = {} if column is None else {"row": 1, "col": column}
    known = np.isfinite(one.low) & np.isfinite(one.high)
    x = one.strengths[known]
    figure.add_scatter(
        x=np.concatenate([x, x[::-1]]),
        y=np.concatenate([one.high[known], one.low[known][::-1]]),
        fill="toself",
        mode="lines",
        line={"width": 0},
        fillcolor=translucent(color(number), 0.15),
        showlegend=False,
        legendgroup=one.name,
        hoverinfo="skip",
        **place,
    )
    shown = ".1%" if result.metric == "accuracy" else ".4g"
    what = "accuracy" if result.metric == "accuracy" else "mean absolute error"
    strength = "%{x:.0%}" if one.name == "missing" else "%{x:.4g}"
    figure.add_scatter(
        x=one.strengths,
        y=one.value,
        customdata=np.stack([one.low, one.high], axis=1),
        mode="lines+markers",
        name=escape(name or titled(one.name)),
        legendgroup=one.name,
        line={"color": color(number), "width": 2.5},
        marker={"size": 8, "symbol": SYMBOLS[number % len(SYMBOLS)]},
        hovertemplate=(
            f"{strength}<br>{what} %{{y:{shown}}}<br>{100 * result.level:g} % interval %{{customdata[0]:{shown}}} to"
            f" %{{customdata[1]:{shown}}}<extra></extra>"
        ),
        **place,
    )


def _scale(figure: go.Figure, result: RobustnessResult, chosen: list[RobustnessCurve]) -> None:
    if result.metric == "accuracy":
        figure.update_yaxes(range=[-0.02, 1.02], tickformat=".0%")
    else:
        figure.update_yaxes(rangemode="tozero")
    figure.add_hline(float(chosen[0].value[0]), line={"color": MUTED, "width": 1, "dash": "dot"}, layer="below")


def _y_title(result: RobustnessResult) -> str:
    if result.metric == "accuracy":
        return f"Accuracy (share of {len(result):,} rows)"
    return "Mean absolute error (unit of the target)"
