"""Two models on the same rows: McNemar, DeLong, Student's t over rows, and the paired bootstrap for any metric."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from dlstudio import stats
from dlstudio.arrangements import ROUNDING
from dlstudio.compare.metrics import auc_rows, base_name, row_losses
from dlstudio.compare.resampling import Answers, Metric, resampled
from dlstudio.errors import DLStudioError
from dlstudio.repetitions import POWER, Contrast
from dlstudio.scoring import deviation_of, within_unit

__all__ = ["Answers", "Assessed", "assess_rows", "mcnemar_p", "rows_needed"]

Array = npt.NDArray[Any]
Contrasted = Callable[[str, str], Contrast]
"""Of (variant, reference)."""

ENOUGH = 500
"""Draws from which they are counted; of fewer only the standard error is taken."""
MOST_ROWS = 10_000_000
NOTHING = 1e-12
"""What areas under the curve differ by through rounding alone."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Assessed:
    """A metric of one model, with its interval."""

    value: float
    low: float
    high: float


def assess_rows(
    metric: Metric, y_true: Array, given: Mapping[str, Answers], *, level: float = 0.95, seed: int = 0
) -> tuple[dict[str, Assessed], Contrasted]:
    """Assess models on the same rows, and say how to contrast two of them.

    Accuracies are contrasted by McNemar's test, areas under the ROC curve by DeLong's, means over rows (log loss, Brier
    score, absolute and squared errors) by Student's t, and all else by the bootstrap of rows. All of them speak of rows
    like these, drawn independently, and of these models as they are trained. Where there are too few draws to count for
    all pairs, or the metric is too slow to be called often, the bootstrap's standard error is taken.

    Exchanging two models in every row has 2^n outcomes, so that no p-value but McNemar's is below 2 / 2^n; of an area
    under the curve n counts the rows of the rarest class, as few of these may all rank high by luck, however many there
    are of others. Where two models differ by the same on all rows, that is the p-value, as no other test has an error.

    Args:
        metric: a name, with or without the part of the data before it; or a function of (y_true, y_pred), which gets
            probabilities in place of classes where there are any.
        y_true: (n,) class indices or quantities.
        given: by model.
        level: of confidence.
        seed: of the bootstrap.

    Returns:
        Every model's metric, and a function of (variant, reference) that contrasts them. Effect sizes are in units of
        the spread that one row adds.

    Raises:
        DLStudioError: the rows are of one class and the metric needs two, or its name is unknown.

    Example:
        >>> assessed, contrast = assess_rows("auc", y, {"A": Answers(...), "B": Answers(...)})
        >>> assessed["A"].value, float(contrast("B", "A").p_value)
        (0.81, 0.034)

    References:
        Bandos, Rockette and Gur, A permutation test sensitive to differences in areas for comparing ROC curves from a
        paired design (2005).
    """
    if isinstance(metric, str):
        name = base_name(metric)
        if name == "auc" and len(np.unique(y_true)) < 2:
            remedy = "Take rows of other classes too, or another metric, such as accuracy."
            raise DLStudioError(f"rows of at least two classes for {name}", f"{len(y_true):,} of one class", remedy)
        if name == "accuracy":
            right = {key: answers.y_pred == y_true for key, answers in given.items()}
            shares = {key: _share(hits, level) for key, hits in right.items()}
            return shares, lambda a, b: _mcnemar(right[a], right[b], level)
        if name == "auc" and all(answers.y_score is not None for answers in given.values()):
            found = {key: auc_rows(y_true, np.asarray(answers.y_score)) for key, answers in given.items()}
            fewest = int(np.unique(y_true, return_counts=True)[1].min())
            areas = {key: _area(value, rows, fewest, level) for key, (value, rows) in found.items()}
            return areas, lambda a, b: _delong(found[a], found[b], fewest, level)
        rows = {key: row_losses(name, y_true, answers.y_pred, answers.y_score) for key, answers in given.items()}
        means = {key: one for key, one in rows.items() if one is not None}
        if len(means) == len(rows):
            averages = {key: _mean(one, level) for key, one in means.items()}
            return averages, lambda a, b: _of_means(means[a] - means[b], level)
    return _bootstrap(metric, y_true, given, level, seed)


def mcnemar_p(b: int, c: int) -> float:
    """Return McNemar's exact mid-p-value of `b` rows that only one model gets right and `c` that only the other does.

    References:
        Fagerland, Lydersen and Laake, The McNemar test for binary matched-pairs data: mid-p and asymptotic are better
        than exact conditional (2013).
    """
    from scipy.special import bdtr

    n, k = b + c, min(b, c)
    if n == 0 or b == c:
        return 1.0
    below = float(bdtr(k - 1, n, 0.5)) if k else 0.0
    return min(1.0, below + float(bdtr(k, n, 0.5)))


def rows_needed(contrast: Contrast, size: float | None, level: float, n_comparisons: int) -> int | None:
    """Return how many rows would show a difference of `size` (None for the one observed) with a power of 80 %.

    None where it would be more than ten millions, or the error or the difference is unknown or 0.
    """
    from scipy.special import ndtri

    size = abs(float(contrast.difference)) if size is None else size
    spread = float(contrast.spread)
    if not (size > 0 and spread > 0):
        return None
    needed = ((float(ndtri(1 - (1 - level) / n_comparisons / 2)) + float(ndtri(POWER))) * spread / size) ** 2
    return math.ceil(needed) if needed <= MOST_ROWS else None


def _mcnemar(right: Array, other: Array, level: float) -> Contrast:
    n, b, c = len(right), int((right & ~other).sum()), int((~right & other).sum())
    # Bonett and Price (2012): as if one more row of each kind had been seen, so that the error is never 0.
    p, q = (b + 1) / (n + 2), (c + 1) / (n + 2)
    error = math.sqrt((p + q - (p - q) ** 2) / (n + 2))
    return _contrast((b - c) / n, _difference_interval(b, c, n, level), mcnemar_p(b, c), error, "McNemar", n)


def _difference_interval(b: int, c: int, n: int, level: float) -> tuple[float, float]:
    """An interval of (b - c) / n that leaves out 0 exactly where McNemar's test says so.

    The difference is the share of rows that differ, times twice what either model has of these less one; the limits of
    the two shares join as those of independent estimates do (Zou and Donner, 2008).
    """
    differ = (b + c) / n
    few, many = (float(end) for end in stats.wilson(b + c, n, level))
    if not b + c:
        return -many, many
    share, ends = b / (b + c), _mid_p_interval(b, b + c, level)
    found = []
    for sign, end in zip((-1, 1), ends, strict=True):
        tilt = 2 * share - 1
        spare = differ - few if sign * tilt < 0 else many - differ
        limit = differ * tilt + sign * math.hypot(2 * differ * (share - end), tilt * spare)
        least = (2 * end - 1) * few
        # `end` is on one side of a half where the test rejects, on the other where it does not; so is the limit.
        found.append(limit if (limit > 0) == (least > 0) and least else least)
    return found[0], found[1]


def _mid_p_interval(k: int, n: int, level: float) -> tuple[float, float]:
    """The shares whose mid-p test does not reject k of n."""
    from scipy.optimize import brentq
    from scipy.special import bdtr

    tail = (1 - level) / 2
    below = lambda p: (bdtr(k - 1, n, p) if k else 0.0) / 2 + bdtr(k, n, p) / 2  # noqa: E731
    low = 0.0 if not k else float(brentq(lambda p: 1 - below(p) - tail, 0, 1, xtol=1e-12))
    high = 1.0 if k == n else float(brentq(lambda p: below(p) - tail, 0, 1, xtol=1e-12))
    return low, high


def _delong(found: tuple[float, Array], other: tuple[float, Array], fewest: int, level: float) -> Contrast:
    from scipy.special import ndtr

    n, difference, test = len(found[1]), found[0] - other[0], "DeLong"
    error = float(np.sqrt(((found[1] - other[1]) ** 2).sum()))
    if max(error, abs(difference)) < NOTHING:
        # Two that rank all rows alike do not differ; two that make no mistake may be of few rows.
        difference, p = 0.0, 1.0
        error = 0.0 if NOTHING < found[0] < 1 - NOTHING else _unseen(fewest)
    else:
        p = float(2 * ndtr(-abs(difference) / error)) if error else 1.0
    half = _z(level) * error
    ends, p, error, test = _exchanged(difference, (difference - half, difference + half), p, error, fewest, level, test)
    return _contrast(difference, (max(ends[0], -1.0), min(ends[1], 1.0)), p, error, test, n)


def _of_means(rows: Array, level: float) -> Contrast:
    from scipy.special import stdtr

    n, mean = len(rows), float(rows.mean())
    if n < 2:
        return _contrast(mean, (math.nan, math.nan), math.nan, math.nan, "paired t", n)
    variance = float(rows.var(ddof=1))
    error = math.sqrt(variance / n)
    p = float(2 * stdtr(n - 1, -abs(mean) / error)) if error else 1.0
    low, high = stats.mean_interval(mean, variance, n, level)
    return _contrast(mean, *_exchanged(mean, (float(low), float(high)), p, error, n, level, "paired t"), n)


def _exchanged(
    difference: float, ends: tuple[float, float], p: float, error: float, n: int, level: float, test: str
) -> tuple[tuple[float, float], float, float, str]:
    """Interval, p-value, error and test, made no surer than `n` rows allow in which the models can be exchanged."""
    from scipy.special import ndtri_exp

    alike, least = error * math.sqrt(n) <= ROUNDING * abs(difference), 2.0 ** (1 - n)
    if not difference:
        return ends, p, error, test
    p, test = (least, "paired permutation") if alike else (max(p, least), test)
    if alike or least > 1 - level:
        # Differences that are equal are taken to scatter by their own size, and the interval says what p does.
        z = -float(ndtri_exp(-n * math.log(2)))  # of `least`, which may be too small for a number
        half = _z(level) / z * abs(difference) if n > 1 else math.inf
        ends = min(ends[0], difference - half), max(ends[1], difference + half)
        error = max(error, abs(difference) / math.sqrt(n))
    return ends, p, error, test


def _bootstrap(
    metric: Metric, y_true: Array, given: Mapping[str, Answers], level: float, seed: int
) -> tuple[dict[str, Assessed], Contrasted]:
    from scipy.special import stdtr, stdtrit

    n, at = len(y_true), {key: place for place, key in enumerate(given)}
    whole, draws = resampled(metric, y_true, list(given.values()), seed)
    n_draws = len(draws)
    # Chosen by numbers alone: Holm's method asks for p-values that a count of draws can be as small as.
    counted = n_draws >= ENOUGH and 2 / (1 + n_draws) * math.comb(len(given), 2) <= 1 - level
    test = "paired bootstrap" if counted else f"bootstrap error of {n_draws:,} draws"

    def interval(value: float, drawn: Array, error: float) -> tuple[float, float]:
        if math.isnan(error):
            return math.nan, math.nan
        if counted:
            low, high = stats.percentiles(drawn, level)
            return float(low), float(high)
        half = float(stdtrit(n_draws - 1, 0.5 + level / 2)) * error
        return value - half, value + half

    assessed = {}
    for key, k in at.items():
        low, high = interval(float(whole[k]), draws[:, k], _error(draws[:, k]))
        assessed[key] = Assessed(value=float(whole[k]), low=low, high=high)

    def contrast(a: str, b: str) -> Contrast:
        difference, apart = float(whole[at[a]] - whole[at[b]]), draws[:, at[a]] - draws[:, at[b]]
        apart = apart[~np.isnan(apart)]
        error = _error(apart)
        ends = interval(difference, apart, error)
        if math.isnan(error):
            return _contrast(difference, ends, math.nan, error, test, n)
        if counted:
            p = min(1.0, 2 * (1 + min((apart <= 0).sum(), (apart >= 0).sum())) / (1 + len(apart)))
        else:
            p = float(2 * stdtr(n_draws - 1, -abs(difference) / error)) if error else 1.0
        of_classes = given[a].y_pred.dtype.kind in "iu" and (isinstance(metric, str) or given[a].y_score is None)
        if error == difference == 0 and of_classes:
            error = _unseen(n)  # classes may be told alike by chance, as scores may not
            return _contrast(0.0, (-_z(level) * error, _z(level) * error), p, error, test, n)
        return _contrast(difference, *_exchanged(difference, ends, p, error, n, level, test), n)

    return assessed, contrast


def _error(drawn: Array) -> float:
    known = drawn[~np.isnan(drawn)]
    return float(known.std(ddof=1)) if len(known) > 1 else math.nan


def _unseen(n: int) -> float:
    """The standard error of a share of rows that differ, where none of n does (Bonett and Price, as in McNemar's)."""
    return math.sqrt(2) / (n + 2)


def _contrast(difference: float, ends: tuple[float, float], p: float, error: float, test: str, n: int) -> Contrast:
    spread = error * math.sqrt(n)
    effect = [part / spread if spread > 0 else math.nan for part in (difference, *ends)]
    parts = [difference, *ends, p, *effect, spread, error, max(n - 1.0, math.nan if n < 2 else 1.0)]
    names = (
        "difference", "low", "high", "p_value", "effect_size", "effect_low", "effect_high", "spread", "error", "freedom"
    )  # fmt: skip
    arrays = {name: np.asarray(part, dtype=np.float64) for name, part in zip(names, parts, strict=True)}
    return Contrast(**arrays, n=n, n_other=n, test=test)


def _share(right: Array, level: float) -> Assessed:
    low, high = stats.wilson(right.sum(), len(right), level)
    return Assessed(value=float(right.mean()), low=float(low), high=float(high))


def _area(value: float, rows: Array, fewest: int, level: float) -> Assessed:
    low, high = within_unit(value, deviation_of(rows), fewest, level)
    return Assessed(value=value, low=low, high=high)


def _mean(rows: Array, level: float) -> Assessed:
    variance = rows.var(ddof=1) if len(rows) > 1 else np.nan
    low, high = stats.mean_interval(rows.mean(), variance, len(rows), level)
    return Assessed(value=float(rows.mean()), low=float(low), high=float(high))


def _z(level: float) -> float:
    from scipy.special import ndtri

    return float(ndtri(0.5 + level / 2))
