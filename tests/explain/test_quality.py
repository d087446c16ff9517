"""Scores against closed forms, Captum's metrics and models whose explanations are known to be good or bad."""

from __future__ import annotations

import copy
import dataclasses
import itertools
import threading
from typing import Any

import numpy as np
import pytest
import torch
from captum.metrics import infidelity, sensitivity_max
from torch import nn

from dlstudio import results
from dlstudio.errors import DLStudioError
from dlstudio.explain.explain import explain
from dlstudio.explain.inspection.untouched import untouched
from dlstudio.explain.quality.removal import removal_of
from dlstudio.explain.quality.sanity import _shifted, moves_with_data
from dlstudio.explain.quality.score import SCORES, score_explanation
from dlstudio.explain.quality.scores import QualityResult, describe
from dlstudio.explain.quality.subject import subject_of
from dlstudio.explain.result import Explanation
from dlstudio.running import Runner

from .models import network, random_rows

CONTRIBUTIONS = ("integrated_gradients", "input_x_gradient", "feature_ablation", "deep_lift", "shapley")


def linear(*weights: float) -> nn.Linear:
    model = nn.Linear(len(weights), 1)
    with torch.no_grad():
        model.weight.copy_(torch.tensor([weights]))
    return model


def explained(model: nn.Module, inputs: Any, method: str, **options: Any) -> Explanation:
    return explain(model, inputs, method=method, progress=False, **{"target": 0, **options})


def scored(model: nn.Module, explanation: Explanation, inputs: Any, *scores: str, **options: Any) -> QualityResult:
    return score_explanation(model, explanation, inputs, scores=scores or SCORES, progress=False, **options)


def codes(result: QualityResult, severity: str = "warning") -> set[str]:
    return {finding.code for finding in result.findings if finding.severity == severity}


@pytest.mark.parametrize("method", CONTRIBUTIONS)
def test_a_linear_model_is_explained_without_a_rest(method: str) -> None:
    model, inputs = linear(1.0, -2.0, 3.0, 0.5), random_rows(5, 4)
    result = scored(model, explained(model, inputs, method), inputs, "infidelity")
    assert result.infidelity == pytest.approx(np.zeros(5), abs=1e-9)


def test_the_gradient_of_a_linear_model_never_changes_and_foresees_all() -> None:
    model, inputs = linear(1.0, 2.0, 3.0), random_rows(6, 3)  # all rising: a size without a sign is the gradient
    result = scored(model, explained(model, inputs, "saliency"), inputs, "infidelity", "max_sensitivity")
    assert result.infidelity == pytest.approx(np.zeros(6), abs=1e-9)
    assert result.max_sensitivity == pytest.approx(np.zeros(6), abs=1e-12)


def test_columns_of_several_features_are_taken_away_together() -> None:
    model, inputs = linear(1.0, -2.0, 3.0, 0.5), random_rows(5, 4)
    options: dict[str, Any] = {"feature_mask": torch.tensor([0, 1, 1, 0])}
    e = explained(model, inputs, "shapley", feature_names=("a", "b"), **options)
    assert e.attributions.shape == (5, 2)
    result = scored(model, e, inputs, "infidelity", "removal", **options)
    assert result.infidelity == pytest.approx(np.zeros(5), abs=1e-9)
    assert result.shares == pytest.approx([0, 0.5, 1])


@pytest.mark.parametrize("method", ["input_x_gradient", "integrated_gradients", "shapley"])
def test_infidelity_is_captums(method: str) -> None:
    model, inputs = network(6, 16, 1, act=nn.Tanh), random_rows(4, 6)
    e = explained(model, inputs, method)
    result = scored(model, e, inputs, "infidelity", n_draws=40, seed=3)
    with untouched(model):
        removal = removal_of(
            subject_of(model, inputs, target=0, baselines=None, options={}), e, Runner(max_batch=64, progress=False)
        )
    assert removal is not None
    gone = torch.from_numpy(removal.draws(np.random.default_rng(3), 4, 40).reshape(160, 6))
    rows = inputs.repeat_interleave(40, dim=0)
    changed = torch.where(gone, torch.zeros(()), rows)
    with torch.no_grad():
        change = (model(rows) - model(changed)).reshape(4, 40).pow(2).mean(dim=1)
        theirs = infidelity(
            model,
            lambda _: (gone.float(), changed),
            inputs,
            torch.from_numpy(e.attributions),
            target=0,
            n_perturb_samples=40,
            normalize=True,
        )
    assert result.infidelity == pytest.approx((theirs / change).numpy(), rel=1e-3, abs=1e-6)


def test_attributions_of_the_wrong_sign_foresee_nothing() -> None:
    model, inputs = linear(1.0, -2.0, 3.0), random_rows(4, 3)
    e = explained(model, inputs, "shapley")
    wrong = dataclasses.replace(e, attributions=-e.attributions)
    result = scored(model, wrong, inputs, "infidelity", "removal")
    assert result.infidelity == pytest.approx(np.ones(4))
    assert {"DLS430", "DLS431"} <= codes(result)


def test_max_sensitivity_is_captums() -> None:
    model, inputs = network(6, 16, 1, act=nn.Tanh), random_rows(4, 6)
    e = explained(model, inputs, "input_x_gradient")
    result = scored(model, e, inputs, "max_sensitivity", n_repeats=1, seed=5)
    noise = 2 * torch.rand(inputs.shape, generator=torch.Generator().manual_seed(5)) - 1

    def times_gradient(given: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor]:
        with torch.enable_grad():
            rows = given[0].detach().requires_grad_()
            return (torch.autograd.grad(model(rows).sum(), rows)[0] * rows.detach(),)

    theirs = sensitivity_max(
        times_gradient, inputs, perturb_func=lambda _: (inputs + 0.02 * inputs.std(dim=0) * noise,), n_perturb_samples=1
    )
    assert result.max_sensitivity == pytest.approx(theirs.numpy(), rel=1e-4)


def test_no_order_beats_that_of_a_linear_model() -> None:
    model, inputs = linear(1.0, -2.0, 3.0, 0.5), random_rows(3, 4)
    result = scored(model, explained(model, inputs, "integrated_gradients"), inputs, "removal")
    with torch.no_grad():
        effects = (model.weight * inputs).double().numpy()
        start, end = model(inputs).double().numpy().ravel(), model(torch.zeros(1, 4)).double().item()
    values = np.array([*start, end, end, end])
    scale = values.max() - values.min()
    for row in range(3):
        areas = []
        for order in itertools.permutations(range(4)):
            left = [effects[row, list(order[gone:])].sum() / scale for gone in range(5)]
            areas.append(np.trapezoid(left, np.linspace(0, 1, 5)))
        assert result.deletion_area is not None and result.insertion_area is not None
        assert result.deletion_area[row] == pytest.approx(min(areas), abs=1e-6)
        assert result.insertion_area[row] == pytest.approx(max(areas), abs=1e-6)


def test_random_orders_leave_the_mean_of_all_orders() -> None:
    model, inputs = linear(1.0, -2.0, 3.0, 0.5), random_rows(30, 4)
    result = scored(model, explained(model, inputs, "shapley"), inputs, "removal", n_random=40)
    assert result.random_deletion_area is not None and result.deletion is not None
    # Of a linear model the mean over orders falls on a straight line, which has half the area.
    assert result.random_deletion_area.mean() == pytest.approx(result.deletion[:, 0].mean() / 2, abs=0.02)
    assert codes(result) == set()


def test_removal_goes_to_its_reference() -> None:
    """Whatever the method: all features taken away is the reference, none the input."""
    model, inputs, background = network(6, 16, 2), random_rows(4, 6), random_rows(9, 6, seed=7)
    e = explained(model, inputs, "deep_lift_shap", target=1, baselines=background)
    result = scored(model, e, inputs, "removal", baselines=background)
    assert result.deletion is not None and result.insertion is not None
    assert result.deletion[:, -1] == pytest.approx(np.zeros(4), abs=1e-9)
    assert result.insertion[:, [0, -1]] == pytest.approx(result.deletion[:, [-1, 0]], abs=1e-9)
    assert result.deletion[:, 0] * _range(e) == pytest.approx(e.prediction - e.baseline_value, abs=1e-5)


def _range(e: Explanation) -> float:
    values = np.concatenate([e.prediction, e.baseline_value])
    return float(values.max() - values.min())


def test_batches_change_nothing() -> None:
    model, inputs, background = network(6, 16, 2), random_rows(7, 6), random_rows(9, 6, seed=7)
    e = explained(model, inputs, "shapley", baselines=background)
    whole, small = (
        scored(model, e, inputs, "infidelity", "removal", baselines=background, max_batch=batch) for batch in (None, 5)
    )
    assert small.infidelity == pytest.approx(whole.infidelity, abs=1e-6)
    assert small.deletion == pytest.approx(whole.deletion, abs=1e-6)


def test_random_weights_change_what_depends_on_weights() -> None:
    model, inputs = network(20, 32, 32, 1, act=nn.Tanh), random_rows(12, 20)
    result = scored(model, explained(model, inputs, "saliency"), inputs, "parameter_randomisation")
    assert result.layers == ("4", "2", "0")
    assert result.similarity is not None and result.similarity.shape == (3, 12)
    assert abs(np.median(result.similarity[-1])) < 0.5 and "DLS433" not in codes(result)


def test_attributions_that_show_only_the_inputs_are_found_out() -> None:
    model, inputs = nn.Sequential(nn.Linear(20, 8), nn.ReLU(), nn.Linear(8, 1)), random_rows(12, 20).abs()
    with torch.no_grad():
        for weights in model.parameters():
            weights.fill_(0.1)  # without any spread: random numbers of the same mean and spread are the same
    result = scored(model, explained(model, inputs, "input_x_gradient"), inputs, "parameter_randomisation")
    assert result.similarity == pytest.approx(np.ones((2, 12)))
    assert codes(result) == {"DLS433"}


@pytest.mark.parametrize(
    ("method", "baselines", "moves"),
    [
        ("saliency", None, False),
        ("input_x_gradient", None, True),
        ("integrated_gradients", 0.0, True),
        ("integrated_gradients", "mean", False),
        ("deep_lift_shap", "rows", False),
    ],
)
def test_a_shift_moves_what_depends_on_where_zero_lies(method: str, baselines: Any, moves: bool) -> None:
    """Kindermans et al. 2019: gradients are invariant, gradient times input and fixed reference points are not."""
    model, inputs = network(6, 16, 1, act=nn.Tanh), random_rows(8, 6)
    baselines = {"mean": inputs.mean(dim=0), "rows": inputs[:5]}.get(str(baselines), baselines)
    e = explained(model, inputs, method, baselines=baselines)
    result = scored(model, e, inputs, "input_invariance", baselines=baselines)
    assert result.input_invariance is not None
    if moves:
        assert np.median(result.input_invariance) > 0.1
    else:
        assert result.input_invariance.max() < 1e-3
    assert ("DLS434" in codes(result)) == (method == "input_x_gradient")


def test_a_shifted_model_says_the_same_of_shifted_inputs() -> None:
    model, inputs, shift = network(6, 16, 2), random_rows(8, 6), torch.arange(6.0)
    moved = _shifted(model, shift)
    assert torch.allclose(moved(inputs + shift), model(inputs), atol=1e-5)
    assert [*dict(moved.named_modules())] == [*dict(model.named_modules())]
    by_function = _shifted(lambda rows: rows.sum(dim=1), shift)
    assert torch.allclose(by_function(inputs + shift), inputs.sum(dim=1), atol=1e-5)


def test_a_reference_made_of_data_is_told_from_a_fixed_one() -> None:
    assert [moves_with_data(b) for b in (None, 0.0, torch.zeros(3), np.full((1, 3), 7.0))] == [False] * 4
    assert moves_with_data(torch.tensor([1.0, 2.0])) and moves_with_data(np.eye(2))


class Words(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(20, 8, padding_idx=0)
        self.head = nn.Linear(8, 2)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return self.head(self.embedding(ids).mean(dim=1))


def test_tokens_are_taken_away_and_not_changed_a_little() -> None:
    torch.manual_seed(0)
    model, ids = Words(), torch.randint(1, 20, (5, 7), generator=torch.Generator().manual_seed(0))
    for method in ("feature_ablation", "integrated_gradients"):
        result = scored(model, explained(model, ids, method), ids)
        assert set(result.skipped) == {"max_sensitivity", "input_invariance"}
        assert result.infidelity == pytest.approx(np.zeros(5), abs=1e-6)  # a bag of words is linear
        assert result.layers == ("head", "embedding")
    assert any("was left out" in line for line in describe(result))


def test_images_lose_whole_pixels() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 2))
    inputs = random_rows(3, 3, 6, 6)
    for method in ("integrated_gradients", "grad_cam"):
        result = scored(model, explained(model, inputs, method), inputs, "infidelity", "removal")
        assert result.deletion is not None and result.deletion.shape == (3, 33) and not result.skipped
    assert result.shares[1] == pytest.approx(1 / 36)


def test_a_layers_attributions_are_no_part_of_the_inputs() -> None:
    model, inputs = network(6, 16, 2), random_rows(4, 6)
    result = scored(model, explained(model, inputs, "layer_conductance", layer="0"), inputs)
    assert {"infidelity", "removal"} <= set(result.skipped) and result.max_sensitivity is not None


def test_functions_have_no_weights() -> None:
    inputs = random_rows(4, 3)
    e = explain(lambda rows: rows.prod(dim=1), inputs, method="shapley", progress=False)
    result = score_explanation(lambda rows: rows.prod(dim=1), e, inputs, progress=False)
    assert set(result.skipped) == {"parameter_randomisation"} and result.input_invariance is not None


def test_a_seed_decides_everything_and_results_survive_the_disk(tmp_path: Any) -> None:
    model, inputs = network(6, 16, 2), random_rows(5, 6)
    e = explained(model, inputs, "integrated_gradients")
    one, again = (dataclasses.replace(scored(model, e, inputs, seed=4), seconds={}) for _ in range(2))
    assert one == again
    assert results.load(results.save(one, tmp_path, "quality")) == one
    assert list(one.frame()["row"]) == [0, 1, 2, 3, 4] and one.frame().notna().all(axis=None)
    assert len(describe(one)) == 6


def test_only_what_is_asked_for_is_computed() -> None:
    model, inputs = network(6, 16, 2), random_rows(5, 6)
    seen: list[tuple[int, int]] = []
    e = explained(model, inputs, "saliency")
    result = score_explanation(
        model, e, inputs, scores=["removal"], progress=lambda done, total: seen.append((done, total))
    )
    assert result.infidelity is None and set(result.seconds) == {"removal"} and seen == [(0, 1), (1, 1)]
    assert result.frame()["infidelity"].isna().all()


def test_the_model_is_left_as_found() -> None:
    model, inputs = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 1)), random_rows(6, 6)
    model(inputs).sum().backward()
    before = copy.deepcopy(model.state_dict())
    grads = [parameter.grad for parameter in model.parameters()]
    state = torch.get_rng_state()
    scored(model, explained(model, inputs, "deep_lift"), inputs)
    assert model.training and type(model) is nn.Sequential
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert all(parameter.grad is grad for parameter, grad in zip(model.parameters(), grads, strict=True))
    assert torch.equal(torch.get_rng_state(), state)
    assert not any(part._forward_pre_hooks or part._forward_hooks for part in model.modules())


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"inputs": random_rows(3, 6)}, "5 rows that were explained"),
        ({"inputs": random_rows(5, 6, seed=9)}, "the model, inputs and target"),
        ({"model": network(6, 16, 2, seed=9)}, "the model, inputs and target"),
        ({"baselines": 3.0, "scores": ["max_sensitivity"]}, "arguments that this explanation was made with"),
        ({"scores": ["infidelty"]}, "Did you mean 'infidelity'"),
        ({"n_random": 1}, "n_random of 2 or more"),
        ({"n_draws": 0}, "n_draws of 1 or more"),
        ({"inputs": None}, "the inputs that were explained"),
        ({"inputs": random_rows(5, 7)}, "a model that takes inputs of shape"),
        ({"inputs": torch.full((5, 6), torch.nan)}, "finite inputs"),
        ({"scores": []}, "one score or more"),
        ({"seed": "a"}, "seed of 0 or more"),
        ({"max_batch": 0}, "max_batch of 1 or more"),
        ({"max_seconds": 0}, "max_seconds above 0"),
        ({"max_seconds": 1e-9}, "time for at least one score"),
    ],
)
def test_what_does_not_belong_together_is_refused(change: dict[str, Any], words: str) -> None:
    model, inputs = network(6, 16, 2), random_rows(5, 6)
    e = explained(model, inputs, "integrated_gradients")
    given: dict[str, Any] = {"model": model, "inputs": inputs, "progress": False, **change}
    with pytest.raises(DLStudioError, match=words):
        score_explanation(given.pop("model"), e, **given)


def test_what_is_no_explanation_is_refused() -> None:
    with pytest.raises(DLStudioError, match=r"what dls.explain returned"):
        score_explanation(network(6, 2), {"method": "saliency"}, random_rows(5, 6))  # type: ignore[arg-type]


@pytest.mark.parametrize("n", [1, 2])
def test_single_rows_and_numpys_numbers_are_fine(n: int) -> None:
    model, inputs = network(6, 16, 2), random_rows(n, 6)
    e = explained(model, inputs, "integrated_gradients")
    options = {name: np.int64(3) for name in ("n_draws", "n_random", "n_repeats", "seed", "max_batch")}
    result = scored(model, e, inputs, **options)
    assert not result.skipped and results.equal(
        result.infidelity, scored(model, e, inputs, n_draws=3, seed=3).infidelity
    )


def test_a_score_that_is_cut_short_is_left_out_and_those_before_are_kept() -> None:
    event, inputs, model = threading.Event(), random_rows(5, 6), network(6, 16, 2)
    e = explained(model, inputs, "saliency")
    calls, most = [0], [10**9]

    def count(*_: Any) -> None:
        calls[0] += 1
        if calls[0] > most[0]:
            event.set()

    model.register_forward_hook(count)
    expected = scored(model, e, inputs, "infidelity")
    calls[0], most[0] = 0, calls[0] + 3
    result = scored(model, e, inputs, "infidelity", "max_sensitivity", "removal", cancel=event)
    assert most[0] < calls[0] <= most[0] + 10, "it ended soon"
    assert results.equal(result.infidelity, expected.infidelity) and set(result.seconds) == {"infidelity"}
    assert result.skipped == {"max_sensitivity": "it was cancelled", "removal": "it was cancelled"}
    assert "Max sensitivity was left out: it was cancelled." in describe(result)
    calls[0] = 0
    with pytest.raises(DLStudioError, match=r"time for at least one score.*it was cancelled"):
        scored(model, e, inputs, cancel=event)
    assert calls[0] < 10


def test_time_holds_for_all_scores_together(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    model, inputs = network(6, 16, 2), random_rows(5, 6)
    e = explained(model, inputs, "saliency")
    model.register_forward_hook(lambda *_: now.__setitem__(0, now[0] + 1.0))
    whole = scored(model, e, inputs)
    took, now[0] = now[0], 0.0
    half = scored(model, e, inputs, max_seconds=took / 2)
    assert set(half.seconds) | set(half.skipped) == set(SCORES) and half.seconds and half.skipped
    assert list(half.seconds) == list(SCORES)[: len(half.seconds)] and now[0] <= took / 2 + 3
    assert all(why == f"the {took / 2:g} s allowed were over" for why in half.skipped.values())
    assert results.equal(half.infidelity, whole.infidelity) and "DLS431" not in codes(half) - codes(whole)


def test_a_score_that_fails_costs_no_other() -> None:
    class Single(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = network(6, 16, 2)

        def forward(self, rows: torch.Tensor) -> torch.Tensor:
            return self.net(rows)

        def __deepcopy__(self, memo: dict[int, Any]) -> Single:
            raise TypeError("cannot pickle '_thread.lock' object")

    model, inputs = Single(), random_rows(5, 6)
    e = explained(model, inputs, "saliency")
    result = scored(model, e, inputs)
    assert set(result.skipped) == {"parameter_randomisation", "input_invariance"}
    assert "cannot pickle" in result.skipped["input_invariance"]
    with pytest.raises(DLStudioError, match="a model that can be copied"):
        scored(model, e, inputs, "input_invariance")


def test_running_out_of_memory_halves_the_batch() -> None:
    class Tight(nn.Module):
        def __init__(self, most: int) -> None:
            super().__init__()
            self.net, self.most = network(6, 16, 2), most

        def forward(self, rows: torch.Tensor) -> torch.Tensor:
            if len(rows) > self.most:
                raise torch.OutOfMemoryError("CUDA out of memory.")
            return self.net(rows)

    model, inputs = Tight(10**9), random_rows(12, 6)
    e = explained(model, inputs, "saliency")
    expected = scored(model, e, inputs)
    model.most = 8
    result = scored(model, e, inputs)
    assert not result.skipped
    for name in ("infidelity", "deletion", "insertion", "max_sensitivity", "input_invariance", "similarity"):
        assert getattr(result, name) == pytest.approx(getattr(expected, name), abs=1e-5), name
