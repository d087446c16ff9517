"""A report is one file that needs nothing else, runs without a kernel spec, and shows any text as text."""

from __future__ import annotations

import asyncio
import json
import math
import re
from concurrent.futures import ThreadPoolExecutor

import nbformat
import pytest

import dlstudio
from dlstudio import reports
from dlstudio.errors import DLStudioError
from dlstudio.runs.recorder import record

EVIL = "<script>alert(1)</script>"
IMAGE = '<img src="https://example.org/x.png" onerror="alert(2)">'


@pytest.fixture(scope="module")
def run():
    """A failed run whose name, settings, metrics, events and reason all carry markup."""
    with pytest.raises(ValueError, match="img"), record(EVIL, config={"data": IMAGE, EVIL: 1}) as rec:
        for step in range(1, 21):
            rec.log({"loss": math.nan if step == 13 else 1 / step, "lr": 0.1, f"val/{EVIL}": 0.5}, step=step)
        rec.log({"val/loss": 0.25, "val/accuracy": 0.75}, step=20)
        rec.event("warning", IMAGE, step=5)
        raise ValueError(IMAGE)
    return rec.run


@pytest.fixture(scope="module")
def written(run, tmp_path_factory):
    """The report, made where the only kernel spec called python3 is broken."""
    spec = tmp_path_factory.mktemp("jupyter") / "kernels" / "python3" / "kernel.json"
    spec.parent.mkdir(parents=True)
    spec.write_text(json.dumps({"argv": ["/nowhere/python"], "display_name": "broken", "language": "python"}))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JUPYTER_PATH", str(spec.parents[2]))
        return reports.report("training", run=run.name)


def test_the_page_is_one_file_with_plotly_once_and_no_code(written, run):
    assert written == run.folder / "reports" / "training.html"
    page = written.read_text()
    body = page.split("<main>")[1].split("</main>")[0]
    assert page.count("* plotly.js v") == 1
    assert page.count("figure-data") >= 6
    for code in ("import os", "summarize(", "open_run(", "reports.cards", "# Parameters"):
        assert code not in re.sub(r"<script.*?</script>", "", body, flags=re.S), code
    without_data = re.sub(r"<script.*?</script>", "", body, flags=re.S)
    assert not re.search(r"<[a-z][^<>]*\s(src|href|data)=", without_data)
    assert "Training failed after 20 steps" in body and "Training loss was not a finite number at step 13" in body
    assert re.search(r"report written \d{4}-\d\d-\d\d \d\d:\d\d UTC", body)


def test_text_of_a_user_is_text(written):
    body = written.read_text().split("<main>")[1].split("</main>")[0]
    assert "<h1>&lt;script&gt;alert(1)&lt;/script&gt; " in body
    assert "<script>alert" not in body and "<img" not in body


@pytest.mark.browser
def test_a_browser_draws_it_and_fetches_nothing(written, page):
    requests, complaints = [], []
    page.on("request", lambda request: requests.append(request.url))
    page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    page.goto(written.as_uri())
    page.wait_for_selector(".js-plotly-plot .main-svg")
    page.wait_for_function("document.querySelectorAll('.js-plotly-plot').length >= 5")
    assert [url for url in requests if not url.startswith(("file:", "data:", "blob:"))] == []
    assert page.locator("h1").inner_text().startswith(EVIL)
    assert page.locator("main script:not(.figure-data)").count() == 0 and page.locator("main img").count() == 0
    assert page.dialogs == [] and page.faults == [] and complaints == []


@pytest.mark.browser
def test_a_script_that_slipped_in_stays_inert(written, page, tmp_path):
    tampered = tmp_path / "tampered.html"
    tampered.write_text(written.read_text().replace("<main>", "<main><script>window.slipped = 1</script>", 1))
    page.goto(tampered.as_uri())
    page.wait_for_selector(".js-plotly-plot .main-svg")
    assert page.evaluate("window.slipped") is None


def test_it_can_be_made_from_a_running_event_loop_into_a_folder(tmp_path):
    with record("small") as rec:
        rec.log({"loss": 1.0}, step=1)

    async def notebook_cell():
        return dlstudio.report("training", run=rec.run, out=tmp_path)

    with ThreadPoolExecutor(1) as thread:
        path = thread.submit(lambda: asyncio.run(notebook_cell())).result()
    assert path == tmp_path / f"training-{rec.run.key}.html"
    assert "Training finished after 1 step and" in path.read_text()
    assert "Nothing unusual was recorded" in path.read_text()


def test_unknown_names_get_the_nearest(run):
    with pytest.raises(DLStudioError, match="Did you mean 'training'"):
        reports.report("trainin", run=run)
    with record("mortgage-a"):
        pass
    with pytest.raises(DLStudioError, match="Did you mean 'mortgage-a'"):
        reports.report("training", run="mortgage-b")


def template(folder, source):
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source)])
    (folder / "own.ipynb").write_text(nbformat.writes(notebook))
    return folder


def test_a_template_that_fails_says_where_it_is(run, tmp_path, monkeypatch):
    own = template(tmp_path, "raise KeyError('no such column')")
    monkeypatch.setattr(
        reports.shipped, "path", lambda relative: own / relative.removeprefix("notebooks/reports").lstrip("/")
    )
    with pytest.raises(DLStudioError, match=r"no such column.*own.failed.ipynb"):
        reports.report("own", run=run, out=tmp_path / "own.html")
    assert "no such column" in (tmp_path / "own.failed.ipynb").read_text() and not (tmp_path / "own.html").exists()


@pytest.mark.parametrize(
    "markup",
    ['<img src="https://example.org/a.png">', '<link rel="stylesheet" href="//cdn/x.css">',
     '<p style="background: url(http://example.org/x)">'],
)  # fmt: skip
def test_a_template_that_would_fetch_is_refused(markup):
    with pytest.raises(DLStudioError, match="fetches nothing"):
        reports._check_self_contained(markup)
    reports._check_self_contained('<a href="https://example.org">a link</a><img src="data:image/png;base64,AA==">')


def test_a_place_that_cannot_be_written_is_named(run, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(reports, "_execute", lambda *_: nbformat.v4.new_notebook())
    with pytest.raises(DLStudioError, match="place to write the report"):
        reports.report("training", run=run, out=tmp_path / "file" / "report.html")
