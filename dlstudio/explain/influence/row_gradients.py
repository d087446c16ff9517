"""The gradient of every single row's loss, at weights that a checkpoint holds and the model need not."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy.typing as npt
import torch
from torch import nn
from torch.func import functional_call, grad, vmap
from torch.nn import functional

from dlstudio.errors import DLStudioError, unknown_name
from dlstudio.explain.influence.checkpoints import Checkpoint, Weights
from dlstudio.running import Runner, out_of_memory

__all__ = ["RowGradients", "check_default_loss", "default_loss", "few_outputs", "predict", "trace"]

Loss = Callable[[Any, torch.Tensor], torch.Tensor]
Rows = tuple[torch.Tensor, torch.Tensor]

BATCH_NUMBERS = 2**24
"""How many numbers the gradients of one batch may take."""


def default_loss(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Cross entropy where targets are class indices, else the squared error."""
    if targets.is_floating_point():
        return functional.mse_loss(outputs.reshape(targets.shape), targets)
    return functional.cross_entropy(outputs, targets)


def check_default_loss(outputs: Any, n_rows: int, targets: torch.Tensor) -> None:
    """Check that a model's outputs of a few rows, and targets (n,), suit `default_loss`.

    Raises:
        DLStudioError: they do not, with what to do.
    """
    if not isinstance(outputs, torch.Tensor):
        raise DLStudioError(
            "one tensor as the model's output",
            type(outputs).__name__,
            "Pass loss=, such as lambda outputs, targets: cross_entropy(outputs['logits'], targets).",
        )
    shape = tuple(outputs.shape)
    if targets.is_floating_point():
        if outputs.numel() != n_rows:
            raise DLStudioError(f"one value for each of {n_rows} rows", f"outputs of shape {shape}", "Pass loss=.")
        return
    if len(shape) != 2 or shape[1] < 2:
        raise DLStudioError("logits of shape (rows, classes)", f"outputs of shape {shape}", "Pass loss=.")
    bad = (targets < 0) | (targets >= shape[1])
    if bad.any():
        raise DLStudioError(
            f"targets from 0 to {shape[1] - 1}", f"{int(targets[bad][0])}", "Number the classes from 0."
        )


def few_outputs(model: nn.Module, inputs: torch.Tensor) -> Any:
    """Return what a model says of the first two rows.

    Raises:
        DLStudioError: it does not take them.
    """
    try:
        with torch.no_grad():
            return model(inputs[:2])
    except Exception as error:  # whatever the model raises
        if out_of_memory(error):
            raise
        raise DLStudioError(
            f"a model that takes inputs of shape {tuple(inputs.shape)} and type {inputs.dtype}",
            f"{type(error).__name__}: {(str(error).strip().splitlines() or [''])[0][:300]}",
            "Pass inputs as the model was trained on, rows first.",
        ) from error


class RowGradients:
    """Computes the gradient of each row's own loss with respect to the weights of some layers.

    Args:
        model: in eval mode; its own weights are neither used nor changed.
        loss: of the model's output for one row and its target; rows come one by one, so means and sums are the same.
        layers: names of modules whose weights count; None for all that require gradients.

    Raises:
        DLStudioError: there is no such layer, it has no weights, or the model is scripted.
    """

    def __init__(self, model: nn.Module, loss: Loss, layers: Sequence[str] | None) -> None:
        if isinstance(model, torch.jit.ScriptModule):
            raise DLStudioError("a model in Python", "a scripted one", "Pass the module that it was scripted from.")
        self._model, self._loss = model, loss
        trained = [name for name, weight in model.named_parameters() if weight.requires_grad]
        self.names = trained or [name for name, _ in model.named_parameters()]
        if layers is not None:
            known = [name for name, _ in model.named_modules() if name]
            for layer in layers:
                if layer not in known:
                    raise unknown_name("layer", layer, known)
            parts = tuple(f"{layer}." for layer in layers)
            self.names = [name for name in self.names if name.startswith(parts)]
        if not self.names:
            raise DLStudioError("layers with weights", f"layers={layers!r} without any", "Name others, or None.")
        sizes = dict(model.named_parameters())
        self.n_weights = sum(sizes[name].numel() for name in self.names)
        self._together: bool | None = None

    def __call__(self, weights: Weights, inputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Return gradients (rows, weights) at `weights`."""
        if self._together is None:
            self._together = self._agree(weights, inputs[:2], targets[:2])
        return (self._at_once if self._together else self._one_by_one)(weights, inputs, targets)

    def _split(self, weights: Weights) -> tuple[Weights, Weights]:
        chosen = {name: weights[name] for name in self.names}
        return chosen, {name: weight for name, weight in weights.items() if name not in chosen}

    def _value(self, chosen: Weights, rest: Weights, row: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        outputs = functional_call(self._model, {**rest, **chosen}, (row.unsqueeze(0),))
        return self._loss(outputs, target.unsqueeze(0)).sum()

    def _at_once(self, weights: Weights, inputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        chosen, rest = self._split(weights)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "There is a performance drop")
            found = vmap(grad(self._value), in_dims=(None, None, 0, 0))(chosen, rest, inputs, targets)
        return torch.cat([found[name].flatten(1) for name in self.names], dim=1).detach()

    def _one_by_one(self, weights: Weights, inputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        chosen, rest = self._split(weights)
        leaves = {name: weight.detach().requires_grad_() for name, weight in chosen.items()}
        rows = []
        for row, target in zip(inputs, targets, strict=True):
            value = self._value(leaves, rest, row, target)
            found = torch.autograd.grad(value, list(leaves.values()), allow_unused=True, materialize_grads=True)
            rows.append(torch.cat([part.to_dense().flatten() for part in found]))  # of embeddings they may be sparse
        return torch.stack(rows)

    def _agree(self, weights: Weights, inputs: torch.Tensor, targets: torch.Tensor) -> bool:
        """Whether all rows at once give what single rows give; if not, they go one by one: right, but far slower.

        Models whose control flow or shapes depend on numbers cannot be vectorised over rows, nor can functions with a
        backward pass of their own.
        """
        expected = self._one_by_one(weights, inputs, targets)  # raises what is wrong with model or loss themselves
        try:
            found = self._at_once(weights, inputs, targets)
        except RuntimeError as error:  # how torch.func says that it cannot
            if out_of_memory(error):
                raise
            return False
        return bool((found - expected).abs().max() <= 1e-4 * expected.abs().max())


def trace(
    gradients: RowGradients, moments: Sequence[Checkpoint], test: Rows, train: Rows, runner: Runner
) -> tuple[torch.Tensor, torch.Tensor]:
    """Add up rate times inner products of loss gradients over checkpoints.

    Returns:
        Influence (n, m) of m training rows on n rows, and of training rows on themselves (m,), on the CPU.

    Raises:
        Halted: there was no time for all of them, or someone cancelled.
    """
    (x, y), (x_train, y_train) = test, train
    n, m = len(x), len(x_train)
    influence = torch.zeros(n, m, dtype=moments[0].weights[gradients.names[0]].dtype)
    own = torch.zeros(m, dtype=influence.dtype)
    size = max(1, 4 * BATCH_NUMBERS // gradients.n_weights)
    passes = [(moment, at) for at in range(0, n, size) for moment in moments]
    prepared: dict[int, torch.Tensor] = {}

    def explained(number: int, limit: int) -> torch.Tensor:
        """Gradients of the rows in question of one pass; those of the last pass are forgotten."""
        if number not in prepared:
            prepared.clear()
            moment, at = passes[number]
            stop = min(n, at + size)
            parts = [
                gradients(moment.weights, x[low : min(stop, low + limit)], y[low : min(stop, low + limit)])
                for low in range(at, stop, limit)
            ]
            prepared[number] = torch.cat(parts)
        return prepared[number]

    def work(part: slice, limit: int) -> None:
        found = []
        at = part.start
        while at < part.stop:
            number, row = divmod(at, m)
            rows = slice(row, min(m, row + part.stop - at))
            moment, first = passes[number]
            wanted = explained(number, limit)
            given = gradients(moment.weights, x_train[rows], y_train[rows])
            rate = 1.0 if moment.lr is None else moment.lr
            own_part = (given**2).sum(dim=1) * rate if first == 0 else None
            found.append((slice(first, first + len(wanted)), rows, (wanted @ given.T * rate).cpu(), own_part))
            at += rows.stop - rows.start
        # Only now, when nothing can run out of memory any more: a batch that does is done again.
        for explained_rows, rows, values, own_part in found:
            influence[explained_rows, rows] += values
            if own_part is not None:
                own[rows] += own_part.cpu()

    runner.every_row(len(passes) * m, 1, work)
    return influence, own


def predict(model: nn.Module, weights: Weights, test: Rows, runner: Runner) -> npt.NDArray[Any] | None:
    """Return the class or value (n,) that a model with these weights predicts; None for outputs of another kind.

    Raises:
        Halted: there was no time for all rows, or someone cancelled.
    """
    x, y = test

    def work(rows: slice, limit: int) -> Any:
        with torch.no_grad():
            return functional_call(model, weights, (x[rows],))

    parts = runner.every_row(len(x), 1, work)
    if not all(isinstance(outputs, torch.Tensor) for outputs in parts):
        return None
    together = torch.cat(parts)
    if not y.is_floating_point() and together.dim() == 2:
        together = together.argmax(dim=1)
    elif together.numel() != len(x):
        return None
    predicted: npt.NDArray[Any] = together.reshape(len(x)).cpu().numpy()
    return predicted
