"""The folder of a run: the truth about it on disk, complete without any server or catalogue.

``run.json`` never changes after creation. ``status.json`` is replaced atomically by whoever owns the run at the time:
the supervisor before the trainer starts and after it has ended, the recorder in between. ``control.jsonl`` is a
journal of commands that anyone may append to.
"""

from __future__ import annotations

import getpass
import json
import os
import re
import secrets
import socket
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dlstudio.errors import DLStudioError
from dlstudio.runs import process
from dlstudio.tracking.home import find_home

QUEUED, RUNNING, PAUSED = "QUEUED", "RUNNING", "PAUSED"
FINISHED, FAILED, KILLED = "FINISHED", "FAILED", "KILLED"
_CONTINUED_BY = {"search": "tune", "ablation": "ablate"}
"""The verb that continues a run of a kind, where it is not `launch`."""
_WHEN_KILLED = {
    "fit": "; resume it from its last checkpoint",
    "launch": "; resume it from its last checkpoint",
    "search": "; dlstudio resume continues it with the trials left",
    "ablation": "; dlstudio resume continues it with the runs left",
}
TERMINAL = frozenset({FINISHED, FAILED, KILLED})

HEARTBEAT_LOST_S = 60.0
"""A run on another host whose status was not renewed for so long has lost its heartbeat."""


def write_json(path: Path, value: object) -> None:
    """Replace a JSON file so that a reader sees the old or the new one, never a part."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(2)}")
    try:
        temporary.write_text(json.dumps(value, indent=1, default=str))
        os.replace(temporary, path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object; an absent or unreadable file is an empty one."""
    try:
        value = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


class RunFolder:
    """Access to the files of one run. Cheap to make; holds no open files."""

    def __init__(self, path: Path) -> None:
        self.path = Path(path)

    @property
    def home(self) -> Path:
        """The studio home the run lies in."""
        return self.path.parent.parent

    @property
    def key(self) -> str:
        """Name of the folder, unique in its home."""
        return self.path.name

    @classmethod
    def create(
        cls, name: str | None, *, kind: str, config: Mapping[str, Any], tags: Mapping[str, str] | None = None
    ) -> RunFolder:
        """Make the folder of a new run and announce it to the catalogue.

        Args:
            name: how people call the run; made from `kind` and a number when None.
            kind: ``"record"``, ``"fit"``, ``"launch"`` or ``"trial"``; ``"search"``, ``"ablation"`` or ``"plan"`` for
                one that is made of other runs.
            config: JSON-able settings, the parameters of the run.
            tags: further words about it.

        Raises:
            DLStudioError: the name is empty, too long or not text, or the home cannot be written.
        """
        home = find_home()
        if name is not None and (not isinstance(name, str) or not name.strip() or len(name) > 200 or "\n" in name):
            raise DLStudioError("a run name of 1 to 200 characters on one line", repr(name), "Choose a shorter name.")
        stem = re.sub(r"[^A-Za-z0-9._-]+", "-", name or kind).strip("-.")[:60] or "run"
        try:
            while True:
                path = home / "runs" / f"{stem}-{secrets.token_hex(4)}"
                try:
                    path.mkdir()
                    break
                except FileExistsError:
                    continue
            folder = cls(path)
            now = time.time()
            info = {
                "schema": 1,
                "name": name or path.name,
                "key": path.name,
                "kind": kind,
                "created": now,
                "config": dict(config),
                "tags": dict(tags or {}),
                "user": getpass.getuser(),
                "host": socket.gethostname(),
                "cwd": os.getcwd(),
                "command": [sys.executable, *sys.argv],
                "tracking_uri": os.environ.get("MLFLOW_TRACKING_URI"),
            }
            write_json(path / "run.json", info)
            # A launched run belongs to its supervisor, any other to this process.
            owner = {} if kind == "launch" else {"worker": process.identity()}
            folder.set_status(QUEUED, reason=None, step=None, n_lost=0, **owner)
            folder.activate()
        except OSError as error:
            raise DLStudioError(
                "a studio home that can be written", f"{home} ({error.strerror})", "Set DLSTUDIO_HOME elsewhere."
            ) from error
        return folder

    def activate(self, *, urgent: bool = False) -> None:
        """Tell the registrar that this run has news for the catalogue; `urgent` says that somebody waits for it."""
        marker = self.home / "active" / self.key
        if urgent:
            marker.write_text("urgent")
        else:
            marker.touch()

    @property
    def info(self) -> dict[str, Any]:
        """What was fixed when the run was created (``run.json``)."""
        return read_json(self.path / "run.json")

    @property
    def status(self) -> dict[str, Any]:
        """The status as last written, whether or not its writer still lives."""
        return read_json(self.path / "status.json")

    def set_status(self, status: str | None = None, **changes: Any) -> dict[str, Any]:
        """Merge `changes` into ``status.json``; only the owner of the run may call this.

        Raises:
            OSError: the folder cannot be written.
        """
        merged = {**self.status, **changes, "heartbeat": time.time()}
        if status is not None:
            merged["status"] = status
        write_json(self.path / "status.json", merged)
        return merged

    def settle(self) -> dict[str, Any]:
        """Return the status, after closing a run whose processes are gone.

        Anyone may call this: it only writes when no owner is alive to contradict.
        """
        status = self.status
        if not status or status.get("status") in TERMINAL:
            return status
        supervisor, worker = status.get("supervisor") or {}, status.get("worker") or {}
        owners = [owner for owner in (supervisor, worker) if owner]
        reason = None
        if not owners:
            if time.time() - float(status.get("heartbeat", 0)) > 30:
                reason = "never started: its creator ended before it could"
        elif any(not process.is_here(owner) for owner in owners):
            if time.time() - float(status.get("heartbeat", 0)) > HEARTBEAT_LOST_S:
                reason = f"lost heartbeat of {owners[-1].get('host')}"
        elif not any(process.is_alive(owner) for owner in owners):
            restarted = any(owner.get("boot") != process.boot_id() for owner in owners)
            if restarted:
                reason = "the machine was restarted while the run was going on"
            elif status.get("status") == QUEUED:
                reason = "its process ended before training began"
            else:
                reason = "its process was killed from outside (no exit code was left)"
                reason += _WHEN_KILLED.get(str(self.info.get("kind")), "")
        if reason is None:
            return status
        now = self.status
        if now != status:  # somebody else has closed it meanwhile, or it goes on
            return now
        try:
            return self.set_status(FAILED, reason=reason, ended=status.get("heartbeat", time.time()))
        except OSError:
            return {**status, "status": FAILED, "reason": reason}

    def command(self, command: str, **arguments: Any) -> None:
        """Append a command to the journal; the run's owner executes it within about half a second.

        Raises:
            DLStudioError: the run is over, or the journal cannot be written.
        """
        status = self.settle()
        if status.get("status") in TERMINAL:
            raise DLStudioError(
                f"a live run to {command}",
                f"{self.info.get('name')!r}, which is {status['status']}",
                f"Continue it with dlstudio.{_CONTINUED_BY.get(str(self.info.get('kind')), 'launch')}(resume=…), "
                "or start a new one.",
            )
        line = json.dumps({"time": time.time(), "command": command, "arguments": arguments}) + "\n"
        try:
            with open(self.path / "control.jsonl", "a", encoding="utf-8") as journal:
                journal.write(line)
        except OSError as error:
            raise DLStudioError("a run folder that can be written", str(error), "Check the disk.") from error

    def commands(self, offset: int) -> tuple[list[dict[str, Any]], int]:
        """Commands journaled after byte `offset`, and the offset to ask with next.

        A line that is no JSON object comes as ``{"line": text}``.
        """
        path = self.path / "control.jsonl"
        try:
            if path.stat().st_size <= offset:
                return [], offset
            with open(path, "rb") as journal:
                journal.seek(offset)
                data = journal.read()
        except OSError:
            return [], offset
        whole = data[: data.rfind(b"\n") + 1]
        parsed = []
        for line in filter(bytes.strip, whole.split(b"\n")):
            try:
                found = json.loads(line)
            except (ValueError, RecursionError):
                found = None
            parsed.append(found if isinstance(found, dict) else {"line": line.decode(errors="replace")})
        return parsed, offset + len(whole)
