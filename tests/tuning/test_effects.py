"""Effects against linear responses that are known, and early ends against simulation."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from scipy import stats as scipy_stats

from dlstudio import stats
from dlstudio.repetitions import equivalence_p, paired_contrast
from dlstudio.tuning.designs import Design, make_design
from dlstudio.tuning.effects import DECIDED, HOPELESS, OPEN, SEEN, STOPPED, Judging, adjusted, estimate, still_needed
from dlstudio.tuning.stopping import chance_to_decide, sequential_contrast, sequential_equivalence_p

NAMES = ["a", "b", "c", "d"]
BETA = {"a": 0.3, "b": -0.2, "c": 0.05, "d": 0.0}
PAIRS = {("a", "b"): 0.07, ("c", "d"): -0.04}


def response(design: Design, pairs: dict[tuple[str, str], float], seeds: int = 3) -> Any:
    """0.5 + sum of beta x + sum of beta x y over x, y = 1 (on) and -1 (off), and a seed's own shift."""
    sign = dict(zip(design.factors, design.signs.T.astype(float), strict=True))
    y = 0.5 + sum(BETA[name] * sign[name] for name in design.factors)
    y = y + sum(beta * sign[one] * sign[other] for (one, other), beta in pairs.items())
    return y[:, None] + 0.1 * np.arange(seeds)


def estimated(design: Design, values: Any, **options: Any) -> dict[str, dict[str, Any]]:
    rows = estimate(design, values, np.zeros(values.shape, bool), Judging(direction="max", **options))
    return {row["factor"]: row for row in rows}


@pytest.mark.parametrize("kind", ["factorial", "fractional"])
def test_a_linear_response_is_recovered_exactly(kind: str) -> None:
    design = make_design(kind, NAMES, [1] * 4)
    rows = estimated(design, response(design, PAIRS))
    for name, beta in BETA.items():
        assert rows[name]["difference"] == pytest.approx(2 * beta, abs=1e-14)
        assert rows[name]["mean_with"] - rows[name]["mean_without"] == pytest.approx(2 * beta, abs=1e-14)
    if kind == "factorial":
        for one, other in itertools.combinations(NAMES, 2):
            assert rows[f"{one} × {other}"]["difference"] == pytest.approx(2 * PAIRS.get((one, other), 0.0), abs=1e-14)
    else:  # a pair and its alias cannot be told apart: their sum is found
        assert rows["a × b"]["aliases"] == "c × d"
        assert rows["a × b"]["difference"] == pytest.approx(2 * sum(PAIRS.values()), abs=1e-14)


def test_one_out_is_the_difference_from_the_whole() -> None:
    design = make_design("one-out", NAMES, [1] * 4)
    rows = estimated(design, response(design, {("a", "b"): 0.07}))
    assert rows["a"]["difference"] == pytest.approx(2 * (0.3 + 0.07), abs=1e-14)
    assert rows["c"]["difference"] == pytest.approx(0.1, abs=1e-14)
    assert len(rows) == 4


def test_p_values_are_those_of_paired_t_tests_and_holms() -> None:
    design = make_design("one-out", NAMES[:3], [1] * 3)
    y = np.random.default_rng(0).normal(size=(4, 5)) + np.array([2.0, 0, 0, 0])[:, None]
    rows = estimated(design, y)
    p = [scipy_stats.ttest_rel(y[0], y[cell]).pvalue for cell in (1, 2, 3)]
    assert [rows[name]["p_value"] for name in "abc"] == pytest.approx(p)
    assert [rows[name]["p_adjusted"] for name in "abc"] == pytest.approx(stats.holm(p))
    interval = scipy_stats.ttest_rel(y[0], y[1]).confidence_interval()
    assert (rows["a"]["low"], rows["a"]["high"]) == pytest.approx(tuple(interval))


def test_interactions_are_a_family_of_their_own() -> None:
    design = make_design("factorial", NAMES, [1] * 4)
    rows = estimated(design, np.random.default_rng(1).normal(size=(16, 6)))
    mains, pairs = ([row for row in rows.values() if row["kind"] == kind] for kind in ("main", "interaction"))
    for family in (mains, pairs):
        adjusted = stats.holm([row["p_value"] for row in family])
        assert [row["p_adjusted"] for row in family] == pytest.approx(adjusted)


def test_with_a_margin_the_family_keeps_its_error_over_both_questions() -> None:
    """One component does nothing, one as much as the margin: neither may be told otherwise."""
    margin, n = 1.4, 20_000
    d = np.random.default_rng(11).standard_normal((n, 2, 6)) + np.array([0.0, margin])[:, None]
    contrast = paired_contrast(d, step=0.0, n_comparisons=2)
    p, same = contrast.p_value, equivalence_p(contrast, margin)
    found = np.array([adjusted(*pair) for pair in zip(p.tolist(), same.tolist(), strict=True)])  # (n, question, one)
    shown = found <= 0.05
    false = (shown[:, 0, 0] & ~shown[:, 1, 0]) | shown[:, 1, 1]  # what is equivalent is not called different
    assert false.mean() <= 0.05 + 2.5 * (0.05 * 0.95 / n) ** 0.5
    assert shown[:, 0, 1].mean() > 0.5  # and it is not for lack of power


@pytest.mark.parametrize("kind", ["one-out", "factorial", "fractional"])
@pytest.mark.parametrize("sequential", [False, True])
def test_the_family_of_every_design_keeps_its_error(kind: str, sequential: bool) -> None:
    """One component matters, all others and all pairs do nothing. A look at the end has what all looks have."""
    design, n, n_seeds = make_design(kind, NAMES, [1] * 4), 700 if sequential else 5000, 6
    y = np.random.default_rng(15).standard_normal((n, design.n_cells, n_seeds))
    y[:, design.levels[:, 0] > 0] -= 4.0
    for is_main in (True, False):
        family = [effect for effect in design.effects() if effect.is_main is is_main]
        if not family:
            continue
        d = np.einsum("ec,ncs->nes", np.array([effect.weights for effect in family]), y)
        if sequential:
            p = np.array([[float(sequential_contrast(one, n_seeds).p_value) for one in row] for row in d])
        else:
            p = paired_contrast(d, step=0.0, n_comparisons=len(family)).p_value
        false = np.array([adjusted(row)[0] for row in p.tolist()]) <= 0.05
        alarms = false[:, 1:] if is_main else false
        assert alarms.any(axis=1).mean() <= 0.05 + 2.5 * (0.05 * 0.95 / n) ** 0.5
        assert not is_main or false[:, 0].mean() > 0.9


def test_holm_over_both_questions_counts_effects() -> None:
    design = make_design("one-out", ["a", "b"], [1, 1])
    y = np.random.default_rng(12).normal(size=(3, 5)) + np.array([1.0, 0.0, 0.0])[:, None]
    rows = estimated(design, y, margin=3.0).values()
    contrasts = [paired_contrast(y[0] - y[cell]) for cell in (1, 2)]
    p = [float(one.p_value) for one in contrasts] + [float(equivalence_p(one, 3.0)) for one in contrasts]
    order = np.argsort(p)
    assert {int(at) % 2 for at in order[:2]} == {0, 1}  # none has both behind it before the last one
    want = np.empty(4)
    want[order] = np.minimum(1, np.maximum.accumulate(np.array(p)[order] * np.array([2, 2, 2, 1])))
    assert [row["p_adjusted"] for row in rows] == pytest.approx(want[:2])
    assert [row["p_equivalent"] for row in rows] == pytest.approx(want[2:])


def test_seeds_without_all_their_runs_are_left_out_of_what_needs_them() -> None:
    design = make_design("one-out", ["a", "b"], [1, 1])
    y = np.random.default_rng(2).normal(size=(3, 4))
    y[1, 2] = np.nan
    rows = estimated(design, y)
    assert rows["a"]["n"] == 3 and rows["b"]["n"] == 4
    assert rows["a"]["difference"] == pytest.approx((y[0] - y[1])[[0, 1, 3]].mean())
    y[1] = np.nan
    rows = estimated(design, y)
    assert rows["a"]["n"] == 0 and rows["a"]["verdict"] == "not enough data" and np.isnan(rows["a"]["p_value"])
    p = rows["b"]["p_value"]
    assert rows["b"]["p_adjusted"] == pytest.approx(min(1, 2 * p))  # the other hypothesis still counts


def test_directions_and_equivalence() -> None:
    design = make_design("one-out", ["a", "b"], [1, 1])
    noise = np.random.default_rng(3).normal(size=(3, 8)) * 0.001
    y = noise + np.array([0.9, 0.8, 0.9])[:, None]
    wait = np.zeros(y.shape, bool)
    for direction, said in (("max", "better"), ("min", "worse")):
        for sequential in (False, True):
            how = Judging(direction=direction, margin=0.01, sequential=sequential)  # type: ignore[arg-type]
            assert [row["verdict"] for row in estimate(design, y, wait, how)] == [said, "equivalent"]


# -- looking and stopping ----------------------------------------------------------------------------------------------


def test_what_comes_first_is_the_order_of_the_plan() -> None:
    design = make_design("one-out", ["a"], [1])
    y = np.random.default_rng(4).normal(size=(2, 8))
    pending = np.zeros(y.shape, bool)
    y[1, 3], pending[1, 3] = np.nan, True  # slow; the quick seeds after it do not count yet
    row = estimate(design, y, pending, Judging(direction="max", sequential=True))[0]
    assert row["n"] == 3
    pending[1, 3] = False  # it failed: now the seeds after it do
    assert estimate(design, y, pending, Judging(direction="max", sequential=True))[0]["n"] == 7


def test_states_and_what_is_still_needed() -> None:
    design = make_design("one-out", ["big", "none", "same"], [1] * 3)
    noise = np.random.default_rng(5).normal(size=(4, 12)) * 0.01
    y = noise + np.array([0.9, 0.3, 0.9, 0.9])[:, None]
    y[3] = y[0]
    pending = np.zeros(y.shape, bool)
    pending[:, 4:] = True
    y[:, 4:] = np.nan
    rows = estimate(design, y, pending, Judging(direction="max", sequential=True))
    states = {row["factor"]: row["state"] for row in rows}
    assert states["big"] == DECIDED and states["same"] == HOPELESS  # nothing changes: more seeds will not either
    needed = still_needed(design, rows)
    assert needed.tolist() == [states["none"] == OPEN, False, states["none"] == OPEN, False]
    rows = estimate(design, y, np.zeros(y.shape, bool), Judging(direction="max", sequential=False))
    assert {row["state"] for row in rows} == {SEEN}


def test_without_looks_nothing_is_judged_before_its_last_seed() -> None:
    design = make_design("one-out", ["a", "b"], [1, 1])
    y = np.random.default_rng(13).normal(size=(3, 8)) * 0.01 + np.array([0.9, 0.3, 0.5])[:, None]
    pending, how = np.zeros(y.shape, bool), Judging(direction="max", margin=0.05)
    pending[1, 7] = True
    values = np.where(pending, np.nan, y)
    a, b = estimate(design, values, pending, how)
    assert (a["verdict"], a["state"], a["n"]) == ("not enough data", OPEN, 7) and a["difference"] > 0.5
    assert np.isnan([a["p_adjusted"], a["p_equivalent"]]).all()
    assert (b["verdict"], b["state"]) == ("better", SEEN)
    # What is judged early only becomes surer when the rest is there.
    a, later = estimate(design, y, np.zeros(y.shape, bool), how)
    assert a["verdict"] == "better" and later["p_adjusted"] <= b["p_adjusted"]


def test_an_effect_that_was_stopped_is_not_complete() -> None:
    design = make_design("one-out", ["a", "b"], [1, 1])
    y = np.random.default_rng(14).normal(size=(3, 8))
    untrained = np.zeros(y.shape, bool)
    untrained[1, 5:] = True
    y[untrained] = np.nan
    for sequential in (False, True):
        how = Judging(direction="max", sequential=sequential)
        rows = estimate(design, y, np.zeros(y.shape, bool), how, untrained=untrained)
        assert [row["state"] for row in rows] == [STOPPED, SEEN] and rows[0]["n"] == 5


def test_one_look_at_the_end_is_a_t_test() -> None:
    d = np.random.default_rng(6).normal(0.8, 1, size=3)  # three seeds planned: one look
    found, plain = sequential_contrast(d, 3), paired_contrast(d)
    assert float(found.p_value) == pytest.approx(float(plain.p_value), abs=0.004)  # simulated
    assert float(found.low) == pytest.approx(float(plain.low), rel=0.05)
    assert np.isnan(float(sequential_contrast(d[:2], 5).p_value))


@pytest.mark.parametrize("n_planned", [5, 10])
@pytest.mark.parametrize("shape", ["normal", "skewed", "discrete"])
def test_looking_at_every_seed_raises_no_more_false_alarms(n_planned: int, shape: str) -> None:
    generator = np.random.default_rng(7)
    n = 1500
    draws = {
        "normal": lambda size: generator.standard_normal(size),
        "skewed": lambda size: generator.exponential(size=size),
        "discrete": lambda size: generator.integers(0, 4, size) * 0.5,
    }[shape]
    d = draws((n, n_planned)) - draws((n, n_planned))
    step = 0.5 if shape == "discrete" else 0.0
    false = missed = 0
    for row in d:
        looks = [sequential_contrast(row[:k], n_planned, step=step) for k in range(3, n_planned + 1)]
        false += any(float(look.p_value) <= 0.05 for look in looks)
        missed += any(float(look.low) > 0 or float(look.high) < 0 for look in looks)
        # It never takes back what it has said.
        assert all(a.p_value >= b.p_value for a, b in itertools.pairwise(looks))
    room = 0.05 + 2.5 * (0.05 * 0.95 / n) ** 0.5
    assert false / n <= room and missed / n <= room
    if shape == "normal":  # and wastes nothing
        assert false / n >= 0.05 - 2.5 * (0.05 * 0.95 / n) ** 0.5


def test_equivalence_raises_no_more_false_alarms_either() -> None:
    generator = np.random.default_rng(8)
    d = 1.0 + generator.standard_normal((1000, 6))  # as large as the margin: not equivalent
    false = sum(min(sequential_equivalence_p(row[:k], 6, 1.0) for k in range(3, 7)) <= 0.05 for row in d)
    assert false / 1000 <= 0.05 + 2.5 * (0.05 * 0.95 / 1000) ** 0.5
    small = 0.05 * generator.standard_normal((50, 6))
    assert all(sequential_equivalence_p(row, 6, 1.0) < 0.05 for row in small)


def trained(y: Any, design: Design, *, sequential: bool = True) -> tuple[dict[str, str], int]:
    """Train a design seed by seed as the steward does; verdicts, and how many runs were not needed."""
    values, spared = np.full(y.shape, np.nan), np.zeros(y.shape, bool)
    how = Judging(direction="max", sequential=sequential)
    needed = np.ones(design.n_cells, bool)
    for seed in range(y.shape[1]):
        values[needed, seed] = y[needed, seed]
        spared[~needed, seed] = True
        pending = np.zeros(y.shape, bool)
        pending[needed, seed + 1 :] = True
        rows = estimate(design, values, pending, how, spared)
        needed &= still_needed(design, rows)
    return {row["factor"]: row["verdict"] for row in rows}, int(spared.sum())


def test_the_family_of_an_ablation_keeps_its_error_and_saves_runs() -> None:
    design = make_design("one-out", NAMES, [1] * 4)
    generator = np.random.default_rng(9)
    n, n_seeds = 120, 8
    false = saved = found = found_at_the_end = 0
    for _ in range(n):
        y = generator.standard_normal((5, n_seeds))
        y[1] -= 4.0  # one component matters, three do not
        verdicts, n_saved = trained(y, design)
        false += any(verdicts[name] in ("better", "worse") for name in "bcd")
        found += verdicts["a"] == "better"
        found_at_the_end += trained(y, design, sequential=False)[0]["a"] == "better"
        saved += n_saved
    assert false / n <= 0.05 + 2.5 * (0.05 * 0.95 / n) ** 0.5
    assert saved / (n * 5 * n_seeds) > 0.25
    assert found >= 0.9 * found_at_the_end


def test_the_chance_to_decide() -> None:
    generator = np.random.default_rng(10)
    assert chance_to_decide(generator.standard_normal(2), 8) == 1.0
    assert chance_to_decide(generator.standard_normal(8), 8) == 0.0
    assert chance_to_decide(np.array([1.0, 1.1, 0.9, 1.0]), 8) > 0.9
    assert chance_to_decide(np.array([1.0, -1.1, 0.5, -0.4, 0.1, -0.1]), 8) < 0.1
    few = chance_to_decide(np.array([1.0, 0.5, -0.5]), 12, n_left=1)
    assert few < chance_to_decide(np.array([1.0, 0.5, -0.5]), 12)
