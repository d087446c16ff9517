"""What every test relies on: a studio home of its own, and a browser that may not silently be missing."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

REPOSITORY = Path(__file__).parents[1]
LONG = {"benchmarks", "faces", "test_demo.py", "test_pretrained.py", "test_wheel.py"}
"""Folders and files of which one file takes minutes."""
BROWSERS = ("chromium", "chromium-browser", "google-chrome")


@pytest.fixture(scope="session", autouse=True)
def studio_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A studio home in a temporary folder, for the whole session: no test ever touches a real one.

    One home for all, because making a catalogue takes a second. A test that counts runs takes `fresh_home`.
    """
    home = tmp_path_factory.mktemp("studio") / ".dlstudio"
    patch = pytest.MonkeyPatch()
    patch.setenv("DLSTUDIO_HOME", str(home))
    patch.delenv("MLFLOW_TRACKING_URI", raising=False)
    patch.setenv("JUPYTER_PLATFORM_DIRS", "1")
    yield home
    patch.undo()
    _end_processes_under(tmp_path_factory.getbasetemp())


@pytest.fixture
def fresh_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A studio home for one test alone; not there yet."""
    home = tmp_path / "home"
    monkeypatch.setenv("DLSTUDIO_HOME", str(home))
    return home


@pytest.fixture(scope="session")
def repository() -> Path:
    """The checkout the tests lie in."""
    return REPOSITORY


@pytest.fixture(scope="session")
def chromium() -> str:
    """Path of a headless-capable Chromium; the test is skipped without one, or fails where CI is set."""
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        pytest.skip("no Chromium (Debian: apt install chromium)")
    return found


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Where several processes share the files, the long ones come first, so that no process is left with one alone."""
    if hasattr(config, "workerinput"):
        items.sort(key=lambda item: LONG.isdisjoint(item.path.relative_to(REPOSITORY / "tests").parts))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    report = yield
    if report.skipped and os.environ.get("CI") and item.get_closest_marker("browser"):
        report.outcome = "failed"
        report.longrepr = f"skipped, which CI does not allow for a browser test: {report.longrepr}"
    return report


def _end_processes_under(folder: Path) -> None:
    # Supervisors and registrars outlive their starter by design; the session's folders go, and so must they.
    mine = []
    for process in psutil.process_iter():
        try:
            command, home = process.cmdline(), process.environ().get("DLSTUDIO_HOME", "")
        except psutil.Error:
            continue
        ours = any(word.startswith("dlstudio.") for word in command)
        if ours and (home.startswith(str(folder)) or any(word.startswith(str(folder)) for word in command)):
            mine.append(process)
    for process in mine:
        process.terminate()
    for process in psutil.wait_procs(mine, timeout=5)[1]:
        process.kill()
