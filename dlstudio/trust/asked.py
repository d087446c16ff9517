"""What a verb of trust was asked for, as plain values, so that pages can ask again in the same way."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from dlstudio.data.values import off_torch

__all__ = ["asked"]


def asked(**options: Any) -> dict[str, Any]:
    """Return options as plain values and arrays of numbers, which a result can hold.

    Example:
        >>> asked(costs={"false_positive": np.float64(5)}, clusters=["ann", None], folds=(1, 2))
        {'costs': {'false_positive': 5.0}, 'clusters': ['ann', None], 'folds': [1, 2]}
    """
    return {name: _plain(given) for name, given in options.items()}


def _plain(given: Any) -> Any:
    import pandas as pd

    if isinstance(given, Mapping):
        return {str(name): _plain(each) for name, each in given.items()}
    if isinstance(given, np.generic):
        return given.item()
    if given is None or isinstance(given, (str, bool, int, float)):
        return given
    if isinstance(given, (list, tuple)):
        return [_plain(each) for each in given]
    given = off_torch(given)
    if hasattr(given, "columns"):  # a table
        return {str(name): _plain(given[name]) for name in given.columns}
    if hasattr(given, "to_numpy") or isinstance(given, np.ndarray):
        values, missing = np.asarray(given), pd.isna(np.asarray(given))
        return values if values.dtype.kind in "biuf" else np.where(missing, None, values).tolist()  # type: ignore[call-overload]
    return str(given)
