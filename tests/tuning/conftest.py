"""Searches of the tests: of functions, whose workers need no torch, and quickly over."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from dlstudio.tuning.search import Search
from dlstudio.tuning.tune import tune
from tests.waiting import until


def ended(search: Search) -> Search:
    """Wait for the end of a search, but not for its entry in the catalogue."""
    until(lambda: search.state().is_over)
    return search


def processes_of(search: Search, module: str) -> list[psutil.Process]:
    """The coordinator, or the workers, of a search."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        command = process.info["cmdline"] or []
        if command[-2:] == [f"dlstudio.tuning.{module}", str(search.folder)]:
            found.append(process)
    return found


def parabola(rec: Any, config: dict[str, Any]) -> None:
    """Lowest at x = 0.3."""
    rec.log({"loss": (config["x"] - 0.3) ** 2})


def gated(rec: Any, config: dict[str, Any]) -> None:
    """Goes on until the file that it is given is there."""
    for step in range(12_000):
        rec.log({"loss": config["x"]}, step=step)
        if Path(config["gate"]).exists():
            return
        time.sleep(0.05)


def slow(rec: Any, config: dict[str, Any]) -> None:
    """Goes on until it is stopped, or for ten minutes."""
    for step in range(12_000):
        rec.log({"loss": config["x"]}, step=step)
        time.sleep(0.05)


@pytest.fixture
def started(studio_home: Path) -> Iterator[Callable[..., Search]]:
    """Start searches whose processes are gone after the test."""
    searches: list[Search] = []

    def start(what: Any = parabola, space: Any = None, **options: Any) -> Search:
        search = tune(what, {"x": (0.0, 1.0)} if space is None else space, **{"metric": "loss", **options})
        searches.append(search)
        return search

    yield start
    for search in searches:
        left = processes_of(search, "coordinator") + processes_of(search, "worker")
        for process in left:
            process.kill()
        psutil.wait_procs(left, timeout=5)
