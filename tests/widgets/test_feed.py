"""The feed against a second reader that only has its answers, and against the run it follows."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from dlstudio.widgets import feed as feeds
from dlstudio.widgets.buckets import quantise
from dlstudio.widgets.delta import decode
from dlstudio.widgets.feed import MAX_DELTA_BYTES, Feed

NAMES = [f"blocks.{i}.weight" for i in range(6)]


class Browser:
    """A plain twin of the view's store: what a browser has after the answers it got."""

    def __init__(self, feed: Feed, name: str = "one") -> None:
        self.feed, self.name, self.seq = feed, name, 0
        self.series: dict[str, list[Any]] = {}
        self.generations: dict[str, int] = {}
        self.sections: dict[str, Any] = {}
        self.events: list[dict[str, Any]] = []
        self.sizes: list[int] = []

    def tick(self, **request: Any) -> dict[str, Any]:
        content, data = self.feed.tick(client=self.name, ack=self.seq, **request)
        text = json.dumps(content, allow_nan=False)
        self.sizes.append(len(text) + len(data))
        content = json.loads(text)
        if content["reset"]:
            self.series, self.generations, self.sections, self.events = {}, {}, {}, []
        assert content["reset"] or content["seq"] == self.seq + 1
        self.seq = content["seq"]
        names = ("head", "run", "keys", "machine_keys", "damage", "traceback", "log")
        self.sections |= {name: content[name] for name in names if name in content}
        self.events += content.get("events", [])
        arrays = decode(content, data)
        entries = {f"{entry['family']}:{entry['key']}": entry for entry in content["curves"]}
        if "layers" in content:
            entries["layers"] = content["layers"]
        for name, entry in entries.items():
            if self.generations.get(name) != entry["gen"]:
                assert entry["start"] == 0
                self.generations[name], self.series[name] = entry["gen"], []
            buckets = self.series[name]
            assert entry["start"] <= len(buckets)
            del buckets[entry["start"] :]
            places, values = arrays[name][:2]
            buckets.extend(zip(places.tolist(), values.tolist(), strict=True))
            if name != "layers":
                marks = zip(arrays[name][2].tolist(), arrays[name][3].tolist(), strict=True)
                self.series[f"{name} marks"] = [
                    mark for mark in self.series.get(f"{name} marks", []) if mark[1][0] < entry["start"]
                ] + list(marks)
        return content

    def drain(self, **request: Any) -> dict[str, Any]:
        for _ in range(200):
            content = self.tick(**request)
            if not content["more"]:
                return content
        raise AssertionError("the feed never comes to an end")

    def assert_has_all(self, stat: str = "grad_norm") -> None:
        for key, curve in self.feed.curves.items():
            places, values, bad_x, bad = curve.points()
            name = f"scalar:{key}"
            np.testing.assert_array_equal([place for place, _ in self.series[name]], places)
            np.testing.assert_array_equal(np.array([v for _, v in self.series[name]], np.float32), values)
            assert self.series[f"{name} marks"] == list(zip(bad_x.tolist(), bad.tolist(), strict=True))
        for layers in self.feed.layers.values():
            steps, norms = layers.columns(stat)
            np.testing.assert_array_equal([step for step, _ in self.series["layers"]], steps)
            np.testing.assert_array_equal([codes for _, codes in self.series["layers"]], quantise(norms))


def norms(rng: np.random.Generator, n: int, n_layers: int = 6) -> np.ndarray:
    return 10.0 ** rng.normal(-2, 1, size=(n, 3, n_layers))


def test_a_browser_that_gets_every_difference_has_the_whole(written: Callable[..., Any]) -> None:
    rng, run, step = np.random.default_rng(0), written(), 1
    browser = Browser(Feed(run.run))
    for _ in range(40):
        n = int(rng.integers(1, 200))
        values = rng.normal(size=(2, n))
        values[0][rng.random(n) < 0.02] = math.nan
        run.scalars({"loss": values[0], "val/loss": values[1]}, step)
        run.layers(NAMES, norms(rng, n), step)
        step += n
        browser.drain()
        browser.assert_has_all()
    assert browser.feed.curves["loss"].size > 1, "the test has to see merges"
    assert browser.feed.curves["loss"].n_points == step - 1


def test_only_what_changed_is_sent(written: Callable[..., Any]) -> None:
    run = written()
    run.scalars({"loss": np.arange(300.0), "val/loss": np.arange(300.0)})
    browser = Browser(Feed(run.run))
    browser.drain()
    quiet = browser.tick()
    assert quiet["curves"] == [] and "layers" not in quiet and "keys" not in quiet
    run.scalars({"loss": [5.0]}, 301)
    one = browser.tick()
    assert [(entry["key"], entry["start"], entry["n"]) for entry in one["curves"]] == [("loss", 300, 1)]
    assert browser.sizes[-1] < 2_000


def test_no_answer_is_larger_than_its_limit(written: Callable[..., Any]) -> None:
    rng, run = np.random.default_rng(0), written()
    names = [f"encoder.layers.{i}.self_attention.projection.weight" for i in range(200)]
    curves = {f"loss/{i}": rng.normal(size=100_000) for i in range(8)}
    curves["loss/3"][::7] = np.inf
    run.scalars(curves)
    run.layers(names, norms(rng, 2_000, 200))
    run.machine(cpu_percent=50.0, rss_mib=800.0)
    (run.files.path / "log.txt").write_text("<b>line</b>\n" * 10_000)
    for number in range(900):
        run.event("warning", "x" * 300, step=number)
    browser = Browser(Feed(run.run))
    browser.drain()
    browser.assert_has_all()
    assert all(len(series) <= 400 for series in browser.series.values())
    for number in range(5):
        run.scalars({key: rng.normal(size=9_000) for key in curves}, 100_001 + 9_000 * number)
        browser.drain()
    browser.drain(stat="weight_norm")
    browser.assert_has_all("weight_norm")
    assert max(browser.sizes) <= MAX_DELTA_BYTES
    assert len(browser.events) == 500


def test_two_browsers_do_not_disturb_each_other(written: Callable[..., Any]) -> None:
    rng, run = np.random.default_rng(0), written()
    feed = Feed(run.run)
    first, second = Browser(feed, "first"), Browser(feed, "second")
    for number in range(12):
        run.scalars({"loss": rng.normal(size=100)}, 1 + 100 * number)
        run.layers(NAMES, norms(rng, 3), 1 + 100 * number)
        first.drain()
        if number % 3 == 0:
            second.drain(stat="update_ratio")
    second.drain(stat="update_ratio")
    first.assert_has_all()
    second.assert_has_all("update_ratio")


def test_a_lost_answer_makes_the_feed_begin_anew(written: Callable[..., Any]) -> None:
    run = written()
    run.scalars({"loss": np.arange(50.0)})
    browser = Browser(Feed(run.run))
    browser.drain()
    run.scalars({"loss": np.arange(10.0)}, 51)
    browser.feed.tick(client="one", ack=browser.seq)  # never arrives
    again = browser.tick()
    assert again["reset"]
    browser.assert_has_all()


def test_a_run_continued_from_an_earlier_step_is_told_anew(written: Callable[..., Any]) -> None:
    run = written()
    run.scalars({"loss": np.full(100, 1.0)})
    browser = Browser(Feed(run.run))
    browser.drain()
    run.resume(60)
    run.scalars({"loss": np.full(20, 2.0)}, 61)
    assert browser.drain() is not None
    browser.assert_has_all()
    values = [values[0] for _, values in browser.series["scalar:loss"]]
    assert values == [1.0] * 60 + [2.0] * 20


def test_the_head_says_how_the_run_stands(written: Callable[..., Any]) -> None:
    run = written("<b>bold</b>")
    run.event("plan", n_steps=1_000, n_epochs=10, n_params=42)
    run.scalars({"loss": np.arange(250.0), "throughput_samples_per_s": np.full(250, 640.0)})
    run.event("epoch", step=100, epoch=1)
    run.event("epoch", step=200, epoch=2)
    run.event("set", "learning rate set to 0.0001", step=210, lr=1e-4, old=1e-3)
    browser = Browser(Feed(run.run))
    assert browser.drain()["over"] is False
    head = browser.sections["head"]
    assert (head["status"], head["live"], head["n_params"]) == ("RUNNING", True, 42)
    assert (head["step"], head["n_steps"], head["epoch"], head["n_epochs"]) == (250, 1_000, 2, 10)
    assert head["samples_per_s"] == 640.0
    assert head["steps_per_s"] == pytest.approx(1_000, rel=0.05)
    assert head["left_s"] == pytest.approx(0.75, rel=0.05)
    assert browser.sections["run"]["name"] == "<b>bold</b>"
    assert [(event["kind"], event["data"]) for event in browser.events] == [("set", {"lr": 1e-4, "old": 1e-3})]


def test_an_edit_is_not_lost_among_a_thousand_checkpoints(written: Callable[..., Any]) -> None:
    run = written()
    run.event("set", step=1, lr=1e-4)
    browser = Browser(Feed(run.run))
    for part in range(3):
        for number in range(400):
            run.event("checkpoint", step=400 * part + number)
        browser.drain()
    kinds = [(event["kind"], event["step"]) for event in browser.events]
    assert kinds == [("set", 1), ("checkpoint", 399), ("checkpoint", 799), ("checkpoint", 1199)]
    assert [event["kind"] for event in browser.feed.progress.events] == ["set", "checkpoint"]


def test_a_huge_event_is_cut(written: Callable[..., Any]) -> None:
    run = written()
    run.event("warning", "w" * 100_000, step=1, detail="d" * 100_000)
    run.event("set", "after it", step=2)
    browser = Browser(Feed(run.run))
    browser.drain()
    assert [event["message"] for event in browser.events] == ["w" * 500, "after it"]
    assert max(browser.sizes) <= MAX_DELTA_BYTES


def test_the_end_of_a_run_is_said_with_its_reason(written: Callable[..., Any], monkeypatch: Any) -> None:
    monkeypatch.setattr(feeds, "STATE_S", 0)
    run = written()
    run.scalars({"loss": [1.0, math.nan]})
    browser = Browser(Feed(run.run))
    browser.drain()
    run.scalars({"loss": [7.0]}, 3)
    run.end("FAILED", reason="ValueError: broken", traceback="Traceback\nValueError: broken", n_lost=12)
    last = browser.drain()
    assert last["over"] is True
    head = browser.sections["head"]
    assert (head["status"], head["reason"], head["n_lost"]) == ("FAILED", "ValueError: broken", 12)
    assert head["left_s"] is None
    assert browser.sections["traceback"].endswith("ValueError: broken")
    assert browser.series["scalar:loss"][-1][1][0] == 7.0


def test_a_finished_run_is_read_to_its_end_however_many_ticks_that_takes(
    written: Callable[..., Any], monkeypatch: Any
) -> None:
    monkeypatch.setattr(feeds, "READ_S", 0.0)
    run = written()
    for number in range(30):
        run.scalars({"loss": np.arange(100.0)}, 1 + 100 * number)
    run.end()
    browser = Browser(Feed(run.run))
    assert browser.drain()["over"] is True
    assert browser.feed.curves["loss"].n_points == 3_000
    browser.assert_has_all()


def test_a_browser_may_ask_for_nothing_sensible(written: Callable[..., Any]) -> None:
    run = written()
    run.scalars({"loss": [1.0]})
    browser = Browser(Feed(run.run))
    content = browser.tick(want=["none", 3, "loss"], stat="grad_norm", group=99)
    assert [entry["key"] for entry in content["curves"]] == ["loss"]


def test_forgotten_browsers_are_forgotten(written: Callable[..., Any]) -> None:
    run = written()
    run.scalars({"loss": [1.0]})
    feed = Feed(run.run)
    for number in range(100):
        Browser(feed, str(number)).drain()
    assert len(feed._clients) == feeds.MAX_CLIENTS
