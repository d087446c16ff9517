"""Which learning rate to train with? A range test on a copy of the training."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import torch
from torch import nn

from dlstudio.errors import DLStudioError
from dlstudio.limits import bar, whole_number
from dlstudio.results import Finding
from dlstudio.training.recipe import Recipe
from dlstudio.tuning.learning_rates import LearningRates, has_diverged, read_curve
from dlstudio.tuning.rehearsal import Loss, Rehearsal, as_own, of_model, of_recipe, unnoticed

__all__ = ["find_lr"]


def find_lr(
    what: Recipe | nn.Module,
    *,
    loader: Iterable[Any] | None = None,
    loss: Loss | None = None,
    optimizer: torch.optim.Optimizer | Callable[..., torch.optim.Optimizer] | None = None,
    low: float = 1e-7,
    high: float = 10.0,
    n_steps: int = 100,
    seed: int | None = None,
    progress: bool | Callable[[int, int], None] = True,
) -> LearningRates:
    """Train some steps with a learning rate that rises from `low` to `high`, and read where the loss falls.

    Everything happens on a copy: the model, the optimiser and the random numbers of the caller stay as they are, and
    nothing is recorded. The suggestion is meant for the highest rate of a schedule.

    Args:
        what: a recipe, or a module of your own.
        loader: for a module: yields pairs (inputs, targets).
        loss: for a module: a function of outputs and targets, a mean over rows.
        optimizer: for a module: the optimiser, or a function of parameters that makes one; AdamW when None.
        low, high: the first and the last rate; the steps between are equal ratios.
        n_steps: at least 10. Training ends before where the loss has left for good.
        seed: of weights, data order and dropout; the recipe's, or 0, when None.
        progress: show a bar when it takes longer than a moment, or a function called with steps done and all.

    Returns:
        Rates, losses, and a suggestion with its reason; None where the loss shows none.

    Raises:
        DLStudioError: the range is empty or not above 0, a number is none, or the model cannot be trained.

    Example:
        >>> found = find_lr(Recipe(data="mortgage", model="mlp"))
        >>> recipe = recipe.replace(lr=found.suggestion)

    References:
        Smith, Cyclical learning rates for training neural networks (2017).
    """
    started = time.perf_counter()
    _check_range(low, high)
    n_steps = whole_number("n_steps", n_steps, 10, "Try n_steps=100.")
    if seed is not None:
        seed = Recipe(seed=seed).seed  # a module of one's own takes the seeds that recipes have
    own = as_own(what, loader, loss, optimizer, "find_lr")
    with unnoticed(own):
        if own is not None:
            seed = 0 if seed is None else seed
            training = of_model(own, seed)
        else:
            assert isinstance(what, Recipe)
            recipe = what if seed is None else what.replace(seed=seed)
            seed, training = recipe.seed, of_recipe(recipe)[0]
        lr = np.geomspace(low, high, n_steps)
        with bar(progress, n_steps, "step", "Trying learning rates") as tell:
            losses = _ramp(training, lr, tell)
    tried = len(losses) - 1
    found = read_curve(lr[:tried], losses[1:], losses[:1], n_steps)
    rises = found.pop("rises", True)
    return LearningRates(
        lr=lr[:tried],
        loss=losses[1:],
        **found,
        **training.words,
        batch_size=training.batch_size,
        settings={"low": low, "high": high, "n_steps": n_steps, "seed": seed},
        findings=_findings(found, rises),
        wall_s=time.perf_counter() - started,
    )


def _ramp(training: Rehearsal, lr: np.ndarray[Any, Any], tell: Callable[[int], object]) -> np.ndarray[Any, Any]:
    """Losses before the first step and after each; what a rate does shows in the batch after its step."""
    losses: list[float] = []
    for done, rate in enumerate(lr):
        training.set_lr(float(rate))
        losses.append(float(training.step()))
        tell(done)
        if has_diverged(np.array(losses), len(lr)):
            return np.array(losses)
    losses.append(float(training.loss()))
    return np.array(losses)


def _check_range(low: float, high: float) -> None:
    numbers = all(isinstance(end, int | float) and math.isfinite(end) for end in (low, high))
    if not numbers or not 0 < low < high:
        raise DLStudioError("0 < low < high", f"low={low!r}, high={high!r}", "Try low=1e-7, high=10.")


def _findings(found: dict[str, Any], rises: bool) -> tuple[Finding, ...]:
    evidence = {name: found.get(name) for name in ("steepest", "lowest", "diverged_at", "first_loss")}
    if found["suggestion"] is None:
        words = f"No learning rate can be suggested. {found['reason']}"
        remedy = "Change the range or the batch, and look at a few rows of the data."
        return (Finding(code="DLS540", severity="warning", sentence=words, evidence=evidence, remedy=remedy),)
    if not rises:
        words = "The loss still fell at the highest learning rate that was tried."
        return (
            Finding(code="DLS541", severity="info", sentence=words, evidence=evidence, remedy="Try a higher `high`."),
        )
    return ()
