"""A search in pictures: what its trials say about the parameters, drawn by Optuna in the look of the studio."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import plotly.graph_objects as go
from optuna.distributions import CategoricalDistribution
from optuna.study import Study
from optuna.trial import FrozenTrial

from dlstudio.figures import theme
from dlstudio.figures.theme import ACCENT, escape, or_note
from dlstudio.figures.trials import curves, focus, history, spoken, thinned
from dlstudio.summary.words import label
from dlstudio.tuning.rebuild import rebuild
from dlstudio.tuning.result import SearchResult
from dlstudio.tuning.space import Space
from dlstudio.tuning.trial_result import TrialResult

if TYPE_CHECKING:
    from optuna.importance import BaseImportanceEvaluator

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
    varied = [name for name in result.space if len({str(row.params.get(name)) for row in complete}) > 1]
    return sorted(varied, key=lambda name: -shares.get(name, 0.0))


def importance(result: SearchResult, metric: int = 0) -> go.Figure:
    """Draw the share of each parameter in what tells good trials from others, as `SearchResult.importances` has it."""
    shares = result.importances.get(result.metrics[metric], {})
    if not shares:
        words = "Too few complete trials to say what matters."
        return or_note(theme.apply(go.Figure(), height=160), words)
    figure = _plots().plot_param_importances(
        _study(result, thinned(result, MOST_IN_PLANE)),  # only their names are read
        evaluator=_known({escape(name): share for name, share in shares.items()}),
        params=[escape(name) for name in shares],
        target=_target(result, metric),
        target_name=escape(label(result.metrics[metric])),
    )
    theme.apply(figure, x_title="Share", y_title="", height=110 + 36 * max(2, len(shares)))
    figure.update_traces(marker_color=ACCENT, hovertemplate="%{y}: %{x:.1%}<extra></extra>")
    figure.update_xaxes(tickformat=".0%", range=[0, max(shares.values()) * 1.12])
    return figure.update_yaxes(showgrid=False)


def slices(result: SearchResult, metric: int = 0) -> go.Figure:
    """Draw the value of every complete trial over each parameter; of more than four those that matter most.

    ``figure.layout.meta["axes"]`` says which parameter an axis is.
    """
    names = ranked(result, metric)[:MOST_SLICES] or list(result.space)[:MOST_SLICES]
    if not any(row.state == "complete" for row in result.rows):
        return or_note(theme.apply(go.Figure(), height=160), "No trial is complete so far.")
    figure = _plots().plot_slice(
        _study(result, result.rows),
        params=[escape(name) for name in names],
        target=_target(result, metric),
        target_name=escape(label(result.metrics[metric])),
    )
    theme.apply(figure, height=400)
    # Optuna sorts the parameters by name, whatever the order they were asked for in.
    axes = _axes(figure, names)
    _unquoted(figure, result, axes)
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
    axis is.
    """
    known = ranked(result, metric)
    across = x if x is not None else next((name for name in known if name != y), None)
    up = y if y is not None else next((name for name in known if name != across), None)
    if across not in known or up not in known or across == up:
        words = "It takes complete trials with two parameters that differ."
        return or_note(theme.apply(go.Figure(), height=160), words)
    rows = thinned(result, MOST_IN_PLANE)
    varied = all(
        len({str(row.params.get(name)) for row in rows if row.state == "complete"}) > 1 for name in (across, up)
    )
    if not varied:
        words = "The trials that are drawn differ in one of the two only."
        return or_note(theme.apply(go.Figure(), height=160), words)
    figure = _plots().plot_contour(
        _study(result, rows),
        params=[escape(across), escape(up)],
        target=_target(result, metric),
        target_name=escape(label(result.metrics[metric])),
    )
    if figure.layout.xaxis.title.text != escape(across):
        figure = _turned(figure)
    theme.apply(figure, height=460)
    axes = {"x": across, "y": up}
    _unquoted(figure, result, axes)
    figure.update_layout(meta={"axes": axes}, margin_r=90)
    darker_is_better = result.directions[metric] == "min"
    figure.update_traces(
        colorbar={"thickness": 12}, reversescale=darker_is_better, selector={"type": "contour"}
    )  # fmt: skip
    figure.update_traces(
        marker={"size": 7, "line": {"width": 1, "color": "#ffffff"}},
        hovertemplate="%{x}<br>%{y}<extra></extra>",
        selector={"type": "scatter"},
    )
    return figure


def parallel(result: SearchResult, metric: int = 0) -> go.Figure:
    """Draw every trial as a line through its parameters; beyond 150 the best and the latest ones."""
    names = ranked(result, metric)
    if not names:
        return or_note(theme.apply(go.Figure(), height=160), "No two complete trials differ so far.")
    figure = _plots().plot_parallel_coordinate(
        _study(result, thinned(result, MOST_IN_PLANE)),
        params=[escape(name) for name in names],
        target=_target(result, metric),
        target_name=escape(label(result.metrics[metric])),
    )
    theme.apply(figure, height=440)
    figure.update_traces(marker_colorbar_thickness=12, selector=_has_colours)
    return figure.update_layout(margin={"t": 40, "r": 90, "l": 50})


def front(result: SearchResult) -> go.Figure:
    """Draw the trials of a search with two or three metrics against each other; those on the front stand out."""
    if len(result.metrics) not in (2, 3) or not any(row.is_feasible for row in result.rows):
        return or_note(theme.apply(go.Figure(), height=160), "It takes complete trials with two or three metrics.")
    figure = _plots().plot_pareto_front(
        _study(result, result.rows), target_names=[escape(spoken(result, at)) for at in range(len(result.metrics))]
    )
    theme.apply(figure, height=460)
    return figure.update_layout(showlegend=False)


# -- a study whose texts are inert ------------------------------------------------------------------------------------


def _known(shares: Mapping[str, float]) -> BaseImportanceEvaluator:
    """An evaluator that says what is known already, so that a picture shows the numbers of the result."""
    from optuna.importance import BaseImportanceEvaluator  # brings scikit-learn along

    class Known(BaseImportanceEvaluator):
        def evaluate(self, *_: Any, **__: Any) -> dict[str, float]:
            return dict(shares)

    return Known()


def _study(result: SearchResult, rows: Sequence[TrialResult]) -> Study:
    """A study in which every name and choice is escaped, since plotly reads them as HTML."""
    space = Space.from_json(result.space)
    axes = {}
    for name, axis in space.axes.items():
        distribution = axis.distribution
        if isinstance(distribution, CategoricalDistribution):
            distribution = CategoricalDistribution([_inert(choice) for choice in distribution.choices])
        axes[escape(name)] = dataclasses.replace(axis, name=escape(name), distribution=distribution, values=None)
    inert = [
        dataclasses.replace(
            row,
            params={escape(name): _inert(space.axes[name].label(value)) for name, value in row.params.items()},
            reason=None,
            reports={},
            violations={escape(name): by for name, by in row.violations.items()},
        )
        for row in rows
        if row.state == "complete"
    ]
    return rebuild(escape(result.name), result.directions, Space(axes=axes).to_json(), inert)


def _inert(value: Any) -> Any:
    return escape(value) if isinstance(value, str) else value


def _plots() -> Any:
    from optuna import visualization  # brings matplotlib along, which takes a second

    return visualization


def _target(result: SearchResult, metric: int) -> Callable[[FrozenTrial], float] | None:
    if len(result.metrics) == 1:
        return None  # Optuna knows then which end of its colours is the better one
    return lambda trial: float(trial.values[metric])


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
    for axis, name in axes.items():
        distribution = space.axes[name].distribution
        if not isinstance(distribution, CategoricalDistribution):
            continue
        names = {form(_inert(choice)): str(_inert(choice)) for choice in distribution.choices for form in (repr, str)}
        side = axis[0]
        for trace in figure.data:
            if (getattr(trace, f"{side}axis") or side) == axis and trace[side] is not None:
                trace[side] = [names.get(str(value), value) for value in trace[side]]
        drawn = figure.layout[f"{side}axis{axis[1:]}"]
        if drawn.categoryarray is not None:
            drawn.categoryarray = [names.get(str(value), value) for value in drawn.categoryarray]


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
