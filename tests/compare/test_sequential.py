"""Looking at every row: false alarms stay within the level, intervals cover at all looks at once."""

from __future__ import annotations

import math

import numpy as np
import pytest

from dlstudio import results
from dlstudio.compare.sequential import always_valid_p, half_width, monitor_ab_means, monitor_ab_test
from dlstudio.errors import DLStudioError

ROWS = np.arange(1, 1501)
DRAWS = 1000
# 3 standard errors above 5 % of 1,000 simulated tests.
AT_MOST = 0.05 + 3 * math.sqrt(0.05 * 0.95 / DRAWS)


def of_proportions(generator, p, q, n_expected, ratio=1):
    """Differences, standard errors, degrees of freedom and progress of tests of two proportions watched row by row."""
    n_a, n_b = ROWS, ROWS * ratio
    a = np.cumsum(generator.random((DRAWS, len(ROWS))) < p, axis=1)
    b = np.cumsum(generator.binomial(ratio, q, (DRAWS, len(ROWS))), axis=1)
    error = np.sqrt(sum(((s + 1) / (n + 2)) * (1 - (s + 1) / (n + 2)) / n for s, n in ((a, n_a), (b, n_b))))
    return b / n_b - a / n_a, error, n_a + n_b - 2.0, 2 / (1 / n_a + 1 / n_b) / n_expected


def of_means(generator, draw, effect, n_expected):
    """The same of two means."""
    a, b = draw(generator, (DRAWS, len(ROWS))), draw(generator, (DRAWS, len(ROWS))) + effect
    means = [np.cumsum(x, axis=1) / ROWS for x in (a, b)]
    with np.errstate(divide="ignore", invalid="ignore"):
        squares = [
            np.maximum(np.cumsum(x**2, axis=1) - ROWS * mean**2, 0) / (ROWS - 1) / ROWS
            for x, mean in zip((a, b), means, strict=True)
        ]
        freedom = sum(squares) ** 2 / sum(v**2 / (ROWS - 1) for v in squares)
    return means[1] - means[0], np.sqrt(sum(squares)), freedom, ROWS / n_expected


def ever_rejected(looks, truth=0.0):
    difference, *rest = looks
    return (always_valid_p(difference - truth, *rest, 0.05) <= 0.05).any(axis=1)


@pytest.mark.parametrize(
    ("p", "n_expected", "ratio"), [(0.5, 20, 1), (0.5, 100, 1), (0.2, 1000, 1), (0.01, 1000, 1), (0.1, 200, 3)]
)
def test_false_alarms_of_proportions_watched_row_by_row(p, n_expected, ratio):
    assert ever_rejected(of_proportions(np.random.default_rng(1), p, p, n_expected, ratio)).mean() <= AT_MOST


@pytest.mark.parametrize(("p", "q"), [(0.1, 0.2), (0.5, 0.45), (0.02, 0.05)])
def test_intervals_of_proportions_cover_at_all_looks(p, q):
    difference, *rest = of_proportions(np.random.default_rng(2), p, q, 500)
    covered = (np.abs(difference - (q - p)) <= half_width(*rest, 0.05)).all(axis=1)
    assert covered.mean() >= 1 - AT_MOST
    # The interval is what the test does not reject, so that one stands for the other.
    np.testing.assert_array_equal(covered, ~ever_rejected((difference, *rest), truth=q - p))


@pytest.mark.parametrize("n_expected", [20, 300])
@pytest.mark.parametrize(
    "draw",
    [
        lambda generator, size: generator.standard_normal(size),
        lambda generator, size: generator.exponential(size=size),
        lambda generator, size: generator.lognormal(size=size),
    ],
    ids=["normal", "exponential", "lognormal"],
)
def test_false_alarms_and_coverage_of_means(draw, n_expected):
    looks = of_means(np.random.default_rng(3), draw, 0.3, n_expected)
    assert ever_rejected(looks, truth=0.3).mean() <= AT_MOST  # false alarms, and what the interval leaves out
    assert ever_rejected(looks).mean() > 0.3


def test_a_plain_test_looked_at_so_often_alarms_many_times_as_often():
    """What the method is for: the same looks, judged each as if it were the only one."""
    generator = np.random.default_rng(5)
    a, b = (np.cumsum(generator.random((DRAWS, len(ROWS))) < 0.3, axis=1) for _ in range(2))
    p = (a + b) / (2 * ROWS)
    with np.errstate(invalid="ignore"):
        z = (b - a) / ROWS / np.sqrt(2 * p * (1 - p) / ROWS)
    assert (np.abs(z[:, 20:]) > 1.96).any(axis=1).mean() > 0.3


def test_an_effect_is_found_and_sooner_than_it_was_planned_for_if_it_is_large():
    looks = of_proportions(np.random.default_rng(6), 0.1, 0.2, 500)
    assert ever_rejected(looks).mean() > 0.99
    sooner = of_proportions(np.random.default_rng(6), 0.1, 0.4, 500)
    assert ever_rejected([part[..., :100] for part in sooner]).mean() > 0.8


def test_the_interval_is_tightest_where_it_was_expected():
    def reach(progress):
        return half_width(np.array([1.0]), np.array([1e12]), np.array([progress]), 0.05)[0]

    # In units of the standard error; per Robbins (1970), the square root of (1 + 1/r)(log(1 + r) - 2 log alpha).
    r = np.linspace(0.01, 40, 400_000)
    closed = np.sqrt((1 + 1 / r) * (np.log1p(r) - 2 * np.log(0.05)))
    assert reach(1.0) == pytest.approx(closed.min(), abs=1e-4)
    assert reach(0.5) > reach(1.0) < reach(2.0)


def test_the_p_value_is_the_inverse_of_the_mixture_of_likelihood_ratios():
    from scipy.integrate import quad
    from scipy.stats import norm

    tau2 = 8.211968  # the variance of the alternatives that is tightest at progress 1, of a unit error
    mixture, _ = quad(lambda d: norm.pdf(2.7, d) / norm.pdf(2.7, 0) * norm.pdf(d, 0, math.sqrt(tau2)), -40, 40)
    p = always_valid_p(np.array([2.7]), np.array([1.0]), np.array([1e12]), np.array([1.0]), 0.05)
    assert p[0] == pytest.approx(1 / mixture, rel=1e-5)


def test_looks_agree_with_each_other_and_only_ever_get_surer():
    generator = np.random.default_rng(7)
    n = np.arange(100, 3001, 100)
    a, b = (np.cumsum(generator.binomial(100, share, len(n))) for share in (0.2, 0.3))
    test = monitor_ab_test(a, n, b, n, n_expected=1000)
    assert (np.diff(test.p_value) <= 0).all() and (np.diff(test.low) >= 0).all() and (np.diff(test.high) <= 0).all()
    assert test.verdict == "better" and test.decided and test.findings == ()
    assert monitor_ab_test(a, n, b, n, direction="min").verdict == "worse"
    assert monitor_ab_test(b, n, a, n).verdict == "worse"
    alone = monitor_ab_test(int(a[-1]), 3000, int(b[-1]), 3000)
    assert len(alone) == 1 and alone.p_value[0] <= 1 and alone.difference[0] == test.difference[-1]
    assert list(test.frame())[:3] == ["look", "n_a", "n_b"] and len(test.frame()) == len(n)


def test_nothing_shown_yet_and_shown_to_be_no_difference():
    early = monitor_ab_test(10, 100, 12, 100)
    assert early.verdict == "not enough data" and not early.decided and "go on" in early.summary[1]
    assert -1 <= early.low[0] < 0 < early.high[0] <= 1
    late = monitor_ab_test(10_000, 100_000, 10_020, 100_000, n_expected=100_000, margin=0.01)
    assert late.verdict == "equivalent" and "less than 1.00 %" in late.summary[1]


def test_means_from_their_summaries():
    generator = np.random.default_rng(8)
    a, b = generator.standard_normal(800), generator.standard_normal(900) + 0.4
    test = monitor_ab_means(a.mean(), a.std(ddof=1), 800, b.mean(), b.std(ddof=1), 900)
    assert test.verdict == "better" and test.low[0] < 0.4 < test.high[0]
    constant = monitor_ab_means(1.0, 0.0, 5, 2.0, 0.0, 5)
    assert constant.verdict == "not enough data" and math.isinf(constant.high[0])  # no spread, no evidence
    assert monitor_ab_means(1.0, 0.0, 1, 2.0, 0.0, 1).p_value[0] == 1


def test_arms_that_changed_on_the_way_are_noticed(tmp_path):
    n = [5000, 20_000]
    test = monitor_ab_test([500, 4000], n, [1500, 2000], n)
    assert [finding.code for finding in test.findings] == ["DLS514"] and test.low[1] <= test.high[1]
    assert results.load(results.save(test, tmp_path, "test")) == test


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: monitor_ab_test(11, 10, 1, 10), "up to n"),
        (lambda: monitor_ab_test([5, 4], [10, 20], [1, 2], [10, 20]), "up to n"),
        (lambda: monitor_ab_test([5, 5], [20, 10], [1, 2], [10, 20]), "grows"),
        (lambda: monitor_ab_test(0.5, 10, 1, 10), "whole numbers"),
        (lambda: monitor_ab_test(0, 0, 1, 10), "at least 1"),
        (lambda: monitor_ab_test([1, 2], [10, 20], 1, 10), "both arms"),
        (lambda: monitor_ab_test("x", 1, 1, 1), "numbers"),
        (lambda: monitor_ab_test(1, 10, 1, 10, direction="up"), "direction"),
        (lambda: monitor_ab_test(1, 10, 1, 10, level=95), "level"),
        (lambda: monitor_ab_test(1, 10, 1, 10, n_expected=5), "n_expected"),
        (lambda: monitor_ab_test(1, 10, 1, 10, n_expected=50.0), "n_expected"),
        (lambda: monitor_ab_test(1, 10, 1, 10, level="0.95"), "level"),
        (lambda: monitor_ab_test(1, 10, 1, 10, margin=float("nan")), "margin"),
        (lambda: monitor_ab_test(1, 10, 1, 10, margin=0.0), "margin"),
        (lambda: monitor_ab_means(1, -1, 10, 1, 1, 10), "deviations"),
        (lambda: monitor_ab_means([1, 2], 1, 10, 1, 1, 10), "lengths"),
    ],
)
def test_what_cannot_be_judged_is_said(call, words):
    with pytest.raises(DLStudioError, match=words):
        call()
