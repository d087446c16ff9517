"""From a study to a result."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

from optuna.trial import FrozenTrial, TrialState

from dlstudio.runs.run import Run
from dlstudio.tuning.rebuild import importances
from dlstudio.tuning.result import SearchResult
from dlstudio.tuning.settings import Settings
from dlstudio.tuning.space import Space
from dlstudio.tuning.studies import LOST, SharedStudy, violations
from dlstudio.tuning.trial_result import TrialResult
from dlstudio.tuning.words import findings_of, summary_of

__all__ = ["read_result"]

_STATES = {
    TrialState.COMPLETE: "complete", TrialState.PRUNED: "pruned", TrialState.FAIL: "failed",
    TrialState.RUNNING: "running", TrialState.WAITING: "waiting",
}  # fmt: skip


def read_result(run: Run, settings: Settings, study: SharedStudy, *, importance: bool) -> SearchResult:
    """Read what a search has found so far.

    Args:
        run: of the search.
        settings: of the search.
        study: of the search.
        importance: whether to say how much each parameter matters.
    """
    space = settings.read_space()
    result = SearchResult(
        name=run.name,
        run=run.key,
        status=run.status,
        metrics=settings.metrics,
        directions=settings.directions,
        space=dict(settings.space),
        rows=tuple(_row(trial, space) for trial in study.trials()),
        n_trials=settings.n_trials,
        importances={},
        summary=(),
        findings=(),
    )
    if importance:
        result = dataclasses.replace(
            result, importances=importances(result.metrics, result.directions, result.space, result.rows)
        )
    ranges = space.within(study.attribute("ranges") or {})
    return dataclasses.replace(result, summary=summary_of(result), findings=findings_of(result, ranges))


def _row(trial: FrozenTrial, space: Space) -> TrialResult:
    attributes = trial.user_attrs
    params: dict[str, Any] = trial.params or trial.system_attrs.get("fixed_params") or {}
    state = "lost" if attributes.get(LOST) else _STATES[trial.state]
    if state == "running" and "run" not in attributes:
        state = "waiting"  # its values are being suggested in this moment, and not all of them are there
    seconds = trial.duration.total_seconds() if trial.duration is not None else math.nan
    return TrialResult(
        number=trial.number,
        state=state,
        values=tuple(trial.values or ()),
        params=space.meanings(params),
        run=(attributes.get("run") or {}).get("key"),
        started=None if trial.datetime_start is None else trial.datetime_start.timestamp(),
        wall_s=seconds,
        reason=attributes.get("reason"),
        violations=violations(trial),
        reports=dict(trial.intermediate_values),
        data=str(attributes.get("data") or ""),
    )
