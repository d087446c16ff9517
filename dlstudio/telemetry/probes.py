"""Per-parameter gradient, weight and update norms, measured around the optimiser's own step.

Everything is fused with `torch._foreach_norm`, travels to the host as one small vector and never makes the
device wait. Norms carry NaN and ±inf with them, so there is no separate scan for non-finite values.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook

from dlstudio.telemetry import clipping
from dlstudio.telemetry.hostcopy import HostCopy

COST_CEILING = 0.01
"""With the adaptive cadence, the share of the training time that sampling may take."""
FIRST_STEPS = 10
"""So many steps are always sampled: what goes wrong at the start is seen step by step."""
MAX_INTERVAL = 1000
_CHUNK_BYTES = 256 * 2**10
"""On the CPU parameters are visited in chunks that stay in cache from one operation to the next."""
_COPY_BYTES = 512 * 2**20
"""At most so much weight memory is copied per sample; larger models take their update norms in rotation."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One sampled optimiser step: `vector` holds gradient, weight and update norms, each of length ``P``."""

    step_count: int
    time_s: float
    vector: HostCopy


@dataclass(frozen=True, slots=True)
class Clip:
    """One clipping: the total gradient norm before it, and the norm it was clipped to."""

    step_count: int
    time_s: float
    total_norm: HostCopy
    max_norm: float


def clean_name(name: str) -> str:
    """A parameter's name as its author wrote it, without the wrappers' prefixes."""
    return name.replace("_orig_mod.", "").removeprefix("module.")


def _local(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.to_local() if hasattr(tensor, "to_local") else tensor


class LayerProbe:
    """Watches one model through its optimiser.

    The gradient norms are those of the gradients the optimiser was given, un-scaled under mixed precision and taken
    *before* clipping by `torch.nn.utils.clip_grad_norm_`; with accumulation, those of the accumulated gradient. A
    parameter without a gradient has norm 0. The update norm is that of the change the step made.

    Args:
        model: the module; every parameter is watched, shared ones once.
        optimizer: the optimiser that steps it; None waits for the first one that steps a parameter of the model.
        every: sample every so many optimiser steps; None adapts to `COST_CEILING` after `FIRST_STEPS`.
        emit: receives each `Sample`; called in the training thread.
        emit_clip: receives each `Clip`.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer | None,
        every: int | None,
        emit: Callable[[Sample], None] | None,
        emit_clip: Callable[[Clip], None] | None = None,
    ) -> None:
        named = list(model.named_parameters())
        self.names = [clean_name(name) for name, _ in named]
        self.parameters: list[torch.Tensor] = [parameter for _, parameter in named]
        self._ids = {id(parameter) for parameter in self.parameters}
        self._device = _local(self.parameters[0]).device
        self._sharded = any(hasattr(parameter, "to_local") for parameter in self.parameters)
        # A collective needs all ranks to sample the same steps: no cadence from local clocks.
        self._adaptive = every is None and not self._sharded
        self.every = (FIRST_STEPS if self._sharded else 1) if every is None else every
        self._emit, self._emit_clip = emit, emit_clip
        self.n_steps = 0
        self.n_clips = 0
        self._next = 0
        self._due = False
        self._gradients: list[torch.Tensor] | None = None
        self._clipped_first = 0
        self._weights: list[torch.Tensor] = []
        self._ahead: tuple[list[torch.Tensor], list[int]] | None = None
        self._before: dict[int, torch.Tensor] = {}
        self._copied: list[list[int]] = []
        self._rotation = 0
        self._cost_s = 0.0
        self._mean_cost_s = 0.0
        self._step_s = 0.0
        self._last_start = 0.0
        self._chunks: list[list[int]] = []
        self._handles: list[Any] = []
        if optimizer is None:
            self._handles.append(register_optimizer_step_pre_hook(self._before_step))
            self._handles.append(register_optimizer_step_post_hook(self._after_step))
        else:
            self._handles.append(optimizer.register_step_pre_hook(self._before_step))
            self._handles.append(optimizer.register_step_post_hook(self._after_step))
        self._filter = optimizer is None
        clipping.observe(self)

    def close(self) -> None:
        """Remove every hook."""
        clipping.forget(self)
        for handle in self._handles:
            handle.remove()
        self._handles = []

    # -- hooks, in the order of a training step -------------------------------------------------------------------

    def on_clip(self, parameters: list[torch.Tensor], max_norm: float, total_norm: torch.Tensor) -> None:
        """Called by `clipping` while the gradients are whole."""
        if not any(id(parameter) in self._ids for parameter in parameters[:4]):
            return
        self.n_clips += 1
        if self._emit_clip is not None:
            total = _full(total_norm).reshape(1).float()
            self._emit_clip(Clip(self.n_steps, time.time(), HostCopy(total), max_norm))
        # The same first parameter again means that a step was skipped in between (AMP found an overflow).
        first = id(parameters[0]) if parameters else 0
        if self._is_due() and (self._gradients is None or self._clipped_first == first):
            self._clipped_first = first
            start = time.perf_counter()
            with torch.no_grad():
                self._gradients = self._gradient_norms(None)
            self._cost_s += time.perf_counter() - start

    def _is_due(self) -> bool:
        return self._emit is not None and self.n_steps >= self._next

    def _ours(self, optimizer: torch.optim.Optimizer) -> bool:
        if not self._filter:
            return True
        return any(id(p) in self._ids for group in optimizer.param_groups for p in group["params"][:4])

    def _before_step(self, optimizer: torch.optim.Optimizer, *_: Any) -> None:
        start = time.perf_counter()
        if not self._ours(optimizer):
            return
        if self._last_start:
            interval = start - self._last_start
            # An evaluation or a pause between two steps is no slow step.
            interval = min(interval, 3 * self._step_s) if self._step_s else interval
            self._step_s = 0.9 * self._step_s + 0.1 * interval if self._step_s else interval
        self._last_start = start
        self._due = self._is_due()
        if not self._due:
            return
        with torch.no_grad():
            if not self._chunks:
                self._chunks = self._make_chunks()
            if self._gradients is None:
                self._gradients = self._gradient_norms(getattr(optimizer, "grad_scale", None))
            ahead, self._ahead = self._ahead, None
            # Copies taken after the last step still hold, unless something changed a weight in between.
            current = ahead is not None and ahead[1] == self._versions()
            self._weights = ahead[0] if ahead is not None and current else self._copy_weights()
        self._cost_s += time.perf_counter() - start

    def _after_step(self, optimizer: torch.optim.Optimizer, *_: Any) -> None:
        if not self._ours(optimizer):
            return
        if self._due:
            start = time.perf_counter()
            with torch.no_grad():
                updates, weights = self._update_norms(look_ahead=self.every == 1)
                assert self._gradients is not None and self._emit is not None
                vector = self._combine([*self._gradients, *self._weights, *updates])
                self._ahead = (weights, self._versions()) if weights else None
            self._emit(Sample(self.n_steps, time.time(), HostCopy(vector)))
            self._gradients = None
            self._cost_s += time.perf_counter() - start
            self._next = self.n_steps + self._interval()
            self._cost_s = 0.0
        self._due = False
        self.n_steps += 1

    def _interval(self) -> int:
        """Steps until the next sample: as many as keep the mean cost of a sample under the ceiling."""
        mean = self._mean_cost_s
        # One sample that another process held up must not silence the probe for long: its cost counts bounded.
        cost = min(self._cost_s, 2 * mean) if mean else self._cost_s
        self._mean_cost_s = 0.7 * mean + 0.3 * cost if mean else cost
        if self._adaptive and self.n_steps + 1 >= FIRST_STEPS and self._step_s > 0:
            # The measured interval contains the cost of sampled steps; subtracting keeps the ceiling honest.
            plain = max(self._step_s - self._mean_cost_s / self.every, 1e-6)
            wanted = self._mean_cost_s / (COST_CEILING * plain) + 1
            self.every = int(min(max(wanted, 1), 2 * self.every, MAX_INTERVAL))
        return self.every

    # -- arithmetic -----------------------------------------------------------------------------------------------

    def _make_chunks(self) -> list[list[int]]:
        """Indices of parameters of one device and dtype, close together in size."""
        groups: dict[tuple[torch.device, torch.dtype], list[list[int]]] = {}
        filled: dict[tuple[torch.device, torch.dtype], int] = {}
        for index, parameter in enumerate(self.parameters):
            local = _local(parameter)
            key, size = (local.device, local.dtype), local.numel() * local.element_size()
            limit = _CHUNK_BYTES if local.device.type == "cpu" else _COPY_BYTES
            if key not in groups or filled[key] + size > limit:
                groups.setdefault(key, []).append([])
                filled[key] = 0
            groups[key][-1].append(index)
            filled[key] += size
        return [chunk for chunks in groups.values() for chunk in chunks]

    def _gradient_norms(self, scale: torch.Tensor | None) -> list[torch.Tensor]:
        found = [(i, p.grad) for i, p in enumerate(self.parameters) if p.grad is not None]
        if len(found) < len(self.parameters):
            norms = [torch.zeros((), device=_local(parameter).device) for parameter in self.parameters]
        else:
            norms = [*self.parameters]
        dense = [_local(g.coalesce().values() if g.is_sparse else g) for _, g in found]
        for (index, _), norm in zip(found, _norms(dense), strict=True):
            norms[index] = norm if scale is None else norm / scale.to(norm.device)
        return norms

    def _copy_weights(self) -> list[torch.Tensor]:
        norms = [*self.parameters]
        budget, self._copied = _COPY_BYTES, []
        order = self._chunks[self._rotation :] + self._chunks[: self._rotation]
        for position, chunk in enumerate(order):
            weights = [_local(self.parameters[i]) for i in chunk]
            size = sum(w.numel() * w.element_size() for w in weights)
            if position == 0 or size <= budget:
                budget -= size
                copies = [self._copy_of(i, w) for i, w in zip(chunk, weights, strict=True)]
                torch._foreach_copy_(copies, weights)
                self._copied.append(chunk)
                weights = copies
            for i, norm in zip(chunk, _norms(weights), strict=True):
                norms[i] = norm
        if len(self._copied) < len(self._chunks):
            self._rotation = (self._rotation + len(self._copied)) % len(self._chunks)
            self._before = {i: self._before[i] for chunk in self._copied for i in chunk}
        return norms

    def _copy_of(self, index: int, weight: torch.Tensor) -> torch.Tensor:
        copy = self._before.get(index)
        if copy is None or copy.shape != weight.shape or copy.device != weight.device:
            copy = self._before[index] = torch.empty_like(weight)
        return copy

    def _update_norms(self, *, look_ahead: bool) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        """Norms of what the step changed; and, with `look_ahead`, copies and norms of the weights for the next one.

        Doing both while a chunk is in cache saves the next sample its first pass over all weights.
        """
        unknown = torch.tensor(float("nan"))
        updates, weights = [unknown] * len(self.parameters), [unknown] * len(self.parameters)
        look_ahead = look_ahead and len(self._copied) == len(self._chunks)
        for chunk in self._copied:
            copies = [self._before[i] for i in chunk]
            now = [_local(self.parameters[i]) for i in chunk]
            torch._foreach_sub_(copies, now)
            for i, norm in zip(chunk, _norms(copies), strict=True):
                updates[i] = norm
            if look_ahead:
                torch._foreach_copy_(copies, now)
                for i, norm in zip(chunk, _norms(copies), strict=True):
                    weights[i] = norm
        return updates, weights if look_ahead else []

    def _versions(self) -> list[int]:
        return [parameter._version for parameter in self.parameters]

    def _combine(self, norms: list[torch.Tensor]) -> torch.Tensor:
        device = self._device
        if device.type == "cpu" and not self._sharded:
            # Reading 0-d tensors one by one is cheaper on the CPU than any operation over hundreds of them.
            return torch.tensor([norm.item() for norm in norms], dtype=torch.float32)
        vector = torch.stack([norm.to(device, torch.float32, non_blocking=True) for norm in norms])
        if self._sharded:
            vector = vector.square_()
            torch.distributed.all_reduce(vector)
            vector = vector.sqrt_()
        return vector


def _norms(tensors: Iterable[torch.Tensor]) -> list[torch.Tensor]:
    """L2 norms; half precision is summed in float32, so that it neither overflows nor loses small gradients."""
    listed = list(tensors)
    if any(t.dtype in (torch.float16, torch.bfloat16) for t in listed):
        return list(torch._foreach_norm(listed, 2, dtype=torch.float32))
    return list(torch._foreach_norm(listed))


def _full(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor
