"""Pictures of scores and of agreement show what the results say, and take any name."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import plotly.graph_objects as go
import pytest

from dlstudio.errors import DLStudioError
from dlstudio.explain.quality.agreement_result import AgreementResult
from dlstudio.explain.quality.scores import QualityResult
from dlstudio.figures import agreement, quality

EVIL = "<b>bold</b><script>alert(1)</script>"


@pytest.fixture
def scores() -> QualityResult:
    shares = np.linspace(0, 1, 5)
    return QualityResult(
        method="saliency",
        shares=shares,
        deletion=np.stack([1 - shares**0.5, 1 - shares**0.3]),
        insertion=np.stack([shares**0.5, shares**0.3]),
        random_deletion=np.stack([1 - shares, 1 - shares**1.2, 1 - shares**0.9]),
        random_insertion=np.stack([shares, shares**1.2, shares**0.9]),
        layers=(EVIL, "b", "a"),
        similarity=np.array([[0.9, 0.7], [0.2, 0.4], [np.nan, np.nan]]),
        rows=np.arange(2),
    )


@pytest.fixture
def board() -> AgreementResult:
    rng = np.random.default_rng(0)
    correlation = np.array([[1, 0.8, -0.2], [0.8, 1, 0.1], [-0.2, 0.1, 1]])
    return AgreementResult(
        methods=("shapley", "saliency", "deep_lift"),
        titles=("Shapley values", "Saliency", "DeepLift"),
        verdicts=("ok", "suspect", "refused"),
        verdict_reasons=("", "noisy", "wrong"),
        shares=rng.normal(size=(3, 2, 16)),
        rank_correlation=correlation,
        row_correlation=np.array([0.8, 0.7]),
        top_overlap=np.abs(correlation),
        k=3,
        reasons=(),
        failed={},
        modality="tabular",
        shape=(16,),
        feature_names=(EVIL, *(f"column {at}" for at in range(15))),
        rows=np.arange(2),
        target=np.zeros(2, dtype=np.int64),
    )


def safe(figure: go.Figure) -> bool:
    return "<script" not in figure.to_json().replace("\\u003c", "<") and bool(json.loads(figure.to_json()))


def test_removal_draws_means_inside_the_band_of_chance(scores: QualityResult) -> None:
    figure = quality.removal(scores)
    lines = [trace for trace in figure.data if trace.name == "largest attribution first"]
    assert scores.deletion is not None and scores.insertion is not None
    assert lines[0].y == pytest.approx(scores.deletion.mean(axis=0))
    assert lines[1].y == pytest.approx(scores.insertion.mean(axis=0))
    assert "share" in figure.layout.xaxis.title.text and "share" in figure.layout.yaxis.title.text
    assert safe(figure)


def test_randomisation_starts_at_the_trained_model(scores: QualityResult) -> None:
    figure = quality.randomisation(scores)
    line = next(trace for trace in figure.data if trace.name == "median row")
    assert line.y == pytest.approx([1.0, 0.8, 0.3, np.nan], nan_ok=True)
    assert len(figure.layout.xaxis.ticktext) == 4 and safe(figure)


def test_scores_that_are_not_there_say_why(scores: QualityResult) -> None:
    empty = dataclasses.replace(scores, deletion=None, similarity=None, skipped={"removal": "it is a layer's"})
    with pytest.raises(DLStudioError, match="It was left out: it is a layer's"):
        quality.removal(empty)
    with pytest.raises(DLStudioError, match="Score again with 'parameter_randomisation'"):
        quality.randomisation(empty)


def test_agreement_leaves_out_the_diagonal_and_what_was_refused(board: AgreementResult) -> None:
    figure = agreement.agreement(board)
    for trace, values in zip(figure.data, (board.rank_correlation, board.top_overlap), strict=True):
        drawn = np.array(trace.z, dtype=float)
        assert drawn[0, 1] == values[0, 1] and np.isfinite(drawn).sum() == 2
    assert figure.layout.yaxis.ticktext == ("Shapley values", "Saliency", "DeepLift †")
    assert figure.layout.xaxis.title.text == "Rank correlation" and safe(figure)


def test_marks_stand_at_shares_on_one_scale(board: AgreementResult) -> None:
    figure = agreement.side_by_side(board, at=1, top=4)
    assert [trace.name for trace in figure.data] == ["Shapley values", "Saliency"]
    sizes = np.abs(board.shares[:2, 1]).max(axis=0)
    strongest = np.argsort(-sizes)[:4]
    assert figure.data[0].x == pytest.approx(board.shares[0, 1, strongest])
    assert len({trace.marker.symbol for trace in figure.data}) == 2  # told apart without colour
    assert safe(figure)


def test_images_become_maps_of_one_scale(board: AgreementResult) -> None:
    figure = agreement.side_by_side(dataclasses.replace(board, modality="image", shape=(4, 4), feature_names=()))
    assert [trace.type for trace in figure.data] == ["heatmap", "heatmap"]
    assert {(trace.zmin, trace.zmax) for trace in figure.data} == {(figure.data[0].zmin, -figure.data[0].zmin)}
    assert np.array(figure.data[0].z).shape == (4, 4) and safe(figure)


def test_rows_and_methods_that_are_not_there(board: AgreementResult) -> None:
    with pytest.raises(DLStudioError, match="a row from 0 to 1"):
        agreement.side_by_side(board, at=2)
    with pytest.raises(DLStudioError, match="a method that was not refused"):
        agreement.side_by_side(dataclasses.replace(board, verdicts=("refused",) * 3))
