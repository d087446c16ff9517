"""What a recipe's model says of every row when it was trained without it."""

from __future__ import annotations

import dataclasses
import math
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from dlstudio.errors import DLStudioError
from dlstudio.limits import counted, whole_number
from dlstudio.training.recipe import Recipe
from dlstudio.training.showing import Silent

if TYPE_CHECKING:
    from dlstudio.data.dataset import Dataset

__all__ = ["fold_of_rows", "out_of_fold"]

VALIDATION = 0.15
FEWEST = 4
"""Rows of a class, so that any fold leaves one to train on and one to validate with."""


def out_of_fold(
    recipe: Recipe, dataset: Dataset, *, n_folds: int = 5, seed: int = 0, clusters: Any = None, progress: bool = True
) -> npt.NDArray[Any]:
    """Train a recipe once per fold, each time without that fold, and predict the fold with the best weights.

    No run is recorded. Of the rows outside a fold 15 percent, drawn one by one, validate. Encodings of the inputs,
    such as means, stay those of the data set's own training part.

    Args:
        recipe: what to train; it is trained in this process.
        dataset: its data, of which the splits are replaced.
        n_folds: how many, stratified by class.
        seed: of the folds.
        clusters: int (n,), which rows belong together and are in one fold; None where all are independent.
        progress: whether to show a bar over folds.

    Returns:
        float32, in the order of the data set's rows: probabilities (n, classes), or values (n,) of a regression.

    Raises:
        DLStudioError: as `fold_of_rows` and as `dlstudio.fit`.

    Example:
        >>> probabilities = out_of_fold(recipe, load_data("digits"))
    """
    from sklearn.model_selection import train_test_split

    from dlstudio.training.loop import train

    fold = fold_of_rows(dataset, n_folds, seed, clusters)
    classes = None if dataset.task == "regression" else dataset.targets.numpy()
    n_classes = 1 if classes is None else len(np.unique(classes))
    found: npt.NDArray[Any] | None = None
    for number in counted(range(n_folds), progress, "fold", "Training"):
        rest = np.flatnonzero(fold != number)
        kept, val = train_test_split(
            rest, test_size=max(math.ceil(VALIDATION * len(rest)), n_classes), random_state=seed,
            stratify=None if classes is None else classes[rest],
        )  # fmt: skip
        splits = {"train": np.sort(kept), "val": np.sort(val), "test": np.flatnonzero(fold == number)}
        data = dataclasses.replace(dataset, splits=splits, fingerprint="")
        with tempfile.TemporaryDirectory() as folder:
            alone = recipe.replace(data=data, devices=1, strategy="auto", name=None, variant=None)
            train(alone, _Folder(folder))  # type: ignore[arg-type]
            with np.load(Path(folder) / "results" / "predictions.npz") as predicted:
                scores, rows = predicted["test_y_score"], predicted["test_row"]
        if found is None:
            found = np.empty((len(dataset), *scores.shape[1:]), dtype=scores.dtype)
        found[rows] = scores
    assert found is not None
    return found


def fold_of_rows(dataset: Dataset, n_folds: int = 5, seed: int = 0, clusters: Any = None) -> npt.NDArray[np.int64]:
    """Return in which fold `out_of_fold` predicts every row: int64 (n,), from 0 to n_folds - 1.

    Raises:
        DLStudioError: a class has fewer rows than there are folds, or fewer than four; there are fewer clusters than
            folds, or all but one row of a class are in those of one fold; or rows are sequences, which may overlap:
            folds at random would test on neighbours of what was trained on.
    """
    from sklearn.model_selection import GroupKFold, KFold, StratifiedGroupKFold, StratifiedKFold

    whole_number("n_folds", n_folds, 2, "Try n_folds=5.")
    if dataset.modality == "sequence":
        raise DLStudioError(
            "rows that can be shuffled", f"{dataset.name!r}, whose rows are sequences and may overlap in time",
            "Folds at random would test on neighbours of what was trained on: train on blocks of time yourself.",
        )  # fmt: skip
    targets, found = dataset.targets.numpy(), np.empty(len(dataset), dtype=np.int64)
    classes = np.zeros(len(dataset), dtype=np.int64) if dataset.task == "regression" else targets
    values, sizes = np.unique(classes, return_counts=True)

    def of_class(at: Any) -> str:
        return "" if dataset.task == "regression" else f" of class {dataset.class_names[int(values[at])]!r}"

    rarest = int(sizes.argmin())
    least = max(n_folds, FEWEST)
    if sizes[rarest] < least:
        every = "" if dataset.task == "regression" else " of every class"
        raise DLStudioError(
            f"{least:,} rows or more{every}, for {n_folds:,} folds", f"{sizes[rarest]:,}{of_class(rarest)}",
            "Choose fewer folds, or drop or merge rare classes.",
        )  # fmt: skip
    if clusters is not None and (n_clusters := len(np.unique(clusters))) < n_folds:
        raise DLStudioError(
            f"{n_folds:,} clusters or more, one for each fold", f"{n_clusters:,}", "Choose fewer folds."
        )
    alone, together = (KFold, GroupKFold) if dataset.task == "regression" else (StratifiedKFold, StratifiedGroupKFold)
    folds: Any = (alone if clusters is None else together)(n_folds, shuffle=True, random_state=seed)
    for number, (rest, rows) in enumerate(folds.split(np.zeros(len(dataset)), targets, clusters)):
        found[rows] = number
        left = np.bincount(classes[rest], minlength=int(values.max()) + 1)[values]
        if not len(rows) or left.min() < 2:  # to train on and to validate with
            raise DLStudioError(
                "rows in every fold, and two or more of every class outside it",
                f"a fold of {len(rows):,} rows and, outside it, {left.min():,}{of_class(left.argmin())}",
                "Choose fewer folds: clusters are dealt out whole.",
            )
    return found


class _Folder(Silent):
    """Records nothing, in a folder where the loop may leave its files."""

    def __init__(self, folder: str) -> None:
        self.folder = folder
