"""The notebook faces in a real JupyterLab: what a user does, click by click, in a headless Chromium."""

from __future__ import annotations

import json
import sys
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nbformat
import numpy as np
import pytest
import torch

from dlstudio.runs.recorder import record
from dlstudio.runs.run import Run, open_run

# No page may ask anything before it lets cells run.
SETTINGS = {
    "apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False, "doNotDisturbMode": True},
    "notebook-extension/tracker": {"autoStartDefaultKernel": True},
}
LOSS, LR, LAYERS = ".dls-card-loss .dls-chart", ".dls-card-lr .dls-chart", ".dls-card-layers .dls-chart"
# A busy machine may take long for anything; a broken face takes for ever.
PATIENCE_MS = 120_000


class Lab:
    """A JupyterLab with one notebook, seen through a page."""

    def __init__(self, address: str, folder: Path, page: Any) -> None:
        self.address, self.page = address, page
        self.notebook = folder / "test.ipynb"
        page.set_default_timeout(PATIENCE_MS)

    def open(self, *cells: str) -> None:
        kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
        notebook = nbformat.v4.new_notebook(
            cells=[nbformat.v4.new_code_cell(cell) for cell in cells], metadata={"kernelspec": kernel}
        )
        nbformat.write(notebook, self.notebook)
        self.load()

    def api(self, path: str, body: dict[str, Any] | None = None) -> Any:
        """Ask Jupyter's own interface; with a body, POST it."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(
            f"{self.address}/api/{path}", data=data, headers={"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request) as answer:
            return json.loads(answer.read() or b"null")

    def load(self) -> None:
        self.page.goto(f"{self.address}/doc/tree/{self.notebook.name}?reset")
        self.page.wait_for_selector(".jp-Cell .cm-content >> visible=true")
        self.wait_for_kernel("idle")

    def run_cell(self, number: int) -> None:
        cell = self.page.locator(".jp-CodeCell").nth(number)
        prompt = cell.locator(".jp-InputPrompt")
        before = prompt.inner_text()
        # A page that has just loaded may not listen to its shortcuts yet, or forget what it was asked to run.
        for _ in range(20):
            cell.locator(".cm-content").click()
            self.page.keyboard.press("Control+Enter")
            self.page.wait_for_timeout(1500)
            if prompt.inner_text() not in (before, "[ ]:"):
                return
        raise AssertionError(f"cell {number} does not run")

    def save(self) -> int:
        """Save the notebook; returns how many bytes it has on disk."""
        before = self.notebook.stat().st_mtime_ns
        for turn in range(600):
            if turn % 50 == 0:  # a notebook that is busy takes no notice
                self.page.keyboard.press("Control+s")
            if self.notebook.stat().st_mtime_ns != before:
                return self.notebook.stat().st_size
            self.page.wait_for_timeout(100)
        raise AssertionError("the notebook was not saved")

    def restart_kernel(self) -> None:
        self.page.get_by_role("menuitem", name="Kernel", exact=True).click()
        self.page.locator(".lm-Menu-item", has_text="Restart Kernel…").first.click()
        self.page.locator("dialog button.jp-mod-accept").click()
        self.page.locator("dialog").wait_for(state="detached")
        self.wait_for_kernel("idle")

    def interrupt_kernel(self) -> None:
        (kernel,) = self.api("kernels")
        self.api(f"kernels/{kernel['id']}/interrupt", {})
        self.wait_for_kernel("idle")

    def wait_for_kernel(self, status: str) -> None:
        self.page.wait_for_selector(f".jp-Notebook-ExecutionIndicator[data-status={status}]", state="attached")
        self.page.locator(".jp-StatusBar-TextItem", has_text=f"| {status.title()}").wait_for()

    def view(self, number: int) -> Any:
        return self.page.locator(".jp-CodeCell").nth(number).locator(".dls-live")

    def wait_for_status(self, number: int, status: str) -> None:
        """Wait until the live view in a cell shows a status."""
        shown = self.view(number).locator(".dls-pill", has_text=status)
        shown.wait_for()

    def last_step(self, number: int, chart: str = LOSS, beyond: float = -1) -> float:
        """Wait until the curve of a chart reaches further than `beyond`; returns how far it reaches."""
        element = self.view(number).locator(chart)
        element.scroll_into_view_if_needed()
        handle = self.page.wait_for_function(
            "([chart, beyond]) => { const x = chart.data?.at(0)?.x; return x && x.at(-1) > beyond && x.at(-1); }",
            arg=[element.element_handle(), beyond],
        )
        return float(handle.json_value())

    def assert_no_fault(self) -> None:
        shown = self.page.locator(".dls-fault:visible")
        assert shown.count() == 0, shown.first.inner_text()
        assert self.page.faults == []


@pytest.fixture
def lab(serve: Callable[..., str], free_port: Callable[[], int], fresh_home: Path, tmp_path: Path, page: Any) -> Lab:
    user, folder = tmp_path / "user", tmp_path / "notebooks"
    folder.mkdir()
    for name, chosen in SETTINGS.items():
        path = user / "settings" / "@jupyterlab" / f"{name}.jupyterlab-settings"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(chosen))
    port = free_port()
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", "--ServerApp.ip=127.0.0.1"]
    command += [f"--ServerApp.port={port}", "--ServerApp.port_retries=0", f"--ServerApp.root_dir={folder}"]
    command += ["--IdentityProvider.token=", "--ServerApp.disable_check_xsrf=True"]
    env = {"HOME": str(user), "JUPYTERLAB_SETTINGS_DIR": str(user / "settings"), "OMP_NUM_THREADS": "1"}
    env |= {"JUPYTERLAB_WORKSPACES_DIR": str(user / "workspaces"), "DLSTUDIO_HOME": str(fresh_home)}
    return Lab(serve(command, port, path="/api/status", env=env), folder, page)


def edits(run: Run) -> list[str]:
    return [event["kind"] for event in run.events() if event["kind"] in ("set", "pause", "resume", "stop")]


@pytest.mark.browser
@pytest.mark.timeout(900)
def test_launch_watch_steer_reload_restart_and_reattach(lab: Lab) -> None:
    page = lab.page
    lab.open(
        "import dlstudio as dls\ndls.launcher()",
        "import time\ntime.sleep(600)",
        'import dlstudio as dls\ndls.show("clicked")',
    )

    # Start by clicking.
    lab.run_cell(0)
    form = page.locator(".dls-launcher")
    form.wait_for()
    form.get_by_label("Name", exact=True).fill("clicked")
    form.get_by_label("Epochs").fill("none")
    form.locator(".dls-field-epochs .dls-error").wait_for()
    form.locator(".dls-start:disabled").wait_for()
    form.get_by_label("Epochs").fill("100000")
    form.locator(".dls-code", has_text="epochs=100000").wait_for()
    form.locator(".dls-start:enabled").click()
    lab.wait_for_status(0, "RUNNING")
    live = lab.view(0)
    assert live.locator(".dls-name").inner_text() == "clicked"
    run = open_run("clicked")

    # The curve grows, and so do the layers.
    first = lab.last_step(0)
    assert lab.last_step(0, beyond=first) > first
    lab.last_step(0, LAYERS)

    # Pause and go on, while a cell is running.
    lab.run_cell(1)
    lab.wait_for_kernel("busy")
    live.get_by_role("button", name="Pause").click()
    lab.wait_for_status(0, "PAUSED")
    assert run.status == "PAUSED"
    live.get_by_role("button", name="Resume").click()
    lab.wait_for_status(0, "RUNNING")

    # Change the learning rate; a wrong one is refused in words.
    live.get_by_label("Learning rate", exact=True).and_(page.locator("input")).fill("-1")
    live.get_by_role("button", name="Apply").click()
    live.locator(".dls-said", has_text="Expected a learning rate above 0").wait_for()
    live.get_by_label("Learning rate", exact=True).and_(page.locator("input")).fill("5e-4")
    live.get_by_role("button", name="Apply").click()
    live.locator(".dls-journal", has_text="0.001 → 0.0005").wait_for()
    chart = live.locator(LR)
    chart.scroll_into_view_if_needed()
    page.wait_for_function(
        """chart => chart.layout?.annotations?.some(note => note.text === 'lr 0.0005')
                 && Math.abs(chart.data[0].y.at(-1) - 0.0005) < 1e-9""",
        arg=chart.element_handle(),
    )
    assert edits(run) == ["pause", "resume", "set"]
    lab.interrupt_kernel()

    # Reload the page: the view is still there and goes on.
    size = lab.save()
    assert size < 2**20
    lab.load()
    lab.wait_for_status(0, "RUNNING")
    before = lab.last_step(0)
    assert lab.last_step(0, beyond=before) > before

    # Restart the kernel: the run goes on, and is found again by its name.
    lab.restart_kernel()
    assert run.status == "RUNNING"
    lab.view(0).scroll_into_view_if_needed()
    lab.view(0).locator(".dls-stale", has_text="again to reattach").wait_for()
    lab.run_cell(2)
    lab.wait_for_status(2, "RUNNING")
    before = lab.last_step(2)
    assert lab.last_step(2, beyond=before) > before
    again = lab.view(2)
    again.locator(".dls-journal", has_text="0.001 → 0.0005").wait_for()

    # Stop, after being asked.
    again.get_by_role("button", name="Stop…").click()
    again.get_by_role("button", name="Keep training").click()
    assert run.status == "RUNNING"
    again.get_by_role("button", name="Stop…").click()
    again.get_by_role("button", name="Yes, stop").click()
    lab.wait_for_status(2, "KILLED")
    assert run.status == "KILLED"
    assert edits(run) == ["pause", "resume", "set", "stop"]
    for name in ("Pause", "Checkpoint now", "Stop…", "Apply"):
        assert again.get_by_role("button", name=name).is_disabled()
    lab.assert_no_fault()

    # A run that is over is shown whole, with nothing left to ask for.
    lab.run_cell(2)
    last = int(run.scalars("loss")[0][-1])
    assert lab.last_step(2, beyond=last - 1) == last
    lab.view(2).and_(lab.page.locator('[data-over="true"]')).wait_for()
    lab.assert_no_fault()
    assert lab.save() < 2**20


EVIL = '<img src=x onerror="window.owned = true">'


@pytest.mark.browser
@pytest.mark.timeout(600)
def test_any_text_of_a_run_is_shown_as_text(lab: Lab) -> None:
    with record(EVIL) as rec:
        for step in range(1, 6):
            rec.log({f"loss {EVIL}": 1.0 / step, f"val/{EVIL}": 0.5, "lr": 1e-3}, step=step)
        rec.log({f"loss {EVIL}": float("nan")}, step=6)
        rec.event("warning", EVIL, step=3)
        (rec.folder / "log.txt").write_text(EVIL)
        key = rec.folder.name
    lab.open(f"import dlstudio as dls\ndls.show({key!r})")
    lab.run_cell(0)
    lab.wait_for_status(0, "FINISHED")
    view = lab.view(0)
    assert view.locator(".dls-name").inner_text() == EVIL
    view.locator(".dls-log", has_text=EVIL).wait_for()
    view.locator(".dls-journal", has_text=EVIL).wait_for()
    lab.last_step(0)
    legend = view.locator(f"{LOSS} .legendtext").first
    legend.wait_for()
    assert EVIL in legend.text_content()
    assert view.locator("img").count() == 0
    assert lab.page.evaluate("window.owned") is None
    lab.assert_no_fault()


@pytest.mark.browser
@pytest.mark.timeout(600)
def test_a_viewer_chooses_what_to_see(lab: Lab) -> None:
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with record("chosen") as rec:
        rec.watch(model, optimizer, every=1)
        for step in range(1, 101):
            loss = model(torch.randn(16, 4)).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            rec.log({"loss": loss, "speed": 1.0 * step, "lr": 0.1}, step=step)
    lab.open('import dlstudio as dls\ndls.show("chosen")')
    lab.run_cell(0)
    lab.wait_for_status(0, "FINISHED")
    assert lab.last_step(0) == 100
    view, page = lab.view(0), lab.page

    loss_chart = view.locator(LOSS).element_handle()
    n_smoothed = page.evaluate("chart => chart.data.length", loss_chart)
    view.get_by_label("Smoothing").focus()
    page.keyboard.press("Home")
    page.wait_for_function("([chart, n]) => chart.data.length < n", arg=[loss_chart, n_smoothed])
    view.get_by_label("Log axis").check()
    page.wait_for_function("chart => chart.layout.yaxis.type === 'log'", arg=loss_chart)

    view.get_by_label("Show").select_option(label="Update ratio")
    view.locator(LAYERS).scroll_into_view_if_needed()
    layers = view.locator(LAYERS).element_handle()
    page.wait_for_function("chart => chart.data?.[0].colorbar.title.text === 'log₁₀ update / weight'", arg=layers)
    steps, names, ratios = open_run("chosen").layers("update_ratio")
    drawn = page.evaluate("chart => chart.data[0].z.map(row => [...row])", layers)
    assert len(drawn) == len(names) and len(drawn[0]) == len(steps)
    np.testing.assert_allclose(drawn, np.log10(ratios).T, atol=6e-4)

    view.locator(f"{LAYERS} .nsewdrag").first.hover()
    readout = view.locator(".dls-readout", has_text="update ratio")
    readout.wait_for()
    name, where, value = readout.inner_text().split(" · ")
    row, column = names.index(name), int(where.removeprefix("step ")) - 1
    assert float(value.removeprefix("update ratio ")) == pytest.approx(float(ratios[column, row]), rel=2e-3)

    # What was chosen is still so after the page has been loaded again.
    lab.save()
    lab.load()
    lab.wait_for_status(0, "FINISHED")
    assert view.get_by_label("Log axis").is_checked()
    assert view.get_by_label("Show").input_value() == "update_ratio"
    assert view.get_by_label("Smoothing").input_value() == "0"
    lab.assert_no_fault()
