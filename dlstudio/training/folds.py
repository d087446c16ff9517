"""What a recipe's model says of every row when it was trained without it."""

from __future__ import annotations

import dataclasses
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from dlstudio.errors import DLStudioError
from dlstudio.training.recipe import Recipe
from dlstudio.training.showing import Silent

if TYPE_CHECKING:
    from dlstudio.data.dataset import Dataset

__all__ = ["out_of_fold"]

VALIDATION = 0.15


def out_of_fold(
    recipe: Recipe, dataset: Dataset, *, n_folds: int = 5, seed: int = 0, progress: bool = True
) -> npt.NDArray[Any]:
    """Train a recipe once per fold, each time without that fold, and predict the fold with the best weights.

    No run is recorded. Of the rows outside a fold 15 percent validate. Encodings of the inputs, such as means, stay
    those of the data set's own training part.

    Args:
        recipe: what to train; it is trained in this process.
        dataset: its data, of which the splits are replaced.
        n_folds: how many, stratified by class.
        seed: of the folds.
        progress: whether to show a bar over folds.

    Returns:
        float32, in the order of the data set's rows: probabilities (n, classes), or values (n,) of a regression.

    Raises:
        DLStudioError: a class has fewer rows than there are folds, and as `dlstudio.fit`.

    Example:
        >>> probabilities = out_of_fold(recipe, load_data("digits"))
    """
    from sklearn.model_selection import KFold, StratifiedKFold, train_test_split
    from tqdm.auto import tqdm

    from dlstudio.training.loop import train

    targets, n = dataset.targets.numpy(), len(dataset)
    classes = None if dataset.task == "regression" else targets
    fewest = n if classes is None else int(np.unique(classes, return_counts=True)[1].min())
    if n_folds < 2 or fewest < n_folds:
        raise DLStudioError(
            f"from 2 to {fewest} folds, as many as the rarest class has rows", f"n_folds={n_folds}", "Choose fewer."
        )
    folds: Any = (KFold if classes is None else StratifiedKFold)(n_folds, shuffle=True, random_state=seed)
    found: npt.NDArray[Any] | None = None
    for rest, fold in tqdm(list(folds.split(np.zeros(n), classes)), unit="fold", disable=not progress, leave=False):
        kept, val = train_test_split(
            rest, test_size=VALIDATION, random_state=seed, stratify=None if classes is None else classes[rest]
        )
        splits = {"train": np.sort(kept), "val": np.sort(val), "test": np.sort(fold)}
        data = dataclasses.replace(dataset, splits=splits, fingerprint="")
        with tempfile.TemporaryDirectory() as folder:
            alone = recipe.replace(data=data, devices=1, strategy="auto", name=None, variant=None)
            train(alone, _Folder(folder))  # type: ignore[arg-type]
            with np.load(Path(folder) / "results" / "predictions.npz") as predicted:
                scores, rows = predicted["test_y_score"], predicted["test_row"]
        if found is None:
            found = np.empty((n, *scores.shape[1:]), dtype=scores.dtype)
        found[rows] = scores
    assert found is not None
    return found


class _Folder(Silent):
    """Records nothing, in a folder where the loop may leave its files."""

    def __init__(self, folder: str) -> None:
        self.folder = folder
