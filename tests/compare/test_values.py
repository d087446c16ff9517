"""Seed values compared: the table, its words, its verdicts and what it refuses."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import scipy.stats
import torch

import dlstudio as dls
from dlstudio import results
from dlstudio.compare.result import Comparison
from dlstudio.errors import DLStudioError
from dlstudio.repetitions import VERDICTS
from dlstudio.training.directions import direction_of
from tests.compare.conftest import A

COLUMNS = [
    "variant", "reference", "difference", "low", "high", "p_value", "p_adjusted", "effect_size", "n", "verdict"
]  # fmt: skip


def test_the_table_has_the_columns_it_promises(three: Comparison) -> None:
    assert list(three.pairs.columns[: len(COLUMNS)]) == COLUMNS
    assert set(three.pairs["verdict"]) <= set(VERDICTS)
    assert three.pairs[["variant", "reference"]].to_numpy().tolist() == [["B", "A"], ["C", "A"], ["C", "B"]]
    assert three.frame().equals(three.pairs)


def test_verdicts_say_what_is_shown(three: Comparison) -> None:
    assert three.best == "B" and three.pairing == "seed"
    assert three.verdict("B", "A") == "better" and three.verdict("A", "B") == "worse"
    assert three.verdict("A", "C") == three.verdict("C", "A") == "equivalent"
    assert three.ranked[0].name == "B"


def test_numbers_as_scipy_has_them(three: Comparison) -> None:
    pair, rows = three.pair("B", "A"), three["B"].values
    assert pair is not None
    assert pair.difference == pytest.approx(np.mean(rows) - np.mean(A))
    assert pair.p_value == pytest.approx(2 / 2**7)  # all seven differences have one sign
    p = sorted(three.pairs["p_value"])
    holm = np.minimum(1, np.maximum.accumulate(np.array(p) * [3, 2, 1]))
    assert sorted(three.pairs["p_adjusted"]) == pytest.approx(holm)
    mean = scipy.stats.t.interval(0.95, 6, np.mean(A), scipy.stats.sem(A))
    assert (three["A"].low, three["A"].high) == pytest.approx(mean)


def test_words_carry_verdict_numbers_and_method(three: Comparison) -> None:
    said = " ".join(three.summary)
    assert "B is better than A: +0.0" in said and "7 pairs" in said and "adjusted for 3 comparisons" in said
    assert "equivalent: they differ by less than 0.01" in said
    assert all(pair.sentence in three.pairs["sentence"].tolist() for pair in three.comparisons)


def test_it_is_saved_and_read_back(three: Comparison, tmp_path: Path) -> None:
    assert results.load(results.save(three, tmp_path, "comparison")) == three
    recommendation = three.recommend()
    assert results.load(results.save(recommendation, tmp_path, "recommendation")) == recommendation


def test_a_reference_compares_all_others_with_it(three: Comparison) -> None:
    c = dls.compare({one.name: one.values for one in three.variants}, reference="B", metric="auc")
    assert [(pair.variant, pair.reference) for pair in c.comparisons] == [("A", "B"), ("C", "B")]
    assert set(c.pairs["verdict"]) == {"worse"} and c.best == "B"


def test_less_is_better_of_a_loss() -> None:
    lower = [value - 0.05 + 0.001 * k for k, value in enumerate(A)]
    assert dls.compare({"A": A, "B": lower}, metric="val/loss").best == "B"
    assert dls.compare({"A": A, "B": lower}, metric="val/auc").best == "A"
    assert dls.compare({"A": A, "B": lower}, metric="whatever", direction="min").best == "B"


@pytest.mark.parametrize(("metric", "direction"), [
    ("val/loss", "min"), ("test/rmse", "min"), ("calibration_error", "min"), ("latency_ms", "min"), ("brier", "min"),
    ("val/auc", "max"), ("training_accuracy_score", "max"), ("f1_macro", "max"), ("neg_log_loss", "max"),
    ("eval_loss", "min"), ("testMAE", "min"), ("r2", "max"),
])  # fmt: skip
def test_directions_are_inferred(metric: str, direction: str) -> None:
    assert direction_of(metric) == direction


def test_seeds_named_are_paired_and_missing_ones_are_said() -> None:
    a = dict(enumerate(A))
    b = {str(seed): value + 0.03 for seed, value in a.items() if seed != 2} | {9: 0.84}
    c = dls.compare({"A": a, "B": b}, metric="accuracy")
    assert c.pairing == "seed" and c.comparisons[0].n == 6
    assert c["A"].missing_seeds == (9,) and c["B"].missing_seeds == (2,)
    assert "DLS503" in {finding.code for finding in c.findings}


def test_pairing_finds_what_seeds_hide() -> None:
    hard = np.random.default_rng(1).normal(0, 0.1, 8)  # some seeds are much harder for both
    values = {"A": dict(enumerate(0.7 + hard)), "B": dict(enumerate(0.71 + hard + 0.001 * np.cos(np.arange(8))))}
    paired = dls.compare(values, metric="accuracy")
    apart = dls.compare({"A": values["A"], "B": {100 + s: v for s, v in values["B"].items()}}, metric="accuracy")
    assert paired.best == "B" and apart.pairing == "none" and apart.best is None


def test_every_pair_is_paired_by_its_own_seeds() -> None:
    hard = np.random.default_rng(4).normal(0, 0.1, 8)
    a, b = dict(enumerate(0.7 + hard)), dict(enumerate(0.71 + hard + 0.001 * np.cos(np.arange(8))))
    alone = dls.compare({"A": a, "B": b}, metric="accuracy").comparisons[0]
    c = dls.compare({"A": a, "B": b, "C": {100 + s: 0.6 + 0.01 * s for s in range(8)}}, metric="accuracy")
    pair, other = c.pair("B", "A"), c.pair("C", "A")
    assert pair is not None and other is not None and c.pairing == "seed"
    assert (pair.p_value, pair.low, pair.test) == (alone.p_value, alone.low, "paired permutation")
    assert pair.verdict == "better" and other.test == "permutation"
    assert other.difference == pytest.approx(c["C"].mean - c["A"].mean)
    notes = [finding.sentence for finding in c.findings if finding.code == "DLS508"]
    assert len(notes) == 1 and "C with A and C with B" in notes[0]


def test_generators_are_as_good_as_lists() -> None:
    several = {"A": A, "B": A[:5], "C": A[:6]}
    c = dls.compare({name: (value for value in values) for name, values in several.items()}, metric="accuracy")
    assert c == dls.compare(several, metric="accuracy") and c.pairing == "none" and c["B"].n == 5


def test_seeds_are_whole_numbers_only_where_nothing_is_lost() -> None:
    c = dls.compare({"A": {0.1: 0.8, 0.2: 0.81, 0.3: 0.79, 4.0: 0.8, "5": 0.8, "06": 0.8}}, metric="accuracy")
    assert c["A"].seeds == ("0.1", "0.2", "0.3", 4, 5, "06") and c["A"].n == 6


@pytest.mark.parametrize(("margin", "level"), [(np.float32(0.01), 0.95), (1, np.float64(0.9)), (np.int64(1), 0.95)])
def test_numbers_of_any_kind_are_options(margin: float, level: float) -> None:
    c = dls.compare({"A": A, "B": A}, metric="accuracy", margin=margin, level=level)
    assert c.margin == pytest.approx(float(margin)) and type(c.margin) is float and type(c.level) is float


def test_different_lengths_are_compared_unpaired() -> None:
    c = dls.compare({"A": A, "B": A[:5]}, metric="accuracy")
    assert c.pairing == "none" and c.comparisons[0].test == "permutation" and c.comparisons[0].n_reference == 7
    assert any("different numbers of values" in finding.sentence for finding in c.findings)


def test_what_is_not_finite_is_left_out_and_named() -> None:
    c = dls.compare({"A": [0.8, math.nan, 0.81, 0.82], "B": [0.8, 0.79, math.inf, 0.82]}, metric="accuracy")
    assert c.left_out == (("A, seed 1", "NaN"), ("B, seed 2", "infinite"))
    assert c["A"].n == 3 and c.comparisons[0].n == 2 and c["A"].missing_seeds == (1,)
    assert "DLS504" in {finding.code for finding in c.findings}


def test_one_seed_each_is_not_enough() -> None:
    c = dls.compare({"A": [0.8], "B": [0.9]}, metric="accuracy")
    assert c.comparisons[0].verdict == "not enough data" and c.best is None
    assert "DLS505" in {finding.code for finding in c.findings} and "1 more seed of each" in c.comparisons[0].sentence


def test_a_variant_without_values_stays_in_the_table() -> None:
    c = dls.compare({"A": [], "B": A}, metric="accuracy")
    assert c["A"].n == 0 and math.isnan(c["A"].mean) and c.comparisons[0].verdict == "not enough data"
    assert "cannot be compared" in c.comparisons[0].sentence and c.recommend().variant == "B"


def test_one_variant_has_nothing_to_be_compared_with() -> None:
    c = dls.compare({"A": A}, metric="accuracy")
    assert len(c.pairs) == 0 and list(c.pairs.columns[:10]) == COLUMNS and c.best is None
    assert any("nothing to compare" in finding.sentence for finding in c.findings)


def test_how_many_more_seeds_are_needed_is_said() -> None:
    c = dls.compare({"A": A[:3], "B": [0.82, 0.78, 0.83]}, metric="accuracy", margin=0.01)
    pair = c.comparisons[0]
    assert pair.verdict == "not enough data" and pair.n_needed is not None
    assert f"About {pair.n_needed - 3} more seeds of each" in pair.sentence


def test_of_very_many_variants_the_best_is_compared_with_all() -> None:
    rng = np.random.default_rng(2)
    values = {f"v{k}": rng.normal(0.8, 0.01, 5) for k in range(60)}
    values["good"] = rng.normal(0.9, 0.001, 5)
    c = dls.compare(values, metric="accuracy")
    assert len(c.comparisons) == 60 and {pair.reference for pair in c.comparisons} == {"good"}
    pair = min(c.comparisons, key=lambda pair: pair.p_value)
    assert pair.p_adjusted == pytest.approx(min(1.0, pair.p_value * 61 * 60 / 2))


def test_equal_variants_are_rarely_told_apart_through_the_whole_door() -> None:
    rng = np.random.default_rng(3)
    shown = 0
    for _ in range(300):
        c = dls.compare({name: rng.normal(size=5) for name in "ABCD"}, metric="accuracy")
        shown += any(pair.verdict in ("better", "worse") for pair in c.comparisons)
    assert shown / 300 <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / 300)


@pytest.mark.parametrize(("what", "options", "complaint"), [
    ({}, {}, "empty mapping"),
    ({"A": "abc"}, {}, "'abc'"),
    ({"A": ["x"], "B": [1]}, {}, "'x'"),
    ({"A": [True], "B": [1]}, {}, "True"),
    ({"A": [[1, 2], [3, 4]]}, {}, "y_true"),
    ({"A": 3, "B": [1]}, {}, "by seed"),
    ({"A": {0: 1}, "B": [1]}, {}, "mixed"),
    ({1: [1], "1": [2]}, {}, "names of their own"),
    ({"A": A, "B": A}, {"margin": -0.1}, "margin above 0"),
    ({"A": A, "B": A}, {"margin": math.nan}, "margin above 0"),
    ({"A": A, "B": A}, {"level": 95}, "between 0 and 1"),
    ({"A": A, "B": A}, {"metric": "foo"}, 'direction="max"'),
    ({"A": A, "B": A}, {"metric": "foo", "direction": "mxa"}, "'max'"),
    ({"A": A, "Best": A}, {"reference": "Bets", "metric": "auc"}, "'Best'"),
    ({"A": A}, {"value": "lats"}, "'last'"),
    ({"A": A}, {"level": "0.95"}, "between 0 and 1"),
    ({"A": A}, {"margin": "0.1"}, "margin above 0"),
    ({"A": A}, {"by": ["lr", "depth"]}, "one setting or tag"),
    ({"A": {1: 0.8, "1": 0.9}}, {}, "seeds of 'A' that differ"),
    ({"A": pd.Series([0.8, 0.9], index=[3, 3]), "B": A}, {}, "seeds of 'A' that differ"),
    ({"A": pd.Series([0.8, 0.9], index=[3, 4]), "B": A}, {}, "mixed"),
    ({"A": np.array([0.8 + 1j, 0.9])}, {}, "numbers as the values of 'A'"),
    ({"A": torch.tensor([0.8 + 1j, 0.9])}, {}, "numbers as the values of 'A'"),
    ({"A": [0.8, 0.9 + 0j]}, {}, "numbers as the values of 'A'"),
    ({"A": np.array([True, False])}, {}, "numbers as the values of 'A'"),
    ({"A": torch.ones(3, 2)}, {}, "y_true"),
    ({"A": A}, {"metric": max}, "y_true"),
    (3, {}, "MLflow ids"),
    ([3], {}, "MLflow ids"),
])  # fmt: skip
def test_what_cannot_be_compared_is_refused(what: object, options: dict, complaint: str) -> None:
    with pytest.raises(DLStudioError, match=complaint):
        dls.compare(what, **options)


def test_seeds_that_share_an_effect_do_not_hide_a_difference() -> None:
    c = dls.compare({"A": [10, 50, 90], "B": [12.1, 52, 91.9]}, metric="accuracy")
    pair = c.comparisons[0]
    assert pair.p_value == pytest.approx(scipy.stats.ttest_rel([10, 50, 90], [12.1, 52, 91.9]).pvalue)
    assert pair.verdict == "better" and "taken to scatter" not in pair.sentence


def test_equal_differences_are_taken_to_scatter_and_it_is_said() -> None:
    c = dls.compare({"A": [0.80, 0.82, 0.85], "B": [0.81, 0.83, 0.86]}, metric="accuracy")
    assert c.comparisons[0].p_value > 0.05 and "taken to scatter by 0.01" in c.comparisons[0].sentence
    a = [0.80, 0.82, 0.85, 0.81, 0.83, 0.86]
    exact = dls.compare({"A": a, "B": [value + 0.01 for value in a]}, metric="accuracy").comparisons[0]
    assert exact.test == "paired permutation" and exact.p_value == pytest.approx(2 / 2**6)
    assert "taken to scatter" not in exact.sentence


def test_only_pairs_that_can_be_tested_are_adjusted_for() -> None:
    values = {"A": [0.80, 0.81, 0.79], "B": [0.83, 0.85, 0.82], "C": [0.9], "D": [0.91]}
    c = dls.compare(values, metric="accuracy")
    pair = c.pair("B", "A")
    assert pair is not None and pair.p_adjusted == pair.p_value
    assert not any("adjusted" in one.sentence or "alone" in one.sentence for one in c.comparisons)


def test_an_interval_beside_an_adjusted_p_is_of_its_pair_alone(three: Comparison) -> None:
    assert all("95 % interval of this pair alone" in pair.sentence for pair in three.comparisons)
    two = dls.compare({"A": A, "B": [value + 0.001 * k for k, value in enumerate(A)]}, metric="auc")
    assert "95 % interval +" in two.comparisons[0].sentence.replace("-", "+")


def test_values_that_do_not_vary_with_the_seed_ask_for_no_more_seeds() -> None:
    for other in (0.85, 0.8):
        pair = dls.compare({"A": [0.8] * 3, "B": [other] * 3}, metric="accuracy").comparisons[0]
        assert pair.verdict == "not enough data" and "neither vary with the seed" in pair.sentence
        assert "more seeds of each" not in pair.sentence
    pair = dls.compare({"A": [0.8] * 3, "B": [0.81, 0.8, 0.82]}, metric="accuracy").comparisons[0]
    assert "neither vary" not in pair.sentence


def test_the_index_of_a_series_names_its_seeds() -> None:
    a, b = pd.Series(A), pd.Series([value + 0.03 + 0.001 * k for k, value in enumerate(A)])
    expected = dls.compare({"A": dict(a), "B": dict(b)}, metric="accuracy")
    for moved in (b.sample(frac=1, random_state=0), b.iloc[::-1]):
        c = dls.compare({"A": a, "B": moved}, metric="accuracy")
        (pair,), (other,) = c.comparisons, expected.comparisons
        assert c.pairing == "seed" and pair.difference == pytest.approx(other.difference)
        assert (pair.low, pair.high, pair.p_value) == pytest.approx((other.low, other.high, other.p_value))
        assert any("index of each Series was taken for the seeds" in finding.sentence for finding in c.findings)
    few = dls.compare({"A": a.set_axis(list("abcdefg")), "B": {"a": 0.9, "g": 0.95}}, metric="accuracy")
    assert few["B"].missing_seeds == ("b", "c", "d", "e", "f") and few.comparisons[0].n == 2
    beside = dls.compare({"A": a, "B": {6: 0.9, 0: 0.95}}, metric="accuracy")
    assert beside.comparisons[0].difference == pytest.approx((0.9 - A[6] + 0.95 - A[0]) / 2)


def test_series_that_only_count_are_compared_by_place() -> None:
    c = dls.compare({"A": pd.Series(A), "B": np.array(A) + 0.03}, metric="accuracy")
    assert c["A"].seeds == tuple(range(7)) and any("place by place" in finding.sentence for finding in c.findings)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_tensors_of_any_precision_and_graph_are_values(dtype: torch.dtype) -> None:
    values = torch.tensor(A, dtype=dtype).requires_grad_()
    expected = tuple(values.detach().double().tolist())
    for given in (values, list(values), dict(enumerate(values))):
        assert dls.compare({"A": given}, metric="accuracy")["A"].values == expected


def test_values_that_were_left_out_are_not_called_runs() -> None:
    c = dls.compare({"A": [0.8, math.nan, math.inf], "B": [0.8, 0.7, 0.9]}, metric="accuracy")
    (said,) = [finding.sentence for finding in c.findings if finding.code == "DLS504"]
    assert said.startswith("2 values were left out")
