"""Workers and coordinators are killed, storages are shared: no search loses or repeats more than the trial at hand."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dlstudio.cli import main
from dlstudio.errors import DLStudioError
from dlstudio.runs.run import open_run
from dlstudio.tuning.search import Search
from dlstudio.tuning.storage import open_storage, open_study
from dlstudio.tuning.tune import tune
from tests.tuning.conftest import ended, gated, parabola, processes_of, slow
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
    steps, logged = search.run.scalars("trial")  # once each, without a hole
    assert steps.tolist() == list(range(1, len(rows) + 1)) and sorted(logged) == [row.number for row in rows]
    values, best = search.run.scalars("loss")[1], search.run.scalars("best/loss")[1]
    assert sorted(values) == sorted(row.value for row in counted) and (best == np.minimum.accumulate(values)).all()


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


@pytest.mark.parametrize("how", ["stopped", "killed", "workers killed"])
def test_a_search_of_five_workers_goes_on(started: Start, tmp_path: Path, how: str) -> None:
    gate = tmp_path / "gate"
    search = started(gated, {"x": (0.0, 1.0), "gate": [str(gate)]}, n_trials=6, workers=5, pruner=None)
    until(lambda: len(running(search)) == 5)
    if how == "stopped":
        search.stop()
    if how == "killed":
        kill(search, "coordinator")
    if how != "stopped":
        kill(search, "worker")
    if how != "workers killed":
        ended(search)
        until(lambda: not processes_of(search, "worker"))
    gate.write_text("")
    ended(search if how == "workers killed" else tune(resume=search))
    assert (search.status, search.reason) == ("FINISHED", None)
    check_whole(search, 6)
    assert [row.state for row in search.result(importance=False).rows[:5]] == ["lost"] * 5


def deadly(rec: Any, config: dict[str, Any]) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_search_whose_workers_are_killed_again_and_again_ends_and_says_why(started: Start) -> None:
    search = ended(started(deadly, n_trials=50))
    assert search.status == "FAILED" and len(search.trials) == 5
    assert "one worker after the other ended in the middle of a trial (its worker was killed by SIGKILL)" in str(
        search.reason
    )


def test_a_point_of_a_grid_whose_worker_was_killed_is_tried_again(started: Start, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    search = started(gated, {"x": [0.0, 1.0, 2.0], "gate": [str(gate)]}, sampler="grid", pruner=None)
    first = until(lambda: running(search))[0]
    kill(search, "worker")
    until(lambda: search.result(importance=False).rows[first.number].state == "lost")
    gate.write_text("")
    ended(search)
    check_whole(search, 3)
    assert sorted(row.params["x"] for row in search.result(importance=False).rows) == [0.0, 0.0, 1.0, 2.0]


def test_a_grid_that_goes_on_has_its_other_points_and_no_more(started: Start) -> None:
    search = ended(started(space={"x": [0.3, 1.0, 0.5]}, sampler="grid", n_trials=1))
    assert len(search.trials) == 1
    ended(tune(resume=search.name, n_trials=99))
    check_whole(search, 3)
    assert search.trials["params.x"].tolist() == [0.3, 1.0, 0.5] and search.settings.n_trials == 3


def test_a_finished_search_takes_more_trials(started: Start, capsys: pytest.CaptureFixture[str]) -> None:
    search = ended(started(n_trials=3))
    with pytest.raises(DLStudioError, match=r"dlstudio\.tune\(resume"):
        search.pause()
    ended(tune(resume=search, n_trials=5, workers=2))
    check_whole(search, 5)
    assert main(["resume", search.name]) == 0 and "what is left to train" in capsys.readouterr().out
    check_whole(ended(search), 5)
    for given, complaint in (
        ({"what": parabola}, "keeps its space"),
        ({"metric": "loss", "pruner": None}, "but got metric and pruner"),
        ({"storage": "elsewhere.log", "seed": 1}, "but got seed and storage"),
        ({"n_trials": 0}, "n_trials"),
    ):
        with pytest.raises(DLStudioError, match=complaint):
            tune(resume=search, **given)


OTHER = """
import pathlib, sys, time
from dlstudio.tuning.tune import tune
gate = sys.argv[2]
def brief(rec, config):
    pathlib.Path(gate).touch()
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
    gate = tmp_path / "gate"

    def held(rec: Any, config: dict[str, Any]) -> None:
        """Go on once the other process, which may take long to start, has a trial too."""
        while not gate.exists():
            time.sleep(0.02)
        brief(rec, config)

    first = started(held, n_trials=8, name="shared", storage=storage, pruner=None)
    environment = {**os.environ, "DLSTUDIO_HOME": str(tmp_path / "other-home")}
    done = subprocess.run(
        [sys.executable, "-c", OTHER, storage, str(gate)], env=environment, capture_output=True, text=True, timeout=120
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
    for changes, what in (({"space": {"x": (0.0, 2.0)}}, "space"), ({"metric": "val/loss"}, "metrics")):
        with pytest.raises(DLStudioError, match=f"same {what}"):
            tune(brief, **{"space": {"x": (0.0, 1.0)}, "metric": "loss", **changes}, name="shared", storage=storage)


def test_a_search_outlives_a_server_that_is_away_for_a_moment(started: Start, tmp_path: Path) -> None:
    from optuna.storages._grpc.server import make_server

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]

    def serve() -> Any:
        server = make_server(open_storage(f"sqlite:///{tmp_path}/study.db"), "127.0.0.1", port, ThreadPoolExecutor(4))
        server.start()
        return server

    server = serve()
    try:
        search = started(brief, n_trials=3, storage=f"grpc://127.0.0.1:{port}", pruner=None)
        until(lambda: running(search))
        server.stop(None).wait()
        until(lambda: all("away" in (search.folder / log).read_text() for log in ("log.txt", "workers.log")))
        with pytest.raises(DLStudioError, match="a study storage that answers"):
            _ = search.trials
        begun = [sys.executable, "-m", "dlstudio.tuning.worker", str(search.folder)]  # one that was just being started
        late = subprocess.Popen(begun, stdout=subprocess.PIPE, text=True)
        assert late.stdout is not None and "StorageAway" in late.stdout.readline()
        server = serve()
        ended(search)
        assert (search.status, search.reason) == ("FINISHED", None)
        check_whole(search, 3)
        late.communicate(timeout=60)
        assert late.returncode == 0
    finally:
        server.stop(None).wait()


OPENER = """
import pathlib, sys, time
from dlstudio.tuning.storage import open_study
print("ready", flush=True)
while not pathlib.Path(sys.argv[2]).exists():
    time.sleep(0.001)
open_study(sys.argv[1], "s", directions=["min"])
"""


def test_processes_that_open_a_new_database_at_once_make_one_study(tmp_path: Path) -> None:
    url, gate = f"sqlite:///{tmp_path}/study.db", tmp_path / "gate"
    command = [sys.executable, "-c", OPENER, url, str(gate)]
    openers = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    assert all(one.stdout is not None and one.stdout.readline() == "ready\n" for one in openers)
    gate.touch()
    for one in openers:
        one.communicate(timeout=120)
    assert [one.returncode for one in openers] == [0] * 4
    assert open_study(url, "s", directions=["min"]).trials == []


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
