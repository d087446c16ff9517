"""The rows of every group, added up once: counts of right and wrong answers, sums of scores and errors."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from dlstudio import stats
from dlstudio.fairness.inputs import Outcome
from dlstudio.fairness.slopes import Slopes

__all__ = ["CRITERIA", "OBSERVED", "RATES", "SLOPE", "Tally", "cell_of", "tally"]

Array = npt.NDArray[np.float64]
Interval = tuple[Array, Array]

RATES = {
    "base_rate": ((0, 0, 1, 1), (1, 1, 1, 1)),
    "selection_rate": ((0, 1, 0, 1), (1, 1, 1, 1)),
    "accuracy": ((1, 0, 0, 1), (1, 1, 1, 1)),
    "true_positive_rate": ((0, 0, 0, 1), (0, 0, 1, 1)),
    "false_positive_rate": ((0, 1, 0, 0), (1, 1, 0, 0)),
    "true_negative_rate": ((1, 0, 0, 0), (1, 1, 0, 0)),
    "false_negative_rate": ((0, 0, 1, 0), (0, 0, 1, 1)),
    "positive_predictive_value": ((0, 0, 0, 1), (0, 1, 0, 1)),
    "negative_predictive_value": ((1, 0, 0, 0), (1, 0, 1, 0)),
}
"""Which of true negatives, false positives, false negatives and true positives are counted, and among which."""
OBSERVED, SLOPE = "observed_to_expected", "calibration_slope"
CLASSES = (1, 1, 0, 0), (0, 0, 1, 1)
AMONG = {
    **{name: (among,) for name, (_, among) in RATES.items()},
    "f1": ((0, 1, 1, 1),), "balanced_accuracy": CLASSES, "auc": CLASSES, SLOPE: CLASSES,
}  # fmt: skip
"""Which rows could count; of several kinds each is needed."""
CRITERIA: dict[str, tuple[str, ...]] = {
    "demographic_parity": ("selection_rate",),
    "equal_opportunity": ("true_positive_rate",),
    "equalized_odds": ("true_positive_rate", "false_positive_rate"),
    "predictive_parity": ("positive_predictive_value",),
    "calibration_in_the_large": ("calibration_bias",),
    "calibration_slope": (SLOPE,),
    "mean_prediction": ("mean_prediction",),
    "mean_error": ("mean_error",),
    "mean_absolute_error": ("mean_absolute_error",),
}
"""What each criterion compares between groups; equalized odds is as bad as the worse of its two."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Tally:
    """What the rows of each of g groups add up to.

    Attributes:
        cells: (…, g, 4), true negatives, false positives, false negatives, true positives; zeros for regression.
        means: by name: (3, …, g), rows, sum and sum of squares of values less `shifts`.
        shifts: by name, what was subtracted from every value before it was added up.
        slopes: the calibration slopes of the groups; None where they were not fitted.
    """

    cells: npt.NDArray[Any]
    means: dict[str, Array]
    shifts: dict[str, float]
    slopes: Slopes | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """What is known of the groups beside F1 and balanced accuracy."""
        rates = tuple(RATES) if self.cells.any() else ()
        calibrated = (OBSERVED,) if "calibration_bias" in self.means else ()
        return (*rates, *self.means, *calibrated, *((SLOPE,) if self.slopes is not None else ()))

    def rate(self, name: str) -> tuple[Array, Array]:
        """Return how many have it, and among how many."""
        have, among = RATES[name]
        return self.cells @ np.array(have), self.cells @ np.array(among)

    def moments(self, name: str) -> tuple[Array, Array, Array]:
        """Return mean, variance (divisor n - 1) and number of values.

        The variance of a score less its outcome is never below that of outcomes as likely as the scores say: where
        no rare outcome happened, it still could have.
        """
        n, total, squares = self.means[name]
        with np.errstate(divide="ignore", invalid="ignore"):
            mean = total / n
            variance = np.where(n > 1, np.maximum(squares - total * mean, 0) / (n - 1), np.nan)
        if name == "calibration_bias":
            variance = np.maximum(variance, self.promised())
        return mean + self.shifts[name], variance, n

    def promised(self) -> Array:
        """Return the mean variance of outcomes that are as likely as the scores say, mean s (1 - s)."""
        mean, variance, n = self.moments("mean_score")
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.maximum(mean * (1 - mean) - variance * (n - 1) / n, 0)

    def value(self, name: str) -> Array:
        """Return a rate, a mean or a slope of every group; NaN where nothing was counted."""
        if name == SLOPE:
            assert self.slopes is not None
            return self.slopes.value
        with np.errstate(divide="ignore", invalid="ignore"):
            if name == OBSERVED:
                expected = self.moments("mean_score")[0]
                return np.asarray((expected - self.moments("calibration_bias")[0]) / expected)
            if name in RATES:
                have, among = self.rate(name)
                return np.asarray(have / among)
        return self.moments(name)[0]

    def interval(self, name: str, level: float) -> Interval:
        """Return Wilson's interval of a rate, Student's of a mean or a slope."""
        if name in RATES:
            return stats.wilson(*self.rate(name), level)
        if name == OBSERVED:
            return self._observed(level)
        if name == SLOPE and self.slopes is not None:
            n = self.slopes.freedom + 1
            return stats.mean_interval(self.slopes.value, self.slopes.variance * n, n, level)
        low, high = stats.mean_interval(*self.moments(name), level)
        return (np.clip(low, 0, 1), np.clip(high, 0, 1)) if name == "mean_score" else (low, high)

    def _observed(self, level: float) -> Interval:
        """Wilson's interval of the base rate over the mean score, of as many rows as would vary as much alone."""
        expected, of_scores, n = self.moments("mean_score")
        _, total, squares = self.means["calibration_bias"]
        rate, less = self.value("base_rate"), 1 - self.value(OBSERVED)
        with np.errstate(divide="ignore", invalid="ignore"):
            of_errors = (squares - total**2 / n) / (n - 1)
            of_both = (of_scores + of_errors - rate * (1 - rate) * n / (n - 1)) / 2
            spread = less**2 * of_scores + of_errors - 2 * less * of_both  # of y - ratio * s
            worth = n * rate * (1 - rate) / np.maximum(spread, self.promised())
            worth = np.where(np.isfinite(worth) & (worth > 0), worth, n)
            low, high = stats.wilson(rate * worth, worth, level)
            return low / expected, high / expected

    def among(self, name: str) -> Array:
        """Return how many rows could count; where rows of either class are needed, those of the rarer one."""
        if name in AMONG:
            return np.asarray(np.min([self.cells @ np.array(among) for among in AMONG[name]], axis=0))
        return np.asarray(self.means["calibration_bias" if name in (OBSERVED, "calibration_error") else name][0])

    def with_rest(self) -> Tally:
        """Return these g groups followed by everybody else than each of them, 2 g groups, without slopes."""
        means = {
            name: np.concatenate([m, m.sum(axis=-1, keepdims=True) - m], axis=-1) for name, m in self.means.items()
        }
        cells = np.concatenate([self.cells, self.cells.sum(axis=-2, keepdims=True) - self.cells], axis=-2)
        return replace(self, cells=cells, means=means, slopes=None)


def cell_of(outcome: Outcome) -> npt.NDArray[np.int64]:
    """Return 0, 1, 2, 3 for true negative, false positive, false negative, true positive."""
    return 2 * outcome.y_true.astype(np.int64) + outcome.y_pred.astype(np.int64)


def tally(codes: npt.NDArray[Any], n_groups: int, outcome: Outcome) -> Tally:
    """Add up the rows of every group.

    Args:
        codes: (n,) the group of every row.
        n_groups: how many there are.
        outcome: what was predicted.
    """
    cells = np.zeros((n_groups, 4), dtype=np.int64)
    if outcome.y_true.dtype.kind == "b":
        at = codes.astype(np.int64) * 4 + cell_of(outcome)
        cells = np.bincount(at, minlength=4 * n_groups).reshape(n_groups, 4)
    means, shifts = {}, {}
    for name, values in _values(outcome):
        shifts[name] = float(values.mean())  # sums of squares of large numbers would lose their digits
        values = values - shifts[name]
        sums = [np.bincount(codes, part, minlength=n_groups) for part in (None, values, values**2)]
        means[name] = np.array(sums, dtype=np.float64)
    return Tally(cells=cells, means=means, shifts=shifts)


def _values(outcome: Outcome) -> Iterator[tuple[str, Array]]:
    if outcome.y_true.dtype.kind != "b":
        yield "mean_target", outcome.y_true
        yield "mean_prediction", outcome.y_pred
        yield "mean_error", outcome.y_pred - outcome.y_true
        yield "mean_absolute_error", np.abs(outcome.y_pred - outcome.y_true)
    elif outcome.y_score is not None:
        yield "mean_score", outcome.y_score
        yield "calibration_bias", outcome.y_score - outcome.y_true
