"""What the recorder of a trial tells the study, and when it ends the trial."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import optuna
import pytest
import torch
from optuna.trial import TrialState

from dlstudio.runs.folder import RunFolder
from dlstudio.tuning.settings import Settings
from dlstudio.tuning.trial import TrialRecorder

SPACE = {"x": optuna.distributions.FloatDistribution(0.0, 1.0)}


class Strict(optuna.pruners.BasePruner):
    """Prunes at and after one report."""

    def __init__(self, at: int) -> None:
        self.at = at

    def prune(self, study: optuna.Study, trial: optuna.trial.FrozenTrial) -> bool:
        return trial.last_step is not None and trial.last_step >= self.at


def recorder(at: int, pruner: str = "median") -> TrialRecorder:
    settings = Settings(
        kind="function", name="s", metrics=("loss",), directions=("min",), space={}, n_trials=1, pruner=pruner
    )
    study = optuna.create_study(pruner=Strict(at))
    return TrialRecorder(RunFolder.create("trial", kind="trial", config={}), study.ask(SPACE), settings)


@pytest.mark.parametrize(("at", "last"), [(7, 7), (20, 20)])
def test_a_metric_of_every_step_is_pruned_in_late_epochs_too(studio_home: Path, at: int, last: int) -> None:
    """Two epochs of ten steps: the second report is not the end, and what is trained to its end is not pruned."""
    seen = 0
    with recorder(at) as rec:
        rec.event("plan", "20 steps in 2 epochs", n_steps=20, n_epochs=2, n_params=3)
        for step in range(1, 21):
            seen = step
            rec.log({"loss": 1.0}, step=step)
    assert seen == last and (rec.pruned is not None) == (at < 20)


def test_the_metric_of_an_epoch_is_pruned_before_the_last(studio_home: Path) -> None:
    with recorder(1) as rec:
        rec.event("plan", "20 steps in 2 epochs", n_steps=20, n_epochs=2, n_params=3)
        rec.log({"loss": 1.0}, step=10)
    assert rec.pruned is not None and "evaluation 1" in rec.pruned


def test_the_device_is_waited_for_only_where_the_study_is_told(
    studio_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    waited: list[float] = []
    read = torch.Tensor.__float__
    monkeypatch.setattr(torch.Tensor, "__float__", lambda self: waited.append(1.0) or read(self))
    for pruner, most in (("none", 0), ("median", 100 + 5)):
        waited.clear()
        with recorder(10_000, pruner) as rec:
            for step in range(150):
                rec.log({"loss": torch.tensor(1.0)}, step=step)
            n = len(waited)
        assert n <= most and (pruner == "none" or n > 0)


def test_halving_ends_a_trial_that_is_behind(studio_home: Path) -> None:
    from dlstudio.tuning.storage import PRUNERS, make_pruner

    study = optuna.create_study(pruner=make_pruner("halving", PRUNERS["halving"]))
    settings = Settings(
        kind="function", name="s", metrics=("loss",), directions=("min",), space={}, n_trials=1, pruner="halving"
    )
    states: list[Any] = []
    for loss in (1.0, 5.0, 6.0, 0.5):
        trial = study.ask(SPACE)
        with TrialRecorder(RunFolder.create("trial", kind="trial", config={}), trial, settings) as rec:
            for step in range(8):
                rec.log({"loss": loss}, step=step)
        states.append(TrialState.COMPLETE if rec.pruned is None else TrialState.PRUNED)
        study.tell(trial, loss if rec.pruned is None else None, state=states[-1])
    assert states == [TrialState.COMPLETE, TrialState.PRUNED, TrialState.PRUNED, TrialState.COMPLETE]
