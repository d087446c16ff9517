"""The coordinator of one search: small and detached, it keeps workers going, obeys the journal and says how it ended.

It imports Optuna, but neither torch nor MLflow.
"""

from __future__ import annotations

import math
import sys
import time
from collections import deque
from pathlib import Path
from typing import Any

from optuna.trial import FrozenTrial, TrialState

from dlstudio.errors import DLStudioError
from dlstudio.runs import folder as states
from dlstudio.runs import process
from dlstudio.runs.control import Command
from dlstudio.runs.folder import RunFolder
from dlstudio.runs.recorder import Recorder
from dlstudio.runs.run import Run
from dlstudio.tuning.begin import enqueue_first
from dlstudio.tuning.crew import Crew
from dlstudio.tuning.reach import patiently
from dlstudio.tuning.settings import STOPPED, Settings, read_settings, steer
from dlstudio.tuning.steering import Steering, read_command
from dlstudio.tuning.studies import FIRST_TRIALS, SharedStudy, completed, counts, first_failures, violations
from dlstudio.tuning.tended import Tended
from dlstudio.tuning.words import all_failed, all_lost, out_of_time, worker_never_started

__all__ = ["Coordinator", "SearchRecorder"]

TICK_S = 0.1
SHARED_TICK_S = 0.5
"""A storage behind a URL is asked less often."""
MAX_BAD_STARTS = 3


class SearchRecorder(Recorder):
    """Records the search itself: the value of every trial, and the best so far, by the number of trials that ended."""

    def _poll_commands(self) -> None:
        found, self._control_offset = self._files.commands(self._control_offset)
        for line in found:
            try:
                self._commands.append(read_command(line))
            except ValueError as error:
                self.event("warning", f"a line of control.jsonl was left out: {error}")

    def show(self, status: str, reason: str | None = None) -> None:
        """Write how the search stands."""
        self._set_status(status, reason=reason)

    def end(self, status: str, reason: str) -> None:
        """Write how it ended, where that is no exception."""
        self._close(status, reason)


class Coordinator:
    """Sees one search through.

    Args:
        folder: of the search.
    """

    def __init__(self, folder: RunFolder) -> None:
        self.folder = folder
        self.settings: Settings = read_settings(folder.path)
        self.study = patiently(lambda: SharedStudy(folder, self.settings))
        self._logged, resume_step = _logged_before(folder)
        self.recorder = SearchRecorder(folder, resume_step=resume_step)
        self.recorder.defer_control = True
        self._step = resume_step or 0
        self._best: list[float] = [math.nan] * len(self.settings.metrics)
        self._asked: deque[Command] = deque()
        self._bad_starts = 0
        self._begun = time.monotonic()
        self._begun_before: set[int] = set()
        self._identity = process.identity()
        self._told: dict[str, Any] = {}
        self._ending: tuple[str, str] | None = None
        self.crew = Crew(folder, self.settings.device)
        self.steering = Steering(folder, self.settings, self.study)
        self.tended = Tended(folder.path)

    def run(self) -> None:
        """Keep the search going until it has its trials, is stopped, or cannot go on."""
        with self.recorder:
            patiently(lambda: enqueue_first(self.study, self.folder, self.settings))
            patiently(self._look_back)
            self._tell_workers()
            while not patiently(self._is_over):
                time.sleep(TICK_S if self.settings.has_lock else SHARED_TICK_S)
            trials = patiently(self.study.trials)
            self._log(trials)
            self.crew.release()
            ending = self._ending or self._reason_in_the_end(trials)
            if ending is not None:
                self.recorder.end(*ending)

    def _look_back(self) -> None:
        """Go on from where an earlier coordinator of this search was."""
        trials = self.study.trials()
        self._begun_before = {trial.number for trial in trials if trial.state != TrialState.WAITING}
        for trial in trials:
            if trial.number in self._logged:
                self._improved(trial)

    def _is_over(self) -> bool:
        """Do what is to be done now; a storage that goes away in the midst of it has it all done again."""
        self._obey()
        trials = self.study.trials()
        self._log(trials)
        self._reap()
        self._ending = self._ending or self._reason_to_end(trials)
        self.steering.ending = self._ending is not None or self._is_late()
        self._tell_workers()
        self.steering.follow_up(trials)
        self.tended.tend()
        if self._staff(trials, wanted=0 if self.steering.ending else None) or len(self.crew):
            return False
        return self.steering.ending or not self.study.awaits_claim(trials)

    # -- steering -------------------------------------------------------------------------------------------------

    def _obey(self) -> None:
        was_paused = self.steering.paused
        self._asked.extend(self.recorder.take_commands())
        while self._asked:
            command = self._asked[0]
            try:
                message = self.steering.carry_out(command)
                self.recorder.event(command.name, message, step=self._step, **command.arguments)
            except (DLStudioError, TypeError, ValueError, AttributeError) as error:
                # Whoever asked, by hand perhaps, is not there to be told: it is written down, and the search goes on.
                self.recorder.event("warning", f"{command.name}: {error}", step=self._step)
            self._asked.popleft()  # it stays while the storage is away
        if self.steering.paused != was_paused:
            paused = self.steering.paused
            self.recorder.show(states.PAUSED if paused else states.RUNNING, "paused on request" if paused else None)

    def _tell_workers(self) -> None:
        told = {
            "coordinator": self._identity,
            "paused": self.steering.paused,
            "ending": self.steering.ending,
            "stopped": self.steering.stopped,
            "n_trials": self.settings.n_trials,
        }
        if told != self._told:
            steer(self.folder.path, **told)
            self._told = told

    def _is_late(self) -> bool:
        return self.settings.timeout_s is not None and time.monotonic() - self._begun > self.settings.timeout_s

    def _reason_to_end(self, trials: list[FrozenTrial]) -> tuple[str, str] | None:
        if self.steering.stopped:
            return states.KILLED, "stopped on request"
        if self._bad_starts >= MAX_BAD_STARTS:
            return states.FAILED, worker_never_started(self.folder.path / "workers.log")
        failures = first_failures(trials)
        if failures and not self.settings.is_plan:
            return states.FAILED, all_failed([_reason(trial) for trial in failures])
        # What was killed before, with an earlier coordinator perhaps, says nothing about the workers of this one.
        mine = [t for t in trials if t.state.is_finished() and t.number not in self._begun_before]
        n_kills = max(FIRST_TRIALS, self.steering.n_workers + 1)  # more than one accident takes from all at once
        last = sorted(mine, key=completed)[-n_kills:]
        if len(last) == n_kills and all(self.study.was_killed(trial) for trial in last):
            return states.FAILED, all_lost(_reason(last[-1]))
        return None

    def _reason_in_the_end(self, trials: list[FrozenTrial]) -> tuple[str, str] | None:
        if self.settings.is_plan:
            return None
        failed = [trial for trial in trials if counts(trial) and trial.state == TrialState.FAIL]
        reasons = [_reason(trial) for trial in failed]
        if failed and len(failed) == sum(map(counts, trials)) and STOPPED not in reasons:
            return states.FAILED, all_failed(reasons, of_all=True)
        n_left = self.study.n_left(trials)
        if n_left and self._is_late():
            return states.FINISHED, out_of_time(n_left, self.settings.n_trials)
        return None

    # -- workers --------------------------------------------------------------------------------------------------

    def _staff(self, trials: list[FrozenTrial], *, wanted: int | None) -> int:
        """Start as many workers as there is work for; how many there should be."""
        if wanted is None:
            if self.steering.paused:
                return 1
            pids = self.crew.pids
            mine = sum(trial.state == TrialState.RUNNING and self.study.is_of(trial, pids) for trial in trials)
            wanted = min(self.steering.n_workers, mine + self.study.n_left(trials))
        missing = wanted - len(self.crew)
        if missing > 0 and self._has_devices():
            for _ in range(missing):
                self.crew.start(self.steering.n_workers)
        return wanted

    def _has_devices(self) -> bool:
        """Take devices for the workers; as many as are free, and one at least."""
        had_none = not self.crew.devices
        missing = self.crew.take_devices(self.steering.n_workers)
        if missing:
            if self.folder.status.get("reason") != f"waiting for {missing}":
                self.recorder.show(states.QUEUED, f"waiting for {missing}")
        elif had_none:
            self.recorder.show(states.RUNNING)
        return not missing

    def _reap(self) -> None:
        """Look after workers that ended, and free the trials of those that were killed, here or before."""
        for pid, code in self.crew.ended().items():
            trained = code == 0 or any(self.study.is_of(trial, {pid}) for trial in self.study.trials())
            self._bad_starts = 0 if trained else self._bad_starts + 1
        self.crew.press(self.steering.stopping_s(self.crew.pids))
        self.study.show_presence()
        self.study.free_stale(self.crew.how, self.crew.pids)

    # -- telling --------------------------------------------------------------------------------------------------

    def _log(self, trials: list[FrozenTrial]) -> None:
        """Log every trial that ended since, and keep the best."""
        new = [trial for trial in trials if trial.state.is_finished() and trial.number not in self._logged]
        for trial in sorted(new, key=completed):
            self._logged.add(trial.number)
            self._step += 1
            values: dict[str, float] = {"trial": float(trial.number)}
            if trial.state == TrialState.COMPLETE:
                values |= dict(zip(self.settings.metrics, trial.values, strict=False))  # a plan has no metrics
                values |= self._improved(trial)
            self.recorder.log(values, step=self._step)
            reason = _reason(trial)
            message = f"trial {trial.number} {trial.state.name.lower()}" + (f": {reason}" if reason else "")
            self.recorder.event("trial", message, step=self._step, trial=trial.number, state=trial.state.name)

    def _improved(self, trial: FrozenTrial) -> dict[str, float]:
        """The best values now that a trial has ended."""
        if trial.state != TrialState.COMPLETE or any(violation > 0 for violation in violations(trial).values()):
            return {}
        for index, direction in enumerate(self.settings.directions):
            better, value = min if direction == "min" else max, trial.values[index]
            self._best[index] = value if math.isnan(self._best[index]) else better(self._best[index], value)
        return {f"best/{metric}": best for metric, best in zip(self.settings.metrics, self._best, strict=True)}


def _reason(trial: FrozenTrial) -> str:
    return str(trial.user_attrs.get("reason") or "")


def _logged_before(folder: RunFolder) -> tuple[set[int], int | None]:
    """Numbers of the trials that an earlier coordinator of this search has logged, and its last step."""
    run = Run(folder)
    if "trial" not in run.keys():  # noqa: SIM118 - a method of Run
        return set(), None
    steps, numbers = run.scalars("trial")
    return {int(number) for number in numbers}, int(steps[-1])


def main(path: Path) -> None:
    """See the search in a folder through."""
    Coordinator(RunFolder(path)).run()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
