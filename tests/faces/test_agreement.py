"""Summary, board, report, terminal and widget say the same about one recorded run."""

from __future__ import annotations

import html
import math
import re

import numpy as np
import pytest
from streamlit.testing.v1 import AppTest

from dlstudio import reports, shipped
from dlstudio.runs.recorder import record
from dlstudio.summary.summarize import describe, findings, key_numbers, summarize, verdict
from dlstudio.widgets.feed import Feed


@pytest.fixture(scope="module")
def run():
    with record("agreed", config={"data": "mortgage", "model": "mlp", "epochs": 3}) as rec:
        rec.event("plan", n_steps=30, n_epochs=3, steps_per_epoch=10, n_params=99)
        for epoch in (1, 2, 3):
            for step in range(10 * epoch - 9, 10 * epoch + 1):
                rec.log(
                    {"loss": math.nan if step == 17 else math.exp(-step / 7), "lr": 0.01, "epoch": epoch}, step=step
                )
            rec.log({"val/loss": (0.61234, 0.41234, 0.51234)[epoch - 1], "val/accuracy": 0.7 + epoch / 100}, step=step)
            rec.log(
                {"best/val/loss": (0.61234, 0.41234, 0.41234)[epoch - 1], "throughput_samples_per_s": 4321.0}, step=step
            )
            rec.event("epoch", step=step, epoch=epoch)
    return rec.run


@pytest.fixture(scope="module")
def summary(run):
    return summarize(run)


@pytest.fixture
def board():
    return AppTest.from_file(shipped.path("apps/board.py"), default_timeout=60)


def markup(app) -> str:
    return "\n".join(element.proto.body for element in app.get("html"))


def cards(text: str) -> dict[str, str]:
    """Label and number of every card on a page, board or report."""
    text = html.unescape(re.sub(r'<div class="meaning">.*?</div>', "", text))
    found = re.findall(r"<div[^>]*>([^<>]+)</div>\s*<div[^>]*>([^<>]+)</div>\s*</div>", text)
    return dict(found)


def test_the_board_shows_the_numbers_of_the_summary(board, run, summary):
    board.query_params["run"] = run.key
    board.switch_page("board_pages/run.py").run()
    assert not board.exception
    shown = cards(markup(board))
    assert shown == {item.label: item.text for item in key_numbers(summary)}
    assert shown["Best validation loss"] == "0.4123" and shown["Steps"] == "30 of 30"
    assert verdict(summary) in html.unescape(markup(board))
    for finding in findings(summary):
        assert finding.severity == "info" or finding.sentence in html.unescape(markup(board))


def test_the_run_table_shows_the_same(board, run, summary):
    board.run()
    assert not board.exception
    table = board.dataframe[0].value
    row = table[table["Name"] == "agreed"].iloc[0]
    assert list(row["Status"]) == [summary.status] and row["Epoch"] == "3 of 3" and row["Step"] == summary.n_steps
    assert row["Best validation loss"] == summary.best["val/loss"]
    assert row["Training loss"] == summary.final["loss"]


def test_the_report_shows_the_same(run, summary, tmp_path):
    page = reports.report("training", run=run, out=tmp_path / "report.html").read_text()
    body = page.split("<main>")[1].split("</main>")[0]
    assert cards(body) == {item.label: item.text for item in key_numbers(summary)}
    assert verdict(summary) in html.unescape(body)
    for finding in findings(summary):
        assert finding.severity == "info" or finding.sentence in html.unescape(body)
    values = re.findall(r"<td>Validation accuracy</td><td>([^<]*)</td><td>([^<]*)</td>", body)
    assert values == [("0.72", "0.73")]


def test_the_live_view_shows_the_same(run, summary):
    content, _ = Feed(run).tick(client="test")
    head = content["head"]
    assert (head["status"], head["step"], head["n_steps"]) == (summary.status, summary.n_steps, summary.n_steps_planned)
    assert (head["epoch"], head["n_epochs"]) == (summary.n_epochs, summary.n_epochs_planned)
    assert head["elapsed_s"] == summary.wall_s and head["samples_per_s"] == summary.throughput_samples_per_s
    assert head["n_lost"] == summary.n_lost and head["n_params"] == summary.n_parameters


def test_the_terminal_shows_the_same(summary):
    text = describe(summary)
    for item in key_numbers(summary):
        assert re.search(rf"{re.escape(item.label)} +{re.escape(item.text)}\n", text), item


def test_the_summary_says_what_the_run_recorded(run, summary):
    assert set(summary.curves) == set(run.keys())
    for key, curve in summary.curves.items():
        steps, values = run.scalars(key)
        np.testing.assert_array_equal(summary.final[key], values[-1])
        assert curve.n == len(steps)
    assert summary.best["val/loss"] == run.scalars("val/loss")[1].min()
    assert summary.n_steps == run.scalars("loss")[0][-1]
