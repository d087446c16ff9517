"""What is tried first: a plan's recipes, a grid's points, or the recipe as it is."""

from __future__ import annotations

import itertools
from typing import Any

from optuna.distributions import IntDistribution

from dlstudio.errors import DLStudioError
from dlstudio.runs.folder import RunFolder
from dlstudio.training import job as jobs
from dlstudio.tuning.settings import ITEM, Settings
from dlstudio.tuning.space import Axis, Space
from dlstudio.tuning.storage import asking
from dlstudio.tuning.studies import SharedStudy

__all__ = ["enqueue_first", "grid_points", "starting_point"]


def enqueue_first(study: SharedStudy, folder: RunFolder, settings: Settings) -> None:
    """Enqueue what is to be tried first, unless the study has begun already."""
    with asking(settings.storage_in(folder.path)):
        if study.trials():
            return
        if settings.is_plan:
            points = [{ITEM: index} for index in range(settings.n_trials)]
        elif settings.sampler == "grid":
            points = grid_points(settings.read_space())[: settings.n_trials]
        else:
            recipe = jobs.describe(folder.path).get("recipe")
            point = None if recipe is None else starting_point(settings.read_space(), recipe)
            points = [] if point is None else [point]
        for point in points:
            study.study.enqueue_trial(point, skip_if_exists=settings.storage is not None)


def starting_point(space: Space, recipe: dict[str, Any]) -> dict[str, Any] | None:
    """The recipe's own values as a point of the space, so that a search also says what it gained; None outside it."""
    point: dict[str, Any] = {}
    for name, axis in space.axes.items():
        value: Any = recipe
        for part in name.split("."):
            if not isinstance(value, dict) or part not in value:
                return None
            value = value[part]
        try:
            point[name] = axis.known(value)
        except DLStudioError:
            return None
    return point


def grid_points(space: Space) -> list[dict[str, Any]]:
    """Every combination, the last parameter changing fastest.

    Raises:
        DLStudioError: a parameter has no list of values.
    """
    return [
        dict(zip(space.axes, values, strict=True))
        for values in itertools.product(*(_values(axis) for axis in space.axes.values()))
    ]


def _values(axis: Axis) -> list[Any]:
    if not axis.is_range:
        return list(axis.distribution.choices)  # type: ignore[attr-defined]
    if isinstance(axis.distribution, IntDistribution):
        return list(range(axis.distribution.low, axis.distribution.high + 1, axis.distribution.step))
    raise DLStudioError(
        f"a list of values for {axis.name!r} in a grid", f"({axis.low:g}, {axis.high:g})", "List them, or use 'tpe'."
    )
