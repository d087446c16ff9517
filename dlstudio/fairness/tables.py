"""The three tables of an audit: metrics of groups, gaps, and combinations of groups."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from dlstudio.fairness import by_group, gaps
from dlstudio.fairness.clustered import clustered_evidence
from dlstudio.fairness.clusters import Clusters
from dlstudio.fairness.counts import tally
from dlstudio.fairness.evidence import Evidence
from dlstudio.fairness.groups import Groups, crossed
from dlstudio.fairness.inputs import Outcome, Subject
from dlstudio.fairness.result import table_of
from dlstudio.fairness.scored import score_intervals
from dlstudio.fairness.slopes import Logits, logits_of, slopes

__all__ = ["EVERYBODY", "Tables"]

EVERYBODY = "everybody else"


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Tables:
    """What the tables of one audit are made from."""

    subject: Subject
    clusters: Clusters | None
    level: float
    min_denominator: int
    n_draws: int
    seed: int

    def evidence(self, groups: Groups, outcome: Outcome, *, rest: bool = False) -> Evidence:
        """Add up the rows of every group, followed by everybody else than each of them where `rest` is set."""
        n = len(groups.names)
        if self.clusters is not None:
            evidence: Evidence = clustered_evidence(groups.codes, n, outcome, self.clusters, rest=rest)
        else:
            found = tally(groups.codes, n, outcome)
            evidence = Evidence(found.with_rest() if rest else found)
        if outcome.name in self._logits:
            fitted = slopes(
                groups.codes, n, outcome, self._logits[outcome.name], clusters=self.clusters, rest=rest,
                least=self.min_denominator if rest else 1,
            )  # fmt: skip
            evidence.tally = dataclasses.replace(evidence.tally, slopes=fitted)
        return evidence

    @functools.cached_property
    def _logits(self) -> dict[str, Logits]:
        return {o.name: logits_of(o.y_score) for o in self.subject.outcomes if o.y_score is not None}

    def groups(self, singles: Sequence[Groups], evidence: Mapping[tuple[str, str], Evidence]) -> Iterator[Any]:
        """Yield the rows of metrics by group, those of all rows together first."""
        whole = Groups(feature="", names=("overall",), codes=np.zeros(len(self.subject.kept), dtype=np.int32))
        for one in (whole, *singles):
            first = [by_group.counted(one.sizes, len(one.codes))]
            if self.subject.task == "multiclass":
                first.append(self._right(one))
            yield from by_group.rows_of_groups(one.feature, "", one.names, iter(first), self.min_denominator)
            for o in self.subject.outcomes:
                found = evidence.get((one.feature, o.name)) or self.evidence(one, o)
                metrics = (
                    by_group.valued(found, self.level)
                    if self.subject.task == "regression"
                    else by_group.classified(found, self.level, self._scored(one, o))
                )
                yield from by_group.rows_of_groups(one.feature, o.name, one.names, metrics, self.min_denominator)

    def _right(self, groups: Groups) -> by_group.Metric:
        """The accuracy over all classes."""
        assert self.subject.right is not None
        correct = Outcome(name="", y_true=np.ones_like(self.subject.right), y_pred=self.subject.right, y_score=None)
        found = self.evidence(groups, correct)
        have, among = found.tally.rate("accuracy")
        value, interval = found.tally.value("accuracy"), found.interval("accuracy", self.level)
        return "accuracy", value, interval, have, among, found.among("accuracy")

    def _scored(self, groups: Groups, outcome: Outcome) -> dict[str, Any]:
        if outcome.y_score is None:
            return {}
        return score_intervals(
            groups.codes, len(groups.names), outcome.y_true, outcome.y_score,
            level=self.level, n_draws=self.n_draws, seed=self.seed, clusters=self.clusters,
        )  # fmt: skip

    def intersections(self, singles: Sequence[Groups], most: int, judge: gaps.Judge) -> dict[str, Any]:
        """Return the table of combinations of groups against everybody else, strongest evidence first."""
        family: list[gaps.Compared] = []
        sizes: dict[tuple[str, str], int] = {}
        for groups in crossed(singles, most):
            n = len(groups.names)
            sizes |= {(groups.feature, name): int(size) for name, size in zip(groups.names, groups.sizes, strict=True)}
            pairs = np.arange(n), np.arange(n, 2 * n)
            names = (*groups.names, *[EVERYBODY] * n)
            for o in self.subject.outcomes:
                found = self.evidence(groups, o, rest=True)
                family += gaps.compare(groups.feature, o.name, names, found, pairs, self.min_denominator)
        rows = [(*row, sizes[row[0], row[3]]) for row in judge.rows(family, of_groups=False)]
        rows.sort(key=_by_evidence)
        return table_of((*gaps.COLUMNS, "n"), rows)


def _by_evidence(row: Sequence[Any]) -> tuple[Any, ...]:
    value, low, high, p, adjusted = (
        row[gaps.COLUMNS.index(name)] for name in ("value", "low", "high", "p_value", "p_adjusted")
    )
    # Where p-values are too small for a float, the gap in widths of its interval says which is stronger.
    return np.isnan(p), adjusted, p, -abs(value) / (high - low) if high > low else 0.0
