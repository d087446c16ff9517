"""What decides how a search goes, written once into its folder and read by all of its processes."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dlstudio.errors import DLStudioError
from dlstudio.runs.folder import RunFolder, read_json, write_json
from dlstudio.tuning.reach import is_url, without_password
from dlstudio.tuning.space import Space

__all__ = ["ITEM", "STOPPED", "Settings", "read_settings", "steering_of"]

_FILE, _STEERING = "search.json", "steering.json"
ITEM = "item"
"""The one parameter of a plan: which of its recipes is trained."""
STOPPED = "stopped on request"
"""The reason of a trial that somebody ended: it says nothing about its parameters."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How a search goes.

    Attributes:
        kind: ``"recipe"`` or ``"function"`` for a search, ``"plan"`` for a fixed list of recipes.
        name: what people call it, and the name of its study.
        metrics, directions: what is optimised, and ``"min"`` or ``"max"`` for each; a plan has none.
        space: what is searched, as `Space.to_json` writes it.
        sampler, pruner: names; with all of their arguments.
        constraints: by metric ``(low, high)``, None for an open end.
        n_trials: trials that the study is to have in all.
        workers: processes that train.
        timeout_s: no trial begins later than so many seconds after the start; None for no limit.
        storage: the URL or path of a shared study; None for the journal in the search's own folder.
        device: which device trials ask for.
        start: values that are tried first; None where there are none to begin with.
    """

    kind: str
    name: str
    metrics: tuple[str, ...]
    directions: tuple[str, ...]
    space: Mapping[str, Any]
    sampler: str = "tpe"
    sampler_arguments: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    pruner: str = "none"
    pruner_arguments: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    constraints: Mapping[str, tuple[float | None, float | None]] = dataclasses.field(default_factory=dict)
    n_trials: int
    workers: int = 1
    timeout_s: float | None = None
    seed: int = 0
    storage: str | None = None
    device: str = "auto"
    start: Mapping[str, Any] | None = None

    @property
    def is_plan(self) -> bool:
        """Whether the trials are a fixed list."""
        return self.kind == "plan"

    @property
    def is_listed(self) -> bool:
        """Whether all there is to try is known from the start, so that nothing else is suggested."""
        return self.is_plan or self.sampler == "grid"

    @property
    def has_lock(self) -> bool:
        """Whether the study is a file, which one process at a time can have to itself; a URL is no such thing."""
        return self.storage is None or not is_url(self.storage)

    def read_space(self) -> Space:
        """The space as it was at the start."""
        return Space.from_json(self.space)

    def storage_in(self, folder: Path) -> str:
        """Where the study lies."""
        return self.storage or str(folder / "journal.log")

    def write(self, folder: Path) -> None:
        """Write it into a search's folder; a password goes into a file of its owner's, beside all that is shared."""
        shown = None if self.storage is None else without_password(self.storage)
        if shown != self.storage:
            secret = _secret_of(folder)
            secret.parent.mkdir(mode=0o700, exist_ok=True)
            descriptor = os.open(secret, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with os.fdopen(descriptor, "w") as file:
                json.dump({"storage": self.storage}, file)
        write_json(folder / _FILE, dataclasses.asdict(self) | {"storage": shown})

    def config(self) -> dict[str, Any]:
        """What the search's run has as its settings."""
        plain = dataclasses.asdict(self)
        plain["space"] = self.read_space().described()
        plain["storage"] = "shared" if self.storage else "journal"  # a URL may hold a password
        return plain


def _secret_of(folder: Path) -> Path:
    """Outside the run's folder, which is uploaded and served as the artifacts of the run."""
    return RunFolder(folder).home / "secrets" / f"{folder.name}.json"


def read_settings(folder: Path) -> Settings:
    """Read the settings of a search.

    Raises:
        DLStudioError: the folder is not one of a search.
    """
    plain = read_json(folder / _FILE)
    if not plain:
        name = RunFolder(folder).info.get("name", folder.name)
        raise DLStudioError("a search", f"the run {name!r}, which is none", "Start one with dlstudio.tune(...).")
    tuples = {name: tuple(plain[name]) for name in ("metrics", "directions")}
    constraints = {name: tuple(limits) for name, limits in plain["constraints"].items()}
    secret = read_json(_secret_of(folder)) if plain["storage"] is not None else {}
    return Settings(**{**plain, **tuples, "constraints": constraints, **secret})


def is_search(folder: Path) -> bool:
    """Whether a run's folder is one of a search."""
    return (folder / _FILE).exists()


def steering_of(folder: Path) -> dict[str, Any]:
    """What the coordinator last told its workers: ``paused``, ``ending``, ``stopped`` and its own identity."""
    return read_json(folder / _STEERING)


def steer(folder: Path, **told: Any) -> None:
    """Tell the workers."""
    write_json(folder / _STEERING, told)
