"""A search as a study of Optuna's that its pictures can be drawn from: every text in it is inert."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from optuna.distributions import CategoricalDistribution
from optuna.study import Study
from optuna.trial import FrozenTrial

from dlstudio.figures.theme import escape
from dlstudio.tuning.rebuild import rebuild
from dlstudio.tuning.result import SearchResult
from dlstudio.tuning.space import Space
from dlstudio.tuning.trial_result import TrialResult

if TYPE_CHECKING:
    from optuna.importance import BaseImportanceEvaluator

__all__ = ["inert", "plots", "study_of", "target_of", "weighed"]


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
            distribution = CategoricalDistribution([inert(choice) for choice in distribution.choices])
        axes[escape(name)] = dataclasses.replace(axis, name=escape(name), distribution=distribution, values=None)
    complete = [
        dataclasses.replace(
            row,
            params={escape(name): inert(space.axes[name].label(value)) for name, value in row.params.items()},
            reason=None,
            reports={},
            violations={escape(name): by for name, by in row.violations.items()},
        )
        for row in rows
        if row.state == "complete"
    ]
    return rebuild(escape(result.name), result.directions, Space(axes=axes).to_json(), complete)


def inert(value: Any) -> Any:
    """A choice that plotly shows as it is."""
    return escape(value) if isinstance(value, str) else value


def plots() -> Any:
    """Optuna's pictures."""
    from optuna import visualization  # brings matplotlib along, which takes a second

    return visualization


def target_of(result: SearchResult, metric: int) -> Callable[[FrozenTrial], float] | None:
    """What a picture is about: one of several metrics."""
    if len(result.metrics) == 1:
        return None  # Optuna knows then which end of its colours is the better one
    return lambda trial: float(trial.values[metric])
