"""Columns divided into groups for an audit: by their values, by ranges of numbers, and by several columns at once."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from dlstudio.data.groups import AND, MISSING, MOST_GROUPS, coded, few_enough, series_of, written
from dlstudio.errors import DLStudioError

__all__ = ["Groups", "crossed", "grouped"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Groups:
    """A division of rows: row i is in group ``names[codes[i]]``.

    Attributes:
        feature: the column, or several joined by ``" × "``.
        names: of the groups, all of which have rows.
        codes: int32 (n,).
    """

    feature: str
    names: tuple[str, ...]
    codes: npt.NDArray[np.int32]

    @property
    def sizes(self) -> npt.NDArray[np.int64]:
        """int64, how many rows each group has."""
        return np.bincount(self.codes, minlength=len(self.names)).astype(np.int64)


def grouped(name: str, column: Any, bins: int | Sequence[float] | None = None) -> Groups:
    """Turn a column into groups, sorted as numbers, categories or text; missing values are a group named "missing".

    Args:
        name: of the column.
        column: (n,) values.
        bins: for numbers, how many groups of about the same size, at most 50, or their edges.

    Raises:
        DLStudioError: the column has one group only, or more than 50 of them, or bins do not fit.
    """
    codes, names = coded(name, column) if bins is None else _binned(name, column, bins)
    if len(names) < 2:
        raise DLStudioError(
            f"two groups or more in {name!r}",
            f"only {names[0]!r} in all {len(codes):,} rows" if names else "no rows",
            "Leave the column out, or pass rows of other groups too.",
        )
    return Groups(feature=name, names=names, codes=codes)


def crossed(columns: Sequence[Groups], most: int) -> list[Groups]:
    """Return the combinations of 2 to `most` columns; a group of one is every combination that has rows."""
    found = []
    for size in range(2, most + 1):
        for chosen in itertools.combinations(columns, size):
            shape = tuple(len(one.names) for one in chosen)
            at = np.ravel_multi_index([one.codes for one in chosen], shape)
            there = np.flatnonzero(np.bincount(at, minlength=int(np.prod(shape))))
            place = np.zeros(int(np.prod(shape)), dtype=np.int32)
            place[there] = np.arange(len(there))
            names = (
                AND.join(one.names[code] for one, code in zip(chosen, codes, strict=True))
                for codes in zip(*np.unravel_index(there, shape), strict=True)
            )
            found.append(Groups(feature=AND.join(one.feature for one in chosen), names=tuple(names), codes=place[at]))
    return found


def _binned(name: str, column: Any, bins: int | Sequence[float]) -> tuple[npt.NDArray[np.int32], tuple[str, ...]]:
    import pandas as pd

    series = series_of(column)
    missing = series.isna().to_numpy()
    series = series[~missing].infer_objects()
    if not pd.api.types.is_numeric_dtype(series.dtype):
        raise DLStudioError(f"numbers in {name!r} to make bins of", f"{series.dtype}", "Leave the column out of bins.")
    values = series.to_numpy(dtype=np.float64)
    if np.ndim(bins) == 0:
        if not isinstance(bins, (int, np.integer)) or not 2 <= bins <= MOST_GROUPS:
            raise DLStudioError(f"2 to {MOST_GROUPS} bins, or their edges", f"{bins!r} for {name!r}", "Try 5.")
        finite = values[np.isfinite(values)]
        edges = np.unique(np.quantile(finite, np.linspace(0, 1, int(bins) + 1))) if len(finite) else np.zeros(0)
    else:
        try:
            edges = np.asarray(bins, dtype=np.float64)
        except (TypeError, ValueError):
            edges = np.zeros(0)
    if len(edges) < 2 or not np.isfinite(edges).all() or (np.diff(edges) <= 0).any():
        raise DLStudioError(
            f"edges that rise, two or more, for {name!r}", f"{bins!r}"[:120], "Try bins=[18, 30, 50, 65]."
        )
    ends = written(edges)
    inner = [f"{low} to under {high}" for low, high in itertools.pairwise(ends)]
    inner[-1] = f"{ends[-2]} to {ends[-1]}"
    names = [f"under {ends[0]}", *inner, f"over {ends[-1]}", MISSING]
    at = np.full(len(missing), len(names) - 1)
    at[~missing] = np.digitize(values, edges)
    at[~missing] -= values == edges[-1]  # the last bin is closed
    there, codes = np.unique(at, return_inverse=True)
    few_enough(name, len(there), len(at), ranges=True)
    return codes.astype(np.int32), tuple(names[one] for one in there.tolist())
