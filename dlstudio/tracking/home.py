"""The studio home: one folder with the catalogue and the runs, found the way git finds its repository."""

from __future__ import annotations

import os
from pathlib import Path

from dlstudio.errors import DLStudioError

FOLDER = ".dlstudio"


def find_home() -> Path:
    """Return the absolute path of the studio home, made if there is none.

    It is ``$DLSTUDIO_HOME``; else the nearest ``.dlstudio`` folder here or in a folder above; else ``./.dlstudio``.

    Raises:
        DLStudioError: the folder cannot be made.
    """
    named = os.environ.get("DLSTUDIO_HOME")
    here = Path.cwd()
    if named:
        home = Path(named).expanduser().absolute()
    else:
        found = (folder / FOLDER for folder in (here, *here.parents) if (folder / FOLDER).is_dir())
        home = next(found, here / FOLDER)
    try:
        (home / "runs").mkdir(parents=True, exist_ok=True)
        (home / "active").mkdir(exist_ok=True)
    except OSError as error:
        raise DLStudioError(
            "a studio home that can be written", f"{home} ({error.strerror})", "Set DLSTUDIO_HOME to a writable folder."
        ) from error
    return home
