"""Directions in a layer that examples point out, and which way an output moves along them.

Everything after the model needs activations only through their inner products with each other and with the gradients,
so a layer may be as wide as it likes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from dlstudio.errors import DLStudioError
from dlstudio.explain.inputs import read_inputs
from dlstudio.explain.inspection.untouched import untouched
from dlstudio.explain.problem import target_of, try_model
from dlstudio.running import Runner, default_batch, memory_named

__all__ = ["Products", "learn", "products_of", "unseen_accuracy"]

Array = npt.NDArray[Any]


class Products:
    """Inner products in one layer.

    Attributes:
        gram: float64 (N, N), of the centred activations of all N examples with each other.
        rises: float64 (N, n), of the activations with the gradients of the n explained outputs.
        places: int64 index arrays into the examples: one for each concept, the last for random examples.
        target: int64 list (n,), the explained outputs, of `n_outputs`.
        n_examples: how many examples of each kind a repeat may use.
    """

    def __init__(
        self,
        activations: Sequence[torch.Tensor],
        gradients: torch.Tensor,
        target: list[int],
        n_outputs: int,
        n_examples: int,
    ) -> None:
        together = torch.cat(list(activations))
        together = together - together.mean(dim=0)
        self.gram: Array = (together @ together.T).double().cpu().numpy()
        self.rises: Array = (together @ gradients.T).double().cpu().numpy()
        bounds = np.cumsum([0, *map(len, activations)])
        self.places = [np.arange(first, last) for first, last in zip(bounds, bounds[1:], strict=False)]
        self.target, self.n_outputs, self.n_examples = target, n_outputs, n_examples


def products_of(
    model: nn.Module,
    inputs: Any,
    concepts: Mapping[str, Any],
    random: Any,
    layer: tuple[str, nn.Module],
    *,
    target: Any,
    output: str | int | None,
    class_names: Sequence[str],
    n_repeats: int,
    max_batch: int | None,
    **limits: Any,
) -> Products:
    """Run the model on rows and examples; the arguments are those of `dlstudio.explain_concepts`.

    Raises:
        DLStudioError: too few examples, other shapes, or a layer that cannot be looked into.
        Halted: there was no time for all rows and examples, or someone cancelled.
    """
    name, part = layer
    if isinstance(part, torch.jit.ScriptModule):
        raise DLStudioError("a layer in Python", "a scripted one", "Pass the module that it was scripted from.")
    with memory_named(), untouched(model):
        rows = _read(model, inputs, "inputs")
        examples = {f"concept {key!r}": _read(model, given, f"concept {key!r}") for key, given in concepts.items()}
        examples["random examples"] = rows if random is None else _read(model, random, "random examples")
        _check_examples(rows, examples, n_repeats)
        wrapped, shape = try_model(model, rows, (), (), output)
        n_outputs = int(np.prod(shape))
        chosen = target_of(target, len(rows), n_outputs, class_names, shape).to(rows.device)
        runner = Runner(max_batch=default_batch(rows[0]) if max_batch is None else max_batch, **limits)
        watch = _Watch(part, name)
        gradients = _gradients(runner, wrapped, watch, rows, chosen)
        activations = [_activations(runner, wrapped, watch, given) for given in examples.values()]
        n_examples = min(map(len, examples.values())) // n_repeats
        return Products(activations, gradients, chosen.tolist(), n_outputs, n_examples)


def learn(products: Products, index: Array) -> tuple[Array, Array]:
    """Learn directions from examples and score them.

    Args:
        products: of a layer.
        index: int64 (k, 2m), which examples each of k classifiers learns from, the positive half first.

    Returns:
        Scores float64 (k,), the share of rows that rise, rows that do not move counting half; and decisions
        float64 (k, N) of every classifier on every example, positive for the first half's kind.
    """
    k, size = index.shape
    gram = products.gram
    inner = gram[index[:, :, None], index[:, None, :]]
    means = inner.mean(axis=1, keepdims=True)
    inner = inner - means - means.transpose(0, 2, 1) + means.mean(axis=2, keepdims=True)
    variance = np.maximum(np.trace(inner, axis1=1, axis2=2) / size, np.finfo(float).tiny)
    labels = np.tile(np.repeat([1.0, -1.0], size // 2)[:, None], (k, 1, 1))
    # Ridge regression on the labels in its dual form: a direction is a weighted sum of its examples. A strength of one
    # mean squared length keeps few examples in many dimensions from fitting their own noise.
    weights = np.zeros((k, len(gram)))
    ridge = variance[:, None, None] * np.eye(size)
    weights[np.arange(k)[:, None], index] = np.linalg.solve(inner + ridge, labels)[:, :, 0]
    decisions = weights @ gram
    decisions -= np.take_along_axis(decisions, index, axis=1).mean(axis=1, keepdims=True)
    moved = weights @ products.rises
    return (moved > 0).mean(axis=1) + (moved == 0).mean(axis=1) / 2, decisions


def unseen_accuracy(decisions: Array, used: Sequence[Array], kinds: Sequence[Array]) -> float:
    """Return how well classifiers tell examples that they did not learn from, both kinds weighing the same.

    Args:
        decisions: float64 (k, N), see `learn`.
        used: int64 (k, m) each, what every classifier learned from: positive, then negative examples.
        kinds: int64 (any,) each, all positive and all negative examples.
    """
    shares = []
    for repeat, decision in enumerate(decisions):
        for sign, taken, places in zip((1, -1), used, kinds, strict=True):
            unseen = np.setdiff1d(places, taken[repeat])
            shares.append(float((sign * decision[unseen] > 0).mean()))
    return float(np.mean(shares))


def _read(model: nn.Module, given: Any, what: str) -> torch.Tensor:
    try:
        return read_inputs(model, given).inputs
    except DLStudioError as error:
        raise DLStudioError(f"{error.expected} ({what})", error.got, error.remedy) from None


def _check_examples(rows: torch.Tensor, examples: Mapping[str, torch.Tensor], n_repeats: int) -> None:
    shape = tuple(rows.shape[1:])
    for name, given in examples.items():
        if tuple(given.shape[1:]) != shape:
            raise DLStudioError(
                f"{name} of shape {('any number', *shape)}, as the inputs", f"shape {tuple(given.shape)}", "Align them."
            )
        if len(given) < 2 * n_repeats:
            raise DLStudioError(
                f"{2 * n_repeats} {name} or more, two for each of {n_repeats} repeats",
                f"{len(given)}",
                "Collect more, or pass a smaller n_random.",
            )


class _Watch:
    """Keeps what a layer returns during one forward pass: the tensor, or the first of several."""

    def __init__(self, layer: nn.Module, name: str) -> None:
        self._layer, self._name = layer, name
        self._kept: list[torch.Tensor] = []

    def __call__(self, model: nn.Module, rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Run the model; return the layer's tensor (rows, ...) and the outputs (rows, k), which depend on it."""
        self._kept.clear()
        handle = self._layer.register_forward_hook(self._keep)
        try:
            outputs = model(rows)
        finally:
            handle.remove()
        if len(self._kept) != 1:
            raise DLStudioError(
                f"a layer that runs once in a forward pass, for {self._name!r}",
                f"one that runs {len(self._kept)} times",
                "Choose another layer, or give every call a module of its own.",
            )
        if self._kept[0].dim() == 0 or len(self._kept[0]) != len(rows):
            raise self._unsuitable(f"a tensor of shape {tuple(self._kept[0].shape)} for {len(rows)} rows")
        return self._kept[0], outputs

    def _keep(self, module: nn.Module, inputs: Any, output: Any) -> Any:
        several = type(output) in (tuple, list)
        first = output[0] if several else output
        if not isinstance(first, torch.Tensor) or not first.is_floating_point():
            raise self._unsuitable(str(first.dtype) if isinstance(first, torch.Tensor) else type(first).__name__)
        if torch.is_grad_enabled() and not first.requires_grad:
            first = first.detach().requires_grad_()
        self._kept.append(first)
        passed = first.clone()  # what follows may change it in place
        return type(output)((passed, *output[1:])) if several else passed

    def _unsuitable(self, got: str) -> DLStudioError:
        expected = f"a layer that returns a row of numbers for every row, for {self._name!r}"
        return DLStudioError(expected, got, "Choose another layer.")


def _gradients(
    runner: Runner, model: nn.Module, watch: _Watch, rows: torch.Tensor, target: torch.Tensor
) -> torch.Tensor:
    def work(part: slice, limit: int) -> torch.Tensor:
        inside, outputs = watch(model, rows[part])
        value = outputs.gather(1, target[part].unsqueeze(1)).sum()
        found = torch.autograd.grad(value, inside, allow_unused=True)[0] if value.requires_grad else None
        return torch.zeros_like(inside).flatten(1) if found is None else found.reshape(len(inside), -1)

    gradients = torch.cat(runner.every_row(len(rows), 1, work))
    if not gradients.any():
        raise DLStudioError(
            "an output that depends on the layer",
            "gradients of zero in every row",
            "Choose another layer, or another target.",
        )
    return gradients


def _activations(runner: Runner, model: nn.Module, watch: _Watch, examples: torch.Tensor) -> torch.Tensor:
    def work(part: slice, limit: int) -> torch.Tensor:
        with torch.no_grad():
            return watch(model, examples[part])[0].reshape(len(examples[part]), -1)

    return torch.cat(runner.every_row(len(examples), 1, work))
