"""What `find_slices` returns, and its words."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from dlstudio.errors import DLStudioError, unknown_name
from dlstudio.results import Finding, Result
from dlstudio.wording import p_words, percent, points, span

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["SliceResult", "findings_of", "words"]

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

RATE = "error rate"


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class SliceResult(Result, schema=2):
    """Slices of the rows by evidence that the model is worse there than elsewhere; the strongest evidence first.

    Every array has an entry per slice that is listed: those shown to be worse and not redundant, then, up to the number
    asked for, those with the most evidence among the others.

    Attributes:
        conditions: what is true of the rows, such as ``("race = black", "age > 52")``.
        n: int64, rows of the slice.
        value, elsewhere: float64, mean loss in the slice and among all other rows.
        low, high: float64, interval of ``value - elsewhere``; those of all slices tested hold together at `level`.
            Where a few losses are far larger than all others, an upper limit may be too low.
        p_value, p_adjusted: float64, one-sided, that it is worse than elsewhere; corrected for all slices tested.
        shown: bool, whether it is shown to be worse: by the adjusted p-value, and with an interval above `threshold`.
        within: int64, of a slice inside a listed one and shown to be even worse than the rest of it, that one's place;
            else -1.
        members: row numbers of every slice, the largest loss first.
        measure: ``"error rate"``, ``"mean absolute error"`` or ``"mean loss"``.
        overall: mean loss of all rows.
        n_rows, n_dropped: rows used; rows left out as their loss is missing.
        n_tested, n_small, n_redundant: slices tested; not tested as they have too few rows; shown to be worse too, but
            by what a listed slice explains.
        n_unlisted: slices shown to be worse that would have exceeded the number asked for.
        largest_high: the largest upper limit of an interval of all slices tested; NaN without any.
        skipped: columns that were left out, and why.
        depth, min_rows, threshold, level, seed: as they were given.
        data, run: the data set's name and the run's key, empty without.
        options: everything that `find_slices` was given beside the rows and what the model said of them, by name, so
            that ``find_slices(run, **result.options)`` does the same again.
        findings: what follows; codes DLS330 to DLS333.
    """

    conditions: tuple[tuple[str, ...], ...]
    n: Ints
    value: Floats
    elsewhere: Floats
    low: Floats
    high: Floats
    p_value: Floats
    p_adjusted: Floats
    shown: npt.NDArray[np.bool_]
    within: Ints
    members: tuple[Ints, ...]
    measure: str
    overall: float
    n_rows: int
    n_dropped: int = 0
    n_tested: int
    n_small: int = 0
    n_redundant: int = 0
    n_unlisted: int = 0
    largest_high: float = math.nan
    skipped: Mapping[str, str] = dataclasses.field(default_factory=dict)
    depth: int
    min_rows: int
    threshold: float
    level: float
    seed: int
    data: str = ""
    run: str = ""
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    findings: tuple[Finding, ...] = ()

    def __len__(self) -> int:
        return len(self.conditions)

    @property
    def slices(self) -> tuple[str, ...]:
        """Names of the slices, such as ``"race = black and age > 52"``."""
        return tuple(" and ".join(parts) for parts in self.conditions)

    @property
    def difference(self) -> Floats:
        """How much larger the mean loss is in each slice than elsewhere, float64."""
        found: Floats = self.value - self.elsewhere
        return found

    @property
    def verdict(self) -> str:
        """``"slices shown"``, ``"no slice shown"`` or ``"not enough data"`` (no slice has enough rows)."""
        if not self.n_tested:
            return "not enough data"
        return "slices shown" if self.shown.any() else "no slice shown"

    def frame(self) -> pd.DataFrame:
        """Return a row per listed slice.

        Columns are ``slice, n, value, elsewhere, difference, low, high, p_value, p_adjusted, verdict, within``; a
        verdict is ``"worse"`` or ``"not shown"``.
        """
        import pandas as pd

        return pd.DataFrame(
            {
                "slice": self.slices,
                "n": self.n,
                "value": self.value,
                "elsewhere": self.elsewhere,
                "difference": self.difference,
                "low": self.low,
                "high": self.high,
                "p_value": self.p_value,
                "p_adjusted": self.p_adjusted,
                "verdict": np.where(self.shown, "worse", "not shown"),
                "within": [self.slices[place] if place >= 0 else "" for place in self.within],
            }
        )

    def rows_of(self, which: int | str) -> Ints:
        """Return the row numbers of a listed slice, by its place or its name; the largest loss first.

        Raises:
            DLStudioError: there is no such slice.

        Example:
            >>> frame.iloc[result.rows_of("race = black and age > 52")[:5]]
        """
        if isinstance(which, str):
            if which not in self.slices:
                raise unknown_name("slice", which, self.slices)
            return self.members[self.slices.index(which)]
        if not 0 <= which < len(self):
            raise DLStudioError(f"one of {len(self)} slices, counted from 0", f"{which}", "See frame() for them.")
        return self.members[which]


def findings_of(result: SliceResult) -> tuple[Finding, ...]:
    """Return what follows, each with its numbers."""
    found = []
    for place in np.flatnonzero(result.shown).tolist():
        words = f"Where {result.slices[place]} ({result.n[place]:,} rows), the {result.measure} is"
        around = int(result.within[place])
        if around >= 0:
            more = [part for part in result.conditions[place] if part not in result.conditions[around]]
            words = f"Within {result.slices[around]}, it is worse still where {' and '.join(more)}: there"
            words += f" ({result.n[place]:,} rows) the {result.measure} is"
        found.append(
            Finding(
                code="DLS330",
                severity="warning",
                sentence=(
                    f"{words} {_said(result, result.value[place])}, against"
                    f" {_said(result, result.elsewhere[place])} elsewhere:"
                    f" {_gap(result, place)}, {p_words(result.p_adjusted[place])} after correction for"
                    f" {result.n_tested:,} slices tested."
                ),
                evidence={
                    "slice": result.slices[place],
                    "n": int(result.n[place]),
                    "value": float(result.value[place]),
                    "elsewhere": float(result.elsewhere[place]),
                    "low": float(result.low[place]),
                    "high": float(result.high[place]),
                    "p_adjusted": float(result.p_adjusted[place]),
                },
                remedy="Look at its rows, the worst first (`rows_of`): are data missing, wrong, or rare in training?",
            )
        )
    if result.verdict == "no slice shown":
        found.append(
            Finding(
                code="DLS331",
                severity="info",
                sentence=(
                    f"None of {result.n_tested:,} slices tested is shown to be worse than the rest"
                    f"{_by_threshold(result)} ({_whole(result)}). That does not show that all are alike: the one known"
                    f" least could still be {_points(result, result.largest_high)} worse."
                ),
                evidence={"n_tested": result.n_tested, "largest_high": result.largest_high},
            )
        )
    if result.verdict == "not enough data":
        found.append(
            Finding(
                code="DLS332",
                severity="warning",
                sentence=f"No slice has {result.min_rows:,} rows or more, with as many elsewhere ({_whole(result)}).",
                evidence={"n_rows": result.n_rows, "n_small": result.n_small, "min_rows": result.min_rows},
                remedy="Use more rows, fewer bins, or a smaller min_rows.",
            )
        )
    left_out = _left_out(result)
    if left_out:
        found.append(
            Finding(
                code="DLS333",
                severity="info",
                sentence=f"Not looked at: {left_out}.",
                evidence={
                    "n_dropped": result.n_dropped,
                    "n_small": result.n_small,
                    "n_unlisted": result.n_unlisted,
                    "columns": list(result.skipped),
                },
            )
        )
    return tuple(found)


def words(result: SliceResult) -> tuple[str, ...]:
    """Return the result in plain sentences, the summary first."""
    number = int(result.shown.sum())
    summary = {
        "slices shown": f"{number} {'slice is' if number == 1 else 'slices are'} shown to be worse than elsewhere",
        "no slice shown": "No slice is shown to be worse than elsewhere",
        "not enough data": "There are not enough rows to compare slices",
    }[result.verdict]
    first = f"{summary}{_by_threshold(result)}: {result.n_tested:,} slices of {_whole(result)} were tested."
    listed = [finding for finding in result.findings if finding.code == "DLS330"]
    others = [finding for finding in result.findings if finding.code != "DLS330"]
    sentences = [finding.sentence for finding in listed]
    if listed:
        sentences.append(listed[0].remedy)
    if result.n_redundant:
        share = "they share" if result.n_redundant > 1 else "it shares"
        sentences.append(
            f"{_counted(result.n_redundant, 'more slice')} came out worse as well, but only by rows that {share} with"
            f" {'these' if number > 1 else 'this one'}."
        )
    return (first, *sentences, *(f"{finding.sentence} {finding.remedy}".strip() for finding in others))


def _whole(result: SliceResult) -> str:
    name = f" of {result.data}" if result.data else ""
    return f"{result.n_rows:,} rows{name}, {result.measure} {_said(result, result.overall)}"


def _said(result: SliceResult, value: Any) -> str:
    return percent(value) if result.measure == RATE else f"{value:.4g}"


def _points(result: SliceResult, value: Any) -> str:
    return f"{points(value)} points" if result.measure == RATE else f"{value:.4g}"


def _gap(result: SliceResult, place: int) -> str:
    said = points if result.measure == RATE else "{:.4g}".format
    ends = span(said(result.low[place]), said(result.high[place]), result.level)
    return f"{_points(result, result.difference[place])} more ({ends}, wide enough for all slices together)"


def _by_threshold(result: SliceResult) -> str:
    return f" by more than {_points(result, result.threshold)}" if result.threshold else ""


def _left_out(result: SliceResult) -> str:
    parts = []
    if result.n_dropped:
        parts.append(f"{_counted(result.n_dropped, 'row')} without a loss")
    if result.n_small and result.n_tested:
        parts.append(f"{_counted(result.n_small, 'slice')} of fewer than {result.min_rows:,} rows")
    if result.n_unlisted:
        parts.append(f"{_counted(result.n_unlisted, 'slice')} shown to be worse beyond those listed")
    if result.skipped:
        columns = "; ".join(f"{name} ({why})" for name, why in list(result.skipped.items())[:6])
        more = f"; and {len(result.skipped) - 6} more" if len(result.skipped) > 6 else ""
        parts.append(f"{_counted(len(result.skipped), 'column')}: {columns}{more}")
    return ", ".join(parts)


def _counted(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
