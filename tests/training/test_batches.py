from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.utils.data import TensorDataset

from dlstudio.data.prepare import prepare
from dlstudio.errors import DLStudioError
from dlstudio.training.batches import batches_of
from dlstudio.training.recipe import Recipe

CPU = torch.device("cpu")


def _rows(dataset: Any, batches: list[Any]) -> list[list[int]]:
    """Which rows of the data each batch holds, found by their first feature, which is unique."""
    where = {float(v): i for i, v in enumerate(dataset.inputs[:, 0])}
    return [[where[float(v)] for v in inputs[:, 0]] for inputs, *_ in batches]


def test_an_epoch_is_a_permutation_of_the_training_rows(dataset: Any) -> None:
    data = dataset(n=150)
    batches = batches_of(data, Recipe(batch_size=16), CPU)
    epoch = list(batches.epoch(0))
    rows = _rows(data, epoch)
    assert [len(r) for r in rows] == [16] * 4 + [11] and batches.steps_per_epoch == 5
    assert sorted(sum(rows, [])) == sorted(data.splits["train"].tolist())
    assert all(torch.equal(y, data.targets[r]) for r, (_, y, _, _) in zip(rows, epoch, strict=True))
    assert rows == _rows(data, list(batches.epoch(0))) and rows != _rows(data, list(batches.epoch(1)))
    assert rows != _rows(data, list(batches_of(data, Recipe(batch_size=16, seed=1), CPU).epoch(0)))
    assert _rows(data, list(batches.epoch(0, first_step=3))) == rows[3:]
    assert list(batches.epoch(0, first_step=5)) == []


def test_shares_of_a_step_sum_to_one_and_its_rows_come_with_the_last_batch(dataset: Any) -> None:
    batches = batches_of(dataset(n=150), Recipe(batch_size=16, accumulate=3), CPU)  # 75 rows: 48, then 27
    assert batches.steps_per_epoch == 2
    found = [(len(x), share, n_rows) for x, _, share, n_rows in batches.epoch(0)]
    assert [n for n, _, _ in found] == [16, 16, 16, 16, 11]
    assert [s for _, s, _ in found] == pytest.approx([1 / 3] * 3 + [16 / 27, 11 / 27])
    assert [n for _, _, n in found] == [0, 0, 48, 0, 27]
    assert [n for _, _, _, n in batches.epoch(0, first_step=1)] == [0, 27]


@pytest.mark.parametrize("world", [2, 3])
@pytest.mark.parametrize("batch_size", [16, 37])
def test_ranks_divide_each_batch_and_weigh_their_parts(dataset: Any, world: int, batch_size: int) -> None:
    data = dataset(n=150)
    recipe = Recipe(batch_size=batch_size, accumulate=2)
    whole = _rows(data, list(batches_of(data, recipe, CPU).epoch(0)))
    ranks = [list(batches_of(data, recipe, CPU, rank, world).epoch(0)) for rank in range(world)]
    together: list[list[int]] = [[] for _ in whole]
    for rank in ranks:
        for number, (rows, (_, _, share, _)) in enumerate(zip(_rows(data, rank), rank, strict=True)):
            together[number] += rows if share else []
    assert together == whole
    n_rows = [[n for _, _, _, n in rank] for rank in ranks]
    assert all(n == n_rows[0] for n in n_rows)
    # The mean over ranks of share times local mean is the mean over the step.
    done = 0
    for number, n in enumerate(n_rows[0]):
        if n:
            shares = sum(rank[i][2] for rank in ranks for i in range(done, number + 1))
            assert shares / world == pytest.approx(1)
            done = number + 1


def test_a_rank_without_rows_still_has_a_batch_of_weight_zero(dataset: Any) -> None:
    data = dataset(n=6)  # 3 training rows in batches of 2
    last = list(batches_of(data, Recipe(batch_size=2), CPU, 1, 2).epoch(0))[-1]
    assert len(last[0]) == 1 and last[2] == 0.0 and last[3] == 1


@pytest.mark.parametrize("world", [1, 2, 3, 50])
def test_evaluation_shares_rejoin_in_order(dataset: Any, world: int) -> None:
    data = dataset(n=150)
    parts = [
        torch.cat([x for x, _ in batches_of(data, Recipe(batch_size=4), CPU, rank, world).evaluation("val")])
        for rank in range(world)
    ]
    assert len({len(part) for part in parts}) == 1
    n = len(data.splits["val"])
    assert torch.equal(torch.cat(parts)[:n], data.inputs[data.splits["val"]])


def test_balanced_sampler_draws_rare_classes_as_often(dataset: Any) -> None:
    data = dataset("binary", n=4000)
    rare = torch.where(data.targets == 1)[0][::10]
    train = torch.cat([torch.where(data.targets == 0)[0], rare]).numpy()
    object.__setattr__(data, "splits", {"train": train})
    batches = batches_of(data, Recipe(balanced_sampler=True), CPU)
    drawn = torch.cat([y for _, y, _, _ in batches.epoch(0)])
    # 2,200 fair coin flips: six standard deviations are 0.064
    assert len(drawn) == len(train) == 2200 and abs(drawn.float().mean().item() - 0.5) < 0.064


def test_streamed_batches_are_those_in_memory(dataset: Any) -> None:
    data = dataset(n=150)
    parts = {name: TensorDataset(*data.split(name)) for name in ("train", "val", "test")}
    streamed = batches_of(prepare(parts), Recipe(batch_size=16, accumulate=2), CPU)
    order = torch.cat([x for x, _, _, _ in streamed.epoch(2)])
    state = torch.get_rng_state()
    again = [x for x, _, _, _ in streamed.epoch(2, first_step=1)]
    assert torch.equal(torch.get_rng_state(), state), "reading must not draw from the run's random numbers"
    assert torch.equal(torch.cat(again), order[32:])
    assert [n for _, _, _, n in streamed.epoch(2)] == [0, 32, 0, 32, 11]
    x, y = zip(*streamed.evaluation("test"), strict=True)
    assert torch.equal(torch.cat(x), data.split("test")[0]) and torch.equal(torch.cat(y), data.split("test")[1])
    assert streamed.class_counts(3).sum() == 75


def test_an_empty_training_part_is_refused(dataset: Any) -> None:
    data = dataset(n=20)
    object.__setattr__(data, "splits", {"train": data.splits["train"][:0], "val": data.splits["val"]})
    with pytest.raises(DLStudioError, match="empty training part"):
        batches_of(data, Recipe(), CPU)
