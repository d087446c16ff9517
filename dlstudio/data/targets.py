"""From a raw target column to class indices or values, and the task that follows from it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from dlstudio.data.splits import distinct
from dlstudio.errors import DLStudioError

__all__ = ["Target", "encode_target"]

# Integer targets with more distinct values than this, and than a tenth of the rows, are quantities.
MANY_VALUES = 100


@dataclass(frozen=True, kw_only=True)
class Target:
    """An encoded target: `values` int64 class indices or float32, and what they mean."""

    values: torch.Tensor
    task: str
    class_names: tuple[str, ...]

    @property
    def classes(self) -> np.ndarray | None:
        """The class indices to stratify by, or None for regression."""
        return None if self.task == "regression" else self.values.numpy()


def encode_target(column: np.ndarray, name: str = "target", order: tuple[object, ...] | None = None) -> Target:
    """Encode a target column and infer the task from its type.

    Strings, booleans and integers are classes, floats are quantities. Two exceptions: floats that are all 0
    or 1 are two classes, and integers with very many distinct values are quantities.

    Args:
        column: (n,) raw values; objects are read as strings.
        name: the column's name, for messages.
        order: the classes in their order, where the data knows one; sorted otherwise.

    Returns:
        The target; class index i belongs to ``class_names[i]``.

    Raises:
        DLStudioError: values are missing or not finite, or there is only one class or value.
    """
    if column.dtype.kind in "OUS":
        bad = np.array([value is None or value != value for value in column], dtype=bool)
    else:
        bad = ~np.isfinite(column) if column.dtype.kind == "f" else np.zeros(len(column), dtype=bool)
    if bad.any():
        raise DLStudioError(
            "a target for every row",
            f"{int(bad.sum()):,} of {len(column):,} values of {name!r} missing, NaN or infinite",
            "Drop those rows before training.",
        )
    kind = column.dtype.kind
    different = distinct(column.astype(str) if kind in "OS" else column)
    if len(different) < 2:
        raise DLStudioError(
            "at least two different target values",
            f"only {different[0]!s} in all {len(column):,} rows of {name!r}",
            "Check the filter that made this data, or choose another target column.",
        )
    quantity = (kind == "f" and not np.isin(different, (0.0, 1.0)).all()) or (
        kind in "iu" and len(different) > max(MANY_VALUES, len(column) // 10)
    )
    if quantity:
        values = torch.from_numpy(np.ascontiguousarray(column, dtype=np.float32))
        return Target(values=values, task="regression", class_names=())
    known: list[object] = list(different.tolist()) if order is None else list(order)
    index = {str(value): position for position, value in enumerate(known)}
    names = tuple(f"{value:g}" if isinstance(value, float) else str(value) for value in known)
    encoded = np.fromiter((index[str(value)] for value in column.tolist()), dtype=np.int64, count=len(column))
    return Target(
        values=torch.from_numpy(encoded),
        task="binary" if len(known) == 2 else "multiclass",
        class_names=names,
    )
