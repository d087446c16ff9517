"""What decisions do to groups, in counts, and the gaps that follow from these."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from dlstudio import stats
from dlstudio.errors import DLStudioError, unknown_name

__all__ = ["CRITERIA", "N", "POSITIVE", "SELECTED", "TRUE", "binary", "counts_of", "criterion_named", "gap_of", "rates"]

Array = npt.NDArray[np.float64]
Counts = npt.NDArray[np.int64]

N, POSITIVE, SELECTED, TRUE = range(4)
"""Places in counts (…, 4): rows, those of class 1, those that are given class 1, and those of both."""

CRITERIA = {
    "demographic_parity_difference": ("selection_rate",),
    "equal_opportunity_difference": ("true_positive_rate",),
    "equalized_odds_difference": ("true_positive_rate", "false_positive_rate"),
}
"""By fairlearn's name: the rates that should be equal."""


def criterion_named(name: str) -> tuple[str, ...]:
    """Return the rates of a criterion.

    Raises:
        DLStudioError: there is no such criterion.
    """
    if name not in CRITERIA:
        raise unknown_name("criterion", name, CRITERIA)
    return CRITERIA[name]


def binary(y_true: Any, y_score: Any) -> tuple[npt.NDArray[np.int64], Array]:
    """Return classes 0 and 1, and scores from 0 to 1, both (n,).

    Raises:
        DLStudioError: they are something else.
    """
    y, scores = np.asarray(y_true), np.asarray(y_score, dtype=np.float64)
    if y.ndim != 1 or not len(y) or not np.isin(y, (0, 1)).all():
        found = ", ".join(map(str, np.unique(y)[:5])) if y.ndim == 1 else f"shape {y.shape}"
        raise DLStudioError("y_true of 0 and 1, one a row", found or "none", "Make the favourable outcome class 1.")
    if scores.shape != y.shape:
        raise DLStudioError(f"{len(y):,} scores of class 1", f"shape {scores.shape}", "Pass one probability a row.")
    if not ((scores >= 0) & (scores <= 1)).all():
        worst = scores[~((scores >= 0) & (scores <= 1))][0]
        raise DLStudioError("scores from 0 to 1", f"{worst:g}", "Pass probabilities, not logits.")
    return y.astype(np.int64), scores


def counts_of(y: Counts, chosen: npt.NDArray[np.bool_], codes: Counts, n_groups: int) -> Counts:
    """Return counts (groups, 4) of decisions."""
    weights = (None, y == 1, chosen, chosen & (y == 1))
    return np.stack(
        [np.bincount(codes if w is None else codes[w], minlength=n_groups) for w in weights], axis=-1
    ).astype(np.int64)


def rates(counts: Counts, rate: str) -> tuple[Counts, Counts]:
    """Return numerators and denominators (…) of a rate, from counts (…, 4)."""
    n, positive, selected, true = (counts[..., place] for place in (N, POSITIVE, SELECTED, TRUE))
    if rate == "true_positive_rate":
        return true, positive
    if rate == "false_positive_rate":
        return selected - true, n - positive
    return selected, n


def gap_of(counts: Counts, criterion: str, level: float, min_denominator: int) -> tuple[float, float, float, int, int]:
    """Return the largest gap between two groups that are large enough: ``(gap, low, high, group, reference)``.

    The interval is Newcombe's, of the pair that is furthest apart; `group` has the lower rate. NaN and -1 where fewer
    than two groups have the denominators.
    """
    worst = (np.nan, np.nan, np.nan, -1, -1)
    for rate in criterion_named(criterion):
        count, n = rates(counts, rate)
        enough = np.flatnonzero(n >= max(1, min_denominator))
        if len(enough) < 2:
            continue
        values = count[enough] / n[enough]
        least, most = enough[int(values.argmin())], enough[int(values.argmax())]
        gap = float(values.max() - values.min())
        if not gap <= worst[0]:
            low, high = stats.difference_interval(count[most], n[most], count[least], n[least], level)
            worst = (gap, float(low), float(high), int(least), int(most))
    return worst
