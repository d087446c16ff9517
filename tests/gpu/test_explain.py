"""On a GPU, explanations are those of the processor, and leave the device's random numbers alone."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from dlstudio.errors import DLStudioError
from dlstudio.explain.explain import explain
from dlstudio.explain.methods import METHODS

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU; none is here"),
]

DRAWN_ON_THE_DEVICE = ("smooth_grad", "gradient_shap", "shap_gradient")


def options(method: str) -> dict[str, Any]:
    wanted: dict[str, Any] = {"target": 1, "method": method, "progress": False}
    if METHODS[method].reference == "background":
        wanted["baselines"] = torch.zeros(2, 6)
    if "conductance" in method:
        wanted |= {"layer": "0", "neuron": 2 if method.startswith("neuron") else ()}
    return wanted


@pytest.mark.parametrize("method", [name for name in METHODS if "cam" not in name])
def test_every_method_gives_what_it_gives_on_the_processor(method: str) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 3)).eval()
    inputs = torch.randn(4, 6)
    here = explain(model, inputs, **options(method))
    model.cuda()
    torch.cuda.manual_seed_all(7)
    before = torch.cuda.get_rng_state()
    wanted = options(method)
    if "baselines" in wanted:
        wanted["baselines"] = wanted["baselines"].cuda()
    there = explain(model, inputs.cuda(), **wanted)
    assert torch.equal(before, torch.cuda.get_rng_state())
    assert all(parameter.is_cuda and parameter.grad is None for parameter in model.parameters())
    loose = 0.1 if method in DRAWN_ON_THE_DEVICE else 1e-4
    assert there.attributions == pytest.approx(here.attributions, abs=loose * here.output_range)
    assert there.verdict == here.verdict


def test_inputs_on_the_processor_are_named() -> None:
    with pytest.raises(DLStudioError, match=r"inputs on cuda.*inputs on cpu.*inputs\.to\('cuda"):
        explain(nn.Linear(4, 1).cuda(), torch.zeros(2, 4), method="saliency", progress=False)


def test_memory_that_runs_out_halves_the_batch() -> None:
    model = nn.Sequential(nn.Linear(4096, 8192), nn.ReLU(), nn.Linear(8192, 1)).cuda()
    _, total = torch.cuda.mem_get_info()
    torch.cuda.set_per_process_memory_fraction(min(1.0, 4 * 2**30 / total))
    try:
        found = explain(
            model, torch.randn(64, 4096).cuda(), method="integrated_gradients", n_steps=4000, max_batch=2**20,
            progress=False,
        )  # fmt: skip
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert found.gap is not None and found.gap < 0.01
