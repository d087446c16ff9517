"""Weights of rows that make outcome and group independent."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from dlstudio.data.groups import group_names
from dlstudio.errors import DLStudioError

if TYPE_CHECKING:
    from dlstudio.data.dataset import Dataset, StreamedDataset

__all__ = ["independence_weights", "row_weights"]


def row_weights(dataset: Dataset | StreamedDataset, columns: Sequence[str]) -> npt.NDArray[np.float64]:
    """Return a weight per training row that makes the target independent of sensitive columns.

    Args:
        dataset: of classes, with the columns in its frame.
        columns: whose combinations are the groups, named as by `dlstudio.data.groups.group_names`.

    Raises:
        DLStudioError: the data have no frame or no such column, are a regression, there are more than 50 groups, or one
            lacks a class.
    """
    frame = getattr(dataset, "frame", None)
    if frame is None:
        raise DLStudioError("data with named columns to reweigh by", dataset.name, "Pass a DataFrame.")
    if dataset.task == "regression":
        raise DLStudioError("a classification task for reweigh", "a regression", "Leave reweigh out.")
    rows = dataset.splits["train"]  # type: ignore[union-attr]  # data with a frame lie in memory
    _, names = group_names(list(columns), len(frame), frame)
    targets = dataset.targets[rows].numpy()  # type: ignore[union-attr]
    return independence_weights(np.array(dataset.class_names)[targets], names[rows])


def independence_weights(outcome: Any, group: Any) -> npt.NDArray[np.float64]:
    """Return a weight per row, P(group) P(outcome) / P(group, outcome); their mean is 1.

    With these weights every group has the same share of every outcome.

    Args:
        outcome, group: (n,) of any values that can be told apart.

    Raises:
        DLStudioError: lengths differ, or a group lacks an outcome, which no weight can make up for.
    """
    outcomes, of_outcome = np.unique(np.asarray(outcome), return_inverse=True)
    groups, of_group = np.unique(np.asarray(group), return_inverse=True)
    if len(of_outcome) != len(of_group) or not len(of_group):
        raise DLStudioError(
            "an outcome and a group for every row",
            f"{len(of_outcome):,} outcomes and {len(of_group):,} groups",
            "Align them row by row.",
        )
    counts = np.zeros((len(groups), len(outcomes)))
    np.add.at(counts, (of_group, of_outcome), 1)
    if (counts == 0).any():
        g, o = (int(place[0]) for place in np.nonzero(counts == 0))
        raise DLStudioError(
            "rows of every outcome in every group",
            f"{int(counts[g].sum()):,} rows of group {groups[g]!s} and none of outcome {outcomes[o]!s}",
            "Merge small groups, or leave their rows out.",
        )
    expected = counts.sum(axis=1, keepdims=True) * counts.sum(axis=0, keepdims=True) / len(of_group)
    weights: npt.NDArray[np.float64] = (expected / counts)[of_group, of_outcome]
    return weights
