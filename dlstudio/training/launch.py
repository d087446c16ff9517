"""Starting a run in the background: the call returns at once, and closing the notebook does not touch it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from dlstudio.errors import DLStudioError
from dlstudio.runs import process
from dlstudio.runs.folder import QUEUED, RunFolder
from dlstudio.runs.run import Run, open_run
from dlstudio.runs.values import plain
from dlstudio.tracking import detached, environment
from dlstudio.training import job as jobs
from dlstudio.training.device import check_device
from dlstudio.training.job import Job, TrainFunction
from dlstudio.training.naming import check_names, run_name, run_tags
from dlstudio.training.recipe import Recipe


def launch(
    what: Recipe | TrainFunction | None = None,
    *,
    config: Mapping[str, Any] | None = None,
    name: str | None = None,
    resume: str | Run | None = None,
) -> Run:
    """Start training in the background and return at once.

    Afterwards the run exists, QUEUED until a device is free, and is found by its name from any process; a supervisor
    watches over it. Nothing that happens to this process, its notebook or its terminal touches the training.

    Args:
        what: a `Recipe`, or a function ``fn(rec, config)`` of one's own, which may be defined in a notebook cell.
        config: for a function, the settings passed to it.
        name: what to call the run; the recipe's name, or one made from its data and model.
        resume: a run that has ended, to continue from its last checkpoint; then `what` is left out.

    Returns:
        The run, with ``.status .wait() .stop() .pause() .resume() .checkpoint() .set(lr=…)``.

    Raises:
        DLStudioError: the device is not there, the function cannot be sent to another process, or the run to
            resume is live or has no checkpoint.

    Example:
        >>> run = dls.launch(dls.Recipe(data="mortgage", epochs=20))
        >>> run.set(lr=1e-4)
        >>> run.wait().status
        'FINISHED'
    """
    if resume is not None:
        if what is not None:
            raise DLStudioError(
                "either something to launch or a run to resume", "both", "A resumed run keeps its recipe."
            )
        return _resume(open_run(resume) if isinstance(resume, str) else resume)
    if isinstance(what, Recipe):
        check_names(what)
        check_device(what)
        job = Job(recipe=what)
        settings: dict[str, Any] = what.to_dict()
        title, tags = run_name(what, name), run_tags(what)
    elif callable(what):
        settings = plain(config or {})
        job = Job(function=what, config=dict(config or {}))
        title, tags = name or str(getattr(what, "__name__", "function")), {}
    else:
        raise DLStudioError(
            "a Recipe or a function fn(rec, config)", f"{what!r}", "For example dls.launch(dls.Recipe(epochs=5))."
        )
    packed = jobs.pack(job)
    folder = RunFolder.create(title, kind="launch", config=settings, tags=tags)
    packed.write(folder.path)
    environment.capture_in_background(folder.path)
    _start_supervisor(folder)
    return Run(folder)


def _start_supervisor(folder: RunFolder, *arguments: str) -> None:
    try:
        detached.start("dlstudio.training.supervisor", str(folder.path), *arguments, log=folder.path / "supervisor.log")
    except OSError as error:
        raise DLStudioError("a supervisor process", str(error), "Check memory and process limits.") from error


def _wait_for_the_last_supervisor(folder: RunFolder, timeout_s: float = 5.0) -> None:
    """It ends a moment after its run, and must have written its last word before the run goes on."""
    deadline = time.monotonic() + timeout_s
    while process.is_alive(folder.status.get("supervisor") or {}) and time.monotonic() < deadline:
        time.sleep(0.05)


def _resume(run: Run) -> Run:
    state = run.state()
    if not state.is_over:
        raise DLStudioError(
            "a run that has ended", f"{run.name!r}, which is {state.status}", "Use run.resume() for a paused one."
        )
    description = jobs.describe(run.folder)
    if description["kind"] != "recipe" or not (run.folder / "checkpoints" / "last.pt").exists():
        raise DLStudioError(
            "a recipe run with a checkpoint", f"{run.name!r}, which has none", "Launch it anew from the start."
        )
    folder = RunFolder(run.folder)
    _wait_for_the_last_supervisor(folder)
    folder.set_status(
        QUEUED,
        reason=None,
        traceback=None,
        exit_code=None,
        ended=None,
        supervisor=None,
        worker=None,
        control_offset=folder.commands(0)[1],  # what ended the run before is not asked of it again
    )
    folder.activate()
    _start_supervisor(folder, "--resume")
    return run
