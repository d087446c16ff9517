"""A recurrent network for sequences and text."""

from __future__ import annotations

import torch
from torch import nn

from dlstudio.models.parts import Reader, last_step

__all__ = ["GRU"]


class GRU(nn.Module):
    """A reader, gated recurrent layers, and a linear layer on the last step that is not padding.

    Args:
        n_outputs: classes, or 1 for regression.
        n_channels: channels of a sequence, or None for token ids.
        n_tokens: the number of different token ids, or None for a sequence.
        width: the size of the embedding.
        hidden: the size of the recurrent state.
        n_layers: recurrent layers on top of each other.
        dropout: probability of dropping a unit of the last state while training.

    Example:
        >>> GRU(2, n_channels=3)(torch.zeros(8, 50, 3)).shape
        torch.Size([8, 2])
    """

    def __init__(
        self,
        n_outputs: int,
        *,
        n_channels: int | None = None,
        n_tokens: int | None = None,
        width: int = 64,
        hidden: int = 64,
        n_layers: int = 1,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.reader = Reader(width, n_channels=n_channels, n_tokens=n_tokens)
        self.recurrent = nn.GRU(width, hidden, num_layers=n_layers, batch_first=True)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(hidden, n_outputs)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Map (batch, time, channels), or int64 token ids (batch, time), to (batch, n_outputs)."""
        vectors, present = self.reader(inputs)
        states, _ = self.recurrent(vectors)
        outputs: torch.Tensor = self.head(self.dropout(last_step(states, present)))
        return outputs
