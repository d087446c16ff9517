from __future__ import annotations

import dataclasses
import hashlib
import pickle

import cloudpickle
import numpy as np
import pandas as pd
import pytest
import torch

from dlstudio.data.dataset import Dataset, fingerprint
from dlstudio.data.load import load
from dlstudio.errors import DLStudioError


def small(**changes: object) -> Dataset:
    values: dict[str, object] = {
        "name": "small",
        "modality": "tabular",
        "task": "binary",
        "inputs": torch.arange(12.0).reshape(6, 2),
        "targets": torch.tensor([0, 1, 0, 1, 0, 1]),
        "splits": {"train": np.array([0, 1, 4]), "val": np.array([2]), "test": np.array([3, 5])},
        "class_names": ("no", "yes"),
    }
    return Dataset(**(values | changes))  # type: ignore[arg-type]


def test_split_gives_the_rows_of_one_part() -> None:
    inputs, targets = small().split("test")
    assert inputs.tolist() == [[6.0, 7.0], [10.0, 11.0]]
    assert targets.tolist() == [1, 1]


def test_an_unknown_part_gets_the_nearest() -> None:
    with pytest.raises(DLStudioError, match="Did you mean 'train'"):
        small().split("training")


def test_shape_and_classes() -> None:
    data = small()
    assert (data.n_classes, data.input_shape, len(data)) == (2, (2,), 6)
    assert "small" in repr(data)
    assert "train 3" in repr(data)


def test_fingerprint_is_the_sha256_of_the_bytes() -> None:
    data = small()
    by_hand = hashlib.sha256()
    parts = [
        ("inputs", np.arange(12, dtype="<f4").reshape(6, 2)),
        ("targets", np.array([0, 1, 0, 1, 0, 1], dtype="<i8")),
        ("test", np.array([3, 5], dtype="<i8")),
        ("train", np.array([0, 1, 4], dtype="<i8")),
        ("val", np.array([2], dtype="<i8")),
    ]
    for name, array in parts:
        by_hand.update(f"{name} {array.dtype.str} {array.shape}\n".encode() + array.tobytes())
    assert data.fingerprint == by_hand.hexdigest()


def test_one_changed_value_changes_the_fingerprint() -> None:
    data = small()
    inputs = data.inputs.clone()
    inputs[5, 1] = torch.nextafter(inputs[5, 1], torch.tensor(100.0))
    targets = data.targets.clone()
    targets[0] = 1
    splits = dict(data.splits) | {"val": np.array([5]), "test": np.array([2, 3])}
    prints = {
        data.fingerprint,
        fingerprint(inputs, data.targets, data.splits),
        fingerprint(data.inputs, targets, data.splits),
        fingerprint(data.inputs, data.targets, splits),
        fingerprint(data.inputs.reshape(3, 4), data.targets, data.splits),
    }
    assert len(prints) == 5
    assert fingerprint(data.inputs.t().contiguous().t(), data.targets, data.splits) == data.fingerprint


def test_the_frame_is_read_once_and_when_asked_for() -> None:
    calls = []

    def read() -> pd.DataFrame:
        calls.append(1)
        return pd.DataFrame({"a": range(6)})

    data = small(frame=read)
    assert calls == []
    assert data.frame is data.frame
    assert calls == [1]
    assert small().frame is None
    frame = pd.DataFrame({"a": range(6)})
    assert small(frame=frame).frame is frame


def test_a_dataset_cannot_be_changed_in_place() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        small().name = "other"  # type: ignore[misc]
    changed = dataclasses.replace(small(), name="other")
    assert changed.fingerprint == small().fingerprint


@pytest.mark.parametrize("pickler", [pickle, cloudpickle])
def test_a_dataset_travels_to_another_process(pickler: object) -> None:
    data = load("mortgage")
    copy = pickle.loads(pickler.dumps(data))  # type: ignore[attr-defined]
    assert copy.fingerprint == data.fingerprint == fingerprint(copy.inputs, copy.targets, copy.splits)
    assert copy.frame.shape == (1989, 61)
