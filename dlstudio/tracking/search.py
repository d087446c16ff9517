"""Runs of an MLflow store as plain values, whoever logged them: dlstudio, scikit-learn's autolog, Lightning."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dlstudio.errors import DLStudioError
from dlstudio.tracking.catalogue import Catalogue

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

__all__ = ["LoggedRun", "history", "logged_runs", "search"]

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
    digests: tuple[str, ...]


def search(home: Path, filter_string: str, most: int = 5000) -> list[LoggedRun]:
    """Return the runs of all experiments that an MLflow filter finds, the newest first.

    Args:
        home: the studio home, whose store is asked; ``MLFLOW_TRACKING_URI`` names another.
        filter_string: such as ``"params.model = 'mlp' and metrics.`val/auc` > 0.8"``.
        most: how many to return.

    Raises:
        DLStudioError: the filter cannot be read, or the store not be reached.

    Example:
        >>> [run.name for run in search(find_home(), "tags.variant = 'wide'")]
    """
    client = Catalogue(home).client
    try:
        experiments = {e.experiment_id: e.name for e in client.search_experiments(max_results=PAGE)}
        found: list[LoggedRun] = []
        token = None
        while len(found) < most:
            page = client.search_runs(list(experiments), filter_string, max_results=PAGE, page_token=token)
            found += [_plain(run, experiments) for run in page]
            token = page.token
            if not token:
                break
    except Exception as error:  # MLflow's own, and those of whatever the store is
        raise DLStudioError(
            "a filter that MLflow reads, and a store that answers",
            f"{filter_string!r}: {str(error)[:200]}",
            'Write for instance "params.model = \'mlp\'" or "metrics.`val/auc` > 0.8".',
        ) from error
    return found[:most]


def logged_runs(home: Path, run_ids: Iterable[str]) -> dict[str, LoggedRun]:
    """Return runs by their ids; those that the store does not have are left out."""
    client = Catalogue(home).client
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


def history(home: Path, run_id: str, key: str) -> list[float]:
    """Return every value that a run logged of a metric, in the order of steps."""
    client: MlflowClient = Catalogue(home).client
    points = client.get_metric_history(run_id, key)
    return [_value(point.value) for point in sorted(points, key=lambda point: (point.step, point.timestamp))]


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
        digests=tuple(sorted({str(one.dataset.digest) for one in sets})),
    )


def _value(value: float) -> float:
    return math.copysign(math.inf, value) if abs(value) > BEYOND else value
