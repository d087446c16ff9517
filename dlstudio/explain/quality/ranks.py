"""How alike two explanations order the features: rank correlation and the overlap of the strongest."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["centred_ranks", "rank_correlation", "top_overlap"]

Array = npt.NDArray[Any]


def centred_ranks(values: Array) -> Array:
    """Return ranks along the last axis, ties averaged, centred and of length 1; NaN where all values are equal."""
    from scipy.stats import rankdata

    ranks = rankdata(values, axis=-1)
    ranks -= ranks.mean(axis=-1, keepdims=True)
    length = np.sqrt((ranks**2).sum(axis=-1, keepdims=True))
    return np.where(length > 0, ranks / np.where(length > 0, length, 1.0), np.nan)


def rank_correlation(a: Array, b: Array) -> Array:
    """Return Spearman's correlation of every row of `a` with that row of `b`, float64 (n,).

    Features that are 0 in both rows are left out: whoever gives nothing to a black border has not agreed about it.
    NaN where fewer than three features are left, or where all are equal.

    Args:
        a, b: (n, features).
    """
    found = np.full(len(a), np.nan)
    for row, (one, other) in enumerate(zip(a, b, strict=True)):
        used = (one != 0) | (other != 0)
        if used.sum() >= 3:
            found[row] = float(centred_ranks(one[used]) @ centred_ranks(other[used]))
    return found


def top_overlap(a: Array, b: Array, k: int) -> Array:
    """Return which share of the k largest |values| of every row of `a` is among those of `b`, float64 (n,).

    Ties are broken by place, the same in both.
    """
    tops = [np.argsort(-np.abs(values), axis=1, kind="stable")[:, :k] for values in (a, b)]
    marks = [np.zeros(a.shape, dtype=bool) for _ in tops]
    for mark, top in zip(marks, tops, strict=True):
        np.put_along_axis(mark, top, True, axis=1)
    return (marks[0] & marks[1]).sum(axis=1) / k  # type: ignore[no-any-return]
