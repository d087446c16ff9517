"""The rows of every group, added up once: counts of right and wrong answers, sums of scores and errors."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from dlstudio import stats
from dlstudio.fairness.inputs import Outcome

__all__ = ["MEANS", "RATES", "Tally", "cell_of", "tally"]

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
MEANS = {
    "mean_score": "the mean predicted probability",
    "calibration_bias": "the mean predicted probability less the base rate",
    "mean_target": "the mean target",
    "mean_prediction": "the mean prediction",
    "mean_error": "the mean of prediction less target",
    "mean_absolute_error": "the mean distance of prediction and target",
}


@dataclass(frozen=True, kw_only=True, eq=False)
class Tally:
    """What the rows of each of g groups add up to.

    Attributes:
        cells: (…, g, 4), true negatives, false positives, false negatives, true positives; zeros for regression.
        means: by name in `MEANS`: (3, …, g), rows, sum and sum of squares of values less `shifts`.
        shifts: by name, what was subtracted from every value before it was added up.
    """

    cells: npt.NDArray[Any]
    means: dict[str, Array]
    shifts: dict[str, float]

    def rate(self, name: str) -> tuple[Array, Array]:
        """Return how many have it, and among how many."""
        have, among = RATES[name]
        return self.cells @ np.array(have), self.cells @ np.array(among)

    def moments(self, name: str) -> tuple[Array, Array, Array]:
        """Return mean, variance (divisor n - 1) and number of values."""
        n, total, squares = self.means[name]
        with np.errstate(divide="ignore", invalid="ignore"):
            mean = total / n
            variance = np.maximum(squares - total * mean, 0) / (n - 1)
        return mean + self.shifts[name], np.where(n > 1, variance, np.nan), n

    def value(self, name: str) -> Array:
        """Return a rate or a mean of every group; NaN where nothing was counted."""
        if name in RATES:
            have, among = self.rate(name)
            with np.errstate(divide="ignore", invalid="ignore"):
                return np.asarray(have / among)
        return self.moments(name)[0]

    def interval(self, name: str, level: float) -> Interval:
        """Return Wilson's interval of a rate, Student's of a mean."""
        if name in RATES:
            return stats.wilson(*self.rate(name), level)
        low, high = stats.mean_interval(*self.moments(name), level)
        return (np.clip(low, 0, 1), np.clip(high, 0, 1)) if name == "mean_score" else (low, high)

    def among(self, name: str) -> Array:
        """Return how many rows a rate or a mean is of."""
        return self.rate(name)[1] if name in RATES else self.means[name][0]

    def with_rest(self) -> Tally:
        """Return these g groups followed by everybody else than each of them: 2 g groups."""
        means = {
            name: np.concatenate([m, m.sum(axis=-1, keepdims=True) - m], axis=-1) for name, m in self.means.items()
        }
        cells = np.concatenate([self.cells, self.cells.sum(axis=-2, keepdims=True) - self.cells], axis=-2)
        return replace(self, cells=cells, means=means)


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
