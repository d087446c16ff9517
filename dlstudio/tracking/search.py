"""Runs of an MLflow store as plain values, whoever logged them: dlstudio, scikit-learn's autolog, Lightning."""

from __future__ import annotations

import atexit
import dataclasses
import functools
import math
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt

from dlstudio.errors import DLStudioError
from dlstudio.tracking.catalogue import Catalogue

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

__all__ = ["LoggedRun", "Points", "histories", "logged_runs", "search"]

Array: TypeAlias = npt.NDArray[np.float64]

PAGE = 1000
BEYOND = 1e300
"""MLflow stores infinities as the largest float."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class LoggedRun:
    """One run of the store.

    Attributes:
        run_id, name, experiment: as MLflow has them; the experiment's name.
        status: as dlstudio says it, or as MLflow does.
        params, tags: text by name; tags of MLflow's own start with ``mlflow.``.
        metrics: the latest value of each; NaN and infinities included.
        created, ended: seconds since the epoch; None while it goes on.
        last_step: the latest at which it logged a metric; None where it counted none.
        digests: of the data sets that were logged as its inputs.
    """

    run_id: str
    name: str
    experiment: str
    status: str
    params: Mapping[str, str]
    tags: Mapping[str, str]
    metrics: Mapping[str, float]
    created: float
    ended: float | None
    last_step: int | None
    digests: tuple[str, ...]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Points:
    """One metric of a run, each float64 (n,) in the order of steps; `times` in seconds since the epoch."""

    steps: Array
    values: Array
    times: Array


def search(home: Path, filter_string: str) -> list[LoggedRun]:
    """Return all runs of all experiments that an MLflow filter finds, the newest first.

    Args:
        home: the studio home, whose store is asked; ``MLFLOW_TRACKING_URI`` names another.
        filter_string: such as ``"params.model = 'mlp' and metrics.`val/auc` > 0.8"``.

    Raises:
        DLStudioError: the filter cannot be read, or the store not be reached.

    Example:
        >>> [run.name for run in search(find_home(), "tags.variant = 'wide'")]
    """
    client = _client(home)
    try:
        experiments = {one.experiment_id: one.name for one in _every(client.search_experiments)}
        runs = _every(functools.partial(client.search_runs, list(experiments), filter_string))
        return [_plain(run, experiments) for run in runs]
    except Exception as error:  # MLflow's own, and those of whatever the store is
        raise DLStudioError(
            "a filter that MLflow reads, and a store that answers",
            f"{filter_string!r}: {str(error)[:200]}",
            'Write for instance "params.model = \'mlp\'" or "metrics.`val/auc` > 0.8".',
        ) from error


def logged_runs(home: Path, run_ids: Iterable[str]) -> dict[str, LoggedRun]:
    """Return runs by their ids; those that the store does not have are left out."""
    client = _client(home)
    found: dict[str, LoggedRun] = {}
    experiments: dict[str, str] = {}
    for run_id in run_ids:
        try:
            run = client.get_run(run_id)
            where = run.info.experiment_id
            if where not in experiments:
                experiments[where] = client.get_experiment(where).name
        except Exception:  # not there, or not to be reached: the caller says which names it misses
            continue
        found[run_id] = _plain(run, experiments)
    return found


def histories(home: Path, run_ids: Sequence[str], key: str) -> dict[str, Points]:
    """Return every value that runs logged of a metric, by their ids; those that logged none are left out."""
    client = _client(home)
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:  # a server takes its time for each
        every = pool.map(lambda run_id: client.get_metric_history(run_id, key), run_ids)
        return {run_id: _points(found) for run_id, found in zip(run_ids, every, strict=True) if found}


def _points(found: Iterable[Any]) -> Points:
    in_order = sorted((one.step, one.timestamp / 1e3, _value(one.value)) for one in found)
    steps, times, values = np.array(in_order, dtype=np.float64).T
    return Points(steps=steps, values=values, times=times)


def _client(home: Path) -> MlflowClient:
    """A client to read with: a store that is there is whole, and needs no lock."""
    catalogue, path = Catalogue(home), home / "mlflow.db"
    try:
        if not (catalogue.embedded and path.exists()):
            return catalogue.client
        from mlflow.tracking import MlflowClient

        uri = catalogue.uri
        if not (os.access(home, os.W_OK) or path.with_name("mlflow.db-shm").exists()):
            # SQLite reads a log of changes only beside an index of it, which cannot be made here.
            uri = f"sqlite:///{_copied(path, path.stat().st_mtime_ns)}"
        return MlflowClient(tracking_uri=uri)
    except Exception as error:  # MLflow's own, and those of whatever the store is
        remedy = "Use a studio home that can be written, or a store that MLFLOW_TRACKING_URI names."
        raise DLStudioError("an MLflow store that can be read", str(error)[:200], remedy) from error


@functools.lru_cache(maxsize=4)
def _copied(path: Path, written: int) -> Path:
    folder = Path(tempfile.mkdtemp(prefix="dlstudio-store-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    for part in path.parent.glob("mlflow.db*"):
        shutil.copyfile(part, folder / part.name)  # not its mode, which forbids to write
    return folder / path.name


def _every(page_of: Callable[..., Any]) -> Iterator[Any]:
    """Ask page by page until there is no more."""
    token = None
    while True:
        page = page_of(max_results=PAGE, page_token=token)
        yield from page
        token = page.token
        if not token:
            return


def _plain(run: Any, experiments: Mapping[str, str]) -> LoggedRun:
    tags = dict(run.data.tags)
    sets = getattr(getattr(run, "inputs", None), "dataset_inputs", None) or ()
    return LoggedRun(
        run_id=run.info.run_id,
        name=run.info.run_name or run.info.run_id,
        experiment=experiments.get(run.info.experiment_id, ""),
        status=tags.get("dlstudio.status", run.info.status),
        params=dict(run.data.params),
        tags=tags,
        metrics={key: _value(value) for key, value in run.data.metrics.items()},
        created=(run.info.start_time or 0) / 1e3,
        ended=run.info.end_time / 1e3 if run.info.end_time else None,
        last_step=max((one.step for one in run.data.to_proto().metrics), default=0) or None,
        digests=tuple(sorted({str(one.dataset.digest) for one in sets})),
    )


def _value(value: float) -> float:
    return math.copysign(math.inf, value) if abs(value) > BEYOND else value
