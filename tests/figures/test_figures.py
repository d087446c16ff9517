"""Figures show what the summary says, say their units, and take any text and any number."""

from __future__ import annotations

import dataclasses
import json
import math

import numpy as np
import plotly.graph_objects as go
import pytest

from dlstudio.errors import DLStudioError
from dlstudio.figures import theme, training
from dlstudio.summary.curves import CurveBuilder, LayerHistory
from dlstudio.summary.numbers import TrainingSummary

EVIL = "<b>bold</b><script>alert(1)</script>"
FIGURES = [training.loss, training.learning_rate, training.metrics, training.layers, training.machine]


def curve(key, values, x=None):
    builder = CurveBuilder(key, 1000)
    values = np.asarray(values, float)
    builder.add(np.arange(1, len(values) + 1) if x is None else np.asarray(x), values)
    return builder.curve()


@pytest.fixture
def summary() -> TrainingSummary:
    names = ["0.weight", "0.bias"]
    stats = {
        stat: np.array([[1.0, 0.1], [0.01, np.inf], [0.0, 1e-3]], np.float32)
        for stat in ("grad_norm", "weight_norm", "update_norm", "update_ratio")
    }
    events = [
        {"time": 1.0, "step": 2, "kind": "set", "message": EVIL, "data": {"lr": 0.1}},
        {"time": 2.0, "step": 3, "kind": "checkpoint", "message": "saved", "data": {}},
        {"time": 2.0, "step": 3, "kind": "epoch", "message": "", "data": {"epoch": 1}},
    ]
    return TrainingSummary(
        name=EVIL,
        key="k",
        run_id="",
        kind="record",
        status="FINISHED",
        reason=None,
        traceback=None,
        config={},
        created=0.0,
        started=0.0,
        ended=9.0,
        wall_s=9.0,
        n_steps=4,
        n_steps_planned=4,
        n_epochs=2,
        n_epochs_planned=2,
        n_parameters=10,
        throughput_samples_per_s=5.0,
        best_step=2,
        best_epoch=1,
        best={"val/loss": 0.4},
        final={"loss": 0.5},
        layers=LayerHistory(names=names, steps=np.array([1, 2, 3]), stats=stats, n_steps=3),
        curves={
            "loss": curve("loss", [4.0, math.nan, 2.0, math.inf]),
            "val/loss": curve("val/loss", [0.4, 0.6], [2, 4]),
            "lr": curve("lr", [0.2, 0.2, 0.1, 0.1]),
            "val/accuracy": curve("val/accuracy", [0.5, 0.75], [2, 4]),
        },
        machine={
            "cpu_percent": curve("cpu_percent", [10.0, 90.0], [0.5, 1.5]),
            "rss_mib": curve("rss_mib", [500.0, 600.0], [0.5, 1.5]),
        },
        events=events,
        n_lost=0,
        damage=[],
        environment={},
    )


@pytest.fixture
def empty(summary) -> TrainingSummary:
    return dataclasses.replace(summary, curves={}, layers=None, machine={}, events=[], best={}, best_step=None)


def traces(figure: go.Figure) -> dict[str, go.Scatter]:
    return {trace.name: trace for trace in figure.data}


def test_loss_shows_the_recorded_values_and_marks_the_broken_ones(summary):
    shown = traces(training.loss(summary))
    np.testing.assert_array_equal(shown["Training loss"].x, [1, 2, 3, 4])
    np.testing.assert_array_equal(shown["Training loss"].y, [4.0, np.nan, 2.0, np.nan])
    np.testing.assert_array_equal(shown["Not a finite number"].x, [2, 4])
    assert list(shown["Not a finite number"].text) == ["Training loss is NaN", "Training loss is ∞"]
    assert (list(shown["Lowest validation loss"].x), list(shown["Lowest validation loss"].y)) == ([2], [0.4])


def test_edits_are_lines_with_their_words_and_epochs_are_not(summary):
    figure = training.loss(summary)
    assert sorted(shape.x0 for shape in figure.layout.shapes) == [2, 3]
    assert traces(figure)["Learning rate changed"].text[0] == theme.escape(EVIL)
    assert [shape.x0 for shape in training.learning_rate(summary).layout.shapes] == [2]


def test_smoothing_is_a_debiased_moving_average(summary):
    np.testing.assert_allclose(training.smooth(np.array([1.0, 3.0]), 0.5), [1.0, (0.5 * 1 + 3) / 1.5])
    np.testing.assert_allclose(training.smooth(np.array([1.0, np.nan, 3.0]), 0.5), [1.0, 1.0, (0.5 * 1 + 3) / 1.5])
    smoothed = traces(training.loss(summary, smoothing=0.9))
    assert {"Training loss, smoothed", "Training loss, each step"} <= set(smoothed)


def test_a_log_axis_is_named(summary):
    figure = training.loss(summary, log=True)
    assert figure.layout.yaxis.type == "log" and "log scale" in figure.layout.yaxis.title.text


def test_layers_are_powers_of_ten_with_the_true_value_on_hover(summary):
    figure = training.layers(summary)
    heat = figure.data[0]
    np.testing.assert_allclose(heat.z, [[0.0, -2.0, np.nan], [-1.0, np.nan, -3.0]], rtol=1e-6)
    np.testing.assert_array_equal(heat.customdata, summary.layers.stats["grad_norm"].T)
    assert (list(figure.data[1].x), list(figure.data[1].y)) == ([2], [1]), "the infinite one is crossed out"
    assert list(figure.layout.yaxis.ticktext) == ["0.weight", "0.bias"]


def test_metrics_outside_zero_to_one_get_panels_with_units(summary):
    curves = summary.curves | {"val/rmse": curve("val/rmse", [5.0, 4.0], [2, 4])}
    figure = training.metrics(dataclasses.replace(summary, curves=curves))
    assert {figure.layout.yaxis.title.text, figure.layout.yaxis2.title.text} == {
        "Accuracy",
        "Root mean squared error (target units)",
    }


def test_an_unknown_statistic_is_refused_with_the_nearest(summary):
    with pytest.raises(DLStudioError, match="Did you mean 'grad_norm'"):
        training.layers(summary, "grad_nrm")


@pytest.mark.parametrize("builder", FIGURES)
def test_every_figure_has_axes_with_words_and_survives_json(summary, builder):
    figure = builder(summary)
    axes = [axis for axis in figure.select_yaxes() if axis.visible is not False]
    assert axes and all(axis.title.text for axis in axes)
    assert any(axis.title.text for axis in figure.select_xaxes())
    spec = json.loads(figure.to_json())
    for trace in spec["data"]:
        for name in ("x", "y", "z"):
            values = trace.get(name)
            many = isinstance(values, list) and len(values) > 3
            assert not many, f"{name} of {trace.get('name')} went as a JSON list"
    assert figure.layout.template.layout.colorway[0] == theme.ACCENT


@pytest.mark.parametrize("builder", FIGURES)
def test_an_empty_run_gives_a_figure_that_says_so(empty, builder):
    figure = builder(empty)
    assert not figure.data
    assert "nothing was recorded" in figure.layout.annotations[0].text


@pytest.mark.parametrize("builder", FIGURES)
def test_no_text_of_a_user_reaches_plotly_as_markup(summary, builder):
    layers = dataclasses.replace(summary.layers, names=[EVIL, "b"])
    curves = summary.curves | {f"val/{EVIL}": curve(f"val/{EVIL}", [0.1, 0.2])}
    machine = summary.machine | {f"{EVIL}_percent": curve(f"{EVIL}_percent", [1.0, 2.0])}
    figure = builder(dataclasses.replace(summary, layers=layers, curves=curves, machine=machine))

    def texts(item):
        if isinstance(item, str):
            yield item
        elif isinstance(item, dict):
            for part in item.values():
                yield from texts(part)
        elif isinstance(item, list | tuple):
            for part in item:
                yield from texts(part)

    found = [text for text in texts(json.loads(figure.to_json())) if "alert" in text]
    assert all("<script" not in text and "<b>" not in text for text in found)


def test_steps_are_never_int64():
    assert theme.xs(np.array([1, 2])).dtype == np.int32
    assert theme.xs(np.array([1, 2**40])).dtype == np.float64
    assert theme.xs([]).size == 0


def contrast(a: str, b: str) -> float:
    def luminance(color: str) -> float:
        parts = [int(color[at : at + 2], 16) / 255 for at in (1, 3, 5)]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    high, low = sorted((luminance(a), luminance(b)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def test_text_is_legible():
    assert contrast(theme.INK, theme.SURFACE) >= 7 and contrast(theme.MUTED, theme.PAGE) >= 4.5
