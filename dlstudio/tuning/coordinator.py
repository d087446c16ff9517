"""The coordinator of one search: small and detached, it keeps workers going, obeys the journal and says how it ended.

It imports Optuna, but neither torch nor MLflow.
"""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from optuna.trial import FrozenTrial, TrialState

from dlstudio.errors import DLStudioError
from dlstudio.runs import folder as states
from dlstudio.runs import process
from dlstudio.runs.folder import RunFolder
from dlstudio.runs.recorder import Recorder
from dlstudio.runs.run import Run
from dlstudio.telemetry.machine import gpus
from dlstudio.tracking import detached
from dlstudio.training.leases import Lease, device_environment, try_lease, wanted_devices
from dlstudio.tuning.begin import enqueue_first
from dlstudio.tuning.settings import Settings, read_settings, steer
from dlstudio.tuning.steering import Steering, read_command
from dlstudio.tuning.studies import FIRST_TRIALS, SharedStudy, is_hopeless
from dlstudio.tuning.words import all_failed, all_lost, worker_never_started

__all__ = ["Coordinator", "SearchRecorder"]

TICK_S = 0.1
SHARED_TICK_S = 0.5
"""A storage behind a URL is asked less often."""
MAX_BAD_STARTS = 3
STOP_PATIENCE_S = 60.0
"""A worker that has not obeyed a stop after so long is terminated, and killed ten seconds later."""


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
        self.study = SharedStudy(folder, self.settings)
        n_logged = _n_logged(folder)
        self.recorder = SearchRecorder(folder, resume_step=n_logged or None)
        self.recorder.defer_control = True
        self._logged = n_logged
        self._best: list[float] = [math.nan] * len(self.settings.metrics)
        self._workers: list[subprocess.Popen[bytes]] = []
        self._lease: Lease | None = None
        self._bad_starts = self._n_started = 0
        self._begun = time.monotonic()
        self._terminated = False
        self._told: dict[str, Any] = {}
        self.steering = Steering(folder, self.settings, self.study)

    def run(self) -> None:
        """Keep the search going until it has its trials, is stopped, or cannot go on."""
        identity = process.identity()
        with self.recorder:
            enqueue_first(self.study, self.folder, self.settings)
            self._tell_workers(identity)
            ending: tuple[str, str] | None = None
            while True:
                self._obey()
                trials = self.study.trials()
                self._log(trials)
                self._reap(trials)
                ending = ending or self._reason_to_end(trials)
                self.steering.ending = ending is not None or self._is_late()
                self._tell_workers(identity)
                self.steering.follow_up(trials)
                if not self._staff(trials, wanted=0 if self.steering.ending else None) and not self._workers:
                    break
                time.sleep(TICK_S if self.settings.has_lock else SHARED_TICK_S)
            self._log(self.study.trials())
            self._release()
            if ending is not None:
                self.recorder.end(*ending)

    # -- steering -------------------------------------------------------------------------------------------------

    def _obey(self) -> None:
        was_paused = self.steering.paused
        for command in self.recorder.take_commands():
            try:
                message = self.steering.carry_out(command)
                self.recorder.event(command.name, message, step=self._logged, **command.arguments)
            except (DLStudioError, TypeError, ValueError, AttributeError) as error:
                # Whoever asked, by hand perhaps, is not there to be told: it is written down, and the search goes on.
                self.recorder.event("warning", f"{command.name}: {error}", step=self._logged)
        if self.steering.paused != was_paused:
            paused = self.steering.paused
            self.recorder.show(states.PAUSED if paused else states.RUNNING, "paused on request" if paused else None)

    def _tell_workers(self, identity: dict[str, Any]) -> None:
        told = {
            "coordinator": identity,
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
        over = sorted((trial for trial in trials if trial.state.is_finished()), key=_completed)
        if is_hopeless(trials) and not self.settings.is_plan:
            return states.FAILED, all_failed([_reason(trial) for trial in over[:FIRST_TRIALS]])
        last = over[-FIRST_TRIALS:]
        if len(last) == FIRST_TRIALS and all(self.study.was_killed(trial) for trial in last):
            return states.FAILED, all_lost(_reason(last[-1]))
        return None

    # -- workers --------------------------------------------------------------------------------------------------

    def _staff(self, trials: list[FrozenTrial], *, wanted: int | None) -> int:
        """Start as many workers as there is work for; how many there should be."""
        if wanted is None:
            if self.steering.paused:
                return 1
            mine = sum(self.study.is_of(trial, {worker.pid for worker in self._workers}) for trial in trials)
            wanted = min(self.steering.n_workers, mine + self.study.n_left(trials))
        missing = wanted - len(self._workers)
        if missing > 0 and self._has_devices():
            for _ in range(missing):
                self._start_worker()
        return wanted

    def _has_devices(self) -> bool:
        """Take devices for the workers; as many as are free, and one at least."""
        if self._lease is not None:
            return True
        device = self.settings.device
        n_gpus = len(gpus()) if device != "cpu" else 0
        candidates = wanted_devices(device, os.environ.get("CUDA_VISIBLE_DEVICES"), n_gpus)
        missing = ""
        for count in range(min(self.steering.n_workers, max(1, len(candidates))), 0, -1):
            self._lease, missing = try_lease(self.folder.home, candidates, count, self.folder.key)
            if self._lease is not None:
                self.recorder.show(states.RUNNING)
                return True
        if self.folder.status.get("reason") != f"waiting for {missing}":
            self.recorder.show(states.QUEUED, f"waiting for {missing}")
        return False

    def _release(self) -> None:
        if self._lease is not None:
            self._lease.release()

    def _start_worker(self) -> None:
        assert self._lease is not None
        names = self._lease.names
        name = names[self._n_started % len(names)]
        threads = max(1, (os.cpu_count() or 1) // max(2, self.steering.n_workers))
        environment = detached.python_environment() | device_environment([name], self.settings.device, threads)
        with open(self.folder.path / "workers.log", "ab") as log:
            self._workers.append(
                subprocess.Popen(
                    [*detached.python_of("dlstudio.tuning.worker"), str(self.folder.path)],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    env=environment,
                )
            )
        self._n_started += 1

    def _reap(self, trials: list[FrozenTrial]) -> None:
        """Look after workers that ended, and free the trials of those that were killed, here or before."""
        patience = time.monotonic() - self.steering.stop_asked if self.steering.stopped else 0.0
        codes = {}
        for worker in list(self._workers):
            if worker.poll() is not None:
                self._workers.remove(worker)
                codes[worker.pid] = worker.returncode
                trained = any(self.study.is_of(trial, {worker.pid}, ended=True) for trial in trials)
                self._bad_starts = 0 if trained or worker.returncode == 0 else self._bad_starts + 1
            elif patience > STOP_PATIENCE_S + 10:
                worker.kill()
            elif patience > STOP_PATIENCE_S and not self._terminated:
                worker.terminate()
        self._terminated = patience > STOP_PATIENCE_S
        others = {worker.pid for worker in self._workers}
        self.study.free_stale({pid: _how(code) for pid, code in codes.items()}, others)

    # -- telling --------------------------------------------------------------------------------------------------

    def _log(self, trials: list[FrozenTrial]) -> None:
        """Log every trial that ended since, and keep the best."""
        over = sorted((trial for trial in trials if trial.state.is_finished()), key=_completed)
        for trial in over[self._logged :]:
            self._logged += 1
            values: dict[str, float] = {"trial": float(trial.number)}
            if trial.state == TrialState.COMPLETE and self.settings.metrics:
                values |= dict(zip(self.settings.metrics, trial.values, strict=True))
                values |= self._improved(trial)
            self.recorder.log(values, step=self._logged)
            reason = _reason(trial)
            message = f"trial {trial.number} {trial.state.name.lower()}" + (f": {reason}" if reason else "")
            self.recorder.event("trial", message, step=self._logged, trial=trial.number, state=trial.state.name)

    def _improved(self, trial: FrozenTrial) -> dict[str, float]:
        if any(violation > 0 for violation in self.study.violations(trial).values()):
            return {}
        for index, value in enumerate(trial.values):
            better = min if self.settings.directions[index] == "min" else max
            self._best[index] = value if math.isnan(self._best[index]) else better(self._best[index], value)
        return {f"best/{metric}": best for metric, best in zip(self.settings.metrics, self._best, strict=True)}


def _reason(trial: FrozenTrial) -> str:
    return str(trial.user_attrs.get("reason") or "")


def _completed(trial: FrozenTrial) -> Any:
    return trial.datetime_complete, trial.number


def _how(code: int) -> str:
    if code < 0:
        return f"its worker was killed by {signal.Signals(-code).name}"
    return f"its worker ended with exit code {code}"


def _n_logged(folder: RunFolder) -> int:
    """How many trials an earlier coordinator of this search had logged."""
    run = Run(folder)
    return int(run.scalars("trial")[0][-1]) if "trial" in run.keys() else 0  # noqa: SIM118 - a method of Run


def main(path: Path) -> None:
    """See the search in a folder through."""
    Coordinator(RunFolder(path)).run()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
