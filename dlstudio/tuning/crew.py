"""The worker processes of one search, and the devices they train on."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Mapping
from functools import cached_property

from dlstudio.runs.folder import RunFolder
from dlstudio.telemetry.machine import gpus
from dlstudio.tracking import detached
from dlstudio.training.leases import Lease, device_environment, try_lease, wanted_devices

__all__ = ["Crew"]

STOP_PATIENCE_S = 60.0
"""A worker that has not obeyed a stop after so long is terminated, and killed ten seconds later."""


class Crew:
    """Workers of one search, each on the device that the fewest of the others use.

    Args:
        folder: of the search.
        device: which device trials ask for.

    Attributes:
        how: in which way processes ended, in words by their number.
    """

    def __init__(self, folder: RunFolder, device: str) -> None:
        self._folder, self._device = folder, device
        self._devices: dict[subprocess.Popen[bytes], str] = {}
        self._leases: list[Lease] = []
        self._terminated: set[int] = set()
        self.how: dict[int, str] = {}

    def __len__(self) -> int:
        return len(self._devices)

    @property
    def pids(self) -> set[int]:
        """Numbers of the workers that have not been seen to end."""
        return {worker.pid for worker in self._devices}

    @property
    def devices(self) -> list[str]:
        """Names of the devices that are held."""
        return [name for lease in self._leases for name in lease.names]

    @cached_property
    def _candidates(self) -> list[str]:
        n_gpus = len(gpus()) if self._device != "cpu" else 0
        return wanted_devices(self._device, os.environ.get("CUDA_VISIBLE_DEVICES"), n_gpus)

    def take_devices(self, n_workers: int) -> str:
        """Hold a device for each of so many workers, or as many as are free.

        Returns:
            What is waited for, in words; "" where at least one device is held.
        """
        missing = ""
        while not self._leases or len(self._leases) < min(n_workers, len(self._candidates)):
            others = [name for name in self._candidates if name not in self.devices]
            lease, missing = try_lease(self._folder.home, others, 1, self._folder.key)
            if lease is None:
                break
            self._leases.append(lease)
        return "" if self._leases else missing

    def start(self, n_workers: int) -> None:
        """Start one more worker, which is to share the processor with so many in all."""
        taken = list(self._devices.values())
        name = min(self.devices, key=taken.count)
        threads = max(1, (os.cpu_count() or 1) // max(2, n_workers))
        environment = detached.python_environment() | device_environment([name], self._device, threads)
        with open(self._folder.path / "workers.log", "ab") as log:
            worker = subprocess.Popen(
                [*detached.python_of("dlstudio.tuning.worker"), str(self._folder.path)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=environment,
            )
        self._devices[worker] = name

    def ended(self) -> dict[int, int]:
        """Exit codes of the workers that have ended since the last call, by their number."""
        over = [worker for worker in self._devices if worker.poll() is not None]
        for worker in over:
            del self._devices[worker]
            self.how[worker.pid] = _how(worker.returncode)
        return {worker.pid: worker.returncode for worker in over}

    def press(self, stopping_s: Mapping[int, float]) -> None:
        """End workers that do not obey a stop.

        Args:
            stopping_s: by number of a worker, for how many seconds it has been asked to.
        """
        for worker in self._devices:
            waited = stopping_s.get(worker.pid, 0.0)
            if waited > STOP_PATIENCE_S + 10:
                worker.kill()
            elif waited > STOP_PATIENCE_S and worker.pid not in self._terminated:
                worker.terminate()
                self._terminated.add(worker.pid)

    def release(self) -> None:
        """Give the devices back."""
        for lease in self._leases:
            lease.release()
        self._leases = []


def _how(code: int) -> str:
    if code < 0:
        return f"its worker was killed by {signal.Signals(-code).name}"
    return f"its worker ended with exit code {code}"
