"""What a trained model costs: time, parameters and memory of a forward pass."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import time
from typing import TYPE_CHECKING, Any

import numpy as np

from dlstudio.compare.found import found_of
from dlstudio.compare.measures import Measures
from dlstudio.errors import DLStudioError
from dlstudio.runs.kept import keep
from dlstudio.runs.run import Run, open_run

if TYPE_CHECKING:
    import torch
    from torch import nn

__all__ = ["measure"]

WARM, MOST, LEAST = 5, 1000, 20
"""Forward passes before the clock counts, and how many are timed."""
SECONDS = 0.5
MIB = 2**20


def measure(run: Run | str | nn.Module, *, model: nn.Module | None = None, inputs: Any = None) -> Measures:
    """Measure what a forward pass costs: of one row and of a batch, on a GPU where there is one, else on the CPU.

    Afterwards the costs are kept with the run as ``measures``, where it can be written; there `dls.compare`,
    `dls.pareto` and constraints of a recommendation find them. Inputs are random numbers of the shape that the run was
    trained on, as time and memory do not depend on their values. The model is as it was.

    Args:
        run: a run, or its name; or a module, together with `inputs`.
        model: for runs of a module of your own, one of the same shape.
        inputs: a batch (n, ...) to measure on instead.

    Raises:
        DLStudioError: the run has no checkpoint, a module came without inputs, or the inputs do not fit it.

    Example:
        >>> dls.measure("my-run").frame()
        >>> dls.measure(MyModule(), inputs=torch.randn(64, 32)).peak_mib
    """
    import torch
    from torch import nn

    from dlstudio.training import checkpoint

    if isinstance(run, nn.Module):
        if inputs is None:
            raise DLStudioError("a batch of inputs beside a module", "none", "Pass inputs=torch.randn(64, 32).")
        module, opened = copy.deepcopy(run).eval(), None
    else:
        opened = open_run(run) if isinstance(run, str) else run
        module = copy.deepcopy(checkpoint.load_model(opened, model=copy.deepcopy(model)))
    batch = torch.as_tensor(inputs) if inputs is not None else None
    if batch is None:
        assert opened is not None
        batch = _inputs_like(checkpoint.read(checkpoint.path_of(opened.folder, "best")))
    if batch.ndim < 1 or not len(batch):
        raise DLStudioError("a batch of at least one row", f"shape {tuple(batch.shape)}", "Pass inputs (n, ...).")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    module, batch = module.to(device), batch.to(device)
    try:
        with torch.inference_mode():
            module(batch[:1])
    except (RuntimeError, ValueError, TypeError, IndexError) as error:
        got = f"{type(error).__name__}: {error!s:.200}"
        remedy = "Pass inputs=, a batch that the model takes."
        raise DLStudioError(f"inputs that fit the model, not of shape {tuple(batch.shape)}", got, remedy) from error
    costs = _measured(module, batch, opened, device)
    # A disk that is full or read-only takes away the copy, not the result.
    with contextlib.suppress(OSError):
        keep(costs, "measures")
    return costs if opened is None else dataclasses.replace(costs, found=found_of(opened.folder))


def _measured(module: nn.Module, batch: torch.Tensor, run: Run | None, device: torch.device) -> Measures:
    from dlstudio.compare.memory import bytes_of, peak_of_forward

    one, many = _times(module, batch[:1]), _times(module, batch)
    return Measures(
        latency_ms=float(np.median(one)),
        latency_p95_ms=float(np.quantile(one, 0.95)),
        batch_latency_ms=float(np.median(many)),
        batch_latency_p95_ms=float(np.quantile(many, 0.95)),
        rows_per_s=len(batch) / (float(np.median(many)) / 1e3),
        batch_size=len(batch),
        n_parameters=sum(parameter.numel() for parameter in module.parameters()),
        size_mib=bytes_of(module) / MIB,
        peak_mib=peak_of_forward(module, batch) / MIB,
        device=str(device),
        run="" if run is None else run.key,
    )


def _inputs_like(content: dict[str, Any]) -> torch.Tensor:
    """Random inputs of the shape that a checkpoint was trained on."""
    import torch

    data = content["data"]
    size = (int(content["recipe"]["batch_size"]), *data["input_shape"])
    generator = torch.Generator().manual_seed(0)
    if data["n_tokens"] is not None:
        return torch.randint(int(data["n_tokens"]), size, generator=generator)
    return torch.randn(size, generator=generator)


def _times(module: nn.Module, batch: torch.Tensor) -> list[float]:
    """Milliseconds of single forward passes."""
    import torch

    def finish() -> None:
        if batch.is_cuda:
            torch.cuda.synchronize(batch.device)

    taken: list[float] = []
    with torch.inference_mode():
        for _ in range(WARM):
            module(batch)
        finish()
        until = time.perf_counter() + SECONDS
        while len(taken) < LEAST or (len(taken) < MOST and time.perf_counter() < until):
            started = time.perf_counter()
            module(batch)
            finish()
            taken.append((time.perf_counter() - started) * 1e3)
    return taken
