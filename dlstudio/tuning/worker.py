"""A worker of a search: imports torch once, then asks the study for a trial, trains it, and tells what came of it."""

from __future__ import annotations

import contextlib
import os
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
from optuna import Trial
from optuna.trial import TrialState

from dlstudio.runs import process, registrar
from dlstudio.runs.folder import RunFolder, read_json
from dlstudio.runs.outcome import describe_error
from dlstudio.runs.values import plain
from dlstudio.training import job as jobs
from dlstudio.training.job import Job
from dlstudio.training.naming import run_name, run_tags
from dlstudio.training.recipe import Recipe
from dlstudio.tuning.paths import changed
from dlstudio.tuning.plan import ask_item, read_items
from dlstudio.tuning.reach import patiently
from dlstudio.tuning.settings import ITEM, STOPPED, read_settings, steering_of
from dlstudio.tuning.storage import Sampler, asking, make_pruner, open_study
from dlstudio.tuning.studies import LOST, counts, first_failures
from dlstudio.tuning.trial import NotMeasured, TrialRecorder

__all__ = ["Worker", "main"]

WAIT_S = 0.1
SHARED_FILES = ("environment.json", "code.diff")


class Worker:
    """Trains trials of one search until there is nothing left to do.

    Args:
        folder: of the search.
    """

    def __init__(self, folder: RunFolder) -> None:
        self.folder = folder
        self.settings = settings = read_settings(folder.path)
        self.name = str(folder.info.get("name"))
        self._space = settings.read_space()
        self._storage = settings.storage_in(folder.path)
        self._sampler = Sampler(settings.sampler, settings.seed, settings.sampler_arguments)
        self._study = patiently(
            lambda: open_study(
                self._storage,
                settings.name,
                directions=settings.directions or ("min",),
                sampler=self._sampler,
                pruner=make_pruner(settings.pruner, settings.pruner_arguments),
            )
        )
        self._coordinator = steering_of(folder.path).get("coordinator") or {}
        self._identity = process.identity()
        self._items = read_items(folder.path) if settings.is_plan else []
        self._job = Job() if settings.is_plan else jobs.read(folder.path)

    def work(self) -> None:
        """Train trial after trial."""
        while True:
            asked = self._next()
            if asked is None:
                return
            trial, files, recipe = asked
            healthy = self._train(trial, files, recipe)
            registrar.forget(files)
            if not healthy:
                return

    # -- asking ---------------------------------------------------------------------------------------------------

    def _next(self) -> tuple[Trial, RunFolder, Recipe | None] | None:
        """Ask for a trial; None when nothing is left to do, or nobody is there to work for."""
        while True:
            told = steering_of(self.folder.path)
            if told.get("ending") or not process.is_alive(self._coordinator):
                return None
            if not told.get("paused"):
                with asking(self._storage):
                    return self._ask(int(told.get("n_trials", self.settings.n_trials)))
            time.sleep(WAIT_S)

    def _ask(self, n_trials: int) -> tuple[Trial, RunFolder, Recipe | None] | None:
        trial = patiently(lambda: self._suggested(n_trials))
        if trial is None:
            return None
        if patiently(lambda: self._is_surplus(trial, n_trials)):
            self._tell(lambda: self._drop(trial, "asked for by two machines at once"))
            return None
        params = self._space.meanings(trial.params)
        recipe, config, title, tags = self._described(trial.number, params)
        number = {"search": self.name, "parent": self.folder.key, "trial": str(trial.number)}
        files = RunFolder.create(title, kind="trial", config=config, tags={**tags, **number})
        patiently(lambda: trial.set_user_attr("run", {"key": files.key, "worker": self._identity}))
        return trial, files, recipe

    def _suggested(self, n_trials: int) -> Trial | None:
        """A trial with its values; None where there is none left to begin."""
        trials = self._study.get_trials(deepcopy=False)
        waiting = any(trial.state == TrialState.WAITING for trial in trials)
        if not waiting and (self.settings.is_listed or sum(map(counts, trials)) >= n_trials):
            return None
        if not self.settings.is_plan and first_failures(trials):
            return None  # the coordinator ends the search; quick trials would run ahead of it
        if self.settings.is_plan:
            return ask_item(self._study, len(self._items))
        space = self._space.within(self._study.user_attrs.get("ranges") or {})
        self._sampler.space = space.distributions
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # an enqueued point may lie outside a range narrowed since
            return self._study.ask(space.distributions)

    def _is_surplus(self, trial: Trial, n_trials: int) -> bool:
        """Whether other machines had filled the study in the moment between counting and asking."""
        if self.settings.has_lock:
            return False
        trials = self._study.get_trials(deepcopy=False)
        was_enqueued = "fixed_params" in trials[trial.number].system_attrs
        return not was_enqueued and sum(map(counts, trials[: trial.number])) >= n_trials

    def _described(
        self, number: int, params: dict[str, Any]
    ) -> tuple[Recipe | None, dict[str, Any], str, dict[str, str]]:
        """The recipe of a trial, and its config, name and tags."""
        if self.settings.is_plan:
            recipe = self._items[int(params[ITEM])]
            return recipe, plain(recipe.to_dict()), run_name(recipe), run_tags(recipe) | {ITEM: str(params[ITEM])}
        title = f"{self.name}-{number}"
        if self._job.recipe is None:
            return None, plain(params), title, {}
        recipe = changed(self._job.recipe, params).replace(name=title, variant=None)
        return recipe, plain(recipe.to_dict()), title, run_tags(recipe)

    # -- training -------------------------------------------------------------------------------------------------

    def _train(self, trial: Trial, files: RunFolder, recipe: Recipe | None) -> bool:
        """Train a trial and tell the study; False when this process had better end."""
        self._share_files(files)
        recorder = TrialRecorder(files, trial, self.settings)
        reason, healthy = None, True
        try:
            with recorder:
                if recipe is not None:
                    from dlstudio.training.loop import train

                    if recipe.is_plain:
                        jobs.pack(Job(recipe=recipe)).write(files.path)  # so that `launch(resume=…)` can go on with it
                    train(recipe, recorder)
                else:
                    assert self._job.function is not None, "the job of a search is a recipe or a function"
                    self._job.function(recorder, self._space.meanings(trial.params))
        except (Exception, SystemExit) as error:
            # Whatever a trial does wrong is its own end and not that of the search.
            if not (isinstance(error, SystemExit) and error.code in (None, 0)):
                reason = describe_error(error)
                healthy = not _cuda_is_in_use()  # an error on a GPU may have spoilt it for the whole process
        self._tell(lambda: self._conclude(trial, recorder, reason))
        return healthy

    def _share_files(self, files: RunFolder) -> None:
        for name in SHARED_FILES:
            with contextlib.suppress(OSError):
                os.link(self.folder.path / name, files.path / name)

    def _conclude(self, trial: Trial, recorder: TrialRecorder, reason: str | None) -> None:
        fingerprint = read_json(recorder.folder / "data.json").get("fingerprint")
        if fingerprint:
            trial.set_user_attr("data", fingerprint)
        if recorder.pruned is not None:
            self._set_reason(trial, recorder.pruned)
            self._study.tell(trial, state=TrialState.PRUNED, skip_if_finished=True)
        elif recorder.stopped:
            self._conclude_stopped(trial)
        elif reason is not None:
            self._fail(trial, reason)
        elif self.settings.is_plan:
            self._study.tell(trial, 0.0, skip_if_finished=True)
        else:
            try:
                values = [recorder.measured(name) for name in self.settings.metrics]
                for name, violation in recorder.violations().items():
                    trial.set_constraint(name, violation)
            except NotMeasured as error:
                self._fail(trial, str(error))
                return
            self._study.tell(trial, values, skip_if_finished=True)

    def _conclude_stopped(self, trial: Trial) -> None:
        if steering_of(self.folder.path).get("stopped"):
            # It is not judged, and its parameters wait for the search to be continued.
            self._tell(lambda: self._drop(trial, "stopped together with the search"))
            patiently(lambda: self._study.enqueue_trial(dict(trial.params)))
        elif len(self._study.directions) == 1 and not self.settings.is_plan:
            self._set_reason(trial, STOPPED)
            self._study.tell(trial, state=TrialState.PRUNED, skip_if_finished=True)
        else:
            self._fail(trial, STOPPED)

    def _drop(self, trial: Trial, reason: str) -> None:
        trial.set_user_attr(LOST, True)
        self._fail(trial, reason)

    def _fail(self, trial: Trial, reason: str) -> None:
        self._set_reason(trial, reason)
        self._study.tell(trial, state=TrialState.FAIL, skip_if_finished=True)

    def _set_reason(self, trial: Trial, reason: str) -> None:
        trial.set_user_attr("reason", reason[:1000])

    def _tell(self, tell: Callable[[], None]) -> None:
        """Tell the study, with patience for a storage that is away; a trial that another has ended stays as it is."""
        with contextlib.suppress(optuna.exceptions.UpdateFinishedTrialError):
            patiently(tell)


def _cuda_is_in_use() -> bool:
    torch = sys.modules.get("torch")
    return bool(torch is not None and torch.cuda.is_available() and torch.cuda.is_initialized())


def main(path: Path) -> None:
    """Work for the search in a folder."""
    Worker(RunFolder(path)).work()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
