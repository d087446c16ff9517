"""What happened and what a model said of it, checked: the arrays that calibration and evaluation begin with."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from dlstudio.data.groups import coded, columns_of
from dlstudio.data.tasks import OFF_ONE, sum_to_one, task_of
from dlstudio.data.values import off_torch
from dlstudio.errors import DLStudioError
from dlstudio.runs.run import Run
from dlstudio.trust.given import small_enough

if TYPE_CHECKING:
    import pandas as pd

    from dlstudio.training.predicted import Predicted

__all__ = ["OFF_ONE", "Scored", "as_columns", "label_groups", "read_scored", "subset"]

Array = npt.NDArray[Any]

MAX_CLASSES = 1000


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Scored:
    """Rows that a model has judged, none of them with a value missing or infinite.

    Attributes:
        task: ``"binary"``, ``"multiclass"`` or ``"regression"``.
        y_true: (n,) int64 class indices, or float64 values.
        y_pred: (n,) likewise; None where only scores came.
        y_score: float64 (n,), the probability of class 1 of two; (n, classes) of more; None where none came.
        class_names: one per class; () for regression.
        kept: bool (given,), which of the given rows these are.
        stored: what the run stored, as many rows as were given; None for arrays.
        data, split, run: where they come from; "" for arrays.
        scores_are_probabilities: False for scores of a run that only rank and decide.
    """

    task: str
    y_true: Array
    y_pred: Array | None
    y_score: Array | None
    class_names: tuple[str, ...] = ()
    kept: npt.NDArray[np.bool_]
    stored: Predicted | None = None
    data: str = ""
    split: str = ""
    run: str = ""
    scores_are_probabilities: bool = True

    def __len__(self) -> int:
        return len(self.y_true)

    @property
    def n_dropped(self) -> int:
        """Rows left out because a value was missing or infinite."""
        return int((~self.kept).sum())

    @property
    def frame(self) -> pd.DataFrame | None:
        """The raw rows of a run, as many as were given; None for arrays."""
        return None if self.stored is None else self.stored.frame

    @property
    def n_classes(self) -> int:
        """The number of classes; 0 for regression."""
        return len(self.class_names)


def read_scored(
    y_true: Any, y_pred: Any = None, y_score: Any = None, *, task: str | None = None, split: str = "test"
) -> Scored:
    """Check arrays, or read what a run stored of a part.

    Raises:
        DLStudioError: lengths differ, labels are no class indices, scores are no probabilities, nothing is left, or the
            run stored no predictions.
    """
    if isinstance(y_true, (Run, str)):
        return _of_run(y_true, y_pred, y_score, split)
    if y_pred is None and y_score is None:
        raise DLStudioError("what the model said", "y_true alone", "Pass y_pred=, y_score= or both, or a run.")
    given = {
        name: _array(name, value)
        for name, value in (("y_true", y_true), ("y_pred", y_pred), ("y_score", y_score))
        if value is not None or name == "y_true"
    }
    if len({len(value) for value in given.values()}) > 1:
        got = ", ".join(f"{len(value):,} {name}" for name, value in given.items())
        raise DLStudioError("as many rows of each", got, "Align them row by row.")
    kept = np.ones(len(given["y_true"]), dtype=bool)
    for value in given.values():
        kept &= np.isfinite(value).reshape(len(value), -1).all(axis=1)
    if not kept.any():
        raise DLStudioError("at least one row without missing values", f"none of {len(kept):,}", "Check the arrays.")
    given = {name: value[kept] for name, value in given.items()}
    task = task_of(given["y_true"], given.get("y_pred"), given.get("y_score"), task)
    if task == "regression":
        if "y_score" in given:
            raise DLStudioError("y_pred of a regression", "y_score", "Pass the predicted values as y_pred=.")
        for name, value in given.items():
            small_enough(name, value)
        return Scored(task=task, y_true=given["y_true"], y_pred=given["y_pred"], y_score=None, kept=kept)
    labels = {name: _classes(name, given[name]) for name in ("y_true", "y_pred") if name in given}
    n_classes = 2 if task == "binary" else 1 + max(int(value.max()) for value in labels.values())
    if "y_score" in given and given["y_score"].ndim == 2:
        n_classes = given["y_score"].shape[1]
    scores = _scores(given.get("y_score"), task)
    if n_classes > MAX_CLASSES:
        raise DLStudioError(f"at most {MAX_CLASSES:,} classes", f"{n_classes:,}", "Pass task='regression' for amounts.")
    for name, value in labels.items():
        if int(value.max()) >= n_classes:
            raise DLStudioError(
                f"{name} from 0 to {n_classes - 1}", f"{int(value.max())}",
                "Number the classes 0, 1, …, one a column of y_score; pass task='multiclass' for more than two.",
            )  # fmt: skip
    return Scored(
        task=task, y_true=labels["y_true"], y_pred=labels.get("y_pred"), y_score=scores,
        class_names=tuple(map(str, range(n_classes))), kept=kept,
    )  # fmt: skip


def subset(scored: Scored, chosen: Array) -> Scored:
    """Return some of the rows, by a mask or by places."""
    pick = {
        name: None if value is None else value[chosen]
        for name in ("y_true", "y_pred", "y_score")
        for value in (getattr(scored, name),)
    }
    return dataclasses.replace(scored, **pick, kept=np.ones(len(pick["y_true"]), dtype=bool))  # type: ignore[arg-type]


def label_groups(groups: Any, scored: Scored) -> dict[str, npt.NDArray[np.str_]]:
    """Return the group of every row, by column; a missing value is the group ``"missing"``.

    Args:
        groups: names of a run's columns; or a DataFrame, mapping, Series or array of as many rows as were given.
        scored: the rows.

    Raises:
        DLStudioError: a column is unknown, has one value or more than 50, or another length.
    """
    if groups is None or (isinstance(groups, Sequence) and not groups):
        return {}
    frame = scored.frame if isinstance(groups, (str, list, tuple)) else None
    found = {}
    for name, column in columns_of(groups, len(scored.kept), frame).items():
        codes, names = coded(name, column[scored.kept])
        if len(names) < 2:
            raise DLStudioError(f"two groups or more in {name!r}", f"only {names[0]!r}", "Choose another column.")
        found[name] = np.array(names)[codes]
    return found


def as_columns(rows: Sequence[Mapping[str, Any]]) -> dict[str, Array]:
    """Turn rows of the same names into columns that a result can hold."""
    return {name: np.array([row[name] for row in rows]) for name in (rows[0] if rows else ())}


def _of_run(run: Run | str, y_pred: Any, y_score: Any, split: str) -> Scored:
    from dlstudio.training.predicted import predictions_of

    if y_pred is not None or y_score is not None:
        raise DLStudioError("a run alone", "a run with y_pred or y_score", "It has stored them: leave them out.")
    stored = predictions_of(run, split)
    parts = [value for value in (stored.y_true, stored.y_pred, stored.y_score) if value is not None]
    kept = np.ones(len(stored), dtype=bool)
    for value in parts:
        kept &= np.isfinite(value).reshape(len(value), -1).all(axis=1)
    if not kept.any():
        raise DLStudioError(
            "predictions that are numbers", f"NaN in all {len(kept):,} rows", "The training diverged: train again."
        )
    return Scored(
        task=stored.task, y_true=stored.y_true[kept], y_pred=stored.y_pred[kept],
        y_score=None if stored.y_score is None else stored.y_score[kept],
        class_names=stored.class_names, kept=kept, stored=stored,
        data=stored.data, split=stored.split, run=stored.run,
        scores_are_probabilities=stored.scores_are_probabilities,
    )  # fmt: skip


def _array(name: str, value: Any) -> Array:
    try:
        found = np.asarray(off_torch(value)).astype(np.float64)
    except (TypeError, ValueError) as error:
        raise DLStudioError(
            f"numbers in {name}", f"{type(value).__name__} ({str(error)[:80]})",
            "Pass probabilities: the softmax or the sigmoid of the logits."
            if name == "y_score"
            else "Turn labels into 0, 1, … first, for instance (y == 'yes').astype(int).",
        ) from error  # fmt: skip
    if found.ndim == 2 and found.shape[1] == 1:
        found = found[:, 0]
    if found.ndim != 1 and not (name == "y_score" and found.ndim == 2):
        raise DLStudioError(f"{name} of shape (n,)", f"shape {found.shape}", "Pass one value a row.")
    if not len(found):
        raise DLStudioError("at least one row", f"an empty {name}", "Check the filter that made it.")
    return found


def _classes(name: str, values: Array) -> npt.NDArray[np.int64]:
    if (values < 0).any():
        raise DLStudioError(
            f"class indices 0, 1, … in {name}",
            f"{values[values < 0][0]:g}",
            "Turn labels into 0, 1, … first; for amounts pass task='regression'.",
        )
    if values.max() >= 2.0**63:  # which no whole number of numpy reaches
        got = f"class {values.max():g} in {name}"
        raise DLStudioError(f"at most {MAX_CLASSES:,} classes", got, "Pass task='regression' for amounts.")
    return values.astype(np.int64)


def _scores(scores: Array | None, task: str) -> Array | None:
    if scores is None:
        return None
    outside = (scores < 0) | (scores > 1)
    if outside.any():
        raise DLStudioError(
            "scores from 0 to 1", f"{scores[outside][0]:g} and {int(outside.sum()) - 1:,} more outside",
            "Pass probabilities: the softmax or the sigmoid of the logits.",
        )  # fmt: skip
    if scores.ndim == 1:
        if task == "multiclass":
            raise DLStudioError(
                "y_score of shape (n, classes)", f"shape {scores.shape}", "Pass the probability of every class."
            )
        return scores
    sum_to_one(scores)
    if scores.shape[1] == 2:
        return scores[:, 1]
    if task == "binary":
        raise DLStudioError("y_score of shape (n,) or (n, 2)", f"shape {scores.shape}", "Leave task out.")
    return scores
