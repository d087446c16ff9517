"""One watched model of a recorder: from the probe's samples to rows under the user's own step numbers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import numpy.typing as npt

from dlstudio.telemetry.probes import Clip, LayerProbe, Sample
from dlstudio.telemetry.writer import ScalarRow

if TYPE_CHECKING:
    import torch

    from dlstudio.telemetry.hostcopy import HostCopy

LayerRow = tuple[int, float, npt.NDArray[np.float32]]
Emitted = TypeVar("Emitted", Clip, Sample)


class Watch:
    """Keeps what a probe emits until it has a step number and has arrived from the device.

    A probe counts the optimiser's steps; the user numbers steps in `Recorder.log`, before or after the optimiser. Which
    of the two is seen at the first call, and maps one to the other.

    Args:
        model: the module being trained.
        optimizer: the optimiser that steps it, if known.
        every: sampling interval in optimiser steps; None adapts.
        family: the telemetry family its matrices go to.
    """

    def __init__(
        self, model: torch.nn.Module, optimizer: torch.optim.Optimizer | None, every: int | None, family: str
    ) -> None:
        self.family = family
        self.optimizers = [] if optimizer is None else [optimizer]
        self._samples: list[Sample] = []
        self._clips: list[Clip] = []
        self.probe = LayerProbe(model, optimizer, every, self._samples.append, self._clips.append)
        self._logged_at: tuple[int, int] | None = None
        self._log_precedes_step = False

    def logged(self, step: int) -> None:
        """Note that the user logged `step` now."""
        if self._logged_at is None:
            self._log_precedes_step = self.probe.n_steps == 0
        self._logged_at = (self.probe.n_steps, step)

    def _step_of(self, count: int, final: bool) -> int | None:
        """The user's number of optimiser step `count`; None while it has not been logged yet."""
        if self._logged_at is None:
            return count if final else None
        n_steps, logged = self._logged_at
        last = n_steps if self._log_precedes_step else n_steps - 1
        return logged + count - last if final or count <= last else None

    def _arrived(
        self, queue: list[Emitted], copy_of: Callable[[Emitted], HostCopy], final: bool
    ) -> Iterator[tuple[int, Emitted]]:
        """Take from a queue, oldest first, what has a step number and has arrived; `final` waits for the device."""
        while queue:
            step, copy = self._step_of(queue[0].step_count, final), copy_of(queue[0])
            if final:
                copy.wait()
            if step is None or not copy.ready:
                return
            yield step, queue[0]
            queue.pop(0)

    def clip_rows(self, *, final: bool) -> list[ScalarRow]:
        """Global gradient norm before clipping, and the coefficient it was clipped with."""
        rows: list[ScalarRow] = []
        for step, clip in self._arrived(self._clips, lambda clip: clip.total_norm, final):
            total = float(clip.total_norm.numpy()[0])
            coefficient = min(1.0, clip.max_norm / (total + 1e-6))
            rows.append((step, clip.time_s, {"grad_norm": total, "clip_coefficient": coefficient}))
        return rows

    def sample_rows(self, *, final: bool) -> tuple[list[LayerRow], list[ScalarRow]]:
        """Layer matrices, and the global gradient norm where no clipping tells it."""
        layers: list[LayerRow] = []
        rows: list[ScalarRow] = []
        for step, sample in self._arrived(self._samples, lambda sample: sample.vector, final):
            matrix: Any = sample.vector.numpy().reshape(3, len(self.probe.names))
            layers.append((step, sample.time_s, matrix))
            if self.probe.n_clips == 0:
                norm = float(np.sqrt(np.sum(np.square(matrix[0], dtype=np.float64))))
                rows.append((step, sample.time_s, {"grad_norm": norm}))
        return layers, rows
