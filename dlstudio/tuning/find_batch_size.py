"""Which batch size to train with? Sizes are tried on copies of the training, larger and larger."""

from __future__ import annotations

import contextlib
import dataclasses
import gc
import resource
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import psutil
import torch
from torch import nn

from dlstudio.errors import DLStudioError
from dlstudio.limits import Limit, whole_number
from dlstudio.running import out_of_memory
from dlstudio.training.recipe import Recipe
from dlstudio.tuning.batch_sizes import BatchSizes, read_sizes
from dlstudio.tuning.rehearsal import (
    Loss,
    Own,
    Part,
    Rehearsal,
    as_own,
    batches_of_loader,
    of_model,
    of_recipe,
    unnoticed,
)

__all__ = ["find_batch_size"]

MIB = 2**20
FINE = 32
"""The largest size is found to within this part of itself."""
ROOM = 0.8
"""Of the free memory of a CPU, which is never refused but ends in the process being killed."""
SPELLS, SPELL_S = 3, 0.1
"""The time of a step is the median of so many spells, each of so many seconds at least."""


def find_batch_size(
    what: Recipe | nn.Module,
    *,
    loader: Iterable[Any] | None = None,
    loss: Loss | None = None,
    optimizer: torch.optim.Optimizer | Callable[..., torch.optim.Optimizer] | None = None,
    smallest: int = 8,
    largest: int | None = None,
    max_seconds: float = 60.0,
    seed: int | None = None,
) -> BatchSizes:
    """Train a few steps with batches that double until memory, the data or the time ends, and time them.

    Where memory ends, the largest size that fits is found by bisection, to within 3 %. Everything happens on copies:
    the model, the optimiser and the random numbers of the caller stay as they are, and nothing is recorded.

    Args:
        what: a recipe, or a module of your own.
        loader: for a module: yields pairs (inputs, targets) of tensors; rows of its first batch are repeated.
        loss: for a module: a function of outputs and targets.
        optimizer: for a module: the optimiser, or a function of parameters that makes one; AdamW when None.
        smallest: the first size tried.
        largest: the last one; the rows of the training data when None.
        max_seconds: no further size is begun after this time.
        seed: of the weights; the recipe's, or 0, when None.

    Returns:
        What fits and how fast it trains, and the smallest size within 5 % of the fastest. Where the number of rows is
        known, a size that leaves an epoch fewer than 20 steps is not suggested unless it is the first one tried.

    Raises:
        DLStudioError: the model cannot be trained, or a number is out of range.

    Example:
        >>> found = find_batch_size(Recipe(data="fashion", model="cnn"))
        >>> found.suggestion, found.largest
    """
    started = time.perf_counter()
    smallest = whole_number("smallest", smallest, 1, "Try smallest=8.")
    if largest is not None:
        largest = whole_number("largest", largest, smallest, "Leave it out to go up to all rows.")
    if seed is not None:
        seed = Recipe(seed=seed).seed  # a module of one's own takes the seeds that recipes have
    limit = Limit(max_seconds)
    own = as_own(what, loader, loss, optimizer, "find_batch_size")
    with unnoticed(own):
        trials = _trials(what, own, seed)
        most = min(size for size in (largest, trials.n_rows, 2**20) if size is not None)
        tried, limited_by = _search(trials, min(smallest, most), most, limit)
    if limited_by == "asked" and most == trials.n_rows:
        limited_by = "data"
    return BatchSizes(
        **read_sizes(tried, limited_by, trials.n_rows),
        device=trials.device,
        **trials.words,
        n_rows=trials.n_rows,
        settings={"smallest": smallest, "largest": largest, "max_seconds": max_seconds, "seed": seed},
        wall_s=time.perf_counter() - started,
    )


@dataclasses.dataclass(kw_only=True)
class _Trials:
    """Makes trainings of one model with batches of any size."""

    make: Callable[[int], Rehearsal]
    n_rows: int | None
    device: str
    words: dict[str, Any]
    bytes_per_row: float = 0.0
    """By how much a CPU's process grew, at the last size that made it grow."""


def _trials(what: Any, own: Own | None, seed: int | None) -> _Trials:
    if own is None:
        recipe = (what if seed is None else what.replace(seed=seed)).replace(accumulate=1)
        first, ready = of_recipe(recipe)

        def make(size: int) -> Rehearsal:
            return of_recipe(ready.replace(batch_size=size))[0]
    else:
        first = of_model(own, seed or 0)
        pair = next(batches_of_loader(own.loader, first.device))
        if not all(isinstance(part, torch.Tensor) and len(part) for part in pair):
            raise DLStudioError("tensors of rows from the loader", "something else", "Yield (inputs, targets).")

        def make(size: int) -> Rehearsal:
            made = of_model(own, seed or 0)
            rows = torch.arange(size, device=first.device) % len(pair[1])
            made.steps, made.batch_size = _same([(pair[0][rows], pair[1][rows], 1.0)]), size
            return made

    return _Trials(make=make, n_rows=first.n_rows, device=str(first.device), words=first.words)


def _same(parts: list[Part]) -> Iterator[list[Part]]:
    while True:
        yield parts


def _search(trials: _Trials, smallest: int, most: int, limit: Limit) -> tuple[list[dict[str, Any]], str]:
    """Double, then bisect where memory ended."""
    tried: list[dict[str, Any]] = []
    size, refused = smallest, None
    while refused is None:
        row = _try(trials, size, timed=True)
        tried.append(row)
        if not row["fits"]:
            refused = size
        elif size >= most:
            return tried, "asked"
        elif limit.is_set():
            return tried, "time"
        else:
            size = min(2 * size, most)
    fits = max((row["batch_size"] for row in tried if row["fits"]), default=0)
    while refused - fits > max(1, fits // FINE) and not limit.is_set():
        size = (fits + refused) // 2
        row = _try(trials, size, timed=fits == 0)  # below the smallest, something has to be timed
        tried.append(row)
        fits, refused = (size, refused) if row["fits"] else (fits, size)
    return tried, "memory"


def _try(trials: _Trials, size: int, *, timed: bool) -> dict[str, Any]:
    row: dict[str, Any] = {
        "batch_size": size, "fits": False, "step_ms": float("nan"), "rows_per_s": float("nan"),
        "memory_mib": float("nan"),
    }  # fmt: skip
    on_gpu = trials.device.startswith("cuda")
    if not on_gpu and trials.bytes_per_row * size > ROOM * _free_bytes():
        return row
    before = _peak_bytes()
    try:
        with _fresh_memory(trials.device):
            training = trials.make(size)
            for _ in range(2):  # the first steps allocate, and compile
                training.step()
            if timed:
                row["step_ms"] = _step_ms(training)
                row["rows_per_s"] = 1e3 * size / row["step_ms"]
            if on_gpu:
                row["memory_mib"] = torch.cuda.max_memory_allocated(training.device) / MIB
            row["fits"] = True
    except (RuntimeError, MemoryError) as error:
        if not out_of_memory(error):
            raise
    if not on_gpu:
        grown = _peak_bytes() - before
        if grown > 16 * MIB:  # less is noise of the allocator
            row["memory_mib"] = grown / MIB
            trials.bytes_per_row = max(trials.bytes_per_row, grown / size)
    return row


def _step_ms(training: Rehearsal) -> float:
    spells = []
    for _ in range(SPELLS):
        _synchronise(training.device)
        start, n_steps = time.perf_counter(), 0
        while n_steps == 0 or time.perf_counter() - start < SPELL_S:
            training.step()
            n_steps += 1
            _synchronise(training.device)
        spells.append((time.perf_counter() - start) / n_steps)
    return 1e3 * statistics.median(spells)


def _synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


@contextlib.contextmanager
def _fresh_memory(device: str) -> Iterator[None]:
    """Count and free the memory of one training alone."""
    if device.startswith("cuda"):
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
    try:
        yield
    finally:
        gc.collect()
        if device.startswith("cuda"):
            torch.cuda.empty_cache()


def _peak_bytes() -> int:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _free_bytes() -> int:
    """What this process may still take, of the machine and of its container."""
    free = int(psutil.virtual_memory().available)
    with contextlib.suppress(OSError, ValueError):
        group = Path("/sys/fs/cgroup")
        free = min(free, int((group / "memory.max").read_text()) - int((group / "memory.current").read_text()))
    return free
