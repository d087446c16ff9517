"""Device values on the host without waiting for the device."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch


class HostCopy:
    """A copy of a small device tensor that is on its way to the host.

    The copy is queued on the current stream into pinned memory; nothing waits for it. On the CPU it is done at once.

    Args:
        tensor: 1-d, any floating dtype; its present values are what arrives.
    """

    __slots__ = ("_event", "_host")

    def __init__(self, tensor: torch.Tensor) -> None:
        self._event: Any = None
        if tensor.device.type == "cuda":
            host = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
            host.copy_(tensor.detach(), non_blocking=True)
            self._event = torch.cuda.Event()
            self._event.record(torch.cuda.current_stream(tensor.device))
            self._host = host
        else:
            self._host = tensor.detach().to("cpu", copy=True)

    @property
    def ready(self) -> bool:
        """Whether the values have arrived; asking does not wait."""
        return self._event is None or bool(self._event.query())

    def wait(self) -> None:
        """Wait for the device; only for use after the training loop."""
        if self._event is not None:
            self._event.synchronize()

    def numpy(self) -> npt.NDArray[np.floating]:
        """The values, once `ready`."""
        return self._host.numpy()


def stack_scalars(tensors: list[torch.Tensor]) -> HostCopy:
    """Copy one-element tensors of one device together."""
    dtype = torch.float64 if all(t.dtype == torch.float64 for t in tensors) else torch.float32
    return HostCopy(torch.stack([t.detach().reshape(()).to(dtype) for t in tensors]))
