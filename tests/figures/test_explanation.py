"""Pictures of explanations hold the explanation's own numbers, draw none that were refused, and take any text."""

from __future__ import annotations

import base64
import dataclasses
import html.parser
import io
import json

import numpy as np
import plotly.graph_objects as go
import pytest

from dlstudio.errors import DLStudioError
from dlstudio.explain.result import Explanation
from dlstudio.figures import explanation as figures
from dlstudio.figures import swarm, theme, verdict
from dlstudio.figures.overlays import pixels, png
from dlstudio.figures.spread import NO_ORDER
from dlstudio.results import Finding

EVIL = "<b>bold</b><script>alert(1)</script>"
SHAPES = {"tabular": (30, 5), "image": (3, 3, 12, 16), "text": (3, 6), "sequence": (3, 7, 4)}
WORDS = ["this", "is", "un", "##believ", "##able", EVIL]


def explained(modality: str = "tabular", **fields) -> Explanation:
    random = np.random.default_rng(0)
    shape = SHAPES[modality]
    n = shape[0]
    attributions = random.normal(size=shape)
    prediction = attributions.reshape(n, -1).sum(axis=1) + 0.5
    labels = np.array([WORDS] * n) if modality == "text" else None
    names = {"tabular": ("age", "income", "debt", "kind", EVIL), "sequence": ("temp", "wind", "rain", EVIL)}
    given = {
        "method": "shapley",
        "modality": modality,
        "attributions": attributions,
        "baseline_value": np.full(n, 0.5),
        "prediction": prediction,
        "gap": 0.0,
        "gaps": np.zeros(n),
        "output_range": 4.0,
        "verdict": "ok",
        "inputs": np.arange(np.prod(shape)).reshape(shape) if modality == "text" else random.normal(size=shape),
        "labels": labels,
        "feature_names": names.get(modality, ()),
        "class_names": ("denied", EVIL),
        "target": np.ones(n, dtype=np.int64),
        "outputs": np.stack([np.zeros(n), prediction], axis=1),
        "rows": np.arange(n) + 100,
    }
    return Explanation(**{**given, **fields})


def refused(e: Explanation) -> Explanation:
    why = Finding(code="DLS403", severity="critical", sentence=f"A functional relu: {EVIL}.", remedy="Repair it.")
    return dataclasses.replace(e, verdict="refused", findings=(why,))


def suspect(e: Explanation) -> Explanation:
    why = Finding(code="DLS401", severity="warning", sentence=f"It does not add up {EVIL}. " * 3)
    return dataclasses.replace(e, verdict="suspect", findings=(why,))


DRAWN = [
    ("tabular", lambda e: figures.waterfall(e, 0)),
    ("tabular", lambda e: figures.bars(e, 0)),
    ("tabular", figures.importance),
    ("tabular", figures.beeswarm),
    ("tabular", lambda e: figures.dependence(e, "age", color=EVIL)),
    ("image", lambda e: figures.overlay(e, 0)),
    ("image", lambda e: figures.bars(e, 0)),
    ("image", figures.average),
    ("text", lambda e: figures.bars(e, 0)),
    ("text", figures.importance),
    ("sequence", lambda e: figures.heat_strip(e, 0)),
    ("sequence", lambda e: figures.waterfall(e, 0)),
    ("sequence", figures.average),
    ("sequence", figures.beeswarm),
]
every = pytest.mark.parametrize(("modality", "draw"), DRAWN)


def texts(item) -> list[str]:
    if isinstance(item, str):
        return [item]
    parts = item.values() if isinstance(item, dict) else item if isinstance(item, list) else []
    return [text for part in parts for text in texts(part)]


def test_a_waterfall_leads_from_the_reference_to_the_prediction():
    e = explained()
    bar = figures.waterfall(e, 3).data[0]
    order = np.argsort(-np.abs(e.attributions[3]))
    np.testing.assert_allclose(bar.x, e.attributions[3][order])
    np.testing.assert_allclose(np.array(bar.base, dtype=float), 0.5 + np.cumsum(bar.x) - bar.x)
    assert bar.base[-1] + bar.x[-1] == pytest.approx(e.prediction[3])
    assert list(bar.marker.color) == [verdict.AGAINST if value < 0 else verdict.FOR for value in bar.x]
    ends = figures.waterfall(e, 3).data[2]
    np.testing.assert_allclose(ends.x, [0.5, e.prediction[3]])


def test_a_waterfall_gathers_the_weak_and_owns_up_to_a_gap():
    e = explained()
    e = dataclasses.replace(e, prediction=e.prediction + 0.3, gap=0.075)
    figure = figures.waterfall(e, 0, top=2)
    names = list(figure.layout.yaxis.ticktext)
    assert names[3:5] == ["3 others", "not accounted for"]
    rest = np.sort(np.abs(e.attributions[0]))[:3]
    weak = e.attributions[0][np.isin(np.abs(e.attributions[0]), rest)]
    np.testing.assert_allclose(figure.data[0].x[2:], [weak.sum(), 0.3])
    assert "4 others" not in figures.waterfall(e, 0, top=4).layout.yaxis.ticktext, "one alone keeps its name"


def test_a_method_that_promises_no_sum_gets_bars_with_whiskers():
    e = explained(gap=None, gaps=None, method="feature_ablation", standard_error=np.full((30, 5), 0.1))
    figure = figures.waterfall(e, 0)
    bar = figure.data[0]
    assert bar.base is None
    np.testing.assert_allclose(bar.x, sorted(e.attributions[0], key=abs, reverse=True))
    np.testing.assert_allclose(bar.error_x.array, 0.1)
    assert "whiskers: one standard error" in figure.layout.xaxis.title.text


def test_axes_name_class_and_unit():
    e = explained(class_names=("denied", "approved"))
    assert figures.bars(e, 0).layout.xaxis.title.text == "Attribution for approval (logit)"
    assert figures.importance(e).layout.xaxis.title.text == "Mean |attribution| for approval (logit), 30 rows"
    number = explained(class_names=(), outputs=np.zeros((30, 1)), target=np.zeros(30, dtype=np.int64))
    assert figures.bars(number, 0).layout.xaxis.title.text == "Attribution for the prediction (output units)"
    gradient = dataclasses.replace(e, method="saliency", gap=None)
    assert figures.bars(gradient, 0).layout.xaxis.title.text.startswith("|Gradient| for approval (logit for a change")


def test_importance_is_the_mean_size():
    e = explained()
    bar = figures.importance(e, top=3).data[0]
    np.testing.assert_allclose(bar.x, np.sort(np.abs(e.attributions).mean(axis=0))[::-1][:3])


def test_a_swarm_keeps_true_places_and_tells_the_row():
    e = explained()
    figure = figures.beeswarm(e, top=2)
    order = np.argsort(-e.importance)[:2]
    points = figure.data[0]
    np.testing.assert_allclose(points.x, e.attributions[:, order].T.ravel())
    np.testing.assert_array_equal(points.y.round(), np.repeat([0, 1], 30))
    np.testing.assert_array_equal(points.customdata[:, 1], np.tile(e.rows, 2))
    values = e.inputs[:, order[0]]
    low, high = np.percentile(values, [5, 95])
    np.testing.assert_allclose(points.marker.color[:30], np.clip((values - low) / (high - low), 0, 1))


def test_categories_without_an_order_are_grey():
    labels = np.array([["red"] * 5, ["blue"] * 5] * 15)
    points = figures.beeswarm(explained(labels=labels)).data[0]
    assert points.marker.color == NO_ORDER and not points.marker.showscale


def test_a_swarm_fills_its_room_without_two_in_one_place():
    values = np.random.default_rng(1).normal(size=400)
    aside = swarm.swarm(values, 8.0)
    cells = np.floor(values / 8.0 * 110)
    assert np.abs(aside).max() <= 0.4
    assert len({(cell, round(y, 9)) for cell, y in zip(cells, aside, strict=True)}) == 400


def test_one_extreme_value_does_not_press_the_others_together():
    values = np.random.default_rng(0).normal(size=(3000, 5))
    values[7, 2] = 500.0
    e = explained(
        attributions=values, inputs=np.ones((3000, 5)), rows=np.arange(3000), target=np.ones(3000, dtype=np.int64)
    )
    figure = figures.beeswarm(e)
    assert figure.layout.xaxis.range[1] < 20 and "triangles lie beyond" in figure.layout.xaxis.title.text
    points = figure.data[0]
    assert points.type == "scattergl" and len(points.x) <= 9_000
    assert figures.beeswarm(explained()).data[0].type == "scatter"


def test_dependence_is_value_against_attribution_with_a_running_median():
    x = np.linspace(0, 10, 300)
    values = np.column_stack([np.where(x > 5, 1.0, -1.0), np.zeros((300, 4))])
    inputs = np.column_stack([x, np.zeros((300, 4))])
    n = {"rows": np.arange(300), "target": np.ones(300, dtype=np.int64)}
    figure = figures.dependence(explained(attributions=values, inputs=inputs, **n), "age")
    points, median = figure.data
    np.testing.assert_allclose(points.x, x)
    np.testing.assert_allclose(points.y, values[:, 0])
    np.testing.assert_allclose(np.where(np.array(median.x) > 5, 1.0, -1.0), median.y)


def test_dependence_on_categories_stands_them_side_by_side():
    labels = np.array([["red"] * 5, ["blue"] * 5] * 15)
    inputs = np.array([[1.0] * 5, [0.0] * 5] * 15)
    e = explained(labels=labels, inputs=inputs)
    figure = figures.dependence(e, 0)
    assert list(figure.layout.xaxis.ticktext) == ["blue", "red"]
    np.testing.assert_array_equal(np.round(figure.data[0].x), inputs[:, 0])
    expected = [np.median(e.attributions[inputs[:, 0] == code, 0]) for code in (0, 1)]
    np.testing.assert_allclose(figure.data[-1].y, expected)


def test_an_overlay_lies_where_the_image_lies():
    e = explained("image")
    figure = figures.overlay(e, 1, opacity=0.3)
    heat = figure.data[-1]
    assert (heat.name, heat.opacity, heat.zmin) == ("attribution", 0.3, -heat.zmax)
    np.testing.assert_allclose(heat.z, e.attributions[1].sum(axis=0), rtol=1e-6)
    coarse = dataclasses.replace(e, attributions=np.ones((3, 2, 3, 4)), layer="features.3")
    heat = figures.overlay(coarse, 0).data[-1]
    assert (heat.x0 - heat.dx / 2, heat.x0 + 3.5 * heat.dx) == (-0.5, 15.5)
    assert (heat.y0 - heat.dy / 2, heat.y0 + 2.5 * heat.dy) == (-0.5, 11.5)


def test_a_map_is_clear_where_nothing_matters():
    scale = figures.overlay(explained("image"), 0).data[-1].colorscale
    assert [color for place, color in scale if place == 0.5] == ["rgba(247,247,247,0)"]
    positive = explained("image", attributions=np.abs(np.random.default_rng(0).normal(size=SHAPES["image"])))
    heat = figures.overlay(positive, 0).data[-1]
    assert heat.zmin == 0 and heat.colorscale[0] == (0, "rgba(247,247,247,0)")


def test_pixels_survive_the_png():
    image = pytest.importorskip("PIL.Image")
    grid = np.random.default_rng(0).integers(0, 256, size=(5, 7, 3)).astype(np.uint8)
    data = base64.b64decode(png(grid).split(",", 1)[1])
    np.testing.assert_array_equal(np.asarray(image.open(io.BytesIO(data))), grid)


def test_images_are_shown_as_they_are_where_they_can_be():
    grey = np.array([[[0.0, 0.5], [0.25, 1.0]]])
    np.testing.assert_array_equal(pixels(grey)[..., 0], [[0, 128], [64, 255]])
    np.testing.assert_array_equal(pixels(np.array([[0.0, 7.0], [200.0, 255.0]]))[..., 2], [[0, 7], [200, 255]])
    np.testing.assert_array_equal(pixels(np.array([[-1.0, 0.0], [0.0, 1.0]]))[..., 1], [[0, 128], [128, 255]])
    assert (pixels(np.zeros((3, 2, 2))) == 0).all()


def test_a_heat_strip_shows_attributions_below_the_signal():
    e = explained("sequence")
    figure = figures.heat_strip(e, 2)
    heats = [trace for trace in figure.data if trace.type == "heatmap"]
    np.testing.assert_allclose(np.concatenate([heat.z for heat in heats]).T, e.attributions[2], rtol=1e-6)
    lines = [trace for trace in figure.data if trace.type == "scatter"]
    for place, line in enumerate(lines):
        signal = e.inputs[2][:, place]
        assert np.corrcoef(line.y, signal)[0, 1] == pytest.approx(-1), "the axis points down"
        assert np.abs(np.array(line.y) - place).max() == pytest.approx(0.36)
    wide = explained("sequence", attributions=np.ones((1, 7, 40)), inputs=np.ones((1, 7, 40)), feature_names=())
    assert "22 channels that matter less left out" in figures.heat_strip(wide, 0).layout.xaxis.title.text


def test_tokens_are_whole_words_in_order_and_escaped():
    e = explained("text")
    shown = figures.tokens(e, 0)

    class Reader(html.parser.HTMLParser):
        found: list[str] = []
        tags: set[str] = set()

        def handle_starttag(self, tag, attrs):
            self.tags.add(tag)
            assert not any(name.startswith("on") for name, _ in attrs)

        def handle_data(self, data):
            self.found.append(data.strip())

    reader = Reader()
    reader.feed(shown)
    assert [word for word in reader.found if word][:4] == ["this", "is", "unbelievable", EVIL]
    assert reader.tags <= {"div", "span"}
    colors = [part.split("rgba(")[1].split(",")[0] for part in shown.split("<span")[1:5] if "rgba" in part]
    values = [*e.attributions[0][:2], e.attributions[0][2:5].sum(), e.attributions[0][5]]
    assert colors == ["213" if value > 0 else "0" for value in values]


@pytest.mark.parametrize("verdict", ["refused", "suspect"])
def test_tokens_wear_their_verdict(verdict):
    e = {"refused": refused, "suspect": suspect}[verdict](explained("text"))
    shown = figures.tokens(e, 0)
    assert "<script" not in shown and "<b>bold" not in shown
    if verdict == "refused":
        assert "A functional relu" in shown and "Ask the engineer" in shown and "unbelievable" not in shown
    else:
        assert shown.index("Suspect: it does not add up") < shown.index("unbelievable")


@every
def test_a_refused_explanation_shows_its_reasons_and_no_number(modality, draw):
    e = refused(explained(modality))
    figure = draw(e)
    assert not figure.data
    said = figure.layout.annotations[0].text
    assert "A functional relu" in said and "Ask the engineer" in said and "Repair" not in said and "<script" not in said


@every
def test_a_suspect_explanation_has_a_band_above_the_picture(modality, draw):
    plain, warned = draw(explained(modality)), draw(suspect(explained(modality)))
    assert len(warned.data) == len(plain.data)
    assert warned.layout.annotations[-1].text.startswith("Suspect: it does not add up")
    assert warned.layout.height > plain.layout.height
    assert warned.layout.height - warned.layout.margin.t == plain.layout.height - plain.layout.margin.t
    assert not plain.layout.annotations


@every
def test_no_text_of_a_user_reaches_plotly_as_markup(modality, draw):
    for e in (explained(modality), suspect(explained(modality))):
        found = [text for text in texts(json.loads(draw(e).to_json())) if "alert" in text]
        assert all("<script" not in text and "<b>bold" not in text for text in found)


@every
def test_figures_survive_nothing_one_row_and_one_feature(modality, draw):
    e = explained(modality)
    nothing = dataclasses.replace(e, attributions=np.zeros_like(e.attributions), prediction=e.baseline_value)
    assert isinstance(draw(nothing), go.Figure)
    one = {
        field: getattr(e, field)[:1]
        for field in ("attributions", "baseline_value", "prediction", "inputs", "target", "outputs", "rows", "gaps")
    }
    alone = dataclasses.replace(e, **one, labels=None if e.labels is None else e.labels[:1])
    json.loads(draw(alone).to_json())


@every
def test_every_axis_that_shows_has_words_and_the_studios_look(modality, draw):
    figure = draw(explained(modality))
    shown = [axis for axis in figure.select_xaxes() if axis.visible is not False]
    bars = [trace.colorbar.title.text for trace in figure.data if trace.type == "heatmap"]
    assert all(axis.title.text for axis in shown) and (shown or bars[0])
    assert figure.layout.template.layout.colorway[0] == theme.ACCENT


@pytest.mark.parametrize(
    ("modality", "at", "kinds"),
    [
        ("tabular", 0, {"bar", "scatter"}),
        ("tabular", None, {"scatter"}),
        ("image", 0, {"image", "heatmap"}),
        ("image", None, {"heatmap"}),
        ("text", 0, {"bar", "scatter"}),
        ("text", None, {"bar", "scatter"}),
        ("sequence", 0, {"heatmap", "scatter"}),
        ("sequence", None, {"heatmap"}),
    ],
)
def test_the_picture_fits_what_was_explained(modality, at, kinds):
    assert {trace.type for trace in figures.figure_of(explained(modality), at).data} == kinds


def test_units_of_a_layer_are_bars():
    for modality in SHAPES:
        e = explained(modality)
        of_layer = dataclasses.replace(e, attributions=np.ones((len(e), 6)), inputs=np.ones((len(e), 4)), layer="fc")
        for at in (0, None):
            figure = figures.figure_of(of_layer, at)
            assert figure.data[0].type == "bar", modality
            assert "unit 0" in figure.layout.yaxis.ticktext


def test_what_cannot_be_drawn_says_what_to_draw_instead():
    table, image = explained(), explained("image")
    for draw in (
        lambda: figures.overlay(table, 0),
        lambda: figures.heat_strip(table, 0),
        lambda: figures.tokens(table, 0),
    ):
        with pytest.raises(DLStudioError, match="Use figure_of"):
            draw()
    for draw in (figures.beeswarm, lambda e: figures.dependence(e, 0)):
        with pytest.raises(DLStudioError, match="rows that share their features"):
            draw(image)
    with pytest.raises(DLStudioError, match="Did you mean 'income'"):
        figures.dependence(table, "incom")
    with pytest.raises(DLStudioError, match="a feature from 0 to 4"):
        figures.dependence(table, 5)
    for draw in (figures.waterfall, figures.bars, figures.figure_of):
        with pytest.raises(DLStudioError, match="a row from 0 to 29"):
            draw(table, 30)


def test_the_ends_of_the_diverging_scale_are_equally_dark_and_its_middle_is_light():
    def luminance(color: str) -> float:
        return sum(w * int(color[at : at + 2], 16) / 255 for w, at in zip((0.3, 0.59, 0.11), (1, 3, 5), strict=True))

    shades = [luminance(color) for _, color in verdict.DIVERGING]
    assert shades[0] < shades[1] < shades[2] > shades[3] > shades[4]
    assert abs(shades[0] - shades[4]) < 0.12 and shades[2] > 0.9
