from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dlstudio.data.splits import grouped_splits, stratified_splits
from dlstudio.errors import DLStudioError


@settings(max_examples=60, deadline=None)
@given(
    counts=st.lists(st.integers(3, 200), min_size=2, max_size=6),
    seed=st.integers(0, 2**31),
)
def test_stratified_parts_partition_the_rows_and_keep_the_mix(counts: list[int], seed: int) -> None:
    classes = np.repeat(np.arange(len(counts)), counts)
    classes = np.random.default_rng(seed).permutation(classes)
    splits = stratified_splits(classes, len(classes), seed=seed)
    assert sorted(np.concatenate(list(splits.values())).tolist()) == list(range(len(classes)))
    for index, count in enumerate(counts):
        for part, share in (("train", 0.7), ("val", 0.15), ("test", 0.15)):
            n = int((classes[splits[part]] == index).sum())
            assert n >= 1
            assert abs(n - share * count) < 1.2  # 1 of 3 where 2.1 are due


def test_the_same_seed_gives_the_same_split() -> None:
    classes = np.arange(300) % 3
    first, again, other = (stratified_splits(classes, 300, seed=seed) for seed in (5, 5, 6))
    assert all(np.array_equal(first[part], again[part]) for part in first)
    assert not np.array_equal(first["test"], other["test"])


def test_regression_rows_split_seventy_fifteen_fifteen() -> None:
    assert {part: len(rows) for part, rows in stratified_splits(None, 1000).items()} == {
        "train": 700,
        "val": 150,
        "test": 150,
    }


def test_too_few_rows_of_a_class_are_counted_and_named() -> None:
    with pytest.raises(DLStudioError, match="2 of class 'rare'"):
        stratified_splits(np.array([0] * 10 + [1] * 2), 12, class_names=("common", "rare"))
    with pytest.raises(DLStudioError, match="got 2"):
        stratified_splits(None, 2)


@settings(max_examples=60, deadline=None)
@given(sizes=st.lists(st.integers(1, 30), min_size=3, max_size=25), seed=st.integers(0, 1000))
def test_no_group_is_in_two_parts(sizes: list[int], seed: int) -> None:
    groups = np.random.default_rng(seed).permutation(np.repeat(np.arange(len(sizes)), sizes))
    splits = grouped_splits(groups, seed=seed)
    assert sorted(np.concatenate(list(splits.values())).tolist()) == list(range(len(groups)))
    parts = [set(groups[rows].tolist()) for rows in splits.values()]
    assert all(parts)
    assert not (parts[0] & parts[1] or parts[0] & parts[2] or parts[1] & parts[2])


def test_many_small_groups_come_near_the_shares_and_the_mix() -> None:
    rng = np.random.default_rng(0)
    groups = rng.integers(0, 400, 4000).astype(str)
    classes = (rng.random(4000) < 0.2).astype(np.int64)
    splits = grouped_splits(groups, classes, seed=3)
    for part, share in (("train", 0.7), ("val", 0.15), ("test", 0.15)):
        assert abs(len(splits[part]) / 4000 - share) < 0.02
        assert abs(classes[splits[part]].mean() - classes.mean()) < 0.02


def test_ten_equal_groups_split_seven_to_three() -> None:
    splits = grouped_splits(np.repeat(np.arange(10), 14))
    assert sorted(len(rows) // 14 for rows in splits.values()) == [1, 2, 7]


def test_too_few_groups_and_a_class_outside_training_are_named() -> None:
    with pytest.raises(DLStudioError, match=r"got 2 \(a, b\)"):
        grouped_splits(np.array(["a", "b", "a"]))
    groups = np.repeat(np.arange(4), [70, 10, 10, 10])
    classes = np.where(groups == 3, 1, 0)
    raised = 0
    for seed in range(10):  # class 1 lives in one group: wherever it goes, another part goes without
        try:
            splits = grouped_splits(groups, classes, seed=seed)
        except DLStudioError as error:
            raised += 1
            assert "[1]" in str(error)
        else:
            assert 1 in classes[splits["train"]]
    assert raised < 10
