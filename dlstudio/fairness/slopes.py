"""Calibration slopes of groups: by how much the outcome's log odds grow with those that a score promises.

A slope of 1 is right; below 1 scores are too extreme, high ones too high and low ones too low, and above 1 they are too
timid. Together with the mean score less the base rate this is weak calibration.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from dlstudio.fairness.clusters import Clusters
from dlstudio.fairness.inputs import Outcome

__all__ = ["Logits", "Slopes", "logits_of", "slopes"]

Array = npt.NDArray[np.float64]
Places = npt.NDArray[np.int64]

CLIP = 1e-6
"""Scores of 0 and 1 have no finite log odds; they count as this far from 0 and 1."""
FINE = 1024
"""Different scores up to which each is its own cell; more are put into this many cells of about the same size."""
MOST_AT_ONCE = 1_000_000
"""Cells of groups that are fitted at once."""
MOST_STEPS, CLOSE, LONGEST = 30, 1e-6, 3.0


@dataclass(frozen=True, kw_only=True, eq=False)
class Logits:
    """Log odds of scores.

    Attributes:
        at: int64 (n,), the cell of every row.
        x: (cells,), the mean log odds of every cell.
    """

    at: Places
    x: Array


@dataclass(frozen=True, kw_only=True, eq=False)
class Slopes:
    """Slopes of g groups; NaN where a class is missing or no finite slope is the likeliest.

    Attributes:
        value, variance, freedom: (g,), the slope, its robust variance, and its degrees of freedom.
        shared: covariances of pairs that share clusters; all others are independent.
    """

    value: Array
    variance: Array
    freedom: Array
    shared: Mapping[tuple[int, int], float] = field(default_factory=dict)

    def apart(self, a: Any, b: Any) -> tuple[Array, Array, Array]:
        """Return differences of groups, their standard errors and degrees of freedom."""
        one, two = self.variance[a], self.variance[b]
        both = np.array([self.shared.get((int(i), int(j)), 0.0) for i, j in zip(a, b, strict=True)])
        with np.errstate(invalid="ignore", divide="ignore"):
            freedom = (one + two) ** 2 / (one**2 / self.freedom[a] + two**2 / self.freedom[b])
            return self.value[a] - self.value[b], np.sqrt(np.maximum(one + two - 2 * both, 0)), freedom


def logits_of(scores: Array) -> Logits:
    """Put scores from 0 to 1 into cells by their log odds."""
    from scipy.special import logit

    x = logit(np.clip(scores, CLIP, 1 - CLIP))
    values, at = np.unique(x, return_inverse=True)
    if len(values) > FINE:
        edges = np.unique(np.quantile(x, np.linspace(0, 1, FINE + 1)[1:-1]))
        _, at = np.unique(np.searchsorted(edges, x, side="right"), return_inverse=True)
        values = np.bincount(at, x) / np.bincount(at)
    return Logits(at=at.astype(np.int64), x=values)


def slopes(
    codes: npt.NDArray[np.int32],
    n_groups: int,
    outcome: Outcome,
    logits: Logits,
    *,
    clusters: Clusters | None = None,
    rest: bool = False,
    least: int = 1,
) -> Slopes:
    """Fit a logistic regression of the outcome on the log odds of its score in every group.

    Args:
        codes: (n,) the group of every row.
        n_groups: how many there are.
        outcome: what was predicted.
        logits: of its scores.
        clusters: of the rows; variances are then those of sums over clusters.
        rest: whether everybody else than each group follows the groups.
        least: rows of either class that a group needs; others stay unknown.

    References:
        Van Calster et al., A calibration hierarchy for risk models was defined (2016); Long and Ervin, Using
        heteroscedasticity consistent standard errors in the linear regression model (2000).
    """
    n_cells = len(logits.x)
    both, of_row = np.unique(codes.astype(np.int64) * n_cells + logits.at, return_inverse=True)
    rows = np.bincount(of_row).astype(np.float64)
    have = np.bincount(of_row, outcome.y_true, minlength=len(both)).astype(np.float64)
    group, cell = both // n_cells, both % n_cells
    positive = np.bincount(group, have, minlength=n_groups)
    fitted = np.minimum(positive, np.bincount(group, rows, minlength=n_groups) - positive) >= least
    fit = _fit(logits.x[cell], have, rows, group, n_groups)
    value, variance = np.where(fitted, fit.slope, np.nan), fit.variance
    freedom = np.bincount(codes, minlength=n_groups) - 2.0
    shared: dict[tuple[int, int], float] = {}
    inner = None
    if clusters is not None:
        pulls = np.where(outcome.y_true, fit.pull[1][of_row], fit.pull[0][of_row])
        inner = _by_cluster(pulls, codes, clusters, n_groups)
        variance, freedom = _cluster_variance(inner)
        variance = np.where(np.isnan(value), np.nan, variance)
        if clusters.groups(codes) is None and not rest:
            both_ways = (inner.T @ inner).tocoo()
            pairs = zip(both_ways.row.tolist(), both_ways.col.tolist(), strict=True)
            shared = dict(zip(pairs, both_ways.data.tolist(), strict=True))
    if rest:
        others = np.full((3, n_groups), np.nan)
        for chosen, other, pull in _everybody_else(group, cell, have, rows, n_groups, logits.x, np.flatnonzero(fitted)):
            others[0, chosen], others[1, chosen] = other.slope, other.variance
            others[2, chosen] = len(codes) - freedom[chosen] - 4 if clusters is None else np.nan
            if clusters is not None and inner is not None:
                for at, one in enumerate(chosen):
                    sums = np.where(outcome.y_true, pull[1, at][logits.at], pull[0, at][logits.at])
                    whole = np.bincount(clusters.codes, np.where(codes == one, 0.0, sums), minlength=clusters.n)
                    there = np.bincount(clusters.codes, codes != one, minlength=clusters.n) > 0
                    n = int(there.sum())
                    others[1, one], others[2, one] = (whole**2).sum() * n / max(n - 1, 1), n - 1
                    shared[int(one), n_groups + int(one)] = float((inner[:, [one]].T @ whole)[0])
        value, variance, freedom = (
            np.concatenate(pair) for pair in zip((value, variance, freedom), others, strict=True)
        )
    return Slopes(value=value, variance=variance, freedom=np.maximum(freedom, 1), shared=shared)


@dataclass(frozen=True, kw_only=True, eq=False)
class _Fit:
    """Slopes (g,), their variances (g,), and what a row of class 0 or 1 in each cell pulls a slope by (2, entries)."""

    slope: Array
    variance: Array
    pull: Array


def _fit(x: Array, have: Array, rows: Array, group: Places, n_groups: int) -> _Fit:
    """Newton's method in all groups at once; entry i has `rows[i]` rows at `x[i]`, of which `have[i]` are positive."""
    from scipy.special import expit, logit

    def add(values: Array) -> Array:
        return np.bincount(group, values, minlength=n_groups).astype(np.float64)

    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        n, positive = add(rows), add(have)
        x = x - (add(rows * x) / n)[group]
        spread = np.sqrt(add(rows * x**2) / n)
        known = (positive > 0) & (positive < n) & (spread > 1e-9)
        x = np.where(known[group], x / spread[group], 0.0)
        level, slope = np.where(known, logit(positive / n), 0.0), np.zeros(n_groups)
        step = np.zeros(n_groups)
        for _ in range(MOST_STEPS):
            p = expit(level[group] + slope[group] * x)
            off, weight = have - rows * p, rows * p * (1 - p)
            i0, i1, i2 = add(weight), add(weight * x), add(weight * x**2)
            u0, u1, volume = add(off), add(off * x), i0 * i2 - i1**2
            steps = np.stack([i2 * u0 - i1 * u1, i0 * u1 - i1 * u0]) / volume
            size = np.hypot(*steps)
            steps = np.where(known & np.isfinite(size), steps * np.minimum(1, LONGEST / size), 0.0)
            steps[:, size == 0] = 0.0
            level, slope = level + steps[0], slope + steps[1]
            step = np.where(known, size, 0.0)
            if not (step > CLOSE).any():
                break
        p = expit(level[group] + slope[group] * x)
        weight = p * (1 - p)
        i0, i1, i2 = add(rows * weight), add(rows * weight * x), add(rows * weight * x**2)
        volume = i0 * i2 - i1**2
        leverage = weight * (i2[group] - 2 * i1[group] * x + i0[group] * x**2) / volume[group]
        toward = (i0[group] * x - i1[group]) / volume[group] / np.maximum(1 - leverage, 1e-3)
        # Steps that do not end run after a slope without bound: the score tells both classes apart without an error.
        found = known & (step <= CLOSE) & np.isfinite(step)
        pull = np.where(found[group], np.stack([-p * toward, (1 - p) * toward]) / spread[group], np.nan)
        variance = add((rows - have) * pull[0] ** 2 + have * pull[1] ** 2)
        slope, variance = (np.where(found, each, np.nan) for each in (slope / spread, variance))
        return _Fit(slope=slope, variance=variance, pull=pull)


def _everybody_else(
    group: Places, cell: Places, have: Array, rows: Array, n_groups: int, x: Array, fitted: Places
) -> Iterator[tuple[Places, _Fit, Array]]:
    """Yield groups, the fits of everybody else than each, and the pulls (2, groups, cells)."""
    n_cells = len(x)
    whole = [np.bincount(cell, each, minlength=n_cells) for each in (have, rows)]
    at_once = max(1, MOST_AT_ONCE // n_cells)
    for start in range(0, len(fitted), at_once):
        chosen = fitted[start : start + at_once]
        place = np.full(n_groups, -1)
        place[chosen] = np.arange(len(chosen))
        ours = place[group] >= 0
        at = place[group[ours]] * n_cells + cell[ours]
        size = len(chosen) * n_cells
        has, have_rows = (
            (total - np.bincount(at, each[ours], minlength=size).reshape(-1, n_cells)).astype(np.float64).ravel()
            for total, each in zip(whole, (have, rows), strict=True)
        )
        fit = _fit(np.tile(x, len(chosen)), has, have_rows, np.repeat(np.arange(len(chosen)), n_cells), len(chosen))
        yield chosen, fit, fit.pull.reshape(2, len(chosen), n_cells)


def _by_cluster(pulls: Array, codes: npt.NDArray[np.int32], clusters: Clusters, n_groups: int) -> Any:
    """Sum the pulls of the rows of every cluster in every group: sparse (clusters, groups)."""
    from scipy.sparse import coo_array

    # Where a slope is unknown, its group's pulls are too.
    return coo_array((np.nan_to_num(pulls), (clusters.codes, codes)), shape=(clusters.n, n_groups)).tocsc()


def _cluster_variance(sums: Any) -> tuple[Array, Array]:
    n = np.diff(sums.indptr).astype(np.float64)
    total = np.asarray(sums.multiply(sums).sum(axis=0)).ravel()
    return total * n / np.maximum(n - 1, 1), n - 1
