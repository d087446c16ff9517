"""Find labels that are probably wrong, by models that did not see them."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from dlstudio.data.values import off_torch
from dlstudio.errors import DLStudioError, unknown_name
from dlstudio.limits import level_of_confidence, whole_number
from dlstudio.runs.kept import keep
from dlstudio.runs.run import Run
from dlstudio.scoring import every_class
from dlstudio.trust.asked import asked
from dlstudio.trust.folds import trained_anew
from dlstudio.trust.label_probabilities import by_regression
from dlstudio.trust.label_result import GIVEN, Ints, LabelErrors, findings_of
from dlstudio.trust.scored import OFF_ONE

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["find_label_errors"]

Array = npt.NDArray[Any]

PARTS = ("test", "all")
N_IMAGES = 24


def find_label_errors(
    data: Any,
    y_prob: Any = None,
    *,
    features: Any = None,
    class_names: Sequence[str] | None = None,
    part: str = "test",
    n_folds: int = 5,
    level: float = 0.95,
    seed: int = 0,
    progress: bool = True,
) -> LabelErrors:
    """Find labels that are probably wrong: confident learning, with probabilities by models that did not see them.

    Rows are taken as independent: where several are of one person, folds are dealt out without regard to that, and the
    interval of the share of suspect labels is too narrow.

    Args:
        data: labels (n,), numbers or names; or a run (or its name).
        y_prob: (n, classes) probabilities, in the order of `class_names` or else of the sorted labels, or (n,) that of
            the second of two; for rows that the model was not trained on.
        features: what to predict labels from: a DataFrame or an array (n, …), images as (n, channels, height, width).
            A logistic regression predicts each fold from the others. Beside `y_prob` they are only shown with the
            suspects.
        class_names: one per class; where labels are numbers, class 0 first.
        part: of a run: ``"test"`` checks the test part by the stored predictions; ``"all"`` checks all rows, for which
            the recipe is trained `n_folds` times, each time without a fold.
        n_folds: how many.
        level: of confidence.
        seed: of the folds.
        progress: whether to show a bar when a recipe is trained.

    Returns:
        The labels, the most suspect first; `frame` lists those that are flagged beside their rows.

    Raises:
        DLStudioError: lengths differ, probabilities are none, there are fewer than two classes, a class has fewer rows
            than folds, a run is a regression, has no stored predictions or no bundled data.

    Example:
        >>> found = dls.find_label_errors(labels, features=frame)
        >>> found.frame().head()

    References:
        Northcutt, Jiang and Chuang, Confident learning: estimating uncertainty in dataset labels (2021).
    """
    whole_number("n_folds", n_folds, 2)
    whole_number("seed", seed, 0)
    if part not in PARTS:
        raise unknown_name("part", part, PARTS)
    level_of_confidence(level)
    frame, images, rows = None, None, None
    about: dict[str, Any] = {"part": "all"}
    if isinstance(data, (Run, str)):
        if y_prob is not None or features is not None or class_names is not None:
            raise DLStudioError(
                "a run alone", "a run and y_prob, features or class_names", "A run brings its own; leave these out."
            )
        codes, names, probability, rows, frame, images, about = _of_run(data, part, n_folds, seed, progress)
    else:
        data, y_prob, features = off_torch(data), off_torch(y_prob), off_torch(features)
        if y_prob is None and features is None:
            raise DLStudioError("y_prob or features", "neither", "Pass features= to have probabilities made of them.")
        for given, what in ((y_prob, "y_prob"), (features, "features")):
            if given is not None and not np.ndim(given):
                raise DLStudioError(f"a row of {what} for every label", f"{given!r}"[:120], "Pass an array.")
        codes, names = _encoded(data, class_names, None if y_prob is None else np.shape(y_prob))
        for given, what in ((y_prob, "rows of y_prob"), (features, "rows of features")):
            if given is not None and len(given) != len(codes):
                raise DLStudioError(
                    f"one for each of {len(codes):,} labels", f"{len(given):,} {what}", "Pass the same rows."
                )
        frame = features if hasattr(features, "columns") else None
        images = np.asarray(features) if np.ndim(features) == 4 else None
        if y_prob is not None:
            probability, about["method"] = _checked(y_prob, len(names)), GIVEN
        else:
            probability = None
            about["method"] = f"logistic regression, each of {n_folds} folds predicted from the others"
    rows = np.arange(len(codes)) if rows is None else rows
    known = np.flatnonzero(codes >= 0)
    if len(np.unique(codes[known])) < 2:
        raise DLStudioError("labels of two classes or more", f"{len(np.unique(codes[known]))}", "Check the labels.")
    if probability is None:
        probability = by_regression(features, codes, n_folds, seed)
    given, likely = codes[known], probability[known]
    flagged, quality = _flagged(given, likely)
    order = np.lexsort((quality, ~flagged))
    n_flagged, first = int(flagged.sum()), known[order][: int(flagged.sum())]
    result = LabelErrors(
        rows=rows[known[order]].astype(np.int64),
        given=given[order],
        suggested=likely.argmax(axis=1)[order].astype(np.int64),
        quality=quality[order],
        probability=likely.max(axis=1)[order],
        n_flagged=n_flagged,
        class_names=names,
        details={} if frame is None else {str(name): _plain(frame[name].iloc[first]) for name in frame.columns},
        images=None if images is None or not n_flagged else images[first[:N_IMAGES]],
        n_dropped=len(codes) - len(known),
        level=level,
        seed=seed,
        options=asked(part=part, n_folds=n_folds, level=level, seed=seed),
        **about,
    )
    result = dataclasses.replace(result, findings=findings_of(result))
    return keep(result, "label-errors", n_rows=lambda found: len(found.rows))


def _of_run(run: Run | str, part: str, n_folds: int, seed: int, progress: bool) -> Any:
    """Labels, class names, probabilities, rows, raw rows, images, and what to tell of a run."""
    from dlstudio.runs.run import open_run
    from dlstudio.training.predicted import predictions_of

    run = open_run(run) if isinstance(run, str) else run
    predicted = predictions_of(run)
    if predicted.y_score is None:
        raise DLStudioError(
            "a run that predicts classes",
            f"{run.name!r}, a regression",
            "Look at the training rows with the largest self-influence instead: dls.trace_influence(run).",
        )
    if not predicted.scores_are_probabilities:
        got = f"{run.name!r}, whose scores decide and rank only"
        raise DLStudioError("a run with probabilities", got, "Look at the run that it came from.")
    about = {"data": predicted.data, "run": predicted.run, "part": part}
    dataset = predicted.dataset
    pictures = dataset is not None and dataset.modality == "image"
    if part == "test":
        about["method"] = "those that the run stored for its test part, which it was not trained on"
        images = dataset.inputs[predicted.rows].numpy() if dataset is not None and pictures else None
        score = every_class(predicted.y_score)
        return predicted.y_true, predicted.class_names, score, predicted.rows, predicted.frame, images, about
    dataset, found, _ = trained_anew(run, n_folds, seed, progress=progress)
    about["method"] = f"the run's recipe, trained {n_folds} times, each time without the fold it predicts"
    images = dataset.inputs.numpy() if pictures else None
    codes, rows = dataset.targets.numpy().astype(np.int64), np.arange(len(dataset))
    return codes, dataset.class_names, found, rows, dataset.frame, images, about


def _encoded(labels: Any, class_names: Sequence[str] | None, shape: tuple[int, ...] | None) -> tuple[Ints, Any]:
    """Return the class of every label, -1 where it is missing, and the names of the classes."""
    import pandas as pd

    given = pd.Series(labels if np.ndim(labels) == 1 else np.ravel(labels)).reset_index(drop=True)
    known = given.dropna()
    if known.dtype.kind == "f" and not (known % 1 == 0).all():
        raise DLStudioError("labels of classes", "numbers with fractions", "Put the values into classes first.")
    if known.dtype.kind == "f":
        known = known.astype(np.int64)
    codes = np.full(len(given), -1, dtype=np.int64)
    n_columns = None if shape is None else 2 if len(shape) == 1 else shape[1]
    whole = known.dtype.kind in "iu"
    if class_names is None and whole and n_columns is not None and known.between(0, n_columns - 1).all():
        class_names = tuple(map(str, range(n_columns)))
    if class_names is None:
        found, values = pd.factorize(known, sort=True)
        names = tuple(map(str, values))
        if n_columns is not None and n_columns != len(names):
            raise DLStudioError(
                f"one column of probabilities for each of the {len(names)} labels",
                f"{n_columns} columns",
                "Pass class_names= in the order of the columns.",
            )
    elif whole:
        names, found = tuple(map(str, class_names)), known.to_numpy()
        if len(found) and (found.min() < 0 or found.max() >= len(names)):
            bad = found[(found < 0) | (found >= len(names))][0]
            raise DLStudioError(f"labels from 0 to {len(names) - 1}", f"{bad}", "Check class_names or the labels.")
    else:
        names = tuple(map(str, class_names))
        found = pd.Index(names).get_indexer(pd.Index(known.astype(str)))
        if (found < 0).any():
            raise unknown_name("class", known[found < 0].iloc[0], names)
    codes[known.index.to_numpy()] = found
    return codes, names


def _checked(y_prob: Any, k: int) -> Array:
    """Return probabilities (n, k) that are some."""
    try:
        found = every_class(np.asarray(y_prob, dtype=np.float64))
    except (TypeError, ValueError) as error:
        raise DLStudioError("probabilities as numbers", str(error)[:120], "Pass the softmax of the logits.") from error
    if found.ndim != 2 or found.shape[1] != k:
        raise DLStudioError(f"probabilities of shape (n, {k})", f"shape {found.shape}", "Pass one column a class.")
    sums = found.sum(axis=1)
    if not ((found >= 0) & (found <= 1)).all() or not (np.abs(sums - 1) <= OFF_ONE).all():
        bad = "missing ones" if np.isnan(found).any() else f"some from {found.min():.3g} to {found.max():.3g}"
        raise DLStudioError(
            "probabilities from 0 to 1 that add up to 1 in each row",
            f"{bad}, sums from {sums.min():.3g} to {sums.max():.3g}",
            "Turn logits into probabilities by a softmax first.",
        )
    return found


def _flagged(labels: Ints, probability: Array) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.float64]]:
    """Return which labels cleanlab flags, and the probability of every given label."""
    from cleanlab.filter import find_label_issues

    quality = probability[np.arange(len(labels)), labels]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of classes without rows, and it divides by their number
        flagged = find_label_issues(labels, probability, filter_by="low_self_confidence", n_jobs=1)
    found: npt.NDArray[np.bool_] = np.asarray(flagged) & (probability.argmax(axis=1) != labels)
    return found, quality


def _plain(column: pd.Series[Any]) -> Array:
    """A column as an array that a result may hold: numbers, or text with "" for what is missing."""
    if getattr(column.dtype, "kind", "O") in "biuf" and isinstance(column.dtype, np.dtype):
        return column.to_numpy()
    return column.astype(object).where(column.notna(), "").astype(str).to_numpy(dtype=np.str_)
