"""Shapley values against closed forms, the axioms, and an enumeration written independently of the code."""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations
from math import factorial

import numpy as np
import pytest
import torch
from torch import nn

from dlstudio.errors import DLStudioError
from dlstudio.explain.sampling.shapley import shapley

Function = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


def by_definition(function: Function, row: torch.Tensor, background: torch.Tensor, players: torch.Tensor) -> np.ndarray:
    """Shapley's sum over coalitions, a coalition at a time, from the formula in any textbook."""
    n = int(players.max()) + 1

    def worth(coalition: tuple[int, ...]) -> float:
        joined = torch.isin(players, torch.tensor(coalition, dtype=torch.int64))
        batch = torch.stack([torch.where(joined, row, reference) for reference in background])
        return float(function(batch, torch.zeros(len(batch), dtype=torch.int64)).double().mean())

    values = np.zeros(n)
    for player in range(n):
        others = [other for other in range(n) if other != player]
        for size in range(n):
            weight = factorial(size) * factorial(n - size - 1) / factorial(n)
            for coalition in combinations(others, size):
                values[player] += weight * (worth((*coalition, player)) - worth(coalition))
    return values


def network(n_inputs: int, *, seed: int, dtype: torch.dtype = torch.float64) -> Function:
    """A small network whose features interact in every order."""
    generator = torch.Generator().manual_seed(seed)
    first = torch.randn(n_inputs, 16, generator=generator, dtype=dtype)
    second = torch.randn(16, generator=generator, dtype=dtype)
    return lambda batch, rows: torch.tanh(batch.flatten(1) @ first).relu() @ second


def normal(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def multilayer(batch: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
    """Captum's BasicModel_MultiLayer, first output: 1ᵀReLU(Wx + b) − 1."""
    hidden = batch.sum(1, keepdim=True) + torch.tensor([-10.0, 1.0, 1.0, 1.0], dtype=batch.dtype)
    return hidden.relu().sum(1) - 1


def assert_close(found: torch.Tensor, expected: object, tolerance: float = 1e-9) -> None:
    np.testing.assert_allclose(found.numpy(), np.asarray(expected), rtol=tolerance, atol=tolerance)


# Closed forms


def test_multilayer_relu_network() -> None:
    inputs = torch.tensor([[20.0, 50.0, 30.0]])
    found = shapley(multilayer, inputs, torch.zeros(1, 3))
    assert found.exact
    assert_close(found.values, [[230 / 3, 590 / 3, 350 / 3]], 1e-6)
    assert_close(found.values.sum(1), [390], 1e-6)


def test_grouped_features_share_one_value() -> None:
    inputs = torch.tensor([[20.0, 50.0, 30.0]])
    found = shapley(multilayer, inputs, torch.zeros(1, 3), players=torch.tensor([0, 0, 1]))
    assert_close(found.values, [[275, 115]], 1e-6)


def test_a_product_is_shared_equally() -> None:
    found = shapley(lambda batch, rows: batch.prod(1), torch.tensor([[2.0, 3.0, 4.0]]), torch.zeros(1, 3))
    assert_close(found.values, [[8, 8, 8]], 1e-6)


def test_implementation_invariance() -> None:
    def f(batch: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        return (batch[:, 0].relu() - 1 - batch[:, 1].relu()).relu()

    def g(batch: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        return ((batch[:, 0] - 1).relu() - batch[:, 1].relu()).relu()

    for function in (f, g):
        assert_close(shapley(function, torch.tensor([[3.0, 1.0]]), torch.zeros(1, 2)).values, [[1.5, -0.5]], 1e-6)


@pytest.mark.parametrize("n_features", [7, 40])
def test_linear_with_a_background(n_features: int) -> None:
    weights, inputs, background = normal(n_features, seed=1), normal(9, n_features, seed=2), normal(6, n_features)
    found = shapley(lambda batch, rows: batch @ weights, inputs, background)
    assert found.exact == (n_features == 7)
    assert_close(found.values, weights * (inputs - background.mean(0)))
    assert_close(found.standard_error, np.zeros((9, n_features)), 1e-6)
    assert_close(found.prediction, inputs @ weights)
    assert_close(found.baseline_value, (background @ weights).mean().expand(9))


def test_pairs_of_orders_leave_no_error_in_interactions_of_two() -> None:
    form, inputs, background = normal(30, 30, seed=1), normal(4, 30, seed=2), normal(5, 30, seed=3)
    form = form + form.T
    found = shapley(lambda batch, rows: ((batch @ form) * batch).sum(1), inputs, background, n_samples=20)
    way = inputs[:, None] - background
    closed = (way * (2 * background @ form + way @ form)).mean(1)
    assert not found.exact
    assert_close(found.values, closed)
    assert_close(found.standard_error, np.zeros((4, 30)), 1e-5)


# An independent enumeration


@pytest.mark.parametrize("n_features", [1, 2, 3, 6, 10])
def test_enumeration_agrees_with_the_definition(n_features: int) -> None:
    function, inputs, background = network(n_features, seed=1), normal(2, n_features, seed=2), normal(4, n_features)
    found = shapley(function, inputs, background)
    assert found.exact and not found.standard_error.any()
    expected = [by_definition(function, row, background, torch.arange(n_features)) for row in inputs]
    assert_close(found.values, expected)


def test_grouped_images_agree_with_the_definition() -> None:
    function, inputs, background = network(2 * 4 * 4, seed=3), normal(2, 2, 4, 4, seed=4), normal(3, 2, 4, 4)
    players = torch.randint(0, 6, (2, 4, 4), generator=torch.Generator().manual_seed(0))
    found = shapley(function, inputs, background, players=players)
    assert_close(found.values, [by_definition(function, row, background, players) for row in inputs])


def test_integer_tokens() -> None:
    table = normal(12, 8, seed=1)
    kinds = set()

    def function(batch: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        kinds.add(batch.dtype)
        return torch.tanh(table[batch].cumsum(1)).amax(1).sum(1)

    inputs = torch.tensor([[3, 7, 1, 11, 2, 5], [4, 4, 9, 0, 0, 0]])
    background = torch.zeros(1, 6, dtype=torch.int64)
    found = shapley(function, inputs, background)
    expected = [by_definition(function, row, background, torch.arange(6)) for row in inputs]
    assert_close(found.values, expected)
    assert kinds == {torch.int64}


def test_the_trigger_token_gets_it_all() -> None:
    inputs = torch.randint(1, 50, (3, 30), generator=torch.Generator().manual_seed(0))
    inputs[inputs == 7] = 8
    inputs[:, 13] = 7
    found = shapley(
        lambda batch, rows: (batch == 7).any(1).double(), inputs, torch.zeros(1, 30, dtype=torch.int64), n_samples=8
    )
    assert_close(found.values, torch.eye(30)[13].expand(3, 30))


def test_the_informative_patch_gets_it_all() -> None:
    from dlstudio.explain.sampling.superpixels import superpixels

    players = superpixels((3, 28, 28), 49)
    inputs = normal(2, 3, 28, 28)
    found = shapley(
        lambda batch, rows: batch[:, :, 8:12, 12:16].sum((1, 2, 3)),
        inputs,
        torch.zeros(1, 3, 28, 28, dtype=torch.float64),
        players=players,
        n_samples=10,
    )
    patch = int(players[0, 8, 12])
    assert_close(found.values[:, patch], inputs[:, :, 8:12, 12:16].sum((1, 2, 3)))
    assert found.values[:, torch.arange(49) != patch].abs().max() <= 1e-9


# Sampling


@pytest.mark.parametrize(("n_references", "rounds"), [(1, 4), (5, 2), (4, 6)])
def test_standard_errors_are_the_errors(n_references: int, rounds: int) -> None:
    """Over many seeds the mean square of the errors is that of the standard errors, and the mean error is none."""
    function, inputs, background = network(16, seed=1), normal(2, 16, seed=2), normal(n_references, 16)
    players = torch.arange(16) % 8
    exact = shapley(function, inputs, background, players=players).values
    errors, claimed = [], []
    for seed in range(300):
        n_samples = 2 * rounds * n_references
        found = shapley(function, inputs, background, players=players, n_samples=n_samples, seed=seed)
        assert not found.exact
        errors.append(found.values - exact)
        claimed.append(found.standard_error)
    square, claim = torch.stack(errors).square().mean(0), torch.stack(claimed).square().mean(0)
    assert ((square / claim - 1).abs() <= 0.4).all()
    assert abs(float((square / claim).mean()) - 1) <= 0.1
    assert (torch.stack(errors).mean(0).abs() <= 4 * (square / 300).sqrt()).all()


def test_one_pair_a_reference_overstates_its_error() -> None:
    function, inputs, background = network(8, seed=1), normal(3, 8, seed=2), normal(20, 8)
    exact = shapley(function, inputs, background).values
    found = [shapley(function, inputs, background, n_samples=1, seed=seed) for seed in range(50)]
    square = torch.stack([one.values - exact for one in found]).square().mean(0)
    assert (square <= 1.5 * torch.stack([one.standard_error for one in found]).square().mean(0)).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_efficiency_of_samples(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(20, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 2)).to(dtype)
    inputs, background = normal(5, 20, dtype=dtype), normal(50, 20, seed=1, dtype=dtype)
    found = shapley(lambda batch, rows: model(batch)[:, 1], inputs, background, n_samples=500)
    way = found.prediction - found.baseline_value
    span = float(found.prediction.max() - found.prediction.min())
    assert float((found.values.sum(1) - way).abs().max()) <= 1e-5 * span


def test_without_n_samples_it_stops_when_good_enough() -> None:
    function, inputs, background = network(25, seed=5), normal(6, 25, seed=6), normal(10, 25)
    found = shapley(function, inputs, background)
    rows = torch.arange(len(background))
    outputs = torch.cat([found.prediction, function(background, rows)])
    span = float(outputs.max() - outputs.min())
    error = found.standard_error.amax(1)
    most = 11 * 6 + 6 * 32 * 2 * 10 * 24
    assert (error <= 0.01 * span).all() or found.n_evaluations == most
    assert found.n_evaluations <= most
    tight = shapley(function, inputs, background, n_samples=20_000, seed=1)
    combined = (found.standard_error.square() + tight.standard_error.square()).sqrt()
    assert ((found.values - tight.values).abs() <= 5 * combined).all()


def test_n_samples_are_rounded_up_to_an_even_multiple_of_the_background() -> None:
    function, inputs, background = network(20, seed=5), normal(2, 20, seed=6), normal(5, 20)
    for n_samples, orders in ((1, 10), (10, 10), (11, 20), (20, 20)):
        found = shapley(function, inputs, background, n_samples=n_samples)
        assert found.n_evaluations == 2 * (1 + 5) + 2 * orders * 19


# Axioms


@pytest.mark.parametrize("n_samples", [None, 12])
def test_dummy_and_symmetry(n_samples: int | None) -> None:
    first = network(9, seed=7)

    def function(batch: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        used = batch[:, [0, 1, 2, 3, 4, 5, 6, 7, 7]].clone()
        used[:, 7] = batch[:, 7] * batch[:, 8]
        used[:, 8] = batch[:, 7] + batch[:, 8]
        return first(used, rows)

    inputs, background = normal(3, 10, seed=8), normal(4, 10)
    inputs[:, 8], background[:, 8] = inputs[:, 7], background[:, 7]
    found = shapley(function, inputs, background, n_samples=n_samples)
    assert float(found.values[:, 9].abs().max()) <= 1e-12
    apart = (found.values[:, 7] - found.values[:, 8]).abs()
    allowed = 1e-9 + 5 * found.standard_error[:, 7:9].sum(1)
    assert (apart <= allowed).all()


@pytest.mark.parametrize("n_samples", [None, 12])
def test_linearity(n_samples: int | None) -> None:
    f, g, inputs, background = network(10, seed=1), network(10, seed=2), normal(3, 10, seed=3), normal(4, 10)
    parts = [shapley(function, inputs, background, n_samples=n_samples).values for function in (f, g)]
    both = shapley(lambda batch, rows: 2 * f(batch, rows) - g(batch, rows), inputs, background, n_samples=n_samples)
    assert_close(both.values, 2 * parts[0] - parts[1])


# Batches, rows and blocks


def test_rows_say_which_input_a_mixture_was_made_from() -> None:
    inputs, background = normal(7, 15, seed=1), normal(3, 15)
    weights = normal(7, 15, seed=2)
    found = shapley(lambda batch, rows: (batch * weights[rows]).sum(1), inputs, background, max_batch=50)
    assert_close(found.values, weights * (inputs - background.mean(0)))


@pytest.mark.parametrize("n_features", [5, 15])
def test_a_baseline_for_each_row(n_features: int) -> None:
    function, inputs, baselines = network(n_features, seed=1), normal(4, n_features, seed=2), normal(4, 1, n_features)
    together = shapley(function, inputs, baselines, n_samples=20)
    for at in range(4):
        alone = shapley(function, inputs[at : at + 1], baselines[at], n_samples=20)
        assert_close(together.values[at], alone.values[0])
        assert_close(together.standard_error[at], alone.standard_error[0], 1e-6)


@pytest.mark.parametrize("n_features", [4, 18])
@pytest.mark.parametrize("max_batch", [1, 7, 40, 1000])
def test_batches_change_nothing(n_features: int, max_batch: int) -> None:
    function, inputs, background = network(n_features, seed=1), normal(5, n_features, seed=2), normal(3, n_features)
    sizes = []

    def watched(batch: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        sizes.append(len(batch))
        assert rows.dtype == torch.int64 and rows.shape == (len(batch),)
        return function(batch, rows)

    whole = shapley(function, inputs, background, n_samples=18)
    found = shapley(watched, inputs, background, n_samples=18, max_batch=max_batch)
    assert_close(found.values, whole.values)
    assert max(sizes) <= max_batch
    assert sum(sizes) == found.n_evaluations == whole.n_evaluations


def test_a_row_does_not_depend_on_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    function, inputs, background = network(20, seed=1), normal(9, 20, seed=2), normal(4, 20)
    monkeypatch.setitem(shapley.__globals__, "_VALUES_AT_ONCE", 1000)
    found = shapley(function, inputs, background, n_samples=16)
    for at in (0, 4, 8):
        assert_close(found.values[at], shapley(function, inputs[at : at + 1], background, n_samples=16).values[0])


def test_players_equal_to_the_background_are_not_played() -> None:
    function, inputs, background = network(40, seed=1), normal(2, 40, seed=2), torch.zeros(1, 40, dtype=torch.float64)
    inputs[:, 8:] = 0
    found = shapley(function, inputs, background)
    assert found.exact and not found.values[:, 8:].any()
    assert found.n_evaluations == 2 * 2 + 2 * (2**8 - 2)

    def padded(batch: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        return function(nn.functional.pad(batch, (0, 32)), rows)

    expected = [by_definition(padded, row[:8], background[:, :8], torch.arange(8)) for row in inputs]
    assert_close(found.values[:, :8], expected)
    same = shapley(function, background, background)
    assert not same.values.any() and same.values.shape == (1, 40)


def test_everything_is_left_as_found() -> None:
    model = nn.Linear(15, 1)
    inputs, background = normal(2, 15, dtype=torch.float32).requires_grad_(), normal(3, 15, dtype=torch.float32)
    before, kept = torch.get_rng_state(), inputs.detach().clone()
    found = shapley(lambda batch, rows: model(batch.mul_(2))[:, 0], inputs, background, n_samples=12)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(inputs, kept) and torch.is_grad_enabled()
    assert not found.values.requires_grad and model.weight.grad is None
    assert torch.equal(found.values, shapley(lambda b, r: model(b * 2)[:, 0], inputs, background, n_samples=12).values)


def test_ticks_count_up_to_the_plan_and_may_stop() -> None:
    function, inputs, background = network(20, seed=1), normal(4, 20, seed=2), normal(4, 20)
    seen: list[tuple[int, int]] = []
    found = shapley(function, inputs, background, max_batch=100, tick=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (found.n_evaluations, found.n_evaluations)
    assert all(done <= total for done, total in seen)
    assert all(done < later for (done, _), (later, _) in zip(seen, seen[1:], strict=False))

    def stop(done: int, total: int) -> None:
        if done > 500:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        shapley(function, inputs, background, max_batch=100, tick=stop)


# Bad input

ROWS = torch.zeros(3, 4)
GOOD = torch.ones(2, 4)


@pytest.mark.parametrize(
    ("inputs", "background", "options", "says"),
    [
        (torch.zeros(4), GOOD, {}, "at least one row"),
        (torch.zeros(0, 4), GOOD, {}, "at least one row"),
        (ROWS, torch.ones(2, 5), {}, "shape (m, 4), or (3, m, 4)"),
        (ROWS, torch.ones(4), {}, "but got shape (4,)"),
        (ROWS, torch.ones(0, 4), {}, "but got shape (0, 4)"),
        (ROWS, torch.ones(2, 1, 4), {}, "but got shape (2, 1, 4)"),
        (ROWS, GOOD.double(), {}, "but got torch.float64"),
        (ROWS, GOOD, {"players": torch.zeros(3, dtype=torch.int64)}, "in the shape of one input, (4,)"),
        (ROWS, GOOD, {"players": torch.zeros(4)}, "but got torch.float32"),
        (ROWS, GOOD, {"players": torch.tensor([0, 0, 2, 2])}, "2 numbers from 0 to 2"),
        (ROWS, GOOD, {"n_samples": 0}, "n_samples of 1 or more"),
        (ROWS, GOOD, {"max_batch": 0}, "max_batch of 1 or more"),
    ],
)
def test_what_does_not_fit_is_said(
    inputs: torch.Tensor, background: torch.Tensor, options: dict[str, object], says: str
) -> None:
    with pytest.raises(DLStudioError) as caught:
        shapley(lambda batch, rows: batch.sum(1), inputs, background, **options)  # type: ignore[arg-type]
    assert says in str(caught.value)


def test_a_function_must_give_one_finite_number_a_row() -> None:
    with pytest.raises(DLStudioError, match=r"one number for each of the 3 rows .* shape \(3, 4\)"):
        shapley(lambda batch, rows: batch, ROWS, GOOD)
    with pytest.raises(DLStudioError, match="NaN or infinity in 1 of 3 rows, first in row 2"):
        shapley(lambda batch, rows: torch.where(rows == 2, torch.nan, batch.sum(1)), ROWS, GOOD)
