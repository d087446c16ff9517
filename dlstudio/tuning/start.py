"""Starting the coordinator of a search, the first time or again."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from dlstudio.errors import DLStudioError
from dlstudio.runs import process
from dlstudio.runs.folder import QUEUED, RunFolder
from dlstudio.runs.run import Run
from dlstudio.tracking import detached, environment
from dlstudio.tuning.settings import Settings

__all__ = ["create_folder", "start_again", "start_coordinator"]


def create_folder(settings: Settings, *, kind: str, config: Mapping[str, Any], tags: Mapping[str, str]) -> RunFolder:
    """Make the folder of a search, QUEUED until its coordinator takes it over.

    Raises:
        DLStudioError: the name is not usable, or the studio home cannot be written.
    """
    folder = RunFolder.create(settings.name, kind=kind, config=config, tags=tags)
    try:
        folder.set_status(QUEUED, worker=None)  # it belongs to its coordinator, and not to this process
        settings.write(folder.path)
    except OSError as error:
        raise _unwritable(error) from error
    return folder


def _unwritable(error: OSError) -> DLStudioError:
    return DLStudioError("a studio home that can be written", str(error), "Check the disk.")


def start_coordinator(folder: RunFolder) -> Run:
    """Start the coordinator of a search whose folder is complete.

    Raises:
        DLStudioError: no process can be started.
    """
    environment.capture_in_background(folder.path)
    try:
        detached.start("dlstudio.tuning.coordinator", str(folder.path), log=folder.path / "log.txt")
    except OSError as error:
        raise DLStudioError("a coordinator process", str(error), "Check memory and process limits.") from error
    return Run(folder)


def start_again(run: Run, settings: Settings) -> Run:
    """Continue a search that is over, with other settings.

    Raises:
        DLStudioError: it is not over, or the studio home cannot be written.
    """
    state = run.state()
    if not state.is_over:
        raise DLStudioError(
            "a search that is over",
            f"{run.name!r}, which is {state.status}",
            "It is going on: use .resume() after a pause, .add_workers() for more processes.",
        )
    folder = RunFolder(run.folder)
    deadline = time.monotonic() + 5.0
    while process.is_alive(folder.status.get("worker") or {}) and time.monotonic() < deadline:
        time.sleep(0.05)  # its last coordinator ends a moment after the search
    try:
        settings.write(folder.path)
        folder.set_status(
            QUEUED,
            reason=None,
            traceback=None,
            ended=None,
            worker=None,
            control_offset=folder.commands(0)[1],  # what ended it before is not asked of it again
        )
        folder.activate()
    except OSError as error:
        raise _unwritable(error) from error
    return start_coordinator(folder)
