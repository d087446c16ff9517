"""Costs weighed into an evaluation are those that `evaluate` would have weighed, and nothing else of it changes."""

from __future__ import annotations

import dataclasses
import re
from typing import Any

import numpy as np
import pytest

from dlstudio.errors import DLStudioError
from dlstudio.trust.evaluation import evaluate
from dlstudio.trust.evaluation_result import Evaluation
from dlstudio.trust.weighing import weigh, words_at

COSTS = {"false_positive": 5.0, "false_negative": 1.0}


@pytest.fixture(scope="module")
def rows() -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(0)
    score = generator.random(400)
    return (generator.random(400) < score).astype(int), score


@pytest.fixture(scope="module")
def plain(rows: tuple[np.ndarray, np.ndarray]) -> Evaluation:
    return evaluate(rows[0], y_score=rows[1], level=0.9, n_resamples=200, seed=3)


def but_time(result: Evaluation) -> Evaluation:
    return dataclasses.replace(result, wall_s=0.0)


def test_to_weigh_afterwards_is_to_have_weighed_before(rows: tuple[np.ndarray, np.ndarray], plain: Evaluation) -> None:
    before = evaluate(rows[0], y_score=rows[1], level=0.9, n_resamples=200, seed=3, costs=COSTS)
    assert but_time(weigh(plain, COSTS)) == but_time(before)
    assert before.cheapest is not None and before.cheapest.threshold > 0.7
    assert but_time(weigh(before, None)) == but_time(plain)


def test_what_is_not_weighed_stays(plain: Evaluation) -> None:
    folds = {"fold": np.arange(2), "n": np.array([200, 200]), "metric": np.array(["auc"] * 2), "value": np.ones(2)}
    means = {"metric": np.array(["auc"]), "value": np.ones(1), "low": np.ones(1), "high": np.ones(1),
             "n_folds": np.array([2])}  # fmt: skip
    crossed = dataclasses.replace(
        plain, tables={**plain.tables, "folds": folds, "cross_validation": means}, split="val"
    )
    weighed = weigh(crossed, COSTS)
    assert weighed.tables is crossed.tables and (weighed.level, weighed.split) == (0.9, "val")
    assert any(finding.code == "DLS327" for finding in weighed.findings)


@pytest.mark.parametrize("at", [0.0, 0.3, 0.85])
def test_words_at_a_threshold_are_its_counts_and_costs(
    rows: tuple[np.ndarray, np.ndarray], plain: Evaluation, at: float
) -> None:
    y, score = rows
    said = score >= at
    found, missed = int((said & (y == 1)).sum()), int((~said & (y == 1)).sum())
    false, left = int((said & (y == 0)).sum()), int((~said & (y == 0)).sum())
    first, second, *others = words_at(plain, at)
    assert f"{found} found, {missed} missed, {false} false alarms, {left} rightly left" in first
    assert f"{100 * ((found + left) / 400):.1f} % right (90 % interval " in second and others == []
    costs = re.match(r"A row costs ([\d.]+) on average \(90 % interval", words_at(weigh(plain, COSTS), at)[2])
    assert costs is not None and float(costs[1]) == pytest.approx((5 * false + missed) / 400, rel=6e-3)


@pytest.mark.parametrize(
    ("result", "costs", "words"),
    [
        ({}, {"false_positives": 1}, "'false_positive'"),
        ({}, {"false_positive": np.nan}, "cost of false_positive, a finite number"),
        ({"positive_scores": None}, COSTS, "classes without scores"),
        ({"task": "regression", "positive_scores": None}, COSTS, "regression"),
    ],
)
def test_costs_that_do_not_fit_are_told(
    plain: Evaluation, result: dict[str, Any], costs: dict[str, float], words: str
) -> None:
    with pytest.raises(DLStudioError, match=words):
        weigh(dataclasses.replace(plain, **result), costs)
