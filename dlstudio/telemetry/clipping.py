"""Seeing gradients before they are clipped.

An optimiser hook only sees what clipping left over. PyTorch has no hook for clipping, so while a model is watched the
one function that all of `torch.nn.utils.clip_grad_norm_` goes through is wrapped, and unwrapped afterwards.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch.nn.utils import clip_grad


class ClipObserver(Protocol):
    """Is told of a clipping just before it happens."""

    def on_clip(self, parameters: list[torch.Tensor], max_norm: float, total_norm: torch.Tensor) -> None:
        """Look at the gradients of `parameters` while they are whole."""


_TARGET = "_clip_grads_with_norm_"
_observers: list[ClipObserver] = []
_original: Callable[..., Any] | None = None


def _observed(parameters: Any, max_norm: float, total_norm: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
    listed = [parameters] if isinstance(parameters, torch.Tensor) else list(parameters)
    for observer in list(_observers):
        observer.on_clip(listed, float(max_norm), total_norm)
    assert _original is not None
    return _original(listed, max_norm, total_norm, *args, **kwargs)


def observe(observer: ClipObserver) -> None:
    """Tell `observer` of every gradient clipping by norm from now on."""
    global _original
    _observers.append(observer)
    if _original is None:
        _original = getattr(clip_grad, _TARGET)
        setattr(clip_grad, _TARGET, _observed)


def forget(observer: ClipObserver) -> None:
    """Stop telling `observer`; with the last one gone, PyTorch is as it was."""
    global _original
    if observer in _observers:
        _observers.remove(observer)
    if not _observers and _original is not None:
        setattr(clip_grad, _TARGET, _original)
        _original = None
