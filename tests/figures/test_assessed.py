"""Results of fairness and trust in words for readers without code, and in pictures."""

from __future__ import annotations

import dataclasses
import importlib
import pkgutil
import re

import numpy as np
import pandas as pd
import pytest

import dlstudio as dls
import dlstudio.fairness
import dlstudio.trust
from dlstudio.fairness.result import FairnessAudit
from dlstudio.figures import assessed
from dlstudio.figures.answers import KINDS
from dlstudio.results import Finding, Result
from dlstudio.wording import ASK

N = 400
CODE = re.compile(r"rows_of|\w=\w|`|\w+_\w+\(|\w\[")


@pytest.fixture(scope="module")
def found() -> dict[str, Result]:
    """One result of every verb, of rows with a planted weak spot, wrong labels and a gap."""
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"sex": rng.choice(["f", "m"], N), "age": rng.integers(18, 80, N)})
    y = rng.integers(0, 2, N)
    score = np.clip(0.25 + 0.5 * y + 0.2 * (frame["sex"] == "m") + rng.normal(0, 0.2, N), 0.01, 0.99)
    weak = (frame["sex"] == "f") & (frame["age"] > 50)
    pred = np.where(weak, rng.integers(0, 2, N), score >= 0.5).astype(int)
    given = y.copy()
    given[:20] = 1 - given[:20]
    weights = np.array([1.0, -1.0])
    inputs = rng.normal(size=(N, 2))
    import torch

    linear = torch.nn.Linear(2, 2, bias=False)
    with torch.no_grad():
        linear.weight.copy_(torch.tensor(np.stack([-weights, weights]), dtype=torch.float32))
    return {
        "audit": dls.audit_fairness(y, pred, y_score=score, sensitive_features=frame[["sex"]]),
        "trade-off": dls.trade_off(y, score, sensitive_features=frame["sex"]),
        "evaluation": dls.evaluate(y, pred, score),
        "calibration": dls.assess_calibration(y, np.clip(score * 0.5, 0, 1)),
        "slices": dls.find_slices(frame, y, pred),
        "labels": dls.find_label_errors(given, np.where(y == 1, 0.95, 0.05)),
        "robustness": dls.assess_robustness(
            linear, torch.tensor(inputs, dtype=torch.float32), torch.tensor((inputs @ weights > 0).astype(int)),
            progress=False,
        ),
    }  # fmt: skip


NAMES = ("audit", "trade-off", "evaluation", "calibration", "slices", "labels", "robustness")


@pytest.mark.parametrize("name", NAMES)
def test_a_result_has_words_and_pictures(found: dict[str, Result], name: str) -> None:
    result = found[name]
    kind = KINDS[type(result)]
    words = kind.words(result)
    assert kind.question.endswith("?") and words and all(words) and len(set(words)) == len(words)
    pictures = kind.pictures(result)
    assert pictures
    for caption, figure in pictures:
        assert caption and figure.data and figure.layout.height


@pytest.mark.parametrize("name", NAMES)
def test_reviewers_read_no_code(found: dict[str, Result], name: str) -> None:
    result = assessed.reviewed(found[name])
    said = " ".join(KINDS[type(result)].words(result))
    assert not CODE.search(said), CODE.search(said)
    assert [f.code for f in result.findings] == [f.code for f in found[name].findings]


def test_a_remedy_in_code_becomes_a_question_to_the_engineer(found: dict[str, Result]) -> None:
    def plain(code: str, sentence: str, remedy: str) -> Finding:
        finding = Finding(code=code, severity="info", sentence=sentence, remedy=remedy)
        return assessed.reviewed(dataclasses.replace(found["slices"], findings=(finding,))).findings[0]

    assert plain("DLS399", "It is so.", "Raise n_steps.").remedy == ASK
    assert plain("DLS399", "It is so.", "Collect more.").remedy == "Collect more."
    assert plain("DLS399", "It is so (part='all' trains anew).", "").sentence == "It is so."
    assert plain("DLS399", "Scores (T = 1.08) of my_column (7 of 9).", "").sentence == (
        "Scores (T = 1.08) of my_column (7 of 9)."
    )


def test_findings_join_the_sentences_they_repeat(found: dict[str, Result]) -> None:
    findings = (
        Finding(code="DLS399", severity="info", sentence="A is 1. It is too much.", remedy="Do less."),
        Finding(code="DLS399", severity="info", sentence="C is 3.", remedy="Do more."),
        Finding(code="DLS399", severity="info", sentence="B is 2.", remedy="Do less."),
    )
    result = dataclasses.replace(found["slices"], findings=findings)
    say = assessed.with_findings(lambda _: ("A is 1.", "B is 2."))
    assert say(result) == ("A is 1. It is too much. Do less.", "B is 2.", "C is 3. Do more.")


def test_every_result_of_fairness_and_trust_that_a_run_keeps_is_drawn() -> None:
    for room in (dlstudio.fairness, dlstudio.trust):
        for module in pkgutil.walk_packages(room.__path__, f"{room.__name__}."):
            importlib.import_module(module.name)
    known = {
        cls.__name__ for cls in _kinds(Result) if cls.__module__.startswith(("dlstudio.fairness", "dlstudio.trust"))
    }
    assert known - {kind.__name__ for kind in KINDS} == {"AdversarialTraining", "GroupThresholds"}, "means, not answers"


def _kinds(cls: type[Result]) -> list[type[Result]]:
    return [one for sub in cls.__subclasses__() for one in (sub, *_kinds(sub))]


def test_the_edge_says_whether_something_was_found(found: dict[str, Result]) -> None:
    audit = found["audit"]
    assert isinstance(audit, FairnessAudit) and audit.verdict == "gap shown"
    quiet = dls.audit_fairness([0, 1] * 300, [0, 1] * 300, sensitive_features={"g": ["a"] * 300 + ["b"] * 300})
    few = dls.audit_fairness([0, 1] * 6, [0, 1] * 6, sensitive_features={"g": ["a"] * 6 + ["b"] * 6})
    colors = [assessed.edge(one) for one in (audit, few, quiet)]
    assert [one.verdict for one in (few, quiet)] == ["not enough data", "no gap shown"] and len(set(colors)) == 3


def test_of_several_classes_those_found_least_have_their_bands() -> None:
    rng = np.random.default_rng(0)
    score = rng.dirichlet(np.full(5, 0.4), 300)
    y = (score.cumsum(axis=1) < rng.random((300, 1))).sum(axis=1)
    result = dls.evaluate(y, y_score=score, n_resamples=100)
    least = result.per_class.sort_values("recall", kind="stable")["class"].tolist()[:3]
    drawn = assessed.pictures(result)
    banded = [words for words, figure in drawn if any(getattr(one, "fill", None) for one in figure.data)]
    assert len(banded) == 6 and all(sum(f"of {name!r} alone" in words for words in banded) == 2 for name in least)


def test_groups_have_diagrams_and_fixes_whiskers() -> None:
    rng = np.random.default_rng(0)
    score = rng.random(600)
    result = dls.assess_calibration(
        (rng.random(600) < score**2).astype(int), score, n_resamples=200,
        groups={"sex": rng.choice(["f", "m"], 600), "race": rng.choice(["a", "b", "c"], 600)},
    )  # fmt: skip
    words = [words for words, _ in assessed.pictures(result)]
    assert [sum(f"of {column}," in said for said in words) for column in ("sex", "race")] == [1, 1]
    curves = [trace for trace in assessed.pictures(result)[-1][1].data if trace.mode == "lines+markers"]
    assert len(curves) == 4 and all(len(trace.error_y.array) == len(trace.y) for trace in curves)
