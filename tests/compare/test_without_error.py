"""Models that differ by the same on all rows: no scatter, so their p-value is that of exchanging them in every row."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

import dlstudio as dls
from dlstudio.scoring import auc


def by_every_sign(y: np.ndarray, score: np.ndarray, other: np.ndarray) -> float:
    """The largest p-value that exchanging two models in the rows of one class gives, by their ranks among the other."""
    found = []
    for k in (0, 1):
        mine, others = y == k, y != k
        above = [(np.sign(one[mine][:, None] - one[others]) / 2 + 0.5).mean(axis=1) for one in (score, other)]
        apart = above[0] - above[1]
        sums = np.array([apart @ signs for signs in itertools.product([1, -1], repeat=len(apart))])
        found.append(np.mean(np.abs(sums) >= abs(apart.sum()) - 1e-12))
    return float(max(found))


@pytest.mark.parametrize("n", [1, 2, 3, 5, 6, 9])
@pytest.mark.parametrize("other", ["constant", "inverted"])
@pytest.mark.parametrize("more", [0, 3])
def test_areas_without_an_error_are_told_apart_by_exchanging_models(n: int, other: str, more: int) -> None:
    y = np.repeat([1, 0], [n, n + more])
    best = y + 0.1 * np.random.default_rng(n).random(len(y))
    score = np.full(len(y), 0.5) if other == "constant" else -best
    pair = dls.compare({"A": best, "B": score}, y_true=y, metric="auc").comparisons[0]
    assert pair.difference == pytest.approx(-0.5 if other == "constant" else -1)
    assert pair.p_value == pytest.approx(by_every_sign(y, score, best)) == pytest.approx(2.0 ** (1 - n))
    assert -1 <= pair.low <= pair.difference <= pair.high <= 1
    assert (pair.high < 0) == (pair.p_value <= 0.05) == (pair.verdict == "worse")
    assert "this time it is not shown" not in pair.sentence


def test_a_model_without_error_beats_chance_on_many_rows() -> None:
    y = np.repeat([1, 0], 5_000)
    c = dls.compare({"A": y * 0.9, "B": np.full(10_000, 0.5), "C": 1.0 - y}, y_true=y, metric="auc")
    assert {pair.verdict for pair in c.comparisons} == {"worse"} and c.best == "A"
    assert all(pair.p_adjusted < 1e-100 and -1 <= pair.low < pair.high <= 1 for pair in c.comparisons)
    pair = c.pair("B", "A")
    assert pair is not None and pair.high - pair.low < 0.03
    assert (c["A"].low, c["A"].high) == pytest.approx(auc(y == 1, y * 0.9, 0.95)[1:]) and c["A"].low < 1


def test_no_area_of_few_rows_is_surer_than_exchanging_models_allows() -> None:
    y = np.repeat([1, 0], [3, 30])
    best, almost = y.astype(np.float64), np.zeros(33)
    almost[0] = 1.0  # DeLong's z is 2, of three positive rows
    pair = dls.compare({"A": best, "B": almost}, y_true=y, metric="auc").comparisons[0]
    assert pair.test == "DeLong" and pair.p_value == pytest.approx(2**-2) and pair.low < 0 < pair.high
    rng, shown = np.random.default_rng(19), 0
    for _ in range(200):  # positive rows lie above all others or below, by a coin that no model weighs
        y = np.repeat([1, 0], [5, 40])
        score = np.where(y == 1, rng.choice([-9.0, 9.0], 45), rng.normal(size=45))
        shown += dls.compare({"A": score, "B": -score}, y_true=y, metric="auc").best is not None
    assert shown / 200 <= 0.05


@pytest.mark.parametrize("metric", ["mae", "mse", "rmse", "function"])
@pytest.mark.parametrize("n", [3, 5, 6, 10, 10_000])
def test_rows_that_differ_alike_are_told_apart_by_exchanging_models(metric: str, n: int) -> None:
    if metric == "function" and n == 10_000:
        return  # which would be called for long
    y = np.round(np.random.default_rng(20).normal(size=n), 3)
    given = {"A": y + 0.25, "B": (y - 0.5).astype(np.float32)}

    def mean_absolute(y_true: np.ndarray, y_pred: np.ndarray) -> float:
        return float(np.abs(y_true - y_pred).mean())

    options = {"metric": mean_absolute if metric == "function" else metric, "direction": "min"}
    pair = dls.compare(given, y_true=y, **options).comparisons[0]
    exact = np.mean([abs(sum(signs)) == n for signs in itertools.product([1, -1], repeat=n)]) if n <= 10 else 0.0
    assert pair.p_value == pytest.approx(exact) and pair.test == "paired permutation"
    assert pair.low < pair.difference < pair.high and (pair.low > 0) == (pair.p_value <= 0.05)
    assert pair.verdict == ("worse" if n > 5 else "not enough data")
    assert "10 million" not in pair.sentence and "this time" not in pair.sentence
    assert ("more rows would be needed" in pair.sentence) == (n < 6)
    wide = dls.compare(given, y_true=y, margin=1.0, **options).comparisons[0]
    assert wide.verdict == "equivalent" and 0 <= wide.p_equivalent <= 0.05
    narrow = dls.compare(given, y_true=y, margin=0.1, **options).comparisons[0]
    assert narrow.verdict == pair.verdict and narrow.p_equivalent > 0.5
