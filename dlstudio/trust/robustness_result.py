"""What `assess_robustness` returns."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from dlstudio import stats
from dlstudio.errors import DLStudioError, unknown_name
from dlstudio.results import Finding, Result, value

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["TOLERANCE", "RobustnessCurve", "RobustnessResult", "curve", "spoken", "titled"]

Array = npt.NDArray[np.float64]

TOLERANCE = 0.1
"""The share of right answers that may be lost, or by which the mean error may grow, for a curve to hold."""
NAMES = {
    "fgsm": ("FGSM, one step", "one step along the gradient (FGSM)"),
    "pgd": ("PGD, a search", "a search along the gradient (PGD)"),
    "noise": ("Noise", "random noise"),
    "blur": ("Blur", "blur"),
    "missing": ("Missing values", "missing values"),
}
"""Attacks and corruptions as a picture names them, and as a sentence does."""


@value
@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class RobustnessCurve:
    """How a model does as one kind of change grows.

    Attributes:
        name, kind: ``"fgsm"``, ``"noise"``, …; ``"attack"`` or ``"corruption"``.
        unit: of the strength.
        strengths: float64 (s,), rising; the first is 0, inputs as they are.
        value, low, high: float64 (s,), accuracy with Wilson's interval, or the mean absolute error with Student's.
        lost, lost_low, lost_high: float64 (s,), the share of the answers right at first that are wrong now, or the
            growth of the mean absolute error relative to that at strength 0, with intervals.
        errors: float32 (rows, s), 1 where a class is wrong, or the absolute error. Those of an attack are the worst
            at this or any smaller strength: who may change much may change little.
    """

    name: str
    kind: str
    unit: str
    strengths: Array
    value: Array
    low: Array
    high: Array
    lost: Array
    lost_low: Array
    lost_high: Array
    errors: npt.NDArray[np.float32]

    @property
    def holds_to(self) -> float:
        """The largest tested strength up to which no more than a tenth is lost, by the interval; 0 for none."""
        holds = np.nan_to_num(self.lost_high[1:], nan=np.inf) <= TOLERANCE
        n = len(holds) if holds.all() else int(np.argmin(holds))
        return float(self.strengths[n])

    @property
    def verdict(self) -> str:
        """``"holds"`` at all tested strengths, ``"fragile"`` when more than a tenth is lost at the smallest,
        ``"weakens"`` when it is at a larger one, or ``"not enough data"`` when no interval shows either.
        """
        if self.holds_to == self.strengths[-1]:
            return "holds"
        lost = self.lost_low[1:] > TOLERANCE
        return "fragile" if lost[0] else "weakens" if lost.any() else "not enough data"


def curve(
    name: str, kind: str, unit: str, strengths: Array, errors: npt.NDArray[np.float32], metric: str, level: float
) -> RobustnessCurve:
    """Measure a curve from the errors of every row, (rows, strengths)."""
    n = len(errors)
    if metric == "accuracy":
        right = errors == 0
        count = right.sum(axis=0)
        low, high = stats.wilson(count, n, level)
        first = right[:, :1]
        n_first, n_lost = int(first.sum()), (first & ~right).sum(axis=0)
        lost_low, lost_high = stats.wilson(n_lost, n_first, level)
        with np.errstate(invalid="ignore"):
            measured, lost = count / n, n_lost / np.float64(n_first)
    else:
        exact = errors.astype(np.float64)
        measured = exact.mean(axis=0)
        low, high = stats.mean_interval(measured, _variance(exact), n, level)
        growth = exact - exact[:, :1]
        with np.errstate(invalid="ignore", divide="ignore"):
            lost = growth.mean(axis=0) / measured[0]
            lost_low, lost_high = (
                side / measured[0] for side in stats.mean_interval(growth.mean(axis=0), _variance(growth), n, level)
            )
    return RobustnessCurve(
        name=name, kind=kind, unit=unit, strengths=strengths, value=measured, low=low, high=high, lost=lost,
        lost_low=lost_low, lost_high=lost_high, errors=errors,
    )  # fmt: skip


def _variance(values: Array) -> Array:
    n = len(values)
    return values.var(axis=0, ddof=1) if n > 1 else np.full(values.shape[1], np.nan)


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class RobustnessResult(Result, schema=2):
    """How right a model stays while its inputs are attacked or corrupted.

    Attributes:
        metric: ``"accuracy"``, or ``"mean_absolute_error"`` of a regression.
        curves: by name of the attack or corruption.
        norm: ``"linf"`` (no input changes by more) or ``"l2"`` (the length of the change), of attacks.
        rows: int64 (n,), row numbers in the data set, or 0, 1, 2, … of what was passed.
        y_true, y_pred: (n,), targets, and what the model says of the inputs as they are.
        no_gradient: bool (n,), rows that attacks cannot judge, as no gradient leads away from them.
        rows_of_part: how many of the rows are of each part of a run's data, ``"train"``, ``"val"`` and ``"test"``.
        n_asked: how many rows there were; more than n when time was over.
        skipped: attacks and corruptions that make no sense here, and why.
        data, run, model: name of the data; the run's key and the model's class, empty where there is none.
        level: of confidence of all intervals.
        settings: seed, steps, bounds and the like.
        options: everything that `assess_robustness` was given beside the model and its inputs, by name, so that
            ``assess_robustness(run, **result.options)`` does the same again.
        findings: what follows; codes DLS350 to DLS356.
        wall_s: seconds it took.
    """

    metric: str
    curves: Mapping[str, RobustnessCurve]
    norm: str
    rows: npt.NDArray[np.int64]
    y_true: npt.NDArray[Any]
    y_pred: npt.NDArray[Any]
    no_gradient: npt.NDArray[np.bool_]
    rows_of_part: Mapping[str, int] = dataclasses.field(default_factory=dict)
    n_asked: int
    skipped: Mapping[str, str] = dataclasses.field(default_factory=dict)
    data: str = ""
    run: str = ""
    model: str = ""
    level: float = 0.95
    settings: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    findings: tuple[Finding, ...] = ()
    wall_s: float = 0.0

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def verdict(self) -> str:
        """The worst of all curves: ``"fragile"``, ``"weakens"``, ``"not enough data"`` or ``"holds"``."""
        said = {one.verdict for one in self.curves.values()}
        return next(word for word in ("fragile", "weakens", "not enough data", "holds") if word in said)

    def frame(self) -> pd.DataFrame:
        """Return a row per attack or corruption and strength.

        Columns are ``kind, name, strength, unit, metric, value, low, high, lost, lost_low, lost_high, n``.
        """
        import pandas as pd

        names = ("value", "low", "high", "lost", "lost_low", "lost_high")
        parts = [
            pd.DataFrame(
                {
                    "kind": one.kind,
                    "name": one.name,
                    "strength": one.strengths,
                    "unit": one.unit,
                    "metric": self.metric,
                    **{name: getattr(one, name) for name in names},
                    "n": len(self),
                }
            )
            for one in self.curves.values()
        ]
        return pd.concat(parts, ignore_index=True)

    def rows_of(self, name: str, strength: float | None = None) -> npt.NDArray[np.int64]:
        """Return the numbers of rows that were right and are wrong under an attack or corruption.

        Args:
            name: which one.
            strength: a tested strength; None for the largest.

        Raises:
            DLStudioError: it was not tested, or the model predicts quantities, which are never just wrong.
        """
        if name not in self.curves:
            raise unknown_name("attack or corruption", name, self.curves)
        if self.metric != "accuracy":
            raise DLStudioError("a classification", "a regression", "Sort curves[name].errors instead.")
        one = self.curves[name]
        at = len(one.strengths) - 1
        if strength is not None:
            near = np.flatnonzero(np.isclose(one.strengths, strength, rtol=1e-6, atol=0))
            if not len(near):
                tested = ", ".join(f"{item:g}" for item in one.strengths)
                raise DLStudioError(f"a tested strength ({tested})", f"{strength!r}", "Choose one of these.")
            at = int(near[0])
        found: npt.NDArray[np.int64] = self.rows[(one.errors[:, 0] == 0) & (one.errors[:, at] != 0)]
        return found


def titled(name: str) -> str:
    """Return what a picture calls an attack or corruption."""
    return NAMES[name][0]


def spoken(name: str) -> str:
    """Return what a sentence calls an attack or corruption."""
    return NAMES[name][1]
