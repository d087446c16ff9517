"""Weights, thresholds and an adversary do what their definitions say, and nothing in them is left to chance."""

from __future__ import annotations

import copy
import itertools
import random
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from dlstudio import results
from dlstudio.errors import DLStudioError
from dlstudio.fairness.mitigation.adversarial import against, train_adversarial
from dlstudio.fairness.mitigation.rates import counts_of, gap_of
from dlstudio.fairness.mitigation.reweighing import reweigh
from dlstudio.fairness.mitigation.thresholds import group_thresholds

CRITERIA = ("demographic_parity_difference", "equal_opportunity_difference", "equalized_odds_difference")

# -- weights -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(5))
def test_with_weights_no_group_has_more_of_any_class(seed: int) -> None:
    generator = np.random.default_rng(seed)
    y, g = generator.integers(0, 3, 500), generator.choice(["a", "b", "c", "d"], 500, p=[0.6, 0.2, 0.15, 0.05])
    w = reweigh(y, g)
    for label, group in itertools.product(range(3), "abcd"):
        share = (w * (y == label))[g == group].sum() / w[g == group].sum()
        assert share == pytest.approx((y == label).mean(), abs=1e-12)
        cell = (y == label) & (g == group)
        assert w[cell][0] == pytest.approx((g == group).mean() * (y == label).mean() / cell.mean())
    assert w.mean() == pytest.approx(1) and (w > 0).all()


def test_several_columns_are_weighed_by_their_combinations_and_missing_is_a_group() -> None:
    frame = pd.DataFrame({"sex": ["f", "m"] * 40, "race": [1.0] * 20 + [np.nan] * 20 + [2.0] * 40})
    y = np.arange(80) % 4 // 2
    y[::7] = 1 - y[::7]
    w = reweigh(y, frame)
    for _, cell in frame.assign(race=frame["race"].fillna(-1)).groupby(["sex", "race"]):
        rows = cell.index.to_numpy()
        assert (w * y)[rows].sum() / w[rows].sum() == pytest.approx(y.mean(), abs=1e-12)


@pytest.mark.parametrize(
    ("y", "g", "words"),
    [
        ([0, 1, 1], ["a", "a", "b"], "none of outcome 0"),
        ([0, 1], ["a", "b", "c"], "2 values"),
        ([0.5, 1.2], ["a", "b"], "quantities"),
        ([[0, 1]], ["a"], "one class a row"),
        (np.arange(100) % 2, np.arange(100), "at most 50 groups"),
    ],
)
def test_what_cannot_be_weighed_is_told(y: Any, g: Any, words: str) -> None:
    with pytest.raises(DLStudioError, match=words):
        reweigh(y, np.array(g))


# -- thresholds --------------------------------------------------------------------------------------------------------


def small_data(seed: int, n: int = 30, groups: int = 2) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    g = generator.integers(0, groups, n)
    score = np.round(np.clip(generator.beta(2, 2, n) + 0.15 * (g == 0), 0, 1), 2)
    y = (generator.random(n) < score).astype(int)
    y[: 2 * groups], g[: 2 * groups] = np.arange(2 * groups) % 2, np.arange(2 * groups) // 2  # both classes everywhere
    return y, score, g


@pytest.mark.parametrize("criterion", CRITERIA)
@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("groups", [2, 3])
def test_thresholds_are_the_best_of_all_there_are(criterion: str, seed: int, groups: int) -> None:
    y, score, g = small_data(seed, n=26, groups=groups)
    candidates = [np.unique(np.r_[score[g == k], np.inf, 0.5]) for k in range(groups)]
    tried = []
    for chosen in itertools.product(*candidates):
        counts = counts_of(y, score >= np.array(chosen)[g], g, groups)
        gap = gap_of(counts, criterion, 0.95, 1)[0]
        tried.append((gap, float(((score >= np.array(chosen)[g]) == (y == 1)).mean())))
    for max_gap in (0.0, 0.1, 0.3):
        found = group_thresholds(y, score, g, criterion, max_gap=max_gap, min_denominator=1)
        best = max(accuracy for gap, accuracy in tried if gap <= max_gap + 1e-12)
        assert found.accuracy == pytest.approx(best) and found.gap <= max_gap + 1e-12
        decided = found.predict(score, g)
        assert (decided == y).mean() == pytest.approx(found.accuracy)
        # The same gap by fairlearn's own function of what was decided.
        import fairlearn.metrics

        assert getattr(fairlearn.metrics, criterion)(y, decided, sensitive_features=g) == pytest.approx(found.gap)


def test_decisions_are_the_same_every_time_also_for_one_row_alone() -> None:
    y, score, g = small_data(0, n=400)
    found = group_thresholds(y, score, g, max_gap=0.02)
    again = group_thresholds(y, score, g, max_gap=0.02)
    assert found == again
    whole = found.predict(score, g)
    assert [int(found.predict(score[i : i + 1], g[i : i + 1])[0]) for i in range(50)] == whole[:50].tolist()
    assert found.gap <= 0.02 < found.gap_before and found.needs_sensitive_feature


def test_thresholds_by_one_column_do_not_decide_by_another() -> None:
    y, score, g = small_data(0, n=400)
    found = group_thresholds(y, score, {"race": g}, max_gap=0.02)
    with pytest.raises(DLStudioError, match="the groups of 'race', but got those of 'sex'"):
        found.predict(score, pd.DataFrame({"sex": g}))
    decided = found.predict(score, {"race": g})
    assert (decided == found.predict(score, g)).all(), "an array has no name to go by"
    assert (decided == group_thresholds(y, score, g, max_gap=0.02).predict(score, pd.Series(g, name="sex"))).all()


@pytest.mark.parametrize("missing", [np.nan, None])
def test_weights_need_a_class_of_every_row(missing: Any) -> None:
    y = np.array([missing, 1, 0, 1], dtype=float if missing is not None else object)
    with pytest.raises(DLStudioError, match="a class for every row, but got 1 missing"):
        reweigh(y, ["a", "a", "b", "b"])


def test_nothing_changes_where_nothing_has_to() -> None:
    # A calibrated score with equal groups: the common threshold is the best one already.
    score = np.tile(np.linspace(0.05, 0.95, 10), 40)
    y = np.concatenate([np.repeat([0, 1], [20, 20])] * 10)
    score = np.where(y == 1, 0.7, 0.3)
    found = group_thresholds(y, score, np.tile(["a", "b"], 200), max_gap=0.0)
    np.testing.assert_array_equal(found.thresholds, [0.5, 0.5])
    assert found.accuracy == 1 and found.gap == 0


def test_small_groups_keep_the_common_threshold_and_make_no_gap() -> None:
    y, score, g = small_data(1, n=400)
    names = np.where(g == 0, "a", "b").astype(object)
    names[:9] = "few"
    found = group_thresholds(y, score, names, max_gap=0.02)
    place = found.groups.index("few")
    assert found.shared.tolist() == [name == "few" for name in found.groups] and found.thresholds[place] == 0.5
    large = [place for place, name in enumerate(found.groups) if name != "few"]
    rates = found.frame()["selection_rate"].to_numpy()[large]
    assert rates.max() - rates.min() == pytest.approx(found.gap) and found.gap <= 0.02


def test_thresholds_survive_a_file(tmp_path) -> None:
    y, score, g = small_data(2, n=200)
    found = group_thresholds(y, score, {"sex": g}, max_gap=0.0)
    assert results.load(results.save(found, tmp_path, "thresholds")) == found
    assert found.sensitive_feature == "sex" and list(found.frame()["group"]) == ["0", "1"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"y_true": np.arange(100) % 3}, "y_true of 0 and 1"),
        ({"y_score": np.full(100, 2.0)}, "scores from 0 to 1"),
        ({"y_score": np.full(100, np.nan)}, "scores from 0 to 1"),
        ({"y_score": np.full(99, 0.5)}, "100 scores"),
        ({"sensitive_features": ["a"] * 100}, "two groups"),
        ({"criterion": "demographic_parity"}, "Did you mean 'demographic_parity_difference'"),
        ({"max_gap": 1.5}, "max_gap from 0 to 1"),
        ({"max_gap": np.nan}, "max_gap from 0 to 1"),
        ({"threshold": np.nan}, "threshold from 0 to 1"),
        ({"min_denominator": -3}, "min_denominator of 1 or more"),
    ],
)
def test_bad_thresholds_are_told(change: dict[str, Any], words: str) -> None:
    y, score, g = small_data(0, n=100)
    with pytest.raises(DLStudioError, match=words):
        group_thresholds(**({"y_true": y, "y_score": score, "sensitive_features": g} | change))


def test_a_group_never_seen_is_refused() -> None:
    y, score, g = small_data(0, n=200)
    found = group_thresholds(y, score, g)
    with pytest.raises(DLStudioError, match="one of the groups 0, 1"):
        found.predict([0.4], [7])


def test_nobody_is_decided_on_without_a_score() -> None:
    y, score, g = small_data(0, n=200)
    found = group_thresholds(y, score, g)
    with pytest.raises(DLStudioError, match=r"1 of 3 missing \(nan\)"):
        found.predict([0.4, np.nan, 0.9], [0, 1, 1])
    with pytest.raises(DLStudioError, match="7 among 1 such"):
        found.predict([0.4, 7.0], [0, 1])
    with pytest.raises(DLStudioError, match="2 scores"):
        found.predict([[0.4], [0.3]], [0, 1])


# -- the adversary -----------------------------------------------------------------------------------------------------


def tensors(seed: int, scale: float = 1.0) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(4, 3, generator=generator) * scale, torch.randn(5, generator=generator) * scale]


def dot(a: Any, b: Any) -> float:
    return sum(float((x.double() * y.double()).sum()) for x, y in zip(a, b, strict=True))


@pytest.mark.parametrize("strength", [0.0, 0.5, 3.0])
@pytest.mark.parametrize("scale", [1.0, 1e-25])
def test_gradients_never_help_the_adversary(strength: float, scale: float) -> None:
    own, other = tensors(0), tensors(1, scale)
    changed = against(own, other, strength)
    # Of all that remains along the adversary's gradient, there is only -strength times that gradient.
    assert dot(changed, other) / dot(other, other) == pytest.approx(-strength, abs=1e-5 / scale)
    # Across it nothing changes: the rest differs from the task's gradient along the adversary's only.
    difference = [a - b for a, b in zip(own, changed, strict=True)]
    cosine = dot(difference, other) / np.sqrt(dot(difference, difference) * dot(other, other))
    assert abs(cosine) == pytest.approx(1, abs=1e-5)


def test_all_weights_are_one_vector() -> None:
    # In two orthogonal blocks, projecting block by block would give something else.
    own = [torch.tensor([[1.0, 0.0]]), torch.tensor([2.0])]
    other = [torch.tensor([[1.0, 0.0]]), torch.tensor([1.0])]
    share = (1 * 1 + 2 * 1) / 2
    changed = against(own, other, 0.0)
    torch.testing.assert_close(changed[0], torch.tensor([[1.0 - share, 0.0]]))
    torch.testing.assert_close(changed[1], torch.tensor([2.0 - share]))


def test_an_adversary_without_gradient_changes_nothing() -> None:
    own = tensors(0)
    for nothing in ([torch.zeros_like(t) for t in own], [torch.full_like(t, torch.nan) for t in own]):
        for a, b in zip(against(own, nothing, 2.0), own, strict=True):
            assert torch.equal(a, b)


def planted(n: int, seed: int) -> tuple[torch.Tensor, torch.Tensor, np.ndarray]:
    """Labels lean on the group, and a proxy of it is among the features."""
    generator = np.random.default_rng(seed)
    g = generator.integers(0, 2, n)
    signal = generator.normal(size=n)
    y = (0.5 * signal + 1.2 * (g - 0.5) + 0.8 * generator.normal(size=n) > 0).astype(np.int64)
    x = np.column_stack([signal, g + 0.3 * generator.normal(size=n), generator.normal(size=n)])
    return torch.from_numpy(x.astype(np.float32)), torch.from_numpy(y), g


def network(seed: int = 0, dropout: float = 0.0) -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(nn.Linear(3, 16), nn.ReLU(), nn.Dropout(dropout), nn.Linear(16, 2))


def judged(model: nn.Module, criterion: str) -> tuple[float, float]:
    x, y, g = planted(4000, 1)
    with torch.no_grad():
        said = model(x).argmax(dim=1).numpy()
    counts = counts_of(y.numpy(), said == 1, g, 2)
    return gap_of(counts, criterion, 0.95, 1)[0], float((said == y.numpy()).mean())


@pytest.mark.parametrize("criterion", ["demographic_parity_difference", "equalized_odds_difference"])
def test_an_adversary_closes_the_gap_and_costs_accuracy(criterion: str) -> None:
    x, y, g = planted(2000, 0)
    options = {"criterion": criterion, "epochs": 15, "lr": 5e-3, "progress": False}
    found = {strength: train_adversarial(network(), x, y, g, strength=strength, **options) for strength in (0.0, 1.0)}
    (wide, before), (narrow, after) = (judged(model, criterion) for model, _ in found.values())
    assert wide > 0.4 and narrow < 0.1 and after < before
    (_, plain), (_, went) = found.values()
    assert plain.adversary_loss[-1] < went.adversary_loss[-1]
    if criterion == "demographic_parity_difference":
        assert went.adversary_loss[-1] == pytest.approx(went.chance_loss, abs=0.02), "groups cannot be told apart"
        # All that may still be used is the signal: its sign is the best rule there is.
        signal, labels, _ = planted(4000, 1)
        assert after > ((signal[:, 0] > 0).long() == labels).float().mean() - 0.03


def test_the_same_seed_gives_the_same_model_and_disturbs_nobody() -> None:
    x, y, g = planted(300, 0)
    given = network(dropout=0.3)
    given[0].bias.grad = torch.ones(16)
    before = copy.deepcopy(given.state_dict())
    torch.manual_seed(123)
    state, python, legacy = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].copy()
    found = []
    for seed in (0, 0, 1):
        trained, went = train_adversarial(given, x, y, g, epochs=2, seed=seed, progress=False)
        found.append((trained.state_dict(), went))
        torch.rand(3)
        torch.set_rng_state(state)
    assert torch.equal(torch.get_rng_state(), state) and random.getstate() == python
    np.testing.assert_array_equal(np.random.get_state()[1], legacy)
    assert all(torch.equal(found[0][0][name], found[1][0][name]) for name in before)
    assert found[0][1] == found[1][1]
    assert not all(torch.equal(found[0][0][name], found[2][0][name]) for name in before)
    assert all(torch.equal(given.state_dict()[name], before[name]) for name in before) and given.training
    assert torch.equal(given[0].bias.grad, torch.ones(16))
    assert not trained.training and all(weight.grad is None for weight in trained.parameters())


def test_dead_networks_and_frozen_weights_stay_finite() -> None:
    x, y, g = planted(200, 0)
    dead = network()
    with torch.no_grad():
        dead[0].bias.fill_(-1e3)  # no unit is ever on: the adversary has no gradient through it
    dead[3].weight.requires_grad_(False)
    kept = dead[3].weight.clone()
    trained, went = train_adversarial(dead, x, y, g, strength=5.0, epochs=3, progress=False)
    assert np.isfinite(went.loss).all() and all(torch.isfinite(weight).all() for weight in trained.parameters())
    assert torch.equal(trained[3].weight, kept)


def test_how_it_went_survives_a_file_and_the_bar_counts_epochs(tmp_path) -> None:
    x, y, g = planted(200, 0)
    told = []
    _, went = train_adversarial(network(), x, y, {"sex": g}, epochs=3, progress=lambda done, n: told.append((done, n)))
    assert told == [(1, 3), (2, 3), (3, 3)]
    assert results.load(results.save(went, tmp_path, "adversary")) == went
    assert list(went.frame().columns) == ["epoch", "loss", "adversary_loss"] and len(went.frame()) == 3
    assert went.sensitive_feature == "sex" and went.needs_sensitive_feature is None, "tensors have no names"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"model": 3}, "torch.nn.Module"),
        ({"targets": torch.zeros(5)}, "a class for each"),
        ({"targets": torch.full((50,), 2)}, "classes from 0 to 1, but got 2 in 50 rows"),
        ({"targets": torch.tensor([-1, 1] * 25)}, "classes from 0 to 1, but got -1 in 25 rows"),
        ({"inputs": torch.full((50, 3), torch.nan)}, "some in 50 of 50 rows"),
        ({"model": nn.Linear(7, 2)}, "a model that takes torch.float32 inputs of shape \\(2, 3\\)"),
        ({"seed": -1}, "seed of 0 or more"),
        ({"lr": "fast"}, "lr of 1e-09 or more"),
        ({"sensitive_features": np.zeros(50)}, "two groups"),
        ({"sensitive_features": np.zeros(49)}, "50"),
        ({"criterion": "equal_opportunity_difference"}, "criterion"),
        ({"strength": -1}, "strength of 0 or more"),
        ({"epochs": 0}, "epochs"),
        ({"lr": 0}, "lr of 1e-09 or more"),
        ({"model": nn.Linear(3, 1)}, "two classes or more"),
        ({"lr": 1e30}, "stay finite"),
    ],
)
def test_bad_training_is_told(change: dict[str, Any], words: str) -> None:
    x, y, g = planted(50, 0)
    given = {"model": network(), "inputs": x, "targets": y, "sensitive_features": g} | change
    with pytest.raises(DLStudioError, match=words):
        train_adversarial(**given, **({} if "epochs" in change else {"epochs": 3}), progress=False)
