"""A search is steered while it goes on."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

import dlstudio as dls
from dlstudio.errors import DLStudioError
from dlstudio.runs.run import open_run
from dlstudio.tuning.search import Search
from tests.tuning.conftest import ended, parabola, processes_of, slow
from tests.waiting import until

Start = Callable[..., Search]


def rows(search: Search, state: str) -> list[Any]:
    return [row for row in search.result(importance=False).rows if row.state == state]


def test_points_ranges_workers_and_trials(started: Start) -> None:
    search = started(slow, {"x": (0.0, 1.0), "c": ["a", "b"]}, n_trials=50, pruner=None)
    first = until(lambda: rows(search, "running"))[0]
    search.enqueue({"x": 0.125, "c": "b"})
    search.enqueue({"c": "a"})
    search.set_range("x", 0.5, 0.6)
    until(lambda: search.space.axes["x"].high == 0.6 and len(rows(search, "waiting")) == 2)
    search.stop_trial(first.number)
    second = until(lambda: [row for row in rows(search, "running") if row.number != first.number])[0]
    assert second.params == {"x": 0.125, "c": "b"}  # asked for before the range was narrowed
    stopped = search.result().rows[first.number]
    assert (stopped.state, stopped.reason) == ("pruned", "stopped on request")
    assert open_run(str(stopped.run)).status == "KILLED"
    search.add_workers(1)
    third = until(lambda: [row for row in rows(search, "running") if row.number > second.number])[0]
    assert third.params["c"] == "a" and 0.5 <= third.params["x"] <= 0.6
    until(lambda: len(processes_of(search, "worker")) == 2)
    for wrong, complaint in (
        (lambda: search.enqueue({"x": 0.7}), "Widen the range"),
        (lambda: search.enqueue({"y": 0.7}), "Did you mean|Choose a parameter"),
        (lambda: search.enqueue({}), "values by parameter"),
        (lambda: search.set_range("c", 0, 1), "with a range"),
        (lambda: search.set_range("x", 1, 0), "lower one first"),
        (lambda: search.stop_trial(99), "trial"),
        (lambda: search.keep_trial("x"), "number of a trial"),  # type: ignore[arg-type]
        (lambda: search.keep_trial(first.number), "has not ended"),
        (lambda: search.stop_trial(first.number), "has not ended"),
        (lambda: search.add_workers(0), "1 or more"),
        (lambda: search.run_of(99), "trial"),
    ):
        with pytest.raises(DLStudioError, match=complaint):
            wrong()
    with pytest.raises(DLStudioError, match="trial"):
        search.run_of("0")  # type: ignore[arg-type]
    search.set_range("x", 0.0, 2.0)
    search.enqueue({"x": 1.5})  # allowed by a range that was asked for in this moment
    until(lambda: any(row.params.get("x") == 1.5 for row in search.result(importance=False).rows))
    search.stop()
    ended(search)
    kinds = [event["kind"] for event in search.run.events()]
    assert [kind for kind in kinds if kind in {"enqueue", "set_range", "stop_trial", "add_workers", "stop"}] == [
        "enqueue", "enqueue", "set_range", "stop_trial", "add_workers", "set_range", "enqueue", "stop",
    ]  # fmt: skip
    with pytest.raises(DLStudioError, match="live run"):
        search.pause()


def test_a_pause_holds_trials_and_search(started: Start) -> None:
    search = started(slow, n_trials=1, pruner=None)
    trial = search.run_of(until(lambda: rows(search, "running"))[0].number)
    assert trial is not None
    until(lambda: "loss" in trial.keys())  # noqa: SIM118 - a method of Run
    search.pause()
    until(lambda: search.status == "PAUSED" and trial.status == "PAUSED")

    def at() -> tuple[int, int]:
        """The last step, now and after so long that one that trains would have written another."""
        before = trial.scalars("loss")[0][-1]
        time.sleep(1.0)
        return int(before), int(trial.scalars("loss")[0][-1])

    until(lambda: len(set(at())) == 1)
    search.resume()
    until(lambda: search.status == "RUNNING" and trial.status == "RUNNING")
    search.pause()
    until(lambda: trial.status == "PAUSED")
    search.stop()  # from within the pause
    assert ended(search).status == "KILLED"


def late(rec: Any, config: dict[str, Any]) -> None:
    import pathlib

    while config["x"] > 1 and not pathlib.Path(config["gate"]).exists():
        time.sleep(0.02)
    for step in range(3):
        rec.log({"loss": config["x"]}, step=step)


@pytest.mark.parametrize("keep", [False, True])
def test_a_trial_that_is_kept_is_not_pruned(started: Start, tmp_path: Any, keep: bool) -> None:
    gate = tmp_path / "gate"
    search = started(late, {"x": [0.0, 0.1, 0.2, 0.3, 0.4, 9.0], "gate": [str(gate)]}, sampler="grid")
    last = until(lambda: [row for row in rows(search, "running") if row.params["x"] == 9.0])[0]
    if keep:
        search.keep_trial(last.number)
        until(lambda: any(event["kind"] == "keep_trial" for event in search.run.events()))
    gate.write_text("")
    ended(search)
    assert search.result().rows[last.number].state == ("complete" if keep else "pruned")


def test_ranges_of_options_are_checked_and_those_of_a_grid_are_fixed(started: Start) -> None:
    space = {"model_options.dropout": (0.0, 0.5), "epochs": (1, 2)}
    search = started(dls.Recipe(data="digits", epochs=1, device="cpu"), space, metric="val/loss", n_trials=1)
    with pytest.raises(DLStudioError, match="dropout"):
        search.set_range("model_options.dropout", 0.0, 1.5)
    with pytest.raises(DLStudioError, match="epochs"):
        search.set_range("epochs", 0, 2)
    grid = started(parabola, {"x": [0.0, 1.0], "n": (1, 2)}, n_trials=4, sampler="grid", pruner=None)
    with pytest.raises(DLStudioError, match="a grid, whose points are there from the start"):
        grid.set_range("n", 1, 1)
