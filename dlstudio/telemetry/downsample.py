"""Fewer points that look the same: the extremes of every bucket are kept, and so is everything non-finite."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from dlstudio.errors import DLStudioError


def minmax(
    steps: npt.NDArray[np.generic], values: npt.NDArray[np.floating], n_out: int
) -> tuple[npt.NDArray[np.generic], npt.NDArray[np.floating]]:
    """Reduce a series to about `n_out` points that keep its minimum and maximum in every bucket.

    Non-finite values (NaN, ±inf) never hide behind finite ones: they are kept as they are, thinned evenly only when
    they alone would exceed `n_out`. The first and last points are always kept.

    Args:
        steps: shape ``(n,)``, increasing.
        values: shape ``(n,)``.
        n_out: how many points to aim for, at least 4.

    Returns:
        ``(steps, values)`` of at most ``2 · n_out + 2`` points, unchanged when ``n <= n_out``.

    Raises:
        DLStudioError: `n_out` is below 4 or the lengths differ.

    Example:
        >>> x, y = minmax(np.arange(100_000), np.random.rand(100_000), 2_000)
        >>> y.max()  # the spike is still there
    """
    if n_out < 4:
        raise DLStudioError("n_out of 4 or more", f"n_out={n_out}", "Ask for more points.")
    if len(steps) != len(values):
        raise DLStudioError(
            "steps and values of one length", f"{len(steps)} and {len(values)}", "Pass one step per value."
        )
    if len(values) <= n_out:
        return steps, values
    finite = np.isfinite(values)
    keep = [np.array([0, len(values) - 1])]
    rows = np.flatnonzero(finite)
    if len(rows) > n_out:
        from tsdownsample import MinMaxDownsampler

        picked = MinMaxDownsampler().downsample(np.ascontiguousarray(values[rows]), n_out=n_out - n_out % 2)
        keep.append(rows[picked.astype(np.int64)])
    else:
        keep.append(rows)
    odd = np.flatnonzero(~finite)
    keep.append(odd if len(odd) <= n_out else odd[np.linspace(0, len(odd) - 1, n_out).astype(np.int64)])
    index = np.unique(np.concatenate(keep))
    return steps[index], values[index]
