"""Designs by definition: balance, orthogonality, resolution and aliases, from the columns themselves."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from dlstudio.errors import DLStudioError
from dlstudio.tuning.designs import GENERATORS, LETTERS, Design, make_design, read_design


def made(kind: str, k: int) -> Design:
    return make_design(kind, list(LETTERS[:k]), [1] * k)


def columns(design: Design, order: int) -> dict[tuple[str, ...], np.ndarray]:
    signs = design.signs.astype(int)
    return {
        tuple(design.factors[i] for i in chosen): signs[:, chosen].prod(axis=1)
        for chosen in itertools.combinations(range(len(design.factors)), order)
    }


def test_one_out() -> None:
    design = make_design("one-out", ["a", "b"], [1, 2])
    assert design.levels.tolist() == [[0, 0], [1, 0], [0, 1], [0, 2]]
    effects = design.effects()
    assert [(effect.factors, effect.off) for effect in effects] == [(("a",), 1), (("b",), 1), (("b",), 2)]
    assert [effect.weights.tolist() for effect in effects] == [[1, -1, 0, 0], [1, 0, -1, 0], [1, 0, 0, -1]]


@pytest.mark.parametrize("k", [1, 2, 3, 5])
def test_a_factorial_is_every_combination(k: int) -> None:
    design = made("factorial", k)
    assert len({tuple(levels) for levels in design.levels.tolist()}) == 2**k == design.n_cells
    effects = design.effects()
    assert len(effects) == k + k * (k - 1) // 2 and not any(effect.aliases for effect in effects)


@pytest.mark.parametrize("k", sorted(GENERATORS))
def test_a_fraction_is_balanced_orthogonal_and_of_resolution_four(k: int) -> None:
    design = made("fractional", k)
    n = design.n_cells
    assert n < 2**k and n in (8, 16, 32) and n >= 2 * k
    assert not design.levels[0].any()  # the recipe as it is is among them
    assert len({tuple(levels) for levels in design.levels.tolist()}) == n
    for order in (1, 2, 3):  # no effect of up to three factors is the mean: resolution IV
        assert all(not column.sum() for column in columns(design, order).values())
    for one, other in itertools.combinations(columns(design, 1).values(), 2):
        assert not one @ other
    shortest = next(
        order for order in range(1, k + 1) if any(abs(c.sum()) == n for c in columns(design, order).values())
    )
    assert design.resolution == shortest >= 4


@pytest.mark.parametrize("k", sorted(GENERATORS))
def test_aliases_are_the_columns_that_are_equal(k: int) -> None:
    design = made("fractional", k)
    every = columns(design, 1) | columns(design, 2) | columns(design, 3)
    found = design.effects()
    for effect in found:
        own = every[effect.factors]
        assert effect.weights == pytest.approx(own * 2 / design.n_cells)
        same = {names for names, c in every.items() if abs(c @ own) == design.n_cells and names != effect.factors}
        assert set(effect.aliases) == same
        assert all(len(names) > 1 for names in same)
        assert not effect.is_main or all(len(names) > 2 for names in same)
    # Every main effect and pair is estimated once, by itself or by an alias.
    named = [names for effect in found for names in (effect.factors, *effect.aliases) if len(names) < 3]
    assert len(named) == len(set(named)) == k + k * (k - 1) // 2


def test_the_half_fraction_of_four() -> None:
    design = made("fractional", 4)
    assert (design.n_cells, design.resolution, design.generators) == (8, 4, ("D=ABC",))
    aliases = {effect.factors: effect.aliases for effect in design.effects()}
    assert aliases[("A", "B")] == (("C", "D"),) and aliases[("D",)] == (("A", "B", "C"),)


def test_a_fraction_of_five_leaves_pairs_free() -> None:
    found = made("fractional", 5).effects()
    assert len(found) == 15 and all(all(len(names) > 2 for names in effect.aliases) for effect in found)


def test_a_fraction_of_three_is_the_whole() -> None:
    assert made("fractional", 3).kind == "factorial"


@pytest.mark.parametrize("kind", ["one-out", "factorial", "fractional"])
def test_a_table_is_read_back(kind: str) -> None:
    design = made(kind, 6)
    order = np.random.default_rng(0).permutation(design.n_cells)
    read = read_design(design.factors, design.levels[order])
    assert (read.kind, read.resolution) == (kind, design.resolution)
    assert np.array_equal(read.levels, design.levels[order])
    wanted = {effect.factors: set(effect.aliases) for effect in design.effects()}
    assert {effect.factors: set(effect.aliases) for effect in read.effects()} == wanted


def test_what_is_no_design() -> None:
    with pytest.raises(DLStudioError, match="none of these"):
        read_design(["a", "b"], np.array([[0, 0], [1, 0], [1, 1]], dtype=np.int8))
    third = np.array([[0, 0, 0], [0, 1, 1], [1, 0, 1], [1, 1, 0]], dtype=np.int8)  # resolution III
    with pytest.raises(DLStudioError, match="none of these"):
        read_design(["a", "b", "c"], third)
    with pytest.raises(DLStudioError, match="fractional"):
        make_design("fractal", ["a"], [1])
    with pytest.raises(DLStudioError, match="design='fractional'"):
        made("factorial", 9)
    with pytest.raises(DLStudioError, match="one-out"):
        make_design("factorial", ["a", "b"], [1, 2])
    with pytest.raises(DLStudioError, match="one-out"):
        make_design("fractional", [f"f{i}" for i in range(17)], [1] * 17)
    with pytest.raises(DLStudioError, match="one name twice"):
        make_design("one-out", ["a", "a"], [1, 1])
    with pytest.raises(DLStudioError, match="×"):
        make_design("one-out", ["a × b"], [1])
