"""The trainer of a launched run: one process, or one of several ranks under torchrun.

It imports torch and little else, so that the first step comes soon after the click.
"""

from __future__ import annotations

import os
import sys
import traceback
from pathlib import Path

from dlstudio.runs.folder import RunFolder, write_json
from dlstudio.runs.outcome import describe_error
from dlstudio.runs.recorder import Recorder
from dlstudio.training import job as jobs


def main(path: Path, *, resume: bool) -> None:
    """Do the job in a run's folder."""
    folder = RunFolder(path)
    rank = int(os.environ.get("RANK", "0"))
    if rank:
        _follow(path, rank, resume)
        return
    with Recorder(folder, resume_step=_resume_step(path) if resume else None) as recorder:
        job = jobs.read(path)
        if job.function is not None:
            job.function(recorder, dict(job.config or {}))
        elif job.recipe is not None:
            from dlstudio.training.loop import train

            train(job.recipe, recorder, progress="lines")


def _resume_step(path: Path) -> int:
    from dlstudio.training import checkpoint

    return int(checkpoint.read(checkpoint.path_of(path, "last"))["step"])


def _follow(path: Path, rank: int, resume: bool) -> None:
    """Train as a rank that records nothing; what goes wrong here is left for the supervisor to tell."""
    from dlstudio.training.loop import train

    try:
        recipe = jobs.read(path).recipe
        assert recipe is not None, "a function runs in one process"
        train(recipe, None, progress=False)
    except BaseException as error:
        text = traceback.format_exc()
        write_json(
            path / f"rank{rank}.error.json", {"reason": f"rank {rank}: {describe_error(error)}", "traceback": text}
        )
        raise


if __name__ == "__main__":
    main(Path(sys.argv[1]), resume="--resume" in sys.argv[2:])
