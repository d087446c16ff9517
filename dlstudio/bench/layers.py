"""What watching every parameter adds to a training step."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dlstudio.bench.rows import Outcome, Row, row_of
from dlstudio.bench.session import Session, n_threads
from dlstudio.telemetry.machine import gpus

if TYPE_CHECKING:
    import torch

    from dlstudio.runs.recorder import Recorder

ADAPTIVE, EVERY = "dlstudio, default cadence", "dlstudio, every step"
MODELS = {
    "transformer": ("12-layer transformer, 144 parameters", 9, 24, 40),
    "mlp": ("10-layer MLP, 20 parameters", 15, 400, 150),
}
"""Model to its description, pairs of blocks that are timed, steps of a block, untimed steps before a watched one."""
WARMUP_STEPS = 20
BUDGETS = {ADAPTIVE: {"transformer": 1.0, "mlp": 3.0}, EVERY: {"transformer": 3.0, "mlp": 25.0}}
GPU_BUDGET = 2.0
STATISTIC_BYTES = 4.5
REQUIRES = {
    "norm().item() and tensorboard": "tensorboard",
    "tensorboard histograms": "tensorboard",
    "wandb.watch": "wandb",
    "lightning grad_norm": "lightning",
}

Before = Callable[[int], object]
After = Callable[[int, "torch.Tensor"], object]


def rows(session: Session) -> list[Row]:
    """Measure both cadences of dlstudio, and every installed peer, on both models; on the GPU too if there is one."""
    found: list[Row] = []
    for device in ("cpu", *(["cuda"] if gpus() else [])):
        for model, (description, *_) in MODELS.items():
            where = description + ("" if device == "cpu" else " on the GPU")
            shape = {"model": model, "device": device, "scale": session.scale}
            subjects = {how: {"how": how, **shape} for how in (ADAPTIVE, EVERY, *REQUIRES)}
            outcomes = session.compare("layers", subjects, REQUIRES, f"layers, {where}")
            found += _rows_of(where, model, device, outcomes)
    return found


def _rows_of(where: str, model: str, device: str, outcomes: dict[str, Outcome]) -> list[Row]:
    own = {how: outcomes[how] for how in (ADAPTIVE, EVERY)}
    budgets = {how: limits[model] if device == "cpu" else GPU_BUDGET for how, limits in BUDGETS.items()}
    added, statistic = f"{where}: added by watching", f"{where}: a layer statistic in the telemetry log"
    found = [
        row_of(f"{where}: plain step", "ms", own, "plain_ms", subject=EVERY),
        row_of(f"{added}, default cadence", "%", own, "added_percent", subject=ADAPTIVE, budget=budgets[ADAPTIVE]),
        row_of(f"{where}: sampled steps, default cadence", "%", own, "sampled_percent", subject=ADAPTIVE),
        row_of(f"{added}, every step", "%", outcomes, "added_percent", subject=EVERY, budget=budgets[EVERY]),
        row_of(statistic, "bytes", own, "statistic_bytes", subject=EVERY, budget=STATISTIC_BYTES),
    ]
    if device == "cuda":
        waits = f"{where}: recording made the device wait"
        found.append(row_of(waits, "times", own, "waits_for_device", subject=EVERY, budget=0.0))
    return found


class Trainee:
    """A model with its optimiser and one batch, and the step that trains it."""

    def __init__(self, model: str, device: str) -> None:
        import torch
        from torch import nn

        torch.manual_seed(0)
        if model == "transformer":
            layer = nn.TransformerEncoderLayer(128, 4, 256, batch_first=True, dropout=0.0)
            network: nn.Module = nn.TransformerEncoder(layer, 12)
            batch = torch.randn(8, 32, 128)
        else:
            blocks = (nn.Sequential(nn.Linear(64, 64), nn.ReLU()) for _ in range(10))
            network, batch = nn.Sequential(*blocks), torch.randn(64, 64)
        self.network, self.batch = network.to(device), batch.to(device)
        self.optimizer = torch.optim.AdamW(self.network.parameters(), 1e-4)
        self.before: Before = lambda step: None
        self.after: After = lambda step, loss: None
        self.n_steps = 0
        self._wait = torch.cuda.synchronize if device == "cuda" else lambda: None

    def steps(self, n: int) -> float:
        """Train `n` steps; returns seconds a step."""
        self._wait()
        start = time.perf_counter()
        for _ in range(n):
            self.optimizer.zero_grad()
            loss = self.network(self.batch).pow(2).mean()
            loss.backward()
            self.before(self.n_steps)
            self.optimizer.step()
            self.after(self.n_steps, loss)
            self.n_steps += 1
        self._wait()
        return (time.perf_counter() - start) / max(n, 1)


def measure(how: str, model: str, device: str = "cpu", scale: float = 1.0) -> dict[str, float]:
    """Time blocks of plain and of watched steps in turn, in one process, so that both meet the same machine.

    Each watched block is compared with the mean of the plain ones before and after it; the median of these is the
    result. The adaptive cadence judges by the time between steps, so a few untimed steps before each watched block let
    it forget the plain block in between.

    Returns:
        ``plain_ms``, ``watched_ms``, ``added_percent``; for dlstudio ``sampled_percent``, ``statistic_bytes`` and on
        a GPU ``waits_for_device`` (0 or 1).
    """
    import torch

    if device == "cpu":
        torch.set_num_threads(n_threads())
    _, n_pairs, n_steps, n_settle = MODELS[model]
    n_pairs, n_steps = max(2, round(n_pairs * scale)), max(2, round(n_steps * scale))
    plain, watched = Trainee(model, device), Trainee(model, device)
    recorder = _watch(how, watched)
    n_settle = max(2, round(n_settle * scale)) if recorder is not None else 2
    plain.steps(WARMUP_STEPS)
    watched.steps(WARMUP_STEPS)
    if recorder is not None:
        _ = recorder.run.id  # the registrar has started: its imports are no part of a step
    plain_s, watched_s = [plain.steps(n_steps)], []
    for _ in range(n_pairs):
        watched.steps(n_settle)
        watched_s.append(watched.steps(n_steps))
        if recorder is not None:
            time.sleep(0.5)  # what the watched block recorded is written by then
        plain_s.append(plain.steps(n_steps))
    ratios = [
        2 * seconds / (before + after) for before, seconds, after in zip(plain_s, watched_s, plain_s[1:], strict=False)
    ]
    figures = {
        "plain_ms": statistics.median(plain_s) * 1e3,
        "watched_ms": statistics.median(watched_s) * 1e3,
        "added_percent": (statistics.median(ratios) - 1) * 100,
    }
    if recorder is not None:
        if device == "cuda":
            figures["waits_for_device"] = _waits_for_device(watched)
        figures |= _recorded(recorder, watched)
    return figures


def _waits_for_device(watched: Trainee) -> float:
    """Whether any of twenty watched steps synchronises with the GPU."""
    import torch

    torch.cuda.set_sync_debug_mode("error")
    try:
        wait, watched._wait = watched._wait, lambda: None
        watched.steps(20)
        watched._wait = wait
    except RuntimeError:
        return 1.0
    finally:
        torch.cuda.set_sync_debug_mode("default")
    return 0.0


def _recorded(recorder: Recorder, watched: Trainee) -> dict[str, float]:
    recorder.__exit__(None, None, None)
    steps, names, _ = recorder.run.layers()
    log = sum(path.stat().st_size for path in recorder.folder.glob("telemetry/layers*"))
    return {
        "sampled_percent": 100 * len(steps) / watched.n_steps,
        "statistic_bytes": log / (3 * len(steps) * len(names)),
    }


def _watch(how: str, trainee: Trainee) -> Recorder | None:
    """Have a trainee watched; returns the recorder if dlstudio does it."""
    if how.startswith("dlstudio"):
        from dlstudio.runs.recorder import record

        recorder = record("bench").__enter__()
        recorder.watch(trainee.network, trainee.optimizer, every=1 if how == EVERY else None)
        trainee.after = lambda step, loss: recorder.log({"loss": loss.detach()}, step=step)
        return recorder
    _watch_with_peer(how, trainee)
    return None


def _watch_with_peer(how: str, trainee: Trainee) -> None:
    home = str(Path.cwd())
    named: list[tuple[str, Any]] = list(trainee.network.named_parameters())
    if how == "lightning grad_norm":
        grad_norm = import_module("lightning.pytorch.utilities").grad_norm
        trainee.before = lambda step: {name: norm.item() for name, norm in grad_norm(trainee.network, 2).items()}
    elif how == "wandb.watch":
        wandb = import_module("wandb")
        run = wandb.init(project="bench", dir=home, mode="offline")
        wandb.watch(trainee.network, log="gradients", log_freq=1)
        trainee.after = lambda step, loss: run.log({"loss": loss.item()}, step=step)
    else:
        writer = import_module("torch.utils.tensorboard").SummaryWriter(home)
        if how == "tensorboard histograms":
            trainee.before = lambda step: [writer.add_histogram(name, p.grad, step) for name, p in named]
        else:
            trainee.before = lambda step: [writer.add_scalar(name, p.grad.norm().item(), step) for name, p in named]
