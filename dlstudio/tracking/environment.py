"""What a run ran in: versions, command, machine, and the code with its uncommitted changes.

Run as a module it captures the working directory it was started in, so that the run itself pays nothing.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import re
import subprocess
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

from dlstudio.tracking import detached

MAX_DIFF_BYTES = 5 * 2**20
MAX_CELLS_BYTES = 2**20
"""Of notebook cells that are kept with a run; the latest of more."""


def _git(*arguments: str, cwd: str | None = None) -> str | None:
    try:
        done = subprocess.run(["git", *arguments], capture_output=True, timeout=20, check=False, cwd=cwd)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.decode("utf-8", "replace") if done.returncode == 0 else None


def _packages() -> Iterator[tuple[str, str]]:
    """Names and versions of what is installed; `metadata` would read hundreds of whole descriptions as mails."""
    for distribution in metadata.distributions():
        text = distribution.read_text("METADATA") or distribution.read_text("PKG-INFO") or ""
        found = dict(re.findall(r"^(Name|Version): *(.+?) *$", text.partition("\n\n")[0], re.MULTILINE))
        if len(found) == 2:
            yield found["Name"], found["Version"]


def describe() -> dict[str, Any]:
    """Return versions of Python and packages, the machine, and the state of the git checkout."""
    packages = dict(_packages())
    commit = _git("rev-parse", "HEAD")
    changed = _git("status", "--porcelain")
    return {
        "python": sys.version.split()[0],
        "executable": sys.executable,
        "platform": platform.platform(),
        "n_cpus": os.cpu_count(),
        "packages": dict(sorted(packages.items(), key=lambda item: item[0].lower())),
        "git": None
        if commit is None
        else {
            "commit": commit.strip(),
            "branch": (_git("rev-parse", "--abbrev-ref", "HEAD") or "").strip(),
            "changed": (changed or "").splitlines()[:1000],
        },
    }


def capture(folder: Path) -> None:
    """Write ``environment.json`` and, in a git checkout with changes, ``code.diff`` into a run's folder."""
    description = describe()
    if description["git"] and description["git"]["changed"]:
        diff = _git("diff", "HEAD") or ""
        (folder / "code.diff").write_text(diff[:MAX_DIFF_BYTES])
    temporary = folder / ".environment.json"
    temporary.write_text(json.dumps(description, indent=1))
    temporary.replace(folder / "environment.json")


def capture_in_background(folder: Path) -> None:
    """Start `capture` of the current working directory in a process of its own; a notebook's cells are kept at once."""
    # A run without this record is better than no run.
    with contextlib.suppress(OSError):
        capture_cells(folder)
        detached.start("dlstudio.tracking.environment", str(folder))


def capture_cells(folder: Path) -> None:
    """Write ``cells.json``: what has been executed in this notebook so far, the running cell included.

    Nothing is written outside IPython. Of more than `MAX_CELLS_BYTES` the latest cells are kept.

    Raises:
        OSError: the folder cannot be written.
    """
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    if shell is None:
        return
    # `In[0]` is always empty: IPython counts cells from 1.
    executed = [(number, str(source)) for number, source in enumerate(shell.user_ns.get("In", ())) if number]
    kept: list[dict[str, Any]] = []
    room = MAX_CELLS_BYTES
    for number, source in reversed(executed):
        room -= len(source.encode("utf-8", "replace"))
        if room < 0:
            break
        kept.insert(0, {"number": number, "source": source})
    (folder / "cells.json").write_text(
        json.dumps({"cells": kept, "n_left_out": len(executed) - len(kept)}, indent=1), encoding="utf-8"
    )


def changed_between(cwd: str, commit: str, other: str) -> dict[str, tuple[int, int]] | None:
    """Return how many lines each file has more and less in `other`; None where git does not know the commits.

    Args:
        cwd: a folder of the checkout.
        commit, other: full names of commits.

    Example:
        >>> changed_between("/work", "1f0c...", "93ab...")
        {'train.py': (12, 3)}
    """
    if not all(re.fullmatch(r"[0-9a-f]{40,64}", name) for name in (commit, other)):
        return None
    told = _git("diff", "--numstat", "-z", "--no-renames", "--no-ext-diff", "--no-textconv", commit, other, cwd=cwd)
    if told is None:
        return None
    lines = (line.split("\t", 2) for line in told.split("\0") if line)
    # A binary file has "-" for its lines.
    return {path: (int(more) if more != "-" else 0, int(less) if less != "-" else 0) for more, less, path in lines}


if __name__ == "__main__":
    os.nice(5)
    capture(Path(sys.argv[1]))
