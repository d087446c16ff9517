"""Results kept with the run they are of, where every face finds them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from dlstudio.errors import DLStudioError
from dlstudio.results import Result, load, save
from dlstudio.runs.run import Run, open_run

__all__ = ["keep", "kept"]

_R = TypeVar("_R", bound=Result)
_OF_THE_MODEL = ("checkpoints/best.pt", "results/predictions.npz")
"""Written whenever the run has a better model; what is older was found of another one."""


def keep(result: _R, name: str, *, folder: Path | None = None, n_rows: Callable[[_R], int] | None = None) -> _R:
    """Save a result as ``results/NAME.json`` of its run, in place of an earlier one.

    Args:
        result: of a run.
        name: of the file.
        folder: the run's folder; None finds it by the key in the result's attribute `run`, and saves nothing where that
            is empty.
        n_rows: counts the rows that a result of this kind is about. With it, a saved one of more rows and of the same
            model stays, so that a look at one row does not take away what pages and reports show.

    Returns:
        The result as it is.

    Example:
        >>> return keep(result, "fairness")
    """
    if folder is None:
        run = getattr(result, "run", "")
        if not run:
            return result
        folder = open_run(run).folder
    if n_rows is not None:
        there = _still_true(folder, name, type(result))
        if there is not None and n_rows(there) > n_rows(result):
            return result
    save(result, folder / "results", name)
    return result


def kept(run: Run, name: str, kind: type[_R]) -> _R | None:
    """Return what `keep` saved of a run; None where there is nothing, or nothing of the model as it is now.

    A result of another schema, of another kind, or older than the run's best model counts as nothing.

    Args:
        run: the run.
        name: of the file.
        kind: the class of the result.

    Example:
        >>> kept(run, "fairness", FairnessAudit)
    """
    return _still_true(run.folder, name, kind)


def _still_true(folder: Path, name: str, kind: type[_R]) -> _R | None:
    path = folder / "results" / f"{name}.json"
    try:
        written = path.stat().st_mtime_ns
        model = [folder / part for part in _OF_THE_MODEL if (folder / part).exists()]
        result = load(path) if all(part.stat().st_mtime_ns <= written for part in model) else None
    except (DLStudioError, OSError):
        return None
    return result if isinstance(result, kind) else None
