"""An empty MLflow store: MLflow's own, wherever it was copied from."""

import sqlite3

import mlflow
import pytest
from mlflow.tracking import MlflowClient

from dlstudio.tracking.store import make_store


def schema(path):
    """Names, and columns of tables; MLflow writes constraints down in any order."""
    with sqlite3.connect(path) as store:
        names = sorted(store.execute("SELECT type, name FROM sqlite_master").fetchall())
        return [(kind, name, store.execute(f'PRAGMA table_info("{name}")').fetchall()) for kind, name in names]


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "dlstudio"


def test_a_copy_is_what_mlflow_makes(cache, tmp_path):
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        make_store(tmp_path / name / "mlflow.db")
    (kept,) = cache.iterdir()
    assert kept.name == f"mlflow-{mlflow.__version__}.db"
    MlflowClient(f"sqlite:///{tmp_path}/own.db").search_experiments()
    assert schema(tmp_path / "first" / "mlflow.db") == schema(tmp_path / "own.db") == schema(kept)
    for name in ("first", "second"):
        (default,) = MlflowClient(f"sqlite:///{tmp_path}/{name}/mlflow.db").search_experiments()
        assert (default.experiment_id, default.name) == ("0", "Default")
        assert default.artifact_location == str(tmp_path / name / "mlruns")
        assert [one.name for one in (tmp_path / name).iterdir()] == ["mlflow.db"]


def test_a_store_that_is_there_stays(cache, tmp_path):
    path = tmp_path / "mlflow.db"
    path.write_text("somebody's")
    make_store(path)
    assert path.read_text() == "somebody's" and not cache.exists()


def test_it_is_made_where_nothing_can_be_kept(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    make_store(tmp_path / "mlflow.db")
    assert len(MlflowClient(f"sqlite:///{tmp_path}/mlflow.db").search_experiments()) == 1
