"""Thresholds by group are the best there are: of every combination that keeps the limit none is right more often."""

from __future__ import annotations

import itertools

import numpy as np
import numpy.typing as npt
import pytest

from dlstudio.fairness.mitigation.rates import CRITERIA
from dlstudio.fairness.mitigation.thresholds import group_thresholds
from dlstudio.fairness.mitigation.trade_off import trade_off

Array = npt.NDArray[np.float64]
SLACK = 1e-12


def rows(n: int, n_groups: int, seed: int, decimals: int = 2) -> tuple[Array, Array, Array]:
    generator = np.random.default_rng(seed)
    g = generator.integers(0, n_groups, n)
    score = np.round(generator.beta(2, 2, n), decimals)
    y = (generator.random(n) < np.clip(score + 0.1 * (g == 0) - 0.1 * (g == 2), 0, 1)).astype(int)
    return y, score, g


def decisions(y: Array, score: Array, criterion: str) -> tuple[Array, Array]:
    """How often every threshold of one group is right, and the rates (thresholds, rates) it leads to."""
    chosen = score >= np.append(np.unique(score), np.inf)[:, None]
    shares = {
        "selection_rate": chosen.mean(axis=1),
        "true_positive_rate": chosen[:, y == 1].mean(axis=1),
        "false_positive_rate": chosen[:, y == 0].mean(axis=1),
    }
    return (chosen == y).sum(axis=1), np.stack([shares[name] for name in CRITERIA[criterion]], axis=1)


def best_of_all(y: Array, score: Array, g: Array, criterion: str, max_gap: float) -> float:
    """The accuracy of the best of all combinations of thresholds, each of which is tried."""
    of_groups = [decisions(y[g == group], score[g == group], criterion) for group in np.unique(g)]
    (right, rate), *others = of_groups
    low = high = rate
    for more, its_rate in others:
        right = right[..., None] + more
        low = np.minimum(low[..., None, :], its_rate)
        high = np.maximum(high[..., None, :], its_rate)
    fits = (high - low <= max_gap + SLACK).all(axis=-1)
    return float(right[fits].max() / len(y))


@pytest.mark.parametrize("criterion", CRITERIA)
@pytest.mark.parametrize(("n", "n_groups", "decimals"), [(600, 2, 2), (900, 2, 9), (240, 3, 2), (150, 3, 9)])
@pytest.mark.parametrize("seed", range(3))
def test_no_other_thresholds_are_right_more_often(
    criterion: str, n: int, n_groups: int, decimals: int, seed: int
) -> None:
    y, score, g = rows(n, n_groups, seed, decimals)
    for max_gap in (0.0, 0.01, 0.02, 0.1):
        found = group_thresholds(y, score, g, criterion, max_gap=max_gap, min_denominator=5)
        assert found.accuracy == pytest.approx(best_of_all(y, score, g, criterion, max_gap), abs=SLACK)
        assert found.gap <= max_gap + SLACK and (found.predict(score, g) == y).mean() == pytest.approx(found.accuracy)


@pytest.mark.parametrize("criterion", ["demographic_parity_difference", "equal_opportunity_difference"])
def test_with_thousands_of_scores_none_is_left_out(criterion: str) -> None:
    y, score, g = rows(5000, 2, seed=0, decimals=9)
    for max_gap in (0.0, 0.003):
        found = group_thresholds(y, score, g, criterion, max_gap=max_gap)
        assert found.accuracy == pytest.approx(best_of_all(y, score, g, criterion, max_gap), abs=SLACK)


def test_of_equally_right_thresholds_the_nearest_to_the_common_one_are_taken() -> None:
    y, score, g = rows(60, 2, seed=4, decimals=1)
    found = group_thresholds(y, score, g, max_gap=0.1, min_denominator=1)
    between = []
    for group in (0, 1):
        values = np.unique(score[g == group])
        between.append(np.r_[-np.inf, (values[1:] + values[:-1]) / 2, 0.5, np.inf])
    ties = []
    for pair in itertools.product(*between):
        chosen = score >= np.array(pair)[g]
        gap = abs(chosen[g == 0].mean() - chosen[g == 1].mean())
        if gap <= 0.1 + SLACK and (chosen == y).mean() == pytest.approx(found.accuracy):
            ties.append(sum(min(abs(one - 0.5), 1) for one in pair))
    assert len(ties) > 1 and sum(min(abs(one - 0.5), 1) for one in found.thresholds) == pytest.approx(min(ties))


def test_scores_without_a_number_between_them_are_told_apart() -> None:
    above = np.nextafter(0.25, 1)
    score = np.array([0.25, above, 0.25, np.nextafter(above, 1)] * 10)  # one pair rounds down in the middle
    score[2::4] = above
    g = np.tile([0, 0, 1, 1], 10)
    y = np.tile([0, 1, 0, 1], 10)
    found = group_thresholds(y, score, g, max_gap=0.0, min_denominator=1)
    assert found.accuracy == 1 and (found.predict(score, g) == y).all()


def test_points_of_a_trade_off_are_the_best_for_their_limits() -> None:
    y, score, g = rows(1200, 2, seed=1)
    curve = trade_off(y, score, sensitive_features=g, criterion="equalized_odds_difference", n_points=6)
    fit = fitted(y, g)
    chosen = [at for at, kind in enumerate(curve.kinds) if kind == "thresholds"]
    assert len(chosen) > 3
    for at in chosen:
        best = best_of_all(y[fit], score[fit], g[fit], "equalized_odds_difference", float(curve.limits[at]))
        assert curve.fit_accuracy[at] == pytest.approx(best, abs=SLACK)


def fitted(y: Array, g: Array) -> npt.NDArray[np.bool_]:
    """The half of every group and class on which thresholds are found."""
    generator, fit = np.random.default_rng(0), np.zeros(len(y), dtype=bool)
    for number, (group, label) in enumerate(itertools.product(np.unique(g), (0, 1))):
        mine = generator.permutation(np.flatnonzero((g == group) & (y == label)))
        fit[mine[: (len(mine) + number % 2) // 2]] = True
    return fit
