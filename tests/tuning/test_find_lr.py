"""The range test on quadratics, whose every loss and whose largest stable rate are known in closed form."""

from __future__ import annotations

import copy
import functools
import random
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from dlstudio import results
from dlstudio.errors import DLStudioError
from dlstudio.training.recipe import Recipe
from dlstudio.tuning.find_batch_size import find_batch_size
from dlstudio.tuning.find_lr import find_lr
from dlstudio.tuning.learning_rates import LearningRates, read_curve


class Point(nn.Module):
    """A point to be moved to 0."""

    def __init__(self, n: int) -> None:
        super().__init__()
        self.x = nn.Parameter(torch.ones(n, dtype=torch.float64))

    def forward(self, _: torch.Tensor) -> torch.Tensor:
        return self.x


def of_quadratic(curvatures: list[float], **options: Any) -> LearningRates:
    """Gradient descent on half the sum of curvature times x squared: stable up to 2 over the largest curvature."""
    scale = torch.tensor(curvatures, dtype=torch.float64)
    return find_lr(
        Point(len(curvatures)),
        loader=[(torch.zeros(1), torch.zeros(1))],
        loss=lambda x, _: (scale * x**2).sum() / 2,
        optimizer=torch.optim.SGD,
        progress=False,
        **options,
    )


def test_losses_are_those_of_the_closed_form() -> None:
    found = of_quadratic([10.0, 1.0], low=1e-6, high=0.1, n_steps=40)
    assert found.lr == pytest.approx(np.geomspace(1e-6, 0.1, 40))
    x = np.cumprod(1 - found.lr[:, None] * np.array([10.0, 1.0]), axis=0)
    assert found.loss == pytest.approx((np.array([10.0, 1.0]) * x**2).sum(axis=1) / 2, rel=1e-12)


@pytest.mark.parametrize("curvature", [1.0, 30.0, 1e3, 1e5])
@pytest.mark.parametrize("others", [(), (0.1,), (0.01, 0.001)])
def test_the_suggestion_is_stable_and_not_timid(curvature: float, others: tuple[float, ...]) -> None:
    found = of_quadratic([curvature, *(curvature * other for other in others)], high=100.0)
    assert found.suggestion is not None
    largest = 2 / curvature
    assert largest / 100 < found.suggestion < largest / 2
    assert found.suggestion == min(found.steepest or 0, (found.lowest or 0) / 10)
    x = 1.0
    for _ in range(1000):  # a training with it
        x *= 1 - found.suggestion * curvature
    assert abs(x) < 1e-3


def test_it_moves_with_the_scale_of_the_problem() -> None:
    one, other = (of_quadratic([c], low=1e-6 / c, high=100.0 / c) for c in (1.0, 1000.0))
    assert one.suggestion == pytest.approx(1000 * (other.suggestion or 0), rel=1e-6)


def test_divergence_ends_it_above_the_largest_stable_rate() -> None:
    found = of_quadratic([100.0], high=100.0)
    assert found.diverged_at is not None and found.diverged_at > 2 / 100
    assert len(found.lr) < 100 and "diverges" in found.reason
    at_once = of_quadratic([100.0], low=1.0, high=10.0)
    assert at_once.suggestion is None and "lower `low`" in at_once.reason
    assert [finding.code for finding in at_once.findings] == ["DLS540"]


def test_a_range_that_ends_too_early_says_so() -> None:
    found = of_quadratic([1.0], low=1e-6, high=1e-2)
    assert "higher `high`" in found.reason and [finding.code for finding in found.findings] == ["DLS541"]


def test_nothing_is_suggested_from_noise() -> None:
    generator = np.random.default_rng(0)
    lr = np.geomspace(1e-7, 1, 100)
    suggested = 0
    for _ in range(400):
        loss = 1 + 0.1 * generator.standard_normal(101)
        suggested += read_curve(lr, loss[1:], loss[:1], 100)["suggestion"] is not None
    assert suggested <= 0.05 * 400


def test_a_fall_under_noise_is_found() -> None:
    generator = np.random.default_rng(1)
    lr = np.geomspace(1e-7, 10, 100)
    bottom = 1 / (1 + (lr / 1e-2) ** 1.5) + (lr / 1.0) ** 3  # falls around 0.01, rises from 1 on
    for _ in range(50):
        loss = bottom + 0.03 * generator.standard_normal(100)
        found = read_curve(lr, loss, np.array([1.0]), 100)
        assert found["suggestion"] is not None and 1e-3 < found["suggestion"] < 0.1


def test_losses_that_are_not_finite() -> None:
    lr = np.geomspace(1e-3, 1, 10)
    nothing = read_curve(lr[:0], np.zeros(0), np.array([np.nan]), 10)
    assert nothing["suggestion"] is None and "before the first step" in nothing["reason"]
    ends = read_curve(lr[:6], np.array([1.0, 0.9, 0.5, 0.2, 0.1, np.inf]), np.array([1.0]), 10)
    assert np.isfinite(ends["smoothed"]).all() and ends["diverged_at"] == lr[5]


def test_a_recipe_and_everything_of_the_caller_stays_as_it_was() -> None:
    module = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    before = copy.deepcopy(module.state_dict())
    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    states = random.getstate(), np.random.get_state()[1].copy(), torch.get_rng_state()  # type: ignore[index]
    recipe = Recipe(data="digits", model=module, batch_size=32, optimizer="sgd")
    found = find_lr(recipe, n_steps=60, progress=False)
    assert found.suggestion is not None and found.data == "digits" and found.optimizer == "sgd"
    assert all(torch.equal(module.state_dict()[name], value) for name, value in before.items())
    assert all(parameter.grad is None for parameter in module.parameters())
    assert random.getstate() == states[0] and np.array_equal(np.random.get_state()[1], states[1])  # type: ignore[index]
    assert torch.equal(torch.get_rng_state(), states[2])
    assert find_lr(recipe, n_steps=60, progress=False).loss.tolist() == found.loss.tolist()


def test_an_optimiser_and_a_loader_of_ones_own_stay_as_they_were() -> None:
    model = nn.Linear(3, 1)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.5)
    rows = torch.utils.data.TensorDataset(torch.randn(64, 3), torch.randn(64, 1))
    source = torch.Generator().manual_seed(7)
    loader = torch.utils.data.DataLoader(rows, batch_size=16, shuffle=True, generator=source)
    state, weights = source.get_state(), copy.deepcopy(model.state_dict())
    found = find_lr(model, loader=loader, loss=nn.functional.mse_loss, optimizer=optimizer, n_steps=30, progress=False)
    assert found.optimizer == "adam" and found.batch_size == 16
    assert optimizer.param_groups[0]["lr"] == 0.5 and not optimizer.state
    assert torch.equal(source.get_state(), state)
    assert all(torch.equal(model.state_dict()[name], value) for name, value in weights.items())


def test_the_result_survives_the_disk(tmp_path: Any) -> None:
    found = of_quadratic([1.0])
    assert results.load(results.save(found, tmp_path, "lr")) == found
    assert list(found.frame().columns) == ["lr", "loss", "smoothed"]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"low": 0.0}, "low"),
        ({"low": 1.0, "high": 0.1}, "low < high"),
        ({"n_steps": 3}, "n_steps"),
        ({"loader": [1], "loss": nn.functional.mse_loss}, "recipe alone"),
    ],
)
def test_bad_input(options: dict[str, Any], says: str) -> None:
    with pytest.raises(DLStudioError, match=says):
        find_lr(Recipe(data="digits"), progress=False, **options)


@pytest.mark.parametrize(
    "optimizer",
    [
        lambda parameters: torch.optim.SGD(parameters, lr=0.1),
        lambda parameters, lr: torch.optim.SGD(parameters, lr=lr),
        functools.partial(torch.optim.SGD, momentum=0.0),
    ],
)
def test_an_optimiser_made_from_parameters_follows_the_rates(optimizer: Any) -> None:
    data = {"loader": [(torch.zeros(1), torch.zeros(1))], "loss": lambda x, _: (x**2).sum() / 2}
    found = find_lr(Point(1), **data, optimizer=optimizer, low=1e-3, high=0.1, n_steps=10, progress=False)
    assert found.loss == pytest.approx(np.cumprod(1 - np.geomspace(1e-3, 0.1, 10)) ** 2 / 2, rel=1e-12)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"model": nn.Linear(5, 1)}, r"shapes cannot be multiplied.*inputs \(4, 3\)"),
        ({"loss": nn.functional.cross_entropy, "model": nn.Linear(3, 2)}, "fit the batches"),
        ({"loss": nn.MSELoss(reduction="none")}, r"one number for a batch.*shape \(4, 1\)"),
        ({"loss": lambda outputs, targets: 0.0}, "one number for a batch"),
        ({"optimizer": lambda parameters: None}, "returns an optimiser"),
        ({"optimizer": lambda: None}, "function of parameters"),
    ],
)
def test_what_does_not_fit_its_batch_is_said(changes: dict[str, Any], says: str) -> None:
    batch = torch.randn(4, 3), torch.randn(4, 1)
    options = {"model": nn.Linear(3, 1), "loss": nn.functional.mse_loss, **changes}
    with pytest.raises(DLStudioError, match=says):
        find_lr(options.pop("model"), loader=[batch], progress=False, **options)


def stray(parameters: Any) -> torch.optim.Optimizer:
    """An optimiser over the parameters of some other model."""
    return torch.optim.Adam(nn.Linear(2, 2).parameters())


def unreadable(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """A loss that fails as a model that returns a tuple does."""
    return (outputs, targets).mean()  # type: ignore[attr-defined,no-any-return]


def in_place(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """A loss whose gradient needs what it has overwritten."""
    grown = outputs.exp()
    grown.add_(1)
    return grown.mean()


UNTRAINABLE: list[tuple[dict[str, Any], str]] = [
    ({"optimizer": torch.optim.LBFGS}, "a step from one gradient, but got LBFGS"),
    ({"optimizer": stray}, "of the model's parameters, but got Adam over others"),
    ({"optimizer": stray(None)}, "of the model's parameters, but got Adam over others"),
    ({"optimizer": torch.optim.SparseAdam}, "an optimiser that can make a step, but got RuntimeError"),
    ({"loss": lambda outputs, targets: torch.tensor(1.0)}, "a loss with a gradient"),
    ({"loss": lambda outputs, targets: outputs.detach().mean()}, "a loss with a gradient"),
    ({"loss": in_place}, "whose gradient can be computed"),
    ({"loss": unreadable}, "fit the batches, but got AttributeError"),
    ({"seed": "x"}, "seed to be a whole number.*, but got seed='x'"),
    ({"seed": 1.5}, "seed to be a whole number"),
    ({"seed": -1}, "seed to be a whole number"),
    ({"seed": 2**64}, "seed to be a whole number"),
]


@pytest.mark.parametrize(("changes", "says"), UNTRAINABLE)
@pytest.mark.parametrize("find", [functools.partial(find_lr, progress=False), find_batch_size], ids=["lr", "size"])
def test_what_cannot_be_trained_is_said(find: Any, changes: dict[str, Any], says: str) -> None:
    batch = torch.randn(16, 3), torch.randn(16, 1)
    options = {"loss": nn.functional.mse_loss, **changes}
    with pytest.raises(DLStudioError, match=says):
        find(nn.Linear(3, 1), loader=[batch], **options)


def test_an_optimiser_of_a_part_of_the_model_trains_that_part() -> None:
    model = nn.Sequential(Point(1), nn.Linear(1, 1, dtype=torch.float64))
    optimizer = torch.optim.SGD(model[0].parameters(), lr=1.0)
    data = {"loader": [(torch.zeros(1), torch.zeros(1))], "loss": lambda x, _: (x**2).mean()}
    found = find_lr(model, **data, optimizer=optimizer, low=1e-4, high=1e-2, n_steps=10, progress=False)
    slope, bias = model[1].weight.item(), model[1].bias.item()
    x = [1.0]
    for rate in np.geomspace(1e-4, 1e-2, 10):
        x.append(x[-1] - rate * 2 * slope * (slope * x[-1] + bias))
    assert found.loss == pytest.approx((slope * np.array(x[1:]) + bias) ** 2, rel=1e-9)


def test_bad_models() -> None:
    with pytest.raises(DLStudioError, match="loader"):
        find_lr(nn.Linear(1, 1))
    with pytest.raises(DLStudioError, match="Recipe"):
        find_lr("mlp")  # type: ignore[arg-type]
    with pytest.raises(DLStudioError, match="batches"):
        find_lr(nn.Linear(1, 1), loader=[], loss=nn.functional.mse_loss, progress=False)
