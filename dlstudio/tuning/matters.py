"""Whether a parameter is shown to matter at all: shares of importance add up to 1, of nothing but noise as well."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["no_effect_p"]

N_GROUPS = 4


def no_effect_p(params: Sequence[Any], values: Sequence[float]) -> float:
    """Return the p-value of a parameter that changes nothing, by Kruskal and Wallis's test.

    Numbers are compared by quarters of their order, anything else as it is.

    Args:
        params: (n,) values of the parameter, of trials that are complete.
        values: (n,) of the metric; an infinite one counts as the best or worst.

    Returns:
        1 where all trials are of one group or have one value.

    Example:
        >>> no_effect_p([1, 2, 3, 4, 5, 6, 7, 8] * 3, [1, 2, 3, 4, 5, 6, 7, 8] * 3) < 0.001
        True

    References:
        Kruskal and Wallis, Use of ranks in one-criterion variance analysis (1952).
    """
    from scipy.special import chdtrc

    groups, n = _groups(params), len(values)
    ranks = _ranks(np.asarray(values, dtype=np.float64))
    sizes = np.bincount(groups)
    ties = np.unique(ranks, return_counts=True)[1].astype(np.float64)
    unlike = 1 - (ties**3 - ties).sum() / max(n**3 - n, 1)
    if len(sizes) < 2 or unlike <= 0:
        return 1.0
    sums = np.bincount(groups, weights=ranks)
    h = (12 / (n * (n + 1)) * (sums**2 / sizes).sum() - 3 * (n + 1)) / unlike
    return float(chdtrc(len(sizes) - 1, max(h, 0.0)))


def _groups(params: Sequence[Any]) -> npt.NDArray[np.int64]:
    numbers = all(isinstance(one, int | float) and not isinstance(one, bool) for one in params)
    found = params if numbers else [repr(one) for one in params]
    if numbers and len(set(params)) > N_GROUPS:
        order = _ranks(np.asarray(params, dtype=np.float64)) - 0.5
        found = (order * N_GROUPS / len(params)).astype(np.int64).tolist()
    return np.unique(np.asarray(found), return_inverse=True)[1].astype(np.int64)


def _ranks(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Ranks from 1; equal values share the mean of theirs."""
    _, place, count = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(count)
    return np.asarray((last - (count - 1) / 2)[place], dtype=np.float64)
