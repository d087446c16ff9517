"""Rows that belong together, such as those of one person, and may therefore be alike."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from dlstudio.data.values import as_array
from dlstudio.errors import DLStudioError, unknown_name

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["clusters_of"]


def clusters_of(
    given: Any, n: int, kept: npt.NDArray[Any], read_frame: Callable[[], pd.DataFrame | None] = lambda: None
) -> npt.NDArray[np.int64] | None:
    """Return the cluster of every kept row, int64 from 0 on without a gap; None for None.

    Args:
        given: a label per row, (n,), or the name of a column.
        n: how many rows there are.
        kept: which of them are looked at, a mask or places.
        read_frame: gives the raw rows of a run, or None for arrays; called for a name only.

    Raises:
        DLStudioError: a name is unknown, lengths differ, a label is missing or no plain value, or there are fewer than
            two clusters.

    Example:
        >>> clusters_of(["ann", "bob", "ann"], 3, [0, 1, 2])
        array([0, 1, 0])
    """
    if given is None:
        return None
    import pandas as pd

    if isinstance(given, str):
        frame = read_frame()
        if frame is None or given not in frame.columns:
            raise unknown_name("column of clusters", given, () if frame is None else map(str, frame.columns))
        given = frame[given]
    labels = as_array(given)
    if labels.ndim != 1:
        raise DLStudioError(f"a cluster for each of the {n:,} rows", f"shape {labels.shape}", "Pass one label per row.")
    values = pd.Series(labels)
    if len(values) != n:
        raise DLStudioError(f"a cluster for each of the {n:,} rows", f"{len(values):,}", "Pass one label per row.")
    try:
        codes, names = pd.factorize(values.iloc[kept])
    except TypeError as error:
        remedy = "Pass one label per row: a number or text."
        raise DLStudioError("labels of clusters that can be told apart", str(error), remedy) from error
    if (codes < 0).any():
        got = f"{int((codes < 0).sum()):,} missing"
        raise DLStudioError("a cluster for every row", got, "Give rows on their own a label of their own.")
    if len(names) < 2:
        raise DLStudioError("two clusters or more", f"{len(names)}", "Leave clusters out.")
    return codes.astype(np.int64)
