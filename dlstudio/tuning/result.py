"""What a search found, as a result that survives its study."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from dlstudio.results import Finding, Result
from dlstudio.tuning.trial_result import TrialResult

if TYPE_CHECKING:
    import pandas as pd
    from optuna.study import Study

__all__ = ["SearchResult"]

COLUMNS = ("number", "state", "run", "started", "wall_s", "reason")


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class SearchResult(Result, schema=1):
    """What a search has found so far.

    Attributes:
        name, run: of the search, and the key of its run.
        status: of the search when this was read.
        metrics, directions: what was optimised, ``"min"`` or ``"max"`` each.
        space: what was searched at the start, as plain values of Optuna's distributions.
        rows: every trial, by number.
        n_trials: trials that the search is to have in all.
        importances: by metric, the share of each parameter in what tells good trials from others (PED-ANOVA); empty
            where there are too few trials.
        summary: what was found, in sentences.
        findings: what to mind about it.

    Example:
        >>> result = dls.open_search("my-search").result()
        >>> result.best.params, result.best.value
        ({'lr': 0.0046}, 0.31)
    """

    name: str
    run: str
    status: str
    metrics: tuple[str, ...]
    directions: tuple[str, ...]
    space: Mapping[str, Any]
    rows: tuple[TrialResult, ...]
    n_trials: int
    importances: Mapping[str, Mapping[str, float]]
    summary: tuple[str, ...]
    findings: tuple[Finding, ...]

    @property
    def direction(self) -> str:
        """Which way the first metric is better."""
        return self.directions[0]

    @property
    def best(self) -> TrialResult | None:
        """The best feasible trial by the first metric; None where there is none."""
        feasible = [row for row in self.rows if row.is_feasible]
        if not feasible:
            return None
        return (min if self.direction == "min" else max)(feasible, key=lambda row: row.value)

    @property
    def front(self) -> tuple[TrialResult, ...]:
        """The feasible trials that no other one beats in every metric, by number."""
        feasible = [row for row in self.rows if row.is_feasible]
        signs = [1.0 if direction == "min" else -1.0 for direction in self.directions]
        costs = {row.number: tuple(s * v for s, v in zip(signs, row.values, strict=True)) for row in feasible}
        front: list[tuple[float, ...]] = []
        for cost in sorted(set(costs.values())):  # what could beat a point comes before it
            if not any(all(a <= b for a, b in zip(other, cost, strict=True)) for other in front):
                front.append(cost)
        members = set(front)
        return tuple(row for row in feasible if costs[row.number] in members)

    @property
    def importance(self) -> Mapping[str, float]:
        """How much each parameter matters for the first metric, the most first; empty where that is not known."""
        return self.importances.get(self.metrics[0], {})

    def frame(self) -> pd.DataFrame:
        """A row per trial: ``number, state``, the metrics by name, ``params.*``, ``run, started, wall_s, reason``."""
        import pandas as pd

        names = list(self.space)
        rows = [
            {
                "number": row.number,
                "state": row.state,
                **{
                    metric: row.values[index] if index < len(row.values) else math.nan
                    for index, metric in enumerate(self.metrics)
                },
                **{f"params.{name}": row.params.get(name) for name in names},
                **({"feasible": row.is_feasible} if any(row.violations for row in self.rows) else {}),
                "run": row.run,
                "started": pd.NaT if row.started is None else pd.Timestamp(row.started, unit="s", tz="UTC"),
                "wall_s": row.wall_s,
                "reason": row.reason,
            }
            for row in self.rows
        ]
        columns = [*COLUMNS[:2], *self.metrics, *(f"params.{name}" for name in names), *COLUMNS[2:]]
        return pd.DataFrame(rows) if rows else pd.DataFrame(columns=columns)

    def to_study(self) -> Study:
        """Return the search as a study in memory, for ``optuna.visualization`` and ``optuna.importance``."""
        from dlstudio.tuning.rebuild import rebuild

        return rebuild(self.name, self.directions, self.space, self.rows)
