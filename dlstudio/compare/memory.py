"""How much memory a forward pass needs at once, on any device."""

from __future__ import annotations

import weakref
from collections.abc import Iterable
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

__all__ = ["bytes_of", "peak_of_forward"]


def bytes_of(module: nn.Module) -> int:
    """Return the bytes of a model's parameters and buffers; what is shared counts once."""
    return sum(_storages([*module.parameters(), *module.buffers()]).values())


def peak_of_forward(module: nn.Module, inputs: torch.Tensor) -> int:
    """Return the bytes of weights, inputs and all results that are alive at once in one forward pass.

    On a GPU this is what its allocator hands out. On a CPU, the workspace inside single operations is not seen.
    """
    given = bytes_of(module) + int(inputs.untyped_storage().nbytes())
    with torch.inference_mode():
        if inputs.is_cuda:
            torch.cuda.synchronize(inputs.device)
            before = torch.cuda.memory_allocated(inputs.device)
            torch.cuda.reset_peak_memory_stats(inputs.device)
            module(inputs)
            torch.cuda.synchronize(inputs.device)
            return given + int(torch.cuda.max_memory_allocated(inputs.device) - before)
        with _Alive([*module.parameters(), *module.buffers(), inputs]) as alive:
            module(inputs)
    return int(given + alive.peak)


class _Alive(TorchDispatchMode):
    """Counts the bytes of results from when an operation returns them until they are freed."""

    def __init__(self, given: Iterable[torch.Tensor]) -> None:
        super().__init__()
        self._seen = set(_storages(given))
        self._now = self.peak = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        results = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(results):
            if not isinstance(tensor, torch.Tensor):
                continue
            storage = tensor.untyped_storage()
            place, n_bytes = storage._cdata, storage.nbytes()
            if place not in self._seen:
                self._seen.add(place)
                self._now += n_bytes
                self.peak = max(self.peak, self._now)
                weakref.finalize(storage, self._freed, place, n_bytes)
        return results

    def _freed(self, place: int, n_bytes: int) -> None:
        self._seen.discard(place)
        self._now -= n_bytes


def _storages(tensors: Iterable[torch.Tensor]) -> dict[int, int]:
    return {one.untyped_storage()._cdata: one.untyped_storage().nbytes() for one in tensors}
