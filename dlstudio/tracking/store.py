"""The MLflow store of a studio home: one SQLite file, whole from the moment it is there."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import sqlite3
import tempfile
from importlib import metadata
from pathlib import Path

__all__ = ["make_store"]


def make_store(path: Path) -> None:
    """Make an empty store, unless there is one.

    MLflow makes a store table by table, which takes seconds. So one is kept in the user's cache for each release of
    MLflow, and copied; whoever opens the path, also MLflow's own, finds a whole store or none.

    Raises:
        OSError: the folder cannot be written.
    """
    if path.exists():
        return
    new = path.with_name(f".mlflow-{secrets.token_hex(4)}.db")
    try:
        with tempfile.TemporaryDirectory(prefix="dlstudio-store-") as folder:
            shutil.copyfile(_kept(Path(folder)), new)
        with contextlib.closing(sqlite3.connect(new)) as store, store:
            # MLflow's own first experiment would keep its files where the copied store was made.
            place = str(path.parent.absolute() / "mlruns")
            store.execute("UPDATE experiments SET artifact_location = ? WHERE experiment_id = 0", (place,))
        with contextlib.suppress(FileExistsError):
            os.link(new, path)
    finally:
        new.unlink(missing_ok=True)


def _kept(folder: Path) -> Path:
    """An empty store that is kept; one made in a folder where there is none so far."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "dlstudio"
    kept = cache / f"mlflow-{metadata.version('mlflow')}.db"
    if kept.exists() and kept.stat().st_uid == os.getuid():
        return kept
    made = _made(folder)
    with contextlib.suppress(OSError):  # nothing can be kept here; it only takes longer
        cache.mkdir(parents=True, exist_ok=True)
        new = cache / f".{secrets.token_hex(4)}.db"
        shutil.copyfile(made, new)
        os.replace(new, kept)
    return made


def _made(folder: Path) -> Path:
    from mlflow.tracking import MlflowClient

    by_mlflow, whole = folder / "by-mlflow.db", folder / "whole.db"
    MlflowClient(tracking_uri=f"sqlite:///{by_mlflow}").search_experiments()
    # MLflow keeps its own open, and perhaps some of it beside the file.
    with contextlib.closing(sqlite3.connect(by_mlflow)) as source, contextlib.closing(sqlite3.connect(whole)) as target:
        source.backup(target)
    return whole
