"""Layer norms against the same norms computed by hand, through every way gradients are treated before a step."""

import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils import clip_grad, clip_grad_norm_

from dlstudio.telemetry import clipping
from dlstudio.telemetry.probes import LayerProbe


@pytest.fixture(autouse=True)
def no_probes_left():
    yield
    for probe in list(clipping._observers):
        probe.close()


class Watched:
    """A small model with a probe, and norms computed the plain way beside it."""

    def __init__(self, every=1, dtype=torch.float32, **options):
        torch.manual_seed(0)
        self.model = nn.Sequential(nn.Linear(5, 7), nn.ReLU(), nn.Linear(7, 2)).to(dtype)
        self.optimizer = torch.optim.SGD(self.model.parameters(), 0.1, momentum=0.9)
        self.samples, self.clips, self.expected = [], [], []
        self.probe = LayerProbe(self.model, self.optimizer, every, self.samples.append, self.clips.append, **options)

    def backward(self, scale=1.0):
        x = torch.randn(16, 5, dtype=next(self.model.parameters()).dtype)
        (self.model(x).pow(2).mean() * scale).backward()

    def gradients(self):
        return [p.grad.double().norm().item() for p in self.model.parameters()]

    def step(self, gradients=None):
        gradients = gradients or self.gradients()
        before = [p.detach().clone() for p in self.model.parameters()]
        self.optimizer.step()
        weights = [b.double().norm().item() for b in before]
        updates = [
            (p.detach().double() - b.double()).norm().item()
            for p, b in zip(self.model.parameters(), before, strict=True)
        ]
        self.expected.append([gradients, weights, updates])
        self.optimizer.zero_grad()

    def matrices(self):
        return [sample.vector.numpy().reshape(3, -1) for sample in self.samples]


def test_norms_match_the_definition():
    w = Watched()
    for _ in range(5):
        w.backward()
        w.step()
    assert w.probe.names == ["0.weight", "0.bias", "2.weight", "2.bias"]
    np.testing.assert_allclose(w.matrices(), w.expected, rtol=1e-5)


def test_a_weight_changed_between_two_steps_is_noticed():
    w = Watched()
    for step in range(4):
        w.backward()
        if step == 2:
            with torch.no_grad():
                w.model[0].weight.clamp_(-0.1, 0.1)
        w.step()
    np.testing.assert_allclose(w.matrices(), w.expected, rtol=1e-5)


def test_half_precision_is_summed_in_float32():
    w = Watched(dtype=torch.bfloat16)
    w.backward()
    w.step()
    np.testing.assert_allclose(w.matrices(), w.expected, rtol=1e-2)
    big = nn.Linear(1, 1, bias=False).half()
    big.weight.data.fill_(60_000.0)
    samples = []
    probe = LayerProbe(big, torch.optim.SGD(big.parameters(), 0.0), 1, samples.append)
    big.weight.grad = torch.full_like(big.weight, 60_000.0)
    torch.optim.SGD(big.parameters(), 0.0).step()
    probe._before_step(None)
    probe._after_step(None)
    assert samples[0].vector.numpy()[0] == pytest.approx(60_000.0, rel=1e-3)


def test_accumulated_gradients_are_seen_whole():
    w = Watched()
    for _ in range(4):
        w.backward(0.25)
    w.step()
    np.testing.assert_allclose(w.matrices(), w.expected, rtol=1e-5)


def test_gradients_are_seen_before_clipping_and_the_coefficient_is_known():
    w = Watched()
    w.backward(100.0)
    whole = w.gradients()
    total = clip_grad_norm_(w.model.parameters(), 0.5)
    assert math.sqrt(sum(g**2 for g in w.gradients())) == pytest.approx(0.5, rel=1e-4)
    w.step(whole)
    np.testing.assert_allclose(w.matrices(), w.expected, rtol=1e-5)
    (clip,) = w.clips
    assert clip.total_norm.numpy()[0] == pytest.approx(total.item()) and clip.max_norm == 0.5


def test_a_step_that_amp_skipped_leaves_no_stale_gradients():
    w = Watched()
    w.backward(1000.0)
    clip_grad_norm_(w.model.parameters(), 1.0)  # and then the scaler skips the step
    w.optimizer.zero_grad()
    w.backward()
    whole = w.gradients()
    clip_grad_norm_(w.model.parameters(), 1.0)
    w.step(whole)
    np.testing.assert_allclose(w.matrices(), w.expected, rtol=1e-5)


@pytest.mark.parametrize("fused", [False, True])
def test_gradients_under_a_grad_scaler_are_unscaled(fused):
    w = Watched()
    optimizer = torch.optim.SGD(w.model.parameters(), 0.1, fused=fused)
    samples = []
    LayerProbe(w.model, optimizer, 1, samples.append)
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    x = torch.randn(16, 5)
    true = torch.autograd.grad(w.model(x).pow(2).mean(), list(w.model.parameters()))
    scaler.scale(w.model(x).pow(2).mean()).backward()
    scaler.step(optimizer)
    seen = samples[0].vector.numpy().reshape(3, -1)[0]
    np.testing.assert_allclose(seen, [g.norm().item() for g in true], rtol=1e-5)


def test_non_finite_gradients_are_kept():
    w = Watched()
    w.backward()
    w.model[0].weight.grad[0, 0] = float("nan")
    w.model[2].bias.grad[0] = float("inf")
    w.optimizer.step()
    grads = w.matrices()[0][0]
    assert np.isnan(grads[0]) and np.isfinite(grads[1]) and grads[3] == np.inf


def test_a_parameter_without_a_gradient_has_norm_zero():
    w = Watched()
    w.model[0].weight.requires_grad_(False)
    w.backward()
    w.optimizer.step()
    assert w.matrices()[0][0][0] == 0.0 and w.matrices()[0][0][1] > 0


def test_cadence_fixed_and_adaptive():
    w = Watched(every=3)
    for _ in range(10):
        w.backward()
        w.optimizer.step()
    assert [sample.step_count for sample in w.samples] == [0, 3, 6, 9]
    a = Watched(every=None)
    for _ in range(400):
        a.backward()
        a.optimizer.step()
    counts = [sample.step_count for sample in a.samples]
    assert counts[:10] == list(range(10))
    assert a.probe.every > 1 and len(counts) < 200  # sampling costs far more than 1 % of so small a step


def test_the_optimizer_is_found_and_another_models_is_not_mistaken_for_it():
    model, other = nn.Linear(3, 1), nn.Linear(3, 1)
    samples = []
    probe = LayerProbe(model, None, 1, samples.append)
    for module in (other, model):
        module(torch.randn(2, 3)).sum().backward()
        torch.optim.SGD(module.parameters(), 0.1).step()
    probe.close()
    assert len(samples) == 1


def test_shared_parameters_count_once_and_wrappers_leave_no_trace_in_names():
    model = nn.ModuleDict({"a": nn.Linear(4, 4), "b": nn.Linear(4, 4)})
    model["b"].weight = model["a"].weight
    wrapped = nn.Module()
    wrapped.module = model
    probe = LayerProbe(wrapped, torch.optim.SGD(model.parameters(), 0.1), 1, None)
    assert probe.names == ["a.weight", "a.bias", "b.bias"]
    probe.close()


def test_large_models_take_their_update_norms_in_rotation(monkeypatch):
    monkeypatch.setattr("dlstudio.telemetry.probes._COPY_BYTES", 200)
    monkeypatch.setattr("dlstudio.telemetry.probes._CHUNK_BYTES", 100)
    w = Watched()
    for _ in range(6):
        w.backward()
        w.step()
    seen, truth = np.array(w.matrices()), np.array(w.expected)
    np.testing.assert_allclose(seen[:, :2], truth[:, :2], rtol=1e-5)
    updates = seen[:, 2]
    assert np.isnan(updates).any(axis=1).all() and np.isfinite(updates).any(axis=0).all()
    known = np.isfinite(updates)
    np.testing.assert_allclose(updates[known], truth[:, 2][known], rtol=1e-5)


def test_works_under_torch_compile_eager_backend():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 1))
    compiled = torch.compile(model, backend="aot_eager")
    optimizer = torch.optim.AdamW(compiled.parameters())
    samples = []
    probe = LayerProbe(compiled, optimizer, 1, samples.append)
    for _ in range(3):
        optimizer.zero_grad()
        compiled(torch.randn(8, 4)).sum().backward()
        expected = [p.grad.norm().item() for p in model.parameters()]
        optimizer.step()
    assert probe.names[0] == "0.weight" and len(samples) == 3
    np.testing.assert_allclose(samples[-1].vector.numpy()[:4], expected, rtol=1e-5)


def test_closing_restores_pytorch():
    original = clip_grad._clip_grads_with_norm_
    probes = [Watched().probe, Watched().probe]
    assert clip_grad._clip_grads_with_norm_ is not original
    for probe in probes:
        probe.close()
    assert clip_grad._clip_grads_with_norm_ is original
