"""The catalogue: every run as a plain MLflow run. The only module that talks to MLflow.

By default it is one SQLite file in the studio home, in WAL mode, made once under a lock; ``MLFLOW_TRACKING_URI``
points it at a team's server instead.
"""

from __future__ import annotations

import contextlib
import fcntl
import math
import os
import re
import sqlite3
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlparse

from dlstudio.tracking.home import find_home
from dlstudio.tracking.store import make_store

if TYPE_CHECKING:
    import pandas as pd
    from mlflow.tracking import MlflowClient

EXPERIMENT = "dlstudio"
MLFLOW_STATUS = {
    "QUEUED": "SCHEDULED",
    "RUNNING": "RUNNING",
    "PAUSED": "RUNNING",
    "FINISHED": "FINISHED",
    "FAILED": "FAILED",
    "KILLED": "KILLED",
}
_MAX_PARAM, _MAX_TAG, _MAX_KEY, _MAX_BATCH = 6000, 5000, 250, 1000

Point = tuple[str, float, int, int]
"""``(key, value, time in ms since the epoch, step)``."""


@dataclass(frozen=True, kw_only=True)
class Entry:
    """Where a run is found in the catalogue."""

    run_id: str
    experiment_id: str
    artifact_uri: str
    tracking_uri: str
    linked: bool

    def as_dict(self) -> dict[str, Any]:
        """JSON-able form."""
        return asdict(self)


def embedded_uri(home: Path) -> str:
    """The URI of the SQLite catalogue in a studio home."""
    return f"sqlite:///{home.absolute()}/mlflow.db"


def tracking_uri() -> str:
    """Return the URI of the MLflow store that runs are entered into; the store is there afterwards.

    It is for MLflow's own functions: ``MLFLOW_TRACKING_URI`` where that is set, else the store in the studio home.
    MLflow makes a store wherever it is pointed to, but two processes that do so at once get in each other's way.

    Example:
        >>> mlflow.set_tracking_uri(dls.tracking_uri())
    """
    catalogue = Catalogue(find_home())
    return str(catalogue.client.tracking_uri)


def mlflow_key(key: str) -> str:
    """A key as MLflow accepts it."""
    return re.sub(r"[^\w\-. :/]", "_", key)[:_MAX_KEY]


def flatten(config: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """A nested config as MLflow parameters, with dotted keys."""
    flat: dict[str, str] = {}
    for key, value in config.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping) and value:
            flat.update(flatten(value, f"{name}."))
        else:
            flat[mlflow_key(name)] = str(value)[:_MAX_PARAM]
    return flat


class Catalogue:
    """One MLflow tracking store.

    Args:
        home: the studio home.
        uri: the tracking URI; ``MLFLOW_TRACKING_URI``, else that of the SQLite file in the home, when None.
    """

    def __init__(self, home: Path, uri: str | None = None) -> None:
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")
        self.home = home
        self.uri = uri or os.environ.get("MLFLOW_TRACKING_URI") or embedded_uri(home)
        self.embedded = self.uri == embedded_uri(home)
        self._client: MlflowClient | None = None
        self._experiment: str | None = None

    @property
    def client(self) -> MlflowClient:
        """The MLflow client, connected on first use."""
        if self._client is None:
            from mlflow.tracking import MlflowClient

            if self.embedded:
                self._create_once()
            self._client = MlflowClient(tracking_uri=self.uri)
        return self._client

    def _create_once(self) -> None:
        # Concurrent first migrations of one file race in MLflow: one process at a time opens it first.
        from mlflow.tracking import MlflowClient

        path = self.home / "mlflow.db"
        with open(self.home / "mlflow.lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            make_store(path)
            self._experiment_of(MlflowClient(tracking_uri=self.uri))
            with contextlib.closing(sqlite3.connect(path)) as database:
                database.execute("PRAGMA journal_mode=WAL")

    def _experiment_of(self, client: MlflowClient) -> str:
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", EXPERIMENT)
        found = client.get_experiment_by_name(name)
        if found is not None:
            return str(found.experiment_id)
        location = (self.home / "artifacts").absolute().as_uri() if self.embedded else None
        return str(client.create_experiment(name, artifact_location=location))

    def create(self, folder: Path, info: Mapping[str, Any], status: str) -> Entry:
        """Enter a run: name, parameters, tags, and its folder as the artifact folder.

        Raises:
            mlflow.exceptions.MlflowException: the store refused.
        """
        from mlflow.entities import Param, RunTag

        client = self.client
        if self._experiment is None:
            self._experiment = self._experiment_of(client)
        tags = {
            "dlstudio.key": str(info["key"]),
            "dlstudio.kind": str(info["kind"]),
            "dlstudio.folder": str(folder),
            "dlstudio.status": status,
            "mlflow.user": str(info.get("user", "")),
            "mlflow.source.name": " ".join(map(str, info.get("command", [])))[:_MAX_TAG],
            "mlflow.source.type": "LOCAL",
            "dlstudio.host": str(info.get("host", "")),
            **{mlflow_key(key): str(value)[:_MAX_TAG] for key, value in (info.get("tags") or {}).items()},
        }
        run = client.create_run(
            self._experiment, start_time=int(info["created"] * 1e3), tags=tags, run_name=str(info["name"])
        )
        params = [Param(key, value) for key, value in flatten(info.get("config") or {}).items()]
        client.log_batch(run.info.run_id, params=params, tags=[RunTag("dlstudio.id", run.info.run_id)])
        if MLFLOW_STATUS[status] != "RUNNING":
            client.update_run(run.info.run_id, status=MLFLOW_STATUS[status])
        return Entry(
            run_id=run.info.run_id,
            experiment_id=self._experiment,
            artifact_uri=run.info.artifact_uri,
            tracking_uri=self.uri,
            linked=self._link(folder, run.info.artifact_uri),
        )

    def _link(self, folder: Path, artifact_uri: str) -> bool:
        """Make MLflow's artifact folder a link to the run's folder, where both are in the home."""
        if not self.embedded:
            return False
        target = Path(unquote(urlparse(artifact_uri).path))
        target.parent.mkdir(parents=True, exist_ok=True)
        target.symlink_to(os.path.relpath(folder, target.parent))
        return True

    def log_metrics(self, run_id: str, points: Iterable[Point]) -> None:
        """Add metric points; NaN and ±inf included."""
        from mlflow.entities import Metric

        metrics = [Metric(mlflow_key(key), value, time_ms, step) for key, value, time_ms, step in points]
        for start in range(0, len(metrics), _MAX_BATCH):
            self.client.log_batch(run_id, metrics=metrics[start : start + _MAX_BATCH])

    def set_status(self, run_id: str, status: str, *, reason: str | None, ended_s: float | None) -> None:
        """Set the status; with `ended_s` the run is over."""
        client = self.client
        client.set_tag(run_id, "dlstudio.status", status)
        client.set_tag(run_id, "dlstudio.reason", (reason or "")[:_MAX_TAG])
        if ended_s is not None:
            client.set_terminated(run_id, MLFLOW_STATUS[status], end_time=int(ended_s * 1e3))
        else:
            client.update_run(run_id, status=MLFLOW_STATUS[status])

    def set_tags(self, run_id: str, tags: Mapping[str, str]) -> None:
        """Set tags."""
        for key, value in tags.items():
            self.client.set_tag(run_id, mlflow_key(key), value[:_MAX_TAG])

    def upload(self, run_id: str, folder: Path) -> None:
        """Copy a run's folder into a store that does not link to it."""
        self.client.log_artifacts(run_id, str(folder))

    def find(self, **filters: str) -> pd.DataFrame:
        """Runs in the store that dlstudio recorded, from any machine, as MLflow returns them."""
        import pandas as pd

        found = self.client.search_runs(
            [self._experiment or self._experiment_of(self.client)],
            filter_string=" and ".join(f"tags.`{key}` = '{value}'" for key, value in filters.items()),
            max_results=5000,
        )
        rows = [
            {
                "id": run.info.run_id,
                "name": run.info.run_name,
                "key": run.data.tags.get("dlstudio.key"),
                "kind": run.data.tags.get("dlstudio.kind", "mlflow"),
                "status": run.data.tags.get("dlstudio.status", run.info.status),
                "created": run.info.start_time / 1e3,
                "ended": run.info.end_time / 1e3 if run.info.end_time else math.nan,
                "config": run.data.params,
                "latest": run.data.metrics,
            }
            for run in found
        ]
        return pd.DataFrame(rows)
