"""What predictions are of, judged by the values: two classes, more classes, or quantities."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from dlstudio.errors import DLStudioError, unknown_name

__all__ = ["OFF_ONE", "TASKS", "sum_to_one", "task_of"]

Array = npt.NDArray[Any]

TASKS = ("binary", "multiclass", "regression")
OFF_ONE = 0.01
"""How far probabilities of a row may sum from 1: half precision needs it."""


def task_of(y_true: Array, y_pred: Array | None = None, y_score: Array | None = None, task: str | None = None) -> str:
    """Return ``"binary"``, ``"multiclass"`` or ``"regression"``.

    Text, booleans and whole numbers, also those stored as floats, are classes; numbers with a fraction are quantities.
    Scores are of classes.

    Args:
        y_true, y_pred: (n,) labels or values, none missing or infinite.
        y_score: (n,) or (n, classes).
        task: what it is, where that is known; the values only have to fit then.

    Raises:
        DLStudioError: there is no such task, or what has to be classes has fractions, such as a `y_pred` of
            probabilities beside a `y_true` of 0 and 1.

    Example:
        >>> task_of(np.array([0.0, 1.0]), np.array([1, 1])), task_of(np.array([0.5, 1.0]), np.array([0.4, 1.2]))
        ('binary', 'regression')
    """
    if task not in (None, *TASKS):
        raise unknown_name("task", task, TASKS)
    given = {"y_true": y_true} if y_pred is None else {"y_true": y_true, "y_pred": y_pred}
    fractions = {name: values[values != np.round(values)] for name, values in given.items() if values.dtype.kind == "f"}
    outcomes = y_true.dtype.kind in "biuf" and bool(np.isin(y_true, (0, 1)).all())
    broken = any(len(some) for some in fractions.values())
    if task == "regression" or (task is None and y_score is None and broken and not outcomes):
        return "regression"
    for name, some in fractions.items():
        if len(some):
            raise DLStudioError(
                f"class indices 0, 1, … or other labels in {name}",
                f"{some[0]:g} and {len(some) - 1:,} more with a fraction",
                "Pass probabilities as y_score=, and what was decided as y_pred; for amounts pass task='regression'."
                if name == "y_pred"
                else "Turn labels into 0, 1, … first; leave y_score out, or pass task='regression', for amounts.",
            )
    if task is not None:
        return task
    n_labels = len(np.unique(np.concatenate([np.unique(values) for values in given.values()])))
    n_scores = 1 if y_score is None or y_score.ndim == 1 else y_score.shape[1]
    return "binary" if n_labels <= 2 and n_scores <= 2 else "multiclass"


def sum_to_one(y_score: Array) -> None:
    """Check probabilities of every class (n, classes).

    Raises:
        DLStudioError: those of some row do not sum to 1.
    """
    sums = y_score.sum(axis=1)
    if np.any(np.abs(sums - 1) > OFF_ONE):
        worst = sums[np.abs(sums - 1).argmax()]
        raise DLStudioError("probabilities that sum to 1 in a row", f"{worst:.3g}", "Pass the softmax of the logits.")
