"""The recipes of a plan, written into its folder for its workers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from optuna.exceptions import UpdateFinishedTrialError
from optuna.study import Study
from optuna.trial import Trial, TrialState

from dlstudio.runs.folder import read_json, write_json
from dlstudio.training import job as jobs
from dlstudio.training.job import Job
from dlstudio.training.recipe import Recipe
from dlstudio.tuning.settings import ITEM
from dlstudio.tuning.steering import item_of

__all__ = ["ask_item", "pack_items", "read_items", "write_items"]

_FILE = "items.json"


def pack_items(recipes: Sequence[Recipe]) -> jobs.PackedJob | None:
    """Make recipes that hold Python objects ready to travel, what they share only once; None if they are all plain.

    Raises:
        DLStudioError: an object in one of them cannot be pickled.
    """
    special = [recipe for recipe in recipes if not recipe.is_plain]
    return jobs.pack(Job(recipe=special[0], config={"recipes": list(recipes)})) if special else None


def write_items(folder: Path, recipes: Sequence[Recipe], packed: jobs.PackedJob | None) -> None:
    """Write the recipes into the folder of a plan."""
    if packed is not None:
        packed.write(folder)
    else:
        write_json(folder / _FILE, {"recipes": [recipe.to_dict() for recipe in recipes]})


def read_items(folder: Path) -> list[Recipe]:
    """Read the recipes of a plan, in their order."""
    plain = read_json(folder / _FILE).get("recipes")
    if plain is not None:
        return [Recipe.from_dict(values) for values in plain]
    job = jobs.read(folder)
    assert job.config is not None, "a plan was packed with its recipes"
    return list(job.config["recipes"])


def ask_item(study: Study, n_items: int) -> Trial | None:
    """Begin the first recipe of a plan that waits; None where none does.

    Optuna would begin one that is tried again after all others. Estimates that are made seed by seed would wait for it.

    Args:
        study: of the plan.
        n_items: recipes in it.
    """
    waiting = study.get_trials(deepcopy=False, states=(TrialState.WAITING,))
    for found in sorted(waiting, key=lambda trial: item_of(trial) or 0):
        try:
            begun = study._storage.set_trial_state_values(found._trial_id, TrialState.RUNNING)
        except UpdateFinishedTrialError:  # it was cancelled in this moment
            continue
        if begun:
            trial = Trial(study, found._trial_id)
            trial.suggest_int(ITEM, 0, n_items - 1)
            return trial
    return None
