"""ROC and precision-recall curves with bands, from the rows of two classes and their scores."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from dlstudio import stats

__all__ = ["Steps", "curve_points", "resampled_steps", "steps_of"]

Array = npt.NDArray[Any]
Steps = tuple[Array, Array, Array]
"""Scores from high to low, and how many positives and negatives have each; equal ones together."""

CELLS = 500
"""Scores that a resampled curve tells apart."""
FPR = np.linspace(0, 1, 101)
RECALL = np.linspace(0.01, 1, 100)


def steps_of(positive: Array, score: Array, most: int | None = None) -> Steps:
    """Return the steps of a curve; with `most`, neighbouring scores are put together and go by the lowest of them."""
    values, place = np.unique(-score, return_inverse=True)
    hits = np.bincount(place, weights=positive).astype(np.int64)
    misses = np.bincount(place).astype(np.int64) - hits
    if most is not None and len(values) > most:
        n = hits + misses
        _, cell = np.unique((np.cumsum(n) - 1) * most // n.sum(), return_inverse=True)
        last = np.flatnonzero(np.append(np.diff(cell) > 0, True))
        hits = np.bincount(cell, weights=hits).astype(np.int64)
        misses = np.bincount(cell, weights=misses).astype(np.int64)
        values = values[last]
    return -values, hits, misses


def resampled_steps(
    steps: Steps,
    n_resamples: int,
    generator: np.random.Generator,
    rows: tuple[Array, Array, Array] | None = None,
) -> tuple[Array, Array]:
    """Draw the counts of positives and negatives at every step anew, (n_resamples, steps) each.

    With `rows`, their class, score and cluster, (n,) each, whole clusters are drawn.
    """
    values, hits, misses = steps
    if rows is not None:
        positive, score, clusters = rows
        k, at = int(clusters.max()) + 1, 2 * np.searchsorted(-values, -score) + positive
        drawn = np.empty((n_resamples, 2 * len(values)), dtype=np.int64)
        for one in drawn:
            often = np.bincount(generator.integers(k, size=k), minlength=k)[clusters]
            one[:] = np.bincount(at, often, minlength=len(one))
        return drawn[:, 1::2], drawn[:, ::2]
    drawn = stats.resampled_counts(np.concatenate([hits, misses]), n_resamples, generator)
    return drawn[:, : len(hits)], drawn[:, len(hits) :]


def curve_points(
    positive: Array,
    score: Array,
    level: float,
    n_resamples: int,
    generator: np.random.Generator,
    outcome: str = "",
    clusters: Array | None = None,
) -> list[dict[str, Any]]:
    """Return points of both curves, each with a band that covers the curve there as often as `level` says.

    Args:
        positive: bool (n,).
        score: (n,), larger for what is more likely positive.
        level, n_resamples, generator: of the bootstrap.
        outcome: what is positive, where there are several.
        clusters: int (n,), which rows belong together; None where all are independent.

    Returns:
        Rows of ``curve`` (``"roc"`` or ``"precision_recall"``), ``outcome, x, y, low, high``; nothing where one of the
        two classes has no rows.
    """
    n_pos, n_neg = int(positive.sum()), int((~positive).sum())
    if not n_pos or not n_neg:
        return []
    exact = steps_of(positive, score)
    coarse = steps_of(positive, score, CELLS)
    rows = None if clusters is None else (positive, score, clusters)
    hits, misses = resampled_steps(coarse, n_resamples, generator, rows)
    both = [(hit, miss) for hit, miss in zip(hits, misses, strict=True) if hit.any() and miss.any()]
    found = []
    for name, grid, draw in (("roc", FPR, _roc), ("precision_recall", RECALL, _precision)):
        y, n_behind = draw(exact[1], exact[2])
        # Where a bootstrap has nothing to vary, as on a perfect ranking, the rows behind the point still are few.
        count = np.minimum(np.round(y * n_behind), n_behind)
        few_low, few_high = stats.wilson(count, n_behind, level)
        low, high = stats.percentiles([draw(*one)[0] for one in both], level)
        low, high = np.minimum(np.fmin(low, few_low), y), np.maximum(np.fmax(high, few_high), y)
        found += [
            {"curve": name, "outcome": outcome, "x": x, "y": at, "low": below, "high": above}
            for x, at, below, above in zip(grid.tolist(), y.tolist(), low.tolist(), high.tolist(), strict=True)
        ]
    return found


def _roc(hits: Array, misses: Array) -> tuple[Array, Array]:
    """True positive rate at every false positive rate of the grid, ties as a slope; and the positives."""
    fpr = np.concatenate([[0], np.cumsum(misses)]) / misses.sum()
    tpr = np.concatenate([[0], np.cumsum(hits)]) / hits.sum()
    return np.interp(FPR, fpr, tpr), np.full(len(FPR), hits.sum())


def _precision(hits: Array, misses: Array) -> tuple[Array, Array]:
    """Precision where each recall of the grid is first reached, and the rows predicted positive there."""
    found = np.cumsum(hits)
    predicted = found + np.cumsum(misses)
    at = np.searchsorted(found, RECALL * found[-1] - 1e-9)
    return found[at] / predicted[at], predicted[at]
