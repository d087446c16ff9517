"""Cross-validation of a run: its recipe trained again, each time without another part of the data."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from dlstudio.errors import DLStudioError
from dlstudio.runs.run import Run, open_run
from dlstudio.trust.scored import Scored

if TYPE_CHECKING:
    from dlstudio.data.dataset import Dataset

__all__ = ["fold_of_rows", "mean_over_folds", "scored_folds"]

Array = npt.NDArray[Any]


def scored_folds(run: Run | str, k: int, seed: int) -> list[Scored]:
    """Train the recipe of a run k times in this process and return what each model says of the rows it never saw.

    Inputs stay encoded as they are, with means and categories of the run's own training rows. Nothing is recorded.

    Raises:
        DLStudioError: the recipe held Python objects, the rows follow one another in time or are read in batches, or
            a class has fewer than k rows.
    """
    from dlstudio.data.dataset import Dataset
    from dlstudio.data.prepare import prepare
    from dlstudio.training import checkpoint
    from dlstudio.training.folds import out_of_fold

    if isinstance(k, bool) or not isinstance(k, int) or k < 2:
        raise DLStudioError("cross_validate of 2 folds or more", repr(k), "Try cross_validate=5.")
    run = open_run(run) if isinstance(run, str) else run
    path = checkpoint.path_of(run.folder, "best")
    content = checkpoint.read(path)
    if not content["plain_recipe"]:
        raise DLStudioError(
            "a run of a named data set and a named model", f"{run.name!r}, whose recipe held Python objects",
            "Train each fold yourself, and pass what it predicts as arrays.",
        )  # fmt: skip
    recipe = checkpoint.recipe_of(content, path)
    dataset = prepare(recipe.data, target=recipe.target, sensitive=recipe.sensitive)
    if not isinstance(dataset, Dataset) or dataset.modality == "sequence":
        raise DLStudioError(
            "rows that can be shuffled", f"{dataset.name!r}, whose rows follow one another in time",
            "Folds at random would test on neighbours of what was trained on: leave cross_validate out.",
        )  # fmt: skip
    scores = out_of_fold(recipe, dataset, n_folds=k, seed=seed, progress=False).astype(np.float64)
    fold = fold_of_rows(dataset, k, seed)
    return [_scored(dataset, scores, fold == number) for number in range(k)]


def fold_of_rows(dataset: Dataset, k: int, seed: int) -> npt.NDArray[np.int64]:
    """Return in which fold `dlstudio.training.folds.out_of_fold` predicts every row, from 0 to k - 1."""
    from sklearn.model_selection import KFold, StratifiedKFold

    found = np.empty(len(dataset), dtype=np.int64)
    folds: Any = (StratifiedKFold if dataset.n_classes else KFold)(k, shuffle=True, random_state=seed)
    for number, (_, rows) in enumerate(folds.split(np.zeros(len(dataset)), dataset.targets.numpy())):
        found[rows] = number
    return found


def mean_over_folds(values: Array, level: float) -> tuple[float, float, float]:
    """Return the mean of a metric over k folds with an interval.

    The folds share most of their training rows, so that the spread between them says too little; it is widened as for
    k trainings that test on one part in k.

    References:
        Nadeau and Bengio, Inference for the generalization error (2003).
    """
    from scipy.stats import t

    k = len(values)
    half = t.ppf(0.5 + level / 2, k - 1) * np.sqrt((1 / k + 1 / (k - 1)) * values.var(ddof=1))
    return float(values.mean()), float(values.mean() - half), float(values.mean() + half)


def _scored(dataset: Dataset, scores: Array, chosen: Array) -> Scored:
    y_true, score = dataset.targets.numpy()[chosen], scores[chosen]
    regression = dataset.task == "regression"
    return Scored(
        task=dataset.task,
        y_true=y_true.astype(np.float64 if regression else np.int64),
        y_pred=score if regression else score.argmax(axis=1),
        y_score=None if regression else score[:, 1] if score.shape[1] == 2 else score,
        class_names=dataset.class_names,
        kept=np.ones(len(score), dtype=bool),
    )
