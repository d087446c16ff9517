"""What a search is asked to do while it goes on: commands from its journal, carried out by its coordinator."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from optuna.trial import FrozenTrial, TrialState

from dlstudio.errors import DLStudioError
from dlstudio.runs.control import Command
from dlstudio.runs.folder import RunFolder
from dlstudio.tuning.settings import ITEM, Settings
from dlstudio.tuning.studies import SharedStudy, asked_for

__all__ = ["MAX_WORKERS", "Steering", "item_of", "read_command"]

COMMANDS: dict[str, set[str]] = {
    "pause": set(), "resume": set(), "stop": set(), "enqueue": {"params"}, "set_range": {"name", "low", "high"},
    "stop_trial": {"number"}, "keep_trial": {"number"}, "add_workers": {"count"}, "cancel": {"items"},
}  # fmt: skip
"""What a search can be asked for, and what has to be said with it."""
MAX_WORKERS = 256


def read_command(line: Mapping[str, Any]) -> Command:
    """Read a line of the journal, which anyone may have written.

    Raises:
        ValueError: it is no command of a search, or its arguments are not what the command takes.
    """
    name, arguments = line.get("command"), line.get("arguments") or {}
    if not isinstance(name, str) or name not in COMMANDS:
        raise ValueError(f"there is no command {str(line.get('line', name))[:80]!r}")
    if not isinstance(arguments, dict) or set(arguments) != COMMANDS[name]:
        raise ValueError(f"{name} takes {' and '.join(COMMANDS[name]) or 'nothing'}, not {str(arguments)[:80]}")
    return Command(name, arguments)


class Steering:
    """How a search is steered just now.

    Args:
        folder: of the search.
        settings: of the search.
        study: of the search.

    Attributes:
        paused, stopped: what was asked for last.
        stop_asked: when it was, on the monotonic clock.
        ending: whether no further trial is to begin.
        n_workers: processes that are to train.
    """

    def __init__(self, folder: RunFolder, settings: Settings, study: SharedStudy) -> None:
        self._folder, self._settings, self._study = folder, settings, study
        self.paused = self.stopped = self.ending = False
        self.stop_asked = 0.0
        self.n_workers = settings.workers
        self._sent: set[tuple[str, int]] = set()
        self._stop_sent: dict[int, float] = {}
        self._commands: dict[str, Callable[..., str]] = {
            "pause": self._pause,
            "resume": self._resume,
            "stop": self._stop,
            "enqueue": self._enqueue,
            "set_range": self._set_range,
            "stop_trial": self._stop_trial,
            "keep_trial": self._keep_trial,
            "add_workers": self._add_workers,
            "cancel": self._cancel,
        }

    def carry_out(self, command: Command) -> str:
        """Do what a command asks, and say in words what was done.

        Raises:
            DLStudioError: it cannot be done.
            TypeError, ValueError: its arguments are not of their kind.
        """
        return self._commands[command.name](**command.arguments)

    def follow_up(self, trials: list[FrozenTrial]) -> None:
        """Pass pause, resume and stop on to the runs of the trials that are going on here."""
        stopped = set(self._study.attribute("stopped") or ())
        for trial in trials:
            if trial.state != TrialState.RUNNING:
                continue
            if self.stopped or trial.number in stopped:
                self._send("stop", trial)
            elif self.paused:
                self._sent.discard(("resume", trial.number))
                self._send("pause", trial)
            elif ("pause", trial.number) in self._sent:
                self._sent.discard(("pause", trial.number))
                self._send("resume", trial)

    def stopping_s(self, pids: Collection[int]) -> dict[int, float]:
        """For how many seconds workers have been asked to stop, by their number; those that were not are left out.

        Args:
            pids: of the workers of this host.
        """
        now = time.monotonic()
        if self.stopped:
            return dict.fromkeys(pids, now - self.stop_asked)
        asked = {}
        for trial in self._study.trials() if self._stop_sent else ():
            if trial.state == TrialState.RUNNING and trial.number in self._stop_sent and self._study.is_of(trial, pids):
                asked[int(trial.user_attrs["run"]["worker"]["pid"])] = now - self._stop_sent[trial.number]
        return asked

    def _send(self, command: str, trial: FrozenTrial) -> None:
        key = self._study.run_key(trial)
        if (command, trial.number) in self._sent or key is None:
            return
        files = RunFolder(self._folder.home / "runs" / key)
        if files.path.exists():  # a trial of another machine is its own coordinator's business
            with contextlib.suppress(DLStudioError):  # it ended in this moment
                files.command(command)
        self._sent.add((command, trial.number))
        if command == "stop":
            self._stop_sent[trial.number] = time.monotonic()

    # -- commands -------------------------------------------------------------------------------------------------

    def _pause(self) -> str:
        self.paused = True
        return "paused on request"

    def _resume(self) -> str:
        self.paused = False
        return "resumed on request"

    def _stop(self) -> str:
        if not self.stopped:
            self.stopped, self.stop_asked = True, time.monotonic()
        return "stopped on request"

    def _enqueue(self, params: Mapping[str, Any]) -> str:
        space = self._settings.read_space().within(self._study.attribute("ranges") or {})
        self._study.study.enqueue_trial(space.known(params), user_attrs={"enqueued": True})
        return "enqueued " + ", ".join(f"{name}={value}" for name, value in params.items())

    def _set_range(self, name: str, low: float, high: float) -> str:
        axis = self._settings.read_space().axis(name).within(low, high)
        self._study.share("ranges", {**(self._study.attribute("ranges") or {}), name: [axis.low, axis.high]})
        return f"{name} is searched from {axis.low:g} to {axis.high:g} from now on"

    def _stop_trial(self, number: int) -> str:
        self._add("stopped", self._existing(number))
        return f"trial {number} is to stop"

    def _keep_trial(self, number: int) -> str:
        self._add("kept", self._existing(number))
        return f"trial {number} is not pruned"

    def _add_workers(self, count: int) -> str:
        self.n_workers = min(MAX_WORKERS, self.n_workers + max(0, int(count)))
        return f"{self.n_workers} workers"

    def _cancel(self, items: Sequence[int]) -> str:
        for trial in self._study.trials():
            if trial.state == TrialState.WAITING and item_of(trial) in items:
                self._study.drop_waiting(trial, "cancelled before it began")
        for trial in self._study.trials():  # one that a worker took in the same moment included
            if trial.state == TrialState.RUNNING and item_of(trial) in items:
                self._add("stopped", trial.number)
        return "cancelled " + ", ".join(map(str, items))

    def _existing(self, number: int) -> int:
        numbers = [trial.number for trial in self._study.trials()]
        if number not in numbers:
            raise DLStudioError(f"a trial of 0 to {len(numbers) - 1}", str(number), "See search.trials.")
        return number

    def _add(self, name: str, number: int) -> None:
        self._study.share(name, sorted({*(self._study.attribute(name) or ()), number}))


def item_of(trial: FrozenTrial) -> int | None:
    """Which recipe of a plan a trial is about; a waiting one has it among what was enqueued."""
    return asked_for(trial).get(ITEM)
