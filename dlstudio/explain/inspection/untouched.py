"""Look into a model and leave it, and every random number generator, exactly as found."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import nn

__all__ = ["untouched"]

_CONTAINERS = (dict, set, list)


@contextlib.contextmanager
def untouched(*modules: nn.Module) -> Iterator[None]:
    """Lend modules to code that changes them, and give them back as they were, also after an exception.

    Inside, the modules are in evaluation mode, gradients are recorded, and ``grad`` of every parameter is None, so
    that what a backward pass adds lands in tensors of its own. Afterwards these are as before, by identity where it
    can be told: train or eval mode of every submodule, ``grad`` and ``requires_grad`` of every parameter, all hooks,
    all parameters, buffers, children and other attributes (those that were added are gone), the numbers in
    buffers, the random state of PyTorch (CPU, and CUDA where it is in use), NumPy and Python, the grad mode and the
    default dtype. Numbers in parameters are not copied: who writes into them in place has changed them.

    Example:
        >>> with untouched(model):
        ...     attributions = captum.attr.DeepLift(model).attribute(inputs, target=1)
    """
    with contextlib.ExitStack() as undo:
        undo.callback(torch.set_default_dtype, torch.get_default_dtype())
        undo.enter_context(_same_random_numbers())
        parts = {part: None for module in modules for part in module.modules()}
        for part in parts:
            undo.callback(_restore, part, _attributes(part), part.training)
        for tensor in _tensors(modules, "buffers"):
            undo.callback(_rewrite, tensor, tensor.detach().clone())
        for parameter in _tensors(modules, "parameters"):
            undo.callback(_regrad, parameter, parameter.grad, parameter.requires_grad, parameter.data)
            parameter.grad = None
        for module in modules:
            module.eval()
        undo.enter_context(_differentiable_recurrence(parts))
        undo.enter_context(torch.inference_mode(False))
        undo.enter_context(torch.enable_grad())
        yield


@contextlib.contextmanager
def _same_random_numbers() -> Iterator[None]:
    python, legacy = random.getstate(), np.random.get_state()
    devices = list(range(torch.cuda.device_count())) if torch.cuda.is_initialized() else []
    try:
        with torch.random.fork_rng(devices=devices):
            yield
    finally:
        random.setstate(python)
        np.random.set_state(legacy)


@contextlib.contextmanager
def _differentiable_recurrence(parts: dict[nn.Module, None]) -> Iterator[None]:
    """Turn cuDNN off where there are recurrent layers: it refuses their backward pass in evaluation mode."""
    before = torch.backends.cudnn.enabled
    if any(isinstance(part, nn.RNNBase) for part in parts):
        torch.backends.cudnn.enabled = False
    try:
        yield
    finally:
        torch.backends.cudnn.enabled = before


def _tensors(modules: tuple[nn.Module, ...], kind: str) -> list[torch.Tensor]:
    """The parameters or buffers of all modules, each once."""
    return list({id(tensor): tensor for module in modules for tensor in getattr(module, kind)()}.values())


def _attributes(part: nn.Module) -> dict[str, tuple[Any, Any]]:
    """Every attribute, with a copy of its entries where it is a container that may be written into."""
    return {
        name: (value, type(value)(value) if type(value) in _CONTAINERS else _entries(value))
        for name, value in vars(part).items()
    }


def _entries(value: Any) -> Any:
    """The entries of dictionaries that are more than a dict, such as the ordered ones that hold hooks."""
    return dict(value) if isinstance(value, dict) else None


def _restore(part: nn.Module, before: dict[str, tuple[Any, Any]], training: bool) -> None:
    now = vars(part)
    for name in [name for name in now if name not in before]:
        del now[name]
    for name, (value, entries) in before.items():
        now[name] = value
        if isinstance(value, list):
            value[:] = entries
        elif isinstance(value, (dict, set)) and entries is not None:
            value.clear()
            value.update(entries)
    if part.training != training:  # scripted modules keep it elsewhere
        part.training = training


def _rewrite(buffer: torch.Tensor, before: torch.Tensor) -> None:
    with torch.no_grad():
        if not torch.equal(buffer, before):
            buffer.data.copy_(before)


def _regrad(parameter: torch.Tensor, grad: torch.Tensor | None, requires_grad: bool, data: torch.Tensor) -> None:
    if parameter.data_ptr() != data.data_ptr():
        parameter.data = data
    parameter.grad = grad
    if parameter.requires_grad != requires_grad:
        parameter.requires_grad_(requires_grad)
