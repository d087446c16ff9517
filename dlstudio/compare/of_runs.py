"""The value of a metric of each run, why a run has none, and the rows that runs predicted."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from dlstudio.compare.gather import NEWER, Gathered, names_of
from dlstudio.compare.metrics import base_name
from dlstudio.compare.variants import Group
from dlstudio.errors import DLStudioError, unknown_name
from dlstudio.runs.folder import RunFolder
from dlstudio.runs.run import Run
from dlstudio.tracking.home import find_home
from dlstudio.training.directions import direction_of

if TYPE_CHECKING:
    from dlstudio.training.predicted import Predicted

__all__ = ["default_metric", "has", "measured", "rows_of", "same_rows", "unknown_metric", "why_not"]

USUAL = ("val/loss", "val_loss", "eval_loss", "loss")
STILL = {"RUNNING": "still running", "PAUSED": "paused", "QUEUED": "not started yet", "SCHEDULED": "not started yet"}


def default_metric(runs: Sequence[Gathered]) -> str:
    """Return the validation loss by one of its usual names.

    Raises:
        DLStudioError: no run has one; their metrics are named.
    """
    known = names_of(runs, "metrics")
    for name in USUAL:
        if name in known:
            return name
    got = f"runs with {', '.join(known[:8]) or 'no metrics'}"
    raise DLStudioError("the name of a metric", got, f"Pass metric={known[0]!r}." if known else "Log one.")


def unknown_metric(metric: str, known: Collection[str]) -> DLStudioError:
    """Build the error for a metric that no run has: those of this name of some part of the data are nearest."""
    near = sorted(name for name in known if base_name(name) == base_name(metric))
    error = unknown_name("metric", metric, known)
    if near:
        remedy = f"Did you mean {' or '.join(map(repr, near))}?"
        error = DLStudioError(error.expected, error.got, remedy)
    return error


def measured(
    groups: Sequence[Group],
    repetitions: Mapping[str, int | str | None],
    metric: str,
    value: str = "last",
    direction: str | None = None,
    *,
    needed: bool = True,
) -> tuple[dict[str, float], list[tuple[str, str]]]:
    """Return the metric of every run that counts, by its key, and (name, why) of the others.

    Runs that are not finished do not count, nor do those without a finite value; of several runs of one variant with
    one seed the latest does, as they repeat nothing. Where the metric is not `needed`, as stored predictions give it,
    runs that logged none have NaN.
    """
    found: dict[str, float] = {}
    left_out = []
    asked = metric if needed else None
    for one in groups:
        usable = sorted((run for run in one.runs if why_not(run, asked) is None), key=lambda run: run.created)
        newest = {repetitions[run.key]: run.key for run in usable}
        for run in one.runs:
            why, seed = why_not(run, asked), repetitions[run.key]
            if why is None and seed is not None and newest[seed] != run.key:
                why = f"a newer run of {one.name} {NEWER}"
            number = math.nan
            if why is None:
                number = run.metrics.get(metric, run.measures.get(metric, math.nan))
                if value == "best":
                    number = _best(run, metric, direction, number)
                if needed and not math.isfinite(number):
                    why = f"{metric} is {'NaN' if math.isnan(number) else 'infinite'}"
            if why is None:
                found[run.key] = number
            else:
                left_out.append((run.name, why))
    return found, left_out


def has(run: Gathered, metric: str) -> bool:
    """Return whether a metric or measure of that name is known of a run."""
    return metric in run.metrics or metric in run.measures


def why_not(run: Gathered, metric: str | None) -> str | None:
    """Return why a run does not count, whatever its value of a metric, if it needs one; None where it does."""
    if run.status in STILL:
        return STILL[run.status]
    if run.status != "FINISHED":
        word = {"FAILED": "failed", "KILLED": "stopped"}.get(run.status, run.status.lower())
        return f"{word}: {run.reason[:120]}" if run.reason else word
    if metric is not None and not has(run, metric):
        return f"no {metric}"
    return None


def _best(run: Gathered, metric: str, direction: str | None, last: float) -> float:
    if run.folder is not None:
        try:
            logged = Run(RunFolder(run.folder)).scalars(metric)[1]
        except DLStudioError:
            return last  # measured, not logged
    else:
        from dlstudio.tracking.search import histories

        found = histories(find_home(), [run.key], metric)
        if not found:
            return last
        logged = found[run.key].values
    finite = logged[np.isfinite(logged)]
    if not len(finite):
        return last
    return float(finite.max() if direction_of(metric, direction) == "max" else finite.min())


def rows_of(run: Gathered, split: str) -> Predicted:
    """Return what a run stored of its predictions, in the order of row numbers; scores only if they are probabilities.

    Raises:
        DLStudioError: it stored none, or none of this part.
    """
    from dlstudio.training.predicted import predictions_of

    if run.folder is None:
        got = f"{run.name!r}, which another tool logged"
        raise DLStudioError("a run that stored its predictions", got, "Pass predictions with y_true.")
    found = predictions_of(Run(RunFolder(run.folder)), split)
    order = np.argsort(found.rows, kind="stable")
    score = None if found.y_score is None or not found.scores_are_probabilities else found.y_score[order]
    return dataclasses.replace(
        found, rows=found.rows[order], y_true=found.y_true[order], y_pred=found.y_pred[order], y_score=score
    )


def same_rows(stored: Mapping[str, Predicted]) -> Predicted:
    """Return the first of predictions after checking that all are of the same rows with the same targets.

    Raises:
        DLStudioError: they are not; it says how they differ.
    """
    (name, first), *others = stored.items()
    for other, predicted in others:
        why = ""
        if predicted.task != first.task:
            why = f"{name!r} is a {first.task} task and {other!r} a {predicted.task} one"
        elif predicted.data != first.data:
            why = f"{name!r} predicted {first.data} and {other!r} {predicted.data}"
        elif not np.array_equal(predicted.rows, first.rows):
            shared = len(np.intersect1d(predicted.rows, first.rows))
            why = f"{name!r} has {len(first):,} rows and {other!r} {len(predicted):,}, of which {shared:,} are the same"
        elif not np.array_equal(predicted.y_true, first.y_true):
            why = f"targets of {name!r} and {other!r} differ on the same row numbers"
        if why:
            remedy = "Compare runs of the same data and splits, or over their seeds."
            raise DLStudioError("predictions of the same rows", why, remedy)
    if any(one.y_score is not None and not np.isfinite(one.y_score).all() for one in stored.values()):
        raise DLStudioError("finite predictions", "NaN or infinite ones", "Leave out the runs that diverged.")
    return first
