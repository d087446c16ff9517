"""Small models with known explanations."""

from __future__ import annotations

import torch
from torch import nn


class MultiLayer(nn.Module):
    """1ᵀReLU(W x + b) − 1 with W all ones, Captum's BasicModel_MultiLayer, whose attributions are known by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.linear0 = nn.Linear(3, 3, bias=False)
        self.linear1 = nn.Linear(3, 4)
        self.relu = nn.ReLU()
        self.linear2 = nn.Linear(4, 1)
        with torch.no_grad():
            self.linear0.weight.copy_(torch.eye(3))
            self.linear1.weight.fill_(1.0)
            self.linear1.bias.copy_(torch.tensor([-10.0, 1.0, 1.0, 1.0]))
            self.linear2.weight.fill_(1.0)
            self.linear2.bias.fill_(-1.0)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return self.linear2(self.relu(self.linear1(self.linear0(inputs))))


def network(*sizes: int, seed: int = 0, act: type[nn.Module] = nn.ReLU) -> nn.Sequential:
    """A perceptron of registered modules with random weights."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        layers: list[nn.Module] = []
        for width, following in zip(sizes, sizes[1:], strict=False):
            layers += [nn.Linear(width, following), act()]
        return nn.Sequential(*layers[:-1])


def random_rows(*shape: int, seed: int = 1, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)
