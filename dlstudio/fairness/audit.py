"""Audit fairness: metrics of groups, and gaps between them with what can be said of each."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from dlstudio.data.clusters import clusters_of
from dlstudio.data.groups import columns_of, name_of, written_alike
from dlstudio.data.values import as_array, in_one_order
from dlstudio.errors import DLStudioError, unknown_name
from dlstudio.fairness import by_group, gaps
from dlstudio.fairness.clusters import Clusters
from dlstudio.fairness.groups import Groups, grouped
from dlstudio.fairness.inputs import Outcome, read_arrays
from dlstudio.fairness.result import FairnessAudit, table_of
from dlstudio.fairness.tables import Tables
from dlstudio.fairness.words import findings_of
from dlstudio.limits import level_of_confidence, mapping, number_within, whole_number
from dlstudio.runs.kept import keep
from dlstudio.runs.run import Run

if TYPE_CHECKING:
    from dlstudio.training.predicted import Predicted

__all__ = ["audit_fairness"]

MOST_COLUMNS = 3
LEAST = 0.001
"""Of what has to be above 0, or below 1."""


def audit_fairness(
    y_true: Any,
    y_pred: Any = None,
    *,
    y_score: Any = None,
    sensitive_features: Any = None,
    clusters: Any = None,
    bins: Mapping[str, int | Sequence[float]] | None = None,
    intersections: int = 2,
    reference: Any = None,
    threshold: float = 0.0,
    threshold_ratio: float | None = None,
    level: float = 0.95,
    resolution: float = 0.1,
    min_denominator: int = 10,
    positive: Any = None,
    task: str | None = None,
    n_resamples: int = 1000,
    seed: int = 0,
    split: str = "test",
) -> FairnessAudit:
    """Compare what a model does to groups of people, and say of each gap whether the data show it.

    A gap is shown if a test rejects that there is none, adjusted for all pairs and criteria, and its interval lies
    beyond the threshold. No gap is shown if it is not and the interval is narrow, or lies within the threshold: it says
    how large a gap there may still be. Else there are not enough data, as for groups in which fewer than
    `min_denominator` rows could count, which are not compared at all.

    Rates are compared by permutation tests, means of scores and of errors by Welch's, calibration slopes by Wald's with
    robust variances; with clusters, all but slopes by studentised permutations of whole clusters, or by Student's test
    with the bootstrap's error where a cluster has rows of several groups.

    Calibration within groups has two criteria. ``calibration_in_the_large`` compares the mean score less the base rate;
    its ratio compares the base rate over the mean score. ``calibration_slope`` compares by how much log odds of the
    outcome grow with those of the score. Neither sees scores that are right in these two respects and wrong elsewhere;
    `dlstudio.assess_calibration` looks closer. Of a regression only mean absolute errors have a ratio: mean errors have
    either sign, and mean predictions no natural zero.

    pandas objects that all have the same labels (index) are put in the order of the first of them; arrays, lists and
    tensors go by position.

    Args:
        y_true: the targets (n,), or a run, whose stored predictions are taken. Text, booleans and whole numbers, also
            those stored as floats, are classes, at most 20 of them without scores; numbers with a fraction are
            quantities.
        y_pred: the predictions (n,).
        y_score: predicted probabilities of the positive class (n,), or of every class (n, classes). Those of a run are
            taken only where they are probabilities, which scores of thresholds by group are not.
        sensitive_features: columns that say who belongs to which group: a DataFrame, Series, mapping or array; for a
            run names of its columns, its own sensitive columns by default. Missing values are a group, "missing".
        clusters: (n,) which rows belong together, such as those of one person, or the name of a run's column. Whole
            clusters are then drawn anew and exchanged.
        bins: by column of numbers, how many groups to make of it, or their edges.
        intersections: up to how many columns to combine, at most 3; each combination of groups is compared with
            everybody else. 1 for none.
        reference: a group to compare all others with, or one by column; None compares all pairs, the larger group as
            the reference.
        threshold: the size up to which a gap does not matter, in the unit of the metric.
        threshold_ratio: the ratio from which on it does not, such as 0.8, the four-fifths rule. None tests no ratios:
            each then has the p-value and the verdict of its difference.
        level: of confidence; 1 - `level` is the largest probability of showing any gap that is not there. Where columns
            are combined, single columns and combinations have half of it each.
        resolution: half an interval may be this wide, above 0 and below 1, to say that no gap is shown: in units of a
            rate, in standard deviations of the target of a regression; of slopes, as far as it changes a probability; a
            ratio's interval may reach from 1 - `resolution` times to the inverse.
        min_denominator: rows that could count which both groups need; with clusters, clusters with such rows.
        positive: the label or name of the positive class; None takes 1.
        n_resamples, seed: of what has no closed form: intervals of calibration errors, and everything with clusters.
        split: which part of a run, ``"test"`` or ``"val"``.

    Returns:
        Metrics of groups, gaps, intersections, and what follows in words. Those of a run are saved with it as
        ``results/fairness.json``.

    Raises:
        DLStudioError: lengths or row labels differ, classes, scores or sensitive columns are not as they have to be, or
            a run has no stored predictions.

    Example:
        >>> a = dls.audit_fairness(y_true, y_pred, sensitive_features=frame[["race"]])
        >>> a.gaps[a.gaps.group == "overall"]
        >>> dls.audit_fairness("my-run", sensitive_features=["black"], intersections=1).verdict
        'gap shown'

    References:
        Hardt, Price and Srebro, Equality of opportunity in supervised learning (2016); Newcombe, Interval estimation
        for the difference between independent proportions (1998); Holm, A simple sequentially rejective multiple test
        procedure (1979); Van Calster et al., A calibration hierarchy for risk models was defined (2016).
    """
    started = time.perf_counter()
    predicted = _predicted(y_true, y_pred, y_score, split)
    if predicted is not None:
        y_true, y_pred, y_score = predicted.y_true, predicted.y_pred, predicted.y_score
        positive, y_score = _class_of_run(predicted, positive, y_score)
        y_score = y_score if predicted.scores_are_probabilities else None
    else:
        y_true, y_pred, y_score, sensitive_features, clusters = in_one_order(
            y_true=y_true, y_pred=y_pred, y_score=y_score, sensitive_features=sensitive_features, clusters=clusters
        )
    _check(level, threshold, threshold_ratio, resolution, min_denominator, n_resamples, seed, intersections)
    ranges = mapping("bins", {} if bins is None else bins, "Try bins={'age': 5}.")
    subject = read_arrays(
        y_true,
        y_pred,
        y_score,
        positive=positive,
        task=task if predicted is None else predicted.task,
        names=() if predicted is None else predicted.class_names,
    )
    n_given = len(subject.kept) + sum(subject.dropped.values())
    columns = _columns(sensitive_features, predicted, n_given, subject.kept, ranges)
    singles = [grouped(name, column, ranges.get(name)) for name, column in columns.items()]
    together = _clusters(clusters, predicted, n_given, subject.kept, n_resamples, seed)
    work = Tables(
        subject=subject, clusters=together, level=level, min_denominator=min_denominator, n_draws=n_resamples, seed=seed
    )
    most = min(intersections, len(singles))
    judge = gaps.Judge(
        level=level, threshold=float(threshold), threshold_ratio=threshold_ratio, resolution=resolution,
        scale=_scale(subject.outcomes[0]), families=2 if most > 1 else 1,
    )  # fmt: skip
    evidence = {(one.feature, o.name): work.evidence(one, o) for one in singles for o in subject.outcomes}
    family = [
        compared
        for one in singles
        for o in subject.outcomes
        for compared in gaps.compare(
            one.feature, o.name, one.names, evidence[one.feature, o.name],
            gaps.pairs_of(one.sizes, _reference(reference, one, singles)), min_denominator,
        )
    ]  # fmt: skip
    codes = np.stack([one.codes for one in singles]).astype(np.int16)
    audit = FairnessAudit(
        task=subject.task,
        features=tuple(one.feature for one in singles),
        group_names=tuple(one.names for one in singles),
        codes=codes,
        rows=subject.kept if predicted is None else predicted.rows[subject.kept],
        positive=subject.positive,
        groups_table=table_of(by_group.COLUMNS, work.groups(singles, evidence)),
        gaps_table=table_of(gaps.COLUMNS, judge.rows(family)),
        intersections_table=work.intersections(singles, most, judge),
        level=level,
        threshold=float(threshold),
        threshold_ratio=threshold_ratio,
        min_denominator=min_denominator,
        n_clusters=0 if together is None else together.n,
        n_resamples=n_resamples,
        seed=seed,
        options=_options(
            clusters=clusters, bins=bins, intersections=intersections, reference=reference, threshold=threshold,
            threshold_ratio=threshold_ratio, level=level, resolution=resolution, min_denominator=min_denominator,
            positive=positive, task=task, n_resamples=n_resamples, seed=seed, split=split,
        ),
        dropped=subject.dropped,
        run="" if predicted is None else predicted.run,
        data="" if predicted is None else predicted.data,
        split="" if predicted is None else predicted.split,
    )  # fmt: skip
    mixed = [one.feature for one in singles if together is not None and together.groups(one.codes) is None]
    ranks = predicted is not None and not predicted.scores_are_probabilities
    alike = {name: found for name, column in columns.items() if name not in ranges and (found := written_alike(column))}
    findings = tuple(findings_of(audit, mixed, ranks, alike))
    return keep(dataclasses.replace(audit, findings=findings, wall_s=time.perf_counter() - started), "fairness")


def _predicted(y_true: Any, y_pred: Any, y_score: Any, split: str) -> Predicted | None:
    if not isinstance(y_true, (Run, str)):
        return None
    if y_pred is not None or y_score is not None:
        raise DLStudioError("a run, or arrays", "a run with y_pred or y_score", "Pass the run alone, or arrays alone.")
    from dlstudio.training.predicted import predictions_of

    return predictions_of(y_true, split)


def _class_of_run(predicted: Predicted, positive: Any, y_score: Any) -> tuple[Any, Any]:
    """Turn the probability of class 1 round where class 0 is the positive one."""
    if predicted.task != "binary" or positive is None or positive in (1, predicted.class_names[1]):
        return positive, y_score
    return positive, None if y_score is None else 1 - y_score


def _check(
    level: float,
    threshold: float,
    threshold_ratio: float | None,
    resolution: float,
    min_denominator: int,
    n_resamples: int,
    seed: int,
    most: int,
) -> None:
    level_of_confidence(level)
    number_within("threshold", threshold, 0, remedy="Try 0.05, five points of a rate.")
    if threshold_ratio is not None:
        number_within("threshold_ratio", threshold_ratio, LEAST, 1, "Try 0.8.")
    number_within("resolution", resolution, LEAST, 1 - LEAST, "Try 0.1.")
    whole_number("min_denominator", min_denominator, 1)
    whole_number("n_resamples", n_resamples, 100)
    whole_number("seed", seed, 0)
    if most not in range(MOST_COLUMNS + 1):
        raise DLStudioError(
            f"intersections of up to {MOST_COLUMNS} columns", f"intersections={most!r}", "Use 2 or 3, or 1 for none."
        )


def _columns(given: Any, predicted: Predicted | None, n: int, kept: Any, bins: Mapping[str, Any]) -> dict[str, Any]:
    """The sensitive columns, of the rows that are audited."""
    frame = None if predicted is None else predicted.frame
    if given is None and predicted is not None:
        given = list(predicted.sensitive)
    if given is None or isinstance(given, list) and not given:
        raise DLStudioError(
            "the sensitive columns",
            "none",
            "Pass sensitive_features=frame[['race', 'sex']], or names of a run's columns.",
        )
    columns = columns_of(given, n, frame)
    for name in bins:
        if name not in columns:
            raise unknown_name("column of bins", name, columns)
    return {
        name: column.iloc[kept] if hasattr(column, "iloc") else np.asarray(column)[kept]
        for name, column in columns.items()
    }


def _clusters(given: Any, predicted: Predicted | None, n: int, kept: Any, n_draws: int, seed: int) -> Clusters | None:
    codes = clusters_of(given, n, kept, lambda: None if predicted is None else predicted.frame)
    return None if codes is None else Clusters(codes=codes, n=int(codes.max()) + 1, n_draws=n_draws, seed=seed)


def _reference(given: Any, one: Groups, singles: Sequence[Groups]) -> int | None:
    if given is None:
        return None
    by_column = given if isinstance(given, Mapping) else {singles[0].feature: given}
    if not isinstance(given, Mapping) and len(singles) > 1:
        raise DLStudioError(
            "a reference group by column", f"reference={given!r}", f"Pass reference={{{one.feature!r}: {given!r}}}."
        )
    for column in by_column:
        if column not in [each.feature for each in singles]:
            raise unknown_name("sensitive column", column, [each.feature for each in singles])
    if one.feature not in by_column:
        return None
    given = by_column[one.feature]
    name = given if given in one.names else name_of(given)
    if name not in one.names:
        raise unknown_name("group", name, one.names)
    return one.names.index(name)


def _options(clusters: Any, **given: Any) -> dict[str, Any]:
    """What was asked for, as plain values."""
    import pandas as pd

    if clusters is not None and not isinstance(clusters, str):
        clusters = pd.factorize(pd.Series(as_array(clusters)))[0].astype(np.int64)
    return {"clusters": clusters, **{name: _plain(value) for name, value in given.items()}}


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(name): _plain(each) for name, each in value.items()}
    if isinstance(value, (np.ndarray, np.generic)):
        return value.tolist()
    return [_plain(each) for each in value] if isinstance(value, (list, tuple)) else value


def _scale(outcome: Outcome) -> float:
    return 1.0 if outcome.y_true.dtype.kind == "b" else float(outcome.y_true.std())
