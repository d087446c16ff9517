"""What `trade_off` returns, and the cost of each operating point in words."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from dlstudio import stats
from dlstudio.errors import DLStudioError
from dlstudio.fairness.mitigation.rates import SELECTED, N, enough
from dlstudio.results import Finding, Result

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["SPOKEN", "TradeOff", "opened"]

Array = npt.NDArray[np.float64]

SPOKEN = {
    "demographic_parity_difference": "demographic parity difference",
    "equal_opportunity_difference": "equal opportunity difference",
    "equalized_odds_difference": "equalized odds difference",
}


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class TradeOff(Result, schema=3):
    """Operating points: what each gives in accuracy and leaves as a gap, on rows that nothing was fitted on.

    Of p points and g groups; the first point is the model as it is, others are compared with it row by row. Rows are
    taken as independent of each other.

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
        gap, gap_low, gap_high: float64 (p,), with Newcombe's interval of the pair that is furthest apart. Its level is
            corrected (Bonferroni) for all pairs and rates of a point, as the widest of them was chosen.
        pair: int64 (p, 2), that pair: places of the groups with the lower and with the higher rate; -1 for none.
        accuracy_change: float64 (p, 3), against the first point: value, low, high. Where no row changed, the limits
            say how many of others might; they are 0 where the decisions are the same by their rule.
        selection_change: float64 (p, g, 3), of the selection rate: value, low, high, in the same way.
        needs_sensitive_feature: for every point, whether decisions need the group of a row, for its threshold or as
            an input of the model; None where that is not known, as of scores.
        taken: for every point, the sensitive columns among the inputs of its model; None where these are not known.
        exceeded: bool (p,), limits that did not carry over: the gap is above the limit by an interval that holds for
            all points at once.
        min_denominator: how many judged rows every rate of a group needs to count in the gap.
        positive: what class 1 is called.
        data, run: name of the data, the run's key; empty where there is none.
        level: of confidence.
        options: everything that `trade_off` was given beside the predictions and the sensitive columns, by name:
            ``trade_off(run, sensitive_features=..., **t.options)`` works it out in the same way again. Variants are
            keys of runs, or scores.
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
    needs_sensitive_feature: tuple[bool | None, ...]
    taken: tuple[tuple[str, ...] | None, ...]
    exceeded: npt.NDArray[np.bool_]
    min_denominator: int
    positive: str = "1"
    data: str = ""
    run: str = ""
    level: float = 0.95
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    findings: tuple[Finding, ...] = ()

    def __len__(self) -> int:
        return len(self.names)

    @property
    def n_rows(self) -> int:
        """How many rows the points are judged on."""
        return int(self.counts[0, :, N].sum())

    @property
    def compared(self) -> npt.NDArray[np.bool_]:
        """bool (g,), the groups that are compared: of the others there are too few rows to speak of their rates."""
        large: npt.NDArray[np.bool_] = ~self.shared & enough(self.counts[0], self.criterion, self.min_denominator)
        return large

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
        gap_low, gap_high, group, compared, threshold, n, selection_rate, selection_change, selection_change_low,
        selection_change_high``. Rates of groups that are not compared are NaN.
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
        there = np.tile(self.compared, p)
        change = np.where(there, self.selection_change.reshape(p * g, 3).T, np.nan)
        return pd.DataFrame(
            {name: np.repeat(values, g) for name, values in by_point.items()}
            | {
                "group": np.tile(np.array(self.groups, dtype=object), p),
                "compared": there,
                "threshold": self.thresholds.ravel(),
                "n": self.counts[..., N].ravel(),
                "selection_rate": np.where(there, self.selection_rate.ravel(), np.nan),
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
            f"accuracy {_percent(self.accuracy[at])} ({self._interval()} {_percent(self.accuracy_low[at])} to"
            f" {_percent(self.accuracy_high[at])})"
        )
        said = [f"{opened(self.names[at])}: {accuracy}, {self._gap_words(at)}, on {where}."]
        if at:
            said += [self._group_words(at), self._cost_words(at)]
        return (*said, self._needs_words(at))

    def _needs_words(self, at: int) -> str:
        """What is needed at decision time, as far as it is known."""
        feature, taken, needs = self.sensitive_feature, self.taken[at], self.needs_sensitive_feature[at]
        if taken is None:
            inputs = f"it is not known whether the model takes {feature} among its inputs"
        elif taken:
            inputs = f"the model takes {' and '.join(taken)} among its inputs"
        else:
            inputs = f"the model does not take {feature} among its inputs"
        if needs and (self.kinds[at] == "thresholds" or not taken):
            return f"Decisions need to know {feature} of every row, for its threshold; {inputs}."
        verb = {None: "may need", True: "need", False: "do not need"}[needs]
        return f"Decisions {verb} {feature}: {inputs}."

    def _gap_words(self, at: int) -> str:
        name = SPOKEN[self.criterion]
        if not np.isfinite(self.gap[at]):
            return f"{name} unknown, as fewer than two groups have enough rows"
        lower, higher = (self.groups[place] for place in self.pair[at])
        return (
            f"{name} {self.gap[at]:.3f} ({self._interval()} of {higher} against {lower}"
            f" {self.gap_low[at]:.3f} to {self.gap_high[at]:.3f})"
        )

    def _group_words(self, at: int) -> str:
        """What changes for whom, the largest change first."""
        moved = [place for place in range(len(self.groups)) if self.selection_change[at, place, 0] != 0]
        moved = [place for place in moved if self.compared[place]]
        moved.sort(key=lambda place: -abs(self.selection_change[at, place, 0]))
        parts = []
        for place in moved[:4]:
            change, low, high = self.selection_change[at, place] * 100
            verb = "raises" if change > 0 else "lowers"
            before, after = self.selection_rate[0, place], self.selection_rate[at, place]
            parts.append(
                f"{verb} the share of {self.positive!r} for {self.sensitive_feature} {self.groups[place]} by"
                f" {abs(change):.1f} points, from {_percent(before)} to {_percent(after)}"
                f" (interval of the change {low:+.1f} to {high:+.1f}, {self.counts[at, place, N]:,} rows)"
            )
        if not parts:
            return f"It changes the share of {self.positive!r} in none of the groups that are compared."
        more = f"; {len(moved) - 4} other groups change less" if len(moved) > 4 else ""
        few = int((~self.compared).sum())
        unsaid = f" Nothing is said of {few} {'group' if few == 1 else 'groups'} with too few rows." if few else ""
        return f"It {'; '.join(parts)}{more}.{unsaid}"

    def _cost_words(self, at: int) -> str:
        change, low, high = self.accuracy_change[at] * 100
        span = f"(interval of the change {low:+.1f} to {high:+.1f})"
        if change == 0:
            return f"It costs no accuracy {span}."
        verb = "costs" if change < 0 else "gains"
        return f"It {verb} {abs(change):.1f} points of accuracy {span}."

    def _interval(self) -> str:
        return f"{100 * self.level:g} % interval"


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def opened(words: str) -> str:
    """Return words as the begin of a sentence."""
    return words[:1].upper() + words[1:]
