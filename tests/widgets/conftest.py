"""A run whose telemetry a test writes itself, so that every number is known."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dlstudio.runs import process
from dlstudio.runs.folder import RunFolder
from dlstudio.runs.run import Run
from dlstudio.telemetry.writer import TelemetryWriter


class WrittenRun:
    """A live run on disk without a training process."""

    def __init__(self, name: str) -> None:
        self.files = RunFolder.create(name, kind="record", config={"lr": 1e-3})
        self.files.set_status("RUNNING", started=time.time(), worker=process.identity())
        self.writer = TelemetryWriter(self.files.path / "telemetry")
        self.run = Run(self.files)

    def scalars(self, values: Mapping[str, Sequence[float]], first_step: int = 1) -> None:
        """Write series of one length, one value a step."""
        names = list(values)
        rows = zip(*(np.asarray(values[name], float).tolist() for name in names), strict=True)
        now = time.time()
        self.writer.scalars(
            [(first_step + i, now + i * 1e-3, dict(zip(names, row, strict=True))) for i, row in enumerate(rows)]
        )

    def layers(self, names: list[str], norms: np.ndarray, first_step: int = 1) -> None:
        """Write layer statistics from an array of shape (n, 3, P): gradient, weight and update norm."""
        now = time.time()
        rows = [(first_step + i, now, matrix.astype(np.float32)) for i, matrix in enumerate(norms)]
        self.writer.layers("layers", names, rows)

    def event(self, kind: str, message: str = "", step: int | None = None, **data: Any) -> None:
        row = {"kind": kind, "message": message, "step": step, "data": data, "time": time.time()}
        self.writer.events([row])

    def machine(self, **readings: float) -> None:
        self.writer.machine([(0, time.time(), readings)])

    def resume(self, step: int) -> None:
        """Go on as a run continued from `step`."""
        self.writer.close()
        self.writer = TelemetryWriter(self.files.path / "telemetry", resumed_at=step)

    def end(self, status: str = "FINISHED", **changes: Any) -> None:
        self.writer.close()
        self.files.set_status(status, ended=time.time(), **changes)


@pytest.fixture
def written(fresh_home: Path) -> Iterator[Callable[..., WrittenRun]]:
    """Makes a run; its telemetry files are closed after the test."""
    made: list[WrittenRun] = []

    def make(name: str = "written") -> WrittenRun:
        made.append(WrittenRun(name))
        return made[-1]

    yield make
    for run in made:
        run.writer.close()
