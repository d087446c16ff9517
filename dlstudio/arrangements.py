"""Every way to flip the signs of pairs, or to exchange the labels of two groups: exact tests and their intervals.

And the step in which values are counted, below which no arrangement of them says anything.
"""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["ROUNDING", "exchanged", "exchanges", "flips", "least_spread", "resolution"]

Array = npt.NDArray[np.float64]

MOST = 2**16
"""Beyond it, arrangements are drawn at random."""
DRAWS = 9_999
ROUNDING = 3e-6
"""Of the largest value: what differs by less is taken to be equal, as metrics are often stored in single precision."""


def flips(n: int, seed: int) -> Array:
    """Which pairs to flip: (arrangements, n) of 0 and 1, all but none."""
    if 2**n <= MOST:
        return (np.arange(1, 2**n)[:, None] >> np.arange(n) & 1).astype(np.float64)
    drawn = np.random.default_rng(seed).integers(0, 2, (DRAWS, n))
    return drawn[drawn.any(axis=1)].astype(np.float64)


def exchanges(n: int, m: int, seed: int) -> Array:
    """What moves when labels are exchanged: (arrangements, n + m), 1 leaves the first group, of n, -1 enters it."""
    if math.comb(n + m, n) <= MOST:
        first = np.array(list(itertools.combinations(range(n + m), n)))[1:]
    else:
        first = np.random.default_rng(seed).random((DRAWS, n + m)).argsort(axis=1)[:, :n]
        first = first[(first >= n).any(axis=1)]
    inside = np.zeros((len(first), n + m))
    np.put_along_axis(inside, first, 1.0, axis=1)
    return np.repeat([1.0, 0.0], [n, m]) - inside


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


def resolution(values: Any) -> Array:
    """Return the step in which values seem to be counted: the largest of which all their differences are multiples.

    An accuracy of 298 rows comes in steps of 1/298, a rounded one in steps of 0.01: what differs by a step is not known
    better than that. However far values lie apart says nothing of their step.

    Args:
        values: (..., n).

    Returns:
        (...); 0 where all are the same, next to 0 where they lie on no grid.

    Example:
        >>> float(resolution([0.81, 0.79, 0.86]))
        0.01...
    """
    ordered = np.sort(np.asarray(values, dtype=np.float64), axis=-1)
    rounding = ROUNDING * np.abs(ordered).max(axis=-1, initial=0.0)
    step = np.zeros(ordered.shape[:-1])
    for gap in np.moveaxis(np.diff(ordered, axis=-1), -1, 0):
        step = _common(step, gap, rounding)
    return step


def least_spread(differences: Array, step: Any) -> Array:
    """Return the standard deviation to take at least for differences of values with this step, (...).

    It is one step. Equal differences show no scatter at all, whatever the step: they are taken to scatter by their own
    size, of which several that are equal by chance cannot be told from one.
    """
    size = np.abs(differences).max(axis=-1)
    equal = np.ptp(differences, axis=-1) <= ROUNDING * size
    step = np.broadcast_to(np.asarray(step, dtype=np.float64), size.shape)
    return np.asarray(np.where(equal & (step <= ROUNDING * size), size, step))


def _common(one: Array, other: Array, rounding: Array) -> Array:
    """The largest common divisor of two lengths by Euclid's algorithm; what is within rounding is 0."""
    longest = large = np.maximum(one, other)
    small = np.minimum(one, other)
    while (go_on := small > rounding).any():
        safe = np.where(go_on, small, 1.0)
        rest = np.abs(large - np.round(large / safe) * safe)
        large, small = np.where(go_on, small, large), np.where(go_on, rest, small)
    # Every remainder adds to the error of what it is taken from; of the longest, divided, there is least.
    known = large > rounding
    times = np.round(longest / np.where(known, large, 1.0)).clip(1)
    return np.asarray(np.where(known, longest / times, 0.0))
