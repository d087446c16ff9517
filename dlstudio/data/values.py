"""Values of rows as callers pass them: tensors of any kind as arrays, and pandas objects in one order of rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from dlstudio.errors import DLStudioError

__all__ = ["as_array", "counts_rows", "in_one_order", "off_torch"]


def as_array(given: Any, dtype: npt.DTypeLike | None = None) -> npt.NDArray[Any]:
    """Return values as an array; tensors may need a gradient and lie on any device.

    Types that numpy does not know, such as bfloat16, become float32.

    Args:
        given: a tensor, a list of some, or anything that ``numpy.asarray`` takes.
        dtype: as ``numpy.asarray``.

    Example:
        >>> as_array(torch.tensor([0.5], dtype=torch.bfloat16, requires_grad=True))
        array([0.5], dtype=float32)
    """
    if isinstance(given, (list, tuple)) and given and hasattr(given[0], "requires_grad"):
        given = [off_torch(one) for one in given]
    return np.asarray(off_torch(given), dtype=dtype)


def off_torch(given: Any) -> Any:
    """Return a tensor as an array, as `as_array` does, and anything else as it came."""
    if not hasattr(given, "requires_grad"):
        return given
    try:
        return given.numpy(force=True)
    except TypeError:
        return given.float().numpy(force=True)


def in_one_order(**given: Any) -> list[Any]:
    """Return what was given of the same rows, with pandas objects in the order of the first of them.

    Rows with labels (an index) go by these. What has none goes by position: arrays, lists, tensors, and pandas objects
    whose index counts from 0, as pandas does by itself; beside these, those with labels must be in one order already.

    Args:
        given: by name, values of rows: Series, DataFrames, arrays, mappings of these, or None.

    Raises:
        DLStudioError: labels are not the same, or repeat in another order, or orders differ beside values without
            labels, or one has the numbers that count another's rows in another order, so that either may be meant.
            Different lengths are left to the caller.

    Example:
        >>> y, p = in_one_order(y=pd.Series([0, 1], index=["a", "b"]), p=pd.Series([0.9, 0.2], index=["b", "a"]))
        >>> p.tolist()
        [0.2, 0.9]
    """
    indices = {name: one.index for name, one in _parts(given) if hasattr(one, "index") and hasattr(one, "iloc")}
    known = {name: index for name, index in indices.items() if not counts_rows(index)}
    if not known or len({len(index) for index in indices.values()}) != 1:
        return list(given.values())
    (first, index), *others = known.items()
    counted = [name for name in indices if name not in known]
    if counted and index.is_unique and index.isin(np.arange(len(index))).all():
        raise DLStudioError(
            f"rows in one order in {counted[0]} and {first}",
            "row numbers in another order, which may be labels or left over from shuffling",
            "Put both in one order, or pass .to_numpy() of each where they are.",
        )
    moved = {name: its for name, its in others if not its.equals(index)}
    for name, its in moved.items():
        if not (its.is_unique and index.is_unique):
            got = f"labels that repeat, in another order in {name}"
        elif len(strange := its.difference(index, sort=False)):
            rows = f"{len(strange):,} row{'s' * (len(strange) > 1)}"
            got = f"{rows} of {name} that {first} does not have, such as {strange[0]}"
        else:
            continue
        remedy = "Give them one index; or pass .to_numpy() of each, if their rows are in the same order."
        raise DLStudioError(f"rows with the same labels (index) in {first} and {name}", got, remedy)
    if not moved:
        return list(given.values())
    bare = [
        name
        for name, one in _parts(given)
        if name not in known and hasattr(one, "__len__") and not isinstance(one, str)
    ]
    if bare:
        raise DLStudioError(
            f"{first} and {next(iter(moved))} in one order of rows, as {bare[0]} has no labels (index) to go by",
            "the same labels in another order",
            f"Pass {bare[0]} with its index too, or put the others in its order first.",
        )
    return [_moved(name, value, index, moved) for name, value in given.items()]


def counts_rows(index: Any) -> bool:
    """Whether an index is the one that pandas gives to what has none."""
    return len(index) == 0 or (index.dtype.kind in "iu" and np.array_equal(index, np.arange(len(index))))


def _parts(given: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, value in given.items():
        if isinstance(value, Mapping):
            yield from ((f"{name}[{key!r}]", one) for key, one in value.items())
        else:
            yield name, value


def _moved(name: str, value: Any, index: Any, moved: Mapping[str, Any]) -> Any:
    if isinstance(value, Mapping):
        return {key: _moved(f"{name}[{key!r}]", one, index, moved) for key, one in value.items()}
    return value.iloc[moved[name].get_indexer(index)] if name in moved else value
