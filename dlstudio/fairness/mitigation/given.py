"""What a trade-off is worked out of: arrays or a run, in a part to find thresholds on and one to judge them on."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from dlstudio.data.groups import AND, group_names
from dlstudio.errors import DLStudioError
from dlstudio.fairness.mitigation.rates import binary, scores_of
from dlstudio.fairness.mitigation.taken import taken_of
from dlstudio.fairness.mitigation.thresholds import GroupThresholds

if TYPE_CHECKING:
    from dlstudio.runs.run import Run
    from dlstudio.training.predicted import Predicted

__all__ = ["Given", "Variant", "given_of", "needs_of"]

Array = npt.NDArray[np.float64]
Whole = npt.NDArray[np.int64]


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Variant:
    """Scores of the judged part, the sensitive columns among the inputs, and whether decisions need the group."""

    scores: Array
    taken: tuple[str, ...] | None = None
    needs: bool | None = None


def needs_of(taken: tuple[str, ...] | None) -> bool | None:
    return None if taken is None else bool(taken)


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Given:
    """Rows of both parts, which sensitive columns the model takes, and variants of it."""

    y: Whole
    scores: Array
    names: npt.NDArray[np.str_]
    feature: str
    fit: Whole
    judge: Whole
    variants: dict[str, Variant]
    taken: tuple[str, ...] | None = None
    positive: str = "1"
    data: str = ""
    run: str = ""


def given_of(y_true: Any, y_score: Any, sensitive: Any, variants: Mapping[str, Any], seed: int) -> Given:
    from dlstudio.runs.run import Run

    if isinstance(y_true, (str, Run)):
        return _of_run(y_true, y_score, sensitive, variants)
    if y_score is None:
        raise DLStudioError("scores beside targets", "y_score=None", "Pass probabilities of class 1, or a run.")
    y, scores = binary(y_true, y_score)
    feature, names = group_names(sensitive, len(y))
    fit = np.zeros(len(y), dtype=np.bool_)
    generator = np.random.default_rng(seed)
    cells = np.unique(np.char.add(np.char.add(names, "\0"), y.astype(str)), return_inverse=True)[1]
    for cell in range(int(cells.max()) + 1):  # every group and class goes into both halves
        rows = generator.permutation(np.flatnonzero(cells == cell))
        fit[rows[: (len(rows) + cell % 2) // 2]] = True
    fit_rows, judge = np.flatnonzero(fit), np.flatnonzero(~fit)
    others = {}
    for name, other in variants.items():
        if isinstance(other, (str, Run)):
            raise DLStudioError(
                f"scores of {len(y):,} rows as variant {name!r}", "a run", "Pass y_true as a run as well."
            )
        others[_new(name)] = Variant(scores=scores_of(other, len(y), f"variant {name!r}")[judge])
    return Given(
        y=y, scores=scores, names=names, feature=feature, fit=fit_rows, judge=judge, variants=others,
    )  # fmt: skip


def _of_run(run: Run | str, y_score: Any, sensitive: Any, variants: Mapping[str, Any]) -> Given:
    from dlstudio.runs.run import Run
    from dlstudio.training.predicted import predictions_of

    if y_score is not None:
        raise DLStudioError("a run alone", "y_score beside it", "The run's stored scores are taken.")
    parts = [predictions_of(run, "val"), predictions_of(run, "test")]
    val, test = parts
    if test.task != "binary":
        raise DLStudioError("a run of two classes", f"a {test.task} run", "Thresholds decide between two classes.")
    columns = [sensitive] if isinstance(sensitive, str) else sensitive
    if not isinstance(columns, (list, tuple)) or not all(isinstance(name, str) for name in columns):
        raise DLStudioError(
            "names of columns of the run's data", f"a {type(sensitive).__name__}", "Try sensitive_features=['race']."
        )
    labelled = [group_names(columns, len(part), part.frame) for part in parts]
    y = np.concatenate([part.y_true for part in parts])
    y, scores = binary(y, np.concatenate([np.asarray(part.y_score, dtype=np.float64) for part in parts]))
    others = {}
    for name, other in variants.items():
        if isinstance(other, (str, Run)):
            others[_new(name)] = _variant_of(name, other, test, columns)
        else:
            others[_new(name)] = Variant(scores=scores_of(other, len(test), f"variant {name!r}"))
    return Given(
        y=y,
        scores=scores,
        names=np.concatenate([names for _, names in labelled]),
        feature=labelled[0][0],
        fit=np.arange(len(val)),
        judge=np.arange(len(val), len(val) + len(test)),
        variants=others,
        taken=taken_of(test.dataset, columns),
        positive=test.class_names[1],
        data=test.data,
        run=test.run,
    )


def _variant_of(name: str, run: Run | str, test: Predicted, columns: Sequence[str]) -> Variant:
    """What another run says of the same test rows."""
    from dlstudio.runs.kept import kept
    from dlstudio.runs.run import open_run
    from dlstudio.training.predicted import predictions_of

    found = predictions_of(run, "test")
    if found.task != "binary" or not np.array_equal(found.rows, test.rows):
        raise DLStudioError(
            f"a variant {name!r} with the same test rows", "other rows or classes", "Train it on the same data."
        )
    if found.data != test.data or not np.array_equal(found.y_true, test.y_true):
        got = f"a run on {found.data!r}" if found.data != test.data else "other targets of these rows"
        raise DLStudioError(f"a variant {name!r} with the targets of {test.data!r}", got, "Train it on the same data.")
    taken = taken_of(found.dataset, columns)
    by_group = kept(open_run(run) if isinstance(run, str) else run, "group-thresholds", GroupThresholds)
    needs = needs_of(taken)
    if by_group is not None and set(by_group.sensitive_feature.split(AND)) & set(columns):
        needs = True
    return Variant(scores=scores_of(found.y_score, len(test), f"variant {name!r}"), taken=taken, needs=needs)


def _new(name: Any) -> str:
    if not isinstance(name, str) or not name.strip() or name == "as it is":
        raise DLStudioError("a name for every variant", repr(name), "Try 'reweighed'.")
    return name
