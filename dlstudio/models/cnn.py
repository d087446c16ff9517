"""A small convolutional network for images."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

__all__ = ["CNN"]

LARGEST_MAP = 7  # side of the feature map that reaches the linear layers; larger ones are averaged down to it


class CNN(nn.Module):
    """3 x 3 convolutions with ReLU, halving the image after each, then one hidden layer.

    Args:
        input_shape: (channels, height, width).
        n_outputs: classes, or 1 for regression.
        channels: the number of filters of each convolution.
        hidden: the width of the hidden layer.
        dropout: probability of dropping a hidden unit while training.

    Example:
        >>> CNN((1, 28, 28), 10)(torch.zeros(8, 1, 28, 28)).shape
        torch.Size([8, 10])
    """

    def __init__(
        self,
        input_shape: Sequence[int],
        n_outputs: int,
        *,
        channels: Sequence[int] = (32, 64),
        hidden: int = 128,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        depth, height, width = input_shape
        layers: list[nn.Module] = []
        for size in channels:
            layers += [nn.Conv2d(depth, size, kernel_size=3, padding=1), nn.ReLU()]
            depth = size
            if min(height, width) >= 2:
                layers.append(nn.MaxPool2d(2))
                height, width = height // 2, width // 2
        if max(height, width) > LARGEST_MAP:
            height, width = min(height, LARGEST_MAP), min(width, LARGEST_MAP)
            layers.append(nn.AdaptiveAvgPool2d((height, width)))
        self.features = nn.Sequential(*layers)
        head: list[nn.Module] = [nn.Flatten(), nn.Linear(depth * height * width, hidden), nn.ReLU()]
        if dropout:
            head.append(nn.Dropout(dropout))
        self.head = nn.Sequential(*head, nn.Linear(hidden, n_outputs))

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Map (batch, channels, height, width) to (batch, n_outputs)."""
        outputs: torch.Tensor = self.head(self.features(inputs))
        return outputs
