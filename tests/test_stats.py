"""Intervals and tests against published figures, scipy, and simulation."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import scipy.stats

from dlstudio import stats
from dlstudio.errors import DLStudioError


@pytest.mark.parametrize(("count", "n"), [(81, 263), (15, 148), (0, 20), (1, 29), (29, 29), (3, 8)])
def test_wilson_as_scipy_has_it(count: int, n: int) -> None:
    expected = scipy.stats.binomtest(count, n).proportion_ci(0.95, method="wilson")
    low, high = stats.wilson(count, n)
    assert (float(low), float(high)) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_published_intervals() -> None:
    low, high = stats.wilson(81, 263)  # Newcombe (1998), table 1
    assert (round(float(low), 4), round(float(high), 4)) == (0.2553, 0.3662)
    low, high = stats.difference_interval(56, 70, 48, 80)  # Newcombe (1998), table 2, example a, method 10
    assert (round(float(low), 4), round(float(high), 4)) == (0.0524, 0.3339)
    low, high = stats.difference_interval(5, 56, 0, 29)  # example f
    assert (round(float(low), 4), round(float(high), 4)) == (-0.0381, 0.1926)
    low, high = stats.difference_interval(805, 1795, 349, 1488, how="wald")  # COMPAS, false-positive rates
    assert (round(float(low), 4), round(float(high), 4)) == (0.1824, 0.2454)


def test_no_rows_have_no_interval() -> None:
    assert np.isnan(stats.wilson(0, 0)).all()
    assert np.isnan(stats.difference_interval(0, 0, 3, 8)).all()
    assert np.isnan(stats.ratio_interval(0, 0, 3, 8)).all()
    assert np.isnan(stats.same_proportion_p(0, 0, 3, 8))
    assert stats.ratio_interval(3, 8, 0, 8)[1] == np.inf


@pytest.mark.parametrize(("p", "q", "n", "m"), [(0.3, 0.3, 60, 200), (0.1, 0.25, 150, 80), (0.5, 0.48, 400, 400)])
def test_intervals_of_gaps_cover_as_they_promise(p: float, q: float, n: int, m: int) -> None:
    rng = np.random.default_rng(0)
    one, other = rng.binomial(n, p, 4000), rng.binomial(m, q, 4000)
    low, high = stats.difference_interval(one, n, other, m)
    assert 0.93 <= np.mean((low <= p - q) & (p - q <= high)) <= 0.97
    low, high = stats.ratio_interval(one, n, other, m)
    assert 0.93 <= np.mean((low <= p / q) & (p / q <= high)) <= 0.97


@pytest.mark.parametrize(("p", "n", "m"), [(0.3, 60, 200), (0.1, 150, 80), (0.5, 400, 400)])
def test_the_permutation_test_rejects_as_often_as_its_level(p: float, n: int, m: int) -> None:
    rng = np.random.default_rng(1)
    found = stats.same_proportion_p(rng.binomial(n, p, 3000), n, rng.binomial(m, p, 3000), m)
    assert 0.04 <= np.mean(found <= 0.05) <= 0.06


def test_the_permutation_test_by_trying_every_permutation() -> None:
    one, other = [1, 1, 0, 1], [0, 0, 1, 0, 0]
    every = np.array(one + other)
    seen = abs(np.mean(one) - np.mean(other))
    off = []
    for chosen in itertools.combinations(range(9), 4):
        left = np.setdiff1d(np.arange(9), chosen)
        off.append(abs(every[list(chosen)].mean() - every[left].mean()))
    expected = np.mean(np.array(off) > seen + 1e-9) + np.mean(np.abs(np.array(off) - seen) < 1e-9) / 2
    assert float(stats.same_proportion_p(3, 4, 1, 5)) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("count", "n", "other", "other_n"),
    [
        (805, 1795, 349, 1488),
        (3, 8, 2000, 5000),
        (0, 40, 9, 90_000),
        (500, 1000, 500, 1000),
        (7, 7, 3, 3),
        (0, 5, 0, 6),
    ],
)
def test_the_permutation_test_adds_up_the_whole_distribution(count: int, n: int, other: int, other_n: int) -> None:
    total, positive = n + other_n, count + other
    support = np.arange(max(0, positive - other_n), min(n, positive) + 1)
    chance = scipy.stats.hypergeom.pmf(support, total, positive, n)
    off, seen = np.abs(support * total - positive * n), abs(count * total - positive * n)
    expected = min(1, chance[off > seen].sum() + chance[off == seen].sum() / 2)
    assert float(stats.same_proportion_p(count, n, other, other_n)) == pytest.approx(expected, rel=1e-7)


def test_holm_by_hand() -> None:
    assert stats.holm([0.01, 0.04, 0.03, np.nan, 0.005]) == pytest.approx([0.03, 0.06, 0.06, np.nan, 0.02], nan_ok=True)


def test_holm_is_that_of_its_definition() -> None:
    p = np.array([0.01, 0.04, 0.03, 0.6])
    levels = np.linspace(0, 1, 10_001)

    def rejected(level: float) -> set[int]:
        steps = itertools.takewhile(lambda k: sorted(p)[k] <= level / (4 - k) + 1e-12, range(4))
        return {int(np.argsort(p)[k]) for k in steps}

    smallest = [min(level for level in levels if at in rejected(level)) for at in range(4)]
    np.testing.assert_allclose(stats.holm(p), smallest, atol=1e-4)


def test_holm_of_two_hypotheses_by_hand() -> None:
    # .001 and .004 count three things, .01 three still, .02 and .3 the two that have one left, .9 as .3 or more.
    p, other = stats.holm_of_both([0.001, 0.3, 0.01], [0.9, 0.004, 0.02])
    assert p == pytest.approx([0.003, 0.6, 0.03]) and other == pytest.approx([0.9, 0.012, 0.06])


def test_holm_of_two_hypotheses_lies_between_closed_testing_and_holm_of_all() -> None:
    rng = np.random.default_rng(4)
    for _ in range(200):
        asked = rng.uniform(size=(2, 3)) ** 3
        found = np.concatenate(stats.holm_of_both(*asked))
        flat, places = asked.ravel(), range(6)
        # Sets that may be true together: of each thing one hypothesis at most. Bonferroni for each of them.
        sets = [one for k in (1, 2, 3) for one in itertools.combinations(places, k) if len({at % 3 for at in one}) == k]
        closed = [max(min(1, len(one) * min(flat[list(one)])) for one in sets if at in one) for at in places]
        assert (found >= np.array(closed) - 1e-12).all() and (found <= stats.holm(flat) + 1e-12).all()


def test_holm_of_two_hypotheses_of_which_one_is_not_asked_is_holm() -> None:
    p, other = stats.holm_of_both([0.01, np.nan, 0.04], [np.nan] * 3)
    assert p == pytest.approx([0.02, np.nan, 0.04], nan_ok=True) and np.isnan(other).all()


def test_permutation_p_values_are_never_zero() -> None:
    assert stats.permutation_p(5.0, np.zeros(99)) == 0.01
    assert stats.permutation_p(0.0, np.zeros(99)) == 1.0


def test_means_as_scipy_has_them() -> None:
    values = np.random.default_rng(2).normal(3, 2, 12)
    low, high = stats.mean_interval(values.mean(), values.var(ddof=1), 12)
    expected = scipy.stats.ttest_1samp(values, 0).confidence_interval()
    assert (float(low), float(high)) == pytest.approx((expected.low, expected.high))
    assert np.isnan(stats.mean_interval(1.0, 0.0, 1)).all()


def test_differences_of_means_as_scipy_has_them() -> None:
    rng = np.random.default_rng(4)
    one, two = rng.normal(3, 2, 12), rng.normal(2, 5, 30)
    given = one.mean(), one.var(ddof=1), 12, two.mean(), two.var(ddof=1), 30
    expected = scipy.stats.ttest_ind(one, two, equal_var=False)
    low, high = stats.mean_difference_interval(*given)
    assert (float(low), float(high)) == pytest.approx(
        (expected.confidence_interval().low, expected.confidence_interval().high)
    )
    assert float(stats.same_mean_p(*given)) == pytest.approx(expected.pvalue)
    assert np.isnan(stats.same_mean_p(1.0, 0.0, 1, 2.0, 1.0, 9))
    assert stats.same_mean_p(1.0, 0.0, 5, 1.0, 0.0, 5) == 1
    assert np.isnan(stats.same_mean_p(1.0, 0.0, 5, 2.0, 0.0, 5)), "constants say nothing of chance"


def test_resampled_counts_keep_the_total_and_the_shares() -> None:
    counts = np.array([50, 30, 0, 20])
    drawn = stats.resampled_counts(counts, 20_000, np.random.default_rng(3))
    assert (drawn.sum(axis=1) == 100).all() and not drawn[:, 2].any()
    assert drawn.mean(axis=0) == pytest.approx(counts, abs=0.2)
    assert drawn.std(axis=0)[0] == pytest.approx(5.0, rel=0.03)  # binomial: sqrt(100 * 0.5 * 0.5)
    assert not stats.resampled_counts([0, 0], 3, np.random.default_rng(0)).any()


def test_percentiles_leave_out_what_is_unknown() -> None:
    low, high = stats.percentiles(np.append(np.arange(101.0), np.nan), 0.9)
    assert (float(low), float(high)) == pytest.approx((5, 95))
    assert np.isnan(stats.percentiles([np.nan, np.nan])).all()


def test_bad_counts_and_levels_are_refused() -> None:
    with pytest.raises(DLStudioError, match="counts from 0 to n"):
        stats.wilson(9, 8)
    with pytest.raises(DLStudioError, match="between 0 and 1"):
        stats.wilson(3, 8, level=95)
