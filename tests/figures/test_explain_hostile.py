"""Names of users are text in every picture of the explain room: never markup, and never a part of a template."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import plotly.graph_objects as go
import pytest

from dlstudio.explain.concepts.explain_concepts import ConceptResult
from dlstudio.explain.counterfactuals import find_counterfactuals
from dlstudio.explain.influence.result import InfluenceResult
from dlstudio.explain.quality.agreement_result import AgreementResult
from dlstudio.explain.quality.scores import QualityResult
from dlstudio.explain.result import Explanation
from dlstudio.figures import concepts, counterfactuals, influence
from dlstudio.figures import explanation as figures
from dlstudio.figures.checked import pictures
from dlstudio.figures.drawing import line
from dlstudio.figures.explored import changed
from dlstudio.figures.theme import escape
from dlstudio.results import Finding
from dlstudio.summary.curves import CurveBuilder

EVIL = "<b>%{z}</b> %{x} <extra>%{customdata[0]}</extra>"
SHAPES = {"tabular": (6, 3), "image": (2, 1, 9, 9), "text": (2, 4), "sequence": (3, 5, 3)}


def explained(modality: str, **fields: Any) -> Explanation:
    shape = SHAPES[modality]
    n = shape[0]
    values = np.random.default_rng(0).normal(size=shape)
    sums = values.reshape(n, -1).sum(axis=1)
    named = {"tabular": (EVIL, "b", "c"), "sequence": (EVIL, "b", "c")}
    labels = {"tabular": np.full(shape, EVIL), "text": np.full(shape, EVIL)}
    given: dict[str, Any] = {
        "method": "shapley", "modality": modality, "attributions": values, "baseline_value": np.zeros(n),
        "prediction": sums, "gap": 0.0, "gaps": np.zeros(n), "output_range": 1.0, "verdict": "ok",
        "inputs": np.ones(shape), "labels": labels.get(modality), "feature_names": named.get(modality, ()),
        "class_names": ("no", EVIL), "target": np.ones(n, dtype=np.int64),
        "outputs": np.stack([np.zeros(n), sums], axis=1), "rows": np.arange(n),
    }  # fmt: skip
    return Explanation(**(given | fields))


def of_explanations() -> Iterator[go.Figure]:
    finding = Finding(code="DLS499", severity="warning", sentence=EVIL, remedy=EVIL)
    grave = dataclasses.replace(finding, severity="critical")
    for modality in SHAPES:
        good = explained(modality)
        for e in (
            good,
            dataclasses.replace(good, verdict="suspect", findings=(finding,)),
            dataclasses.replace(good, verdict="refused", findings=(grave,)),
        ):
            yield figures.figure_of(e, 0)
            yield figures.figure_of(e)
            yield figures.bars(e, 0)
            yield figures.waterfall(e, 0)
            yield figures.importance(e)
    for modality in ("tabular", "sequence"):
        yield figures.beeswarm(explained(modality))
        yield figures.dependence(explained(modality), 0, color=1)
    table = explained("tabular")
    yield figures.dependence(table, EVIL, color="b")
    pair = dataclasses.replace(
        table,
        **{
            name: getattr(table, name)[:2]
            for name in (
                "attributions", "baseline_value", "prediction", "gaps", "inputs", "labels", "target", "outputs", "rows",
            )
        },
    )  # fmt: skip
    assert pair.labels is not None
    pair.labels[0] = "another"
    yield changed(pair)


def of_checks() -> Iterator[go.Figure]:
    board = AgreementResult(
        methods=("shapley", "saliency"), titles=(EVIL, "b"), verdicts=("ok", "ok"), verdict_reasons=("", ""),
        shares=np.random.default_rng(0).normal(size=(2, 1, 16)), rank_correlation=np.array([[1, 0.5], [0.5, 1]]),
        row_correlation=np.ones(1), top_overlap=np.eye(2), k=1, reasons=(), failed={}, modality="tabular",
        shape=(16,), feature_names=(EVIL,) * 16, rows=np.arange(1), target=np.zeros(1, dtype=np.int64),
    )  # fmt: skip
    shares = np.linspace(0, 1, 3)
    scores = QualityResult(
        method="saliency", shares=shares, rows=np.arange(2), layers=(EVIL,), similarity=np.ones((1, 2)),
        deletion=np.ones((2, 3)), insertion=np.ones((2, 3)), random_deletion=np.eye(3), random_insertion=np.eye(3),
    )  # fmt: skip
    image = dataclasses.replace(board, modality="image", shape=(4, 4), feature_names=())
    for result in (board, image, scores):
        for _, figure in pictures(result):
            yield figure


def of_answers() -> Iterator[go.Figure]:
    yield concepts.concepts(
        ConceptResult(
            concepts=(EVIL, "b"), scores=np.ones((2, 3)), random_scores=np.ones(9), chance=(0.4, 0.6),
            p_value=np.ones(2), p_adjusted=np.array([0.01, 1]), accuracy=np.ones(2), layer=EVIL, target=EVIL,
            n_rows=3, n_examples=3,
        )
    )  # fmt: skip
    traced = InfluenceResult(
        rows=np.arange(1), train_rows=np.arange(2), proponents=np.array([[0, 1]]), opponents=np.array([[1, 0]]),
        proponent_influence=np.array([[2.0, 1.0]]), opponent_influence=np.array([[-2.0, -1.0]]),
        self_influence=np.ones(2), y_true=np.ones(1, int), y_pred=np.ones(1, int), y_train=np.array([0, 1]),
        class_names=("a", EVIL), checkpoints=(EVIL,), learning_rates=np.ones(1), n_weights=3,
    )  # fmt: skip
    yield influence.influence(traced)
    yield influence.self_influence(traced)
    for row in (0.0, 9.0):
        yield counterfactuals.counterfactuals(
            find_counterfactuals(
                lambda rows: np.column_stack([5 - rows[:, 0], np.zeros(len(rows))]),
                np.array([row, 0]), background=np.array([[0, 1], [9, 2], [4, 3]]), feature_names=(EVIL, "b"),
                class_names=(EVIL, "b"),
            )
        )  # fmt: skip
    figure = go.Figure()
    builder = CurveBuilder(EVIL, 100)
    builder.add(np.arange(3), np.arange(3.0))
    line(figure, builder.curve(), "#000000", name=EVIL)
    yield figure


def strings(item: Any, key: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(item, str):
        yield key, item
    elif isinstance(item, dict):
        for name, part in item.items():
            yield from strings(part, name)
    elif isinstance(item, list):
        for part in item:
            yield from strings(part, key)


@pytest.mark.parametrize("made", [of_explanations, of_checks, of_answers])
def test_names_come_out_as_they_are(made: Any) -> None:
    seen = 0
    for figure in made():
        found = list(strings(json.loads(figure.to_json())))
        # Only a template is filled in, and only with a `meta` is a name one.
        assert not any(key == "meta" for key, _ in found)
        assert not any("<b>%{" in text or "<extra>%{c" in text for _, text in found)
        templates = [text for key, text in found if key.endswith("template")]
        assert not any(escape("<b>") in text or "%{z}</b>" in text for text in templates)
        seen += any(escape("<b>%{z}</b>") in text for _, text in found)
    assert seen >= 4


def test_words_of_a_text_come_out_as_they_are() -> None:
    shown = figures.tokens(explained("text"), 0)
    assert "<b>" not in shown and "<extra>" not in shown and shown.count(escape(EVIL)) >= 4
