"""What audits and assessments share: the same rows have the same numbers, and rows of a cluster may be alike."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.stats import norm

from dlstudio import scoring
from dlstudio.fairness.audit import audit_fairness
from dlstudio.trust.calibration import assess_calibration
from dlstudio.trust.evaluation import evaluate


@pytest.mark.parametrize("clustered", [False, True])
def test_audit_evaluation_and_calibration_say_the_same_of_the_same_rows(clustered: bool) -> None:
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, 500)
    score = norm.cdf(rng.normal(size=500) + y - 0.5) ** 1.3
    group, who = np.array(["a", "b"])[rng.integers(0, 2, 500)], rng.integers(0, 80, 500) if clustered else None
    audit = audit_fairness(y, score >= 0.5, y_score=score, sensitive_features=group, clusters=who, min_denominator=5)
    table = audit.by_group.set_index(["group", "metric"])[["value", "low", "high"]]
    errors = assess_calibration(y, score, groups=group, clusters=who, fix=()).errors.set_index("group")
    for audited, assessed in (("overall", "all"), ("a", "a"), ("b", "b")):
        assert tuple(table.loc[(audited, "calibration_error")]) == pytest.approx(
            tuple(errors.loc[assessed, ["ece", "low", "high"]]), rel=1e-12
        )
        chosen = np.ones(500, dtype=bool) if assessed == "all" else group == assessed
        own = None if who is None else who[chosen]
        found = evaluate(y[chosen], y_score=score[chosen], clusters=own)
        assert tuple(table.loc[(audited, "auc")]) == pytest.approx(found.metric("auc"), rel=1e-12)
        if not clustered:
            for name in ("f1", "balanced_accuracy", "accuracy"):
                assert tuple(table.loc[(audited, name)]) == pytest.approx(found.metric(name), rel=1e-12), name


def test_rows_of_one_class_have_no_area() -> None:
    assert np.isnan(scoring.auc(np.ones(4, dtype=bool), np.arange(4.0), 0.95)).all()


def test_clusters_of_single_rows_change_next_to_nothing() -> None:
    rng = np.random.default_rng(1)
    y = rng.random(300) < 0.4
    score = rng.random(300) + 0.3 * y
    alone, together = scoring.auc(y, score, 0.95), scoring.auc(y, score, 0.95, np.arange(300))
    assert together[0] == alone[0] and together[2] - together[1] == pytest.approx(alone[2] - alone[1], rel=0.01)
    bins = scoring.calibration_bins(y, np.clip(score, 0, 1))
    ends = [
        scoring.error_interval(bins, y, np.clip(score, 0, 1), 0.95, 2000, 0, clusters)
        for clusters in (None, np.arange(300))
    ]
    assert ends[0] == pytest.approx(ends[1], abs=0.015)


def test_the_order_and_the_names_of_clusters_do_not_matter() -> None:
    rng = np.random.default_rng(2)
    y, score, who = rng.random(200) < 0.5, rng.random(200), rng.integers(0, 20, 200)
    names = rng.permutation(20) * 7 - 30
    assert scoring.auc(y, score, 0.95, who) == pytest.approx(scoring.auc(y, score, 0.95, names[who]), rel=1e-12)


def test_intervals_of_the_error_of_clusters_cover_it() -> None:
    """People with a tendency of their own, over which scores are right on average, or off by a twentieth."""
    rng = np.random.default_rng(3)
    for off in (0.0, 0.1):
        covered = alone = 0
        for seed in range(150):
            who = np.repeat(np.arange(60), 8)
            score = rng.uniform(0.2, 0.8, len(who))
            y = rng.random(len(who)) < score + off + rng.choice([-0.1, 0.1], 60)[who]
            bins = scoring.calibration_bins(y, score, 5)
            low, high = scoring.error_interval(bins, y, score, 0.95, 200, seed, who)
            covered += low <= off <= high
            low, high = scoring.error_interval(bins, y, score, 0.95, 200, seed)
            alone += low <= off <= high
        assert covered / 150 >= 0.95 - 0.04, off  # a little over two standard errors
        assert covered >= alone


def alike(n_clusters: int, times: int, generator: np.random.Generator, off: float = 0.0) -> tuple[Any, Any, Any]:
    """Rows of people with one score each, whose outcomes are alike (a copula of 0.5), and `off` too often 1."""
    score = 0.1 + 0.7 * np.repeat(generator.beta(2, 2, n_clusters), times)
    own, shared = generator.normal(size=n_clusters * times), np.repeat(generator.normal(size=n_clusters), times)
    y = norm.cdf(np.sqrt(0.5) * (own + shared)) < score + off
    return y.astype(int), score, np.repeat(np.arange(n_clusters), times)


@pytest.mark.parametrize(("n_clusters", "times"), [(20, 10), (40, 5), (100, 5)])
def test_right_scores_that_a_person_has_for_all_rows_are_not_called_off(n_clusters: int, times: int) -> None:
    generator = np.random.default_rng(4)
    above = 0
    for seed in range(200):
        y, score, who = alike(n_clusters, times, generator)
        low, _ = scoring.error_interval(scoring.calibration_bins(y, score), y, score, 0.95, 200, seed, who)
        above += low > 0
    assert above / 200 <= 0.025 + 0.022  # two standard errors


def test_an_error_of_scores_that_a_person_has_for_all_rows_is_found_and_covered() -> None:
    generator = np.random.default_rng(5)
    ends = []
    for seed in range(200):
        y, score, who = alike(100, 5, generator, off=0.2)
        ends.append(scoring.error_interval(scoring.calibration_bins(y, score), y, score, 0.95, 200, seed, who))
    low, high = np.transpose(ends)
    assert (low > 0).mean() > 0.9
    assert (low <= 0.2).mean() >= 0.975 - 0.022 and (high >= 0.2).mean() >= 0.975 - 0.022  # two standard errors


def test_a_bin_for_each_cluster_tells_nothing() -> None:
    """Reversing all errors of any clusters leaves the calibration error as it is: chance explains it whole."""
    score, who = np.repeat([0.1, 0.3, 0.5, 0.7], 10), np.repeat(np.arange(4), 10)
    y = np.tile(np.repeat([1, 0], [9, 1]), 4)
    bins = scoring.calibration_bins(y, score)
    assert len(bins.n) == 4 and bins.ece == pytest.approx(0.5)
    low, high = scoring.error_interval(bins, y, score, 0.95, 200, 0, who)
    assert low == 0 and high > bins.ece


def test_intervals_and_p_values_of_clusters_do_not_contradict_each_other() -> None:
    generator = np.random.default_rng(6)
    several = False
    for seed, off in enumerate(np.repeat([0.0, 0.1, 0.2], 15)):
        y, score, who = alike(80, 5, generator, off)
        row = assess_calibration(y, score, clusters=who, fix=(), n_resamples=200, seed=seed).errors.iloc[0]
        assert row.low == 0 or row.p_value <= 0.06, (seed, row.low, row.p_value)  # both are drawn
        several |= row.low > 0
    assert several
