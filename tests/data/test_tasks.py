"""The task of predictions follows from their values, for every verb alike."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from dlstudio.data.tasks import task_of
from dlstudio.errors import DLStudioError
from dlstudio.fairness.audit import audit_fairness
from dlstudio.trust.evaluation import evaluate

GENERATOR = np.random.default_rng(0)
N = 200
TWO, FIVE = np.arange(N) % 2, np.arange(N) % 5
CASES = {
    "classes": (FIVE, FIVE[::-1], None, "multiclass"),
    "classes that a missing value made floats": (
        np.where(np.arange(N) == 3, np.nan, FIVE), FIVE[::-1], None, "multiclass"
    ),
    "two classes as floats": (TWO.astype(float), 1 - TWO, None, "binary"),
    "booleans": (TWO == 1, TWO == 0, None, "binary"),
    "quantities": (FIVE + 0.5, FIVE[::-1] * 1.0, None, "regression"),
    "whole quantities, predicted with fractions": (FIVE, FIVE + 0.25, None, "regression"),
    "an infinite quantity": (np.where(np.arange(N) == 3, np.inf, FIVE + 0.5), FIVE[::-1] * 1.0, None, "regression"),
    "scores of two classes": (TWO, TWO, np.linspace(0, 1, N), "binary"),
    "two columns of scores": (TWO, TWO, np.stack([np.linspace(0, 1, N), np.linspace(1, 0, N)], axis=1), "binary"),
    "scores of five classes": (FIVE, FIVE, GENERATOR.dirichlet(np.ones(5), N), "multiclass"),
    "scores of five classes, two of which there are": (TWO, TWO, GENERATOR.dirichlet(np.ones(5), N), "multiclass"),
}  # fmt: skip


@pytest.mark.parametrize("case", [name for name in CASES if "two of which" not in name])
def test_audit_and_evaluation_judge_alike(case: str) -> None:
    y_true, y_pred, y_score, task = CASES[case]
    audit = audit_fairness(
        y_true, y_pred, y_score=y_score, sensitive_features={"half": np.arange(N) % 3 == 0}, n_resamples=100
    )
    evaluation = evaluate(y_true, y_pred, y_score=y_score, n_resamples=100)
    assert audit.task == evaluation.task == task
    assert sum(audit.dropped.values()) == evaluation.n_dropped == int(not np.isfinite(y_true * 1.0).all())


def test_columns_of_scores_count_where_a_class_has_no_row() -> None:
    y_true, y_pred, y_score, task = CASES["scores of five classes, two of which there are"]
    assert task_of(y_true, y_pred, y_score) == evaluate(y_true, y_pred, y_score, n_resamples=100).task == task


@pytest.mark.parametrize("task", [None, "binary"])
@pytest.mark.parametrize("kind", [int, float])
def test_probabilities_as_predictions_are_refused_and_told_where_they_belong(kind: Any, task: str | None) -> None:
    y, wrong = TWO.astype(kind), np.where(TWO == 1, 0.7, 0.3)
    for verb in (
        lambda: evaluate(y, wrong, task=task),
        lambda: audit_fairness(y, wrong, task=task, sensitive_features={"half": FIVE > 2}),
    ):
        with pytest.raises(DLStudioError, match="labels in y_pred.*as y_score=.*task='regression'"):
            verb()


def test_a_task_that_is_said_is_not_judged() -> None:
    assert task_of(TWO, TWO + 0.5, task="regression") == "regression"
    assert audit_fairness(FIVE, TWO, task="regression", sensitive_features={"half": TWO}).task == "regression"
    assert evaluate(FIVE, TWO, task="regression").task == "regression"
    assert evaluate(TWO, TWO, task="multiclass", n_resamples=100).task == "multiclass"
    for verb in (evaluate, lambda *given, **task: audit_fairness(*given, **task, sensitive_features={"half": TWO})):
        with pytest.raises(DLStudioError, match="Did you mean 'binary'"):
            verb(TWO, TWO, task="binray")


def test_scores_are_of_classes() -> None:
    with pytest.raises(DLStudioError, match="labels in y_true.*leave y_score out"):
        task_of(TWO + 0.5, TWO, TWO * 0.5)


def test_a_class_below_zero_is_no_quantity() -> None:
    sides = 2 * TWO - 1
    with pytest.raises(DLStudioError, match="class indices 0, 1, … in y_true"):
        evaluate(sides, sides)
    audit = audit_fairness(sides, sides, positive=1, sensitive_features={"half": FIVE > 2})
    assert audit.task == "binary" and audit.positive == "1"
