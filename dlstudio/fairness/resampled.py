"""What draws say: limits from those of a bootstrap, and p-values from those of permutations."""

from __future__ import annotations

import numpy as np

from dlstudio import stats
from dlstudio.fairness.counts import Array, Interval

__all__ = ["limits", "permuted_p", "student_p", "studentised"]

FEW_OUTSIDE = 5
"""With fewer draws than this on either side of an interval, its limits would follow single draws."""
FEW_EXTREME = 10
"""With fewer permutations than this beyond what was observed, Student's tail says more than their number."""


def limits(draws: Array, value: Array, freedom: Array, level: float, *, of_ratio: bool = False) -> Interval:
    """Return percentiles of draws, widened for few units.

    Where too few draws would lie outside of them, those of a lower level are stretched as Student's interval would be,
    of a ratio its logarithm.

    Args:
        draws: (draws, statistics).
        value: of each statistic, without resampling.
        freedom: degrees of freedom of each.
        level: of confidence.
        of_ratio: whether they are ratios.
    """
    from scipy.stats import t

    told = min(level, 1 - 2 * FEW_OUTSIDE / len(draws))
    low, high = stats.expanded_percentiles(draws, freedom, told)
    if told == level:
        return low, high
    with np.errstate(divide="ignore", invalid="ignore"):
        stretch = t.ppf(0.5 + level / 2, freedom) / t.ppf(0.5 + told / 2, freedom)
        sides = []
        for side in (low, high):
            away = np.log(side / value) if of_ratio else side - value
            far = value * np.exp(away * stretch) if of_ratio else value + away * stretch
            sides.append(np.where(np.isfinite(far) & np.isfinite(away), far, side))
    return sides[0], sides[1]


def studentised(one: Array, other: Array) -> Array:
    """Return differences of ratios of sums over their standard errors, from sums (draws, 5 metrics) of two groups."""
    ratios, errors = [], []
    with np.errstate(divide="ignore", invalid="ignore"):
        for sums in (one, other):
            have, among, have2, both, among2 = np.split(sums, 5, axis=1)
            ratio = have / among
            ratios.append(ratio)
            errors.append(np.maximum(have2 - 2 * ratio * both + ratio**2 * among2, 0) / among**2)
        apart, error = ratios[0] - ratios[1], np.sqrt(errors[0] + errors[1])
        # Rounding leaves a little of what is nothing.
        return np.where(np.abs(apart) < 1e-12, 0.0 * apart, apart / np.where(error < 1e-12, 0.0, error))


def permuted_p(seen: float, draws: Array, freedom: float) -> float:
    """Return the p-value of a studentised difference among permutations, and Student's where few are as extreme."""
    draws = draws[~np.isnan(draws)]
    if np.isnan(seen) or not len(draws):
        return float("nan")
    p = stats.permutation_p(seen, draws)
    if p * (1 + len(draws)) - 1 >= FEW_EXTREME or not np.isfinite(seen):
        return p
    return min(p, student_p(seen, 1.0, freedom))


def student_p(found: float, error: float, freedom: float) -> float:
    """Return Student's p-value of no difference, 1 where nothing varies."""
    from scipy.stats import t

    if np.isnan(found) or np.isnan(error):
        return float("nan")
    return float(2 * t.sf(abs(found) / error, freedom)) if error > 0 else 1.0
