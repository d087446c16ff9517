"""Data of the user's own, of every kind, good and bad."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch.utils.data import Dataset as TorchDataset
from torch.utils.data import IterableDataset, TensorDataset

from dlstudio.data.dataset import Dataset, StreamedDataset
from dlstudio.data.load import load
from dlstudio.data.prepare import prepare
from dlstudio.errors import DLStudioError


def people(n: int = 60) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    return pd.DataFrame(
        {
            "age": rng.integers(18, 80, n),
            "income": rng.normal(40.0, 9.0, n),
            "job": rng.choice(["cook", "nurse", "smith"], n),
            "size": pd.Categorical(rng.choice(["small", "large"], n), categories=["small", "large"]),
            "member": rng.random(n) < 0.5,
            "children": pd.array(rng.integers(0, 4, n), dtype="Int64"),
            "sex": rng.choice(["f", "m"], n),
            "clinic": rng.choice([f"clinic {i}" for i in range(8)], n),
            "grade": np.tile(["high", "low", "mid"], n // 3),
        }
    )


def test_a_frame_of_mixed_columns() -> None:
    frame = people()
    data = prepare(frame, target="grade", sensitive=("sex",), groups="clinic", name="people")
    assert isinstance(data, Dataset)
    assert (data.name, data.modality, data.task) == ("people", "tabular", "multiclass")
    assert data.class_names == ("high", "low", "mid")
    assert [data.class_names[index] for index in data.targets] == frame.grade.tolist()
    assert set(data.column_of_feature) == {"age", "income", "job", "size", "member", "children"}
    assert {"job=cook", "size=large", "member", "children"} <= set(data.feature_names)
    assert data.sensitive == ("sex",)
    assert data.frame is not None
    pd.testing.assert_frame_equal(data.frame, frame)
    parts = [set(frame.clinic.iloc[rows]) for rows in data.splits.values()]
    assert sum(map(len, parts)) == len(set.union(*parts))
    train = data.split("train")[0][:, :2].double()
    torch.testing.assert_close(train.mean(dim=0), torch.zeros(2, dtype=torch.float64), atol=1e-6, rtol=0)
    torch.testing.assert_close(train.std(0, correction=0), torch.ones(2, dtype=torch.float64), atol=1e-6, rtol=0)


def test_rows_are_found_by_position_whatever_the_index() -> None:
    frame = people()
    shuffled = frame.set_index(np.arange(60)[::-1] + 1000)
    assert prepare(frame, target="grade").fingerprint == prepare(shuffled, target="grade").fingerprint


@pytest.mark.parametrize(
    ("values", "task", "class_names"),
    [
        (["no", "yes"] * 20, "binary", ("no", "yes")),
        ([False, True] * 20, "binary", ("False", "True")),
        ([3, 7] * 20, "binary", ("3", "7")),
        ([0.0, 1.0] * 20, "binary", ("0", "1")),
        (list(range(4)) * 10, "multiclass", ("0", "1", "2", "3")),
        ([0.5, 1.5] * 20, "regression", ()),
        (list(range(1000)), "regression", ()),
        (pd.array([1, 2] * 20, dtype="Int64"), "binary", ("1", "2")),
        (pd.array([True, False] * 20, dtype="boolean"), "binary", ("False", "True")),
        (pd.Categorical(["lo", "hi"] * 20, categories=["lo", "hi", "none"]), "binary", ("lo", "hi")),
        (pd.Categorical([20, 5, 100] * 20), "multiclass", ("5", "20", "100")),
        (pd.Series([1, 0] * 20, dtype=object), "binary", ("0", "1")),
        (pd.Series([1.5, 2.5] * 20, dtype="Float64"), "regression", ()),
    ],
)
def test_the_task_follows_from_the_target(values: Any, task: str, class_names: tuple[str, ...]) -> None:
    frame = pd.DataFrame({"x": np.arange(len(values), dtype=float), "y": values})
    data = prepare(frame, target="y")
    assert isinstance(data, Dataset)
    assert (data.task, data.class_names) == (task, class_names)
    if class_names:
        shown = [f"{v:g}" if isinstance(v, float) else str(v) for v in frame.y.tolist()]
        assert [data.class_names[index] for index in data.targets] == shown
    else:
        assert data.targets.dtype == torch.float32
        np.testing.assert_allclose(data.targets.numpy(), frame.y.to_numpy(dtype=float))


def test_one_column_of_free_text_becomes_tokens() -> None:
    texts = [f"this is text number {i} about {'cats' if i % 2 else 'dogs'}" for i in range(300)]
    data = prepare(pd.DataFrame({"text": texts, "label": [i % 2 for i in range(300)]}), target="label")
    assert isinstance(data, Dataset)
    assert data.modality == "text"
    words = [data.vocabulary[token] for token in data.inputs[1] if token]
    assert words[:4] == ["this", "is", "text", "number"]
    assert words[-1] == "cats"


def test_missing_features_can_be_filled_with_the_training_median() -> None:
    frame = people().assign(income=lambda f: f.income.where(f.age > 30))
    data = prepare(frame, target="grade", missing="impute")
    assert isinstance(data, Dataset)
    train = data.splits["train"]
    row = int(np.flatnonzero(frame.income.isna())[0])
    filled = frame.income.fillna(frame.income.iloc[train].median())
    expected = (filled[row] - filled.iloc[train].mean()) / filled.iloc[train].std(ddof=0)
    assert float(data.inputs[row, data.feature_names.index("income")]) == pytest.approx(expected, rel=1e-5)


def test_a_frame_with_its_target_beside_it() -> None:
    frame = people()
    beside = prepare((frame.drop(columns="grade"), frame.grade))
    assert beside.fingerprint == prepare(frame, target="grade").fingerprint
    assert isinstance(beside, Dataset)
    assert beside.target_name == "grade"


ERRORS: list[tuple[dict[str, Any], str]] = [
    ({"target": "grad"}, "Did you mean 'grade'"),
    ({"target": None}, "Pass target="),
    ({"target": "grade", "sensitive": ("sec",)}, "Did you mean 'sex'"),
    ({"target": "grade", "sensitive": "sec"}, "Did you mean 'sex'"),
    ({"target": "grade", "groups": "clinik"}, "Did you mean 'clinic'"),
    ({"target": "grade", "groups": [1, 2]}, r"shape \(60,\), but got shape \(2,\)"),
    ({"target": "grade", "groups": "sex"}, r"three groups.*got 2 \(f, m\)"),
    ({"target": "grade", "missing": "drop"}, "missing names"),
]


@pytest.mark.parametrize(("options", "message"), ERRORS)
def test_wrong_options_for_a_frame(options: dict[str, Any], message: str) -> None:
    with pytest.raises(DLStudioError, match=message):
        prepare(people(), **options)


FRAMES: list[tuple[Any, str]] = [
    (lambda f: f.iloc[:0], r"at least one row.*\(0, 9\)"),
    (lambda f: f.assign(grade="high"), "only high in all 60 rows of 'grade'"),
    (lambda f: f.assign(grade=f.grade.where(f.index > 4)), "5 of 60 values of 'grade' missing"),
    (lambda f: f.assign(grade=np.where(f.index > 1, 1.5, np.nan)), "2 of 60 values of 'grade' missing"),
    (lambda f: f.assign(grade=np.where(f.index > 1, 1.5, np.inf)), "2 of 60 values of 'grade'"),
    (lambda f: f.assign(grade=pd.array([None, *[1, 2] * 29, 1], dtype="Int64")), "1 of 60 values of 'grade'"),
    (lambda f: f.assign(grade=["only once", *["a", "b"] * 29, "a"]), "1 of class 'only once'"),
    (lambda f: f.assign(income=f.income.where(f.index > 2)), r"'income' \(3\) of 60 rows"),
    (lambda f: f.assign(job=f.job.where(f.index > 3)), r"'job' \(4\) of 60 rows"),
    (lambda f: f.assign(income=np.inf), r"infinite values in 'income' \(60\)"),
    (lambda f: f.assign(when=pd.Timestamp("2024-05-01")), "datetime64 values in 'when'"),
    (lambda f: f.assign(odd=[[1], {}] * 30), "mixed values in 'odd'"),
    (lambda f: f.assign(wave=1j), "complex values in 'wave'"),
    (lambda f: pd.concat([f, f[["age", "job"]]], axis=1), "'age', 'job' more than once"),
    (lambda f: f[["grade"]], "at least one feature column"),
    (lambda f: f.assign(key=[f"key{i}" for i in range(60)]).loc[np.arange(600) % 60].assign(
        key=[f"key{i}" for i in range(600)]), "600 in 'key'"),
]  # fmt: skip


@pytest.mark.parametrize(("spoil", "message"), FRAMES)
def test_bad_frames_say_what_and_where(spoil: Any, message: str) -> None:
    with pytest.raises(DLStudioError, match=message):
        prepare(spoil(people()), target="grade")


@pytest.mark.parametrize(
    ("x", "modality", "shape", "dtype"),
    [
        (np.zeros((40, 5)), "tabular", (5,), torch.float32),
        (torch.zeros(40, 5, dtype=torch.bfloat16), "tabular", (5,), torch.float32),
        (np.zeros((40, 5), dtype=bool), "tabular", (5,), torch.float32),
        (np.ones((40, 12), dtype=np.int32), "text", (12,), torch.int64),
        (np.zeros((40, 9, 3)), "sequence", (9, 3), torch.float32),
        (np.zeros((40, 8, 8), dtype=np.uint8), "image", (1, 8, 8), torch.float32),
        (np.zeros((40, 3, 8, 8)), "image", (3, 8, 8), torch.float32),
        (torch.zeros(40, 3, 8, 8, dtype=torch.uint8), "image", (3, 8, 8), torch.float32),
    ],
)
def test_arrays_of_every_modality(x: Any, modality: str, shape: tuple[int, ...], dtype: torch.dtype) -> None:
    data = prepare((x, np.arange(40) % 2))
    assert isinstance(data, Dataset)
    assert (data.modality, data.input_shape, data.inputs.dtype) == (modality, shape, dtype)
    assert data.frame is None


def test_arrays_are_taken_as_they_are() -> None:
    x = torch.randn(40, 3)
    data = prepare((x, torch.randn(40, 1)))
    assert isinstance(data, Dataset)
    assert data.task == "regression"
    assert torch.equal(data.inputs, x)
    images = np.full((40, 4, 4), 51, dtype=np.uint8)
    scaled = prepare((images, np.arange(40) % 2))
    assert isinstance(scaled, Dataset)
    assert scaled.inputs.unique().tolist() == pytest.approx([0.2])


def test_groups_of_arrays_stay_together() -> None:
    groups = np.repeat(np.arange(10), 4)
    data = prepare((np.random.default_rng(0).normal(size=(40, 2)), np.arange(40) % 2), groups=groups)
    assert isinstance(data, Dataset)
    parts = [set(groups[rows].tolist()) for rows in data.splits.values()]
    assert sum(map(len, parts)) == 10


def spoilt(value: float) -> np.ndarray:
    x = np.zeros((40, 5))
    x[:3, 4] = value
    x[7, 1] = value
    return x


ARRAYS: list[tuple[Any, Any, str]] = [
    (spoilt(np.nan), np.arange(40) % 2, r"4 NaN or infinite values in columns 1 \(1\), 4 \(3\)"),
    (spoilt(np.inf), np.arange(40) % 2, "4 NaN or infinite"),
    (spoilt(np.nan)[:, None, :], np.arange(40) % 2, "in 4 of 40 rows"),
    (np.zeros((40, 5)), np.arange(39) % 2, "40 inputs and 39 targets"),
    (np.zeros((0, 5)), np.zeros(0), r"shape \(0, 5\)"),
    (np.zeros((40, 5)), np.zeros(40, dtype=int), "only 0 in all 40 rows"),
    (np.zeros((40, 5)), np.eye(40), r"shape \(40, 40\).*argmax"),
    (np.zeros((40, 5)), np.full(40, np.nan), "40 of 40 values"),
    (np.zeros(40), np.arange(40) % 2, r"X.reshape\(-1, 1\)"),
    (np.zeros((40, 8, 8, 3)), np.arange(40) % 2, "moveaxis"),
    (np.zeros((4, 1, 2, 3, 4)), np.arange(4) % 2, "Reshape X"),
    (np.array([["a", "b"]] * 40), np.arange(40) % 2, "DataFrame"),
    (-np.ones((40, 3), dtype=int), np.arange(40) % 2, "-1 in X.*float"),
    (np.zeros((40, 2), dtype=complex), np.arange(40) % 2, "real numbers"),
    (np.zeros((40, 2)), ["rare", *["a"] * 39], "1 of class 'rare'"),
]


@pytest.mark.parametrize(("x", "y", "message"), ARRAYS)
def test_bad_arrays_say_what_and_where(x: Any, y: Any, message: str) -> None:
    with pytest.raises(DLStudioError, match=message):
        prepare((x, y))


@pytest.mark.parametrize(
    ("data", "options", "message"),
    [
        ("mortgag", {}, "Did you mean 'mortgage'"),
        ("mortgage", {"target": "white"}, "with its own target"),
        ("mortgage", {"groups": "white"}, "groups"),
        ("mortgage", {"sensitive": ("blak",)}, "Did you mean 'black'"),
        ("digits", {"sensitive": ("black",)}, "named columns"),
        ((np.zeros((9, 2)), np.arange(9) % 2), {"target": "y"}, "DataFrame where columns are named"),
        (7, {}, "got int"),
        (None, {}, "got NoneType"),
    ],
)
def test_options_that_do_not_go_with_the_data(data: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(DLStudioError, match=message):
        prepare(data, **options)


def test_a_bundled_name_and_finished_data_pass_through() -> None:
    data = load("mortgage")
    assert prepare("mortgage").fingerprint == data.fingerprint
    assert prepare("mortgage", target="approve", seed=1).fingerprint == load("mortgage", seed=1).fingerprint
    assert prepare(data) is data
    chosen = prepare(data, sensitive=("black",))
    assert isinstance(chosen, Dataset)
    assert (chosen.sensitive, chosen.fingerprint) == (("black",), data.fingerprint)


class Squares(TorchDataset[tuple[torch.Tensor, int]]):
    """Images whose class is their brightness, made on request."""

    def __init__(self, n: int) -> None:
        self.n = n

    def __len__(self) -> int:
        return self.n

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        return torch.full((1, 6, 6), float(index % 3)), index % 3


def test_torch_datasets_are_described_and_left_alone() -> None:
    train, val = Squares(30), Squares(9)
    data = prepare({"train": train, "val": val}, name="squares")
    assert isinstance(data, StreamedDataset)
    assert (data.train, data.val, data.test) == (train, val, None)
    assert (data.task, data.n_classes, data.input_shape, data.modality) == (
        "multiclass",
        3,
        (1, 6, 6),
        "image",
    )
    assert data.class_names == ("0", "1", "2")
    assert data.fingerprint == prepare({"train": Squares(30), "val": Squares(9)}).fingerprint
    assert data.fingerprint != prepare({"train": Squares(31), "val": Squares(9)}).fingerprint


def test_one_torch_dataset_is_split_by_class() -> None:
    tensors = TensorDataset(torch.randn(100, 4), torch.arange(100) % 2)
    data = prepare(tensors)
    assert isinstance(data, StreamedDataset)
    labels = [[int(part[i][1]) for i in range(len(part))] for part in (data.train, data.val, data.test)]  # type: ignore[arg-type, index]
    assert [(len(part), sum(part)) for part in labels] == [(68, 34), (16, 8), (16, 8)]
    assert (data.task, data.modality) == ("binary", "tabular")
    values = prepare(TensorDataset(torch.randn(100, 4), torch.randn(100, 1)))
    assert isinstance(values, StreamedDataset)
    assert (values.task, values.n_classes) == ("regression", 0)


class Endless(IterableDataset[int]):
    def __iter__(self) -> Any:
        yield from range(3)


GOOD = Squares(9)
STREAMS: list[tuple[Any, str]] = [
    ({"train": GOOD}, "no 'val'"),
    ({"val": GOOD}, "no 'train'"),
    ({"train": GOOD, "val": GOOD, "tset": GOOD}, "Did you mean 'test'"),
    ({"train": Squares(0), "val": GOOD}, "empty Dataset"),
    ({"train": Squares(1), "val": GOOD}, "only 0"),
    ({"train": Endless(), "val": GOOD}, "map-style"),
    ({"train": 5, "val": GOOD}, "got int"),
    ({"train": [1, 2], "val": GOOD}, "got int"),
    ({"train": [("text", 1)], "val": GOOD}, "tensors as inputs.*got str"),
    ({"train": TensorDataset(torch.zeros(9, 1, 6, 6)), "val": GOOD}, "tuple of 1"),
    ({"train": TensorDataset(torch.zeros(9, 1, 5, 5), torch.arange(9) % 2), "val": GOOD}, "one shape"),
    ({"train": TensorDataset(torch.zeros(9, 2), torch.arange(9) - 1), "val": GOOD}, "class indices from 0"),
    ({"train": TensorDataset(torch.zeros(9, 2), torch.full((9,), torch.nan)), "val": GOOD}, "9 of 9 NaN"),
    ({"train": TensorDataset(torch.zeros(9, 2), torch.zeros(9, 3)), "val": GOOD}, r"shape \(3,\)"),
]


@pytest.mark.parametrize(("parts", "message"), STREAMS)
def test_bad_torch_datasets_say_what_and_where(parts: Any, message: str) -> None:
    with pytest.raises(DLStudioError, match=message):
        prepare(parts)
