"""What a model is worth: the metrics it is signed off by, with intervals, curves and costs."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from dlstudio import scoring, stats
from dlstudio.data.clusters import clusters_of
from dlstudio.errors import DLStudioError
from dlstudio.limits import level_of_confidence, whole_number
from dlstudio.runs.kept import keep
from dlstudio.runs.run import Run
from dlstudio.trust.asked import asked
from dlstudio.trust.clustered import clustered_classes, clustered_per_class
from dlstudio.trust.curves import curve_points
from dlstudio.trust.estimates import Estimate, of_classes, of_scores, of_values
from dlstudio.trust.evaluation_result import Evaluation
from dlstudio.trust.folds import mean_over_folds, scored_folds
from dlstudio.trust.scored import Scored, as_columns, read_scored
from dlstudio.trust.thresholds import USUAL, checked_costs
from dlstudio.trust.weighing import weigh

__all__ = ["evaluate"]

Array = npt.NDArray[Any]

PROPER = ("log_loss", "brier")
"""Metrics that scores have as probabilities only."""
POINTS = 2000
"""Rows of a regression that are kept to be drawn."""


def evaluate(
    y_true: Any,
    y_pred: Any = None,
    y_score: Any = None,
    *,
    task: str | None = None,
    costs: Mapping[str, float] | None = None,
    cross_validate: int | None = None,
    clusters: Any = None,
    level: float = 0.95,
    n_resamples: int = 1000,
    seed: int = 0,
    split: str = "test",
) -> Evaluation:
    """Measure how good a model's predictions are, and how sure that is.

    Args:
        y_true: class indices or values (n,); or a run, or its name.
        y_pred: predicted classes or values (n,); None takes them from `y_score`, at 0.5 for two classes.
        y_score: the probability of class 1 (n,), or of every class (n, classes).
        task: ``"binary"``, ``"multiclass"`` or ``"regression"``; None judges by the values. Whole numbers from 0 on
            are classes.
        costs: of one row with the outcome ``true_positive``, ``false_positive``, ``true_negative`` or
            ``false_negative``, in any unit; a gain is below 0, what is left out is 0. Two classes with scores only.
        cross_validate: also train the recipe of the run this many times, each time tested on other rows, and with
            clusters on other clusters.
        clusters: (n,) which rows belong together, such as those of one person, or the name of a run's column. None
            takes all rows as independent, as what is said of thresholds and costs does in any case.
        level: of confidence.
        n_resamples: of the bootstrap behind bands and the range of the cheapest threshold.
        seed: of the bootstrap and the folds.
        split: ``"test"`` or ``"val"`` of a run.

    Returns:
        Metrics with intervals and the value of a model that knows nothing, the confusion matrix, curves with bands;
        ``at(threshold)`` says what any other threshold would do.

    Raises:
        DLStudioError: lengths differ, labels are no class indices, scores are outside 0 to 1, costs fit no outcome,
            or the run stored no predictions.

    Example:
        >>> e = evaluate("my-run", costs={"false_positive": 5, "false_negative": 1})
        >>> e.frame()[["metric", "value", "low", "high", "baseline"]]
        >>> e.at(0.7).rates["precision"], e.at(0.7).cost
    """
    started = time.perf_counter()
    whole_number("n_resamples", n_resamples, 100, "Leave it at 1000.")
    whole_number("seed", seed, 0)
    level_of_confidence(level)
    checked = checked_costs(costs)
    scored = with_predictions(read_scored(y_true, y_pred, y_score, task=task, split=split))
    if checked and (scored.task != "binary" or scored.y_score is None):
        got = scored.task if scored.task != "binary" else "classes without scores"
        raise DLStudioError("two classes with scores, for costs", got, "Leave costs out, or pass y_score=.")
    if cross_validate is not None and not isinstance(y_true, (Run, str)):
        raise DLStudioError("a run to cross-validate", "arrays", "Pass the run; arrays say nothing of the training.")
    if cross_validate is not None and not (clusters is None or isinstance(clusters, str)):
        got = "one label a test row"
        raise DLStudioError("the name of a column, to keep clusters in one fold", got, "Name it, or leave one out.")
    together = clusters_of(clusters, len(scored.kept), scored.kept, lambda: scored.frame)
    generator = np.random.default_rng(seed)
    estimates = estimates_of(scored, level, together)
    tables: dict[str, Any] = {"metrics": as_columns([dataclasses.asdict(one) for one in estimates])}
    fields: dict[str, Any] = {}
    if scored.task == "regression":
        tables["points"] = _points(scored, generator)
    else:
        confusion = confusion_of(scored)
        fields["confusion"] = confusion
        rows = _per_class(confusion, scored.class_names, level)
        if together is not None and scored.y_pred is not None:
            clustered_per_class(rows, scored.y_true, scored.y_pred, together, level)
        tables["per_class"] = as_columns(rows)
    if scored.y_score is not None:
        tables["curves"] = as_columns(_curves(scored, level, n_resamples, generator, together))
        if scored.y_score.ndim == 1:
            positive = scored.y_true == 1
            fields["positive_scores"] = np.sort(scored.y_score[positive])
            fields["negative_scores"] = np.sort(scored.y_score[~positive])
    if cross_validate is not None:
        tables |= _cross_validated(y_true, cross_validate, level, seed, clusters)
    result = Evaluation(
        task=scored.task,
        class_names=scored.class_names,
        n=len(scored),
        n_dropped=scored.n_dropped,
        n_clusters=0 if together is None else int(together.max()) + 1,
        level=level,
        data=scored.data,
        split=scored.split,
        run=scored.run,
        target=_target(scored),
        tables=tables,
        settings={"n_resamples": n_resamples, "seed": seed},
        scores_are_probabilities=scored.scores_are_probabilities,
        options=asked(
            task=task,
            costs=costs,
            cross_validate=cross_validate,
            clusters=clusters,
            level=level,
            n_resamples=n_resamples,
            seed=seed,
            split=split,
        ),
        wall_s=time.perf_counter() - started,
        **fields,
    )
    return keep(weigh(result, checked), "evaluation")


def with_predictions(scored: Scored) -> Scored:
    """Fill in the predicted classes where only scores came."""
    if scored.y_pred is not None or scored.y_score is None:
        return scored
    score = scored.y_score
    y_pred = (score >= USUAL).astype(np.int64) if score.ndim == 1 else score.argmax(axis=1)
    return dataclasses.replace(scored, y_pred=y_pred)


def estimates_of(scored: Scored, level: float, together: Array | None = None) -> list[Estimate]:
    """Return every metric that the rows allow."""
    assert scored.y_pred is not None
    if scored.task == "regression":
        return of_values(scored.y_true, scored.y_pred, level, together)
    confusion = confusion_of(scored)
    found = of_classes(confusion, level)
    if together is not None:
        found = clustered_classes(found, scored.y_true, scored.y_pred, confusion, together, level)
    if scored.y_score is None:
        return found
    of_ranks = of_scores(scored.y_true, scored.y_score, level, together)
    return found + [one for one in of_ranks if scored.scores_are_probabilities or one.metric not in PROPER]


def confusion_of(scored: Scored) -> npt.NDArray[np.int64]:
    """Count rows by true (down) and predicted class (across)."""
    assert scored.y_pred is not None
    k = scored.n_classes
    return np.bincount(scored.y_true * k + scored.y_pred, minlength=k * k).reshape(k, k)


def _per_class(confusion: Array, names: tuple[str, ...], level: float) -> list[dict[str, Any]]:
    found = []
    for k, name in enumerate(names):
        right, n, n_predicted = int(confusion[k, k]), int(confusion[k].sum()), int(confusion[:, k].sum())
        row: dict[str, Any] = {"class": name, "n": n, "n_predicted": n_predicted}
        for metric, of in (("precision", n_predicted), ("recall", n)):
            low, high = stats.wilson(right, of, level)
            row |= {metric: right / of if of else np.nan, f"{metric}_low": float(low), f"{metric}_high": float(high)}
        value, low, high = scoring.f1(right, n_predicted - right, n - right, level)
        row |= {"f1": float(value), "f1_low": float(low), "f1_high": float(high)}
        found.append(row)
    return found


def _curves(
    scored: Scored, level: float, n_resamples: int, generator: np.random.Generator, together: Array | None
) -> list[dict[str, Any]]:
    assert scored.y_score is not None
    if scored.y_score.ndim == 1:
        return curve_points(scored.y_true == 1, scored.y_score, level, n_resamples, generator, clusters=together)
    found = []
    for k, name in enumerate(scored.class_names):
        found += curve_points(scored.y_true == k, scored.y_score[:, k], level, n_resamples, generator, name, together)
    return found


def _points(scored: Scored, generator: np.random.Generator) -> dict[str, Array]:
    assert scored.y_pred is not None
    chosen = np.sort(generator.permutation(len(scored))[:POINTS])
    rows = np.flatnonzero(scored.kept) if scored.stored is None else scored.stored.rows[scored.kept]
    return {"row": rows[chosen], "y_true": scored.y_true[chosen], "y_pred": scored.y_pred[chosen]}


def _target(scored: Scored) -> str:
    try:
        return "" if scored.stored is None else scored.stored.target_name
    except DLStudioError:  # data that have changed since: the stored numbers still stand
        return ""


def _cross_validated(run: Run | str, k: int, level: float, seed: int, clusters: str | None) -> dict[str, Any]:
    rows: list[dict[str, Any]] = []
    for number, scored in enumerate(scored_folds(run, k, seed, clusters), start=1):
        for one in estimates_of(scored, level):
            rows.append({"fold": number, "n": len(scored), "metric": one.metric, "value": one.value})
    means = []
    for metric in dict.fromkeys(row["metric"] for row in rows):
        values = np.array([row["value"] for row in rows if row["metric"] == metric])
        mean, low, high = mean_over_folds(values, level)
        n_folds = int(np.isfinite(values).sum())
        means.append({"metric": metric, "value": mean, "low": low, "high": high, "n_folds": n_folds})
    return {"folds": as_columns(rows), "cross_validation": as_columns(means)}
