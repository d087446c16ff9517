"""What `find_counterfactuals` returns, in numbers and in words."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from dlstudio.explain.counterfactuals.constraints import Constraints
from dlstudio.results import Finding, Result

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["CounterfactualResult", "describe", "findings", "shown"]


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class CounterfactualResult(Result, schema=1):
    """The nearest rows that a model decides otherwise; n may be 0, and `reason` says why.

    Attributes:
        columns: names of the columns, c of them.
        original: c values of the row, numbers or names of categories.
        values: n counterfactuals of c values each, the nearest first.
        changed: bool (n, c), which columns differ.
        shifts: float64 (n, c), how far every column moved, in its unit and with its sign; 1 for another category.
        units: float64 (c,), one unit of every column: its median absolute deviation over the background, its standard
            deviation where that is 0, the width of its range without a background, else 1.
        distance: float64 (n,), city-block or Euclidean length of the shifts, see `norm`.
        decision, decisions: what the model says of the row; of each counterfactual.
        outputs: float64 (1 + n, k), what the model returned for the row and for each counterfactual.
        inputs: (1 + n, features), the row and each counterfactual as the model was given them.
        exhaustive: whether every allowed row was tried, so that nothing nearer exists, or nothing at all.
        reason: why there are fewer than asked for, or may be nearer ones; empty where neither is known to be.
        norm, max_changes, constraints, seed: as they were asked for.
        row: number of the row in the data set, -1 for a row from elsewhere.
        run: the run's key, empty without a run.
        findings: the verdict in words: DLS440 found, DLS441 none exists, DLS442 none was found, and DLS443
            where the search was cut short.
        n_evaluations, wall_s: rows that the model was given; seconds.

    Example:
        >>> result = dls.find_counterfactuals(run, row=17)
        >>> result.frame()[["column", "before", "after"]]
    """

    columns: tuple[str, ...]
    original: tuple[float | str, ...]
    values: tuple[tuple[float | str, ...], ...]
    changed: npt.NDArray[np.bool_]
    shifts: npt.NDArray[np.float64]
    units: npt.NDArray[np.float64]
    distance: npt.NDArray[np.float64]
    decision: str
    decisions: tuple[str, ...]
    outputs: npt.NDArray[np.float64]
    inputs: npt.NDArray[Any]
    exhaustive: bool
    reason: str = ""
    norm: str = "l1"
    max_changes: int | None = None
    constraints: Constraints
    seed: int = 0
    row: int = -1
    run: str = ""
    findings: tuple[Finding, ...] = ()
    n_evaluations: int = 0
    wall_s: float = 0.0

    def __len__(self) -> int:
        return len(self.values)

    def frame(self) -> pd.DataFrame:
        """Return a row per counterfactual and column changed.

        Columns: ``counterfactual`` from 1, ``column, before, after, shift, unit, distance, decision``.
        """
        import pandas as pd

        number, at = np.nonzero(self.changed)
        return pd.DataFrame(
            {
                "counterfactual": number + 1,
                "column": [self.columns[place] for place in at],
                "before": pd.Series([self.original[place] for place in at], dtype=object),
                "after": pd.Series([self.values[n][place] for n, place in zip(number, at, strict=True)], dtype=object),
                "shift": self.shifts[number, at],
                "unit": self.units[at],
                "distance": self.distance[number],
                "decision": [self.decisions[n] for n in number],
            }
        )


def shown(value: float | str) -> str:
    """A value of a column as people read it: six significant digits.

    Example:
        >>> shown(120000.0), shown(0.30000000000000004), shown("rent")
        ('120,000', '0.3', 'rent')
    """
    return value if isinstance(value, str) else f"{value:,.6g}".replace("-", "−", 1)


def describe(result: CounterfactualResult) -> tuple[str, ...]:
    """Say what was found, a sentence a counterfactual, for readers who read no code.

    Example:
        >>> describe(result)[0]
        'denied would become approved if obrat fell from 48 to 36.5.'
    """
    sentences = []
    for number in range(len(result)):
        changes = [_change(result, number, at) for at in np.flatnonzero(result.changed[number]).tolist()]
        listed = changes[0] if len(changes) == 1 else f"{', '.join(changes[:-1])} and {changes[-1]}"
        sentences.append(f"{result.decision} would become {result.decisions[number]} if {listed}.")
    return (*sentences, result.reason) if result.reason else tuple(sentences)


def _change(result: CounterfactualResult, number: int, at: int) -> str:
    before, after = result.original[at], result.values[number][at]
    numbers = not isinstance(before, str) and not isinstance(after, str)
    verb = "changed" if not numbers else "rose" if result.shifts[number, at] > 0 else "fell"
    return f"{result.columns[at]} {verb} from {shown(before)} to {shown(after)}"


def findings(result: CounterfactualResult, stopped: str = "") -> tuple[Finding, ...]:
    """The verdict as findings: DLS440 found, DLS441 none exists, DLS442 none was found; DLS443 it was cut short.

    Args:
        result: the other parts of it.
        stopped: why the search was cut short; "" where it was not.
    """
    evidence = {"n_evaluations": result.n_evaluations, "exhaustive": result.exhaustive}
    cut = Finding(
        code="DLS443",
        severity="info",
        sentence=f"The search was cut short: {stopped}. It cannot be concluded that none exists, or none nearer.",
        evidence=evidence,
        remedy="Allow more max_seconds.",
    )
    more = (cut,) if stopped else ()
    if len(result):
        nearest = {**evidence, "n_found": len(result), "distance": float(result.distance[0])}
        return (Finding(code="DLS440", severity="info", sentence=describe(result)[0], evidence=nearest), *more)
    code = "DLS441" if result.exhaustive else "DLS442"
    remedy = "Loosen a constraint" + ("." if result.max_changes is None else ", or allow more changes at once.")
    return (Finding(code=code, severity="warning", sentence=result.reason, evidence=evidence, remedy=remedy), *more)
