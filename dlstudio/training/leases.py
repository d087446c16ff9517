"""Devices are leased through file locks, so that several launches queue instead of fighting for one.

A lease is an exclusive `flock` on a file; the kernel gives it back when its holder ends, however it ends. GPUs belong
to the machine and are leased machine-wide; processor slots belong to a studio home.
"""

from __future__ import annotations

import fcntl
import json
import os
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

_CORES = os.cpu_count() or 1
N_CPU_SLOTS = max(2, _CORES // 4)
"""So many launched runs train on the processor at once; more would only slow each other down."""
CPU_THREADS = max(1, _CORES // N_CPU_SLOTS)
"""What each of them may use: two trainers that spin on the same cores are many times slower than one."""


class Lease:
    """Devices held by this process until `release` or its end.

    Attributes:
        names: such as ``["cuda:0"]`` or ``["cpu:1"]``.
    """

    def __init__(self, names: list[str], descriptors: list[int]) -> None:
        self.names, self._descriptors = names, descriptors

    def release(self) -> None:
        """Give the devices back."""
        for descriptor in self._descriptors:
            os.close(descriptor)
        self._descriptors = []


def _path(home: Path, name: str) -> Path:
    if name.startswith("cuda"):
        shared = Path(tempfile.gettempdir()) / "dlstudio-devices"
        shared.mkdir(exist_ok=True)
        with suppress(PermissionError):  # another user made it, and made it writable for all
            shared.chmod(0o1777)
        return shared / f"{name.replace(':', '-')}.lock"
    (home / "devices").mkdir(exist_ok=True)
    return home / "devices" / f"{name.replace(':', '-')}.lock"


def _try(path: Path, holder: str) -> int | None:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, json.dumps({"holder": holder, "pid": os.getpid()}).encode(), 0)
    return descriptor


def _holder(path: Path) -> str:
    try:
        return str(json.loads(path.read_text())["holder"])
    except (OSError, ValueError, KeyError):
        return "another run"


def wanted_devices(device: str, visible: str | None, n_gpus: int) -> list[str]:
    """Names of the devices that a recipe's `device` may be leased from.

    Args:
        device: ``"auto"``, ``"cpu"``, ``"cuda"`` or ``"cuda:N"``.
        visible: ``CUDA_VISIBLE_DEVICES`` of the launching process, if set.
        n_gpus: GPUs in the machine.
    """
    gpus = [f"cuda:{entry}" for entry in visible.split(",") if entry.strip()] if visible else None
    if gpus is None:
        gpus = [f"cuda:{index}" for index in range(n_gpus)]
    if device == "cpu" or (device == "auto" and not (n_gpus and gpus)):
        return [f"cpu:{slot}" for slot in range(N_CPU_SLOTS)]
    if ":" in device:
        index = int(device.split(":")[1])
        return gpus[index : index + 1]
    return gpus


def device_environment(leased: list[str], device: str, threads: int = CPU_THREADS) -> dict[str, str]:
    """What keeps a trainer to its devices; a GPU asked for by its number stays visible under that number."""
    if leased[0].startswith("cpu"):
        return {"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", str(threads))}
    if ":" in device:
        return {}
    return {"CUDA_VISIBLE_DEVICES": ",".join(name.removeprefix("cuda:") for name in leased)}


def try_lease(home: Path, candidates: list[str], count: int, holder: str) -> tuple[Lease | None, str]:
    """Take `count` of the candidates if so many are free.

    Returns:
        The lease, and "" — or None, and in words who holds what is missing.
    """
    names: list[str] = []
    descriptors: list[int] = []
    taken: dict[str, str] = {}
    for name in candidates:
        if len(names) == count:
            break
        path = _path(home, name)
        descriptor = _try(path, holder)
        if descriptor is None:
            taken[name] = _holder(path)
        else:
            names.append(name)
            descriptors.append(descriptor)
    if len(names) == count:
        return Lease(names, descriptors), ""
    for descriptor in descriptors:
        os.close(descriptor)
    return None, ", ".join(f"{name} (held by {who})" for name, who in taken.items()) or "devices that are not there"


def lease(
    home: Path, candidates: list[str], count: int, holder: str, *, waiting: Callable[[str], bool]
) -> Lease | None:
    """Wait until `count` of the candidates are free, and take them.

    Args:
        waiting: called about three times a second with what is waited for; False gives up.

    Returns:
        The lease, or None when `waiting` gave up.
    """
    while True:
        found, missing = try_lease(home, candidates, min(count, len(candidates)), holder)
        if found is not None:
            return found
        if not waiting(missing):
            return None
