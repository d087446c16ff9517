"""The registrar: one small background process per studio home that keeps the MLflow catalogue.

It enters every run, mirrors its headline metrics from the telemetry log and sets its final status, so that neither a
trainer nor a user's process ever imports MLflow. It starts with the first run, closes runs whose processes died, and
ends when nothing has been going on for a while. Killing it loses nothing: the next run, reader or flush starts
another, which goes on from the files.
"""

from __future__ import annotations

import contextlib
import fcntl
import multiprocessing
import os
import sys
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from dlstudio.runs.folder import QUEUED, TERMINAL, RunFolder, read_json, write_json
from dlstudio.runs.thinned import thinned
from dlstudio.telemetry.reader import TelemetryReader
from dlstudio.tracking import detached
from dlstudio.tracking.catalogue import Catalogue, Entry, Point

TICK_S = 0.25
MIRROR_S = 1.0
IDLE_S = 60.0
MAX_POINTS = 10
"""Of each metric, at most so many points go to MLflow per tick; the telemetry log has all."""
MAX_KEYS_IN_FULL = 50

START_S = 2.0
PATIENCE_S = 3.0

_opened: list[RunFolder] = []
_started: dict[Path, float] = {}


def remember(folder: RunFolder) -> None:
    """Note a run of this process, for `wait_until_catalogued`."""
    if not _opened and multiprocessing.parent_process() is not None:
        # Children of multiprocessing leave without running atexit handlers.
        from multiprocessing.util import Finalize

        Finalize(None, wait_until_catalogued, exitpriority=10)
    _opened.append(folder)


def forget(folder: RunFolder) -> None:
    """Leave a run of this process to the registrar: its end is not waited for when the process ends."""
    with contextlib.suppress(ValueError):
        _opened.remove(folder)


def _lock(home: Path) -> IO[str] | None:
    """The registrar's lock, or None while another process holds it."""
    file = open(home / "registrar.lock", "w")  # noqa: SIM115 - the lock lives as long as the file is open
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        return None
    return file


def ensure(home: Path) -> None:
    """Start the registrar of a home unless one is running; returns at once.

    A home that cannot be written is left alone: the catalogue catches up when it can be.
    """
    if time.monotonic() - _started.get(home, -START_S) < START_S:
        return  # it was started a moment ago and may not hold its lock yet
    with contextlib.suppress(OSError):
        lock = _lock(home)
        if lock is not None:
            lock.close()
            detached.start("dlstudio.runs.registrar", str(home), log=home / "registrar.log", cwd=home)
            _started[home] = time.monotonic()


def wait_until_catalogued(folders: list[RunFolder] | None = None, timeout_s: float = 30.0) -> bool:
    """Wait until finished runs (of this process, by default) have their final entry in the catalogue.

    Returns:
        Whether all of them have.
    """
    waiting = [f for f in (_opened if folders is None else folders) if f.status.get("status") in TERMINAL]
    deadline = time.monotonic() + timeout_s
    for folder in waiting:
        while (folder.home / "active" / folder.key).exists():
            if time.monotonic() > deadline:
                return False
            ensure(folder.home)
            time.sleep(0.05)
    return True


class Mirror:
    """Keeps one run's entry in the catalogue up to date."""

    def __init__(self, folder: RunFolder) -> None:
        self.folder = folder
        found = read_json(folder.path / "catalogue.json")
        self.entry = Entry(**found["entry"]) if "entry" in found else None
        self._shown: tuple[str, str | None] | None = None
        self._reader = TelemetryReader(folder.path / "telemetry", found.get("cursor"))
        self._due = 0.0

    def update(self, catalogue: Catalogue) -> bool:
        """Bring the entry up to date; True when the run is over and its entry final."""
        status = self.folder.settle()
        if not status:
            return True
        name, reason = status.get("status", QUEUED), status.get("reason")
        if self.entry is None:
            self.entry = catalogue.create(self.folder.path, self._info(), name)
            self._save()
        over = name in TERMINAL
        if over or time.monotonic() >= self._due:
            self._due = time.monotonic() + MIRROR_S
            points = list(self._points())
            if points:
                catalogue.log_metrics(self.entry.run_id, points)
            self._save()
        if over:
            self._finish(catalogue)
        if (name, reason) != self._shown:
            ended = status.get("ended") or time.time()
            catalogue.set_status(self.entry.run_id, name, reason=reason, ended_s=ended if over else None)
            self._shown = (name, reason)
        return over

    def _info(self) -> dict[str, Any]:
        """What the run is, with the entry of the run it belongs to as MLflow's own tag for that."""
        info = self.folder.info
        tags = dict(info.get("tags") or {})
        if "parent" in tags:
            entry = read_json(self.folder.path.parent / str(tags["parent"]) / "catalogue.json").get("entry") or {}
            tags |= {"mlflow.parentRunId": entry["run_id"]} if entry else {}
        return {**info, "tags": tags}

    def _points(self) -> Iterator[Point]:
        new = self._reader.read()
        while new:
            full = len(new.scalars) <= MAX_KEYS_IN_FULL
            for key, steps, values, times in new.scalars:
                stride = max(1, -(-len(steps) // MAX_POINTS)) if full else len(steps)
                for row in range((len(steps) - 1) % stride, len(steps), stride):
                    yield key, float(values[row]), int(times[row] * 1e3), int(steps[row])
            if not new.more:
                return
            new = self._reader.read()

    def _finish(self, catalogue: Catalogue) -> None:
        assert self.entry is not None
        git = read_json(self.folder.path / "environment.json").get("git")
        if git:
            catalogue.set_tags(self.entry.run_id, {"mlflow.source.git.commit": git["commit"]})
        if not self.entry.linked:
            catalogue.upload(self.entry.run_id, self.folder.path)
        thinned(self.folder, "loss")  # keeps every curve thinned: who compares a thousand runs finds them ready

    def _save(self) -> None:
        assert self.entry is not None
        state = {"entry": self.entry.as_dict(), "cursor": self._reader.cursor}
        write_json(self.folder.path / "catalogue.json", state)


class Registrar:
    """The loop of the registrar process."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self._mirrors: dict[str, Mirror] = {}
        self._catalogues: dict[str | None, Catalogue] = {}
        self._failed: dict[str, float] = {}

    def _active(self) -> list[str]:
        return sorted(path.name for path in (self.home / "active").iterdir())

    def tick(self) -> bool:
        """Update every active run once; False when there is none."""
        active = self._active()
        for key in sorted(active, key=self._is_child):  # what a run belongs to is entered before it
            if time.monotonic() < self._failed.get(key, 0.0):
                continue
            try:
                self._update(key)
            except Exception:
                # A server that is away or a damaged folder must not keep the other runs from their entries.
                traceback.print_exc()
                self._failed[key] = time.monotonic() + 5.0
        return bool(active)

    def _is_child(self, key: str) -> bool:
        mirror = self._mirrors.get(key)
        info = mirror.folder.info if mirror is not None else RunFolder(self.home / "runs" / key).info
        return "parent" in (info.get("tags") or {})

    def _update(self, key: str) -> None:
        marker = self.home / "active" / key
        folder = RunFolder(self.home / "runs" / key)
        if not folder.path.exists():
            marker.unlink(missing_ok=True)
            return
        mirror = self._mirrors.get(key)
        if mirror is None:
            mirror = self._mirrors[key] = Mirror(folder)
        uri = mirror.entry.tracking_uri if mirror.entry else folder.info.get("tracking_uri")
        catalogue = self._catalogues.get(uri)
        if catalogue is None:
            catalogue = self._catalogues[uri] = Catalogue(self.home, uri)
        if mirror.update(catalogue):
            del self._mirrors[key]
            marker.unlink(missing_ok=True)
            if folder.status.get("status") not in TERMINAL and folder.status:
                marker.touch()  # it was continued in between

    def serve(self) -> None:
        """Run until there has been nothing to do for `IDLE_S`, or the home is gone."""
        last = time.monotonic()
        while time.monotonic() - last < IDLE_S:
            if self.tick():
                last = time.monotonic()
            time.sleep(TICK_S)

    def let_runs_begin(self) -> None:
        """Importing MLflow takes a processor for seconds, and training that is just beginning needs it more.

        Returns as soon as a run is over, someone asks for its entry, or none has begun within `PATIENCE_S`.
        """
        deadline = time.monotonic() + 2 * PATIENCE_S
        while time.monotonic() < deadline:
            active = self._active()
            if not active or not all(map(self._is_beginning, active)):
                return
            time.sleep(0.05)

    def _is_beginning(self, key: str) -> bool:
        folder = RunFolder(self.home / "runs" / key)
        status = folder.status
        if status.get("status") in TERMINAL or (self.home / "active" / key).stat().st_size:
            return False
        begun = status.get("started") if status.get("step") is not None else time.time()
        return time.time() - float(begun or 0.0) < PATIENCE_S

    def is_needed(self) -> bool:
        """Whether any run waits for its entry."""
        return bool(self._active())


def main(home: Path) -> None:
    """Serve a home, unless another process does already."""
    os.environ.pop("MLFLOW_RUN_ID", None)
    registrar = Registrar(home)
    while True:
        lock = _lock(home)
        if lock is None:
            return
        registrar.let_runs_begin()
        registrar.serve()
        lock.close()
        # A run that was announced while the lock was still held relied on this process: look once more.
        if not registrar.is_needed():
            return


if __name__ == "__main__":
    with contextlib.suppress(FileNotFoundError):  # the home was removed: nothing is left to do
        main(Path(sys.argv[1]))
