"""The table of metrics by group, with intervals and denominators."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from dlstudio.fairness.counts import OBSERVED, RATES, SLOPE, Array, Interval
from dlstudio.fairness.evidence import Evidence, balanced_accuracy, f1

__all__ = ["COLUMNS", "Metric", "classified", "counted", "rows_of_groups", "valued"]

COLUMNS = (
    "sensitive_feature", "outcome", "group", "metric", "value", "low", "high", "numerator", "denominator", "enough",
)  # fmt: skip

Row = tuple[Any, ...]
Metric = tuple[str, Array, Interval, Array, Array, Array]
"""Name, values of the groups, their intervals, numerators, denominators, and how many independent parts count."""


def counted(sizes: npt.NDArray[np.int64], n: int) -> Metric:
    """Return how many rows each group has, of all; a number that was counted has no interval."""
    nothing = np.full(len(sizes), np.nan)
    return (
        "count",
        sizes.astype(np.float64),
        (nothing, nothing),
        sizes.astype(np.float64),
        np.full(len(sizes), float(n)),
        np.full(len(sizes), np.inf),
    )


def classified(evidence: Evidence, level: float, scored: dict[str, tuple[Array, Interval]]) -> Iterator[Metric]:
    """Yield the metrics of a yes-or-no outcome.

    Args:
        evidence: of the groups.
        level: of confidence.
        scored: what `score_intervals` returned; empty without scores.
    """
    tally = evidence.tally
    cells = tally.cells
    for name in RATES:
        have, among = tally.rate(name)
        yield name, tally.value(name), evidence.interval(name, level), have, among, evidence.among(name)
    unknown = np.full(len(cells), np.nan)
    balanced = balanced_accuracy(cells), evidence.interval("balanced_accuracy", level)
    yield "balanced_accuracy", *balanced, unknown, tally.among("auc"), evidence.among("auc")
    hit = cells[:, 3]
    f1_of = 2 * hit, cells[:, 1:].sum(axis=1) + hit, evidence.among("f1")
    yield "f1", f1(cells), evidence.interval("f1", level), *f1_of
    yield from valued(evidence, level)
    for name in (OBSERVED, SLOPE):
        if name in tally.names:
            value, interval = tally.value(name), evidence.interval(name, level)
            yield name, value, interval, unknown, tally.among(name), evidence.among(name)
    for name, (value, interval) in scored.items():
        yield name, value, interval, unknown, tally.among(name), evidence.among(name)


def valued(evidence: Evidence, level: float) -> Iterator[Metric]:
    """Yield the means: of scores, or of the values and errors of a regression."""
    for name in evidence.tally.means:
        mean, _, n = evidence.tally.moments(name)
        yield name, mean, evidence.interval(name, level), mean * n, n, evidence.among(name)


def rows_of_groups(
    feature: str, outcome: str, names: tuple[str, ...], metrics: Iterator[Metric], min_denominator: int
) -> Iterator[Row]:
    """Yield a row per metric and group, in the order of `COLUMNS`."""
    for name, value, (low, high), have, among, counting in metrics:
        for at, group in enumerate(names):
            enough = bool(counting[at] >= min_denominator)
            yield feature, outcome, group, name, value[at], low[at], high[at], have[at], among[at], enough
