"""Operating points are judged on rows that nothing was fitted on, and their cost in words is the numbers' own."""

from __future__ import annotations

import dataclasses

import fairlearn.metrics
import numpy as np
import pytest
from sklearn.metrics import accuracy_score

import dlstudio as dls
from dlstudio import results, stats
from dlstudio.data.prepare import prepare
from dlstudio.errors import DLStudioError
from dlstudio.fairness.mitigation.rates import change_interval, gap_of
from dlstudio.fairness.mitigation.taken import taken_of
from dlstudio.fairness.mitigation.trade_off import trade_off
from dlstudio.fairness.mitigation.trade_off_result import TradeOff
from dlstudio.runs.run import Run
from dlstudio.training.predicted import Predicted, predictions_of

CRITERIA = ("demographic_parity_difference", "equal_opportunity_difference", "equalized_odds_difference")


def data(n: int = 3000, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    g = generator.choice(["a", "b", "c"], n, p=[0.5, 0.35, 0.15])
    z = generator.normal(size=n) + 0.9 * (g == "a")
    score = 1 / (1 + np.exp(-2 * z))
    return (generator.random(n) < score).astype(int), score, g


@pytest.fixture(scope="module")
def found() -> TradeOff:
    y, score, g = data()
    variants = {"blurred": score * 0.5 + 0.25, "none": score * 0}
    return trade_off(y, score, sensitive_features={"race": g}, variants=variants)


@pytest.mark.parametrize("criterion", CRITERIA)
def test_points_are_what_fairlearn_and_sklearn_say_of_the_judged_half(criterion: str) -> None:
    y, score, g = data(seed=3)
    other = np.clip(score + 0.1, 0, 1)
    t = trade_off(y, score, sensitive_features=g, criterion=criterion, variants={"other": other}, seed=5)
    # Find the judged half by itself: the other half is where thresholds were found.
    halves = halves_of(y, g, seed=5)
    for at in range(len(t)):
        places = np.searchsorted(t.groups, g)
        given = other if t.names[at] == "other" else score
        decided = (given >= t.thresholds[at][places]).astype(int)
        judge = ~halves
        assert t.accuracy[at] == pytest.approx(accuracy_score(y[judge], decided[judge]))
        gap = getattr(fairlearn.metrics, criterion)(y[judge], decided[judge], sensitive_features=g[judge])
        assert t.gap[at] == pytest.approx(gap)
        if t.kinds[at] != "variant":
            gap = getattr(fairlearn.metrics, criterion)(y[halves], decided[halves], sensitive_features=g[halves])
            assert t.fit_gap[at] == pytest.approx(gap)
            assert t.fit_accuracy[at] == pytest.approx(accuracy_score(y[halves], decided[halves]))


def halves_of(y: np.ndarray, g: np.ndarray, seed: int) -> np.ndarray:
    """Rows that thresholds are found on: half of every group and class."""
    generator = np.random.default_rng(seed)
    fit = np.zeros(len(y), dtype=bool)
    for number, (group, label) in enumerate((group, label) for group in np.unique(g) for label in (0, 1)):
        rows = generator.permutation(np.flatnonzero((g == group) & (y == label)))
        fit[rows[: (len(rows) + number % 2) // 2]] = True
    return fit


def test_thresholds_keep_their_limit_where_they_were_found_and_smaller_gaps_cost_more(found: TradeOff) -> None:
    chosen = np.array(found.kinds) == "thresholds"
    assert chosen.sum() > 10
    assert (found.fit_gap[chosen] <= found.limits[chosen] + 1e-12).all()
    assert (np.diff(found.fit_accuracy[chosen]) <= 1e-12).all() and (np.diff(found.limits[chosen]) < 0).all()
    assert found.fit_accuracy[1] >= found.fit_accuracy[0], "as much gap as before never costs accuracy"
    assert found.gap[chosen][-1] < 0.3 * found.gap[0]
    assert abs(found.n_fit - found.n_rows) <= 3 and found.n_fit + found.n_rows == 3000


def test_intervals_are_wilsons_and_newcombes_of_all_pairs_at_once(found: TradeOff) -> None:
    for at in range(len(found)):
        total = found.counts[at].sum(axis=0)
        right = total[0] - total[1] - total[2] + 2 * total[3]
        low, high = stats.wilson(right, total[0])
        assert (found.accuracy_low[at], found.accuracy_high[at]) == pytest.approx((low, high))
        least, most = found.pair[at]
        n, selected = found.counts[at, :, 0], found.counts[at, :, 2]
        # Three pairs of three groups, of which the widest was chosen.
        low, high = stats.difference_interval(selected[most], n[most], selected[least], n[least], 1 - 0.05 / 3)
        assert (found.gap_low[at], found.gap_high[at]) == pytest.approx((low, high))
        rates = selected / n
        assert rates[most] - rates[least] == pytest.approx(found.gap[at]) == rates.max() - rates.min()
        np.testing.assert_allclose(found.selection_change[at, :, 0], rates - found.selection_rate[0])
        assert found.accuracy_change[at, 0] == pytest.approx(found.accuracy[at] - found.accuracy[0])


def test_intervals_of_a_change_are_students_where_rows_are_many(found: TradeOff) -> None:
    from scipy.stats import ttest_1samp

    y, score, g = data()
    judge = ~halves_of(y, g, seed=0)
    at = found.choose(0.05)
    places = np.searchsorted(found.groups, g)[judge]
    after, before = score[judge] >= found.thresholds[at][places], score[judge] >= 0.5
    change = ((after == (y[judge] == 1)).astype(float) - (before == (y[judge] == 1))).astype(float)
    expected = ttest_1samp(change, 0).confidence_interval()
    np.testing.assert_allclose(found.accuracy_change[at, 1:], [expected.low, expected.high], atol=2e-3)
    moved = (after.astype(float) - before)[places == 1]
    expected = ttest_1samp(moved, 0).confidence_interval()
    np.testing.assert_allclose(found.selection_change[at, 1, 1:], [expected.low, expected.high], atol=2e-3)
    assert (found.accuracy_change[0] == 0).all() and (found.selection_change[0] == 0).all(), "the same rule"


@pytest.mark.parametrize(("up", "down"), [(0.0, 0.0), (0.01, 0.0), (0.05, 0.05), (0.3, 0.1), (0.5, 0.5)])
@pytest.mark.parametrize("n", [20, 200])
def test_intervals_of_a_change_cover_it(up: float, down: float, n: int) -> None:
    moved = np.random.default_rng(0).multinomial(n, [up, down, 1 - up - down], size=4000)
    low, high = change_interval(moved[:, 0], moved[:, 1], np.int64(n), 0.95)
    assert ((low <= up - down) & (up - down <= high)).mean() > 0.94
    assert (low >= -1).all() and (high <= 1).all()


def test_no_change_among_few_rows_is_not_certain() -> None:
    low, high = change_interval(np.int64(0), np.int64(0), np.array([20, 200]), 0.95)
    np.testing.assert_allclose(high, 1.959964**2 / (np.array([20, 200]) + 1.959964**2), rtol=1e-5)  # Wilson's
    np.testing.assert_array_equal(low, -high)
    y, score, g = data()
    t = trade_off(y, score, sensitive_features=g, variants={"the same": score})
    assert t.accuracy_change[-1, 0] == 0 and t.accuracy_change[-1, 1] < 0 < t.accuracy_change[-1, 2]
    assert "It costs no accuracy (interval of the change -0.3 to +0.3)." in t.words(len(t) - 1)


def test_the_widest_of_many_equal_groups_is_no_gap_by_chance() -> None:
    generator = np.random.default_rng(1)
    selected = generator.binomial(200, 0.3, size=(1000, 8))
    counts = np.stack([np.full_like(selected, 200), selected * 0, selected, selected * 0], axis=-1)
    lows = np.array([gap_of(one, "demographic_parity_difference", 0.95, 10)[1] for one in counts])
    assert (lows > 0).mean() <= 0.05
    alone, _ = stats.difference_interval(selected.max(axis=1), 200, selected.min(axis=1), 200)
    assert (alone > 0).mean() > 0.3, "as if that pair had been chosen beforehand"


def test_choosing_looks_at_the_fitted_half_only(found: TradeOff) -> None:
    for limit in (0.02, 0.1, 0.2):
        at = found.choose(limit)
        fits = found.fit_gap <= limit
        assert fits[at] and found.fit_accuracy[at] == found.fit_accuracy[fits].max()
    assert found.kinds[found.choose(0)] == "thresholds", "the nearest there is"
    assert found.choose(1.0) == int(np.nanargmax(found.fit_accuracy))


def test_the_cost_in_words_is_that_of_the_numbers(found: TradeOff) -> None:
    at = found.choose(0.05)
    said = " ".join(found.words(at))
    place = found.groups.index("b")
    change = found.selection_change[at, place] * 100
    assert f"raises the share of '1' for race b by {change[0]:.1f} points" in said
    before, after = 100 * found.selection_rate[[0, at], place]
    assert f"from {before:.1f} % to {after:.1f} %" in said
    assert f"{change[1]:+.1f} to {change[2]:+.1f}" in said and f"{found.counts[at, place, 0]:,} rows" in said
    assert f"It costs {-found.accuracy_change[at, 0] * 100:.1f} points of accuracy" in said
    assert f"{found.gap[at]:.3f}" in said and "need to know race" in said
    for point in (0, len(found) - 1):
        assert found.words(point)[-1] == (
            "Decisions may need race: it is not known whether the model takes race among its inputs."
        )
    assert found.needs_sensitive_feature[at] and found.needs_sensitive_feature[0] is None and found.taken[0] is None
    for word in ("illegal", "unlawful", "discriminat", "debias", "unbiased", "fix "):
        assert word not in said.lower()


def test_a_point_that_decides_nothing_is_told(found: TradeOff) -> None:
    told = [f for f in found.findings if f.code == "DLS363"]
    assert len(told) == 1 and "None: gives '1' to nobody" in told[0].sentence
    assert found.gap[-1] == 0 and found.names[-1] == "none"


def test_groups_too_small_are_named_and_make_no_gap() -> None:
    y, score, g = data(1000)
    g = g.astype(object)
    g[:12] = "few"
    t = trade_off(y, score, sensitive_features=g)
    assert [name for name, shared in zip(t.groups, t.shared, strict=True) if shared] == ["few"]
    assert any(f.code == "DLS361" and "few" in f.sentence for f in t.findings)
    assert t.groups.index("few") not in t.pair
    assert (t.thresholds[:, t.groups.index("few")] == 0.5).all()
    assert t.compared.tolist() == [name != "few" for name in t.groups]


def test_of_groups_with_too_few_rows_nothing_is_said() -> None:
    y, score, g = data(1000)
    g = g.astype(object)
    g[:12] = "few"
    t = trade_off(y, score, sensitive_features=g, variants={"none": score * 0})
    last = len(t) - 1
    assert t.selection_change[last, t.groups.index("few"), 0] < 0
    said = " ".join(t.words(last))
    assert "for sensitive_feature_0 few" not in said and "Nothing is said of 1 group with too few rows." in said
    rows = t.frame().query("group == 'few'")
    assert rows[["selection_rate", "selection_change", "selection_change_low"]].isna().all().all()
    assert not rows["compared"].any() and (rows["n"] > 0).all()


def test_thresholds_from_few_rows_that_do_not_carry_over_are_told() -> None:
    # Where the halves were made to differ, a limit that holds on one cannot hold on the other.
    y, score, g = data(4000, seed=2)
    fit = halves_of(y, g, seed=0)
    score = np.where(~fit & (g == "a"), np.clip(score + 0.4, 0, 1), score)
    t = trade_off(y, score, sensitive_features=g, seed=0)
    assert any(f.code == "DLS362" for f in t.findings)
    y, score, g = data(20000, seed=4)
    assert not any(f.code == "DLS362" for f in trade_off(y, score, sensitive_features=g).findings)


def test_the_result_survives_a_file_and_its_frame_is_tidy(found: TradeOff, tmp_path) -> None:
    assert results.load(results.save(found, tmp_path, "trade-off")) == found
    frame = found.frame()
    assert len(frame) == len(found) * 3 and frame["group"].tolist()[:3] == list(found.groups)
    row = frame[(frame["point"] == 4) & (frame["group"] == "b")].iloc[0]
    assert row["threshold"] == found.thresholds[4, 1] and row["accuracy"] == found.accuracy[4]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"y_score": None}, "y_score=None"),
        ({"y_score": np.full(3000, 1.5)}, "scores from 0 to 1"),
        ({"y_true": np.full(3000, 2)}, "0 and 1"),
        ({"sensitive_features": np.zeros(3000)}, "two groups"),
        ({"sensitive_features": np.zeros(10)}, "3,000"),
        ({"sensitive_features": "race"}, "no table to find them in"),
        ({"criterion": "equal_odds_difference"}, "criterion"),
        ({"variants": {"short": np.zeros(10)}}, "3,000 scores"),
        ({"variants": {"a run": "some-run"}}, "a run"),
        ({"variants": {"": np.zeros(3000)}}, "a name for every variant"),
        ({"n_points": 1}, "n_points"),
        ({"threshold": np.nan}, "threshold from 0 to 1"),
        ({"min_denominator": -3}, "min_denominator of 1 or more"),
        ({"seed": -1}, "seed of 0 or more"),
        ({"level": 95}, "level"),
        ({"level": "0.95"}, "level"),
        ({"variants": [np.zeros(3000)]}, "variants that names its values"),
        ({"y_score": np.r_[np.nan, np.nan, np.full(2998, 0.4)]}, r"2 of 3,000 missing \(nan\)"),
        ({"variants": {"broken": np.full(3000, np.nan)}}, "3,000 of 3,000 missing"),
    ],
)
def test_bad_input_is_told(change: dict[str, object], words: str) -> None:
    y, score, g = data()
    with pytest.raises(DLStudioError, match=words):
        trade_off(**({"y_true": y, "y_score": score, "sensitive_features": g} | change))


# -- runs --------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def run() -> Run:
    return dls.fit(dls.Recipe(data="mortgage", model="mlp", epochs=3, name="as trained", device="cpu"), progress=False)


@pytest.fixture(scope="module")
def reweighed() -> Run:
    recipe = dls.Recipe(data="mortgage", model="mlp", epochs=3, name="reweighed", device="cpu", reweigh=("white",))
    return dls.fit(recipe, progress=False)


def test_a_run_finds_thresholds_on_its_validation_part_and_judges_on_its_test_part(run: Run, reweighed: Run) -> None:
    t = trade_off(run, sensitive_features="white", variants={"reweighed": reweighed})
    val, test = predictions_of(run, "val"), predictions_of(run, "test")
    assert (t.n_fit, t.n_rows, t.run, t.data, t.positive) == (len(val), len(test), run.key, "mortgage", "approved")
    assert t.accuracy[0] == pytest.approx(accuracy_score(test.y_true, test.y_pred))
    other = predictions_of(reweighed, "test")
    assert t.accuracy[-1] == pytest.approx(accuracy_score(other.y_true, other.y_pred))
    white = test.frame["white"].to_numpy().astype(int)
    expected = fairlearn.metrics.demographic_parity_difference(test.y_true, test.y_pred, sensitive_features=white)
    assert t.gap[0] == pytest.approx(expected) and t.groups == ("0", "1")
    last = int(np.flatnonzero(np.array(t.kinds) == "thresholds")[-1])
    assert t.selection_change[last, :, 0].any()
    assert "share of 'approved' for white" in " ".join(t.words(last))
    assert t.taken == ((),) * len(t) and "do not need white: the model does not take white" in t.words(0)[-1]
    assert t.needs_sensitive_feature[0] is False and t.needs_sensitive_feature[-1] is False


def test_bad_runs_are_told(run: Run) -> None:
    with pytest.raises(DLStudioError, match="column"):
        trade_off(run, sensitive_features="whit")
    with pytest.raises(DLStudioError, match="y_score beside it"):
        trade_off(run, np.zeros(3), sensitive_features="white")
    with pytest.raises(DLStudioError, match="names of columns"):
        trade_off(run, sensitive_features=predictions_of(run).frame["white"])


def test_a_model_that_takes_the_sensitive_column_is_said_to_need_it(run: Run) -> None:
    t = trade_off(run, sensitive_features="self", variants={"scores": predictions_of(run).y_score})
    assert t.taken[0] == ("self",) and t.needs_sensitive_feature == (*(True,) * (len(t) - 1), None)
    assert t.words(0)[-1] == "Decisions need self: the model takes self among its inputs."
    last = int(np.flatnonzero(np.array(t.kinds) == "thresholds")[-1])
    assert t.words(last)[-1] == (
        "Decisions need to know self of every row, for its threshold; the model takes self among its inputs."
    )
    assert t.words(len(t) - 1)[-1].startswith("Decisions may need self: it is not known")


def test_a_model_of_the_census_takes_race() -> None:
    data = dls.load_data("employment")
    assert taken_of(data, ["RAC1P", "year"]) == ("RAC1P",) and taken_of(None, ["RAC1P"]) is None
    # A bundled set keeps its inputs, also where a column is named as sensitive.
    assert taken_of(prepare("mortgage", sensitive=("self",)), ["self", "race"]) == ("self",)


@pytest.mark.parametrize("changed", ["y_true", "data", "scores"])
def test_a_variant_of_other_data_is_refused(
    run: Run, reweighed: Run, changed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def other(which: Run | str, split: str = "test") -> Predicted:
        found = predictions_of(which, split)
        new = {"y_true": 1 - found.y_true, "data": "elsewhere", "scores": found.y_score * np.nan}[changed]
        name = "y_score" if changed == "scores" else changed
        return dataclasses.replace(found, **{name: new}) if which is reweighed else found

    monkeypatch.setattr("dlstudio.training.predicted.predictions_of", other)
    with pytest.raises(DLStudioError, match="missing" if changed == "scores" else "on the same data"):
        trade_off(run, sensitive_features="white", variants={"other": reweighed})
