"""What scores are worth in every group: area under the ROC curve and calibration error, each with an interval."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from dlstudio import scoring
from dlstudio.fairness.clusters import Clusters
from dlstudio.fairness.counts import Array, Interval

__all__ = ["score_intervals"]


def score_intervals(
    codes: npt.NDArray[np.int32],
    n_groups: int,
    y_true: npt.NDArray[np.bool_],
    scores: Array,
    *,
    level: float,
    n_draws: int,
    seed: int,
    clusters: Clusters | None,
) -> dict[str, tuple[Array, Interval]]:
    """Return ``"auc"`` and ``"calibration_error"`` of every group with their intervals, as `dlstudio.scoring` has them.

    Args:
        codes: (n,) the group of every row, all of which have rows.
        n_groups: how many there are.
        y_true, scores: (n,), what happened, and how likely it was said to be.
        level: of confidence.
        n_draws, seed: of what chance adds to a calibration error.
        clusters: of the rows; None where all are independent.
    """
    areas, errors = np.empty((3, n_groups)), np.empty((3, n_groups))
    rows = np.split(np.argsort(codes, kind="stable"), np.cumsum(np.bincount(codes, minlength=n_groups))[:-1])
    for group, chosen in enumerate(rows):
        y, s = y_true[chosen], scores[chosen]
        own = None if clusters is None else clusters.codes[chosen]
        areas[:, group] = scoring.auc(y, s, level, own)
        bins = scoring.calibration_bins(y, s)
        errors[:, group] = bins.ece, *scoring.error_interval(bins, y, s, level, n_draws, seed, own)
    return {
        "auc": (areas[0], (areas[1], areas[2])),
        "calibration_error": (errors[0], (errors[1], errors[2])),
    }
