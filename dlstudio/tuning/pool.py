"""A fixed list of recipes trained by long-lived workers: the engine of a search, without anything to suggest."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from optuna.distributions import IntDistribution

from dlstudio.errors import DLStudioError
from dlstudio.runs.values import plain
from dlstudio.training.device import check_device
from dlstudio.training.naming import check_names
from dlstudio.training.recipe import Recipe
from dlstudio.tuning.plan import pack_items, write_items
from dlstudio.tuning.search import Plan, open_search
from dlstudio.tuning.settings import ITEM, Settings, read_settings
from dlstudio.tuning.space import Axis, Space
from dlstudio.tuning.start import create_folder, start_again, start_coordinator
from dlstudio.tuning.steering import MAX_WORKERS

__all__ = ["Plan", "check_trainable", "continue_plan", "start_plan"]


def check_trainable(recipe: Recipe) -> None:
    """Check what can be checked before a worker begins.

    Raises:
        DLStudioError: names are unknown, the device is not there, or the recipe asks for several.
    """
    check_names(recipe)
    check_device(recipe)
    if recipe.devices > 1:
        raise DLStudioError(
            "devices=1: trials share the devices among them",
            f"devices={recipe.devices}",
            "Set devices=1, and workers to the number of GPUs.",
        )


def start_plan(
    recipes: Sequence[Recipe],
    *,
    name: str,
    workers: int = 1,
    kind: str = "ablation",
    config: Mapping[str, Any] | None = None,
) -> Plan:
    """Train recipes in the background, one run each, and return at once.

    Afterwards every recipe has a run whose parent is the plan's own. A worker that is killed costs the recipe it was
    at one attempt of two.

    Args:
        recipes: what to train, in this order.
        name: what to call the plan.
        workers: processes that train.
        kind: of the plan's own run.
        config: settings of the plan's own run.

    Raises:
        DLStudioError: there is no recipe, or one of them cannot be trained here.

    Example:
        >>> plan = start_plan([Recipe(seed=s) for s in range(5)], name="five seeds", workers=2)
        >>> plan.cancel([4])
        >>> [run.status for run in plan.wait().runs if run is not None]
    """
    if not recipes or not all(isinstance(recipe, Recipe) for recipe in recipes):
        raise DLStudioError("at least one Recipe", repr(recipes)[:100], "Pass a list of recipes.")
    for recipe in recipes:
        check_trainable(recipe)
    packed = pack_items(recipes)
    axis = Axis(name=ITEM, distribution=IntDistribution(0, len(recipes) - 1))
    settings = Settings(
        kind="plan",
        name=name,
        metrics=(),
        directions=(),
        space=Space(axes={ITEM: axis}).to_json(),
        sampler="random",
        n_trials=len(recipes),
        workers=check_workers(workers),
        device=recipes[0].device,
    )
    folder = create_folder(settings, kind=kind, config=plain(dict(config or {})), tags={})
    write_items(folder.path, recipes, packed)
    return Plan(start_coordinator(folder))


def continue_plan(name: str | Plan, *, workers: int | None = None) -> Plan:
    """Train what a plan that was stopped or killed has not trained.

    Raises:
        DLStudioError: it is no plan, or is going on.
    """
    plan = open_search(name)
    if not isinstance(plan, Plan):
        raise DLStudioError("a plan", repr(plan), "Continue a search with dlstudio.tune(resume=...).")
    settings = read_settings(plan.folder)
    if workers is not None:
        settings = dataclasses.replace(settings, workers=check_workers(workers))
    return Plan(start_again(plan.run, settings))


def check_workers(workers: int) -> int:
    """Check a number of processes.

    Raises:
        DLStudioError: it is no whole number of 1 to `MAX_WORKERS`.
    """
    if not isinstance(workers, int) or isinstance(workers, bool) or not 1 <= workers <= MAX_WORKERS:
        raise DLStudioError(f"workers to be a whole number of 1 to {MAX_WORKERS}", repr(workers), "Try workers=2.")
    return workers
