"""Scores of an explanation, and what follows from them in words."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from dlstudio.explain.methods import METHODS
from dlstudio.results import Finding, Result

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["QualityResult", "describe", "findings_of"]

Array = npt.NDArray[Any]

INFIDEL, SENSITIVE, UNMOVED, SHIFTED = 0.5, 0.5, 0.7, 0.05
"""From where on a score is worth a warning."""
TOLD_APART = 2.0
"""Standard deviations of random orders that an order must lie beyond their mean to be better than chance."""


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class QualityResult(Result, schema=1):
    """How well an explanation of n rows stands up to the model. Scores that were not asked for are None.

    Attributes:
        method: of the explanation.
        infidelity: float64 (n,), 0 to 1: the share of the output's changes, when random features are taken away, that
            the attributions miss at their best scale.
        max_sensitivity: float64 (n,): the largest change of the attributions, relative to their size, when inputs
            change by up to 2 % of their spread.
        shares: float64 (steps,), of the features taken away or put back, 0 to 1; () where `removal` was not scored.
        deletion, insertion: float64 (n, steps), the output as features are taken away, or put back, the largest
            attribution first; 0 is the output without any feature, 1 the output's range above it.
        random_deletion, random_insertion: float64 (orders, steps), the same for random orders, mean over rows.
        layers: names of the layers whose weights were made random, cumulatively, the last layer first.
        similarity: float64 (layers, n), Spearman's correlation of |attributions| with those of the trained model.
        input_invariance: float64 (n,), the change of the attributions, relative to their size, when inputs are shifted
            and the model takes the shift back.
        rows: int64 (n,), of the explanation.
        skipped: scores that make no sense here, could not be computed or not in time, and why.
        findings: what follows; codes DLS430 to DLS434.
        model, run: the model's class; the run's key, empty without a run.
        settings: seed, numbers of draws, target of every row.
        seconds: of every score.
    """

    method: str
    infidelity: Array | None = None
    max_sensitivity: Array | None = None
    shares: Array
    deletion: Array | None = None
    insertion: Array | None = None
    random_deletion: Array | None = None
    random_insertion: Array | None = None
    layers: tuple[str, ...] = ()
    similarity: Array | None = None
    input_invariance: Array | None = None
    rows: npt.NDArray[np.int64]
    skipped: Mapping[str, str] = dataclasses.field(default_factory=dict)
    findings: tuple[Finding, ...] = ()
    model: str = ""
    run: str = ""
    settings: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    seconds: Mapping[str, float] = dataclasses.field(default_factory=dict)

    @property
    def deletion_area(self) -> Array | None:
        """Area under each row's deletion curve, float64 (n,): the lower, the better the order."""
        return _area(self.deletion, self.shares)

    @property
    def insertion_area(self) -> Array | None:
        """Area under each row's insertion curve, float64 (n,): the higher, the better the order."""
        return _area(self.insertion, self.shares)

    @property
    def random_deletion_area(self) -> Array | None:
        """Mean area over all rows of each random order, float64 (orders,)."""
        return _area(self.random_deletion, self.shares)

    @property
    def random_insertion_area(self) -> Array | None:
        """Mean area over all rows of each random order, float64 (orders,)."""
        return _area(self.random_insertion, self.shares)

    def frame(self) -> pd.DataFrame:
        """Return a row per explained row; scores that were not computed are NaN.

        Columns are ``row, infidelity, max_sensitivity, deletion_area, insertion_area, similarity`` (all weights
        random) and ``input_invariance``.
        """
        import pandas as pd

        last = None if self.similarity is None or not len(self.similarity) else self.similarity[-1]
        scores = {
            "infidelity": self.infidelity,
            "max_sensitivity": self.max_sensitivity,
            "deletion_area": self.deletion_area,
            "insertion_area": self.insertion_area,
            "similarity": last,
            "input_invariance": self.input_invariance,
        }
        return pd.DataFrame(
            {"row": self.rows, **{name: np.nan if values is None else values for name, values in scores.items()}}
        )


def _area(curves: Array | None, shares: Array) -> Array | None:
    """Return the area under curves (..., steps) over shares from 0 to 1, if there are any."""
    if curves is None:
        return None
    found: Array = ((curves[..., 1:] + curves[..., :-1]) / 2 * np.diff(shares)).sum(axis=-1)
    return found


def findings_of(result: QualityResult) -> list[Finding]:
    """Judge the scores, in their order."""
    found = []
    if result.deletion_area is not None:
        found.append(_removal(result))
    if result.infidelity is not None:
        missed = float(np.median(result.infidelity))
        found.append(
            Finding(
                code="DLS431",
                severity="warning" if missed > INFIDEL else "info",
                sentence=(
                    f"When random features are taken away, the attributions miss {missed:.0%} of what happens to the"
                    " output, even at their best scale (median row)."
                ),
                evidence={"infidelity": missed},
                remedy="Do not read them as effects of features; shapley foresees sets of features best."
                if missed > INFIDEL
                else "",
            )
        )
    if result.max_sensitivity is not None:
        worst = float(np.median(result.max_sensitivity))
        found.append(
            Finding(
                code="DLS432",
                severity="warning" if worst > SENSITIVE else "info",
                sentence=(
                    "When inputs change by at most 2% of their spread, the attributions change by up to"
                    f" {worst:.0%} of their size (median row)."
                ),
                evidence={"max_sensitivity": worst},
                remedy="Use a method that averages, such as integrated_gradients, shapley or smooth_grad."
                if worst > SENSITIVE
                else "",
            )
        )
    if result.similarity is not None and np.isfinite(result.similarity).any():
        found.append(_randomisation(result))
    if result.input_invariance is not None:
        found.append(_invariance(result))
    return found


def _removal(result: QualityResult) -> Finding:
    assert result.deletion_area is not None and result.insertion_area is not None
    assert result.random_deletion_area is not None and result.random_insertion_area is not None
    fall, rise = float(result.deletion_area.mean()), float(result.insertion_area.mean())
    random_fall, random_rise = result.random_deletion_area, result.random_insertion_area
    better = [
        fall < random_fall.mean() - TOLD_APART * random_fall.std(ddof=1),
        rise > random_rise.mean() + TOLD_APART * random_rise.std(ddof=1),
    ]
    words = (
        f"Taking features away, the largest attribution first, leaves an area of {fall:.2f} under the output (random"
        f" orders {random_fall.mean():.2f} ± {random_fall.std(ddof=1):.2f}); putting them back gives {rise:.2f} (random"
        f" {random_rise.mean():.2f} ± {random_rise.std(ddof=1):.2f})"
    )
    verdict = {2: "the order is better than chance", 1: "only one of the two is better than chance"}
    return Finding(
        code="DLS430",
        severity="info" if any(better) else "warning",
        sentence=f"{words}: {verdict.get(sum(better), 'the order is no better than chance')}.",
        evidence={"deletion_area": fall, "insertion_area": rise, "random_area": float(random_fall.mean())},
        remedy="" if any(better) else "Do not rank features by these attributions.",
    )


def _randomisation(result: QualityResult) -> Finding:
    assert result.similarity is not None
    rows = result.similarity[-1]
    left = float(np.median(rows[np.isfinite(rows)])) if np.isfinite(rows).any() else 0.0
    unmoved = left > UNMOVED
    return Finding(
        code="DLS433",
        severity="warning" if unmoved else "info",
        sentence=(
            "With random weights in all layers, the order of the attributions' sizes "
            + ("hardly changes" if unmoved else "changes")
            + f" (rank correlation {left:.2f} in the median row)."
        ),
        evidence={"similarity": left},
        remedy="They show the inputs more than what the model learned: use another method." if unmoved else "",
    )


def _invariance(result: QualityResult) -> Finding:
    assert result.input_invariance is not None
    change = float(np.median(result.input_invariance))
    depends = change > SHIFTED
    chosen = result.method in METHODS and METHODS[result.method].reference != "none"
    where = "the baseline stays where it is" if chosen else "the method multiplies by the inputs"
    return Finding(
        code="DLS434",
        # A fixed baseline is a choice with a meaning, such as black; without one there is nothing to choose.
        severity="warning" if depends and not chosen else "info",
        sentence="When all inputs are shifted and the model takes the shift back, the attributions "
        + (f"change by {change:.0%} of their size (median row), as {where}." if depends else "stay as they are."),
        evidence={"change": change},
        remedy=""
        if not depends
        else "Make sure that the baseline means 'nothing known', or take the mean of training rows."
        if chosen
        else "Use integrated_gradients with a baseline of your choice.",
    )


def describe(result: QualityResult) -> tuple[str, ...]:
    """Return the scores in plain sentences, the summary first."""
    title = METHODS[result.method].title if result.method in METHODS else result.method
    grave = [finding for finding in result.findings if finding.severity != "info"]
    n = f"{len(result.rows):,} {'row' if len(result.rows) == 1 else 'rows'}"
    first = f"{title} on {n}: " + (
        f"{len(grave)} of the scores {'speaks' if len(grave) == 1 else 'speak'} against it."
        if grave
        else "no score speaks against it."
    )
    skipped = tuple(f"{_spoken(name)} was left out: {why}." for name, why in result.skipped.items())
    return (first, *(f"{finding.sentence} {finding.remedy}".strip() for finding in result.findings), *skipped)


def _spoken(name: str) -> str:
    return name.replace("_", " ").capitalize()
