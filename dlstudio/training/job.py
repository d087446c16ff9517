"""What a detached run is to do, written by `launch` and read by its trainer.

A recipe of names and numbers travels as JSON. Anything else (a function, a module, tensors) travels as a pickle that
the trainer only opens when it is exactly the one that `launch` wrote, for the same versions.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import platform
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from dlstudio.errors import DLStudioError
from dlstudio.runs.folder import read_json, write_json
from dlstudio.training.recipe import Recipe

TrainFunction = Callable[[Any, dict[str, Any]], object]


@dataclass(frozen=True, kw_only=True)
class Job:
    """Either a recipe to train by, or a function ``function(rec, config)`` to call."""

    recipe: Recipe | None = None
    function: TrainFunction | None = None
    config: Mapping[str, Any] | None = None


def versions() -> dict[str, str]:
    """The versions a pickle depends on."""
    return {
        "python": ".".join(platform.python_version_tuple()[:2]),
        "dlstudio": metadata.version("dlstudio") if _is_installed() else "source",
        "cloudpickle": metadata.version("cloudpickle"),
    }


def _is_installed() -> bool:
    try:
        metadata.version("dlstudio")
    except metadata.PackageNotFoundError:
        return False
    return True


@dataclass(frozen=True, kw_only=True)
class PackedJob:
    """A job ready to be written: its description, and a pickle where JSON cannot hold it."""

    description: dict[str, Any]
    pickle: bytes | None

    def write(self, folder: Path) -> None:
        """Write it into a run's folder, readable by nobody else."""
        if self.pickle is not None:
            descriptor = os.open(folder / "job.pkl", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(self.pickle)
        write_json(folder / "job.json", self.description)


def pack(job: Job) -> PackedJob:
    """Make a job ready to travel.

    Raises:
        DLStudioError: an object in it cannot be pickled.
    """
    plain = job.recipe is not None and job.recipe.is_plain
    data = None if plain else _pickle(job)
    description = {
        "schema": 1,
        "kind": "recipe" if job.recipe is not None else "function",
        "recipe": job.recipe.to_dict() if job.recipe is not None else None,
        "versions": versions(),
        "sys_path": [os.path.abspath(path) for path in sys.path],  # an empty one is the folder that we are in
        "sha256": None if data is None else hashlib.sha256(data).hexdigest(),
    }
    return PackedJob(description=description, pickle=data)


def _pickle(job: Job) -> bytes:
    import cloudpickle

    target: Any = job.function if job.function is not None else (job.recipe and job.recipe.model)
    module = sys.modules.get(getattr(target, "__module__", None) or type(target).__module__)
    by_value = module is not None and module.__name__ != "__main__" and not _importable(module.__name__)
    try:
        if by_value:
            cloudpickle.register_pickle_by_value(module)
        return bytes(cloudpickle.dumps(job))
    except Exception as error:
        # Pickling fails with whatever exception the user's object raises.
        raise DLStudioError(
            "a function, model and data that can be sent to another process",
            f"{type(error).__name__}: {error}",
            "Open files, locks and connections inside the function instead of outside it.",
        ) from error
    finally:
        if by_value:
            cloudpickle.unregister_pickle_by_value(module)


def _importable(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except (ImportError, ValueError):
        return False


def describe(folder: Path) -> dict[str, Any]:
    """What a job is without opening its pickle.

    Raises:
        DLStudioError: there is no job in the folder, or another version wrote it.
    """
    description = read_json(folder / "job.json")
    if not description:
        raise DLStudioError("a job in the run's folder", f"none in {folder}", "Only launched runs have one.")
    if description.get("sha256") and description["versions"] != versions():
        theirs, ours = (", ".join(f"{k} {v}" for k, v in d.items()) for d in (description["versions"], versions()))
        raise DLStudioError(f"a job pickled by {ours}", f"one by {theirs}", "Launch it anew with this version.")
    return description


def read(folder: Path) -> Job:
    """Read a job back.

    Raises:
        DLStudioError: another version wrote it, or its pickle is not the one that was written with it.
    """
    description = describe(folder)
    theirs = description["sys_path"]  # modules are found where they were found on launching, in that order
    sys.path[:] = [*theirs, *(path for path in sys.path if path not in theirs)]
    if description["sha256"] is None:
        return Job(recipe=Recipe.from_dict(description["recipe"]))
    path = folder / "job.pkl"
    data = path.read_bytes()
    if hashlib.sha256(data).hexdigest() != description["sha256"] or path.stat().st_uid != os.getuid():
        raise DLStudioError("the job.pkl that launch wrote", "another file", "It is not opened. Launch the run anew.")
    import cloudpickle

    job = cloudpickle.loads(data)
    if not isinstance(job, Job):
        raise DLStudioError("a Job in job.pkl", type(job).__name__, "Launch the run anew.")
    return job
