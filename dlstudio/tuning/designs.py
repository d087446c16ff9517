"""Which combinations of factors to train: one out, every one, or a balanced fraction of them; imports numpy only."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from dlstudio.errors import DLStudioError, unknown_name
from dlstudio.results import value

__all__ = ["DESIGNS", "Design", "Effect", "make_design", "read_design"]

DESIGNS = ("one-out", "factorial", "fractional")
MOST_CELLS = 256
LETTERS = "ABCDEFGHJKLMNOPQ"
"""Of factors in generators, without I, which stands for the mean."""

GENERATORS: dict[int, tuple[str, ...]] = {
    4: ("D=ABC",),
    5: ("E=ABCD",),
    6: ("E=ABC", "F=BCD"),
    7: ("E=ABC", "F=BCD", "G=ACD"),
    8: ("E=BCD", "F=ACD", "G=ABC", "H=ABD"),
    9: ("F=BCDE", "G=ACDE", "H=ABDE", "J=ABCE"),
    10: ("F=ABCD", "G=ABCE", "H=ABDE", "J=ACDE", "K=BCDE"),
    11: ("F=ABC", "G=BCD", "H=CDE", "J=ACD", "K=ADE", "L=BDE"),
    12: ("F=ABC", "G=ABD", "H=ABE", "J=ACD", "K=ACE", "L=ADE", "M=BCD"),
    13: ("F=ABC", "G=ABD", "H=ABE", "J=ACD", "K=ACE", "L=ADE", "M=BCD", "N=BCE"),
    14: ("F=ABC", "G=ABD", "H=ABE", "J=ACD", "K=ACE", "L=ADE", "M=BCD", "N=BCE", "O=BDE"),
    15: ("F=ABC", "G=ABD", "H=ABE", "J=ACD", "K=ACE", "L=ADE", "M=BCD", "N=BCE", "O=BDE", "P=CDE"),
    16: ("F=ABC", "G=ABD", "H=ABE", "J=ACD", "K=ACE", "L=ADE", "M=BCD", "N=BCE", "O=BDE", "P=CDE", "Q=ABCDE"),
}
"""How many factors -> what the later ones are products of: resolution IV, V with five. Below four there is no such
fraction. Up to 11 factors from the standard table (Montgomery, Design and analysis of experiments, table 8.14)."""


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Effect:
    """What a design can estimate: a weighted sum of its cells.

    Attributes:
        factors: one for a main effect, two for an interaction.
        off: which off value of the factor it is about, 1 for the first.
        weights: of the cells, float64 (n_cells,); they sum to 0. A main effect is the mean with the factor minus that
            without it; an interaction is half of what one factor brings more with the other than without it.
        aliases: further effects, of up to three factors, that this one cannot be told from.
    """

    factors: tuple[str, ...]
    off: int
    weights: npt.NDArray[np.float64]
    aliases: tuple[tuple[str, ...], ...] = ()

    @property
    def is_main(self) -> bool:
        """Whether it is the effect of one factor."""
        return len(self.factors) == 1


@value
@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Design:
    """Which combinations are trained; each of them, a cell, once a seed.

    Attributes:
        kind: one of `DESIGNS`.
        factors: names.
        levels: int8 (n_cells, n_factors): 0 where a factor is as in the recipe, i where it has its i-th off value.
        generators: of a fraction, such as ``"D=ABC"``: the fourth factor is off where the product of the first three
            is; empty otherwise.
        resolution: the fewest factors whose effects together add up to nothing but the mean; None where all are free.
    """

    kind: str
    factors: tuple[str, ...]
    levels: npt.NDArray[np.int8]
    generators: tuple[str, ...] = ()
    resolution: int | None = None

    @property
    def n_cells(self) -> int:
        """How many combinations there are."""
        return len(self.levels)

    @property
    def signs(self) -> npt.NDArray[np.int8]:
        """Int8 (n_cells, n_factors): 1 where a factor is as in the recipe, -1 where it is off."""
        return np.where(self.levels == 0, 1, -1).astype(np.int8)

    def effects(self) -> tuple[Effect, ...]:
        """Return what can be estimated: main effects, then the interactions of pairs, one for each set of aliases."""
        if self.kind == "one-out":
            return tuple(self._one_out())
        signs, n_cells = self.signs.astype(np.float64), self.n_cells
        columns: dict[bytes, list[tuple[str, ...]]] = {}
        for order in (1, 2, 3):
            for chosen in itertools.combinations(range(len(self.factors)), order):
                column = signs[:, chosen].prod(axis=1)
                # A column and its opposite are one comparison; the mean (all equal) is none.
                key = (column * column[0]).astype(np.int8).tobytes()
                columns.setdefault(key, []).append(tuple(self.factors[i] for i in chosen))
        index = {name: i for i, name in enumerate(self.factors)}
        found = []
        for names in columns.values():
            if len(names[0]) < 3:
                column = signs[:, [index[name] for name in names[0]]].prod(axis=1)
                weights = column * 2 / n_cells
                found.append(Effect(factors=names[0], off=1, weights=weights, aliases=tuple(names[1:])))
        return tuple(sorted(found, key=lambda effect: len(effect.factors)))

    def _one_out(self) -> list[Effect]:
        whole = int(np.flatnonzero((self.levels == 0).all(axis=1))[0])
        found = []
        for cell, levels in enumerate(self.levels):
            if cell == whole:
                continue
            factor = int(np.flatnonzero(levels)[0])
            weights = np.zeros(self.n_cells)
            weights[whole], weights[cell] = 1.0, -1.0
            found.append(Effect(factors=(self.factors[factor],), off=int(levels[factor]), weights=weights))
        return sorted(found, key=lambda effect: (self.factors.index(effect.factors[0]), effect.off))


def make_design(kind: str, factors: Sequence[str], n_off: Sequence[int]) -> Design:
    """Make a design.

    Args:
        kind: one of `DESIGNS`. A fraction of fewer than four factors, which would confuse effects with interactions of
            pairs, is the whole factorial.
        factors: names.
        n_off: how many off values each has; one each save for ``"one-out"``.

    Raises:
        DLStudioError: an unknown kind, no factor, two of one name, several off values where one is needed, or more than
            256 combinations or 16 factors.

    Example:
        >>> design = make_design("fractional", ["dropout", "warm-up", "clipping", "decay"], [1, 1, 1, 1])
        >>> design.n_cells, design.resolution
        (8, 4)
    """
    if kind not in DESIGNS:
        raise unknown_name("design", kind, DESIGNS)
    k = len(factors)
    if not k or len(set(factors)) < k:
        got = "none" if not k else "one name twice"
        raise DLStudioError("factors with names of their own, at least one", got, "Name each component once.")
    check_names(factors)
    if kind == "one-out":
        rows = [[0] * k]
        for place, count in enumerate(n_off):
            rows += [[level if i == place else 0 for i in range(k)] for level in range(1, count + 1)]
        return Design(kind=kind, factors=tuple(factors), levels=np.array(rows, dtype=np.int8))
    if max(n_off) > 1:
        name = next(name for name, count in zip(factors, n_off, strict=True) if count > 1)
        remedy = "Keep one of them, or take design='one-out'."
        raise DLStudioError(f"one off value a factor in a {kind} design", f"{max(n_off)} for {name!r}", remedy)
    if kind == "factorial" or k not in GENERATORS:
        if 2**k > MOST_CELLS:
            instead = "'fractional'" if kind == "factorial" and k <= 16 else "'one-out'"
            got = f"{k} factors, which are {2**k:,}" if k < 40 else f"{k} factors"
            raise DLStudioError(f"at most {MOST_CELLS} combinations", got, f"Take design={instead}.")
        levels = np.array(list(itertools.product((0, 1), repeat=k)), dtype=np.int8)
        return Design(kind="factorial", factors=tuple(factors), levels=levels)
    generators = GENERATORS[k]
    return Design(
        kind=kind, factors=tuple(factors), levels=_fraction(k, generators), generators=generators,
        resolution=_resolution(generators),
    )  # fmt: skip


def _fraction(k: int, generators: Sequence[str]) -> npt.NDArray[np.int8]:
    """Levels of the fraction that holds the recipe as it is: every generator is a product of an odd number or, with an
    even one, of as many 1s, so that the cell in which nothing is off is among them."""
    base = k - len(generators)
    signs = np.array(list(itertools.product((1, -1), repeat=base)), dtype=np.int8)
    for generator in generators:
        word = generator.split("=")[1]
        signs = np.column_stack([signs, signs[:, [LETTERS.index(letter) for letter in word]].prod(axis=1)])
    return np.where(signs == 1, 0, 1).astype(np.int8)


def _resolution(generators: Sequence[str]) -> int:
    """The length of the shortest product of factors that is always 1."""
    words = [sum(1 << LETTERS.index(letter) for letter in generator.replace("=", "")) for generator in generators]
    defining = {0}
    for word in words:
        defining |= {other ^ word for other in defining}
    return min(word.bit_count() for word in defining - {0})


def check_names(factors: Sequence[str]) -> None:
    """Check that the names of interactions can be read.

    Raises:
        DLStudioError: a name holds the sign between two.
    """
    for name in factors:
        if "×" in name:
            raise DLStudioError("names without ×, which stands between two factors", repr(name), "Write x instead.")


def read_design(factors: Sequence[str], levels: npt.NDArray[np.int8]) -> Design:
    """Recognise the design of a table of finished runs.

    Args:
        factors: names.
        levels: int8 (n_cells, n_factors), each cell once; 0 as it is, above 0 off.

    Returns:
        The design, its cells in the order given.

    Raises:
        DLStudioError: the cells are none of `DESIGNS`, so that effects cannot be told apart.
    """
    check_names(factors)
    k, n_cells = len(factors), len(levels)
    off = (levels > 0).sum(axis=1)
    if (off == 0).sum() == 1 and (off <= 1).all() and n_cells > 1:
        return Design(kind="one-out", factors=tuple(factors), levels=levels)
    signs = np.where(levels == 0, 1, -1).astype(np.int64)
    balanced = levels.max(initial=0) == 1 and not signs.sum(axis=0).any()
    if balanced and n_cells == 2**k:
        return Design(kind="factorial", factors=tuple(factors), levels=levels)
    if balanced and not (signs.T @ signs - n_cells * np.eye(k, dtype=np.int64)).any():
        resolution = next(
            (
                order
                for order in range(3, k + 1)
                for chosen in itertools.combinations(range(k), order)
                if abs(int(signs[:, chosen].prod(axis=1).sum())) == n_cells
            ),
            None,
        )
        if resolution is not None and resolution >= 4 and math.log2(n_cells).is_integer():
            return Design(kind="fractional", factors=tuple(factors), levels=levels, resolution=resolution)
    raise DLStudioError(
        "all factors on together with each off alone, all combinations, or a balanced fraction of resolution IV",
        f"{n_cells} combinations of {k} factors that are none of these",
        "Add what is missing, or name fewer factors.",
    )
