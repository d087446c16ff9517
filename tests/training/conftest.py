"""A recorder that keeps what it is told, and small data."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from dlstudio.data.dataset import Dataset


class KeptRecorder:
    """Has the methods of a Recorder and keeps everything in lists; `when[step]` is called in that step's log."""

    def __init__(self, folder: Path, resume_step: int | None = None) -> None:
        self.folder, self.resume_step, self.defer_control = folder, resume_step, False
        self.logged: list[tuple[int, dict[str, float]]] = []
        self.events: list[dict[str, Any]] = []
        self.handlers: dict[str, Callable[..., Any]] = {}
        self.when: dict[int, Callable[[], None]] = {}
        self.watched: list[tuple[Any, Any, int | None]] = []

    def log(self, values: Mapping[str, Any], step: int) -> None:
        self.logged.append((step, {key: float(value) for key, value in values.items()}))
        if step in self.when and "loss" in values:
            self.when[step]()

    def flush(self) -> None:
        """Keep everything anyway."""

    def event(self, kind: str, message: str = "", *, step: int | None = None, **data: Any) -> None:
        self.events.append({"kind": kind, "message": message, "step": step, "data": data})

    def on(self, command: str, handler: Callable[..., Any]) -> None:
        self.handlers[command] = handler

    def watch(self, model: Any, optimizer: Any = None, *, every: int | None = None) -> None:
        self.watched.append((model, optimizer, every))

    def series(self, key: str) -> dict[int, float]:
        return {step: values[key] for step, values in self.logged if key in values}

    def last(self, key: str) -> float:
        return list(self.series(key).values())[-1]

    def kinds(self) -> dict[str, int]:
        counts: dict[str, int] = defaultdict(int)
        for event in self.events:
            counts[event["kind"]] += 1
        return dict(counts)


@pytest.fixture
def recorder(tmp_path: Path) -> Callable[..., KeptRecorder]:
    """Makes recorders in folders of their own; ``resume=`` continues the folder of another."""
    made = 0

    def make(resume: KeptRecorder | None = None) -> KeptRecorder:
        nonlocal made
        if resume is not None:
            content = torch.load(resume.folder / "checkpoints" / "last.pt", weights_only=True)
            return KeptRecorder(resume.folder, content["step"])
        made += 1
        folder = tmp_path / f"run{made}"
        folder.mkdir()
        return KeptRecorder(folder)

    return make


@pytest.fixture
def dataset() -> Callable[..., Dataset]:
    """Makes data sets: three classes (or two, or a quantity) that a linear model can tell apart."""

    def make(task: str = "multiclass", n: int = 150, n_features: int = 5, seed: int = 0) -> Dataset:
        generator = np.random.default_rng(seed)
        inputs = generator.standard_normal((n, n_features)).astype(np.float32)
        signal = inputs @ generator.standard_normal(n_features)
        n_classes = {"multiclass": 3, "binary": 2, "regression": 0}[task]
        if n_classes:
            edges = np.quantile(signal, np.linspace(0, 1, n_classes + 1)[1:-1])
            targets = torch.from_numpy(np.searchsorted(edges, signal).astype(np.int64))
        else:
            targets = torch.from_numpy(signal.astype(np.float32))
        rows = generator.permutation(n)
        return Dataset(
            name="small",
            modality="tabular",
            task=task,
            inputs=torch.from_numpy(inputs),
            targets=targets,
            splits={"train": rows[: n // 2], "val": rows[n // 2 : 3 * n // 4], "test": rows[3 * n // 4 :]},
            feature_names=tuple(f"x{i}" for i in range(n_features)),
            class_names=tuple(f"class {i}" for i in range(n_classes)),
        )

    return make
