"""What was tried before a training is what the pictures show."""

from __future__ import annotations

import math

import numpy as np
import pytest

from dlstudio.figures.finders import batch_sizes, learning_rates
from dlstudio.tuning.batch_sizes import BatchSizes, read_sizes
from dlstudio.tuning.learning_rates import LearningRates
from tests.figures.reading import faults

SIZES = (8, 16, 32)


def tried(memory: tuple[float, ...]) -> BatchSizes:
    rows = [
        {"batch_size": size, "fits": True, "step_ms": 2.0, "rows_per_s": size / 2e-3, "memory_mib": mib}
        for size, mib in zip(SIZES, memory, strict=True)
    ]
    refused = {"batch_size": 64, "fits": False, "step_ms": math.nan, "rows_per_s": math.nan, "memory_mib": math.nan}
    return BatchSizes(**read_sizes([*rows, refused], "memory"))


def test_batch_sizes_are_drawn_with_what_did_not_fit() -> None:
    figure = batch_sizes(tried((10.0, 20.0, 40.0)))
    speed, memory, refused = figure.data
    assert speed.x.tolist() == memory.x.tolist() == list(SIZES)
    assert speed.y.tolist() == [4000.0, 8000.0, 16000.0] and memory.y.tolist() == [10.0, 20.0, 40.0]
    assert refused.x.tolist() == [64.0] and refused.marker.symbol == "x"
    assert list(speed.marker.size) == [7, 7, 13]  # the suggestion
    assert (figure.layout.yaxis.title.text, figure.layout.yaxis2.title.text) == ("Rows a second", "Memory (MiB)")
    assert faults(figure) == []


def test_memory_that_nobody_could_tell_has_no_picture() -> None:
    figure = batch_sizes(tried((math.nan,) * 3))
    assert len(figure.data) == 2 and "yaxis2" not in figure.layout
    assert faults(figure) == []


@pytest.mark.parametrize("suggestion", [1e-2, None])
def test_learning_rates_are_drawn_with_the_suggestion_on_the_curve(suggestion: float | None) -> None:
    rates = np.geomspace(1e-4, 1, 5)
    loss, smoothed = np.array([1.0, 0.8, 0.5, math.nan, 3.0]), np.array([1.0, 0.8, 0.5, 0.9, 2.0])
    figure = learning_rates(
        LearningRates(lr=rates, loss=loss, smoothed=smoothed, first_loss=1.0, suggestion=suggestion, reason="")
    )
    dots, line, *marks = figure.data
    assert dots.x.tolist() == rates[[0, 1, 2, 4]].tolist() and line.y.tolist() == smoothed.tolist()
    assert [(list(mark.x), list(mark.y)) for mark in marks] == ([([1e-2], [0.5])] if suggestion else [])
    assert figure.layout.yaxis.range[0] < 0.5 < figure.layout.yaxis.range[1]
    assert faults(figure) == []
