"""Contrasts of few repetitions: closed forms, scipy, every arrangement by hand, and simulations of their errors."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import scipy.stats

from dlstudio import stats
from dlstudio.errors import DLStudioError
from dlstudio.repetitions import (
    Contrast,
    equivalence_p,
    judge,
    no_worse_p,
    paired_contrast,
    repetitions_needed,
    resolution,
    unpaired_contrast,
    verdict,
)  # fmt: skip

N_SIMULATED = 4_000
NOISE = 3 * math.sqrt(0.05 * 0.95 / N_SIMULATED)  # three standard errors of a simulated 5 %
SEEDS = (3, 5, 10)
UNEQUAL = ((2, 10), (3, 10), (10, 3), (5, 10), (5, 30), (2, 5))
SIZES = [*((n, n, paired) for n in SEEDS for paired in (True, False)), *((n, m, False) for n, m in UNEQUAL)]


def drawn(kind: str, shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """Values with mean 0; "discrete" are accuracies of 50 rows."""
    if kind == "normal":
        return rng.normal(size=shape)
    if kind == "skewed":
        return rng.exponential(size=shape) - 1
    return rng.binomial(50, 0.9, shape) / 50 - 0.9


@pytest.mark.parametrize(("n", "m", "paired"), SIZES)
@pytest.mark.parametrize("kind", ["normal", "skewed", "discrete"])
def test_equal_variants_are_told_apart_at_most_as_often_as_the_level_says(
    n: int, m: int, paired: bool, kind: str
) -> None:
    rng = np.random.default_rng(n)
    a, b = drawn(kind, (N_SIMULATED, n), rng), drawn(kind, (N_SIMULATED, m), rng)
    if paired:  # what pairing is for: seeds that both variants share
        shared = rng.normal(size=(N_SIMULATED, n))
        shared = np.round(shared * 5) / 50 if kind == "discrete" else shared
        step = resolution(np.concatenate([a + shared, b + shared], axis=-1))
        contrast = paired_contrast((a + shared) - (b + shared), step=step)
    else:
        contrast = unpaired_contrast(a, b)
    assert np.mean(contrast.p_value <= 0.05) <= 0.05 + NOISE
    if kind != "discrete":  # and the interval says the same as the p-value
        outside = (contrast.low > 0) | (contrast.high < 0)
        assert np.mean(outside != (contrast.p_value <= 0.05)) == 0


@pytest.mark.parametrize("n", SEEDS)
@pytest.mark.parametrize("shift", [0.0, 0.7])
@pytest.mark.parametrize("paired", [True, False])
def test_intervals_cover_as_they_promise(n: int, shift: float, paired: bool) -> None:
    rng = np.random.default_rng(10 + n)
    a, b = rng.normal(shift, 1, (N_SIMULATED, n)), rng.normal(0, 1, (N_SIMULATED, n))
    contrast = paired_contrast(a - b) if paired else unpaired_contrast(a, b)
    assert 0.93 <= np.mean((contrast.low <= shift) & (shift <= contrast.high)) <= 0.97


@pytest.mark.parametrize("n", SEEDS)
def test_what_seeds_share_hides_no_difference_and_makes_none(n: int) -> None:
    rng = np.random.default_rng(60 + n)
    for shift in (0.0, 0.03):
        shared = rng.normal(size=(N_SIMULATED, n))  # fifty times what the variants differ by
        a = shared + shift + rng.normal(0, 0.02 / math.sqrt(2), (N_SIMULATED, n))
        b = shared + rng.normal(0, 0.02 / math.sqrt(2), (N_SIMULATED, n))
        contrast = paired_contrast(a - b, step=resolution(np.concatenate([a, b], axis=-1)))
        assert 0.93 <= np.mean((contrast.low <= shift) & (shift <= contrast.high)) <= 0.97
        shown = np.mean(contrast.p_value <= 0.05)
        if not shift:
            assert shown <= 0.05 + NOISE
            continue
        freedom = n - 1  # the power of Student's test; that of signs is a little less
        critical = scipy.stats.t.ppf(0.975, freedom)
        power = scipy.stats.nct.sf(critical, freedom, 1.5 * math.sqrt(n))
        assert power - 0.05 <= shown <= power + 0.03


def test_seeds_that_are_far_apart_are_still_pairs() -> None:
    a, b = np.array([10.0, 50, 90]), np.array([12.1, 52, 91.9])
    contrast = paired_contrast(a - b, step=resolution(np.concatenate([a, b])))
    assert float(contrast.p_value) == pytest.approx(scipy.stats.ttest_rel(a, b).pvalue) and not contrast.least


@pytest.mark.parametrize(("values", "step"), [
    ([0.81, 0.79, 0.86], 0.01), (np.array([3, 17, 55, 120]) / 298, 1 / 298), ([10, 50, 90, 12.1, 52, 91.9], 0.1),
    (np.array([251, 260, 255, 281], dtype=np.float32) / np.float32(298), 1 / 298), ([0.5, 0.5], 0.0), ([0.5], 0.0),
    ([[1.0, 3.0], [2.0, 2.0]], [2.0, 0.0]), ([-0.3, 0.1, 0.5], 0.4), ([0.0, 0.0], 0.0),
])  # fmt: skip
def test_the_step_is_what_all_differences_are_multiples_of(values: object, step: object) -> None:
    assert resolution(values) == pytest.approx(np.array(step), rel=1e-4)


def test_values_on_no_grid_have_next_to_no_step() -> None:
    values = np.random.default_rng(8).normal(size=(2_000, 6))
    assert np.quantile(resolution(values), 0.99) < 1e-3


@pytest.mark.parametrize(("n", "m"), UNEQUAL)
@pytest.mark.parametrize("shift", [0.0, 0.7])
def test_intervals_of_unequal_numbers_cover_at_least_as_they_promise(n: int, m: int, shift: float) -> None:
    rng = np.random.default_rng(70 + n)
    contrast = unpaired_contrast(rng.normal(shift, 1, (N_SIMULATED, n)), rng.normal(0, 1, (N_SIMULATED, m)))
    assert np.mean((contrast.low <= shift) & (shift <= contrast.high)) >= 0.95 - NOISE


@pytest.mark.parametrize("n_comparisons", [1, 6])
def test_of_many_comparisons_few_seeds_beside_many_are_as_rarely_told_apart(n_comparisons: int) -> None:
    rng = np.random.default_rng(80)
    a, b = rng.normal(size=(20_000, 2)), rng.normal(size=(20_000, 10))
    contrast = unpaired_contrast(a, b, step=0.0, n_comparisons=n_comparisons)
    level = 0.05 / n_comparisons
    assert np.mean(contrast.p_value <= level) <= level + 3 * math.sqrt(level / 20_000)


@pytest.mark.parametrize("n", [5, 10])
def test_unequal_spreads_are_no_difference_of_means(n: int) -> None:
    rng = np.random.default_rng(20 + n)
    contrast = unpaired_contrast(rng.normal(0, 1, (N_SIMULATED, n)), rng.normal(0, 5, (N_SIMULATED, n)))
    assert np.mean(contrast.p_value <= 0.05) <= 0.05 + NOISE


@pytest.mark.parametrize("n", SEEDS)
def test_a_difference_of_the_margin_is_called_equivalent_at_most_as_often_as_the_level_says(n: int) -> None:
    rng = np.random.default_rng(30 + n)
    contrast = paired_contrast(rng.normal(0.5, 1, (N_SIMULATED, n)))
    assert np.mean(equivalence_p(contrast, 0.5) <= 0.05) <= 0.05 + NOISE
    effective = paired_contrast(rng.normal(-2, 1, (N_SIMULATED, n)))  # on the worse end, more is better
    assert 0.05 - NOISE <= np.mean(no_worse_p(effective, 2.0, "max") <= 0.05) <= 0.05 + NOISE


@pytest.mark.parametrize("n", SEEDS)
def test_of_four_equal_variants_any_is_told_apart_at_most_as_often_as_the_level_says(n: int) -> None:
    rng = np.random.default_rng(40 + n)
    values = rng.normal(size=(4, 2_000, n))
    p = np.array([
        paired_contrast(values[a] - values[b], n_comparisons=6).p_value for a, b in itertools.combinations(range(4), 2)
    ])  # fmt: skip
    any_shown = np.mean([(stats.holm(one) <= 0.05).any() for one in p.T])
    assert any_shown <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / 2_000)


def test_a_real_difference_is_found_as_often_as_the_power_says() -> None:
    rng = np.random.default_rng(50)
    pilot = paired_contrast([0.0, 2.0, -2.0, 1.5, -1.5])
    spread = float(pilot.spread)
    needed = repetitions_needed(pilot, spread)
    assert needed is not None
    found = paired_contrast(rng.normal(spread, spread, (N_SIMULATED, needed)))
    assert np.mean(found.p_value <= 0.05) == pytest.approx(0.8, abs=0.05)


def test_paired_signs_by_trying_every_one() -> None:
    d = np.array([0.021, -0.004, 0.030, 0.008, 0.017, 0.025, 0.011])
    sums = np.array([np.sum(d * signs) for signs in itertools.product([1, -1], repeat=len(d))])
    contrast = paired_contrast(d)
    assert contrast.test == "paired permutation"
    assert float(contrast.p_value) == pytest.approx(np.mean(np.abs(sums) >= abs(d.sum()) - 1e-12), abs=1e-12)


def test_the_interval_of_a_permutation_test_is_what_it_does_not_reject() -> None:
    d = np.array([0.5, -0.4, 1.3, 0.8, 0.1, 0.9, 1.7])
    contrast = paired_contrast(d, step=0.0)
    for supposed in np.linspace(-1.003, 2.507, 141):
        inside = float(contrast.low) <= supposed <= float(contrast.high)
        assert inside == (float(paired_contrast(d - supposed, step=0.0).p_value) > 0.05), supposed


@pytest.mark.parametrize("other", [[4.0, 4.4, 5.2, 4.9], [4.0, 4.4, 5.2, 4.9, 4.6, 5.0, 5.3], [4.0, 4.4, 4.2]])
def test_labels_by_trying_every_one(other: list[float]) -> None:
    a, b = np.array([5.1, 6.0, 5.5, 6.2, 6.1][: max(4, 8 - len(other))]), np.array(other)
    pooled, n = np.concatenate([a, b]), len(a)
    apart = np.array([
        pooled[list(chosen)].mean() - np.delete(pooled, list(chosen)).mean()
        for chosen in itertools.combinations(range(len(pooled)), n)
    ])  # fmt: skip
    seen = a.mean() - b.mean()
    exact = 2 * min(np.mean(apart >= seen - 1e-12), np.mean(apart <= seen + 1e-12))
    t, most = scipy.stats.ttest_ind(a, b, equal_var=False), welch_freedom(1, n, 1, len(b))
    welch = 2 * scipy.stats.t.sf(abs(t.statistic), min(t.df, most))
    contrast = unpaired_contrast(a, b)
    assert contrast.test == "permutation"
    assert float(contrast.p_value) == pytest.approx(max(exact, welch), abs=1e-9)


def welch_freedom(variance: float, n: int, other: float, m: int) -> float:
    one, two = variance / n, other / m
    return (one + two) ** 2 / (one**2 / (n - 1) + two**2 / (m - 1))


def test_few_repetitions_as_scipy_has_it() -> None:
    a, b = np.array([0.81, 0.79, 0.84]), np.array([0.774, 0.761, 0.769])
    paired = paired_contrast(a - b, step=0.0)
    expected = scipy.stats.ttest_rel(a, b)
    assert paired.test == "paired t" and float(paired.p_value) == pytest.approx(expected.pvalue)
    assert (float(paired.low), float(paired.high)) == pytest.approx(tuple(expected.confidence_interval(0.95)))
    unpaired = unpaired_contrast(a, b, step=0.0)
    expected = scipy.stats.ttest_ind(a, b, equal_var=False)
    assert unpaired.test == "Welch t" and float(unpaired.p_value) == pytest.approx(expected.pvalue)
    assert (float(unpaired.low), float(unpaired.high)) == pytest.approx(tuple(expected.confidence_interval(0.95)))


@pytest.mark.parametrize(("n", "comparisons", "test"), [
    (5, 1, "paired t"), (6, 1, "paired permutation"), (6, 3, "paired t"), (7, 3, "paired permutation"),
    (20, 6, "paired permutation"),
])  # fmt: skip
def test_the_test_is_chosen_by_numbers_alone(n: int, comparisons: int, test: str) -> None:
    for scale in (1.0, 1e-6):
        d = np.random.default_rng(n).normal(size=n) * scale
        contrast = paired_contrast(d, n_comparisons=comparisons)
        assert contrast.test == test and 0 < float(contrast.p_value) <= 1


def test_random_arrangements_agree_with_all_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    d = np.random.default_rng(3).normal(0.5, 1, 12)
    exact = float(paired_contrast(d).p_value)
    monkeypatch.setattr("dlstudio.arrangements.MOST", 100)
    assert float(paired_contrast(d).p_value) == pytest.approx(exact, abs=0.01)
    assert float(paired_contrast(np.arange(1.0, 13)).p_value) > 0  # never 0, however clear


@pytest.mark.parametrize("n", [2, 3, 4, 5])
def test_equal_differences_do_not_look_certain(n: int) -> None:
    contrast = paired_contrast(np.full(n, 0.02), step=0.02)  # as of an accuracy in steps of 0.02
    assert 0.05 < float(contrast.p_value) < 1
    assert float(contrast.low) < 0 < float(contrast.high)
    assert float(contrast.least) == pytest.approx(0.02)  # said, as it is more than was seen
    assert float(paired_contrast(np.full(n, 0.0123), step=0.0).p_value) > 0.05  # nor where there is no grid
    assert float(paired_contrast(np.zeros(n)).p_value) == 1


def test_effect_sizes_as_published() -> None:
    # Hedges' correction is near 1 - 3 / (4 df - 1) (Hedges, 1981).
    a, b = np.array([3.0, 5, 4, 6, 7]), np.array([1.0, 2, 4, 3, 2])
    contrast = unpaired_contrast(a, b)
    pooled = math.sqrt((a.var(ddof=1) + b.var(ddof=1)) / 2)
    d = (a.mean() - b.mean()) / pooled
    assert float(contrast.effect_size) == pytest.approx(d * (1 - 3 / (4 * 8 - 1)), rel=2e-3)
    # The limits are the noncentralities under which the t seen is a quantile (Steiger and Fouladi, 1997).
    t = d * math.sqrt(5 / 2)
    low, high = float(contrast.effect_low) * math.sqrt(5 / 2), float(contrast.effect_high) * math.sqrt(5 / 2)
    assert scipy.stats.nct.cdf(t, 8, low) == pytest.approx(0.975, abs=1e-6)
    assert scipy.stats.nct.cdf(t, 8, high) == pytest.approx(0.025, abs=1e-6)
    flipped = unpaired_contrast(b, a)
    assert (float(flipped.effect_low), float(flipped.effect_high)) == pytest.approx(
        (-float(contrast.effect_high), -float(contrast.effect_low))
    )


def test_verdicts() -> None:
    better = paired_contrast([0.020, 0.021, 0.019, 0.0205, 0.022, 0.0195])
    assert judge([better])[0].verdict == "better"
    assert judge([better], direction="min")[0].verdict == "worse"
    assert judge([better], margin=0.05)[0].verdict == "equivalent"
    assert judge([better], margin=0.01)[0].verdict == "better"
    none = paired_contrast([0.1, -0.1, 0.2, -0.2, 0.15, -0.14])
    assert judge([none])[0].verdict == "no difference shown"
    assert judge([none], margin=0.01)[0].verdict == "not enough data"  # the interval is wider than what matters
    assert judge([none], margin=0.175)[0].verdict in ("equivalent", "no difference shown")
    assert judge([paired_contrast([0.1, -0.1, 0.2])])[0].verdict == "not enough data"
    assert judge([paired_contrast([0.1])])[0].verdict == "not enough data"
    assert verdict(better, 0.2) == "no difference shown"  # adjusted for many
    assert judge([]) == []


def test_comparisons_that_were_not_made_count_too() -> None:
    contrast = paired_contrast(np.linspace(0.01, 0.02, 8))
    alone, among = judge([contrast])[0], judge([contrast], n_more=9)[0]
    assert among.p_adjusted == pytest.approx(min(1, 10 * alone.p_adjusted))


def test_needed_repetitions_are_the_least_with_the_power() -> None:
    contrast = unpaired_contrast([0.0, 1.0, -1.0, 0.5], [0.2, 1.1, -1.2, 0.1])
    spread = float(contrast.spread)
    n = repetitions_needed(contrast, spread)

    def power(n: int) -> float:
        critical = scipy.stats.t.ppf(0.975, 2 * n - 2)
        return float(scipy.stats.nct.sf(critical, 2 * n - 2, math.sqrt(n / 2)))

    assert n is not None and power(n) >= 0.8 > power(n - 1)
    assert n == 17  # Cohen (1988), table 2.4.1, d = 1.00: 17 of each
    assert repetitions_needed(contrast, spread / 100) is None


@pytest.mark.parametrize("values", [[], [[]], [0.1, math.nan], [math.inf], "abc", 3.0])
def test_what_is_no_list_of_numbers_is_refused(values: object) -> None:
    with pytest.raises(DLStudioError, match=r"finite values|numbers"):
        paired_contrast(values)


@pytest.mark.parametrize("margin", [-0.1, 0, math.nan, math.inf, "0.1"])
def test_a_margin_is_above_0(margin: float) -> None:
    with pytest.raises(DLStudioError, match="margin above 0"):
        judge([paired_contrast([0.1, 0.2])], margin=margin)


@pytest.mark.parametrize("level", [0, 1, 95])
def test_a_level_is_between_0_and_1(level: float) -> None:
    with pytest.raises(DLStudioError, match="level"):
        paired_contrast([0.1, 0.2], level=level)


def test_problems_side_by_side_are_those_alone() -> None:
    d = np.random.default_rng(0).normal(size=(3, 2, 7))
    together = paired_contrast(d)
    for place in np.ndindex(3, 2):
        alone = paired_contrast(d[place])
        for name in ("difference", "low", "high", "p_value", "effect_low"):
            assert getattr(together, name)[place] == pytest.approx(float(getattr(alone, name)))
    assert isinstance(together, Contrast) and together.p_value.shape == (3, 2)
