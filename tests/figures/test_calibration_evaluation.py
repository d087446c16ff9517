"""Figures of calibration and evaluation show the result's numbers, say their units, and take any text."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from typing import Any

import numpy as np
import plotly.graph_objects as go
import pytest

from dlstudio.errors import DLStudioError
from dlstudio.figures.calibration import calibration_errors, calibration_fixes, reliability
from dlstudio.figures.evaluation import confusion, metrics, precision_recall, predicted, roc, thresholds
from dlstudio.trust.calibration import assess_calibration
from dlstudio.trust.calibration_result import CalibrationResult
from dlstudio.trust.evaluation import evaluate
from dlstudio.trust.evaluation_result import Evaluation
from tests.figures.reading import faults

EVIL = "<b>bold</b><script>alert(1)</script>"


def rows(n: int = 240) -> tuple[Any, Any]:
    generator = np.random.default_rng(0)
    logits = generator.normal(0.5, 1.5, n)
    y = (generator.random(n) < 1 / (1 + np.exp(-logits))).astype(int)
    return y, 1 / (1 + np.exp(-2 * logits))


@pytest.fixture(scope="module")
def calibrated() -> CalibrationResult:
    y, scores = rows()
    groups = {EVIL: np.where(np.arange(len(y)) % 3, "a", EVIL)}
    found = assess_calibration(y, scores, groups=groups, n_resamples=100)
    return dataclasses.replace(found, class_names=("denied", EVIL))


@pytest.fixture(scope="module")
def evaluated() -> Evaluation:
    y, scores = rows()
    costs = {"false_positive": 4.0, "false_negative": 1.0}
    found = evaluate(y, y_score=scores, costs=costs, n_resamples=100)
    return dataclasses.replace(found, class_names=("denied", EVIL))


@pytest.fixture(scope="module")
def of_many() -> Evaluation:
    generator = np.random.default_rng(1)
    scores = generator.dirichlet(np.ones(4), 200)
    found = evaluate(generator.integers(0, 4, 200), y_score=scores, n_resamples=100)
    return dataclasses.replace(found, class_names=("0", "1", "2", EVIL))


@pytest.fixture(scope="module")
def of_values() -> Evaluation:
    generator = np.random.default_rng(2)
    y = generator.normal(50, 10, 90)
    return dataclasses.replace(evaluate(y, y + generator.normal(size=90)), target=EVIL)


FIGURES = [
    ("calibrated", reliability), ("calibrated", lambda c: reliability(c, column=EVIL)),
    ("calibrated", calibration_errors), ("calibrated", calibration_fixes),
    ("evaluated", metrics), ("evaluated", confusion), ("evaluated", roc), ("evaluated", precision_recall),
    ("evaluated", thresholds), ("of_many", metrics), ("of_many", confusion), ("of_many", roc),
    ("of_values", metrics), ("of_values", predicted),
]  # fmt: skip


def named(figure: go.Figure, name: str) -> Any:
    return next(trace for trace in figure.data if trace.name == name)


@pytest.mark.parametrize(("source", "builder"), FIGURES)
def test_figures_have_axes_with_words_and_no_markup_of_users(source: str, builder: Any, request: Any) -> None:
    figure = builder(request.getfixturevalue(source))
    assert all(axis.title.text or axis.visible is False for axis in figure.select_yaxes())
    assert faults(figure) == []


def test_the_reliability_diagram_draws_every_bin_with_its_interval(calibrated: CalibrationResult) -> None:
    table = calibrated.reliability
    table = table[(table.scores == "given") & (table.column == "")]
    line = named(reliability(calibrated), "240 rows")
    np.testing.assert_allclose(line.x, 100 * table.mean_score)
    np.testing.assert_allclose(line.y, 100 * table.rate)
    np.testing.assert_allclose(line.y + line.error_y.array, 100 * table.high)
    np.testing.assert_allclose(line.y - line.error_y.arrayminus, 100 * table.low)
    np.testing.assert_allclose(named(reliability(calibrated), "rows in the bin").y, table.n)


def test_groups_are_told_apart_by_shape(calibrated: CalibrationResult) -> None:
    lines = [trace for trace in reliability(calibrated, column=EVIL).data if trace.error_y.array is not None]
    assert len(lines) == 2 and lines[0].marker.symbol != lines[1].marker.symbol
    assert "160 rows" in lines[0].name, "the larger group first"


def test_errors_are_drawn_with_verdict_interval_and_chance(calibrated: CalibrationResult) -> None:
    table = calibrated.errors
    figure = calibration_errors(calibrated)
    np.testing.assert_allclose(named(figure, "exactly right scores would show").x, 100 * table.by_chance)
    drawn = {}
    for verdict in table.verdict.unique():
        trace = named(figure, verdict)
        drawn |= dict(zip(trace.y.tolist(), zip(trace.x, trace.x + trace.error_x.array, strict=True), strict=True))
    assert len(drawn) == len(table)
    for place, (value, high) in drawn.items():
        assert (value, high) == pytest.approx((100 * table.ece[place], 100 * table.high[place]))


def test_fixes_are_drawn_on_the_rows_they_are_judged_on(calibrated: CalibrationResult) -> None:
    figure = calibration_fixes(calibrated)
    held = calibrated.reliability[calibrated.reliability.scores == "temperature"]
    trace = next(trace for trace in figure.data if trace.name.startswith("Temperature scaling ("))
    np.testing.assert_allclose(trace.y, 100 * held.rate)
    with pytest.raises(DLStudioError, match="a result with fixes"):
        calibration_fixes(assess_calibration(*rows(), fix=(), n_resamples=100))


def test_metrics_are_drawn_with_intervals_and_baseline(evaluated: Evaluation) -> None:
    table = evaluated.frame()
    figure = metrics(evaluated)
    trace = named(figure, "this model")
    np.testing.assert_allclose(trace.x, table.value)
    np.testing.assert_allclose(trace.x - trace.error_x.arrayminus, table.low)
    np.testing.assert_allclose(named(figure, "knows nothing of the row").x, table.baseline)


def test_errors_of_values_share_an_axis_as_shares_of_a_constant(of_values: Evaluation) -> None:
    table = of_values.frame().set_index("metric")
    drawn = named(metrics(of_values), "this model").x
    np.testing.assert_allclose(drawn, [
        table.value["mae"] / table.baseline["mae"], table.value["rmse"] / table.baseline["rmse"], table.value["r2"],
    ])  # fmt: skip
    points = predicted(of_values).data[1]
    np.testing.assert_allclose(points.y, of_values.points.y_true)


def test_the_confusion_matrix_shows_counts_and_shares(of_many: Evaluation) -> None:
    heat = confusion(of_many).data[0]
    assert of_many.confusion is not None
    np.testing.assert_array_equal(heat.customdata, of_many.confusion)
    np.testing.assert_allclose(np.sum(heat.z, axis=1), 100)
    assert heat.text[0][0].startswith(f"{of_many.confusion[0, 0]}<br>")


@pytest.mark.parametrize(("builder", "curve"), [(roc, "roc"), (precision_recall, "precision_recall")])
def test_curves_have_their_band(evaluated: Evaluation, of_many: Evaluation, builder: Any, curve: str) -> None:
    table = evaluated.curves[evaluated.curves.curve == curve]
    figure = builder(evaluated)
    band, line = figure.data[0], figure.data[1]
    np.testing.assert_allclose(line.y, 100 * table.y)
    np.testing.assert_allclose(band.y, 100 * np.concatenate([table.high, table.low[::-1]]))
    assert len([trace for trace in builder(of_many).data if trace.fill]) == 0, "four bands would hide each other"
    one = builder(of_many, "2")
    np.testing.assert_allclose(one.data[1].y, 100 * of_many.curves.query("curve == @curve and outcome == '2'").y)
    with pytest.raises(DLStudioError, match="class"):
        builder(of_many, "7")


def test_thresholds_show_rates_and_costs(evaluated: Evaluation) -> None:
    figure = thresholds(evaluated, at=0.7)
    table = evaluated.thresholds(101)
    np.testing.assert_allclose(named(figure, "Right").y, 100 * table.accuracy)
    np.testing.assert_allclose(
        next(trace for trace in figure.data if trace.name == "cost" and trace.fill is None).y, table.cost
    )
    assert evaluated.cheapest is not None
    assert named(figure, "cheapest").x[0] == evaluated.cheapest.threshold
    assert {shape.x0 for shape in figure.layout.shapes} == {0.7}
    plain = dataclasses.replace(evaluated, costs={}, cheapest=None)
    assert not any(trace.name in ("cost", "cheapest") for trace in thresholds(plain).data)


def test_what_cannot_be_drawn_says_why(of_many: Evaluation, of_values: Evaluation, calibrated: Any) -> None:
    for builder, result, expected in (
        (thresholds, of_many, "scores of two classes"),
        (confusion, of_values, "an evaluation of classes"),
        (predicted, of_many, "an evaluation of a regression"),
        (roc, of_values, "scores of classes"),
    ):
        with pytest.raises(DLStudioError, match=expected):
            builder(result)
    with pytest.raises(DLStudioError, match="column"):
        reliability(calibrated, column="age")
    with pytest.raises(DLStudioError, match="class"):
        reliability(calibrated, outcome="nobody")


def test_reading_results_needs_no_torch() -> None:
    code = (
        "import sys, dlstudio.figures.calibration, dlstudio.figures.evaluation;"
        "sys.exit(any(name in sys.modules for name in ('torch', 'sklearn', 'pandas')))"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
