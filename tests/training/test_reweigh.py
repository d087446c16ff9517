"""Rows drawn by reweighing: in what is drawn, outcome and group have nothing to do with each other."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from dlstudio.data.weights import independence_weights, row_weights
from dlstudio.errors import DLStudioError
from dlstudio.training.batches import batches_of
from dlstudio.training.recipe import Recipe

CPU = torch.device("cpu")


@pytest.fixture
def leaning(dataset: Any) -> Any:
    """2,000 training rows in which class 1 is more frequent in one group, and the groups beside them."""
    data = dataset("binary", n=4000)
    generator = np.random.default_rng(0)
    group = np.where(generator.random(4000) < np.where(data.targets.numpy() == 1, 0.8, 0.3), "a", "b").astype(object)
    group[::50] = None
    return dataclasses.replace(data, frame=pd.DataFrame({"group": group, "age": generator.integers(0, 3, 4000)}))


def test_groups_share_classes_alike_in_what_is_drawn(leaning: Any) -> None:
    batches = batches_of(leaning, Recipe(reweigh=("group",), batch_size=2000), CPU)
    where = {float(value): row for row, value in enumerate(leaning.inputs[:, 0])}
    rows = [where[float(value)] for epoch in range(20) for x, *_ in batches.epoch(epoch) for value in x[:, 0]]
    drawn = leaning.frame.iloc[rows].assign(y=leaning.targets[rows].numpy())
    drawn["group"] = drawn["group"].fillna("missing")
    train = leaning.targets[leaning.splits["train"]].float().mean().item()
    for name, group in drawn.groupby("group"):
        error = 6 * 0.5 / np.sqrt(len(group))
        assert abs(group["y"].mean() - train) < error, name
    plain = leaning.frame.iloc[leaning.splits["train"]].assign(y=leaning.targets[leaning.splits["train"]].numpy())
    assert np.ptp(plain.groupby("group")["y"].mean()) > 0.3, "without weights they differ"
    again = batches_of(leaning, Recipe(reweigh=("group",), batch_size=2000), CPU)
    assert torch.equal(next(iter(again.epoch(3)))[0], next(iter(batches.epoch(3)))[0])


def test_weights_are_those_of_the_training_rows(leaning: Any) -> None:
    found = row_weights(leaning, ("group", "age"))
    rows = leaning.splits["train"]
    frame = leaning.frame.iloc[rows].assign(y=leaning.targets[rows].numpy(), w=found)
    frame["group"] = frame["group"].fillna("missing")
    n = len(rows)
    for (group, age, y), cell in frame.groupby(["group", "age", "y"]):
        of_group = ((frame["group"] == group) & (frame["age"] == age)).sum()
        assert cell["w"].to_numpy() == pytest.approx(of_group * (frame["y"] == y).sum() / (n * len(cell)))


@pytest.mark.parametrize(
    ("columns", "change", "words"),
    [
        (("grup",), {}, "Did you mean 'group'"),
        (("group",), {"frame": None}, "named columns"),
        (("group",), {"task": "regression"}, "a classification task"),
    ],
)
def test_what_cannot_be_reweighed_is_told(leaning: Any, columns: Any, change: dict[str, Any], words: str) -> None:
    with pytest.raises(DLStudioError, match=words):
        batches_of(dataclasses.replace(leaning, **change), Recipe(reweigh=columns), CPU)


def test_two_rules_by_which_rows_are_drawn_are_refused() -> None:
    with pytest.raises(DLStudioError, match="reweigh and balanced_sampler"):
        Recipe(reweigh=("a",), balanced_sampler=True)
    assert Recipe.from_dict(Recipe(reweigh=["a", "b"]).to_dict()).reweigh == ("a", "b")


def test_a_group_without_a_class_is_named() -> None:
    with pytest.raises(DLStudioError, match="2 rows of group b and none of outcome 1"):
        independence_weights([0, 1, 0, 0], ["a", "a", "b", "b"])
