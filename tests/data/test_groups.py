"""Names of groups: they follow from the value alone, and different values never share one by accident."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from dlstudio.data.groups import AND, coded, columns_of, group_names, name_of, written
from dlstudio.errors import DLStudioError


@pytest.mark.parametrize(
    ("value", "name"),
    [
        (1, "1"), (1.0, "1"), (np.float32(1), "1"), (np.int8(1), "1"), ("1", "1"), (-0.0, "0"), (True, "True"),
        (np.bool_(True), "True"), (0.1, "0.1"), (np.float32(0.1), "0.1"), (1234567.0, "1234567"),
        (1e20, "1" + 20 * "0"), (1234567.5, "1234567.5"), (np.inf, "inf"), (1e300, "1e+300"),
        ("missing", "missing (group)"), ("missing (group)", "missing (group) (group)"), ("overall", "overall (group)"),
        ("Missing", "Missing"), ("", "''"), ("''", "''''"), ("  ", "'  '"), ("a × b", "a x b"),
        ("3×4", "3×4"), ("a ×", "a x"), ("nan", "nan"), ("a\0", "a\\0"), (pd.Interval(0, 2), "(0, 2]"),
    ],
)  # fmt: skip
def test_a_name_follows_from_the_value(value: Any, name: str) -> None:
    assert name_of(value) == name


@pytest.mark.parametrize(
    ("column", "names"),
    [
        (["m", None, "f", np.nan], ("f", "m", "missing")),
        (["missing", None], ("missing (group)", "missing")),
        ([1, 1.0, "1", True, None], ("1", "True", "missing")),
        ([10, 9, None], ("9", "10", "missing")),
        (np.array([1.0, np.nan, 0.0]), ("0", "1", "missing")),
        (np.array([1234567.0, 1234568.0]), ("1234567", "1234568")),
        (np.array([True, False]), ("False", "True")),
        (pd.array([3, None, 1]), ("1", "3", "missing")),
        (pd.Categorical(["low", "high", None], ["low", "mid", "high"]), ("low", "high", "missing")),
        (pd.Series(["b", "a", None], dtype="string"), ("a", "b", "missing")),
        ([None, None], ("missing",)),
        ([], ()),
    ],
)
def test_groups_are_sorted_and_the_missing_come_last(column: Any, names: tuple[str, ...]) -> None:
    codes, found = coded("c", column)
    assert found == names and codes.dtype == np.int32
    for value, code in zip(column, codes, strict=True):
        assert found[code] == ("missing" if pd.isna(value) else name_of(value))


def test_a_part_of_the_rows_has_the_names_of_the_whole() -> None:
    values = np.array([1, 1.0, True, "1", "missing", None, 0.1, "a × b", "", 1234567.0, 1234568], dtype=object)
    whole = group_names(values, len(values))[1]
    for row in range(len(values)):
        assert group_names(values[row : row + 1], 1)[1].tolist() == [whole[row]]
    assert len(set(whole.tolist())) == 9, "three are called 1"


def test_combinations_are_told_apart_whatever_their_values_hold() -> None:
    frame = {"a": ["x", "x ×", "x", None, "missing"], "b": ["× y", "y", "× y", "missing", None]}
    feature, names = group_names(frame, 5)
    assert feature == "a × b"
    assert names.tolist() == ["x × x y", "x x × y", "x × x y", "missing × missing (group)", "missing (group) × missing"]
    assert all(name.count(AND) == 1 for name in names)


def test_combinations_of_many_columns_are_those_of_the_rows() -> None:
    generator = np.random.default_rng(0)
    frame = pd.DataFrame({name: generator.choice(["p", "q"], 400) for name in "abcde"})
    names = group_names(frame, 400)[1]
    assert names.tolist() == [AND.join(row) for row in frame.itertuples(index=False)]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"id": range(51)}, r"at most 50 groups in 'id', but got 51 different values in 51 rows.*bins=\{'id': 5\}"),
        ({"id": [f"p{i}" for i in range(51)]}, "Join rare values"),
        ({"id": [None, *range(50)]}, "51 different values"),
        ({"a": np.arange(51) % 8, "b": np.arange(51) % 7}, "at most 50 groups in 'a × b'"),
        ({"a": ["x"]}, "51 values in 'a'"),
        (["a"], "no table to find them in"),
        (None, "one sensitive column or more"),
        ({"a × b": ["x"] * 51}, "column names without"),
        ({1: ["x"] * 51, "1": ["x"] * 51}, "unique"),
    ],
)
def test_columns_that_make_no_groups_are_refused_in_words(given: Any, said: str) -> None:
    with pytest.raises(DLStudioError, match=said):
        group_names(given, 51)


def test_columns_are_found_by_name_and_keep_their_values() -> None:
    frame = pd.DataFrame({"race": ["a", None], "sex": [1, 2]})
    assert list(columns_of(["sex", "race"], 2, frame)) == ["sex", "race"]
    assert columns_of(["a", float("nan")], 2)["sensitive_feature_0"].tolist()[0] == "a"
    assert group_names(["a", float("nan")], 2)[1].tolist() == ["a", "missing"], "NaN in a list is no text"
    with pytest.raises(DLStudioError, match="Did you mean 'race'"):
        columns_of("rac", 2, frame)


def test_numbers_are_written_in_the_digits_that_tell_them_apart() -> None:
    assert written([18, 30, 65.5]) == ["18", "30", "65.5"]
    assert written([1234567.0, 1234568.0]) == ["1234567", "1234568"]
    assert written([0.12345, 0.5], 3) == ["0.123", "0.5"]
    close = [1.0, np.nextafter(1.0, 2.0)]
    assert [float(text) for text in written(close)] == close
