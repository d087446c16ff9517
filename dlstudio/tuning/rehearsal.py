"""A copy of a training, to try on it what the training itself must not feel."""

from __future__ import annotations

import copy
import dataclasses
import inspect
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import nn

from dlstudio.errors import DLStudioError
from dlstudio.running import out_of_memory
from dlstudio.training import rng
from dlstudio.training.alone import Alone
from dlstudio.training.device import check_device
from dlstudio.training.fields import describe
from dlstudio.training.naming import check_names
from dlstudio.training.recipe import Recipe
from dlstudio.training.setup import make_parts

__all__ = ["Loss", "Own", "Part", "Rehearsal", "as_own", "batches_of_loader", "of_model", "of_recipe", "unnoticed"]

Loss = Callable[[Any, torch.Tensor], torch.Tensor]
Part = tuple[Any, torch.Tensor, float]
"""Inputs, targets, and the weight of their mean loss in the step's."""


@dataclasses.dataclass(kw_only=True)
class Rehearsal:
    """A model with its optimiser, fresh or copied, and steps to train it with.

    Attributes:
        module, optimizer, criterion, device: what is trained, how, and where.
        steps: the batches of each step, without end.
        n_rows: of the training data; None where a loader does not say.
        batch_size: rows of a step.
        autocast, scaler, clip_norm: as in a recipe.
        words: what is trained, for people: model, data, optimizer.
    """

    module: nn.Module
    optimizer: torch.optim.Optimizer
    criterion: Loss
    device: torch.device
    steps: Iterator[list[Part]]
    n_rows: int | None
    batch_size: int
    autocast: AbstractContextManager[Any]
    scaler: torch.amp.GradScaler | None = None
    clip_norm: float | None = None
    words: dict[str, Any]

    def set_lr(self, lr: float) -> None:
        """Make `lr` the rate of the next step."""
        for group in self.optimizer.param_groups:
            group["lr"] = lr

    def step(self) -> torch.Tensor:
        """Make one step of the optimiser; returns the loss before it, of its batch."""
        total = torch.zeros((), dtype=torch.float64, device=self.device)
        for inputs, targets, share in next(self.steps):
            loss = self._loss(inputs, targets) * share
            if not loss.requires_grad:
                got = "one that depends on no parameter that is trained"
                raise DLStudioError("a loss with a gradient", got, "Compute it from the outputs, without detach().")
            with _told("a loss whose gradient can be computed", "Call backward() on one loss by hand."):
                (loss if self.scaler is None else self.scaler.scale(loss)).backward()
            total += loss.detach()
        if self.clip_norm is not None:
            if self.scaler is not None:
                self.scaler.unscale_(self.optimizer)
            nn.utils.clip_grad_norm_(self.module.parameters(), self.clip_norm)
        with _told("an optimiser that can make a step", "Pass torch.optim.SGD."):
            if self.scaler is None:
                self.optimizer.step()
            else:
                self.scaler.step(self.optimizer)
                self.scaler.update()
        self.optimizer.zero_grad()
        return total

    def loss(self) -> torch.Tensor:
        """Return the loss of the next batch, and learn nothing from it."""
        with torch.no_grad():
            losses = [self._loss(inputs, targets).double() * share for inputs, targets, share in next(self.steps)]
            return torch.stack(losses).sum()

    def _loss(self, inputs: Any, targets: torch.Tensor) -> torch.Tensor:
        try:
            with self.autocast:
                outputs = self.module(inputs)
            loss = self.criterion(outputs, targets)
        except Exception as error:  # whatever a model and a loss of one's own may raise
            if out_of_memory(error):
                raise
            raise _misfit(error, inputs, targets) from error
        if not isinstance(loss, torch.Tensor) or loss.numel() != 1:
            got = f"a tensor of shape {tuple(loss.shape)}" if isinstance(loss, torch.Tensor) else describe(loss)
            raise DLStudioError("a loss that is one number for a batch", got, "Take its mean over the rows.")
        return loss


@dataclasses.dataclass(frozen=True, kw_only=True)
class Own:
    """A model of one's own with what is needed to train it; None is AdamW, as in a recipe."""

    model: nn.Module
    loader: Iterable[Any]
    loss: Loss
    optimizer: torch.optim.Optimizer | Callable[..., torch.optim.Optimizer] | None


def as_own(what: Any, loader: Any, loss: Any, optimizer: Any, verb: str) -> Own | None:
    """Return a model of one's own and what came with it, or None where `what` is a recipe.

    Raises:
        DLStudioError: it is neither, or a loader or a loss is missing or not wanted.
    """
    if isinstance(what, Recipe):
        if (loader, loss, optimizer) != (None, None, None):
            raise DLStudioError(
                "a recipe alone, which knows its data, loss and optimiser",
                "loader, loss or optimizer beside it",
                "Leave them out, or pass your own module instead of the recipe.",
            )
        return None
    if not isinstance(what, nn.Module):
        raise DLStudioError("a Recipe or a torch.nn.Module", describe(what), f"Write {verb}(Recipe(data=…, model=…)).")
    if loader is None or not callable(loss):
        raise DLStudioError(
            "loader= and loss= beside a module of your own",
            f"loader={describe(loader)}, loss={describe(loss)}",
            f"Write {verb}(model, loader=train_loader, loss=torch.nn.functional.cross_entropy).",
        )
    if optimizer is not None and not isinstance(optimizer, torch.optim.Optimizer) and not callable(optimizer):
        raise DLStudioError(
            "an optimiser, or a function of parameters that makes one", describe(optimizer), "Pass torch.optim.SGD."
        )
    return Own(model=what, loader=loader, loss=loss, optimizer=optimizer)


@contextmanager
def unnoticed(own: Own | None) -> Iterator[None]:
    """Leave the caller's random numbers, and those of the loader, after the block as they were before it."""
    loader = None if own is None else own.loader
    sources = [getattr(loader, "generator", None), getattr(getattr(loader, "sampler", None), "generator", None)]
    states = [(source, source.get_state()) for source in sources if isinstance(source, torch.Generator)]
    try:
        with rng.undisturbed():
            yield
    finally:
        for source, state in states:
            source.set_state(state)


def of_recipe(recipe: Recipe) -> tuple[Rehearsal, Recipe]:
    """Return a recipe's training before its first step, and the recipe with its data read, for another of them.

    One device is used, a module in the recipe is copied, and random numbers are the recipe's.

    Raises:
        DLStudioError: the recipe cannot be trained here.
    """
    check_names(recipe)
    check_device(recipe)
    recipe = recipe.replace(devices=1, strategy="single")
    fresh = recipe.replace(model=copy.deepcopy(recipe.model)) if isinstance(recipe.model, nn.Module) else recipe
    ranks = Alone(fresh)
    parts = make_parts(fresh, ranks)
    rng.seed_all(fresh.seed)

    def steps() -> Iterator[list[Part]]:
        epoch, gathered = 0, []
        while True:
            for inputs, targets, share, n_rows in parts.batches.epoch(epoch):
                gathered.append((inputs, targets, share))
                if n_rows:
                    yield gathered
                    gathered = []
            epoch += 1

    rehearsal = Rehearsal(
        module=parts.network,
        optimizer=parts.optimizer,
        criterion=parts.criterion,
        device=ranks.device,
        steps=steps(),
        n_rows=len(parts.batches.rows["train"]),
        batch_size=recipe.batch_size * recipe.accumulate,
        autocast=parts.autocast,
        scaler=parts.scaler,
        clip_norm=recipe.clip_norm,
        words={"model": described(recipe.model), "data": parts.dataset.name, "optimizer": recipe.optimizer},
    )
    return rehearsal, recipe.replace(data=parts.dataset)


def of_model(own: Own, seed: int) -> Rehearsal:
    """Return a training of a copy of one's own model, on the device it lies on.

    Raises:
        DLStudioError: the loader is empty, or does not yield inputs and targets; the model cannot be copied; or the
            optimiser trains nothing of the model, or needs more than gradients for a step.
    """
    first = next(own.model.parameters(), None)
    device = torch.device("cpu") if first is None else first.device
    given, make = (own.optimizer, None) if isinstance(own.optimizer, torch.optim.Optimizer) else (None, own.optimizer)
    with _told("a model that can be copied", "Try copy.deepcopy(model); a fresh model can be copied."):
        module, copied = copy.deepcopy((own.model, given))  # together, so that they share their parameters
    trained = [parameter for parameter in module.parameters() if parameter.requires_grad]
    if not trained:
        raise DLStudioError("a model with parameters to train", "none that require a gradient", "Unfreeze some.")
    optimizer = copied or _made(make or torch.optim.AdamW, trained)
    _check_optimizer(optimizer, trained)
    module.train()
    optimizer.zero_grad()
    rng.seed_all(seed)
    dataset: Any = getattr(own.loader, "dataset", None)
    return Rehearsal(
        module=module,
        optimizer=optimizer,
        criterion=own.loss,
        device=device,
        steps=([(inputs, targets, 1.0)] for inputs, targets in batches_of_loader(own.loader, device)),
        n_rows=len(dataset) if hasattr(dataset, "__len__") else None,
        batch_size=int(getattr(own.loader, "batch_size", None) or 0),
        autocast=nullcontext(),
        words={
            "model": described(own.model),
            "data": "" if dataset is None else describe(dataset),
            "optimizer": type(optimizer).__name__.lower(),
        },
    )


def _made(make: Callable[..., Any], parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
    """Call a function of parameters; only one that insists on a rate is given one."""
    try:
        rate = inspect.signature(make).parameters.get("lr")
        made = make(parameters, lr=1e-3) if rate and rate.default is rate.empty else make(parameters)
    except (TypeError, ValueError) as error:
        got = f"{type(error).__name__}: {error}"
        raise DLStudioError("a function of parameters that makes an optimiser", got, "Pass torch.optim.SGD.") from error
    if not isinstance(made, torch.optim.Optimizer):
        raise DLStudioError("a function that returns an optimiser", describe(made), "Pass torch.optim.SGD.")
    return made


def _check_optimizer(optimizer: torch.optim.Optimizer, trained: list[nn.Parameter]) -> None:
    name = type(optimizer).__name__
    closure = inspect.signature(optimizer.step).parameters.get("closure")
    if closure is not None and closure.default is closure.empty:
        got = f"{name}, which calls for the loss again and again"
        raise DLStudioError("an optimiser that makes a step from one gradient", got, "Pass torch.optim.SGD or AdamW.")
    held = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
    if held.isdisjoint(map(id, trained)):
        remedy = "Make it from model.parameters(), or pass a function that makes one, such as torch.optim.SGD."
        raise DLStudioError("an optimiser of the model's parameters", f"{name} over others", remedy)


@contextmanager
def _told(expected: str, remedy: str) -> Iterator[None]:
    """Say what was expected, where torch raises an error of its own."""
    try:
        yield
    except Exception as error:
        if out_of_memory(error):
            raise
        raise DLStudioError(expected, f"{type(error).__name__}: {str(error).strip()}", remedy) from error


def _misfit(error: Exception, inputs: Any, targets: Any) -> DLStudioError:
    sizes = [
        f"{name} {tuple(part.shape)}"
        for name, part in (("inputs", inputs), ("targets", targets))
        if isinstance(part, torch.Tensor)
    ]
    remedy = "Call the model and the loss on one batch by hand."
    if "more than 1 value per channel" in str(error):  # batch normalisation has no spread of a single row
        remedy = "Give batches of two rows or more: drop_last=True in a loader, smallest=2 in find_batch_size."
    got = f"{type(error).__name__}: {str(error).strip()}" + f" (shapes: {', '.join(sizes)})" * bool(sizes)
    return DLStudioError("a model and a loss that fit the batches", got, remedy)


def batches_of_loader(loader: Iterable[Any], device: torch.device) -> Iterator[tuple[Any, torch.Tensor]]:
    """Yield inputs and targets of a loader on a device, again and again."""
    while True:
        empty = True
        for batch in loader:
            if not isinstance(batch, tuple | list) or len(batch) != 2:
                raise DLStudioError("pairs (inputs, targets) from the loader", describe(batch), "Wrap the loader.")
            empty = False
            inputs, targets = (part.to(device) if isinstance(part, torch.Tensor) else part for part in batch)
            yield inputs, targets
        if empty:
            raise DLStudioError("a loader with batches", "none, the second time at least", "Pass a DataLoader.")


def described(model: Any) -> str:
    """Return what a model is called: its name, or that of its class."""
    return model if isinstance(model, str) else describe(model)
