"""Findings in plain words: no argument is left in what a reader without code is asked to do, and no fact is lost."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from torch import nn

from dlstudio.errors import DLStudioError
from dlstudio.explain.checks import CHECKS
from dlstudio.explain.explain import explain
from dlstudio.explain.exploring import evidence
from dlstudio.explain.methods import METHODS
from dlstudio.explain.plain import ASK, in_plain_words, plainly, told, uncoded
from dlstudio.explain.quality.scores import QualityResult
from dlstudio.results import Finding

ARGUMENTS = ("n_steps", "n_samples", "max_seconds", "baselines=", "repair", "feature_mask", "method=", "_")


def finding(remedy: str, code: str = "DLS499", sentence: str = "It is so.") -> Finding:
    return Finding(code=code, severity="warning", sentence=sentence, remedy=remedy, evidence={"gap": 0.5})


@pytest.mark.parametrize(
    ("given", "plain"),
    [
        (finding(""), ""),
        (finding("Do not rank features by it."), "Do not rank features by it."),
        (finding("Use integrated_gradients or shapley."), "Use Integrated gradients or Shapley values."),
        (finding("Pass baselines= its id."), ASK),
        (finding("Call dls.explain(run)."), ASK),
        (finding("Raise n_steps, or use shapley.", "DLS401"), None),
        (finding("Allow more max_seconds, or explain fewer rows.", "DLS411"), None),
        (finding("Leave repair on, or choose another method.", "DLS403"), None),
    ],
)
def test_a_remedy_that_needs_code_says_whom_to_ask(given: Finding, plain: str | None) -> None:
    found = in_plain_words(given)
    if plain is None:
        assert found.remedy.startswith("Ask the engineer to ") and found.remedy != ASK
    else:
        assert found.remedy == plain
    assert not any(name in found.remedy for name in ARGUMENTS)
    assert dataclasses.replace(found, remedy=given.remedy) == given


def test_later_sentences_with_code_go_and_the_first_stays() -> None:
    words = "shap_deep was refused. It misses 60% of layer_1.act. Pass method='deep_lift'. That is a lot."
    assert uncoded(words) == "SHAP DeepExplainer was refused. That is a lot."
    assert uncoded("The column pub_rec is fixed.") == "The column pub_rec is fixed."
    assert uncoded("It is named 'deep_lift'.") == "It is named 'deep_lift'."


def test_an_error_says_what_was_wrong_and_whom_to_ask() -> None:
    error = DLStudioError("a background for deep_lift_shap", "one row", "Pass training rows, or method='deep_lift'.")
    assert told(error) == f"Expected a background for DeepLiftShap, but got one row. {ASK}"
    assert told(DLStudioError("a word", "none", "Write one.")) == str(DLStudioError("a word", "none", "Write one."))
    assert told(ValueError("no luck")) == "no luck" and told(ValueError()) == "ValueError"


class Silent(nn.Module):
    """A functional ReLU, which DeepLift cannot see, and a softmax that cannot be taken off."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(4, 8), nn.Linear(8, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.softmax(self.last(torch.relu(self.first(x))), dim=1) * 1.0


def test_no_finding_of_a_broken_explanation_names_an_argument() -> None:
    torch.manual_seed(0)
    model, inputs = Silent().eval(), torch.randn(6, 4)
    seen = set()
    for method in ("deep_lift", "integrated_gradients", "kernel_shap", "lrp", "gradient_shap"):
        precise = {"n_steps": 2} if method == "integrated_gradients" else {}
        few = {"n_samples": 3} if METHODS[method].sampled else {}
        background = inputs if METHODS[method].reference == "background" else None
        try:
            found = explain(
                model, inputs, target=1, method=method, baselines=background, repair=False, progress=False,
                **precise, **few,
            )  # fmt: skip
        except DLStudioError:
            continue
        for (sentence, remedy), (exact, coded) in zip(evidence(found), evidence(found, code=True), strict=True):
            assert bool(remedy) == bool(coded) and bool(sentence) == bool(exact)
            assert not any(name in remedy for name in ARGUMENTS), remedy
        seen |= {one.code for one in found.findings if one.remedy}
    assert len(seen) >= 3, "a broken explanation has something to say"


def test_scores_are_told_without_names_of_arguments() -> None:
    scored = QualityResult(
        method="saliency", shares=np.zeros(0), rows=np.arange(2), findings=(finding("Use smooth_grad."),),
        skipped={"removal": "it takes long. Pass n_draws=3."},
    )  # fmt: skip
    quality = CHECKS[1]
    assert "Use SmoothGrad." in " ".join(quality.plain_words(scored))
    assert "smooth_grad" in " ".join(quality.words(scored))
    assert not any("n_draws" in text for text in quality.plain_words(scored))
    assert plainly(dataclasses.replace(scored, findings=())) == dataclasses.replace(scored, findings=())
