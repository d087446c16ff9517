"""Corruptions: what happens to inputs without anyone's intention. The same draws serve every strength."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch.nn import functional

__all__ = ["CORRUPTIONS", "Corruption", "fits"]

CORRUPTIONS = ("noise", "blur", "missing")
MODALITIES = {2: "tabular", 3: "sequence", 4: "image"}


def fits(name: str, modality: str) -> str:
    """Say why a corruption makes no sense for such inputs; "" where it does."""
    if name == "noise" and modality == "text":
        return "tokens are names and cannot change a little"
    if name == "blur" and modality not in ("image", "sequence"):
        return "only images and sequences have neighbours to be blurred with"
    return ""


@dataclasses.dataclass(kw_only=True, eq=False)
class Corruption:
    """One kind of corruption, with random numbers of its own.

    Rows have to come in order: what a row gets depends on its place, not on how many are taken at once.

    Attributes:
        name: ``"noise"`` (normal, strength = standard deviation), ``"blur"`` (Gaussian, strength = standard deviation
            in pixels or time steps) or ``"missing"`` (strength = share of the columns, pixels, time steps or tokens).
        modality: of the inputs.
        fill: what stands where something is missing; broadcasts with rows.
        bounds: the smallest and the largest value.
        column_of_feature: for tables, features of one column are missing together.
        seed: of the random numbers.
    """

    name: str
    modality: str
    fill: torch.Tensor
    bounds: tuple[float, float] = (-math.inf, math.inf)
    mask: torch.Tensor | None = None
    column_of_feature: Sequence[str] = ()
    seed: int = 0

    def __post_init__(self) -> None:
        self._generator = np.random.default_rng((self.seed, CORRUPTIONS.index(self.name)))
        columns = list(dict.fromkeys(self.column_of_feature))
        self._column = torch.tensor([columns.index(name) for name in self.column_of_feature], dtype=torch.int64)

    @property
    def state(self) -> Any:
        """Of the random numbers; set it to draw the same ones again."""
        return self._generator.bit_generator.state

    @state.setter
    def state(self, before: Any) -> None:
        self._generator.bit_generator.state = before

    def draw(self, rows: torch.Tensor) -> torch.Tensor | None:
        """Return the random numbers of the next rows, on their device."""
        shape = tuple(rows.shape)
        if self.name == "blur":
            return None
        if self.name == "noise":
            return self._tensor(self._generator.standard_normal(shape, dtype=np.float32), rows)
        if self.modality == "image":
            shape = (shape[0], 1, *shape[2:])
        elif self.modality == "sequence":
            shape = (*shape[:2], 1)
        elif len(self._column):
            drawn = self._generator.random((shape[0], int(self._column.max()) + 1), dtype=np.float32)
            return self._tensor(drawn[:, self._column.numpy()], rows)
        return self._tensor(self._generator.random(shape, dtype=np.float32), rows)

    def apply(self, rows: torch.Tensor, strength: float, drawn: torch.Tensor | None) -> torch.Tensor:
        """Return corrupted rows."""
        if self.name == "blur":
            return _blurred(rows, strength)
        assert drawn is not None
        if self.name == "missing":
            return torch.where(drawn < strength, self.fill.to(rows), rows)
        noise = strength * drawn
        if self.mask is not None:
            noise = noise * self.mask.to(noise)
        return (rows + noise).clamp(*self.bounds)

    @staticmethod
    def _tensor(drawn: Any, rows: torch.Tensor) -> torch.Tensor:
        tensor = torch.from_numpy(np.ascontiguousarray(drawn))
        return tensor.to(rows.device, rows.dtype if rows.is_floating_point() else torch.float32)


def _blurred(rows: torch.Tensor, sigma: float) -> torch.Tensor:
    """Images (n, channels, height, width) or sequences (n, time, channels); edges are repeated outwards."""
    reach = max(1, math.ceil(3 * sigma))
    places = torch.arange(-reach, reach + 1, dtype=rows.dtype, device=rows.device)
    weights = torch.exp(-(places**2) / (2 * sigma**2))
    weights = weights / weights.sum()
    if rows.ndim == 3:
        lines = rows.transpose(1, 2).flatten(0, 1)[:, None]
        padded = functional.pad(lines, (reach, reach), mode="replicate")
        return functional.conv1d(padded, weights[None, None]).view(len(rows), rows.shape[2], -1).transpose(1, 2)
    n, channels, height, width = rows.shape
    planes = rows.reshape(n * channels, 1, height, width)
    planes = functional.pad(planes, (reach, reach, reach, reach), mode="replicate")
    planes = functional.conv2d(planes, weights[None, None, None])
    return functional.conv2d(planes, weights[None, None, :, None]).view(n, channels, height, width)
