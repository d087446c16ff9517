"""What was measured of pairs of groups: differences or ratios, and which metric stands for each pair."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from dlstudio.fairness.counts import Array

__all__ = ["Measured", "Places"]

Places = npt.NDArray[np.int64]


@dataclass(kw_only=True, eq=False)
class Measured:
    """Differences or ratios, arrays (metrics, pairs).

    Attributes:
        enough: whether both denominators are large enough.
        value, size: the gap, and how far from none it is.
        low, high, joint_low, joint_high: limits of each pair, and wider ones that hold for many pairs at once.
        beyond, surely: whether the former and the latter lie beyond the threshold.
        clear: whether the former are narrow, or within the threshold.
        p, p_adjusted: p-values; adjusted ones are known later.
        metric: (pairs,), places of the metric that stands for each pair: of those beyond the threshold the one with
            the smallest p-value, else the farthest apart.
    """

    enough: npt.NDArray[np.bool_]
    value: Array
    size: Array
    low: Array
    high: Array
    joint_low: Array
    joint_high: Array
    beyond: npt.NDArray[np.bool_]
    surely: npt.NDArray[np.bool_]
    clear: npt.NDArray[np.bool_]
    p: Array
    p_adjusted: Array = field(init=False)
    metric: Places = field(init=False)

    def __post_init__(self) -> None:
        far = self.enough & self.beyond
        sizes = self._sizes(self.enough.any(axis=0))
        self.metric = np.lexsort((sizes, np.where(far, -self.p, 0.0), far), axis=0)[-1]

    @property
    def own(self) -> tuple[Places, Places]:
        """The places of what stands for each pair."""
        return self.metric, np.arange(len(self.metric))

    def farthest(self) -> tuple[int, int]:
        """The place of the largest gap."""
        metric, pair = np.unravel_index(np.argmax(self._sizes(self.enough.any())), self.size.shape)
        return int(metric), int(pair)

    def _sizes(self, some: Any) -> Array:
        """What has too few data is never the worst where there is something that has enough."""
        return np.where(self.enough | ~some, np.nan_to_num(self.size, nan=-0.5), -1.0)
