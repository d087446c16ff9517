"""Metrics of rows that are drawn again and again: the bootstrap, by counts of rows where the metric allows it."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from dlstudio.compare.metrics import base_name, metric_of_rows
from dlstudio.data.values import as_array
from dlstudio.errors import DLStudioError

__all__ = ["Answers", "Metric", "resampled"]

Array = npt.NDArray[Any]
Metric = str | Callable[[Array, Array], float]

N_DRAWS = (2_000, 1_000, 500, 200, 100, 50)
"""Numbers of draws, of which the largest is taken that time allows: few, so that a run again takes the same."""
SECONDS = 5.0
MANY = 20_000
"""Rows beyond which at most 500 draws are made."""
CELLS = 2**22
"""Counts held at once."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Answers:
    """What one model said of rows: classes (n,) int64 or quantities (n,), and probabilities where it gave them."""

    y_pred: Array
    y_score: Array | None = None


def resampled(metric: Metric, y_true: Array, given: Sequence[Answers], seed: int) -> tuple[Array, Array]:
    """Return a metric of each model on all rows, (models,), and on rows drawn with replacement, (draws, models).

    All models are measured on the same draws. There are 2,000 draws, 500 beyond 20,000 rows, and where a metric has to
    be called for each of them, as many as take some seconds, 50 at least. NaN where a draw has no such metric.

    Raises:
        DLStudioError: there is no metric of that name, or a function returns no number.
    """
    generator, n = np.random.default_rng(seed), len(y_true)
    most = N_DRAWS[0] if n <= MANY else 500
    whole, taken = np.empty(len(given)), 0.0
    for place, answers in enumerate(given):
        calls = []
        for _ in range(2):  # the first call may import or compile
            start = time.process_time()  # a busy machine must not change the answer
            whole[place] = _measured(metric, y_true, answers, slice(None))
            calls.append(time.process_time() - start)
        taken += min(calls)
    name = None if callable(metric) else base_name(metric)
    if name in ("f1", "balanced_accuracy"):
        return whole, _by_cells(name, y_true, given, most, generator)
    if name in ("rmse", "r2"):
        return whole, _by_squares(name, y_true, given, most, generator)
    n_draws = next((one for one in N_DRAWS if one <= most and one * taken <= SECONDS), N_DRAWS[-1])
    draws = np.empty((n_draws, len(given)))
    for number in range(n_draws):
        rows = generator.integers(0, n, n)
        draws[number] = [_measured(metric, y_true, answers, rows) for answers in given]
    return whole, draws


def _measured(metric: Metric, y_true: Array, answers: Answers, rows: Any) -> float:
    score = None if answers.y_score is None else answers.y_score[rows]
    if callable(metric):
        return _number(metric(y_true[rows], answers.y_pred[rows] if score is None else score))
    return metric_of_rows(base_name(metric), y_true[rows], answers.y_pred[rows], score)


def _number(found: Any) -> float:
    found = as_array(found)
    if found.ndim or found.dtype.kind not in "biuf":
        got = f"an array of shape {found.shape}" if found.ndim else f"{found.item()!r:.80}"
        raise DLStudioError("one number from the function that is the metric", got, "Return for instance the mean.")
    return float(found)


def _by_cells(
    name: str, y_true: Array, given: Sequence[Answers], n_draws: int, generator: np.random.Generator
) -> Array:
    """Metrics of classes depend on how many rows there are of each combination of target and answers alone."""
    cells, count = np.unique(np.stack([y_true, *(one.y_pred for one in given)]), axis=1, return_counts=True)
    draws = np.empty((n_draws, len(given)))
    chunk = max(1, CELLS // len(count))
    for start in range(0, n_draws, chunk):
        size = min(chunk, n_draws - start)
        counts = generator.multinomial(count.sum(), count / count.sum(), size).astype(np.float64)
        for place in range(len(given)):
            draws[start : start + size, place] = _of_counts(name, counts, cells[0], cells[1 + place])
    return draws


def _of_counts(name: str, counts: Array, truth: Array, said: Array) -> Array:
    """F1 or the balanced accuracy of every draw, (draws,), from (draws, cells) counts of rows."""
    classes = np.unique(np.concatenate([truth, said]))
    if name == "f1" and classes.max() <= 1:
        classes = np.array([1])
    is_there, is_said = truth[:, None] == classes, said[:, None] == classes
    right, several = counts @ (is_there & is_said), counts @ is_there
    if name == "f1":
        right, several = 2 * right, several + counts @ is_said
    each = np.divide(right, several, out=np.zeros_like(right), where=several > 0)
    known = (several > 0).sum(axis=1)
    return np.where(known > 0, each.sum(axis=1) / np.maximum(known, 1), np.nan)


def _by_squares(
    name: str, y_true: Array, given: Sequence[Answers], n_draws: int, generator: np.random.Generator
) -> Array:
    """Metrics of squared errors, from sums over rows by how often each was drawn."""
    n = len(y_true)
    errors = np.stack([(one.y_pred - y_true) ** 2 for one in given], axis=1)
    centred = y_true - y_true.mean()
    columns = np.column_stack([errors, centred, centred**2])
    sums = np.empty((n_draws, columns.shape[1]))
    for number in range(n_draws):
        sums[number] = np.bincount(generator.integers(0, n, n), minlength=n) @ columns
    errors, spread = sums[:, :-2], sums[:, -1] - sums[:, -2] ** 2 / n
    if name == "rmse":
        return np.sqrt(errors / n)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(spread[:, None] > 0, 1 - errors / spread[:, None], np.nan)
