"""The trade-off: what a smaller gap between groups costs in accuracy, judged on rows that nothing was fitted on."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from dlstudio import stats
from dlstudio.errors import DLStudioError
from dlstudio.fairness.mitigation.naming import group_names
from dlstudio.fairness.mitigation.rates import binary, counts_of, criterion_named, gap_of
from dlstudio.fairness.mitigation.thresholds import MIN_DENOMINATOR, Search, accuracy_of
from dlstudio.fairness.mitigation.trade_off_result import TradeOff, findings_of
from dlstudio.runs.kept import keep

if TYPE_CHECKING:
    from dlstudio.runs.run import Run

__all__ = ["trade_off"]

Array = npt.NDArray[np.float64]
Whole = npt.NDArray[np.int64]


def trade_off(
    y_true: Any,
    y_score: Any = None,
    *,
    sensitive_features: Any,
    criterion: str = "demographic_parity_difference",
    variants: Mapping[str, Any] | None = None,
    n_points: int = 21,
    threshold: float = 0.5,
    min_denominator: int = MIN_DENOMINATOR,
    level: float = 0.95,
    seed: int = 0,
) -> TradeOff:
    """Measure accuracy against the gap between groups, for thresholds by group and for variants of the model.

    Thresholds are found on one part of the rows and judged on the other: a run's validation and test part, or two
    halves of arrays.

    Args:
        y_true: (n,) of 0 and 1; or a run of two classes (or its name), whose stored predictions are taken.
        y_score: (n,) probabilities of class 1; None for a run.
        sensitive_features: (n,) groups, or several columns, whose combinations are the groups; for a run names of
            columns of its data.
        criterion: ``"demographic_parity_difference"``, ``"equal_opportunity_difference"`` or
            ``"equalized_odds_difference"``.
        variants: by a name of your choice, runs trained otherwise (reweighed, or against an adversary) on the same
            data, or the scores (n,) that another model gives these rows. Each is one point.
        n_points: limits of the gap that thresholds are found for, evenly from the gap as it is downwards.
        threshold: the common one, of the model as it is and of variants.
        min_denominator: how many rows every rate of a group needs for a threshold of its own, and to count in the gap.
        level: of confidence.
        seed: of the halves of arrays.

    Returns:
        Operating points, the model as it is first; `choose` finds one for a limit, `words` tells its cost.

    Raises:
        DLStudioError: something does not fit, or fewer than two groups are large enough.

    Example:
        >>> t = dls.trade_off("my-run", sensitive_features=["black"], variants={"reweighed": "my-other-run"})
        >>> t.words(t.choose(0.05))
    """
    criterion_named(criterion)
    if isinstance(n_points, bool) or not isinstance(n_points, (int, np.integer)) or n_points < 2:
        raise DLStudioError("n_points of 2 or more", f"n_points={n_points!r}", "Leave it out.")
    given = _given(y_true, y_score, sensitive_features, variants or {}, seed)
    groups = tuple(map(str, np.unique(given.names)))
    places = {name: place for place, name in enumerate(groups)}
    codes = np.array([places[name] for name in given.names.tolist()])
    fit, judge = given.fit, given.judge
    search = Search(
        given.y[fit], given.scores[fit], codes[fit], len(groups), criterion,
        threshold=threshold, min_denominator=min_denominator,
    )  # fmt: skip
    search.need_two(groups)
    before = counts_of(given.y[fit], given.scores[fit] >= threshold, codes[fit], len(groups))
    widest = gap_of(search.compared(before), criterion, level, min_denominator)[0]

    names, kinds, limits, thresholds, fitted = ["as it is"], ["model"], [np.nan], [np.full(len(groups), threshold)], []
    for limit in np.linspace(max(widest, 0.01), 0, n_points, endpoint=False):
        found = search.best(float(limit))
        if np.array_equal(found, thresholds[-1]):
            limits[-1] = float(limit) if kinds[-1] == "thresholds" else limits[-1]
            continue  # the same thresholds keep this limit too
        names.append("")
        kinds.append("thresholds")
        limits.append(float(limit))
        thresholds.append(found)
    for chosen in thresholds:
        counts = counts_of(given.y[fit], given.scores[fit] >= chosen[codes[fit]], codes[fit], len(groups))
        fitted.append((gap_of(search.compared(counts), criterion, level, min_denominator)[0], accuracy_of(counts)))
    for at, kind in enumerate(kinds):
        names[at] = f"thresholds by group, gap at most {limits[at]:.3f}" if kind == "thresholds" else names[at]

    decided = [given.scores[judge] >= chosen[codes[judge]] for chosen in thresholds]
    for name, scores in given.variants.items():
        names.append(name)
        kinds.append("variant")
        limits.append(np.nan)
        thresholds.append(np.full(len(groups), threshold))
        fitted.append((np.nan, np.nan))
        decided.append(scores >= threshold)
    result = TradeOff(
        criterion=criterion,
        sensitive_feature=given.feature,
        groups=groups,
        names=tuple(names),
        kinds=tuple(kinds),
        limits=np.array(limits),
        thresholds=np.stack(thresholds),
        shared=search.shared,
        fit_gap=np.array([gap for gap, _ in fitted]),
        fit_accuracy=np.array([accuracy for _, accuracy in fitted]),
        n_fit=len(fit),
        positive=given.positive,
        data=given.data,
        run=given.run,
        level=level,
        **_judged(given.y[judge], codes[judge], np.stack(decided), search, criterion, level, min_denominator),
    )
    return keep(dataclasses.replace(result, findings=tuple(findings_of(result))), "trade-off")


def _judged(
    y: Whole,
    codes: Whole,
    decided: npt.NDArray[np.bool_],
    search: Search,
    criterion: str,
    level: float,
    min_denominator: int,
) -> dict[str, Any]:
    """Everything that is measured of decisions (points, rows); the first point is what others are compared with."""
    n_groups = len(search.shared)
    counts = np.stack([counts_of(y, chosen, codes, n_groups) for chosen in decided])
    gaps = [gap_of(search.compared(one), criterion, level, min_denominator) for one in counts]
    right = decided == (y == 1)
    low, high = stats.wilson(right.sum(axis=1), len(y), level)
    # Rows are their own comparison: the same row before and after.
    cost = _mean_change(right, right[0], np.zeros(len(y), dtype=np.int64), 1, level)
    change = _mean_change(decided, decided[0], codes, n_groups, level)
    return {
        "counts": counts,
        "accuracy": right.mean(axis=1),
        "accuracy_low": low,
        "accuracy_high": high,
        "gap": np.array([gap[0] for gap in gaps]),
        "gap_low": np.array([gap[1] for gap in gaps]),
        "gap_high": np.array([gap[2] for gap in gaps]),
        "pair": np.array([gap[3:] for gap in gaps], dtype=np.int64),
        "accuracy_change": cost[:, 0],
        "selection_change": change,
    }


def _mean_change(
    after: npt.NDArray[np.bool_], before: npt.NDArray[np.bool_], codes: Whole, n_groups: int, level: float
) -> Array:
    """Mean change of yes-or-no values by group with Student's interval, (points, groups, 3): value, low, high."""
    n = np.bincount(codes, minlength=n_groups).astype(np.float64)
    found = np.full((len(after), n_groups, 3), np.nan)
    for at, now in enumerate(after):
        change = now.astype(np.int64) - before
        with np.errstate(invalid="ignore", divide="ignore"):
            mean = np.bincount(codes, weights=change, minlength=n_groups) / n
            square = np.bincount(codes, weights=change**2, minlength=n_groups) / n
            variance = (square - mean**2) * n / (n - 1)
        low, high = stats.mean_interval(mean, np.maximum(variance, 0), n, level)
        found[at] = np.stack([mean, low, high], axis=-1)
    return found


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class _Given:
    """Rows of both parts; `variants` are scores of the judged part."""

    y: Whole
    scores: Array
    names: npt.NDArray[np.str_]
    feature: str
    fit: Whole
    judge: Whole
    variants: dict[str, Array]
    positive: str = "1"
    data: str = ""
    run: str = ""


def _given(y_true: Any, y_score: Any, sensitive: Any, variants: Mapping[str, Any], seed: int) -> _Given:
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
        others[_new(name)] = binary(y, other)[1][judge]
    return _Given(
        y=y, scores=scores, names=names, feature=feature, fit=fit_rows, judge=judge, variants=others,
    )  # fmt: skip


def _of_run(run: Run | str, y_score: Any, sensitive: Any, variants: Mapping[str, Any]) -> _Given:
    from dlstudio.runs.run import Run
    from dlstudio.training.predicted import predictions_of

    if y_score is not None:
        raise DLStudioError("a run alone", "y_score beside it", "The run's stored scores are taken.")
    parts = [predictions_of(run, "val"), predictions_of(run, "test")]
    val, test = parts
    if test.task != "binary":
        raise DLStudioError("a run of two classes", f"a {test.task} run", "Thresholds decide between two classes.")
    labelled = [group_names(sensitive, len(part), part.frame) for part in parts]
    others = {}
    for name, other in variants.items():
        if isinstance(other, (str, Run)):
            found = predictions_of(other, "test")
            if found.task != "binary" or not np.array_equal(found.rows, test.rows):
                raise DLStudioError(
                    f"a variant {name!r} with the same test rows", "other rows or classes", "Train it on the same data."
                )
            scores = np.asarray(found.y_score, dtype=np.float64)
        else:
            scores = binary(test.y_true, other)[1]
        others[_new(name)] = scores
    return _Given(
        y=np.concatenate([part.y_true for part in parts]).astype(np.int64),
        scores=np.concatenate([np.asarray(part.y_score, dtype=np.float64) for part in parts]),
        names=np.concatenate([names for _, names in labelled]),
        feature=labelled[0][0],
        fit=np.arange(len(val)),
        judge=np.arange(len(val), len(val) + len(test)),
        variants=others,
        positive=test.class_names[1],
        data=test.data,
        run=test.run,
    )


def _new(name: Any) -> str:
    if not isinstance(name, str) or not name.strip() or name == "as it is":
        raise DLStudioError("a name for every variant", repr(name), "Try 'reweighed'.")
    return name
