from __future__ import annotations

import numpy as np
import pytest
import torch

from dlstudio.data.encode import encode_columns
from dlstudio.data.text import encode_texts
from dlstudio.errors import DLStudioError

NAN = float("nan")


def test_numbers_are_standardised_on_the_training_rows() -> None:
    rng = np.random.default_rng(0)
    columns = {"a": rng.normal(50, 9, 500), "b": rng.exponential(3, 500)}
    train = np.arange(300)
    encoded = encode_columns(columns, train)
    part = encoded.inputs[train].double()
    torch.testing.assert_close(part.mean(dim=0), torch.zeros(2, dtype=torch.float64), atol=1e-6, rtol=0)
    torch.testing.assert_close(part.std(dim=0, correction=0), torch.ones(2, dtype=torch.float64), atol=1e-6, rtol=0)
    assert encoded.inputs[300:, 0].mean().abs() > 1e-4
    assert encoded.names == encoded.columns == ("a", "b")


def test_other_rows_do_not_reach_the_training_rows() -> None:
    rng = np.random.default_rng(1)
    train = np.arange(100)
    number = rng.normal(size=150)
    number[::7] = NAN
    category = rng.choice(["x", "y", "z"], 150).astype(object)
    changed_number, changed_category = number.copy(), category.copy()
    changed_number[100:] = 1e6
    changed_category[100:] = "never seen in training"
    one = encode_columns({"n": number, "c": category}, train, impute=True)
    other = encode_columns({"n": changed_number, "c": changed_category}, train, impute=True)
    assert one.names == other.names == ("n", "n=missing", "c=x", "c=y", "c=z")
    assert torch.equal(one.inputs[train], other.inputs[train])
    assert (other.inputs[100:, 2:] == 0).all()


def test_missing_numbers_become_the_training_median() -> None:
    column = np.array([1.0, 2.0, 9.0, NAN, 100.0, NAN])
    encoded = encode_columns({"a": column}, np.arange(4), impute=True)
    # Training rows: 1, 2, 9 and the median 2 in place of the gap.
    filled = np.array([1, 2, 9, 2, 100, 2])
    expected = (filled - filled[:4].mean()) / filled[:4].std()
    np.testing.assert_allclose(encoded.inputs[:, 0].numpy(), expected, rtol=1e-6)
    assert encoded.inputs[:, 1].tolist() == [0, 0, 0, 1, 0, 1]
    assert encoded.columns == ("a", "a")


def test_few_missing_values_get_no_indicator() -> None:
    column = np.arange(1000.0)
    column[3] = NAN
    assert encode_columns({"a": column}, np.arange(900), impute=True).names == ("a",)


def test_codes_and_strings_become_one_column_a_category() -> None:
    columns = {"code": np.array([3.0, 1.0, NAN, 3.0]), "word": np.array(["b", None, "a", "b"], dtype=object)}
    encoded = encode_columns(columns, np.arange(4), categorical=("code",), impute=True)
    assert encoded.names == ("code=1", "code=3", "code=missing", "word=a", "word=b", "word=missing")
    assert encoded.columns == ("code",) * 3 + ("word",) * 3
    assert encoded.inputs.tolist() == [
        [0, 1, 0, 0, 1, 0],
        [1, 0, 0, 0, 0, 1],
        [0, 0, 1, 1, 0, 0],
        [0, 1, 0, 0, 1, 0],
    ]


def test_a_constant_column_is_zero_and_not_nan() -> None:
    encoded = encode_columns({"a": np.full(10, 0.1)}, np.arange(8))
    assert encoded.inputs.abs().max() < 1e-6


def test_missing_values_are_counted_by_column() -> None:
    columns = {
        "a": np.array([1.0, NAN, NAN]),
        "b": np.array([1.0, 2.0, 3.0]),
        "c": np.array(["x", None, "y"], dtype=object),
    }
    with pytest.raises(DLStudioError, match=r"'a' \(2\), 'c' \(1\) of 3 rows"):
        encode_columns(columns, np.arange(3))
    with pytest.raises(DLStudioError, match=r"infinite values in 'b' \(1\)"):
        encode_columns({"b": np.array([1.0, np.inf])}, np.arange(2), impute=True)


def test_an_identifier_is_no_category() -> None:
    with pytest.raises(DLStudioError, match="300 in 'id'"):
        encode_columns({"id": np.array([f"user {i}" for i in range(300)], dtype=object)}, np.arange(200))


def test_texts_become_padded_tokens_of_training_words() -> None:
    texts = ["Good, good shoes!", "bad shoes", "", "unseen shoes good", "don't"]
    tokens, vocabulary = encode_texts(texts, np.array([0, 1]), length=4, min_count=1)
    assert vocabulary == ("<padding>", "<unknown>", "good", "shoes", "bad")
    assert tokens.dtype == torch.int64
    assert tokens.tolist() == [[2, 2, 3, 0], [4, 3, 0, 0], [1, 0, 0, 0], [1, 3, 2, 0], [1, 0, 0, 0]]


def test_the_vocabulary_keeps_frequent_words_and_cuts_long_texts() -> None:
    tokens, vocabulary = encode_texts(["a a b b b c"] * 2, np.array([0, 1]), length=3, max_words=2)
    assert vocabulary == ("<padding>", "<unknown>", "b", "a")
    assert tokens.tolist() == [[3, 3, 2]] * 2
