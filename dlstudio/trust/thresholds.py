"""From which score on to say yes: counts, rates and costs at a threshold, and the cheapest one."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from dlstudio import stats
from dlstudio.errors import unknown_name
from dlstudio.limits import mapping, number_within
from dlstudio.results import value
from dlstudio.scoring import mean_interval
from dlstudio.trust.curves import CELLS, resampled_steps, steps_of

__all__ = ["OUTCOMES", "CheapestThreshold", "OperatingPoint", "cheapest", "checked_costs", "halves", "operating_point"]

Array = npt.NDArray[Any]

OUTCOMES = ("true_positive", "false_positive", "true_negative", "false_negative")
USUAL = 0.5


@value
@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class OperatingPoint:
    """What a model does that says yes from a threshold on.

    Attributes:
        threshold: rows with this score or more are predicted positive.
        counts: rows by outcome: true and false positives and negatives.
        level: of confidence of `rates` and `cost`.
        costs: of one row, by outcome; {} where none were given.
    """

    threshold: float
    counts: Mapping[str, int]
    level: float = 0.95
    costs: Mapping[str, float] = dataclasses.field(default_factory=dict)

    @property
    def n(self) -> int:
        """Rows."""
        return sum(self.counts.values())

    @property
    def rates(self) -> dict[str, tuple[float, float, float]]:
        """Value, lower and upper limit (Wilson) of accuracy, selection rate, true and false positive rate, precision.

        NaN where there is no row to divide by.
        """
        tp, fp, tn, fn = (self.counts[name] for name in OUTCOMES)
        parts = {
            "accuracy": (tp + tn, self.n),
            "selection_rate": (tp + fp, self.n),
            "true_positive_rate": (tp, tp + fn),
            "false_positive_rate": (fp, fp + tn),
            "precision": (tp, tp + fp),
        }
        found = {}
        for name, (count, n) in parts.items():
            low, high = stats.wilson(count, n, self.level)
            found[name] = (count / n if n else float("nan"), float(low), float(high))
        return found

    @property
    def cost(self) -> tuple[float, float, float]:
        """Mean cost of a row, with lower and upper limit (Student); NaN without costs."""
        if not self.costs:
            return float("nan"), float("nan"), float("nan")
        each = np.array([self.costs[name] for name in OUTCOMES])
        share = np.array([self.counts[name] for name in OUTCOMES]) / self.n
        mean = float(each @ share)
        variance = float((each - mean) ** 2 @ share) * self.n / max(self.n - 1, 1)
        low, high = stats.mean_interval(mean, variance, self.n, self.level)
        return mean, float(low), float(high)


@value
@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class CheapestThreshold:
    """The threshold with the lowest cost, and what it saves against 0.5.

    Attributes:
        threshold: infinite where saying no to every row is cheapest.
        low, high: where the cheapest threshold lies in resampled rows.
        saving, saving_low, saving_high: of a row, in the unit of the costs: on one half of the rows, of the threshold
            that is cheapest on the other, so that the choice does not flatter itself.
        n_held: rows in the half it was judged on.
    """

    threshold: float
    low: float
    high: float
    saving: float
    saving_low: float
    saving_high: float
    n_held: int


def checked_costs(costs: Mapping[str, float] | None) -> dict[str, float]:
    """Return the cost of every outcome, those not named costing nothing; {} for None.

    Raises:
        DLStudioError: an outcome is unknown, or a cost is no finite number.
    """
    if costs is None:
        return {}
    for name, cost in mapping("costs", costs, "Try costs={'false_positive': 5, 'false_negative': 1}.").items():
        if name not in OUTCOMES:
            raise unknown_name("outcome", name, OUTCOMES)
        number_within(f"cost of {name}", cost, -np.inf, remedy="Say what such a row costs; a gain is below 0.")
    return {name: float(costs.get(name, 0.0)) for name in OUTCOMES}


def operating_point(
    positive_scores: Array, negative_scores: Array, threshold: float, level: float, costs: Mapping[str, float]
) -> OperatingPoint:
    """Count what a threshold does to rows given by their sorted scores."""
    no_pos = int(np.searchsorted(positive_scores, threshold))
    no_neg = int(np.searchsorted(negative_scores, threshold))
    counts = (len(positive_scores) - no_pos, len(negative_scores) - no_neg, no_neg, no_pos)
    return OperatingPoint(
        threshold=float(threshold), counts=dict(zip(OUTCOMES, counts, strict=True)), level=level, costs=dict(costs)
    )


def cheapest(
    positive: Array,
    score: Array,
    costs: Mapping[str, float],
    level: float,
    n_resamples: int,
    generator: np.random.Generator,
) -> CheapestThreshold:
    """Find the cheapest threshold among the scores that occur, and saying no to all."""
    coarse = steps_of(positive, score, CELLS)
    hits, misses = resampled_steps(coarse, n_resamples, generator)
    where = _threshold(coarse[0], _cheapest_step(hits, misses, costs))
    # Limits among values that occur: an infinite one cannot be interpolated.
    ordered, tail = np.sort(where), (1 - level) / 2
    ends = np.array([np.floor(tail * len(ordered)), np.ceil((1 - tail) * len(ordered)) - 1]).astype(int)
    choosing, judging = halves(positive, generator)
    chosen = _exact(positive[choosing], score[choosing], costs)
    saved = _cost_of_rows(positive[judging], score[judging] >= USUAL, costs) - _cost_of_rows(
        positive[judging], score[judging] >= chosen, costs
    )
    low, high = mean_interval(saved, level) if len(saved) else (np.nan, np.nan)
    best = _exact(positive, score, costs)
    return CheapestThreshold(
        threshold=best, low=min(float(ordered[ends[0]]), best), high=max(float(ordered[ends[1]]), best),
        saving=float(saved.mean()) if len(saved) else float("nan"), saving_low=low, saving_high=high,
        n_held=len(judging),
    )  # fmt: skip


def halves(classes: Array, generator: np.random.Generator, clusters: Array | None = None) -> tuple[Array, Array]:
    """Return the rows to choose by and those to judge by: every second one of each class, or of the clusters."""
    if clusters is not None:
        first = np.isin(clusters, generator.permutation(int(clusters.max()) + 1)[::2])
        return np.flatnonzero(first), np.flatnonzero(~first)
    order = generator.permutation(len(classes))
    order = order[np.argsort(classes[order], kind="stable")]
    return order[::2], order[1::2]


def _exact(positive: Array, score: Array, costs: Mapping[str, float]) -> float:
    scores, hits, misses = steps_of(positive, score)
    return float(_threshold(scores, _cheapest_step(hits[None], misses[None], costs))[0])


def _threshold(scores: Array, step: Array) -> Array:
    found: Array = np.concatenate([[np.inf], scores])[step]
    return found


def _cheapest_step(hits: Array, misses: Array, costs: Mapping[str, float]) -> Array:
    """The step after which saying yes should stop, per row of counts (draws, steps); 0 is no row at all."""
    of_hit = costs["true_positive"] - costs["false_negative"]
    of_miss = costs["false_positive"] - costs["true_negative"]
    total = np.cumsum(hits * of_hit + misses * of_miss, axis=1)
    found: Array = np.concatenate([np.zeros((len(total), 1)), total], axis=1).argmin(axis=1)
    return found


def _cost_of_rows(positive: Array, said: Array, costs: Mapping[str, float]) -> Array:
    table = np.array([
        [costs["true_negative"], costs["false_positive"]],
        [costs["false_negative"], costs["true_positive"]],
    ])  # fmt: skip
    found: Array = table[positive.astype(int), said.astype(int)]
    return found
