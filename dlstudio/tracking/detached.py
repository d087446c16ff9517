"""Starting background processes that outlive whoever starts them."""

from __future__ import annotations

import os
import site
import subprocess
import sys
from pathlib import Path

_PACKAGE_PARENT = str(Path(__file__).resolve().parents[2])


def python_environment() -> dict[str, str]:
    """This process's environment, in which a new Python finds the same dlstudio."""
    environment = dict(os.environ)
    if _PACKAGE_PARENT not in site.getsitepackages():  # these are found anyway, behind the standard library
        paths = [_PACKAGE_PARENT, *filter(None, [environment.get("PYTHONPATH")])]
        environment["PYTHONPATH"] = os.pathsep.join(paths)
    return environment


def python_of(module: str) -> list[str]:
    """Return a command that runs a module of ours, whatever lies in the folder that it is run in.

    Python puts that folder first where it looks for modules, so that a user's ``re.py`` would stand in for its own.
    """
    return [sys.executable, "-P", "-m", module]


def start(module: str, *arguments: str, log: Path | None = None, cwd: Path | None = None) -> int:
    """Run ``python -m module arguments`` in a session of its own and return its process number.

    Args:
        module: dotted name of the module to run.
        arguments: its command line.
        log: file that its output is appended to; dropped when None.
        cwd: its working directory; this process's when None.

    Raises:
        OSError: the process cannot be started.
    """
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644) if log else os.open(os.devnull, os.O_WRONLY)
    try:
        process = subprocess.Popen(
            [*python_of(module), *arguments],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd=cwd,
            env=python_environment(),
            start_new_session=True,
        )
    finally:
        os.close(output)
    process.returncode = 0  # it outlives this process: nobody is to wait for it or to warn that it still runs
    return process.pid
