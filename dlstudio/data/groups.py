"""Who belongs to which group, and what groups are called: alike for audits, thresholds, weights and calibration."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from dlstudio.data.values import as_array
from dlstudio.errors import DLStudioError, unknown_name

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "AND", "MISSING", "MOST_GROUPS", "coded", "columns_of", "few_enough", "group_names", "name_of", "series_of",
    "written", "written_alike",
]  # fmt: skip

AND = " × "
"""Joins the names of columns, and of groups, that are looked at together."""
MISSING = "missing"
TAKEN = re.compile(rf"({MISSING}|overall|everybody else)( \(group\))*")
"""Names of rows in tables of results, which no group may have."""
MOST_GROUPS = 50
MOST_WHOLE = 1e21
"""Larger whole numbers are written with an exponent."""


def name_of(value: Any) -> str:
    """Return what the group of a value is called; it depends on nothing but the value, which is not missing.

    1, 1.0 and the text "1" are one group. Different numbers are different groups, however close. Blank text gets
    quotes. The text "missing" becomes "missing (group)", as rows without a value are called "missing", and so do other
    names that results give to rows of their own. "×" between blanks becomes "x", as it joins the names of groups.

    Example:
        >>> name_of(1234567.0), name_of(0.5), name_of("missing"), name_of("a × b")
        ('1234567', '0.5', 'missing (group)', 'a x b')
    """
    if isinstance(value, (float, np.floating)):
        number = float(value)  # written as it is: a float32 has fewer digits
        return str(int(number)) if abs(number) < MOST_WHOLE and number.is_integer() else str(value)
    text = re.sub(r"(?<!\S)×(?!\S)", "x", str(value))
    text = text.replace("\0", "\\0")  # numpy cuts off zeros at the end of text
    if not text.strip("'").strip():
        return f"'{text}'"
    return f"{text} (group)" if TAKEN.fullmatch(text) else text


def coded(name: str, column: Any) -> tuple[npt.NDArray[np.int32], tuple[str, ...]]:
    """Turn a column into groups, sorted as numbers, categories or text; the last one is of missing values, if any.

    Args:
        name: of the column.
        column: (n,) values.

    Returns:
        The place of every row's group, (n,), and the names of the groups, all of which have rows.

    Raises:
        DLStudioError: there are more than 50 groups.

    Example:
        >>> coded("sex", ["m", None, "f"])
        (array([1, 2, 0], dtype=int32), ('f', 'm', 'missing'))
    """
    import pandas as pd

    series = series_of(column)
    kind = pd.api.types.infer_dtype(series, skipna=True)
    if isinstance(series.dtype, pd.CategoricalDtype):
        series = series.cat.remove_unused_categories()
        codes, values = series.cat.codes.to_numpy(), series.cat.categories
        shown = [name_of(value) for value in values]
    elif kind in ("mixed", "mixed-integer"):  # named before they are compared: to Python True, 1 and 1.0 are the same
        codes, values = pd.factorize(series.map(name_of, na_action="ignore"), sort=True)
        shown = list(values)
    else:
        codes, values = pd.factorize(series, sort=True)
        shown = [name_of(value) for value in values]
    names = list(dict.fromkeys(shown))
    places = {text: place for place, text in enumerate(names)}
    if (codes < 0).any():
        names.append(MISSING)
    few_enough(name, len(names), len(series), ranges=kind in ("integer", "floating", "mixed-integer-float"))
    place = np.array([*(places[text] for text in shown), len(names) - 1], dtype=np.int32)  # -1 is the last one
    return place[codes], tuple(names)


def written_alike(column: Any) -> dict[str, tuple[str, ...]]:
    """Return the groups of a column that join values which Python tells apart, each with these values.

    Example:
        >>> written_alike([1, "1", 1.0, "a"])
        {'1': ('1', "'1'")}
    """
    import pandas as pd

    series = series_of(column).dropna()
    if pd.api.types.is_numeric_dtype(series.dtype):
        return {}
    values = pd.Series(series.unique()) if isinstance(series.dtype, pd.CategoricalDtype) else series
    text = np.array([isinstance(value, str) for value in values], dtype=np.bool_)
    found: dict[str, list[str]] = {}
    for name in values[~text].map(name_of).unique():
        found[name] = [name]
    for value in values[text].unique():
        found.setdefault(name_of(value), []).append(repr(str(value)))
    return {name: tuple(shown) for name, shown in found.items() if len(shown) > 1}


def group_names(given: Any, n: int, frame: pd.DataFrame | None = None) -> tuple[str, npt.NDArray[np.str_]]:
    """Return what groups are told apart by, and the name of every row's group, (n,).

    Columns, and values of several columns, are joined by " × ".

    Args:
        given, n, frame: as for `columns_of`.

    Raises:
        DLStudioError: as `columns_of`, or there are more than 50 groups.
    """
    columns = columns_of(given, n, frame)
    feature = AND.join(columns)
    each = [coded(name, column) for name, column in columns.items()]
    at = np.zeros(n, dtype=np.int64)
    for codes, names in each:  # at most 50 groups of each column, and as many that have rows of all before
        there, at = np.unique(at * len(names) + codes, return_inverse=True)
        few_enough(feature, len(there), n, ranges=False)
    first = np.unique(at, return_index=True)[1]
    joined = [AND.join(names[codes[row]] for codes, names in each) for row in first.tolist()]
    return feature, np.array(joined, dtype=np.str_)[at]


def columns_of(given: Any, n: int, frame: pd.DataFrame | None = None) -> dict[str, Any]:
    """Return columns of groups by name, each a Series or array of `n` values.

    Args:
        given: a DataFrame, a Series, a mapping, an array (n,) or (n, columns); or names of columns of `frame`.
        n: how many rows there are.
        frame: the raw rows of a run.

    Raises:
        DLStudioError: a name is unknown, lengths differ, or there is no column.
    """
    import pandas as pd

    names = [given] if isinstance(given, str) else given
    columns: dict[str, Any]
    if isinstance(names, (list, tuple)) and names and all(isinstance(name, str) for name in names):
        if frame is not None:
            for name in names:
                if name not in frame.columns:
                    raise unknown_name("column", name, map(str, frame.columns))
            given = {name: frame[name] for name in names}
        elif isinstance(given, str) or len(names) != n:
            raise DLStudioError(
                f"the groups of rows, {n:,} a column",
                f"the names {', '.join(map(repr, names[:6]))}, with no table to find them in",
                "Pass a DataFrame such as frame[['race', 'sex']], with one row per prediction.",
            )
    if isinstance(given, pd.DataFrame):
        columns = {str(name): given.iloc[:, at] for at, name in enumerate(given.columns)}
    elif isinstance(given, Mapping):
        columns = {str(name): _values(values) for name, values in given.items()}
    elif isinstance(given, pd.Series):
        columns = {"sensitive_feature_0" if given.name is None else str(given.name): given}
    else:
        values = _values([] if given is None else given)
        parts = values.T if np.ndim(values) == 2 else [values]
        columns = {f"sensitive_feature_{at}": part for at, part in enumerate(parts)}  # as fairlearn names them
    if not columns or given is None:
        raise DLStudioError("one sensitive column or more", "none", "Pass sensitive_features=frame[['race', 'sex']].")
    if isinstance(given, (pd.DataFrame, Mapping)) and len(columns) < len(list(given)):
        raise DLStudioError("column names that are unique", str(list(given)), "Rename the repeated columns.")
    for name, column in columns.items():
        if AND in name:
            raise DLStudioError(f"column names without {AND!r}", repr(name), "Rename the column: that joins columns.")
        if np.ndim(column) != 1 or len(column) != n:
            raise DLStudioError(
                f"{n:,} values in {name!r}, one per prediction",
                f"shape {np.shape(column)}",
                "Pass the sensitive columns of the same rows, in the same order.",
            )
    return columns


def series_of(column: Any) -> pd.Series[Any]:
    """Return a column as a Series, with its values as they are."""
    import pandas as pd

    return column if isinstance(column, pd.Series) else pd.Series(_values(column))


def _values(given: Any) -> Any:
    import pandas as pd

    if isinstance(given, (pd.Series, pd.Index, pd.api.extensions.ExtensionArray)):
        return given if isinstance(given, pd.Series) else pd.Series(given)
    return as_array(given, None if hasattr(given, "__array__") else object)  # ["a", nan] stays so


def few_enough(name: str, n_groups: int, n_rows: int, *, ranges: bool) -> None:
    """Refuse more groups than can be looked at; `ranges` says that ranges could be made of them.

    Raises:
        DLStudioError: there are more than 50.
    """
    if n_groups > MOST_GROUPS:
        raise DLStudioError(
            f"at most {MOST_GROUPS} groups in {name!r}",
            f"{n_groups:,} different values in {n_rows:,} rows",
            f"Make ranges of them, as pandas.cut does; an audit takes bins={{{name!r}: 5}}."
            if ranges
            else "Join rare values into wider groups first.",
        )


def written(values: Sequence[float] | npt.NDArray[Any], digits: int = 6) -> list[str]:
    """Write numbers in as few digits as tell them apart, `digits` at least."""
    for enough in (digits, *(more for more in (4, 6, 9, 12) if more > digits)):
        found = [f"{value:.{enough}g}" for value in values]
        if len(set(found)) == len(found):
            return found
    return [repr(float(value)) for value in values]
