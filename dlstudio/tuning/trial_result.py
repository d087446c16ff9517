"""What one trial of a search came to."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

from dlstudio.results import value

__all__ = ["TrialResult"]


@value
@dataclasses.dataclass(frozen=True, kw_only=True)
class TrialResult:
    """One trial.

    Attributes:
        number: counted from 0 in the order of asking.
        state: ``"complete"``, ``"pruned"``, ``"failed"``, ``"lost"`` (by no fault of its parameters, not counted),
            ``"running"`` or ``"waiting"``.
        values: of each metric; of a pruned trial the last one reported; empty where there is none.
        params: what was tried, by name.
        run: key of its run; None where it has not begun.
        started: seconds since the epoch; None where it has not begun.
        wall_s: seconds it took; NaN while it has not ended.
        reason: why it has its state, in words, where there is something to say.
        violations: by how much it breaks each constraint; 0 or less where it holds.
        reports: value of the metric by the number of the evaluation.
        data: fingerprint of the data it was trained on; "" where unknown.
    """

    number: int
    state: str
    values: tuple[float, ...]
    params: Mapping[str, Any]
    run: str | None
    started: float | None
    wall_s: float
    reason: str | None
    violations: Mapping[str, float]
    reports: Mapping[int, float]
    data: str = ""

    @property
    def is_feasible(self) -> bool:
        """Whether it is complete and breaks no constraint."""
        return self.state == "complete" and all(violation <= 0 for violation in self.violations.values())

    @property
    def value(self) -> float:
        """The value of the first metric; NaN where there is none."""
        return self.values[0] if self.values else math.nan
