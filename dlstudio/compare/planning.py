"""How many rows an A/B test of two variants needs, or what it can show with those there are."""

from __future__ import annotations

import dataclasses
import math
import numbers
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args

import numpy as np
import numpy.typing as npt

from dlstudio.errors import DLStudioError, unknown_name
from dlstudio.results import Result

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["ABPlan", "plan_ab_test"]

Array: TypeAlias = npt.NDArray[np.float64]
Kind = Literal["proportion", "mean"]

MOST_ROWS = 10**10


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class ABPlan(Result, schema=1):
    """A test of two arms, planned.

    Attributes:
        kind: ``"proportion"`` or ``"mean"``.
        baseline: of the control arm; NaN where it is unknown and does not matter.
        effect: treatment less control that the test shows with `power`.
        effect_down: for a number of rows given, the least fall that is shown so; NaN where none is. Proportions are not
            symmetric.
        sd: of single values, of means; NaN for proportions.
        n_control, n_treatment: rows of either arm.
        power, level: the chance to show such an effect if it is there; of confidence.
        ratio: rows of treatment per row of control.
        two_sided: whether a difference either way would be shown.
        solved_for: ``"n"`` or ``"effect"``.
        curve: columns ``n_control`` and ``power`` of this effect, and ``effect`` and ``power_of_effect`` of these rows.

    Example:
        >>> plan = dls.plan_ab_test(baseline=0.10, effect=0.02)
        >>> plan.n_control
        3841
    """

    kind: str
    baseline: float
    effect: float
    effect_down: float = math.nan
    sd: float = math.nan
    n_control: int
    n_treatment: int
    power: float
    level: float
    ratio: float
    two_sided: bool
    solved_for: str
    curve: dict[str, Array]

    def frame(self) -> pd.DataFrame:
        """Return a row per planned quantity: ``quantity, value``."""
        import pandas as pd

        names = ("n_control", "n_treatment", "effect", "effect_down", "power", "level", "baseline", "sd", "ratio")
        return pd.DataFrame({"quantity": list(names), "value": [float(getattr(self, name)) for name in names]})

    def power_at(self, *, effect: float | None = None, n: int | None = None) -> float:
        """Return the power for another effect, or for another number of rows of the control arm."""
        effect = self.effect if effect is None else effect
        return float(_power(self, effect, self.n_control if n is None else n))

    @property
    def summary(self) -> tuple[str, ...]:
        """The plan in sentences."""
        rows = f"{self.n_control:,} rows of control and {self.n_treatment:,} of treatment"
        chance = f"with a chance of {100 * self.power:g} %"
        sure = f"{'two-sided' if self.two_sided else 'one-sided'}, at {100 * self.level:g} % confidence"
        if self.solved_for == "n":
            said = f"To show {self._change(self.effect)} {chance} takes {rows} ({sure})."
        else:
            said = f"{rows} show {self._change(self.effect)} {chance} ({sure}); smaller ones are likely to be missed."
        more = [said]
        if math.isfinite(self.effect_down):
            more.append(f"Downwards, it is {self._change(self.effect_down)}.")
        twice = self.power_at(n=max(2, self.n_control // 2))
        more.append(f"Half of the rows would leave a chance of {100 * twice:.0f} %.")
        more.append(
            "Look at the result once, when all rows are there. With monitor_ab_test you may look at any time, but that"
            f" costs rows: with these alone, the chance is clearly below {100 * self.power:g} %."
        )
        return tuple(more)

    def _change(self, effect: float) -> str:
        if self.kind == "proportion":
            way = "rise" if effect > 0 else "fall"
            return f"a {way} from {100 * self.baseline:.4g} % to {100 * (self.baseline + effect):.4g} %"
        return f"a change of the mean by {effect:.4g} ({abs(effect) / self.sd:.3g} standard deviations)"


def plan_ab_test(
    *,
    baseline: float | None = None,
    effect: float | None = None,
    n: int | None = None,
    power: float = 0.8,
    level: float = 0.95,
    kind: Kind = "proportion",
    sd: float | None = None,
    ratio: float = 1.0,
    two_sided: bool = True,
) -> ABPlan:
    """Plan a test of two arms: the rows that an effect takes, or the least effect that rows can show.

    Proportions by the normal approximation, with the pooled variance where there is no effect and both variances where
    there is one, as Fleiss has it: a difference in the wrong direction is no success. Means by the noncentral t
    distribution.

    Args:
        baseline: the proportion (or the mean, only for the words) of the control arm.
        effect: treatment less control, in the same unit; below 0 for a fall. Pass it or `n`.
        n: rows of the control arm, to ask for the least effect.
        power: the chance to show the effect if it is there.
        level: of confidence.
        kind: ``"proportion"`` of rows, or ``"mean"`` of a quantity.
        sd: of single values, for a mean.
        ratio: rows of treatment per row of control.
        two_sided: whether a difference either way is to be shown; else only one in the direction of `effect` (upwards
            where `n` is given).

    Raises:
        DLStudioError: both or neither of `effect` and `n`, or a value out of its range.

    Example:
        >>> dls.plan_ab_test(baseline=0.10, effect=0.02).n_control
        3841
        >>> round(dls.plan_ab_test(kind="mean", sd=1, n=64).effect, 3)
        0.499

    References:
        Fleiss, Levin and Paik, Statistical methods for rates and proportions (2003), chapter 4.
        Cohen, Statistical power analysis for the behavioral sciences (1988), chapter 2.
    """
    rows: Any = n
    either: Any = two_sided
    given: dict[str, Any] = {"baseline": baseline, "effect": effect, "sd": sd, "power": power, "level": level}
    for name, number in (given | {"ratio": ratio}).items():
        if number is not None and (isinstance(number, bool) or not isinstance(number, numbers.Real)):
            raise DLStudioError(f"{name} as a number", f"{number!r:.80}", "Pass a share like 0.02 for 2 %.")
    if not isinstance(either, bool | np.bool_):
        remedy = "Pass two_sided=False where one direction alone is to be shown."
        raise DLStudioError("two_sided as True or False", f"{either!r:.80}", remedy)
    plan = _checked(
        ABPlan(
            kind=kind,
            baseline=math.nan if baseline is None else float(baseline),
            effect=math.nan if effect is None else float(effect),
            sd=math.nan if sd is None else float(sd),
            n_control=int(rows) if isinstance(rows, numbers.Integral) else rows or 0,
            n_treatment=0,
            power=float(power),
            level=float(level),
            ratio=float(ratio),
            two_sided=bool(either),
            solved_for="n" if n is None else "effect",
            curve={},
        ),
        both_or_neither=(effect is None) == (n is None),
    )
    if plan.solved_for == "n":
        plan = dataclasses.replace(plan, n_control=_rows(lambda rows: float(_power(plan, plan.effect, rows)), power))
    else:
        plan = dataclasses.replace(plan, effect=_least(plan, 1.0))
        if math.isnan(plan.effect):
            raise DLStudioError(
                "rows enough to show some effect", f"n={plan.n_control} with power {power:g}", "Take more rows."
            )
        plan = dataclasses.replace(plan, effect_down=_least(plan, -1.0) if two_sided else math.nan)
    plan = dataclasses.replace(plan, n_treatment=math.ceil(plan.n_control * ratio - 1e-9))
    return dataclasses.replace(plan, curve=_curve(plan))


def _power(plan: ABPlan, effect: Any, n: Any) -> Array:
    """The chance to show `effect` with `n` rows of control; both broadcast."""
    effect, n = np.asarray(effect, dtype=np.float64), np.asarray(n, dtype=np.float64)
    alpha = (1 - plan.level) / (2 if plan.two_sided else 1)
    return (_power_of_proportions if plan.kind == "proportion" else _power_of_means)(plan, effect, n, alpha)


def _power_of_proportions(plan: ABPlan, effect: Array, n: Array, alpha: float) -> Array:
    from scipy.special import ndtr, ndtri

    other_n = n * plan.ratio
    p, q = plan.baseline, np.clip(plan.baseline + effect, 0, 1)
    pooled = (p + plan.ratio * q) / (1 + plan.ratio)
    reach = -ndtri(alpha) * np.sqrt(pooled * (1 - pooled) * (1 / n + 1 / other_n))
    error = np.sqrt(p * (1 - p) / n + q * (1 - q) / other_n)
    size = np.abs(effect)
    return np.asarray(ndtr((size - reach) / error))


def _power_of_means(plan: ABPlan, effect: Array, n: Array, alpha: float) -> Array:
    from scipy.special import ndtr
    from scipy.stats import nct, t

    other_n = n * plan.ratio
    freedom = n + other_n - 2
    away = np.abs(effect) / (plan.sd * np.sqrt(1 / n + 1 / other_n))
    reach = t.isf(alpha, freedom)
    power = nct.sf(reach, freedom, away)
    # scipy has no value for the far tail of many rows, where the normal distribution is as good.
    power = np.where(np.isnan(power), ndtr(away - reach), power)
    return np.asarray(power + np.nan_to_num(nct.cdf(-reach, freedom, away)) if plan.two_sided else power)


def _rows(power_of: Callable[[int], float], power: float) -> int:
    """The least number of rows with this power, which grows with rows."""
    high = 2
    while power_of(high) < power:
        high *= 2
        if high > MOST_ROWS:
            raise DLStudioError("an effect that some number of rows can show", "one that is too small", "Ask for more.")
    low = max(2, high // 2)
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if power_of(middle) >= power else (middle + 1, high)
    return low


def _least(plan: ABPlan, sign: float) -> float:
    """The smallest effect in one direction with the power of the plan; NaN where none has it."""
    from scipy.optimize import brentq

    if plan.kind == "proportion":
        widest = (1 - plan.baseline if sign > 0 else plan.baseline) * (1 - 1e-12)
    else:
        widest = 100 * plan.sd * (1 + 1 / math.sqrt(plan.n_control))

    def missing(size: float) -> float:
        return float(_power(plan, sign * size, plan.n_control)) - plan.power

    if missing(widest) < 0:
        return math.nan
    return sign * float(brentq(missing, 0.0, widest, xtol=1e-14, rtol=1e-12))


def _curve(plan: ABPlan) -> dict[str, Array]:
    rows = np.unique(np.geomspace(max(2, plan.n_control / 10), plan.n_control * 4, 80).round())
    effects = np.linspace(0, 2.5 * plan.effect, 80)
    if plan.kind == "proportion":
        effects = effects[(plan.baseline + effects > 0) & (plan.baseline + effects < 1)]
    return {
        "n_control": rows,
        "power": _power(plan, plan.effect, rows),
        "effect": effects,
        "power_of_effect": _power(plan, effects, plan.n_control),
    }


def _checked(plan: ABPlan, *, both_or_neither: bool) -> ABPlan:
    if plan.kind not in get_args(Kind):
        raise unknown_name("kind", plan.kind, get_args(Kind))
    alpha = 1 - plan.level
    wrong: list[tuple[bool, str, str, str]] = [
        (both_or_neither, "either an effect or a number of rows", "both or neither", "Pass effect=, or n=."),
        (not 0 < plan.level < 1, "a level of confidence between 0 and 1", f"level={plan.level!r}", "Try level=0.95."),
        (not alpha < plan.power < 1, "power above 1 - level and below 1", f"power={plan.power!r}", "Try power=0.8."),
        (not 0 < plan.ratio < math.inf, "a ratio above 0", f"ratio={plan.ratio!r}", "Use 1 for arms of one size."),
        (
            plan.solved_for == "n" and not (plan.effect != 0 and math.isfinite(plan.effect)),
            "an effect other than 0", f"{plan.effect!r}", "Try effect=0.02.",
        ),
        (
            plan.solved_for == "effect" and (not isinstance(plan.n_control, int) or plan.n_control < 2),
            "n of 2 rows or more", f"n={plan.n_control!r}", "Pass the rows of the control arm.",
        ),
    ]  # fmt: skip
    if plan.kind == "proportion":
        aim = plan.baseline + (0 if math.isnan(plan.effect) else plan.effect)
        wrong += [
            (not 0 < plan.baseline < 1, "a baseline between 0 and 1", f"{plan.baseline!r}", "Pass a share like 0.1."),
            (not 0 < aim < 1, "baseline and effect to end between 0 and 1", f"{aim:g}", "Pass a smaller effect."),
        ]
    else:
        wrong.append(
            (not 0 < plan.sd < math.inf, "sd above 0, for a mean", f"sd={plan.sd!r}", "Use that of past data.")
        )
    for is_wrong, *words in wrong:
        if is_wrong:
            raise DLStudioError(*words)
    return plan
