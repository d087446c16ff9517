"""The gate on a hundred and more generated networks: every planted error is flagged, no sound case is."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from dlstudio.errors import DLStudioError
from dlstudio.explain.explain import explain
from dlstudio.explain.gate import GAP_OK, noise_by_row, output_range_of
from dlstudio.explain.methods import METHODS
from dlstudio.explain.result import Explanation

from .generated import METHODS as GENERATED_FOR
from .generated import RULES, Case, generated
from .models import network, random_rows

CASES = generated(120)
FEW = 24


def verdict(case: Case, method: str, repair: bool) -> str:
    """The verdict, or "error" where the verb says that the method does not fit the model."""
    wanted: dict[str, Any] = {"target": 1, "method": method, "repair": repair, "progress": False}
    if METHODS[method].reference != "none":
        wanted["baselines"] = case.baselines
    try:
        found = explain(case.module, case.inputs, **wanted)
    except DLStudioError as error:
        assert error.expected == f"a model that {METHODS[method].title} can explain"
        assert "Error" not in error.got and error.remedy, error.got  # what is wrong with the model, not what it led to
        return "error"
    assert found.verdict == "ok" or any(len(reason) > 40 for reason in found.reasons)
    if found.verdict == "ok" and any(finding.code == "DLS407" for finding in found.findings):
        return "ok, on logits"
    return found.verdict


@pytest.mark.parametrize("method", GENERATED_FOR)
def test_models_as_they_are(method: str) -> None:
    cases = CASES if method in RULES or method == "lrp" else CASES[:: len(CASES) // FEW]
    if method == "guided_grad_cam":
        cases = [case for case in CASES if case.recipe.family == "cnn"]
    missed, false_alarms = [], []
    for case in cases:
        found = verdict(case, method, repair=False)
        if case.recipe.softmax != "none":
            # It is taken off whatever `repair` says, which builds the model anew and may cure what else ails it.
            if found == "ok":
                missed.append((case.name, ["softmax"], found))
            continue
        kinds = case.planted[method]
        if kinds and found.startswith("ok"):
            missed.append((case.name, sorted(kinds), found))
        if not kinds and found != "ok":
            false_alarms.append((case.name, found))
    assert missed == [] and false_alarms == []


@pytest.mark.parametrize("method", [*RULES, "lrp", "guided_grad_cam"])
def test_models_repaired(method: str) -> None:
    cases = CASES if method != "guided_grad_cam" else [case for case in CASES if case.recipe.family == "cnn"]
    missed, false_alarms = [], []
    for case in cases:
        found = verdict(case, method, repair=True)
        kinds = case.left[method]
        if kinds and found.startswith("ok"):
            missed.append((case.name, sorted(kinds), found))
        if not kinds and not found.startswith("ok"):
            false_alarms.append((case.name, found))
    assert missed == [] and false_alarms == []


def test_the_cases_are_what_they_are_meant_to_be() -> None:
    for method in RULES:
        flawed = [case for case in CASES if case.planted[method]]
        assert len(CASES) >= 100 and len(flawed) >= 40 and len(CASES) - len(flawed) >= 15


@pytest.mark.parametrize("name", ["relu", "elu", "tanh"])
def test_a_repair_gives_what_registered_modules_give(name: str) -> None:
    """A functional, a reused and an in-line activation, against the same weights with modules, by Captum itself."""
    from captum.attr import DeepLift

    kinds = {"relu": nn.ReLU, "elu": nn.ELU, "tanh": nn.Tanh}
    plain = network(6, 8, 8, 2, act=kinds[name])

    class Functional(nn.Module):
        def __init__(self, how: str) -> None:
            super().__init__()
            self.layers = nn.ModuleList(layer for layer in plain if isinstance(layer, nn.Linear))
            self.how = how
            if how == "reused":
                self.act = kinds[name]()

        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            for layer in self.layers[:-1]:
                inputs = layer(inputs)
                if self.how == "functional":
                    inputs = getattr(nn.functional, name)(inputs)
                elif self.how == "reused":
                    inputs = self.act(inputs)
                else:
                    inputs = kinds[name]()(inputs)
            return self.layers[-1](inputs)

    inputs, baseline = random_rows(4, 6), random_rows(1, 6, seed=4)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Captum warns of the hooks it sets
        expected = DeepLift(plain).attribute(inputs, baseline, target=0).detach().numpy()
    for how in ("functional", "reused", "in-line"):
        bare = {"target": 0, "method": "deep_lift", "baselines": baseline, "progress": False}
        found = explain(Functional(how), inputs, **bare)
        assert found.verdict == "ok" and found.attributions == pytest.approx(expected, abs=1e-6)
        assert any("Repaired" in reason for reason in found.reasons)
        try:
            refused = explain(Functional(how), inputs, repair=False, **bare)
        except DLStudioError:
            continue
        assert refused.verdict != "ok"


def explained(method: str, **options: Any) -> Explanation:
    model = network(10, 16, 2, act=nn.Tanh)
    return explain(model, random_rows(3, 10), target=0, method=method, progress=False, **options)


@pytest.mark.parametrize(
    ("method", "few"),
    [("kernel_shap", 25), ("lime", 15), ("gradient_shap", 5), ("shap_gradient", 4), ("shap_kernel", 12)],
)
def test_too_few_samples(method: str, few: int) -> None:
    wanted = {"baselines": random_rows(10, 10, seed=3)} if METHODS[method].reference == "background" else {}
    found = explained(method, n_samples=few, **wanted)
    assert found.verdict in ("suspect", "refused")
    assert any("samples" in reason or "random numbers" in reason for reason in found.reasons)
    assert explained(method, **wanted).verdict == "ok"


def test_too_few_steps() -> None:
    model = network(10, 64, 64, 1)
    for layer in model:
        if isinstance(layer, nn.Linear):
            layer.weight.data.mul_(4)
    few = explain(model, random_rows(3, 10), method="integrated_gradients", n_steps=3, progress=False)
    assert few.verdict != "ok" and "n_steps" in " ".join(few.reasons)
    assert explain(model, random_rows(3, 10), method="integrated_gradients", progress=False).verdict == "ok"


def test_a_model_that_draws_random_numbers() -> None:
    class Noisy(nn.Module):
        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            return nn.functional.dropout(inputs, 0.5, training=True).sum(dim=1)

    found = explain(Noisy(), random_rows(4, 6), method="saliency", progress=False)
    assert found.verdict == "suspect" and "same inputs" in " ".join(found.reasons)


def test_rows_that_depend_on_their_neighbours() -> None:
    class Centred(nn.Module):
        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            return (inputs - inputs.mean(dim=0)).pow(2).sum(dim=1)

    found = explain(Centred(), random_rows(4, 6), method="integrated_gradients", progress=False)
    assert found.verdict != "ok" and "other rows of its batch" in " ".join(found.reasons)


def test_baselines_that_may_have_been_meant_otherwise_are_pointed_out() -> None:
    model, inputs = network(6, 8, 2), random_rows(4, 6)
    paired = explain(model, inputs, target=0, method="deep_lift", baselines=random_rows(4, 6, seed=5), progress=False)
    assert "baseline of the same number" in " ".join(paired.reasons)
    same = explain(model, inputs, target=0, method="deep_lift", baselines=inputs, progress=False)
    assert "equal their baseline" in " ".join(same.reasons) and not same.attributions.any()


def test_the_range_and_the_noise_by_hand() -> None:
    assert output_range_of(np.array([1.0, 4.0]), np.array([2.0, 2.0])) == 3
    assert output_range_of(np.array([5.0]), np.array([5.0])) == pytest.approx(0.005)
    values, errors = np.array([[1.0, -4.0], [0.1, 0.0]]), np.array([[0.2, 0.4], [0.01, 0.0]])
    assert noise_by_row(values, errors) == pytest.approx([0.1, 0.01 / 0.4])
    assert 0 < GAP_OK < 0.1
