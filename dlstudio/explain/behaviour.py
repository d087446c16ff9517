"""How a model behaves, seen by running it on a row or a few."""

from __future__ import annotations

import torch
from torch import nn

from dlstudio.explain.inputs import Given
from dlstudio.explain.problem import FromEmbeddings, Problem
from dlstudio.results import Finding

__all__ = ["calls_of", "differentiable", "gives_probabilities", "reads_channels_first", "steadiness"]


def gives_probabilities(module: nn.Module, given: Given) -> bool:
    """Whether every row of outputs is positive and sums to 1."""
    with torch.no_grad():
        outputs = module(given.inputs[:8], *(item[:8] for item in given.extra))
    sums = outputs.sum(dim=1)
    return outputs.shape[1] > 1 and bool((outputs >= 0).all()) and bool(((sums - 1).abs() < 1e-4).all())


def steadiness(module: nn.Module, given: Given) -> list[Finding]:
    """Look whether the model says the same twice, and of a row alone what it says of it beside another."""
    last = len(given.inputs) - 1
    rows = torch.tensor(sorted({0, last // 2, last}), device=given.inputs.device)
    few = (given.inputs[rows], *(item[rows] for item in given.extra))
    with torch.no_grad():
        once, again = module(*few), module(*few)
        try:
            alone = module(*(item[:1] for item in few))
        except ValueError:  # BatchNorm without running statistics cannot take a row alone
            alone = torch.full_like(once[:1], float("nan"))
    size = max(float(once.abs().max()), 1e-12)
    if float((once - again).abs().max()) > 1e-6 * size:
        return [
            Finding(
                code="DLS410",
                severity="warning",
                sentence="The model gives other outputs for the same inputs, although it is in eval mode.",
                remedy="Switch off its randomness, such as functional.dropout without training=self.training.",
            )
        ]
    if not float((alone[0] - once[0]).abs().max()) <= 1e-3 * size:
        return [
            Finding(
                code="DLS414",
                severity="warning",
                sentence="The output of a row depends on the other rows of its batch.",
                remedy="Normalise within rows, or use BatchNorm with running statistics.",
            )
        ]
    return []


def calls_of(row: Problem, layer: nn.Module, name: str) -> list[Finding]:
    """Look how often the layer of a layered method runs: attributions are those of one call."""
    seen: list[int] = []
    handle = layer.register_forward_hook(lambda *_: seen.append(1))
    try:
        with torch.no_grad():
            row.module(row.inputs, *row.extra)
    finally:
        handle.remove()
    if len(seen) == 1:
        return []
    return [
        Finding(
            code="DLS404",
            severity="warning",
            sentence=f"The layer {name} runs {len(seen)} times; the attributions are those of one call only.",
            remedy="Give every call a module of its own, or choose another layer.",
        )
    ]


def reads_channels_first(module: nn.Module, given: Given) -> bool:
    """Whether a convolution over time takes the inputs as they are, channels before steps."""
    few = given.inputs[:1]
    seen: list[bool] = []
    hooks = [
        part.register_forward_pre_hook(
            lambda _, taken: seen.append(taken[0].shape == few.shape and taken[0].equal(few))
        )
        for part in module.modules()
        if isinstance(part, nn.Conv1d)
    ]
    try:
        if hooks:
            with torch.no_grad():
                module(few, *(item[:1] for item in given.extra))
    finally:
        for hook in hooks:
            hook.remove()
    return any(seen)


def differentiable(module: nn.Module, given: Given, embedding: nn.Module | None) -> bool:
    """Whether a gradient reaches the inputs, or the embeddings of tokens."""
    few, extra = given.inputs[:1], tuple(item[:1] for item in given.extra)
    if embedding is None and not few.is_floating_point():
        return False
    try:
        if embedding is not None:
            leaf = embedding(few).detach().requires_grad_()
            outputs = FromEmbeddings(module, embedding)(leaf, few, *extra)
        else:
            leaf = few.detach().clone().requires_grad_()
            outputs = module(leaf, *extra)
        return torch.autograd.grad(outputs.sum(), leaf, allow_unused=True)[0] is not None
    except torch.OutOfMemoryError:
        raise
    except RuntimeError:  # a step that refuses tensors with gradients, such as .numpy(), or an output without any
        return False
