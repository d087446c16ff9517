"""The bundled sets against numbers that were published or counted elsewhere."""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from dlstudio import shipped
from dlstudio.data.dataset import Dataset
from dlstudio.data.load import available, load
from dlstudio.errors import DLStudioError

NAMES = ("mortgage", "employment", "fashion", "digits", "reviews", "bikes", "bikes_sequence")


@pytest.fixture(scope="module")
def sets() -> dict[str, Dataset]:
    return {name: load(name) for name in NAMES}


@pytest.mark.parametrize("name", NAMES)
def test_every_set_keeps_the_promises_of_a_dataset(sets: dict[str, Dataset], name: str) -> None:
    data = sets[name]
    assert data.name == name
    assert len(data.inputs) == len(data.targets) == len(data)
    assert data.inputs.is_contiguous()
    assert data.inputs.dtype == (torch.int64 if data.modality == "text" else torch.float32)
    assert torch.isfinite(data.inputs.float()).all()
    rows = np.concatenate(list(data.splits.values()))
    assert all(part.dtype == np.int64 for part in data.splits.values())
    assert len(np.unique(rows)) == len(rows)
    if data.task == "regression":
        assert data.targets.dtype == torch.float32
        assert data.n_classes == 0
    else:
        assert data.targets.dtype == torch.int64
        assert data.task == ("binary" if data.n_classes == 2 else "multiclass")
        for part in data.splits:
            assert set(data.split(part)[1].tolist()) == set(range(data.n_classes))
    if data.feature_names:
        assert len(data.feature_names) == len(data.column_of_feature) == data.input_shape[-1]
    if data.frame is not None:
        assert len(data.frame) == len(data)
        assert set(data.sensitive) <= set(data.frame.columns)
        np.testing.assert_array_equal(data.frame[data.target_name].to_numpy(), data.targets.numpy())


def test_mortgage_approval_rates(sets: dict[str, Dataset]) -> None:
    # Wooldridge's loanapp, counted with other software.
    data = sets["mortgage"]
    frame = data.frame
    assert frame is not None
    assert frame.shape == (1989, 59 + 2)  # race and sex in words
    assert round(float(data.targets.double().mean()), 6) == 0.877325
    expected = {
        "white": (1681, 0.908388),
        "black": (197, 0.675127),
        "hispan": (111, 0.765766),
    }
    for column, (n, rate) in expected.items():
        group = frame.approve[frame[column] == 1]
        assert (len(group), round(group.mean(), 6)) == (n, rate)
    assert round(frame.approve[frame.white == 0].mean(), 6) == 0.707792
    assert frame.race.value_counts().to_dict() == {"white": 1681, "black": 197, "Hispanic": 111}
    assert (frame.race == "black").equals(frame.black == 1) and (frame.sex == "male").equals(frame.male == 1)
    assert frame.sex.isna().equals(frame.male.isna())


def test_mortgage_gives_the_regressions_of_the_textbook(sets: dict[str, Dataset]) -> None:
    # Wooldridge, chapter 7, exercise C8: approval by race alone, and with 14 properties of loan and applicant.
    frame = sets["mortgage"].frame
    assert frame is not None
    controls = (
        "hrat", "obrat", "loanprc", "unem", "male", "married", "dep", "sch", "cosign", "chist", "pubrec", "mortlat1",
        "mortlat2", "vr",
    )  # fmt: skip
    for names, n, wanted in (((), 1989, 0.20060), (controls, 1971, 0.1288)):
        whole = frame[["approve", "white", *names]].dropna().astype(float)
        design = np.column_stack([np.ones(len(whole)), whole[["white", *names]].to_numpy()])
        found = np.linalg.lstsq(design, whole["approve"].to_numpy(), rcond=None)[0][1]
        assert (len(whole), round(float(found), len(str(wanted)) - 2)) == (n, wanted)


def test_mortgage_shows_the_model_neither_outcome_nor_protected_attributes(sets: dict[str, Dataset]) -> None:
    data = sets["mortgage"]
    frame = data.frame
    assert frame is not None
    used = set(data.column_of_feature)
    forbidden = {
        "approve",
        "action",
        "reject",
        "typur",
        "inson",
        "gdlin",
        "review",
        "white",
        "black",
        "hispan",
    }
    assert not used & (forbidden | {"male", "married", "old"})
    assert used <= set(frame.columns)
    # No feature that is left tells the outcome by itself, as `reject` (1.0) and `action` (0.97) would.
    correlation = np.corrcoef(data.inputs.numpy().T, data.targets.numpy())[-1, :-1]
    assert np.abs(correlation).max() < 0.4


def test_mortgage_codes_for_missing_are_no_numbers(sets: dict[str, Dataset]) -> None:
    data = sets["mortgage"]
    frame = data.frame
    assert frame is not None
    term = data.inputs[:, data.feature_names.index("term")]
    # 999999.375 months would be more than thirty standard deviations away.
    assert term.abs().max() < 10
    indicator = data.inputs[:, data.feature_names.index("appinc=missing")]
    np.testing.assert_array_equal(indicator.numpy() == 1, (frame.appinc == 666).to_numpy())


def test_employment_rates_of_the_shipped_model(sets: dict[str, Dataset]) -> None:
    frame = sets["employment"].frame
    assert frame is not None
    assert len(frame) == 277_677
    assert frame.groupby("year").size().to_dict() == {2015: 68785, 2016: 69126, 2017: 69635, 2018: 70131}
    accuracy = (frame.prediction == frame.employed).groupby(frame.year).mean().round(4)
    assert accuracy.tolist() == [0.8272, 0.8253, 0.8292, 0.8282]
    reference = {  # n, selection rate, true and false positive rate
        ("SEX", 1): (133_658, 0.538, 0.868, 0.179),
        ("SEX", 2): (144_019, 0.534, 0.857, 0.233),
        ("RAC1P", 1): (226_569, 0.545, 0.866, 0.209),
        ("RAC1P", 2): (16_793, 0.473, 0.834, 0.176),
        ("RAC1P", 6): (17_479, 0.551, 0.854, 0.249),
        ("RAC1P", 9): (7_743, 0.417, 0.850, 0.158),
    }
    for (column, code), expected in reference.items():
        group = frame[frame[column] == code]
        rates = [group.prediction.mean(), *(group.prediction[group.employed == y].mean() for y in (1, 0))]
        assert (len(group), *(round(rate, 3) for rate in rates)) == expected


def test_employment_does_not_see_the_shipped_predictions(sets: dict[str, Dataset]) -> None:
    used = set(sets["employment"].column_of_feature)
    assert len(used) == 16
    assert not used & {"prediction", "predicted_probability", "employed", "year"}


def test_fashion_is_balanced_and_its_test_part_official(sets: dict[str, Dataset]) -> None:
    data = sets["fashion"]
    assert tuple(data.inputs.shape) == (14_000, 1, 28, 28)
    assert data.targets.bincount().tolist() == [1400] * 10
    assert data.splits["test"].tolist() == list(range(12_000, 14_000))
    assert {name: len(rows) for name, rows in data.splits.items()} == {
        "train": 10_200,
        "val": 1_800,
        "test": 2_000,
    }
    assert (data.inputs.min(), data.inputs.max()) == (0.0, 1.0)
    # The first official test images are an ankle boot, a pullover and two trousers.
    assert [data.class_names[index] for index in data.targets[12_000:12_004]] == [
        "Ankle boot",
        "Pullover",
        "Trouser",
        "Trouser",
    ]


def test_full_fashion_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("dlstudio.data.names.FASHION_FOLDER", tmp_path / "none")
    assert "fashion_full" not in available()
    with pytest.raises(DLStudioError, match="apt-get install dataset-fashion-mnist"):
        load("fashion_full")


def test_full_fashion_reads_the_debian_files(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import gzip

    rng = np.random.default_rng(0)
    for part, n in (("train", 12_000), ("t10k", 10_000)):
        labels = (np.arange(n) % 10).astype(np.uint8)
        images = rng.integers(0, 256, (n, 28, 28), dtype=np.uint8)
        content = {"images-idx3": bytes(16) + images.tobytes(), "labels-idx1": bytes(8) + labels.tobytes()}
        for kind, payload in content.items():
            (tmp_path / f"{part}-{kind}-ubyte.gz").write_bytes(gzip.compress(payload, 1))
    monkeypatch.setattr("dlstudio.data.names.FASHION_FOLDER", tmp_path)
    assert "fashion_full" in available()
    data = load("fashion_full")
    assert tuple(data.inputs.shape) == (22_000, 1, 28, 28)
    assert data.splits["test"].tolist() == list(range(12_000, 22_000))
    assert torch.equal(data.inputs[-1, 0], torch.from_numpy(images[-1] / np.float32(255)))


def test_digits_equal_scikit_learn(sets: dict[str, Dataset]) -> None:
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    assert torch.equal(sets["digits"].inputs.flatten(1) * 16, torch.from_numpy(images).float())
    assert sets["digits"].targets.tolist() == labels.tolist()


def test_reviews(sets: dict[str, Dataset]) -> None:
    data = sets["reviews"]
    assert len(data) == 23_486
    assert data.targets.bincount().tolist() == [4172, 19314]
    assert data.vocabulary[:2] == ("<padding>", "<unknown>")
    assert int(data.inputs.max()) < len(data.vocabulary)
    assert (data.inputs[:, 0] != 0).all()
    first = [data.vocabulary[token] for token in data.inputs[0] if token]
    assert first[:4] == ["absolutely", "wonderful", "silky", "and"]


def test_bikes(sets: dict[str, Dataset]) -> None:
    data = sets["bikes"]
    frame = data.frame
    assert frame is not None
    assert frame.shape == (731, 16)
    assert frame.groupby("yr").cnt.mean().round().tolist() == [3406, 5600]
    assert (frame.casual + frame.registered == frame.cnt).all()
    assert not set(data.column_of_feature) & {"cnt", "casual", "registered", "dteday", "instant"}


def test_bike_windows_end_the_day_before_and_share_no_day_between_parts(sets: dict[str, Dataset]) -> None:
    data, days = sets["bikes_sequence"], sets["bikes"].frame
    assert days is not None
    assert data.frame is not None
    assert tuple(data.inputs.shape) == (546, 7, 34)
    channel = data.inputs[:, :, data.feature_names.index("cnt")]
    # Undo the standardisation with two known days, then every window must be the week before its target.
    scale = (days.cnt[1] - days.cnt[0]) / (channel[0, 1] - channel[0, 0])
    counts = (channel - channel[0, 0]) * scale + days.cnt[0]
    position = pd.Series(days.index, index=days.dteday)[data.frame.dteday].to_numpy()
    used = {part: set[int]() for part in data.splits}
    for part, rows in data.splits.items():
        for row in rows:
            week = range(position[row] - 7, position[row])
            np.testing.assert_allclose(counts[row].numpy(), days.cnt.iloc[week], rtol=1e-4, atol=1)
            used[part] |= {*week, int(position[row])}
    assert sum(map(len, used.values())) == len(set.union(*used.values())) == 728
    # The scaling was learnt from the days of the training part.
    assert scale.item() == pytest.approx(days.cnt.iloc[sorted(used["train"])].std(ddof=0), rel=1e-4)


def cards() -> list[tuple[str, str, str]]:
    """The (card, file, SHA-256) that the cards state."""
    folder = Path(__file__).parents[2] / "datasets"
    row = re.compile(r"^\| `([^`]+)` \| `([0-9a-f]{64})` \|$", re.MULTILINE)
    return [(card.stem, *found) for card in sorted(folder.glob("*.md")) for found in row.findall(card.read_text())]


def test_every_set_and_every_file_has_a_card() -> None:
    folder = Path(__file__).parents[2] / "datasets"
    assert {card for card, _, _ in cards()} == {name for name in NAMES if name != "bikes_sequence"}
    files = {path.name for path in folder.iterdir() if path.suffix not in (".md", ".py") and path.is_file()}
    assert files <= {file for _, file, _ in cards()}


@pytest.mark.parametrize(("card", "file", "digest"), cards())
def test_the_file_is_the_one_of_its_card(card: str, file: str, digest: str) -> None:
    packaged = {
        "loanapp.csv.bz2": ("wooldridge", "datasets/loanapp.csv.bz2"),
        "digits.csv.gz": ("sklearn", "datasets/data/digits.csv.gz"),
    }
    path = Path(__file__).parents[2] / "datasets" / file
    if file in packaged:
        path = shipped.package_file(*packaged[file])
    assert hashlib.sha256(path.read_bytes()).hexdigest() == digest


def test_committed_files_stay_small() -> None:
    folder = Path(__file__).parents[2] / "datasets"
    limits = {"employment.parquet": 5e6, "fashion.npz": 6e6, "reviews.parquet": 3e6, "bikes.csv": 100e3}
    assert all((folder / name).stat().st_size <= limit for name, limit in limits.items())


@pytest.mark.parametrize(("name", "near"), [("mortage", "mortgage"), ("fashon", "fashion"), (3, "Choose")])
def test_an_unknown_name_gets_the_nearest(name: str, near: str) -> None:
    with pytest.raises(DLStudioError) as caught:
        load(name)
    assert near in caught.value.remedy


def test_available_describes_every_set_in_a_line() -> None:
    described = available()
    assert set(NAMES) <= set(described)
    assert all(text.endswith(".") and "\n" not in text for text in described.values())


def test_another_process_finds_the_same_fingerprint_and_imports_little(sets: dict[str, Dataset]) -> None:
    code = (
        "import sys\n"
        "from dlstudio.data.load import load\n"
        "print(load('mortgage').fingerprint)\n"
        "slow = {'pandas', 'sklearn', 'pyarrow', 'wooldridge', 'mlflow'}\n"
        "print(sorted(slow & set(sys.modules)))\n"
    )
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert printed.splitlines() == [sets["mortgage"].fingerprint, "[]"]


def test_the_seed_moves_rows_between_parts_only() -> None:
    one, other = load("digits", seed=0), load("digits", seed=1)
    assert torch.equal(one.inputs, other.inputs)
    assert one.splits["test"].tolist() != other.splits["test"].tolist()
    assert one.fingerprint != other.fingerprint
