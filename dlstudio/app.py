"""The browser face: serve the Streamlit apps on loopback, and what their pages have in common.

Streamlit is imported only by the functions that draw on a page.
"""

from __future__ import annotations

import contextlib
import html
import importlib
import os
import re
import subprocess
import threading
import time
import urllib.request
import webbrowser
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dlstudio import serving
from dlstudio.errors import DLStudioError
from dlstudio.explain.exploring import evidence
from dlstudio.explain.words import verdict_line
from dlstudio.figures.theme import ACCENT, LINE, MUTED, PAGE, SEVERITY_COLORS, STATUS_COLORS
from dlstudio.results import Finding
from dlstudio.runs.run import list_runs, open_run
from dlstudio.summary.summarize import Summarizer, TrainingSummary
from dlstudio.summary.words import KeyNumber
from dlstudio.tracking.home import find_home

if TYPE_CHECKING:
    import pandas as pd

    from dlstudio.explain.result import Explanation
    from dlstudio.explain.session import Session
    from dlstudio.training.predicted import Predicted

__all__ = [
    "Server",
    "callout",
    "cards",
    "chart",
    "explanations_of",
    "heading",
    "lead",
    "note",
    "paragraphs",
    "pick_run",
    "plain",
    "predictions",
    "run_table",
    "serve",
    "session_of",
    "summary_of",
    "verdict",
    "warm",
]

START_S = 60.0


@dataclass(frozen=True, kw_only=True)
class Server:
    """A running app.

    Attributes:
        url: where it answers, on this machine only.
        process: the server process.
    """

    url: str
    process: subprocess.Popen[bytes]

    def stop(self) -> None:
        """End the server; afterwards its port is free."""
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def serve(app: str = "board", *, port: int | None = None, open_browser: bool = False, block: bool = True) -> Server:
    """Serve an app on the loopback interface of this machine.

    Args:
        app: its name, such as ``"board"``.
        port: where to listen; None takes 8501 or the next free port.
        open_browser: open the page once it answers.
        block: wait until the server ends (Ctrl-C ends it); False returns as soon as the page answers.

    Returns:
        The server; with ``block=False`` it runs on until its `stop`.

    Raises:
        DLStudioError: there is no such app, the port is in use, or the server did not start.

    Example:
        >>> server = serve("board", block=False)
        >>> server.url
        'http://127.0.0.1:8501'
        >>> server.stop()
    """
    port = serving.choose_port(port, serving.APP_PORT)
    command = serving.app_command(app, port)
    environment = {**os.environ, "DLSTUDIO_HOME": str(find_home())}
    server = Server(url=f"http://{serving.LOOPBACK}:{port}", process=subprocess.Popen(command, env=environment))
    try:
        _await_answer(server)
        if open_browser:
            webbrowser.open(server.url)
        if block:
            server.process.wait()
    except KeyboardInterrupt:
        server.stop()
    except BaseException:
        server.stop()
        raise
    return server


def _await_answer(server: Server) -> None:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # a proxy has no business on loopback
    until = time.monotonic() + START_S
    while time.monotonic() < until:
        if server.process.poll() is not None:
            code = server.process.returncode
            raise DLStudioError("a server that starts", f"exit code {code}", "Its message is in the terminal.")
        try:
            with opener.open(f"{server.url}/_stcore/health", timeout=2):
                return
        except OSError:
            time.sleep(0.1)
    raise DLStudioError(f"an answer from {server.url} within {START_S:g} s", "none", "Is the machine overloaded?")


class _Follower:
    """A run that several sessions look at: read once, and again only when its files have changed."""

    def __init__(self, key: str) -> None:
        self._summarizer = Summarizer(open_run(key))
        self._lock = threading.Lock()
        self._stamp: tuple[Any, ...] = ()
        self._summary: TrainingSummary | None = None

    def summary(self) -> TrainingSummary:
        with self._lock:
            stamp = _stamp(self._summarizer.run.folder)
            if self._summary is None or self._summary.live or stamp != self._stamp:
                self._summary, self._stamp = self._summarizer.update(), stamp
            return self._summary


def _stamp(folder: Path) -> tuple[Any, ...]:
    files = [folder / "status.json", folder / "catalogue.json", folder / "environment.json"]
    found = []
    for path in [*files, *sorted((folder / "telemetry").glob("*.arrows"))]:
        try:
            stat = path.stat()
            found.append((path.name, stat.st_mtime_ns, stat.st_size))
        except OSError:
            continue
    return tuple(found)


def summary_of(key: str) -> TrainingSummary:
    """Summarise a run for a page; sessions share the work, and an unchanged run is not read again.

    Args:
        key: its key, name or id.

    Raises:
        DLStudioError: there is no such run.
    """
    import streamlit as st

    @st.cache_resource(max_entries=32, show_spinner=False)
    def follow(home: str, key: str) -> _Follower:
        return _Follower(key)

    return follow(str(find_home()), open_run(key).key).summary()


def explanations_of(key: str) -> dict[str, Explanation]:
    """Read the explanations saved with a run, by method, for a page; read again only when there are others."""
    import streamlit as st

    from dlstudio.explain.session import PREFIX, saved_explanations

    @st.cache_resource(max_entries=16, show_spinner=False)
    def read(folder: str, stamp: tuple[Any, ...]) -> dict[str, Explanation]:
        return saved_explanations(run)

    run = open_run(key)
    files = sorted((run.folder / "results").glob(f"{PREFIX}*.json"))
    return read(str(run.folder), tuple((path.name, path.stat().st_mtime_ns) for path in files))


@contextlib.contextmanager
def session_of(key: str) -> Iterator[Session]:
    """Lend out a run's model and data, made ready to be explained; one page at a time has them.

    Raises:
        DLStudioError: the run cannot be explained again.
    """
    import streamlit as st

    from dlstudio.explain.session import Session

    @st.cache_resource(max_entries=3, show_spinner=False)
    def ready(home: str, key: str) -> tuple[Session, threading.Lock]:
        return Session(key), threading.Lock()

    session, lock = ready(str(find_home()), open_run(key).key)
    with lock:  # explaining hangs hooks on the model, which two pages must not do at once
        yield session


def run_table() -> pd.DataFrame:
    """List the runs for a page (see `list_runs`); sessions share one reading for 1.5 seconds."""
    import streamlit as st

    @st.cache_data(ttl=1.5, show_spinner=False)
    def table(home: str) -> pd.DataFrame:
        return list_runs()

    return table(str(find_home()))


def predictions(key: str) -> Predicted:
    """Read what a run stored of its predictions and its data, for a page; sessions share it until it is rewritten.

    Raises:
        DLStudioError: the run stored none.
    """
    import streamlit as st

    from dlstudio.training.predicted import predictions_of

    @st.cache_resource(max_entries=4, show_spinner=False)
    def read(folder: str, stamp: int) -> Predicted:
        return predictions_of(run)

    run = open_run(key)
    path = run.folder / "results" / "predictions.npz"
    return read(str(run.folder), path.stat().st_mtime_ns if path.exists() else 0)


def pick_run(has: Callable[[str], object]) -> str | None:
    """Draw the choice of a run, which is then the run in the page's address; returns its key, or None without runs.

    Args:
        has: says of a run by its key whether the page has something to show of it; the latest such run is offered
            first.
    """
    import streamlit as st

    frame = run_table()
    names = {str(key): str(name) for key, name in zip(frame["key"], frame["name"], strict=True)}
    if not names:
        st.info("No runs yet. Start one with `dlstudio demo`, `dlstudio train` or from a notebook.")
        return None
    asked = st.query_params.get("run")
    if asked is not None and asked not in names:
        try:
            known = open_run(asked)
            names[known.key] = known.name  # by its name, or newer than the table
            asked = known.key
        except DLStudioError as error:
            note(error)
            asked = None
    if asked is None:
        asked = next((key for key in list(names)[:100] if has(key)), next(iter(names)))
    chosen = st.selectbox(
        "Run", list(names), index=list(names).index(asked), format_func=lambda key: f"{names[key]}  ({key})", key="run"
    )
    if chosen != st.query_params.get("run"):
        st.query_params["run"] = chosen
    return chosen


def chart(figure: object, key: str, alt: str) -> None:
    """Draw a plotly figure as it is; `alt` says what it shows for those who cannot see it."""
    import streamlit as st

    buttons = ["lasso2d", "select2d", "autoScale2d"]
    config = {"displaylogo": False, "modeBarButtonsToRemove": buttons}
    st.plotly_chart(figure, key=key, theme=None, config=config, alt=alt)


_warming = threading.Lock()


def warm() -> None:
    """Import what the next page will need while the reader still looks at this one."""
    if _warming.acquire(blocking=False):  # never released: once is enough

        def load() -> None:
            for module in ("dlstudio.figures.training", "dlstudio.figures.comparison", "scipy.stats"):
                importlib.import_module(module)

        threading.Thread(target=load, daemon=True).start()


def heading(title: object, status: str | None = None) -> None:
    """Draw a page's heading; the title may be any text of a user and is shown as it is, never interpreted."""
    import streamlit as st

    pill = ""
    if status is not None:
        style = (
            "margin-left:.5rem;padding:.2rem .6rem;border-radius:999px;color:#fff;font-size:.75rem;"
            "font-weight:600;letter-spacing:.04em;vertical-align:middle;"
            f"background:{STATUS_COLORS.get(status, MUTED)}"
        )
        pill = f'<span style="{style}">{html.escape(status)}</span>'
    style = "font-size:1.6rem;font-weight:650;margin:0;padding:0;overflow-wrap:anywhere"
    st.html(f'<h1 style="{style}">{html.escape(str(title))} {pill}</h1>')


def note(text: object) -> None:
    """Draw a quiet paragraph; the text is shown as it is, never interpreted."""
    import streamlit as st

    st.html(f'<p style="margin:0;color:{MUTED};overflow-wrap:anywhere">{html.escape(str(text))}</p>')


def lead(text: object, color: str = ACCENT) -> None:
    """Draw the sentence that a page begins with, in a box with an edge of this colour; shown as it is."""
    _box(html.escape(str(text)), color)


def _box(inner: str, color: str) -> None:
    import streamlit as st

    style = (
        f"border:1px solid {LINE};border-left:4px solid {color};background:{PAGE};border-radius:6px;"
        "padding:.6rem .9rem;overflow-wrap:anywhere"
    )
    st.html(f'<div style="{style}">{inner}</div>')


def plain(text: object) -> str:
    """Make any text inert as a label, which Streamlit reads as Markdown with directives and formulas.

    Example:
        >>> plain(":red[$x$]")
        '\\\\:red\\\\[\\\\$x\\\\$\\\\]'
    """
    return re.sub(r"([\\`*_{}\[\]()<>#+\-.!|~:$])", r"\\\1", str(text))


def verdict(explanation: Explanation) -> None:
    """Draw whether an explanation can be believed, with what speaks for that; shown as it is, never interpreted."""
    from dlstudio.figures.explored import VERDICT_COLORS

    rest = "".join(
        f'<div style="margin-top:.15rem"><span style="color:{MUTED}">{html.escape(sentence)}</span>'
        f" {html.escape(remedy)}</div>"
        for sentence, remedy in evidence(explanation)
    )
    _box(html.escape(verdict_line(explanation)) + rest, VERDICT_COLORS[explanation.verdict])


def paragraphs(texts: Iterable[str]) -> None:
    """Draw paragraphs of plain text; they are shown as they are, never interpreted."""
    import streamlit as st

    shown = "".join(f'<p style="margin:0 0 .5rem;max-width:90ch">{html.escape(text)}</p>' for text in texts)
    st.html(f'<div style="overflow-wrap:anywhere">{shown}</div>')


def cards(numbers: Iterable[KeyNumber]) -> None:
    """Draw key numbers side by side, in as many rows as the window needs."""
    import streamlit as st

    style = f"border:1px solid {LINE};border-radius:6px;padding:.6rem .8rem"
    shown = "".join(
        f'<div title="{html.escape(item.meaning)}" style="{style}">'
        f'<div style="color:{MUTED};font-size:.8rem">{html.escape(item.label)}</div>'
        f'<div style="font-size:1.15rem;font-weight:600">{html.escape(item.text)}</div></div>'
        for item in numbers
    )
    grid = "display:grid;grid-template-columns:repeat(auto-fit,minmax(8.5rem,1fr));gap:.6rem"
    st.html(f'<div style="{grid}">{shown}</div>')


def callout(finding: Finding) -> None:
    """Draw a finding: what is so, and what to do; both are shown as they are, never interpreted."""
    rest = f'<div style="color:{MUTED};margin-top:.15rem">{html.escape(finding.remedy)}</div>'
    _box(html.escape(finding.sentence) + rest, SEVERITY_COLORS[finding.severity])
