"""One trial: a run of its own, whose recorder also tells the study how it does."""

from __future__ import annotations

import difflib
import math
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from dlstudio.errors import RunStopped
from dlstudio.runs.folder import RunFolder
from dlstudio.runs.recorder import Recorder
from dlstudio.tuning.settings import Settings

if TYPE_CHECKING:
    import torch
    from optuna import Trial

__all__ = ["NotMeasured", "TrialRecorder", "is_reported"]

MEASURED = ("n_parameters", "wall_s")
"""What may be optimised and constrained without being logged: the size of a recipe's model, and the seconds of the
trial."""


class NotMeasured(Exception):
    """A trial has no value that a study could use; its text says why."""


def is_reported(n: int) -> bool:
    """Whether the n-th value of a metric goes to the study: all of the first hundred, then ever fewer."""
    return n % int(10 ** max(0, len(str(n)) - 2)) == 0


class TrialRecorder(Recorder):
    """Records a trial, reports its metric after every evaluation, and ends it when the pruner says so.

    Args:
        folder: the trial's folder.
        trial: of the study.
        settings: of the search.
    """

    def __init__(self, folder: RunFolder, trial: Trial, settings: Settings) -> None:
        super().__init__(folder)
        self._trial, self._settings = trial, settings
        self._last: dict[str, Any] = {}
        self._n_evaluations = 0
        self._n_steps: int | None = None
        self._n_parameters: int | None = None
        self._begun = time.monotonic()
        self.pruned: str | None = None
        """Why the trial was pruned."""
        self.stopped = False
        """Whether somebody ended it before its time."""

    def log(self, values: Mapping[str, float | torch.Tensor], step: int | None = None) -> None:
        """Record as every recorder does, and report the searched metric."""
        try:
            super().log(values, step)
        except RunStopped:
            self.stopped = True
            raise
        self._last.update(values)
        if len(self._settings.metrics) == 1 and self._settings.metrics[0] in values:
            self._report(values[self._settings.metrics[0]])

    def event(self, kind: str, message: str = "", *, step: int | None = None, **data: Any) -> None:
        """Record an event; the plan of a training loop says how long it is and how large its model."""
        if kind == "plan":
            self._n_steps, self._n_parameters = data.get("n_steps"), data.get("n_params")
        super().event(kind, message, step=step, **data)

    def _report(self, logged: float | torch.Tensor) -> None:
        self._n_evaluations += 1
        n = self._n_evaluations
        if self._settings.pruner == "none" or not is_reported(n):
            return
        value = float(logged)  # waits for the device, where it is a tensor
        if not math.isfinite(value):
            return
        try:
            self._trial.report(value, n)
            if self._n_steps is not None and self._step is not None and self._step >= self._n_steps:
                return  # it is trained: nothing is saved, and its test metrics would be missing
            prune = self._trial.should_prune() and not self._is_kept()
        except Exception as error:
            # A storage that is away for a moment must not end the training.
            self.event("warning", f"the study could not be told: {type(error).__name__}: {error}")
            return
        if prune:
            metric = self._settings.metrics[0]
            self.pruned = f"pruned: {metric} of {value:.6g} at evaluation {n} was behind the trials before it"
            super().event("pruned", self.pruned, step=self._step)
            raise RunStopped(self.pruned)

    def _is_kept(self) -> bool:
        return self._trial.number in (self._trial.study.user_attrs.get("kept") or ())

    def measured(self, name: str) -> float:
        """Return the last value of a metric.

        Raises:
            NotMeasured: it was not logged, or is no finite number.
        """
        if name == "wall_s":
            return time.monotonic() - self._begun
        if name == "n_parameters" and self._n_parameters is not None:
            return float(self._n_parameters)
        if name not in self._last:
            near = difflib.get_close_matches(name, self._last, n=1, cutoff=0.5)
            logged = ", ".join(sorted(self._last)[:12]) or "nothing"
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise NotMeasured(f"it did not log {name!r}, but {logged}{hint}")
        value = float(self._last[name])
        if not math.isfinite(value):
            raise NotMeasured(f"{name} was {value}")
        return value

    def violations(self) -> dict[str, float]:
        """By how much each constraint is broken; 0 or less where it holds.

        Raises:
            NotMeasured: one is about a metric that was not logged.
        """
        found = {}
        for name, (low, high) in self._settings.constraints.items():
            value = self.measured(name)
            over = [value - high] if high is not None else []
            under = [low - value] if low is not None else []
            found[name] = max(over + under)
        return found
