"""What `assess_robustness` returns, and its words."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from dlstudio import stats
from dlstudio.errors import DLStudioError, unknown_name
from dlstudio.results import Finding, Result, value
from dlstudio.wording import percent

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["RobustnessCurve", "RobustnessResult", "describe", "findings_of", "spoken", "titled"]

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


def findings_of(result: RobustnessResult, answers: str) -> list[Finding]:
    """Return what follows from a result; `answers` says how the outputs were read."""
    found = [_of_curve(result, one) for one in result.curves.values()]
    stuck = int((result.no_gradient & _right(result)).sum())
    if stuck:
        found.append(
            Finding(
                code="DLS352",
                severity="warning",
                sentence=(
                    f"For {stuck:,} of {int(_right(result).sum()):,} rows that could be attacked, no gradient says"
                    " where to go: they count as robust here, but nobody has shown that they are."
                ),
                evidence={"n_rows": stuck, "n_right": int(_right(result).sum())},
                remedy="Attack the logits, before any softmax, sigmoid or rounding.",
            )
        )
    if answers in ("probability", "probabilities"):
        found.append(
            Finding(
                code="DLS353",
                severity="info",
                sentence="All outputs lie between 0 and 1 and are read as probabilities.",
                evidence={"outputs": answers},
                remedy="If they are logits, pass a model that returns (rows, classes); else attack its logits, where"
                " gradients do not vanish.",
            )
        )
    if {"fgsm", "pgd"} <= result.curves.keys():
        one, many = (np.nansum(result.curves[name].lost) for name in ("fgsm", "pgd"))
        worse = result.curves["fgsm"].lost - result.curves["pgd"].lost
        if one > many and np.nanmax(worse) > 0.02:
            found.append(
                Finding(
                    code="DLS354",
                    severity="warning",
                    sentence=(
                        "One step finds more errors than the search does (up to"
                        f" {percent(np.nanmax(worse), 0)} more): the gradient misleads the search, so that attacks by"
                        " gradient show less than there is."
                    ),
                    evidence={"largest_difference": float(np.nanmax(worse))},
                    remedy="Read the lower of the two curves, and search longer: n_steps=100.",
                )
            )
    if len(result) < result.n_asked:
        found.append(
            Finding(
                code="DLS355",
                severity="info",
                sentence=f"Time was over after the first {len(result):,} of {result.n_asked:,} rows.",
                evidence={"n_rows": len(result), "n_asked": result.n_asked},
                remedy="Allow more max_seconds for narrower intervals.",
            )
        )
    if known := result.rows_of_part.get("train"):
        found.append(
            Finding(
                code="DLS356",
                severity="warning",
                sentence=f"{known:,} of these {len(result):,} rows were trained on: on others the model may do worse.",
                evidence={"n_trained_on": known, "n_rows": len(result)},
                remedy="Leave out rows=, which takes test rows.",
            )
        )
    return found


def describe(result: RobustnessResult) -> tuple[str, ...]:
    """Return plain sentences for people who decide, the summary first."""
    first = next(iter(result.curves.values()))
    measured = f"{_quantity(result, first.value[0])} ({100 * result.level:g} % interval {_span(result, first, 0)})"
    what = "the accuracy is" if result.metric == "accuracy" else "the mean absolute error is"
    words = {
        "holds": "At every strength that was tested the loss stays within a tenth.",
        "weakens": "The model weakens as inputs change.",
        "fragile": "Already the smallest change that was tested costs more than a tenth.",
        "not enough data": "These rows are too few to tell whether the model weakens as inputs change.",
    }
    return (
        f"On {_rows(result)} as they are, {what} {measured}. {words[result.verdict]}",
        *(f"{finding.sentence} {finding.remedy}".strip() for finding in result.findings),
        *(f"{spoken(name)[:1].upper()}{spoken(name)[1:]} was left out: {why}." for name, why in result.skipped.items()),
    )


def _of_curve(result: RobustnessResult, one: RobustnessCurve) -> Finding:
    at = next((i for i in range(1, len(one.strengths)) if one.lost_low[i] > TOLERANCE), len(one.strengths) - 1)
    interval = f"{100 * result.level:g} % interval {_span(result, one, at)}, {len(result):,} rows"
    span = f"{_quantity(result, one.value[at])} ({interval})"
    what = "accuracy" if result.metric == "accuracy" else "the mean absolute error"
    if one.kind == "attack":
        size = "no input by more than" if result.norm == "linf" else "by a length of at most"
        change = f"Changed on purpose, {size} {one.strengths[at]:.3g} ({one.unit}), by {spoken(one.name)}"
    elif one.name == "missing":
        change = f"With {percent(one.strengths[at], 0)} of the {one.unit.removeprefix('share of ')} missing"
    else:
        change = f"With {spoken(one.name)} of {one.strengths[at]:.3g} ({one.unit})"
    within = "the loss stays within a tenth" if result.metric == "accuracy" else "the error grows by a tenth at most"
    tail = " More than this was not tested." if one.verdict == "holds" else ""
    if one.verdict in ("weakens", "not enough data") and one.holds_to > 0:
        upper = percent(one.holds_to, 0) if one.name == "missing" else f"{one.holds_to:.3g}"
        tail = f" Up to {upper} {within}."
    remedy = ""
    if one.verdict == "not enough data":
        tail += f" Whether {within} {'beyond that ' if one.holds_to > 0 else ''}cannot be told from so few rows."
        remedy = "Assess it on more rows."
    elif one.verdict != "holds":
        remedy = (
            "Train with attacked examples (adversarial training), or limit who can change the inputs."
            if one.kind == "attack"
            else "Train with inputs changed in this way (augmentation), or check inputs before they are used."
        )
    return Finding(
        code="DLS350" if one.kind == "attack" else "DLS351",
        severity="warning" if one.verdict == "fragile" else "info",
        sentence=f"{change}, {what} is {span} instead of {_quantity(result, one.value[0])}.{tail}",
        evidence={
            "name": one.name,
            "strength": float(one.strengths[at]),
            "value": float(one.value[at]),
            "low": float(one.low[at]),
            "high": float(one.high[at]),
            "lost": float(one.lost[at]),
            "holds_to": one.holds_to,
        },
        remedy=remedy,
    )


def _rows(result: RobustnessResult) -> str:
    parts = result.rows_of_part
    which = f"{next(iter(parts))} rows" if len(parts) == 1 else "rows"
    of = f" of {result.data}" if result.data else ""
    each = ", ".join(f"{n:,} {part}" for part, n in parts.items()) if len(parts) > 1 else ""
    return f"{len(result):,} {which}{of}" + (f" ({each})" if each else "")


def _right(result: RobustnessResult) -> npt.NDArray[np.bool_]:
    right: npt.NDArray[np.bool_] = next(iter(result.curves.values())).errors[:, 0] == 0
    # An attack on a quantity always has somewhere to go: every row counts.
    return right if result.metric == "accuracy" else np.ones(len(result), dtype=np.bool_)


def _quantity(result: RobustnessResult, number: float) -> str:
    return percent(number) if result.metric == "accuracy" else f"{number:.4g}"


def _span(result: RobustnessResult, one: RobustnessCurve, at: int) -> str:
    return f"{_quantity(result, one.low[at])} to {_quantity(result, one.high[at])}"
