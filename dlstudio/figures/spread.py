"""Attributions of many rows at once: a swarm for every feature, and one feature's attribution over its value."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import plotly.graph_objects as go

from dlstudio.errors import DLStudioError, unknown_name
from dlstudio.explain.parts import feature_labels, number, of_inputs
from dlstudio.explain.result import Explanation
from dlstudio.explain.words import ROW_NAMES
from dlstudio.figures.swarm import even_rows, has_order, kinds_of, limits, shades_of, swarm
from dlstudio.figures.theme import ACCENT, INK, MUTED, escape
from dlstudio.figures.verdict import axis_title, finish, refusable, short

__all__ = ["beeswarm", "dependence"]

Array = npt.NDArray[Any]
VALUES = ((0.0, "#3b1a9c"), (0.35, "#9c179e"), (0.65, "#e0596a"), (1.0, "#fbae45"))
"""From low to high feature values: apart from the two colours of signs, and ordered by lightness too."""
NO_ORDER = "#8a97a5"
MAX_POINTS = 9_000
SVG_POINTS = 3_000
"""More are drawn by WebGL."""
MANY = 12
"""From this many different values on a number has a trend to draw; fewer are drawn as swarms."""


@refusable
def beeswarm(explanation: Explanation, top: int = 15) -> go.Figure:
    """The attributions of all rows, a swarm for each of the most important features, coloured by the feature's value.

    Values that have no order, such as names of categories, are grey. Of very many rows an even sample is drawn.

    Args:
        explanation: of rows with the same features: a table, or sequences.
        top: how many features are shown.

    Raises:
        DLStudioError: texts and images have no features that all rows share.
    """
    attributions, values = _table(explanation)
    order = np.argsort(-explanation.importance, kind="stable")[:top]
    kept = even_rows(len(attributions), MAX_POINTS // len(order))
    names = feature_labels(explanation)
    span = attributions[np.ix_(kept, order)]
    low, high = limits(span)
    width = high - low
    drawn = np.clip(span, low, high)
    figure = go.Figure()
    _points(
        figure,
        drawn.T.ravel(),
        np.concatenate([place + swarm(column, width) for place, column in enumerate(drawn.T)]),
        np.concatenate(
            [shades_of(values[kept, feature], _texts(explanation, kept, feature)) for feature in order.tolist()]
        ),
        [
            f"{short(names[feature])} = {escape(text)}"
            for feature in order.tolist()
            for text in _texts(explanation, kept, feature).tolist()
        ],
        span.T.ravel(),
        explanation.rows[kept],
        np.where(span > high, "triangle-right", np.where(span < low, "triangle-left", "circle")).T.ravel(),
    )
    figure.update_yaxes(
        tickvals=list(range(len(order))),
        ticktext=[short(names[feature]) for feature in order.tolist()],
        range=[len(order) - 0.4, -0.6],
        ticks="",
        tickfont={"size": 12, "color": INK},
    )
    beyond = "; triangles lie beyond" if bool(((span < low) | (span > high)).any()) else ""
    title = axis_title(explanation) + _count(explanation, len(kept)) + beyond
    figure.update_xaxes(title_text=escape(title), range=[low - 0.04 * width, high + 0.04 * width])
    _zero(figure, "x")
    return finish(figure, explanation, height=76 + 34 * max(len(order), 3))


@refusable
def dependence(explanation: Explanation, feature: str | int, color: str | int | None = None) -> go.Figure:
    """The attribution of one feature over its value: a point a row, with the running median of numbers.

    Args:
        explanation: of rows with the same features: a table, or sequences.
        feature: its name, or its place.
        color: another feature whose values colour the points, to see whether the two act together.

    Raises:
        DLStudioError: there is no such feature; texts and images have none that all rows share.
    """
    attributions, values = _table(explanation)
    names = feature_labels(explanation)
    at = _place(feature, names)
    kept = even_rows(len(attributions), MAX_POINTS)
    y, numbers, labels = attributions[kept, at], values[kept, at], _texts(explanation, kept, at)
    known = np.isfinite(numbers)
    curved = has_order(numbers, labels) and len(np.unique(numbers[known])) >= MANY
    ticks: dict[str, Any] = {}
    if curved:
        x = numbers
    else:
        kinds, place = kinds_of(numbers, labels)
        x = np.empty(len(y))
        width = float(y.max() - y.min()) or 1.0
        for kind in range(len(kinds)):
            here = place == kind
            x[here] = kind + swarm(y[here], width)
        ticks = {"tickvals": list(range(len(kinds))), "ticktext": [short(kind, 18) for kind in kinds]}
        ticks["range"] = [-0.6, len(kinds) - 0.4]
    hover = [f"{short(names[at])} = {escape(label)}" for label in labels.tolist()]
    figure = go.Figure()
    if color is None:
        shades = None
    else:
        other = _place(color, names)
        others = _texts(explanation, kept, other)
        shades = shades_of(values[kept, other], others)
        hover = [
            f"{text}<br>{short(names[other])} = {escape(label)}"
            for text, label in zip(hover, others.tolist(), strict=True)
        ]
    what = "Feature value" if color is None else short(names[_place(color, names)], 24)
    _points(figure, x, y, shades, hover, y, explanation.rows[kept], what=what)
    if curved:
        _median(figure, x[known], y[known])
    else:
        _medians(figure, y, place, len(kinds))
    figure.update_xaxes(title_text=short(names[at], 60) + escape(_count(explanation, len(kept))), **ticks)
    figure.update_yaxes(title_text=escape(axis_title(explanation)))
    _zero(figure, "y")
    return finish(figure, explanation, height=400, top=34)


def _table(explanation: Explanation) -> tuple[Array, Array]:
    """Attributions and values, each (n, features)."""
    if explanation.modality in ("image", "text") or not of_inputs(explanation):
        raise DLStudioError(
            "rows that share their features, as in a table",
            f"{explanation.modality} attributions of shape {explanation.attributions.shape}",
            "Use importance or figure_of, which draw any explanation.",
        )
    attributions = explanation.by_feature.astype(np.float64)
    return attributions, explanation.inputs.reshape(len(explanation), -1).astype(np.float64)


def _texts(explanation: Explanation, rows: Array, feature: int) -> Array:
    """What the values of one feature read as, (rows,)."""
    if explanation.labels is not None and explanation.labels.size == explanation.inputs.size:
        labels: Array = explanation.labels.reshape(len(explanation), -1)[rows, feature]
        return labels
    values = explanation.inputs.reshape(len(explanation), -1)[rows, feature]
    return np.array([number(float(value)) for value in values], dtype=np.str_)


def _place(feature: str | int, names: list[str]) -> int:
    if isinstance(feature, str):
        if feature not in names:
            raise unknown_name("feature", feature, names)
        return names.index(feature)
    if not 0 <= feature < len(names):
        raise DLStudioError(f"a feature from 0 to {len(names) - 1}", f"{feature}", "Pass its name or its place.")
    return int(feature)


def _points(
    figure: go.Figure,
    x: Array,
    y: Array,
    shades: Array | None,
    hover: list[str],
    attributions: Array,
    rows: Array,
    symbols: Array | None = None,
    what: str = "Feature value",
) -> None:
    kind = figure.add_scattergl if len(x) > SVG_POINTS else figure.add_scatter
    size = 7 if len(x) <= SVG_POINTS // 2 else 5
    text = np.array(hover)
    told = np.stack([attributions, np.resize(rows, len(x))], axis=1).astype(np.float64)
    template = "%{text}<br>attribution %{customdata[0]:+.4g}<br>row %{customdata[1]:,}<extra></extra>"
    symbol = np.full(len(x), "circle") if symbols is None else symbols
    sizes = np.where(symbol == "circle", size, size + 4)
    colored = np.zeros(len(x), dtype=bool) if shades is None else ~np.isnan(shades)
    common: dict[str, Any] = {"mode": "markers", "hovertemplate": template, "showlegend": False}
    if not colored.all():
        marker = {
            "size": _few(sizes[~colored]),
            "symbol": _few(symbol[~colored]),
            "color": ACCENT if shades is None else NO_ORDER,
            "opacity": 0.6,
            "line": {"width": 0},
        }
        kind(x=x[~colored], y=y[~colored], text=text[~colored], customdata=told[~colored], marker=marker, **common)
    if shades is not None and colored.any():
        marker = {
            "size": _few(sizes[colored]),
            "symbol": _few(symbol[colored]),
            "color": shades[colored],
            "colorscale": VALUES,
            "cmin": 0,
            "cmax": 1,
            "opacity": 0.85,
            "line": {"width": 0},
            "colorbar": {
                "title": {"text": what, "side": "right", "font": {"size": 12, "color": MUTED}},
                "tickvals": [0, 1],
                "ticktext": ["low", "high"],
                "tickfont": {"size": 11, "color": MUTED},
                "thickness": 10,
                "outlinewidth": 0,
                "ticks": "",
            },
        }
        kind(x=x[colored], y=y[colored], text=text[colored], customdata=told[colored], marker=marker, **common)


def _few(values: Array) -> Any:
    """One value where all are alike, which is a long list shorter."""
    return values.tolist()[0] if bool((values == values[0]).all()) else values.tolist()


def _median(figure: go.Figure, x: Array, y: Array) -> None:
    """Medians of bins that hold equally many rows, as one line."""
    order = np.argsort(x, kind="stable")
    n_bins = min(16, len(x) // 12)
    if n_bins < 3:
        return
    bins = np.array_split(order, n_bins)
    figure.add_scatter(
        x=[float(np.median(x[rows])) for rows in bins],
        y=[float(np.median(y[rows])) for rows in bins],
        mode="lines",
        line={"color": INK, "width": 2},
        name="running median",
        hovertemplate="median %{y:.4g}<extra></extra>",
        showlegend=True,
    )


def _medians(figure: go.Figure, y: Array, place: Array, n_kinds: int) -> None:
    medians = [float(np.median(y[place == kind])) for kind in range(n_kinds)]
    figure.add_scatter(
        x=np.arange(n_kinds, dtype=np.int32),
        y=medians,
        mode="markers",
        marker={"symbol": "line-ew", "size": 30, "line": {"color": INK, "width": 2.5}},
        name="median",
        hovertemplate="median %{y:.4g}<extra></extra>",
        showlegend=True,
    )


def _count(explanation: Explanation, shown: int) -> str:
    n, row = len(explanation), ROW_NAMES[explanation.modality]
    of = f"{shown:,} of {n:,}" if shown < n else f"{n:,}"
    return f", {of} {row}{'s' if n > 1 else ''}"


def _zero(figure: go.Figure, axis: str) -> None:
    update = figure.update_xaxes if axis == "x" else figure.update_yaxes
    update(zeroline=True, zerolinecolor="#8a97a5", zerolinewidth=1)
