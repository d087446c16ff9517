"""Intervals, permutation tests and multiplicity: what a measured difference can be said to show.

Everything here takes and returns numpy arrays and broadcasts; nothing is random without a generator passed in.
"""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from dlstudio.errors import DLStudioError

__all__ = [
    "difference_interval", "expanded_percentiles", "holm", "holm_of_both", "mean_difference_interval", "mean_interval",
    "percentiles", "permutation_p", "ratio_interval", "ratio_of", "resampled_counts", "same_mean_p",
    "same_proportion_p", "wilson",
]  # fmt: skip

Array: TypeAlias = npt.NDArray[np.float64]
Interval: TypeAlias = tuple[Array, Array]


def wilson(count: Any, n: Any, level: float = 0.95) -> Interval:
    """Return Wilson's score interval of a proportion; NaN where `n` is 0.

    Args:
        count: how many of `n` have it; any shape.
        n: how many there are.
        level: of confidence, between 0 and 1.

    Returns:
        Lower and upper limits, from 0 to 1.

    Raises:
        DLStudioError: a count is negative or above `n`, or the level is not between 0 and 1.

    Example:
        >>> low, high = wilson(3, 8)
        >>> float(low), float(high)
        (0.1368..., 0.6942...)

    References:
        Wilson, Probable inference, the law of succession, and statistical inference (1927).
    """
    count, n = _counts(count, n)
    z = _z(level)
    with np.errstate(divide="ignore", invalid="ignore"):
        p = count / n
        middle = (p + z**2 / (2 * n)) / (1 + z**2 / n)
        half = z / (1 + z**2 / n) * np.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
    # Rounding must not leave the proportion outside its own interval.
    return np.clip(np.minimum(middle - half, p), 0, 1), np.clip(np.maximum(middle + half, p), 0, 1)


def difference_interval(
    count: Any, n: Any, other: Any, other_n: Any, level: float = 0.95, *, how: Literal["newcombe", "wald"] = "newcombe"
) -> Interval:
    """Return an interval of the signed difference ``count / n - other / other_n`` of independent proportions.

    Args:
        count, n, other, other_n: the two proportions; any shapes that broadcast.
        level: of confidence.
        how: ``"newcombe"`` joins Wilson's intervals and covers as promised for small numbers too; ``"wald"`` is the
            textbook's normal approximation, to compare with published figures.

    References:
        Newcombe, Interval estimation for the difference between independent proportions (1998), method 10.
    """
    count, n = _counts(count, n)
    other, other_n = _counts(other, other_n)
    with np.errstate(divide="ignore", invalid="ignore"):
        p, q = count / n, other / other_n
        if how == "wald":
            half = _z(level) * np.sqrt(p * (1 - p) / n + q * (1 - q) / other_n)
            return p - q - half, p - q + half
    (p_low, p_high), (q_low, q_high) = wilson(count, n, level), wilson(other, other_n, level)
    low = p - q - np.sqrt((p - p_low) ** 2 + (q_high - q) ** 2)
    high = p - q + np.sqrt((p_high - p) ** 2 + (q - q_low) ** 2)
    return low, high


def ratio_interval(count: Any, n: Any, other: Any, other_n: Any, level: float = 0.95) -> Interval:
    """Return an interval of the ratio ``(count / n) / (other / other_n)`` of independent proportions.

    The upper limit is infinite where the other proportion may be 0.
    """
    count, n = _counts(count, n)
    other, other_n = _counts(other, other_n)
    with np.errstate(divide="ignore", invalid="ignore"):
        p, q = count / n, other / other_n
    return ratio_of(p, *wilson(count, n, level), q, *wilson(other, other_n, level))


def ratio_of(value: Any, low: Any, high: Any, other: Any, other_low: Any, other_high: Any) -> Interval:
    """Return an interval of ``value / other`` of independent numbers of 0 or more, from an interval of each.

    The upper limit is infinite where the other may be 0. NaN where a number is unknown.

    References:
        Donner and Zou, Closed-form confidence intervals for functions of the normal mean and standard deviation (2012).
    """
    p, p_low, p_high, q, q_low, q_high = (
        np.asarray(item, dtype=np.float64) for item in (value, low, high, other, other_low, other_high)
    )
    with np.errstate(divide="ignore", invalid="ignore"):
        inside = (p * q) ** 2 - p_low * q_high * (2 * p - p_low) * (2 * q - q_high)
        low = (p * q - np.sqrt(np.maximum(inside, 0))) / (q_high * (2 * q - q_high))
        inside = (p * q) ** 2 - p_high * q_low * (2 * p - p_high) * (2 * q - q_low)
        high = (p * q + np.sqrt(np.maximum(inside, 0))) / (q_low * (2 * q - q_low))
        low = np.where(np.isfinite(low) & (2 * q > q_high), low, p_low / q_high)
    none = np.isnan(p) | np.isnan(q)
    low, high = np.maximum(low, 0), np.where(np.isfinite(high) & (q_low > 0), high, np.inf)
    return np.where(none, np.nan, low), np.where(none, np.nan, high)


def same_proportion_p(count: Any, n: Any, other: Any, other_n: Any) -> Array:
    """Return the two-sided p-value of the permutation test that two proportions are equal.

    Labels of the two groups are exchanged in all ways at once, which is the hypergeometric distribution: no random
    numbers. Outcomes as far apart as the one observed count half (mid-p), so that the test rejects true hypotheses as
    often as its level says and not less often. NaN where a group is empty.

    Returns:
        p-values from 0 to 1.

    References:
        Lancaster, Significance tests in discrete distributions (1961).
    """
    count, n = _counts(count, n)
    other, other_n = _counts(other, other_n)
    given = np.broadcast_arrays(count, n, other, other_n)
    p = np.full(given[0].shape, np.nan)
    for place in np.ndindex(p.shape):
        k, size, k_other, size_other = (int(item[place]) for item in given)
        if not size or not size_other:
            continue
        total, positive = size + size_other, k + k_other
        # The expected count is positive * size / total; compared in whole numbers, where ties are exact.
        seen = abs(k * total - positive * size)
        support = _as_far(seen, size, size_other, positive)
        chance = np.exp(
            _log_choose(positive, support)
            + _log_choose(total - positive, size - support)
            - _log_choose(np.array(total), np.array(size))
        )
        off = np.abs(support * total - positive * size)
        p[place] = min(1.0, chance[off > seen].sum() + chance[off == seen].sum() / 2)
    return p


def _log_choose(n: Any, k: Any) -> Array:
    from scipy.special import gammaln  # a hundred times faster here than scipy.stats.hypergeom

    return np.asarray(gammaln(n + 1) - gammaln(k + 1) - gammaln(n - k + 1))


def _as_far(seen: int, size: int, size_other: int, positive: int) -> npt.NDArray[np.int64]:
    """The counts at least as far from the expected one as `seen` / total, up to where nothing is left to add."""
    total = size + size_other
    spread = (size * size_other * positive * (total - positive) / (total**2 * max(total - 1, 1))) ** 0.5
    reach = 60 + int(12 * spread)
    below, above = (positive * size - seen) // total, -((-positive * size - seen) // total)
    first, last = max(0, positive - size_other), min(size, positive)
    return np.unique(
        np.concatenate(
            [np.arange(max(first, below - reach), below + 1), np.arange(above, min(last, above + reach) + 1)]
        )
    )


def permutation_p(observed: float, draws: Array) -> float:
    """Return the two-sided p-value of a statistic among those of random permutations; never 0.

    References:
        Phipson and Smyth, Permutation p-values should never be zero (2010).
    """
    extreme = int((np.abs(draws) >= abs(observed) * (1 - 1e-12)).sum())
    return (1 + extreme) / (1 + len(draws))


def holm(p: Any) -> Array:
    """Return p-values adjusted for being many, by Holm's method; NaN are no hypotheses and stay.

    References:
        Holm, A simple sequentially rejective multiple test procedure (1979).
    """
    p = np.asarray(p, dtype=np.float64)
    adjusted = np.full(p.shape, np.nan)
    known = np.flatnonzero(~np.isnan(p))
    order = known[np.argsort(p[known], kind="stable")]
    adjusted[order] = np.minimum(1, np.maximum.accumulate(p[order] * np.arange(len(order), 0, -1)))
    return adjusted


def holm_of_both(p: Any, other: Any) -> tuple[Array, Array]:
    """Return p-values of two hypotheses about each of several things, adjusted by Holm's method for all together.

    Of the two at most one is true, as that something is nothing and that it is large. So what is left to reject counts
    by things, not by hypotheses.

    Args:
        p, other: of shape ``(n,)``; NaN are no hypotheses and stay.

    References:
        Shaffer, Modified sequentially rejective multiple test procedures (1986).
    """
    asked = np.array([p, other], dtype=np.float64)
    left, highest = (~np.isnan(asked)).sum(axis=0), 0.0
    adjusted = np.full(asked.shape, np.nan)
    for place in np.argsort(asked, axis=None, kind="stable"):
        at = np.unravel_index(place, asked.shape)
        if not np.isnan(asked[at]):
            highest = max(highest, min(1.0, asked[at] * (left > 0).sum()))
            adjusted[at] = highest
            left[at[1]] -= 1
    return adjusted[0], adjusted[1]


def mean_interval(mean: Any, variance: Any, n: Any, level: float = 0.95) -> Interval:
    """Return Student's interval of a mean from the sample's variance (divisor n - 1); NaN below two values."""
    from scipy.special import stdtrit  # scipy.stats takes a second to import

    mean, variance, n = (np.asarray(item, dtype=np.float64) for item in (mean, variance, n))
    with np.errstate(divide="ignore", invalid="ignore"):
        half = stdtrit(n - 1, 0.5 + _level(level) / 2) * np.sqrt(variance / n)
    half = np.where(n > 1, half, np.nan)
    return mean - half, mean + half


def mean_difference_interval(
    mean: Any, variance: Any, n: Any, other: Any, other_variance: Any, other_n: Any, level: float = 0.95
) -> Interval:
    """Return Welch's interval of ``mean - other`` of independent samples; NaN where one has fewer than two values.

    Args:
        mean, variance, n, other, other_variance, other_n: of the two samples (divisor n - 1); shapes that broadcast.
        level: of confidence.

    References:
        Welch, The generalization of Student's problem when several different population variances are involved (1947).
    """
    from scipy.special import stdtrit

    difference, error, freedom = _welch(mean, variance, n, other, other_variance, other_n)
    half = stdtrit(freedom, 0.5 + _level(level) / 2) * error
    return difference - half, difference + half


def same_mean_p(mean: Any, variance: Any, n: Any, other: Any, other_variance: Any, other_n: Any) -> Array:
    """Return the two-sided p-value of Welch's test that two means are equal; NaN where `mean_difference_interval` is.

    Also NaN for two constants that differ, which say nothing of how far chance takes them; 1 if they are equal.
    """
    from scipy.special import stdtr

    difference, error, freedom = _welch(mean, variance, n, other, other_variance, other_n)
    with np.errstate(divide="ignore", invalid="ignore"):
        p = 2 * stdtr(freedom, -np.abs(difference) / error)
    return np.where((error == 0) & ~np.isnan(freedom), np.where(difference == 0, 1.0, np.nan), p)


def _welch(mean: Any, variance: Any, n: Any, other: Any, other_variance: Any, other_n: Any) -> tuple[Array, ...]:
    """The difference, its standard error and its degrees of freedom."""
    mean, variance, n = (np.asarray(item, dtype=np.float64) for item in (mean, variance, n))
    other, other_variance, other_n = (np.asarray(item, dtype=np.float64) for item in (other, other_variance, other_n))
    with np.errstate(divide="ignore", invalid="ignore"):
        one, two = variance / n, other_variance / other_n
        freedom = (one + two) ** 2 / (one**2 / (n - 1) + two**2 / (other_n - 1))
    # Without any spread the degrees of freedom do not matter.
    freedom = np.where((one + two == 0) & (n > 1) & (other_n > 1), n + other_n - 2, freedom)
    freedom = np.where((n > 1) & (other_n > 1), freedom, np.nan)
    return mean - other, np.sqrt(one + two), freedom


def resampled_counts(counts: Any, n_draws: int, generator: np.random.Generator) -> npt.NDArray[np.int64]:
    """Draw the counts of a table anew, as when its rows are drawn with replacement (the bootstrap).

    Args:
        counts: (cells,), how many rows are in each.
        n_draws: of the bootstrap.
        generator: of the random numbers.

    Returns:
        int64 (n_draws, cells); every row sums to the sum of `counts`.
    """
    counts = np.asarray(counts, dtype=np.int64)
    total = int(counts.sum())
    if not total:
        return np.zeros((n_draws, len(counts)), dtype=np.int64)
    return generator.multinomial(total, counts / total, size=n_draws)


def percentiles(draws: Any, level: float = 0.95, axis: int = 0) -> Interval:
    """Return the bootstrap's percentile interval, of what is not NaN; NaN where nothing is.

    References:
        Efron and Tibshirani, An introduction to the bootstrap (1993), chapter 13.
    """
    import warnings

    tail = (1 - _level(level)) / 2
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # all NaN: there is no interval, which NaN says
        low, high = np.nanquantile(np.asarray(draws, dtype=np.float64), [tail, 1 - tail], axis=axis)
    return np.asarray(low), np.asarray(high)


def expanded_percentiles(draws: Any, freedom: Any, level: float = 0.95) -> Interval:
    """Return the percentile interval widened for few units, as Student's interval is wider than the normal one.

    Args:
        draws: (draws, statistics), of the bootstrap; NaN are left out.
        freedom: degrees of freedom of each statistic, the number of units less 1.
        level: of confidence.

    References:
        Hesterberg, What teachers should know about the bootstrap (2015), section 5.2.
    """
    from scipy.special import ndtr, stdtrit

    draws = np.sort(np.asarray(draws, dtype=np.float64), axis=0)  # NaN come last
    last = (~np.isnan(draws)).sum(axis=0) - 1
    with np.errstate(divide="ignore", invalid="ignore"):
        tail = ndtr(stdtrit(freedom, 0.5 - _level(level) / 2) * np.sqrt(1 + 1 / np.asarray(freedom)))
    found = []
    for share in (tail, 1 - tail):
        at = np.nan_to_num(np.maximum(last, 0) * share)
        below, above = np.floor(at).astype(np.int64), np.ceil(at).astype(np.int64)
        one, two = (np.take_along_axis(draws, each[None], axis=0)[0] for each in (below, above))
        # Equal limits also where they are infinite, which have no difference.
        value = np.where(one == two, one, one + (at - below) * np.where(one == two, 0.0, two - one))
        found.append(np.where((last < 0) | np.isnan(tail), np.nan, value))
    return found[0], found[1]


def _counts(count: Any, n: Any) -> tuple[Array, Array]:
    count, n = np.asarray(count, dtype=np.float64), np.asarray(n, dtype=np.float64)
    if np.any(count < 0) or np.any(count > n):
        raise DLStudioError("counts from 0 to n", f"{count} of {n}", "Count those of the group among the group.")
    return count, n


def _level(level: float) -> float:
    if not 0 < level < 1:
        raise DLStudioError("a level of confidence between 0 and 1", f"level={level!r}", "Try level=0.95.")
    return level


def _z(level: float) -> float:
    from scipy.special import ndtri

    return float(ndtri(0.5 + _level(level) / 2))
