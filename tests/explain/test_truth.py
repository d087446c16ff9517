"""Closed forms and published numbers: every method against a truth that no code of ours computed."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from dlstudio.explain.explain import explain

from .models import MultiLayer, network, random_rows

QUIET: dict[str, Any] = {"progress": False}


def linear(d: int = 6, k: int = 3) -> tuple[nn.Linear, torch.Tensor]:
    """A linear model in double precision, and its weights (d,) for output 1."""
    with torch.random.fork_rng():
        torch.manual_seed(3)
        model = nn.Linear(d, k).double()
    return model, model.weight[1].detach()


@pytest.mark.parametrize(
    ("method", "tolerance"),
    [
        ("integrated_gradients", 5e-10),
        ("deep_lift", 1e-12),
        ("feature_ablation", 1e-12),
        ("occlusion", 1e-12),
        ("shapley", 1e-12),
        ("kernel_shap", 1e-5),  # Captum fits it in single precision
        ("lime", 1e-5),  # Captum's default misses by 0.16 here; least squares does not
    ],
)
def test_linear_model_against_a_baseline(method: str, tolerance: float) -> None:
    model, weights = linear()
    inputs, baseline = random_rows(4, 6, dtype=torch.float64), random_rows(1, 6, seed=9, dtype=torch.float64)
    found = explain(model, inputs, target=1, method=method, baselines=baseline, **QUIET)
    assert np.abs(found.attributions - (weights * (inputs - baseline)).numpy()).max() < tolerance
    assert found.verdict == "ok"


@pytest.mark.parametrize(
    ("method", "tolerance"),
    [("deep_lift_shap", 1e-12), ("shap_deep", 1e-6), ("shap_kernel", 1e-6), ("shapley", 1e-12)],
)
def test_linear_model_against_a_background(method: str, tolerance: float) -> None:
    model, weights = linear()
    inputs, background = random_rows(4, 6, dtype=torch.float64), random_rows(16, 6, seed=9, dtype=torch.float64)
    found = explain(model, inputs, target=1, method=method, baselines=background, **QUIET)
    assert np.abs(found.attributions - (weights * (inputs - background.mean(0))).numpy()).max() < tolerance
    assert found.verdict == "ok"


@pytest.mark.parametrize("n_rows", [2, 3, 40, 1000])
def test_permutation_of_a_linear_model_compares_with_the_mean_of_the_other_rows(n_rows: int) -> None:
    model, weights = linear()
    inputs = random_rows(n_rows, 6, dtype=torch.float64)
    others = (inputs.sum(dim=0) - inputs) / (n_rows - 1)
    found = explain(model, inputs, target=1, method="feature_permutation", **QUIET)
    off = np.abs(found.attributions - (weights * (inputs - others)).numpy())
    assert found.verdict == "ok" and found.standard_error is not None
    assert (off <= np.maximum(8 * found.standard_error, 1e-12)).all()
    assert n_rows > 400 or not found.standard_error.any()  # every row's values were tried


@pytest.mark.parametrize("method", ["kernel_shap", "shap_kernel"])
def test_few_features_are_enumerated_by_the_kernel_methods(method: str) -> None:
    model = network(6, 16, 2)
    inputs, baseline = random_rows(3, 6), random_rows(1, 6, seed=9)
    exact = explain(model, inputs, target=1, method="shapley", baselines=baseline, **QUIET)
    found = explain(model, inputs, target=1, method=method, baselines=baseline, **QUIET)
    assert found.attributions == pytest.approx(exact.attributions, abs=1e-5 * exact.output_range)
    assert found.standard_error is not None and not found.standard_error.any() and found.verdict == "ok"


def test_pairs_of_coalitions_leave_kernel_shap_little_error() -> None:
    model = network(14, 32, 2)
    inputs, baseline = random_rows(3, 14), torch.zeros(1, 14)
    exact = explain(model, inputs, target=1, method="shapley", baselines=baseline, n_samples=4000, **QUIET)
    found = explain(model, inputs, target=1, method="kernel_shap", baselines=baseline, **QUIET)
    assert np.abs(found.attributions - exact.attributions).max() <= 0.03 * exact.output_range
    assert found.verdict == "ok"


@pytest.mark.parametrize("method", ["gradient_shap", "shap_gradient"])
def test_expected_gradients_are_right_within_their_standard_errors(method: str) -> None:
    model, weights = linear()
    inputs, background = random_rows(4, 6, dtype=torch.float64), random_rows(16, 6, seed=9, dtype=torch.float64)
    found = explain(model, inputs, target=1, method=method, baselines=background, **QUIET)
    off = np.abs(found.attributions - (weights * (inputs - background.mean(0))).detach().numpy())
    assert found.standard_error is not None and (off <= 8 * found.standard_error).all() and off.max() < 0.1


ANALYTIC = {
    "integrated_gradients": (78, 195, 117),
    "deep_lift": (78, 195, 117),
    "lrp": (80, 200, 120),
    "shapley": (230 / 3, 590 / 3, 350 / 3),
    "shap_kernel": (230 / 3, 590 / 3, 350 / 3),
    "input_x_gradient": (80, 200, 120),
    "feature_ablation": (80, 200, 120),
    "saliency": (4, 4, 4),
}


@pytest.mark.parametrize("method", ANALYTIC)
def test_multi_layer_by_hand(method: str) -> None:
    found = explain(MultiLayer(), torch.tensor([[20.0, 50.0, 30.0]]), method=method, **QUIET)
    tolerance = 0.1 if method == "integrated_gradients" else 1e-3
    assert np.abs(found.attributions[0] - np.array(ANALYTIC[method])).max() < tolerance
    if method in ("integrated_gradients", "deep_lift", "shapley", "shap_kernel"):
        assert abs(found.attributions.sum() - 390) < 390 * 1e-3 and found.gap < 1e-3
        assert found.prediction[0] == pytest.approx(392) and found.baseline_value[0] == pytest.approx(2)


@pytest.mark.parametrize(("n_steps", "first"), [(50, 78.036), (500, 78.010)])
def test_integrated_gradients_with_so_many_steps(n_steps: int, first: float) -> None:
    inputs = torch.tensor([[20.0, 50.0, 30.0]])
    found = explain(MultiLayer(), inputs, method="integrated_gradients", n_steps=n_steps, **QUIET)
    assert found.attributions[0, 0] == pytest.approx(first, abs=2e-3)


def test_grouped_features_are_one_player() -> None:
    inputs, mask = torch.tensor([[20.0, 50.0, 30.0]]), [0, 0, 1]
    found = explain(MultiLayer(), inputs, method="shapley", feature_mask=mask, **QUIET)
    assert found.attributions[0] == pytest.approx((275, 275, 115), abs=1e-3)
    named = explain(MultiLayer(), inputs, method="shapley", feature_mask=mask, feature_names=("both", "last"), **QUIET)
    assert named.attributions[0] == pytest.approx((275, 115), abs=1e-3) and named.feature_names == ("both", "last")


@pytest.mark.parametrize(
    ("layer", "expected", "tolerance"),
    [("linear0", (0, 390, 0), 0.02), ("relu", (90, 100, 100, 100), 0.05)],
)
def test_layer_conductance_by_hand(layer: str, expected: tuple[float, ...], tolerance: float) -> None:
    inputs = torch.tensor([[0.0, 100.0, 0.0]])
    found = explain(MultiLayer(), inputs, method="layer_conductance", layer=layer, n_steps=500, **QUIET)
    assert found.attributions[0] == pytest.approx(expected, abs=tolerance)
    assert found.layer == layer


class Nested(nn.Module):
    """ReLU(ReLU(x₁) − 1 − ReLU(x₂))."""

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return torch.relu(torch.relu(inputs[:, 0]) - 1 - torch.relu(inputs[:, 1]))


class Shifted(nn.Module):
    """ReLU(ReLU(x₁ − 1) − ReLU(x₂)): other code, the same function wherever x₁ is 1 or more."""

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return torch.relu(torch.relu(inputs[:, 0] - 1) - torch.relu(inputs[:, 1]))


@pytest.mark.parametrize("method", ["integrated_gradients", "shapley"])
@pytest.mark.parametrize("model", [Nested(), Shifted()])
def test_implementation_invariance(model: nn.Module, method: str) -> None:
    found = explain(model, torch.tensor([[3.0, 1.0]]), method=method, n_steps=None, **QUIET)
    expected = (1.5, -0.5)
    assert found.attributions[0] == pytest.approx(expected, abs=0.02 if method == "integrated_gradients" else 1e-6)


class Product(nn.Module):
    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return inputs.prod(dim=1)


@pytest.mark.parametrize("method", ["integrated_gradients", "shapley"])
def test_a_product_is_shared_equally(method: str) -> None:
    found = explain(Product(), torch.tensor([[2.0, 3.0, 4.0]]), method=method, **QUIET)
    assert found.attributions[0] == pytest.approx((8, 8, 8), abs=1e-4)


class DeepLiftExample(nn.Module):
    """2 ReLU(x₁) + 2 ReLU(x₂ − 1.5), Captum's ReLUDeepLiftModel."""

    def __init__(self) -> None:
        super().__init__()
        self.relu1, self.relu2 = nn.ReLU(), nn.ReLU()

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return 2 * self.relu1(inputs[:, 0]) + 2 * self.relu2(inputs[:, 1] - 1.5)


def test_deep_lift_example_of_captum() -> None:
    found = explain(DeepLiftExample(), torch.tensor([[1.0, 2.0]]), method="deep_lift", **QUIET)
    assert found.attributions[0] == pytest.approx((2, 1)) and found.gap == pytest.approx(0)


def test_shapley_of_a_network_by_enumeration_of_all_orders() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, 2)).double()
    inputs, background = random_rows(1, 5, dtype=torch.float64), random_rows(3, 5, seed=2, dtype=torch.float64)

    def worth(members: tuple[int, ...]) -> float:
        mixed = background.clone()
        mixed[:, list(members)] = inputs[0, list(members)]
        with torch.no_grad():
            return float(model(mixed)[:, 1].mean())

    expected = np.zeros(5)
    for order in itertools.permutations(range(5)):
        for at, player in enumerate(order):
            expected[player] += worth(order[: at + 1]) - worth(order[:at])
    expected /= math.factorial(5)
    found = explain(model, inputs, target=1, method="shapley", baselines=background, **QUIET)
    assert np.abs(found.attributions[0] - expected).max() < 1e-12
    assert found.standard_error is not None and not found.standard_error.any()


def test_a_softmax_is_explained_on_its_logits() -> None:
    """SHAP's DeepExplainer passes completeness on a softmax while crediting only the class's own logit."""
    model, weights = linear()
    with_softmax = nn.Sequential(model, nn.Softmax(dim=1))
    inputs, background = random_rows(3, 6, dtype=torch.float64), random_rows(8, 6, seed=9, dtype=torch.float64)
    for method in ("shap_deep", "deep_lift_shap", "shapley"):
        found = explain(with_softmax, inputs, target=1, method=method, baselines=background, **QUIET)
        assert np.abs(found.attributions - (weights * (inputs - background.mean(0))).numpy()).max() < 1e-6
        assert any("logits" in reason for reason in found.reasons)


class Patch(nn.Module):
    """Looks at one patch of an image only, through a convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(1, 1, 3, padding=1, bias=False)
        self.relu = nn.ReLU()
        nn.init.constant_(self.convolution.weight, 1.0)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        seen = self.relu(self.convolution(inputs))[:, :, 9:15, 3:9]
        return torch.stack([seen.sum(dim=(1, 2, 3)), -seen.sum(dim=(1, 2, 3))], dim=1)


@pytest.mark.parametrize(
    "method",
    ["saliency", "integrated_gradients", "deep_lift", "smooth_grad", "occlusion", "shapley", "guided_grad_cam"],
)
def test_a_planted_patch_is_pointed_at(method: str) -> None:
    inputs = random_rows(2, 1, 21, 21).abs()
    found = explain(Patch(), inputs, target=0, method=method, **QUIET)
    weight = np.abs(found.by_feature.reshape(2, 21, 21))
    row, column = np.unravel_index(weight[0].argmax(), (21, 21))
    assert 7 <= row <= 16 and 1 <= column <= 10
    inside = weight[:, 7:17, 1:11].sum() / weight.sum()
    assert inside > 0.99 if method not in ("occlusion", "shapley") else inside > 0.6


class Trigger(nn.Module):
    """Token 7 decides the class; every other token only adds noise that cancels."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(20, 4, padding_idx=0)
        self.head = nn.Linear(4, 2)
        with torch.no_grad():
            self.embedding.weight.mul_(0.01)
            self.embedding.weight[7] = 1.0

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return self.head(torch.tanh(self.embedding(inputs)).sum(dim=1))


@pytest.mark.parametrize(
    "method", ["integrated_gradients", "input_x_gradient", "feature_ablation", "shapley", "kernel_shap"]
)
def test_a_planted_token_is_pointed_at(method: str) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = Trigger()
    inputs = torch.tensor([[3, 7, 12, 5, 0, 0], [9, 2, 4, 7, 1, 0]])
    found = explain(model, inputs, target=0, method=method, **QUIET)
    assert found.modality == "text" and found.attributions.shape == (2, 6)
    assert np.abs(found.attributions).argmax(axis=1).tolist() == [1, 3]


@pytest.mark.parametrize("method", ["integrated_gradients", "occlusion", "shapley", "feature_ablation"])
def test_a_planted_step_of_a_sequence_is_pointed_at(method: str) -> None:
    class Step(nn.Module):
        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            return torch.tanh(inputs[:, 13, 2] / 4)

    inputs = random_rows(2, 24, 3).abs() + 0.5
    found = explain(Step(), inputs, method=method, **QUIET)
    assert found.modality == "sequence"
    step, channel = np.unravel_index(np.abs(found.attributions[0]).argmax(), (24, 3))
    assert channel == 2 and abs(int(step) - 13) <= (2 if method in ("occlusion", "shapley") else 0)
