"""Every run is a plain MLflow run, as MLflow itself sees it."""

import math
import sqlite3
import subprocess
import sys
from importlib import metadata

import pytest
from mlflow.tracking import MlflowClient

from dlstudio.runs.recorder import record
from dlstudio.tracking import environment
from dlstudio.tracking.catalogue import Catalogue, flatten, mlflow_key
from tests.waiting import until


def told(run):
    """The run, once the catalogue knows how it ended; `wait` waits for that half a minute at most."""
    until(lambda: not (run.folder.parent.parent / "active" / run.key).exists())
    return run


def test_name_parameters_metrics_artifacts_and_status(studio_home):
    with record("plain run", config={"lr": 0.1, "model": {"width": 8}}, tags={"team": "vision"}) as rec:
        for step in range(30):
            rec.log({"loss": 1.0 / (step + 1), "layer/0.weight[x]": 2.0}, step=step)
        (rec.folder / "notes.txt").write_text("hello")
    run = told(rec.run.wait(60))
    client = MlflowClient(tracking_uri=f"sqlite:///{studio_home}/mlflow.db")
    found = client.get_run(run.id)
    assert found.info.run_name == "plain run" and found.info.status == "FINISHED"
    assert found.info.end_time >= found.info.start_time
    assert found.data.params == {"lr": "0.1", "model.width": "8"}
    assert found.data.tags["team"] == "vision" and found.data.tags["dlstudio.status"] == "FINISHED"
    assert found.data.metrics["loss"] == pytest.approx(1 / 30)
    assert found.data.metrics["layer/0.weight_x_"] == 2.0
    history = client.get_metric_history(run.id, "loss")
    assert 1 < len(history) <= 30 and all(p.value == pytest.approx(1 / (p.step + 1)) for p in history)
    artifacts = {item.path for item in client.list_artifacts(run.id)}
    assert {"telemetry", "notes.txt", "run.json"} <= artifacts
    assert "telemetry/scalars.000.arrows" in {i.path for i in client.list_artifacts(run.id, "telemetry")}
    from pathlib import Path

    copied = client.download_artifacts(run.id, "notes.txt")
    assert Path(copied).read_text() == "hello"


def test_failed_and_killed_are_told_with_their_reason(studio_home):
    with pytest.raises(ValueError, match="bad luck"), record("failing") as rec:
        raise ValueError("bad luck")
    run = told(rec.run.wait(60))
    found = MlflowClient(tracking_uri=f"sqlite:///{studio_home}/mlflow.db").get_run(run.id)
    assert found.info.status == "FAILED" and found.data.tags["dlstudio.reason"] == "ValueError: bad luck"


def test_nan_and_infinity_reach_mlflow(studio_home):
    with record() as rec:
        rec.log({"nan": math.nan, "inf": math.inf})
    run = told(rec.run.wait(60))
    metrics = MlflowClient(tracking_uri=f"sqlite:///{studio_home}/mlflow.db").get_run(run.id).data.metrics
    assert math.isnan(metrics["nan"]) and metrics["inf"] > 1e300


def test_the_database_is_in_wal_mode(studio_home):
    with record() as rec:
        pass
    told(rec.run.wait(60))
    with sqlite3.connect(studio_home / "mlflow.db") as database:
        assert database.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_processes_that_want_a_store_at_once_get_a_whole_one(fresh_home):
    """One of them is MLflow's own, which takes no lock: it must find a whole file or none."""
    ours = "import dlstudio as dls; print(dls.tracking_uri())"
    theirs = """
import pathlib, sys, time
from mlflow.tracking import MlflowClient
while not pathlib.Path(sys.argv[1]).exists():
    time.sleep(0.001)
print("Default" in {one.name for one in MlflowClient(f"sqlite:///{sys.argv[1]}").search_experiments()})
"""
    path = fresh_home / "mlflow.db"
    commands = [[sys.executable, "-c", ours], [sys.executable, "-c", ours], [sys.executable, "-c", theirs, str(path)]]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for command in commands]
    said = [process.communicate(timeout=120)[0].strip() for process in running]
    assert [process.returncode for process in running] == [0, 0, 0]
    # Whether dlstudio's own experiment is there already when MLflow looks is chance; MLflow's own has to be.
    assert said == [f"sqlite:///{path}"] * 2 + ["True"]
    assert {one.name for one in fresh_home.iterdir()} >= {"mlflow.db", "mlflow.lock"}
    assert not list(fresh_home.glob(".mlflow*"))


def test_a_team_store_is_respected_and_gets_the_files(fresh_home, tmp_path, monkeypatch):
    uri = f"sqlite:///{tmp_path}/team.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    monkeypatch.chdir(tmp_path)
    with record("shared") as rec:
        rec.log({"x": 1.0})
    run = told(rec.run.wait(60))
    client = MlflowClient(tracking_uri=uri)
    assert client.get_run(run.id).data.metrics == {"x": 1.0}
    assert "telemetry" in {item.path for item in client.list_artifacts(run.id)}
    assert not (fresh_home / "mlflow.db").exists()
    assert Catalogue(fresh_home).find(**{"dlstudio.key": run.key})["name"].tolist() == ["shared"]


def test_keys_and_parameters_are_made_to_fit():
    assert mlflow_key("a[0]é/b:c-d.e") == "a_0_é/b:c-d.e"
    assert len(mlflow_key("x" * 999)) == 250
    assert flatten({"a": {"b": {"c": 1}}, "d": [1, 2], "e": {}}) == {"a.b.c": "1", "d": "[1, 2]", "e": "{}"}


def test_the_environment_holds_versions_commit_and_uncommitted_changes(tmp_path, monkeypatch):
    repo = tmp_path / "repo"
    repo.mkdir()
    monkeypatch.chdir(repo)
    git = ["git", "-c", "user.name=x", "-c", "user.email=x@example.org"]
    (repo / "train.py").write_text("lr = 1\n")
    for command in (["init", "-q"], ["add", "."], ["commit", "-qm", "first"]):
        subprocess.run([*git, *command], check=True)
    (repo / "train.py").write_text("lr = 2\n")
    out = tmp_path / "run"
    out.mkdir()
    environment.capture(out)
    import json

    captured = json.loads((out / "environment.json").read_text())
    import torch

    assert captured["packages"]["torch"].split("+")[0] == torch.__version__.split("+")[0]
    assert captured["packages"] == {one.metadata["Name"]: one.version for one in metadata.distributions()}
    head = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
    assert captured["git"]["commit"] == head and captured["git"]["changed"] == [" M train.py"]
    assert "+lr = 2" in (out / "code.diff").read_text()
