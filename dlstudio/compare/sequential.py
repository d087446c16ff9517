"""An A/B test that may be looked at any time: intervals and p-values that hold at all looks together."""

from __future__ import annotations

import dataclasses
import math
import numbers
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args

import numpy as np
import numpy.typing as npt

from dlstudio.errors import DLStudioError, unknown_name
from dlstudio.repetitions import BETTER, EQUIVALENT, NOT_ENOUGH, WORSE
from dlstudio.results import Finding, Result

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["SequentialTest", "monitor_ab_means", "monitor_ab_test"]

Array: TypeAlias = npt.NDArray[np.float64]
Counts: TypeAlias = npt.NDArray[np.int64]
Direction = Literal["max", "min"]

_SMALLEST = 1e-300


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class SequentialTest(Result, schema=1):
    """Two arms so far, judged so that the test may stop at any look.

    All arrays have one place per look, the latest last.

    Attributes:
        kind: ``"proportion"`` or ``"mean"``.
        a, b: float64, the proportions or means of either arm.
        n_a, n_b: int64, rows so far.
        difference: float64, b less a.
        low, high: float64, the interval of the difference that holds at all looks together: what every look so far
            agrees on. Infinite as long as nothing can be said of a mean.
        p_value: float64, always valid: the smallest so far.
        level: of confidence.
        n_expected: rows per arm at which the interval is tightest.
        direction: ``"max"`` where more is better.
        margin: the largest difference that does not matter; None where none was given.
        findings: code DLS514, when looks contradict each other.

    Example:
        >>> t = dls.monitor_ab_test([12, 60, 130], [100, 500, 1000], [14, 95, 190], [100, 500, 1000])
        >>> t.verdict, t.frame()[["difference", "low", "high", "p_value"]]
    """

    kind: str
    a: Array
    b: Array
    n_a: Counts
    n_b: Counts
    difference: Array
    low: Array
    high: Array
    p_value: Array
    level: float
    n_expected: int
    direction: str
    margin: float | None = None
    findings: tuple[Finding, ...] = ()

    def __len__(self) -> int:
        return len(self.difference)

    @property
    def verdict(self) -> str:
        """Of B against A: *better*, *worse*, *equivalent* (with a margin) or *not enough data*, which means: go on."""
        if self.p_value[-1] <= 1 - self.level:
            first = int(np.argmax(self.p_value <= 1 - self.level))
            rises = self.difference[first] > 0
            return BETTER if rises == (self.direction == "max") else WORSE
        if self.margin is not None and -self.margin < self.low[-1] and self.high[-1] < self.margin:
            return EQUIVALENT
        return NOT_ENOUGH

    @property
    def decided(self) -> bool:
        """Whether the test may end: the verdict will not be less sure for stopping here."""
        return self.verdict != NOT_ENOUGH

    def frame(self) -> pd.DataFrame:
        """Return a row per look: ``look, n_a, n_b, a, b, difference, low, high, p_value``."""
        import pandas as pd

        names = ("n_a", "n_b", "a", "b", "difference", "low", "high", "p_value")
        return pd.DataFrame({"look": np.arange(1, len(self) + 1), **{name: getattr(self, name) for name in names}})

    @property
    def summary(self) -> tuple[str, ...]:
        """Where the test stands, in sentences."""
        show = _percent if self.kind == "proportion" else _plain
        seen = (
            f"B {show(self.b[-1])} against A {show(self.a[-1])}, of {self.n_b[-1]:,} and {self.n_a[-1]:,} rows: "
            f"difference {show(self.difference[-1])}, {100 * self.level:g} % interval {show(self.low[-1])} to "
            f"{show(self.high[-1])} at all looks together."
        )
        said = {
            BETTER: "B is better: the test may stop.",
            WORSE: "B is worse: the test may stop.",
            EQUIVALENT: f"B and A differ by less than {show(self.margin or 0)}: the test may stop.",
            NOT_ENOUGH: "Nothing is shown yet: go on, and look again whenever you like.",
        }
        return (seen, said[self.verdict])


def monitor_ab_test(
    a_successes: Any,
    a_n: Any,
    b_successes: Any,
    b_n: Any,
    *,
    n_expected: int = 1000,
    level: float = 0.95,
    direction: Direction = "max",
    margin: float | None = None,
) -> SequentialTest:
    """Judge a running test of two proportions, at this look and at any other.

    Looking again and again and stopping when something shows does not raise the chance of a false alarm above
    1 - level, however many looks there are. This rests on the normal approximation (with successes and failures both
    counted one more, and Student's t for few rows), of which the tests of this package simulate how well it holds.

    Args:
        a_successes, a_n, b_successes, b_n: counts so far; or sequences of counts, one per look, each including those
            before.
        n_expected: rows per arm at which the test is expected to end, for instance from `dls.plan_ab_test`. The
            interval is tightest there. Choose it before the first look.
        level: of confidence.
        direction: ``"max"`` where successes are good.
        margin: the largest difference of the proportions that does not matter.

    Raises:
        DLStudioError: counts that cannot be, or that shrink from one look to the next.

    Example:
        >>> dls.monitor_ab_test(480, 5000, 590, 5000, n_expected=4000).verdict
        'better'

    References:
        Robbins, Statistical methods related to the law of the iterated logarithm (1970).
        Johari, Koomen, Pekelis and Walsh, Always valid inference: continuous monitoring of A/B tests (2022).
        Waudby-Smith, Arbour, Sinha, Kennedy and Ramdas, Time-uniform central limit theory (2024).
    """
    counts = _looks(a_successes=a_successes, a_n=a_n, b_successes=b_successes, b_n=b_n)
    wins_a, n_a, wins_b, n_b = counts
    for wins, n in ((wins_a, n_a), (wins_b, n_b)):
        if np.any(wins > n) or any(np.any(np.diff(part) < 0) for part in (wins, n - wins)):
            raise DLStudioError(
                "successes up to n, and counts that include those of earlier looks",
                f"{wins.tolist()[:6]} of {n.tolist()[:6]}",
                "Pass running totals.",
            )
    shares = [(wins + 1) / (n + 2) for wins, n in ((wins_a, n_a), (wins_b, n_b))]
    one, two = (p * (1 - p) / n for p, n in zip(shares, (n_a, n_b), strict=True))
    error: Array = np.sqrt(one + two)
    a, b, freedom = wins_a / n_a, wins_b / n_b, (n_a + n_b - 2).astype(np.float64)
    return _judged(
        "proportion", a, b, n_a, n_b, error, freedom, n_expected, level, direction, margin, bounds=(-1.0, 1.0)
    )


def monitor_ab_means(
    a_mean: Any,
    a_sd: Any,
    a_n: Any,
    b_mean: Any,
    b_sd: Any,
    b_n: Any,
    *,
    n_expected: int = 1000,
    level: float = 0.95,
    direction: Direction = "max",
    margin: float | None = None,
) -> SequentialTest:
    """Judge a running test of two means, at this look and at any other; see `monitor_ab_test`.

    Args:
        a_mean, a_sd, a_n, b_mean, b_sd, b_n: means, standard deviations (divisor n - 1) and rows so far; or sequences,
            one per look.
        n_expected, level, direction, margin: as of `monitor_ab_test`.

    Example:
        >>> dls.monitor_ab_means(10.1, 2.0, 800, 10.9, 2.1, 810).verdict
        'better'
    """
    mean_a, sd_a, mean_b, sd_b = (_numbers(item) for item in (a_mean, a_sd, b_mean, b_sd))
    n_a, n_b = _looks(a_n=a_n, b_n=b_n)
    if len({len(part) for part in (mean_a, sd_a, mean_b, sd_b, n_a)}) > 1:
        raise DLStudioError("as many means and deviations as counts", "other lengths", "Pass one of each per look.")
    if not all(np.isfinite(part).all() for part in (mean_a, mean_b)) or np.any(sd_a < 0) or np.any(sd_b < 0):
        raise DLStudioError("finite means, and deviations of 0 or more", "others", "Leave out rows without a value.")
    with np.errstate(divide="ignore", invalid="ignore"):
        one, two = sd_a**2 / n_a, sd_b**2 / n_b
        freedom = (one + two) ** 2 / (one**2 / (n_a - 1) + two**2 / (n_b - 1))
        error = np.sqrt(one + two)
    return _judged("mean", mean_a, mean_b, n_a, n_b, error, freedom, n_expected, level, direction, margin)


def _judged(
    kind: str, a: Array, b: Array, n_a: Counts, n_b: Counts, error: Array, freedom: Array, n_expected: Any,
    level: float, direction: str, margin: float | None, bounds: tuple[float, float] = (-math.inf, math.inf),
) -> SequentialTest:  # fmt: skip
    if direction not in get_args(Direction):
        raise unknown_name("direction", direction, get_args(Direction))
    if not (_is_number(level) and 0 < level < 1):
        raise DLStudioError("a level of confidence between 0 and 1", f"level={level!r}", "Try level=0.95.")
    rows = int(n_expected) if _is_number(n_expected) and isinstance(n_expected, numbers.Integral) else 0
    if rows < 20:
        raise DLStudioError("n_expected of 20 rows or more", f"{n_expected!r}", "Take it from dls.plan_ab_test.")
    if margin is not None and not (_is_number(margin) and margin > 0):
        raise DLStudioError("a margin above 0", f"margin={margin!r}", "Leave it out, or try 0.01.")
    difference = b - a
    progress = 2 / (1 / n_a + 1 / n_b) / rows
    half = half_width(error, freedom, progress, 1 - level)
    p = always_valid_p(difference, error, freedom, progress, 1 - level)
    own_low, own_high = np.maximum(difference - half, bounds[0]), np.minimum(difference + half, bounds[1])
    low, high = np.maximum.accumulate(own_low), np.minimum.accumulate(own_high)
    apart = low > high
    findings: tuple[Finding, ...] = ()
    if apart.any():
        at = int(np.argmax(apart))
        findings = (
            Finding(
                code="DLS514",
                severity="warning",
                sentence=f"Look {at + 1} contradicts earlier ones: their intervals have nothing in common.",
                evidence={"low": float(own_low[at]), "high": float(own_high[at])},
                remedy="Check whether the arms changed on the way: other rows, another model, another way of counting.",
            ),
        )
    return SequentialTest(
        kind=kind,
        a=a,
        b=b,
        n_a=n_a,
        n_b=n_b,
        difference=difference,
        low=np.where(apart, own_low, low),
        high=np.where(apart, own_high, high),
        p_value=np.minimum.accumulate(p),
        level=float(level),
        n_expected=rows,
        direction=direction,
        margin=None if margin is None else float(margin),
        findings=findings,
    )


def always_valid_p(difference: Array, error: Array, freedom: Array, progress: Array, alpha: float) -> Array:
    """Return the p-value of no difference at each look, of which the smallest so far holds at any time.

    The difference is weighed against a normal mixture of alternatives, whose spread makes intervals at 1 - `alpha`
    tightest where `progress` is 1.

    Args:
        difference, error, freedom: of each look, its standard error and degrees of freedom; any shape.
        progress: rows so far over those expected.
        alpha: one less the level.
    """
    from scipy.special import ndtri, stdtr

    spread = _spread(alpha) * progress
    with np.errstate(divide="ignore", invalid="ignore"):
        # Through its tail, Student's t becomes the normal deviate it is worth.
        z = -ndtri(np.maximum(stdtr(freedom, -np.abs(difference) / error), _SMALLEST))
        p = np.exp(np.log1p(spread) / 2 - z**2 * spread / (1 + spread) / 2)
    return np.where(_known(error, freedom), np.minimum(1, p), 1.0)


def half_width(error: Array, freedom: Array, progress: Array, alpha: float) -> Array:
    """Return half the interval of a difference at each look: what `always_valid_p` does not reject."""
    from scipy.special import ndtr, stdtrit

    spread = _spread(alpha) * progress
    with np.errstate(divide="ignore", invalid="ignore"):
        reach = np.sqrt((1 + 1 / spread) * (np.log1p(spread) - 2 * math.log(alpha)))
        half = -stdtrit(freedom, ndtr(-reach)) * error
    return np.where(_known(error, freedom) & ~np.isnan(half), half, np.inf)


def _spread(alpha: float) -> float:
    """The variance of the alternatives, in units of that of the difference, with the tightest interval."""
    from scipy.special import lambertw

    return float(-lambertw(-(alpha**2) / math.e, -1).real - 1)


def _known(error: Array, freedom: Array) -> npt.NDArray[np.bool_]:
    # A single row, or rows that are all equal, tell nothing of their spread.
    return np.asarray((error > 0) & (freedom > 0))


def _looks(**given: Any) -> tuple[Counts, ...]:
    found = []
    for name, item in given.items():
        counts = _numbers(item)
        if not len(counts) or np.any(counts != np.round(counts)) or np.any(counts < (name.endswith("_n"))):
            raise DLStudioError(f"{name} as whole numbers, of rows at least 1", f"{item!r:.80}", "Pass counts.")
        if name.endswith("_n") and np.any(np.diff(counts) < 0):
            raise DLStudioError(f"{name} that grows from look to look", f"{item!r:.80}", "Pass running totals.")
        found.append(counts.astype(np.int64))
    if len({len(part) for part in found}) > 1:
        raise DLStudioError("as many looks of both arms", f"{[len(part) for part in found]}", "Pass a count per look.")
    return tuple(found)


def _is_number(item: Any) -> bool:
    return isinstance(item, numbers.Real) and not isinstance(item, bool)


def _numbers(item: Any) -> Array:
    try:
        return np.atleast_1d(np.asarray(item, dtype=np.float64)).reshape(-1)
    except (TypeError, ValueError):
        raise DLStudioError("numbers", f"{item!r:.80}", "Pass one number, or one per look.") from None


def _percent(share: float) -> str:
    return f"{100 * share:.2f} %"


def _plain(value: float) -> str:
    return f"{value:.4g}"
