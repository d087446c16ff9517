"""What `trade_off` returns, and the cost of each operating point in words."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from dlstudio import stats
from dlstudio.errors import DLStudioError
from dlstudio.fairness.mitigation.rates import POSITIVE, SELECTED, N
from dlstudio.results import Finding, Result

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["SPOKEN", "TradeOff", "findings_of"]

Array = npt.NDArray[np.float64]

SPOKEN = {
    "demographic_parity_difference": "demographic parity difference",
    "equal_opportunity_difference": "equal opportunity difference",
    "equalized_odds_difference": "equalized odds difference",
}


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class TradeOff(Result, schema=1):
    """Operating points: what each gives in accuracy and leaves as a gap, on rows that nothing was fitted on.

    Of p points and g groups; the first point is the model as it is, others are compared with it row by row.

    Attributes:
        criterion: fairlearn's name of the gap.
        sensitive_feature, groups: who is compared.
        names, kinds: of points; a kind is ``"model"`` (as it is), ``"thresholds"`` (by group) or ``"variant"``.
        limits: float64 (p,), the gap that thresholds by group were limited to; else NaN.
        thresholds: float64 (p, g), scores at or above are decided as class 1.
        shared: bool (g,), groups too small for a threshold of their own.
        fit_gap, fit_accuracy: float64 (p,), on the rows thresholds were found on; NaN for variants.
        n_fit: how many rows these were.
        counts: int64 (p, g, 4), judged rows: all, those of class 1, those given class 1, and both.
        accuracy, accuracy_low, accuracy_high: float64 (p,), with Wilson's interval.
        gap, gap_low, gap_high: float64 (p,), with Newcombe's interval of the pair that is furthest apart.
        pair: int64 (p, 2), that pair: places of the groups with the lower and with the higher rate; -1 for none.
        accuracy_change: float64 (p, 3), against the first point: value, low, high.
        selection_change: float64 (p, g, 3), of the selection rate: value, low, high.
        positive: what class 1 is called.
        data, run: name of the data, the run's key; empty where there is none.
        level: of confidence.
        findings: what follows; codes DLS360 to DLS364.
    """

    criterion: str
    sensitive_feature: str
    groups: tuple[str, ...]
    names: tuple[str, ...]
    kinds: tuple[str, ...]
    limits: Array
    thresholds: Array
    shared: npt.NDArray[np.bool_]
    fit_gap: Array
    fit_accuracy: Array
    n_fit: int
    counts: npt.NDArray[np.int64]
    accuracy: Array
    accuracy_low: Array
    accuracy_high: Array
    gap: Array
    gap_low: Array
    gap_high: Array
    pair: npt.NDArray[np.int64]
    accuracy_change: Array
    selection_change: Array
    positive: str = "1"
    data: str = ""
    run: str = ""
    level: float = 0.95
    findings: tuple[Finding, ...] = ()

    def __len__(self) -> int:
        return len(self.names)

    @property
    def n_rows(self) -> int:
        """How many rows the points are judged on."""
        return int(self.counts[0, :, N].sum())

    @property
    def needs_sensitive_feature(self) -> tuple[bool, ...]:
        """For every point, whether its decisions need the group of a row beside what the model itself reads."""
        return tuple(kind == "thresholds" for kind in self.kinds)

    @property
    def selection_rate(self) -> Array:
        """float64 (p, g), the share of each group that is given class 1; NaN for a group without rows."""
        with np.errstate(invalid="ignore"):
            rates: Array = self.counts[..., SELECTED] / self.counts[..., N]
        return rates

    @property
    def selection_low(self) -> Array:
        """float64 (p, g), the lower limit of Wilson's interval of the selection rate."""
        return stats.wilson(self.counts[..., SELECTED], self.counts[..., N], self.level)[0]

    @property
    def selection_high(self) -> Array:
        """float64 (p, g), the upper limit of Wilson's interval of the selection rate."""
        return stats.wilson(self.counts[..., SELECTED], self.counts[..., N], self.level)[1]

    def frame(self) -> pd.DataFrame:
        """Return a row per point and group.

        Columns are ``point, name, kind, limit, needs_sensitive_feature, accuracy, accuracy_low, accuracy_high, gap,
        gap_low, gap_high, group, threshold, n, selection_rate, selection_change, selection_change_low,
        selection_change_high``.
        """
        import pandas as pd

        p, g = len(self), len(self.groups)
        by_point = {
            "point": np.arange(p),
            "name": np.array(self.names, dtype=object),
            "kind": np.array(self.kinds, dtype=object),
            "limit": self.limits,
            "needs_sensitive_feature": np.array(self.needs_sensitive_feature),
            **{
                name: getattr(self, name)
                for name in ("accuracy", "accuracy_low", "accuracy_high", "gap", "gap_low", "gap_high")
            },
        }
        change = self.selection_change.reshape(p * g, 3).T
        return pd.DataFrame(
            {name: np.repeat(values, g) for name, values in by_point.items()}
            | {
                "group": np.tile(np.array(self.groups, dtype=object), p),
                "threshold": self.thresholds.ravel(),
                "n": self.counts[..., N].ravel(),
                "selection_rate": self.selection_rate.ravel(),
                "selection_change": change[0],
                "selection_change_low": change[1],
                "selection_change_high": change[2],
            }
        )

    def choose(self, max_gap: float) -> int:
        """Return the point of the model and of thresholds by group that is most accurate with at most this gap.

        Gap and accuracy are those of the rows that thresholds were found on, so that a point's judgement on the
        others stays fair. Where no point has so small a gap, the one with the smallest is taken.

        Args:
            max_gap: the limit, from 0 to 1.

        Raises:
            DLStudioError: it is none.
        """
        if not 0 <= max_gap <= 1:
            raise DLStudioError("max_gap from 0 to 1", f"max_gap={max_gap!r}", "Try 0.05.")
        fits = np.flatnonzero(self.fit_gap <= max_gap + 1e-12)
        if not len(fits):
            return int(np.nanargmin(self.fit_gap))
        return int(fits[np.argmax(self.fit_accuracy[fits])])

    def words(self, at: int) -> tuple[str, ...]:
        """Return plain sentences on a point: what it changes for whom, what it costs, and what it needs.

        Args:
            at: which point, 0 for the model as it is.

        Raises:
            DLStudioError: there is no such point.
        """
        if not 0 <= at < len(self):
            raise DLStudioError(f"a point from 0 to {len(self) - 1}", f"{at!r}", "Choose one of the points.")
        where = f"{self.n_rows:,} rows" + (f" of {self.data}" if self.data else "") + " that nothing was fitted on"
        accuracy = (
            f"accuracy {self.accuracy[at]:.1%} ({self.level:.0%} interval {self.accuracy_low[at]:.1%} to"
            f" {self.accuracy_high[at]:.1%})"
        )
        said = [f"{_sentence(self.names[at])}: {accuracy}, {self._gap_words(at)}, on {where}."]
        if at:
            said += [self._group_words(at), self._cost_words(at)]
        said.append(
            f"Decisions need to know {self.sensitive_feature} of every row."
            if self.needs_sensitive_feature[at]
            else f"Decisions do not need {self.sensitive_feature}, unless it is among the inputs of the model."
        )
        return tuple(filter(None, said))

    def _gap_words(self, at: int) -> str:
        name = SPOKEN[self.criterion]
        if not np.isfinite(self.gap[at]):
            return f"{name} unknown, as fewer than two groups have enough rows"
        lower, higher = (self.groups[place] for place in self.pair[at])
        return (
            f"{name} {self.gap[at]:.3f} ({self.level:.0%} interval of {higher} against {lower}"
            f" {self.gap_low[at]:.3f} to {self.gap_high[at]:.3f})"
        )

    def _group_words(self, at: int) -> str:
        """What changes for whom, the largest change first."""
        moved = [place for place in range(len(self.groups)) if self.selection_change[at, place, 0] != 0]
        moved = [place for place in moved if self.counts[at, place, N]]
        moved.sort(key=lambda place: -abs(self.selection_change[at, place, 0]))
        parts = []
        for place in moved[:4]:
            change, low, high = self.selection_change[at, place] * 100
            verb = "raises" if change > 0 else "lowers"
            before, after = self.selection_rate[0, place], self.selection_rate[at, place]
            parts.append(
                f"{verb} the share of {self.positive!r} for {self.sensitive_feature} {self.groups[place]} by"
                f" {abs(change):.1f} points, from {before:.1%} to {after:.1%}"
                f" (interval of the change {low:+.1f} to {high:+.1f}, {self.counts[at, place, N]:,} rows)"
            )
        if not parts:
            return "It decides as the model does."
        more = f"; {len(moved) - 4} other groups change less" if len(moved) > 4 else ""
        return f"It {'; '.join(parts)}{more}."

    def _cost_words(self, at: int) -> str:
        change, low, high = self.accuracy_change[at] * 100
        span = f"(interval of the change {low:+.1f} to {high:+.1f})"
        if change == 0:
            return f"It costs no accuracy {span}."
        verb = "costs" if change < 0 else "gains"
        return f"It {verb} {abs(change):.1f} points of accuracy {span}."


def findings_of(result: TradeOff) -> list[Finding]:
    """Return what a reader of the points has to know."""
    found = []
    thresholds = np.flatnonzero(np.array(result.kinds) == "thresholds")
    if len(thresholds):
        at = int(thresholds[-1])
        found.append(
            Finding(
                code="DLS360",
                severity="info",
                sentence=" ".join(result.words(at)),
                evidence={
                    "point": at,
                    "gap": float(result.gap[at]),
                    "accuracy": float(result.accuracy[at]),
                    "accuracy_change": float(result.accuracy_change[at, 0]),
                },
                remedy="Choose a point whose cost you can answer for; smaller gaps are not free.",
            )
        )
    if result.shared.any():
        small = [name for name, shared in zip(result.groups, result.shared, strict=True) if shared]
        found.append(
            Finding(
                code="DLS361",
                severity="warning",
                sentence=f"{', '.join(small)}: too few rows for a threshold of their own; they keep the common one"
                " and do not count in the gap.",
                evidence={"groups": small},
                remedy="Gather more rows of these groups, or merge them where that makes sense.",
            )
        )
    if not np.isfinite(result.gap[0]):
        found.append(
            Finding(
                code="DLS364",
                severity="warning",
                sentence=f"No {SPOKEN[result.criterion]} can be judged: fewer than two groups have enough of the"
                f" {result.n_rows:,} judged rows.",
                evidence={"n_rows": result.n_rows},
                remedy="Judge on more rows, or set a smaller min_denominator and mind the wide intervals.",
            )
        )
    carried = [at for at in thresholds if result.gap_low[at] > result.limits[at] and np.isfinite(result.gap[at])]
    if carried:
        at = int(carried[-1])
        found.append(
            Finding(
                code="DLS362",
                severity="warning",
                sentence=(
                    f"Limits did not carry over: thresholds found for a gap of at most {result.limits[at]:.3f} on"
                    f" {result.n_fit:,} rows leave {result.gap[at]:.3f} ({result.level:.0%} interval"
                    f" {result.gap_low[at]:.3f} to {result.gap_high[at]:.3f}) on the {result.n_rows:,} others."
                ),
                evidence={"points": [int(place) for place in carried]},
                remedy="Read the judged gap, not the limit, and find thresholds on more rows.",
            )
        )
    n, selected = result.counts[..., N], result.counts[..., SELECTED]
    one_sided = [
        int(at)
        for at in range(1, len(result))
        if selected[at].sum() in (0, n[at].sum()) and 0 < selected[0].sum() < n[0].sum()
    ]
    if one_sided:
        at = one_sided[-1]
        whom = "nobody" if selected[at].sum() == 0 else "everybody"
        found.append(
            Finding(
                code="DLS363",
                severity="warning",
                sentence=f"{_sentence(result.names[at])}: gives {result.positive!r} to {whom}. No gap is left because"
                " nothing is decided.",
                evidence={
                    "points": one_sided,
                    "share_of_class_1": float(result.counts[0, :, POSITIVE].sum() / n[0].sum()),
                },
                remedy="Choose a point with a larger gap, or a better model.",
            )
        )
    return found


def _sentence(words: str) -> str:
    return words[:1].upper() + words[1:]
