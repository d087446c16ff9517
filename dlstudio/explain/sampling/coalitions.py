"""Which coalitions of features Captum's KernelShap tries, and what they weigh: functions of the form that it takes."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch

__all__ = ["all_coalitions", "paired_coalitions", "shapley_kernel"]


def all_coalitions(original: Any, *, num_interp_features: int, **_: Any) -> Iterator[torch.Tensor]:
    """Every coalition once, instead of coalitions at random of which some come twice and some never."""
    features = torch.arange(num_interp_features)
    for number in range(2**num_interp_features):
        yield ((number >> features) & 1).unsqueeze(0).to(original.device)


def shapley_kernel(original: Any, perturbed: Any, kept: torch.Tensor, *, num_interp_features: int, **_: Any) -> Any:
    """Weight a coalition as Shapley values demand; those of none and of all practically without limit."""
    n, size = num_interp_features, int(kept.sum())
    weight = 1e6 if size in (0, n) else (n - 1) / (math.comb(n, size) * size * (n - size))
    return torch.tensor([weight])


def paired_coalitions(
    original: Any, *, num_select_distribution: Any, num_interp_features: int, **_: Any
) -> Iterator[torch.Tensor]:
    """Coalitions as Captum draws them, each followed by the features it lacks: less noise for the same cost.

    After Covert & Lee, Improving KernelSHAP: practical Shapley value estimation using linear regression (2021).
    """
    none = torch.zeros(1, num_interp_features, dtype=torch.int64, device=original.device)
    yield 1 - none
    yield none
    while True:
        size = int(num_select_distribution.sample())
        some = none.clone()
        some[0, torch.randperm(num_interp_features)[:size].to(original.device)] = 1
        yield some
        yield 1 - some
