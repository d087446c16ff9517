"""Modules that compute what others, or functions, compute: copies that share weights, and modules for functions."""

from __future__ import annotations

import copy
import itertools
from typing import Any

import torch
from torch import fx, nn

from dlstudio.explain.inspection.functions import ACTIVATIONS

__all__ = ["as_windows", "is_activation", "module_for", "own", "sides", "twin_of", "windows"]

_MODULES = tuple(ACTIVATIONS.values())
_POOL = ("kernel_size", "stride", "padding", "dilation", "ceil_mode")
_SETTINGS: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("relu", "relu6", "sigmoid", "tanh", "selu", "silu", "mish", "softsign", "tanhshrink"), ()),
    **dict.fromkeys(("hardswish", "hardsigmoid", "logsigmoid"), ()),
    **dict.fromkeys(("elu", "celu"), ("alpha",)),
    **dict.fromkeys(("softmax", "log_softmax", "glu"), ("dim",)),
    **dict.fromkeys(("hardshrink", "softshrink"), ("lambd",)),
    **dict.fromkeys(("max_pool1d", "max_pool2d", "max_pool3d"), _POOL),
    "leaky_relu": ("negative_slope",),
    "softplus": ("beta", "threshold"),
    "gelu": ("approximate",),
    "hardtanh": ("min_val", "max_val"),
    "threshold": ("threshold", "value"),
}
"""The settings of a function in its order, as its module calls them."""


def twin_of(module: nn.Module) -> nn.Module:
    """Copy a model's structure; parameters and buffers are the same tensors, not copies.

    Raises:
        RuntimeError, TypeError: it holds something that cannot be copied.
    """
    twin: nn.Module = copy.deepcopy(module, _weights(module))
    return twin.eval()


def own(part: nn.Module) -> nn.Module:
    """Return a module that computes the same as an activation or a layer, out of place, and shares the weights."""
    fresh: nn.Module = copy.deepcopy(part, _weights(part))
    if getattr(fresh, "inplace", False):
        fresh.inplace = False  # type: ignore[assignment]
    if is_activation(part):
        fresh.__class__ = next(kind for kind in _MODULES if isinstance(part, kind))
    return fresh


def is_activation(part: nn.Module) -> bool:
    """Whether a module is one of PyTorch's activations or poolings, or a subclass that computes the same."""
    return any(isinstance(part, kind) and type(part).forward is kind.forward for kind in _MODULES)


def _weights(module: nn.Module) -> dict[int, Any]:
    return {id(tensor): tensor for tensor in itertools.chain(module.parameters(), module.buffers())}


def module_for(name: str, node: fx.Node) -> nn.Module | None:
    """Build the module that does what a function call does; None where there is none."""
    if (
        name == "clamp"
        and (node.args[1:] or (node.kwargs.get("min"),))[0] == 0
        and not (node.args[2:] or node.kwargs.get("max") is not None)
    ):
        return nn.ReLU()
    if name not in _SETTINGS:
        return None
    order = _SETTINGS[name]
    settings = dict(zip(order, node.args[1:], strict=False)) | {
        key: value for key, value in node.kwargs.items() if key in order
    }
    if name.startswith("max_pool") and settings.get("stride") in (None, ()):
        settings.pop("stride", None)
    bare = not any(isinstance(value, fx.Node) for value in settings.values())
    unusual = node.kwargs.get("return_indices") or node.kwargs.get("dtype") or (order == ("dim",) and not settings)
    return ACTIVATIONS[name](**settings) if bare and not unusual else None


def sides(value: Any, n: int) -> tuple[int, ...]:
    return tuple(value) if isinstance(value, (tuple, list)) else (value,) * n


def windows(
    values: torch.Tensor,
    size: tuple[int, ...],
    stride: tuple[int, ...],
    padding: tuple[int, ...],
    dilation: tuple[int, ...],
    ceil_mode: bool,
) -> torch.Tensor:
    """List every pooling window: (n, channels, ...) to (n, channels, ..., numbers in a window)."""
    first = values.dim() - len(size)
    for at, (side, step, pad, hole) in enumerate(zip(size, stride, padding, dilation, strict=True)):
        axis = first + at
        span, length = hole * (side - 1) + 1, values.shape[axis]
        missing = (span - length - 2 * pad) % step if ceil_mode else 0
        if length + 2 * pad + missing - span >= length + pad:
            missing = 0  # no window begins in the padding at the far end
        ends = [0, 0] * (values.dim() - 1 - axis) + [pad, pad + missing]
        padded = torch.nn.functional.pad(values, ends, value=torch.finfo(values.dtype).min)
        values = padded.unfold(axis, span, step)[..., ::hole]
    return values.flatten(-len(size))


def as_windows(pooled: torch.Tensor, listed: torch.Tensor) -> torch.Tensor:
    return pooled.reshape(listed.shape[:-1])
