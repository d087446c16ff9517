"""Rows that belong together, such as those of one person, and how to draw them anew."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["Clusters"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Clusters:
    """Rows that belong together, such as those of one person, and how to draw them anew.

    Attributes:
        codes: int (n,), the cluster of every row, from 0.
        n: how many clusters there are.
        n_draws, seed: of the resampling.
    """

    codes: npt.NDArray[np.int64]
    n: int
    n_draws: int
    seed: int

    def counts(self, at_once: int = 1) -> Iterator[npt.NDArray[np.float64]]:
        """Yield how often each cluster is drawn with replacement: (up to `at_once` draws, n), always the same."""
        rng = np.random.default_rng(self.seed)
        for start in range(0, self.n_draws, at_once):
            draws = range(min(at_once, self.n_draws - start))
            yield np.array(
                [np.bincount(rng.integers(self.n, size=self.n), minlength=self.n) for _ in draws], dtype=np.float64
            )

    def groups(self, codes: npt.NDArray[np.int32]) -> npt.NDArray[np.int32] | None:
        """Return the group of every cluster; None if some cluster has rows of several groups."""
        found = np.zeros(self.n, dtype=np.int32)
        found[self.codes] = codes
        return found if (found[self.codes] == codes).all() else None
