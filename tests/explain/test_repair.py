"""A repaired model says what the original said, holds the same weights, and methods are right on it."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from dlstudio.explain.inspection.operation import Operations
from dlstudio.explain.inspection.repair import repair, without_softmax
from dlstudio.explain.inspection.tracing import operations, problems
from dlstudio.explain.inspection.twins import windows
from dlstudio.models.cnn import CNN
from dlstudio.models.gru import GRU

from .generated import generated


class Net(nn.Module):
    """Two convolutions and a linear layer with whatever is passed for what lies between."""

    def __init__(self, forward) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(1, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
        self.act, self.over = nn.ReLU(), nn.ReLU(inplace=True)
        self.drop = nn.Dropout()
        self.head = nn.LazyLinear(3)
        self.run = forward
        self.eval()
        self(torch.zeros(2, 1, 8, 8))

    def forward(self, inputs):
        return self.head(self.run(self, inputs).flatten(1))


def images(n: int = 4) -> torch.Tensor:
    return torch.randn(n, 1, 8, 8, generator=torch.Generator().manual_seed(0))


def kinds(found: Operations, method: str = "deep_lift") -> set[str]:
    return {item.kind for item in problems(found, method)}


def by_shape(net, x):
    x = F.relu(net.first(x))
    if x.dim() == 4 and x.shape[1] > 1:
        x = F.elu(net.second(x), alpha=0.5)
    batch, channels, *_ = x.shape
    return x.reshape(batch, channels, -1)


def overwritten(net, x):
    x = net.first(x)
    seen = net.over(x)  # x itself is now what a ReLU made of it
    x += seen
    return x.mul_(2) + net.second(x)


CURABLE = {
    "functions": lambda net, x: torch.tanh(F.leaky_relu(net.first(x), 0.2, inplace=True)).sigmoid(),
    "settings": lambda net, x: F.softplus(F.max_pool2d(net.first(x), (2, 2), padding=1, ceil_mode=True), beta=2),
    "clamp": lambda net, x: net.first(x).clamp(min=0),
    "in-line": lambda net, x: nn.MaxPool2d(2)(nn.ReLU()(net.first(x))),
    "reused": lambda net, x: net.act(net.second(net.act(net.first(x)))),
    "reused in place": lambda net, x: net.over(net.second(net.over(net.first(x)))),
    "shared": lambda net, x: (lambda h: net.act(h) + net.second(h))(net.first(x)),
    "adjacent": lambda net, x: torch.sigmoid(net.act(net.first(x))),
    "control flow by shape": by_shape,
    "overwritten": overwritten,
    "overlapping": lambda net, x: F.max_pool2d(net.act(net.first(x)), 3, 2, 1),
    "holes": lambda net, x: F.max_pool2d(net.act(net.first(x)), 2, 1, 1, 2),
}


@pytest.mark.parametrize("name", CURABLE)
def test_the_cure_keeps_the_outputs_and_works(name):
    net = Net(CURABLE[name])
    before = operations(net, images(2))
    assert kinds(before) or kinds(before, "shap_deep")
    repaired = repair(net, images())
    assert repaired.changes and repaired.reason == ""
    assert repaired.max_difference <= 1e-6
    for n in (1, 4, 7):
        torch.testing.assert_close(repaired.module(images(n)), net(images(n)), rtol=1e-5, atol=1e-6)
    after = operations(repaired.module, images(2))
    assert kinds(after) == kinds(after, "shap_deep") == set()


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("name", CURABLE)
def test_deep_lift_is_complete_after_the_cure(name):
    from captum.attr import DeepLift

    net = Net(CURABLE[name])
    module = copy.deepcopy(repair(net, images()).module).double()
    inputs, baselines = images(3).double(), torch.zeros(3, 1, 8, 8, dtype=torch.float64)
    _, delta = DeepLift(module).attribute(inputs, baselines, target=0, return_convergence_delta=True)
    assert float(delta.abs().max()) < 1e-9


def test_weights_are_shared_and_the_original_is_as_before():
    net = Net(CURABLE["reused in place"]).train()
    parts, before = list(net.modules()), {key: value.clone() for key, value in net.state_dict().items()}
    module = repair(net, images()).module
    assert list(net.modules()) == parts and net.over.inplace and net.training and net.drop.training
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())
    assert {id(item) for item in module.parameters()} <= {id(item) for item in net.parameters()}
    assert not any(part is other for part in module.modules() for other in parts)
    assert not any(part.training for part in module.modules())


def test_layers_keep_their_names():
    module = repair(Net(CURABLE["reused"]), images()).module
    assert {"first", "second", "head", "act"} <= dict(module.named_modules()).keys()


def test_nothing_to_cure_changes_nothing():
    net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
    repaired = repair(net, torch.randn(3, 4))
    assert (repaired.module, repaired.changes, repaired.max_difference, repaired.reason) == (net, (), 0.0, "")


def test_the_cnn_of_the_spine_needs_its_poolings_parted_from_its_relus():
    net = CNN((1, 8, 8), 3).eval()
    assert kinds(operations(net, images(2))) == {"adjacent"}
    module = repair(net, images()).module
    for method in ("deep_lift", "shap_deep", "lrp", "guided_grad_cam"):
        assert kinds(operations(module, images(2)), method) == set()


class Stepping(nn.Module):
    """Goes a way that no graph can be drawn of: how often it loops depends on its input."""

    def __init__(self, act: nn.Module) -> None:
        super().__init__()
        self.linear, self.act = nn.Linear(4, 4), act

    def forward(self, inputs):
        for _ in range(1 + int(inputs.numel() > 0)):
            inputs = self.linear(self.act(inputs - (0.1 if float(inputs.sum()) > 1e9 else 0.0)))
        return inputs


@pytest.mark.parametrize("act", [nn.ReLU(), nn.ReLU(inplace=True)])
def test_without_a_graph_registered_modules_take_turns(act):
    net, inputs = Stepping(act), torch.randn(5, 4)
    assert kinds(operations(net, inputs)) >= {"reused"}
    repaired = repair(net, inputs)
    assert repaired.changes and repaired.max_difference <= 1e-6
    torch.testing.assert_close(repaired.module(inputs), net(inputs.clone()))
    torch.testing.assert_close(repaired.module(inputs[:2]), net(inputs[:2].clone()))
    assert kinds(operations(repaired.module, inputs)) == set()


def test_what_cannot_be_cured_says_why():
    repaired = repair(GRU(2, n_channels=3), torch.randn(4, 6, 3))
    assert repaired.changes == () and "graph" in repaired.reason


@pytest.mark.parametrize(
    ("ends", "taken"),
    [
        (lambda net, x: F.softmax(x, dim=1), True),
        (lambda net, x: x.softmax(-1), True),
        (lambda net, x: F.log_softmax(x, dim=1), True),
        (lambda net, x: net.drop(torch.softmax(x, 1)), True),
        (lambda net, x: x, False),
        (lambda net, x: x.sigmoid(), False),
        (lambda net, x: F.softmax(x, dim=0), False),
        (lambda net, x: F.softmax(x, dim=1) * 2, False),
    ],
)
def test_a_softmax_at_the_end_is_taken_off(ends, taken):
    class Ending(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear, self.drop = nn.Linear(4, 3), nn.Dropout()

        def forward(self, inputs):
            return ends(self, self.linear(inputs))

    net, inputs = Ending().eval(), torch.randn(5, 4)
    bare = without_softmax(net, inputs)
    assert bool(bare.changes) is taken
    old = net(inputs)
    if taken:
        new, logarithm = bare.module(inputs), bool((old < 0).any())
        torch.testing.assert_close(new.log_softmax(1) if logarithm else new.softmax(1), old)
    else:
        assert bare.module is net


def test_a_softmax_module_is_taken_off_where_no_graph_can_be_drawn():
    net, inputs = nn.Sequential(Stepping(nn.ReLU()), nn.Softmax(dim=1)).eval(), torch.randn(5, 4)
    bare = without_softmax(net, inputs)
    assert bare.changes
    torch.testing.assert_close(bare.module(inputs), net[0](inputs))
    assert isinstance(net[1], nn.Softmax)


def test_one_model_with_two_inputs():
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(4, 3)

        def forward(self, inputs, scale, shift=None):
            return F.relu(self.linear(inputs)) * scale + (0.0 if shift is None else shift)

    inputs, scale = torch.randn(5, 4), torch.rand(5, 1)
    repaired = repair(Two(), inputs, (scale,))
    assert repaired.changes
    assert kinds(operations(repaired.module, inputs, (scale,))) == set(), (
        "a product with what is not explained is linear"
    )


@pytest.mark.parametrize(
    ("size", "stride", "padding", "dilation", "ceil_mode"),
    [
        (3, 2, 1, 1, False),
        (3, 2, 1, 1, True),
        (2, 1, 1, 2, False),
        (3, 1, 0, 1, False),
        (2, 3, 1, 1, True),
        (3, 2, 0, 2, True),
    ],
)
@pytest.mark.parametrize("n_dims", [1, 2, 3])
def test_windows_hold_what_pooling_sees(n_dims, size, stride, padding, dilation, ceil_mode):
    values = torch.randn(2, 3, *(7, 8, 9)[:n_dims])
    pool = (F.max_pool1d, F.max_pool2d, F.max_pool3d)[n_dims - 1]
    settings = tuple((item,) * n_dims for item in (size, stride, padding, dilation))
    listed = windows(values, *settings, ceil_mode)
    assert listed.shape[-1] == size**n_dims
    torch.testing.assert_close(listed.amax(-1), pool(values, size, stride, padding, dilation, ceil_mode))


def test_every_generated_network_keeps_its_outputs():
    for case in generated(60, seed=1):
        repaired = repair(case.module, case.inputs)
        assert repaired.reason == "", case.name
        torch.testing.assert_close(repaired.module(case.baselines), case.module(case.baselines))
