"""Gaps between groups: signed pairs with intervals and p-values, judged as one family, and the worst pair of each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from dlstudio import stats
from dlstudio.fairness.counts import CRITERIA, OBSERVED, SLOPE, Array, Interval
from dlstudio.fairness.evidence import Evidence
from dlstudio.fairness.measured import Measured, Places

__all__ = ["COLUMNS", "NO_GAP", "OVERALL", "SHOWN", "TOO_FEW", "Compared", "Judge", "compare", "pairs_of"]

COLUMNS = (
    "sensitive_feature", "outcome", "criterion", "group", "reference", "value", "low", "high", "p_value", "p_adjusted",
    "verdict", "metric", "shown_by", "joint_low", "joint_high",
)  # fmt: skip
SHOWN, NO_GAP, TOO_FEW = "gap shown", "no gap shown", "not enough data"
OVERALL = "overall"
AS_RATIO = {"calibration_bias": OBSERVED, "mean_prediction": "", "mean_error": ""}
"""What is divided instead, where a metric itself cannot be: means of quantities have no natural zero, or any sign."""
LARGEST_PULL = 0.2239
"""The most that a probability can change by, per unit of calibration slope: the largest x p (1 - p) at log odds x."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Compared:
    """One criterion over pairs of groups.

    Attributes:
        feature, outcome, criterion: of what.
        metrics: that the criterion compares.
        names: of the groups.
        a, b: int64 (pairs,), places of group and reference.
        evidence: of the groups.
        enough: bool (metrics, pairs), whether both denominators are large enough.
        p: (metrics, pairs), the p-values of no gap at all; NaN where there are too few data.
    """

    feature: str
    outcome: str
    criterion: str
    metrics: tuple[str, ...]
    names: tuple[str, ...]
    a: Places
    b: Places
    evidence: Evidence
    enough: npt.NDArray[np.bool_]
    p: Array


def pairs_of(sizes: npt.NDArray[np.int64], reference: int | None = None) -> tuple[Places, Places]:
    """Return all pairs of groups, the larger one as the reference; or each group against one reference."""
    if reference is not None:
        others = np.delete(np.arange(len(sizes)), reference)
        return others, np.full(len(others), reference)
    order = np.argsort(-sizes, kind="stable")
    first, second = np.triu_indices(len(order), 1)
    return order[second], order[first]


def compare(
    feature: str,
    outcome: str,
    names: tuple[str, ...],
    evidence: Evidence,
    pairs: tuple[Places, Places],
    min_denominator: int,
) -> Iterator[Compared]:
    """Yield the criteria that the evidence has the metrics of, each tested over all pairs."""
    a, b = pairs
    known: dict[str, tuple[npt.NDArray[np.bool_], Array]] = {}
    there = set(evidence.tally.names)
    for criterion, metrics in CRITERIA.items():
        if not there.issuperset(metrics):
            continue
        for name in metrics:
            if name not in known:
                among = evidence.among(name)
                enough = np.minimum(among[a], among[b]) >= min_denominator
                p = np.full(len(a), np.nan)
                p[enough] = evidence.p(name, a[enough], b[enough])
                known[name] = enough, p
        yield Compared(
            feature=feature, outcome=outcome, criterion=criterion, metrics=metrics, names=names, a=a, b=b,
            evidence=evidence, enough=np.stack([known[name][0] for name in metrics]),
            p=np.stack([known[name][1] for name in metrics]),
        )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Judge:
    """When a gap counts as shown, and when data are enough to say that none is.

    Attributes:
        level: of confidence.
        threshold: gaps up to this size do not count.
        threshold_ratio: ratios from this one to its inverse do not count; None where ratios are not tested.
        resolution: no gap is shown where half an interval is at most this wide, or all of it within the threshold.
        scale: what widths of intervals of means are compared with, the standard deviation of the target.
        families: how many families of tests share the probability of an error.
    """

    level: float
    threshold: float
    threshold_ratio: float | None
    resolution: float = 0.1
    scale: float = 1.0
    families: int = 1

    def rows(self, family: Sequence[Compared], *, of_groups: bool = True) -> Iterator[tuple[Any, ...]]:
        """Yield rows in the order of `COLUMNS`; p-values are adjusted by Holm's method over the whole family.

        A ratio is the same gap written in another way: without a threshold of its own, it has the p-value and verdict
        of its difference.

        Args:
            family: all that is tested together.
            of_groups: whether groups are compared with each other. Criteria are then shown as ratios too, followed by
                a row of the worst pair, and joint intervals hold for all pairs and rates of a criterion; else for the
                whole family.
        """
        whole = sum(int(one.enough.sum()) for one in family)
        among = [max(int(one.enough.sum()), len(one.metrics)) if of_groups else whole for one in family]
        differences = [self._differences(one, n) for one, n in zip(family, among, strict=True)]
        as_ratios = [self._ratios(one, n) if of_groups else None for one, n in zip(family, among, strict=True)]
        tested = [one for one in as_ratios if one is not None and self.threshold_ratio is not None]
        self._adjust([*differences, *tested])
        for one, difference, ratio in zip(family, differences, as_ratios, strict=True):
            verdict = self._verdicts(one, difference)
            yield from _rows(one, one.metrics, "difference", difference, verdict, of_groups)
            if ratio is not None:
                if self.threshold_ratio is None:
                    ratio.p, ratio.p_adjusted, ratio.metric = difference.p, difference.p_adjusted, difference.metric
                else:
                    verdict = self._verdicts(one, ratio)
                yield from _rows(one, _divided(one), "ratio", ratio, verdict, of_groups)

    def _adjust(self, family: Sequence[Measured]) -> None:
        """Adjust the p-value that stands for each pair by Holm's method; of its other rates by Bonferroni's."""
        adjusted = stats.holm(np.concatenate([one.p[one.own] for one in family]) if family else np.zeros(0))
        n_tests = int((~np.isnan(adjusted)).sum())
        for one in family:
            one.p_adjusted = np.minimum(1, self.families * n_tests * one.p)
            n = len(one.metric)
            one.p_adjusted[one.own], adjusted = np.minimum(1, self.families * adjusted[:n]), adjusted[n:]

    def _verdicts(self, one: Compared, found: Measured) -> npt.NDArray[np.str_]:
        own = found.own
        with np.errstate(invalid="ignore"):
            shown = one.enough[own] & found.beyond[own] & (found.p_adjusted[own] <= 1 - self.level)
        clear = (found.clear & one.enough).all(axis=0)
        return np.where(shown, SHOWN, np.where(clear, NO_GAP, TOO_FEW))

    def _differences(self, one: Compared, among: int) -> Measured:
        values = [one.evidence.tally.value(name) for name in one.metrics]
        value = np.stack([each[one.a] - each[one.b] for each in values])
        (low, high), joint = self._intervals(one, one.metrics, one.evidence.difference, among)
        unit = {SLOPE: 1 / LARGEST_PULL, "mean_prediction": self.scale, "mean_error": self.scale,
                "mean_absolute_error": self.scale}.get(one.metrics[0], 1.0)  # fmt: skip
        with np.errstate(invalid="ignore", divide="ignore"):
            beyond, surely = (
                (least > self.threshold) | (most < -self.threshold) for least, most in ((low, high), joint)
            )
            clear = ((high - low) / 2 <= self.resolution * unit) | (low >= -self.threshold) & (high <= self.threshold)
            size = np.abs(value)
            whisker = np.where(value > 0, value - low, high - value)
            tails = (size - self.threshold) / whisker if self.threshold else None
        return Measured(
            enough=one.enough, value=value, size=size, low=low, high=high, joint_low=joint[0], joint_high=joint[1],
            beyond=beyond, surely=surely, clear=clear, p=self._p(one, tails),
        )  # fmt: skip

    def _ratios(self, one: Compared, among: int) -> Measured | None:
        metrics = _divided(one)
        if not metrics:
            return None
        values = [one.evidence.tally.value(name) for name in metrics]
        (low, high), joint = self._intervals(one, metrics, one.evidence.ratio, among)
        bound = self.threshold_ratio or 1.0
        with np.errstate(invalid="ignore", divide="ignore"):
            value = np.stack([np.where(each[one.b] >= 0, each[one.a], np.nan) / each[one.b] for each in values])
            value = np.where(value >= 0, value, np.nan)  # slopes may have different signs
            less = np.minimum(value, 1 / value)
            above = np.where(value < 1, high, 1 / low)
            beyond, surely = ((most < bound) | (least > 1 / bound) for least, most in ((low, high), joint))
            narrow = np.log(high / low) / 2 <= -np.log1p(-self.resolution)
            clear = narrow | (low >= bound) & (high <= 1 / bound)
            tails = (bound - less) / (above - less) if self.threshold_ratio else None
        return Measured(
            enough=one.enough, value=value, size=1 - less, low=low, high=high, joint_low=joint[0], joint_high=joint[1],
            beyond=beyond, surely=surely, clear=clear, p=self._p(one, tails),
        )  # fmt: skip

    def _intervals(self, one: Compared, metrics: Sequence[str], of: Any, among: int) -> tuple[Interval, Interval]:
        """Intervals of each pair, and wider ones that hold for `among` pairs and metrics at once."""
        found = []
        for n in (len(one.metrics), among):
            sides = zip(*(of(name, one.a, one.b, self._level_of(n)) for name in metrics), strict=True)
            low, high = (np.stack(side) for side in sides)
            found.append((low, high))
        return found[0], found[1]

    def _level_of(self, n: int) -> float:
        """The level of each of n intervals that all hold at once."""
        return 1 - (1 - self.level) / n

    def _p(self, one: Compared, tails: Array | None) -> Array:
        """The p-values (metrics, pairs) of no gap, or of none beyond the threshold, adjusted for the metrics of a pair.

        The latter comes from the interval, of which `tails` says how many times it fits between threshold and value; so
        both agree.
        """
        from scipy.special import ndtr, ndtri

        p, n = one.p, len(one.metrics)
        if tails is not None:
            z = ndtri(0.5 + self._level_of(n) / 2)
            beyond = np.where(np.isnan(tails), 1.0, np.minimum(1, 2 * ndtr(-z * tails)))
            p = np.where(np.isnan(p), np.nan, np.maximum(p, beyond))
        return np.asarray(np.minimum(1, n * p))


def _divided(one: Compared) -> tuple[str, ...]:
    """The metrics of a criterion that have a ratio."""
    return tuple(name for name in (AS_RATIO.get(name, name) for name in one.metrics) if name)


def _rows(
    one: Compared, metrics: Sequence[str], kind: str, found: Measured, verdict: npt.NDArray[np.str_], of_groups: bool
) -> Iterator[tuple[Any, ...]]:
    head = one.feature, one.outcome, f"{one.criterion}_{kind}"
    for pair, metric in enumerate(found.metric.tolist()):
        at = metric, pair
        yield (
            *head, one.names[one.a[pair]], one.names[one.b[pair]], found.value[at], found.low[at], found.high[at],
            found.p[at], found.p_adjusted[at], verdict[pair], metrics[metric], "", found.joint_low[at],
            found.joint_high[at],
        )  # fmt: skip
    if of_groups and len(one.a):
        yield (*head, OVERALL, *_worst(one, metrics, kind, found, verdict))


def _worst(
    one: Compared, metrics: Sequence[str], kind: str, found: Measured, verdicts: npt.NDArray[np.str_]
) -> tuple[Any, ...]:
    at = metric, pair = found.farthest()
    a, b = one.names[one.a[pair]], one.names[one.b[pair]]
    value, low, high = found.value[at], found.joint_low[at], found.joint_high[at]
    if value < 0 if kind == "difference" else value > 1:  # a difference is of the higher rate, a ratio of the lower
        a, b = b, a
        with np.errstate(divide="ignore"):
            value, low, high = (-value, -high, -low) if kind == "difference" else (1 / value, 1 / high, 1 / low)
    some = verdicts[one.enough.any(axis=0)]
    verdict = next((each for each in (SHOWN, TOO_FEW) if (some == each).any()), NO_GAP) if len(some) else TOO_FEW
    shown_by = ""
    if verdict == SHOWN:  # the farthest apart, of those whose joint interval says so too where there are any
        size = np.nan_to_num(found.size[found.own], nan=-0.5)
        best = int(np.lexsort((size, found.surely[found.own], verdicts == SHOWN))[-1])
        shown_by = f"{one.names[one.a[best]]} vs {one.names[one.b[best]]}"
    p, adjusted = found.p[at], found.p_adjusted[at]
    return f"{a} vs {b}", value, low, high, p, adjusted, verdict, metrics[metric], shown_by, low, high
