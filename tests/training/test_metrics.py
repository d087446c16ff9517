from __future__ import annotations

import math

import numpy as np
import pytest

from dlstudio.training.metrics import predictions, score

# Counted by hand: predicted 0 1 1 1 0 0, scores of class 1 rank two of the nine (0, 1) pairs wrongly.
Y = np.array([0, 0, 1, 1, 0, 1])
P1 = np.array([0.1, 0.6, 0.7, 0.8, 0.2, 0.4])
LOGITS = np.stack([np.log(1 - P1), np.log(P1)], axis=1)


def test_binary_by_hand() -> None:
    found = score("binary", Y, LOGITS)
    assert found["accuracy"] == pytest.approx(4 / 6)
    assert found["balanced_accuracy"] == pytest.approx((2 / 3 + 2 / 3) / 2)
    assert found["f1"] == pytest.approx(2 / 3)
    assert found["auc"] == pytest.approx(8 / 9)
    y_pred, y_score = predictions("binary", LOGITS)
    assert y_pred.tolist() == [0, 1, 1, 1, 0, 0]
    assert y_score[:, 1] == pytest.approx(P1) and y_score.sum(1) == pytest.approx(np.ones(6))


def test_multiclass_by_hand() -> None:
    y = np.array([0, 0, 1, 1, 2, 2])
    outputs = np.eye(3)[[0, 1, 1, 1, 2, 0]] * 4.0
    found = score("multiclass", y, outputs)
    assert found["accuracy"] == pytest.approx(4 / 6)
    assert found["balanced_accuracy"] == pytest.approx((0.5 + 1 + 0.5) / 3)
    # precision, recall: class 0 1/2, 1/2; class 1 2/3, 1; class 2 1, 1/2
    assert found["f1"] == pytest.approx((0.5 + 0.8 + 2 / 3) / 3)
    # class 0: positives 1, 0 scored against 0 0 0 1; class 1: 1, 1 against 0 1 0 0; class 2: 1, 0 against 0 0 0 0
    assert found["auc"] == pytest.approx((5 / 8 + 7 / 8 + 6 / 8) / 3)


def test_regression_by_hand() -> None:
    found = score("regression", np.array([1.0, 2.0, 3.0]), np.array([1.0, 2.0, 5.0]))
    assert found == pytest.approx({"mae": 2 / 3, "rmse": math.sqrt(4 / 3), "r2": 1 - 4 / 2})


@pytest.mark.parametrize("task", ["binary", "multiclass", "regression"])
def test_non_finite_outputs_give_nan(task: str) -> None:
    outputs = np.full((4,) if task == "regression" else (4, 3), np.nan)
    with np.errstate(all="ignore"):
        assert all(math.isnan(value) for value in score(task, np.array([0, 1, 1, 0]), outputs).values())


def test_a_part_with_one_class_has_no_auc() -> None:
    found = score("binary", np.zeros(6, int), LOGITS)
    assert math.isnan(found["auc"]) and found["accuracy"] == pytest.approx(0.5)


def test_large_logits_do_not_overflow() -> None:
    _, y_score = predictions("binary", np.array([[1e4, -1e4], [-1e4, 1e4]], dtype=np.float32))
    assert y_score.tolist() == [[1, 0], [0, 1]]
