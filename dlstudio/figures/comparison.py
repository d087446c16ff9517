"""Variants over their seeds, and how far apart they are."""

from __future__ import annotations

import itertools
import math

import numpy as np
import plotly.graph_objects as go

from dlstudio.compare.curves import Overlay, overlay
from dlstudio.compare.result import Comparison, Pair
from dlstudio.errors import DLStudioError
from dlstudio.figures import across, intervals, theme
from dlstudio.figures.theme import color, escape, short, translucent, xs
from dlstudio.summary.words import label

__all__ = ["curves", "differences", "in_full", "pictures", "variants"]

MOST_VARIANTS, MOST_PAIRS, MOST_LINES, MOST_BANDS = 40, 40, 60, 8
_AXES = {
    "step": "Step (optimiser updates)",
    "epoch": "Epoch (passes over the training part)",
    "wall": "Time since the start (s)",
}
NAME = 26
"""Letters of a variant's name that fit beside a picture; all of them are in the hover text."""


def pictures(comparison: Comparison) -> list[tuple[str, go.Figure]]:
    """Return what a card, a page and a report draw of a comparison, with what to say above each picture."""
    rows = comparison.pairing == "example"
    every = "Every variant with its interval." if rows else "Every run is a dot; the bar is the interval of the mean."
    better = "to the right" if comparison.direction == "max" else "to the left"
    found = [(f"{every} Better is {better}.", variants(comparison))]
    if comparison.comparisons:
        words = "How far apart they are. An interval that holds the zero line may be chance."
        found.append((words, differences(comparison)))
    return found


def in_full(comparison: Comparison) -> list[tuple[str, go.Figure]]:
    """Return `pictures`, the way of the metric to where it was compared, and the runs across what differs.

    A page offers the latter two with curves aligned in every way, and axes to choose. Plain values have neither.
    """
    found = pictures(comparison)
    try:
        read = overlay(comparison, comparison.metric, level=comparison.level)
    except DLStudioError:
        pass  # plain values, or runs that are gone, logged elsewhere, or were only evaluated in the end
    else:
        best = [one.name for one in comparison.ranked if one.name in read.variants][:MOST_BANDS]
        if len(read.grid) > 1:
            cut = f" of the {MOST_BANDS} best variants" if len(set(read.variants)) > MOST_BANDS else " of every variant"
            words = f"How they got there: the mean{cut} with its band, where several runs go on."
            found.append((words, curves(read.only(variants=best))))
    axes = across.first_axes(comparison)
    if len(axes) > 1:
        words = "Every run is a line. Drag along an axis to keep only the runs that pass there."
        found.append((words, across.parallel(comparison, axes)))
    return found


def variants(comparison: Comparison) -> go.Figure:
    """Draw the metric of every variant: its repetitions, their mean, and its interval; the best on top.

    Beyond 40 variants the rest is left to the table.
    """
    shown = comparison.ranked[:MOST_VARIANTS]
    figure = go.Figure()
    if comparison.pairing != "example":
        values = [value for one in shown for value in one.values]
        rows = [at for at, one in enumerate(shown) for _ in one.values]
        seeds = [f"{escape(one.name)}, seed {escape(seed)}" for one in shown for seed in one.seeds]
        intervals.dots(figure, values, rows, seeds, "one run")
    mean, low, high = (np.array([getattr(one, name) for one in shown], np.float64) for name in ("mean", "low", "high"))
    texts = [f"{escape(one.name)}, {_counted(one.n, comparison)}" for one in shown]
    intervals.means(figure, mean, low, high, texts, f"mean, {100 * comparison.level:g} % interval")
    theme.apply(figure, x_title=label(comparison.metric), y_title="", height=130 + 44 * max(len(shown), 2))
    intervals.named(figure, [f"{short(one.name, NAME)}  (n = {one.n:,})" for one in shown])
    return figure


def differences(comparison: Comparison) -> go.Figure:
    """Draw the difference of every pair with its interval, coloured by verdict; the margin, if any, as a band.

    Beyond 40 pairs those with the least p-values are drawn.
    """
    pairs = sorted(comparison.comparisons, key=lambda one: (math.isnan(one.p_value), one.p_value))[:MOST_PAIRS]
    at, low, high = (
        np.array([getattr(one, name) for one in pairs], np.float64) for name in ("difference", "low", "high")
    )
    figure = go.Figure()
    verdicts, texts = [one.verdict for one in pairs], [_hover(one) for one in pairs]
    intervals.contrasts(figure, at, low, high, verdicts=verdicts, texts=texts, margin=comparison.margin)
    title = f"Difference in {_lower(label(comparison.metric))} ({100 * comparison.level:g} % intervals)"
    theme.apply(figure, x_title=title, y_title="", height=130 + 40 * max(len(pairs), 2))
    intervals.named(figure, [f"{short(one.variant, NAME)} − {short(one.reference, NAME)}" for one in pairs])
    return figure


def curves(overlay: Overlay, *, bands: bool = True, log: bool = False) -> go.Figure:
    """Draw one recorded scalar of many runs: the mean of every variant with its band, or every run.

    Args:
        overlay: what `dlstudio.compare.curves.overlay` returned.
        bands: draw variants; False draws runs in the colour of their variant, of more than 60 some of each.
        log: draw the values logarithmically.
    """
    order = list(dict.fromkeys(overlay.variants))
    figure = go.Figure()
    (_bands if bands else _lines)(figure, overlay, order)
    theme.apply(figure, x_title=_AXES[overlay.align], y_title=label(overlay.key), height=440)
    figure.update_layout(showlegend=len(order) > 1)
    if log:
        figure.update_layout(yaxis_type="log")
    return figure


def _bands(figure: go.Figure, overlay: Overlay, order: list[str]) -> None:
    frame = overlay.bands
    parts = dict(tuple(frame.groupby("variant")))
    for at, name in enumerate(order):
        part = parts.get(name, frame[:0])  # of runs that are NaN everywhere there is no mean
        x = part["x"].to_numpy()
        known = part["low"].notna().to_numpy()
        if known.any():
            outline = {"mode": "lines", "line_width": 0, "legendgroup": name, "showlegend": False, "hoverinfo": "skip"}
            figure.add_scatter(x=xs(x[known]), y=part["high"].to_numpy()[known], **outline)
            figure.add_scatter(
                x=xs(x[known]),
                y=part["low"].to_numpy()[known],
                fill="tonexty",
                fillcolor=translucent(color(at), 0.15),
                **outline,
            )
        figure.add_scatter(
            x=xs(x),
            y=part["mean"].to_numpy(),
            mode="lines+markers" if len(x) <= 30 else "lines",
            name=f"{escape(short(name, NAME))} (n = {overlay.variants.count(name)})",
            legendgroup=name,
            line={"color": color(at), "width": 2},
            marker={"size": 4},
            customdata=part["n"].to_numpy(),
            hovertemplate="%{x:,}<br>mean of %{customdata}: %{y:.5g}<extra>" + escape(name) + "</extra>",
        )


def _lines(figure: go.Figure, overlay: Overlay, order: list[str]) -> None:
    seen: set[str] = set()
    places: dict[str, list[int]] = {variant: [] for variant in order}
    for at, variant in enumerate(overlay.variants):
        places[variant].append(at)
    in_turn = [at for turn in itertools.zip_longest(*places.values()) for at in turn if at is not None]
    if len(in_turn) > MOST_LINES:
        figure.add_annotation(
            text=f"{MOST_LINES} of {len(in_turn):,} runs", xref="paper", yref="paper", x=0, y=1, yanchor="bottom",
            showarrow=False,
        )  # fmt: skip
    for at in in_turn[:MOST_LINES]:
        name, key, variant = overlay.names[at], overlay.keys[at], overlay.variants[at]
        x, y = overlay.points(key)
        figure.add_scatter(
            x=xs(x),
            y=np.where(np.isfinite(y), y, np.nan),
            mode="lines+markers" if len(x) <= 30 else "lines",
            name=escape(short(variant, NAME)),
            legendgroup=variant,
            showlegend=variant not in seen,
            line={"color": color(order.index(variant)), "width": 1.5},
            marker={"size": 4},
            hovertemplate="%{x:,}<br>%{y:.5g}<extra>" + escape(name) + "</extra>",
        )
        seen.add(variant)


def _hover(pair: Pair) -> str:
    named = f"{escape(pair.variant)} − {escape(pair.reference)}: {pair.verdict}"
    size = "" if math.isnan(pair.effect_size) else f"<br>effect size g = {pair.effect_size:.2f}"
    p = "" if math.isnan(pair.p_adjusted) else f"<br>adjusted p = {pair.p_adjusted:.3g}"
    return f"{named}<br>{pair.difference:+.4g} ({pair.low:+.4g} to {pair.high:+.4g}){p}{size}"


def _counted(n: int, comparison: Comparison) -> str:
    return f"{n:,} rows" if comparison.pairing == "example" else f"{n:,} runs"


def _lower(words: str) -> str:
    """The first letter small, save where the word is an abbreviation."""
    return words if words[:2].isupper() else words[:1].lower() + words[1:]
