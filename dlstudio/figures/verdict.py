"""What all pictures of an explanation share: colours, axes, a band above a suspect one, a refused one's reasons."""

from __future__ import annotations

import functools
import textwrap
from collections.abc import Callable
from typing import Any, Concatenate, ParamSpec

import plotly.graph_objects as go

from dlstudio.explain.plain import in_plain_words
from dlstudio.explain.result import Explanation
from dlstudio.explain.words import UNSIGNED, output_name, unit, verdict_line
from dlstudio.figures import theme
from dlstudio.figures.theme import INK, SEVERITY_COLORS, escape, translucent

__all__ = [
    "AGAINST",
    "DIVERGING",
    "FOR",
    "INK_ON_COLOR",
    "SIZES",
    "axis_title",
    "finish",
    "refusable",
    "refusal",
    "short",
    "sign_color",
]

FOR, AGAINST = "#d55e00", "#0072b2"
"""Vermilion pushes the output up, blue pulls it down: a pair that any colour vision tells apart."""
DIVERGING = ((0.0, "#005f9c"), (0.25, "#62abd6"), (0.5, "#f7f7f7"), (0.75, "#f0a067"), (1.0, "#ad4500"))
"""From against to for through near-white; equally dark at both ends."""
INK_ON_COLOR = "#1a2632"
"""What is written or drawn on light cells, and stays dark where a dark page turns the ink of a picture light."""
SIZES = ((0.0, "#f7f7f7"), (0.35, "#b9cfe4"), (0.7, "#3f86bd"), (1.0, "#00335a"))
"""For sizes, which have no sign."""
WRAP, WRAP_NARROW = 76, 57
"""Characters a line, so that a picture half a page wide holds them."""
_P = ParamSpec("_P")


def sign_color(value: float) -> str:
    """The colour of what pushes up or pulls down."""
    return AGAINST if value < 0 else FOR


def short(text: object, most: int = 34) -> str:
    """Text of a user made inert and cut to a length that fits beside a picture."""
    text = str(text)
    return escape(text if len(text) <= most else f"{text[: most - 1]}…")


def axis_title(explanation: Explanation, at: int | None = None, *, mean: bool = False) -> str:
    """The axis of attributions in words, with their unit: ``"Attribution for approval (logit)"``."""
    about = output_name(explanation, at)
    about = about if len(about) <= 40 else f"{about[:39]}…"
    if explanation.method in UNSIGNED:
        what, per = "|Gradient|", f"{unit(explanation)} for a change of 1 in the model's input"
    else:
        what, per = "|attribution|" if mean else "Attribution", unit(explanation)
    return f"{f'Mean {what}' if mean else what} for {about} ({per})"


def finish(figure: go.Figure, explanation: Explanation, *, height: int, top: int = 14) -> go.Figure:
    """Give a figure the studio's look, and a band above it that says why a suspect explanation is suspect.

    Args:
        figure: the figure to change; its axes have their titles.
        explanation: what it shows.
        height, top: in pixels: of figure and upper margin, without the band.
    """
    theme.apply(figure, height=height)
    figure.layout.margin.t = top
    if explanation.verdict != "suspect":
        return figure
    lines = textwrap.wrap(verdict_line(explanation), WRAP_NARROW)[:6]
    band = 14 + 17 * len(lines)
    figure.layout.height = height + band + 8
    figure.layout.margin.t = top + band + 8
    color = SEVERITY_COLORS["warning"]
    place: dict[str, Any] = {"xref": "paper", "yref": "paper"}
    figure.add_shape(
        type="rect", x0=0, x1=1, y0=top, y1=top + band, yanchor=1, ysizemode="pixel", **place,
        fillcolor=translucent(color, 0.16), line={"color": color, "width": 1}, layer="above",
    )  # fmt: skip
    figure.add_annotation(
        text="<br>".join(map(escape, lines)), x=0, y=1, yshift=top + band / 2, xanchor="left", yanchor="middle",
        xshift=8, align="left", showarrow=False, font={"size": 12.5, "color": INK}, **place,
    )  # fmt: skip
    return figure


def refusal(explanation: Explanation) -> go.Figure:
    """A figure without a single number of the explanation: why it was refused, and what to do."""
    lines = [f"<b>{escape(line)}</b>" for line in textwrap.wrap("This explanation is not shown: it was refused.", WRAP)]
    grave = [finding for finding in explanation.findings if finding.severity == "critical"]
    for finding in map(in_plain_words, grave or explanation.findings):
        lines += ["", *map(escape, textwrap.wrap(finding.sentence, WRAP))]
        lines += [f"<i>{escape(line)}</i>" for line in textwrap.wrap(finding.remedy, WRAP)]
    figure = go.Figure()
    height = 48 + 18 * len(lines)
    theme.apply(figure, height=height)
    figure.update_layout(margin={"l": 8, "r": 8, "t": 8, "b": 8})
    figure.update_xaxes(visible=False)
    figure.update_yaxes(visible=False)
    color = SEVERITY_COLORS["critical"]
    place: dict[str, Any] = {"xref": "paper", "yref": "paper"}
    figure.add_shape(
        type="rect", x0=0, x1=1, y0=0, y1=1, fillcolor=translucent(color, 0.07), line={"color": color, "width": 1},
        **place,
    )  # fmt: skip
    figure.add_annotation(
        text="<br>".join(lines), x=0, y=1, xshift=14, yshift=-12, xanchor="left", yanchor="top", align="left",
        showarrow=False, font={"size": 13, "color": INK}, **place,
    )  # fmt: skip
    return figure


def refusable(
    draw: Callable[Concatenate[Explanation, _P], go.Figure],
) -> Callable[Concatenate[Explanation, _P], go.Figure]:
    """Make a figure of an explanation draw the reasons, and no numbers, where the explanation was refused."""

    @functools.wraps(draw)
    def drawn(explanation: Explanation, /, *args: _P.args, **kwargs: _P.kwargs) -> go.Figure:
        return refusal(explanation) if explanation.verdict == "refused" else draw(explanation, *args, **kwargs)

    return drawn
