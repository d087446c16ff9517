"""What a run ran in: versions, command, machine, and the code with its uncommitted changes.

Run as a module it captures the working directory it was started in, so that the run itself pays nothing.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

from dlstudio.tracking import detached

MAX_DIFF_BYTES = 5 * 2**20


def _git(*arguments: str) -> str | None:
    try:
        done = subprocess.run(["git", *arguments], capture_output=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.decode("utf-8", "replace") if done.returncode == 0 else None


def describe() -> dict[str, Any]:
    """Return versions of Python and packages, the machine, and the state of the git checkout."""
    packages = {dist.metadata["Name"]: dist.version for dist in metadata.distributions() if dist.metadata["Name"]}
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
    """Start `capture` of the current working directory in a process of its own."""
    # A run without this record is better than no run.
    with contextlib.suppress(OSError):
        detached.start("dlstudio.tracking.environment", str(folder))


if __name__ == "__main__":
    os.nice(5)
    capture(Path(sys.argv[1]))
