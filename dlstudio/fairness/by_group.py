"""The table of metrics by group, with intervals and denominators."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from dlstudio.fairness.counts import RATES, Array, Interval
from dlstudio.fairness.evidence import Evidence, balanced_accuracy, f1

__all__ = ["COLUMNS", "Metric", "classified", "counted", "rows_of_groups", "valued"]

COLUMNS = (
    "sensitive_feature", "outcome", "group", "metric", "value", "low", "high", "numerator", "denominator", "enough",
)  # fmt: skip

Row = tuple[Any, ...]
Metric = tuple[str, Array, Interval, Array, Array]
"""Name, values of the groups, their intervals, numerators and denominators."""


def counted(sizes: npt.NDArray[np.int64], n: int) -> Metric:
    """Return how many rows each group has, of all; a number that was counted has no interval."""
    nothing = np.full(len(sizes), np.nan)
    return (
        "count",
        sizes.astype(np.float64),
        (nothing, nothing),
        sizes.astype(np.float64),
        np.full(len(sizes), float(n)),
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
        yield name, tally.value(name), evidence.interval(name, level), have, among
    classes = np.minimum(cells[:, :2].sum(axis=1), cells[:, 2:].sum(axis=1))
    unknown = np.full(len(cells), np.nan)
    yield "balanced_accuracy", balanced_accuracy(cells), evidence.interval("balanced_accuracy", level), unknown, classes
    hit = cells[:, 3]
    yield "f1", f1(cells), evidence.interval("f1", level), 2 * hit, cells[:, 1:].sum(axis=1) + hit
    yield from valued(evidence, level)
    for name, (value, interval) in scored.items():
        yield name, value, interval, unknown, classes if name == "auc" else cells.sum(axis=1)


def valued(evidence: Evidence, level: float) -> Iterator[Metric]:
    """Yield the means: of scores, or of the values and errors of a regression."""
    for name in evidence.tally.means:
        mean, _, n = evidence.tally.moments(name)
        yield name, mean, evidence.interval(name, level), mean * n, n


def rows_of_groups(
    feature: str, outcome: str, names: tuple[str, ...], metrics: Iterator[Metric], min_denominator: int
) -> Iterator[Row]:
    """Yield a row per metric and group, in the order of `COLUMNS`."""
    for name, value, (low, high), have, among in metrics:
        for at, group in enumerate(names):
            enough = bool(among[at] >= min_denominator)
            yield feature, outcome, group, name, value[at], low[at], high[at], have[at], among[at], enough
