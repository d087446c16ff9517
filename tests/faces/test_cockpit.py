"""The cockpit of a search in a real JupyterLab: a click fills the form, and what is asked for is what is tried."""

from __future__ import annotations

import html
import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

import dlstudio as dls
from dlstudio.tuning.search import Search
from dlstudio.tuning.trial_result import TrialResult
from dlstudio.widgets.card import Card
from dlstudio.widgets.cockpit import CURVES, PLANE, SLICES, Cockpit
from tests.waiting import until

EVIL = "<b>x</b><script>alert(1)</script>"
PLACE = """number => {
    const box = document.querySelector(".dls-cockpit .dls-figure"), edge = box.getBoundingClientRect();
    const { xaxis, yaxis } = box._fullLayout;
    const trace = box._fullData.find((one) => one.customdata && [...one.customdata].includes(number));
    const at = [...trace.customdata].indexOf(number);
    return [edge.left + xaxis._offset + xaxis.d2p(trace.x[at]), edge.top + yaxis._offset + yaxis.d2p(trace.y[at])];
}"""

# Where a trial is in space: its values as the scene scales them, through the camera onto the canvas.
PLACE_3D = """number => {
    const box = document.querySelector(".dls-cockpit .dls-figure"), scene = box._fullLayout.scene._scene;
    const trace = box._fullData.find((one) => one.customdata && [...one.customdata].includes(number));
    const at = [...trace.customdata].indexOf(number), { model, view, projection } = scene.glplot.cameraParams;
    const times = (m, v) => [0, 1, 2, 3].map((row) => v.reduce((sum, one, at) => sum + m[4 * at + row] * one, 0));
    const values = ["x", "y", "z"].map((axis, place) => trace[axis][at] * scene.dataScale[place]);
    const seen = [model, view, projection].reduce((v, m) => times(m, v), [...values, 1]);
    const edge = scene.glplot.canvas.getBoundingClientRect();
    return [edge.left + edge.width * (1 + seen[0] / seen[3]) / 2, edge.top + edge.height * (1 - seen[1] / seen[3]) / 2];
}"""
MIXED = {"x": (0.0, 1.0), "clip": [None, 0.5, 1.0], "flag": [True, 1, False], "hidden": [[8], None]}


def waiting(rec: Any, config: dict[str, Any]) -> None:
    """Over at once, or, while there is a file "hold" in the home, only when it is stopped."""
    import os
    from pathlib import Path

    hold = Path(os.environ["DLSTUDIO_HOME"]) / "hold"
    for step in range(1, 2400):
        rec.log({"loss": (config["x"] - 0.3) ** 2 + (config["c"] == "b") + 1 / step}, step=step)
        if step >= 4 and not hold.exists():
            return
        time.sleep(0.05)


def hostile(rec: Any, config: dict[str, Any]) -> None:
    """Its names and its reason are markup."""
    rec.log({EVIL: float(config[EVIL] == EVIL)})
    if config["fails"] == 1:
        raise ValueError(EVIL)


def threefold(rec: Any, config: dict[str, Any]) -> None:
    """Three metrics that pull apart."""
    x = config["x"]
    rec.log({"a": x, "b": (1 - x) ** 2, "c": abs(x - 0.5) + 0.1 * (config["clip"] is None)})


def kill(search: Search) -> None:
    for process in psutil.process_iter(["cmdline"]):
        if str(search.folder) in (process.info["cmdline"] or []):
            process.kill()


@pytest.fixture
def search(home: Path) -> Iterator[Search]:
    """A search that holds after some trials, until one trial after the other is stopped."""
    (home / "hold").unlink(missing_ok=True)
    space = {"x": (0.0, 1.0), "c": ["a", "b"]}
    started = dls.tune(waiting, space, metric="loss", n_trials=60, pruner=None, name="steered")
    until(lambda: len(rows(started, "complete")) >= 6)
    (home / "hold").touch()
    yield started
    (home / "hold").unlink()
    kill(started)


@pytest.fixture(scope="module")
def over(home: Path) -> Search:
    """A search that has ended, with three metrics and choices of every kind."""
    search = dls.tune(
        threefold, MIXED, metric=["a", "b", "c"], direction="min", n_trials=14, sampler="random", pruner=None,
        name="threefold",
    )  # fmt: skip
    return search.wait()


def rows(search: Search, state: str) -> list[TrialResult]:
    return [row for row in search.result(importance=False).rows if row.state == state]


def place_of(page: Any, trial: int, how: str = PLACE) -> list[float]:
    """Where the mark of a trial is on the page."""
    place: list[float] = page.evaluate(how, trial)
    return place


def picture(page: Any, name: str) -> None:
    """Turn to a picture and wait until it is drawn."""
    box = page.locator(".dls-cockpit .dls-figure")
    before = int(box.get_attribute("data-drawn") or 0)
    page.locator(".dls-cockpit").get_by_role("button", name=name, exact=True).click()
    page.wait_for_function(
        "before => Number(document.querySelector('.dls-cockpit .dls-figure').dataset.drawn || 0) > before", arg=before
    )


def cockpit_of(lab: Any, page: Any, name: str) -> Any:
    """Show a search in a notebook; returns its cockpit, once its first picture is drawn."""
    lab(f'import dlstudio as dls\ndls.show("{name}")')
    cockpit = page.locator(".dls-cockpit")
    cockpit.wait_for()
    page.wait_for_selector(".dls-cockpit .dls-figure[data-drawn]")
    return cockpit


@pytest.mark.browser
@pytest.mark.timeout(600)
def test_a_search_is_steered_by_clicking(lab: Any, page: Any, search: Search) -> None:
    cockpit = cockpit_of(lab, page, "steered")
    held = until(lambda: rows(search, "running"))[0]
    said = cockpit.locator(".dls-point-form .dls-message")

    # A click on a trial fills the form with its values; a changed one is tried as soon as the held trial is stopped.
    chosen = rows(search, "complete")[2]
    cockpit.locator(".dls-figure").scroll_into_view_if_needed()
    page.mouse.click(*place_of(page, chosen.number))
    said.get_by_text(f"The values of trial {chosen.number}").wait_for()
    x = cockpit.locator(".dls-parameter-card", has_text="x").locator("input").first
    assert float(x.input_value()) == chosen.params["x"]
    x.fill("0.3125")
    cockpit.get_by_role("button", name="Try these values next").click()
    said.get_by_text("Queued: x = 0.3125").wait_for()
    line = cockpit.locator(f'tr[data-number="{held.number}"]')
    line.get_by_role("button", name="Stop").click()
    cockpit.locator(f'tr[data-number="{held.number}"][data-state="pruned"]').wait_for()
    asked = until(lambda: rows(search, "running"))[0]
    assert asked.params == {"x": 0.3125, "c": chosen.params["c"]}

    # So is a place between the trials.
    picture(page, "Two parameters")
    area = cockpit.locator(".dls-figure .nsewdrag").first.bounding_box()
    page.mouse.click(area["x"] + 0.02 * area["width"], area["y"] + 0.02 * area["height"])
    said.get_by_text("as clicked").wait_for()
    place = float(x.input_value())
    cockpit.get_by_role("button", name="Try these values next").click()
    said.get_by_text(f"Queued: x = {place!r}").wait_for()
    cockpit.locator(f'tr[data-number="{asked.number}"]').get_by_role("button", name="Stop").click()
    later = until(lambda: [row for row in rows(search, "running") if row.number > asked.number])[0]
    assert later.params["x"] == place

    # What cannot be done is said.
    x.fill("7")
    cockpit.get_by_role("button", name="Try these values next").click()
    said.get_by_text("Expected x to be a number of 0 to 1").wait_for()

    # Ranges, pruning, pauses, workers, and the end.
    ends = cockpit.locator(".dls-range input")
    ends.nth(0).fill("0.2")
    cockpit.get_by_role("button", name="Set range").click()
    page.wait_for_selector('.dls-range input[placeholder="0.2"]')
    cockpit.locator(f'tr[data-number="{later.number}"]').get_by_role("button", name="Keep").click()
    cockpit.locator(f'tr[data-number="{later.number}"]', has_text="kept").wait_for()
    cockpit.get_by_role("button", name="Pause").click()
    cockpit.locator('.dls-status[data-status="PAUSED"]').wait_for()
    cockpit.get_by_role("button", name="Resume").click()
    cockpit.locator('.dls-status[data-status="RUNNING"]').wait_for()
    cockpit.get_by_role("button", name="Add a worker").click()
    until(lambda: len(rows(search, "running")) == 2)
    for name in ("Best so far", "Curves", "Importance", "Slices", "All parameters"):
        picture(page, name)
    cockpit.get_by_role("button", name="Stop…").click()
    cockpit.get_by_role("button", name="Yes, stop the search").click()
    cockpit.locator('.dls-status[data-status="KILLED"]').wait_for()
    page.wait_for_selector('.dls-trials[data-over="true"]')
    cockpit.locator("button:disabled", has_text="Try these values next").wait_for()

    kinds = [event["kind"] for event in search.run.events()]
    asked_for = {"enqueue", "set_range", "stop_trial", "keep_trial", "pause", "resume", "add_workers", "stop"}
    assert [kind for kind in kinds if kind in asked_for] == [
        "enqueue", "stop_trial", "enqueue", "stop_trial", "set_range", "keep_trial", "pause", "resume", "add_workers",
        "stop",
    ]  # fmt: skip
    assert page.faults == []
    assert cockpit.locator(".dls-fault").count() == 0


@pytest.mark.browser
@pytest.mark.timeout(600)
def test_a_click_on_a_trial_in_space_fills_the_form(lab: Any, page: Any, over: Search) -> None:
    cockpit = cockpit_of(lab, page, "threefold")
    picture(page, "Front")
    cockpit.locator(".dls-figure").scroll_into_view_if_needed()
    cockpit.locator(".dls-figure .gl-container canvas").first.wait_for()
    said = cockpit.locator(".dls-point-form .dls-message")
    x = cockpit.locator(".dls-parameter-card", has_text="x").locator("input").first
    # Those at both ends, which no other trial hides.
    ordered = sorted(rows(over, "complete"), key=lambda row: row.params["x"])
    for row in (ordered[0], ordered[-1]):
        place = place_of(page, row.number, PLACE_3D)
        page.mouse.move(place[0] + 9, place[1] + 9)
        page.mouse.move(*place, steps=5)
        cockpit.locator(".dls-figure .hovertext", has_text=f"trial {row.number}").wait_for(state="attached")
        page.mouse.click(*place, delay=150)
        said.get_by_text(f"The values of trial {row.number};").wait_for()
        assert float(x.input_value()) == row.params["x"]
        shown = [
            box.evaluate("box => box.selectedOptions[0].text")
            for box in cockpit.locator(".dls-parameter-card select").all()
        ]
        assert shown == [str(row.params[name]) for name in ("clip", "flag", "hidden")]
    assert page.faults == []


def test_a_click_on_a_choice_fills_in_that_very_choice(over: Search) -> None:
    cockpit = dls.show("threefold")
    assert isinstance(cockpit, Cockpit)
    fields = cockpit.form.fields
    for row in rows(over, "complete"):
        cockpit._pick({"trial": row.number, "axes": {}, "exact": True})
        assert repr({name: field.value() for name, field in fields.items()}) == repr(dict(row.params))
        assert not any(field.is_open for field in fields.values())
    for page in (SLICES, PLANE):
        cockpit.pages.value = page
        cockpit.across.value, cockpit.up.value = "flag", "clip"
        figure = cockpit.chart.figure
        assert figure is not None
        axes = {name: axis for axis, name in figure.layout.meta["axes"].items()}
        for name in ("clip", "flag"):
            cockpit.form.fill({})
            for choice in MIXED[name]:
                cockpit._pick({"trial": None, "axes": {axes[name]: str(choice)}, "exact": False})
                assert repr(fields[name].value()) == repr(choice) and not fields[name].is_open
                assert f"{name} as clicked" in cockpit.form.message.value
            assert [field.is_open for field in fields.values()] == [one != name for one in fields]
            cockpit._pick({"trial": None, "axes": {axes[name]: "elsewhere"}, "exact": False})
            assert "as clicked" not in cockpit.form.message.value and not fields[name].is_open


def test_card_and_cockpit_say_what_the_result_says(home: Path) -> None:
    search = dls.tune(waiting, {"x": (0.0, 1.0), "c": ["a", "b"]}, metric="loss", n_trials=6, pruner=None, name="over")
    search.wait()
    result = search.result()
    best = result.best
    assert best is not None
    cockpit, card = dls.show("over"), dls.show(result)
    assert isinstance(cockpit, Cockpit) and isinstance(card, Card) and dls.show(search).result.best == best
    for sentence in search.result(importance=False).summary:
        assert html.escape(sentence) in cockpit.head.value and sentence in repr(card) and sentence in repr(cockpit)
    version, table, over = cockpit._news()
    assert over and cockpit._news()[0] == version and not table["live"]
    assert [row["number"] for row in table["rows"] if row["best"]] == [best.number]
    assert {row["number"]: row["cells"][2] for row in table["rows"]} == {
        row.number: f"{row.value:.5g}" for row in result.rows
    }
    assert all(button.disabled for button in (cockpit.pause, cockpit.stop, cockpit.add, cockpit.form.go))

    # Curves of trials that report nothing come from their runs.
    cockpit.pages.value = CURVES
    assert cockpit.chart.figure is not None
    drawn = {
        (int(number), int(x)): y
        for trace in cockpit.chart.figure.data
        for number, x, y in zip(trace.customdata, trace.x, trace.y, strict=True)
        if y is not None and x == x
    }
    recorded = {}
    for row in result.rows:
        run = search.run_of(row.number)
        assert run is not None
        recorded |= {(row.number, at): value for at, value in enumerate(run.scalars("loss")[1].tolist(), start=1)}
    assert drawn == pytest.approx(recorded)

    # A click on a trial takes its values, one on a place those of the axes.
    cockpit.chart._receive(None, {"type": "pick", "trial": best.number, "axes": {"x": 1, "y": 2}, "exact": True}, [])
    assert {name: field.value() for name, field in cockpit.form.fields.items()} == dict(best.params)
    cockpit.pages.value = PLANE
    assert cockpit.chart.figure is not None
    axes = cockpit.chart.figure.layout.meta["axes"]
    place = {axis: {"x": 0.123456, "c": "b"}[name] for axis, name in axes.items()}
    cockpit.chart._receive(None, {"type": "pick", "trial": None, "axes": place, "exact": False}, [])
    assert {name: field.value() for name, field in cockpit.form.fields.items()} == {"x": 0.123, "c": "b"}
    cockpit.form.enqueue()
    assert "live run" in cockpit.form.message.value  # it is over


def test_names_and_reasons_are_shown_as_text(home: Path) -> None:
    space = {EVIL: [EVIL, "plain"], "fails": [0, 1]}
    search = dls.tune(hostile, space, metric=EVIL, direction="min", n_trials=4, sampler="grid", pruner=None, name=EVIL)
    search.wait()
    cockpit = dls.show(search)
    failed = [row for row in search.result().rows if row.state == "failed"]
    assert len(failed) == 2 and all(EVIL in str(row.reason) for row in failed)
    shown = [part.value for part in (cockpit.head, cockpit.message, cockpit.form.message)]
    shown += [field.children[0].value for field in cockpit.form.fields.values()]
    for page in cockpit.pages.options:
        cockpit.pages.value = page
        plain = json.loads(cockpit.chart.figure.to_json())
        plain["layout"].pop("meta", None)
        shown.append(json.dumps(plain))
    assert not re.search("<b>|<script", "".join(shown))
    _, table, _ = cockpit._news()
    assert {EVIL, "plain"} <= {cell for row in table["rows"] for cell in row["cells"]}  # set as text by the page
