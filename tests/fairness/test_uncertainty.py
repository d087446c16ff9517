"""Intervals cover, tests reject and verdicts err as often as they promise, by simulation; clusters count as one."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from scipy.special import expit

from dlstudio import stats
from dlstudio.fairness.audit import audit_fairness
from dlstudio.fairness.clustered import clustered_evidence
from dlstudio.fairness.clusters import Clusters
from dlstudio.fairness.counts import Tally, tally
from dlstudio.fairness.evidence import Evidence
from dlstudio.fairness.gaps import COLUMNS, SHOWN, TOO_FEW, Judge, compare, pairs_of
from dlstudio.fairness.inputs import Outcome
from dlstudio.fairness.scored import score_intervals
from dlstudio.fairness.slopes import logits_of, slopes
from dlstudio.fairness.tables import Tables
from dlstudio.scoring import auc

REPEATS = 2000
A, B = np.arange(REPEATS), np.arange(REPEATS, 2 * REPEATS)


def drawn(rng: np.random.Generator, n: int, m: int, chances: tuple[list[float], list[float]]) -> Evidence:
    """Evidence on 2,000 pairs of groups of n and m rows, drawn from the chances of the four cells."""
    cells = [rng.multinomial(size, chance, REPEATS) for size, chance in zip((n, m), chances, strict=True)]
    return Evidence(Tally(cells=np.concatenate(cells), means={}, shifts={}))


ALIKE = [0.4, 0.1, 0.15, 0.35]
OTHER = [0.3, 0.2, 0.2, 0.3]
RATE_OF = {
    "selection_rate": lambda c: c[1] + c[3],
    "true_positive_rate": lambda c: c[3] / (c[2] + c[3]),
    "false_positive_rate": lambda c: c[1] / (c[0] + c[1]),
    "positive_predictive_value": lambda c: c[3] / (c[1] + c[3]),
    "f1": lambda c: 2 * c[3] / (2 * c[3] + c[1] + c[2]),
    "balanced_accuracy": lambda c: (c[3] / (c[2] + c[3]) + c[0] / (c[0] + c[1])) / 2,
}


@pytest.mark.parametrize("chances", [(ALIKE, ALIKE), (ALIKE, OTHER)], ids=["no gap", "a gap"])
@pytest.mark.parametrize(("n", "m"), [(120, 120), (80, 400)])
def test_intervals_of_gaps_cover_the_truth(n: int, m: int, chances: tuple[list[float], list[float]]) -> None:
    evidence = drawn(np.random.default_rng(n), n, m, chances)
    for name in ("selection_rate", "true_positive_rate", "false_positive_rate", "positive_predictive_value"):
        one, other = (RATE_OF[name](chance) for chance in chances)
        low, high = evidence.difference(name, A, B, 0.95)
        assert 0.93 <= np.mean((low <= one - other) & (one - other <= high)) <= 0.97, name
        low, high = evidence.ratio(name, A, B, 0.95)
        assert 0.93 <= np.mean((low <= one / other) & (one / other <= high)) <= 0.975, name


@pytest.mark.parametrize("name", RATE_OF)
def test_intervals_of_groups_cover_the_truth(name: str) -> None:
    evidence = drawn(np.random.default_rng(7), 90, 250, (ALIKE, OTHER))
    low, high = evidence.interval(name, 0.95)
    for chosen, chance in ((A, ALIKE), (B, OTHER)):
        truth = RATE_OF[name](chance)
        assert 0.93 <= np.mean((low[chosen] <= truth) & (truth <= high[chosen])) <= 0.975


def test_intervals_of_scores_cover_the_truth() -> None:
    rng = np.random.default_rng(3)
    n, repeats = 150, 2000
    y_true = rng.random((repeats, n)) < 0.4
    score = np.clip(rng.normal(0.4 + 0.2 * y_true, 0.15), 0, 1)
    found = np.array([auc(*rows, 0.95) for rows in zip(y_true, score, strict=True)])
    many = rng.random(200_000) < 0.4
    its = np.clip(rng.normal(0.4 + 0.2 * many, 0.15), 0, 1)
    truth = np.mean(rng.choice(its[many], 400_000) > rng.choice(its[~many], 400_000))
    _, low, high = found.T
    assert 0.93 <= np.mean((low <= truth) & (truth <= high)) <= 0.97


def test_the_error_of_calibrated_scores_may_be_nothing() -> None:
    rng = np.random.default_rng(4)
    score = rng.random(40_000)
    y_true = rng.random(40_000) < score
    codes = np.repeat(np.arange(200, dtype=np.int32), 200)
    found = score_intervals(codes, 200, y_true, score, level=0.95, n_draws=300, seed=0, clusters=None)
    error, (low, _) = found["calibration_error"]
    assert error.mean() > 0.05, "200 rows look uncalibrated by chance alone"
    assert np.quantile(low, 0.9) < 0.04, "and the interval knows"


def test_intervals_of_the_error_of_uncalibrated_scores_cover_it() -> None:
    rng = np.random.default_rng(16)
    n, repeats = 300, 500
    score = rng.random((repeats, n))
    y_true = rng.random((repeats, n)) < 0.35 + 0.3 * score  # off by up to .35
    codes = np.repeat(np.arange(repeats, dtype=np.int32), n)
    found = score_intervals(
        codes, repeats, y_true.ravel(), score.ravel(), level=0.95, n_draws=300, seed=0, clusters=None
    )
    truth = 0.7 / 4  # the mean of |.35 - .7 s|
    low, high = found["calibration_error"][1]
    assert np.mean((low <= truth) & (truth <= high)) >= 0.93
    assert np.mean(high - low) < 0.2, "and they are not everything"


def test_a_perfect_ranking_of_few_rows_is_not_certain() -> None:
    y_true, score = np.repeat([False, True], 6), np.linspace(0, 1, 12)
    codes = np.zeros(12, dtype=np.int32)
    found = score_intervals(codes, 1, y_true, score, level=0.95, n_draws=200, seed=0, clusters=None)
    area, (low, high) = found["auc"]
    assert area[0] == high[0] == 1 and low[0] < 0.7


@pytest.mark.parametrize("name", ["selection_rate", "true_positive_rate", "positive_predictive_value"])
@pytest.mark.parametrize(("n", "m"), [(150, 150), (100, 500)])
def test_the_permutation_test_errs_as_often_as_its_level(name: str, n: int, m: int) -> None:
    evidence = drawn(np.random.default_rng(m), n, m, (ALIKE, ALIKE))
    assert 0.04 <= np.mean(evidence.p(name, A, B) <= 0.05) <= 0.06


def test_the_test_of_calibration_errs_as_often_as_its_level() -> None:
    rng = np.random.default_rng(5)
    score = rng.random((2 * REPEATS, 80))
    outcome = Outcome(
        name="", y_true=(rng.random(score.shape) < score).ravel(), y_pred=(score > 0.5).ravel(), y_score=score.ravel()
    )
    evidence = Evidence(tally(np.repeat(np.arange(2 * REPEATS, dtype=np.int32), 80), 2 * REPEATS, outcome))
    assert 0.04 <= np.mean(evidence.p("calibration_bias", A, B) <= 0.05) <= 0.06
    low, high = evidence.difference("calibration_bias", A, B, 0.95)
    assert 0.93 <= np.mean((low <= 0) & (high >= 0)) <= 0.97


def scored(rng: np.random.Generator, n: int, m: int, draw: Any) -> Evidence:
    """Evidence on 2,000 pairs of groups of n and m rows with scores and outcomes; `draw` of 0 or 1 and a shape."""
    drawn = [draw(which, (REPEATS, size)) for which, size in enumerate((n, m))]
    score, y_true = (np.concatenate([part[at].ravel() for part in drawn]) for at in (0, 1))
    codes = np.repeat(np.arange(2 * REPEATS, dtype=np.int32), np.repeat([n, m], REPEATS))
    outcome = Outcome(name="", y_true=y_true, y_pred=score > 0.5, y_score=score)
    found = tally(codes, 2 * REPEATS, outcome)
    fitted = slopes(codes, 2 * REPEATS, outcome, logits_of(score), least=10)
    return Evidence(dataclasses.replace(found, slopes=fitted))


@pytest.mark.parametrize("constant", [True, False])
@pytest.mark.parametrize("m", [10, 40, 200])
@pytest.mark.parametrize("n", [10, 40, 200])
def test_rare_outcomes_that_did_not_happen_are_no_gap_in_calibration(n: int, m: int, constant: bool) -> None:
    rng = np.random.default_rng(n + m)

    def draw(which: int, shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
        rate = (0.01, 0.1)[which]
        score = np.full(shape, rate) if constant else rng.beta(2, 2 / rate - 2, shape)
        return score, rng.random(shape) < score

    evidence = scored(rng, n, m, draw)
    assert np.mean(evidence.p("calibration_bias", A, B) <= 0.05) <= 0.05
    low, high = evidence.difference("calibration_bias", A, B, 0.95)
    assert np.mean((low <= 0) & (high >= 0)) >= 0.95


def test_ten_rows_without_a_positive_show_no_gap() -> None:
    audit = audit_fairness(
        np.zeros(20, int), np.zeros(20, int), y_score=np.repeat([0.01, 0.1], 10),
        sensitive_features={"g": np.repeat(["a", "b"], 10)}, n_resamples=100,
    )  # fmt: skip
    row = audit.gaps.query("criterion == 'calibration_in_the_large_difference' and group != 'overall'").iloc[0]
    assert row.p_value > 0.3 and row.low < 0 < row.high and audit.verdict == TOO_FEW


@pytest.mark.parametrize(("n", "m"), [(200, 200), (200, 600)])
@pytest.mark.parametrize(("other", "bent"), [(1.0, 0.0), (0.7, 0.0), (1.0, 0.2)], ids=["alike", "apart", "bent alike"])
def test_slopes_cover_and_err_as_they_promise(n: int, m: int, other: float, bent: float) -> None:
    """Also where log odds are no line, but bend: of groups that do so alike, the best lines are alike too."""
    rng = np.random.default_rng(17)

    def draw(which: int, shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
        x = rng.normal(0, 1.5, shape)
        return expit(x), rng.random(shape) < expit((1, other)[which] * x - bent * x**2)

    evidence = scored(rng, n, m, draw)
    low, high = evidence.difference("calibration_slope", A, B, 0.95)
    assert 0.93 <= np.mean((low <= 1 - other) & (1 - other <= high)) <= 0.97
    if other == 1:
        assert 0.04 <= np.mean(evidence.p("calibration_slope", A, B) <= 0.05) <= 0.06
    low, high = evidence.ratio("calibration_slope", A, B, 0.95)
    assert 0.93 <= np.mean((low <= 1 / other) & (1 / other <= high)) <= 0.975


def test_ratios_of_observed_to_expected_and_of_errors_cover_the_truth() -> None:
    rng = np.random.default_rng(18)

    def draw(which: int, shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
        score = rng.beta(0.6, 1.4, shape)
        return score, rng.random(shape) < (1.0, 0.8)[which] * score

    low, high = scored(rng, 150, 500, draw).ratio("observed_to_expected", A, B, 0.95)
    assert 0.93 <= np.mean((low <= 1.25) & (high >= 1.25)) <= 0.975
    codes = np.repeat(np.arange(2 * REPEATS, dtype=np.int32), 80)
    error = rng.normal(0, np.where(codes < REPEATS, 1.5, 1.0))
    outcome = Outcome(name="", y_true=np.zeros(len(codes)), y_pred=error, y_score=None)
    low, high = Evidence(tally(codes, 2 * REPEATS, outcome)).ratio("mean_absolute_error", A, B, 0.95)
    assert 0.93 <= np.mean((low <= 1.5) & (high >= 1.5)) <= 0.97


def test_a_family_without_gaps_shows_one_in_at_most_five_percent() -> None:
    rng = np.random.default_rng(6)
    judge = Judge(level=0.95, threshold=0.0, threshold_ratio=None)
    sizes = np.array([400, 300, 200, 120])
    wrong, families = 0, 600
    for _ in range(families):
        cells = np.stack([rng.multinomial(size, ALIKE) for size in sizes])
        evidence = Evidence(Tally(cells=cells, means={}, shifts={}))
        family = list(compare("g", "", ("a", "b", "c", "d"), evidence, pairs_of(sizes), 10))
        wrong += any(SHOWN in row for row in judge.rows(family))
    assert wrong / families <= 0.05 + 2.33 * (0.05 * 0.95 / families) ** 0.5


@pytest.mark.parametrize("options", [{}, {"threshold_ratio": 1.0}], ids=["differences", "ratios too"])
def test_a_whole_audit_without_gaps_shows_one_in_at_most_five_percent(
    options: dict[str, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Tables, "_scored", lambda *_: {})  # what is shown by group is drawn anew, and tested nowhere
    wrong, audits, n = 0, 400, 600
    for seed in range(audits):
        rng = np.random.default_rng(seed)
        frame = {"a": rng.choice(3, n, p=[0.6, 0.3, 0.1]), "b": rng.integers(0, 2, n)}
        score = expit(rng.normal(-0.7, 1.3, n))
        audit = audit_fairness(
            (rng.random(n) < score).astype(int), (score > 0.5).astype(int), y_score=score, sensitive_features=frame,
            n_resamples=100, **options,
        )  # fmt: skip
        wrong += SHOWN in audit.gaps_table["verdict"] or SHOWN in audit.intersections_table["verdict"]
    assert wrong / audits <= 0.05 + 2.33 * (0.05 * 0.95 / audits) ** 0.5


def test_single_columns_and_combinations_share_the_five_percent() -> None:
    y_pred = np.repeat([1, 0, 1, 0], [120, 180, 145, 155])
    frame = {"g": np.repeat(["a", "b"], 300), "h": np.tile(["c", "d"], 300)}
    alone = audit_fairness(np.zeros(600, int), y_pred, sensitive_features=frame, intersections=1)
    both = audit_fairness(np.zeros(600, int), y_pred, sensitive_features=frame)
    known = alone.gaps.p_adjusted * 2
    assert both.gaps.p_adjusted.to_numpy() == pytest.approx(np.minimum(1, known).to_numpy(), nan_ok=True)


def test_a_gap_as_large_as_the_threshold_is_no_more_often_shown() -> None:
    rng = np.random.default_rng(8)
    judge = Judge(level=0.95, threshold=0.1, threshold_ratio=None)
    sizes = np.array([2000] * 6)
    chances = np.array([0.3] * 3 + [0.4] * 3)  # nine pairs lie exactly at the threshold
    wrong, families = 0, 200
    for _ in range(families):
        positive = rng.binomial(sizes, chances)
        cells = np.stack([sizes - positive, positive, 0 * sizes, 0 * sizes], axis=1)
        evidence = Evidence(Tally(cells=cells, means={}, shifts={}))
        family = [
            one
            for one in compare("g", "", tuple("abcdef"), evidence, pairs_of(sizes), 10)
            if one.criterion == "demographic_parity"
        ]
        wrong += any(SHOWN in row for row in judge.rows(family))
    assert wrong / families <= 0.05 + 2.33 * (0.05 * 0.95 / families) ** 0.5


def test_the_interval_of_the_worst_pair_knows_that_it_was_chosen() -> None:
    rng = np.random.default_rng(22)
    judge = Judge(level=0.95, threshold=0.0, threshold_ratio=None)
    sizes, families = np.full(8, 200), 300
    alone, joint, odds = 0, 0, 0
    for _ in range(families):
        cells = np.stack([rng.multinomial(size, ALIKE) for size in sizes])
        evidence = Evidence(Tally(cells=cells, means={}, shifts={}))
        family = list(compare("g", "", tuple("abcdefgh"), evidence, pairs_of(sizes), 10))
        rows = [dict(zip(COLUMNS, row, strict=True)) for row in judge.rows(family)]
        parity = [row for row in rows if row["criterion"] == "demographic_parity_difference"]
        alone += any(row["low"] > 0 or row["high"] < 0 for row in parity if row["group"] != "overall")
        worst = {row["criterion"]: row for row in rows if row["group"] == "overall"}
        joint += worst["demographic_parity_difference"]["low"] > 0
        odds += worst["equalized_odds_difference"]["low"] > 0
    limit = 0.05 + 2.33 * (0.05 * 0.95 / families) ** 0.5
    assert alone / families > 0.3 and joint / families <= limit and odds / families <= limit


def people(rng: np.random.Generator, n_people: int, rows: int) -> tuple[np.ndarray, Outcome, np.ndarray]:
    """Rows of people who are selected mostly always or mostly never; group, outcome, person."""
    person = np.repeat(np.arange(n_people), rows)
    habit = rng.beta(0.5, 0.5, n_people)
    chosen = rng.random(len(person)) < habit[person]
    outcome = Outcome(name="", y_true=np.ones(len(person), bool), y_pred=chosen, y_score=None)
    return rng.integers(0, 2, n_people).astype(np.int32)[person], outcome, person


def test_rows_of_one_person_count_as_one_person() -> None:
    rng = np.random.default_rng(9)
    naive, honest, covered, repeats = 0, 0, 0, 500
    pair = np.array([0]), np.array([1])
    for seed in range(repeats):
        group, outcome, person = people(rng, 60, 10)
        naive += Evidence(tally(group, 2, outcome)).p("selection_rate", *pair)[0] <= 0.05
        clusters = Clusters(codes=person, n=60, n_draws=200, seed=seed)
        evidence = clustered_evidence(group, 2, outcome, clusters, rest=False)
        honest += evidence.p("selection_rate", *pair)[0] <= 0.05
        low, high = evidence.difference("selection_rate", *pair, 0.95)
        covered += low[0] <= 0 <= high[0]
    assert naive / repeats > 0.3, "rows of one person are no independent evidence"
    assert honest / repeats <= 0.05 + 2.33 * (0.05 * 0.95 / repeats) ** 0.5
    assert 0.93 <= covered / repeats <= 0.97


def test_intervals_of_clusters_cover_a_gap_too() -> None:
    rng, gap, covered, repeats = np.random.default_rng(26), 0.2, 0, 500
    pair = np.array([1]), np.array([0])
    for seed in range(repeats):
        person, group = np.repeat(np.arange(80), 5), rng.integers(0, 2, 80).astype(np.int32)
        chance = (1 - gap) * rng.beta(0.5, 0.5, 80) + gap * group
        chosen = rng.random(400) < chance[person]
        outcome = Outcome(name="", y_true=np.ones(400, bool), y_pred=chosen, y_score=None)
        clusters = Clusters(codes=person, n=80, n_draws=1000, seed=seed)
        evidence = clustered_evidence(group[person], 2, outcome, clusters, rest=False)
        low, high = evidence.difference("selection_rate", *pair, 0.95)
        covered += low[0] <= gap <= high[0]
    assert abs(covered / repeats - 0.95) <= 2.33 * (0.05 * 0.95 / repeats) ** 0.5


def test_clusters_of_other_sizes_and_spreads_are_no_gap() -> None:
    """Few large people who differ much, against many small ones who do not: rates are equal, and permuting says so."""
    rng = np.random.default_rng(19)
    pair = np.array([0]), np.array([1])
    wrong, covered, repeats = 0, 0, 300
    for seed in range(repeats):
        few, many = 20, 80
        rows = np.concatenate([rng.integers(10, 30, few), rng.integers(1, 4, many)])
        habit = np.concatenate([rng.beta(0.4, 0.4, few), np.full(many, 0.5)])
        person = np.repeat(np.arange(few + many), rows)
        chosen = rng.random(len(person)) < habit[person]
        outcome = Outcome(name="", y_true=chosen, y_pred=chosen, y_score=None)
        clusters = Clusters(codes=person, n=few + many, n_draws=200, seed=seed)
        evidence = clustered_evidence((person >= few).astype(np.int32), 2, outcome, clusters, rest=False)
        wrong += evidence.p("selection_rate", *pair)[0] <= 0.05
        low, high = evidence.difference("selection_rate", *pair, 0.95)
        covered += low[0] <= 0 <= high[0]
    assert wrong / repeats <= 0.05 + 2.33 * (0.05 * 0.95 / repeats) ** 0.5
    assert covered / repeats >= 0.93


def test_slopes_of_rows_that_repeat_are_no_surer_than_of_one_each() -> None:
    rng = np.random.default_rng(20)
    score = np.repeat(expit(rng.normal(0, 1.5, 300)), 5)
    y_true = np.repeat(rng.random(300) < score[::5], 5)
    group = np.repeat(rng.integers(0, 2, 300), 5).astype(np.int32)
    outcome = Outcome(name="", y_true=y_true, y_pred=y_true, y_score=score)
    once = Outcome(name="", y_true=y_true[::5], y_pred=y_true[::5], y_score=score[::5])
    people = Clusters(codes=np.arange(1500) // 5, n=300, n_draws=100, seed=0)
    alone = slopes(group[::5], 2, once, logits_of(once.y_score))
    rows = slopes(group, 2, outcome, logits_of(score))
    together = slopes(group, 2, outcome, logits_of(score), clusters=people)
    assert together.value == pytest.approx(alone.value) and together.variance == pytest.approx(alone.variance, rel=0.1)
    assert rows.variance == pytest.approx(alone.variance / 5, rel=0.1) and not together.shared
    for rest in (slopes(group, 2, outcome, logits_of(score), clusters=given, rest=True) for given in (None, people)):
        assert rest.value[2:] == pytest.approx(rest.value[1::-1]), "of two groups, each is all the other has beside it"
        assert rest.variance[2:] == pytest.approx(rest.variance[1::-1], rel=0.05)
    mixed = np.tile([0, 1], 750).astype(np.int32)
    shared = slopes(mixed, 2, outcome, logits_of(score), clusters=people)
    _, error, _ = shared.apart([0], [1])
    assert error[0] < 0.5 * np.sqrt(shared.variance.sum()), "the same people in both groups differ little"


def test_few_clusters_of_many_rows_are_not_compared() -> None:
    rng = np.random.default_rng(21)
    person = np.concatenate([np.repeat([0, 1], 500), np.arange(2, 502)])
    group = (np.arange(1500) >= 1000).astype(int)
    y_true, y_pred = rng.integers(0, 2, 1500), rng.integers(0, 2, 1500)
    audit = audit_fairness(y_true, y_pred, sensitive_features={"g": group}, clusters=person, n_resamples=100)
    assert audit.verdict == TOO_FEW and audit.gaps.p_value.isna().all()
    enough = audit.by_group.query("metric == 'selection_rate'").set_index("group")
    assert enough.enough.to_dict() == {"overall": True, "0": False, "1": True} and enough.denominator["0"] == 1000
    assert any("10 clusters are needed" in finding.sentence for finding in audit.findings)
    assert audit_fairness(y_true, y_pred, sensitive_features={"g": group}).gaps.p_value.notna().all()


def test_clusters_of_single_rows_change_little() -> None:
    rng = np.random.default_rng(10)
    group = rng.integers(0, 2, 800)
    y_true = rng.integers(0, 2, 800)
    y_pred = (rng.random(800) < 0.3 + 0.15 * group).astype(int)
    alone = audit_fairness(y_true, y_pred, sensitive_features=group)
    each = audit_fairness(y_true, y_pred, sensitive_features=group, clusters=np.arange(800))
    assert each.n_clusters == 800 and alone.n_clusters == 0
    assert each.gaps.value.to_numpy() == pytest.approx(alone.gaps.value.to_numpy())
    assert each.gaps.low.to_numpy() == pytest.approx(alone.gaps.low.to_numpy(), abs=0.03)
    assert each.gaps.high.to_numpy() == pytest.approx(alone.gaps.high.to_numpy(), rel=0.1, abs=0.03)
    assert each.gaps.verdict.tolist() == alone.gaps.verdict.tolist()
    rows = each.by_group.query("metric == 'f1'").reset_index(), alone.by_group.query("metric == 'f1'").reset_index()
    assert rows[0].low.to_numpy() == pytest.approx(rows[1].low.to_numpy(), abs=0.03)


def test_clusters_with_rows_of_several_groups_are_said_to_be_so() -> None:
    rng = np.random.default_rng(11)
    y_true, y_pred, score = rng.integers(0, 2, 400), rng.integers(0, 2, 400), rng.random(400)
    audit = audit_fairness(
        y_true, y_pred, y_score=score, sensitive_features={"g": rng.integers(0, 2, 400)}, clusters=np.arange(400) // 4,
        n_resamples=200,
    )  # fmt: skip
    assert [finding.code for finding in audit.findings][-1] == "DLS307"
    assert audit.n_clusters == 100 and not audit.gaps.query("group != 'overall'").p_value.isna().any()
    assert not audit.by_group.query("metric == 'auc'").low.isna().any()


def test_a_gap_in_every_cluster_is_shown() -> None:
    """Resampling whole clusters then never varies, which is no reason to doubt the gap."""
    group, every = np.tile([0, 1], 60), np.ones(120, dtype=int)
    audit = audit_fairness(every, group, sensitive_features={"g": group}, clusters=np.arange(120) // 2)
    gap = audit.gaps.query("criterion == 'demographic_parity_difference' and group != 'overall'").iloc[0]
    assert abs(gap["value"]) == 1 and gap["p_adjusted"] < 0.05 and gap["verdict"] == SHOWN


def test_a_ratio_that_never_varies_is_not_certain() -> None:
    """Everybody of every cluster is selected: the bootstrap sees nothing else, and knows no better for it."""
    group, every = np.repeat([0, 1], 60), np.ones(120, dtype=int)
    given = {"sensitive_features": {"g": group}, "clusters": np.arange(120) // 4}
    audit = audit_fairness(every, every, **given, threshold_ratio=0.9)
    row = audit.gaps.query("criterion == 'demographic_parity_ratio' and group != 'overall'").iloc[0]
    low, high = stats.ratio_interval(15, 15, 15, 15)
    assert (row.low, row.high) == pytest.approx((float(low), float(high))) and row.low < 0.9 and row.verdict == TOO_FEW


def test_clusters_with_rows_of_several_groups_cover_and_err_as_they_promise() -> None:
    """The same people in both groups, who are selected mostly always or mostly never, with a gap of .15 or none."""
    rng, repeats, pair = np.random.default_rng(23), 400, (np.array([0]), np.array([1]))
    for gap in (0.0, 0.15):
        wrong = covered = 0
        for seed in range(repeats):
            habit = rng.beta(0.5, 0.5, 60)[np.arange(600) // 10]
            group = rng.integers(0, 2, 600).astype(np.int32)
            chosen = rng.random(600) < (1 - gap) * habit + gap * group
            outcome = Outcome(name="", y_true=np.ones(600, bool), y_pred=chosen, y_score=None)
            clusters = Clusters(codes=np.arange(600) // 10, n=60, n_draws=200, seed=seed)
            evidence = clustered_evidence(group, 2, outcome, clusters, rest=False)
            wrong += evidence.p("selection_rate", *pair)[0] <= 0.05
            low, high = evidence.difference("selection_rate", *pair, 0.95)
            covered += low[0] <= -gap <= high[0]
        error = 2.33 * (0.05 * 0.95 / repeats) ** 0.5
        assert 0.95 - error <= covered / repeats <= 0.95 + error
        assert wrong / repeats <= 0.05 + error if gap == 0 else wrong / repeats > 0.5


def test_joint_intervals_of_clusters_hold_for_all_pairs_at_once() -> None:
    """Of ten pairs, one draw in 400 may lie outside on either side: the tails of so few are stretched, not counted."""
    rng, repeats, pairs = np.random.default_rng(24), 400, np.triu_indices(5, 1)
    outside = 0
    for seed in range(repeats):
        person = np.repeat(np.arange(200), 4)
        chosen = rng.random(800) < rng.beta(1, 1, 200)[person]
        outcome = Outcome(name="", y_true=np.ones(800, bool), y_pred=chosen, y_score=None)
        clusters = Clusters(codes=person, n=200, n_draws=200, seed=seed)
        evidence = clustered_evidence((person % 5).astype(np.int32), 5, outcome, clusters, rest=False)
        low, high = evidence.difference("selection_rate", *pairs, 0.995)
        outside += bool(((low > 0) | (high < 0)).any())
    assert outside / repeats <= 0.05 + 2.33 * (0.05 * 0.95 / repeats) ** 0.5


def test_the_same_seed_gives_the_same_audit() -> None:
    rng = np.random.default_rng(12)
    given = {"y_score": rng.random(300), "sensitive_features": rng.integers(0, 3, 300), "n_resamples": 200}
    y_true, y_pred = rng.integers(0, 2, 300), rng.integers(0, 2, 300)
    one, two, other = (audit_fairness(y_true, y_pred, **given, seed=seed).by_group for seed in (0, 0, 1))
    assert one.equals(two) and not one.equals(other)
