"""One door for every kind of data that a recipe may name or hold."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from torch.utils.data import Dataset as TorchDataset

from dlstudio.data.arrays import from_arrays
from dlstudio.data.dataset import Dataset, StreamedDataset
from dlstudio.data.load import load
from dlstudio.data.streams import from_datasets, split_dataset
from dlstudio.errors import DLStudioError, unknown_name

__all__ = ["prepare"]


def prepare(
    data: Any,
    *,
    target: str | None = None,
    sensitive: Sequence[str] = (),
    groups: Any = None,
    seed: int = 0,
    name: str | None = None,
    missing: Literal["error", "impute"] = "error",
) -> Dataset | StreamedDataset:
    """Turn data of any accepted kind into a `Dataset` (in memory) or a `StreamedDataset` (read in batches).

    Args:
        data: one of

            - the name of a bundled set, see `dlstudio.data.load.available`;
            - a `Dataset` or `StreamedDataset`, returned as it is;
            - a DataFrame: numbers are standardised; strings, categories and booleans encoded, with everything learnt
              from the training rows only. A single column of free text becomes token ids;
            - a pair (X, y) of arrays or tensors, taken as they are (see `dlstudio.data.arrays.as_inputs`);
            - ``{"train": …, "val": …, "test": …}`` of map-style torch Datasets, or one of them alone, which is split.
        target: the column of a DataFrame to predict. Strings, booleans, categories and integers are classes,
            floats are quantities.
        sensitive: columns of the frame to assess fairness by. Those of a DataFrame stay in `Dataset.frame` but out of
            the inputs; to let the model see one, pass a copy of it under another name. Data that are ready, such as a
            bundled set, keep their inputs: a column that is among them stays there, and the model sees it.
        groups: rows of a group never land in two parts: a column's name (no feature then) or a label per row.
        seed: of the split, 70 percent to train, 15 to validate and 15 to test, stratified by class.
        name: a name for your own data.
        missing: missing feature values in a DataFrame are an error, or filled with the training median.

    Raises:
        DLStudioError: names what was expected, what came (with counts and columns) and what to do.

    Example:
        >>> prepare(frame, target="approve", sensitive=("race",), groups="applicant")
    """
    sensitive = (sensitive,) if isinstance(sensitive, str) else tuple(sensitive)
    if isinstance(data, (Dataset, StreamedDataset, str)):
        ready = load(data, seed) if isinstance(data, str) else data
        return _with_sensitive(ready, target, sensitive, groups)
    if hasattr(data, "columns") and hasattr(data, "to_numpy"):
        return _frame(data, target, sensitive, groups, seed, name, missing)
    if isinstance(data, (tuple, list)) and len(data) == 2:
        if hasattr(data[0], "columns"):
            return _frame(*_joined(data[0], data[1], target), sensitive, groups, seed, name, missing)
        _columns_need_frame(target, sensitive, groups)
        return from_arrays(*data, groups=groups, seed=seed, name=name or "arrays")
    if isinstance(data, Mapping):
        _columns_need_frame(target, sensitive, groups)
        if groups is not None:
            raise DLStudioError("parts or groups, not both", "groups beside finished parts", "Leave groups out.")
        return from_datasets(data, name=name or "datasets")
    if isinstance(data, TorchDataset):
        _columns_need_frame(target, sensitive, groups)
        return split_dataset(data, groups=groups, seed=seed, name=name or type(data).__name__)
    raise DLStudioError(
        "a bundled name, a DataFrame, a pair (X, y), torch Datasets, or a Dataset of dlstudio",
        type(data).__name__,
        "Pass one of these; a DataFrame needs target= as well.",
    )


def _frame(
    data: Any,
    target: str | None,
    sensitive: Sequence[str],
    groups: Any,
    seed: int,
    name: str | None,
    missing: str,
) -> Dataset:
    from dlstudio.data.frames import from_frame

    if missing not in ("error", "impute"):
        raise unknown_name("missing", missing, ("error", "impute"))
    return from_frame(
        data,
        target=target,
        sensitive=sensitive,
        groups=groups,
        seed=seed,
        name=name or "frame",
        impute=missing == "impute",
    )


def _joined(frame: Any, y: Any, target: str | None) -> tuple[Any, str]:
    """Put a target that came beside its DataFrame into it, row by row; return both together and its name."""
    label = target or getattr(y, "name", None) or "target"
    if label in frame.columns:
        raise DLStudioError(
            "a target that is not among the features",
            f"{label!r} in both",
            "Drop it from X, or pass X alone.",
        )
    if len(y) != len(frame):
        raise DLStudioError("as many targets as rows", f"{len(frame):,} rows and {len(y):,} targets", "Align X and y.")
    values = y.array if hasattr(y, "array") else y
    return frame.assign(**{label: values}), label


def _with_sensitive(
    ready: Dataset | StreamedDataset, target: str | None, sensitive: tuple[str, ...], groups: Any
) -> Dataset | StreamedDataset:
    """Check options that come beside finished data: only the sensitive columns may still be chosen."""
    known = getattr(ready, "target_name", None)
    if target not in (None, known) or groups is not None:
        asked = f"target={target!r}" if groups is None else "groups"
        raise DLStudioError(
            f"data set {ready.name!r} as it is, with its own target and splits",
            asked,
            "Leave that out, or pass the set's .frame with target and groups of your choice.",
        )
    if not sensitive:
        return ready
    frame = ready.frame if isinstance(ready, Dataset) else None
    if frame is None or not isinstance(ready, Dataset):
        raise DLStudioError("data with named columns", f"sensitive={sensitive} for arrays", "Pass a DataFrame.")
    for column in sensitive:
        if column not in frame.columns:
            raise unknown_name("column", column, map(str, frame.columns))
    return dataclasses.replace(ready, sensitive=sensitive)


def _columns_need_frame(target: str | None, sensitive: Sequence[str], groups: Any) -> None:
    if target is not None or sensitive or isinstance(groups, str):
        raise DLStudioError(
            "a DataFrame where columns are named",
            f"arrays or Datasets with target={target!r}, sensitive={tuple(sensitive)!r}, groups={groups!r}",
            "Pass a DataFrame, or leave the names out.",
        )
