"""The study of a search as its coordinator and its handle see it: which trials count, which are stale, what is left."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from dlstudio.errors import DLStudioError
from dlstudio.runs import process
from dlstudio.runs.folder import RunFolder
from dlstudio.runs.values import plain
from dlstudio.tuning.presence import Presence
from dlstudio.tuning.settings import STOPPED, Settings
from dlstudio.tuning.storage import asking, open_study

__all__ = ["FIRST_TRIALS", "LOST", "SharedStudy", "agree", "asked_for", "counts", "first_failures", "violations"]

LOST = "lost"
"""Attribute of a trial that ended by no fault of its parameters; it is not counted."""
KILLED = "killed"
FIRST_TRIALS = 5
"""When so many trials have ended and none well, the search ends too."""
MAX_ATTEMPTS = 2
"""What was asked for and whose worker was killed is trained so often; the second time it was hardly an accident."""
UNCLAIMED_S = 60.0
_SEARCHED = "searched"


def counts(trial: FrozenTrial) -> bool:
    """Whether a trial is one of the trials that were asked for."""
    return trial.state != TrialState.WAITING and not trial.user_attrs.get(LOST)


def first_failures(trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    """The first trials that ended, where all that ended have failed by themselves, so that another is not worth it.

    Empty while one has not, and while fewer than `FIRST_TRIALS` have ended.
    """
    over = [t for t in trials if t.state.is_finished() and counts(t) and t.user_attrs.get("reason") != STOPPED]
    hopeless = len(over) >= FIRST_TRIALS and all(trial.state == TrialState.FAIL for trial in over)
    return sorted(over, key=completed)[:FIRST_TRIALS] if hopeless else []


def completed(trial: FrozenTrial) -> Any:
    """Sorts trials that ended by when they did."""
    return trial.datetime_complete, trial.number


def asked_for(trial: FrozenTrial) -> dict[str, Any]:
    """The values of a trial as far as they are known: those it has, or those it is to have."""
    return {**(trial.system_attrs.get("fixed_params") or {}), **trial.params}


def agree(study: optuna.Study, searched: Mapping[str, Any]) -> None:
    """Check that a shared study is searched as it was by whoever began it.

    Args:
        study: just opened.
        searched: by name what all who share it must have in common, as values that JSON can hold.

    Raises:
        DLStudioError: it was begun with another space, metric or recipe, or not by a search of dlstudio.
    """
    wanted = json.loads(json.dumps(plain(dict(searched))))
    if _SEARCHED not in study.user_attrs and not study.get_trials(deepcopy=False):
        study.set_user_attr(_SEARCHED, wanted)
    there = study.user_attrs.get(_SEARCHED) or {}
    other = [name for name in wanted if there.get(name) != wanted[name]]
    if other:
        raise DLStudioError(
            f"the study {study.study_name!r} with the same {' and '.join(other)}",
            "one that was begun with another" if there else "one that no search of dlstudio has begun",
            "Choose another name for the search.",
        )


def violations(trial: FrozenTrial) -> dict[str, float]:
    """By how much a trial breaks each constraint; 0 or less where it holds."""
    return {str(name): float(value) for name, value in (trial.constraints or {}).items()}


class SharedStudy:
    """A study that several processes work on.

    Args:
        folder: of the search.
        settings: of the search.
    """

    def __init__(self, folder: RunFolder, settings: Settings) -> None:
        self.settings = settings
        self._storage = settings.storage_in(folder.path)
        self.study = open_study(self._storage, settings.name, directions=settings.directions or ("min",))
        self._home = folder.home
        self._presence = Presence(self.study)
        self._unclaimed: dict[int, float] = {}

    def trials(self) -> list[FrozenTrial]:
        """All trials, by number; they must not be changed."""
        return self.study.get_trials(deepcopy=False)

    def attribute(self, name: str) -> Any:
        """What is shared under a name with every machine of the study; None where nothing is."""
        return self.study.user_attrs.get(name)

    def share(self, name: str, value: Any) -> None:
        """Share plain values with every machine of the study."""
        self.study.set_user_attr(name, value)

    def n_left(self, trials: list[FrozenTrial]) -> int:
        """How many trials are still to begin."""
        waiting = sum(trial.state == TrialState.WAITING for trial in trials)
        return waiting if self.settings.is_listed else max(waiting, self.settings.n_trials - sum(map(counts, trials)))

    def awaits_claim(self, trials: list[FrozenTrial]) -> bool:
        """Whether someone has asked for a trial and not yet said that it is theirs; perhaps they are gone meanwhile."""
        return not self.settings.has_lock and any(
            trial.state == TrialState.RUNNING and "run" not in trial.user_attrs for trial in trials
        )

    def run_key(self, trial: FrozenTrial) -> str | None:
        """The key of a trial's run."""
        return (trial.user_attrs.get("run") or {}).get("key")

    def is_of(self, trial: FrozenTrial, pids: Collection[int]) -> bool:
        """Whether a trial that has begun is one of some processes of this host."""
        worker = (trial.user_attrs.get("run") or {}).get("worker") or {}
        return worker.get("pid") in pids and process.is_here(worker)

    def was_killed(self, trial: FrozenTrial) -> bool:
        """Whether a trial ended because its process did."""
        return bool(trial.user_attrs.get(KILLED))

    def show_presence(self) -> None:
        """Let the other machines of the study know that this one is there; a file has no other machines."""
        if not self.settings.has_lock:
            self._presence.show()

    # -- what other processes left behind --------------------------------------------------------------------------

    def free_stale(self, how: Mapping[int, str], others: Collection[int]) -> None:
        """End the trials whose process or whole machine is gone; what was asked for gets a second attempt.

        Args:
            how: in which way processes ended, by number, where that is known.
            others: processes of which that will be known a moment after they have ended; their trials are left alone.
        """
        running = [trial for trial in self.trials() if trial.state == TrialState.RUNNING]
        if not any(self._may_be_stale(trial) for trial in running):
            return
        with asking(self._storage):  # nobody is between asking for a trial and claiming it
            for trial in self.trials():
                if trial.state == TrialState.RUNNING and self._is_stale(trial) and not self.is_of(trial, others):
                    self._free(trial, how)

    def _may_be_stale(self, trial: FrozenTrial) -> bool:
        claim = trial.user_attrs.get("run")
        return claim is None or self._is_stale(trial)

    def _is_stale(self, trial: FrozenTrial) -> bool:
        claim = trial.user_attrs.get("run")
        if claim is not None and process.is_here(claim["worker"]):
            return not process.is_alive(claim["worker"])
        if claim is not None:
            return not self.settings.has_lock and self._presence.is_gone(str(claim["worker"].get("host")))
        # Under the lock of a journal an unclaimed trial is one whose asker is gone; elsewhere only time can tell, and
        # only that of this process: clocks of other machines are wrong, or of another time zone.
        since = self._unclaimed.setdefault(trial.number, time.monotonic())
        return self.settings.has_lock or time.monotonic() - since > UNCLAIMED_S

    def _free(self, trial: FrozenTrial, how: Mapping[int, str]) -> None:
        claim = trial.user_attrs.get("run") or {}
        worker = claim.get("worker") or {}
        if claim and process.is_here(worker):
            RunFolder(self._home / "runs" / claim["key"]).settle()
            reason = how.get(worker.get("pid", -1), "its worker was killed")
        else:
            reason = f"its machine {worker['host']} is gone" if worker else "its worker was killed"
        if trial.number in (self.attribute("stopped") or ()):  # it did not obey, and was ended
            state = TrialState.PRUNED if len(self.study.directions) == 1 else TrialState.FAIL
            with contextlib.suppress(optuna.exceptions.UpdateFinishedTrialError):
                self._end(trial, state, reason=STOPPED)
            return
        again = trial.system_attrs.get("fixed_params")
        attempt = int(trial.user_attrs.get("attempt", 1))
        enqueued = {name: value for name, value in trial.user_attrs.items() if name == "enqueued"}
        with contextlib.suppress(optuna.exceptions.UpdateFinishedTrialError):
            self._end(trial, TrialState.FAIL, **{"reason": reason, LOST: True, KILLED: True})
            if again and attempt < MAX_ATTEMPTS:
                self.study.enqueue_trial(again, user_attrs={**enqueued, "attempt": attempt + 1})

    def drop_waiting(self, trial: FrozenTrial, reason: str) -> None:
        """End a trial that has not begun."""
        with contextlib.suppress(optuna.exceptions.UpdateFinishedTrialError):
            self._end(trial, TrialState.FAIL, reason=reason)

    def _end(self, trial: FrozenTrial, state: TrialState, **attributes: Any) -> None:
        storage = self.study._storage
        for name, value in attributes.items():
            storage.set_trial_user_attr(trial._trial_id, name, value)
        storage.set_trial_state_values(trial._trial_id, state)
