"""The verb: what it accepts and refuses, what it leaves behind, how it keeps memory and time."""

from __future__ import annotations

import dataclasses
import threading
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from dlstudio import results
from dlstudio.errors import DLStudioError
from dlstudio.explain.explain import explain
from dlstudio.explain.methods import METHODS
from dlstudio.explain.result import Explanation

from .models import MultiLayer, network, random_rows

QUIET: dict[str, Any] = {"progress": False}


def small() -> tuple[nn.Module, torch.Tensor]:
    return network(8, 16, 3), random_rows(6, 8)


def options(method: str) -> dict[str, Any]:
    """What a method cannot do without, for `small`."""
    wanted: dict[str, Any] = dict(QUIET)
    if METHODS[method].reference == "background":
        wanted["baselines"] = random_rows(10, 8, seed=5)
    if "conductance" in method:
        wanted |= {"layer": "0", "neuron": 2 if method.startswith("neuron") else ()}
    return wanted


ON_VECTORS = [name for name in METHODS if "cam" not in name]


@pytest.mark.parametrize("method", ON_VECTORS)
def test_every_method_gives_a_whole_result(method: str) -> None:
    model, inputs = small()
    found = explain(model, inputs, target=2, method=method, **options(method))
    shape = (6, 16) if method == "layer_conductance" else (6, 8)
    assert found.attributions.shape == shape and np.isfinite(found.attributions).all()
    assert found.verdict in ("ok", "suspect") and found.method == method
    with torch.no_grad():
        assert found.prediction == pytest.approx(model(inputs)[:, 2].numpy(), abs=1e-6)
    assert (found.standard_error is None) == (not METHODS[method].sampled)
    assert (found.gap is None) == (not METHODS[method].complete)
    assert found.n_evaluations >= 6 and found.wall_s > 0
    assert len(found.frame()) == found.attributions.size


@pytest.mark.parametrize("method", [m for m in ON_VECTORS if METHODS[m].complete])
def test_attributions_add_up(method: str) -> None:
    model, inputs = small()
    found = explain(model, inputs, target=0, method=method, **options(method))
    change = found.prediction - found.baseline_value
    loose = 0.1 if method in ("gradient_shap", "shap_gradient") else 0.011
    assert np.abs(found.attributions.reshape(6, -1).sum(axis=1) - change).max() <= loose * found.output_range
    assert found.gap is not None and found.gap <= loose


def test_a_result_survives_the_disk(tmp_path: Any) -> None:
    model, inputs = small()
    found = explain(model, inputs, target=[0, 1, 2, 0, 1, 2], class_names=("a", "b", "c"), method="shapley", **QUIET)
    again = results.load(results.save(found, tmp_path, "explanation"))
    assert isinstance(again, Explanation) and again == found


@pytest.mark.parametrize("method", ON_VECTORS)
def test_everything_is_left_as_it_was(method: str) -> None:
    model = nn.Sequential(nn.Linear(8, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.5), nn.Linear(16, 3))
    if method == "lrp":
        model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Dropout(0.5), nn.Linear(16, 3))
    inputs = random_rows(6, 8)
    model(inputs).sum().backward()
    model[0].weight.requires_grad_(False)
    seen: list[int] = []
    model[0].register_forward_hook(lambda *_: seen.append(1))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    grads = {name: parameter.grad for name, parameter in model.named_parameters()}
    kept = [None if grad is None else grad.clone() for grad in grads.values()]
    torch.manual_seed(5)
    np.random.seed(5)
    states = torch.get_rng_state(), np.random.get_state()[1].copy()
    with torch.no_grad():
        explain(model, inputs, target=1, method=method, **options(method))
        assert not torch.is_grad_enabled()
    assert model.training and all(part.training for part in model.modules())
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert all(parameter.grad is grads[name] for name, parameter in model.named_parameters())
    for was, grad in zip(kept, grads.values(), strict=True):
        assert was is None or (grad is not None and torch.equal(was, grad))
    assert not model[0].weight.requires_grad
    assert [len(part._forward_hooks) for part in model.modules()] == [0, 1] + [0] * (len(list(model.modules())) - 2)
    assert not any(part._backward_hooks or part._forward_pre_hooks for part in model.modules())
    assert torch.equal(states[0], torch.get_rng_state()) and (states[1] == np.random.get_state()[1]).all()
    assert inputs.grad is None and not inputs.requires_grad


def test_the_same_seed_gives_the_same_numbers_and_another_seed_others() -> None:
    model, inputs = small()
    background = random_rows(10, 8, seed=5)
    for method in ("gradient_shap", "lime", "smooth_grad"):
        wanted = {"target": 0, "method": method, **QUIET}
        if method == "gradient_shap":
            wanted["baselines"] = background
        one, two, other = (explain(model, inputs, seed=seed, **wanted).attributions for seed in (1, 1, 2))
        assert (one == two).all() and (one != other).any()


@pytest.mark.parametrize("method", ["lime", "kernel_shap", "shap_kernel", "feature_permutation", "shapley"])
def test_the_numbers_do_not_depend_on_how_many_rows_the_model_is_given_at_once(method: str) -> None:
    model, inputs = network(14, 16, 3), random_rows(30, 14)
    wanted: dict[str, Any] = {"target": 0, "method": method, "n_samples": 20 if "perm" in method else 128, **QUIET}
    whole, parts = explain(model, inputs, **wanted), explain(model, inputs, max_batch=7, **wanted)
    assert whole.standard_error is not None and whole.standard_error.any()
    assert parts.attributions == pytest.approx(whole.attributions, abs=1e-5)


def test_embeddings_are_made_for_a_few_rows_at_a_time() -> None:
    class Words(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embedding = nn.Embedding(50, 16)
            self.out = nn.Linear(16, 2)

        def forward(self, ids: torch.Tensor) -> torch.Tensor:
            return self.out(self.embedding(ids).mean(dim=1).tanh())

    model, given = Words(), []
    model.embedding.register_forward_hook(lambda _, inputs, output: given.append(len(inputs[0])))
    ids = torch.randint(1, 50, (64, 12), generator=torch.Generator().manual_seed(0))
    few = explain(model, ids, target=0, method="integrated_gradients", max_batch=4, **QUIET)
    assert max(given) <= 50  # as many as there are steps, of one row
    whole = explain(model, ids, target=0, method="integrated_gradients", **QUIET)
    assert few.attributions == pytest.approx(whole.attributions, abs=1e-6) and few.verdict == "ok"
    with torch.no_grad():
        vectors = model.embedding(ids)
    noisy = explain(model, ids, target=0, method="smooth_grad", **QUIET)
    again = explain(
        lambda x: model.out(x.mean(dim=1).tanh()), vectors, target=0, method="smooth_grad", max_batch=10**6, **QUIET
    )
    assert noisy.attributions == pytest.approx(again.attributions.sum(axis=-1), rel=0.3, abs=1e-3)


# -- what it accepts ---------------------------------------------------------------------------------------------------


def test_a_frame_brings_its_column_names() -> None:
    model, inputs = small()
    frame = pd.DataFrame(inputs.double().numpy(), columns=list("abcdefgh"))
    found = explain(model, frame, target=0, method="integrated_gradients", **QUIET)
    assert found.feature_names == tuple("abcdefgh")
    assert list(found.frame()["feature"][:3]) == ["a", "b", "c"]


def test_encoded_columns_are_reported_as_one() -> None:
    model, inputs = small()
    mask, names = [0, 1, 1, 1, 2, 3, 3, 4], ("age", "city", "income", "sex", "loan")
    plain = explain(model, inputs, target=0, method="integrated_gradients", **QUIET)
    merged = explain(
        model, inputs, target=0, method="integrated_gradients", feature_mask=mask, feature_names=names, **QUIET
    )
    assert merged.attributions.shape == (6, 5)
    expected = np.stack([plain.attributions[:, np.array(mask) == player].sum(axis=1) for player in range(5)], axis=1)
    assert merged.attributions == pytest.approx(expected, abs=1e-6)
    players = explain(model, inputs, target=0, method="shapley", feature_mask=mask, feature_names=names, **QUIET)
    assert players.attributions.shape == (6, 5) and players.gap is not None and players.gap < 1e-6


@dataclasses.dataclass
class Found:
    aux: torch.Tensor
    logits: torch.Tensor


class Pair(NamedTuple):
    aux: torch.Tensor
    logits: torch.Tensor


@pytest.mark.parametrize(
    ("kind", "output"),
    [(dict, "logits"), (lambda aux, logits: (aux, logits), 1), (Pair, "logits"), (Pair, 1), (Found, "logits")],
)
def test_a_field_of_several_outputs(kind: Any, output: str | int) -> None:
    model, inputs = small()

    class Several(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = model

        def forward(self, x: torch.Tensor) -> Any:
            found = self.inner(x)
            return kind(aux=x, logits=found)

    plain = explain(model, inputs, target=1, method="integrated_gradients", **QUIET)
    found = explain(Several(), inputs, target=1, method="integrated_gradients", output=output, **QUIET)
    assert found.attributions == pytest.approx(plain.attributions, abs=1e-6)
    with pytest.raises(DLStudioError, match=r"Pass output=.*|one tensor as the model's output"):
        explain(Several(), inputs, target=1, **QUIET)


@pytest.mark.parametrize("wrap", [nn.DataParallel, lambda model: torch.compile(model, backend="eager")])
def test_hooks_reach_into_wrapped_models(wrap: Any) -> None:
    model, inputs = small()
    plain, wrapped = (explain(whole, inputs, target=1, method="deep_lift", **QUIET) for whole in (model, wrap(model)))
    assert wrapped.verdict == "ok" and (wrapped.attributions == plain.attributions).all()


def test_sequences_that_come_channels_first_are_told() -> None:
    model = nn.Sequential(nn.Conv1d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.LazyLinear(2))
    inputs = random_rows(2, 3, 12)
    with torch.no_grad():
        model(inputs)
    found = explain(model, inputs, target=0, method="saliency", **QUIET)
    assert [finding.code for finding in found.findings] == ["DLS417"] and found.verdict == "ok"
    turned = nn.Sequential(nn.Identity(), *model)
    turned[0].register_forward_hook(lambda *taken: taken[2].transpose(1, 2))
    found = explain(turned, inputs.transpose(1, 2), target=0, method="saliency", **QUIET)
    assert not found.findings


def test_further_inputs_stay_with_their_rows() -> None:
    class Gated(nn.Module):
        def forward(self, values: torch.Tensor, gate: torch.Tensor) -> torch.Tensor:
            return (values * gate).sum(dim=1)

    values, gate = random_rows(5, 4), random_rows(5, 4, seed=8)
    for method in ("integrated_gradients", "shapley", "feature_ablation", "kernel_shap", "gradient_shap"):
        wanted = {"baselines": torch.zeros(2, 4)} if method == "gradient_shap" else {}
        for inputs in ((values, gate), {"values": values, "gate": gate}):
            found = explain(Gated(), inputs, method=method, **wanted, **QUIET)
            assert found.attributions == pytest.approx((values * gate).numpy(), abs=1e-4)


def test_a_plain_function_and_one_without_gradients() -> None:
    def steps(inputs: torch.Tensor) -> torch.Tensor:
        return torch.from_numpy(np.where(inputs.numpy()[:, 0] > 0, 3.0, 1.0))

    inputs = torch.tensor([[1.0, 2.0], [-1.0, 2.0]])
    found = explain(steps, inputs, method="auto", baselines=torch.tensor([[-1.0, 0.0]]), **QUIET)
    assert found.method == "shapley" and found.attributions == pytest.approx(np.array([[2.0, 0.0], [0.0, 0.0]]))


def test_an_index_into_outputs_of_more_dimensions() -> None:
    class Grid(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.unsqueeze(2) * torch.arange(1.0, 4.0)

    found = explain(Grid(), random_rows(2, 4), target=(1, 2), method="input_x_gradient", **QUIET)
    assert found.attributions[:, 1] == pytest.approx(3 * random_rows(2, 4)[:, 1].numpy())
    assert not found.attributions[:, [0, 2, 3]].any()


@pytest.mark.parametrize(
    ("shape", "method", "chosen"),
    [
        ((3, 8), "auto", "shapley"),
        ((3, 1, 12, 12), "auto", "integrated_gradients"),
        ((3, 20, 4), "auto", "integrated_gradients"),
    ],
)
def test_auto_says_why(shape: tuple[int, ...], method: str, chosen: str) -> None:
    n = int(np.prod(shape[1:]))
    model = nn.Sequential(nn.Flatten(), network(n, 8, 2))
    found = explain(model, random_rows(*shape), target=0, method=method, **QUIET)
    assert found.method == chosen and len(found.why) > 20


# -- what it refuses ---------------------------------------------------------------------------------------------------


class Rounded(nn.Module):
    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            return inputs.round()[:, :2]


class Two(nn.Module):
    def forward(self, inputs: torch.Tensor) -> Any:
        return {"logits": inputs, "hidden": inputs}


BAD: dict[str, tuple[Any, Any, dict[str, Any], tuple[str, ...]]] = {
    "no target": (None, None, {"method": "saliency"}, ("3 outputs", "target=None", "Pass target=0 to 2")),
    "target out of range": (None, None, {"target": 3, "method": "saliency"}, ("0 to 2", "target=3")),
    "negative target": (None, None, {"target": -1, "method": "saliency"}, ("0 to 2", "target=-1")),
    "too few targets": (None, None, {"target": [0, 1], "method": "saliency"}, ("each of 6 rows", "(2,)")),
    "float target": (None, None, {"target": 1.5, "method": "saliency"}, ("whole numbers", "float64")),
    "unknown method": (None, None, {"target": 0, "method": "integrated_gradient"}, ("'integrated_gradients'?",)),
    "tcav": (None, None, {"target": 0, "method": "tcav"}, ("explain_concepts",)),
    "NaN": (None, torch.full((6, 8), float("nan")), {"target": 0}, ("finite inputs", "48 NaN")),
    "integers": (None, torch.ones(6, 8, dtype=torch.int64), {"target": 0, "method": "saliency"}, ("takes",)),
    "no gradients": (Rounded(), None, {"target": 0, "method": "saliency"}, ("differentiated", "shapley")),
    "no rows": (None, torch.zeros(0, 8), {"target": 0}, ("one row or more",)),
    "one row flat": (None, torch.zeros(8), {"target": 0}, ("unsqueeze(0)",)),
    "wrong width": (None, torch.zeros(6, 5), {"target": 0}, ("a model that takes",)),
    "dict": (Two(), None, {"target": 0}, ("output='logits'", "hidden")),
    "unknown field": (Two(), None, {"target": 0, "output": "logit"}, ("'logits'?",)),
    "baseline width": (None, None, {"target": 0, "method": "shapley", "baselines": torch.zeros(1, 7)}, ("(1, 7)",)),
    "baseline rows": (
        None, None, {"target": 0, "method": "deep_lift", "baselines": torch.zeros(5, 8)}, ("each of 6 rows", "5 rows"),
    ),
    "baseline NaN": (
        None, None, {"target": 0, "method": "shapley", "baselines": torch.full((2, 8), float("nan"))},
        ("finite baselines",),
    ),
    "two baselines": (
        None, None, {"target": 0, "method": "deep_lift", "baselines": (torch.zeros(1, 8), torch.zeros(1, 8))},
        ("2 of them",),
    ),
    "no background": (None, None, {"target": 0, "method": "deep_lift_shap"}, ("background", "training_inputs")),
    "background of one": (
        None, None, {"target": 0, "method": "deep_lift_shap", "baselines": torch.zeros(1, 8)},
        ("two rows", "'deep_lift'"),
    ),
    "mask shape": (None, None, {"target": 0, "method": "shapley", "feature_mask": [0, 1]}, ("(8,)", "(2,)")),
    "mask gap": (None, None, {"target": 0, "method": "shapley", "feature_mask": [0, 2] * 4}, ("without a gap",)),
    "names": (None, None, {"target": 0, "method": "shapley", "feature_names": ("a", "b")}, ("8 feature_names", "2")),
    "class name": (None, None, {"target": "cat", "class_names": ("a", "b", "c")}, ("class names",)),
    "n_samples": (None, None, {"target": 0, "method": "kernel_shap", "n_samples": 0}, ("n_samples of 1",)),
    "max_batch": (None, None, {"target": 0, "max_batch": 0}, ("max_batch of 1",)),
    "max_seconds": (None, None, {"target": 0, "max_seconds": 0}, ("max_seconds above 0",)),
    "seed": (None, None, {"target": 0, "seed": "a"}, ("seed of 0 or more", "'a'")),
    "layer of no use": (None, None, {"target": 0, "method": "saliency", "layer": "0"}, ("grad_cam", "saliency")),
    "layer": (None, None, {"target": 0, "method": "layer_conductance"}, ("a layer for layer_conductance",)),
    "layer name": (None, None, {"target": 0, "method": "layer_conductance", "layer": "7"}, ("layer names",)),
    "no convolution": (None, None, {"target": 0, "method": "grad_cam"}, ("images of shape",)),
    "text in a frame": (None, pd.DataFrame({"a": ["x"] * 6}), {"target": 0}, ("'a'", "Encode")),
    "no model": (3, None, {"target": 0}, ("a torch.nn.Module, a function or a run", "int")),
    "modality": (None, None, {"target": 0, "modality": "table"}, ("modality names",)),
    "one row shuffled": (None, torch.zeros(1, 8), {"target": 0, "method": "feature_permutation"}, ("two rows",)),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_named_with_a_way_out(case: str) -> None:
    model, inputs, wanted, words = BAD[case]
    plain, rows = small()
    with pytest.raises(DLStudioError) as raised:
        explain(plain if model is None else model, rows if inputs is None else inputs, **(QUIET | wanted))
    for word in words:
        assert word in str(raised.value)
    assert raised.value.remedy


def test_whole_numbers_that_no_embedding_takes() -> None:
    class Floating(nn.Module):
        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            return inputs.float().sum(dim=1)

    inputs = torch.arange(12).reshape(3, 4)
    with pytest.raises(DLStudioError, match="floating-point inputs for integrated_gradients.*shapley"):
        explain(Floating(), inputs, method="integrated_gradients", **QUIET)
    assert explain(Floating(), inputs, method="shapley", **QUIET).attributions == pytest.approx(inputs.numpy())


def test_inputs_elsewhere_than_the_model() -> None:
    model = nn.Linear(4, 1, device="meta")
    with pytest.raises(DLStudioError, match=r"inputs on meta.*inputs on cpu.*inputs\.to\('meta'\)"):
        explain(model, torch.zeros(2, 4), method="saliency", **QUIET)


def test_a_scripted_model_is_offered_what_works() -> None:
    model, inputs = small()
    with pytest.warns(DeprecationWarning):
        scripted = torch.jit.trace(model, inputs)
    with pytest.raises(DLStudioError, match="scripted.*shapley"):
        explain(scripted, inputs, target=0, method="deep_lift", **QUIET)
    plain = explain(model, inputs, target=0, method="shapley", **QUIET).attributions
    assert explain(scripted, inputs, target=0, method="shapley", **QUIET).attributions == pytest.approx(plain, abs=1e-5)


def test_layers_without_a_rule_for_lrp() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Sigmoid(), nn.Linear(4, 2))
    with pytest.raises(DLStudioError, match="LRP.*no rule.*shapley"):
        explain(model, torch.zeros(2, 4), target=0, method="lrp", **QUIET)


def test_a_feature_that_never_varies_is_no_obstacle() -> None:
    model, inputs = small()
    inputs[:, 3] = 1.5
    background = random_rows(10, 8, seed=5)
    background[:, 3] = 1.5
    for method in ("shapley", "gradient_shap", "shap_kernel", "deep_lift_shap"):
        found = explain(model, inputs, target=0, method=method, baselines=background, **QUIET)
        assert np.abs(found.attributions[:, 3]).max() < 1e-9 and found.verdict == "ok"
        assert any("never vary" in reason for reason in found.reasons)


# -- what looked right and was not ---------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["feature_ablation", "saliency", "shapley"])
def test_numbers_that_are_not_finite_are_never_ok(method: str) -> None:
    def root(inputs: torch.Tensor) -> torch.Tensor:
        return inputs.clamp(min=0).sqrt().sum(dim=1) if method == "saliency" else (1 / inputs).sum(dim=1)

    try:
        found = explain(root, torch.zeros(3, 4) if method == "saliency" else torch.ones(3, 4), method=method, **QUIET)
    except DLStudioError as error:
        assert "finite" in str(error)
    else:
        assert found.verdict == "refused" and "not finite" in " ".join(found.reasons)


def test_a_model_that_works_in_place_leaves_the_callers_inputs_alone() -> None:
    def doubled(inputs: torch.Tensor) -> torch.Tensor:
        inputs *= 2
        return inputs.sum(dim=1)

    inputs = np.ones((3, 4), dtype=np.float32)
    for method in ("shapley", "feature_ablation", "integrated_gradients"):
        found = explain(doubled, inputs, method=method, **QUIET)
        assert (inputs == 1).all() and found.attributions == pytest.approx(np.full((3, 4), 2.0), abs=1e-5)


def test_frames_are_compared_column_by_column() -> None:
    model, inputs = small()
    frame = pd.DataFrame(inputs.double().numpy(), columns=list("abcdefgh"))
    background = pd.DataFrame(random_rows(10, 8, seed=5).double().numpy(), columns=list("abcdefgh"))
    plain = explain(model, frame, target=0, method="shapley", baselines=background, **QUIET)
    for order in ("hgfedcba", "bacdefgh"):
        again = explain(model, frame, target=0, method="shapley", baselines=background[list(order)], **QUIET)
        assert again.attributions == pytest.approx(plain.attributions)
    with pytest.raises(DLStudioError, match="columns of the inputs"):
        explain(model, frame, target=0, method="shapley", baselines=background.rename(columns={"a": "z"}), **QUIET)


def test_a_softmax_behind_two_inputs_is_taken_off_too() -> None:
    class Gated(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = network(4, 3)

        def forward(self, values: torch.Tensor, gate: torch.Tensor) -> torch.Tensor:
            return torch.softmax(self.inner(values * gate), dim=1)

    model, values, gate = Gated(), random_rows(5, 4), random_rows(5, 4, seed=8)
    found = explain(model, (values, gate), target=1, method="shapley", **QUIET)
    expected = (values * gate) * model.inner[0].weight[1]
    assert found.attributions == pytest.approx(expected.detach().numpy(), abs=1e-5)
    assert "logits are explained" in " ".join(found.reasons)


def test_probabilities_that_cannot_be_undone_are_pointed_out() -> None:
    def guess(inputs: torch.Tensor) -> torch.Tensor:
        return torch.from_numpy(torch.softmax(inputs[:, :3], dim=1).numpy())

    found = explain(guess, random_rows(4, 5), target=0, method="shapley", **QUIET)
    assert found.verdict == "suspect" and "probabilities" in " ".join(found.reasons)


def test_maps_of_sequences_and_bags_of_tokens_are_no_explanations() -> None:
    sequence = nn.Sequential(nn.Conv1d(12, 4, 3, padding=1), nn.Flatten(), nn.Linear(20, 2))
    with pytest.raises(DLStudioError, match="images of shape"):
        explain(sequence, random_rows(3, 12, 5), target=0, method="grad_cam", **QUIET)
    bag = nn.Sequential(nn.EmbeddingBag(20, 8), nn.Linear(8, 2))
    tokens = torch.randint(1, 20, (4, 6))
    with pytest.raises(DLStudioError, match="no embedding layer takes"):
        explain(bag, tokens, target=0, method="integrated_gradients", **QUIET)
    assert explain(bag, tokens, target=0, **QUIET).attributions.shape == (4, 6)


def test_auto_suits_the_rows_there_are_to_compare_with() -> None:
    model, background = network(16, 8, 2), random_rows(20, 16, seed=5)
    found = explain(model, random_rows(2100, 16), target=0, baselines=background, n_samples=40, **QUIET)
    assert found.method == "shapley"
    image = nn.Sequential(nn.Flatten(), network(64, 8, 2))
    found = explain(image, random_rows(3, 1, 8, 8), target=0, baselines=random_rows(5, 1, 8, 8, seed=4), **QUIET)
    assert found.method == "gradient_shap"


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("method", ["deep_lift", "gradient_shap", "shap_kernel", "smooth_grad", "shap_deep"])
def test_half_precision_is_explained_in_single(dtype: torch.dtype, method: str) -> None:
    model = network(8, 16, 3).to(dtype)
    wanted = {"baselines": random_rows(10, 8, seed=5)} if METHODS[method].reference == "background" else {}
    found = explain(model, random_rows(6, 8), target=0, method=method, **wanted, **QUIET)
    assert found.verdict == "ok" and next(model.parameters()).dtype == dtype


def test_tensors_of_inference_mode() -> None:
    model, _ = small()
    with torch.inference_mode():
        inputs = random_rows(6, 8) * 1
    assert explain(model, inputs, target=0, method="integrated_gradients", **QUIET).verdict == "ok"


def test_a_layer_that_runs_twice_is_pointed_out() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer, self.last = nn.Linear(6, 6), nn.Linear(6, 2)

        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            return self.last(torch.tanh(self.layer(torch.tanh(self.layer(inputs)))))

    wanted = {"target": 0, "method": "neuron_conductance", "layer": "layer", "neuron": 0}
    found = explain(Twice(), random_rows(3, 6), **wanted, **QUIET)
    assert found.verdict != "ok" and "runs 2 times" in " ".join(found.reasons)


def test_a_layer_is_the_one_of_that_name() -> None:
    """An inner module called ``model`` with a layer of the same name must not be taken for it."""

    class Outer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = nn.Sequential()
            self.model.add_module("fc", nn.Linear(6, 5))
            self.fc = nn.Linear(5, 2)

        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            return self.fc(self.model(inputs))

    wanted = {"target": 0, "method": "layer_conductance"}
    assert explain(Outer(), random_rows(3, 6), layer="fc", **wanted, **QUIET).attributions.shape == (3, 2)
    assert explain(Outer(), random_rows(3, 6), layer="model.fc", **wanted, **QUIET).attributions.shape == (3, 5)


def test_class_names_by_row_and_their_number() -> None:
    model, inputs = small()
    names = ("a", "b", "c")
    found = explain(model, inputs, target=["a", "b", "c"] * 2, class_names=names, method="saliency", **QUIET)
    assert found.target.tolist() == [0, 1, 2] * 2
    with pytest.raises(DLStudioError, match="3 class_names"):
        explain(model, inputs, target=0, class_names=("a", "b"), method="saliency", **QUIET)


def test_a_transformer_given_rows_of_padding_alone() -> None:
    class Encoder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embedding = nn.Embedding(50, 16, padding_idx=0)
            layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)
            self.encoder = nn.TransformerEncoder(layer, 1, enable_nested_tensor=False)
            self.head = nn.Linear(16, 3)

        def forward(self, tokens: torch.Tensor) -> torch.Tensor:
            return self.head(self.encoder(self.embedding(tokens), src_key_padding_mask=tokens == 0).mean(dim=1))

    tokens = torch.randint(1, 50, (4, 10), generator=torch.Generator().manual_seed(0))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = Encoder()
    before = torch.backends.mha.get_fastpath_enabled()
    for baseline in (None, 1):
        found = explain(model, tokens, target=1, method="shapley", baselines=baseline, n_samples=4, **QUIET)
        assert found.gap is not None and found.gap < 1e-6
    assert torch.backends.mha.get_fastpath_enabled() == before


# -- memory and time ---------------------------------------------------------------------------------------------------


class Greedy(nn.Module):
    """Fails as a full device does when more than `most` rows come at once."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self.inner = network(8, 16, 3)
        self.most, self.largest = most, 0

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        if len(inputs) > self.most:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB")
        self.largest = max(self.largest, len(inputs))
        return self.inner(inputs)


@pytest.mark.parametrize(
    "method",
    [
        "integrated_gradients",
        "gradient_shap",
        "deep_lift_shap",
        "shapley",
        "feature_ablation",
        "kernel_shap",
        "smooth_grad",
    ],
)
def test_batches_shrink_until_memory_suffices(method: str) -> None:
    model = Greedy(20)
    wanted = {"target": 0, "method": method, **QUIET}
    if METHODS[method].reference == "background":
        wanted["baselines"] = random_rows(30, 8, seed=5)
    found = explain(model, random_rows(6, 8), **wanted)
    assert found.attributions.shape == (6, 8) and model.largest <= 20
    if method in ("integrated_gradients", "deep_lift_shap", "feature_ablation"):
        plain = explain(model.inner, random_rows(6, 8), **wanted)
        assert found.attributions == pytest.approx(plain.attributions, abs=1e-5)


@pytest.mark.parametrize("method", ["integrated_gradients", "gradient_shap", "deep_lift_shap", "shapley"])
def test_max_batch_is_kept(method: str) -> None:
    model = Greedy(10**9)
    wanted = {"target": 0, "method": method, **QUIET}
    if METHODS[method].reference == "background":
        wanted["baselines"] = random_rows(30, 8, seed=5)
    explain(model, random_rows(6, 8), max_batch=16, **wanted)
    assert model.largest <= 16


def test_memory_that_never_suffices_is_said() -> None:
    class Hopeless(nn.Module):
        n = 0

        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            if torch.is_grad_enabled() and self.n > 0:
                raise torch.OutOfMemoryError("CUDA out of memory.")
            self.n += torch.is_grad_enabled()
            return inputs[:, :1]

    with pytest.raises(DLStudioError, match="memory for a single row"):
        explain(Hopeless(), random_rows(6, 8), method="saliency", **QUIET)


def test_time_that_is_over_keeps_what_is_finished(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])

    class Slow(nn.Module):
        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            now[0] += 0.02
            return inputs.sum(dim=1)

    found = explain(Slow(), random_rows(2000, 4), method="input_x_gradient", max_seconds=0.2, max_batch=4, **QUIET)
    assert 0 < len(found) < 2000 and len(found.prediction) == len(found.rows) == len(found)
    assert found.attributions == pytest.approx(random_rows(2000, 4)[: len(found)].numpy())
    assert any("Only the first" in reason for reason in found.reasons)


def test_a_halt_during_refinement_keeps_all_rows() -> None:
    event, seen = threading.Event(), []

    class Kinked(nn.Module):
        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            return (8 * (inputs - 0.31)).clamp(0, 1).sum(dim=1)

    def tell(done: int, total: int) -> None:
        seen.append(total)
        event.set()

    found = explain(Kinked(), random_rows(6, 4), method="integrated_gradients", progress=tell, cancel=event)
    assert len(found) == 6 and "All rows were explained" in " ".join(found.reasons)


def test_cancel_and_progress() -> None:
    model, _ = small()
    event, told = threading.Event(), []

    def tell(done: int, total: int) -> None:
        told.append((done, total))
        if done >= 20:
            event.set()

    inputs = random_rows(100, 8)
    found = explain(model, inputs, target=0, method="saliency", max_batch=10, progress=tell, cancel=event)
    assert len(found) == 20 and told == [(10, 100), (20, 100)]
    with pytest.raises(DLStudioError, match="at least one batch"):
        explain(model, inputs, target=0, method="saliency", cancel=event, **QUIET)


def test_the_model_is_the_one_that_was_passed() -> None:
    found = explain(MultiLayer(), torch.tensor([[20.0, 50.0, 30.0]]), method="deep_lift", **QUIET)
    assert found.model == "MultiLayer" and found.run == ""
