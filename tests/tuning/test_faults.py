"""Workers and coordinators are killed, storages are shared: no search loses or repeats more than the trial at hand."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dlstudio.errors import DLStudioError
from dlstudio.runs.run import open_run
from dlstudio.tuning.search import Search
from dlstudio.tuning.tune import tune
from tests.tuning.conftest import ended, parabola, processes_of, slow
from tests.waiting import until

Start = Callable[..., Search]


def brief(rec: Any, config: dict[str, Any]) -> None:
    for step in range(8):
        rec.log({"loss": config["x"]}, step=step)
        time.sleep(0.05)


def running(search: Search) -> list[Any]:
    return [row for row in search.result(importance=False).rows if row.state == "running"]


def kill(search: Search, module: str) -> None:
    for victim in processes_of(search, module):
        os.kill(victim.pid, signal.SIGKILL)


def check_whole(search: Search, n: int) -> None:
    """All trials that were asked for are there, once each, and their runs are closed."""
    rows = search.result(importance=False).rows
    counted = [row for row in rows if row.state != "lost"]
    assert [row.state for row in counted] == ["complete"] * n
    assert len({row.params["x"] for row in counted}) == n
    runs = [open_run(str(row.run)) for row in rows if row.run]
    assert all(run.state().is_over for run in runs)
    children = [
        run for run in search.folder.parent.iterdir() if open_run(run.name).info["tags"].get("parent") == search.key
    ]
    assert {run.folder for run in runs} == set(children)
    assert search.run.scalars("trial")[0].tolist() == list(range(1, len(rows) + 1))  # logged once each, without a hole


def test_a_killed_worker_costs_its_one_trial(started: Start) -> None:
    search = started(brief, n_trials=4, workers=2, pruner=None)
    until(lambda: len(running(search)) == 2)
    victim = processes_of(search, "worker")[0]
    os.kill(victim.pid, signal.SIGKILL)
    ended(search)
    assert search.status == "FINISHED"
    check_whole(search, 4)
    lost = [row for row in search.result(importance=False).rows if row.state == "lost"]
    assert len(lost) == 1 and lost[0].reason == "its worker was killed by SIGKILL"
    assert open_run(str(lost[0].run)).status == "FAILED"


@pytest.mark.parametrize("victims", [("coordinator",), ("coordinator", "worker")])
def test_a_search_whose_processes_were_killed_goes_on(started: Start, victims: tuple[str, ...]) -> None:
    search = started(brief, n_trials=4, pruner=None)
    until(lambda: len(search.trials) >= 2 and running(search))
    for module in victims:
        kill(search, module)
    until(lambda: search.status == "FAILED")
    assert "killed" in str(search.reason)
    until(lambda: not processes_of(search, "worker"))  # it ends with its trial where nobody is left to work for
    n_lost = sum(row.state != "complete" for row in search.result(importance=False).rows)
    assert n_lost == (1 if "worker" in victims else 0)
    again = ended(tune(resume=search.name))
    assert again == search and again.status == "FINISHED"
    check_whole(again, 4)


def test_a_search_that_was_stopped_goes_on_where_it_was(started: Start) -> None:
    search = started(slow, n_trials=2, pruner=None)
    tried = until(lambda: running(search))[0].params
    with pytest.raises(DLStudioError, match="going on"):
        tune(resume=search.name)
    search.stop()
    ended(search)
    assert (search.status, search.reason) == ("KILLED", "stopped on request")
    assert not processes_of(search, "worker")
    assert [row.state for row in search.result().rows] == ["lost", "waiting"]
    tune(resume=search, n_trials=1)
    assert until(lambda: running(search))[0].params == tried
    search.stop()
    ended(search)


def test_a_finished_search_takes_more_trials(started: Start) -> None:
    search = ended(started(n_trials=3))
    ended(tune(resume=search.name, n_trials=5, workers=2))
    check_whole(search, 5)
    with pytest.raises(DLStudioError, match="keeps its space"):
        tune(parabola, resume=search.name)


OTHER = """
import sys, time
from dlstudio.tuning.tune import tune
def brief(rec, config):
    for step in range(8):
        rec.log({"loss": config["x"]}, step=step)
        time.sleep(0.05)
search = tune(brief, {"x": (0.0, 1.0)}, metric="loss", n_trials=8, name="shared", storage=sys.argv[1], pruner=None)
while not search.state().is_over:
    time.sleep(0.05)
print(search.status, search.reason)
"""


@pytest.mark.parametrize("kind", ["database", "journal"])
def test_two_processes_tune_one_study(started: Start, tmp_path: Path, kind: str) -> None:
    storage = f"sqlite:///{tmp_path}/study.db" if kind == "database" else str(tmp_path / "study.log")
    first = started(brief, n_trials=8, name="shared", storage=storage, pruner=None)
    environment = {**os.environ, "DLSTUDIO_HOME": str(tmp_path / "other-home")}
    done = subprocess.run(
        [sys.executable, "-c", OTHER, storage], env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.stdout.strip() == "FINISHED None", done.stderr
    ended(first)
    rows = first.result(importance=False).rows
    counted = [row for row in rows if row.state != "lost"]
    assert [row.state for row in counted] == ["complete"] * 8
    assert len({row.params["x"] for row in counted}) == 8
    homes = first.folder.parent, tmp_path / "other-home" / "runs"
    trained = [sum((home / str(row.run)).exists() for row in rows if row.run) for home in homes]
    assert sum(trained) == len([row for row in rows if row.run]) and all(trained)  # both had their share


def test_workers_that_cannot_start_end_the_search(started: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    from dlstudio.tuning import start

    def spoil(folder: Any) -> Any:
        (folder.path / "job.pkl").write_bytes(b"something else")
        return real(folder)

    real = start.start_coordinator
    monkeypatch.setattr("dlstudio.tuning.tune.start_coordinator", spoil)
    search = ended(started(n_trials=3))
    assert search.status == "FAILED" and "could not start" in str(search.reason)
    assert "job.pkl" in str(search.reason)
