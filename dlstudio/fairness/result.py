"""What `audit_fairness` returns."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from dlstudio.data.groups import AND
from dlstudio.errors import unknown_name
from dlstudio.fairness.gaps import NO_GAP, OVERALL, SHOWN, TOO_FEW
from dlstudio.results import Finding, Result, records
from dlstudio.wording import listed

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["FairnessAudit", "is_worst", "table_of", "without_too_few"]

Table = Mapping[str, npt.NDArray[Any]]

VERDICTS = {SHOWN: "a gap is shown by", NO_GAP: "no gap by", TOO_FEW: "not enough data for"}


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class FairnessAudit(Result, schema=3):
    """Metrics of groups and gaps between them, with their uncertainty.

    Attributes:
        task: ``"binary"``, ``"multiclass"`` or ``"regression"``.
        features: the sensitive columns.
        group_names: of each column, its groups.
        codes: int16 (columns, n), the group of every audited row.
        rows: int64 (n,), row numbers in the data set, or 0, 1, 2, … of what was passed.
        positive: what the positive class of a binary task is called.
        groups_table, gaps_table, intersections_table: columns of `by_group`, `gaps` and `intersections`.
        level: of confidence.
        threshold, threshold_ratio: gaps up to it, and ratios from it to its inverse, do not count; None where ratios
            are not tested.
        min_denominator: groups with fewer rows that could count, or clusters of them, are not compared.
        n_clusters: how many clusters the rows form; 0 where each is on its own.
        n_resamples, seed: of what was drawn anew.
        options: everything that `audit_fairness` was given beside the predictions and the sensitive columns, by name:
            ``audit_fairness(run, sensitive_features=..., **audit.options)`` audits in the same way again. Clusters are
            the name of a run's column, or int64 (rows given,) the number of each row's.
        dropped: why rows were left out, and how many.
        findings: what follows, codes DLS301 to DLS310.
        run, data, split: the run's key, its data and part; empty for arrays.
        wall_s: seconds it took.

    Example:
        >>> a = dls.audit_fairness(y_true, y_pred, sensitive_features=frame[["race", "sex"]])
        >>> a.gaps.query("group == 'overall'")[["criterion", "value", "low", "high", "verdict"]]
        >>> a.rows_of("race × sex", "black × female")
    """

    task: str
    features: tuple[str, ...]
    group_names: tuple[tuple[str, ...], ...]
    codes: npt.NDArray[np.int16]
    rows: npt.NDArray[np.int64]
    positive: str = ""
    groups_table: Table
    gaps_table: Table
    intersections_table: Table
    level: float
    threshold: float
    threshold_ratio: float | None
    min_denominator: int
    n_clusters: int = 0
    n_resamples: int
    seed: int
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    dropped: Mapping[str, int] = dataclasses.field(default_factory=dict)
    findings: tuple[Finding, ...] = ()
    run: str = ""
    data: str = ""
    split: str = ""
    wall_s: float = 0.0

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def by_group(self) -> pd.DataFrame:
        """One row per metric and group, and of all rows together as the group ``"overall"`` of no column.

        Columns: ``sensitive_feature``, ``outcome`` (the class of a multiclass task), ``group``, ``metric``, ``value``,
        ``low``, ``high``, ``numerator``, ``denominator``, ``enough``. What was counted among no row is NaN.
        """
        return _frame(self.groups_table)

    @property
    def gaps(self) -> pd.DataFrame:
        """One row per criterion and pair of groups, and one of the worst pair as the group ``"overall"``.

        Columns: ``sensitive_feature``, ``outcome``, ``criterion``, ``group``, ``reference``, ``value`` (group less
        reference, or group over reference), ``low``, ``high``, ``p_value`` (of no gap, or of none beyond the
        threshold), ``p_adjusted`` (by Holm's method, over all pairs and criteria; doubled where combinations are
        tested too, which have the other half), ``verdict``, ``metric`` (what differs), ``shown_by``, ``joint_low`` and
        ``joint_high`` (limits that hold for all pairs and rates of the criterion at once, by Bonferroni). Of equalized
        odds, a pair has the numbers of one rate: of those beyond the threshold the one with the strongest evidence,
        else the one farther apart.

        In the rows ``"overall"``, the reference names the pair that is farthest apart, of those with enough data, and
        value is what fairlearn would say of these groups. As this pair was chosen for being the widest, low and high
        are the joint limits there. The verdict is that of the criterion: a gap is shown if any pair shows one, and
        ``shown_by`` names the largest of these, if there are any of those whose joint limits show it too; it need not
        be the pair farthest apart, which may be of small groups. A group that is itself called "overall" is "overall
        (group)" here.
        """
        return _frame(self.gaps_table)

    @property
    def intersections(self) -> pd.DataFrame:
        """One row per criterion and combination of groups, each against everybody else, strongest evidence first.

        Columns as in `gaps` and ``n``, how many rows the combination has. Adjusted over all of these rows, and doubled,
        as single columns have the other half; joint limits hold for all of these rows at once.
        """
        return _frame(self.intersections_table)

    @property
    def verdict(self) -> str:
        """``"gap shown"`` if any criterion shows one, else ``"not enough data"`` if any lacks them."""
        found = self.gaps_table["verdict"][self.gaps_table["group"] == OVERALL].tolist()
        return next((verdict for verdict in (SHOWN, TOO_FEW) if verdict in found), NO_GAP)

    @property
    def summary(self) -> tuple[str, ...]:
        """Plain sentences for readers without code, each with its numbers, interval and data."""
        by = [f"{name} ({len(groups)} groups)" for name, groups in zip(self.features, self.group_names, strict=True)]
        worst = [row["verdict"] for row in records(self.gaps_table) if is_worst(row)]
        counts = ", ".join(f"{words} {worst.count(verdict)}" for verdict, words in VERDICTS.items())
        on = f"{len(worst)} {'criterion' if len(worst) == 1 else 'criteria'}"
        said = [
            f"{len(self):,} predictions{f' of {self.data!r}' if self.data else ''} were assessed by"
            f" {listed(by, len(by))}. Verdicts on {on}: {counts}."
        ]
        left = [names for finding in self.findings if (names := finding.evidence.get("not_compared"))]
        if left:
            names = listed(sorted({name for some in left for name in some}))
            said[0] += f" In {len(left)} of those without a gap, {names} had too few rows to be compared."
        for finding in self.findings:  # a remedy is said once
            new = finding.remedy and not any(finding.remedy in sentence for sentence in said)
            said.append(f"{finding.sentence} {finding.remedy}" if new else finding.sentence)
        return tuple(said)

    def frame(self) -> pd.DataFrame:
        """Return `gaps`."""
        return self.gaps

    def rows_of(self, sensitive_feature: str, group: str) -> npt.NDArray[np.int64]:
        """Return the row numbers of a group, as `by_group` or `intersections` names it.

        Raises:
            DLStudioError: there is no such column or group.

        Example:
            >>> first = a.intersections.iloc[0]
            >>> a.rows_of(first["sensitive_feature"], first["group"])
        """
        chosen = np.ones(len(self.rows), dtype=bool)
        features = sensitive_feature.split(AND)
        for feature in features:
            if feature not in self.features:
                raise unknown_name("sensitive column", feature, self.features)
        names = group.split(AND) if len(features) > 1 else [group]
        if len(names) != len(features):
            raise unknown_name("group", group, (AND.join("…" for _ in features),))
        for feature, name in zip(features, names, strict=True):
            at = self.features.index(feature)
            if name not in self.group_names[at]:
                raise unknown_name("group", name, self.group_names[at])
            chosen &= self.codes[at] == self.group_names[at].index(name)
        return self.rows[chosen]


def is_worst(row: Mapping[str, Any]) -> bool:
    """Return whether a row of gaps gives the verdict of a criterion."""
    return bool(row["group"] == OVERALL and row["criterion"].endswith("_difference"))


def without_too_few(frame: pd.DataFrame) -> pd.DataFrame:
    """Return a table of an audit for readers, without the numbers that rest on too few rows to speak of."""
    few = ~frame["enough"] if "enough" in frame else frame["p_value"].isna()
    return frame.assign(**{name: frame[name].mask(few) for name in NUMBERS if name in frame})


def table_of(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> dict[str, npt.NDArray[Any]]:
    """Turn rows into columns of text, numbers or booleans."""
    found = list(zip(*rows, strict=True)) or [()] * len(columns)
    return {name: _array(name, values) for name, values in zip(columns, found, strict=True)}


NUMBERS = ("value", "low", "high", "numerator", "joint_low", "joint_high")
TEXT = ("sensitive_feature", "outcome", "criterion", "group", "reference", "verdict", "metric", "shown_by")


def _array(name: str, values: Sequence[Any]) -> npt.NDArray[Any]:
    if name in TEXT:
        return np.array(values, dtype=np.str_)
    return np.array(values, dtype={"enough": np.bool_, "n": np.int64}.get(name, np.float64))


def _frame(table: Table) -> pd.DataFrame:
    import pandas as pd

    return pd.DataFrame({name: column.astype(object) if name in TEXT else column for name, column in table.items()})
