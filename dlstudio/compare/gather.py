"""Runs to compare, as plain values: those of the studio home from their files, any other from MLflow."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from dlstudio.compare.found import found_of
from dlstudio.errors import DLStudioError, unknown_name
from dlstudio.runs.folder import RunFolder, read_json
from dlstudio.runs.run import Run
from dlstudio.tracking.home import find_home

__all__ = ["Gathered", "gather", "names_of", "of_home"]

TWICE, NEWER = "listed twice", "has the same seed"
"""Why a run was left out that repeats another."""
PLANS = ("search", "ablation", "plan")
"""Kinds of runs that train nothing themselves: the runs they planned are the ones to compare."""
PLANNED = "trained nothing itself: it planned others"
MLFLOW = "mlflow:"
MEASURED_FILE = "measures.json"
"""What `dls.measure` keeps with a run."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Gathered:
    """One run, whoever logged it.

    Attributes:
        key: the name of its folder, or its MLflow id.
        name, status, reason: as people call it; how it stands and why.
        config, tags: settings by name, nested ones with dotted names; words about it.
        metrics: the latest value of each.
        measures: latency, size and the like, where they were measured.
        n_steps: optimiser steps, or what another tool counted its metrics by; None where unknown, as what others
            count is beside runs of dlstudio.
        fingerprint, data: of the data it was trained on, and their name; "" where unknown. A fingerprint that MLflow
            took begins with ``mlflow:``: it says nothing beside one that dlstudio took.
        created: seconds since the epoch.
        folder: of a run of this home; None for any other, whose key is an MLflow id.
    """

    key: str
    name: str
    status: str
    reason: str = ""
    config: Mapping[str, Any]
    tags: Mapping[str, str]
    metrics: Mapping[str, float]
    measures: Mapping[str, float] = dataclasses.field(default_factory=dict)
    n_steps: int | None = None
    fingerprint: str = ""
    data: str = ""
    created: float = 0.0
    folder: Path | None = None


def gather(what: Any) -> tuple[list[Gathered], list[tuple[str, str]]]:
    """Return the runs that are meant, oldest first as far as nobody ordered them, and what was left out with why.

    Args:
        what: None for all runs of the home; an MLflow filter; or a sequence of runs, names, keys or MLflow ids, or of
            what this function returned, which is not read anew.

    Raises:
        DLStudioError: a name is unknown, the filter cannot be read, or there is nothing.
    """
    home = find_home()
    left_out: list[tuple[str, str]] = []
    if what is None:
        trained = (folder for folder in _folders(home) if folder.info.get("kind") not in PLANS)
        found = sorted((of_home(folder) for folder in trained), key=lambda one: one.created)
        remedy = "Train one with dls.fit, or pass values: {'A': [0.81, 0.79], 'B': [0.83, 0.85]}."
    elif isinstance(what, str):
        from dlstudio.tracking.search import search

        logged = search(home, what)
        left_out = [(one.name, PLANNED) for one in logged if _plans(one)]
        found = sorted((_of_mlflow(one, home) for one in logged if not _plans(one)), key=lambda one: one.created)
        remedy = "Try the filter in MLflow, or pass None for all runs of the home."
    else:
        found, left_out = _named(what, home)
        remedy = "Pass runs, their names or their MLflow ids."
    if not found:
        raise DLStudioError("runs to compare", f"none in {home}" if what is None else f"none by {what!r}", remedy)
    if any(one.folder is not None for one in found):
        found = [one if one.folder is not None else dataclasses.replace(one, n_steps=None) for one in found]
    return found, left_out


def of_home(folder: RunFolder) -> Gathered:
    """Read a run of the home from its small files; its telemetry is not opened."""
    info, status = folder.info, folder.settle()
    facts = read_json(folder.path / "data.json")
    config = _flat(info.get("config") or {})
    return Gathered(
        key=folder.key,
        name=str(info.get("name", folder.key)),
        status=str(status.get("status", "QUEUED")),
        reason=str(status.get("reason") or ""),
        config=config,
        tags={str(key): str(value) for key, value in (info.get("tags") or {}).items()},
        metrics={key: float(value) for key, value in (status.get("latest") or {}).items() if value is not None},
        measures=_measures(folder.path, facts),
        n_steps=status.get("step"),
        fingerprint=str(facts.get("fingerprint", "")),
        data=str(facts.get("name") or config.get("data") or ""),
        created=float(info.get("created", 0.0)),
        folder=folder.path,
    )


def _folders(home: Path) -> list[RunFolder]:
    return [RunFolder(path) for path in (home / "runs").iterdir() if (path / "run.json").exists()]


def _measures(folder: Path, facts: Mapping[str, Any]) -> dict[str, float]:
    """What the model costs, as far as that was measured of these weights, and what saved results know of it."""
    found = {"n_parameters": float(facts["n_parameters"])} if "n_parameters" in facts else {}
    path, model = folder / "results" / MEASURED_FILE, folder / "checkpoints" / "best.pt"
    if path.exists() and not (model.exists() and model.stat().st_mtime_ns > path.stat().st_mtime_ns):
        kept = read_json(path).get("fields")
        for name, value in (kept if isinstance(kept, dict) else {}).items():
            if isinstance(value, int | float) and not isinstance(value, bool):
                found[name] = float(value)
    return found | found_of(folder)


def _plans(logged: Any) -> bool:
    return logged.tags.get("dlstudio.kind") in PLANS


def _of_mlflow(logged: Any, home: Path) -> Gathered:
    """A run of the store; what dlstudio recorded in this home is read from its folder, which knows more."""
    key = logged.tags.get("dlstudio.key", "")
    if key and (home / "runs" / key / "run.json").exists():
        return of_home(RunFolder(home / "runs" / key))
    tags = {name: value for name, value in logged.tags.items() if not name.startswith("mlflow.")}
    config = {name: _typed(value) for name, value in logged.params.items()}
    # Autologging writes what was trained into a tag; two estimators need not have one parameter in common.
    for name in ("estimator_name", "model"):
        if name in tags:
            config.setdefault(name, tags[name])
    return Gathered(
        key=logged.run_id,
        name=logged.name,
        status=logged.status,
        reason=logged.tags.get("dlstudio.reason", ""),
        config=config,
        tags=tags,
        metrics=logged.metrics,
        n_steps=logged.last_step,
        fingerprint=MLFLOW + "+".join(logged.digests) if logged.digests else "",
        data=str(config.get("data", "")),
        created=logged.created,
    )


def _named(what: Any, home: Path) -> tuple[list[Gathered], list[tuple[str, str]]]:
    if not isinstance(what, Run) and not hasattr(what, "__iter__"):
        raise _no_runs(what)
    items = [what] if isinstance(what, Run) else list(what)
    index = _index(home) if any(isinstance(item, str) for item in items) else {}
    chosen: list[Gathered | RunFolder | str] = []
    for item in items:
        if isinstance(item, Gathered):
            chosen.append(item)
        elif isinstance(item, Run):
            chosen.append(RunFolder(item.folder))
        elif isinstance(item, str):
            chosen.append(index.get(item, item))
        else:
            raise _no_runs(item)
    elsewhere = dict.fromkeys(item for item in chosen if isinstance(item, str))
    logged: Mapping[str, Any] = {}
    if elsewhere:
        looks = [name for name in elsewhere if len(name) == 32 and name.isalnum()]
        if looks:
            from dlstudio.tracking.search import logged_runs

            logged = logged_runs(home, looks)
        missing = next((name for name in elsewhere if name not in logged), None)
        if missing is not None:
            raise unknown_name("run", missing, {str(folder.info.get("name")) for folder in _folders(home)})
    found: list[Gathered] = []
    left_out: list[tuple[str, str]] = []
    seen: set[str] = set()
    for one in chosen:
        run = one if isinstance(one, Gathered) else _read(one, home, logged)
        if run.key in seen:
            left_out.append((run.name, TWICE))
        else:
            seen.add(run.key)
            found.append(run)
    return found, left_out


def _read(one: RunFolder | str, home: Path, logged: Mapping[str, Any]) -> Gathered:
    return _of_mlflow(logged[one], home) if isinstance(one, str) else of_home(one)


def _no_runs(item: Any) -> DLStudioError:
    return DLStudioError(
        "runs, names of runs or MLflow ids",
        f"{item!r:.80} of type {type(item).__name__}",
        "Pass for instance dls.compare(['run-a', 'run-b']), or values as a mapping of variant to numbers.",
    )


def _index(home: Path) -> dict[str, RunFolder]:
    """Folders by name (of several, the latest), key and MLflow id, in one pass."""
    every = [(folder.info, folder) for folder in _folders(home)]
    every.sort(key=lambda pair: float(pair[0].get("created", 0.0)))
    named = {str(info.get("name")): folder for info, folder in every}
    ids = {
        str(entry["run_id"]): folder
        for _, folder in every
        if (entry := read_json(folder.path / "catalogue.json").get("entry"))
    }
    return named | ids | {folder.key: folder for _, folder in every}


def _flat(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value if isinstance(value, str | int | float | None) else json.dumps(value)
    return flat


def _typed(text: str) -> Any:
    """A parameter as what it was before MLflow made it text."""
    if text in ("None", "True", "False"):
        return {"None": None, "True": True, "False": False}[text]
    for kind in (int, float):
        try:
            number = kind(text)
        except ValueError:
            continue
        return number if math.isfinite(number) else text
    return text


def names_of(runs: Iterable[Gathered], part: str) -> Sequence[str]:
    """Names that any run has in its ``config``, ``tags``, ``metrics`` or ``measures``, sorted."""
    return sorted({name for run in runs for name in getattr(run, part)})
