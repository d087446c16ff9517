"""Two models on the same rows: against definitions, scipy, and simulations."""

from __future__ import annotations

import importlib
import math
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import scipy.stats
import torch
from sklearn import metrics

import dlstudio as dls
from dlstudio.compare.examples import Answers, assess_rows, mcnemar_p, rows_needed
from dlstudio.compare.metrics import ROW_METRICS, auc_rows, metric_of_rows
from dlstudio.compare.resampling import resampled
from dlstudio.errors import DLStudioError

PAIR = ("B", "A")
RESAMPLING = importlib.import_module("dlstudio.compare.resampling")  # dlstudio.compare is a function
N_SIMULATED = 2_000
NOISE = 3 * math.sqrt(0.05 * 0.95 / N_SIMULATED)


def scores(n: int, signal: float, rng: np.random.Generator, y: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-(signal * (y - 0.5) + rng.normal(size=n))))


@pytest.mark.parametrize(("b", "c"), [(0, 0), (5, 5), (9, 2), (0, 6), (40, 61), (1, 0)])
def test_mcnemar_is_the_binomial_test_with_half_of_what_was_seen(b: int, c: int) -> None:
    if b == c:
        assert mcnemar_p(b, c) == 1
        return
    exact = scipy.stats.binomtest(min(b, c), b + c).pvalue
    assert mcnemar_p(b, c) == pytest.approx(exact - scipy.stats.binom.pmf(min(b, c), b + c, 0.5))


@pytest.mark.parametrize(("p", "q", "n"), [(0.05, 0.05, 300), (0.10, 0.02, 300), (0.2, 0.1, 100), (0.02, 0.01, 1000)])
def test_intervals_of_accuracies_cover_and_agree_with_mcnemar(p: float, q: float, n: int) -> None:
    rng = np.random.default_rng(0)
    covered = rejected = 0
    for b, c, _ in rng.multinomial(n, [p, q, 1 - p - q], N_SIMULATED):
        right = np.zeros(n, dtype=np.int64), np.zeros(n, dtype=np.int64)
        right[0][:b], right[1][b : b + c] = 1, 1
        given = {"B": Answers(y_pred=right[0]), "A": Answers(y_pred=right[1])}
        contrast = assess_rows("accuracy", np.ones(n, dtype=np.int64), given)[1](*PAIR)
        shown = float(contrast.p_value) <= 0.05
        covered += float(contrast.low) <= p - q <= float(contrast.high)
        rejected += shown
        assert shown == (not contrast.low <= 0 <= contrast.high)
    assert 0.93 <= covered / N_SIMULATED <= 0.975
    if p == q:
        assert rejected / N_SIMULATED <= 0.05 + NOISE


def test_delong_by_its_definition() -> None:
    rng = np.random.default_rng(1)
    y = rng.integers(0, 2, 60)
    a, b = np.round(scores(60, 1.0, rng, y), 1), np.round(scores(60, 2.0, rng, y), 1)  # rounded: with ties
    structural = []
    for score in (b, a):
        wins = (score[y == 1][:, None] > score[y == 0]) + 0.5 * (score[y == 1][:, None] == score[y == 0])
        structural.append((wins.mean(), wins.mean(axis=1), wins.mean(axis=0)))
    s10 = np.cov(structural[0][1], structural[1][1])
    s01 = np.cov(structural[0][2], structural[1][2])
    s = s10 / (y == 1).sum() + s01 / (y == 0).sum()
    error = math.sqrt(s[0, 0] + s[1, 1] - 2 * s[0, 1])
    difference = structural[0][0] - structural[1][0]
    given = {"A": Answers(y_pred=y, y_score=a), "B": Answers(y_pred=y, y_score=b)}
    assessed, contrasted = assess_rows("val/auc", y, given)
    contrast = contrasted(*PAIR)
    assert contrast.test == "DeLong" and float(contrast.difference) == pytest.approx(difference)
    assert float(contrast.error) == pytest.approx(error)
    assert float(contrast.p_value) == pytest.approx(2 * scipy.stats.norm.sf(abs(difference) / error))
    assert assessed["A"].value == pytest.approx(metrics.roc_auc_score(y, a))


def test_delong_tells_equal_models_apart_as_often_as_the_level_says() -> None:
    rng = np.random.default_rng(2)
    n, found = 150, []
    for _ in range(N_SIMULATED):
        y = np.tile([0, 0, 1], n // 3)
        shared = rng.normal(size=n)
        a, b = (y + shared + rng.normal(size=n) for _ in range(2))
        _, contrast = assess_rows("auc", y, {"A": Answers(y_pred=y, y_score=a), "B": Answers(y_pred=y, y_score=b)})
        found.append(float(contrast(*PAIR).p_value))
    assert 0.03 <= np.mean(np.array(found) <= 0.05) <= 0.05 + NOISE


@pytest.mark.parametrize("name", sum(ROW_METRICS.values(), ()))
def test_metrics_are_those_of_scikit_learn(name: str) -> None:
    rng = np.random.default_rng(3)
    y, score = rng.integers(0, 2, 200), rng.random(200)
    pred = (score >= 0.5).astype(np.int64)
    value, guess = rng.normal(size=200), rng.normal(size=200)
    expected = {
        "accuracy": metrics.accuracy_score(y, pred),
        "balanced_accuracy": metrics.balanced_accuracy_score(y, pred),
        "f1": metrics.f1_score(y, pred),
        "auc": metrics.roc_auc_score(y, score),
        "log_loss": metrics.log_loss(y, score),
        "brier": metrics.brier_score_loss(y, score),
        "mae": metrics.mean_absolute_error(value, guess),
        "mse": metrics.mean_squared_error(value, guess),
        "rmse": metrics.root_mean_squared_error(value, guess),
        "r2": metrics.r2_score(value, guess),
    }[name]
    found = (
        metric_of_rows(name, value, guess, None)
        if name in ROW_METRICS["value"]
        else metric_of_rows(name, y, pred, score)
    )
    assert found == pytest.approx(expected)


def test_classes_more_than_two() -> None:
    rng = np.random.default_rng(4)
    y = rng.integers(0, 3, 300)
    both = rng.dirichlet([1, 1, 1], 300)
    pred = both.argmax(axis=1)
    assert auc_rows(y, both)[0] == pytest.approx(metrics.roc_auc_score(y, both, multi_class="ovr"))
    assert metric_of_rows("f1", y, pred, both) == pytest.approx(metrics.f1_score(y, pred, average="macro"))
    assert metric_of_rows("log_loss", y, pred, both) == pytest.approx(metrics.log_loss(y, both))


def test_the_bootstrap_agrees_with_the_error_of_a_mean() -> None:
    rng = np.random.default_rng(5)
    y = rng.normal(size=400)
    a, b = y + rng.normal(0, 1.0, 400), y + rng.normal(0, 0.9, 400)
    exact = dls.compare({"A": a, "B": b}, y_true=y, metric="mae").comparisons[0]

    def mean_absolute(y_true: np.ndarray, y_pred: np.ndarray) -> float:
        return float(np.abs(y_true - y_pred).mean())

    drawn = dls.compare({"A": a, "B": b}, y_true=y, metric=mean_absolute, direction="min").comparisons[0]
    assert (exact.test, drawn.test) == ("paired t", "paired bootstrap")
    assert drawn.difference == pytest.approx(exact.difference)
    assert (drawn.low, drawn.high) == pytest.approx((exact.low, exact.high), abs=0.01)
    again = dls.compare({"A": a, "B": b}, y_true=y, metric=mean_absolute, direction="min").comparisons[0]
    assert again == drawn


def test_rows_needed_have_the_power() -> None:
    rng = np.random.default_rng(6)
    y = rng.normal(size=200)
    given = {"A": Answers(y_pred=y + rng.normal(size=200)), "B": Answers(y_pred=y + rng.normal(0, 0.9, 200))}
    contrast = assess_rows("mae", y, given)[1](*PAIR)
    n = rows_needed(contrast, 0.1, 0.95, 1)
    assert n is not None
    spread = float(contrast.spread)
    power = scipy.stats.norm.sf(1.959964 - 0.1 * math.sqrt(n) / spread)
    assert power == pytest.approx(0.8, abs=0.001)


def test_a_metric_is_chosen_by_what_was_predicted() -> None:
    rng = np.random.default_rng(7)
    y = rng.integers(0, 2, 100)
    assert dls.compare({"A": rng.random(100), "B": rng.random(100)}, y_true=y).metric == "auc"
    assert dls.compare({"A": y, "B": 1 - y}, y_true=y).metric == "accuracy"
    named = np.where(y, "cat", "dog")
    c = dls.compare({"A": named, "B": np.roll(named, 1), "C": np.full(100, "catfish")}, y_true=named)
    assert c.metric == "accuracy" and c["A"].mean == 1 and c["C"].mean == 0 and c.best == "A"
    assert c["B"].mean == pytest.approx(np.mean(named == np.roll(named, 1)))
    assert (
        dls.compare({"A": rng.normal(size=100), "B": rng.normal(size=100)}, y_true=rng.normal(size=100)).metric == "mae"
    )
    assert c.pairing == "example" and "DLS505" in {finding.code for finding in c.findings}


Y = np.array([0, 1, 1, 0])


@pytest.mark.parametrize(("what", "y_true", "options", "complaint"), [
    ({}, Y, {}, "at least one variant"),
    ([Y], Y, {}, "mapping of variant to predictions"),
    ({"A": Y[:3]}, Y, {}, "4 predictions of 'A'"),
    ({"A": [0.1, 0.2, np.nan, 0.3]}, Y, {}, "finite predictions"),
    ({"A": [0.1, 0.2, 3.0, 0.3]}, Y, {}, "probabilities of 'A'"),
    ({"A": Y}, [0, 1, np.nan, 0], {}, "finite y_true"),
    ({"A": Y}, Y[:, None], {}, "y_true of shape"),
    ({"A": ["a", "b", "b", "a"]}, Y, {}, "both as text"),
    ({"A": Y}, Y, {"metric": "acuracy"}, "'accuracy'"),
    ({"A": Y}, Y, {"metric": "auc"}, "probabilities of A for auc"),
    ({"A": [0.1, 0.4, 0.2, 0.3]}, np.array([0, 1, 2, 0]), {}, "3 classes"),
    ({"A": np.full((4, 2), 0.5)}, np.array([0, 1, 2, 0]), {}, "2 columns for 0, 1, 2"),
    ({"A": np.full((4, 3), 0.3)}, np.array([1, 2, 3, 1]), {}, "3 columns for 1, 2, 3"),
    ({"A": np.full((4, 2), 0.5)}, np.array([-1, 1, 1, -1]), {}, "2 columns for -1, 1"),
    ({"A": np.full((4, 3), 0.3)}, np.array(["a", "c", "c", "a"]), {}, "3 columns for a, c"),
    ({"A": np.full((4, 3), 0.3), "B": np.full((4, 2), 0.5)}, Y, {}, "2 or 3 columns"),
    ({"A": np.full((4, 3), 0.3), "B": [0, 1, 5, 0]}, Y, {"metric": "accuracy"}, "3 columns for 0, 1, 5"),
    ({"A": [0.1, 2.2, 0.3, 1.4]}, Y, {}, "name a metric such as 'mae'"),
    ({"A": np.full((4, 3), 0.3)}, np.array([0, 1, 2, 0]), {"metric": "brier"}, "sum to 1 in a row of 'A', but got 0.9"),
    ({"A": np.full((4, 2), 0.4)}, Y, {"metric": "log_loss"}, "sum to 1 in a row of 'A', but got 0.8"),
    ({"A": np.array([[2.0, -1.0], [0.5, 1.0], [0.0, 0.0], [1.0, 0.0]])}, Y, {"metric": "auc"}, "probabilities of 'A'"),
    ({"A": Y}, Y, {"metric": lambda y, p: y == p, "direction": "max"}, r"one number .* array of shape \(4,\)"),
    ({"A": Y}, Y, {"metric": lambda y, p: None, "direction": "max"}, "one number .* got None"),
    ({"A": Y}, Y, {"metric": lambda y, p: "0.5", "direction": "max"}, "one number .* got '0.5'"),
    ({"A": Y}, Y, {"metric": lambda y, p: 1 + 1j, "direction": "max"}, "one number"),
    ({"A": Y + 0j}, Y, {}, "real numbers in 'A'"),
    ({"A": Y / 2}, Y + 1j, {}, "real numbers in y_true"),
    ({"A": torch.tensor([0.1 + 1j, 0, 1, 1])}, Y, {}, "real numbers in 'A'"),
    ({"A": pd.Series(Y, index=list("abcx"))}, pd.Series(Y, index=list("abcd")), {}, "not have, such as x"),
    ({"A": pd.Series(Y, index=list("abca"))}, pd.Series(Y, index=list("aabc")), {}, "labels that repeat"),
    ({"A": pd.Series(Y)}, pd.Series(Y, index=[3, 1, 0, 2]), {}, "row numbers in another order"),
    ({"A": pd.Series(Y, index=list("abcd")), "B": pd.Series(Y, index=list("bacd"))}, Y, {}, "y_true has no labels"),
])  # fmt: skip
def test_what_cannot_be_compared_is_refused(
    what: object, y_true: object, options: dict[str, object], complaint: str
) -> None:
    with pytest.raises(DLStudioError, match=complaint):
        dls.compare(what, y_true=y_true, **options)


def f1_of_calls(y_true: np.ndarray, y_pred: np.ndarray) -> float:
    return metric_of_rows("f1", y_true, y_pred, None)


def test_many_pairs_do_not_hide_a_huge_difference() -> None:
    rng = np.random.default_rng(9)
    y = rng.integers(0, 2, 400)
    given = {f"bad{k}": rng.integers(0, 2, 400) for k in range(10)} | {"good": y}
    c = dls.compare(given, y_true=y, metric="f1")
    assert len(c.comparisons) == 55 and c.best == "good"
    assert all(pair.p_adjusted < 1e-6 for pair in c.comparisons if "good" in (pair.variant, pair.reference))
    assert not any("good" in pair.sentence and "not shown" in pair.sentence for pair in c.comparisons)


def test_the_tail_tells_equal_models_apart_as_often_as_the_level_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(RESAMPLING, "N_DRAWS", (50,))
    rng = np.random.default_rng(10)
    n, found, covered = 400, [], []
    for seed in range(400):
        y = rng.integers(0, 2, n)
        a, b = (np.where(rng.random(n) < 0.8, y, 1 - y) for _ in range(2))
        given = {"A": Answers(y_pred=a), "B": Answers(y_pred=b)}
        contrast = assess_rows("f1", y, given, seed=seed)[1](*PAIR)
        assert contrast.test == "bootstrap error of 50 draws"
        found.append(float(contrast.p_value))
        covered.append(float(contrast.low) <= 0 <= float(contrast.high))
    assert np.mean(np.array(found) <= 0.05) <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / 400)
    assert np.mean(covered) == pytest.approx(0.95, abs=3 * math.sqrt(0.05 * 0.95 / 400))


@pytest.mark.parametrize("metric", ["f1", "balanced_accuracy", "rmse", "r2"])
@pytest.mark.parametrize("n_classes", [2, 3])
def test_draws_by_counts_are_those_by_rows(metric: str, n_classes: int) -> None:
    rng = np.random.default_rng(11)
    n = 300
    y = rng.integers(0, n_classes, n)
    given = [np.where(rng.random(n) < share, y, rng.integers(0, n_classes, n)) for share in (0.5, 0.8)]
    if metric in ("rmse", "r2"):
        y, given = y.astype(np.float64), [one + rng.normal(size=n) for one in given]
    answers = [Answers(y_pred=one) for one in given]

    def called(y_true: np.ndarray, y_pred: np.ndarray) -> float:
        return metric_of_rows(metric, y_true, y_pred, None)

    whole, draws = resampled(metric, y, answers, seed=0)
    expected_whole, expected = resampled(called, y, answers, seed=1)
    assert whole == pytest.approx(expected_whole)
    error = expected.std(axis=0) * math.sqrt(1 / len(draws) + 1 / len(expected))
    assert np.all(np.abs(draws.mean(axis=0) - expected.mean(axis=0)) < 4 * error)
    assert np.cov(draws.T) == pytest.approx(np.cov(expected.T), rel=0.25, abs=0.1 * expected.var())


def test_a_slow_metric_is_called_less_often(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(12)
    y = rng.integers(0, 2, 300)
    given = {"A": np.where(rng.random(300) < 0.6, y, 1 - y), "B": np.where(rng.random(300) < 0.9, y, 1 - y)}
    clock = iter(range(10_000))  # every reading is a second later
    monkeypatch.setattr(RESAMPLING, "time", SimpleNamespace(process_time=lambda: float(next(clock))))
    calls = []

    def slow(y_true: np.ndarray, y_pred: np.ndarray) -> float:
        calls.append(len(y_true))
        return f1_of_calls(y_true, y_pred)

    pair = dls.compare(given, y_true=y, metric=slow, direction="max").comparisons[0]
    assert len(calls) == 2 * 2 + 2 * 50 and "bootstrap error of 50 draws" in pair.sentence
    exact = dls.compare(given, y_true=y, metric="f1").comparisons[0]
    assert pair.verdict == exact.verdict == "better"
    assert (pair.low, pair.high) == pytest.approx((exact.low, exact.high), abs=0.05)


def test_rows_of_one_class_have_no_area_under_the_curve() -> None:
    scores = np.random.default_rng(13).random(20)
    with pytest.raises(DLStudioError, match="20 of one class"):
        dls.compare({"A": scores, "B": 1 - scores}, y_true=np.ones(20, dtype=np.int64), metric="auc")


@pytest.mark.parametrize("metric", ["accuracy", "log_loss", "brier", "auc", "f1"])
@pytest.mark.parametrize("kind", [np.int64, np.float64])
def test_rows_without_one_of_the_classes_are_scored_by_their_columns(metric: str, kind: type) -> None:
    rng = np.random.default_rng(14)
    y = np.repeat([0, 2], 50)
    scores = rng.dirichlet([1, 1, 1], 100) * 0.4 + 0.6 * np.eye(3)[np.where(rng.random(100) < 0.8, y, 1)]
    expected = {
        "accuracy": metrics.accuracy_score(y, scores.argmax(axis=1)),
        "log_loss": metrics.log_loss(y, scores, labels=[0, 1, 2]),
        "brier": ((scores - np.eye(3)[y]) ** 2).sum(axis=1).mean(),
        "auc": (metrics.roc_auc_score(y == 0, scores[:, 0]) + metrics.roc_auc_score(y == 2, scores[:, 2])) / 2,
        "f1": metrics.f1_score(y, scores.argmax(axis=1), average="macro"),
    }[metric]
    c = dls.compare({"A": scores, "B": scores[:, [2, 1, 0]]}, y_true=y.astype(kind), metric=metric)
    assert c["A"].mean == pytest.approx(expected)


def test_columns_stand_for_texts_in_their_order() -> None:
    named = np.array(["b", "a", "c", "b"])
    c = dls.compare({"A": np.eye(3)[[1, 0, 2, 1]]}, y_true=named, metric="accuracy")
    assert c["A"].mean == 1


def test_a_function_may_measure_whole_quantities() -> None:
    rng = np.random.default_rng(15)
    y = rng.poisson(5, 100)

    def mean_absolute(y_true: np.ndarray, y_pred: np.ndarray) -> float:
        return float(np.abs(y_true - y_pred).mean())

    given = {"A": y + rng.normal(size=100), "B": y + rng.normal(0, 2, 100)}
    c = dls.compare(given, y_true=y, metric=mean_absolute, direction="min")
    assert c["A"].mean == pytest.approx(np.abs(given["A"] - y).mean()) and c.best == "A"
    fives = dls.compare({"A": np.roll(5 * y, 1)}, y_true=5 * y, metric=mean_absolute, direction="min")
    assert fives["A"].mean == pytest.approx(5 * np.abs(np.roll(y, 1) - y).mean())  # of the numbers, not of places


def test_of_very_many_models_the_best_is_compared_with_all() -> None:
    rng = np.random.default_rng(16)
    y = rng.normal(size=200)
    given = {f"m{k}": y + rng.normal(0, 1, 200) for k in range(55)}
    given["good"] = y + rng.normal(0, 0.1, 200)
    c = dls.compare(given, y_true=y, metric="mae")  # of which less is better, and the last given has least
    assert {pair.reference for pair in c.comparisons} == {"good"} and len(c.comparisons) == 55
    assert c.best == c.ranked[0].name == "good"
    assert any("those with the best mean, good," in finding.sentence for finding in c.findings)


@pytest.mark.parametrize("metric", ["auc", "brier", "log_loss", "accuracy", "f1"])
def test_models_that_do_not_differ_are_equivalent(metric: str) -> None:
    rng = np.random.default_rng(17)
    y, score = rng.integers(0, 2, 400), rng.random(400)
    other = score**2 if metric == "auc" else score  # which ranks all rows alike
    pair = dls.compare({"A": score, "B": other}, y_true=y, metric=metric, margin=0.01).comparisons[0]
    assert pair.verdict == "equivalent" and pair.p_equivalent <= 0.05 and "more" not in pair.sentence
    without = dls.compare({"A": score, "B": other}, y_true=y, metric=metric).comparisons[0]
    assert without.verdict == "no difference shown" and "more" not in without.sentence


@pytest.mark.parametrize("metric", ["accuracy", "f1", "auc"])
def test_a_few_rows_on_which_none_errs_show_no_equivalence(metric: str) -> None:
    y = np.tile([0, 1], 10)
    one, other = (np.where(y, 0.9, 0.1) + 0.001 * k * np.arange(20) for k in (1, -1))
    pair = dls.compare({"A": one, "B": other}, y_true=y, metric=metric, margin=0.01).comparisons[0]
    assert pair.verdict == "not enough data" and pair.p_equivalent > 0.05


def test_counted_draws_tell_equal_models_apart_as_often_as_the_level_says() -> None:
    rng = np.random.default_rng(18)
    n, n_simulated = 100, 500
    y, found, covered = np.tile([0, 1], n // 2), [], []
    for seed in range(n_simulated):
        a, b = (np.where(rng.random(n) < 0.8, y, 1 - y) for _ in range(2))
        given = {"A": Answers(y_pred=a), "B": Answers(y_pred=b)}
        contrast = assess_rows("f1", y, given, seed=seed)[1](*PAIR)
        assert contrast.test == "paired bootstrap"
        found.append(float(contrast.p_value))
        covered.append(float(contrast.low) <= 0 <= float(contrast.high))
    assert np.mean(np.array(found) <= 0.05) <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / n_simulated)
    assert 0.93 <= np.mean(covered) <= 0.97
