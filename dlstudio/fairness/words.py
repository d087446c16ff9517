"""An audit in plain language: every sentence with its numbers, its interval and the rows they rest on."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

from dlstudio.data.groups import AND
from dlstudio.fairness.counts import RATES, SLOPE
from dlstudio.fairness.gaps import OVERALL, SHOWN, TOO_FEW
from dlstudio.fairness.result import FairnessAudit, is_worst, records
from dlstudio.results import Finding

__all__ = ["METRIC_WORDS", "combined", "deciding", "findings_of", "p_words"]

METRIC_WORDS = {
    "count": "rows",
    "base_rate": "base rate",
    "selection_rate": "selection rate",
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "true_positive_rate": "true-positive rate",
    "false_positive_rate": "false-positive rate",
    "true_negative_rate": "true-negative rate",
    "false_negative_rate": "false-negative rate",
    "positive_predictive_value": "positive predictive value",
    "negative_predictive_value": "negative predictive value",
    "f1": "F1",
    "auc": "AUC",
    "calibration_error": "calibration error",
    "calibration_bias": "mean score less base rate",
    "observed_to_expected": "base rate over mean score",
    "calibration_slope": "calibration slope",
    "mean_score": "mean score",
    "mean_target": "mean target",
    "mean_prediction": "mean prediction",
    "mean_error": "mean error",
    "mean_absolute_error": "mean absolute error",
}
FEW_NAMES = 6
MOST_INTERSECTIONS = 3
CAUSES = "Look at the rows behind it (rows_of) and at intersections: a gap does not say where it comes from."


def findings_of(audit: FairnessAudit, mixed: Sequence[str] = ()) -> Iterator[Finding]:
    """Yield what follows from an audit, gaps that are shown first.

    Args:
        audit: without findings.
        mixed: columns in which some cluster has rows of several groups.
    """
    metrics = {(r["sensitive_feature"], r["outcome"], r["group"], r["metric"]): r for r in records(audit.groups_table)}
    pairs = list(records(audit.gaps_table))
    carries = {_key(row): row for row in deciding(audit)}
    found = [_criterion(audit, row, carries[_key(row)], metrics) for row in pairs if is_worst(row)]
    yield from sorted(found, key=lambda finding: finding.code)
    yield from _small(audit)
    if audit.dropped:
        why = ", ".join(f"{reason} in {n:,}" for reason, n in audit.dropped.items())
        yield Finding(
            code="DLS305",
            severity="warning",
            sentence=f"{sum(audit.dropped.values()):,} rows were left out: {why}. {len(audit):,} were assessed.",
            evidence=dict(audit.dropped),
            remedy="See whether they are missing more often in some groups than in others.",
        )
    yield from _intersections(audit)
    if mixed:
        yield Finding(
            code="DLS307",
            severity="info",
            sentence=f"Some clusters have rows of several groups of {' and '.join(mixed)}, so that they cannot be"
            " exchanged: p-values there are of Student's test with the cluster bootstrap's standard error.",
            evidence={"sensitive_features": list(mixed)},
        )
    yield from _ratios(audit, pairs)


def p_words(p: float) -> str:
    """Return a p-value as people write it.

    Example:
        >>> p_words(0.00002)
        'p < 0.001'
    """
    return "p unknown" if math.isnan(p) else "p < 0.001" if p < 0.001 else f"p = {p:.3f}" if p < 0.1 else f"p = {p:.2f}"


def deciding(audit: FairnessAudit) -> list[dict[str, Any]]:
    """Return for every criterion the pair that carries its verdict: of those with this verdict the farthest apart.

    Each is a row of `FairnessAudit.gaps`, in its order, with the criterion's verdict.
    """
    best: dict[tuple[str, ...], dict[str, Any]] = {}
    pairs = list(records(audit.gaps_table))
    verdicts = {_key(row): row["verdict"] for row in pairs if is_worst(row)}
    for row in pairs:
        if row["group"] != OVERALL and row["verdict"] == verdicts.get(_key(row)):
            before = best.get(_key(row))
            if before is None or _strength(row) > _strength(before):
                best[_key(row)] = row
    return list(best.values())


def _key(row: dict[str, Any]) -> tuple[str, ...]:
    return row["sensitive_feature"], row["outcome"], row["criterion"]


def _strength(row: dict[str, Any]) -> tuple[bool, float]:
    return not math.isnan(row["p_value"]), -1.0 if math.isnan(row["value"]) else abs(row["value"])


def _criterion(
    audit: FairnessAudit, worst: dict[str, Any], row: dict[str, Any], metrics: dict[Any, dict[str, Any]]
) -> Finding:
    """The verdict of one criterion, with the pair that carries it."""
    feature, outcome = worst["sensitive_feature"], worst["outcome"]
    title = worst["criterion"].removesuffix("_difference").replace("_", " ")
    of = f"{feature}{f', class {outcome}' if outcome else ''}, {title}"
    code, severity = {SHOWN: ("DLS301", "warning"), TOO_FEW: ("DLS302", "info")}.get(
        worst["verdict"], ("DLS303", "info")
    )
    evidence = {key: worst[key] for key in ("sensitive_feature", "criterion", "value", "low", "high", "p_adjusted")}
    sides = [
        _number(group, metrics[feature, outcome, group, row["metric"]]) for group in (row["group"], row["reference"])
    ]
    # What too few rows show is no number to repeat.
    apart = "" if math.isnan(row["p_value"]) else f" The difference is {_difference(audit, row)}."
    more = f" of more than {_size(audit, row['metric'])}" if audit.threshold else ""
    verdict = {
        SHOWN: f"A gap{more} is shown",
        TOO_FEW: f"There are not enough data to say whether there is a gap{more}",
    }.get(worst["verdict"], f"No gap{more} is shown")
    return Finding(
        code=code,
        severity=severity,
        sentence=f"{verdict} by {of}. {_capital(METRIC_WORDS[row['metric']])} {', '.join(sides)}.{apart}",
        evidence=evidence | {"group": row["group"], "reference": row["reference"], "metric": row["metric"]},
        remedy=CAUSES if worst["verdict"] == SHOWN else "",
    )


def _number(group: str, row: dict[str, Any]) -> str:
    """A metric of a group, and what it was counted of."""
    if not row["enough"]:
        return f"too few to say for {group} ({row['denominator']:,.0f} rows)"
    if row["metric"] == SLOPE:
        return f"{row['value']:.2f} for {group} ({row['denominator']:,.0f} rows of the rarer class)"
    if row["metric"] in RATES:
        value = "unknown" if math.isnan(row["value"]) else f"{100 * row['value']:.1f} %"
        return f"{value} for {group} ({row['numerator']:,.0f} of {row['denominator']:,.0f})"
    if row["metric"] == "calibration_bias":
        return f"{100 * row['value']:+.1f} points for {group} ({row['denominator']:,.0f} rows)"
    return f"{row['value']:.4g} for {group} ({row['denominator']:,.0f} rows)"


def _size(audit: FairnessAudit, metric: str) -> str:
    """The threshold in the unit of a metric."""
    points = metric in RATES or metric == "calibration_bias"
    return f"{100 * audit.threshold:g} points" if points else f"{audit.threshold:g}"


def combined(sensitive_feature: str, group: str) -> str:
    """Return a combination with the columns of its groups.

    Example:
        >>> combined("race × sex", "black × female")
        'race black × sex female'
    """
    parts = zip(sensitive_feature.split(AND), group.split(AND), strict=True)
    return AND.join(f"{feature} {name}" for feature, name in parts)


def _capital(words: str) -> str:
    return words[:1].upper() + words[1:]


def _difference(audit: FairnessAudit, row: dict[str, Any]) -> str:
    """A difference with interval and adjusted p-value."""
    numbers = row["value"], row["low"], row["high"]
    if row["metric"] in RATES or row["metric"] == "calibration_bias":
        value, low, high = (f"{100 * one:+.1f}" for one in numbers)
        value += " points"
    else:
        value, low, high = (f"{one:+.2f}" if row["metric"] == SLOPE else f"{one:+.4g}" for one in numbers)
    level = audit.level if not row["criterion"].startswith("equalized_odds") else 1 - (1 - audit.level) / 2
    interval = f"{100 * level:g} % interval {low} to {high}" if not math.isnan(row["low"]) else "no interval"
    return f"{value} ({interval}; {p_words(row['p_adjusted'])}, adjusted for all comparisons)"


def _small(audit: FairnessAudit) -> Iterator[Finding]:
    """Groups that could not be compared by some criterion."""
    tested = ("selection_rate", "true_positive_rate", "false_positive_rate", "positive_predictive_value", "mean_error")
    for feature in audit.features:
        small = [
            row
            for row in records(audit.groups_table)
            if row["sensitive_feature"] == feature and row["metric"] in tested and not row["enough"]
        ]
        if small:
            least: dict[str, dict[str, Any]] = {}
            for row in small:
                if row["group"] not in least or row["denominator"] < least[row["group"]]["denominator"]:
                    least[row["group"]] = row
            parts = [
                f"{group} ({METRIC_WORDS[row['metric']]} of {row['denominator']:,.0f} rows)"
                for group, row in list(least.items())[:FEW_NAMES]
            ]
            more = f" and {len(least) - FEW_NAMES} more" if len(least) > FEW_NAMES else ""
            parts_needed = f"{audit.min_denominator} {'clusters' if audit.n_clusters else 'rows'}"
            yield Finding(
                code="DLS304",
                severity="warning",
                sentence=f"Too few data to compare some groups of {feature} by every criterion:"
                f" {', '.join(parts)}{more}; {parts_needed} are needed.",
                evidence={group: row["denominator"] for group, row in least.items()},
                remedy="Collect more of them, or join groups that may be looked at together.",
            )


def _intersections(audit: FairnessAudit) -> Iterator[Finding]:
    shown = [row for row in records(audit.intersections_table) if row["verdict"] == SHOWN]
    for row in shown[:MOST_INTERSECTIONS]:
        more = len(shown) - MOST_INTERSECTIONS
        rest = (
            f" {more} more rows of intersections show one." if more > 0 and row is shown[MOST_INTERSECTIONS - 1] else ""
        )
        outcome = f", class {row['outcome']}" if row["outcome"] else ""
        yield Finding(
            code="DLS306",
            severity="warning",
            sentence=f"{combined(row['sensitive_feature'], row['group'])} ({row['n']:,} rows{outcome}) differs from"
            f" everybody else in {METRIC_WORDS[row['metric']]}: {_difference(audit, row)}.{rest}",
            evidence={key: row[key] for key in ("group", "criterion", "value", "low", "high", "p_adjusted")},
            remedy="",
        )


def _ratios(audit: FairnessAudit, pairs: list[dict[str, Any]]) -> Iterator[Finding]:
    """What a threshold of ratios says, where one was set."""
    if audit.threshold_ratio is None:
        return
    for row in pairs:
        if row["group"] == OVERALL and row["criterion"].endswith("_ratio") and row["verdict"] == SHOWN:
            outcome = f", class {row['outcome']}" if row["outcome"] else ""
            yield Finding(
                code="DLS308",
                severity="warning",
                sentence=f"By {row['sensitive_feature']}{outcome}, a ratio of {METRIC_WORDS[row['metric']]}s lies"
                f" beyond {audit.threshold_ratio:g} ({row['shown_by']}); the farthest from 1 is {row['value']:.2f}"
                f" ({row['reference']}, interval {row['low']:.2f} to {row['high']:.2f}).",
                evidence={key: row[key] for key in ("sensitive_feature", "criterion", "value", "low", "high")},
                remedy="Whether this matters is not for numbers to say.",
            )
