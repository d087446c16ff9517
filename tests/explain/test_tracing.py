"""What is said of a model's operations is what its author wrote, and every rule about a method is proven on numbers.

Three independent measures say whether a method is right on a network: DeepLift's attributions must add up to the
difference of outputs; LRP's ε rule on a network of ReLUs, maxima and linear layers is input times gradient; guided
backpropagation is the gradient of a network whose ReLUs clamp what flows back.
"""

from __future__ import annotations

import copy
import warnings
from unittest import mock

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from dlstudio.errors import DLStudioError
from dlstudio.explain.inspection.repair import repair, without_softmax
from dlstudio.explain.inspection.tracing import operations, problems
from dlstudio.models.cnn import CNN
from dlstudio.models.gru import GRU
from dlstudio.models.mlp import MLP
from dlstudio.models.transformer import Transformer

from .generated import METHODS, Case, generated

CASES = generated(150)
WRONG = 1e-4
"""A gap above this share of the range is no rounding error in float64."""
scripts = pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:DeprecationWarning")


class Middle(nn.Module):
    """Two linear layers with a function between them."""

    def __init__(self, between) -> None:
        super().__init__()
        self.first, self.last, self.act = nn.Linear(4, 8), nn.Linear(8, 2), nn.ReLU()
        self.between = between

    def forward(self, inputs):
        return self.last(self.between(self, self.first(inputs)))


class Clamp(torch.autograd.Function):
    """Invisible to whatever watches PyTorch's functions."""

    @staticmethod
    def forward(ctx, values):
        ctx.save_for_backward(values)
        return values.clamp(min=0)

    @staticmethod
    def backward(ctx, grad):
        return grad


def seen(between) -> list[tuple[str, str, str]]:
    found = operations(Middle(between), torch.randn(2, 4))
    return [(item.op, item.how, item.where) for item in found]


@pytest.mark.parametrize(
    ("between", "expected"),
    [
        (lambda net, x: net.act(x), ("relu", "module", "act")),
        (lambda net, x: F.relu(x), ("relu", "functional", "")),
        (lambda net, x: x.relu(), ("relu", "functional", "")),
        (lambda net, x: torch.relu_(x), ("relu", "functional", "")),
        (lambda net, x: nn.ReLU()(x), ("relu", "in-line", "")),
        (lambda net, x: net.act(net.act(x) - 1), ("relu", "reused", "act")),
        (lambda net, x: F.gelu(x), ("gelu", "functional", "")),
        (lambda net, x: F.silu(x), ("silu", "functional", "")),
        (lambda net, x: F.softmax(x, dim=1), ("softmax", "functional", "")),
        (lambda net, x: F.layer_norm(x, (8,)), ("layer_norm", "functional", "")),
        (lambda net, x: x * x.roll(1), ("mul", "functional", "")),
        (lambda net, x: x * (x > 0), ("mul", "functional", "")),
        (lambda net, x: (x @ x.T) @ x, ("matmul", "functional", "")),
        (lambda net, x: 1 / (9 + x), ("reciprocal", "functional", "")),
        (lambda net, x: torch.where(x > 0, x, 0.0), ("where", "functional", "")),
        (lambda net, x: x.max(dim=1, keepdim=True).values + 0 * x, ("max", "functional", "")),
        (lambda net, x: x**3, ("pow", "functional", "")),
        (lambda net, x: x.abs(), ("abs", "functional", "")),
        (lambda net, x: x.exp(), ("exp", "functional", "")),
        (lambda net, x: F.dropout(x), ("dropout", "functional", "")),
        (lambda net, x: Clamp.apply(x), ("Clamp", "functional", "")),
    ],
)
def test_every_bend_is_seen_and_told_how_it_was_written(between, expected):
    assert expected in seen(between)


@pytest.mark.parametrize(
    "between",
    [
        lambda net, x: 2 * (x + x.roll(1)) - x.mean(dim=1, keepdim=True) / 3,
        lambda net, x: torch.cat([x[:, 4:], x[:, :4]], dim=1).view(-1, 2, 4).flatten(1),
        lambda net, x: torch.stack([row * 2 for row in x]),
        lambda net, x: x.masked_fill(torch.arange(8) > 3, 0.0),
        lambda net, x: F.dropout(x, training=False),
        lambda net, x: F.batch_norm(x, torch.zeros(8), torch.ones(8)),
        lambda net, x: (x.norm(), x)[1],  # noted down and never used
        lambda net, x: x if torch.isfinite(x).all() else x.relu(),
        lambda net, x: 1 - x,
        lambda net, x: torch.zeros_like(x).add_(x),
    ],
)
def test_linear_code_bends_nothing(between):
    found = operations(Middle(between), torch.randn(2, 4))
    assert not found.nonlinear and not found.cuts


@pytest.mark.parametrize(
    ("between", "op"),
    [
        (lambda net, x: x.round(), "round"),
        (lambda net, x: x + x.sign(), "sign"),
        (lambda net, x: (x > 0).float(), "gt"),
        (lambda net, x: x.detach(), "detach"),
        (lambda net, x: F.one_hot(x.argmax(dim=1), 8).float(), "argmax"),
        (lambda net, x: torch.from_numpy(x.detach().numpy()), "numbers outside PyTorch"),
    ],
)
def test_a_missing_gradient_is_a_problem_of_every_gradient_method_and_of_no_other(between, op):
    found = operations(Middle(between), torch.randn(2, 4))
    assert [item.op for item in found.cuts] == [op]
    for method in ("saliency", "integrated_gradients", "deep_lift", "shap_gradient", "lrp"):
        assert "non-differentiable" in {item.kind for item in problems(found, method)}
    for method in ("shapley", "feature_ablation", "occlusion", "kernel_shap", "shap_kernel", "lime"):
        assert problems(found, method) == []


@pytest.mark.parametrize(
    "between", [lambda net, x: x * (x > 0), lambda net, x: x.gather(1, x.argsort(1)), lambda net, x: x.topk(8).values]
)
def test_choosing_among_numbers_cuts_no_gradient(between):
    assert problems(operations(Middle(between), torch.randn(2, 4)), "integrated_gradients") == []


@scripts
def test_compiled_code_is_named_as_such():
    module, function = torch.jit.script(nn.Sequential(nn.Linear(8, 8), nn.ReLU())), torch.jit.script(bend)
    for hidden in (lambda net, x: module(x), lambda net, x: function(x)):
        found = operations(Middle(hidden), torch.randn(2, 4))
        assert [item.how for item in found] == ["scripted"]
        assert [item.kind for item in problems(found, "deep_lift")] == ["scripted"]
        assert problems(found, "integrated_gradients") == []


def bend(x: torch.Tensor) -> torch.Tensor:
    return torch.relu(x)


def test_the_models_of_the_spine():
    ids = torch.randint(1, 50, (2, 12))
    ids[0, 7:] = 0
    wanted = {
        MLP((20,), 2, dropout=0.1): (torch.randn(2, 20), {"relu": "module"}),
        CNN((1, 28, 28), 10): (torch.randn(2, 1, 28, 28), {"relu": "module", "max_pool2d": "module"}),
        GRU(2, n_tokens=50): (ids, {"gru": "module"}),
        GRU(2, n_channels=3): (torch.randn(2, 9, 3), {"gru": "module"}),
    }
    attention = {"layer_norm": "module", "attention": "functional", "gelu": "module"}
    wanted[Transformer(2, length=20, n_tokens=50)] = (ids, attention)
    wanted[Transformer(2, length=20, n_channels=3)] = (torch.randn(2, 9, 3), attention)
    for model, (inputs, expected) in wanted.items():
        found = operations(model, inputs)
        assert {item.op: item.how for item in found} == expected
        assert found.cuts == (), "masks of padding follow from token ids and are fixed"
        assert problems(found, "integrated_gradients") == []
    assert problems(operations(MLP((20,), 2), torch.randn(2, 20)), "deep_lift") == []


def test_an_unknown_method_is_refused():
    with pytest.raises(DLStudioError, match="deep_lift"):
        problems(operations(nn.Linear(2, 2), torch.zeros(1, 2)), "deeplift")


def test_tracing_leaves_the_model_alone():
    model = Middle(lambda net, x: F.relu(x)).train()
    inputs = torch.randn(2, 4)
    before, kept = {key: value.clone() for key, value in model.state_dict().items()}, inputs.clone()
    operations(model, inputs)
    assert model.training and all(parameter.requires_grad for parameter in model.parameters())
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert torch.equal(inputs, kept) and not inputs.requires_grad
    assert not nn.modules.module._global_forward_hooks and not nn.modules.module._global_forward_pre_hooks


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_planted_problems_are_found_and_sound_networks_are_left_in_peace(case):
    found = operations(case.module, case.inputs[:2])
    logits = without_softmax(case.module, case.inputs)
    assert bool(logits.changes) == (case.recipe.softmax != "none")
    mended = repair(logits.module, case.inputs)
    after = operations(mended.module, case.inputs[:2])
    for method in METHODS:
        for planted, kinds in ((case.planted, problems(found, method)), (case.left, problems(after, method))):
            names = {item.kind for item in kinds}
            assert planted[method] <= names and bool(planted[method]) == bool(names), method


# -- the rules on numbers ------------------------------------------------------------------------------------------


def gap(module: nn.Module, case: Case, method: str) -> float:
    """How far DeepLift's sums are from the differences of outputs, as a share of the largest; infinite if it fails."""
    from captum.attr import DeepLift
    from shap import DeepExplainer

    module = copy.deepcopy(module).double()
    inputs, baselines = case.inputs.double(), case.baselines.double()
    old, new = module(baselines)[:, 0].detach(), module(inputs)[:, 0].detach()
    try:
        if method == "deep_lift":
            sums = DeepLift(module).attribute(inputs, baselines, target=0).flatten(1).sum(1)
        else:
            old = old.mean()
            values = DeepExplainer(module, baselines).shap_values(inputs, check_additivity=False)[..., 0]
            sums = torch.from_numpy(values).flatten(1).sum(1)
    except (RuntimeError, ValueError):
        return float("inf")
    return float((sums - (new - old)).abs().max() / (new - old).abs().max())


class Identity(torch.autograd.Function):
    """tanh as LRP takes it: relevance passes unchanged, so the gradient is output over input."""

    @staticmethod
    def forward(ctx, values):
        ctx.save_for_backward(values)
        return values.tanh()

    @staticmethod
    def backward(ctx, grad):
        (values,) = ctx.saved_tensors
        return grad * values.tanh() / values


class Guided(torch.autograd.Function):
    @staticmethod
    def forward(ctx, values):
        ctx.save_for_backward(values)
        return values.clamp(min=0)

    @staticmethod
    def backward(ctx, grad):
        (values,) = ctx.saved_tensors
        return grad.clamp(min=0) * (values > 0)


def gradient(module: nn.Module, inputs: torch.Tensor) -> torch.Tensor:
    inputs = inputs.clone().requires_grad_()
    return torch.autograd.grad(module(inputs)[:, 0].sum(), inputs)[0]


def relevance_error(module: nn.Module, case: Case) -> float:
    from captum.attr import LRP

    module, inputs = copy.deepcopy(module).double(), case.inputs.double()
    with mock.patch("torch.tanh", Identity.apply), mock.patch("torch.nn.functional.tanh", Identity.apply):
        truth = inputs * gradient(copy.deepcopy(module), inputs)
    try:
        found = LRP(module).attribute(inputs, target=0)
    except (RuntimeError, TypeError):
        return float("inf")
    return float((found - truth).abs().max() / truth.abs().max().clamp(min=1e-12))


def guided_error(module: nn.Module, case: Case) -> float:
    from captum.attr import GuidedBackprop

    module, inputs = copy.deepcopy(module).double(), case.inputs.double()
    clamped = lambda values, inplace=False: Guided.apply(values)  # noqa: E731
    with mock.patch("torch.nn.functional.relu", clamped):
        truth = gradient(copy.deepcopy(module), inputs)
    found = GuidedBackprop(module).attribute(inputs, target=0)
    return float((found - truth).abs().max() / truth.abs().max().clamp(min=1e-12))


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Networks this small run slower on several."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(autouse=True)
def quiet():
    """Captum says that it sets hooks, shap that it does not know a module and that Matplotlib has moved on."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_the_rules_hold_on_numbers(case):
    logits = without_softmax(case.module, case.inputs).module
    mended = repair(logits, case.inputs).module
    for planted, module in ((case.planted, case.module), (case.left, mended)):
        for method in ("deep_lift", "shap_deep"):
            if planted[method]:
                # shap's softmax adds up and is wrong all the same: it credits a class with its own logit only.
                known = method == "shap_deep" and planted[method] == {"softmax"}
                assert known or gap(module, case, method) > WRONG, method
            else:
                assert gap(module, case, method) < 1e-9, method
        if case.recipe.rough:
            continue  # the other two measures have no gradient of rounding either
        if planted["lrp"]:
            assert relevance_error(module, case) > WRONG
        else:
            assert relevance_error(module, case) < 1e-5, "the ε of the rule"
        wrong = guided_error(module, case)
        assert (wrong > WRONG) if planted["guided_grad_cam"] else (wrong < 1e-9)
