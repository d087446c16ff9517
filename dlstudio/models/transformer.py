"""A small transformer encoder for text and sequences."""

from __future__ import annotations

import torch
from torch import nn

from dlstudio.models.parts import Reader, mean_over_time

__all__ = ["Transformer"]


class Attention(nn.Module):
    """Multi-head self-attention that never looks at padding."""

    def __init__(self, width: int, n_heads: int) -> None:
        super().__init__()
        if width % n_heads:
            raise ValueError(f"width {width} must be a multiple of n_heads {n_heads}")
        self.n_heads = n_heads
        self.query_key_value = nn.Linear(width, 3 * width)
        self.output = nn.Linear(width, width)

    def forward(self, vectors: torch.Tensor, present: torch.Tensor) -> torch.Tensor:
        batch, time, width = vectors.shape
        heads = self.query_key_value(vectors).view(batch, time, 3, self.n_heads, width // self.n_heads)
        query, key, value = heads.permute(2, 0, 3, 1, 4)
        visible = present[:, None, None, :]
        mixed = nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=visible)
        outputs: torch.Tensor = self.output(mixed.transpose(1, 2).reshape(batch, time, width))
        return outputs


class Block(nn.Module):
    """Attention and a two-layer perceptron, each normalised before and added to what came in."""

    def __init__(self, width: int, n_heads: int, dropout: float) -> None:
        super().__init__()
        self.norm_attention = nn.LayerNorm(width)
        self.attention = Attention(width, n_heads)
        self.drop_attention = nn.Dropout(dropout)
        self.norm_mlp = nn.LayerNorm(width)
        self.mlp = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width), nn.Dropout(dropout)
        )

    def forward(self, vectors: torch.Tensor, present: torch.Tensor) -> torch.Tensor:
        vectors = vectors + self.drop_attention(self.attention(self.norm_attention(vectors), present))
        outputs: torch.Tensor = vectors + self.mlp(self.norm_mlp(vectors))
        return outputs


class Transformer(nn.Module):
    """A reader, learnt positions, encoder blocks, and a linear layer on the average of all steps but padding.

    Args:
        n_outputs: classes, or 1 for regression.
        length: the longest input in steps.
        n_channels: channels of a sequence, or None for token ids.
        n_tokens: the number of different token ids, or None for a sequence.
        width: the size of the vectors; a multiple of `n_heads`.
        n_heads: attention heads of each block.
        n_layers: blocks.
        dropout: probability of dropping a unit while training.

    Example:
        >>> Transformer(2, length=20, n_tokens=100)(torch.ones(8, 20, dtype=torch.int64)).shape
        torch.Size([8, 2])
    """

    def __init__(
        self,
        n_outputs: int,
        *,
        length: int,
        n_channels: int | None = None,
        n_tokens: int | None = None,
        width: int = 64,
        n_heads: int = 4,
        n_layers: int = 2,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.reader = Reader(width, n_channels=n_channels, n_tokens=n_tokens)
        self.positions = nn.Embedding(length, width)
        nn.init.normal_(self.positions.weight, std=0.02)
        self.blocks = nn.ModuleList(Block(width, n_heads, dropout) for _ in range(n_layers))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, n_outputs)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Map int64 token ids (batch, time), or (batch, time, channels), to (batch, n_outputs)."""
        vectors, present = self.reader(inputs)
        vectors = vectors + self.positions(torch.arange(inputs.shape[1], device=inputs.device))
        for block in self.blocks:
            vectors = block(vectors, present)
        outputs: torch.Tensor = self.head(mean_over_time(self.norm(vectors), present))
        return outputs
