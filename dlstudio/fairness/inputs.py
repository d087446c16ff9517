"""What is audited: targets, predictions and scores, checked, as one yes-or-no question per class."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from dlstudio.data.tasks import sum_to_one, task_of
from dlstudio.data.values import as_array
from dlstudio.errors import DLStudioError, unknown_name

__all__ = ["Outcome", "Subject", "read_arrays"]

Array = npt.NDArray[Any]
MOST_CLASSES = 20
LARGE = 2.0**53
"""Up to here, floats hold every whole number."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Outcome:
    """One question that was predicted: is it this class? Or, for regression, how much?

    Attributes:
        name: the class; "" where there is only one question.
        y_true, y_pred: (n,) bool, or float64 for regression.
        y_score: float64 (n,), the predicted probability; None where unknown.
    """

    name: str
    y_true: Array
    y_pred: Array
    y_score: Array | None


@dataclass(frozen=True, kw_only=True, eq=False)
class Subject:
    """Checked predictions.

    Attributes:
        task: ``"binary"``, ``"multiclass"`` or ``"regression"``.
        outcomes: one for binary and regression, one per class otherwise.
        positive: what the positive class of a binary task is called.
        kept: int64, places of the rows that are audited.
        dropped: why other rows are not, and how many.
        right: bool (n,), whether the predicted class is the true one; None for regression.
    """

    task: str
    outcomes: tuple[Outcome, ...]
    positive: str
    kept: npt.NDArray[np.int64]
    dropped: dict[str, int]
    right: Array | None


def read_arrays(
    y_true: Any, y_pred: Any, y_score: Any, *, positive: Any = None, task: str | None = None, names: Sequence[str] = ()
) -> Subject:
    """Check targets, predictions and scores against each other.

    Args:
        y_true, y_pred: (n,) labels or values.
        y_score: (n,) probabilities of the positive class, (n, classes), or None. Whole labels below the number of
            classes are the places of their columns; others are in the order of their columns.
        positive: which label is the positive one; None takes 1 of 0 and 1.
        task: what it is; None judges by the values, as `dlstudio.data.tasks.task_of`.
        names: of the classes, where labels are their indices.

    Rows in which a value is missing or infinite are left out and counted.

    Raises:
        DLStudioError: lengths differ, labels are not 0 and 1 and `positive` is not given, scores are no
            probabilities, or there are more than 20 classes without scores.
    """
    if y_pred is None:
        raise DLStudioError(
            "predictions beside the targets",
            "y_pred=None",
            "Pass y_pred, for instance y_score >= 0.5, or a run whose predictions are stored.",
        )
    true, pred = _column("y_true", y_true), _column("y_pred", y_pred)
    if len(true) != len(pred):
        raise DLStudioError(
            "a prediction for every target",
            f"{len(true):,} targets and {len(pred):,} predictions",
            "Pass both of the same rows.",
        )
    if not len(true):
        raise DLStudioError("one row or more", "none", "Check the filter that made these rows.")
    score = None if y_score is None else _scores(y_score)
    if score is not None and score.ndim == 2 and score.shape[1] == 1:
        score = score[:, 0]
    if score is not None and (score.ndim not in (1, 2) or len(score) != len(true)):
        raise DLStudioError(
            f"{len(true):,} scores, or as many rows of them",
            f"shape {score.shape}",
            "Pass the scores of the same rows.",
        )
    bad = {
        f"{name} is {what}": rows
        for name, values in (("y_true", true), ("y_pred", pred), ("y_score", score))
        if values is not None
        for what, rows in (("missing", _missing(values)), ("infinite", _infinite(values)))
    }
    gone: Array = np.zeros(len(true), dtype=bool)
    dropped = {}
    for why, rows in bad.items():
        if n := int((rows & ~gone).sum()):
            dropped[why] = n
        gone = np.logical_or(gone, rows)
    kept = np.flatnonzero(~gone)
    if not len(kept):
        raise DLStudioError("one row or more with target and prediction", f"none of {len(true):,}", "Check the inputs.")
    true, pred = _plain(true[kept]), _plain(pred[kept])
    score = None if score is None else score[kept]
    if true.dtype.kind != pred.dtype.kind:
        true, pred = _of_one_kind(true, pred)
    task = task_of(true, pred, score, task)
    if task == "regression":
        if positive is not None:
            raise DLStudioError("two classes for positive=", "a regression", "Leave it out.")
        if score is not None:
            raise DLStudioError("no scores for regression", "y_score", "Leave y_score out: y_pred says it all.")
        values = Outcome(name="", y_true=_numbers(true), y_pred=_numbers(pred), y_score=None)
        return Subject(task=task, outcomes=(values,), positive="", kept=kept, dropped=dropped, right=None)
    if score is not None and not ((score >= 0) & (score <= 1)).all():
        low, high = score.min(), score.max()
        raise DLStudioError(
            "probabilities from 0 to 1 as y_score",
            f"values from {low:g} to {high:g}",
            "Pass logits through a sigmoid or softmax first.",
        )
    if score is not None and score.ndim == 2:
        sum_to_one(score)
    true, pred = _whole(true), _whole(pred)
    labels = list(range(len(names))) if names else np.unique(np.concatenate([true, pred])).tolist()
    if score is not None and score.ndim == 2 and true.dtype.kind in "iu" and set(labels) <= set(range(score.shape[1])):
        labels = list(range(score.shape[1]))  # indices of the columns, of which some class may not be there
    if task == "binary":
        yes, shown = _positive(labels, names, positive)
        score = None if score is None else _of_class(score, yes, labels)
        outcomes = [Outcome(name="", y_true=true == yes, y_pred=pred == yes, y_score=score)]
    else:
        shown = ""
        if positive is not None:
            raise DLStudioError(
                "two classes for positive=", f"{len(labels)} classes", "Leave it out: every class is looked at."
            )
        if len(labels) > MOST_CLASSES and score is None and not names:
            raise DLStudioError(
                f"at most {MOST_CLASSES} classes",
                f"{len(labels):,} different labels",
                "Join rare classes first; for amounts pass task='regression'.",
            )
        if score is not None and score.shape[1:] != (len(labels),):
            raise DLStudioError(
                f"a score for each of the {len(labels)} classes",
                f"shape {score.shape}",
                "Pass y_score of shape (n, classes).",
            )
        outcomes = [
            Outcome(
                name=str(names[at] if names else label),
                y_true=true == label,
                y_pred=pred == label,
                y_score=None if score is None else score[:, at],
            )
            for at, label in enumerate(labels)
        ]
    return Subject(task=task, outcomes=tuple(outcomes), positive=shown, kept=kept, dropped=dropped, right=true == pred)


def _scores(given: Any) -> npt.NDArray[np.float64]:
    try:
        return as_array(given, np.float64)
    except (TypeError, ValueError) as error:
        raise DLStudioError("numbers as y_score", str(error)[:80], "Pass predicted probabilities.") from error


def _column(name: str, values: Any) -> Array:
    array = as_array(values)
    if array.dtype.kind in "US" and not hasattr(values, "dtype"):
        array = np.asarray(values, dtype=object)  # NaN is no text
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim != 1 or array.dtype.kind not in "biufOUS":
        raise DLStudioError(f"one value per row in {name}", f"{array.dtype} of shape {array.shape}", "Pass shape (n,).")
    return array


def _missing(values: Array) -> Array:
    import pandas as pd

    return _in_row(np.asarray(pd.isna(values), dtype=bool))


def _infinite(values: Array) -> Array:
    if values.dtype.kind == "O":
        return np.array([isinstance(value, (float, np.floating)) and bool(np.isinf(value)) for value in values])
    if values.dtype.kind != "f":
        return np.zeros(len(values), dtype=bool)
    return _in_row(np.isinf(values))


def _in_row(found: Array) -> Array:
    """Whether anything was found in a row, (n,)."""
    return np.asarray(found if found.ndim == 1 else found.any(axis=1))


def _plain(values: Array) -> Array:
    """Numbers as numbers, everything else as text."""
    if values.dtype.kind != "O":
        return values.astype(np.int64) if values.dtype.kind == "b" else values
    if all(isinstance(value, (bool, int, float, np.number, np.bool_)) for value in values):
        return _plain(np.array(values.tolist()))
    return values.astype(str)


def _whole(labels: Array) -> Array:
    """Whole numbers as integers: a missing value beside them had made them floats."""
    if labels.dtype.kind != "f" or not (np.abs(labels.astype(np.float64)) < LARGE).all():  # float16 ends before LARGE
        return labels
    return labels.astype(np.int64)


def _of_one_kind(true: Array, pred: Array) -> tuple[Array, Array]:
    if true.dtype.kind in "iuf" and pred.dtype.kind in "iuf":
        return true.astype(np.float64), pred.astype(np.float64)
    if true.dtype.kind in "US" and pred.dtype.kind in "US":
        return true.astype(str), pred.astype(str)
    raise DLStudioError(
        "targets and predictions of one kind", f"{true.dtype} and {pred.dtype}", "Use the same labels in both."
    )


def _positive(labels: list[Any], names: Sequence[str], positive: Any) -> tuple[Any, str]:
    """The label of the positive class, and what it is called."""
    if positive is None:
        if set(labels) <= {0, 1}:
            return 1, names[1] if names else "1"
        raise DLStudioError(
            "labels 0 and 1, or the name of the positive class",
            f"the labels {', '.join(map(repr, labels))}",
            f"Pass positive={labels[-1]!r}, if that is the outcome to look at.",
        )
    if names and positive in names:
        return list(names).index(positive), str(positive)
    if positive not in labels and not (positive == 1 and set(labels) <= {0, 1}):
        raise unknown_name("class", positive, map(str, names or labels))
    return positive, str(names[positive] if names else positive)


def _of_class(score: Array, yes: Any, labels: list[Any]) -> Array:
    """The probability of the positive class, (n,)."""
    if score.ndim == 2 and score.shape[1] == 2:
        place = int(yes) if set(labels) <= {0, 1} else labels.index(yes) if len(labels) == 2 else None
        if place is not None:
            return score[:, place]
    if score.ndim == 2:
        raise DLStudioError("one score per row", f"shape {score.shape}", "Pass the probability of the positive class.")
    return score


def _numbers(values: Array) -> npt.NDArray[np.float64]:
    if values.dtype.kind not in "iuf":
        raise DLStudioError("numbers to regress", f"{values.dtype}", "Pass numeric targets and predictions.")
    return values.astype(np.float64)
