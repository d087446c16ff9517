"""From a search result back to a study of Optuna's, in memory."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import FrozenTrial, TrialState, create_trial

from dlstudio.tuning.space import Axis, Space
from dlstudio.tuning.storage import in_optuna
from dlstudio.tuning.trial_result import TrialResult

__all__ = ["importances", "rebuild"]

_STATES = {
    "complete": TrialState.COMPLETE, "pruned": TrialState.PRUNED, "failed": TrialState.FAIL,
    "running": TrialState.RUNNING, "waiting": TrialState.WAITING,
}  # fmt: skip
MIN_TRIALS = 4
"""Of fewer complete trials nothing is said about which parameter matters."""


def rebuild(
    name: str, directions: Sequence[str], plain_space: Mapping[str, Any], rows: Sequence[TrialResult]
) -> optuna.Study:
    """Rebuild a study; trials that were lost are left out, and each range is as wide as it ever was."""
    study = optuna.create_study(directions=in_optuna(directions), study_name=name)
    space = Space.from_json(plain_space)
    wide = {name: _wide(axis, rows) for name, axis in space.axes.items()}
    study.add_trials([_trial(row, space, wide) for row in rows if row.state in _STATES])
    return study


def _wide(axis: Axis, rows: Sequence[TrialResult]) -> BaseDistribution:
    """Optuna's importances and plots leave out a parameter whose range changed; so all trials get one range."""
    values = [row.params[axis.name] for row in rows if axis.name in row.params]
    if isinstance(axis.distribution, CategoricalDistribution) or not values:
        return axis.distribution
    low, high = min(axis.low, *values), max(axis.high, *values)
    log = bool(getattr(axis.distribution, "log", False))
    if isinstance(axis.distribution, IntDistribution):
        return IntDistribution(int(low), int(high), log=log)
    return FloatDistribution(low, high, log=log)


def _trial(row: TrialResult, space: Space, wide: dict[str, BaseDistribution]) -> FrozenTrial:
    state = _STATES[row.state]
    params = {name: space.axes[name].label(value) for name, value in row.params.items() if name in wide}
    trial = create_trial(
        state=state,
        values=list(row.values) if state == TrialState.COMPLETE else None,
        params=params,
        distributions={name: wide[name] for name in params},
        user_attrs={"number": row.number, "run": row.run, "reason": row.reason},
        system_attrs={f"constraints:{name}": violation for name, violation in row.violations.items()},
        intermediate_values=dict(row.reports),
    )
    if row.started is not None:
        trial.datetime_start = datetime.fromtimestamp(row.started)
        if state.is_finished():
            trial.datetime_complete = trial.datetime_start + timedelta(seconds=row.wall_s)
    return trial


def importances(
    metrics: Sequence[str], directions: Sequence[str], plain_space: Mapping[str, Any], rows: Sequence[TrialResult]
) -> dict[str, dict[str, float]]:
    """By metric, how much each parameter matters, the most first; empty where there is too little to go by."""
    # Without reports, because Optuna copies deeply what it is given.
    complete = [dataclasses.replace(row, reports={}) for row in rows if row.state == "complete"]
    varied = [name for name in plain_space if len({repr(row.params.get(name)) for row in complete}) > 1]
    if len(complete) < MIN_TRIALS or not varied:
        return {}
    study = rebuild("", directions, plain_space, complete)
    found = {}
    for index, metric in enumerate(metrics):
        sign = 1.0 if directions[index] == "min" else -1.0
        if len({row.values[index] for row in complete}) > 1:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # "low values count as good": that is what the sign is for
                shares = optuna.importance.get_param_importances(
                    study,
                    evaluator=optuna.importance.PedAnovaImportanceEvaluator(),
                    params=varied,
                    target=_target(index, sign),
                )
            found[metric] = {name: float(share) for name, share in shares.items()}
    return found


def _target(index: int, sign: float) -> Callable[[FrozenTrial], float]:
    return lambda trial: sign * float(trial.values[index])
