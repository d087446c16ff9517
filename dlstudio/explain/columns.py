"""The columns of a table as people know them, and how each is written into the model's input."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from dlstudio.data.dataset import Dataset
from dlstudio.errors import DLStudioError, unknown_name

__all__ = ["TableColumn", "edited", "line_of", "read_columns"]

Array = npt.NDArray[Any]
MISSING = "missing"


@dataclass(frozen=True, kw_only=True, eq=False)
class TableColumn:
    """One original column of a table.

    Attributes:
        name: as in the table.
        features: positions in the model's input that it decides.
        labels: its categories, one a feature in their order; () for numbers.
        numbers: float (n,), the raw numbers of all rows, NaN where missing or coded so; None for categories.
        offset, slope: a number enters the input as ``(number - offset) / slope``.
        step: 1 where all numbers are whole, else 0.
    """

    name: str
    features: tuple[int, ...]
    labels: tuple[str, ...] = ()
    numbers: Array | None = None
    offset: float = 0.0
    slope: float = 1.0
    step: float = 0.0

    def shown(self, inputs: Array) -> list[str]:
        """Return what this column of encoded rows (n, features) reads as."""
        if self.labels:
            block = inputs[:, list(self.features)]
            return [self.labels[int(row.argmax())] if row.max() > 0 else "another" for row in block]
        absent = inputs[:, self.features[1]] > 0.5 if len(self.features) > 1 else np.zeros(len(inputs), dtype=bool)
        numbers = self.values(inputs).tolist()
        return [MISSING if gone else self._plain(number) for number, gone in zip(numbers, absent, strict=True)]

    def values(self, inputs: Array) -> Array:
        """Return the raw numbers of encoded rows, or the position of their category in `labels` (-1 for another)."""
        if self.labels:
            block = inputs[:, list(self.features)]
            return np.where(block.max(axis=1) > 0, block.argmax(axis=1), -1).astype(np.float64)
        raw = inputs[:, self.features[0]] * self.slope + self.offset
        return np.round(raw) if self.step else raw

    def _plain(self, number: float) -> str:
        # Single precision of the encoding shows in the seventh digit.
        return f"{number:,.0f}" if self.step or abs(number) >= 1e5 else f"{number:.5g}"

    def write(self, value: Any, row: Array) -> None:
        """Write a raw value into an encoded row (features,).

        Raises:
            DLStudioError: the value is no category of this column, or no finite number.
        """
        if self.labels:
            if str(value) not in self.labels:
                raise unknown_name(f"category of {self.name!r}", value, self.labels)
            row[list(self.features)] = 0
            row[self.features[self.labels.index(str(value))]] = 1
            return
        try:
            number = float(value)
        except (TypeError, ValueError):
            number = np.nan
        if not np.isfinite(number):
            raise DLStudioError(f"a number for {self.name!r}", repr(value), "Write for instance 1.5.")
        row[list(self.features)] = 0
        row[self.features[0]] = (number - self.offset) / self.slope


def read_columns(dataset: Dataset) -> tuple[TableColumn, ...]:
    """Return the columns of a tabular data set in the order of its inputs.

    Without a DataFrame behind it every feature is a column of its own, and its numbers are taken as they are.

    Raises:
        DLStudioError: the data set is no table.
    """
    if dataset.modality != "tabular":
        raise DLStudioError("a tabular data set", f"{dataset.name!r}, {dataset.modality}", "Choose a table.")
    n_features = dataset.inputs.shape[1]
    names = dataset.feature_names or tuple(f"feature {at}" for at in range(n_features))
    made_from = dataset.column_of_feature or names
    inputs = dataset.inputs.numpy().astype(np.float64)
    return tuple(
        _read(column, tuple(at for at in range(n_features) if made_from[at] == column), names, inputs, dataset)
        for column in dict.fromkeys(made_from)
    )


def edited(row: torch.Tensor, columns: Mapping[str, TableColumn], changes: Mapping[str, Any]) -> torch.Tensor:
    """Return a copy of an encoded row (features,) with raw values written into some columns.

    Raises:
        DLStudioError: a column is unknown, or a value does not fit it.
    """
    changed = row.numpy().astype(np.float64)
    for name, value in changes.items():
        if name not in columns:
            raise unknown_name("column", name, columns)
        columns[name].write(value, changed)
    return torch.from_numpy(changed).to(row.dtype)


def _read(name: str, features: tuple[int, ...], names: tuple[str, ...], inputs: Array, dataset: Dataset) -> TableColumn:
    head = f"{name}="
    first = names[features[0]]
    if dataset.column_of_feature and first.startswith(head) and first != name:
        return TableColumn(name=name, features=features, labels=tuple(names[at][len(head) :] for at in features))
    encoded = inputs[:, features[0]]
    frame = dataset.frame
    if frame is None or name not in frame.columns:
        return TableColumn(name=name, features=features, numbers=encoded)
    offset, slope, numbers = line_of(frame[name], encoded)
    known = numbers[np.isfinite(numbers)]
    whole = bool(len(known)) and bool(np.all(known == np.round(known)))
    return TableColumn(
        name=name, features=features, numbers=numbers, offset=offset, slope=slope, step=1.0 if whole else 0.0
    )


def line_of(raw: Any, encoded: Array) -> tuple[float, float, Array]:
    """Return offset and slope with ``raw = slope * encoded + offset``, and the raw numbers, NaN where one is missing.

    Data sets keep no encoder, so both are read off the rows. Missing values were filled, some of them behind codes
    such as 999: those rows do not lie on the line that all others share.
    """
    if raw is None:
        return 0.0, 1.0, encoded
    numbers = raw.to_numpy(dtype=np.float64, na_value=np.nan)
    rows = np.flatnonzero(np.isfinite(numbers))
    rows = rows[np.argsort(encoded[rows], kind="stable")]
    half = len(rows) // 2
    ones, others = rows[: len(rows) - half], rows[half:]
    width = encoded[others] - encoded[ones]
    apart = width > 1e-6
    slope = float(np.median((numbers[others] - numbers[ones])[apart] / width[apart])) if apart.any() else 1.0
    offset = float(np.median(numbers[rows] - slope * encoded[rows])) if len(rows) else 0.0
    on_line = np.abs(numbers - slope * encoded - offset) <= 1e-3 * abs(slope)
    if slope == 0 or on_line.sum() < len(rows) / 2:
        return 0.0, 1.0, encoded
    if apart.any():
        slope, offset = (float(item) for item in np.polyfit(encoded[on_line], numbers[on_line], 1))
    return offset, slope, np.where(on_line, numbers, np.nan)
