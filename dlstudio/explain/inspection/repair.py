"""Rebuild a model so that every activation is a module of its own, and prove that its outputs are the same."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from torch import nn

from dlstudio.explain.inspection.operation import tensors
from dlstudio.explain.inspection.rebuilding import NotTraced, traced
from dlstudio.explain.inspection.twins import is_activation, own, twin_of
from dlstudio.explain.inspection.untouched import untouched

__all__ = ["Repaired", "repair", "without_softmax"]

TOLERANCE = 1e-5
"""The largest difference of outputs, as a share of the largest output, that rounding alone may explain."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Repaired:
    """A model to explain in place of the one that was given.

    Attributes:
        module: the rebuilt model, in eval mode; its weights are those of the original, not copies. The original itself
            where nothing was changed.
        changes: what was changed, in words; () where nothing was.
        max_difference: the largest difference between the outputs of both, on the inputs and on other batch sizes.
        reason: why a model that needed repair got none; empty otherwise.
    """

    module: nn.Module
    changes: tuple[str, ...]
    max_difference: float
    reason: str = ""


def repair(module: nn.Module, inputs: Any, extra: tuple[Any, ...] = ()) -> Repaired:
    """Give every call of an activation or pooling a module of its own, with an input of its own.

    Functions, modules made while running, reused ones and those that overwrite their input are replaced by fresh
    modules that share their weights; sums of two branches become modules that LRP knows; overlapping pooling windows
    are laid side by side. The original model stays as it is.

    Args:
        module: any model.
        inputs: a tensor or a tuple of tensors; a few rows are enough.
        extra: further positional arguments.

    Returns:
        The rebuilt model with equal outputs on these inputs, or the original and the reason.

    Example:
        >>> repair(net, x).changes
        ('relu in block.0 became a module',)
    """
    arguments = (*(inputs if isinstance(inputs, tuple) else (inputs,)), *extra)
    with untouched(module), torch.no_grad():
        try:
            graph = traced(module, arguments)
            graph.give_modules()
            graph.add_by_modules()
            graph.give_own_inputs()
            return _proven(module, graph.module(), tuple(graph.changes), arguments)
        except NotTraced as error:
            reason = str(error)
        try:
            twin = twin_of(module)
            changes = _take_turns(twin, arguments)
        except (RuntimeError, TypeError) as error:
            return Repaired(module=module, changes=(), max_difference=0.0, reason=f"{reason}; {error}")
        repaired = _proven(module, twin, changes, arguments)
        return repaired if repaired.changes else dataclasses.replace(repaired, reason=repaired.reason or reason)


def without_softmax(module: nn.Module, inputs: Any, extra: tuple[Any, ...] = ()) -> Repaired:
    """Take the softmax off the end of a model, so that its logits can be explained.

    Proven by ``softmax(new) == old`` on the inputs (or ``log_softmax``). A model that ends otherwise comes back as it
    is, without changes and without a reason.

    Example:
        >>> without_softmax(nn.Sequential(nn.Linear(4, 3), nn.Softmax(dim=1)), x).changes
        ('softmax at the end taken off',)
    """
    arguments = (*(inputs if isinstance(inputs, tuple) else (inputs,)), *extra)
    with untouched(module), torch.no_grad():
        old = module(*arguments)
        kept = Repaired(module=module, changes=(), max_difference=0.0)
        if not isinstance(old, torch.Tensor) or not (logarithmic := _looks_normal(old)):
            return kept
        try:
            graph = traced(module, arguments)
            bare = graph.module() if graph.drop_last({"softmax", "log_softmax"}) else None
        except NotTraced:
            bare = _drop_last_module(module, arguments)
        if bare is None:
            return kept
        new = bare(*arguments)
        again = torch.log_softmax(new, -1) if logarithmic == "log" else torch.softmax(new, -1)
        difference = float((again - old).abs().max())
        if difference > TOLERANCE * max(1.0, float(old.abs().max())):
            return dataclasses.replace(kept, reason="the softmax is used in more places than at the end")
        return Repaired(module=bare, changes=("softmax at the end taken off",), max_difference=difference)


def _proven(module: nn.Module, rebuilt: nn.Module, changes: tuple[str, ...], arguments: tuple[Any, ...]) -> Repaired:
    """Compare outputs on the inputs, on one row and on twice the rows: a trace must not have kept a batch size."""
    kept = Repaired(module=module, changes=(), max_difference=0.0)
    if not changes:
        return kept
    largest = 0.0
    for resized in (lambda t: t, lambda t: t[:1], lambda t: torch.cat([t, t])):
        given = tuple(resized(a) if isinstance(a, torch.Tensor) and a.dim() else a for a in arguments)
        old = list(tensors(module(*_copies(given))))
        try:
            new = list(tensors(rebuilt(*_copies(given))))
        except Exception as error:
            return dataclasses.replace(kept, reason=f"the rebuilt model fails: {error}")
        if [item.shape for item in old] != [item.shape for item in new]:
            return dataclasses.replace(kept, reason="the rebuilt model gives outputs of other shapes")
        for before, after in zip(old, new, strict=True):
            difference = float((before.double() - after.double()).abs().max()) if before.numel() else 0.0
            if not difference <= TOLERANCE * max(1e-30, float(before.double().abs().max())):
                return dataclasses.replace(kept, reason=f"the rebuilt model's outputs differ by {difference:.2g}")
            largest = max(largest, difference)
    return Repaired(module=rebuilt.eval(), changes=changes, max_difference=largest)


def _copies(arguments: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(item.clone() if isinstance(item, torch.Tensor) else item for item in arguments)


def _looks_normal(outputs: torch.Tensor) -> str:
    """Whether the last axis holds probabilities, their logarithms (``"log"``), or neither (empty)."""
    if not outputs.is_floating_point() or outputs.dim() < 2 or outputs.shape[-1] < 2:
        return ""
    for name, values in (("plain", outputs), ("log", outputs.exp())):
        if bool((values >= 0).all()) and bool(((values.sum(-1) - 1).abs() < 1e-3).all()):
            return name
    return ""


class _Turns(nn.Module):
    """Copies of a module that is called several times: each call of a run gets its own, in order."""

    def __init__(self, part: nn.Module, n_calls: int) -> None:
        super().__init__()
        self.copies = nn.ModuleList(own(part) for _ in range(n_calls))
        self.n_done = 0

    def forward(self, values: torch.Tensor) -> Any:
        if self.n_done >= len(self.copies):
            raise RuntimeError(f"a {type(self.copies[0]).__name__} ran more often than when the model was rebuilt")
        part = self.copies[self.n_done]
        self.n_done += 1
        return part(values.clone())


def _take_turns(twin: nn.Module, arguments: tuple[Any, ...]) -> tuple[str, ...]:
    """Change a model that cannot be written down as a graph: only the modules it registers can be replaced."""
    parts = [part for part in twin.modules() if is_activation(part)]
    n_calls = dict.fromkeys(parts, 0)

    def count(part: nn.Module, *_: Any) -> None:
        n_calls[part] += 1

    handles = [part.register_forward_pre_hook(count) for part in parts]
    try:
        twin(*_copies(arguments))
    finally:
        for handle in handles:
            handle.remove()
    turns = {part: _Turns(part, n) for part, n in n_calls.items() if n}
    changes = []
    for path, parent in list(twin.named_modules()):
        for name, child in list(parent.named_children()):
            if child in turns:
                setattr(parent, name, turns[child])
                changes.append(f"{f'{path}.{name}'.lstrip('.')} takes a module of its own for every call")

    def start(*_: Any) -> None:
        for turn in turns.values():
            turn.n_done = 0

    twin.register_forward_pre_hook(start)
    return tuple(changes)


def _drop_last_module(module: nn.Module, arguments: tuple[Any, ...]) -> nn.Module | None:
    """Replace the softmax module whose very output the model returns, where there is one."""
    try:
        twin = twin_of(module)
    except (RuntimeError, TypeError):
        return None
    made: dict[int, tuple[torch.Tensor, str]] = {}
    handles = [
        part.register_forward_hook(lambda _, __, output, name=name: made.__setitem__(id(output), (output, name)))
        for name, part in twin.named_modules()
        if isinstance(part, (nn.Softmax, nn.LogSoftmax))
    ]
    try:
        result = twin(*_copies(arguments))
    finally:
        for handle in handles:
            handle.remove()
    if id(result) not in made:
        return None
    path, _, name = made[id(result)][1].rpartition(".")
    setattr(twin.get_submodule(path), name, nn.Identity())
    return twin
