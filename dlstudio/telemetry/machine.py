"""What the machine is doing: processor, memory and, where NVML finds them, GPUs."""

from __future__ import annotations

import os
from typing import Any

import psutil

MIB = 2**20


class MachineMonitor:
    """Reads machine use; one reading takes about a millisecond."""

    def __init__(self) -> None:
        self._process = psutil.Process(os.getpid())
        self._process.cpu_percent()
        psutil.cpu_percent()
        self._gpus = _gpu_handles()

    def read(self) -> dict[str, float]:
        """Return readings by name; units end the names (percent, MiB, W, °C)."""
        memory = psutil.virtual_memory()
        readings = {
            "cpu_percent": psutil.cpu_percent(),
            "process_cpu_percent": self._process.cpu_percent(),
            "rss_mib": self._process.memory_info().rss / MIB,
            "ram_percent": memory.percent,
            "ram_available_mib": memory.available / MIB,
        }
        for index, handle in enumerate(self._gpus):
            readings.update({f"gpu{index}_{name}": value for name, value in _read_gpu(handle).items()})
        return readings


def _gpu_handles() -> list[Any]:
    try:
        import pynvml

        pynvml.nvmlInit()
        return [pynvml.nvmlDeviceGetHandleByIndex(i) for i in range(pynvml.nvmlDeviceGetCount())]
    except Exception:
        # No driver, no library, no permission: NVML has an exception class of its own for each. No GPU readings then.
        return []


def _read_gpu(handle: Any) -> dict[str, float]:
    import pynvml

    readings: dict[str, float] = {}
    try:
        used = pynvml.nvmlDeviceGetMemoryInfo(handle)
        readings["memory_mib"], readings["memory_total_mib"] = used.used / MIB, used.total / MIB
        readings["util_percent"] = float(pynvml.nvmlDeviceGetUtilizationRates(handle).gpu)
        readings["power_w"] = pynvml.nvmlDeviceGetPowerUsage(handle) / 1e3
        readings["temperature_c"] = float(pynvml.nvmlDeviceGetTemperature(handle, pynvml.NVML_TEMPERATURE_GPU))
    except pynvml.NVMLError:
        # Some cards and virtual machines do not answer every question; what was answered is kept.
        return readings
    return readings


def gpus() -> list[dict[str, Any]]:
    """GPUs as NVML sees them: index, name, total and free memory in MiB. Imports no torch."""
    import pynvml

    found = []
    for index, handle in enumerate(_gpu_handles()):
        memory = pynvml.nvmlDeviceGetMemoryInfo(handle)
        name = pynvml.nvmlDeviceGetName(handle)
        found.append({"index": index, "name": name, "total_mib": memory.total // MIB, "free_mib": memory.free // MIB})
    return found
