"""What a few repetitions show of a difference of means: the statistics of comparing seeds.

Arrays in, plain values out; repetitions lie along the last axis, and leading axes are problems of their own. The
test is chosen by how many repetitions and comparisons there are, never by the values, so that choosing costs no error.
"""

from __future__ import annotations

import bisect
import dataclasses
import math
from collections.abc import Sequence
from numbers import Real
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from dlstudio import stats
from dlstudio.arrangements import ROUNDING, exchanged, exchanges, flips, least_spread, resolution
from dlstudio.errors import DLStudioError

__all__ = [
    "BETTER", "Contrast", "EQUIVALENT", "Judged", "NOT_ENOUGH", "NOT_SHOWN", "VERDICTS", "WORSE", "equivalence_p",
    "judge", "no_worse_p", "paired_contrast", "repetitions_needed", "resolution", "unpaired_contrast", "verdict",
]  # fmt: skip

Array = npt.NDArray[np.float64]
Direction = Literal["max", "min"]

BETTER, WORSE, EQUIVALENT = "better", "worse", "equivalent"
NOT_SHOWN, NOT_ENOUGH = "no difference shown", "not enough data"
VERDICTS = (BETTER, WORSE, EQUIVALENT, NOT_SHOWN, NOT_ENOUGH)

ENOUGH = 6
"""Repetitions from which "no difference shown" is said without a margin; an exact paired test needs as many."""
MOST_NEEDED = 100
POWER = 0.8


@dataclasses.dataclass(frozen=True, kw_only=True)
class Contrast:
    """A difference of means and what is known of it; arrays of the shape of the problems, () for one.

    Attributes:
        difference: of the means.
        low, high: its interval, in agreement with `p_value`: it leaves out 0 where that is below 1 - level.
        p_value: two-sided, of no difference, for this comparison alone; NaN where there is no second repetition.
        effect_size, effect_low, effect_high: Hedges' g, of the spread of one repetition (of paired differences where
            they are paired), with an interval by the noncentral t distribution.
        n, n_other: repetitions on either side; n pairs where they are paired.
        test: ``"paired permutation"``, ``"permutation"``, ``"paired t"``, ``"Welch t"`` or "" where there is none.
        spread, error, freedom: the standard deviation behind `effect_size`; the standard error of `difference` and its
            degrees of freedom.
        least: the spread that was taken because the values, which come in steps, showed less; 0 where they did not.
    """

    difference: Array
    low: Array
    high: Array
    p_value: Array
    effect_size: Array
    effect_low: Array
    effect_high: Array
    n: int
    n_other: int
    test: str
    spread: Array
    error: Array
    freedom: Array
    least: Array = dataclasses.field(default_factory=lambda: np.zeros(()))

    @property
    def paired(self) -> bool:
        """Whether repetitions were compared in pairs."""
        return self.test.startswith("paired")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Judged:
    """One contrast among several.

    Attributes:
        p_adjusted: by Holm's method over all of them.
        p_equivalent, p_no_worse: of a difference as large as the margin, either way, or for the worse; both adjusted
            alike, NaN without a margin.
        verdict: one of `VERDICTS`.
        n_needed: repetitions of each side that would show a difference of the margin (of the observed size without one)
            four times in five; None above 100, and where that cannot be said.
    """

    p_adjusted: float
    p_equivalent: float
    p_no_worse: float
    verdict: str
    n_needed: int | None


def paired_contrast(
    differences: Any, *, step: Any = None, level: float = 0.95, n_comparisons: int = 1, seed: int = 0
) -> Contrast:
    """Contrast two variants by the differences of their pairs, or any estimates that should scatter around 0.

    With enough pairs (2 / 2^n at most ``(1 - level) / n_comparisons``) every way to flip the signs is tried; the
    interval then joins means of subsets. With fewer it is Student's t test and interval.

    Args:
        differences: (..., n), finite.
        step: `resolution` of the values that were subtracted; None for that of the differences and 0. Differences are
            taken to scatter by one step at least, and equal ones by their own size, so that three of them do not look
            certain.
        level: of confidence.
        n_comparisons: how many are judged together.
        seed: of the flips drawn beyond 16 pairs.

    Returns:
        Everything NaN but the difference where n is below 2.

    Raises:
        DLStudioError: a value is not finite, or there is none.

    Example:
        >>> c = paired_contrast([0.021, 0.013, 0.030, 0.008, 0.017, 0.025], step=0.001)
        >>> float(c.p_value), c.test
        (0.03125, 'paired permutation')

    References:
        Hartigan, Using subsample values as typical values (1969).
    """
    d = _finite(differences)
    n = d.shape[-1]
    mean = d.mean(axis=-1)
    if n < 2:
        return _unknown(mean, n, n)
    if step is None:
        step = resolution(np.concatenate([d, np.zeros((*mean.shape, 1))], axis=-1))
    seen, floor = d.std(axis=-1, ddof=1), least_spread(d, step)
    spread, freedom = np.maximum(seen, floor), np.full(mean.shape, n - 1.0)
    error = spread / math.sqrt(n)
    low, high, p = _student(mean, error, freedom, level)
    test = "paired t"
    if 2 / 2**n <= _alpha(level) / n_comparisons:
        test = "paired permutation"
        p, (typical_low, typical_high) = exchanged(d, flips(n, seed), level)
        # Equal values would leave an interval without width: they are known to a step, no better.
        rounding = floor / math.sqrt(n)
        low, high = np.minimum(typical_low, mean - rounding), np.maximum(typical_high, mean + rounding)
    effect = _effect(mean, spread, 1 / n, freedom, level)
    least = np.where(floor > seen * (1 + ROUNDING), floor, 0.0)
    return _contrast((mean, low, high, p, *effect, spread, error, freedom, least), n, n, test)


def unpaired_contrast(
    values: Any, other: Any, *, step: Any = None, level: float = 0.95, n_comparisons: int = 1, seed: int = 0
) -> Contrast:
    """Contrast the means of two variants whose repetitions have nothing to do with each other.

    The test is Welch's, and so is the interval; they stand unequal spreads. Its degrees of freedom are at most those of
    equal spreads: where one side has a few values that happen to lie close together, Welch's are too many. With enough
    values every way to exchange the labels is tried as well, and what is less sure of the two is returned: the larger
    p-value, and the interval that holds both.

    Args:
        values, other: (..., n) and (..., m), finite.
        step: None for the `resolution` of both together; else as in `paired_contrast`, as are the other options.

    Raises:
        DLStudioError: a value is not finite, or there is none.

    Example:
        >>> c = unpaired_contrast([0.81, 0.83, 0.80, 0.82], [0.77, 0.75, 0.78, 0.79])
        >>> float(c.p_value), c.test
        (0.0285..., 'permutation')
    """
    a, b = _finite(values), _finite(other)
    n, m = a.shape[-1], b.shape[-1]
    difference = a.mean(axis=-1) - b.mean(axis=-1)
    if min(n, m) < 2:
        return _unknown(difference, n, m)
    pooled = np.concatenate([a, b], axis=-1)
    floor = np.asarray(resolution(pooled) if step is None else step, dtype=np.float64)
    seen = [part.var(axis=-1, ddof=1) for part in (a, b)]
    one, two = (np.maximum(part, floor**2 / 2) for part in seen)
    error = np.sqrt(one / n + two / m)
    with np.errstate(divide="ignore", invalid="ignore"):
        freedom = (one / n + two / m) ** 2 / ((one / n) ** 2 / (n - 1) + (two / m) ** 2 / (m - 1))
    equal = (1 / n + 1 / m) ** 2 / (1 / (n**2 * (n - 1)) + 1 / (m**2 * (m - 1)))
    freedom = np.where(error > 0, np.minimum(freedom, equal), n + m - 2.0)
    low, high, p = _student(difference, error, freedom, level)
    test = "Welch t"
    if 2 / math.comb(n + m, n) <= _alpha(level) / n_comparisons:
        test = "permutation"
        exact_p, (exact_low, exact_high) = exchanged(pooled, exchanges(n, m, seed), level)
        # Exchanging supposes equal spreads, Welch's test a normal distribution: what both show, either makes good.
        p, low, high = np.maximum(p, exact_p), np.minimum(low, exact_low), np.maximum(high, exact_high)
    spread = np.sqrt(((n - 1) * one + (m - 1) * two) / (n + m - 2))
    effect = _effect(difference, spread, 1 / n + 1 / m, np.full(difference.shape, n + m - 2.0), level)
    least = np.where(floor**2 > 2 * np.maximum(*seen) * (1 + ROUNDING), floor / math.sqrt(2), 0.0)
    return _contrast((difference, low, high, p, *effect, spread, error, freedom, least), n, m, test)


def judge(
    contrasts: Sequence[Contrast],
    *,
    direction: Direction = "max",
    level: float = 0.95,
    margin: float | None = None,
    n_more: int = 0,
) -> list[Judged]:
    """Judge contrasts together: adjusted p-values, verdicts, and the repetitions that would be needed.

    Args:
        contrasts: each of one problem.
        direction: ``"max"`` where more is better.
        level: of confidence; of all verdicts of a difference together, and of all of equivalence.
        margin: the largest difference that does not matter; without one nothing is called equivalent.
        n_more: comparisons beside these that could have been made as well; p-values are adjusted for them too.

    Example:
        >>> judge([paired_contrast(b - a), paired_contrast(c - a)], margin=0.01)[0].verdict
        'equivalent'
    """
    _margin(margin)
    unknown = [math.nan] * len(contrasts)
    p = _adjusted([one.p_value for one in contrasts], n_more)
    same, no_worse = unknown, unknown
    if margin is not None:
        same = _adjusted([equivalence_p(one, margin) for one in contrasts], n_more)
        no_worse = _adjusted([no_worse_p(one, margin, direction) for one in contrasts], n_more)
    total = max(sum(not math.isnan(one) for one in p) + n_more, 1)
    return [
        Judged(
            p_adjusted=p[at],
            p_equivalent=same[at],
            p_no_worse=no_worse[at],
            verdict=verdict(
                one, p[at], same[at], direction=direction, level=level, margin=margin
            ),
            n_needed=repetitions_needed(one, margin, level=level, n_comparisons=total),
        )
        for at, one in enumerate(contrasts)
    ]  # fmt: skip


def verdict(
    contrast: Contrast,
    p_adjusted: float,
    p_equivalent: float = math.nan,
    *,
    direction: Direction = "max",
    level: float = 0.95,
    margin: float | None = None,
) -> str:
    """Return one of `VERDICTS` for a contrast of one problem, of what is contrasted against the other.

    A difference that is shown to be smaller than the margin is ``"equivalent"``, even if it is shown not to be 0.
    """
    alpha, difference = _alpha(level), float(contrast.difference)
    if margin is not None and p_equivalent <= alpha:
        return EQUIVALENT
    if p_adjusted <= alpha and difference:
        return BETTER if (difference > 0) == (direction == "max") else WORSE
    if min(contrast.n, contrast.n_other) < 2 or math.isnan(float(contrast.p_value)):
        return NOT_ENOUGH
    if margin is None:
        return NOT_SHOWN if min(contrast.n, contrast.n_other) >= ENOUGH else NOT_ENOUGH
    return NOT_SHOWN if float(contrast.high - contrast.low) / 2 <= margin else NOT_ENOUGH


def equivalence_p(contrast: Contrast, margin: float) -> Array:
    """Return the p-value of a difference of `margin` or more, either way, by two one-sided t tests.

    References:
        Schuirmann, A comparison of the two one-sided tests procedure and the power approach (1987).
    """
    return np.maximum(no_worse_p(contrast, margin, "max"), no_worse_p(contrast, margin, "min"))


def no_worse_p(contrast: Contrast, margin: float, direction: Direction) -> Array:
    """Return the one-sided p-value of being worse by `margin` or more: small where that can be ruled out."""
    from scipy.special import stdtr

    better = contrast.difference if direction == "max" else -contrast.difference
    with np.errstate(divide="ignore", invalid="ignore"):
        p = stdtr(contrast.freedom, -(better + margin) / contrast.error)
    return np.asarray(np.where(contrast.error > 0, p, np.nan))


def repetitions_needed(
    contrast: Contrast, size: float | None = None, *, level: float = 0.95, n_comparisons: int = 1
) -> int | None:
    """Return how many repetitions of each side would show a difference of `size` with a power of 80 %.

    Args:
        contrast: of one problem; its spread is taken for the true one, so that the number is a rough one.
        size: of the difference; None for the one observed.
        level: of confidence.
        n_comparisons: how many are judged together.

    Returns:
        From 2 to 100; None where it would be more, or the spread or the difference is unknown or 0.
    """
    from scipy.special import nctdtr, stdtrit

    size = abs(float(contrast.difference)) if size is None else abs(size)
    spread = float(contrast.spread)
    if not (size > 0 and spread > 0):
        return None

    def power(n: int) -> float:
        freedom = n - 1 if contrast.paired else 2 * (n - 1)
        shift = min(size / spread * math.sqrt(n if contrast.paired else n / 2), 30.0)  # beyond, the power is 1
        return 1 - float(nctdtr(freedom, shift, stdtrit(freedom, 1 - _alpha(level) / n_comparisons / 2)))

    found = bisect.bisect_left(range(MOST_NEEDED + 1), POWER, lo=2, key=power)
    return found if found <= MOST_NEEDED else None


def _adjusted(p: Sequence[Any], n_more: int) -> list[float]:
    found: list[float] = stats.holm([*map(float, p), *[1.0] * n_more]).tolist()
    return found[: len(p)]


def _student(mean: Array, error: Array, freedom: Array, level: float) -> tuple[Array, Array, Array]:
    from scipy.special import stdtr, stdtrit

    half = stdtrit(freedom, 0.5 + level / 2) * error
    with np.errstate(divide="ignore", invalid="ignore"):
        p = 2 * stdtr(freedom, -np.abs(mean) / error)
    # Without any scatter nothing is known of chance: equal is equal, and apart cannot be judged.
    return mean - half, mean + half, np.where(error > 0, p, np.where(mean == 0, 1.0, np.nan))


def _effect(mean: Array, spread: Array, weight: float, freedom: Array, level: float) -> tuple[Array, Array, Array]:
    """Hedges' g with its interval; NaN without spread, or with one degree of freedom, where g has no mean."""
    from scipy.special import gammaln, nctdtrinc

    scale = math.sqrt(weight)
    with np.errstate(divide="ignore", invalid="ignore"):
        d = mean / spread
        correction = np.exp(gammaln(freedom / 2) - gammaln((freedom - 1) / 2) - np.log(freedom / 2) / 2)
        t = np.abs(d) / scale
        tail = _alpha(level) / 2
        near, far = (nctdtrinc(freedom, q, t) * scale for q in (1 - tail, tail))
    near, far = (np.where(np.isfinite(d) & (t < 1000), part, np.nan) for part in (near, far))
    back = np.signbit(d)
    g = np.where((freedom > 1) & np.isfinite(d), d * correction, np.nan)
    return g, np.where(back, -far, near), np.where(back, -near, far)


def _contrast(parts: Sequence[Any], n: int, n_other: int, test: str) -> Contrast:
    names = (
        "difference", "low", "high", "p_value", "effect_size", "effect_low", "effect_high", "spread", "error",
        "freedom", "least",
    )  # fmt: skip
    arrays = {name: np.asarray(part, dtype=np.float64) for name, part in zip(names, parts, strict=True)}
    return Contrast(**arrays, n=n, n_other=n_other, test=test)


def _unknown(difference: Array, n: int, n_other: int) -> Contrast:
    unknown = np.full(np.shape(difference), np.nan)
    return _contrast((difference, *[unknown] * 9, np.zeros_like(unknown)), n, n_other, "")


def _finite(values: Any) -> Array:
    try:
        found = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError):
        raise DLStudioError("numbers", repr(values)[:80], "Pass one number per repetition.") from None
    if not found.ndim or not found.shape[-1] or not np.isfinite(found).all():
        got = "none" if not found.size else "NaN or infinite ones" if found.ndim else repr(values)[:80]
        raise DLStudioError("finite values, at least one", got, "Leave out what was not measured.")
    return found


def _alpha(level: float) -> float:
    if not 0 < level < 1:
        raise DLStudioError("a level of confidence between 0 and 1", f"level={level!r}", "Try level=0.95.")
    return 1 - level + 1e-12  # 1 - 0.95 is a little less than 0.05


def _margin(margin: Any) -> None:
    if margin is not None and not (isinstance(margin, Real) and 0 < float(margin) < math.inf):
        remedy = "Give the largest difference that does not matter."
        raise DLStudioError("a margin above 0", f"margin={margin!r}", remedy)
