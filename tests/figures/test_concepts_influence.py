"""Figures of concepts and influence show the result's numbers, say their units, and take any text."""

from __future__ import annotations

import dataclasses
import subprocess
import sys

import numpy as np
import plotly.graph_objects as go
import pytest

from dlstudio.errors import DLStudioError
from dlstudio.explain.concepts.explain_concepts import ConceptResult
from dlstudio.explain.influence.result import InfluenceResult, findings_of
from dlstudio.figures import theme
from dlstudio.figures.concepts import concepts
from dlstudio.figures.influence import influence, self_influence
from tests.figures.reading import faults

EVIL = "<b>bold</b><script>alert(1)</script>"


@pytest.fixture
def scored() -> ConceptResult:
    return ConceptResult(
        concepts=(EVIL, "dotted"),
        scores=np.array([[1.0, 0.9, 0.95], [0.1, 0.9, 0.5]]),
        random_scores=np.linspace(0.2, 0.8, 200),
        chance=(0.3, 0.7),
        p_value=np.array([0.001, 0.9]),
        p_adjusted=np.array([0.002, 0.9]),
        accuracy=np.array([0.95, 0.8]),
        layer=EVIL,
        target="the output",
        n_rows=20,
        n_examples=4,
    )


@pytest.fixture
def traced() -> InfluenceResult:
    return InfluenceResult(
        rows=np.array([17, 40]),
        train_rows=np.array([3, 5, 8, 9]),
        proponents=np.array([[2, 0], [0, 1]]),
        proponent_influence=np.array([[0.5, -0.1], [0.0, 0.0]]),
        opponents=np.array([[1, 3], [2, 3]]),
        opponent_influence=np.array([[-0.8, -0.2], [0.0, 0.0]]),
        self_influence=np.array([0.1, 4.0, 0.3, 2.0]),
        y_true=np.array([0, 1]),
        y_pred=np.array([1, 1]),
        y_train=np.array([0, 1, 0, 1]),
        class_names=("denied", EVIL),
        checkpoints=("a.pt",),
        learning_rates=np.array([0.1]),
        n_weights=7,
    )


FIGURES = [("scored", concepts), ("traced", influence), ("traced", self_influence)]


def named(figure: go.Figure, name: str):
    return next(trace for trace in figure.data if trace.name == name)


def test_concepts_are_drawn_at_their_mean_and_told_apart_by_shape(scored):
    figure = concepts(scored)
    used, other = named(figure, "mean, used"), named(figure, "mean, not told from random")
    np.testing.assert_allclose([*used.x, *other.x], scored.score)
    assert list(used.y) == [0] and list(other.y) == [1]
    assert used.marker.symbol != other.marker.symbol, "colour alone would not do"
    np.testing.assert_allclose(used.customdata, [[0.002, 0.95]])
    band = figure.layout.shapes[0]
    assert (band.x0, band.x1) == scored.chance
    assert figure.layout.yaxis.ticktext[1:] == ("dotted", "random examples")


def test_every_repeat_is_a_point(scored):
    points = [trace for trace in concepts(scored).data if trace.name is None]
    np.testing.assert_allclose(sorted(np.concatenate([t.x for t in points[:2]])), sorted(scored.scores.ravel()))
    assert all(np.abs(t.y - np.round(t.y)).max() < 0.5 for t in points), "each stays in its own row"


def test_influence_draws_what_helped_and_what_hindered(traced):
    figure = influence(traced, 0)
    helped, hindered = named(figure, "lowered the loss"), named(figure, "raised the loss")
    assert list(helped.x) == [0.5] and list(hindered.x) == [-0.8, -0.2]
    assert helped.text == ("row 8 · denied",)
    assert hindered.text == (f"row 5 · {theme.escape(EVIL)}", f"row 9 · {theme.escape(EVIL)}")
    assert hindered.marker.pattern.shape and not helped.marker.pattern.shape
    assert figure.layout.title.text == f"Row 17: denied, predicted {theme.escape(EVIL)}"
    assert "(loss)" in figure.layout.xaxis.title.text
    assert len(influence(traced, 0, top=1).data[1].x) == 1


def test_without_known_learning_rates_the_unit_says_so(traced):
    guessed = dataclasses.replace(traced, findings=tuple(findings_of(traced, ["a.pt"])))
    assert "up to a factor" in influence(guessed).layout.xaxis.title.text
    assert "up to a factor" in self_influence(guessed).layout.yaxis.title.text


def test_a_row_that_nothing_influences_says_so(traced):
    assert "No training row" in influence(traced, 1).layout.annotations[0].text


def test_a_row_that_is_not_there_is_refused(traced):
    with pytest.raises(DLStudioError, match="a row from 0 to 1"):
        influence(traced, 2)


def test_self_influence_is_in_order_and_every_row_is_there(traced):
    figure = self_influence(traced)
    points = {int(x): float(y) for trace in figure.data for x, y in zip(trace.x, trace.y, strict=True)}
    assert points == {1: 4.0, 2: 2.0, 3: 0.3, 4: 0.1}
    denied = named(figure, "denied")
    assert [text.split(" ·")[0] for text in denied.text] == ["row 8", "row 3"]


def test_values_and_many_classes_are_one_group(traced):
    values = dataclasses.replace(
        traced, y_train=np.array([0.5, 1.5, 2.5, 3.5]), y_true=np.array([1.0, 2.0]), y_pred=None
    )
    figure = self_influence(values)
    assert len(figure.data) == 1 and not figure.data[0].showlegend
    assert figure.data[0].text[0] == "row 5 · 1.5"
    assert influence(values).layout.title.text == "Row 17: 1"


@pytest.mark.parametrize(("source", "builder"), FIGURES)
def test_figures_have_axes_with_words_and_no_markup_of_users(source, builder, request):
    figure = builder(request.getfixturevalue(source))
    assert figure.layout.xaxis.title.text and figure.layout.yaxis.title.text
    assert faults(figure) == []


def test_reading_results_needs_no_torch():
    code = (
        "import sys, dlstudio.figures.concepts, dlstudio.figures.influence;"
        "sys.exit(any(name in sys.modules for name in ('torch', 'captum', 'sklearn')))"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
