"""Attacks find exactly what a linear model's margin allows; nothing is left behind in the model."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import nn

from dlstudio import results, stats
from dlstudio.errors import DLStudioError
from dlstudio.runs.kept import kept
from dlstudio.trust.robustness import assess_robustness
from dlstudio.trust.robustness_result import RobustnessResult
from dlstudio.trust.robustness_words import describe
from dlstudio.wording import percent

EPSILONS = (0.01, 0.05, 0.2, 0.6)
ORDER = {"linf": 1, "l2": 2}
"""The dual norm: of what an attacker under the key's norm gains from the weights."""


def rows(n: int = 300, *shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.randn(n, *(shape or (6,)), generator=torch.Generator().manual_seed(seed), dtype=dtype)


def linear(n_features: int = 6, n_out: int = 2, scale: float = 1.0) -> nn.Linear:
    layer = nn.Linear(n_features, n_out).double()
    with torch.no_grad():
        layer.weight.copy_(rows(n_out, n_features, seed=5) * scale)
        layer.bias.copy_(rows(1, n_out, seed=6)[0] * scale)
    return layer


def noisy_labels(model: nn.Module, x: torch.Tensor, wrong: float = 0.15) -> torch.Tensor:
    with torch.no_grad():
        y = model(x).argmax(dim=1)
    flip = torch.rand(len(x), generator=torch.Generator().manual_seed(9)) < wrong
    return torch.where(flip, 1 - y, y)


def margins(model: nn.Linear, x: torch.Tensor, y: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """y (w·x + b) of two classes, and w."""
    w = (model.weight[1] - model.weight[0]).detach()
    b = (model.bias[1] - model.bias[0]).detach()
    return (2 * y - 1) * (x @ w + b), w


def assess(model, x, y, **options) -> RobustnessResult:
    return assess_robustness(model, x, y, progress=False, **options)


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("scale", [1.0, 1e4, 1e-6], ids=["plain", "confident", "flat"])
def test_a_linear_model_is_robust_exactly_where_its_margin_says(norm: str, scale: float) -> None:
    model, x = linear(scale=scale), rows()
    y = noisy_labels(model, x)
    margin, w = margins(model, x, y)
    result = assess(model, x, y, norm=norm, epsilons=EPSILONS, corruptions=())
    for at, epsilon in enumerate((0.0, *EPSILONS)):
        robust = (margin > epsilon * w.norm(p=ORDER[norm])).numpy()
        for name in ("fgsm", "pgd"):
            np.testing.assert_array_equal(result.curves[name].errors[:, at] == 0, robust, err_msg=f"{name} {epsilon}")
    assert not result.no_gradient.any()


def test_confident_models_of_three_classes_are_attacked_in_the_right_direction() -> None:
    # Probabilities of these logits are 0 and 1 in float32, where cross entropy has no gradient left.
    model, x = linear(n_out=3, scale=300.0).float(), rows(dtype=torch.float32)
    with torch.no_grad():
        logits = model(x)
    y = logits.argmax(dim=1)
    assert (logits.softmax(dim=1).amax(dim=1) == 1).float().mean() > 0.9
    result = assess(model, x, y, epsilons=(0.3,), corruptions=())
    # Towards the runner-up an attack needs (z_y - z_j) / |w_y - w_j|_1; the nearest class is the exact answer.
    w = model.weight.detach()
    own = logits.gather(1, y[:, None])[:, 0]
    gaps = torch.stack([(own - logits[:, j]) / (w[y] - w[j]).abs().sum(1) for j in range(3)])
    gaps[gaps.isnan()] = torch.inf
    possible = (gaps.min(dim=0).values < 0.3).numpy()
    found = result.curves["pgd"].errors[:, 1] == 1
    assert not (found & ~possible).any(), "nothing impossible is found"
    assert found.sum() >= 0.95 * possible.sum() and possible.mean() > 0.2


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_normalisation_leaves_limits_in_raw_units(norm: str) -> None:
    raw_model, raw = linear(), rows() * 3 + 7
    y = noisy_labels(raw_model, raw)
    mean, std = raw.mean(dim=0), raw.std(dim=0)

    def normalised(z: torch.Tensor) -> torch.Tensor:
        return raw_model(z * std + mean)

    options = {"norm": norm, "epsilons": EPSILONS, "corruptions": {"noise": (0.5,)}}
    plain = assess(raw_model, raw, y, **options)
    wrapped = assess(normalised, (raw - mean) / std, y, mean=mean, std=std, **options)
    for name in plain.curves:
        np.testing.assert_array_equal(plain.curves[name].errors, wrapped.curves[name].errors)
    unaware = assess(normalised, (raw - mean) / std, y, **options)
    assert not np.array_equal(unaware.curves["pgd"].errors, plain.curves["pgd"].errors)


def test_images_keep_to_their_bounds_and_channels_have_their_own_scale() -> None:
    seen: list[torch.Tensor] = []

    class Model(nn.Module):
        def forward(self, z: torch.Tensor) -> torch.Tensor:
            raw = z * torch.tensor([0.2, 0.3, 0.4]).view(3, 1, 1) + torch.tensor([0.4, 0.5, 0.6]).view(3, 1, 1)
            seen.append(raw.detach())
            score = raw.mean(dim=(1, 2, 3)) - 0.5
            return torch.stack([-score, score], dim=1)

    raw = torch.rand(64, 3, 5, 5, generator=torch.Generator().manual_seed(0))
    raw[:, :, 0] = 1.0
    raw[:, :, 1] = 0.0
    y = (raw.mean(dim=(1, 2, 3)) > 0.5).long()
    scale = {"mean": (0.4, 0.5, 0.6), "std": (0.2, 0.3, 0.4)}
    z = (raw - torch.tensor(scale["mean"]).view(3, 1, 1)) / torch.tensor(scale["std"]).view(3, 1, 1)
    result = assess(Model(), z, y, epsilons=(0.1,), corruptions=("noise", "blur", "missing"), **scale)
    assert result.settings["bounds"] == [0.0, 1.0]
    lowest, highest = min(float(s.min()) for s in seen), max(float(s.max()) for s in seen)
    assert lowest >= -1e-5 and highest <= 1 + 1e-5
    # Pixels at a bound cannot be pushed over it: the mean moves by less than epsilon, by as much as there is room.
    toward = torch.where(y == 1, -1.0, 1.0).view(-1, 1, 1, 1)
    worst = (raw + 0.1 * toward).clamp(0, 1).mean(dim=(1, 2, 3)) - 0.5
    np.testing.assert_array_equal(result.curves["fgsm"].errors[:, 1] == 1, ((worst > 0).long() != y).numpy())


def test_masked_inputs_do_not_change() -> None:
    model, x = linear(), rows()
    y = noisy_labels(model, x)
    mask = torch.tensor([True, False, True, False, False, False])
    margin, w = margins(model, x, y)
    for norm, order in ORDER.items():
        result = assess(model, x, y, norm=norm, epsilons=(0.4,), mask=mask, corruptions=())
        robust = (margin > 0.4 * (w * mask).norm(p=order)).numpy()
        for name in ("fgsm", "pgd"):
            np.testing.assert_array_equal(result.curves[name].errors[:, 1] == 0, robust)


def test_curves_are_proportions_of_rows_with_wilson_bands() -> None:
    model, x = linear(), rows()
    y = noisy_labels(model, x)
    result = assess(model, x, y, epsilons=EPSILONS, level=0.9)
    for one in result.curves.values():
        right = (one.errors == 0).sum(axis=0)
        np.testing.assert_allclose(one.value, right / 300)
        low, high = stats.wilson(right, 300, 0.9)
        np.testing.assert_allclose([one.low, one.high], [low, high])
        n_first = int(right[0])
        lost = ((one.errors[:, :1] == 0) & (one.errors != 0)).sum(axis=0)
        np.testing.assert_allclose(one.lost, lost / n_first)
    attack = result.curves["pgd"]
    assert (np.diff(attack.value) <= 0).all(), "who may change much may change little"
    assert set(result.rows_of("pgd", 0.2)) <= set(result.rows_of("pgd"))
    np.testing.assert_array_equal(
        result.rows_of("pgd", 0.2), np.flatnonzero((attack.errors[:, 0] == 0) & (attack.errors[:, 3] == 1))
    )


def test_noise_is_what_theory_says() -> None:
    # The score of a linear model under noise is normal: P(right) = Φ(margin / (sd·|w|)).
    from scipy.stats import norm

    model, x = linear(), rows(4000)
    with torch.no_grad():
        y = model(x).argmax(dim=1)
    margin, w = margins(model, x, y)
    result = assess(model, x, y, attacks=(), corruptions={"noise": (0.3, 1.0)})
    for at, sd in enumerate((0.3, 1.0), start=1):
        expected = norm.cdf(margin / (sd * float(w.norm()))).mean()
        assert abs(result.curves["noise"].value[at] - expected) < 4 * 0.5 / np.sqrt(4000)


def test_missing_columns_go_together_and_as_often_as_asked() -> None:
    x = torch.ones(4000, 4) + rows(4000, 4, dtype=torch.float32) * 0.01
    seen = []

    def model(z: torch.Tensor) -> torch.Tensor:
        seen.append(z)
        return torch.stack([z[:, 0], z[:, 1]], dim=1)

    assess(model, x, torch.zeros(4000, dtype=torch.long), attacks=(), corruptions={"missing": (0.25, 1.0)},
           column_of_feature=("a", "b", "b", "c"), max_batch=5000)  # fmt: skip
    fill = x.mean(dim=0)
    quarter, whole = (torch.isclose(z, fill, rtol=0, atol=1e-6) for z in seen[-2:])
    assert whole.all()
    assert abs(quarter[:, 0].float().mean() - 0.25) < 4 * np.sqrt(0.25 * 0.75 / 4000)
    assert torch.equal(quarter[:, 1], quarter[:, 2]), "both come from column b"
    assert not torch.equal(quarter[:, 0], quarter[:, 1])


def test_blur_is_a_gaussian_and_keeps_flat_images() -> None:
    from scipy.ndimage import gaussian_filter

    from dlstudio.trust.corruptions import Corruption

    images = torch.rand(3, 2, 9, 9, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    blur = Corruption(name="blur", modality="image", fill=torch.zeros(()))
    for sigma in (0.5, 1.3):
        reach = max(1, int(np.ceil(3 * sigma)))
        expected = gaussian_filter(images.numpy(), sigma, axes=(2, 3), mode="nearest", radius=reach)
        np.testing.assert_allclose(blur.apply(images, sigma, None).numpy(), expected, atol=1e-12)
        line = images[:, 0]
        along = gaussian_filter(line.numpy(), sigma, axes=(1,), mode="nearest", radius=reach)
        np.testing.assert_allclose(blur.apply(line, sigma, None).numpy(), along, atol=1e-12)


@pytest.mark.parametrize("max_batch", [7, 64])
def test_numbers_do_not_depend_on_how_many_rows_are_taken_at_once(max_batch: int) -> None:
    model, x = linear(), rows()
    y = noisy_labels(model, x)
    whole = assess(model, x, y, max_batch=1000)
    parts = assess(model, x, y, max_batch=max_batch)
    for name in whole.curves:
        np.testing.assert_array_equal(whole.curves[name].errors, parts.curves[name].errors)
    other = assess(model, x, y, max_batch=max_batch, seed=1)
    assert not np.array_equal(other.curves["noise"].errors, parts.curves["noise"].errors)


@pytest.mark.parametrize("in_attacks_only", [False, True])
def test_running_out_of_memory_halves_the_batch_and_changes_nothing(in_attacks_only: bool) -> None:
    plain_model, sizes = linear(), []

    def model(z: torch.Tensor) -> torch.Tensor:
        sizes.append(len(z))
        if len(z) > 25 and (torch.is_grad_enabled() or not in_attacks_only):
            raise torch.OutOfMemoryError("CUDA out of memory")
        return plain_model(z)

    x = rows(160)
    y = noisy_labels(plain_model, x)
    result, plain = assess(model, x, y), assess(plain_model, x, y)
    assert max(sizes) > 100
    for name in plain.curves:
        np.testing.assert_array_equal(result.curves[name].errors, plain.curves[name].errors)


def test_the_model_and_all_random_numbers_are_left_as_found() -> None:
    import random

    model = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.5), nn.Linear(8, 2))
    model.train()
    model[1].eval()
    model[0].weight.grad = torch.ones_like(model[0].weight)
    model[4].bias.requires_grad_(False)
    before, state = copy.deepcopy(model), torch.get_rng_state()
    python, legacy = random.getstate(), np.random.get_state()[1].copy()
    x, y = rows(50, dtype=torch.float32), torch.arange(50) % 2
    kept = x.clone()
    with torch.no_grad():
        first = assess(model, x, y)
    with torch.inference_mode():
        second = assess(model, torch.ones(1) * x, y)
    for name in first.curves:
        np.testing.assert_array_equal(first.curves[name].errors, second.curves[name].errors)
    assert torch.equal(state, torch.get_rng_state()) and random.getstate() == python
    np.testing.assert_array_equal(np.random.get_state()[1], legacy)
    assert torch.equal(x, kept) and not x.requires_grad
    assert [part.training for part in model.modules()] == [part.training for part in before.modules()]
    for (name, weight), old in zip(model.named_parameters(), before.parameters(), strict=True):
        assert torch.equal(weight, old) and weight.requires_grad == old.requires_grad, name
    assert torch.equal(model[0].weight.grad, torch.ones_like(model[0].weight)) and model[4].weight.grad is None
    assert all(torch.equal(a, b) for a, b in zip(model.buffers(), before.buffers(), strict=True))


def test_one_logit_and_probabilities_are_read_like_two_logits() -> None:
    model, x = linear(), rows()
    y = noisy_labels(model, x)
    readings = {
        "logits": model,
        "logit": lambda z: model(z)[:, 1:] - model(z)[:, :1],
        "probabilities": lambda z: model(z).softmax(dim=1),
        "probability": lambda z: model(z).softmax(dim=1)[:, 1],
    }
    found = {name: assess(given, x, y, epsilons=EPSILONS) for name, given in readings.items()}
    for name, result in found.items():
        assert result.settings["outputs"] == name
        for curve in result.curves:
            np.testing.assert_array_equal(result.curves[curve].errors, found["logits"].curves[curve].errors)
        assert any(f.code == "DLS353" for f in result.findings) == name.startswith("prob")


def test_vanished_gradients_are_told_and_not_called_robust() -> None:
    model, x = linear(scale=1e3), rows()
    y = noisy_labels(model, x, 0)

    def rounded(z: torch.Tensor) -> torch.Tensor:
        return model(z).softmax(dim=1).clamp(1e-3, 1 - 1e-3)

    result = assess(rounded, x, y, epsilons=EPSILONS)
    assert result.no_gradient.mean() > 0.5
    told = next(f for f in result.findings if f.code == "DLS352")
    assert told.severity == "warning" and told.evidence["n_rows"] == result.no_gradient.sum()


def test_regression_has_the_mean_absolute_error_and_exact_attacks() -> None:
    w = rows(1, 6, seed=3)[0]
    x = rows()
    y = x @ w + rows(300, 1, seed=4)[:, 0]
    result = assess(lambda z: z @ w, x, y, epsilons=EPSILONS)
    assert result.metric == "mean_absolute_error"
    residual = (x @ w - y).abs()
    for at, epsilon in enumerate((0.0, *EPSILONS)):
        # The error grows by epsilon times the weights' dual norm, whatever its sign.
        expected = residual + epsilon * w.abs().sum()
        for name in ("fgsm", "pgd"):
            np.testing.assert_allclose(result.curves[name].errors[:, at], expected, rtol=1e-5)
    one = result.curves["fgsm"]
    low, high = stats.mean_interval(residual.mean(), residual.var(), 300)
    np.testing.assert_allclose([one.low[0], one.high[0]], [low, high], rtol=1e-5)
    np.testing.assert_allclose(one.lost, np.array([0, *EPSILONS]) * float(w.abs().sum() / residual.mean()), rtol=1e-4)
    with pytest.raises(DLStudioError, match="a regression"):
        result.rows_of("fgsm")


def test_pgd_beats_one_step_where_the_loss_is_curved() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(6, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 3)).double()
    x = rows(400)
    with torch.no_grad():
        y = model(x * 2).argmax(dim=1)
    result = assess(model, x * 2, y, norm="l2", epsilons=(0.5, 1.0), corruptions=())
    fgsm, pgd = result.curves["fgsm"].value, result.curves["pgd"].value
    assert (pgd <= fgsm).all() and pgd[-1] < fgsm[-1]


def test_verdicts_follow_intervals() -> None:
    model, x = linear(), rows(1000)
    y = noisy_labels(model, x, 0)
    margin, w = margins(model, x, y)
    tiny = float(margin.min() / w.norm(p=1)) / 2
    holds = assess(model, x, y, epsilons=(tiny,), corruptions=())
    assert holds.verdict == "holds" and holds.curves["fgsm"].holds_to == tiny
    fragile = assess(model, x, y, epsilons=(1.0, 2.0), corruptions=())
    assert fragile.verdict == "fragile" and fragile.curves["fgsm"].holds_to == 0
    assert {f.severity for f in fragile.findings} == {"warning"}
    weakens = assess(model, x, y, epsilons=(tiny, 1.0), corruptions=())
    assert weakens.verdict == "weakens" and weakens.curves["pgd"].holds_to == tiny


def test_few_rows_show_neither_that_a_model_weakens_nor_that_it_holds() -> None:
    model, x = linear(), rows(20)
    y = noisy_labels(model, x, 0)
    margin, w = margins(model, x, y)
    tiny = float(margin.min() / w.norm(p=1)) / 2
    unsure = assess(model, x, y, epsilons=(tiny,), corruptions=())
    assert unsure.curves["fgsm"].value.tolist() == [1, 1] and unsure.curves["fgsm"].lost_high[1] > 0.1
    assert unsure.verdict == "not enough data" and "too few to tell" in describe(unsure)[0]
    assert all("cannot be told" in one.sentence and "Train" not in one.remedy for one in unsure.findings)
    assert assess(model, x, y, epsilons=(tiny, 10.0), corruptions=()).verdict == "weakens"


def test_words_carry_number_interval_and_rows() -> None:
    model, x = linear(), rows()
    y = noisy_labels(model, x)
    result = assess(model, x, y, epsilons=EPSILONS)
    words = describe(result)
    one = result.curves["fgsm"]
    assert percent(one.value[0]) in words[0] and f"{percent(one.low[0])} to {percent(one.high[0])}" in words[0]
    assert "300 rows" in words[0]
    told = next(f for f in result.findings if f.code == "DLS350")
    at = list(one.strengths).index(told.evidence["strength"])
    assert percent(one.value[at]) in told.sentence
    assert f"{percent(one.low[at])} to {percent(one.high[at])}" in told.sentence
    assert any("Blur was left out" in sentence for sentence in words)


def test_a_poor_model_that_noise_makes_better_gets_no_advice_and_hears_what_was_judged() -> None:
    model, x = linear(), rows(1000)
    poor, good = noisy_labels(model, x, 0.8), noisy_labels(model, x, 0.1)
    for y, better in ((poor, True), (good, False)):
        result = assess(model, x, y, attacks=(), corruptions={"noise": [10.0]})
        one, told = result.curves["noise"], result.findings[0]
        before, after = one.errors.T == 0
        lost, n_right = (before & ~after).sum(), before.sum()
        assert (after.sum() >= n_right) == better and one.verdict == "fragile"
        assert f"{percent(lost / n_right)} (95 % interval" in told.sentence
        assert f"of the {n_right:,} rows that were right are wrong" in told.sentence
        assert f"accuracy is {percent(after.mean())}" in told.sentence
        assert ("as many others or more are right instead" in told.sentence) == better
        assert (told.remedy == "") == better and ("Train" in " ".join(describe(result))) != better
        assert "costs more than a tenth of the right answers" in describe(result)[0]


def test_rows_of_which_none_is_right_have_none_to_lose() -> None:
    model, x = linear(), rows(50)
    y = 1 - noisy_labels(model, x, 0)
    result = assess(model, x, y, attacks=(), corruptions={"noise": [10.0]})
    assert "no row was right that could be lost" in result.findings[0].sentence
    assert result.verdict == "not enough data"


def test_the_result_survives_a_file_and_its_frame_is_tidy(tmp_path) -> None:
    model, x = linear(), rows()
    y = noisy_labels(model, x)
    result = assess(model, x, y, epsilons=EPSILONS)
    assert results.load(results.save(result, tmp_path, "robustness")) == result
    frame = result.frame()
    assert len(frame) == sum(len(one.strengths) for one in result.curves.values())
    at = frame[(frame["name"] == "pgd") & (frame["strength"] == 0.2)].iloc[0]
    assert at["value"] == result.curves["pgd"].value[3] and at["n"] == 300 and at["metric"] == "accuracy"


def test_time_that_is_over_leaves_the_first_rows(monkeypatch) -> None:
    model, now = linear(), [0.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])

    def slow(z: torch.Tensor) -> torch.Tensor:
        now[0] += 0.002
        return model(z)

    x = rows(3000)
    y = noisy_labels(model, x)
    done = []
    result = assess_robustness(slow, x, y, epsilons=(0.1,), max_seconds=0.6, max_batch=64,
                               progress=lambda at, n: done.append((at, n)))  # fmt: skip
    assert 0 < len(result) < 3000 and done[-1] == (len(result), 3000) and result.n_asked == 3000
    assert any(f.code == "DLS355" for f in result.findings)
    margin, w = margins(model, x, y)
    expected = (margin > 0.1 * w.norm(p=1)).numpy()[: len(result)]
    np.testing.assert_array_equal(result.curves["pgd"].errors[:, 1] == 0, expected)


def test_text_is_corrupted_by_missing_tokens_only() -> None:
    table = torch.tensor([0.0, 1.0, -1.0, 2.0])
    ids = torch.randint(1, 4, (200, 8), generator=torch.Generator().manual_seed(0))

    def model(z: torch.Tensor) -> torch.Tensor:
        score = table[z].sum(dim=1)
        return torch.stack([-score, score], dim=1)

    y = model(ids).argmax(dim=1)
    result = assess(model, ids, y, corruptions={"noise": (0.1,), "missing": (0.3, 1.0)})
    assert set(result.skipped) == {"fgsm", "pgd", "noise"} and list(result.curves) == ["missing"]
    # All tokens gone: a tie, which the first class wins.
    np.testing.assert_array_equal(result.curves["missing"].errors[:, -1] == 1, (y == 1).numpy())


def test_without_gradients_corruptions_remain() -> None:
    model, x = linear(), rows()
    y = noisy_labels(model, x)
    result = assess(lambda z: model(z.detach()).detach(), x, y)
    assert set(result.skipped) >= {"fgsm", "pgd"} and "noise" in result.curves
    with pytest.raises(DLStudioError, match="makes sense here"):
        assess(lambda z: model(z.detach()).detach(), x, y, corruptions=())


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"attacks": ("fgms",)}, "Did you mean 'fgsm'"),
        ({"corruptions": ("nois",)}, "Did you mean 'noise'"),
        ({"norm": "l1"}, "norm"),
        ({"epsilons": (0.1, -1)}, "above 0"),
        ({"epsilons": ()}, "above 0"),
        ({"corruptions": {"missing": (1.5,)}}, "at most 1"),
        ({"targets": torch.zeros(3)}, "300 targets"),
        ({"targets": torch.full((300,), 2)}, "targets from 0 to 1"),
        ({"targets": torch.zeros(300)}, "one output a row"),
        ({"inputs": torch.full((300, 6), torch.nan)}, "finite inputs"),
        ({"inputs": torch.zeros(300, 5)}, "a model that takes"),
        ({"inputs": None}, "inputs and targets"),
        ({"mask": torch.zeros(6)}, "allows none"),
        ({"mask": torch.ones(4)}, "a mask of one row's shape"),
        ({"std": 0.0}, "std above 0"),
        ({"mean": torch.zeros(4)}, "one per channel"),
        ({"bounds": (0, 0.1)}, "bounds around"),
        ({"bounds": (1,)}, "bounds of two numbers"),
        ({"mean": "half"}, "mean as numbers"),
        ({"mask": "all"}, "mask as numbers"),
        ({"targets": ["yes"] * 300}, "targets as numbers"),
        ({"inputs": 3}, "one row of inputs"),
        ({"attacks": None}, "attack to be a name or several"),
        ({"corruptions": 3}, "corruption to be a name or several"),
        ({"level": 95}, "between 0 and 1"),
        ({"seed": -1}, "seed of 0 or more"),
        ({"n_steps": 0}, "n_steps"),
        ({"max_seconds": 0}, "max_seconds"),
        ({"rows": [1]}, "for a run only"),
        ({"column_of_feature": ("a",)}, "column for each of 6"),
        ({"model": 3}, "a module, a function or a run"),
        ({"model": lambda z: z * torch.inf}, "finite outputs"),
    ],
)
def test_bad_input_is_told(change: dict[str, object], words: str) -> None:
    model, x = linear(), rows()
    given = {"model": model, "inputs": x, "targets": noisy_labels(model, x)} | change
    positional = [given.pop(name) for name in ("model", "inputs", "targets")]
    with pytest.raises(DLStudioError, match=words):
        assess_robustness(*positional, progress=False, **given)


def test_a_run_is_attacked_in_its_numbers_only() -> None:
    import dlstudio as dls
    from dlstudio.training.predicted import predictions_of
    from dlstudio.trust.robustness_inputs import given_of

    run = dls.fit(dls.Recipe(data="mortgage", model="mlp", epochs=2, name="attacked", device="cpu"), progress=False)
    result = assess(run, None, None, epsilons=(0.2,), n_steps=3)
    test = predictions_of(run, "test")
    assert test.dataset is not None
    np.testing.assert_array_equal(result.rows, test.rows)
    np.testing.assert_array_equal(result.y_pred, test.y_pred)
    np.testing.assert_array_equal(result.curves["pgd"].errors[:, 0] == 0, test.y_true == test.y_pred)
    assert (result.data, result.run) == ("mortgage", run.key)
    assert result.curves["pgd"].unit == "standard deviations of the columns"
    some = assess(run, None, None, rows=[3, 14], epsilons=(0.2,), corruptions=())
    assert some.rows.tolist() == [3, 14]
    assert kept(run, "robustness", RobustnessResult) == result, "a look at two rows took it away"
    assert result.rows_of_part == {"test": len(test.rows)} and "test rows of mortgage" in describe(result)[0]
    assert not any(finding.code == "DLS356" for finding in result.findings)
    seen = test.dataset.splits["train"][:4]
    mixed = assess(run, None, None, rows=[*seen, test.rows[0]], epsilons=(0.2,), corruptions=())
    assert mixed.rows_of_part == {"train": 4, "test": 1}
    assert "5 rows of mortgage (4 train, 1 test)" in describe(mixed)[0]
    told = next(finding for finding in mixed.findings if finding.code == "DLS356")
    assert "4 of these 5 rows were trained on" in told.sentence
    with pytest.raises(DLStudioError, match="row numbers from 0 to"):
        assess(run, None, None, rows=[len(test.dataset)])
    with pytest.raises(DLStudioError, match="a run alone"):
        assess(run, rows(), None)
    given = given_of(run, None, None, rows=None, n_rows=5, mean=None, std=None, bounds=None, mask=None,
                     column_of_feature=())  # fmt: skip
    train = test.dataset.inputs[test.dataset.splits["train"]]
    for feature, free in enumerate(given.mask.tolist()):
        assert free == (len(train[:, feature].unique()) > 2), test.dataset.feature_names[feature]
    assert 0 < given.mask.sum() < len(given.mask)


def test_nothing_slow_is_imported_before_it_is_needed() -> None:
    import subprocess
    import sys

    code = (
        "import sys, dlstudio.trust.robustness;"
        "print([m for m in ('torch', 'pandas', 'captum', 'sklearn') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
