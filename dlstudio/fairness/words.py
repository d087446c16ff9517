"""An audit in plain language: every sentence with its numbers, its interval and the rows they rest on."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeAlias

from dlstudio.data.groups import AND
from dlstudio.fairness.counts import RATES, SLOPE
from dlstudio.fairness.gaps import OVERALL, SHOWN, TOO_FEW
from dlstudio.fairness.result import FairnessAudit, is_worst
from dlstudio.results import Finding, records
from dlstudio.wording import listed, p_words

__all__ = ["METRIC_WORDS", "combined", "deciding", "findings_of", "jointly"]

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
Row: TypeAlias = dict[str, Any]

EVIDENCE = ("sensitive_feature", "criterion", "group", "reference", "metric", "value", "low", "high", "p_adjusted")
MOST_INTERSECTIONS, MOST_NAMES = 3, 6
CAUSES = "Look at the rows behind it (rows_of) and at intersections: a gap does not say where it comes from."


def findings_of(
    audit: FairnessAudit,
    mixed: Sequence[str] = (),
    ranks: bool = False,
    alike: Mapping[str, Mapping[str, Sequence[str]]] | None = None,
) -> Iterator[Finding]:
    """Yield what follows from an audit, gaps that are shown first.

    Args:
        audit: without findings.
        mixed: columns in which some cluster has rows of several groups.
        ranks: whether the scores were left out, as they only rank rows.
        alike: by column, groups that join different values which are written alike, with these values.
    """
    metrics = {(r["sensitive_feature"], r["outcome"], r["group"], r["metric"]): r for r in records(audit.groups_table)}
    pairs = list(records(audit.gaps_table))
    carries = {_key(row): row for row in deciding(audit)}
    among: dict[tuple[str, ...], list[Row]] = {key: [] for key in carries}
    for row in pairs:
        if row["group"] != OVERALL and _key(row) in among:
            among[_key(row)].append(row)
    found = [_criterion(audit, carries[key], rows, metrics) for key, rows in among.items()]
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
    for feature, groups in (alike or {}).items():
        joined = [f"{listed(values, MOST_NAMES)} are the group {name}" for name, values in groups.items()]
        yield Finding(
            code="DLS310",
            severity="warning",
            sentence=f"Different values of {feature} that are written alike were taken as one group: {listed(joined)}.",
            evidence={"sensitive_feature": feature, "groups": {name: list(values) for name, values in groups.items()}},
            remedy="Rename one of them if they are different groups.",
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
    if ranks:
        yield Finding(
            code="DLS309",
            severity="info",
            sentence="The scores of this run decide by thresholds by group and are no probabilities, so that nothing is"
            " said of calibration and AUC.",
            evidence={},
        )


def deciding(audit: FairnessAudit) -> list[Row]:
    """Return for every criterion the pair that carries its verdict: of those with this verdict the farthest apart.

    Where a gap is shown that is the pair that `FairnessAudit.gaps` names in ``shown_by``. Each is a row of these gaps,
    in their order, with the criterion's verdict. Since it was chosen among all pairs, its limits are the joint ones.
    """
    best: dict[tuple[str, ...], Row] = {}
    pairs = list(records(audit.gaps_table))
    worst = {_key(row): row for row in pairs if is_worst(row)}
    for row in pairs:
        told = worst.get(_key(row))
        if row["group"] == OVERALL or told is None or row["verdict"] != told["verdict"]:
            continue
        if told["shown_by"] and told["shown_by"] != _pair(row):
            continue
        before = best.get(_key(row))
        if before is None or _strength(row) > _strength(before):
            best[_key(row)] = row
    return [jointly(row) for row in best.values()]


def jointly(row: Row) -> Row:
    """Return a row of gaps with limits that hold for all it was chosen from."""
    return row | {"low": row["joint_low"], "high": row["joint_high"]}


def _pair(row: Row) -> str:
    return f"{row['group']} vs {row['reference']}"


def _key(row: Row) -> tuple[str, ...]:
    return row["sensitive_feature"], row["outcome"], row["criterion"]


def _strength(row: Row) -> tuple[bool, float]:
    return not math.isnan(row["p_value"]), -1.0 if math.isnan(row["value"]) else abs(row["value"])


def _criterion(audit: FairnessAudit, row: Row, pairs: Sequence[Row], metrics: dict[Any, Row]) -> Finding:
    """The verdict of one criterion, with the pair that carries it, and who of all pairs was not compared."""
    feature, outcome, verdict = row["sensitive_feature"], row["outcome"], row["verdict"]
    of = f"{feature}{f', class {outcome}' if outcome else ''}, {_title(row)}"
    code, severity = {SHOWN: ("DLS301", "warning"), TOO_FEW: ("DLS302", "info")}.get(verdict, ("DLS303", "info"))
    sides = [
        _number(group, metrics[feature, outcome, group, row["metric"]]) for group in (row["group"], row["reference"])
    ]
    # What too few rows show is no number to repeat.
    told = not math.isnan(row["p_value"])
    apart = f" The difference is {_difference(audit, row, _at_once(pairs))}." if told else ""
    more = f" of more than {_size(audit, row['metric'])}" if audit.threshold else ""
    said = {
        SHOWN: f"A gap{more} is shown",
        TOO_FEW: f"There are not enough data to say whether there is a gap{more}",
    }.get(verdict, f"No gap{more} is shown")
    left = _never(pairs) if code == "DLS303" else []
    limit = f" between the groups that could be compared; {listed(left)} had too few rows" if left else ""
    return Finding(
        code=code,
        severity=severity,
        sentence=f"{said} by {of}{limit}. {_capital(METRIC_WORDS[row['metric']])} {', '.join(sides)}.{apart}",
        evidence={key: row[key] for key in EVIDENCE} | {"not_compared": left},
        remedy=CAUSES if verdict == SHOWN else "",
    )


def _title(row: Row) -> str:
    return str(row["criterion"]).rsplit("_", 1)[0].replace("_", " ")


def _never(pairs: Sequence[Row]) -> list[str]:
    """The groups of which no pair had enough data."""
    there = dict.fromkeys(name for row in pairs for name in (row["reference"], row["group"]))
    known = {name for row in pairs if not math.isnan(row["p_value"]) for name in (row["reference"], row["group"])}
    return [name for name in there if name not in known]


def _at_once(pairs: Sequence[Row]) -> str:
    """What the joint limits of a criterion hold for."""
    several = sum(not math.isnan(row["p_value"]) for row in pairs) > 1
    found = ["all pairs"] * several + ["both rates"] * pairs[0]["criterion"].startswith("equalized_odds")
    return f" for {' and '.join(found)} at once" if found else ""


def _number(group: str, row: Row) -> str:
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


def _difference(audit: FairnessAudit, row: Row, at_once: str) -> str:
    """A difference with interval and adjusted p-value."""
    numbers = row["value"], row["low"], row["high"]
    if row["metric"] in RATES or row["metric"] == "calibration_bias":
        value, low, high = (f"{100 * one:+.1f}" for one in numbers)
        value += " points"
    else:
        value, low, high = (f"{one:+.2f}" if row["metric"] == SLOPE else f"{one:+.4g}" for one in numbers)
    return f"{value} {_surely(audit, row, low, high, at_once)}"


def _surely(audit: FairnessAudit, row: Row, low: str, high: str, at_once: str) -> str:
    interval = "no" if math.isnan(row["low"]) else f"{100 * audit.level:g} %"
    limits = "" if math.isnan(row["low"]) else f"{at_once} {low} to {high}"
    return f"({interval} interval{limits}; {p_words(row['p_adjusted'])}, adjusted for all comparisons)"


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
            least: dict[str, Row] = {}
            for row in small:
                if row["group"] not in least or row["denominator"] < least[row["group"]]["denominator"]:
                    least[row["group"]] = row
            parts = [
                f"{group} ({METRIC_WORDS[row['metric']]} of {row['denominator']:,.0f} rows)"
                for group, row in least.items()
            ]
            parts_needed = f"{audit.min_denominator} {'clusters' if audit.n_clusters else 'rows'}"
            yield Finding(
                code="DLS304",
                severity="warning",
                sentence=f"Too few data to compare some groups of {feature} by every criterion:"
                f" {listed(parts, MOST_NAMES)}; {parts_needed} are needed.",
                evidence={group: row["denominator"] for group, row in least.items()},
                remedy="Collect more of them, or join groups that may be looked at together.",
            )


def _intersections(audit: FairnessAudit) -> Iterator[Finding]:
    shown = [jointly(row) for row in records(audit.intersections_table) if row["verdict"] == SHOWN]
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
            f" everybody else in {METRIC_WORDS[row['metric']]}:"
            f" {_difference(audit, row, ' for all combinations at once')}.{rest}",
            evidence={key: row[key] for key in EVIDENCE},
            remedy="",
        )


def _ratios(audit: FairnessAudit, pairs: list[Row]) -> Iterator[Finding]:
    """What a threshold of ratios says, where one was set: of every criterion the pair that shows it."""
    if audit.threshold_ratio is None:
        return
    ratios = [row for row in pairs if row["criterion"].endswith("_ratio")]
    shown = {_key(row): row["shown_by"] for row in ratios if row["group"] == OVERALL and row["verdict"] == SHOWN}
    for key, pair in shown.items():
        mine = [row for row in ratios if _key(row) == key and row["group"] != OVERALL]
        row = jointly(next(row for row in mine if _pair(row) == pair))
        outcome = f", class {row['outcome']}" if row["outcome"] else ""
        surely = _surely(audit, row, f"{row['low']:.2f}", f"{row['high']:.2f}", _at_once(mine))
        yield Finding(
            code="DLS308",
            severity="warning",
            sentence=f"By {row['sensitive_feature']}{outcome}, {_title(row)}, the ratio of"
            f" {METRIC_WORDS[row['metric']]}s of {row['group']} to {row['reference']} lies beyond"
            f" {audit.threshold_ratio:g}: it is {row['value']:.2f} {surely}.",
            evidence={key: row[key] for key in EVIDENCE},
            remedy="Whether this matters is not for numbers to say.",
        )
