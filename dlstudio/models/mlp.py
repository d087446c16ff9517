"""A multilayer perceptron."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import nn

__all__ = ["MLP"]


class MLP(nn.Module):
    """Fully connected layers with ReLU between them; inputs of any shape are flattened.

    Args:
        input_shape: the shape of one input.
        n_outputs: classes, or 1 for regression.
        hidden: the width of each hidden layer.
        dropout: probability of dropping a hidden unit while training.

    Example:
        >>> MLP((20,), 2)(torch.zeros(8, 20)).shape
        torch.Size([8, 2])
    """

    def __init__(
        self,
        input_shape: Sequence[int],
        n_outputs: int,
        *,
        hidden: Sequence[int] = (64, 64),
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Flatten()] if len(input_shape) > 1 else []
        width = math.prod(input_shape)
        for size in hidden:
            layers += [nn.Linear(width, size), nn.ReLU()]
            if dropout:
                layers.append(nn.Dropout(dropout))
            width = size
        self.layers = nn.Sequential(*layers, nn.Linear(width, n_outputs))

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Map (batch, ...) float inputs to (batch, n_outputs)."""
        outputs: torch.Tensor = self.layers(inputs)
        return outputs
