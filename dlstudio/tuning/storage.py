"""Where a study lies and how it is read: Optuna's journal in the search's folder, or a storage shared by URL."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import random
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlparse

import optuna
from optuna.distributions import BaseDistribution
from optuna.pruners import BasePruner, MedianPruner, NopPruner, SuccessiveHalvingPruner
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.storages import BaseStorage, JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.study import Study
from optuna.trial import FrozenTrial

from dlstudio.errors import DLStudioError, unknown_name
from dlstudio.tuning.reach import answering, is_url, unusable

__all__ = [
    "Journal",
    "PRUNERS",
    "SAMPLERS",
    "Sampler",
    "asking",
    "in_optuna",
    "make_pruner",
    "open_storage",
    "open_study",
]

optuna.logging.set_verbosity(optuna.logging.WARNING)  # a search speaks through its runs, not on stderr

ATTEMPTS = 6

SAMPLERS: Mapping[str, Mapping[str, Any]] = {
    "tpe": {"n_startup_trials": 10, "n_ei_candidates": 24, "group": False, "constant_liar": True},
    "random": {},
    "grid": {},
}
"""Every argument that decides what is suggested, so that another default of another Optuna changes nothing.

That TPE suggests jointly for one metric, and one parameter after the other for several, is said by `Sampler`.
"""
PRUNERS: Mapping[str, Mapping[str, Any]] = {
    "median": {"n_startup_trials": 5, "n_warmup_steps": 0, "interval_steps": 1, "n_min_trials": 1},
    "halving": {"min_resource": 1, "reduction_factor": 4, "min_early_stopping_rate": 0, "bootstrap_count": 0},
    "none": {},
}


class Journal(JournalFileBackend):
    """Optuna's journal file, safe against processes that are killed at any moment.

    Optuna's own lock outlives its holder for 30 s, and the half line that a killed writer leaves makes the file
    unreadable for everyone. Here the kernel frees the lock, and the next writer cuts a half line off.

    Args:
        path: the file, made when it is missing; its folder is there.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(str(path))
        self._path = path

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Append operations, all or (after a kill) none of a line."""
        lines = "".join(json.dumps(log, separators=(",", ":")) + "\n" for log in logs).encode()
        with open(self._path, "r+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            end = file.seek(0, os.SEEK_END)
            file.seek(_end_of_last_line(file, end))
            file.truncate()
            file.write(lines)


def _end_of_last_line(file: Any, end: int) -> int:
    size = 256
    while end:
        start = max(0, end - size)
        file.seek(start)
        found = file.read(end - start).rfind(b"\n")
        if found >= 0:
            return int(start + found + 1)
        if not start:
            return 0
        size *= 16
    return 0


def open_storage(storage: str) -> BaseStorage:
    """Open a storage: the path of a journal file, a database URL, or ``grpc://host:port``.

    Raises:
        DLStudioError: it cannot be reached, or its driver is not installed.
    """
    try:
        if not is_url(storage):
            return JournalStorage(Journal(Path(storage)))
        parsed = urlparse(storage)
        if parsed.scheme == "grpc":
            return _grpc(parsed.hostname or "localhost", parsed.port or 13000)
        return _database(storage)
    except Exception as error:
        # Every driver fails with exceptions of its own.
        remedy = "Check the address, that the server runs, and that its driver is installed."
        if not is_url(storage):
            remedy = "Check that the folder of the path is there, and can be written."
        raise unusable("a study storage that can be opened", storage, error, remedy) from error


def _database(url: str) -> BaseStorage:
    arguments = {"connect_args": {"timeout": 60}} if url.startswith("sqlite") else {}
    for attempt in range(ATTEMPTS):
        try:
            return optuna.storages.get_storage(optuna.storages.RDBStorage(url, engine_kwargs=arguments))
        except Exception as error:
            # Whoever opens a new database makes its tables; of several at once all but one find them half made.
            told = str(error).lower()
            if attempt == ATTEMPTS - 1 or not any(word in told for word in ("already exists", "unique", "duplicate")):
                raise
            time.sleep(random.uniform(0.1, 0.5))
    raise AssertionError("unreachable")


def _grpc(host: str, port: int) -> BaseStorage:
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        proxy = optuna.storages.GrpcStorageProxy(host=host, port=port)
    proxy.wait_server_ready(timeout=10)
    return proxy


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    with open(path, "ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def asking(storage: str) -> AbstractContextManager[None]:
    """Hold everyone else off while a trial is asked for; a storage behind a URL has no such lock."""
    return contextlib.nullcontext() if is_url(storage) else _locked(Path(storage + ".asking"))


class Sampler(BaseSampler):
    """Suggests by the ranges as they are now, and the same for the same study and trial number.

    A fresh sampler is seeded for every trial from the search's seed and the trial's number. So workers that start
    together do not draw the same points, and a search that was killed goes on as if it had not been.

    Args:
        name: of `SAMPLERS`.
        seed: of the search.
        arguments: of the sampler.
    """

    def __init__(self, name: str, seed: int, arguments: Mapping[str, Any]) -> None:
        self._name, self._seed, self._arguments = name, seed, dict(arguments)
        self.space: dict[str, BaseDistribution] = {}
        """What is searched now; set before a trial is asked for."""
        self._inner: BaseSampler = RandomSampler(seed=seed)

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:
        """Make the sampler of one trial."""
        digest = hashlib.sha256(f"{self._seed} {trial.number}".encode()).digest()
        seed = int.from_bytes(digest[:4], "big")
        if self._name == "tpe":
            self._inner = TPESampler(seed=seed, multivariate=len(study.directions) == 1, **self._arguments)
        else:
            self._inner = RandomSampler(seed=seed)
        self._inner.before_trial(study, trial)

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """Return what is sampled jointly.

        Optuna would leave out a parameter for good once its range has changed.
        """
        if self._name != "tpe" or len(study.directions) > 1:
            return {}
        return {name: self.space[name] for name in sorted(self.space) if not self.space[name].single()}

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Suggest the parameters that are sampled jointly."""
        return self._inner.sample_relative(study, trial, search_space)

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """Suggest one parameter."""
        return self._inner.sample_independent(study, trial, param_name, param_distribution)


def make_pruner(name: str, arguments: Mapping[str, Any]) -> BasePruner:
    """Build a pruner of `PRUNERS`."""
    kinds: dict[str, type[Any]] = {"median": MedianPruner, "halving": SuccessiveHalvingPruner, "none": NopPruner}
    if name not in kinds:
        raise unknown_name("pruner", name, kinds)
    made: BasePruner = kinds[name](**arguments)
    return made


def in_optuna(directions: Sequence[str]) -> list[Literal["minimize", "maximize"]]:
    """Optuna's words for ``"min"`` and ``"max"``."""
    return ["minimize" if direction == "min" else "maximize" for direction in directions]


def open_study(
    storage: str,
    name: str,
    *,
    directions: Sequence[str],
    sampler: BaseSampler | None = None,
    pruner: BasePruner | None = None,
) -> Study:
    """Open a study, made when it is not there.

    Raises:
        DLStudioError: it cannot be reached or written, or exists with other directions.
    """
    opened = open_storage(storage)
    wanted, sampler, pruner = in_optuna(directions), sampler or RandomSampler(), pruner or NopPruner()
    try:
        with answering(storage):
            # This works also where nothing can be written.
            study = optuna.load_study(storage=opened, study_name=name, sampler=sampler, pruner=pruner)
    except KeyError:
        try:
            with asking(storage):
                study = optuna.create_study(
                    storage=opened,
                    study_name=name,
                    directions=wanted,
                    load_if_exists=True,
                    sampler=sampler,
                    pruner=pruner,
                )
        except Exception as error:
            remedy = "Check the disk, or the rights of the database's user."
            raise unusable("a study storage that can be written", storage, error, remedy) from error
    there = [direction.name.lower() for direction in study.directions]
    if there != wanted:
        raise DLStudioError(
            f"the study {name!r} with directions {wanted}", f"one with {there}", "Choose another name for the search."
        )
    return study
