"""A real browser and real servers for the faces: headless Chromium, JupyterLab and Streamlit on loopback."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import nbformat
import numpy as np
import pytest

import dlstudio as dls
from dlstudio import serving
from dlstudio.explain.result import Explanation
from dlstudio.explain.session import explain_run, saved_explanations
from dlstudio.runs.run import Run

CHROMIUM_FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
Serve = Callable[..., str]


@pytest.fixture(scope="session")
def free_port() -> Callable[[], int]:
    """Returns a loopback port that is free now, a new one at every call.

    It lies below the ports that the system gives to whoever asks for any, so that nobody has it before it is used.
    """
    places = itertools.count(20_000 + os.getpid() % 10_000)
    return lambda: next(port for port in places if serving.is_free(port))


@pytest.fixture(scope="session")
def browser(chromium: str) -> Iterator[Any]:
    """A headless Chromium, one for the session."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=chromium, args=CHROMIUM_FLAGS)
        yield running
        running.close()


@pytest.fixture
def page(browser: Any) -> Iterator[Any]:
    """A fresh page; errors that its scripts throw are collected in ``page.faults``, its alerts in ``page.dialogs``."""

    def note(dialog: Any) -> None:
        if dialog.type == "beforeunload":  # JupyterLab asks whether to leave
            dialog.accept()
        else:
            opened.dialogs.append(dialog.message)
            dialog.dismiss()

    context = browser.new_context(viewport={"width": 1280, "height": 1000})
    opened = context.new_page()
    opened.set_default_timeout(60_000)
    opened.faults, opened.dialogs = [], []
    opened.on("pageerror", lambda error: opened.faults.append(str(error)))
    opened.on("dialog", note)
    yield opened
    context.close()


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    """Starts a server and returns its address once it answers; ends it with the test.

    ``serve(command, port, path="/", env=None, cwd=None)``.
    """
    running: list[subprocess.Popen[bytes]] = []

    def start(
        command: list[str],
        port: int,
        *,
        path: str = "/",
        env: dict[str, str] | None = None,
        cwd: Path | None = None,
        timeout: float = 60,
    ) -> str:
        log = tmp_path / f"server-{port}.log"
        with open(log, "wb") as output:
            process = subprocess.Popen(
                command,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, **(env or {})},
                cwd=cwd,
                start_new_session=True,
            )
        running.append(process)
        address = f"http://127.0.0.1:{port}"
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            assert process.poll() is None, f"the server ended: {log.read_text(errors='replace')[-4000:]}"
            try:
                with urllib.request.urlopen(address + path, timeout=2):
                    return address
            except (urllib.error.URLError, OSError):
                time.sleep(0.2)
        raise AssertionError(f"no answer from {command[:4]} in {timeout} s: {log.read_text(errors='replace')[-4000:]}")

    yield start
    for process in running:
        _end_session(process)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with pytest.MonkeyPatch.context() as patch:
        path = tmp_path_factory.mktemp("explained") / "home"
        patch.setenv("DLSTUDIO_HOME", str(path))
        yield path


@pytest.fixture(scope="module")
def run(home: Path) -> Run:
    recipe = dls.Recipe(data="mortgage", model="mlp", epochs=2, name="explained", device="cpu")
    return dls.fit(recipe, progress=False)


@pytest.fixture(scope="module")
def explained(run: Run) -> Explanation:
    explain_run(run, np.arange(20, 40), method="integrated_gradients", progress=False)
    return saved_explanations(run)["integrated_gradients"]


@pytest.fixture
def lab(serve: Callable[..., str], free_port: Callable[[], int], home: Path, tmp_path: Path, page: Any) -> Any:
    """Opens a JupyterLab notebook with one cell and runs it in the module's `home`; returns the notebook's path."""
    user, folder = tmp_path / "user", tmp_path / "notebooks"
    settings = user / "settings" / "@jupyterlab" / "apputils-extension" / "notification.jupyterlab-settings"
    settings.parent.mkdir(parents=True)
    folder.mkdir()
    settings.write_text(json.dumps({"fetchNews": "false", "checkForUpdates": False, "doNotDisturbMode": True}))
    port = free_port()
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", "--ServerApp.ip=127.0.0.1"]
    command += [f"--ServerApp.port={port}", "--ServerApp.port_retries=0", f"--ServerApp.root_dir={folder}"]
    command += ["--IdentityProvider.token=", "--ServerApp.disable_check_xsrf=True"]
    env = {"HOME": str(user), "JUPYTERLAB_SETTINGS_DIR": str(user / "settings"), "OMP_NUM_THREADS": "1"}
    env |= {"JUPYTERLAB_WORKSPACES_DIR": str(user / "workspaces"), "DLSTUDIO_HOME": str(home)}
    address = serve(command, port, path="/api/status", env=env)
    page.set_default_timeout(120_000)

    def open_cell(source: str) -> Path:
        kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
        cell = nbformat.v4.new_code_cell(source)
        path = folder / "one.ipynb"
        nbformat.write(nbformat.v4.new_notebook(cells=[cell], metadata={"kernelspec": kernel}), path)
        page.goto(f"{address}/doc/tree/{path.name}?reset")
        page.wait_for_selector(".jp-Cell .cm-content >> visible=true")
        page.locator(".jp-StatusBar-TextItem", has_text="| Idle").wait_for()
        prompt = page.locator(".jp-InputPrompt").first
        for _ in range(20):  # a page that has just loaded may not listen to its shortcuts yet
            page.locator(".jp-CodeCell .cm-content").first.click()
            page.keyboard.press("Control+Enter")
            page.wait_for_timeout(1500)
            if prompt.inner_text() != "[ ]:":
                return path
        raise AssertionError("the cell does not run")

    return open_cell


def _end_session(process: subprocess.Popen[bytes]) -> None:
    """End a server and what it started: first asked, then made to."""
    for how, patience_s in ((signal.SIGTERM, 8), (signal.SIGKILL, 8)):
        try:
            os.killpg(process.pid, how)
        except ProcessLookupError:
            break
        try:
            process.wait(patience_s)
        except subprocess.TimeoutExpired:
            continue
    process.wait(8)
