"""Figures of an audit show its numbers, say their units, tell verdicts apart by shape, and take any text."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import pytest

from dlstudio.errors import DLStudioError
from dlstudio.fairness.audit import audit_fairness
from dlstudio.fairness.gaps import SHOWN, TOO_FEW
from dlstudio.fairness.result import FairnessAudit
from dlstudio.fairness.words import deciding
from dlstudio.figures.fairness import gaps, groups, intersections, pictures
from tests.figures.reading import faults

EVIL = "<b>bold</b><script>alert(1)</script>"


def audited(task: str) -> FairnessAudit:
    rng = np.random.default_rng(0)
    n = 1200
    frame = pd.DataFrame({"race": rng.choice(["a", EVIL], n), "sex": rng.choice(["f", "m"], n)})
    frame.loc[:4, "race"] = "five people"
    if task == "regression":
        y_true = rng.normal(50, 10, n)
        return audit_fairness(y_true, y_true + rng.normal(3 * (frame.sex == "f"), 2), sensitive_features=frame)
    if task == "multiclass":
        return audit_fairness(rng.integers(0, 3, n), rng.integers(0, 3, n), sensitive_features=frame)
    y_true = rng.integers(0, 2, n)
    score = np.clip(0.3 * y_true + rng.uniform(0, 0.7, n) - 0.2 * (frame.sex == "f"), 0, 1)
    return audit_fairness(
        y_true, (score > 0.5).astype(int), y_score=score, sensitive_features=frame, threshold=0.02, n_resamples=100
    )


@pytest.fixture(scope="module", params=["binary", "multiclass", "regression"])
def audit(request: Any) -> FairnessAudit:
    return audited(request.param)


@pytest.fixture(scope="module")
def binary() -> FairnessAudit:
    return audited("binary")


def test_groups_are_drawn_at_their_rates_with_their_intervals(binary: FairnessAudit) -> None:
    figure = groups(binary, "race")
    table = binary.by_group.query("sensitive_feature == 'race' and metric == 'selection_rate'").reset_index()
    full, few = figure.data[0], table.group.tolist().index("five people")
    drawn = dict(zip(full.y, full.x, strict=True))
    assert drawn == pytest.approx((100 * table.value).drop(few).to_dict()), "nothing of five people"
    silent = [(note.text, note.xref) for note in figure.layout.annotations if note.y == few]
    assert silent == [("too few rows", f"x{panel} domain") for panel in ("", 2, 3, 4)]
    whiskers = dict(zip(full.y, full.x + full.error_x.array, strict=True))
    assert whiskers[0] == pytest.approx(100 * table.high[0])
    assert figure.layout.xaxis.title.text == "Selection rate (%)" and "race" in figure.layout.yaxis.title.text
    assert f"{table.denominator[0]:,.0f}" in figure.layout.yaxis.ticktext[0]
    assert groups(binary, "sex", ["auc"]).layout.xaxis.title.text == "AUC (%)"


def test_gaps_are_told_apart_by_shape_and_the_threshold_is_a_band(binary: FairnessAudit) -> None:
    figure = gaps(binary)
    worst = binary.gaps[(binary.gaps.group == "overall") & binary.gaps.criterion.str.endswith("_difference")]
    symbols = {trace.name: trace.marker.symbol for trace in figure.data}
    drawn = [(x, x - less) for one in figure.data for x, less in zip(one.x, one.error_x.arrayminus, strict=True)]
    told = [row for row in deciding(binary) if np.isfinite(row["p_value"])]
    joint = [(100 * row["value"], 100 * row["joint_low"]) for row in told]
    assert np.sort(drawn, axis=0) == pytest.approx(np.sort(joint, axis=0)), "the pairs were chosen among all"
    assert len(set(symbols.values())) == len(symbols) and SHOWN in symbols
    for trace in figure.data:
        assert len(trace.x) == (worst.verdict == trace.name).sum()
    shown = next(trace for trace in figure.data if trace.name == SHOWN)
    assert all(abs(x) > 2 for x in shown.x) and all(low > 2 or high < -2 for low, high in zip(
        shown.x - shown.error_x.arrayminus, shown.x + shown.error_x.array, strict=True))  # fmt: skip
    band = next(shape for shape in figure.layout.shapes if shape.type == "rect")
    assert (band.x0, band.x1) == (-2, 2) and "percentage points" in figure.layout.xaxis.title.text
    assert sum(len(trace.x) for trace in gaps(binary, "sex").data) == 6


def test_combinations_are_in_order_of_evidence(binary: FairnessAudit) -> None:
    figure = intersections(binary, top=4)
    drawn = sorted((y, x) for trace in figure.data for y, x in zip(trace.y, trace.x, strict=True))
    table = binary.intersections.drop_duplicates(["group", "metric"]).head(4)
    assert [x for _, x in drawn] == pytest.approx((100 * table.value).tolist())
    assert figure.layout.yaxis.ticktext[0].startswith("race ") and " × sex " in figure.layout.yaxis.ticktext[0]


def test_every_picture_has_axes_with_words_and_no_markup_of_users(audit: FairnessAudit) -> None:
    found = pictures(audit)
    assert len(found) == 4 and all(caption.endswith(".") for caption, _ in found)
    for _, figure in found:
        assert figure.data
        assert figure.layout.xaxis.title.text and figure.layout.yaxis.title.text
        assert faults(figure) == []


def test_nothing_to_compare_is_said() -> None:
    few = audit_fairness([0, 1, 1, 0], [0, 1, 0, 0], sensitive_features={"g": list("aabb")})
    assert few.verdict == TOO_FEW
    assert isinstance(gaps(few), go.Figure) and len(pictures(few)) == 2
    assert "Nothing could be compared" in intersections(few).layout.annotations[0].text
    assert not gaps(few).data and "Nothing could be compared" in gaps(few).layout.annotations[0].text


def test_what_too_few_rows_show_is_not_drawn() -> None:
    y_true, y_pred = np.tile([0, 1], 200), np.tile([0, 1, 1, 1], 100)
    y_true[:200] = 0  # group a has no positive row
    few = audit_fairness(y_true, y_pred, sensitive_features={"g": np.repeat(["a", "b"], 200)})
    figure = gaps(few)
    named = [str(text) for text in figure.layout.yaxis.ticktext]
    silent = [at for at, text in enumerate(named) if "equal opportunity" in text]
    assert len(silent) == 1 and len(named) == 4
    assert silent[0] not in [y for trace in figure.data for y in trace.y]
    assert [(note.text, note.y) for note in figure.layout.annotations] == [("too few rows", silent[0])]
    assert "show that there is none" not in gaps.__doc__ and "how large one may still be" in pictures(few)[0][0]


def test_what_is_not_there_is_refused(binary: FairnessAudit) -> None:
    for draw in (
        lambda: groups(binary, "age"),
        lambda: gaps(binary, "age"),
        lambda: groups(binary, metrics=["recall"]),
    ):
        with pytest.raises(DLStudioError):
            draw()


def test_drawing_needs_no_torch() -> None:
    code = (
        "import sys, dlstudio.figures.fairness;"
        "sys.exit(any(name in sys.modules for name in ('torch', 'fairlearn', 'sklearn')))"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
