"""Which device each worker of a search gets."""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path
from typing import Any

import pytest

from dlstudio.runs.folder import RunFolder
from dlstudio.training.leases import try_lease
from dlstudio.tuning import crew as crews
from dlstudio.tuning.crew import Crew


class Worker:
    """Stands for a process that goes on until `code` is set."""

    started: list[Worker] = []

    def __init__(self, command: list[str], *, env: dict[str, str], **options: Any) -> None:
        self.code: int | None = None
        self.gpu = env.get("CUDA_VISIBLE_DEVICES")
        self.pid = len(self.started)
        self.started.append(self)

    def poll(self) -> int | None:
        return self.code

    @property
    def returncode(self) -> int | None:
        return self.code


@pytest.fixture
def folder(studio_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunFolder:
    monkeypatch.setattr(Worker, "started", [])
    monkeypatch.setattr(subprocess, "Popen", Worker)
    monkeypatch.setattr(crews, "gpus", lambda: ["a GPU"] * 3)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))  # leases of GPUs are the machine's
    return RunFolder.create("crew", kind="search", config={})


def test_a_worker_gets_the_device_that_the_fewest_use(folder: RunFolder) -> None:
    crew = Crew(folder, "cuda")
    assert crew.take_devices(2) == "" and crew.devices == ["cuda:0", "cuda:1"]
    for _ in range(2):
        crew.start(2)
    first, second = Worker.started
    assert (first.gpu, second.gpu) == ("0", "1")
    second.code = -9
    assert crew.ended() == {1: -9} and crew.how == {1: "its worker was killed by SIGKILL"} and crew.pids == {0}
    crew.start(2)
    assert Worker.started[2].gpu == "1"  # and not that of the first, which lives
    assert crew.take_devices(5) == "" and crew.devices == ["cuda:0", "cuda:1", "cuda:2"]  # workers were added
    for _ in range(3):
        crew.start(5)
    assert sorted(str(worker.gpu) for worker in Worker.started if worker.code is None) == ["0", "0", "1", "1", "2"]
    crew.release()
    assert crew.devices == []


def test_a_worker_that_does_not_obey_a_stop_is_ended_and_the_others_are_not(
    folder: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[tuple[int, str]] = []
    for how in ("terminate", "kill"):
        monkeypatch.setattr(Worker, how, lambda self, how=how: told.append((self.pid, how)), raising=False)
    crew = Crew(folder, "cpu")
    assert crew.take_devices(1) == ""
    crew.start(2)
    crew.start(2)
    for waited in (59.0, 61.0, 62.0, 71.0):
        crew.press({1: waited})
    assert told == [(1, "terminate"), (1, "kill")]


def test_devices_that_others_hold_are_waited_for_and_taken_when_they_are_free(folder: RunFolder) -> None:
    other, _ = try_lease(folder.home, ["cuda:0", "cuda:1", "cuda:2"], 3, "somebody")
    assert other is not None
    crew = Crew(folder, "cuda")
    assert "cuda:1 (held by somebody)" in crew.take_devices(1) and not crew.devices
    one = Crew(folder, "cuda:1")
    other.release()
    assert one.take_devices(4) == "" and one.devices == ["cuda:1"]
    assert crew.take_devices(3) == "" and crew.devices == ["cuda:0", "cuda:2"]
    one.release()
    assert crew.take_devices(3) == "" and crew.devices == ["cuda:0", "cuda:2", "cuda:1"]
    assert Crew(folder, "cuda:7").take_devices(1) == "devices that are not there"
    crew.release()
