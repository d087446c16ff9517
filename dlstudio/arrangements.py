"""Every way to flip the signs of pairs, or to exchange the labels of two groups: exact tests and their intervals."""

from __future__ import annotations

import itertools
import math

import numpy as np
import numpy.typing as npt

__all__ = ["exchanged", "exchanges", "flips"]

Array = npt.NDArray[np.float64]

MOST = 2**16
"""Beyond it, arrangements are drawn at random."""
DRAWS = 9_999


def flips(n: int, seed: int) -> Array:
    """Which pairs to flip: (arrangements, n) of 0 and 1, all but none."""
    if 2**n <= MOST:
        return (np.arange(1, 2**n)[:, None] >> np.arange(n) & 1).astype(np.float64)
    drawn = np.random.default_rng(seed).integers(0, 2, (DRAWS, n))
    return drawn[drawn.any(axis=1)].astype(np.float64)


def exchanges(n: int, seed: int) -> Array:
    """What moves when labels are exchanged: (arrangements, 2 n), 1 leaves the first group, -1 enters it."""
    if math.comb(2 * n, n) <= MOST:
        first = np.array(list(itertools.combinations(range(2 * n), n)))[1:]
    else:
        first = np.random.default_rng(seed).random((DRAWS, 2 * n)).argsort(axis=1)[:, :n]
        first = first[(first >= n).any(axis=1)]
    inside = np.zeros((len(first), 2 * n))
    np.put_along_axis(inside, first, 1.0, axis=1)
    return np.repeat([1.0, 0.0], n) - inside


def exchanged(values: Array, moved: Array, level: float) -> tuple[Array, tuple[Array, Array]]:
    """The p-value of every arrangement, and the interval of the differences it would not reject.

    Flipping a set of pairs, or exchanging it between the groups, lowers the difference of means by what the set itself
    differs by. So an arrangement is as extreme as the one observed, for a supposed difference, exactly where the mean
    difference of its set is at most the supposed one: the limits are order statistics of these means.
    """
    size = np.maximum(moved, 0).sum(axis=1)
    flat = values.reshape(-1, values.shape[-1])
    total = len(moved) + 1
    k = int(math.floor((1 - level) / 2 * total + 1e-9))
    p, low, high = (np.empty(len(flat)) for _ in range(3))
    chunk = max(1, 2**20 // len(moved))
    for start in range(0, len(flat), chunk):
        part = flat[start : start + chunk]
        means = part @ (moved / size[:, None]).T
        slack = 1e-9 * np.abs(part).max(axis=1, keepdims=True)
        below, above = (means <= slack).sum(axis=1), (means >= -slack).sum(axis=1)
        p[start : start + chunk] = np.minimum(1, 2 * (1 + np.minimum(below, above)) / total)
        ends = np.partition(means, (k - 1, len(moved) - k), axis=1)
        low[start : start + chunk], high[start : start + chunk] = ends[:, k - 1], ends[:, len(moved) - k]
    shape = values.shape[:-1]
    return p.reshape(shape), (low.reshape(shape), high.reshape(shape))
