"""Searches from the call to the result."""

from __future__ import annotations

import dataclasses
import math
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest

from dlstudio.errors import DLStudioError
from dlstudio.results import load, save
from dlstudio.runs.folder import read_json
from dlstudio.runs.run import open_run
from dlstudio.training.fit import fit
from dlstudio.training.recipe import Recipe
from dlstudio.tuning.search import Search, open_search
from dlstudio.tuning.settings import Settings
from dlstudio.tuning.tune import _place, tune
from dlstudio.tuning.words import findings_of
from tests.tuning.conftest import ended
from tests.waiting import until

LOCK = threading.Lock()
Start = Callable[..., Search]
TINY = Recipe(data="mortgage", model="mlp", epochs=2, model_options={"hidden": [4]}, device="cpu")


def test_a_search_of_a_recipe_trains_what_fit_trains(started: Start) -> None:
    space = {"lr": (1e-3, 1e-1, "log"), "model_options.hidden": [[4], [6]]}
    search = ended(started(TINY, space, metric="val/loss", n_trials=3, name="tiny"))
    assert search.status == "FINISHED", search.reason
    result = search.result()
    assert [row.state for row in result.rows] == ["complete"] * 3
    assert result.rows[0].params == {"lr": TINY.lr, "model_options.hidden": [4]}  # the recipe itself comes first
    assert len({row.params["lr"] for row in result.rows}) == 3
    for row in result.rows:
        run = open_run(str(row.run))
        assert run.status == "FINISHED" and run.info["kind"] == "trial" and run.name == f"tiny-{row.number}"
        assert run.info["tags"] == {
            "seed": "0", "search": "tiny", "parent": search.key, "trial": str(row.number)
        }  # fmt: skip
        assert run.scalars("val/loss")[1][-1] == row.value and len(row.reports) == TINY.epochs
        assert (run.folder / "results" / "predictions.npz").exists()
        assert row.data == read_json(run.folder / "data.json")["fingerprint"]
    last = result.rows[2]
    alone = fit(
        TINY.replace(lr=last.params["lr"], model_options={"hidden": last.params["model_options.hidden"]}),
        progress=False,
    )
    assert alone.scalars("val/loss")[1].tolist() == open_run(str(last.run)).scalars("val/loss")[1].tolist()
    best = min(result.rows, key=lambda row: row.value)
    assert result.best == best and f"{best.value:.4g}" in " ".join(result.summary)
    assert search.run.scalars("best/val/loss")[1][-1] == best.value
    assert os.path.samefile(search.folder / "environment.json", open_run(str(last.run)).folder / "environment.json")

    from mlflow.tracking import MlflowClient

    client = MlflowClient(tracking_uri=f"sqlite:///{search.folder.parent.parent}/mlflow.db")
    search.wait(60)
    entry = until(lambda: read_json(open_run(str(last.run)).folder / "catalogue.json").get("entry"))
    assert client.get_run(entry["run_id"]).data.tags["mlflow.parentRunId"] == search.run.id


def moody(rec: Any, config: dict[str, Any]) -> None:
    kind = config["kind"]
    if kind == "raises":
        raise ValueError("no such thing")
    if kind == "exits":
        raise SystemExit(3)
    rec.log({"loss" if kind != "other" else "losss": {"nan": math.nan, "inf": math.inf}.get(kind, 1.0)})


def test_trials_fail_with_their_reason_and_the_search_goes_on(started: Start) -> None:
    kinds = ["good", "raises", "exits", "other", "nan", "inf", "fine"]
    search = ended(started(moody, {"kind": kinds}, sampler="grid"))
    assert search.status == "FINISHED"
    rows = {row.params["kind"]: row for row in search.result().rows}
    assert {kind: row.state for kind, row in rows.items() if row.state == "complete"} == {
        "good": "complete", "fine": "complete"
    }  # fmt: skip
    assert rows["raises"].reason == "ValueError: no such thing"
    assert rows["exits"].reason == "SystemExit: 3"
    assert "did not log 'loss'" in str(rows["other"].reason) and "'losss'" in str(rows["other"].reason)
    assert rows["nan"].reason == "loss was nan" and rows["inf"].reason == "loss was inf"
    assert [finding.code for finding in search.result().findings] == ["DLS521", "DLS524"]


def test_a_search_whose_first_five_trials_fail_ends_and_says_why(started: Start) -> None:
    search = ended(started(moody, {"kind": ["nan"], "x": (0.0, 1.0)}, n_trials=50))
    assert search.status == "FAILED"
    assert search.reason == "the first 5 trials all failed, each time: loss was nan"
    assert 5 <= len(search.trials) < 10


def test_a_search_whose_few_trials_all_fail_has_failed(started: Start) -> None:
    space = {"kind": ["nan"], "x": (0.0, 1.0)}
    search = ended(started(moody, space, n_trials=3, name="few"))
    assert (search.status, search.reason) == ("FAILED", "all 3 trials failed, each time: loss was nan")
    search = ended(started(moody, space, n_trials=1, name="one"))
    assert (search.status, search.reason) == ("FAILED", "its only trial failed: loss was nan")


def test_no_fewer_trials_are_asked_for_than_there_are(started: Start) -> None:
    search = ended(started(n_trials=3))
    with pytest.raises(DLStudioError, match="n_trials of 3 or more, as so many are there"):
        tune(resume=search, n_trials=2)


def test_a_home_that_became_read_only_is_told_on_resuming_and_still_read(
    started: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    search = ended(started(n_trials=3))

    def refuse(*args: Any, **kwargs: Any) -> Any:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(Settings, "write", refuse)
    monkeypatch.setattr("dlstudio.tuning.storage.asking", refuse)
    with pytest.raises(DLStudioError, match="a studio home that can be written"):
        tune(resume=search, n_trials=4)
    assert len(open_search(search.key).trials) == 3


def two(rec: Any, config: dict[str, Any]) -> None:
    x = config["x"]
    rec.log({"a/loss": x**2, "b/loss": (x - 1) ** 2, "size": 10 * x})


def test_several_metrics_give_a_front_and_constraints_leave_out(started: Start) -> None:
    search = ended(
        started(
            two, {"x": [-0.5, 0.0, 0.5, 1.0, 1.5]}, metric=["a/loss", "b/loss"], sampler="grid",
            constraints={"size": (None, 9.0)},
        )
    )  # fmt: skip
    result = search.result()
    assert result.directions == ("min", "min")
    assert {row.params["x"] for row in result.front} == {0.0, 0.5}  # 1.0 and 1.5 are too large
    assert {row.params["x"]: row.violations["size"] for row in result.rows} == {
        x: pytest.approx(10 * x - 9) for x in (-0.5, 0.0, 0.5, 1.0, 1.5)
    }
    study = result.to_study()
    assert {trial.params["x"] for trial in study.best_trials} == {0.0, 0.5}
    assert set(result.frame().columns) >= {"a/loss", "b/loss", "params.x", "feasible", "reason"}


def decaying(rec: Any, config: dict[str, Any]) -> None:
    for step in range(10):
        rec.log({"loss": config["x"] + 1 / (step + 1)}, step=step)


def test_trials_that_fall_behind_are_pruned(started: Start) -> None:
    values = [0.0, 0.1, 0.2, 0.3, 0.4, 5.0, 0.05]
    search = ended(started(decaying, {"x": values}, sampler="grid"))
    rows = {row.params["x"]: row for row in search.result().rows}
    assert rows[5.0].state == "pruned" and len(rows[5.0].reports) == 1
    assert "loss of 6" in str(rows[5.0].reason) and open_run(str(rows[5.0].run)).status == "KILLED"
    assert rows[0.05].state == "complete" and rows[0.05].value == pytest.approx(0.15)


def test_the_result_survives_and_becomes_a_study_of_optuna(started: Start, tmp_path: Path) -> None:
    search = ended(started(space={"x": (0.0, 1.0), "y": ["a", "b"]}, n_trials=12, seed=3))
    result = search.result()
    assert load(save(result, tmp_path, "search")) == result
    study = result.to_study()
    assert [trial.params for trial in study.trials] == [dict(row.params) for row in result.rows]
    assert study.best_value == min(row.value for row in result.rows) == result.best.value  # type: ignore[union-attr]
    assert next(iter(result.importance)) == "x" and sum(result.importance.values()) == pytest.approx(1)
    optuna.visualization.plot_optimization_history(study)
    assert [finding.code for finding in result.findings] == ["DLS524"]
    rows = tuple(
        dataclasses.replace(row, data="ab" if row.number < 4 else "cd", params={**row.params, "epochs": 1 + row.number})
        for row in result.rows
    )
    different = dataclasses.replace(result, rows=rows)
    data, epochs = findings_of(different, search.space)[:2]
    assert (data.code, epochs.code) == ("DLS525", "DLS526") and "1 to 12 epochs" in epochs.sentence
    assert data.evidence == {"ab": (0, 1, 2, 3), "cd": tuple(range(4, 12))} and "4 on ab; 8 on cd" in data.sentence
    frame = result.frame()
    assert frame.columns.tolist() == [
        "number", "state", "loss", "params.x", "params.y", "run", "started", "wall_s", "reason"
    ]  # fmt: skip
    assert np.allclose(frame["loss"], (frame["params.x"] - 0.3) ** 2) and (frame["wall_s"] > 0).all()
    assert open_search(search.name) == search and search.trials.equals(frame)


def test_no_trial_begins_after_the_time_is_up(started: Start) -> None:
    def nap(rec: Any, config: dict[str, Any]) -> None:
        time.sleep(0.3)
        rec.log({"loss": 1.0})

    search = ended(started(nap, n_trials=1000, timeout_s=3.0))
    assert search.status == "FINISHED"
    assert str(search.reason).startswith("its time was up before") and "of 1,000 trials had begun" in str(search.reason)
    told = (search.folder / "steering.json").stat().st_mtime  # when the worker was told that no trial is to begin
    begun = [row.started for row in search.result().rows]
    assert told >= search.run.info["created"] + 3.0
    assert sum(when > told for when in begun) <= 1  # one that was asked for in that very moment


def test_a_database_file_is_the_same_from_every_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for given, found in (
        ("sqlite:///s.db", f"sqlite:///{tmp_path}/s.db"),
        ("sqlite:///in/s.db?timeout=5", f"sqlite:///{tmp_path}/in/s.db?timeout=5"),
        ("sqlite:////data/s.db", "sqlite:////data/s.db"),
        ("postgresql://host/s.db", "postgresql://host/s.db"),
        ("s.log", f"{tmp_path}/s.log"),
    ):
        assert _place(given) == found


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"space": {"lrr": (0.1, 0.2)}}, "Did you mean 'lr'"),
        ({"space": None}, "at least one parameter"),
        ({"metric": "fitness"}, "direction"),
        ({"metric": []}, "name of a metric"),
        ({"metric": None}, "name of a metric"),
        ({"metric": ["val/loss", "val/loss"]}, "name of a metric"),
        ({"direction": "up"}, "direction"),
        ({"direction": ["min", "max"]}, "1 directions"),
        ({"direction": 1}, "direction"),
        ({"sampler": "tp"}, "Did you mean 'tpe'"),
        ({"sampler": ["tpe"]}, "sampler"),
        ({"sampler": "grid"}, "in a grid"),
        ({"sampler": "grid", "space": {"epochs": (1, 10_000_000)}}, "10,000 points, but got 10,000,000"),
        ({"what": two, "metric": "loss", "sampler": "grid", "space": dict.fromkeys("abcdefghij", [1, 2, 3])}, "10,000"),
        ({"pruner": "medain"}, "Did you mean 'median'"),
        ({"pruner": "medain", "metric": ["val/loss", "val/auc"]}, "Did you mean 'median'"),
        ({"n_trials": 0}, "n_trials"),
        ({"workers": 0}, "workers"),
        ({"seed": -1}, "seed"),
        ({"timeout_s": -1}, "timeout_s"),
        ({"constraints": {"size": (2, 1)}}, "highest size allowed"),
        ({"constraints": {"size": "small"}}, "highest size allowed"),
        ({"constraints": ["size"]}, "limits by metric"),
        ({"storage": 5}, "a URL or a path"),
        ({"storage": "sqlite://"}, "other processes can open"),
        ({"storage": "sqlite:///:memory:"}, "other processes can open"),
        ({"storage": "/no/such/folder/study.log"}, "the folder of the path"),
        ({"name": "two\nlines"}, "run name"),
        ({"what": None}, "a Recipe or a function"),
        ({"what": Recipe}, "a Recipe or a function"),
        ({"what": Recipe(model="mpl")}, "Did you mean 'mlp'"),
        ({"what": Recipe(devices=2)}, "devices"),
        ({"resume": "x"}, "both"),
        ({"what": lambda rec, config: LOCK.acquire()}, "another process"),
    ],
)
def test_what_is_wrong_is_told_before_anything_starts(fresh_home: Path, change: dict[str, Any], complaint: str) -> None:
    options: dict[str, Any] = {"what": TINY, "space": {"lr": (0.1, 0.2)}, **change}
    with pytest.raises(DLStudioError, match=complaint):
        tune(options.pop("what"), options.pop("space"), **options)
    assert not fresh_home.exists() or not list((fresh_home / "runs").iterdir())


def test_a_home_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("DLSTUDIO_HOME", str(tmp_path / "file" / "home"))
    with pytest.raises(DLStudioError, match="DLSTUDIO_HOME"):
        tune(TINY, {"lr": (0.1, 0.2)})


def test_another_run_is_no_search(studio_home: Path) -> None:
    import dlstudio as dls

    with dls.record("no-search"):
        pass
    with pytest.raises(DLStudioError, match=r"dlstudio\.open_run"):
        open_search("no-search")
