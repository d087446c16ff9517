"""What is tried first: a plan's recipes, a grid's points, or the recipe as it is."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from optuna.distributions import IntDistribution

from dlstudio.errors import DLStudioError
from dlstudio.runs.folder import RunFolder
from dlstudio.training.recipe import Recipe
from dlstudio.tuning.paths import value_of
from dlstudio.tuning.settings import ITEM, Settings
from dlstudio.tuning.space import Axis, Space
from dlstudio.tuning.storage import asking
from dlstudio.tuning.studies import LOST, SharedStudy, asked_for

__all__ = ["enqueue_first", "grid_points", "grid_size", "starting_point"]


def enqueue_first(study: SharedStudy, folder: RunFolder, settings: Settings) -> None:
    """Enqueue what is to be tried and is not in the study: what is left of a list, or at first the recipe itself."""
    with asking(settings.storage_in(folder.path)):
        tried = _tried(study)
        for point in _points(study, settings):
            if not settings.has_lock:  # another machine may be at it in this moment
                tried = _tried(study)
            if _key(point) not in tried:
                study.study.enqueue_trial(point)


def _points(study: SharedStudy, settings: Settings) -> list[dict[str, Any]]:
    if settings.is_plan:
        return [{ITEM: index} for index in range(settings.n_trials)]
    if settings.sampler == "grid":
        return grid_points(settings.read_space(), settings.n_trials)
    return [] if settings.start is None or study.trials() else [dict(settings.start)]


def _tried(study: SharedStudy) -> set[frozenset[tuple[str, Any]]]:
    return {_key(asked_for(trial)) for trial in study.trials() if not trial.user_attrs.get(LOST)}


def _key(params: Mapping[str, Any]) -> frozenset[tuple[str, Any]]:
    return frozenset(params.items())


def starting_point(space: Space, recipe: Recipe) -> dict[str, Any] | None:
    """The recipe's own values as a point of the space, so that a search also says what it gained; None outside it."""
    point: dict[str, Any] = {}
    for name, axis in space.axes.items():
        try:
            point[name] = axis.known(value_of(recipe, name))
        except DLStudioError:
            return None
    return point


def grid_size(space: Space) -> int:
    """How many combinations there are.

    Raises:
        DLStudioError: a parameter has no list of values.
    """
    return math.prod(len(_values(axis)) for axis in space.axes.values())


def grid_points(space: Space, n: int | None = None) -> list[dict[str, Any]]:
    """The first `n` combinations, or all, the last parameter changing fastest.

    Raises:
        DLStudioError: a parameter has no list of values.
    """
    every: Iterator[tuple[Any, ...]] = iter([()])
    for axis in space.axes.values():
        every = _times(every, _values(axis))
    return [dict(zip(space.axes, values, strict=True)) for values in itertools.islice(every, n)]


def _times(points: Iterator[tuple[Any, ...]], values: Sequence[Any]) -> Iterator[tuple[Any, ...]]:
    # As itertools.product, which would copy ten million whole numbers before the first point.
    return ((*point, value) for point in points for value in values)


def _values(axis: Axis) -> Sequence[Any]:
    if not axis.is_range:
        return tuple(axis.distribution.choices)  # type: ignore[attr-defined]
    if isinstance(axis.distribution, IntDistribution):
        return range(axis.distribution.low, axis.distribution.high + 1, axis.distribution.step)
    raise DLStudioError(
        f"a list of values for {axis.name!r} in a grid", f"({axis.low:g}, {axis.high:g})", "List them, or use 'tpe'."
    )
