"""Whether a model takes the sensitive columns among its inputs: then its decisions need them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dlstudio.data.dataset import Dataset

__all__ = ["taken_of"]


def taken_of(dataset: Dataset | None, columns: Sequence[str]) -> tuple[str, ...] | None:
    """Return which columns are among the inputs of models of a data set; None where its inputs have no names.

    A column that only says the same as an input under another name is not found.

    Example:
        >>> taken_of(load("employment"), ["RAC1P", "year"])
        ('RAC1P',)
    """
    if dataset is None or not dataset.column_of_feature:
        return None
    return tuple(column for column in columns if column in dataset.column_of_feature)
