"""What a run is called, the words it is found by, and whether its data and model are names that exist."""

from __future__ import annotations

from dlstudio.data.names import names as data_names
from dlstudio.errors import unknown_name
from dlstudio.models.names import NAMES as MODEL_NAMES
from dlstudio.training.recipe import Recipe


def run_name(recipe: Recipe, name: str | None = None) -> str:
    """The name asked for, else one made from variant (or data and model) and seed."""
    if name or recipe.name:
        return str(name or recipe.name)
    described = recipe.to_dict()
    parts = [str(described[key]).split(" ")[0].split("(")[0].lower() for key in ("data", "model")]
    return f"{recipe.variant or '-'.join(parts)}-s{recipe.seed}"


def run_tags(recipe: Recipe) -> dict[str, str]:
    """Tags that group runs of one variant over its seeds."""
    return {"seed": str(recipe.seed), **({"variant": recipe.variant} if recipe.variant else {})}


def check_names(recipe: Recipe) -> None:
    """Check data and model names before anything heavy is imported.

    Raises:
        DLStudioError: one of them is unknown; the nearest is suggested.
    """
    if isinstance(recipe.data, str) and recipe.data not in data_names():
        raise unknown_name("data set", recipe.data, data_names())
    if isinstance(recipe.model, str) and recipe.model not in MODEL_NAMES:
        raise unknown_name("model", recipe.model, MODEL_NAMES)
