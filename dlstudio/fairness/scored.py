"""What scores are worth in every group: area under the ROC curve and calibration error, with bootstrap intervals."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from dlstudio import stats
from dlstudio.fairness.counts import Array, Interval
from dlstudio.fairness.evidence import Clusters

__all__ = ["CALIBRATION_BINS", "ScoreCells", "calibration_error", "ranking", "score_cells", "score_intervals"]

CALIBRATION_BINS = 15
FINE = 256
"""Into how many cells of about the same size scores are put where they are drawn anew."""


@dataclass(frozen=True, kw_only=True, eq=False)
class ScoreCells:
    """A division of scores that is finer than the calibration bins.

    Attributes:
        at: int64 (n,), the cell of every row.
        of_bin: int64 (cells,), the calibration bin of every cell.
    """

    at: npt.NDArray[np.int64]
    of_bin: npt.NDArray[np.int64]


def score_cells(scores: Array) -> ScoreCells:
    """Divide scores from 0 to 1 into cells; the last is closed."""
    borders = np.linspace(0, 1, CALIBRATION_BINS + 1)
    edges = np.unique(np.concatenate([borders, np.quantile(scores, np.linspace(0, 1, FINE + 1))]))
    at = np.minimum(np.searchsorted(edges, scores, side="right") - 1, len(edges) - 2)
    of_bin = np.searchsorted(borders, edges[:-1], side="right") - 1
    return ScoreCells(at=at.astype(np.int64), of_bin=of_bin.astype(np.int64))


def ranking(y_true: npt.NDArray[np.bool_], scores: Array) -> float:
    """Return the area under the ROC curve: how often a positive row has the higher score; ties count half."""
    from scipy.stats import rankdata

    n_positive = int(y_true.sum())
    n_negative = len(y_true) - n_positive
    if not n_positive or not n_negative:
        return float("nan")
    ranks = rankdata(scores)[y_true].sum()
    return float((ranks - n_positive * (n_positive + 1) / 2) / (n_positive * n_negative))


def calibration_error(y_true: npt.NDArray[np.bool_], scores: Array) -> float:
    """Return the mean distance of score and frequency over 15 bins of equal width, weighted by their rows."""
    borders = np.linspace(0, 1, CALIBRATION_BINS + 1)
    at = np.minimum(np.searchsorted(borders, scores, side="right") - 1, CALIBRATION_BINS - 1)
    off = np.bincount(at, scores - y_true, minlength=CALIBRATION_BINS)
    return float(np.abs(off).sum() / len(scores)) if len(scores) else float("nan")


def score_intervals(
    codes: npt.NDArray[np.int32],
    n_groups: int,
    y_true: npt.NDArray[np.bool_],
    scores: Array,
    cells: ScoreCells,
    *,
    level: float,
    n_draws: int,
    seed: int,
    clusters: Clusters | None,
) -> dict[str, tuple[Array, Interval]]:
    """Return ``"auc"`` and ``"calibration_error"`` of every group with their intervals.

    Rows are drawn anew within every group, or whole clusters. Where all positive rows have higher scores than all
    others, draws do not differ; the interval is then Wilson's for as many pairs as can be formed without overlap.
    """
    n_cells = len(cells.of_bin)
    at = (codes.astype(np.int64) * n_cells + cells.at) * 2 + y_true
    shape = (n_groups, n_cells, 2)
    counts = np.bincount(at, minlength=n_groups * n_cells * 2).reshape(shape)
    sums = np.bincount(at // 2, scores, minlength=n_groups * n_cells).reshape(shape[:2])
    with np.errstate(invalid="ignore"):
        middle = np.nan_to_num(sums / counts.sum(axis=2))
    rows = [np.flatnonzero(codes == group) for group in range(n_groups)]
    area = np.array([ranking(y_true[chosen], scores[chosen]) for chosen in rows])
    error = np.array([calibration_error(y_true[chosen], scores[chosen]) for chosen in rows])
    areas, errors = np.empty((n_draws, n_groups)), np.empty((n_draws, n_groups))
    if clusters is None:
        rng = np.random.default_rng(seed)
        for group in range(n_groups):
            drawn = _drawn(counts[group], n_draws, rng)
            areas[:, group], errors[:, group] = _area(drawn), _error(drawn, middle[group], cells.of_bin)
    else:
        for draw, often in enumerate(clusters.counts()):
            drawn = np.bincount(at, often[0, clusters.codes], minlength=counts.size).reshape(shape)
            areas[draw], errors[draw] = _area(drawn), _error(drawn, middle, cells.of_bin)
    low, high = stats.percentiles(areas + (area - _area(counts)), level)  # cells tie scores that are not equal
    smaller = counts.sum(axis=1).min(axis=1)
    flat_low, flat_high = stats.wilson(np.nan_to_num(area) * smaller, smaller, level)
    flat = low == high
    area_interval = np.where(flat, flat_low, np.clip(low, 0, 1)), np.where(flat, flat_high, np.clip(high, 0, 1))
    # Noise makes this error larger, in draws once more than in the data: the basic bootstrap takes that back.
    low, high = stats.percentiles(2 * error - errors, level)
    error_interval = np.clip(np.minimum(low, error), 0, 1), np.clip(np.maximum(high, error), 0, 1)
    return {"auc": (area, area_interval), "calibration_error": (error, error_interval)}


def _drawn(counts: npt.NDArray[np.int64], n_draws: int, rng: np.random.Generator) -> npt.NDArray[np.int64]:
    """Draws (n_draws, cells, 2) of the counts of one group; only cells with rows take part."""
    flat = counts.ravel()
    there = np.flatnonzero(flat)
    drawn = np.zeros((n_draws, len(flat)), dtype=np.int64)
    drawn[:, there] = stats.resampled_counts(flat[there], n_draws, rng)
    return drawn.reshape(n_draws, *counts.shape)


def _area(counts: npt.NDArray[Any]) -> Array:
    negative, positive = counts[..., 0].astype(np.float64), counts[..., 1].astype(np.float64)
    below = np.cumsum(negative, axis=-1) - negative / 2
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray((positive * below).sum(axis=-1) / (positive.sum(axis=-1) * negative.sum(axis=-1)))


def _error(counts: npt.NDArray[Any], middle: Array, of_bin: npt.NDArray[np.int64]) -> Array:
    n = counts.sum(axis=-1)
    starts = np.searchsorted(of_bin, np.unique(of_bin))
    off = np.add.reduceat(n * middle - counts[..., 1], starts, axis=-1)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(np.abs(off).sum(axis=-1) / n.sum(axis=-1))
