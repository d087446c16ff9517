"""Seeds that a comparison lacks, as recipes that would fill them."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

from dlstudio.compare.compared import Compared, Variant
from dlstudio.compare.of_runs import STILL
from dlstudio.errors import DLStudioError
from dlstudio.runs.folder import RunFolder
from dlstudio.runs.run import open_run
from dlstudio.tracking.home import find_home
from dlstudio.training.naming import check_names
from dlstudio.training.recipe import Recipe

__all__ = ["MissingSeed", "missing_seeds"]

TRAINING = "it is training already"


@dataclasses.dataclass(frozen=True, kw_only=True)
class MissingSeed:
    """A seed that one variant has not been trained with and another has.

    Attributes:
        variant, seed: which.
        recipe: to train it: that of the variant's latest run with this seed; None where no recipe was recorded, where
            it is training already, and where it was trained and gave no finite value, as it would again.
        why_not: why there is no recipe; "" where there is one.
    """

    variant: str
    seed: int | str
    recipe: Recipe | None = None
    why_not: str = ""


def missing_seeds(comparison: Compared) -> tuple[MissingSeed, ...]:
    """Return what would have to be trained so that every variant has every seed, variant by variant.

    Example:
        >>> [dls.launch(one.recipe) for one in missing_seeds(c) if one.recipe]
    """
    if not any(one.missing_seeds for one in comparison.variants):
        return ()
    going = _going()
    return tuple(_missing(one, seed, comparison, going) for one in comparison.variants for seed in one.missing_seeds)


def _missing(variant: Variant, seed: int | str, comparison: Compared, going: Sequence[Any]) -> MissingSeed:
    def without(why: str) -> MissingSeed:
        return MissingSeed(variant=variant.name, seed=seed, why_not=why)

    for record in comparison.run_records:
        if (record["variant"], record["seed"]) == (variant.name, seed) and (why := _fate(record, comparison.metric)):
            return without(why)
    if variant.mixed:
        return without("its runs differ in more than their seeds")
    if not isinstance(seed, int):
        return without("it is no seed of a recipe")
    try:
        config = open_run([key for key in variant.runs if key][-1]).config
        # Whatever was called after its seed would be called wrongly; the name is then made from variant and seed.
        recipe = Recipe.from_dict(config | {"seed": seed, "name": None})
        check_names(recipe)  # data and models of one's own are recorded in words, which train nothing
    except (DLStudioError, IndexError, TypeError):
        return without("its runs are of no recipe that can be trained again")
    if recipe.to_dict() != config | {"seed": seed, "name": None}:
        return without("its runs are of no recipe that can be trained again")
    if recipe.to_dict() in going:
        return without(TRAINING)
    return MissingSeed(variant=variant.name, seed=seed, recipe=recipe)


def _fate(record: Mapping[str, Any], metric: str) -> str:
    """Why to train again would add nothing to a run that there is; "" where it would."""
    if record["status"] in STILL:
        return TRAINING
    value = record["metrics"].get(metric)
    if record["status"] == "FINISHED" and value is not None and not math.isfinite(value):
        return "it was trained and diverged"
    return ""


def _going() -> list[dict[str, Any]]:
    """Recipes of the home that are training or about to, without the names of their runs."""
    home = find_home()
    folders = [RunFolder(home / "runs" / marker.name) for marker in (home / "active").iterdir()]
    return [
        {**(folder.info.get("config") or {}), "name": None}
        for folder in folders
        if folder.settle().get("status") in STILL
    ]
