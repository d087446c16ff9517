"""Agreement against scipy, closed forms and pairs of methods that are known to differ."""

from __future__ import annotations

import dataclasses
import itertools
import threading
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from torch import nn

import dlstudio as dls
from dlstudio import results
from dlstudio.errors import DLStudioError
from dlstudio.explain.explain import explain
from dlstudio.explain.methods import METHODS
from dlstudio.explain.quality import disagreement
from dlstudio.explain.quality.agreement_result import AgreementResult, describe
from dlstudio.explain.quality.compare import COMPARED, compare_explanations, shares_of
from dlstudio.explain.quality.ranks import rank_correlation, top_overlap
from dlstudio.explain.quality.score import score_explanation
from dlstudio.explain.session import Session

from .models import network, random_rows


def compared(model: Any, inputs: Any, *methods: str, **options: Any) -> AgreementResult:
    chosen = {"methods": methods} if methods else {}
    return compare_explanations(model, inputs, progress=False, **{"target": 0, **chosen, **options})


def reason(result: AgreementResult, one: str, other: str) -> str:
    frame = result.frame()
    pair = frame[[{one, other} == {a, b} for a, b in zip(frame["method"], frame["other"], strict=True)]]
    return str(pair["reason"].item())


def test_on_a_linear_model_all_contributions_are_one() -> None:
    model, inputs = nn.Linear(6, 1), random_rows(5, 6)
    result = compared(
        model, inputs, "shapley", "integrated_gradients", "deep_lift", "feature_ablation", "input_x_gradient"
    )
    assert result.rank_correlation == pytest.approx(np.ones((5, 5)))
    assert result.top_overlap == pytest.approx(np.ones((5, 5)))
    effects = (model.weight * inputs).detach().numpy()
    expected = effects / np.abs(effects).sum(axis=1, keepdims=True)
    assert result.shares == pytest.approx(np.stack([expected] * 5), abs=1e-5)
    assert result.agreement == pytest.approx(1.0) and result.reasons == () and not result.failed
    assert [finding.severity for finding in result.findings] == ["info"]


def test_correlations_are_spearmans() -> None:
    model, inputs = network(7, 16, 2), random_rows(6, 7)
    methods = ("shapley", "input_x_gradient", "saliency")
    result = compared(model, inputs, *methods)
    values = [explain(model, inputs, target=0, method=name, progress=False).attributions for name in methods]
    for i, j in itertools.combinations(range(3), 2):
        a, b = (np.abs(values[k]) if j == 2 else values[k] for k in (i, j))  # saliency has no sign
        by_row = [spearmanr(one, other).statistic for one, other in zip(a, b, strict=True)]
        assert result.rank_correlation[i, j] == pytest.approx(np.mean(by_row), abs=1e-9)
        shared = [
            len({*np.argsort(-np.abs(one))[:3]} & {*np.argsort(-np.abs(other))[:3]}) / 3
            for one, other in zip(values[i], values[j], strict=True)
        ]
        assert result.k == 3 and result.top_overlap[i, j] == pytest.approx(np.mean(shared))
    pairs = result.rank_correlation[np.triu_indices(3, 1)]
    assert result.agreement == pytest.approx(pairs.mean()) == pytest.approx(result.row_correlation.mean())


def test_ranks_with_ties_and_zeros() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.integers(1, 5, (20, 9)).astype(float), rng.integers(1, 5, (20, 9)).astype(float)
    expected = [spearmanr(one, other).statistic for one, other in zip(a, b, strict=True)]
    assert rank_correlation(a, b) == pytest.approx(expected)
    wide = np.pad(a, ((0, 0), (0, 50))), np.pad(b, ((0, 0), (0, 50)))
    assert rank_correlation(*wide) == pytest.approx(expected)  # a border that both leave at 0 is no agreement
    assert np.isnan(rank_correlation(np.ones((1, 4)), a[:1, :4])).all()
    assert np.isnan(rank_correlation(np.zeros((1, 4)), np.zeros((1, 4)))).all()
    assert top_overlap(np.array([[1.0, -5, 3, 0]]), np.array([[0.0, 2, 1, 9]]), 2) == pytest.approx([0.5])


def test_shares_of_nothing_are_nothing() -> None:
    assert shares_of(np.array([[0.0, 0.0], [1.0, -3.0]])).tolist() == [[0.0, 0.0], [0.25, -0.75]]


def test_interactions_divide_ablation_from_shapley() -> None:
    def product(rows: torch.Tensor) -> torch.Tensor:
        return rows[:, 0] * rows[:, 1] * rows[:, 2] + 3 * rows[:, 3] - 2 * rows[:, 4]

    inputs = torch.tensor([[2.0, 3.0, 4.0, 4.0, 1.0]])  # Shapley 8, 8, 8, 12, -2; ablation 24, 24, 24, 12, -2
    result = compared(product, inputs, "shapley", "feature_ablation", target=None)
    assert result.shares[0, 0] == pytest.approx(np.array([8, 8, 8, 12, -2]) / 38)
    assert result.shares[1, 0] == pytest.approx(np.array([24, 24, 24, 12, -2]) / 86)
    assert result.rank_correlation[0, 1] < 0.7
    assert "credits to each in full; with Shapley values it is shared" in reason(result, "shapley", "feature_ablation")


def test_known_reasons_are_named_where_they_apply() -> None:
    model, inputs = network(12, 24, 24, 1), random_rows(8, 12)
    inputs[:, ::3] = 0.0
    background = random_rows(20, 12, seed=3) + 1
    result = compared(
        model, inputs, "shapley", "integrated_gradients", "input_x_gradient", "saliency", baselines=background
    )
    assert "has no sign" in reason(result, "shapley", "saliency")
    assert "0 wherever an input is 0 (33% of the features" in reason(result, "shapley", "input_x_gradient")
    lowest = [result.rank_correlation[result.methods.index(a), result.methods.index(b)] for a, b, _ in result.reasons]
    assert lowest == sorted(lowest) and max(lowest) < 0.7
    unexplained = result.frame().query("reason == ''")["rank_correlation"]
    assert (unexplained >= 0.7).all()
    text = " ".join(describe(result))
    assert "{" not in text and "mean rank correlation" in text


def test_rules_speak_of_methods_that_exist() -> None:
    families = (disagreement.GRADIENT_ONLY, disagreement.COARSE, disagreement.SHARING, disagreement.ONE_BY_ONE)
    assert {name for family in families for name in family} | {*disagreement.RESCALING} <= set(METHODS)


def test_every_pair_of_methods_gets_whole_sentences() -> None:
    model, inputs = network(6, 8, 1), random_rows(4, 6)
    one = explain(model, inputs, target=0, method="shapley", progress=False)
    for a, b in itertools.combinations(METHODS, 2):
        pair = [dataclasses.replace(one, method=name) for name in (a, b)]
        for sentence in disagreement.known_reasons(*pair):
            assert sentence[0].isupper() and sentence.endswith(".") and "{" not in sentence
        assert disagreement.known_reasons(*pair) == disagreement.known_reasons(*pair)


def test_a_method_that_fails_is_left_out_and_a_refused_one_does_not_count() -> None:
    class Functional(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Linear(6, 32), nn.Linear(32, 1)

        def forward(self, rows: torch.Tensor) -> torch.Tensor:
            return self.second(nn.functional.relu(3 * self.first(rows)))

    torch.manual_seed(0)
    result = compared(
        Functional(), random_rows(6, 6), "shapley", "deep_lift", "grad_cam", "integrated_gradients", repair=False
    )
    assert set(result.failed) == {"grad_cam"} and "images" in result.failed["grad_cam"]
    refused = result.methods.index("deep_lift")
    assert result.verdicts[refused] == "refused" and result.verdict_reasons[refused]
    kept = [result.methods.index(name) for name in ("shapley", "integrated_gradients")]
    assert result.agreement == pytest.approx(result.rank_correlation[kept[0], kept[1]])
    assert not any("deep_lift" in pair[:2] for pair in result.reasons)
    assert {"DLS436", "DLS437"} <= {finding.code for finding in result.findings}


def test_a_background_serves_methods_of_one_baseline_by_its_mean() -> None:
    model, inputs, background = network(6, 16, 2), random_rows(5, 6), random_rows(9, 6, seed=4)
    result = compared(model, inputs, "integrated_gradients", "shapley", baselines=background)
    single = explain(
        model, inputs, target=0, method="integrated_gradients", baselines=background.mean(0), progress=False
    )
    many = explain(model, inputs, target=0, method="shapley", baselines=background, progress=False)
    assert result.shares[0] == pytest.approx(shares_of(single.attributions.astype(float)))
    assert result.shares[1] == pytest.approx(shares_of(many.attributions.astype(float)))


def test_images_and_their_patches() -> None:
    model = nn.Sequential(nn.Conv2d(1, 3, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(3 * 256, 2))
    result = compared(model, random_rows(2, 1, 16, 16), "shapley", "integrated_gradients", "grad_cam", n_samples=20)
    assert result.shape == (16, 16) and result.shares.shape == (3, 2, 256) and result.feature_names == ()
    assert "patches or stretches" in reason(result, "shapley", "integrated_gradients")
    assert "coarse grid" in reason(result, "grad_cam", "integrated_gradients")


def test_what_takes_ages_is_compared_only_when_asked_for() -> None:
    torch.manual_seed(0)
    words = nn.Sequential(nn.Embedding(30, 4), nn.Flatten(), nn.Linear(4 * 14, 1))
    tokens = compared(words, torch.randint(1, 30, (3, 14), generator=torch.Generator().manual_seed(0)))
    assert {*tokens.methods, *tokens.failed} == {*COMPARED} - {"shapley"}
    many = nn.Sequential(nn.Flatten(), nn.Linear(3000, 1))
    assert "feature_ablation" not in compared(many, random_rows(2, 3000), n_samples=2).methods


def test_results_survive_the_disk(tmp_path: Any) -> None:
    result = compared(network(6, 16, 2), random_rows(5, 6))
    assert results.load(results.save(result, tmp_path, "agreement")) == result
    assert len(result) == 5 and len(result.frame()) == 15


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"methods": ["shapley"]}, "two methods or more"),
        ({"methods": ["shapley", "shapley"]}, "two methods or more"),
        ({"methods": ["shapley", "integrated_gradient"]}, "Did you mean 'integrated_gradients'"),
        ({"k": 0}, "k of 1 or more"),
        ({"target": 7}, "targets from 0 to 1"),
        ({"methods": "shapley"}, "two methods or more"),
        ({"k": 2.5}, "k of 1 or more"),
        ({"seed": "a"}, "seed of 0 or more"),
        ({"max_batch": 0}, "max_batch of 1 or more"),
        ({"max_seconds": "long"}, "max_seconds above 0"),
        ({"max_seconds": 1e-9}, "time for at least one method"),
    ],
)
def test_bad_arguments(change: dict[str, Any], words: str) -> None:
    with pytest.raises(DLStudioError, match=words):
        compare_explanations(network(6, 16, 2), random_rows(5, 6), **{"target": 0, "progress": False, **change})


def test_a_run_brings_its_own_rows_and_keeps_what_was_found() -> None:
    run = dls.fit(dls.Recipe(data="mortgage", epochs=1, name="agreement-run", device="cpu"), progress=False)
    session = Session(run)
    rows = session.test_rows(5)
    result = compare_explanations(session, rows, methods=("shapley", "integrated_gradients"), progress=False)
    assert result.run == run.key and list(result.rows) == list(rows)
    assert set(result.feature_names) == set(session.columns)
    assert results.load(run.folder / "results" / "agreement.json") == result

    for method in ("integrated_gradients", "shapley"):
        e = session.explain(rows, method=method, progress=False)
        quality = score_explanation(run, e, progress=False)
        assert not quality.skipped and quality.run == run.key
        assert results.load(run.folder / "results" / f"quality-{method}.json") == quality


def test_one_row_and_numpys_numbers_are_fine() -> None:
    model, inputs = network(6, 16, 2), random_rows(1, 6)
    result = compared(model, inputs, k=np.int64(2), seed=np.int64(1), max_batch=np.int64(8))
    assert len(result) == 1 and result.k == 2 and not result.failed


def test_methods_that_were_finished_are_kept() -> None:
    model, inputs, event = network(6, 16, 2), random_rows(5, 6), threading.Event()
    names = ("saliency", "input_x_gradient", "shapley", "feature_ablation")

    def tell(done: int, of: int) -> None:
        if done == 2:
            event.set()

    result = compare_explanations(model, inputs, target=0, methods=names, progress=tell, cancel=event)
    assert result.methods == names[:2] and dict.fromkeys(names[2:], "It was cancelled.") == result.failed
    whole = compared(model, inputs, *names[:2])
    assert result.rank_correlation == pytest.approx(whole.rank_correlation) and len(result) == 5
    assert "Shapley values is left out. It was cancelled." in describe(result)
    with pytest.raises(DLStudioError, match="time for at least one method.*it was cancelled"):
        compared(model, inputs, *names, cancel=event)


def test_a_slow_method_covers_fewer_rows_and_that_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    model, inputs = network(14, 16, 2), random_rows(200, 14)
    model.register_forward_hook(lambda module, given, output: now.__setitem__(0, now[0] + 0.001 * len(given[0])))
    limited = compared(model, inputs, "saliency", "input_x_gradient", "shapley", max_seconds=20, max_batch=64)
    assert now[0] <= 20.1, "no batch goes on for long"
    assert 0 < len(limited) < 200 and limited.methods == ("saliency", "input_x_gradient", "shapley")
    cut = next(finding for finding in limited.findings if finding.code == "DLS438")
    assert f"the first {len(limited)} of 200 rows" in cut.sentence
    first = compared(network(14, 16, 2), inputs[: len(limited)], "saliency", "input_x_gradient")
    assert limited.shares[:2] == pytest.approx(first.shares, abs=1e-6)
    assert "DLS438" not in {finding.code for finding in first.findings}
