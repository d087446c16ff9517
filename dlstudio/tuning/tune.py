"""The verb `tune`: start a search in the background, or continue one."""

from __future__ import annotations

import dataclasses
import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from dlstudio.errors import DLStudioError, unknown_name
from dlstudio.training import job as jobs
from dlstudio.training.directions import direction_of
from dlstudio.training.job import Job
from dlstudio.training.recipe import Recipe
from dlstudio.tuning.pool import Plan, check_trainable, check_workers
from dlstudio.tuning.search import Search, open_search
from dlstudio.tuning.settings import Settings, read_settings
from dlstudio.tuning.start import create_folder, start_again, start_coordinator

__all__ = ["tune"]

N_TRIALS = 20
MAX_GRID = 10_000
Limits = Mapping[str, float | tuple[float | None, float | None]]


def tune(
    what: Recipe | Callable[[Any, dict[str, Any]], object] | None = None,
    space: Mapping[str, Any] | None = None,
    *,
    metric: str | Sequence[str] = "val/loss",
    direction: str | Sequence[str] | None = None,
    n_trials: int | None = None,
    workers: int | None = None,
    pruner: str | None = "median",
    sampler: str = "tpe",
    constraints: Limits | None = None,
    seed: int = 0,
    timeout_s: float | None = None,
    name: str | None = None,
    storage: str | Path | None = None,
    resume: str | Search | None = None,
) -> Search:
    """Search the values with which training goes best, in the background; returns at once.

    Afterwards every trial is a run of its own with full telemetry, whose parent is the search. Nothing that happens
    to this process touches the search; a worker that is killed loses its one trial (a point of a grid, or one that
    was enqueued, is tried once more), and a search that was stopped or killed goes on with ``tune(resume=name)``.
    Where the recipe's own values lie in the space, they are tried first.

    Args:
        what: a `Recipe`, or a function ``fn(rec, config)`` that logs the metric and gets the values as `config`.
        space: by name a list of choices, ``(low, high)`` of whole numbers or of floats, the same with ``"log"`` as the
            third, or an Optuna distribution. Names are recipe fields, or reach into options as
            ``"model_options.dropout"`` does.
        metric: what decides, by its last value (``"best/val/loss"`` for the best epoch's); several of them for a
            front. ``"wall_s"``, and ``"n_parameters"`` of a recipe, need not be logged.
        direction: ``"min"`` or ``"max"``, one a metric; told by the name when None.
        n_trials: trials of the study in all, 20 if None; for a grid all its points, 10,000 at most.
        workers: processes that train at once; 1 if None.
        pruner: ``"median"`` ends a trial that falls behind the median of those before it, ``"halving"`` runs a
            successive halving, None lets all of them go on. With several metrics none is pruned.
        sampler: ``"tpe"``, ``"random"`` or ``"grid"``.
        constraints: by metric the highest value allowed, or ``(lowest, highest)`` with None for an open end.
        seed: of the sampler; the same seed suggests the same values as long as one worker trains.
        timeout_s: no trial begins later than so many seconds after the start.
        name: what to call the search and its study.
        storage: shares the study with other machines: a database URL, ``grpc://host:port``, or the path of a journal
            file; machines that give the same storage and name work on one study. The journal lies in the search's own
            folder when None.
        resume: a search that is over, to continue; then only `n_trials`, `workers` and `timeout_s` may be given.

    Returns:
        The search, with ``.wait() .stop() .pause() .resume() .enqueue() .set_range() .stop_trial() .keep_trial()
        .add_workers() .trials .result()``.

    Raises:
        DLStudioError: the space names an unknown field or a range that the recipe does not allow, the storage cannot
            be reached or holds a study of that name that is searched otherwise, the home cannot be written, or the
            search to resume is going on.

    Example:
        >>> search = dls.tune(
        ...     dls.Recipe(data="mortgage", epochs=5),
        ...     {"lr": (1e-4, 1e-1, "log"), "batch_size": [32, 64, 128], "model_options.dropout": (0.0, 0.5)},
        ...     metric="val/auc", n_trials=30, workers=2)
        >>> search.wait().result().best
    """
    if resume is not None:
        if what is not None or space is not None:
            raise DLStudioError(
                "either something to search or a search to resume", "both", "A resumed search keeps its space."
            )
        _check_kept(
            metric=metric, direction=direction, pruner=pruner, sampler=sampler, constraints=constraints, seed=seed,
            name=name, storage=storage,
        )  # fmt: skip
        return _resume(resume, n_trials=n_trials, workers=workers, timeout_s=timeout_s)
    settings = _settings(
        what,
        space,
        metric=metric,
        direction=direction,
        n_trials=n_trials,
        workers=1 if workers is None else workers,
        pruner=pruner,
        sampler=sampler,
        constraints=constraints,
        seed=seed,
        timeout_s=timeout_s,
        name=name,
        storage=storage,
    )
    packed = jobs.pack(Job(recipe=what) if isinstance(what, Recipe) else Job(function=what))
    if settings.storage is not None:
        _share(settings, what)
    searched = {"what": what.to_dict()} if isinstance(what, Recipe) else {"what": settings.name}
    folder = create_folder(settings, kind="search", config=settings.config() | searched, tags={})
    packed.write(folder.path)
    return Search(start_coordinator(folder))


def _share(settings: Settings, what: Any) -> None:
    """Open the study that is shared, which fails here rather than later."""
    from dlstudio.tuning.paths import FIXED
    from dlstudio.tuning.storage import open_study
    from dlstudio.tuning.studies import agree

    assert settings.storage is not None
    study = open_study(settings.storage, settings.name, directions=settings.directions)
    recipe = what.to_dict() if isinstance(what, Recipe) else {}
    searched = {
        "metrics": settings.metrics,
        "constraints": settings.constraints,
        "space": settings.space,
        "recipe": {field: value for field, value in recipe.items() if field not in FIXED},
    }
    agree(study, searched)


def _check_kept(**given: Any) -> None:
    """Check that nothing is asked of a search to resume that it would not do."""
    default = inspect.signature(tune).parameters
    other = [name for name, value in given.items() if value != default[name].default]
    if other:
        raise DLStudioError(
            "only n_trials, workers and timeout_s for a search to resume",
            " and ".join(other),
            "It keeps the rest; start a new search for other settings.",
        )


def _settings(
    what: Any,
    space: Mapping[str, Any] | None,
    *,
    metric: str | Sequence[str],
    direction: str | Sequence[str] | None,
    n_trials: int | None,
    workers: int,
    pruner: str | None,
    sampler: str,
    constraints: Limits | None,
    seed: int,
    timeout_s: float | None,
    name: str | None,
    storage: str | Path | None,
) -> Settings:
    from dlstudio.tuning.begin import grid_size, starting_point
    from dlstudio.tuning.space import read_space
    from dlstudio.tuning.storage import PRUNERS, SAMPLERS

    if not isinstance(what, Recipe) and (not callable(what) or isinstance(what, type)):
        raise DLStudioError(
            "a Recipe or a function fn(rec, config)", repr(what), "For example dls.tune(dls.Recipe(), {...})."
        )
    recipe = what if isinstance(what, Recipe) else None
    if recipe is not None:
        check_trainable(recipe)
    read = read_space(space or {}, recipe)
    metrics = tuple(metric) if isinstance(metric, list | tuple) else (metric,)
    if not metrics or not all(isinstance(one, str) and one for one in metrics) or len(set(metrics)) < len(metrics):
        raise DLStudioError("the name of a metric, or several", repr(metric), "For example metric='val/auc'.")
    pruner = "none" if pruner is None else pruner
    for kind, chosen, known in (("sampler", sampler, SAMPLERS), ("pruner", pruner, PRUNERS)):
        if not isinstance(chosen, str) or chosen not in known:
            raise unknown_name(kind, chosen, known)
    pruner = pruner if len(metrics) == 1 else "none"
    if constraints is not None and not isinstance(constraints, Mapping):
        raise DLStudioError("limits by metric", repr(constraints), "For example {'n_parameters': 1e6}.")
    n_trials = None if n_trials is None else _check_trials(n_trials)
    if sampler == "grid":
        n_trials = _in_grid(n_trials, grid_size(read))
    return Settings(
        kind="function" if recipe is None else "recipe",
        name=name or _name_of(what),
        metrics=metrics,
        directions=_directions(metrics, direction),
        space=read.to_json(),
        sampler=sampler,
        sampler_arguments=dict(SAMPLERS[sampler]),
        pruner=pruner,
        pruner_arguments=dict(PRUNERS[pruner]),
        constraints={key: _limits(key, given) for key, given in (constraints or {}).items()},
        n_trials=N_TRIALS if n_trials is None else n_trials,
        workers=check_workers(workers),
        timeout_s=_check_timeout(timeout_s),
        seed=_check_seed(seed),
        storage=_place(storage),
        device="auto" if recipe is None else recipe.device,
        start=None if recipe is None else starting_point(read, recipe),
    )


def _name_of(what: Any) -> str:
    if not isinstance(what, Recipe):
        return f"{getattr(what, '__name__', 'function').strip('<>')}-search"
    from dlstudio.training.naming import run_name

    return f"{run_name(what).removesuffix(f'-s{what.seed}')}-search"


def _directions(metrics: tuple[str, ...], direction: str | Sequence[str] | None) -> tuple[str, ...]:
    given: list[Any] = list(direction) if isinstance(direction, list | tuple) else [direction] * len(metrics)
    if len(given) != len(metrics):
        raise DLStudioError(
            f"{len(metrics)} directions, one a metric", repr(direction), "Give 'min' or 'max' for each."
        )
    return tuple(direction_of(metric, one) for metric, one in zip(metrics, given, strict=True))


def _limits(name: str, given: Any) -> tuple[float | None, float | None]:
    pair = given if isinstance(given, tuple | list) else (None, given)
    ends = [end for end in pair if end is not None]
    numbers = all(isinstance(end, int | float) and not isinstance(end, bool) and math.isfinite(end) for end in ends)
    if len(pair) != 2 or not ends or not numbers or (len(ends) == 2 and ends[0] > ends[1]):
        raise DLStudioError(
            f"the highest {name} allowed, or (lowest, highest)", repr(given), f"For example {{{name!r}: 0.1}}."
        )
    low, high = (None if end is None else float(end) for end in pair)
    return low, high


def _place(storage: str | Path | None) -> str | None:
    from dlstudio.tuning.reach import is_url

    if storage is None:
        return None
    if not isinstance(storage, str | Path) or not str(storage):
        raise DLStudioError("a URL or a path as the storage", repr(storage), "Leave it out for one machine.")
    if not is_url(str(storage)):
        return str(Path(storage).expanduser().absolute())
    scheme, _, rest = str(storage).partition("://")
    if not scheme.startswith("sqlite"):
        return str(storage)
    path, mark, options = rest.removeprefix("/").partition("?")
    if path in ("", ":memory:"):
        raise DLStudioError("a database that other processes can open", repr(storage), "Name a file: sqlite:///s.db.")
    found = path if path.startswith("file:") else Path(path).absolute()  # the same from every folder
    return f"{scheme}:///{found}{mark}{options}"


def _in_grid(n_trials: int | None, n_points: int) -> int:
    n = n_points if n_trials is None else min(n_trials, n_points)
    if n > MAX_GRID:
        raise DLStudioError(f"a grid of at most {MAX_GRID:,} points", f"{n:,}", "Give n_trials, or use 'tpe'.")
    return n


def _check_trials(n_trials: int) -> int:
    if not isinstance(n_trials, int) or isinstance(n_trials, bool) or n_trials < 1:
        raise DLStudioError("n_trials to be a whole number of 1 or more", repr(n_trials), "Try n_trials=20.")
    return n_trials


def _check_seed(seed: int) -> int:
    if not isinstance(seed, int) or isinstance(seed, bool) or seed < 0:
        raise DLStudioError("seed to be a whole number of 0 or more", repr(seed), "Try seed=0.")
    return seed


def _check_timeout(timeout_s: float | None) -> float | None:
    if timeout_s is None:
        return None
    if isinstance(timeout_s, bool) or not isinstance(timeout_s, int | float) or not timeout_s > 0:
        raise DLStudioError("timeout_s to be above 0", repr(timeout_s), "Leave it out for no limit.")
    return float(timeout_s)


def _resume(which: str | Search, *, n_trials: int | None, workers: int | None, timeout_s: float | None) -> Search:
    search = open_search(which)
    if isinstance(search, Plan):
        raise DLStudioError("a search", repr(search), "Continue an ablation with dlstudio.ablate(resume=name).")
    from dlstudio.tuning.begin import grid_size
    from dlstudio.tuning.storage import open_study

    settings = read_settings(search.folder)
    if settings.storage is not None:
        open_study(settings.storage, settings.name, directions=settings.directions)  # fails here rather than later
    n_there = sum(row.state not in ("waiting", "lost") for row in search.result(importance=False).rows)
    if n_trials is not None and _check_trials(n_trials) < n_there:
        raise DLStudioError(
            f"n_trials of {n_there} or more, as so many are there", repr(n_trials), "It counts them all."
        )
    changes: dict[str, Any] = {"timeout_s": _check_timeout(timeout_s)}
    if n_trials is not None:
        changes["n_trials"] = _check_trials(n_trials)
        if settings.sampler == "grid":
            changes["n_trials"] = _in_grid(n_trials, grid_size(settings.read_space()))
    if workers is not None:
        changes["workers"] = check_workers(workers)
    return Search(start_again(search.run, dataclasses.replace(settings, **changes)))
