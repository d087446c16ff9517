"""Evaluation against scikit-learn, closed forms and simulated models whose metrics are known."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from scipy.stats import norm
from sklearn import metrics

from dlstudio import results, stats
from dlstudio.data.dataset import Dataset
from dlstudio.errors import DLStudioError
from dlstudio.scoring import auc_parts
from dlstudio.training import folds as training_folds
from dlstudio.training import predicted
from dlstudio.training.fit import fit
from dlstudio.training.predicted import predictions_of
from dlstudio.training.recipe import Recipe
from dlstudio.trust.calibration import assess_calibration
from dlstudio.trust.curves import curve_points, steps_of
from dlstudio.trust.estimates import average_precision_parts, of_classes, of_scores, of_values
from dlstudio.trust.evaluation import estimates_of, evaluate
from dlstudio.trust.evaluation_result import Evaluation
from dlstudio.trust.folds import mean_over_folds
from dlstudio.trust.label_errors import find_label_errors
from dlstudio.trust.scored import Scored
from dlstudio.trust.weighing import words_at

Array = npt.NDArray[Any]

N_TIMES = 2000
COVERS = (0.93, 0.97)
"""What nominal 95 % intervals have to reach in 2,000 repetitions."""


def two_classes(n: int = 300, share: float = 0.6, apart: float = 1.5, seed: int = 0, digits: int = 3) -> Any:
    generator = np.random.default_rng(seed)
    y = (generator.random(n) < share).astype(int)
    return y, np.round(norm.cdf(generator.normal(size=n) + apart * (y - 0.5)), digits)


def many_classes(n: int = 400, k: int = 4, seed: int = 0) -> Any:
    generator = np.random.default_rng(seed)
    scores = generator.dirichlet(np.full(k, 0.5), n)
    y = (scores.cumsum(axis=1) < generator.random((n, 1))).sum(axis=1)
    return y, scores


def quick(*args: Any, **options: Any) -> Evaluation:
    return evaluate(*args, **{"n_resamples": 200, **options})


# -- values ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("digits", [1, 8])  # with ties and without
def test_two_classes_are_scikit_learns_values(digits: int) -> None:
    y, score = two_classes(digits=digits)
    said = (score >= 0.5).astype(int)
    result = quick(y, y_score=score)
    for name, value in {
        "accuracy": metrics.accuracy_score(y, said),
        "balanced_accuracy": metrics.balanced_accuracy_score(y, said),
        "precision": metrics.precision_score(y, said),
        "recall": metrics.recall_score(y, said),
        "specificity": metrics.recall_score(y, said, pos_label=0),
        "f1": metrics.f1_score(y, said),
        "auc": metrics.roc_auc_score(y, score),
        "average_precision": metrics.average_precision_score(y, score),
        "log_loss": metrics.log_loss(y, score),
        "brier": metrics.brier_score_loss(y, score),
    }.items():
        found, low, high = result.metric(name)
        assert found == pytest.approx(value, abs=1e-12), name
        assert low < found < high, name
    assert result.confusion is not None
    assert result.confusion.tolist() == metrics.confusion_matrix(y, said).tolist()


def test_more_classes_are_scikit_learns_values() -> None:
    y, scores = many_classes()
    said = scores.argmax(axis=1)
    result = quick(y, y_score=scores)
    for name, value in {
        "accuracy": metrics.accuracy_score(y, said),
        "balanced_accuracy": metrics.balanced_accuracy_score(y, said),
        "f1": metrics.f1_score(y, said, average="macro"),
        "auc": metrics.roc_auc_score(y, scores, multi_class="ovr"),
        "average_precision": metrics.average_precision_score(np.eye(4)[y], scores),
        "log_loss": metrics.log_loss(y, scores),
        "brier": metrics.brier_score_loss(y, scores, scale_by_half=False),
    }.items():
        found, low, high = result.metric(name)
        assert found == pytest.approx(value, abs=1e-12), name
        assert low < found < high, name
    theirs = metrics.precision_recall_fscore_support(y, said)
    for column, values in zip(("precision", "recall", "f1", "n"), theirs, strict=True):
        assert result.per_class[column].to_numpy() == pytest.approx(values)


def test_quantities_are_scikit_learns_values() -> None:
    generator = np.random.default_rng(1)
    y = generator.gamma(2, 10, 200)
    said = y + generator.normal(1, 3, 200)
    result = quick(y, said)
    assert result.task == "regression" and result.confusion is None
    for name, value in {
        "bias": (said - y).mean(),
        "mae": metrics.mean_absolute_error(y, said),
        "rmse": metrics.root_mean_squared_error(y, said),
        "r2": metrics.r2_score(y, said),
    }.items():
        found, low, high = result.metric(name)
        assert found == pytest.approx(value) and low < found < high, name
    baseline = result.frame().set_index("metric").baseline
    assert baseline["rmse"] == pytest.approx(y.std())
    assert baseline["mae"] == pytest.approx(np.abs(y - np.median(y)).mean())


def test_baselines_are_those_of_a_model_that_knows_the_shares() -> None:
    y, score = two_classes(500, 0.7)
    share = y.mean()
    constant = np.full(500, share)
    baseline = quick(y, y_score=score).frame().set_index("metric").baseline
    assert baseline["accuracy"] == metrics.accuracy_score(y, np.ones(500))
    assert baseline["log_loss"] == pytest.approx(metrics.log_loss(y, constant))
    assert baseline["brier"] == pytest.approx(metrics.brier_score_loss(y, constant))
    assert baseline["average_precision"] == pytest.approx(metrics.average_precision_score(y, constant))
    assert baseline["f1"] == pytest.approx(metrics.f1_score(y, np.ones(500)))


# -- intervals ---------------------------------------------------------------------------------------------------------


def test_the_variance_of_auc_is_delongs() -> None:
    y, score = two_classes(60, digits=1)
    pos, neg = score[y == 1], score[y == 0]
    psi = (pos[:, None] > neg) + 0.5 * (pos[:, None] == neg)  # by the definition, over all pairs
    variance = psi.mean(axis=1).var(ddof=1) / len(pos) + psi.mean(axis=0).var(ddof=1) / len(neg)
    value, parts = auc_parts(y == 1, score)
    assert value == pytest.approx(psi.mean()) and (parts**2).sum() == pytest.approx(variance)


def test_what_a_row_adds_to_average_precision_is_its_slope() -> None:
    y, score = two_classes(80, digits=1)
    value, parts = average_precision_parts(y == 1, score)
    assert parts.sum() == pytest.approx(0, abs=1e-12)
    h = 1e-5
    for row in range(0, 80, 7):
        weights = np.full(80, (1 - h) / 80)
        weights[row] += h
        moved = metrics.average_precision_score(y, score, sample_weight=weights)
        assert (moved - value) / h / 80 == pytest.approx(parts[row], abs=2e-4)


def test_delong_and_influence_agree_with_the_bootstrap() -> None:
    y, score = two_classes(400)
    generator = np.random.default_rng(0)
    draws: dict[str, list[float]] = {"auc": [], "average_precision": []}
    for _ in range(300):
        rows = generator.integers(0, 400, 400)
        draws["auc"].append(metrics.roc_auc_score(y[rows], score[rows]))
        draws["average_precision"].append(metrics.average_precision_score(y[rows], score[rows]))
    for parts, values in zip((auc_parts, average_precision_parts), draws.values(), strict=True):
        assert np.sqrt((parts(y == 1, score)[1] ** 2).sum()) == pytest.approx(np.std(values), rel=0.15)


def test_balanced_accuracy_of_two_classes_is_newcombes() -> None:
    found = {one.metric: one for one in of_classes(np.array([[30, 10], [5, 25]]), 0.95)}
    low, high = stats.difference_interval(25, 30, 10, 40)  # TPR - FPR, of which it is half, and a half
    assert (found["balanced_accuracy"].low, found["balanced_accuracy"].high) == pytest.approx(
        ((float(low) + 1) / 2, (float(high) + 1) / 2)
    )


def covered(truth: float, draw: Callable[[], Any], times: int = N_TIMES) -> float:
    hits = 0
    for _ in range(times):
        one = draw()
        hits += one.low <= truth <= one.high
    return hits / times


@pytest.mark.parametrize(("n", "share", "apart"), [(80, 0.3, 1.0), (200, 0.5, 1.5)])
def test_intervals_of_ranks_cover(n: int, share: float, apart: float) -> None:
    generator = np.random.default_rng(11)
    y = generator.random(1_000_000) < share
    truth = {
        "auc": norm.cdf(apart / np.sqrt(2)),
        "average_precision": metrics.average_precision_score(y, generator.normal(size=len(y)) + apart * y),
    }
    hits = dict.fromkeys(truth, 0)
    for _ in range(N_TIMES):
        y = generator.random(n) < share
        y[0], y[1] = True, False
        found = of_scores(y.astype(int), norm.cdf(generator.normal(size=n) + apart * y), 0.95)
        for one in found:
            if one.metric in truth:
                hits[one.metric] += one.low <= truth[one.metric] <= one.high
    for metric, count in hits.items():
        assert COVERS[0] <= count / N_TIMES <= COVERS[1], metric


@pytest.mark.parametrize("metric", ["f1", "balanced_accuracy", "accuracy", "precision"])
def test_intervals_of_decisions_cover(metric: str) -> None:
    generator = np.random.default_rng(13)
    shares = np.array([[0.5, 0.1], [0.1, 0.3]])
    truth = {"f1": 0.75, "accuracy": 0.8, "precision": 0.75, "balanced_accuracy": (5 / 6 + 3 / 4) / 2}[metric]

    def draw() -> Any:
        drawn = generator.multinomial(150, shares.ravel()).reshape(2, 2)
        return {one.metric: one for one in of_classes(drawn, 0.95)}[metric]

    assert COVERS[0] <= covered(truth, draw) <= COVERS[1]


@pytest.mark.parametrize(("shares", "right", "n"), [((0.25,) * 4, 0.98, 150), ((0.7, 0.2, 0.1), 0.8, 100)])
def test_intervals_of_mean_f1_cover(shares: tuple[float, ...], right: float, n: int) -> None:
    generator, k = np.random.default_rng(15), len(shares)
    cells = np.array(shares)[:, None] * np.where(np.eye(k), right, (1 - right) / (k - 1))
    truth = float((2 * np.diag(cells) / (cells.sum(axis=0) + cells.sum(axis=1))).mean())
    drawn = iter(generator.multinomial(n, cells.ravel(), size=N_TIMES).reshape(-1, k, k))
    share = covered(truth, lambda: {one.metric: one for one in of_classes(next(drawn), 0.95)}["f1"])
    assert COVERS[0] <= share <= 0.98  # nearly every row is right: a step of one more is a large one


@pytest.mark.parametrize("metric", ["r2", "rmse", "mae"])
def test_intervals_of_quantities_cover(metric: str) -> None:
    generator = np.random.default_rng(14)
    truth = {"r2": 0.64, "rmse": 0.6, "mae": 0.6 * np.sqrt(2 / np.pi)}[metric]

    def draw() -> Any:
        said = 0.8 * generator.normal(size=150)
        return {one.metric: one for one in of_values(said + 0.6 * generator.normal(size=150), said, 0.95)}[metric]

    assert COVERS[0] <= covered(truth, draw) <= COVERS[1]


def test_a_perfect_ranking_of_few_rows_is_not_certain() -> None:
    result = quick([0] * 10 + [1] * 10, y_score=np.linspace(0, 1, 20))
    for name in ("auc", "average_precision", "accuracy", "f1", "balanced_accuracy"):
        value, low, high = result.metric(name)
        assert value == 1 and 0.5 < low < 0.95 and high == pytest.approx(1), name
    assert result.curves.low.min() < 0.8
    value, low, high = quick([0] * 4 + [1] * 4 + [2] * 4, [0] * 4 + [1] * 4 + [2] * 4).metric("f1")
    assert value == 1 and 0.5 < low < 0.95 and high == pytest.approx(1)


# -- rows that belong together -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("task", ["binary", "multiclass", "regression"])
def test_intervals_of_repeated_rows_are_those_of_the_rows_once(task: str) -> None:
    if task == "regression":
        generator = np.random.default_rng(6)
        given = generator.gamma(2, 10, 300)
        once: tuple[Any, ...] = (given, given + generator.normal(1, 3, 300))
    else:
        y, score = two_classes(300) if task == "binary" else many_classes(300)
        once = (y, None, score)
    fivefold = tuple(None if one is None else np.repeat(one, 5, axis=0) for one in once)
    expected = quick(*once).frame().set_index("metric")
    found = quick(*fivefold, clusters=np.repeat(np.arange(300), 5))
    table, alone = found.frame().set_index("metric"), quick(*fivefold).frame().set_index("metric")
    assert found.n_clusters == 300 and any("300 clusters" in sentence for sentence in found.summary)
    for metric, row in table.iterrows():
        width, needed = row.high - row.low, expected.loc[metric, "high"] - expected.loc[metric, "low"]
        assert row.value == pytest.approx(expected.loc[metric, "value"]), metric
        assert width == pytest.approx(needed, rel=0.12), metric
        assert alone.loc[metric, "high"] - alone.loc[metric, "low"] < 0.6 * needed, metric
    if task == "regression":
        return
    per_class, wanted = found.per_class, quick(*once).per_class
    for name in ("precision", "recall", "f1"):
        widths = (per_class[f"{name}_high"] - per_class[f"{name}_low"]) / (
            wanted[f"{name}_high"] - wanted[f"{name}_low"]
        )
        assert widths.between(0.85, 1.15).all(), name
    curves, needed = found.curves, quick(*once).curves
    inside = (curves.curve == "roc") & curves.x.between(0.2, 0.6)
    assert (curves.high - curves.low)[inside].mean() == pytest.approx(
        (needed.high - needed.low)[inside].mean(), rel=0.15
    )


def test_intervals_cover_where_rows_of_a_cluster_are_alike() -> None:
    """People of whom some are easy: all rows of one are ranked by a skill of their own."""
    generator = np.random.default_rng(17)
    people, each = 80, 6

    def draw(n: int) -> tuple[Array, Array, Array]:
        person = np.repeat(np.arange(n), each)
        skill = generator.normal(1.2, 1.0, n)[person]
        y = generator.random(len(person)) < 0.5
        shift = generator.normal(0, 1, n)[person]
        return y.astype(int), norm.cdf(skill * (y - 0.5) + shift + generator.normal(size=len(person))), person

    y, score, _ = draw(40_000)
    truth = {one.metric: one.value for one in of_scores(y, score, 0.95)}
    truth["accuracy"] = float(((score >= 0.5) == y).mean())
    hits, alone = dict.fromkeys(("auc", "average_precision", "log_loss", "accuracy"), 0), 0
    for _ in range(400):
        y, score, person = draw(people)
        scored = Scored(
            task="binary", y_true=y, y_pred=(score >= 0.5).astype(int), y_score=score, class_names=("0", "1"),
            kept=np.ones(len(y), dtype=bool),
        )  # fmt: skip
        for one in estimates_of(scored, 0.95, person):
            if one.metric in hits:
                hits[one.metric] += one.low <= truth[one.metric] <= one.high
        one = next(one for one in of_scores(y, score, 0.95) if one.metric == "log_loss")
        alone += one.low <= truth["log_loss"] <= one.high
    for metric, count in hits.items():
        assert 0.95 - 0.03 <= count / 400 <= 0.95 + 0.03, metric  # a little under three standard errors
    assert alone / 400 < 0.9, "taken as independent they would not cover"


def test_clusters_are_checked(run: Any) -> None:
    y, score = two_classes(40)
    for given, said in (
        (np.zeros(40), "two clusters or more"), (np.arange(39), "a cluster for each of the 40 rows"),
        ([None, *range(39)], "a cluster for every row"), ("person", "column of clusters"),
    ):  # fmt: skip
        with pytest.raises(DLStudioError, match=said):
            quick(y, y_score=score, clusters=given)
    assert quick(run, clusters="black").n_clusters == 2


# -- many classes ------------------------------------------------------------------------------------------------------


def test_a_thousand_classes_fit_into_memory() -> None:
    """Of a million cells of their confusion matrix no more than a few copies are held."""
    import tracemalloc

    generator = np.random.default_rng(0)
    y = generator.integers(0, 1000, 2000)
    said = np.where(generator.random(2000) < 0.7, y, generator.integers(0, 1000, 2000))
    y[0] = 999
    tracemalloc.start()
    result = evaluate(y, said)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    value, low, high = result.metric("f1")
    assert peak < 500e6 and value == pytest.approx(metrics.f1_score(y, said, average="macro")) and low < high


# -- curves ------------------------------------------------------------------------------------------------------------


def test_curves_are_scikit_learns() -> None:
    y, score = two_classes(digits=2)
    table = quick(y, y_score=score).curves
    fpr, tpr, _ = metrics.roc_curve(y, score)
    roc = table[table.curve == "roc"]
    inside = ~np.isin(np.round(roc.x, 9), np.round(fpr, 9))  # at a step the curve has two heights
    assert roc.y[inside].to_numpy() == pytest.approx(np.interp(roc.x[inside], fpr, tpr))
    precision, recall, _ = metrics.precision_recall_curve(y, score)
    found = table[table.curve == "precision_recall"]
    for x, at in zip(found.x, found.y, strict=True):
        first = np.flatnonzero(recall >= x - 1e-9)[-1]  # recall falls along scikit-learn's curve
        assert at == pytest.approx(precision[first])


def test_steps_put_together_keep_every_row() -> None:
    y, score = two_classes(5000, digits=8)
    values, hits, misses = steps_of(y == 1, score, 100)
    assert len(values) <= 100 and hits.sum() == y.sum() and (hits + misses).sum() == 5000
    for value, above in zip(values, np.cumsum(hits), strict=True):
        assert above == (y[score >= value] == 1).sum()


def test_bands_cover_the_curve() -> None:
    generator = np.random.default_rng(15)
    at = [0.1, 0.2, 0.5]
    hits = np.zeros(3)
    for _ in range(150):
        y = generator.random(150) < 0.5
        rows = curve_points(y, generator.normal(size=150) + 1.2 * y, 0.95, 150, generator)[:101]
        for k, x in enumerate(at):
            row = rows[round(100 * x)]
            hits[k] += row["low"] <= norm.sf(norm.isf(x) - 1.2) <= row["high"]
    assert np.all(hits / 150 >= 0.95 - 0.036)  # two standard errors of 150 repetitions


# -- thresholds and costs ----------------------------------------------------------------------------------------------


def test_a_threshold_counts_rows() -> None:
    y, score = two_classes(digits=1)
    result = quick(y, y_score=score, costs={"false_positive": 5, "false_negative": 1})
    for threshold in (-1, 0, 0.3, 0.5, 0.55, 1, 2):
        said = score >= threshold
        point = result.at(threshold)
        expected = [
            (said & (y == 1)).sum(),
            (said & (y == 0)).sum(),
            (~said & (y == 0)).sum(),
            (~said & (y == 1)).sum(),
        ]
        assert list(point.counts.values()) == expected
        each = 5 * (said & (y == 0)) + 1 * (~said & (y == 1))
        low, high = stats.mean_interval(each.mean(), each.var(ddof=1), len(each))
        assert point.cost == pytest.approx((each.mean(), low, high))
        assert point.rates["accuracy"][0] == pytest.approx((said == y).mean())
    assert np.isnan(result.at(2).rates["precision"][0]), "nothing was said yes to"
    table = result.thresholds(11)
    assert table.threshold.tolist() == pytest.approx(np.linspace(0, 1, 11)) and table.cost.notna().all()


def test_the_cheapest_threshold_is_the_cheapest_of_all() -> None:
    y, score = two_classes(400)
    result = quick(y, y_score=score, costs={"false_positive": 4, "false_negative": 1})
    assert result.cheapest is not None
    each = [result.at(threshold).cost[0] for threshold in [*np.unique(score), np.inf]]
    assert result.at(result.cheapest.threshold).cost[0] == pytest.approx(min(each))
    assert result.cheapest.low <= result.cheapest.threshold <= result.cheapest.high


def test_of_calibrated_scores_the_cheapest_threshold_is_the_ratio_of_costs() -> None:
    generator = np.random.default_rng(2)
    score = generator.random(40_000)
    y = (generator.random(40_000) < score).astype(int)
    best = quick(y, y_score=score, costs={"false_positive": 3, "false_negative": 1}).cheapest
    assert best is not None and best.low < 0.75 < best.high and best.high - best.low < 0.1
    assert best.saving_low > 0
    # Saying yes at 0.5 and no at 0.75 costs 3 (1 - s) - s more on rows in between: 1/16 a row of all.
    assert best.saving_low < 0.125 < best.saving_high or best.saving == pytest.approx(0.125, abs=0.02)


def test_no_to_all_can_be_cheapest() -> None:
    y, score = two_classes()
    best = quick(y, y_score=score, costs={"false_positive": 1}).cheapest
    assert best is not None and np.isinf(best.threshold)
    back = quick(y, y_score=score, costs={"false_positive": 1})
    assert any("saying no to every row is cheapest" in words for words in back.summary)


def test_a_threshold_that_only_looks_better_is_not_praised() -> None:
    y, score = two_classes(60, apart=0.0, share=0.5, seed=3)
    result = quick(y, y_score=score, costs={"false_positive": 1, "false_negative": 1})
    assert not any(finding.code == "DLS326" for finding in result.findings)


# -- words, files, bad input -------------------------------------------------------------------------------------------


def codes(result: Evaluation) -> set[str]:
    return {finding.code for finding in result.findings}


def test_findings_say_what_is_wrong() -> None:
    generator = np.random.default_rng(4)
    y = (generator.random(400) < 0.5).astype(int)
    assert "DLS320" in codes(quick(y, y_score=generator.random(400)))
    assert "DLS320" not in codes(quick(*two_classes()[:1], y_score=two_classes()[1]))
    rare = (generator.random(2000) < 0.1).astype(int)
    assert "DLS321" in codes(quick(rare, (generator.random(2000) < 0.3).astype(int)))
    assert codes(quick(rare, np.zeros(2000))) >= {"DLS324"}
    assert "DLS323" in codes(quick([0] * 50, y_score=[0.2] * 25 + [0.7] * 25))
    values = generator.normal(size=200)
    assert codes(quick(values, values + 0.5)) == {"DLS325"}
    assert "DLS320" in codes(quick(values, generator.normal(size=200)))
    assert codes(quick([0, 0, 1, np.nan] * 20, [0, 0, 1, 1] * 20)) == {"DLS328"}


def test_a_single_class_has_no_auc() -> None:
    result = quick(np.ones(30, int), y_score=np.linspace(0.1, 0.9, 30))
    assert np.isnan(result.metric("auc")[0]) and result.curves.empty
    assert result.metric("recall")[0] == pytest.approx(0.5)


@pytest.mark.parametrize("arrays", [two_classes(), many_classes(), (np.linspace(0, 9, 60), np.linspace(1, 9, 60))])
def test_it_survives_a_file_and_speaks_of_its_rows(arrays: Any, tmp_path: Any) -> None:
    y, said = arrays
    result = quick(y, said) if y.dtype.kind == "f" else quick(y, y_score=said)
    back = results.load(results.save(result, tmp_path, "evaluation"))
    assert isinstance(back, Evaluation) and back == result and back.summary == result.summary
    assert f"{len(y):,} rows" in result.summary[0]
    assert all("95 % interval" in sentence for sentence in result.summary)


def test_costs_survive_a_file(tmp_path: Any) -> None:
    y, score = two_classes()
    result = quick(y, y_score=score, costs={"false_negative": 2})
    back = results.load(results.save(result, tmp_path, "evaluation"))
    assert back == result and back.at(0.4).cost == result.at(0.4).cost
    assert result.costs == {"true_positive": 0, "false_positive": 0, "true_negative": 0, "false_negative": 2}


@pytest.mark.parametrize(
    ("args", "options", "expected"),
    [
        (([0, 1], [0, 1, 1]), {}, "as many rows of each"),
        (([0, 1],), {}, "what the model said"),
        (([0, 1], [0, 1]), {"task": "binray"}, "task"),
        (([0, 1], [0, 1]), {"costs": {"false_positive": 1}}, "two classes with scores"),
        (([0, 1], None, [0.1, 0.9]), {"costs": {"false_positives": 1}}, "outcome"),
        (([0, 1], None, [0.1, 0.9]), {"costs": {"false_positive": np.nan}}, "cost of false_positive, a finite number"),
        (([0, 1], None, [0.1, 0.9]), {"costs": {"false_positive": "5"}}, "cost of false_positive, a finite number"),
        (([0, 1], None, [0.1, 0.9]), {"costs": [5, 1]}, "costs that names its values"),
        (([0, 1], None, [0.1, 0.9]), {"seed": -1}, "seed of 0 or more"),
        (([0, 1], None, [0.1, 0.9]), {"level": "0.95"}, "between 0 and 1"),
        ((None, None, [0.1, 0.9]), {}, "y_true of shape"),
        (([0, 1], [0, 1]), {"cross_validate": 5}, "a run to cross-validate"),
        (([0.5, 1.2], None, [0.1, 0.9]), {"task": "regression"}, "y_pred of a regression"),
        (([0, 5000], [0, 1]), {}, "at most 1,000 classes"),
        (([0, 1], None, [0.1, 0.9]), {"n_resamples": 3}, "n_resamples"),
        (([0, 1], [0.1, 0.9]), {"task": "binary"}, "class indices .* y_score="),
        (("no-such-run",), {}, "run"),
    ],
)
def test_bad_input_is_refused_in_words(args: Any, options: Any, expected: str) -> None:
    with pytest.raises(DLStudioError, match=expected):
        evaluate(*args, **options)


def test_what_needs_scores_says_so() -> None:
    result = quick([0, 1, 1, 0], [0, 1, 0, 0])
    with pytest.raises(DLStudioError, match="scores of two classes"):
        result.at(0.5)
    with pytest.raises(DLStudioError, match="metric"):
        result.metric("auc")


# -- runs --------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def run() -> Any:
    return fit(Recipe(data="mortgage", model="mlp", epochs=2, name="signed-off"), progress=False)


def test_a_run_is_its_stored_predictions(run: Any) -> None:
    stored = np.load(run.folder / "results" / "predictions.npz")
    y, score = stored["test_y_true"], stored["test_y_score"][:, 1].astype(np.float64)
    result = quick(run)
    arrays = quick(y, stored["test_y_pred"], score)
    assert result.frame().equals(arrays.frame()) and result.curves.equals(arrays.curves)
    assert (result.data, result.split, result.run) == ("mortgage", "test", run.key)
    assert result.class_names == ("denied", "approved") and result.target == "approve"
    assert result.metric("accuracy")[0] == pytest.approx(run.scalars("test/accuracy")[1][-1])
    assert result.summary[0].startswith(f"On the {len(y):,} test rows of mortgage")
    assert quick("signed-off", split="val").split == "val"


def test_scores_that_are_no_probabilities_have_no_log_loss(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    content = predicted._checkpoint_of(run)
    monkeypatch.setattr(predicted, "_checkpoint_of", lambda _: content | {"scores_are_probabilities": False})
    marked = quick(run, costs={"false_positive": 5})
    assert not predictions_of(run).scores_are_probabilities and not marked.scores_are_probabilities
    assert set(marked.frame().metric) >= {"auc", "average_precision", "accuracy"}
    assert not {"log_loss", "brier"} & set(marked.frame().metric)
    assert "From a score of" in words_at(marked, 0.5)[0]
    for verb in (assess_calibration, find_label_errors):
        with pytest.raises(DLStudioError, match="probabilities"):
            verb(run)
    monkeypatch.undo()
    assert {"log_loss", "brier"} <= set(quick(run).frame().metric)


def test_a_run_is_calibrated_by_its_columns(run: Any) -> None:
    result = assess_calibration(run, groups=["black", "male"], n_resamples=200)
    for column, names in (("black", {"0", "1"}), ("male", {"0", "1", "missing"})):
        groups = result.errors[result.errors.column == column]
        assert groups.n.sum() == result.n and set(groups.group) == names
    assert "probabilities of 'approved'" in result.summary[0]
    with pytest.raises(DLStudioError, match="column"):
        assess_calibration(run, groups=["blck"])
    with pytest.raises(DLStudioError, match="a run alone"):
        assess_calibration(run, np.ones(3))


def test_cross_validation_tests_every_row_once(run: Any) -> None:
    result = quick(run, cross_validate=3)
    sizes = result.folds.drop_duplicates("fold").n
    assert len(sizes) == 3 and sizes.sum() == 1989
    means = result.cross_validation.set_index("metric")
    values = result.folds[result.folds.metric == "auc"]["value"].to_numpy()
    assert means.loc["auc", "value"] == pytest.approx(values.mean())
    assert means.loc["auc", "high"] - means.loc["auc", "value"] == pytest.approx(
        4.302653 * np.sqrt((1 / 3 + 1 / 2) * values.var(ddof=1)), rel=1e-5
    )
    assert any("Trained 3 times" in sentence for sentence in result.summary)
    assert "DLS327" in codes(result)
    for k in (1, 2.5, 1000):
        with pytest.raises(DLStudioError, match="folds"):
            quick(run, cross_validate=k)


def test_folds_are_those_that_were_predicted(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each training answers with its own number: rows of one fold have one answer, as `fold_of_rows` says."""
    import torch

    from dlstudio.training import loop

    asked: list[None] = []

    def answer(recipe: Recipe, recorder: Any, **_: Any) -> None:
        rows = recipe.data.splits["test"]
        path = Path(recorder.folder) / "results" / "predictions.npz"
        path.parent.mkdir()
        np.savez(path, test_y_score=np.full((len(rows), 2), len(asked), np.float32), test_row=rows)
        asked.append(None)

    monkeypatch.setattr(loop, "train", answer)
    generator = np.random.default_rng(0)
    for task in ("binary", "regression"):
        asked.clear()
        dataset = Dataset(
            name="small", modality="tabular", task=task, inputs=torch.zeros(50, 1),
            targets=torch.from_numpy(generator.integers(0, 2, 50) if task == "binary" else generator.random(50)),
            splits={"train": np.arange(30), "val": np.arange(30, 40), "test": np.arange(40, 50)},
            class_names=("a", "b") if task == "binary" else (),
        )  # fmt: skip
        scores = training_folds.out_of_fold(Recipe(), dataset, n_folds=4, seed=7, progress=False)
        assert scores[:, 0].astype(int).tolist() == training_folds.fold_of_rows(dataset, 4, 7).tolist()


def test_folds_of_other_data_than_the_runs_are_refused(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from dlstudio.training import checkpoint

    read = checkpoint.read

    def older(path: Path) -> dict[str, Any]:
        content = read(path)
        return content | {"data": content["data"] | {"fingerprint": "0" * 64}}

    monkeypatch.setattr(checkpoint, "read", older)
    with pytest.raises(DLStudioError, match="another version of 'mortgage'"):
        quick(run, cross_validate=3)


def test_folds_do_not_part_clusters(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def answer(recipe: Recipe, dataset: Dataset, *, clusters: Any, **_: Any) -> Array:
        asked.append(clusters)
        return np.full((len(dataset), 2), 0.5)

    monkeypatch.setattr(training_folds, "out_of_fold", answer)
    result = quick(run, clusters="loanamt", cross_validate=3)
    amounts = predictions_of(run).dataset.frame["loanamt"]
    assert np.array_equal(asked[0], amounts.factorize()[0]) and amounts.duplicated().any()
    assert result.folds.groupby("fold").n.first().sum() == len(amounts)
    with pytest.raises(DLStudioError, match="the name of a column"):
        quick(run, clusters=np.arange(result.n), cross_validate=3)


def test_the_mean_over_folds_is_of_those_where_it_is_defined() -> None:
    mean, low, high = mean_over_folds(np.array([0.8, np.nan, 0.9, 1.0]), 0.95)
    assert mean == pytest.approx(0.9)
    half = 4.302653 * 0.1 * np.sqrt(1 / 3 + 1 / 3)
    assert (low, high) == pytest.approx((0.9 - half, 0.9 + half), rel=1e-6)
    mean, low, high = mean_over_folds(np.array([np.nan, 0.9]), 0.95)
    assert mean == 0.9 and np.isnan([low, high]).all()


def test_the_mean_over_folds_is_wider_than_of_independent_ones() -> None:
    mean, low, high = mean_over_folds(np.array([0.8, 0.9, 1.0, 0.9]), 0.95)
    spread = np.sqrt(0.02 / 3)  # of the four values
    assert mean == pytest.approx(0.9)
    assert high - mean == mean - low == pytest.approx(3.182446 * spread * np.sqrt(1 / 4 + 1 / 3), rel=1e-6)
