"""Planned sizes against the published formulas, and against tests of simulated data."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats as reference

from dlstudio import results
from dlstudio.compare.planning import plan_ab_test
from dlstudio.compare.sequential import monitor_ab_test
from dlstudio.errors import DLStudioError


def fleiss(p, q, power, level, ratio, two_sided):
    """statsmodels' ``samplesize_proportions_2indep_onetail``, which leaves out the other tail."""
    z = reference.norm.isf((1 - level) / (2 if two_sided else 1))
    pooled = (p + ratio * q) / (1 + ratio)
    null = math.sqrt(pooled * (1 - pooled) * (1 + 1 / ratio))
    alternative = math.sqrt(p * (1 - p) + q * (1 - q) / ratio)
    return ((z * null + reference.norm.ppf(power) * alternative) / (q - p)) ** 2


@settings(max_examples=60, deadline=None)
@given(
    p=st.floats(0.02, 0.9), gap=st.floats(0.02, 0.4), power=st.floats(0.6, 0.95),
    level=st.sampled_from([0.9, 0.95, 0.99]), ratio=st.sampled_from([0.5, 1.0, 2.0]), two_sided=st.booleans(),
)  # fmt: skip
def test_rows_of_proportions_agree_with_fleiss_to_the_row(p, gap, power, level, ratio, two_sided):
    effect = gap if p + gap < 0.98 else -gap
    if not 0.02 < p + effect < 0.98:
        return
    plan = plan_ab_test(baseline=p, effect=effect, power=power, level=level, ratio=ratio, two_sided=two_sided)
    expected = max(2, math.ceil(fleiss(p, p + effect, power, level, ratio, two_sided) - 1e-9))
    assert plan.n_control == expected
    assert plan.n_treatment == math.ceil(expected * ratio)


def test_a_published_example():
    """Fleiss, Levin and Paik (2003): 0.6 against 0.7 at 1 % with 95 % power takes 827 a group, continuity corrected."""
    n = plan_ab_test(baseline=0.60, effect=0.10, level=0.99, power=0.95).n_control
    assert abs(n / 4 * (1 + math.sqrt(1 + 4 / (n * 0.10))) ** 2 - 827) < 1


@pytest.mark.parametrize(("d", "expected"), [(0.2, 394), (0.5, 64), (0.8, 26)])
def test_rows_of_means_agree_with_cohen(d, expected):
    """Cohen (1988), table 2.4.1: rows of each arm at 5 %, two-sided, with 80 % power (0.2: 393.4 in full)."""
    assert plan_ab_test(kind="mean", effect=d, sd=1.0).n_control == expected
    assert plan_ab_test(kind="mean", effect=-3 * d, sd=3.0).n_control == expected


@pytest.mark.parametrize(("ratio", "two_sided"), [(1.0, True), (2.0, True), (1.0, False)])
def test_the_rows_are_the_fewest_with_the_power_by_the_noncentral_t(ratio, two_sided):
    plan = plan_ab_test(kind="mean", effect=0.4, sd=1.0, ratio=ratio, two_sided=two_sided, power=0.9)

    def power(n):
        freedom = n * (1 + ratio) - 2
        reach = reference.t.isf(0.05 / (2 if two_sided else 1), freedom)
        away = 0.4 / math.sqrt(1 / n + 1 / (n * ratio))
        return reference.nct.sf(reach, freedom, away) + (reference.nct.cdf(-reach, freedom, away) if two_sided else 0)

    assert power(plan.n_control) >= 0.9 > power(plan.n_control - 1)
    assert plan.power_at() == pytest.approx(power(plan.n_control))


@settings(max_examples=40, deadline=None)
@given(n=st.integers(20, 10**6), baseline=st.floats(0.05, 0.95), kind=st.sampled_from(["proportion", "mean"]))
def test_the_least_effect_has_just_the_power_and_leads_back_to_the_rows(n, baseline, kind):
    options = {"baseline": baseline} if kind == "proportion" else {"sd": 2.0}
    try:
        plan = plan_ab_test(kind=kind, n=n, **options)
    except DLStudioError:
        assert n < 200  # a proportion near its end and few rows: no effect there is has the power
        return
    assert plan.power_at() == pytest.approx(0.8, abs=1e-6)
    back = plan_ab_test(kind=kind, effect=plan.effect * (1 + 1e-9), **options)
    assert abs(back.n_control - n) <= 1
    if math.isfinite(plan.effect_down):
        assert plan.effect_down < 0 and plan.power_at(effect=plan.effect_down) == pytest.approx(0.8, abs=1e-6)
        if kind == "mean":
            assert plan.effect_down == pytest.approx(-plan.effect)


def test_simulated_tests_of_the_planned_size_have_the_power():
    plan = plan_ab_test(baseline=0.1, effect=0.05)
    generator = np.random.default_rng(0)
    n, m, draws = plan.n_control, plan.n_treatment, 20_000
    for q, expected in ((0.15, 0.8), (0.1, 0.05)):
        p, q = generator.binomial(n, 0.1, draws) / n, generator.binomial(m, q, draws) / m
        pooled = (n * p + m * q) / (n + m)
        rejected = np.abs(q - p) > 1.959964 * np.sqrt(pooled * (1 - pooled) * (1 / n + 1 / m))
        assert rejected.mean() == pytest.approx(expected, abs=0.015)
    plan = plan_ab_test(kind="mean", effect=0.5, sd=1.0)
    a, b = generator.standard_normal((2, 5000, plan.n_control))
    assert (reference.ttest_ind(a, b + 0.5, axis=1).pvalue < 0.05).mean() == pytest.approx(0.8, abs=0.025)


def test_many_rows_have_a_power_that_is_a_number():
    plan = plan_ab_test(kind="mean", effect=0.001, sd=1.0)
    closed = 2 * ((reference.norm.isf(0.025) + reference.norm.ppf(0.8)) / 0.001) ** 2
    assert plan.n_control == pytest.approx(closed, rel=1e-4)
    assert np.isfinite(plan.curve["power"]).all() and np.isfinite(plan.curve["power_of_effect"]).all()
    assert (np.diff(plan.curve["power"]) > 0).all()


def test_looking_early_costs_rows_and_that_is_said():
    plan = plan_ab_test(baseline=0.1, effect=0.05)
    n, generator = plan.n_control, np.random.default_rng(3)
    looks = np.linspace(n / 10, n, 10).round().astype(int)
    shown = 0
    for _ in range(200):
        a, b = ((generator.random(n) < p).cumsum()[looks - 1] for p in (0.1, 0.15))
        shown += monitor_ab_test(a, looks, b, looks, n_expected=n).verdict == "better"
    assert shown / 200 < plan.power - 0.1
    assert "costs rows" in plan.summary[-1] and "below 80 %" in plan.summary[-1]


def test_numbers_of_numpy_are_numbers():
    plain = plan_ab_test(baseline=0.25, n=5000, power=0.75)
    assert plan_ab_test(baseline=np.float32(0.25), n=np.int64(5000), power=np.float32(0.75)) == plain
    assert plan_ab_test(baseline=0.25, n=5000, power=0.75, two_sided=np.True_) == plain
    once = monitor_ab_test(10, 100, 30, 100, n_expected=5000, margin=0.25)
    assert monitor_ab_test(10, 100, 30, 100, n_expected=np.int64(5000), margin=np.float32(0.25)) == once


def test_words_and_round_trip(tmp_path):
    plan = plan_ab_test(baseline=0.1, effect=0.02)
    assert "3,841 rows" in plan.summary[0] and "from 10 % to 12 %" in plan.summary[0]
    assert results.load(results.save(plan, tmp_path, "plan")) == plan
    least = plan_ab_test(baseline=0.1, n=3841)
    assert least.effect == pytest.approx(0.02, abs=1e-5)
    assert "fall" in least.summary[1] and least.frame()["value"][0] == 3841


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"baseline": 0.1}, "both or neither"),
        ({"baseline": 0.1, "effect": 0.1, "n": 10}, "both or neither"),
        ({"effect": 0.1}, "baseline between"),
        ({"baseline": 0.9, "effect": 0.2}, "end between"),
        ({"baseline": 0.1, "effect": 0.0}, "other than 0"),
        ({"baseline": 0.1, "effect": float("nan")}, "other than 0"),
        ({"baseline": 0.1, "n": True}, "2 rows"),
        ({"baseline": 0.1, "n": 50.0}, "2 rows"),
        ({"baseline": 0.1, "effect": 0.1, "power": 0.01}, "power above"),
        ({"baseline": 0.1, "effect": 0.1, "level": 95}, "level"),
        ({"baseline": 0.1, "effect": "2%"}, "effect as a number, but got '2%'"),
        ({"baseline": "10%", "n": 100}, "baseline as a number"),
        ({"baseline": 0.1, "effect": 0.1, "kind": "propotion"}, "proportion"),
        ({"kind": "mean", "effect": 0.1}, "sd above 0"),
        ({"baseline": 0.5, "n": 1}, "2 rows"),
        ({"baseline": 0.5, "n": 2}, "rows enough"),
        ({"baseline": 0.5, "effect": 1e-7}, "too small"),
        ({"baseline": 0.1, "effect": 0.1, "two_sided": "no"}, "two_sided as True or False, but got 'no'"),
        ({"baseline": 0.1, "effect": 0.1, "two_sided": None}, "two_sided as True or False"),
    ],
)
def test_what_cannot_be_planned_is_said(options, words):
    with pytest.raises(DLStudioError, match=words):
        plan_ab_test(**options)
