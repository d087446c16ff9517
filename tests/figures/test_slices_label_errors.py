"""Figures of slices and label errors show the result's numbers, say their units, and take any text."""

from __future__ import annotations

import base64
import subprocess
import sys

import numpy as np
import plotly.graph_objects as go
import pytest

from dlstudio.errors import DLStudioError
from dlstudio.figures.label_errors import label_confusion, suspect_images, suspects
from dlstudio.figures.slices import slices
from dlstudio.trust.label_result import LabelErrors
from dlstudio.trust.slice_result import SliceResult
from tests.figures.reading import faults, text_of

EVIL = "<b>bold</b><script>alert(1)</script>"


def sliced(**changes) -> SliceResult:
    values = {
        "conditions": ((f"race = {EVIL}",), ("age > 52", "race = white"), ("married = True",)),
        "n": np.array([120, 1400, 60]),
        "value": np.array([0.4, 0.2, 0.15]),
        "elsewhere": np.array([0.1, 0.1, 0.11]),
        "low": np.array([0.2, 0.02, -0.08]),
        "high": np.array([0.42, 0.19, 0.3]),
        "p_value": np.array([1e-9, 1e-4, 0.2]),
        "p_adjusted": np.array([1e-7, 0.0123, 1.0]),
        "shown": np.array([True, True, False]),
        "within": np.array([-1, 0, -1]),
        "members": (np.arange(120), np.arange(1400), np.arange(60)),
        "measure": "error rate",
        "overall": 0.12,
        "n_rows": 4000,
        "n_tested": 90,
        "depth": 2,
        "min_rows": 30,
        "threshold": 0.0,
        "level": 0.95,
        "seed": 0,
    }
    return SliceResult(**values | changes)


def suspected(**changes) -> LabelErrors:
    values = {
        "rows": np.array([7, 3, 9, 1]),
        "given": np.array([0, 0, 1, 1]),
        "suggested": np.array([1, 1, 0, 1]),
        "quality": np.array([0.01, 0.2, 0.3, 0.9]),
        "probability": np.array([0.99, 0.8, 0.7, 0.9]),
        "n_flagged": 3,
        "class_names": ("denied", EVIL),
        "images": np.arange(3 * 16, dtype=np.float64).reshape(3, 1, 4, 4) % 17,
        "method": "probabilities as they were given",
        "level": 0.95,
        "seed": 0,
    }
    return LabelErrors(**values | changes)


def named(figure: go.Figure, name: str):
    return next(trace for trace in figure.data if trace.name == name)


def test_slices_are_drawn_in_points_with_their_intervals():
    figure = slices(sliced())
    worse, other = named(figure, "worse than elsewhere"), named(figure, "not shown to be worse")
    np.testing.assert_allclose(worse.x, [30, 10])
    np.testing.assert_allclose(worse.x + worse.error_x.array, [42, 19])
    np.testing.assert_allclose(other.x - other.error_x.arrayminus, [-8])
    assert list(worse.y) == [0, 1] and list(other.y) == [2]
    assert worse.marker.symbol != other.marker.symbol, "colour alone would not do"
    assert "percentage points" in figure.layout.xaxis.title.text
    assert "(1,400)" in figure.layout.yaxis.ticktext[1]
    assert "20.0 %" in worse.text[1] and "p = 0.012" in worse.text[1] and "worse still" in worse.text[1]
    assert "p &lt; 0.001" in worse.text[0] and figure.layout.xaxis.range[0] < -8 and figure.layout.xaxis.range[1] > 42


def test_a_loss_keeps_its_unit_and_a_threshold_is_a_line():
    figure = slices(sliced(measure="mean loss", threshold=0.05))
    np.testing.assert_allclose(named(figure, "worse than elsewhere").x, [0.3, 0.1])
    assert figure.layout.xaxis.title.text == "Mean loss above that elsewhere (unit of the loss)"
    assert sorted(line.x0 for line in figure.layout.shapes) == [0, 0.05]
    assert len(slices(sliced(), top=1).data) == 1


def test_no_slice_says_so():
    none = {name: np.zeros(0) for name in ("value", "elsewhere", "low", "high", "p_value", "p_adjusted")}
    empty = sliced(
        conditions=(), n=np.zeros(0, int), shown=np.zeros(0, bool), within=np.zeros(0, int), members=(), n_tested=0,
        **none,
    )  # fmt: skip
    assert "No slice has 30 rows" in slices(empty).layout.annotations[0].text


def test_suspects_show_both_probabilities():
    figure = suspects(suspected())
    given, likely = named(figure, "given label"), named(figure, "likeliest label")
    np.testing.assert_allclose(given.x, [0.01, 0.2, 0.3])
    np.testing.assert_allclose(likely.x, [0.99, 0.8, 0.7])
    assert given.marker.symbol != likely.marker.symbol
    assert figure.layout.yaxis.ticktext[0].startswith("7: denied → ")
    assert len(suspects(suspected(), top=2).data[0].x) == 2


def test_confusion_counts_suspects_only():
    figure = label_confusion(suspected())
    np.testing.assert_array_equal(figure.data[0].z, [[0, 2], [1, 0]])
    assert sorted(note.text for note in figure.layout.annotations) == ["1", "2"]
    with pytest.raises(DLStudioError, match="at most 25 classes"):
        label_confusion(suspected(class_names=tuple("abcdefghijklmnopqrstuvwxyz")))


def test_images_stand_below_their_labels():
    figure = suspect_images(suspected())
    assert len(figure.data) == 3 and "row 9, probability of the given label 30.0 %" in figure.data[2].hovertemplate
    assert figure.layout.annotations[0].text.startswith("denied → ")
    for trace in figure.data:
        assert base64.b64decode(trace.source.split(",")[1]).startswith(b"\x89PNG")
    with pytest.raises(DLStudioError, match="rows that are none"):
        suspect_images(suspected(images=None))


def test_nothing_suspect_says_so():
    none = suspected(n_flagged=0, images=None)
    assert suspects(none).layout.annotations[0].text == "No label is suspect"
    assert label_confusion(none).layout.annotations[0].text == "No label is suspect"
    with pytest.raises(DLStudioError, match="no suspect label"):
        suspect_images(none)


@pytest.mark.parametrize(
    "figure",
    [slices(sliced()), suspects(suspected()), label_confusion(suspected())],
    ids=["slices", "suspects", "confusion"],
)
def test_figures_have_axes_with_words_and_no_markup_of_users(figure):
    assert figure.layout.xaxis.title.text and figure.layout.yaxis.title.text
    assert faults(figure) == []
    assert "<script" not in text_of(suspect_images(suspected()))


def test_reading_results_needs_neither_torch_nor_scikit_learn():
    code = (
        "import sys, dlstudio.figures.slices, dlstudio.trust.label_result, dlstudio.trust.slices,"
        " dlstudio.trust.label_errors;"
        "sys.exit(any(name in sys.modules for name in ('torch', 'cleanlab', 'sklearn', 'scipy')))"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
