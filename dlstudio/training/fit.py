"""Training in this process, with a progress bar."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dlstudio.errors import DLStudioError
from dlstudio.training import checkpoint
from dlstudio.training.device import check_device
from dlstudio.training.loop import train
from dlstudio.training.naming import check_names, run_name, run_tags
from dlstudio.training.recipe import Recipe

if TYPE_CHECKING:
    from dlstudio.runs.run import Run

__all__ = ["fit", "train"]


def fit(
    recipe: Recipe | None = None,
    *,
    resume: Run | str | None = None,
    progress: bool = True,
    name: str | None = None,
) -> Run:
    """Train a recipe here and now, and return its run.

    Afterwards the run is recorded like any other: its curves, its checkpoints (`load_model`), the test
    metrics and predictions of its best weights. A module passed as `Recipe.model` is trained in place and
    holds those weights. The run can be watched and steered from elsewhere meanwhile; stopping it returns it
    with the status KILLED and a checkpoint, from which `resume` goes on bit by bit as if it had never
    stopped.

    Args:
        recipe: what to train; the default recipe when None, or that of the run to resume.
        resume: a run that ended before its time, or its name; a recipe given with it may have more epochs.
        progress: whether to show a bar.
        name: how to call the run; overrides the recipe's.

    Raises:
        DLStudioError: the recipe, its data or its model cannot be trained; `resume` is running, or has no
            whole checkpoint.

    Example:
        >>> run = fit(Recipe(data="mortgage", epochs=5))
        >>> run.scalars("val/accuracy")
    """
    if recipe is not None and not isinstance(recipe, Recipe):
        raise DLStudioError("a Recipe", type(recipe).__name__, "Write fit(Recipe(data=…, model=…)).")
    if resume is not None:
        return _resume(recipe, resume, progress)
    recipe = recipe or Recipe()
    check_names(recipe)
    _check_alone(recipe)
    from dlstudio.runs.folder import RunFolder
    from dlstudio.runs.recorder import Recorder
    from dlstudio.runs.values import plain
    from dlstudio.tracking import environment
    from dlstudio.training import job as jobs
    from dlstudio.training.job import Job

    folder = RunFolder.create(run_name(recipe, name), kind="fit", config=plain(recipe.to_dict()), tags=run_tags(recipe))
    if recipe.is_plain:
        jobs.pack(Job(recipe=recipe)).write(folder.path)  # so that `launch(resume=…)` can go on with it
    environment.capture_in_background(folder.path)
    return _train(recipe, Recorder(folder), progress)


def _resume(recipe: Recipe | None, resume: Run | str, progress: bool) -> Run:
    from dlstudio.runs.folder import RunFolder
    from dlstudio.runs.recorder import Recorder
    from dlstudio.runs.run import open_run

    run = open_run(resume) if isinstance(resume, str) else resume
    if not run.state().is_over:
        raise DLStudioError(
            "a run that is over",
            f"{run.name!r}, which is {run.status}",
            "Stop it first, or wait for its end.",
        )
    path = checkpoint.path_of(run.folder, "last")
    content = checkpoint.read(path)
    recipe = recipe or checkpoint.recipe_of(content, path)
    _check_alone(recipe)
    files = RunFolder(run.folder)
    files.set_status(control_offset=files.commands(0)[1])  # what ended the run before is not asked of it again
    return _train(recipe, Recorder(files, resume_step=int(content["step"])), progress)


def _check_alone(recipe: Recipe) -> None:
    if recipe.devices > 1:
        raise DLStudioError(
            "devices=1 for training in this process", f"devices={recipe.devices}", "Use dls.launch(recipe)."
        )
    check_device(recipe)


def _train(recipe: Recipe, recorder: Any, progress: bool) -> Run:
    with recorder:
        train(recipe, recorder, progress=progress)
    run: Run = recorder.run
    return run
