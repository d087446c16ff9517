"""What stands on a page of the board, opened without a browser, and in a report."""

from __future__ import annotations

import html
import json
import re
from pathlib import Path
from typing import Any

from streamlit.testing.v1 import AppTest

from dlstudio import shipped


def page_of(name: str, run: str = "", /, **state: Any) -> AppTest:
    """Open a page of the board on a run, its controls as given, and expect no exception."""
    opened = AppTest.from_file(shipped.path("apps/board.py"), default_timeout=120)
    if run:
        opened.query_params["run"] = run
    for control, value in state.items():
        opened.session_state[control] = value
    opened.switch_page(f"board_pages/{name}.py").run()
    assert not opened.exception, opened.exception
    return opened


def markup(opened: AppTest) -> str:
    """What a page says in markup of its own."""
    return html.unescape("\n".join(element.proto.body for element in opened.get("html")))


def specs(opened: AppTest) -> list[dict[str, Any]]:
    """The figures of a page."""
    return [json.loads(element.proto.spec) for element in opened.get("plotly_chart")]


def drawn(opened: AppTest) -> list[Any]:
    """The data of the figures of a page."""
    return [figure["data"] for figure in specs(opened)]


def read(path: Path) -> tuple[str, list[Any]]:
    """What a report says, and the data of its figures."""
    written = path.read_text()
    found = re.findall(r"<script[^>]*figure-data[^>]*>(.*?)</script>", written)
    body = html.unescape(written.split("<main>")[1].split("</main>")[0])
    return body, [json.loads(spec)["data"] for spec in found]


def data_of(figure: Any) -> Any:
    """The data of a figure as a page or a report gets them."""
    return json.loads(figure.to_json())["data"]


def shape_of(data: list[Any]) -> list[Any]:
    """Names and words of what is drawn; numbers reach a page in another coding than a report."""
    return [(trace.get("name"), trace.get("type"), trace.get("text"), trace.get("hovertemplate")) for trace in data]
