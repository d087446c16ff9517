"""Batches of a data set in an order that depends on seed and epoch only."""

from __future__ import annotations

import itertools
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch

from dlstudio.data.dataset import Dataset, StreamedDataset
from dlstudio.data.weights import row_weights
from dlstudio.errors import DLStudioError
from dlstudio.training import rng
from dlstudio.training.recipe import Recipe

__all__ = ["Batch", "Batches", "InMemoryBatches", "StreamedBatches", "batches_of"]

Batch = tuple[torch.Tensor, torch.Tensor, float, int]
"""Inputs, targets, weight of their mean loss in the step's, and the rows of the step if this batch completes
it, else 0."""

_BLOCK_BYTES = 32 * 2**20
"""Rows are gathered for many batches at once, up to so much memory; a batch is then a view."""
_EVAL_ROWS = 1024


class Batches(ABC):
    """What the two kinds of data have in common: the order of rows and how ranks and steps share it.

    Args:
        dataset: the data.
        recipe: its `batch_size`, `accumulate`, `balanced_sampler`, `reweigh` and `seed` count.
        device: where batches are needed.
        rank: of this process.
        world: number of processes; every one gets its part of each batch.
    """

    def __init__(
        self,
        dataset: Dataset | StreamedDataset,
        recipe: Recipe,
        device: torch.device,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        self.recipe, self.device, self.rank, self.world = recipe, device, rank, world
        self.rows = {name: rows for name, rows in self._splits(dataset).items() if len(rows)}
        if "train" not in self.rows:
            raise DLStudioError("rows to train on", f"an empty training part of {dataset.name!r}", "Give it rows.")
        self._weights = torch.from_numpy(row_weights(dataset, recipe.reweigh)) if recipe.reweigh else None
        self._rows_per_step = recipe.batch_size * recipe.accumulate
        self.steps_per_epoch = -(-len(self.rows["train"]) // self._rows_per_step)

    @abstractmethod
    def _splits(self, dataset: Any) -> dict[str, torch.Tensor]:
        """Return the rows of every part, int64."""

    @abstractmethod
    def targets_of(self, split: str) -> torch.Tensor:
        """Return all targets of a part, on the CPU."""

    @abstractmethod
    def epoch(self, epoch: int, first_step: int = 0) -> Iterator[Batch]:
        """Yield the training batches of an epoch on the device, from the step `first_step` on."""

    @abstractmethod
    def evaluation(self, split: str) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Yield inputs and targets of this rank's share of a part, in order.

        Every rank gets equally many rows, repeated ones at the end where the part does not divide.
        """

    def class_counts(self, n_classes: int) -> torch.Tensor:
        """Return the number of training rows per class, float64 (n_classes,)."""
        return torch.bincount(self.targets_of("train"), minlength=n_classes).double()

    def _order(self, epoch: int) -> torch.Tensor:
        rows, generator = self.rows["train"], rng.own_generator(self.recipe.seed, epoch)
        weights = self._weights
        if self.recipe.balanced_sampler:
            targets = self.targets_of("train")
            weights = 1 / torch.bincount(targets).double()[targets]
        if weights is None:
            return rows[torch.randperm(len(rows), generator=generator)]
        edges = weights.cumsum(0)
        drawn = torch.rand(len(rows), generator=generator, dtype=torch.float64) * edges[-1]
        return rows[torch.searchsorted(edges, drawn).clamp_(max=len(rows) - 1)]

    def _plan(self, order: torch.Tensor) -> Iterator[tuple[torch.Tensor, float, int]]:
        """Rows of this rank's batches, each with its weight and, if it completes a step, the step's rows."""
        for step in order.split(self._rows_per_step):
            batches = step.split(self.recipe.batch_size)
            for position, batch in enumerate(batches, start=1):
                n_rows = len(step) if position == len(batches) else 0
                if self.world == 1:
                    yield batch, len(batch) / len(step), n_rows
                else:
                    # A rank without a row of its own computes one with weight 0: collectives need everyone.
                    own = batch.tensor_split(self.world)[self.rank]
                    yield (own if len(own) else batch[:1]), len(own) * self.world / len(step), n_rows

    def _share(self, split: str) -> tuple[torch.Tensor, ...]:
        rows = self.rows[split]
        per_rank = -(-len(rows) // self.world)
        padded = rows.repeat(2 if self.world > 1 else 1) if len(rows) >= self.world else rows.repeat(self.world)
        own = padded[self.rank * per_rank : (self.rank + 1) * per_rank]
        parts: tuple[torch.Tensor, ...] = own.split(
            max(self.recipe.batch_size, min(4 * self.recipe.batch_size, _EVAL_ROWS))
        )
        return parts


class InMemoryBatches(Batches):
    """Batches of tensors that lie on the device, or on the host where they would take half of its free memory."""

    def __init__(self, dataset: Dataset, recipe: Recipe, device: torch.device, rank: int = 0, world: int = 1) -> None:
        super().__init__(dataset, recipe, device, rank, world)
        self._targets = dataset.targets
        size = dataset.inputs.numel() * dataset.inputs.element_size()
        fits = device.type != "cuda" or size < torch.cuda.mem_get_info(device)[0] / 2
        home = device if fits else torch.device("cpu")
        self.inputs, self.targets = dataset.inputs.to(home), dataset.targets.to(home)
        bytes_per_row = max(size // max(len(dataset.inputs), 1), 1)
        self._batches_per_block = max(_BLOCK_BYTES // (bytes_per_row * recipe.batch_size), 1)

    def _splits(self, dataset: Dataset) -> dict[str, torch.Tensor]:
        return {name: torch.from_numpy(np.array(rows, dtype=np.int64)) for name, rows in dataset.splits.items()}

    def targets_of(self, split: str) -> torch.Tensor:
        return self._targets[self.rows[split]]

    def epoch(self, epoch: int, first_step: int = 0) -> Iterator[Batch]:
        order = self._order(epoch)
        if self.inputs.device.type == "cuda":
            order = order.pin_memory().to(self.inputs.device, non_blocking=True)
        plan, skip = self._plan(order), first_step * self.recipe.accumulate
        while block := list(itertools.islice(plan, self._batches_per_block)):
            if skip >= len(block):
                skip -= len(block)
                continue
            rows = torch.cat([rows for rows, _, _ in block])
            sizes = [len(rows) for rows, _, _ in block]
            inputs, targets = self._gather(rows)
            batches = zip(inputs.split(sizes), targets.split(sizes), block, strict=True)
            # Skipped batches are gathered too: the others then lie where they did in memory, and the last bit of a
            # matrix product can depend on that.
            for x, y, (_, share, n_rows) in itertools.islice(batches, skip, None):
                yield x, y, share, n_rows
            skip = 0

    def evaluation(self, split: str) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        for rows in self._share(split):
            yield self._gather(rows.to(self.inputs.device))

    def _gather(self, rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        inputs, targets = self.inputs.index_select(0, rows), self.targets.index_select(0, rows)
        return inputs.to(self.device), targets.to(self.device)


class StreamedBatches(Batches):
    """Batches read from torch Datasets by a DataLoader in this process, so that their random numbers are the
    run's."""

    def __init__(
        self, dataset: StreamedDataset, recipe: Recipe, device: torch.device, rank: int = 0, world: int = 1
    ) -> None:
        self._parts: dict[str, Any] = {"train": dataset.train, "val": dataset.val, "test": dataset.test}
        self._dtype = torch.float32 if dataset.task == "regression" else torch.int64
        self._known_targets: dict[str, torch.Tensor] = {}
        super().__init__(dataset, recipe, device, rank, world)
        if recipe.balanced_sampler:
            self.targets_of("train")  # now: reading items later would draw from the run's random numbers

    def _splits(self, dataset: StreamedDataset) -> dict[str, torch.Tensor]:
        return {name: torch.arange(len(part)) for name, part in self._parts.items() if part is not None}

    def targets_of(self, split: str) -> torch.Tensor:
        if split not in self._known_targets:
            part = self._parts[split]
            values = [float(part[i][1]) for i in range(len(part))]
            self._known_targets[split] = torch.tensor(values, dtype=torch.float64).to(self._dtype)
        return self._known_targets[split]

    def epoch(self, epoch: int, first_step: int = 0) -> Iterator[Batch]:
        plan = list(self._plan(self._order(epoch)))[first_step * self.recipe.accumulate :]
        read = self._read("train", [rows.tolist() for rows, _, _ in plan])
        for (x, y), (_, share, n_rows) in zip(read, plan, strict=True):
            yield x, y, share, n_rows

    def evaluation(self, split: str) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        yield from self._read(split, [rows.tolist() for rows in self._share(split)])

    def _read(self, split: str, plan: Sequence[list[int]]) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        loader = torch.utils.data.DataLoader(
            self._parts[split],
            batch_sampler=plan,
            generator=torch.Generator(),  # else the loader would draw from the run's random numbers
            pin_memory=self.device.type == "cuda",
        )
        for inputs, targets in loader:
            if targets.numel() != len(targets):
                raise DLStudioError(
                    "one target per row",
                    f"targets of shape {tuple(targets.shape)}",
                    "Return one number per item.",
                )
            targets = targets.reshape(len(targets)).to(self._dtype)
            yield inputs.to(self.device, non_blocking=True), targets.to(self.device, non_blocking=True)


def batches_of(
    dataset: Dataset | StreamedDataset, recipe: Recipe, device: torch.device, rank: int = 0, world: int = 1
) -> Batches:
    """Return the batches of a data set, in memory or streamed."""
    if isinstance(dataset, StreamedDataset):
        return StreamedBatches(dataset, recipe, device, rank, world)
    return InMemoryBatches(dataset, recipe, device, rank, world)
