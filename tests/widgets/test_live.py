"""The live view without a browser: what it keeps in widget state, what it answers, what it prints as."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import plotly
import pytest

from dlstudio.errors import DLStudioError
from dlstudio.widgets import live
from dlstudio.widgets.live import LiveView, plotly_source
from dlstudio.widgets.show import show

STATIC = Path(live.__file__).parent / "static"


class Wire:
    """What a view sends, caught before the kernel."""

    def __init__(self, view: LiveView, monkeypatch: pytest.MonkeyPatch) -> None:
        self.view, self.sent = view, []
        monkeypatch.setattr(view, "send", lambda content, buffers=None: self.sent.append((content, buffers)))

    def ask(self, **content: Any) -> tuple[dict[str, Any], list[bytes]]:
        self.view._handle_custom_msg({"client": "c", **content}, [])
        return self.sent[-1]


@pytest.fixture
def wire(written: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> tuple[Any, Wire]:
    run = written("live")
    run.scalars({"loss": np.linspace(2, 1, 50), "lr": np.full(50, 1e-3)})
    return run, Wire(LiveView(run.run), monkeypatch)


def test_a_tick_is_answered_to_the_one_who_asked(wire: tuple[Any, Wire]) -> None:
    content, buffers = wire[1].ask(type="tick", ack=0, want=None, stat="grad_norm", group=0)
    assert (content["type"], content["client"], content["reset"]) == ("delta", "c", True)
    assert {entry["key"] for entry in content["curves"]} == {"loss", "lr"}
    assert len(buffers) == 1
    assert len(buffers[0]) == 2 * 50 * (16 + 12 + 4) - 2 * 50 * 4


@pytest.mark.parametrize("name", ["pause", "resume", "stop", "checkpoint"])
def test_a_button_is_journaled(wire: tuple[Any, Wire], name: str) -> None:
    run, line = wire
    content, _ = line.ask(type="command", name=name)
    assert content["ok"], content["words"]
    commands, _ = run.files.commands(0)
    assert [(command["command"], command["arguments"]) for command in commands] == [(name, {})]


def test_a_learning_rate_is_journaled(wire: tuple[Any, Wire]) -> None:
    run, line = wire
    assert line.ask(type="command", name="set", lr=3e-4)[0]["ok"]
    assert run.files.commands(0)[0][0]["arguments"] == {"lr": 3e-4}


@pytest.mark.parametrize("lr", [0, -1.0, "1e-3", None, float("nan"), float("inf")])
def test_a_learning_rate_that_is_none_is_refused_in_words(wire: tuple[Any, Wire], lr: object) -> None:
    run, line = wire
    content, _ = line.ask(type="command", name="set", lr=lr)
    assert not content["ok"] and content["words"].startswith("Expected a learning rate above 0, but got")
    assert run.files.commands(0)[0] == []


@pytest.mark.parametrize("name", ["wait", "__init__", "folder", "", None])
def test_no_other_method_of_a_run_can_be_called(wire: tuple[Any, Wire], name: object) -> None:
    assert not wire[1].ask(type="command", name=name)[0]["ok"]


def test_a_command_to_a_run_that_is_over_is_refused_in_words(wire: tuple[Any, Wire]) -> None:
    run, line = wire
    run.end()
    content, _ = line.ask(type="command", name="pause")
    assert not content["ok"] and "FINISHED" in content["words"]


def test_a_fault_in_the_kernel_reaches_the_viewer(wire: tuple[Any, Wire], monkeypatch: pytest.MonkeyPatch) -> None:
    run, line = wire

    def broken(**_: Any) -> None:
        raise OSError("the disk is gone")

    monkeypatch.setattr(line.view.feed, "tick", broken)
    content, _ = line.ask(type="tick", ack=0)
    assert (content["type"], content["words"]) == ("fault", "OSError: the disk is gone")


def test_plotly_is_the_one_of_the_package(wire: tuple[Any, Wire]) -> None:
    _, buffers = wire[1].ask(type="plotly")
    source = Path(plotly.__file__).parent / "package_data" / "plotly.min.js"
    assert gzip.decompress(buffers[0]) == source.read_bytes()
    assert plotly_source() is buffers[0]
    # The view evaluates it as a CommonJS module.
    assert b'typeof module === "object" && module.exports' in source.read_bytes()[:600]


def test_widget_state_stays_small_whatever_the_run_holds(written: Callable[..., Any]) -> None:
    run = written()
    run.scalars({f"loss/{i}": np.random.default_rng(i).normal(size=20_000) for i in range(8)})
    view = LiveView(run.run)
    view.feed.tick(client="one")
    assert len(json.dumps(view.get_state(), default=str)) < 100_000
    assert len(view._esm.encode()) < 60_000


def test_where_no_widget_can_be_shown_it_is_text(written: Callable[..., Any]) -> None:
    run = written("words")
    run.end("FAILED", reason="out of memory")
    view = LiveView(run.run)
    bundle, _ = view._repr_mimebundle_()
    assert bundle["text/plain"] == repr(view)
    assert repr(view).startswith(f"Run 'words' ({run.run.key}): FAILED")
    assert repr(view).endswith("\nout of memory")
    assert bundle["application/vnd.jupyter.widget-view+json"]["model_id"] == view.model_id


def test_no_script_writes_html() -> None:
    for path in STATIC.glob("*.js"):
        source = path.read_text()
        for unsafe in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval("):
            assert unsafe not in source, f"{path.name} uses {unsafe}"


def test_show_finds_a_run_by_its_name(written: Callable[..., Any]) -> None:
    run = written("first-try")
    assert show("first-try").run == show(run.run).run == run.run
    with pytest.raises(DLStudioError, match="Did you mean 'first-try'"):
        show("frist-try")


def test_show_of_a_result_is_its_table(written: Callable[..., Any]) -> None:
    from dlstudio.summary.summarize import summarize

    run = written()
    run.scalars({"loss": [2.0, 1.0]})
    shown = show(summarize(run.run))
    assert isinstance(shown, pd.DataFrame) and shown["value"].tolist() == [2.0, 1.0]


def test_show_of_anything_else_says_what_it_takes() -> None:
    with pytest.raises(DLStudioError, match="a run, a search, an ablation, the name of one, or a result"):
        show(42)  # type: ignore[arg-type]
