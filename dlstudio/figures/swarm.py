"""Where the points of many rows go, and how they are shaded; plain arrays in and out."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["even_rows", "has_order", "kinds_of", "limits", "shades_of", "swarm"]

Array = npt.NDArray[Any]


def swarm(values: Array, width: float, *, cells: int = 110, half: float = 0.4) -> Array:
    """Lay points of one line out beside each other, so that no two lie on top of each other.

    Args:
        values: float (n,), positions on the line.
        width: of the whole line, in the unit of the values.
        cells: how many points lie side by side on the whole line.
        half: the farthest a point may move.

    Returns:
        float (n,), how far every point moves off the line; the points of a crowded place fill the room evenly.
    """
    cell = np.floor(values / width * cells).astype(np.int64)
    order = np.argsort(cell, kind="stable")
    _, first, counts = np.unique(cell[order], return_index=True, return_counts=True)
    turn = np.empty(len(values), dtype=np.int64)
    turn[order] = np.arange(len(values)) - np.repeat(first, counts)
    aside = (turn + 1) // 2 * np.where(turn % 2, 1, -1)
    step = min(0.09, half / max(1, int(np.abs(aside).max(initial=0))))
    return np.asarray(aside * step, dtype=np.float64)


def limits(values: Array) -> tuple[float, float]:
    """What of the axis is shown: all, unless a few extreme values would press the others into a line."""
    low, high = min(float(values.min()), 0.0), max(float(values.max()), 0.0)
    near, far = (float(item) for item in np.percentile(values, [0.1, 99.9]))
    near, far = min(near, 0.0), max(far, 0.0)
    if high - low > 2 * (far - near) > 0:
        return near, far
    return (low, high) if high > low else (-0.5, 0.5)


def even_rows(n: int, most: int) -> npt.NDArray[np.int64]:
    """At most so many of n rows, evenly spread."""
    return np.unique(np.linspace(0, n - 1, min(n, max(most, 1))).round().astype(np.int64))


def has_order(values: Array, texts: Array) -> bool:
    """Whether values are numbers to people too, and no codes of named categories."""
    known = np.isfinite(values)
    if not known.any():
        return False
    for text in np.unique(texts[known]).tolist():
        try:
            float(text.replace(",", "").replace("−", "-"))
        except ValueError:
            if text != "missing":
                return False
    return True


def shades_of(values: Array, texts: Array) -> Array:
    """Values from 0 to 1 between their 5th and 95th percentile; NaN without a value or an order."""
    if not has_order(values, texts):
        return np.full(len(values), np.nan)
    low, high = np.nanpercentile(values, [5, 95])
    if high <= low:
        low, high = np.nanmin(values), np.nanmax(values)
    return np.clip((values - low) / (high - low), 0, 1) if high > low else np.where(np.isnan(values), np.nan, 0.5)


def kinds_of(values: Array, texts: Array) -> tuple[list[str], Array]:
    """The different values as text, in the order of their numbers, and the place of every row's among them."""
    first: dict[str, int] = {}
    for _, text in sorted(
        zip(values.tolist(), texts.tolist(), strict=True), key=lambda pair: (pair[0] != pair[0], *pair)
    ):
        first.setdefault(text, len(first))
    return list(first), np.array([first[text] for text in texts.tolist()], dtype=np.int64)
