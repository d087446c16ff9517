"""Tabular columns to numbers: standardise, one-hot, impute, all learnt from the training rows only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from dlstudio.data.splits import distinct
from dlstudio.errors import DLStudioError

__all__ = ["Encoded", "encode_columns"]

MAX_CATEGORIES = 200
INDICATOR_FROM = 0.01  # below this share of missing training rows an indicator would be all but constant


@dataclass(frozen=True, kw_only=True)
class Encoded:
    """Encoded features: `inputs` float32 (n, features), their names, and the column that each was made
    from."""

    inputs: torch.Tensor
    names: tuple[str, ...]
    columns: tuple[str, ...]


def encode_columns(
    columns: Mapping[str, np.ndarray],
    train: np.ndarray,
    *,
    categorical: Sequence[str] = (),
    impute: bool = False,
) -> Encoded:
    """Encode columns so that nothing of a validation or test row enters the encoding of another row.

    Numbers are standardised with mean and standard deviation of the training rows. Text columns, and those
    named in `categorical`, become one column of 0 and 1 per category seen in training; an unseen category is
    0 everywhere.

    Args:
        columns: name to (n,) array: floats with NaN, or objects with None, where a value is missing.
        train: row indices to learn from.
        categorical: number columns whose values are codes.
        impute: replace missing numbers by the training median, with an indicator column ``NAME=missing``
            where at least one percent of the training rows lack it; a missing category is a category. Without
            it, missing values are an error.

    Raises:
        DLStudioError: values are missing and `impute` is off, infinite, or a column has too many categories.
    """
    check_finite(columns, missing_allowed=impute)
    blocks: list[np.ndarray] = []
    names: list[str] = []
    sources: list[str] = []
    for name, column in columns.items():
        if column.dtype.kind == "O" or name in categorical:
            block, labels = _one_hot(name, column, train)
        else:
            block, labels = _standardise(name, column.astype(np.float64), train)
        blocks.append(block)
        names += labels
        sources += [name] * len(labels)
    inputs = np.concatenate(blocks, axis=1, dtype=np.float32)
    return Encoded(inputs=torch.from_numpy(inputs), names=tuple(names), columns=tuple(sources))


def check_finite(columns: Mapping[str, np.ndarray], *, missing_allowed: bool = False) -> None:
    """Raise a DLStudioError that names columns and counts where values are missing or infinite."""
    infinite = {name: np.isinf(column) for name, column in columns.items() if column.dtype.kind == "f"}
    _raise_if_any(infinite, "infinite", "Replace infinite values, or drop those rows or columns.")
    if not missing_allowed:
        missing = {name: _missing(column) for name, column in columns.items()}
        _raise_if_any(
            missing,
            "missing",
            "Drop those rows or columns, or use dlstudio.data.prepare.prepare(..., missing='impute'), which "
            "fills them with the training median.",
        )


def _raise_if_any(bad: Mapping[str, np.ndarray], what: str, remedy: str) -> None:
    counts = {name: int(mask.sum()) for name, mask in bad.items() if mask.any()}
    if counts:
        n = len(next(iter(bad.values())))
        shown = ", ".join(f"{name!r} ({count:,})" for name, count in list(counts.items())[:8])
        more = f" and {len(counts) - 8} more columns" if len(counts) > 8 else ""
        raise DLStudioError("finite feature values", f"{what} values in {shown}{more} of {n:,} rows", remedy)


def _missing(column: np.ndarray) -> np.ndarray:
    if column.dtype.kind == "O":
        return np.array([value is None for value in column], dtype=bool)
    return np.isnan(column) if column.dtype.kind == "f" else np.zeros(len(column), dtype=bool)


def _standardise(name: str, column: np.ndarray, train: np.ndarray) -> tuple[np.ndarray, list[str]]:
    missing = np.isnan(column)
    known = column[train][~missing[train]]
    filled = np.where(missing, _median(known), column) if missing.any() else column
    mean, scale = filled[train].mean(), filled[train].std()
    # A column that is constant up to rounding carries nothing: scaling it up would be scaling noise.
    scale = scale if scale > 1e-12 * max(1.0, abs(mean)) else 1.0
    scaled = ((filled - mean) / scale)[:, None]
    if missing[train].mean() < INDICATOR_FROM:
        return scaled, [name]
    return np.concatenate([scaled, missing[:, None]], axis=1), [name, f"{name}=missing"]


def _median(values: np.ndarray) -> float:
    """Return the median, 0 of nothing. `np.median` would import `numpy.ma`, a third of the time mortgage loads in."""
    ordered, n = np.sort(values), len(values)
    return float(ordered[(n - 1) // 2] + ordered[n // 2]) / 2 if n else 0.0


def _one_hot(name: str, column: np.ndarray, train: np.ndarray) -> tuple[np.ndarray, list[str]]:
    missing = _missing(column)
    known = distinct(column[~missing])
    shown = known.tolist() if column.dtype.kind == "O" else [f"{value:.12g}" for value in known.tolist()]
    if len(known) > MAX_CATEGORIES:
        raise DLStudioError(
            f"at most {MAX_CATEGORIES} categories in a column",
            f"{len(known):,} in {name!r}",
            "Drop the column if it is an identifier, or group its values.",
        )
    codes = np.full(len(column), len(known))
    codes[~missing] = np.searchsorted(known, column[~missing])
    shown.append("missing")
    seen = np.flatnonzero(np.bincount(codes[train], minlength=len(shown)))
    return (codes[:, None] == seen[None, :]), [f"{name}={shown[index]}" for index in seen]
