"""The supervisor of one launched run: waits for a device, starts the trainer, and says how it ended.

A process of its own, detached and small: it imports neither torch nor MLflow.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from dlstudio.errors import DLStudioError
from dlstudio.runs import process, registrar
from dlstudio.runs.folder import FAILED, KILLED, QUEUED, TERMINAL, RunFolder, read_json
from dlstudio.runs.run import Run
from dlstudio.telemetry.machine import gpus
from dlstudio.tracking import detached
from dlstudio.training import job as jobs
from dlstudio.training.leases import device_environment, lease, wanted_devices

POLL_S = 0.3
STOP_PATIENCE_S = 60.0
"""A trainer that has not obeyed a stop after so long is terminated, and killed ten seconds later."""


class Supervisor:
    """Sees one run through, from the queue to its final status."""

    def __init__(self, folder: RunFolder, *, resume: bool) -> None:
        self.folder, self.resume = folder, resume
        self._offset = int(folder.status.get("control_offset", 0))
        self._stop_asked: float | None = None
        self._terminated = False

    def run(self) -> None:
        """Queue, train, and write the final status."""
        self.folder.set_status(QUEUED, supervisor=process.identity())
        registrar.ensure(self.folder.home)
        try:
            recipe = jobs.describe(self.folder.path).get("recipe") or {}
            device, count = str(recipe.get("device", "auto")), int(recipe.get("devices", 1))
            n_gpus = len(gpus()) if device != "cpu" else 0
            candidates = wanted_devices(device, os.environ.get("CUDA_VISIBLE_DEVICES"), n_gpus)
            on_gpu = bool(candidates) and candidates[0].startswith("cuda")
            held = lease(
                self.folder.home, candidates, count if on_gpu else 1, self.folder.key, waiting=self._wait_in_queue
            )
            if held is None:
                self._end(KILLED, "stopped while it was waiting for a device")
                return
            self.folder.set_status(QUEUED, reason=None, device=held.names)
            self._train(device_environment(held.names, device), count)
        except DLStudioError as error:
            self._end(FAILED, str(error))
        except Exception as error:
            self._end(FAILED, f"the supervisor failed: {type(error).__name__}: {error}")
            raise
        finally:
            registrar.ensure(self.folder.home)

    def _wait_in_queue(self, missing: str) -> bool:
        reason = f"waiting for {missing}"
        if self.folder.status.get("reason") != reason:
            self.folder.set_status(QUEUED, reason=reason)
        time.sleep(POLL_S)
        return not self._asked_to_stop()

    def _asked_to_stop(self) -> bool:
        commands, self._offset = self.folder.commands(self._offset)
        if self._stop_asked is None and any(command.get("command") == "stop" for command in commands):
            self._stop_asked = time.monotonic()
        return self._stop_asked is not None

    def _train(self, device_environment: dict[str, str], count: int) -> None:
        environment = {**detached.python_environment(), **device_environment}
        command = [*detached.python_of("dlstudio.training.trainer"), str(self.folder.path)]
        command += ["--resume"] if self.resume else []
        if count > 1:
            torchrun = [*detached.python_of("torch.distributed.run"), "--standalone", f"--nproc-per-node={count}"]
            command = [*torchrun, "--no-python", *command]
        with open(self.folder.path / "log.txt", "ab") as log:
            trainer = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment)
        oom_before = _host_oom_kills()
        while trainer.poll() is None:
            time.sleep(POLL_S)
            self._enforce_stop(trainer)
        self._conclude(trainer.returncode, _host_oom_kills() > oom_before)

    def _enforce_stop(self, trainer: subprocess.Popen[bytes]) -> None:
        if not self._asked_to_stop() or self._stop_asked is None:
            return
        waited = time.monotonic() - self._stop_asked
        if waited > STOP_PATIENCE_S + 10:
            trainer.kill()
        elif waited > STOP_PATIENCE_S and not self._terminated:
            self._terminated = True
            trainer.terminate()

    def _conclude(self, exit_code: int, host_oom: bool) -> None:
        status = self.folder.status
        if status.get("status") in TERMINAL:
            self.folder.set_status(exit_code=exit_code)
            return
        failed_rank = next(iter(sorted(self.folder.path.glob("rank*.error.json"))), None)
        if failed_rank is not None:
            error = read_json(failed_rank)
            self._end(FAILED, str(error.get("reason")), exit_code, traceback=error.get("traceback"))
        elif self._stop_asked is not None:
            self._end(KILLED, "stopped on request; it had to be terminated", exit_code)
        elif exit_code == -signal.SIGKILL and (host_oom or _memory_was_full(self.folder.path)):
            reason = "out of host memory: the system killed it. Use a smaller batch_size, data set or model."
            self._end(FAILED, reason, exit_code)
        elif exit_code < 0:
            name = signal.Signals(-exit_code).name
            crashed = name in {"SIGSEGV", "SIGBUS", "SIGILL", "SIGFPE", "SIGABRT"}
            reason = f"crashed with {name}" if crashed else f"killed from outside by {name}"
            self._end(FAILED if crashed else KILLED, f"{reason} (exit code {exit_code})", exit_code)
        else:
            lines = Run(self.folder).log_tail(1)
            self._end(FAILED, f"ended with exit code {exit_code}: {lines}", exit_code)

    def _end(self, status: str, reason: str, exit_code: int | None = None, **changes: Any) -> None:
        self.folder.set_status(status, reason=reason, ended=time.time(), exit_code=exit_code, **changes)


def _host_oom_kills() -> int:
    """How often the kernel has killed a process of this control group for want of memory."""
    with contextlib.suppress(OSError, ValueError):
        for line in Path("/sys/fs/cgroup/memory.events").read_text().splitlines():
            if line.startswith("oom_kill "):
                return int(line.split()[1])
    return 0


def _memory_was_full(folder: Path) -> bool:
    readings = Run(RunFolder(folder)).machine().get("ram_percent")
    return readings is not None and float(readings[1][-1]) > 95.0


if __name__ == "__main__":
    Supervisor(RunFolder(Path(sys.argv[1])), resume="--resume" in sys.argv[2:]).run()
