"""What a step of each training loop costs: a small network on data in memory, where overhead shows most."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

from dlstudio.bench.rows import Outcome, Row, row_of
from dlstudio.bench.session import Session, n_threads

if TYPE_CHECKING:
    import torch
    from torch import nn

N_ROWS, N_FEATURES, N_HIDDEN, BATCH_SIZE, EPOCHS = 64_000, 32, 64, 64, 3
PLAIN = "plain PyTorch + DataLoader"
REQUIRES = {"lightning fabric": "lightning", "accelerate": "accelerate", "lightning trainer": "lightning"}
SUBJECTS = ("dlstudio", PLAIN, "plain PyTorch, indexed", *REQUIRES)


def rows(session: Session) -> list[Row]:
    """Measure `fit` with its telemetry on beside plain PyTorch and every installed loop."""
    shape = {"n_rows": session.n(N_ROWS, least=10 * BATCH_SIZE)}
    outcomes = session.compare("loop", {name: {"how": name, **shape} for name in SUBJECTS}, REQUIRES)

    def over_plain(outcome: Outcome, name: str) -> float | str:
        plain = outcomes[PLAIN]
        if outcome.reason or plain.reason:
            return str(outcome.reason or plain.reason)
        pairs = zip(outcome.values(name), plain.values("step_us"), strict=True)  # of one round: the same minute
        return statistics.median(mine / theirs for mine, theirs in pairs)

    steady = outcomes["dlstudio"].median("steady_us")
    return [
        row_of("a step, everything from the call to its return", "µs", outcomes, "step_us"),
        row_of("the same over plain PyTorch + DataLoader", "ratio", outcomes, "step_us", budget=1.0, figure=over_plain),
        Row(what="a step, from the first to the last recorded one", unit="µs", value=steady),
        Row(
            what="recorded steps over plain PyTorch + DataLoader",
            unit="ratio",
            value=over_plain(outcomes["dlstudio"], "steady_us"),
        ),
        Row(what="before the first and after the last step", unit="ms", value=outcomes["dlstudio"].median("ends_ms")),
    ]


@dataclass
class Task:
    """The data, the network and what trains it."""

    inputs: torch.Tensor
    targets: torch.Tensor
    network: nn.Module

    def loader(self) -> Any:
        """The usual way to batches."""
        from torch.utils.data import DataLoader, TensorDataset

        return DataLoader(TensorDataset(self.inputs, self.targets), batch_size=BATCH_SIZE, shuffle=True)

    def indexed(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Batches picked from the tensors by a permutation."""
        import torch

        order = torch.randperm(len(self.inputs))
        for start in range(0, len(order), BATCH_SIZE):
            picked = order[start : start + BATCH_SIZE]
            yield self.inputs[picked], self.targets[picked]


def measure(how: str, n_rows: int) -> dict[str, float]:
    """Train three epochs.

    Returns:
        ``step_us``: the whole time over the steps; for dlstudio also ``steady_us``, from the first to the last recorded
        step, and ``ends_ms``, what is left of the whole.
    """
    import torch
    from torch import nn

    torch.set_num_threads(n_threads())
    torch.manual_seed(0)
    inputs = torch.randn(n_rows, N_FEATURES)
    network = nn.Sequential(nn.Linear(N_FEATURES, N_HIDDEN), nn.ReLU(), nn.Linear(N_HIDDEN, 2))
    task = Task(inputs, (inputs.sum(1) > 0).long(), network)
    n_steps = EPOCHS * -(-n_rows // BATCH_SIZE)
    if how == "dlstudio":
        return _fit(task, n_steps)
    run = _trainer(task) if how == "lightning trainer" else _loop(how, task)
    start = time.perf_counter()
    run()
    return {"step_us": (time.perf_counter() - start) / n_steps * 1e6}


def _fit(task: Task, n_steps: int) -> dict[str, float]:
    import numpy as np
    import torch

    from dlstudio.data.dataset import Dataset
    from dlstudio.training.fit import fit
    from dlstudio.training.recipe import Recipe

    dataset = Dataset(
        name="bench",
        modality="tabular",
        task="binary",
        inputs=task.inputs,
        targets=task.targets,
        splits={"train": np.arange(len(task.inputs)), "val": np.arange(0), "test": np.arange(0)},
        feature_names=tuple(f"x{number}" for number in range(N_FEATURES)),
        class_names=("no", "yes"),
    )
    recipe = Recipe(data=dataset, model=task.network, epochs=EPOCHS, batch_size=BATCH_SIZE, lr=1e-3, device="cpu")
    # Imports are measured elsewhere, for everyone; PyTorch's own come with the first optimiser, as in the other loops.
    import_module("dlstudio.training.loop")
    torch.optim.AdamW(task.network.parameters())
    start = time.perf_counter()
    run = fit(recipe, progress=False)
    whole_s = time.perf_counter() - start
    steps, _, times_s = run.series("loss")
    steady_s = float(times_s[-1] - times_s[0]) * n_steps / max(len(steps) - 1, 1)
    assert len(steps) == n_steps, f"{len(steps)} of {n_steps} steps were recorded"
    return {
        "step_us": whole_s / n_steps * 1e6,
        "steady_us": steady_s / n_steps * 1e6,
        "ends_ms": (whole_s - steady_s) * 1e3,
    }


def _loop(how: str, task: Task) -> Any:
    import torch
    from torch import nn

    network, loader = task.network, task.loader()
    optimizer: Any = torch.optim.AdamW(network.parameters(), 1e-3)
    criterion = nn.CrossEntropyLoss()
    backward: Any = torch.Tensor.backward
    if how == "lightning fabric":
        fabric = import_module("lightning.fabric").Fabric(accelerator="cpu", devices=1)
        network, optimizer = fabric.setup(network, optimizer)
        loader, backward = fabric.setup_dataloaders(loader), fabric.backward
    elif how == "accelerate":
        accelerator = import_module("accelerate").Accelerator(cpu=True)
        network, optimizer, loader = accelerator.prepare(network, optimizer, loader)
        backward = accelerator.backward

    def run() -> None:
        for _ in range(EPOCHS):
            for inputs, targets in task.indexed() if how.endswith("indexed") else loader:
                optimizer.zero_grad()
                backward(criterion(network(inputs), targets))
                optimizer.step()

    return run


def _trainer(task: Task) -> Any:
    import logging

    import torch
    from torch import nn

    lightning: Any = import_module("lightning.pytorch")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    criterion = nn.CrossEntropyLoss()

    class Module(lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.network = task.network

        def training_step(self, batch: Any, number: int) -> Any:
            loss = criterion(self.network(batch[0]), batch[1])
            self.log("loss", loss)
            return loss

        def configure_optimizers(self) -> Any:
            return torch.optim.AdamW(self.network.parameters(), 1e-3)

    trainer = lightning.Trainer(
        max_epochs=EPOCHS,
        accelerator="cpu",
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
        logger=False,
    )
    return lambda: trainer.fit(Module(), task.loader())
