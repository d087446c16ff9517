"""Counterfactuals against closed forms and brute force; constraints hold, and the model itself confirms every one."""

from __future__ import annotations

import itertools
import pickle
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.optimize import brentq, minimize
from scipy.special import expit
from torch import nn

from dlstudio import results
from dlstudio.data.encode import encode_columns
from dlstudio.data.load import load
from dlstudio.data.prepare import prepare
from dlstudio.errors import DLStudioError
from dlstudio.explain.counterfactuals import Constraints, CounterfactualResult, describe, find_counterfactuals
from dlstudio.explain.counterfactuals.diversity import choose
from dlstudio.training.fit import fit
from dlstudio.training.recipe import Recipe


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def network(n_features: int, seed: int = 0, n_outputs: int = 2) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        layers = nn.Linear(n_features, 16), nn.Tanh(), nn.Linear(16, n_outputs)
        for layer in (layers[0], layers[2]):
            nn.init.normal_(layer.weight, std=1.0)
        return nn.Sequential(*layers).double()


def decide(model: nn.Module, rows: Any) -> np.ndarray:
    with torch.no_grad():
        return model(torch.as_tensor(np.atleast_2d(rows))).argmax(dim=1).numpy()


# -- closed forms -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(4))
def test_the_euclidean_minimum_of_a_linear_score_is_its_closed_form(seed: int) -> None:
    rng = np.random.default_rng(seed)
    weights, bias, x = rng.normal(size=7), rng.normal(), rng.normal(size=7)
    target = float(x @ weights + bias) + rng.choice([-1, 1]) * 1.7
    result = find_counterfactuals(lambda rows: rows @ weights + bias, x, target=target, norm="l2")
    expected = x + (target - (x @ weights + bias)) * weights / (weights @ weights)
    np.testing.assert_allclose(result.inputs[1], expected, atol=1e-6)
    assert result.distance[0] == pytest.approx(1.7 / np.linalg.norm(weights), rel=1e-6)


def test_the_same_in_units_of_the_background() -> None:
    rng = np.random.default_rng(5)
    background = rng.normal(size=(400, 4)) * [1.0, 10.0, 0.1, 3.0]
    weights, x = np.array([1.0, -0.2, 6.0, 0.5]), np.zeros(4)
    unit = np.median(np.abs(background - np.median(background, axis=0)), axis=0)
    result = find_counterfactuals(lambda rows: rows @ weights, x, background=background, target=1.0, norm="l2")
    scaled = unit * weights
    np.testing.assert_allclose(result.units, unit)
    np.testing.assert_allclose(result.inputs[1], unit * scaled / (scaled @ scaled), rtol=1e-5)


@pytest.mark.parametrize("seed", range(3))
def test_ranges_cut_the_euclidean_minimum_as_its_optimality_conditions_say(seed: int) -> None:
    rng = np.random.default_rng(seed)
    weights, half = rng.normal(size=6), rng.uniform(0.1, 0.6, 6)
    names = [f"x{at}" for at in range(6)]
    need = 0.7 * float(np.abs(weights) @ half)
    result = find_counterfactuals(
        lambda rows: rows @ weights,
        np.zeros(6),
        constraints=Constraints(ranges={name: (-end, end) for name, end in zip(names, half, strict=True)}),
        target=need,
        norm="l2",
    )
    found = result.inputs[1]
    unit = 2 * half  # without a background, the width of the range
    # Its optimality conditions: u = clip(multiplier * slope), with the multiplier that meets the need exactly.
    slope = unit * weights
    multiplier = brentq(lambda m: np.clip(m * slope, -0.5, 0.5) @ slope - need, 0, 1e3, xtol=1e-14)
    np.testing.assert_allclose(found / unit, np.clip(multiplier * slope, -0.5, 0.5), atol=1e-6)
    assert (np.abs(found) <= half + 1e-12).all()


def test_in_city_blocks_one_column_does_it_and_the_next_best_column_comes_next() -> None:
    weights, x = np.array([0.5, -2.0, 1.0]), np.array([0.3, 0.1, -0.2])
    score = float(x @ weights)
    result = find_counterfactuals(lambda rows: rows @ weights, x, target=score + 1.0, n=3)
    np.testing.assert_allclose(result.distance, [0.5, 1.0, 2.0], rtol=1e-6)
    assert result.changed.tolist() == [[False, True, False], [False, False, True], [True, False, False]]
    assert result.shifts[0, 1] == pytest.approx(-0.5, rel=1e-6)


def test_of_three_logits_the_wanted_one_has_to_beat_both_others() -> None:
    torch.manual_seed(0)
    model = nn.Linear(5, 3).double()
    x = torch.randn(5, dtype=torch.float64)
    now = int(model(x).argmax())
    wanted = (now + 1) % 3
    rival = 3 - now - wanted
    result = find_counterfactuals(model, x, target=wanted, norm="l2")
    gaps = (model.weight[wanted] - model.weight).detach().numpy()
    need = (model(x) - model(x)[wanted]).detach().numpy()
    solved = minimize(
        lambda u: u @ u,
        np.zeros(5),
        constraints=[{"type": "ineq", "fun": lambda u, k=k: gaps[k] @ u - need[k]} for k in (now, rival)],
        options={"ftol": 1e-14},
    )
    assert result.distance[0] == pytest.approx(float(np.linalg.norm(solved.x)), rel=1e-3)
    assert set(result.decisions) == {f"class {wanted}"}


# -- brute force ------------------------------------------------------------------------------------------------------


def brute_force(model: nn.Module, start: tuple[int, ...], allowed: list[list[int]]) -> list[int]:
    """How many columns each grid point that flips has changed, sorted; codes all cost 1."""
    wanted = 1 - decide(model, np.array(start, dtype=float))[0]
    grid = np.array(list(itertools.product(*allowed)), dtype=float)
    return sorted(int((point != start).sum()) for point in grid[decide(model, grid) == wanted])


@pytest.mark.parametrize("seed", range(8))
def test_codes_are_searched_exhaustively(seed: int) -> None:
    model, start = network(5, seed), (0, 1, 2, 0, 1)
    values = [[0, 1, 2], [0, 1, 2, 3], [0, 1, 2], [0, 1], [0, 1, 2]]
    categories = {f"x{at}": tuple(column) for at, column in enumerate(values)}
    # x0 fixed, x1 only upwards, x2 may not become 0
    limits = Constraints(immutable=("x0",), directions={"x1": "up"}, categories={**categories, "x2": (1, 2)})
    result = find_counterfactuals(model, np.array(start, dtype=float), constraints=limits, n=1)
    expected = brute_force(model, start, [[0], [1, 2, 3], [1, 2], [0, 1], [0, 1, 2]])
    assert result.exhaustive
    assert len(result) == (1 if expected else 0)
    if expected:
        assert result.distance[0] == expected[0] == result.changed[0].sum()
    else:
        assert "None exists" in result.reason and result.findings[0].code == "DLS441"
    for most in (1, 2):
        fewer = find_counterfactuals(model, np.array(start, dtype=float), constraints=limits, n=10, max_changes=most)
        assert fewer.exhaustive and (len(fewer) > 0) == any(size <= most for size in expected)
        assert (fewer.changed.sum(axis=1) <= most).all()


@pytest.mark.parametrize("norm", ["l1", "l2"])
@pytest.mark.parametrize("seed", range(6))
def test_the_search_in_the_plane_finds_what_a_fine_grid_finds(seed: int, norm: str) -> None:
    model, rng = network(2, seed + 20), np.random.default_rng(seed)
    background = rng.normal(size=(300, 2))
    x = rng.normal(size=2)
    unit = np.median(np.abs(background - np.median(background, axis=0)), axis=0)
    low, high = background.min(axis=0), background.max(axis=0)
    axes = [np.linspace(low[at], high[at], 801) for at in range(2)]
    grid = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 2)
    grid = grid[decide(model, grid) != decide(model, x)[0]]
    result = find_counterfactuals(model, x, background=background, norm=norm, n=1)
    if not len(grid):
        assert len(result) == 0
        return
    shifts = np.abs(grid - x) / unit
    best = float((shifts.sum(axis=1) if norm == "l1" else np.sqrt((shifts**2).sum(axis=1))).min())
    assert result.distance[0] <= best * 1.001


@pytest.mark.parametrize("norm", ["l1", "l2"])
@pytest.mark.parametrize("seed", range(4))
def test_the_search_over_mixed_columns_finds_what_a_grid_finds(seed: int, norm: str) -> None:
    """Two codes, one column of 40 whole numbers, and a continuous one."""
    model, rng = network(4, seed + 40), np.random.default_rng(seed)
    scale = np.array([1.0, 1.0, 0.1, 1.0])
    names = ("a", "b", "count", "size")
    background = np.column_stack(
        [rng.integers(0, 3, 500), rng.integers(0, 2, 500), rng.integers(0, 40, 500), rng.normal(size=500)]
    )
    x = background[0].copy()
    unit = np.median(np.abs(background - np.median(background, axis=0)), axis=0)[2:]
    sizes = np.linspace(background[:, 3].min(), background[:, 3].max(), 601)
    grid = np.array([point for point in itertools.product(range(3), range(2), range(40), sizes)])
    flips = grid[decide(model, grid * scale) != decide(model, x * scale)[0]]
    whole = (flips[:, :2] != x[:2]).astype(float)
    shifts = np.column_stack([whole, np.abs(flips[:, 2:] - x[2:]) / unit])
    best = float((shifts.sum(axis=1) if norm == "l1" else np.sqrt((shifts**2).sum(axis=1))).min())
    result = find_counterfactuals(
        lambda rows: model(torch.as_tensor(rows * scale)).detach().numpy(),
        x,
        background=background,
        constraints=Constraints(categories={"a": (0, 1, 2), "b": (0, 1)}),
        feature_names=names,
        norm=norm,
    )
    assert result.distance[0] <= best * 1.005
    assert not result.exhaustive
    counts = np.array([values[2] for values in result.values])
    assert (counts == np.round(counts)).all()


# -- promises ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(10))
def test_constraints_hold_and_the_model_confirms_every_row(seed: int) -> None:
    rng = np.random.default_rng(seed)
    model = network(8, seed, n_outputs=3).float()
    background = np.round(rng.normal(size=(200, 8)), 2).astype(np.float32)
    background[:, 4:6] = rng.integers(0, 6, (200, 2))
    x = background[int(rng.integers(200))]
    names = [f"c{at}" for at in range(8)]
    limits = Constraints(
        immutable=("c0",),
        ranges={"c1": (-0.5, 0.5), "c4": (2, None)},
        directions={"c2": "up", "c3": "down", "c5": "up"},
    )
    most = int(rng.integers(1, 6))
    result = find_counterfactuals(
        model, x, background=background, constraints=limits, max_changes=most, feature_names=names, n=6, seed=seed
    )
    before = decide(model, x)[0]
    for number in range(len(result)):
        row = result.inputs[1 + number]
        assert decide(model, row)[0] != before
        assert result.decisions[number] == f"class {decide(model, row)[0]}"
        assert 1 <= int(result.changed[number].sum()) <= most
        moved = np.abs(row - x) > 0
        np.testing.assert_array_equal(moved, result.changed[number])
        assert not moved[0]
        assert not moved[1] or -0.5 <= row[1] <= 0.5
        assert row[2] >= x[2] and row[3] <= x[3] and row[5] >= x[5]
        assert not moved[4] or row[4] >= 2
        assert row[4] == round(float(row[4])) and row[5] == round(float(row[5]))
        # two decimals, as the data have
        np.testing.assert_allclose(row * 100, np.round(row * 100), atol=1e-3)
        assert (row >= background.min(axis=0)).all() and (row <= background.max(axis=0)).all()
        np.testing.assert_allclose(np.abs(result.shifts[number]).sum(), result.distance[number])
    assert (np.diff(result.distance) >= 0).all()
    signs = {tuple(np.sign(shift)) for shift in result.shifts}
    assert len(signs) == len(result)


def test_none_says_whether_that_is_proven() -> None:
    model = nn.Linear(2, 2)
    with torch.no_grad():
        model.weight.zero_()
        model.bias.copy_(torch.tensor([1.0, 0.0]))
    continuous = find_counterfactuals(model, torch.zeros(2), background=torch.randn(50, 2))
    assert len(continuous) == 0 and not continuous.exhaustive
    assert "no proof" in continuous.reason and continuous.findings[0].code == "DLS442"
    whole = find_counterfactuals(model, np.zeros(2, dtype=np.int64), background=np.arange(20).reshape(10, 2))
    # x0 from 0 to 18, x1 from 1 to 19 or 0 as it is, but not both as they are
    assert len(whole) == 0 and whole.exhaustive and f"all {19 * 20 - 1} allowed rows" in whole.reason
    fixed = find_counterfactuals(model, torch.zeros(2), constraints=Constraints(immutable=("x0", "x1")))
    assert len(fixed) == 0 and fixed.exhaustive and "no column" in fixed.reason
    assert fixed.frame().empty and describe(fixed) == (fixed.reason,)


def test_directions_that_lead_away_leave_nothing() -> None:
    values = np.arange(12.0).reshape(-1, 1)
    limits = Constraints(directions={"x0": "down"})
    result = find_counterfactuals(
        lambda rows: rows[:, 0], np.array([5.0]), background=values, target=8.0, constraints=limits
    )
    assert len(result) == 0 and result.exhaustive
    up = find_counterfactuals(lambda rows: rows[:, 0], np.array([5.0]), background=values, target=(7.5, 9.5))
    assert up.values == ((8.0,),) and up.decisions == ("8",)


def test_categories_in_order_only_go_up() -> None:
    names = tuple(f"degree={name}" for name in ("bachelor", "none", "school"))
    row = np.array([0.0, 0.0, 1.0])
    score = np.array([2.0, 5.0, 0.0])
    limits = Constraints(categories={"degree": ("none", "school", "bachelor")}, directions={"degree": "up"})
    result = find_counterfactuals(
        lambda rows: rows @ score,
        row,
        target=1.0,
        constraints=limits,
        feature_names=names,
        column_of_feature=["degree"] * 3,
    )
    assert result.values == (("bachelor",),) and result.original == ("school",)
    assert result.inputs[1].tolist() == [1.0, 0.0, 0.0]
    with pytest.raises(DLStudioError, match="List them from low to high"):
        find_counterfactuals(
            lambda rows: rows @ score, row, target=1.0, constraints=Constraints(directions={"degree": "up"}),
            feature_names=names, column_of_feature=["degree"] * 3,
        )  # fmt: skip


def test_a_function_of_labels_or_probabilities_is_enough() -> None:
    rng = np.random.default_rng(0)
    background = rng.normal(size=(200, 3))
    labels = find_counterfactuals(
        lambda rows: np.where(rows[:, 0] + rows[:, 1] > 1.0, "yes", "no"),
        np.zeros(3),
        background=background,
        target="yes",
    )
    unit = np.median(np.abs(background - np.median(background, axis=0)), axis=0)
    assert labels.decision == "no" and set(labels.decisions) == {"yes"}
    assert labels.distance[0] == pytest.approx(1.0 / unit[:2].max(), rel=0.02)
    one = find_counterfactuals(lambda rows: expit(rows[:, :1] * 2 - 1), np.zeros(3), target=0.5, n=1)
    assert one.values[0][0] == pytest.approx(0.5, rel=1e-6)


def test_the_model_and_the_random_numbers_are_as_before_and_the_seed_decides() -> None:
    model = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, 2)).train()
    model[0].eval()
    state = {name: item.clone() for name, item in model.state_dict().items()}
    torch.manual_seed(3)
    before = torch.get_rng_state()
    x, background = torch.zeros(4), torch.linspace(-2, 2, 200).reshape(50, 4)
    one = find_counterfactuals(model, x, background=background, seed=1)
    two = find_counterfactuals(model, x, background=background, seed=1)
    assert torch.equal(torch.get_rng_state(), before)
    assert [part.training for part in model] == [False, True, True, True]
    assert all(torch.equal(item, state[name]) for name, item in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
    for field in ("values", "distance", "inputs", "n_evaluations"):
        assert results.equal(getattr(one, field), getattr(two, field))


# -- limits -----------------------------------------------------------------------------------------------------------


class Asked:
    """A network as a function that notes how many rows it was given at a time, and may do something then."""

    def __init__(self, seed: int, then: Callable[[Asked], None] = lambda asked: None) -> None:
        self.net, self.sizes, self.then = network(4, seed), list[int](), then

    def __call__(self, rows: np.ndarray) -> np.ndarray:
        self.sizes.append(len(rows))
        self.then(self)
        with torch.no_grad():
            return self.net(torch.as_tensor(rows)).numpy()


BACKGROUND = np.random.default_rng(0).normal(size=(300, 4))


@pytest.mark.parametrize("calls", [1, 3, 4, 6, 20, 60])
def test_a_cancelled_search_returns_what_it_found_and_claims_no_more(calls: int) -> None:
    event = threading.Event()
    model = Asked(3, lambda asked: event.set() if len(asked.sizes) >= calls else None)
    result = find_counterfactuals(model, BACKGROUND[0], background=BACKGROUND, cancel=event, progress=False)
    assert not result.exhaustive and len(model.sizes) <= calls + 8 * 4, "only what is returned is asked about again"
    cut = next(finding for finding in result.findings if finding.code == "DLS443")
    assert cut.severity == "info" and "it was cancelled" in cut.sentence
    assert "cannot be concluded that none exists" in cut.sentence
    assert "None exists" not in " ".join((result.reason, *describe(result))) and "cut short" in describe(result)[-1]
    before = decide(model.net, BACKGROUND[0])[0]
    assert (decide(model.net, result.inputs[1:]) != before).all() if len(result) else calls < 6
    whole = find_counterfactuals(Asked(3), BACKGROUND[0], background=BACKGROUND, progress=False)
    assert "DLS443" not in [finding.code for finding in whole.findings]
    assert not len(result) or whole.distance[0] <= result.distance[0] * (1 + 1e-9)


def test_none_is_not_proven_by_a_search_that_was_cut_short() -> None:
    """The same question as in an exhaustive search, ended after the first of its batches."""
    choices = {f"x{at}": tuple(range(10)) for at in range(4)}
    event = threading.Event()

    def same(rows: np.ndarray) -> np.ndarray:
        if len(rows) > 2:
            event.set()
        return np.tile([1.0, 0.0], (len(rows), 1))

    options: dict[str, Any] = {"constraints": Constraints(categories=choices), "progress": False}
    result = find_counterfactuals(same, np.zeros(4), cancel=event, **options)
    assert not len(result) and not result.exhaustive and result.n_evaluations < 10**4 - 1
    assert [finding.code for finding in result.findings] == ["DLS442", "DLS443"]
    assert "no proof" in result.reason and "cut short: it was cancelled" in result.reason
    whole = find_counterfactuals(same, np.zeros(4), **options)
    assert whole.exhaustive and f"all {10**4 - 1:,} allowed rows" in whole.reason


def test_time_ends_a_search(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])

    def slower(asked: Asked) -> None:
        now[0] += 0.01 * asked.sizes[-1]

    model = Asked(3, slower)
    result = find_counterfactuals(model, BACKGROUND[0], background=BACKGROUND, max_seconds=20, progress=False)
    assert now[0] < 21 and len(result) and not result.exhaustive
    assert "the 20 s allowed were over" in result.findings[-1].sentence and result.findings[-1].code == "DLS443"
    assert results.equal(result, pickle.loads(pickle.dumps(result)))


def test_running_out_of_memory_halves_the_batch_of_a_search() -> None:
    def tight(asked: Asked) -> None:
        if asked.sizes[-1] > 100:
            raise MemoryError

    expected = find_counterfactuals(Asked(3), BACKGROUND[0], background=BACKGROUND, progress=False)
    model = Asked(3, tight)
    result = find_counterfactuals(model, BACKGROUND[0], background=BACKGROUND, progress=False)
    np.testing.assert_allclose(result.inputs, expected.inputs, rtol=1e-6)
    assert max(model.sizes[60:]) <= 100
    few = Asked(3)
    find_counterfactuals(few, BACKGROUND[0], background=BACKGROUND, progress=False, max_batch=np.int64(50))
    assert max(few.sizes) == 50

    def never(rows: np.ndarray) -> np.ndarray:
        raise MemoryError("Unable to allocate 9 GiB")

    with pytest.raises(DLStudioError, match="memory for a single row"):
        find_counterfactuals(never, BACKGROUND[0], progress=False)


def test_progress_counts_the_steps_of_a_search() -> None:
    for constraints in (None, Constraints(categories={f"x{at}": (0, 1, 2, 3, 4, 5, 6, 7, 8) for at in range(4)})):
        told: list[tuple[int, int]] = []
        row = BACKGROUND[0] if constraints is None else np.zeros(4)
        find_counterfactuals(
            Asked(3),
            row,
            background=BACKGROUND,
            constraints=constraints,
            progress=lambda *at, told=told: told.append(at),
        )
        assert told == [(at, len(told) - 1) for at in range(len(told))] and len(told) > (constraints is None)


def test_numpys_numbers_are_numbers() -> None:
    numbers: dict[str, Any] = {"n": np.int64(2), "max_changes": np.uint8(3), "seed": np.int32(5)}
    plain = {name: int(number) for name, number in numbers.items()}
    one, two = (
        find_counterfactuals(Asked(3), BACKGROUND[0], background=BACKGROUND, progress=False, **options)
        for options in (numbers, plain)
    )
    assert one.values == two.values and type(one.seed) is int


def test_constraints_that_leave_nothing_are_told() -> None:
    limits = Constraints(ranges={"x0": (50, 60)}, directions={"x0": "down"}, immutable=("x1", "x2", "x3"))
    result = find_counterfactuals(Asked(3), BACKGROUND[0], background=BACKGROUND, constraints=limits)
    assert not len(result) and result.reason == "The constraints leave no column that may change."


# -- data sets and runs -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    n = 600
    frame = pd.DataFrame(
        {
            "age": rng.integers(18, 70, n),
            "income": np.round(rng.lognormal(10, 0.4, n), 2),
            "home": rng.choice(["own", "rent", "other"], n),
            "savings": np.where(rng.random(n) < 0.1, np.nan, rng.gamma(2.0, 3.0, n)),
            "member": rng.random(n) < 0.3,
        }
    )
    good = frame.income / 20_000 + (frame.home == "own") + 0.1 * frame.savings.fillna(3) + rng.normal(0, 0.4, n) > 2.5
    return frame.assign(granted=np.where(good, "yes", "no"))


@pytest.fixture(scope="module")
def trained(table: pd.DataFrame) -> tuple[nn.Module, Any]:
    dataset: Any = prepare(table, target="granted", missing="impute")
    model = network(len(dataset.feature_names), 1).float()
    x, y = dataset.split("train")
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    for _ in range(120):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()
    return model.eval(), dataset


def test_rows_of_a_data_set_change_in_their_own_columns_and_units(trained: Any, table: pd.DataFrame) -> None:
    model, dataset = trained
    denied = np.flatnonzero(decide(model, dataset.inputs.numpy()) == 0)
    limits = Constraints(immutable=("age",), directions={"income": "up"})
    seen = 0
    for row in denied[:6].tolist():
        result = find_counterfactuals(model, row, data=dataset, constraints=limits)
        assert result.decision == "no" and set(result.decisions) <= {"yes"} and result.row == row
        assert result.columns == ("age", "income", "home", "savings", "member")
        missing = bool(np.isnan(table.savings[row]))
        assert result.original[3] == ("missing" if missing else pytest.approx(table.savings[row], rel=1e-6))
        assert (result.original[0], result.original[2]) == (table.age[row], table.home[row])
        assert not (missing and result.changed[:, 3].any())
        for number, values in enumerate(result.values):
            seen += 1
            age, income, home, savings, member = values
            assert age == table.age[row] and income >= table.income[row] - 1e-9 and member in (0.0, 1.0)
            assert home in ("own", "rent", "other")
            # Encoded anew, by the encoder itself, beside the training rows.
            train = table.iloc[dataset.splits["train"]]
            raw = {
                "age": np.append(train.age.to_numpy(float), age),
                "income": np.append(train.income.to_numpy(), income),
                "home": np.append(train.home.to_numpy(object), home),
                "savings": np.append(train.savings.to_numpy(), np.nan if missing else savings),
                "member": np.append(train.member.to_numpy(float), member),
            }
            encoded = encode_columns(raw, np.arange(len(train)), impute=True)
            assert encoded.names == dataset.feature_names
            np.testing.assert_allclose(result.inputs[1 + number], encoded.inputs[-1].numpy(), atol=2e-5)
            assert decide(model, encoded.inputs[-1].numpy())[0] == 1 or np.diff(result.outputs[1 + number]) < 1e-3
    assert seen >= 6


def test_codes_for_missing_values_do_not_disturb_the_units() -> None:
    """The mortgage file writes 999999 and the like where a value is missing."""
    dataset = load("mortgage")
    model = network(len(dataset.feature_names), 3).float()
    assert dataset.frame is not None
    for column in ("term", "liq", "appinc", "obrat"):
        raw = dataset.frame[column].to_numpy(float)
        known = np.isfinite(raw) & (raw < 600_000) & ~((raw == 666) & (column == "appinc"))
        row = int(np.flatnonzero(known & (raw != np.median(raw[known])))[5])
        result = find_counterfactuals(model, row, data=dataset, n=2, max_changes=2)
        assert result.original[result.columns.index(column)] == pytest.approx(raw[row], rel=1e-6)
        train = raw[dataset.splits["train"]]
        train = train[known[dataset.splits["train"]]]
        unit = np.median(np.abs(train - np.median(train))) or train.std()
        assert result.units[result.columns.index(column)] == pytest.approx(unit, rel=1e-3)


def test_an_encoded_row_of_a_data_set_is_read_back(trained: Any) -> None:
    model, dataset = trained
    row = int(np.flatnonzero(decide(model, dataset.inputs.numpy()) == 0)[0])
    by_number = find_counterfactuals(model, row, data=dataset)
    by_row = find_counterfactuals(model, dataset.inputs[row], data=dataset)
    assert by_row.original == by_number.original and by_row.values == by_number.values and by_row.row == -1


def test_a_run_is_enough_and_the_result_survives_writing(tmp_path: Any) -> None:
    run = fit(Recipe(data="mortgage", epochs=8, name="counterfactual-run"), progress=False)
    result = find_counterfactuals(
        run, row=311, constraints=Constraints(immutable=["dep"], ranges={"obrat": (20, None)})
    )
    assert result.run == run.key and result.row == 311 and result.decision in ("denied", "approved")
    assert results.load(run.folder / "results" / "counterfactuals-311.json") == result
    assert len(result) and set(result.decisions) == {"approved", "denied"} - {result.decision}
    again = results.load(results.save(result, tmp_path, "counterfactuals"))
    assert again == result and isinstance(again, CounterfactualResult)
    frame = result.frame()
    assert len(frame) == result.changed.sum() and set(frame.counterfactual) == set(range(1, len(result) + 1))
    first = frame[frame.counterfactual == 1]
    assert np.abs(first["shift"]).sum() == pytest.approx(result.distance[0])
    assert len(describe(result)) >= len(result)


def test_sentences_name_columns_values_and_decisions() -> None:
    result = find_counterfactuals(
        lambda rows: np.column_stack([1.5 - rows[:, 0], rows[:, 0]]),
        np.array([0, 7]),
        background=np.array([[0, 1], [1, 7], [2, 3], [3, 3]]),
        feature_names=("years", "other"),
        class_names=("denied", "approved"),
    )
    assert describe(result)[0] == "denied would become approved if years rose from 0 to 1."
    assert result.findings[0].code == "DLS440" and result.findings[0].sentence == describe(result)[0]


# -- bad input --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"row": [0.0, np.nan]}, "finite numbers in the row"),
        ({"row": [[0.0, 1.0], [0.0, 1.0]]}, "shape \\(features,\\)"),
        ({"row": 3}, "data= and the number of a row"),
        ({"background": np.zeros((5, 3))}, "background of shape \\(m, 2\\)"),
        ({"background": np.full((5, 2), np.inf)}, "finite numbers in the background"),
        ({"constraints": Constraints(immutable="incme"), "feature_names": ("income", "age")}, "Did you mean 'income'"),
        ({"feature_names": ("a",)}, "2 feature_names"),
        ({"feature_names": ("a", "a")}, "names that differ"),
        ({"target": 5}, "one of 2 classes"),
        ({"target": "yes", "class_names": ("no", "yess")}, "Did you mean 'yess'"),
        ({"target": 0}, "another class than"),
        ({"n": 0}, "n of 1 or more"),
        ({"max_changes": 0}, "max_changes of 1 or more"),
        ({"norm": "L1"}, "Did you mean 'l1'"),
        ({"model": lambda rows: rows.sum()}, "many rows at once"),
        ({"model": lambda rows: rows[:, 0]}, "value to reach"),
        ({"model": lambda rows: rows[:, 0], "target": (3, 1)}, "lower end first"),
        ({"model": lambda rows: rows[:, 0] * np.nan, "target": 3.0}, "outputs that are numbers"),
        ({"model": 3}, "a function of rows"),
        ({"model": nn.Linear(3, 2)}, "a model that takes"),
        ({"row": ["a", "b"]}, "a row of numbers"),
        ({"background": np.zeros((0, 2))}, "a background of numbers"),
        ({"n": 2.5}, "n of 1 or more"),
        ({"seed": "a"}, "seed of 0 or more"),
        ({"max_batch": 0}, "max_batch of 1 or more"),
        ({"max_seconds": "long"}, "max_seconds above 0"),
        ({"cancel": True}, "an event with is_set"),
        ({"constraints": {"immutable": ("x0",)}}, "Constraints"),
        ({"data": np.zeros((5, 2))}, "a data set as data"),
    ],
)  # fmt: skip
def test_bad_input_is_named(options: dict[str, Any], complaint: str) -> None:
    good: dict[str, Any] = {"model": lambda rows: np.column_stack([1 - rows[:, 0], rows[:, 0]]), "row": [0.0, 1.0]}
    given = good | options
    with pytest.raises(DLStudioError, match=complaint):
        find_counterfactuals(given.pop("model"), given.pop("row"), **given)


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"directions": {"a": "upp"}}, "Did you mean 'up'"),
        ({"ranges": {"a": (3, 1)}}, "a range"),
        ({"ranges": {"a": 3}}, "a range"),
        ({"categories": {"a": "b"}}, "a list of values"),
        ({"categories": {"a": ()}}, "a list of values"),
        ({"categories": {"a": 3}}, "a list of values"),
        ({"directions": {"a": None}}, "direction of 'a'"),
        ({"directions": ["a"]}, "directions by column"),
        ({"immutable": 3}, "names of columns as immutable"),
        ({"ranges": {"a": (0, 9)}, "categories": {"a": (1, 2)}}, "a range of 'a' or the values it may take"),
    ],
)
def test_bad_constraints_are_named(options: dict[str, Any], complaint: str) -> None:
    with pytest.raises(DLStudioError, match=complaint):
        Constraints(**options)


def test_data_and_rows_have_to_fit(trained: Any) -> None:
    model, dataset = trained
    for row, options, complaint in (
        (10_000, {}, "a row number from 0 to 599"),
        (np.zeros(3), {}, "an encoded row of"),
        (0, {"background": dataset.inputs}, "from the data set"),
        (0, {"constraints": Constraints(categories={"home": ("own", "castle")})}, "'castle'"),
        (0, {"constraints": Constraints(ranges={"home": (0, 1)})}, "no column of numbers"),
    ):
        with pytest.raises(DLStudioError, match=complaint):
            find_counterfactuals(model, row, data=dataset, **options)
    with pytest.raises(DLStudioError, match="image data"):
        find_counterfactuals(model, 0, data=load("digits"))


# -- choosing ---------------------------------------------------------------------------------------------------------


def test_what_only_adds_to_a_nearer_one_is_left_out_and_a_real_exchange_is_not() -> None:
    shifts = np.array([[2.0, 0, 0], [1.9, 0.2, 0], [0.8, 1.4, 0], [0, 0, 3.0], [2.0, 0, 3.0]])
    distances = shifts.sum(axis=1)
    order = np.argsort(distances, kind="stable")
    signs = np.sign(shifts).astype(np.int64)
    chosen = choose(signs[order], shifts[order], distances[order], 5)
    # The second is the first with a trifle added, the last does the work of two; the third halves the first's change.
    assert order[chosen].tolist() == [0, 3, 2]
    assert order[choose(signs[order], shifts[order], distances[order], 5, lambda at: order[at] != 0)].tolist()[0] != 0
