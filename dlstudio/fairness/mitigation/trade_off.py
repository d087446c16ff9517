"""The trade-off: what a smaller gap between groups costs in accuracy, judged on rows that nothing was fitted on."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from dlstudio import stats
from dlstudio.data.values import as_array, in_one_order
from dlstudio.fairness.mitigation.given import given_of, needs_of
from dlstudio.fairness.mitigation.rates import change_interval, check_options, counts_of, criterion_named, gap_of
from dlstudio.fairness.mitigation.search import MIN_DENOMINATOR, Search
from dlstudio.fairness.mitigation.thresholds import accuracy_of
from dlstudio.fairness.mitigation.trade_off_findings import findings_of
from dlstudio.fairness.mitigation.trade_off_result import TradeOff
from dlstudio.limits import level_of_confidence, mapping, whole_number
from dlstudio.runs.kept import keep
from dlstudio.runs.run import Run

__all__ = ["trade_off"]

Array = npt.NDArray[np.float64]
Whole = npt.NDArray[np.int64]

MIN_JUDGED = 10
"""Judged rows that a group needs, as in an audit: few widen an interval, while a threshold follows their chance."""


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
        min_denominator: how many rows every rate of a group needs for a threshold of its own, and to count in the gap
            where thresholds are found. Of the judged rows 10 suffice, as in an audit.
        level: of confidence. Intervals of a gap are corrected for all pairs and rates of a point; rows are taken as
            independent of each other.
        seed: of the halves of arrays, 0 or more.

    Returns:
        Operating points, the model as it is first; `choose` finds one for a limit, `words` tells its cost.

    Raises:
        DLStudioError: something does not fit, a score is missing, or fewer than two groups are large enough.

    Example:
        >>> t = dls.trade_off("my-run", sensitive_features=["black"], variants={"reweighed": "my-other-run"})
        >>> t.words(t.choose(0.05))
    """
    criterion_named(criterion)
    whole_number("n_points", n_points, 2)
    whole_number("seed", seed, 0)
    check_options(threshold, min_denominator)
    level_of_confidence(level)
    variants = mapping("variants", {} if variants is None else variants, "Try variants={'reweighed': 'my-other-run'}.")
    if not isinstance(y_true, (str, Run)):
        y_true, y_score, sensitive_features, variants = in_one_order(
            y_true=y_true, y_score=y_score, sensitive_features=sensitive_features, variants=variants
        )
    given = given_of(y_true, y_score, sensitive_features, variants, seed)
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
    needs: list[bool | None] = [needs_of(given.taken) if kind == "model" else True for kind in kinds]
    taken = [given.taken] * len(kinds)
    for name, variant in given.variants.items():
        names.append(name)
        kinds.append("variant")
        limits.append(np.nan)
        thresholds.append(np.full(len(groups), threshold))
        fitted.append((np.nan, np.nan))
        decided.append(variant.scores >= threshold)
        needs.append(variant.needs)
        taken.append(variant.taken)
    points = _Points(
        thresholds=np.stack(thresholds), limits=np.array(limits), by_rule=np.array(kinds) != "variant",
        decided=np.stack(decided),
    )  # fmt: skip
    min_judged = min(MIN_JUDGED, min_denominator)
    result = TradeOff(
        criterion=criterion,
        sensitive_feature=given.feature,
        groups=groups,
        names=tuple(names),
        kinds=tuple(kinds),
        limits=points.limits,
        thresholds=points.thresholds,
        shared=search.shared,
        fit_gap=np.array([gap for gap, _ in fitted]),
        fit_accuracy=np.array([accuracy for _, accuracy in fitted]),
        n_fit=len(fit),
        positive=given.positive,
        data=given.data,
        run=given.run,
        level=level,
        options={
            "criterion": criterion, "variants": {name: _plain(one) for name, one in variants.items()},
            "n_points": int(n_points), "threshold": float(threshold), "min_denominator": int(min_denominator),
            "level": float(level), "seed": int(seed),
        },
        needs_sensitive_feature=tuple(needs),
        taken=tuple(taken),
        min_denominator=min_judged,
        **_judged(given.y[judge], codes[judge], points, search, criterion, level, min_judged),
    )  # fmt: skip
    return keep(dataclasses.replace(result, findings=tuple(findings_of(result))), "trade-off")


def _plain(variant: Any) -> Any:
    """A variant as it can be written: the key of a run, or scores."""
    if isinstance(variant, Run):
        return variant.key
    return variant if isinstance(variant, str) else as_array(variant, np.float64)


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class _Points:
    """Ways to decide: thresholds (points, groups), limits (points,), decisions on judged rows (points, rows).

    `by_rule` says which points decide by these thresholds, from the scores of the model.
    """

    thresholds: Array
    limits: Array
    by_rule: npt.NDArray[np.bool_]
    decided: npt.NDArray[np.bool_]


def _judged(
    y: Whole, codes: Whole, points: _Points, search: Search, criterion: str, level: float, min_judged: int
) -> dict[str, Any]:
    """Everything that is measured of decisions; the first point is what others are compared with."""
    n_groups, decided = len(search.shared), points.decided
    counts = np.stack([counts_of(y, chosen, codes, n_groups) for chosen in decided])
    compared = [search.compared(one) for one in counts]
    gaps = [gap_of(one, criterion, level, min_judged) for one in compared]
    n_limits = max(1, int(np.isfinite(points.limits).sum()))
    lows = np.array([gap_of(one, criterion, level, min_judged, n_limits)[1] for one in compared])
    right = decided == (y == 1)
    low, high = stats.wilson(right.sum(axis=1), len(y), level)
    # Rows are their own comparison: the same row before and after. Under the same threshold none can change.
    same = points.by_rule[:, None] & (points.thresholds == points.thresholds[0])
    nobody = np.zeros(len(y), dtype=np.int64)
    return {
        "counts": counts,
        "accuracy": right.mean(axis=1),
        "accuracy_low": low,
        "accuracy_high": high,
        "gap": np.array([gap[0] for gap in gaps]),
        "gap_low": np.array([gap[1] for gap in gaps]),
        "gap_high": np.array([gap[2] for gap in gaps]),
        "pair": np.array([gap[3:] for gap in gaps], dtype=np.int64),
        "accuracy_change": _change(right, nobody, same.all(axis=1, keepdims=True), level)[:, 0],
        "selection_change": _change(decided, codes, same, level),
        "exceeded": lows > points.limits,
    }


def _change(now: npt.NDArray[np.bool_], codes: Whole, same: npt.NDArray[np.bool_], level: float) -> Array:
    """Change of a share by group against the first point, (points, groups, 3): value, low, high; 0 where the `same`."""
    n_groups = same.shape[1]
    n = np.bincount(codes, minlength=n_groups)
    up, down = (
        np.stack([np.bincount(codes[moved], minlength=n_groups) for moved in which])
        for which in (now & ~now[0], now[0] & ~now)
    )
    with np.errstate(invalid="ignore", divide="ignore"):
        found = np.stack([(up - down) / n, *change_interval(up, down, n, level)], axis=-1)
    return np.where(same[..., None] & (n > 0)[:, None], 0.0, found)
