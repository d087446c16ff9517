"""Whatever is done to a model inside, it comes out as it went in, and so do all sources of random numbers."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from torch import nn

from dlstudio.explain.inspection.untouched import untouched


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.block = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.5))
        self.head = nn.Linear(8, 2)
        self.settings = {"scale": 2.0}

    def forward(self, inputs):
        return self.head(self.block(inputs)) * self.settings["scale"]


def fingerprint(net: nn.Module) -> dict[str, object]:
    """Everything there is to see of a model, with the identity of what has one."""
    seen: dict[str, object] = {}
    for name, part in net.named_modules():
        for key, value in vars(part).items():
            entries = [(k, id(v)) for k, v in value.items()] if isinstance(value, dict) else repr(value)
            seen[f"{name}.{key}"] = (id(value) if not isinstance(value, bool) else value, entries)
    for name, parameter in net.named_parameters():
        grad = parameter.grad
        seen[f"{name} parameter"] = (parameter.requires_grad, id(grad), None if grad is None else grad.tolist())
        seen[f"{name} numbers"] = (parameter.dtype, parameter.data_ptr(), parameter.tolist())
    seen |= {f"{name} buffer": (id(buffer), buffer.tolist()) for name, buffer in net.named_buffers()}
    return seen


@pytest.fixture
def net() -> Net:
    torch.manual_seed(0)
    made = Net()
    made.block[0].weight.requires_grad_(False)
    made.block[1].eval()  # a frozen BatchNorm in a network that trains
    made.register_forward_hook(lambda *_: None)
    made(torch.randn(5, 4)).sum().backward()
    return made


def meddle(net: Net) -> None:
    """What Captum, SHAP and careless code do to a model."""
    net.train()
    net(torch.randn(5, 4)).sum().backward()
    net.eval()
    net.requires_grad_(False)
    net.head.register_forward_hook(lambda *_: None)
    net.head.register_full_backward_hook(lambda *_: None)
    net.block.register_forward_pre_hook(lambda *_: None)
    net.head.activations = {}
    net.head.x = nn.Parameter(torch.zeros(1))  # as shap leaves behind
    net.block[0].weight.data = torch.ones_like(net.block[0].weight)
    net.block[2] = nn.Tanh()
    net.register_buffer("more", torch.zeros(2))
    net.settings["scale"] = 3.0
    net.block[1].running_mean.add_(1)
    net.block[1].running_var = torch.ones(8)
    torch.set_default_dtype(torch.float64)
    torch.set_grad_enabled(False)
    torch.rand(1), np.random.rand(), random.random()


def numbers() -> tuple[object, ...]:
    return torch.get_rng_state().tolist(), repr(np.random.get_state()), random.getstate()


def test_a_model_comes_out_as_it_went_in(net):
    before, dice = fingerprint(net), numbers()
    with untouched(net):
        meddle(net)
    assert fingerprint(net) == before
    assert numbers() == dice
    assert torch.get_default_dtype() == torch.float32
    assert torch.is_grad_enabled()


def test_so_it_does_after_an_exception(net):
    before, dice = fingerprint(net), numbers()
    with pytest.raises(ZeroDivisionError), untouched(net):
        meddle(net)
        raise ZeroDivisionError
    assert fingerprint(net) == before
    assert numbers() == dice
    assert torch.get_default_dtype() == torch.float32


def test_inside_it_evaluates_and_records_gradients(net):
    with torch.no_grad(), untouched(net):
        assert not any(part.training for part in net.modules())
        assert torch.is_grad_enabled()
        assert all(parameter.grad is None for parameter in net.parameters())
    with torch.inference_mode(), untouched(net):
        inputs = torch.randn(2, 4, requires_grad=True)
        assert torch.autograd.grad(net(inputs).sum(), inputs)[0].shape == (2, 4)
    assert net.training and not net.block[1].training


def test_the_callers_grad_mode_comes_back(net):
    with torch.no_grad():
        with untouched(net):
            torch.set_grad_enabled(True)
        assert not torch.is_grad_enabled()


def test_a_model_cast_to_another_type_comes_back(net):
    before = fingerprint(net)
    with untouched(net):
        net.double()
    assert fingerprint(net) == before


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:DeprecationWarning")
def test_several_models_and_a_scripted_one(net):
    scripted = torch.jit.script(nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4)))
    scripted.train()
    weights = {key: value.clone() for key, value in scripted.state_dict().items()}
    before = fingerprint(net)
    with untouched(net, scripted):
        assert not scripted.training
        meddle(net)
        scripted.train()
        scripted(torch.randn(3, 4, dtype=torch.float32))
    assert scripted.training and getattr(scripted, "1").training
    assert all(torch.equal(value, weights[key]) for key, value in scripted.state_dict().items())
    assert fingerprint(net) == before


def test_recurrent_layers_lend_out_without_cudnn_and_get_it_back():
    before = torch.backends.cudnn.enabled
    with untouched(nn.Sequential(nn.GRU(2, 2))):
        assert not torch.backends.cudnn.enabled
    assert torch.backends.cudnn.enabled is before
    with untouched(nn.Linear(2, 2)):
        assert torch.backends.cudnn.enabled is before
