"""Whether a slice of the rows is worse than the rest: the tests and intervals of `find_slices`."""

from __future__ import annotations

import dataclasses
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

__all__ = ["Population", "Tally", "interval", "p_worse"]

Ints: TypeAlias = npt.NDArray[np.int64]
Floats: TypeAlias = npt.NDArray[np.float64]


@dataclasses.dataclass(frozen=True)
class Tally:
    """Of every slice: how many rows, the sum of their losses, and the sum of squares; each (slices,)."""

    n: Ints
    total: Floats
    squares: Floats

    def __getitem__(self, which: Any) -> Tally:
        return Tally(self.n[which], self.total[which], self.squares[which])

    def __sub__(self, other: Tally) -> Tally:
        return Tally(self.n - other.n, self.total - other.total, self.squares - other.squares)


@dataclasses.dataclass(frozen=True)
class Population:
    """The rows among which slices are compared: how many, and sums of powers of their losses."""

    n: int
    total: float
    squares: float
    cubes: float

    @classmethod
    def of(cls, loss: Floats) -> Population:
        """Sum up losses (n,)."""
        return cls(len(loss), float(loss.sum()), float((loss**2).sum()), float((loss**3).sum()))


def p_worse(tally: Tally, among: Population, *, is_rate: bool) -> Floats:
    """Return one-sided p-values that a slice's mean loss is above that of the rest of a population.

    Of errors (0 or 1) it is the exact permutation test, the hypergeometric distribution's tail. Of other losses it is
    the larger of two: the permutation test, its distribution taken as Pearson's type III with the exact first three
    moments, and Welch's, which holds where a slice is not worse but more variable.
    """
    from scipy.special import gammainc, gammaincc, stdtr
    from scipy.stats import hypergeom

    if is_rate:
        found: Floats = hypergeom.sf(tally.total - 1, among.n, among.total, tally.n)
        return found
    spread, skew = _permuted(tally, among)
    shape, difference = 4 / skew**2, _difference(tally, among)
    error, freedom = _welch(tally, among)
    with np.errstate(divide="ignore", invalid="ignore"):
        z = difference / spread
        right = gammaincc(shape, np.maximum(shape + z * np.sqrt(shape), 0))
        left = gammainc(shape, np.maximum(shape - z * np.sqrt(shape), 0))
        welch = stdtr(freedom, -difference / error)
    p = np.maximum(np.where(skew > 0, right, left), np.where(error > 0, welch, 0.0))
    return np.where(spread > 0, p, 1.0)


def interval(tally: Tally, among: Population, level: Any, *, is_rate: bool) -> tuple[Floats, Floats]:
    """Return intervals of how far a slice's mean loss is above that of the rest.

    Of error rates, the exact limits of both put together as in Newcombe's: at levels as high as those of a thousand
    slices together, Wilson's own limits leave out too much of what rare errors can do. Of other losses, what neither of
    the tests in `p_worse` rejects.

    References:
        Clopper and Pearson, The use of confidence or fiducial limits (1934); Zou and Donner, Construction of confidence
        limits about effect measures (2008).
    """
    if is_rate:
        p, low, high = _proportion(tally.total, tally.n, level)
        q, q_low, q_high = _proportion(among.total - tally.total, among.n - tally.n, level)
        return p - q - np.hypot(p - low, q_high - q), p - q + np.hypot(high - p, q - q_low)
    from scipy.special import gammaincinv, stdtrit

    difference, tail = _difference(tally, among), (1 - level) / 2
    spread, skew = _permuted(tally, among)
    shape = 4 / skew**2
    ends = [(gammaincinv(shape, share) - shape) / np.sqrt(shape) for share in (tail, 1 - tail)]
    least, most = np.where(skew > 0, ends[0], -ends[1]), np.where(skew > 0, ends[1], -ends[0])
    error, freedom = _welch(tally, among)
    half = stdtrit(freedom, 1 - tail) * error
    return difference - np.maximum(half, most * spread), difference + np.maximum(half, -least * spread)


def _proportion(count: Floats, n: Any, level: Any) -> tuple[Floats, Floats, Floats]:
    """A proportion with its exact limits."""
    from scipy.special import betaincinv

    tail = (1 - level) / 2
    low = np.where(count > 0, betaincinv(np.maximum(count, 1), n - count + 1, tail), 0.0)
    high = np.where(count < n, betaincinv(count + 1, np.maximum(n - count, 1), 1 - tail), 1.0)
    return count / n, low, high


def _difference(tally: Tally, among: Population) -> Floats:
    """Mean losses minus those of the rest."""
    found: Floats = tally.total / tally.n - (among.total - tally.total) / (among.n - tally.n)
    return found


def _permuted(tally: Tally, among: Population) -> tuple[Floats, Floats]:
    """Standard deviation and skewness of the differences if losses were dealt out to the rows at random; exact."""
    n, size = tally.n.astype(np.float64), among.n
    mean = among.total / size
    variance = max(among.squares / size - mean**2, 0.0)
    third = among.cubes / size - 3 * mean * among.squares / size + 2 * mean**3
    of_total = np.sqrt(n * (size - n) / (size - 1) * variance)
    with np.errstate(divide="ignore", invalid="ignore"):
        skew = n * (size - n) * (size - 2 * n) / ((size - 1) * max(size - 2, 1)) * third / of_total**3
    # Without skewness the gamma distribution has no shape; with this little it is normal to seven digits.
    bent = np.where(np.abs(skew) > 1e-4, skew, 1e-4)
    return of_total * size / (n * (size - n)), bent


def _welch(tally: Tally, among: Population) -> tuple[Floats, Floats]:
    """Standard error of the differences, and Welch's degrees of freedom."""
    n, other = tally.n.astype(np.float64), among.n - tally.n.astype(np.float64)
    total, squares = among.total - tally.total, among.squares - tally.squares
    own = np.maximum(tally.squares - tally.total**2 / n, 0) / (n - 1) / n
    theirs = np.maximum(squares - total**2 / other, 0) / (other - 1) / other
    with np.errstate(divide="ignore", invalid="ignore"):
        freedom = (own + theirs) ** 2 / (own**2 / (n - 1) + theirs**2 / (other - 1))
    return np.sqrt(own + theirs), np.nan_to_num(freedom, nan=1.0)
