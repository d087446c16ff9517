"""Results saved with the run they are of, so that a look at one row does not take away what pages and reports show."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from dlstudio.errors import DLStudioError
from dlstudio.results import Result, load, save
from dlstudio.training import checkpoint

__all__ = ["keep"]

_R = TypeVar("_R", bound=Result)


def keep(result: _R, run_folder: Path, name: str, n_rows: Callable[[_R], int]) -> None:
    """Save a result as ``results/NAME.json``, unless one of more rows and of the same model is there.

    One of as many rows or more, or of a model that has been trained on since, replaces it.

    Args:
        result: of a run.
        run_folder: of that run.
        name: of the file.
        n_rows: counts the rows that a result of this kind is about.
    """
    folder = run_folder / "results"
    path = folder / f"{name}.json"
    try:
        trained = checkpoint.path_of(run_folder, "best").stat().st_mtime_ns
        there = load(path) if path.stat().st_mtime_ns >= trained else None
    except (DLStudioError, OSError):  # none is there, or none that this version reads
        there = None
    if not isinstance(there, type(result)) or n_rows(result) >= n_rows(there):
        save(result, folder, name)
