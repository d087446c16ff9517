"""Runs measurements in processes of their own, each in a home of its own, so that none can touch another."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import site
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

from dlstudio.bench.rows import NOT_INSTALLED, Outcome
from dlstudio.tracking.detached import python_environment

TIMEOUT_S = 600.0
MARK = "dlstudio-bench:"
"""Begins the line with the result; libraries print what they like around it."""


def _quiet(what: str) -> None:
    """Say nothing."""


@dataclass(frozen=True, kw_only=True)
class Session:
    """How much is measured, and who is told.

    Attributes:
        scale: share of the full number of steps and points; anything below 1 is for a quick look only.
        rounds: how often each measurement is repeated.
        tell: is told what is going on.
    """

    scale: float = 1.0
    rounds: int = 3
    tell: Callable[[str], None] = _quiet

    def n(self, full: int, least: int = 1) -> int:
        """A number of steps or points at this scale."""
        return max(least, round(full * self.scale))

    def measure(self, module: str, /, **arguments: Any) -> Outcome:
        """Call ``measure(**arguments)`` of a benchmark module in a process and a home of its own, once."""
        home = tempfile.mkdtemp(prefix="dlstudio-bench-")
        try:
            return _in_process(module, arguments, home)
        finally:
            _remove(home)

    def compare(
        self,
        module: str,
        subjects: Mapping[str, Mapping[str, Any]],
        requires: Mapping[str, str] | None = None,
        label: str = "",
    ) -> dict[str, Outcome]:
        """Measure several subjects in turn, `rounds` times over, so that a slow minute meets all of them.

        Args:
            module: the benchmark module whose ``measure`` is called.
            subjects: name to arguments.
            requires: subject to the module that must be installed for it.
            label: what to tell is going on.

        Returns:
            What each subject gave; a subject that is not installed or fails is a reason in words.
        """
        needed = {name: other for name, other in (requires or {}).items() if name in subjects}
        failed = {name: NOT_INSTALLED for name, other in needed.items() if not installed(other)}
        found: dict[str, list[Mapping[str, float]]] = {name: [] for name in subjects}
        for number in range(1, self.rounds + 1):
            for name, arguments in subjects.items():
                if name in failed:
                    continue
                self.tell(f"{label or module}: {name}, round {number} of {self.rounds}")
                outcome = self.measure(module, **arguments)
                found[name] += outcome.rounds
                if outcome.reason is not None:
                    failed[name] = outcome.reason
        return {name: Outcome(rounds=found[name], reason=failed.get(name)) for name in subjects}


def n_threads() -> int:
    """How many threads PyTorch computes with on the CPU: 2, as in the budgets, unless ``OMP_NUM_THREADS`` says."""
    return int(os.environ.get("OMP_NUM_THREADS") or min(2, os.cpu_count() or 1))


def installed(module: str) -> bool:
    """Whether a module could be imported; it is not imported."""
    try:
        return find_spec(module) is not None
    except (ImportError, ValueError):
        return False


def _in_process(module: str, arguments: Mapping[str, Any], home: str) -> Outcome:
    process = subprocess.Popen(
        [sys.executable, "-m", "dlstudio.bench.worker", module, json.dumps(arguments)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=home,
        env=_environment(home),
        start_new_session=True,
        text=True,
        errors="replace",
    )
    try:
        output, errors = process.communicate(timeout=TIMEOUT_S)
    except subprocess.TimeoutExpired:
        reason = f"not done after {TIMEOUT_S:g} s"
        _end(process)
        return Outcome(reason=reason)
    except BaseException:
        _end(process)
        raise
    results = [line.removeprefix(MARK) for line in output.splitlines() if line.startswith(MARK)]
    if process.returncode or not results:
        said = [line.strip() for line in errors.splitlines() if line.strip()]
        return Outcome(reason=f"failed: {said[-1][:200] if said else f'exit code {process.returncode}'}")
    return Outcome(rounds=[json.loads(results[-1])])


def _end(process: subprocess.Popen[str]) -> None:
    """End a measurement and whatever it started in its own session."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


def _environment(home: str) -> dict[str, str]:
    environment = python_environment()
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_RUN_ID", "WANDB_API_KEY", "DLSTUDIO_HOME"):
        environment.pop(name, None)
    # Some peers write below ~, and the user's own packages are found through it.
    environment.setdefault("PYTHONUSERBASE", site.getuserbase())
    environment.setdefault("XDG_CACHE_HOME", os.path.expanduser("~/.cache"))
    return environment | {
        "HOME": home,
        "DLSTUDIO_HOME": os.path.join(home, ".dlstudio"),
        "WANDB_MODE": "offline",
        "WANDB_SILENT": "true",
        "WANDB_DIR": home,
        "TRACKIO_DIR": home,
        "HF_HUB_OFFLINE": "1",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "DO_NOT_TRACK": "true",
        "PYTHONWARNINGS": "ignore",
    }


def _remove(home: str) -> None:
    """Remove a home; background processes of the peers may still be writing their last words there."""
    deadline = time.monotonic() + 5
    while os.path.exists(home) and time.monotonic() < deadline:
        shutil.rmtree(home, ignore_errors=True)
        if os.path.exists(home):
            time.sleep(0.1)
