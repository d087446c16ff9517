"""Pareto fronts against the definition, tried on every pair."""

from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dlstudio import results
from dlstudio.compare.compare import compare
from dlstudio.compare.fronts import front_of, pareto
from dlstudio.errors import DLStudioError


def dominates(a, b):
    return bool(np.all(a <= b) and np.any(a < b))


@settings(max_examples=150, deadline=None)
@given(
    n=st.integers(1, 60), d=st.sampled_from([2, 3]), levels=st.sampled_from([2, 4, 1000]), seed=st.integers(0, 10**6),
    signs=st.lists(st.sampled_from(["min", "max"]), min_size=3, max_size=3),
)  # fmt: skip
def test_the_front_is_what_no_other_point_dominates(n, d, levels, seed, signs):
    values = np.random.default_rng(seed).integers(0, levels, (n, d)).astype(float)  # few levels: many ties and equals
    costs = values * [{"min": 1, "max": -1}[sign] for sign in signs[:d]]
    on_front, dominator = front_of(values, signs[:d])
    expected = [not any(dominates(other, own) for other in costs) for own in costs]
    assert on_front.tolist() == expected
    for row, by in enumerate(dominator):
        assert (by == -1) if on_front[row] else (on_front[by] and dominates(costs[by], costs[row]))


@pytest.mark.parametrize("d", [2, 3])
def test_ten_thousand_points_give_what_a_scan_gives(d):
    values = np.random.default_rng(1).random((10_000, d))
    on_front, dominator = front_of(values, ["min"] * d)
    front = values[on_front]
    scanned = ~np.array([np.any((front <= own).all(axis=1) & (front < own).any(axis=1)) for own in values])
    assert scanned.tolist() == on_front.tolist()
    assert (values[dominator[~on_front]] <= values[~on_front]).all()


def test_a_frame_with_what_is_missing_and_what_is_not_finite():
    frame = pd.DataFrame(
        {"name": list("abcdef"), "auc": [0.9, 0.8, 0.7, np.nan, 0.95, 0.9], "ms": [5.0, 1.0, 2.0, 1.0, np.inf, 5.0]}
    )
    front = pareto(frame, {"auc": "max", "ms": "min"})
    assert front.members == ("a", "f", "b")  # a and f are equal: neither beats the other
    assert front.frame().set_index("name")["dominated_by"].to_dict() == {"a": None, "f": None, "b": None, "c": "b"}
    assert front.left_out == (("d", "no auc"), ("e", "ms is inf"))
    assert len(front) == 3 and "3 of 4" in front.summary[0] and "2 left out" in front.summary[1]


def test_rows_are_averaged_by_a_column_and_named_by_the_index_without_one():
    frame = pd.DataFrame({"v": ["x", "x", "y", "z"], "a": [1.0, 3.0, 2.5, np.nan], "b": [2.0, 2.0, 1.0, 0.0]})
    front = pareto(frame, {"a": "max", "b": "min"}, by="v")
    assert front.members == ("y",) and front.values.tolist() == [[2.0, 2.0], [2.5, 1.0]]
    assert front.n_averaged.tolist() == [2, 1] and front.left_out == (("z", "no a"),)
    assert pareto(frame, {"a": "max", "b": "min"}).names == ("0", "1", "2")


def test_objectives_may_be_numbers_as_text_as_mlflow_has_them():
    frame = pd.DataFrame({"depth": ["3", "5", "none"], "auc": [0.7, 0.8, 0.9]}, index=["p", "q", "r"])
    assert pareto(frame, {"depth": "min", "auc": "max"}).members == ("p", "q")


def test_a_comparison_is_compared_by_its_variants():
    c = compare({"A": [0.7, 0.9], "B": [0.75]}, metric="val/auc")
    records = tuple(
        {**record, "key": f"k{k}", "metrics": {"val/auc": record["value"]}, "measures": {"latency_ms": ms}}
        for k, (record, ms) in enumerate(zip(c.run_records, (2.0, 4.0, 5.0), strict=True), start=1)
    )
    c = dataclasses.replace(c, run_records=records)
    objectives = {"val/auc": "max", "latency_ms": "min"}
    front = pareto(c, objectives)
    assert front.names == ("A", "B") and front.members == ("A",)
    assert front.values.tolist() == [[0.8, 3.0], [0.75, 5.0]]
    assert pareto(c, objectives, by="key").members == ("k2", "k1")


def test_what_a_comparison_left_out_is_on_no_front():
    c = compare({"A": [0.7, 0.9], "B": [0.75, 0.75]}, metric="val/auc")
    records = [
        {**record, "name": f"{record['variant']}{k}", "metrics": {"val/auc": auc}, "measures": {"latency_ms": ms},
         "value": value}
        for k, (record, auc, ms, value) in enumerate(zip(
            c.run_records, (0.7, 0.9, 0.99, 0.99), (2.0, 4.0, 0.1, 0.1), (0.7, 0.9, np.nan, np.nan), strict=True
        ))
    ]  # fmt: skip
    c = dataclasses.replace(c, run_records=tuple(records), left_out=(("B2", "failed"), ("B3", "failed")))
    objectives = {"val/auc": "max", "latency_ms": "min"}
    assert pareto(c, objectives).members == ("A",) and pareto(c, objectives).left_out == (("B", "failed"),)
    assert pareto(c, objectives, by="name").members == ("A1", "A0")
    records[3]["value"] = 0.99  # one of the two counts: the other does not weigh in
    records[2]["metrics"] = {"val/auc": 0.1}
    front = pareto(dataclasses.replace(c, run_records=tuple(records)), objectives)
    assert front.members == ("B",) and front.values[list(front.names).index("B")].tolist() == [0.99, 0.1]


def test_it_survives_a_round_trip(tmp_path):
    front = pareto(pd.DataFrame({"a": [1.0, 2.0], "b": [1.0, 3.0]}), {"a": "min", "b": "max"})
    assert results.load(results.save(front, tmp_path, "front")) == front


@pytest.mark.parametrize(
    ("objectives", "words"),
    [
        ({"a": "min"}, "two or three"),
        ({"a": "min", "b": "up"}, "direction"),
        (["a", "b"], "a mapping of name"),
        ({"a": "min", "bb": "max"}, "'b'"),
        ({"a": "min", "empty": "max"}, "every objective"),
    ],
)
def test_what_cannot_be_done_is_said(objectives, words):
    frame = pd.DataFrame({"a": [1.0, 2.0], "b": [1.0, 3.0], "empty": [np.nan, np.nan]})
    with pytest.raises(DLStudioError, match=words):
        pareto(frame, objectives)
