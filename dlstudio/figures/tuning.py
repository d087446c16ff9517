"""A search in pictures: what its trials say about the parameters, drawn by Optuna in the look of the studio."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go

from dlstudio.figures import theme
from dlstudio.figures.studies import drawn_as, plots, study_of, target_of, weighed
from dlstudio.figures.theme import ACCENT, escape, or_note
from dlstudio.figures.trials import curves, focus, history, hover, spoken, thinned
from dlstudio.summary.words import label
from dlstudio.tuning.result import SearchResult
from dlstudio.tuning.space import Space
from dlstudio.tuning.trial_result import TrialResult

__all__ = ["contour", "front", "importance", "parallel", "pictures", "ranked", "slices"]

MOST_IN_PLANE, MOST_SLICES = 150, 4


def pictures(result: SearchResult) -> list[tuple[str, go.Figure]]:
    """Return what a card, a page and a report draw of a search, with what to say above each picture."""
    found = [("Every trial, and the best so far.", history(result))]
    if any(len(row.reports) > 1 for row in result.rows):
        found.append((f"{_upper(spoken(result))} of the trials while they trained.", curves(result)))
    if len(result.metrics) in (2, 3):
        found.append(("What no other trial beats in everything at once.", front(result)))
    if result.importance:
        found.append(("How much each parameter matters.", importance(result)))
    if any(row.state == "complete" for row in result.rows):
        found.append(("Every trial by the value of each parameter.", slices(result)))
        if len(ranked(result)) > 1:
            found.append(("Two parameters at once.", contour(result)))
            found.append(("All parameters at once; every line is a trial.", parallel(result)))
    return found


def ranked(result: SearchResult, metric: int = 0) -> list[str]:
    """The parameters of which complete trials tried more than one value, those that matter most first."""
    complete = [row for row in result.rows if row.state == "complete"]
    shares = result.importances.get(result.metrics[metric], {})
    varied = [name for name in result.space if len({repr(row.params.get(name)) for row in complete}) > 1]
    return sorted(varied, key=lambda name: -shares.get(name, 0.0))


def importance(result: SearchResult, metric: int = 0) -> go.Figure:
    """Draw the share of each parameter in what tells good trials from others, as `SearchResult.importances` has it."""
    shares = result.importances.get(result.metrics[metric], {})
    if not shares:
        words = "Too few complete trials to say what matters."
        return or_note(theme.apply(go.Figure(), height=160), words)
    figure = plots().plot_param_importances(
        study_of(result, thinned(result, MOST_IN_PLANE)),  # only their names are read
        evaluator=weighed({escape(name): share for name, share in shares.items()}),
        params=[escape(name) for name in shares],
        target=target_of(result, metric),
        target_name=escape(label(result.metrics[metric])),
    )
    theme.apply(figure, x_title="Share", y_title="", height=110 + 36 * max(2, len(shares)))
    figure.update_traces(marker_color=ACCENT, hovertemplate="%{y}: %{x:.1%}<extra></extra>")
    figure.update_xaxes(tickformat=".0%", range=[0, max(shares.values()) * 1.12])
    return figure.update_yaxes(showgrid=False)


def slices(result: SearchResult, metric: int = 0) -> go.Figure:
    """Draw the value of every complete trial over each parameter; of more than four those that matter most.

    ``figure.layout.meta["axes"]`` says which parameter an axis is, and ``customdata`` which trial a dot is.
    """
    names = ranked(result, metric)[:MOST_SLICES] or list(result.space)[:MOST_SLICES]
    if not any(row.state == "complete" for row in result.rows):
        return or_note(theme.apply(go.Figure(), height=160), "No trial is complete so far.")
    figure = plots().plot_slice(
        study_of(result, result.rows),
        params=[escape(name) for name in names],
        target=target_of(result, metric),
        target_name=escape(label(result.metrics[metric])),
    )
    theme.apply(figure, height=400)
    # Optuna sorts the parameters by name, whatever the order they were asked for in.
    axes = _axes(figure, names)
    _unquoted(figure, result, axes)
    for axis, name in axes.items():
        dots = [trace for trace in figure.data if (trace.xaxis or "x") == axis]
        _number(dots, result.rows, _drawn(result, name, as_text=True), lambda row: row.values[metric])
    figure.update_layout(width=None, meta={"axes": axes}, margin_r=70)
    figure.update_traces(marker_size=8, hovertemplate="%{x}<br>%{y:.5g}<extra></extra>")
    figure.update_traces(marker_colorbar={"thickness": 10, "xpad": 8}, selector=_has_colours)
    figure.update_yaxes(showticklabels=True, selector={"anchor": "x"})
    values = [row.values[metric] for row in result.rows if row.state == "complete"]
    focus(figure, values, result.directions[metric])
    return figure


def contour(result: SearchResult, x: str | None = None, y: str | None = None, metric: int = 0) -> go.Figure:
    """Draw the metric over two parameters at once; the two that matter most if none are named.

    Beyond 150 trials the best and the latest ones are drawn. ``figure.layout.meta["axes"]`` says which parameter an
    axis is, and ``customdata`` which trial a dot is.
    """
    known = ranked(result, metric)
    across = x if x is not None else next((name for name in known if name != y), None)
    up = y if y is not None else next((name for name in known if name != across), None)
    if across not in known or up not in known or across == up:
        words = "It takes complete trials with two parameters that differ."
        return or_note(theme.apply(go.Figure(), height=160), words)
    rows = thinned(result, MOST_IN_PLANE)
    varied = all(
        len({repr(row.params.get(name)) for row in rows if row.state == "complete"}) > 1 for name in (across, up)
    )
    if not varied:
        words = "The trials that are drawn differ in one of the two only."
        return or_note(theme.apply(go.Figure(), height=160), words)
    figure = plots().plot_contour(
        study_of(result, rows),
        params=[escape(across), escape(up)],
        target=target_of(result, metric),
        target_name=escape(label(result.metrics[metric])),
    )
    if figure.layout.xaxis.title.text != escape(across):
        figure = _turned(figure)
    theme.apply(figure, height=460)
    figure.update_layout(meta={"axes": {"x": across, "y": up}}, margin_r=90)
    darker_is_better = result.directions[metric] == "min"
    # What is pointed at or clicked between the dots is the place itself, and not a corner of the grid behind it.
    figure.update_traces(
        colorbar={"thickness": 12}, reversescale=darker_is_better, hoverinfo="skip", selector={"type": "contour"}
    )
    figure.update_traces(
        marker={"size": 7, "line": {"width": 1, "color": "#ffffff"}},
        hovertemplate="%{x}<br>%{y}<extra></extra>",
        selector={"type": "scatter"},
    )
    _number(figure.select_traces({"type": "scatter"}), rows, _drawn(result, across), _drawn(result, up))
    return figure


def parallel(result: SearchResult, metric: int = 0) -> go.Figure:
    """Draw every trial as a line through its parameters; beyond 150 the best and the latest ones."""
    names = ranked(result, metric)
    if not names:
        return or_note(theme.apply(go.Figure(), height=160), "No two complete trials differ so far.")
    figure = plots().plot_parallel_coordinate(
        study_of(result, thinned(result, MOST_IN_PLANE)),
        params=[escape(name) for name in names],
        target=target_of(result, metric),
        target_name=escape(label(result.metrics[metric])),
    )
    theme.apply(figure, height=440)
    figure.update_traces(marker_colorbar_thickness=12, selector=_has_colours)
    return figure.update_layout(margin={"t": 40, "r": 90, "l": 50})


def front(result: SearchResult) -> go.Figure:
    """Draw the trials of a search with two or three metrics against each other; those on the front stand out.

    ``customdata`` says which trial a dot is.
    """
    if len(result.metrics) not in (2, 3) or not any(row.is_feasible for row in result.rows):
        return or_note(theme.apply(go.Figure(), height=160), "It takes complete trials with two or three metrics.")
    figure = plots().plot_pareto_front(
        study_of(result, result.rows), target_names=[escape(spoken(result, at)) for at in range(len(result.metrics))]
    )
    theme.apply(figure, height=460)
    complete = [row for row in result.rows if row.state == "complete"]  # as they are numbered in the study
    for trace in figure.data:
        rows = [complete[int(re.search(r'"number": (\d+)', text)[1])] for text in trace.text]  # type: ignore[index]
        values = ", ".join(f"%{{{axis}:.5g}}" for axis in "xyz"[: len(result.metrics)])
        trace.update(
            customdata=[row.number for row in rows],
            text=[hover(row) for row in rows],
            hovertemplate=f"%{{text}}<br>{values}<extra></extra>",
        )
    return figure.update_layout(showlegend=False)


# -- small things -----------------------------------------------------------------------------------------------------


def _axes(figure: go.Figure, names: Sequence[str]) -> dict[str, str]:
    by_title = {escape(name): name for name in names}
    found = {}
    for axis in figure.select_xaxes():
        if axis.title.text in by_title:
            found[axis.plotly_name.replace("axis", "")] = by_title[axis.title.text]
    return found


def _unquoted(figure: go.Figure, result: SearchResult, axes: Mapping[str, str]) -> None:
    """Name choices by themselves, where Optuna writes them as Python would."""
    space = Space.from_json(result.space)
    for name, axis in axes.items():
        of = space.axes[axis]
        names = {repr(drawn): str(drawn) for drawn in (drawn_as(of, choice) for choice in of.choices)}
        for trace in figure.data if names else ():
            if (trace.xaxis or "x") == name:
                trace.x = [names[value] for value in trace.x]
        figure.layout[f"xaxis{name[1:]}"].categoryarray = list(names.values()) or None


def _drawn(result: SearchResult, name: str, *, as_text: bool = False) -> Callable[[TrialResult], Any]:
    """Where a trial lies on the axis of a parameter; with `as_text` choices that are numbers are names, too."""
    axis = Space.from_json(result.space).axes[name]

    def place(row: TrialResult) -> Any:
        if name not in row.params:
            return None
        value = drawn_as(axis, row.params[name])
        return str(value) if as_text and not axis.is_range else value

    return place


def _number(
    traces: Iterable[Any], rows: Sequence[TrialResult], x: Callable[[TrialResult], Any], y: Callable[[TrialResult], Any]
) -> None:
    """Have every dot know the number of its trial by where it lies; of several in one place, any of them."""
    there: dict[tuple[Any, Any], list[int]] = defaultdict(list)
    for row in rows:
        if row.state == "complete":
            there[x(row), y(row)].append(row.number)
    for trace in traces:
        places = [there[place] for place in zip(trace.x, trace.y, strict=True)]
        trace.customdata = [numbers.pop() if len(numbers) > 1 else numbers[0] for numbers in places]


def _turned(figure: go.Figure) -> go.Figure:
    """The same contour with both axes changed places."""
    for trace in figure.data:
        x, y = trace.x, trace.y
        trace.x, trace.y = y, x
        if trace.type == "contour" and trace.z is not None:
            trace.z = np.asarray(trace.z).T
    axes = [figure.layout[name].to_plotly_json() for name in ("xaxis", "yaxis")]
    figure.layout.xaxis, figure.layout.yaxis = axes[1], axes[0]
    return figure


def _has_colours(trace: Any) -> bool:
    return trace.marker.colorscale is not None


def _upper(text: str) -> str:
    return text[:1].upper() + text[1:]
