"""Which device a recipe runs on, and whether it is there. Imports torch only where it is loaded already."""

from __future__ import annotations

import contextlib
import functools
import os
import sys
from typing import TYPE_CHECKING

from dlstudio.errors import DLStudioError
from dlstudio.training.recipe import Recipe, precision_needs_cuda

if TYPE_CHECKING:
    import torch

__all__ = ["check_device", "resolve_device"]


def check_device(recipe: Recipe) -> None:
    """Check that the devices a recipe asks for are there, without importing torch.

    Where torch is loaded it is asked; otherwise the NVIDIA driver is, as far as ``CUDA_VISIBLE_DEVICES`` lets
    see.

    Raises:
        DLStudioError: CUDA is asked for and absent, the device number is too high, there are fewer GPUs than
            `devices`, or ``16-mixed`` would run on a CPU. The message says what is there.
    """
    gpus = _gpus()
    there = ", ".join(f"cuda:{i} {name}" for i, name in enumerate(gpus)) if gpus else "no CUDA device, only the CPU"
    if recipe.device.startswith("cuda"):
        number = int(recipe.device.partition(":")[2] or 0)
        if not gpus:
            remedy = "Use device='auto' or 'cpu'; `dlstudio doctor` says why no GPU is seen."
            raise DLStudioError(f"a CUDA device for device={recipe.device!r}", there, remedy)
        if number >= len(gpus):
            raise DLStudioError(
                f"a CUDA device number below {len(gpus)}",
                f"device={recipe.device!r} on a machine with {there}",
                "Choose one of those.",
            )
    if recipe.device != "cpu" and gpus and recipe.devices > len(gpus):
        raise DLStudioError(
            f"at most {len(gpus)} devices",
            f"devices={recipe.devices} on a machine with {there}",
            f"Use devices={len(gpus)}, or device='cpu'.",
        )
    if recipe.precision == "16-mixed" and not gpus:
        raise precision_needs_cuda(there)


def resolve_device(recipe: Recipe, local_rank: int = 0) -> torch.device:
    """Return the torch device of one process: the GPU of its rank where there is one, else the CPU."""
    import torch

    if recipe.device == "cpu" or not torch.cuda.is_available():
        return torch.device("cpu")
    return torch.device(recipe.device if ":" in recipe.device else f"cuda:{local_rank}")


def _gpus() -> list[str]:
    """Names of the GPUs this process may use."""
    torch = sys.modules.get("torch")
    if torch is not None:
        return [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    names = _driver_gpus()
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        return list(names)
    chosen = []
    for item in visible.split(","):
        if item.strip().startswith(("GPU-", "MIG-")):
            chosen.append(item.strip())
        elif not item.strip().isdigit() or int(item) >= len(names):
            break  # CUDA stops reading at the first device that is not there
        else:
            chosen.append(names[int(item)])
    return chosen


@functools.cache
def _driver_gpus() -> tuple[str, ...]:
    with contextlib.suppress(ImportError):
        import pynvml

        with contextlib.suppress(pynvml.NVMLError):
            pynvml.nvmlInit()
            handles = [pynvml.nvmlDeviceGetHandleByIndex(i) for i in range(pynvml.nvmlDeviceGetCount())]
            return tuple(str(pynvml.nvmlDeviceGetName(handle)) for handle in handles)
    return ()
