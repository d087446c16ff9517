"""What decisions do to groups, in counts, and the gaps that follow from these."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from dlstudio import stats
from dlstudio.data.values import as_array
from dlstudio.errors import DLStudioError, unknown_name
from dlstudio.limits import number_within, whole_number

__all__ = [
    "CRITERIA", "N", "POSITIVE", "SELECTED", "TRUE", "binary", "change_interval", "check_options", "counts_of",
    "criterion_named", "enough", "gap_of", "rates", "scores_of",
]  # fmt: skip

Array = npt.NDArray[np.float64]
Counts = npt.NDArray[np.int64]

N, POSITIVE, SELECTED, TRUE = range(4)
"""Places in counts (…, 4): rows, those of class 1, those that are given class 1, and those of both."""

CRITERIA = {
    "demographic_parity_difference": ("selection_rate",),
    "equal_opportunity_difference": ("true_positive_rate",),
    "equalized_odds_difference": ("true_positive_rate", "false_positive_rate"),
}
"""By fairlearn's name: the rates that should be equal."""


def criterion_named(name: str) -> tuple[str, ...]:
    """Return the rates of a criterion.

    Raises:
        DLStudioError: there is no such criterion.
    """
    if name not in CRITERIA:
        raise unknown_name("criterion", name, CRITERIA)
    return CRITERIA[name]


def check_options(threshold: float, min_denominator: int, max_gap: float = 0.0) -> None:
    """Check what every search for thresholds is given.

    Raises:
        DLStudioError: a number is out of its range.
    """
    number_within("threshold", threshold, 0, 1, "Try 0.5.")
    number_within("max_gap", max_gap, 0, 1, "Try max_gap=0.05.")
    whole_number("min_denominator", min_denominator, 1)


def scores_of(given: Any, n: int, whose: str = "class 1") -> Array:
    """Return scores from 0 to 1, (n,).

    Raises:
        DLStudioError: they are others, or some are missing.
    """
    scores = as_array(given, np.float64)
    if scores.shape != (n,):
        raise DLStudioError(f"{n:,} scores of {whose}", f"shape {scores.shape}", "Pass one probability a row.")
    wrong = scores[~((scores >= 0) & (scores <= 1))]
    if len(wrong):
        missing = int(np.isnan(wrong).sum())
        got = f"{missing:,} of {n:,} missing (nan)" if missing else f"{wrong[0]:g} among {len(wrong):,} such"
        remedy = "Leave these rows out, or ask why they have none." if missing else "Pass probabilities, not logits."
        raise DLStudioError("scores from 0 to 1", got, remedy)
    return scores


def binary(y_true: Any, y_score: Any) -> tuple[npt.NDArray[np.int64], Array]:
    """Return classes 0 and 1, and scores from 0 to 1, both (n,).

    Raises:
        DLStudioError: they are something else.
    """
    y = as_array(y_true)
    if y.ndim != 1 or not len(y) or not np.isin(y, (0, 1)).all():
        found = ", ".join(map(str, np.unique(y)[:5])) if y.ndim == 1 else f"shape {y.shape}"
        raise DLStudioError("y_true of 0 and 1, one a row", found or "none", "Make the favourable outcome class 1.")
    return y.astype(np.int64), scores_of(y_score, len(y))


def counts_of(y: Counts, chosen: npt.NDArray[np.bool_], codes: Counts, n_groups: int) -> Counts:
    """Return counts (groups, 4) of decisions."""
    weights = (None, y == 1, chosen, chosen & (y == 1))
    return np.stack(
        [np.bincount(codes if w is None else codes[w], minlength=n_groups) for w in weights], axis=-1
    ).astype(np.int64)


def rates(counts: Counts, rate: str) -> tuple[Counts, Counts]:
    """Return numerators and denominators (…) of a rate, from counts (…, 4)."""
    n, positive, selected, true = (counts[..., place] for place in (N, POSITIVE, SELECTED, TRUE))
    if rate == "true_positive_rate":
        return true, positive
    if rate == "false_positive_rate":
        return selected - true, n - positive
    return selected, n


def enough(counts: Counts, criterion: str, min_denominator: int) -> npt.NDArray[np.bool_]:
    """Return which groups (…, groups) have rows enough for every rate of a criterion, from counts (…, groups, 4)."""
    large = [rates(counts, rate)[1] >= max(1, min_denominator) for rate in criterion_named(criterion)]
    found: npt.NDArray[np.bool_] = np.logical_and.reduce(large)
    return found


def gap_of(
    counts: Counts, criterion: str, level: float, min_denominator: int, n_points: int = 1
) -> tuple[float, float, float, int, int]:
    """Return the largest gap between two groups that are large enough: ``(gap, low, high, group, reference)``.

    The interval is Newcombe's, of the pair that is furthest apart, at a level that holds for all pairs and rates at
    once (Bonferroni), since that pair was chosen for being the widest; `group` has the lower rate. NaN and -1 where
    fewer than two groups have the denominators.

    Args:
        counts: (groups, 4).
        criterion: whose rates are compared.
        level: of confidence.
        min_denominator: how many rows every rate of a group needs.
        n_points: how many such gaps are looked at, all of whose intervals shall hold at once.
    """
    worst = (np.nan, np.nan, np.nan, -1, -1)
    names = criterion_named(criterion)
    large = np.flatnonzero(enough(counts, criterion, min_denominator))
    n_compared = len(large) * (len(large) - 1) // 2 * len(names) * n_points
    if not n_compared:
        return worst
    for rate in names:
        count, n = rates(counts, rate)
        values = count[large] / n[large]
        least, most = large[int(values.argmin())], large[int(values.argmax())]
        gap = float(values.max() - values.min())
        if not gap <= worst[0]:
            low, high = stats.difference_interval(
                count[most], n[most], count[least], n[least], 1 - (1 - level) / n_compared
            )
            worst = (gap, float(low), float(high), int(least), int(most))
    return worst


def change_interval(up: Counts, down: Counts, n: Counts, level: float) -> tuple[Array, Array]:
    """Return an interval of the change of a share, of the same rows before and after.

    Wilson's intervals of the shares that went up and down are joined, heeding that no row can do both. So where no row
    changed, the interval says how many of others might.

    Args:
        up, down: how many rows went from no to yes, and from yes to no; any shapes that broadcast.
        n: of how many rows; NaN where 0.
        level: of confidence.

    References:
        Zou and Donner, Construction of confidence limits about effect measures (2008).
    """
    (up_low, up_high), (down_low, down_high) = stats.wilson(up, n, level), stats.wilson(down, n, level)
    with np.errstate(invalid="ignore", divide="ignore"):
        p, q = up / n, down / n
        together = np.sqrt(p * q / ((1 - p) * (1 - q)))
        together = np.where(np.isfinite(together), together, 1.0)  # minus the correlation of the two shares
        low = np.sqrt((p - up_low) ** 2 + (down_high - q) ** 2 + 2 * together * (p - up_low) * (down_high - q))
        high = np.sqrt((up_high - p) ** 2 + (q - down_low) ** 2 + 2 * together * (up_high - p) * (q - down_low))
    return np.maximum(p - q - low, -1), np.minimum(p - q + high, 1)
