"""Looking at an effect seed by seed, and ending early, without more false alarms than one look at the end has.

A t test is made after every seed from the third on. How small the smallest of these p-values gets where there is no
effect does not depend on the scale of the values, so its distribution is simulated once; what is reported is how rare
the observed one is in it. That stays a p-value whenever one stops, for whatever reason.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import numpy as np
import numpy.typing as npt

from dlstudio.repetitions import Contrast, paired_contrast

__all__ = ["SEQUENTIAL", "chance_to_decide", "first_look", "sequential_contrast", "sequential_equivalence_p"]

Array = npt.NDArray[np.float64]

SEQUENTIAL = "paired sequential t"
"""The name of the test in results."""
GROWTH = 3.0
"""A look at n of N seeds gets the weight (n / N) ** GROWTH: early looks must see more, and the last loses little."""
DRAWS, CHUNK = 200_000, 20_000
FUTURES = 2_000


def first_look(n_planned: int) -> int:
    """Return from how many seeds on an effect is looked at: with two, only a huge one could be told from chance."""
    return min(3, n_planned)


def sequential_contrast(differences: Any, n_planned: int, *, step: float = 0.0, level: float = 0.95) -> Contrast:
    """Contrast two variants by the differences of the pairs so far, of which more may follow.

    Args:
        differences: (n,), in the order that was planned, n up to `n_planned`.
        n_planned: pairs there will be at most.
        step: in which values seem to be counted, see `dlstudio.repetitions.resolution`.
        level: of confidence.

    Returns:
        As of `dlstudio.repetitions.paired_contrast`, but `p_value` holds however often one looks and whenever one
        stops, and the interval covers at all looks together; both NaN before the first look.

    References:
        Jennison and Turnbull, Group sequential methods with applications to clinical trials (1999), chapter 9.
    """
    d = np.asarray(differences, dtype=np.float64)
    plain = paired_contrast(d, step=step, level=level, n_comparisons=10**12)  # so many that it is always the t test
    n = len(d)
    if n < first_look(n_planned) or n < 2:
        nothing = np.asarray(np.nan)
        return dataclasses.replace(plain, low=nothing, high=nothing, p_value=nothing, test="")
    from scipy.special import stdtrit

    observed = (_p_values(d[None], n_planned, step)[0] / _weights(n_planned)[: _n_looks(n, n_planned)]).min()
    critical = _critical(1 - level, n_planned) * _weights(n_planned)[_n_looks(n, n_planned) - 1]
    half = stdtrit(n - 1.0, 1 - critical / 2) * plain.error
    return dataclasses.replace(
        plain,
        low=plain.difference - half,
        high=plain.difference + half,
        p_value=np.asarray(_rarity(float(observed), n_planned, 0)),
        test=SEQUENTIAL,
    )


def sequential_equivalence_p(differences: Any, n_planned: int, margin: float, *, step: float = 0.0) -> float:
    """Return the p-value of a difference of `margin` or more, either way, that holds whenever one stops.

    Args:
        differences, n_planned, step: as in `sequential_contrast`.
        margin: the largest difference that does not matter.

    Returns:
        NaN before the first look.
    """
    d = np.asarray(differences, dtype=np.float64)
    n = len(d)
    if n < first_look(n_planned) or n < 2:
        return float("nan")
    either = np.stack([margin - d, margin + d])
    p = _p_values(either, n_planned, step, one_sided=True).max(axis=0)
    return _rarity(float((p / _weights(n_planned)[: len(p)]).min()), n_planned, 1)


def chance_to_decide(
    differences: Any,
    n_planned: int,
    *,
    n_left: int | None = None,
    step: float = 0.0,
    level: float = 0.95,
    n_comparisons: int = 1,
    margin: float | None = None,
) -> float:
    """Return how likely the seeds that are left will show an effect (or with a margin, that there is none).

    Effect and spread are drawn from what the seeds so far leave possible, then the seeds that are left from these.

    Args:
        differences, n_planned, step, level: as in `sequential_contrast`.
        n_left: pairs that can still come; all that are not there when None.
        n_comparisons: effects that are still open; the smallest of their p-values has to pass so many times smaller.
        margin: the largest difference that does not matter.

    Returns:
        From 0 to 1; 1 before the first look, and 0 where no seed is left.
    """
    d = np.asarray(differences, dtype=np.float64)
    n = len(d)
    if n < first_look(n_planned) or n < 2:
        return 1.0
    n_left = n_planned - n if n_left is None else n_left
    if n_left <= 0:
        return 0.0
    generator = np.random.default_rng(0)
    spread = np.sqrt(max(d.var(ddof=1), step**2) * (n - 1) / generator.chisquare(n - 1, FUTURES))
    center = d.mean() + spread / n**0.5 * generator.standard_normal(FUTURES)
    future = center[:, None] + spread[:, None] * generator.standard_normal((FUTURES, n_left))
    whole = np.concatenate([np.broadcast_to(d, (FUTURES, n)), future], axis=1)
    alpha, later = (1 - level) / n_comparisons, _n_looks(n, n_planned)
    weights = _weights(n_planned)[: _n_looks(n + n_left, n_planned)]
    decided = (_p_values(whole, n_planned, step) / weights)[:, later:].min(axis=1) <= _critical(alpha, n_planned)
    if margin is not None:
        sides = [_p_values(margin + sign * whole, n_planned, step, one_sided=True) for sign in (1, -1)]
        least = (np.maximum(*sides) / weights)[:, later:].min(axis=1)
        decided |= least <= _critical(alpha, n_planned, 1)
    return float(decided.mean())


def _n_looks(n: int, n_planned: int) -> int:
    return n - max(first_look(n_planned), 2) + 1


def _weights(n_planned: int) -> Array:
    looks = np.arange(max(first_look(n_planned), 2), n_planned + 1)
    return np.asarray((looks / n_planned) ** GROWTH)


def _p_values(d: Array, n_planned: int, step: float, *, one_sided: bool = False) -> Array:
    """Of t tests at every look: (rows, n) to (rows, looks); one-sided where means above 0 are small p-values."""
    from scipy.special import stdtr

    first, n = max(first_look(n_planned), 2), d.shape[1]
    size = np.arange(1, n + 1, dtype=np.float64)
    center = d[:, :1]  # so that squares do not cancel
    total, squares = (d - center).cumsum(axis=1), ((d - center) ** 2).cumsum(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        variance = np.maximum((squares - total**2 / size) / (size - 1), step**2)
        t = (center + total / size) / np.sqrt(variance / size)
    t = np.where(np.isnan(t), 0.0, t)[:, first - 1 :]  # no spread, and no difference
    freedom = size[first - 1 :] - 1
    return np.asarray(stdtr(freedom, -t) if one_sided else 2 * stdtr(freedom, -np.abs(t)))


@functools.lru_cache(maxsize=8)
def _without_effect(n_planned: int) -> tuple[Array, Array]:
    """The smallest weighted p-value over all looks where there is no effect: sorted draws, two- and one-sided."""
    generator, weights = np.random.default_rng(n_planned), _weights(n_planned)
    two, one = [], []
    for _ in range(DRAWS // CHUNK):
        d = generator.standard_normal((CHUNK, n_planned))
        two.append((_p_values(d, n_planned, 0.0) / weights).min(axis=1))
        one.append((_p_values(d, n_planned, 0.0, one_sided=True) / weights).min(axis=1))
    return np.sort(np.concatenate(two)), np.sort(np.concatenate(one))


def _rarity(observed: float, n_planned: int, side: int) -> float:
    drawn = _without_effect(n_planned)[side]
    simulated = (1 + int(np.searchsorted(drawn, observed, side="right"))) / (1 + len(drawn))
    # The union bound holds too; it is the smaller one only where hardly a draw lies.
    return float(min(1.0, simulated, observed * _weights(n_planned).sum()))


def _critical(alpha: float, n_planned: int, side: int = 0) -> float:
    """The largest weighted p-value that is as rare as `alpha`."""
    drawn = _without_effect(n_planned)[side]
    rank = int(alpha * (1 + len(drawn)) + 1e-9) - 1
    bound = alpha / float(_weights(n_planned).sum())
    return max(bound, float(drawn[rank - 1])) if rank > 0 else bound
