"""What is known of an operation that a model runs on its inputs."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any, Literal

import torch
from torch import nn

from dlstudio.explain.inspection.functions import Effect

__all__ = ["How", "Operation", "Operations", "tensors"]

How = Literal["module", "functional", "in-line", "reused", "in-place", "scripted"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Operation:
    """One operation on numbers that depend on the inputs, at one place in the model.

    Attributes:
        op: what it does, such as ``"relu"``, ``"mul"`` (of two numbers that both depend on the inputs) or ``"gru"``.
        where: the dotted name of the module that runs it; empty for the model itself.
        how: a registered ``"module"``; ``"reused"``, one that runs more than once; ``"in-place"``, one that writes into
            its input; ``"in-line"``, a module that is made in ``forward`` or kept where `nn.Module` does not see it;
            ``"functional"``; ``"scripted"``, compiled code that cannot be looked into.
        n_calls: how often it ran.
        module: the class of the module that is this operation; None for a function.
        in_place: it writes into its input.
        overlapping: a pooling whose windows share inputs, or skip some.
        after: the classes of the modules whose very output it reads, without an operation between them: one that made
            it, and those that handed it on, such as a dropout that is off.
        beside: what else reads the same numbers: classes of modules and names of functions.
        effect: ``"non-linear"``; ``"linear"``; ``"cut"``, where the output goes on to depend on the inputs but the
            gradient does not.
    """

    op: str
    where: str
    how: How
    n_calls: int = 1
    module: type[nn.Module] | None = None
    in_place: bool = False
    overlapping: bool = False
    after: tuple[type[nn.Module], ...] = ()
    beside: tuple[str, ...] = ()
    effect: Effect = "non-linear"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Operations:
    """What `operations` saw. Iterating goes over the non-linear ones.

    Attributes:
        nonlinear: the operations that bend: all that methods with rules of their own have to know.
        linear: the linear ones. Moving numbers about (reshaping, indexing, concatenating) is none.
        cuts: operations after which the output depends on the inputs without a gradient that says so.
        leaves: name and class of every registered module without children, whether it ran or not.
    """

    nonlinear: tuple[Operation, ...]
    linear: tuple[Operation, ...]
    cuts: tuple[Operation, ...]
    leaves: tuple[tuple[str, type[nn.Module]], ...]

    def __iter__(self) -> Iterator[Operation]:
        return iter(self.nonlinear)

    def __len__(self) -> int:
        return len(self.nonlinear)


def tensors(value: Any) -> Iterator[torch.Tensor]:
    """Every tensor in nested tuples, lists and mappings, and in the fields of dataclasses."""
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, (tuple, list)):
        for item in value:
            yield from tensors(item)
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from tensors(item)
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        for field in dataclasses.fields(value):
            yield from tensors(getattr(value, field.name, None))
