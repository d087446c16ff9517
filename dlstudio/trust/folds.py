"""Cross-validation of a run: its recipe trained again, each time without another part of the data."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from dlstudio.data.clusters import clusters_of
from dlstudio.errors import DLStudioError
from dlstudio.limits import whole_number
from dlstudio.runs.run import Run, open_run
from dlstudio.trust.scored import Scored

if TYPE_CHECKING:
    from dlstudio.data.dataset import Dataset

__all__ = ["mean_over_folds", "scored_folds", "trained_anew"]

Array = npt.NDArray[Any]


def trained_anew(
    run: Run | str, n_folds: int, seed: int, *, clusters: str | None = None, progress: bool = False
) -> tuple[Dataset, Array, Array]:
    """Train the recipe of a run anew in this process, each time without a fold; nothing is recorded.

    Inputs stay encoded as they are, with means and categories of the run's own training rows.

    Args:
        run: the run, or its name.
        n_folds, seed: how many folds; which.
        clusters: a column of the data; rows with the same value in it are in one fold.
        progress: whether to show a bar over folds.

    Returns:
        The run's data; what is said of every row by a model that never saw it, float64 (n, classes) or (n,); and the
        fold of every row, int64 (n,).

    Raises:
        DLStudioError: the recipe held Python objects, the data have changed since, there is no such column, or as
            `out_of_fold`.
    """
    from dlstudio.training import checkpoint
    from dlstudio.training.folds import fold_of_rows, out_of_fold
    from dlstudio.training.predicted import predictions_of

    run = open_run(run) if isinstance(run, str) else run
    path = checkpoint.path_of(run.folder, "best")
    content = checkpoint.read(path)
    dataset = predictions_of(run).dataset
    if "trained_by" not in content and (dataset is None or not content["plain_recipe"]):
        raise DLStudioError(
            "a run of a named data set and a named model, to train it again",
            f"{run.name!r}, whose recipe held Python objects",
            "Train each fold yourself, and pass what it predicts as arrays.",
        )
    recipe = checkpoint.recipe_of(content, path)
    assert dataset is not None
    every = np.arange(len(dataset))
    together = clusters_of(clusters, len(dataset), every, lambda: dataset.frame)
    found = out_of_fold(recipe, dataset, n_folds=n_folds, seed=seed, clusters=together, progress=progress)
    return dataset, found.astype(np.float64), fold_of_rows(dataset, n_folds, seed, together)


def scored_folds(run: Run | str, k: int, seed: int, clusters: str | None = None) -> list[Scored]:
    """Return what is said of the rows of each of k folds by a model that never saw them, nor others of their cluster.

    Raises:
        DLStudioError: as `trained_anew`.
    """
    whole_number("cross_validate, the number of folds,", k, 2, "Try cross_validate=5.")
    dataset, scores, fold = trained_anew(run, k, seed, clusters=clusters)
    return [_scored(dataset, scores, fold == number) for number in range(k)]


def mean_over_folds(values: Array, level: float) -> tuple[float, float, float]:
    """Return the mean of a metric over the k folds, or those of them where it is not NaN, with an interval.

    The folds share most of their training rows, so that the spread between them says too little; it is widened as for
    k trainings that test on one part in k.

    References:
        Nadeau and Bengio, Inference for the generalization error (2003).
    """
    from scipy.stats import t

    k, values = len(values), values[np.isfinite(values)]
    n = len(values)
    mean = float(values.mean()) if n else float("nan")
    if n < 2:
        return mean, float("nan"), float("nan")
    half = float(t.ppf(0.5 + level / 2, n - 1) * np.sqrt((1 / n + 1 / (k - 1)) * values.var(ddof=1)))
    return mean, mean - half, mean + half


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
