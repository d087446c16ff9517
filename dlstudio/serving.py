"""Start the browser programs, Streamlit apps and JupyterLab, on the loopback interface and nowhere else."""

from __future__ import annotations

import os
import shutil
import socket
import sys
from pathlib import Path
from typing import NoReturn

from dlstudio import shipped
from dlstudio.errors import DLStudioError, unknown_name
from dlstudio.tracking.detached import python_of
from dlstudio.tracking.home import find_home

__all__ = ["LOOPBACK", "app_command", "app_names", "become", "choose_port", "is_free", "lab_command"]

LOOPBACK = "127.0.0.1"
APP_PORT, LAB_PORT = 8501, 8888
TUTORIAL = "notebooks/tutorials/01-train-and-watch.ipynb"


def app_names() -> list[str]:
    """Names of the Streamlit apps that come with dlstudio."""
    return sorted(path.stem for path in shipped.path("apps").glob("*.py") if not path.stem.startswith("_"))


def app_command(name: str, port: int) -> list[str]:
    """Return the command line that serves an app on loopback.

    Args:
        name: one of `app_names()`.
        port: where to listen; see `choose_port`.

    Raises:
        DLStudioError: there is no such app.
    """
    if name not in app_names():
        raise unknown_name("app", name, app_names())
    options = {
        "server.address": LOOPBACK,
        "server.port": str(port),
        "server.headless": "true",
        "server.fileWatcherType": "none",
        "browser.gatherUsageStats": "false",
    }
    flags = [f"--{option}={setting}" for option, setting in options.items()]
    return [*python_of("streamlit"), "run", str(shipped.path(f"apps/{name}.py")), *flags]


def lab_command(port: int, *, browser: bool = True) -> list[str]:
    """Return the command line that opens the first tutorial in JupyterLab on loopback.

    In a checkout the tutorial itself is opened. From an installed package it is first copied to
    ``./dlstudio-tutorials``, because a tutorial is there to be changed; a copy that is already there stays.
    """
    notebook = shipped.path(TUTORIAL)
    if "_shipped" in notebook.parts:
        folder = Path.cwd() / "dlstudio-tutorials"
        folder.mkdir(exist_ok=True)
        for source in sorted(notebook.parent.glob("*.ipynb")):
            if not (folder / source.name).exists():
                shutil.copyfile(source, folder / source.name)
        notebook = folder / notebook.name
    command = [*python_of("jupyterlab"), str(notebook)]
    command += [f"--ServerApp.ip={LOOPBACK}", f"--ServerApp.port={port}", "--ServerApp.port_retries=0"]
    if not browser:
        command.append("--no-browser")
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        command.append("--allow-root")  # containers run as root; the server is on loopback and asks for its token
    return command


def choose_port(wanted: int | None, default: int) -> int:
    """Return a port of the loopback interface that is free now.

    Args:
        wanted: the port asked for; None takes `default` or the next free one above it.
        default: where the program usually listens.

    Raises:
        DLStudioError: the port asked for is taken or out of range.
    """
    if wanted is None:
        free = next((port for port in range(default, default + 100) if is_free(port)), None)
        if free is not None:
            return free
        raise DLStudioError(
            f"a free port from {default} to {default + 99}",
            "none",
            "Name one with --port, or close a server.",
        )
    if not 1 <= wanted <= 65535:
        raise DLStudioError("a port from 1 to 65535", str(wanted), f"Try --port {default}.")
    if not is_free(wanted):
        free = choose_port(None, default)
        raise DLStudioError("a free port", f"{wanted}, which is in use", f"Try --port {free}.")
    return wanted


def become(command: list[str]) -> NoReturn:
    """Replace this process by `command`, so that Ctrl-C and signals reach it directly.

    The studio home found from the current folder goes along, whatever folder the program works in.
    """
    environment = {**os.environ, "DLSTUDIO_HOME": str(find_home())}
    sys.stdout.flush()
    sys.stderr.flush()
    os.execve(command[0], command, environment)


def is_free(port: int) -> bool:
    """Whether a server could listen on this port of the loopback interface now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as servers do: TIME_WAIT is no obstacle
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
    return True
