"""Seeds that a comparison lacks, as recipes that would fill them."""

from __future__ import annotations

import dataclasses

from dlstudio.compare.compared import Compared, Variant
from dlstudio.errors import DLStudioError
from dlstudio.runs.run import open_run
from dlstudio.training.naming import check_names
from dlstudio.training.recipe import Recipe

__all__ = ["MissingSeed", "missing_seeds"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class MissingSeed:
    """A seed that one variant has not been trained with and another has.

    Attributes:
        variant, seed: which.
        recipe: to train it: that of the variant's latest run with this seed; None where no recipe was recorded.
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
    return tuple(_missing(one, seed) for one in comparison.variants for seed in one.missing_seeds)


def _missing(variant: Variant, seed: int | str) -> MissingSeed:
    def without(why: str) -> MissingSeed:
        return MissingSeed(variant=variant.name, seed=seed, why_not=why)

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
    return MissingSeed(variant=variant.name, seed=seed, recipe=recipe)
