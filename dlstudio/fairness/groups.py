"""Who belongs to which group: sensitive columns of any kind become codes and names, and combinations of them."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from dlstudio.errors import DLStudioError, unknown_name

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["AND", "Groups", "columns_of", "crossed", "grouped"]

AND = " × "
"""Joins the names of columns, and of groups, that are looked at together."""
MOST_GROUPS = 50
MISSING = "missing"


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


def columns_of(given: Any, n: int, frame: pd.DataFrame | None = None) -> dict[str, Any]:
    """Return sensitive columns by name, each of `n` values.

    Args:
        given: a DataFrame, a Series, a mapping, an array (n,) or (n, columns); or names of columns of `frame`.
        n: how many rows there are.
        frame: the raw rows of a run.

    Raises:
        DLStudioError: a name is unknown, lengths differ, or there is no column.
    """
    import pandas as pd

    names = [given] if isinstance(given, str) else given
    if isinstance(names, (list, tuple)) and names and all(isinstance(name, str) for name in names):
        if frame is not None:
            for name in names:
                if name not in frame.columns:
                    raise unknown_name("column", name, map(str, frame.columns))
            return {name: frame[name] for name in names}
        if isinstance(given, str) or len(names) != n:
            raise DLStudioError(
                f"the values of the sensitive columns, {n:,} of each",
                f"the names {', '.join(map(repr, names[:6]))}, with no table to find them in",
                "Pass a DataFrame such as frame[['race', 'sex']], with one row per prediction.",
            )
    columns: dict[str, Any]
    if isinstance(given, pd.DataFrame):
        columns = {str(name): given.iloc[:, at] for at, name in enumerate(given.columns)}
    elif isinstance(given, Mapping):
        columns = {str(name): values for name, values in given.items()}
    elif isinstance(given, pd.Series):
        columns = {"sensitive_feature_0" if given.name is None else str(given.name): given}
    else:
        values = np.asarray([] if given is None else given)
        parts = values.T if values.ndim == 2 else [values]
        columns = {f"sensitive_feature_{at}": part for at, part in enumerate(parts)}  # as fairlearn names them
    if not columns or given is None:
        raise DLStudioError("one sensitive column or more", "none", "Pass sensitive_features=frame[['race', 'sex']].")
    if isinstance(given, pd.DataFrame) and len(columns) < given.shape[1]:
        raise DLStudioError("column names that are unique", str(list(given.columns)), "Rename the repeated columns.")
    for name, column in columns.items():
        if AND in name:
            raise DLStudioError(f"column names without {AND!r}", repr(name), "Rename the column: that joins columns.")
        if np.ndim(column) != 1 or len(column) != n:
            raise DLStudioError(
                f"{n:,} values of {name!r}, one per prediction",
                f"shape {np.shape(column)}",
                "Pass the sensitive columns of the same rows, in the same order.",
            )
    return columns


def grouped(name: str, column: Any, bins: int | Sequence[float] | None = None) -> Groups:
    """Turn a column into groups, sorted as numbers, categories or text; missing values are a group named "missing".

    Args:
        name: of the column.
        column: (n,) values.
        bins: for numbers, how many groups of about the same size, or their edges.

    Raises:
        DLStudioError: the column has one group only, or more than 50 different values and no bins, or bins do not fit.
    """
    import pandas as pd

    series = column if isinstance(column, pd.Series) else pd.Series(np.asarray(column))
    missing = series.isna().to_numpy()
    if bins is not None:
        known, names = _binned(name, series[~missing], bins)
    else:
        known, names = _distinct(name, series[~missing])
    codes = np.full(len(series), len(names), dtype=np.int32)
    codes[~missing] = known
    if missing.any():
        names.append(MISSING if MISSING not in names else f"{MISSING} (no value)")
    if len(names) < 2:
        raise DLStudioError(
            f"two groups or more in {name!r}",
            f"only {names[0]!r} in all {len(series):,} rows" if names else "no rows",
            "Leave the column out, or pass rows of other groups too.",
        )
    return Groups(feature=name, names=tuple(names), codes=codes)


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


def _distinct(name: str, series: Any) -> tuple[npt.NDArray[np.int32], list[str]]:
    import pandas as pd

    if isinstance(series.dtype, pd.CategoricalDtype):
        series = series.cat.remove_unused_categories()
        codes, values = series.cat.codes.to_numpy(), list(series.cat.categories)
    else:
        try:
            codes, values = pd.factorize(series, sort=True)
        except TypeError:  # values of several kinds have no order
            codes, values = pd.factorize(series)
    if len(values) > MOST_GROUPS:
        numbers = pd.api.types.is_numeric_dtype(series.dtype)
        raise DLStudioError(
            f"at most {MOST_GROUPS} groups in {name!r}",
            f"{len(values):,} different values in {len(series):,} rows",
            f"Make groups of them: bins={{{name!r}: 5}}, or edges such as bins={{{name!r}: [18, 30, 65]}}."
            if numbers
            else "Join rare values into wider groups first.",
        )
    shown = [_shown(value) for value in values]
    names = list(dict.fromkeys(shown))  # 1 and "1" are one group
    place = np.array([names.index(text) for text in shown], dtype=np.int32)
    return (place[codes] if len(place) else np.zeros(0, dtype=np.int32)), names


def _shown(value: Any) -> str:
    text = f"{value:g}" if isinstance(value, (float, np.floating)) else str(value)
    return text.replace(AND, " x ")  # which joins the names of groups


def _binned(name: str, series: Any, bins: int | Sequence[float]) -> tuple[npt.NDArray[np.int32], list[str]]:
    import pandas as pd

    if not pd.api.types.is_numeric_dtype(series.dtype):
        raise DLStudioError(f"numbers in {name!r} to make bins of", f"{series.dtype}", "Leave the column out of bins.")
    values = series.to_numpy(dtype=np.float64)
    if np.ndim(bins) == 0:
        if not isinstance(bins, (int, np.integer)) or bins < 2:
            raise DLStudioError("two bins or more, or their edges", f"{bins!r} for {name!r}", "Try 5.")
        edges = np.unique(np.quantile(values, np.linspace(0, 1, int(bins) + 1))) if len(values) else np.zeros(0)
    else:
        edges = np.asarray(bins, dtype=np.float64)
    if len(edges) < 2 or not np.isfinite(edges).all() or (np.diff(edges) <= 0).any():
        raise DLStudioError(
            f"edges that rise, two or more, for {name!r}", f"{edges.tolist()[:8]}", "Try bins=[18, 30, 50, 65]."
        )
    inner = [f"{low:g} to under {high:g}" for low, high in itertools.pairwise(edges)]
    inner[-1] = f"{edges[-2]:g} to {edges[-1]:g}"
    names = [f"under {edges[0]:g}", *inner, f"over {edges[-1]:g}"]
    at = np.digitize(values, edges)
    at[values == edges[-1]] = len(edges) - 1  # the last bin is closed
    there = np.flatnonzero(np.bincount(at, minlength=len(names)))
    place = np.zeros(len(names), dtype=np.int32)
    place[there] = np.arange(len(there))
    return place[at], [names[one] for one in there]
