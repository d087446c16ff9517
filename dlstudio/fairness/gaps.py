"""Gaps between groups: signed pairs with intervals and p-values, judged as one family, and the worst pair of each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from dlstudio import stats
from dlstudio.fairness.counts import CRITERIA, OBSERVED, SLOPE, Array
from dlstudio.fairness.evidence import Evidence

__all__ = ["COLUMNS", "NO_GAP", "OVERALL", "SHOWN", "TOO_FEW", "Compared", "Judge", "compare", "pairs_of"]

COLUMNS = (
    "sensitive_feature", "outcome", "criterion", "group", "reference", "value", "low", "high", "p_value", "p_adjusted",
    "verdict", "metric", "shown_by",
)  # fmt: skip
SHOWN, NO_GAP, TOO_FEW = "gap shown", "no gap shown", "not enough data"
OVERALL = "overall"
AS_RATIO = {"calibration_bias": OBSERVED, "mean_prediction": "", "mean_error": ""}
"""What is divided instead, where a metric itself cannot be: means of quantities have no natural zero, or any sign."""
LARGEST_PULL = 0.2239
"""The most that a probability can change by, per unit of calibration slope: the largest x p (1 - p) at log odds x."""

Places = npt.NDArray[np.int64]


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

    def rows(
        self, family: Sequence[Compared], *, ratios: bool = True, overall: bool = True
    ) -> Iterator[tuple[Any, ...]]:
        """Yield rows in the order of `COLUMNS`; p-values are adjusted by Holm's method over the whole family.

        A ratio is the same gap written in another way: without a threshold of its own, it has the p-value and verdict
        of its difference.

        Args:
            family: all that is tested together.
            ratios: whether criteria are shown as ratios too.
            overall: whether a row of the worst pair follows the pairs.
        """
        differences = [self._differences(one) for one in family]
        as_ratios = [self._ratios(one) if ratios else None for one in family]
        tested = [one for one in as_ratios if one is not None and self.threshold_ratio is not None]
        self._adjust([*differences, *tested])
        for one, difference, ratio in zip(family, differences, as_ratios, strict=True):
            judged = _judged(one, difference, 1 - self.level)
            yield from _rows(one, one.metrics, "difference", judged, overall)
            if ratio is not None:
                if self.threshold_ratio is None:
                    ratio.p, ratio.p_adjusted = judged.p, judged.p_adjusted
                also = _judged(one, ratio, 1 - self.level)
                if self.threshold_ratio is None:
                    also = replace(also, verdict=judged.verdict)
                yield from _rows(one, _divided(one), "ratio", also, overall)

    def _adjust(self, family: Sequence[Measured]) -> None:
        adjusted = stats.holm(np.concatenate([one.p for one in family]) if family else np.zeros(0))
        adjusted = np.minimum(1, self.families * adjusted)
        for one in family:
            one.p_adjusted, adjusted = adjusted[: len(one.p)], adjusted[len(one.p) :]

    def _differences(self, one: Compared) -> Measured:
        values = [one.evidence.tally.value(name) for name in one.metrics]
        value = np.stack([each[one.a] - each[one.b] for each in values])
        low, high = self._intervals(one, one.metrics, one.evidence.difference)
        unit = {SLOPE: 1 / LARGEST_PULL, "mean_prediction": self.scale, "mean_error": self.scale,
                "mean_absolute_error": self.scale}.get(one.metrics[0], 1.0)  # fmt: skip
        with np.errstate(invalid="ignore", divide="ignore"):
            beyond = (low > self.threshold) | (high < -self.threshold)
            clear = ((high - low) / 2 <= self.resolution * unit) | (low >= -self.threshold) & (high <= self.threshold)
            size = np.abs(value)
            whisker = np.where(value > 0, value - low, high - value)
            tails = (size - self.threshold) / whisker if self.threshold else None
        return Measured(value=value, size=size, low=low, high=high, beyond=beyond, clear=clear, p=self._p(one, tails))

    def _ratios(self, one: Compared) -> Measured | None:
        metrics = _divided(one)
        if not metrics:
            return None
        values = [one.evidence.tally.value(name) for name in metrics]
        low, high = self._intervals(one, metrics, one.evidence.ratio)
        bound = self.threshold_ratio or 1.0
        with np.errstate(invalid="ignore", divide="ignore"):
            value = np.stack([np.where(each[one.b] >= 0, each[one.a], np.nan) / each[one.b] for each in values])
            value = np.where(value >= 0, value, np.nan)  # slopes may have different signs
            less = np.minimum(value, 1 / value)
            above = np.where(value < 1, high, 1 / low)
            beyond = (high < bound) | (low > 1 / bound)
            narrow = np.log(high / low) / 2 <= -np.log1p(-self.resolution)
            clear = narrow | (low >= bound) & (high <= 1 / bound)
            tails = (bound - less) / (above - less) if self.threshold_ratio else None
        return Measured(
            value=value, size=1 - less, low=low, high=high, beyond=beyond, clear=clear, p=self._p(one, tails)
        )

    def _intervals(self, one: Compared, metrics: Sequence[str], of: Any) -> tuple[Array, Array]:
        low, high = zip(*(of(name, one.a, one.b, self._level_of(one)) for name in metrics), strict=True)
        return np.stack(low), np.stack(high)

    def _level_of(self, one: Compared) -> float:
        return 1 - (1 - self.level) / len(one.metrics)

    def _p(self, one: Compared, tails: Array | None) -> Array:
        """The p-value of every pair, of no gap, or of none beyond the threshold.

        The latter comes from the interval, of which `tails` says how many times it fits between threshold and value; so
        both agree.
        """
        from scipy.special import ndtr, ndtri

        p = one.p
        if tails is not None:
            z = ndtri(0.5 + self._level_of(one) / 2)
            beyond = np.where(np.isnan(tails), 1.0, np.minimum(1, 2 * ndtr(-z * tails)))
            p = np.where(np.isnan(p), np.nan, np.maximum(p, beyond))
        return np.asarray(np.minimum(1, len(one.metrics) * np.fmin.reduce(p, axis=0)))


def _divided(one: Compared) -> tuple[str, ...]:
    """The metrics of a criterion that have a ratio."""
    return tuple(name for name in (AS_RATIO.get(name, name) for name in one.metrics) if name)


@dataclass(kw_only=True, eq=False)
class Measured:
    """Differences or ratios of pairs: (metrics, pairs), and their p-values (pairs,), adjusted ones later."""

    value: Array
    size: Array
    low: Array
    high: Array
    beyond: npt.NDArray[np.bool_]
    clear: npt.NDArray[np.bool_]
    p: Array
    p_adjusted: Array = field(default_factory=lambda: np.zeros(0))


@dataclass(frozen=True, kw_only=True, eq=False)
class _Judged:
    """The metric of every pair that is farthest apart, and the verdict on the pair."""

    value: Array
    size: Array
    low: Array
    high: Array
    p: Array
    p_adjusted: Array
    metric: Places
    some: npt.NDArray[np.bool_]
    verdict: npt.NDArray[np.str_]


def _judged(one: Compared, found: Measured, most: float) -> _Judged:
    some = np.asarray(one.enough.any(axis=0))
    sizes = np.where(one.enough | ~some, found.size, -1.0)  # what has too few data never makes a pair the worst
    at = np.argmax(np.nan_to_num(sizes, nan=-0.5), axis=0)
    with np.errstate(invalid="ignore"):
        shown = some & (found.p_adjusted <= most) & (found.beyond & one.enough).any(axis=0)
    clear = (found.clear & one.enough).all(axis=0)
    pick = at, np.arange(len(at))
    return _Judged(
        value=found.value[pick], size=found.size[pick], low=found.low[pick], high=found.high[pick], p=found.p,
        p_adjusted=found.p_adjusted, metric=at, some=some,
        verdict=np.where(shown, SHOWN, np.where(clear, NO_GAP, TOO_FEW)),
    )  # fmt: skip


def _rows(one: Compared, metrics: Sequence[str], kind: str, found: _Judged, overall: bool) -> Iterator[tuple[Any, ...]]:
    head = one.feature, one.outcome, f"{one.criterion}_{kind}"
    for at in range(len(one.a)):
        yield (
            *head, one.names[one.a[at]], one.names[one.b[at]], found.value[at], found.low[at], found.high[at],
            found.p[at], found.p_adjusted[at], found.verdict[at], metrics[found.metric[at]], "",
        )  # fmt: skip
    if overall and len(one.a):
        yield (*head, OVERALL, *_worst(one, metrics, kind, found))


def _worst(one: Compared, metrics: Sequence[str], kind: str, found: _Judged) -> tuple[Any, ...]:
    some = found.some
    at = int(np.argmax(np.nan_to_num(np.where(some | ~some.any(), found.size, -1.0), nan=-0.5)))
    a, b = one.names[one.a[at]], one.names[one.b[at]]
    value, low, high = found.value[at], found.low[at], found.high[at]
    if value < 0 if kind == "difference" else value > 1:  # a difference is of the higher rate, a ratio of the lower
        a, b = b, a
        with np.errstate(divide="ignore"):
            value, low, high = (-value, -high, -low) if kind == "difference" else (1 / value, 1 / high, 1 / low)
    verdicts = found.verdict[some]
    verdict = next((each for each in (SHOWN, TOO_FEW) if (verdicts == each).any()), NO_GAP) if some.any() else TOO_FEW
    shown_by = ""
    if verdict == SHOWN:
        largest = int(np.argmax(np.where(found.verdict == SHOWN, np.nan_to_num(found.size), -1.0)))
        shown_by = f"{one.names[one.a[largest]]} vs {one.names[one.b[largest]]}"
    metric = metrics[found.metric[at]]
    return f"{a} vs {b}", value, low, high, found.p[at], found.p_adjusted[at], verdict, metric, shown_by
