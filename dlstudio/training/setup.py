"""From a recipe to everything the loop works with."""

from __future__ import annotations

import inspect
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import nn

from dlstudio.errors import DLStudioError
from dlstudio.training import rng
from dlstudio.training.alone import Alone
from dlstudio.training.batches import Batches, batches_of
from dlstudio.training.evaluate import Criterion, check_outputs, make_criterion
from dlstudio.training.fields import describe
from dlstudio.training.optimisers import build_optimizer
from dlstudio.training.recipe import Recipe

if TYPE_CHECKING:
    from dlstudio.data.dataset import Dataset, StreamedDataset

__all__ = ["Parts", "make_parts"]


@dataclass(frozen=True, kw_only=True)
class Parts:
    """What the loop works with.

    `module` holds the weights; `network` is what is called in training: the module itself, compiled or shared
    among ranks.
    """

    dataset: Dataset | StreamedDataset
    batches: Batches
    module: nn.Module
    network: nn.Module
    optimizer: torch.optim.Optimizer
    criterion: Criterion
    autocast: AbstractContextManager[Any]
    scaler: torch.amp.GradScaler | None

    @property
    def task(self) -> str:
        """``"binary"``, ``"multiclass"`` or ``"regression"``."""
        return self.dataset.task


def make_parts(recipe: Recipe, ranks: Alone) -> Parts:
    """Read the data, build the model and the optimiser; the recipe's seed decides the weights.

    Raises:
        DLStudioError: unknown names, data that cannot be learned from, a model that does not fit them.
    """
    from dlstudio.data.prepare import prepare

    rng.seed_all(recipe.seed)  # data that draw random numbers when read have the same fingerprint every time
    dataset = prepare(recipe.data, target=recipe.target, sensitive=recipe.sensitive)
    batches = batches_of(dataset, recipe, ranks.device, ranks.rank, ranks.world)
    rng.seed_all(recipe.seed)
    module = _build_module(recipe, dataset).to(ranks.device)
    if not module.training:
        module.train()
    check_outputs(module, batches, dataset.task, dataset.n_classes)
    network = ranks.wrap(module)
    half = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}.get(recipe.precision)
    return Parts(
        dataset=dataset,
        batches=batches,
        module=module,
        network=cast(nn.Module, torch.compile(network)) if recipe.compile else network,
        optimizer=build_optimizer(recipe, module.parameters()),
        criterion=make_criterion(dataset.task, _class_weights(recipe, dataset, batches)),
        autocast=nullcontext() if half is None else torch.autocast(ranks.device.type, half),
        scaler=torch.amp.GradScaler(ranks.device.type) if recipe.precision == "16-mixed" else None,
    )


def _build_module(recipe: Recipe, dataset: Dataset | StreamedDataset) -> nn.Module:
    if isinstance(recipe.model, str):
        from dlstudio.models.build import build

        return build(recipe.model, dataset, **recipe.model_options)
    if isinstance(recipe.model, nn.Module):
        return recipe.model
    made: Any = None
    if callable(recipe.model):
        takes_data = "dataset" in inspect.signature(recipe.model).parameters
        try:
            made = recipe.model(**recipe.model_options, **({"dataset": dataset} if takes_data else {}))
        except TypeError as error:
            raise DLStudioError(
                f"model_options that {describe(recipe.model)} takes",
                f"{recipe.model_options} ({error})",
                "Name its arguments in model_options, or pass a module.",
            ) from error
    if not isinstance(made, nn.Module):
        raise DLStudioError(
            "a model name, a torch.nn.Module, or a class or function that returns one",
            describe(recipe.model) + ("" if made is None else f" that returned {describe(made)}"),
            "Pass for instance model='mlp' or model=MyModule().",
        )
    return made


def _class_weights(recipe: Recipe, dataset: Dataset | StreamedDataset, batches: Batches) -> torch.Tensor | None:
    if dataset.task == "regression":
        for name in ("class_weights", "balanced_sampler"):
            if getattr(recipe, name):
                raise DLStudioError(f"a classification task for {name}", "a regression", f"Set {name}=False.")
    if not recipe.class_weights:
        return None
    counts = batches.class_counts(dataset.n_classes)
    weights = torch.where(counts > 0, counts.sum() / (counts.clamp(min=1) * (counts > 0).sum()), 0.0)
    return weights.float().to(batches.device)
