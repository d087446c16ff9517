"""Telemetry as a long run would have left it, written in a moment."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from dlstudio.runs.folder import RUNNING, RunFolder
from dlstudio.runs.run import Run
from dlstudio.telemetry.writer import TelemetryWriter

STEPS_PER_S = 100.0
"""How fast the pretended run steps; times in the log follow from it."""


class WrittenRun:
    """A run whose telemetry is written here, batch by batch, as its recorder would have flushed it.

    Args:
        keys: the scalars of every step.
        n_parameters: how many watched parameters; 0 watches none.
    """

    def __init__(self, keys: Sequence[str], n_parameters: int = 0) -> None:
        from dlstudio.runs import process

        self.folder = RunFolder.create("bench", kind="record", config={})
        self.run = Run(self.folder)
        self.began = time.time()
        # Alive, as a run is while it is watched: this process stands for its recorder.
        self.folder.set_status(RUNNING, worker=process.identity(), started=self.began)
        self._keys = list(keys)
        self._names = [f"layers.{number}.weight" for number in range(n_parameters)]
        self._writer = TelemetryWriter(self.path)
        self._random = np.random.default_rng(0)
        self.n_steps = 0

    @property
    def path(self) -> Path:
        """The telemetry folder."""
        return self.folder.path / "telemetry"

    def write(self, n_steps: int, per_flush: int = 0) -> None:
        """Log so many steps more, in batches of `per_flush` steps (0: in one)."""
        until = self.n_steps + n_steps
        while self.n_steps < until:
            n = min(per_flush or n_steps, until - self.n_steps)
            values = (np.exp(-self.n_steps / 1e5) + 0.1 * self._random.standard_normal((n, len(self._keys)))).tolist()
            steps = range(self.n_steps + 1, self.n_steps + n + 1)
            rows = [
                (step, self.began + step / STEPS_PER_S, dict(zip(self._keys, row, strict=True)))
                for step, row in zip(steps, values, strict=True)
            ]
            self._writer.scalars(rows)
            self.n_steps += n

    def write_layers(self, n_samples: int, per_flush: int, every: int) -> None:
        """Log so many samples of layer statistics more, one per `every` steps up to the present step."""
        first = self.n_steps - (n_samples - 1) * every
        for start in range(0, n_samples, per_flush):
            n = min(per_flush, n_samples - start)
            matrices = self._random.lognormal(size=(n, 3, len(self._names))).astype(np.float32)
            steps = [first + (start + number) * every for number in range(n)]
            rows = [
                (step, self.began + step / STEPS_PER_S, matrix) for step, matrix in zip(steps, matrices, strict=True)
            ]
            self._writer.layers("layers", self._names, rows)
