"""Which of many ways to change a row to show: near, and different from each other."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from dlstudio.explain.counterfactuals.space import Array

__all__ = ["choose"]

SLACK = 1.1
HALVED = 0.5


def choose(
    signatures: Array, shifts: Array, distances: Array, n: int, accept: Callable[[int], bool] = lambda at: True
) -> list[int]:
    """Return up to n places of different ways to change a row.

    The nearest comes first. What contains all changes of one chosen before, none of them even halved, says nothing
    new; nor does what contains so all changes of another that is hardly further away. The others are taken by distance,
    put off by the share of changes that they have in common with one chosen before.

    Args:
        signatures: int (k, columns), which way every column went; 0 where it did not change.
        shifts: float (k, columns), how far.
        distances: float (k,), ascending.
        n: how many.
        accept: a last check on a place; those that fail are passed over.
    """
    changed, far = signatures != 0, np.abs(shifts)
    sizes = changed.sum(axis=1)
    open_ = np.ones(len(distances), dtype=bool)
    shared = np.zeros(len(distances))
    chosen: list[int] = []
    while open_.any() and len(chosen) < n:
        at = int(np.where(open_, distances * (1 + shared), np.inf).argmin())
        open_[at] = False
        repeated = ((signatures == signatures[at]) & (far[at] > HALVED * far)) | ~changed
        if chosen and (repeated.all(axis=1) & (sizes < sizes[at]) & (distances <= SLACK * distances[at])).any():
            continue
        if not accept(at):
            continue
        chosen.append(at)
        own = changed[at]
        same = (signatures == signatures[at]) & own
        shared = np.maximum(shared, same.sum(axis=1) / (changed | own).sum(axis=1))
        open_ &= ~(same & (far > HALVED * far[at]))[:, own].all(axis=1)
    return chosen
