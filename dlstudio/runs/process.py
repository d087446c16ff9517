"""Whether a process that was seen before is still the same one and alive."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Any

import psutil

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


def boot_id() -> str:
    """An identifier that changes when the machine restarts."""
    return _BOOT_ID.read_text().strip() if _BOOT_ID.exists() else str(int(psutil.boot_time()))


def identity(pid: int | None = None) -> dict[str, Any]:
    """What identifies a process across machines, restarts and reused process numbers."""
    pid = os.getpid() if pid is None else pid
    return {
        "pid": pid,
        "pid_created": psutil.Process(pid).create_time(),
        "host": socket.gethostname(),
        "boot": boot_id(),
    }


def is_here(identified: dict[str, Any]) -> bool:
    """Whether the process was seen on this host."""
    return bool(identified.get("host") == socket.gethostname())


def is_alive(identified: dict[str, Any]) -> bool:
    """Whether the process `identity` described still runs on this host; a zombie does not."""
    if not identified.get("pid") or not is_here(identified) or identified.get("boot") != boot_id():
        return False
    try:
        process = psutil.Process(identified["pid"])
        same = abs(process.create_time() - identified["pid_created"]) < 1.0
        return bool(same and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.Error:
        return False
