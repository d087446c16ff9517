"""What a training loop is given: tensors in memory with their splits, or torch Datasets read in batches."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from dlstudio.errors import unknown_name

if TYPE_CHECKING:
    import pandas as pd
    from torch.utils.data import Dataset as TorchDataset

__all__ = ["Dataset", "StreamedDataset", "fingerprint"]


class _ReadOnFirstUse:
    """A field that holds a DataFrame, or a function that reads it when someone first asks.

    Training needs the tensors only, and importing pandas alone costs a third of a second of start-up.
    """

    def __get__(self, instance: Any, owner: type | None = None) -> pd.DataFrame | None:
        if instance is None:
            return None  # what dataclass takes as the default of the field
        value = instance.__dict__["frame"]
        if callable(value):
            value = instance.__dict__["frame"] = value()
        return value  # type: ignore[no-any-return]

    def __set__(self, instance: Any, value: pd.DataFrame | Callable[[], pd.DataFrame] | None) -> None:
        instance.__dict__["frame"] = value


@dataclass(frozen=True, kw_only=True, eq=False)
class Dataset:
    """A data set in memory, encoded and split, with the raw rows beside it.

    Attributes:
        name: a short name, such as ``"mortgage"``.
        modality: ``"tabular"``, ``"image"``, ``"text"`` or ``"sequence"``.
        task: ``"binary"``, ``"multiclass"`` or ``"regression"``.
        inputs: tabular float32 (n, features), image float32 (n, channels, height, width), sequence float32
            (n, time, channels), text int64 token ids (n, length) with 0 as padding.
        targets: int64 (n,) class indices, or float32 (n,) values in the unit of the target column.
        splits: ``"train"``, ``"val"`` and ``"test"`` to int64 row indices; no row is in two of them.
        feature_names: one per encoded feature, or per channel of a sequence; () for images and text.
        class_names: one per class; () for regression.
        target_name: the column that is predicted.
        frame: the raw rows, aligned with `inputs`, before any encoding; read on first use; None where a row
            is only an array.
        sensitive: columns of `frame` to assess fairness by.
        column_of_feature: for every encoded feature the column it was made from.
        vocabulary: text: index to token; otherwise ().
        fingerprint: SHA-256 of inputs, targets and splits: one value or one row moved, another fingerprint.

    Example:
        >>> x, y = load("mortgage").split("train")
    """

    name: str
    modality: str
    task: str
    inputs: torch.Tensor
    targets: torch.Tensor
    splits: Mapping[str, np.ndarray]
    feature_names: tuple[str, ...] = ()
    class_names: tuple[str, ...] = ()
    target_name: str = "target"
    frame: _ReadOnFirstUse = _ReadOnFirstUse()
    sensitive: tuple[str, ...] = ()
    column_of_feature: tuple[str, ...] = ()
    vocabulary: tuple[str, ...] = ()
    fingerprint: str = ""

    def __post_init__(self) -> None:
        if not self.fingerprint:
            object.__setattr__(self, "fingerprint", fingerprint(self.inputs, self.targets, self.splits))

    def __len__(self) -> int:
        return len(self.targets)

    def __repr__(self) -> str:
        parts = ", ".join(f"{name} {len(rows):,}" for name, rows in self.splits.items())
        return (
            f"Dataset({self.name!r}, {self.modality}, {self.task}, {len(self):,} rows of "
            f"{tuple(self.input_shape)}, {parts}, fingerprint {self.fingerprint[:12]})"
        )

    @property
    def n_classes(self) -> int:
        """The number of classes; 0 for regression."""
        return len(self.class_names)

    @property
    def input_shape(self) -> tuple[int, ...]:
        """The shape of one row of `inputs`."""
        return tuple(self.inputs.shape[1:])

    def split(self, name: str) -> tuple[torch.Tensor, torch.Tensor]:
        """Return inputs and targets of one part (``"train"``, ``"val"`` or ``"test"``) as new tensors."""
        if name not in self.splits:
            raise unknown_name("split", name, self.splits)
        rows = torch.from_numpy(self.splits[name])
        return self.inputs[rows], self.targets[rows]


@dataclass(frozen=True, kw_only=True, eq=False)
class StreamedDataset:
    """Torch Datasets that are read in batches through a DataLoader; each item is ``(input, target)``.

    Attributes:
        train, val: map-style torch Datasets.
        test: the same, or None.
        task: ``"binary"``, ``"multiclass"`` or ``"regression"``.
        n_classes: the number of classes; 0 for regression.
        input_shape: the shape of one input.
        name: a short name.
        fingerprint: SHA-256 of sizes, targets and the first and last input of every part. Inputs are not read
            through: two sets that differ in other inputs only have the same fingerprint.
        modality: judged from the first input, as for arrays.
    """

    train: TorchDataset[Any]
    val: TorchDataset[Any]
    test: TorchDataset[Any] | None
    task: str
    n_classes: int
    input_shape: tuple[int, ...]
    name: str
    fingerprint: str
    modality: str

    @property
    def class_names(self) -> tuple[str, ...]:
        """The class indices as strings; () for regression."""
        return tuple(str(index) for index in range(self.n_classes))


def fingerprint(inputs: torch.Tensor, targets: torch.Tensor, splits: Mapping[str, np.ndarray]) -> str:
    """Return the SHA-256 of the content as 64 hexadecimal digits: shapes, types and every byte."""
    digest = hashlib.sha256()
    arrays = {"inputs": inputs.numpy(force=True), "targets": targets.numpy(force=True)}
    arrays |= {name: splits[name] for name in sorted(splits)}
    for name, array in arrays.items():
        little = array.astype(array.dtype.newbyteorder("<"), copy=False)
        digest.update(f"{name} {little.dtype.str} {little.shape}\n".encode())
        digest.update(np.ascontiguousarray(little).data)
    return digest.hexdigest()
