"""The board in a real browser: it lists runs, opens one, follows a live one, and shows any text as text."""

from __future__ import annotations

import json
import math
import socket
import time
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from dlstudio import app, serving, shipped
from dlstudio.errors import DLStudioError
from dlstudio.runs.recorder import record
from dlstudio.runs.run import list_runs

EVIL = "<script>alert(1)</script> [x](javascript:alert(2)) :red[$x$]"
ROW, HEAD = 35, 35
TABLE = '[data-testid="stDataFrame"]'


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A home with a finished run and one whose texts all carry markup."""
    with pytest.MonkeyPatch.context() as patch:
        path = tmp_path_factory.mktemp("board") / "home"
        patch.setenv("DLSTUDIO_HOME", str(path))
        with record("healthy", config={"data": "mortgage", "model": "mlp", "epochs": 1}) as rec:
            for step in range(1, 11):
                rec.log({"loss": 1 / step, "lr": 0.1}, step=step)
            rec.log({"val/loss": 0.25, "val/accuracy": 0.875, "best/val/loss": 0.25}, step=10)
        with pytest.raises(ValueError, match="img"), record(EVIL, config={"data": EVIL}) as rec:
            rec.log({"loss": math.nan, f"val/{EVIL}": 0.5}, step=1)
            rec.event("warning", EVIL, step=1)
            raise ValueError("<img src=x onerror=alert(3)>")
        yield path


@pytest.fixture(scope="module")
def board(home, free_port):
    server = app.serve("board", port=free_port(), block=False)
    yield server
    server.stop()


def key_of(name: str) -> str:
    frame = list_runs()
    return str(frame[frame["name"] == name]["key"].iloc[0])


def wait_for_table(page, text: str) -> None:
    # The grid draws on a canvas and keeps its cells as an ordinary table inside, for screen readers.
    page.wait_for_function(
        "([table, text]) => [...document.querySelectorAll(table + ' canvas td')].some(td => td.textContent === text)",
        arg=[TABLE, text],
    )


@pytest.mark.browser
def test_a_reviewer_opens_a_run_from_the_table(board, page, tmp_path):
    outside = []
    page.on("request", lambda request: outside.append(request.url) if "127.0.0.1" not in request.url else None)
    page.goto(board.url)
    wait_for_table(page, "healthy")
    wait_for_table(page, EVIL)
    page.screenshot(path=tmp_path / "runs.png")
    names = page.locator(f"{TABLE} canvas tr").all_text_contents()
    row = next(at for at, text in enumerate(names) if "healthy" in text)
    box = page.locator(f"{TABLE} canvas").first.bounding_box()
    page.mouse.click(box["x"] + box["width"] / 4, box["y"] + HEAD + ROW * (row - 0.5))
    page.wait_for_url(f"**/run?run={key_of('healthy')}")
    page.get_by_role("heading", name="healthy").wait_for()
    page.wait_for_selector(".js-plotly-plot .scatterlayer .trace")
    assert page.get_by_text("Training finished after 10 steps").is_visible()
    page.screenshot(path=tmp_path / "run.png")
    assert (tmp_path / "run.png").stat().st_size > 10_000
    assert [url for url in outside if not url.startswith(("data:", "blob:"))] == []
    assert page.dialogs == [] and page.faults == []


@pytest.mark.browser
def test_text_of_a_user_is_text(board, page):
    page.goto(f"{board.url}/?run={key_of(EVIL)}")
    page.get_by_role("heading", name=EVIL).wait_for()
    assert page.locator("h1").inner_text().startswith(EVIL)
    page.get_by_text("The run failed: ValueError: <img src=x onerror=alert(3)>.").wait_for()
    page.wait_for_selector(".js-plotly-plot .main-svg")
    for section in ("Events", "Settings", "Environment", "Log"):
        page.get_by_role("radio", name=section).or_(page.get_by_role("button", name=section)).first.click()
        page.wait_for_timeout(400)
    assert page.locator('[data-testid="stMain"] img').count() == 0
    assert page.locator('[data-testid="stMain"] a[href*="javascript"]').count() == 0
    assert page.dialogs == [] and page.faults == []


@pytest.mark.browser
def test_a_live_run_moves_without_a_reload(board, page):
    def steps() -> int:
        return int(page.locator("text=/^\\d+ of 1,000$/").first.inner_text().split()[0])

    with record("living", config={"epochs": 1}) as rec:
        rec.event("plan", n_steps=1000, n_epochs=1)
        rec.log({"loss": 1.0}, step=7)
        page.goto(f"{board.url}/?run={rec.run.key}")
        page.get_by_role("heading", name="living RUNNING").wait_for()
        page.locator("text=/^7 of 1,000$/").first.wait_for()
        page.evaluate("window.neverReloaded = true")
        for step in range(8, 31):
            rec.log({"loss": 1 / step}, step=step)
        page.locator("text=/^30 of 1,000$/").first.wait_for()
        assert steps() == 30
    page.get_by_role("heading", name="living FINISHED").wait_for()
    assert page.evaluate("window.neverReloaded") is True
    assert page.faults == []


@pytest.mark.browser
def test_a_new_run_comes_into_the_table_by_itself(board, page):
    page.goto(board.url)
    wait_for_table(page, "healthy")
    with record("newcomer") as rec:
        rec.log({"loss": 1.0}, step=1)
        wait_for_table(page, "newcomer")
        wait_for_table(page, "RUNNING")
    assert page.faults == []


def test_the_server_answers_on_loopback_only(board):
    port = int(board.url.rsplit(":", 1)[1])
    tables = [Path("/proc/net/tcp"), Path("/proc/net/tcp6")]
    listening = [line.split() for table in tables if table.exists() for line in table.read_text().splitlines()[1:]]
    addresses = {row[1].split(":")[0] for row in listening if row[3] == "0A" and int(row[1].split(":")[1], 16) == port}
    assert addresses == {"0100007F"}


def test_a_port_in_use_is_named_with_a_free_one():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(DLStudioError, match=rf"{port}, which is in use") as caught:
            app.serve("board", port=port, block=False)
    free = int(caught.value.remedy.split()[-1].rstrip("."))
    assert free != port and serving.choose_port(free, free) == free


def test_an_unknown_app_gets_the_nearest():
    with pytest.raises(DLStudioError, match="Did you mean 'board'"):
        app.serve("bord", block=False)


def test_a_server_that_ends_at_once_is_an_error(monkeypatch):
    monkeypatch.setattr(serving, "app_command", lambda name, port: ["/bin/false"])
    with pytest.raises(DLStudioError, match="exit code 1"):
        app.serve("board", block=False)


def open_board(**query: str) -> AppTest:
    opened = AppTest.from_file(shipped.path("apps/board.py"), default_timeout=60)
    for name, text in query.items():
        opened.query_params[name] = text
    return opened


def texts(opened: AppTest) -> str:
    return "\n".join(element.proto.body for element in opened.get("html"))


@pytest.mark.parametrize("page_file", ["runs", "run", "compare"])
def test_every_page_of_an_empty_studio_says_what_to_do(page_file, fresh_home):
    opened = open_board().switch_page(f"board_pages/{page_file}.py").run()
    assert not opened.exception
    assert opened.info or "No runs yet" in texts(opened)


def test_an_unknown_run_is_told_without_a_stack_trace(home):
    opened = open_board(run="helthy").switch_page("board_pages/run.py").run()
    assert not opened.exception and "Did you mean &#x27;healthy&#x27;" in texts(opened)


def test_filters_narrow_the_table(home):
    opened = open_board().run()
    everything = len(opened.dataframe[0].value)
    opened.text_input(key="search").set_value("HEALTHY mlp").run()
    assert list(opened.dataframe[0].value["Name"]) == ["healthy"] and everything > 1
    opened.text_input(key="search").set_value("").run()
    opened.multiselect(key="status").set_value(["FAILED"]).run()
    assert list(opened.dataframe[0].value["Name"]) == [EVIL]
    opened.text_input(key="search").set_value("(no such [run").run()
    assert not opened.dataframe and "No run matches" in opened.info[0].value


def test_a_run_whose_process_is_gone_is_shown_as_failed(home):
    with record("orphan") as rec:
        rec.log({"loss": 1.0}, step=1)
    path = rec.folder / "status.json"
    status = json.loads(path.read_text())
    worker = status["worker"] | {"pid": 2**22 - 3}
    path.write_text(json.dumps(status | {"status": "RUNNING", "worker": worker, "heartbeat": time.time() - 100}))
    opened = open_board(run=rec.run.key).switch_page("board_pages/run.py").run()
    assert not opened.exception and "FAILED" in texts(opened) and "killed from outside" in texts(opened)
