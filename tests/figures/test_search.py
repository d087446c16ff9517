"""Pictures of a search show its numbers, and any text as text; Optuna's own with the plotly that is installed."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import numpy as np
import plotly.graph_objects as go
import pytest
from scipy import stats as scipy_stats

from dlstudio.figures import trials, tuning
from dlstudio.figures.theme import escape
from dlstudio.tuning.rebuild import importances
from dlstudio.tuning.result import SearchResult
from dlstudio.tuning.space import read_space
from dlstudio.tuning.trial_result import TrialResult

EVIL = "<b>x</b><a href='javascript:alert(1)'>y</a>"
EVIL_SHOWN = escape(EVIL)
DRAWN = (
    trials.history, trials.curves, tuning.importance, tuning.slices, tuning.contour, tuning.parallel, tuning.front,
)  # fmt: skip


def made(n: int = 40, *, evil: bool = False, directions: tuple[str, ...] = ("min",), seed: int = 0) -> SearchResult:
    """A search over four parameters, of which the rate matters most; every fourth trial was pruned."""
    draw = np.random.default_rng(seed)
    rate, kind = (EVIL, EVIL) if evil else ("lr", "adam")
    space = read_space(
        {rate: (1e-4, 1e-1, "log"), "width": (8, 64), "opt": [kind, "sgd"], "hidden": [[64], [64, 64]]}, None
    )
    metrics = ("val/loss", EVIL if evil else "n_parameters")[: len(directions)]
    rows = []
    for number in range(n):
        params: dict[str, Any] = {
            rate: float(10 ** draw.uniform(-4, -1)), "width": int(draw.integers(8, 65)),
            "opt": [kind, "sgd"][draw.integers(2)], "hidden": [[64], [64, 64]][draw.integers(2)],
        }  # fmt: skip
        value = 0.3 + 0.2 * float(np.log10(params[rate]) + 2.5) ** 2 + float(draw.normal()) * 0.01
        state = "running" if number == n - 1 else "pruned" if number % 4 == 3 else "complete"
        reports = {at: value + 1 / at for at in range(1, 9 if state == "complete" else 4)}
        values = {"complete": (value, float(params["width"])), "pruned": (reports[3], float(params["width"]))}
        rows.append(
            TrialResult(
                number=number, state=state, values=values.get(state, ())[: len(metrics)], params=params,
                run=f"run-{number}", started=1.7e9 + number, wall_s=1.0, reason=EVIL if evil else None,
                violations={EVIL: -1.0} if evil else {}, reports=reports,
            )
        )  # fmt: skip
    plain = space.to_json()
    return SearchResult(
        name=EVIL if evil else "made", run="made-1", status="RUNNING", metrics=metrics, directions=directions,
        space=plain, rows=tuple(rows), n_trials=n, importances=importances(metrics, directions, plain, rows),
        summary=("So far.",), findings=(),
    )  # fmt: skip


def texts_of(figure: go.Figure) -> str:
    plain = json.loads(figure.to_json())
    plain["layout"].pop("template")
    plain["layout"].pop("meta", None)  # names as they are, which nothing draws
    return json.dumps(plain)


@pytest.mark.parametrize("draw", DRAWN, ids=lambda draw: draw.__name__)
@pytest.mark.parametrize("directions", [("min",), ("max", "min")], ids=["one metric", "two metrics"])
def test_names_choices_and_reasons_are_inert(draw: Any, directions: tuple[str, ...]) -> None:
    figure = draw(made(evil=True, directions=directions))
    assert "<b>" not in texts_of(figure) and "<a href" not in texts_of(figure)


def test_the_best_so_far_is_the_running_best_of_complete_trials() -> None:
    for direction, best in (("min", np.minimum), ("max", np.maximum)):
        result = made(directions=(direction,))
        figure = trials.history(result)
        (line,) = (trace for trace in figure.data if trace.name == "best so far")
        complete = [row for row in result.rows if row.state == "complete"]
        np.testing.assert_array_equal(line.y[:-1], best.accumulate([row.value for row in complete]))
        assert list(line.x) == [*(row.number for row in complete), result.rows[-1].number]
        shown = {number for trace in figure.data if trace.customdata is not None for number in trace.customdata}
        assert shown == {row.number for row in result.rows if row.state != "running"}


def test_the_curves_are_the_reports_of_every_trial() -> None:
    result = made()
    drawn: dict[int, dict[int, float]] = {}
    for trace in trials.curves(result).data:
        for number, x, y in zip(trace.customdata, trace.x, trace.y, strict=True):
            if y is not None and np.isfinite(y):
                drawn.setdefault(int(number), {})[int(x)] = y
    assert drawn == {row.number: dict(row.reports) for row in result.rows}
    names = {trace.name: set(trace.customdata) for trace in trials.curves(result).data}
    assert result.best is not None and names["best"] == {result.best.number} and names["going on"] == {39}


def test_importance_shows_the_numbers_of_the_result() -> None:
    result = made()
    (bars,) = tuning.importance(result).data
    assert dict(zip(bars.y, bars.x, strict=True)) == pytest.approx(dict(result.importance))
    shares = [result.importance[name] for name in tuning.ranked(result)]
    assert tuning.ranked(result)[0] == "lr" and shares == sorted(shares, reverse=True) and len(shares) == 4


def test_slices_know_their_axes_and_draw_complete_trials() -> None:
    result = made()
    figure = tuning.slices(result)
    axes = figure.layout.meta["axes"]
    assert sorted(axes.values()) == ["hidden", "lr", "opt", "width"]
    complete = [row for row in result.rows if row.state == "complete"]
    for trace in figure.data:
        name = axes[trace.xaxis]
        want = sorted((row.value, str(row.params[name])) for row in complete)
        assert sorted((y, str(x)) for x, y in zip(trace.x, trace.y, strict=True) if y is not None) == want


def test_a_contour_has_the_axes_that_were_asked_for() -> None:
    result = made()
    complete = {(row.params["width"], row.params["lr"]): row.value for row in result.rows if row.state == "complete"}
    for across, up in (("width", "lr"), ("lr", "width")):
        figure = tuning.contour(result, across, up)
        assert figure.layout.meta["axes"] == {"x": across, "y": up}
        assert (figure.layout.xaxis.title.text, figure.layout.yaxis.title.text) == (across, up)
        assert (figure.layout.xaxis.type == "log") == (across == "lr")
        surface = next(trace for trace in figure.data if trace.type == "contour")
        heights = np.asarray(surface.z, dtype=float)
        assert heights.shape == (len(surface.y), len(surface.x))
        for (width, rate), value in complete.items():
            x, y = (width, rate) if across == "width" else (rate, width)
            assert heights[list(surface.y).index(y), list(surface.x).index(x)] == value


@pytest.mark.parametrize("evil", [False, True])
@pytest.mark.parametrize("directions", [("min",), ("max", "min")], ids=["one metric", "two metrics"])
def test_every_dot_knows_its_trial(evil: bool, directions: tuple[str, ...]) -> None:
    result = made(evil=evil, directions=directions)
    # Two trials break a constraint, and two lie in one place.
    broken = [dataclasses.replace(row, violations={EVIL: 1.0}) if row.number in (4, 9) else row for row in result.rows]
    twin = dataclasses.replace(broken[1], params=broken[0].params, values=broken[0].values)
    result = dataclasses.replace(result, rows=(broken[0], twin, *broken[2:]))
    rows = {row.number: row for row in result.rows if row.state == "complete"}
    names = list(result.space)

    def at(number: int, name: str) -> str:
        return EVIL_SHOWN if rows[number].params[name] == EVIL else str(rows[number].params[name])

    slices, contour = tuning.slices(result), tuning.contour(result, names[0], names[2])
    for axis, name in slices.layout.meta["axes"].items():
        traces = [trace for trace in slices.data if (trace.xaxis or "x") == axis]
        dots = [dot for trace in traces for dot in zip(trace.customdata, trace.x, trace.y, strict=True)]
        left_out = {4, 9} if name in names[2:] else set()  # Optuna draws no broken constraint over a choice
        assert sorted(number for number, _, _ in dots) == sorted(set(rows) - left_out)
        assert all(at(number, name) == str(x) and rows[number].values[0] == y for number, x, y in dots)
    traces = [trace for trace in contour.data if trace.type == "scatter"]
    dots = [dot for trace in traces for dot in zip(trace.customdata, trace.x, trace.y, strict=True)]
    assert sorted(number for number, _, _ in dots) == sorted(rows)
    assert all((at(number, names[0]), at(number, names[2])) == (str(x), str(y)) for number, x, y in dots)
    # Pointing or clicking between the dots finds no corner of the grid behind it.
    assert [trace.hoverinfo for trace in contour.data if trace.type == "contour"] == ["skip"]


MIXED: dict[str, list[Any]] = {
    "opt": [None, "sgd", 1, 1.5, True], "clip": [None, 0.5, 1.0], "size": [32, 64, 128], "kind": ["1", 1, "<b>1</b>"],
}  # fmt: skip


def mixed() -> SearchResult:
    """A search over choices of every kind, of which each was tried."""
    draw = np.random.default_rng(3)
    rows = tuple(
        TrialResult(
            number=number, state="complete", values=(float(draw.normal()),),
            params={name: choices[(number + at) % len(choices)] for at, (name, choices) in enumerate(MIXED.items())},
            run=None, started=1.7e9 + number, wall_s=1.0, reason=None, violations={}, reports={},
        )
        for number in range(15)
    )  # fmt: skip
    return dataclasses.replace(made(), space=read_space(MIXED, None).to_json(), rows=rows, importances={})


def test_choices_of_every_kind_are_drawn_as_people_write_them() -> None:
    result = mixed()
    names = {"opt": ["None", "sgd", "1", "1.5", "True"], "clip": ["None", "0.5", "1.0"], "size": ["32", "64", "128"]}
    names["kind"] = ["'1'", "1", escape("'<b>1</b>'")]  # quoted, because two would read the same
    rows = {row.number: row for row in result.rows}

    def told(number: int, name: str) -> str:
        value = rows[number].params[name]
        return names[name][[repr(choice) for choice in MIXED[name]].index(repr(value))]

    slices = tuning.slices(result)
    for axis, name in slices.layout.meta["axes"].items():
        assert list(slices.layout[f"xaxis{axis[1:]}"].categoryarray) == names[name]
        (trace,) = (trace for trace in slices.data if (trace.xaxis or "x") == axis)
        dots = list(zip(trace.customdata, trace.x, trace.y, strict=True))
        assert sorted(number for number, _, _ in dots) == sorted(rows)
        assert all(told(number, name) == x and rows[number].value == y for number, x, y in dots)
    for across, up in (("opt", "clip"), ("size", "kind")):
        contour = tuning.contour(result, across, up)
        (trace,) = (trace for trace in contour.data if trace.type == "scatter" and trace.x)
        for number, x, y in zip(trace.customdata, trace.x, trace.y, strict=True):
            assert (told(number, across), told(number, up)) == (str(x), str(y))
    lines = [trace for trace in tuning.parallel(result).data if trace.mode == "lines"]
    for name in ("opt", "clip", "kind"):
        drawn = [dict(tuple(pair) for pair in line.customdata)[name] for line in lines]
        assert sorted(drawn) == sorted(told(number, name) for number in rows)


def test_a_front_draws_its_trials_and_knows_them() -> None:
    result = made(directions=("max", "min"))
    figure = tuning.front(result)
    complete = {row.number: row.values for row in result.rows if row.state == "complete"}
    best = {
        number
        for number, (more, less) in complete.items()
        if not any(a >= more and b <= less and (a, b) != (more, less) for a, b in complete.values())
    }
    others, stand_out = figure.data
    assert set(stand_out.customdata) == best and set(others.customdata) == set(complete) - best
    for trace in figure.data:
        for number, x, y, text in zip(trace.customdata, trace.x, trace.y, trace.text, strict=True):
            assert (x, y) == complete[number] and text.startswith(f"trial {number}<br>")


def test_parallel_lines_are_the_complete_trials() -> None:
    result = made()
    lines = [trace for trace in tuning.parallel(result).data if trace.mode == "lines"]
    shown = [{name: text for name, text in line.customdata} for line in lines]

    def told(value: Any) -> str:
        return f"{value:.3g}" if isinstance(value, float) else str(value)

    complete = [row for row in result.rows if row.state == "complete"]
    want = [{name: told(value) for name, value in row.params.items()} for row in complete]
    want = [{"Validation loss": told(row.value), **texts} for row, texts in zip(complete, want, strict=True)]
    assert sorted(map(str, map(sorted, map(dict.items, shown)))) == sorted(map(str, map(sorted, map(dict.items, want))))
    # Higher is more: the order along an axis is that of the values.
    heights = [line.y[list(texts).index("lr")] for line, texts in zip(lines, shown, strict=True)]
    assert scipy_stats.spearmanr(heights, [float(texts["lr"]) for texts in shown]).statistic == pytest.approx(1)


@pytest.mark.parametrize("direction", ["min", "max"])
def test_darker_is_better(direction: str) -> None:
    result = made(directions=(direction,))
    surface = next(trace for trace in tuning.contour(result).data if trace.type == "contour")
    assert surface.reversescale is (direction == "min")  # Blues go from light to dark


def test_thousands_of_trials_are_thinned_to_the_best_and_the_latest() -> None:
    result = made(600)
    kept = trials.thinned(result, 100)
    best = sorted((row for row in result.rows if row.state == "complete"), key=lambda row: row.value)[:50]
    assert len(kept) == 100 and {row.number for row in best} <= {row.number for row in kept}
    assert [row.number for row in kept] == sorted(row.number for row in kept) and kept[-1].number == 599


@pytest.mark.parametrize("draw", DRAWN, ids=lambda draw: draw.__name__)
def test_nothing_yet_is_said_in_words(draw: Any) -> None:
    empty = dataclasses.replace(made(), rows=(), importances={})
    (said,) = draw(empty).layout.annotations
    assert len(said.text) > 20
