"""Pieces that several networks share: a reader of tokens or channels, pooling over time, the output unit."""

from __future__ import annotations

import torch
from torch import nn

__all__ = ["Reader", "Rescale", "last_step", "mean_over_time"]

PADDING = 0


class Rescale(nn.Module):
    """Multiply by a fixed scale and add a fixed mean, so that a regression network works near 0 and 1 inside.

    Args:
        mean: of the training targets, in the target's unit.
        scale: their standard deviation.
    """

    mean: torch.Tensor
    scale: torch.Tensor

    def __init__(self, mean: float, scale: float) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(float(mean)))
        self.register_buffer("scale", torch.tensor(float(scale)))

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        return values * self.scale + self.mean


class Reader(nn.Module):
    """Turn one row into vectors over time: token ids through an embedding, channels through a linear map.

    Args:
        width: the size of the vectors.
        n_channels: channels of a sequence, or None for token ids.
        n_tokens: the number of different token ids, or None for a sequence.
    """

    def __init__(self, width: int, *, n_channels: int | None = None, n_tokens: int | None = None) -> None:
        super().__init__()
        self.is_text = n_tokens is not None
        self.read: nn.Module
        if n_tokens is not None:
            self.read = nn.Embedding(n_tokens, width, padding_idx=PADDING)
        elif n_channels is not None:
            self.read = nn.Linear(n_channels, width)
        else:
            raise ValueError("one of n_channels and n_tokens is needed")

    def forward(self, inputs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return vectors (batch, time, width) and a mask (batch, time) that is True where there is something
        to read.

        A row of padding only counts as one token, so that no average or softmax is over nothing.
        """
        if not self.is_text:
            return self.read(inputs), torch.ones(inputs.shape[:2], dtype=torch.bool, device=inputs.device)
        present = inputs != PADDING
        first = torch.zeros_like(present)
        first[:, 0] = True
        return self.read(inputs), present | (first & ~present.any(dim=1, keepdim=True))


def mean_over_time(states: torch.Tensor, present: torch.Tensor) -> torch.Tensor:
    """Average states (batch, time, width) over the steps where `present` (batch, time) is True."""
    weight = present.unsqueeze(-1).to(states.dtype)
    return (states * weight).sum(dim=1) / weight.sum(dim=1)


def last_step(states: torch.Tensor, present: torch.Tensor) -> torch.Tensor:
    """Return the state (batch, width) at the last step where `present` is True."""
    steps = torch.arange(present.shape[1], device=present.device)
    last = torch.where(present, steps, -1).amax(dim=1)
    return states[torch.arange(len(states), device=states.device), last]
