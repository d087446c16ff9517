"""A DataFrame to a `Dataset`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from dlstudio.data.arrays import split_rows
from dlstudio.data.dataset import Dataset
from dlstudio.data.encode import MAX_CATEGORIES, check_finite, encode_columns
from dlstudio.data.targets import Target, encode_target
from dlstudio.data.text import encode_texts
from dlstudio.errors import DLStudioError, unknown_name

__all__ = ["from_frame"]


def from_frame(
    frame: pd.DataFrame,
    *,
    target: str | None,
    sensitive: Sequence[str] = (),
    groups: Any = None,
    seed: int = 0,
    name: str = "frame",
    impute: bool = False,
) -> Dataset:
    """Encode and split a DataFrame; see `dlstudio.data.prepare.prepare`."""
    names = pd.Index([str(column) for column in frame.columns])
    if duplicates := sorted(set(names[names.duplicated()])):
        raise DLStudioError(
            "column names that are unique",
            f"{', '.join(map(repr, duplicates))} more than once",
            "Rename or drop the repeated columns.",
        )
    if target is None:
        raise DLStudioError(
            "the name of the column to predict",
            f"a DataFrame without target= (columns {', '.join(map(repr, list(frame.columns)[:12]))})",
            "Pass target='COLUMN'.",
        )
    group_column = [groups] if isinstance(groups, str) else []
    for column in (target, *sensitive, *group_column):
        if column not in frame.columns:
            raise unknown_name("column", column, map(str, frame.columns))
    if frame.empty:
        raise DLStudioError("at least one row", f"a DataFrame of shape {frame.shape}", "Check the filter that made it.")
    frame = frame.reset_index(drop=True)
    target_values = _encode_target_column(frame[target], target)
    columns = {
        str(column): _plain(frame[column], str(column))
        for column in frame.columns
        if column not in (target, *sensitive, *group_column)
    }
    if not columns:
        raise DLStudioError(
            "at least one feature column",
            "only target, sensitive and group columns",
            "Sensitive columns stay out of the inputs; to let the model see one, pass a copy of it.",
        )
    splits = split_rows(
        target_values.classes,
        len(frame),
        groups=frame[groups].to_numpy() if group_column else groups,
        seed=seed,
        class_names=target_values.class_names,
    )
    common: dict[str, Any] = {
        "name": name,
        "task": target_values.task,
        "targets": target_values.values,
        "splits": splits,
        "class_names": target_values.class_names,
        "target_name": target,
        "frame": frame,
        "sensitive": tuple(sensitive),
    }
    if len(columns) == 1 and _is_text(texts := next(iter(columns.values()))):
        check_finite(columns, missing_allowed=impute)
        tokens, vocabulary = encode_texts([text or "" for text in texts], splits["train"])
        return Dataset(modality="text", inputs=tokens, vocabulary=vocabulary, **common)
    encoded = encode_columns(columns, splits["train"], impute=impute)
    return Dataset(
        modality="tabular",
        inputs=encoded.inputs,
        feature_names=encoded.names,
        column_of_feature=encoded.columns,
        **common,
    )


def _is_text(column: np.ndarray) -> bool:
    """Tell free text from categories: very many different strings, most of them more than one word."""
    if column.dtype.kind != "O":
        return False
    known = [value for value in column if value is not None]
    return len(set(known)) > MAX_CATEGORIES and sum(" " in value for value in known) > len(known) / 2


def _plain(series: pd.Series[Any], name: str) -> np.ndarray:
    """Return a column as floats with NaN, or as strings with None."""
    dtype: Any = series.dtype
    if isinstance(dtype, pd.CategoricalDtype):
        return _strings(series)
    if pd.api.types.is_complex_dtype(dtype):
        raise DLStudioError("real numbers", f"complex values in {name!r}", "Make two columns of them.")
    if pd.api.types.is_bool_dtype(dtype) or pd.api.types.is_numeric_dtype(dtype):
        return series.to_numpy(dtype=np.float64, na_value=np.nan)
    kind = pd.api.types.infer_dtype(series, skipna=True)
    if kind in ("string", "empty"):
        return _strings(series)
    if kind in ("boolean", "integer", "floating", "mixed-integer-float", "decimal"):
        return pd.to_numeric(series.astype("float64"), errors="raise").to_numpy(dtype=np.float64)
    raise DLStudioError(
        "columns of numbers, booleans, strings or categories",
        f"{kind} values in {name!r} (dtype {dtype})",
        "Make numbers of them (of a date, say, the year and the weekday), or drop the column.",
    )


def _strings(series: pd.Series[Any]) -> np.ndarray:
    missing = series.isna().to_numpy()
    values = series.astype("object").to_numpy()
    return np.array([None if lacks else str(value) for value, lacks in zip(values, missing, strict=True)], dtype=object)


def _encode_target_column(series: pd.Series[Any], name: str) -> Target:
    dtype: Any = series.dtype
    if isinstance(dtype, pd.CategoricalDtype):
        used = set(series.dropna().unique())
        order = tuple(category for category in dtype.categories if category in used)
        return encode_target(_strings(series), name, order=order)
    if pd.api.types.is_numeric_dtype(dtype) and not pd.api.types.is_complex_dtype(dtype):
        if series.isna().any():
            return encode_target(series.to_numpy(dtype=np.float64, na_value=np.nan), name)
        if pd.api.types.is_bool_dtype(dtype):
            return encode_target(series.to_numpy(dtype=bool), name)
        whole = pd.api.types.is_integer_dtype(dtype)
        return encode_target(series.to_numpy(dtype=np.int64 if whole else np.float64), name)
    plain = _plain(series, name)
    if plain.dtype.kind == "f" and series.map(lambda value: isinstance(value, int)).all():
        plain = series.to_numpy(dtype=bool if isinstance(series.iloc[0], bool) else np.int64)
    return encode_target(plain, name)
