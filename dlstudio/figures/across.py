"""Runs across their settings, metrics and measures."""

from __future__ import annotations

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from dlstudio.compare.result import Comparison
from dlstudio.figures import theme
from dlstudio.figures.theme import color, escape, short
from dlstudio.summary.words import label

__all__ = ["first_axes", "numeric", "parallel", "rank", "scatter_matrix", "varied"]

FIRST_AXES = 6
MOST_NAMED = 16
NAME = 26
"""Letters of a name that fit beside an axis."""
_NOT_SETTINGS = ("config.name", "config.variant", "config.seed")


def varied(comparison: Comparison) -> list[str]:
    """The variant, and the columns of `comparison.runs` that hold settings in which runs differ."""
    frame = comparison.runs.dropna(subset=["value"])
    settings = [name for name in map(str, frame) if name.startswith("config.") and name not in _NOT_SETTINGS]
    return ["variant", *(name for name in settings if frame[name].nunique(dropna=False) > 1)]


def numeric(comparison: Comparison) -> list[str]:
    """The columns of `comparison.runs` that hold more than one number, what was measured on validation data first."""
    frame = comparison.runs.dropna(subset=["value"])
    columns = [
        name for name in map(str, frame) if name not in ("seed", "value") and pd.api.types.is_numeric_dtype(frame[name])
    ]
    some = [name for name in columns if frame[name].dtype != bool and frame[name].nunique() > 1]
    return sorted(some, key=lambda name: (name.startswith("phase/"), *rank(name)))


def rank(name: str) -> tuple[int, str]:
    """Sorts validation first, then test, then what was measured during training."""
    heads = ("val/", "test/", "best/")
    return next((at for at, head in enumerate(heads) if name.startswith(head)), len(heads)), name


def first_axes(comparison: Comparison) -> list[str]:
    """The columns that `parallel` is drawn with as long as nobody has chosen others; none for plain values."""
    if not comparison.run_records:
        return []
    columns = dict.fromkeys([*varied(comparison), *numeric(comparison)])
    return [name for name in columns if name != comparison.metric][:FIRST_AXES]  # the metric is the last axis anyway


def parallel(comparison: Comparison, columns: list[str]) -> go.Figure:
    """Draw runs as lines across settings, metrics and measures, coloured by the metric.

    Args:
        comparison: of runs.
        columns: of `comparison.runs`; words become places on their axis.
    """
    frame = comparison.runs.dropna(subset=["value"])
    axes = [_axis(frame[name], name) for name in columns if frame[name].notna().any()]
    metric = {"label": escape(label(comparison.metric)), "values": frame["value"].to_numpy(dtype=np.float64)}
    figure = go.Figure(
        go.Parcoords(
            line={
                "color": frame["value"].to_numpy(dtype=np.float64),
                "colorscale": theme.SEQUENTIAL,
                "reversescale": comparison.direction == "min",
                "showscale": True,
            },
            dimensions=[*axes, metric],
            labelfont={"size": 12},
            labelangle=-12,  # so that long names of neighbours do not run into each other
        )
    )
    theme.apply(figure, height=420)
    return figure.update_layout(margin={"l": 80, "r": 40, "t": 90, "b": 30})


def scatter_matrix(comparison: Comparison, columns: list[str]) -> go.Figure:
    """Draw every pair of numbers of the runs against each other, coloured by variant.

    Args:
        comparison: of runs.
        columns: numeric columns of `comparison.runs`.
    """
    frame = comparison.runs.dropna(subset=["value"])
    titles = {one: label(one.removeprefix("config.")) for one in columns} | {"value": label(comparison.metric)}
    figure = go.Figure()
    for at, (name, part) in enumerate(frame.groupby("variant", sort=False)):
        figure.add_splom(
            dimensions=[
                {"label": escape(titles[one]), "values": part[one].to_numpy(dtype=np.float64)} for one in columns
            ],
            name=escape(name),
            marker={"color": color(at), "size": 6, "opacity": 0.75},
            diagonal_visible=False,
            text=[escape(one) for one in part["name"]],
        )
    theme.apply(figure, height=170 + 150 * len(columns))
    return figure.update_layout(showlegend=len(figure.data) <= MOST_NAMED)


def _axis(column: object, name: str) -> dict[str, object]:
    series = pd.Series(column)
    numbers = pd.to_numeric(series, errors="coerce")
    title = escape(label(name.removeprefix("config.")))
    if numbers.notna().all():
        return {"label": title, "values": numbers.to_numpy(dtype=np.float64)}
    codes, names = pd.factorize(series.astype(str).where(series.notna(), "–"))
    return {
        "label": title,
        "values": codes,
        "tickvals": list(range(len(names))),
        "ticktext": [escape(short(one, NAME)) for one in names],
    }
