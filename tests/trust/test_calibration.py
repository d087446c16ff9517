"""Calibration against closed forms, published values, simulated models whose error is known, and scikit-learn."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
from scipy.stats import binom
from sklearn.isotonic import IsotonicRegression
from torchmetrics.functional.classification import multiclass_calibration_error

from dlstudio import results, stats
from dlstudio.errors import DLStudioError
from dlstudio.scoring import binned, error_interval
from dlstudio.trust.binning import brier_parts, by_chance
from dlstudio.trust.calibration import assess_calibration
from dlstudio.trust.calibration_result import CalibrationResult
from dlstudio.trust.rescaling import fit_rescaling

Array = npt.NDArray[Any]


def expit(z: Array) -> Array:
    return 1 / (1 + np.exp(-z))


def softmax(z: Array) -> Array:
    e = np.exp(z - z.max(axis=1, keepdims=True))
    found: Array = e / e.sum(axis=1, keepdims=True)
    return found


def simulated(n: int, temperature: float = 1.0, seed: int = 0) -> tuple[Array, Array]:
    """Rows of a model that is too sure by `temperature`."""
    generator = np.random.default_rng(seed)
    logits = generator.normal(0.3, 1.5, n)
    return (generator.random(n) < expit(logits)).astype(int), expit(temperature * logits)


def quick(*args: Any, **options: Any) -> CalibrationResult:
    return assess_calibration(*args, **{"fix": (), "n_resamples": 200, **options})


# -- bins --------------------------------------------------------------------------------------------------------------


def test_published_binary_values() -> None:
    y, scores = np.array([0, 0, 1, 1, 1]), np.array([0.25, 0.25, 0.55, 0.75, 0.75])
    bins = binned(y, scores, 2, adaptive=False)
    assert bins.ece == pytest.approx(0.29, abs=5e-5)
    assert bins.rmsce == pytest.approx(0.2918, abs=5e-5)
    assert bins.mce == pytest.approx(0.3167, abs=5e-5)
    row = quick(y, scores, n_bins=2, adaptive=False).errors.iloc[0]
    assert (row.ece, row.ece_fixed) == (pytest.approx(0.29), pytest.approx(0.29))


def test_published_multiclass_values() -> None:
    scores = np.array([[0.25, 0.20, 0.55], [0.55, 0.05, 0.40], [0.10, 0.30, 0.60], [0.90, 0.05, 0.05]])
    row = quick(np.array([0, 1, 2, 0]), scores, n_bins=3, adaptive=False).errors.iloc[0]
    assert row.ece == pytest.approx(0.2, abs=5e-5)
    assert row.rmsce == pytest.approx(0.2082, abs=5e-5)
    assert row.mce == pytest.approx(0.2333, abs=5e-5)


def test_a_confidence_of_one_is_in_the_last_bin() -> None:
    bins = binned(np.array([1, 0]), np.array([0.95, 1.0]), 15, adaptive=False)
    assert bins.ece == pytest.approx(0.475)
    assert bins.n.tolist() == [2] and bins.high[-1] == 1


def test_a_score_on_an_edge_begins_the_next_bin() -> None:
    scores = np.arange(100) / 100
    for n_bins in (10, 20, 50, 100):
        assert np.all(binned(np.zeros(100, int), scores, n_bins, adaptive=False).n == 100 // n_bins)


def test_errors_are_torchmetrics_where_that_is_right() -> None:
    generator = np.random.default_rng(1)
    scores = softmax(generator.normal(size=(500, 4)))
    y = generator.integers(0, 4, 500)
    row = quick(y, scores, n_bins=10, adaptive=False).errors.iloc[0]
    import torch

    given = torch.from_numpy(scores), torch.from_numpy(y)
    for ours, norm in ((row.ece, "l1"), (row.rmsce, "l2"), (row.mce, "max")):
        theirs = multiclass_calibration_error(*given, num_classes=4, n_bins=10, norm=norm)
        assert ours == pytest.approx(float(theirs), abs=1e-6)


def test_adaptive_bins_hold_equally_many_and_never_part_equal_scores() -> None:
    generator = np.random.default_rng(2)
    scores = generator.random(997)
    n = binned(np.zeros(997, int), scores, 15, adaptive=True).n
    assert len(n) == 15 and n.max() - n.min() <= 1
    tied = np.round(scores, 1)
    bins = binned(np.zeros(997, int), tied, 15, adaptive=True)
    for score in np.unique(tied):
        assert len(np.unique(bins.index[tied == score])) == 1
    half = np.concatenate([np.ones(500), generator.random(500)])
    bins = binned(np.ones(1000, int), half, 10, adaptive=True)
    assert bins.n[-1] == 500 and bins.mean_score[-1] == 1


def test_constant_scores_are_one_bin() -> None:
    bins = binned(np.array([0, 1, 1, 1]), np.full(4, 0.5), 15, adaptive=True)
    assert bins.n.tolist() == [4] and bins.ece == pytest.approx(0.25)


# -- the Brier score ---------------------------------------------------------------------------------------------------


def test_the_brier_score_is_its_parts() -> None:
    y, scores = simulated(300, 2.0)
    for adaptive in (True, False):
        parts = brier_parts(y, scores, binned(y, scores, 10, adaptive=adaptive), 0.95)
        total = parts.reliability - parts.resolution + parts.uncertainty + parts.within_bins
        assert parts.score == pytest.approx(((scores - y) ** 2).mean()) == pytest.approx(total, abs=1e-14)


def test_murphys_parts_of_forecasts_with_few_values() -> None:
    # Ten forecasts of 0.2 of which 3 happen, ten of 0.8 of which 7 do, by hand.
    scores = np.repeat([0.2, 0.8], 10)
    y = np.concatenate([np.repeat([1, 0], [3, 7]), np.repeat([1, 0], [7, 3])])
    parts = brier_parts(y, scores, binned(y, scores, 15, adaptive=True), 0.95)
    assert parts.reliability == pytest.approx(0.01) and parts.resolution == pytest.approx(0.04)
    assert parts.uncertainty == pytest.approx(0.25) and parts.within_bins == pytest.approx(0, abs=1e-15)
    assert parts.score == pytest.approx(0.22)


# -- what chance explains ----------------------------------------------------------------------------------------------


def test_chance_is_that_of_drawing_every_row() -> None:
    y, scores = simulated(400, 1.7)
    bins = binned(y, scores, 10, adaptive=False)
    generator = np.random.default_rng(0)
    draws = by_chance(bins, y, scores, 4000, generator)
    rows = generator.random((4000, 400)) < scores
    gaps = np.stack([(rows - scores)[:, bins.index == k].sum(axis=1) for k in range(len(bins.n))])
    direct = np.abs(gaps).sum(axis=0) / 400
    assert draws.mean() == pytest.approx(direct.mean(), rel=0.03)
    assert np.quantile(draws, 0.95) == pytest.approx(np.quantile(direct, 0.95), rel=0.05)


def test_right_scores_are_called_off_as_seldom_as_promised() -> None:
    generator = np.random.default_rng(5)
    shown = 0
    for seed in range(200):
        scores = generator.beta(2, 1, 150)
        y = (generator.random(150) < scores).astype(int)
        result = quick(y, scores, n_resamples=200, seed=seed)
        assert result.errors.ece[0] > 0, "chance never leaves it at 0"
        shown += result.verdict == "miscalibration shown"
    assert shown / 200 <= 0.05 + 0.031  # two standard errors of 200 repetitions


@pytest.mark.parametrize(
    ("n", "wrong", "adaptive"),
    [
        (300, lambda s: s, True),
        (300, lambda s: expit(np.log(s / (1 - s)) / 2), False),
        (1500, lambda s: np.clip(s + 0.05, 0, 1), False),
        (1500, lambda s: s + 0.1 * np.sin(2 * np.pi * s) * (s > 0.5), False),
        (1500, lambda s: expit(np.log(s / (1 - s)) / 1.2), True),
    ],
)  # fmt: skip
def test_intervals_of_the_error_cover_it(n: int, wrong: Any, adaptive: bool) -> None:
    generator = np.random.default_rng(7)
    many = np.sort(generator.beta(1.5, 1, 300_000))
    off = wrong(many) - many
    place = np.arange(len(many)) * 10 // len(many) if adaptive else np.minimum(many * 10, 9).astype(int)
    truth = np.abs(np.bincount(place, weights=off)).sum() / len(many)
    ends = []
    for seed in range(200):
        scores = generator.beta(1.5, 1, n)
        y = (generator.random(n) < wrong(scores)).astype(int)
        ends.append(error_interval(binned(y, scores, 10, adaptive=adaptive), y, scores, 0.95, 300, seed))
    low, high = np.transpose(ends)
    assert (low <= truth).mean() >= 0.975 - 0.022 and (high >= truth).mean() >= 0.975 - 0.022  # two standard errors
    assert truth == 0 or low.max() > 0 and high.min() < truth + 0.15, "and they say something"


def test_many_groups_can_be_shown_and_none_is_by_chance() -> None:
    """The smallest p-value, adjusted for 45 groups, may not be larger than what is asked for."""
    generator = np.random.default_rng(0)
    group = np.repeat(np.arange(45), 200)
    scores = generator.uniform(0.05, 0.95, len(group))
    y = (generator.random(len(group)) < np.where(group == 7, 1 - scores, scores)).astype(int)
    result = assess_calibration(y, scores, groups=group, level=0.99, fix=(), n_resamples=200)
    table = result.errors.set_index("group")
    assert table.loc["7", "verdict"] == "miscalibration shown" and table.loc["7", "p_adjusted"] < 1e-4
    assert (table.verdict == "miscalibration shown").sum() == 1


def test_many_groups_at_the_threshold_are_not_shown_beyond_it() -> None:
    false = 0
    for seed in range(12):
        generator = np.random.default_rng(seed)
        scores = generator.uniform(0.1, 0.8, 40 * 300)
        y = (generator.random(len(scores)) < scores + 0.05).astype(int)
        groups = np.repeat(np.arange(40), 300).astype(str)
        table = quick(y, scores, groups=groups, threshold=0.05).errors
        false += (table.verdict == "miscalibration shown").any()
    assert false <= 2, "at most one assessment in twenty may"  # of 12, more would be so in 2 of 100
    far = quick((generator.random(len(scores)) < scores + 0.2).astype(int), scores, groups=groups, threshold=0.05)
    assert (far.errors.verdict == "miscalibration shown").mean() > 0.8


def test_all_rows_and_groups_are_one_family() -> None:
    generator = np.random.default_rng(1)
    wrong = 0
    for seed in range(100):
        scores = generator.uniform(0, 1, 300)
        y = (generator.random(300) < scores).astype(int)
        groups = pd.DataFrame({"one": generator.integers(0, 3, 300), "other": generator.integers(0, 2, 300)})
        table = quick(y, scores, groups=groups, seed=seed).errors
        assert table.p_adjusted.to_numpy() == pytest.approx(stats.holm(table.p_value))
        wrong += (table.verdict == "miscalibration shown").any()
    assert wrong / 100 <= 0.05 + 0.044  # two standard errors


def test_the_tail_of_chance_is_not_too_light() -> None:
    """A p-value beyond all draws is that of a curve; of one bin it is known: a normal error, and never said smaller."""
    from dlstudio.trust.calibration import _Work

    work = _Work(
        n_bins=1, adaptive=False, level=0.95, threshold=0.0, n_draws=1000, seed=0, generator=np.random.default_rng(0)
    )
    scores = np.full(1000, 0.5)
    for extra in (48, 56, 64):  # 3, 3.5 and 4 standard errors
        y = (np.arange(1000) < 500 + extra).astype(int)
        _, p = work.chance(work.bins(y, scores), y, scores, None)
        exact = 2 * binom.sf(500 + extra - 1, 1000, 0.5)
        assert exact < p < 12 * exact, extra


# -- rows that belong together -----------------------------------------------------------------------------------------


def repeated(n: int, times: int, generator: np.random.Generator, temperature: float = 1.0) -> Any:
    """Rows of which every `times` are the same one again, with what happened, scores and clusters."""
    scores = generator.uniform(0.05, 0.95, n)
    y = (generator.random(n) < expit(np.log(scores / (1 - scores)) / temperature)).astype(int)
    return np.repeat(y, times), np.repeat(scores, times), np.repeat(np.arange(n), times)


def test_repeated_rows_are_no_evidence() -> None:
    generator = np.random.default_rng(2)
    shown, alone = 0, 0
    for seed in range(100):
        y, scores, who = repeated(60, 10, generator)
        shown += quick(y, scores, clusters=who, seed=seed).verdict == "miscalibration shown"
        alone += quick(y, scores, seed=seed).verdict == "miscalibration shown"
    assert shown / 100 <= 0.05 + 0.044 and alone / 100 > 0.5  # two standard errors


def test_intervals_of_repeated_rows_are_those_of_the_rows_once() -> None:
    y, scores, who = repeated(400, 5, np.random.default_rng(3), temperature=3.0)
    result = assess_calibration(y, scores, clusters=who, n_bins=8, adaptive=False, n_resamples=400)
    once = assess_calibration(y[::5], scores[::5], n_bins=8, adaptive=False, n_resamples=400)
    given, expected = result.errors.iloc[0], once.errors.iloc[0]
    assert result.n_clusters == 400 and given.ece == pytest.approx(expected.ece)
    for name in ("bias_low", "bias_high", "brier_low", "brier_high"):
        assert given[name] == pytest.approx(expected[name], rel=1e-9), name
    for name in ("low", "high"):
        assert given[name] == pytest.approx(expected[name], abs=0.02), name
    assert result.verdict == once.verdict == "miscalibration shown"
    changes = [table.fixes[table.fixes.metric == "log_loss"] for table in (result, once)]
    assert set(changes[0].n) == {1000} == set(changes[0].n_fitted)
    assert (changes[0].high - changes[0].low).mean() == pytest.approx(
        (changes[1].high - changes[1].low).mean(), rel=0.3
    )
    assert any("400 clusters may be alike" in sentence for sentence in result.summary)


# -- the verb ----------------------------------------------------------------------------------------------------------


def test_an_overconfident_model_is_found_out_and_its_temperature_recovered() -> None:
    y, scores = simulated(8000, temperature=2.0)
    result = assess_calibration(y, scores, n_resamples=200)
    assert result.verdict == "miscalibration shown"
    assert result.rescalings["temperature"].temperature == pytest.approx(2.0, rel=0.08)
    line = result.rescalings["platt"]
    assert line.slope[0] == pytest.approx(0.5, rel=0.1) and line.intercept[0] == pytest.approx(0, abs=0.12)
    fixes = result.fixes.set_index(["method", "metric"])
    for method in ("temperature", "platt", "isotonic"):
        assert fixes.loc[(method, "log_loss"), "verdict"] == "better"
        assert fixes.loc[(method, "ece"), "after"] < fixes.loc[(method, "ece"), "before"] / 2
        assert fixes.loc[(method, "ece"), "after_low"] == 0
    assert any(finding.code == "DLS313" for finding in result.findings)
    assert "They are too sure." in next(f.sentence for f in result.findings if f.code == "DLS310")


def test_the_temperature_of_many_classes_is_recovered() -> None:
    generator = np.random.default_rng(3)
    logits = generator.normal(0, 2, (6000, 5))
    y = (softmax(logits).cumsum(axis=1) < generator.random((6000, 1))).sum(axis=1)
    result = assess_calibration(y, softmax(logits / 0.6), n_resamples=200)
    assert result.rescalings["temperature"].temperature == pytest.approx(1 / 0.6, rel=0.06)
    assert result.errors.outcome.tolist() == ["", "0", "1", "2", "3", "4"]
    fixed = result.rescalings["isotonic"](softmax(logits))
    assert fixed.shape == (6000, 5) and fixed.sum(axis=1) == pytest.approx(np.ones(6000))


def test_fixes_that_are_not_needed_are_not_praised() -> None:
    y, scores = simulated(600)
    result = assess_calibration(y, scores, n_resamples=200)
    assert "better" not in set(result.fixes.verdict)
    assert not any(finding.code == "DLS313" for finding in result.findings)


def test_fixes_are_judged_on_rows_they_were_not_fitted_on() -> None:
    y, scores = simulated(401, 2.0)
    result = assess_calibration(y, scores, n_resamples=200)
    row = result.fixes.iloc[0]
    assert row.n_fitted + row.n == 401 and abs(row.n_fitted - row.n) <= 2
    held = result.reliability[result.reliability.scores != "given"]
    assert set(held.groupby("scores").n.sum()) == {row.n}


def test_platt_solves_its_equations() -> None:
    y, scores = simulated(500, 1.5)
    fitted = fit_rescaling("platt", y, scores)
    x = np.log(scores / (1 - scores))
    wanted = np.where(y, (y.sum() + 1) / (y.sum() + 2), 1 / ((1 - y).sum() + 2))
    off = fitted(scores) - wanted
    assert abs(off.sum()) < 1e-4 and abs((off * x).sum()) < 1e-4, "the likelihood has no slope left"


def test_isotonic_is_scikit_learns_and_never_certain() -> None:
    y, scores = simulated(500, 1.5)
    fitted = fit_rescaling("isotonic", y, scores)
    theirs = IsotonicRegression(out_of_bounds="clip").fit(scores, y).predict(scores)
    assert fitted(scores) == pytest.approx(np.clip(theirs, 1 / 502, 501 / 502))
    assert fitted(np.array([0.0])) > 0 and fitted(np.array([1.0])) < 1


def test_groups_are_assessed_alone_and_missing_is_one() -> None:
    y, scores = simulated(3000, 1.0, seed=4)
    off, sure = simulated(3000, 4.0, seed=5)
    group = np.repeat(["right", "off"], 3000).astype(object)
    group[:40] = None
    result = quick(np.concatenate([y, off]), np.concatenate([scores, sure]), groups=pd.Series(group, name="who"))
    table = result.errors.set_index("group")
    assert table.loc["off", "verdict"] == "miscalibration shown"
    assert table.loc["right", "verdict"] == "no miscalibration shown"
    assert table.loc["missing", "n"] == 40
    alone = binned(off, sure, 15, adaptive=True)
    assert table.loc["off", "ece"] == pytest.approx(alone.ece)
    assert any(finding.code == "DLS311" and "who = off" in finding.sentence for finding in result.findings)


def test_few_rows_are_no_verdict() -> None:
    y, scores = simulated(25)
    result = assess_calibration(y, scores)
    assert result.verdict == "not enough data"
    assert set(result.skipped) == {"temperature", "platt", "isotonic"} and result.fixes.empty
    assert [finding.code for finding in result.findings] == ["DLS312"]


def test_a_threshold_is_what_does_not_matter() -> None:
    y, scores = simulated(20_000, 1.3)
    assert quick(y, scores).verdict == "miscalibration shown"
    assert quick(y, scores, threshold=0.1).verdict == "no miscalibration shown"


def test_rows_with_missing_values_are_counted() -> None:
    y, scores = simulated(200)
    dirty = scores.copy()
    dirty[:7] = np.nan
    result = quick(y, dirty, groups={"half": np.arange(200) % 2})
    assert (result.n, result.n_dropped) == (193, 7)
    assert result.errors.n.tolist()[0] == 193 and result.errors.n[1:].sum() == 193
    assert result.errors.ece[0] == pytest.approx(quick(y[7:], scores[7:]).ece)
    assert "7 of 200 rows" in result.summary[-1]


def test_it_survives_a_file_and_repeats_itself(tmp_path: Any) -> None:
    y, scores = simulated(400, 1.5)
    options: dict[str, Any] = {"groups": {"g": np.arange(400) % 3}, "n_resamples": 200}
    one, other = assess_calibration(y, scores, **options), assess_calibration(y, scores, **options)
    back = results.load(results.save(one, tmp_path, "calibration"))
    assert isinstance(back, CalibrationResult) and back == one
    assert back.rescalings["isotonic"](scores) == pytest.approx(one.rescalings["isotonic"](scores))
    assert results.equal(dict(one.tables), dict(other.tables)) and one.frame().equals(one.errors)


def test_every_sentence_says_number_interval_and_rows() -> None:
    y, scores = simulated(500, 2.0)
    words = assess_calibration(y, scores, groups={"sex": np.arange(500) % 2}, n_resamples=200).summary
    assert len(words) == 4 + 3  # all rows twice, two groups, three fixes
    for sentence in words:
        assert "95 % interval" in sentence
    assert words[0].startswith("On 500 rows, probabilities of '1' are off by")
    assert any("sex = 0 (250 rows)" in sentence for sentence in words)


@pytest.mark.parametrize(
    ("y", "scores", "options", "expected"),
    [
        ([0, 1], [0.2, 0.3, 0.4], {}, "as many rows of each"),
        ([0, 1], [0.2, 1.3], {}, "scores from 0 to 1"),
        ([0, 2], [0.2, 0.3], {}, "y_true from 0 to 1"),
        (["yes", "no"], [0.2, 0.3], {}, "numbers in y_true"),
        ([0.5, 1], [0.2, 0.3], {}, "class indices"),
        ([0, 1], [[0.2, 0.3, 0.4], [0.3, 0.3, 0.4]], {}, "sum to 1"),
        ([], [], {}, "at least one row"),
        ([np.nan, 1], [0.2, np.nan], {}, "without missing values"),
        ([0, 1], [0.2, 0.3], {"groups": {"a": ["x", "x"]}}, "two groups or more"),
        ([0, 1] * 60, [0.2, 0.3] * 60, {"groups": {"a": range(120)}}, "at most 50 groups"),
        ([0, 1], [0.2, 0.3], {"groups": {"a": ["x"]}}, "2 values in 'a'"),
        ([0, 1], [0.2, 0.3], {"groups": ["a"]}, "groups of rows"),
        ([0, 1], [0.2, 0.3], {"fix": "temprature"}, "fix"),
        ([0, 1], [0.2, 0.3], {"n_bins": 0}, "n_bins"),
        ([0, 1], [0.2, 0.3], {"level": 95}, "between 0 and 1"),
        ([0, 1], [0.2, 0.3], {"level": "0.95"}, "between 0 and 1"),
        ([0, 1], [0.2, 0.3], {"fix": None}, "fix to be a name or several"),
        ([0, 1], [0.2, 0.3], {"threshold": 5}, "threshold from 0 to 1"),
        ([0, 1], [0.2, 0.3], {"threshold": -1}, "threshold from 0 to 1"),
        ([0, 1], [0.2, 0.3], {"seed": -1}, "seed of 0 or more"),
        ([0, 1], [0.2, 0.3], {"clusters": [[0, 1], [1, 0]]}, "a cluster for each"),
        ([0, 1], None, {}, "what the model said"),
    ],
)
def test_bad_input_is_refused_in_words(y: Any, scores: Any, options: Any, expected: str) -> None:
    with pytest.raises(DLStudioError, match=expected):
        assess_calibration(y, scores, **options)
