"""A search as its owner holds it: found by name, steered through its journal, read from its study."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from dlstudio.errors import DLStudioError, unknown_name
from dlstudio.runs.folder import RunFolder
from dlstudio.runs.run import Run, RunState, open_run
from dlstudio.tuning.reach import answering
from dlstudio.tuning.settings import Settings, is_search, read_settings
from dlstudio.tuning.space import Axis, Space, check_axis

if TYPE_CHECKING:
    import pandas as pd

    from dlstudio.tuning.result import SearchResult
    from dlstudio.tuning.studies import SharedStudy

__all__ = ["Plan", "Search", "open_search"]

_T = TypeVar("_T")


class Search:
    """One search, live or over. What steers it is journaled and carried out within about half a second.

    Example:
        >>> search = dls.tune(dls.Recipe(), {"lr": (1e-4, 1e-1, "log")}, n_trials=30, workers=2)
        >>> search.enqueue({"lr": 0.01})
        >>> search.set_range("lr", 1e-3, 1e-2)
        >>> search.wait().result().best.params
        {'lr': 0.0046}
    """

    def __init__(self, run: Run) -> None:
        self.run = run
        self._files = RunFolder(run.folder)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name!r} {self.status} {self.key}>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Search) and other.folder == self.folder

    def __hash__(self) -> int:
        return hash(self.folder)

    # -- what it is -----------------------------------------------------------------------------------------------

    @property
    def name(self) -> str:
        """What people call the search."""
        return self.run.name

    @property
    def key(self) -> str:
        """Name of its folder, unique in its home."""
        return self.run.key

    @property
    def folder(self) -> Path:
        """Its folder, with the study's journal in it."""
        return self.run.folder

    @property
    def settings(self) -> Settings:
        """What decides how it goes."""
        return read_settings(self.folder)

    @property
    def space(self) -> Space:
        """What is searched now, with the ranges as they were set last."""
        return self.settings.read_space().within(self._ask(lambda study: study.attribute("ranges")) or {})

    @property
    def kept(self) -> frozenset[int]:
        """Numbers of the trials that are never pruned."""
        return frozenset(self._ask(lambda study: study.attribute("kept")) or ())

    # -- how it stands --------------------------------------------------------------------------------------------

    def state(self) -> RunState:
        """Return the status with its reason; closes the search first if its coordinator is gone."""
        return self.run.state()

    @property
    def status(self) -> str:
        """QUEUED, RUNNING, PAUSED, FINISHED, FAILED or KILLED."""
        return self.run.status

    @property
    def reason(self) -> str | None:
        """Why it has its status, in words, where there is something to say."""
        return self.run.reason

    def wait(self, timeout: float | None = None) -> Search:
        """Block until the search is over; returns itself.

        Raises:
            DLStudioError: it is not over after `timeout` seconds.
        """
        self.run.wait(timeout)
        return self

    @property
    def trials(self) -> pd.DataFrame:
        """A row per trial so far; see `SearchResult.frame`.

        Raises:
            DLStudioError: the study's server or database does not answer.
        """
        return self.result(importance=False).frame()

    def result(self, *, importance: bool = True) -> SearchResult:
        """Return what the search has found so far, from its study.

        Args:
            importance: whether to say how much each parameter matters, which takes a second with thousands of trials.

        Raises:
            DLStudioError: the study's server or database does not answer.
        """
        from dlstudio.tuning.read import read_result

        return self._ask(lambda study: read_result(self.run, self.settings, study, importance=importance))

    def run_of(self, number: int) -> Run | None:
        """The run of a trial; None where it has not begun, or ran on another machine.

        Raises:
            DLStudioError: there is no such trial.
        """
        trials = self._ask(lambda study: study.trials())
        if not isinstance(number, int) or isinstance(number, bool) or not 0 <= number < len(trials):
            raise unknown_name("trial", number, map(str, range(len(trials))))
        return self._run(self._study.run_key(trials[number]))

    def _run(self, key: str | None) -> Run | None:
        if key is None or not (self._files.home / "runs" / key / "run.json").exists():
            return None
        return Run(RunFolder(self._files.home / "runs" / key))

    @cached_property
    def _study(self) -> SharedStudy:
        # Kept open: a journal is then read on from where it was read to before.
        from dlstudio.tuning.studies import SharedStudy

        return SharedStudy(self._files, self.settings)

    def _ask(self, read: Callable[[SharedStudy], _T]) -> _T:
        with answering(self.settings.storage_in(self.folder)):
            return read(self._study)

    # -- steering -------------------------------------------------------------------------------------------------

    def stop(self) -> None:
        """Stop it now: trials that are going on are stopped and tried again if the search is continued."""
        self._files.command("stop")

    def pause(self) -> None:
        """Pause the trials that are going on after their current step, and begin no other."""
        self._files.command("pause")

    def resume(self) -> None:
        """Go on after a pause. A search that is over is continued by ``dlstudio.tune(resume=name)``."""
        self._files.command("resume")

    def enqueue(self, params: Mapping[str, Any]) -> None:
        """Try these values next; what is left out is suggested.

        Raises:
            DLStudioError: a name or a value is not in the space, or the search is over.
        """
        self._must_search()
        if not isinstance(params, Mapping) or not params:
            raise DLStudioError("values by parameter", repr(params), "For example enqueue({'lr': 0.01}).")
        try:
            self.space.known(params)
        except DLStudioError:
            self._space_soon().known(params)
        self._files.command("enqueue", params=dict(params))

    def _space_soon(self) -> Space:
        """The space with the ranges that were asked for here, also those that are still to be carried out."""
        commands, _ = self._files.commands(0)
        asked = [command["arguments"] for command in commands if command.get("command") == "set_range"]
        return self.settings.read_space().within({one["name"]: (one["low"], one["high"]) for one in asked})

    def set_range(self, name: str, low: float, high: float) -> None:
        """Search a range from `low` to `high` from now on; it may become narrower or wider.

        Raises:
            DLStudioError: there is no such range, the recipe does not allow it, the search is a grid, or it is over.
        """
        self._must_search()
        if self.settings.is_listed:
            remedy = "Enqueue values of it, or start another search."
            raise DLStudioError(
                "a search that suggests values", "a grid, whose points are there from the start", remedy
            )
        space = self.settings.read_space()
        axis = space.axis(name).within(low, high)
        self._check_allowed(axis, space)
        self._files.command("set_range", name=name, low=low, high=high)

    def _check_allowed(self, axis: Axis, space: Space) -> None:
        from dlstudio.training import job
        from dlstudio.training.recipe import Recipe

        described = job.describe(self.folder)
        if described["sha256"] is None:
            check_axis(Recipe.from_dict(described["recipe"]), axis, space)
        elif described["recipe"] is not None and "." not in axis.name:
            check_axis(Recipe(), axis, space)  # options of a module of one's own are known to it alone

    def stop_trial(self, number: int) -> None:
        """Stop one trial; it counts as pruned, with several metrics as failed, and the search goes on.

        Raises:
            DLStudioError: there is no such trial, or it has ended.
        """
        self._files.command("stop_trial", number=self._unended(number))

    def keep_trial(self, number: int) -> None:
        """Never prune this trial.

        Raises:
            DLStudioError: there is no such trial, or it has ended.
        """
        self._files.command("keep_trial", number=self._unended(number))

    def add_workers(self, count: int = 1) -> None:
        """Have more processes train at once.

        Raises:
            DLStudioError: `count` is below 1, or the search is over.
        """
        if not isinstance(count, int) or isinstance(count, bool) or count < 1:
            raise DLStudioError("a count of 1 or more", repr(count), "Try add_workers(1).")
        self._files.command("add_workers", count=count)

    def _unended(self, number: int) -> int:
        known = {trial.number: trial.state for trial in self._ask(lambda study: study.trials())}
        if isinstance(number, bool) or not isinstance(number, int | float) or not math.isfinite(number):
            raise DLStudioError("the number of a trial", repr(number), "See search.trials.")
        if int(number) not in known:
            raise unknown_name("trial", number, map(str, known))
        if known[int(number)].is_finished():
            raise DLStudioError(
                "a trial that has not ended", f"trial {int(number)}, {known[int(number)].name}", "See search.trials."
            )
        return int(number)

    def _must_search(self) -> None:
        if self.settings.is_plan:
            raise DLStudioError(
                "a search", f"{self.name!r}, a fixed list of recipes", "Cancel some of it with cancel()."
            )


class Plan(Search):
    """A fixed list of recipes being trained; steered like a search, and item by item."""

    @property
    def runs(self) -> list[Run | None]:
        """The run of each recipe, in their order; None where it has not begun or was cancelled before it could."""
        return [None if trial is None else self._run(self._study.run_key(trial)) for trial in self._latest()]

    @property
    def states(self) -> list[str]:
        """How each recipe stands: WAITING, RUNNING, COMPLETE or FAIL."""
        return ["WAITING" if trial is None else trial.state.name for trial in self._latest()]

    def cancel(self, indices: Iterable[int]) -> None:
        """Leave recipes out that have not begun, and stop those that are going on.

        Raises:
            DLStudioError: there is no recipe of an index, or the plan is over.
        """
        items = sorted({int(index) for index in indices})
        n = self.settings.n_trials
        wrong = [item for item in items if not 0 <= item < n]
        if wrong:
            raise DLStudioError(f"indices of 0 to {n - 1}", str(wrong), "They count the recipes in their order.")
        if items:
            self._files.command("cancel", items=items)

    def _latest(self) -> list[Any]:
        from dlstudio.tuning.steering import item_of

        latest: list[Any] = [None] * self.settings.n_trials
        for trial in self._ask(lambda study: study.trials()):  # a second attempt comes after the first
            item = item_of(trial)
            if item is not None:
                latest[item] = trial
        return latest


def open_search(name: str | Search) -> Search:
    """Open a search by its name, its key or its MLflow run id; of several with one name, the latest.

    Raises:
        DLStudioError: there is none of that name, or it is a run of another kind.

    Example:
        >>> dls.open_search("my-search").trials
    """
    if isinstance(name, Search):
        return name
    run = open_run(name)
    if not is_search(run.folder):
        raise DLStudioError(
            "the name of a search", f"{run.name!r}, a run of kind {run.info.get('kind')!r}", "Use dlstudio.open_run."
        )
    return Plan(run) if read_settings(run.folder).is_plan else Search(run)
