"""Run under torchrun by test_distributed.py: trains in every rank and leaves what rank 0 recorded as JSON."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import nn

from dlstudio.data.dataset import Dataset
from dlstudio.errors import RunStopped
from dlstudio.training import distributed
from dlstudio.training.loop import train
from dlstudio.training.recipe import Recipe


@dataclass
class Command:
    name: str
    arguments: dict[str, Any]


class Recorder:
    """A recorder that keeps what it is told, and is asked things at given steps."""

    def __init__(self, folder: Path, asked: dict[int, Command], resume_step: int | None = None) -> None:
        self.folder, self.resume_step, self.defer_control, self._asked = folder, resume_step, False, asked
        self.loss: dict[int, float] = {}
        self.other: dict[str, dict[int, float]] = {}
        self.done: list[tuple[str, int]] = []
        self._handlers: dict[str, Callable[..., Any]] = {}
        self._probe: Any = None
        self.norms: list[list[float]] = []

    def log(self, values: Mapping[str, Any], step: int) -> None:
        for key, value in values.items():
            (self.loss if key == "loss" else self.other.setdefault(key, {}))[step] = float(value)

    def flush(self) -> None:
        """Keep everything anyway."""

    def event(self, kind: str, message: str = "", *, step: int | None = None, **data: Any) -> None:
        pass

    def on(self, command: str, handler: Callable[..., Any]) -> None:
        self._handlers[command] = handler

    def watch(self, model: nn.Module, optimizer: Any = None, *, every: int | None = None) -> None:
        from dlstudio.telemetry.probes import LayerProbe

        def keep(sample: Any) -> None:
            self.norms.append(sample.vector.numpy().tolist())

        self._probe = LayerProbe(model, optimizer, every, keep, lambda clip: None)

    def take_commands(self) -> list[Command]:
        assert self.defer_control
        now = max(self.loss)
        due = [step for step in self._asked if step <= now]
        return [self._asked.pop(step) for step in sorted(due)]

    def carry_out(self, command: Command, step: int) -> None:
        self.done.append((command.name, step))
        if command.name == "stop":
            raise RunStopped("stopped on request")
        self._handlers[command.name](**command.arguments)


def make_dataset() -> Dataset:
    generator = np.random.default_rng(0)
    inputs = generator.standard_normal((150, 5)).astype(np.float32)
    targets = (inputs @ generator.standard_normal(5) > 0).astype(np.int64)
    splits = {"train": np.arange(75), "val": np.arange(75, 112), "test": np.arange(112, 150)}
    return Dataset(
        name="small", modality="tabular", task="binary",
        inputs=torch.from_numpy(inputs), targets=torch.from_numpy(targets),
        splits=splits, class_names=("no", "yes"),
    )  # fmt: skip


def make_model() -> nn.Module:
    return nn.Sequential(nn.Linear(5, 16), nn.Tanh(), nn.Linear(16, 2))


def recipe(strategy: str, devices: int = 2) -> Recipe:
    return Recipe(
        data=make_dataset(), model=make_model, epochs=4, batch_size=16, accumulate=2, lr=0.02, clip_norm=0.5,
        schedule="cosine", devices=devices, strategy=strategy, device="cpu", watch_every=1,
    )  # fmt: skip


CASES: dict[str, tuple[str, dict[int, Command]]] = {
    "ddp": ("ddp", {}),
    "fsdp": ("fsdp", {}),
    "ddp-stop": ("ddp", {5: Command("stop", {})}),
    "fsdp-stop": ("fsdp", {5: Command("stop", {})}),
    "ddp-set": ("ddp", {2: Command("checkpoint", {}), 3: Command("set", {"lr": 0.1})}),
}


def main(out: Path) -> None:
    dist.init_process_group("gloo")
    rank = dist.get_rank()
    distributed.MAX_POLL_STEPS = 2  # the steps here are so short that ten would be a whole run
    found: dict[str, Any] = {}
    for case, (strategy, asked) in CASES.items():
        folder = out / case
        folder.mkdir(exist_ok=True)
        parts, resume_step = [], None
        for _ in range(2 if case.endswith("stop") else 1):
            recorder = Recorder(folder, dict(asked), resume_step) if rank == 0 else None
            try:
                train(recipe(strategy), recorder)  # type: ignore[arg-type]
            except RunStopped:
                assert rank == 0
            asked = {}
            if recorder is not None:
                parts.append(recorder)
                resume_step = max(recorder.loss)
        found[case] = [vars_of(part) for part in parts]
    if rank == 0:
        (out / "found.json").write_text(json.dumps(found))
    dist.destroy_process_group()


def vars_of(recorder: Recorder) -> dict[str, Any]:
    return {"loss": recorder.loss, "other": recorder.other, "done": recorder.done, "norms": recorder.norms}


if __name__ == "__main__":
    main(Path(sys.argv[1]))
