"""A search as a study of Optuna's that its pictures can be drawn from: every text in it is inert."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from optuna.distributions import CategoricalDistribution
from optuna.study import Study
from optuna.trial import FrozenTrial

from dlstudio.figures.theme import escape
from dlstudio.tuning.rebuild import rebuild
from dlstudio.tuning.result import SearchResult
from dlstudio.tuning.space import Axis, Space
from dlstudio.tuning.trial_result import TrialResult

if TYPE_CHECKING:
    from optuna.importance import BaseImportanceEvaluator

__all__ = ["are_numbers", "choice_names", "drawn_as", "plots", "study_of", "target_of", "weighed"]


def weighed(shares: Mapping[str, float]) -> BaseImportanceEvaluator:
    """An evaluator that says what is known already, so that a picture shows the numbers of the result."""
    from optuna.importance import BaseImportanceEvaluator  # brings scikit-learn along

    class Known(BaseImportanceEvaluator):
        def evaluate(self, *_: Any, **__: Any) -> dict[str, float]:
            return dict(shares)

    return Known()


def study_of(result: SearchResult, rows: Sequence[TrialResult]) -> Study:
    """A study in which every name and choice is escaped, since plotly reads them as HTML."""
    space = Space.from_json(result.space)
    axes = {}
    for name, axis in space.axes.items():
        distribution = axis.distribution
        if isinstance(distribution, CategoricalDistribution):
            distribution = CategoricalDistribution([drawn_as(axis, choice) for choice in axis.choices])
        axes[escape(name)] = dataclasses.replace(axis, name=escape(name), distribution=distribution, values=None)
    complete = [
        dataclasses.replace(
            row,
            params={escape(name): drawn_as(space.axes[name], value) for name, value in row.params.items()},
            reason=None,
            reports={},
            violations={escape(name): by for name, by in row.violations.items()},
        )
        for row in rows
        if row.state == "complete"
    ]
    return rebuild(escape(result.name), result.directions, Space(axes=axes).to_json(), complete)


def choice_names(axis: Axis) -> list[str]:
    """What the choices of an axis are called: as people write them, with quotes only where two would read the same.

    Example:
        >>> choice_names(read_space({"clip": [None, 0.5]}, None).axes["clip"])
        ['None', '0.5']
    """
    names = [str(choice) for choice in axis.choices]
    return names if len(set(names)) == len(names) else [repr(choice) for choice in axis.choices]


def are_numbers(axis: Axis) -> bool:
    """Whether all choices are numbers that differ in value, so that they may lie on a scale."""
    return axis.values is None and all(type(choice) in (int, float) for choice in axis.choices)


def drawn_as(axis: Axis, value: Any) -> Any:
    """What stands for a value in a picture: a number, or the name of a choice, inert."""
    if axis.is_range or are_numbers(axis):
        return value
    known = [json.dumps(choice) for choice in axis.choices]  # True is not 1 here
    return escape(choice_names(axis)[known.index(json.dumps(value))])


def plots() -> Any:
    """Optuna's pictures."""
    from optuna import visualization  # brings matplotlib along, which takes a second

    return visualization


def target_of(result: SearchResult, metric: int) -> Callable[[FrozenTrial], float] | None:
    """What a picture is about: one of several metrics."""
    if len(result.metrics) == 1:
        return None  # Optuna knows then which end of its colours is the better one
    return lambda trial: float(trial.values[metric])
