"""Figures of robustness and of the trade-off show the result's numbers, say their units, and take any text."""

from __future__ import annotations

import numpy as np
import plotly.graph_objects as go
import pytest
import torch

from dlstudio.errors import DLStudioError
from dlstudio.fairness.mitigation.trade_off import trade_off as measure
from dlstudio.fairness.mitigation.trade_off_result import TradeOff
from dlstudio.figures import theme
from dlstudio.figures.robustness import attacks, corruptions
from dlstudio.figures.trade_off import operating_point, trade_off
from dlstudio.trust.robustness import assess_robustness
from dlstudio.trust.robustness_result import RobustnessResult
from tests.figures.reading import faults

EVIL = "<b>bold</b><script>alert(1)</script>"


@pytest.fixture(scope="module")
def assessed() -> RobustnessResult:
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(60, 1, 6, 6, generator=generator)
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(36, 2))
    return assess_robustness(model, images, torch.arange(60) % 2, epsilons=(0.05, 0.1), progress=False)


@pytest.fixture(scope="module")
def measured() -> TradeOff:
    generator = np.random.default_rng(0)
    g = generator.choice(["x", EVIL], 1200)
    z = generator.normal(size=1200) + (g == "x")
    score = 1 / (1 + np.exp(-2 * z))
    y = (generator.random(1200) < score).astype(int)
    return measure(y, score, sensitive_features={EVIL: g}, variants={EVIL: np.clip(score + 0.2, 0, 1)})


def named(figure: go.Figure, name: str) -> go.Scatter:
    return next(trace for trace in figure.data if trace.name == name)


def test_attacks_are_drawn_with_their_intervals(assessed: RobustnessResult) -> None:
    figure = attacks(assessed)
    for name, key in (("FGSM, one step", "fgsm"), ("PGD, a search", "pgd")):
        line, one = named(figure, name), assessed.curves[key]
        np.testing.assert_array_equal(line.x, one.strengths)
        np.testing.assert_array_equal(line.y, one.value)
        band = next(t for t in figure.data if t.legendgroup == key and t.fill == "toself")
        np.testing.assert_array_equal(band.y, [*one.high, *one.low[::-1]])
    assert named(figure, "FGSM, one step").marker.symbol != named(figure, "PGD, a search").marker.symbol
    assert "of the pixel range 0 to 1" in figure.layout.xaxis.title.text
    assert "60 rows" in figure.layout.yaxis.title.text
    assert figure.layout.shapes[0].y0 == assessed.curves["pgd"].value[0]


def test_every_corruption_has_a_panel_and_a_unit(assessed: RobustnessResult) -> None:
    figure = corruptions(assessed)
    assert [note.text for note in figure.layout.annotations] == ["Noise", "Blur", "Missing values"]
    units = [figure.layout[axis].title.text for axis in ("xaxis", "xaxis2", "xaxis3")]
    assert "pixel range" in units[0] and "pixels" in units[1] and "Share of pixels" in units[2]
    lines = [trace for trace in figure.data if trace.mode == "lines+markers"]
    for line, key in zip(lines, ("noise", "blur", "missing"), strict=True):
        np.testing.assert_array_equal(line.y, assessed.curves[key].value)


def test_what_was_not_measured_says_so() -> None:
    x, y = torch.randn(20, 3), torch.arange(20) % 2
    model = torch.nn.Linear(3, 2)
    with pytest.raises(DLStudioError, match="with an attack"):
        attacks(assess_robustness(model, x, y, attacks=(), progress=False))
    with pytest.raises(DLStudioError, match="with a corruption"):
        corruptions(assess_robustness(model, x, y, corruptions=(), progress=False))


def test_a_regression_has_an_axis_in_its_own_unit() -> None:
    x = torch.randn(30, 3)
    figure = attacks(assess_robustness(torch.nn.Linear(3, 1), x, torch.randn(30), progress=False))
    assert "unit of the target" in figure.layout.yaxis.title.text and figure.layout.yaxis.tickformat is None


def test_the_trade_off_shows_every_point_once(measured: TradeOff) -> None:
    at = measured.choose(0.1)
    figure = trade_off(measured, at)
    path = named(figure, "thresholds by group")
    places = [place for place, kind in enumerate(measured.kinds) if kind == "thresholds"]
    np.testing.assert_array_equal(path.x, measured.gap[places])
    np.testing.assert_array_equal(path.y, measured.accuracy[places])
    for name, place in (("as it is", 0), (theme.escape(EVIL), len(measured) - 1), ("chosen", at)):
        point = named(figure, name)
        assert (point.x[0], point.y[0]) == (measured.gap[place], measured.accuracy[place])
        assert point.y[0] + point.error_y.array[0] == pytest.approx(measured.accuracy_high[place])
        assert point.x[0] - point.error_x.arrayminus[0] == pytest.approx(max(measured.gap_low[place], 0))
    assert "Demographic parity difference" in figure.layout.xaxis.title.text
    assert f"{measured.n_rows:,} rows" in figure.layout.yaxis.title.text
    assert "chosen" not in [trace.name for trace in trade_off(measured).data]


def test_an_operating_point_shows_groups_before_and_after(measured: TradeOff) -> None:
    at = measured.choose(0.05)
    figure = operating_point(measured, at)
    before, after = named(figure, "as it is"), named(figure, "at this point")
    np.testing.assert_array_equal(before.x, measured.selection_rate[0])
    np.testing.assert_array_equal(after.x, measured.selection_rate[at])
    np.testing.assert_allclose(after.x + after.error_x.array, measured.selection_high[at])
    assert before.marker.symbol != after.marker.symbol
    assert figure.layout.yaxis.ticktext == tuple(theme.escape(name) for name in measured.groups)
    assert len(operating_point(measured, 0).data) == 1


def test_points_that_are_not_there_are_refused(measured: TradeOff) -> None:
    for draw in (trade_off, operating_point):
        with pytest.raises(DLStudioError, match="a point from 0 to"):
            draw(measured, len(measured))


def test_figures_have_axes_with_words_and_no_markup_of_users(assessed: RobustnessResult, measured: TradeOff) -> None:
    for figure in (attacks(assessed), corruptions(assessed), trade_off(measured, 3), operating_point(measured, 3)):
        assert figure.layout.xaxis.title.text and figure.layout.yaxis.title.text
        assert faults(figure) == []
