"""A run as its readers see it: found by name, read from its files, steered through its journal."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dlstudio.errors import DLStudioError, unknown_name
from dlstudio.runs import registrar
from dlstudio.runs.control import is_learning_rate
from dlstudio.runs.folder import QUEUED, TERMINAL, RunFolder, read_json
from dlstudio.telemetry.reader import Floats, Ints, Matrix, TelemetryReader, by_key, event_dicts, layer_block
from dlstudio.tracking.home import find_home

if TYPE_CHECKING:
    import pandas as pd

LAYER_QUANTITIES = ("grad_norm", "weight_norm", "update_norm", "update_ratio")


@dataclass(frozen=True, kw_only=True)
class RunState:
    """How a run stands; times are seconds since the epoch.

    Attributes:
        status: QUEUED, RUNNING, PAUSED, FINISHED, FAILED or KILLED.
        reason: why, in words, where there is something to say.
        traceback: of the exception that ended it.
        n_lost: telemetry rows that could not be written.
        step: the latest step, as of at most about a second ago.
        latest: the latest metrics.
    """

    status: str
    reason: str | None = None
    traceback: str | None = None
    pid: int | None = None
    created: float | None = None
    started: float | None = None
    ended: float | None = None
    exit_code: int | None = None
    n_lost: int = 0
    step: int | None = None
    latest: dict[str, float] | None = None

    @property
    def is_over(self) -> bool:
        """Whether the run has ended, well or not."""
        return self.status in TERMINAL


class Run:
    """One run, live or finished. Every property reads the files anew; nothing is cached.

    Example:
        >>> run = dls.open_run("my-run")
        >>> steps, loss = run.scalars("loss")
        >>> run.set(lr=1e-4)
    """

    def __init__(self, files: RunFolder) -> None:
        self._files = files

    def __repr__(self) -> str:
        return f"<Run {self.name!r} {self.status} {self.key}>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Run) and other.folder == self.folder

    def __hash__(self) -> int:
        return hash(self.folder)

    # -- what it is -------------------------------------------------------------------------------------------------

    @property
    def folder(self) -> Path:
        """The run's folder, which MLflow shows as its artifacts."""
        return self._files.path

    @property
    def key(self) -> str:
        """Name of the folder, unique in its home and fixed from the start."""
        return self._files.key

    @property
    def info(self) -> dict[str, Any]:
        """What was fixed at creation: name, kind, config, tags, command, host."""
        return self._files.info

    @property
    def name(self) -> str:
        """What people call the run."""
        return str(self.info.get("name", self.key))

    @property
    def config(self) -> dict[str, Any]:
        """The settings of the run."""
        return dict(self.info.get("config") or {})

    @property
    def id(self) -> str:
        """The MLflow run id; waits for the catalogue where the run has just begun.

        Raises:
            DLStudioError: the catalogue did not take the run within 60 seconds.
        """
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            found = read_json(self.folder / "catalogue.json").get("entry")
            if found:
                return str(found["run_id"])
            self._files.activate(urgent=True)
            registrar.ensure(self._files.home)
            time.sleep(0.05)
        raise DLStudioError(
            "an entry of the run in the MLflow catalogue within 60 s",
            "none",
            f"See {self._files.home / 'registrar.log'}; is MLFLOW_TRACKING_URI reachable?",
        )

    # -- how it stands ------------------------------------------------------------------------------------------------

    def state(self) -> RunState:
        """Return the status with its reason; closes the run first if its processes are gone."""
        status = self._files.settle()
        fields = RunState.__dataclass_fields__
        known = {key: value for key, value in status.items() if key in fields and value is not None}
        worker = status.get("worker") or {}
        return RunState(**{"status": QUEUED, **known, "pid": worker.get("pid"), "created": self.info.get("created")})

    @property
    def status(self) -> str:
        """QUEUED, RUNNING, PAUSED, FINISHED, FAILED or KILLED."""
        return self.state().status

    @property
    def reason(self) -> str | None:
        """Why the run has its status, in words, where there is something to say."""
        return self.state().reason

    def wait(self, timeout: float | None = None) -> Run:
        """Block until the run is over and entered in the catalogue; returns itself.

        Raises:
            DLStudioError: it is not over after `timeout` seconds.
        """
        deadline = math.inf if timeout is None else time.monotonic() + timeout
        while not self.state().is_over:
            if time.monotonic() > deadline:
                raise DLStudioError(
                    f"{self.name!r} to end within {timeout:g} s", f"status {self.status}", "Wait longer, or stop it."
                )
            time.sleep(0.05)
        registrar.wait_until_catalogued([self._files])
        return self

    # -- what it logged -----------------------------------------------------------------------------------------------

    @property
    def _reader(self) -> TelemetryReader:
        return TelemetryReader(self.folder / "telemetry")

    def keys(self) -> list[str]:
        """Names of the scalars logged so far, sorted."""
        found: set[str] = set()
        last = None
        for _, batch in self._reader.batches("scalars"):
            dictionary = batch.column("key").dictionary
            if last is None or not dictionary.equals(last):
                found.update(dictionary.to_pylist())
                last = dictionary
        return sorted(found)

    def series(self, key: str) -> tuple[Ints, Floats, Floats]:
        """Return ``(steps, values, times_s)`` of one scalar, each of shape ``(n,)``; NaN and ±inf included.

        Raises:
            DLStudioError: nothing was logged under `key`.
        """
        parts = [series[1:] for _, batch in self._reader.batches("scalars") for series in by_key(batch, key)]
        if not parts:
            raise unknown_name("scalar", key, self.keys())
        steps, values, times = (np.concatenate(column) for column in zip(*parts, strict=True))
        return steps, values, times

    def scalars(self, key: str) -> tuple[Ints, Floats]:
        """Return ``(steps int64, values float64)`` of one scalar, each of shape ``(n,)``.

        Raises:
            DLStudioError: nothing was logged under `key`.
        """
        steps, values, _ = self.series(key)
        return steps, values

    def layers(self, stat: str = "grad_norm") -> tuple[Ints, list[str], Matrix]:
        """Return ``(steps, names, matrix)`` of a per-parameter quantity.

        Args:
            stat: ``"grad_norm"``, ``"weight_norm"``, ``"update_norm"`` or ``"update_ratio"`` (update over weight).

        Returns:
            Sampled steps of shape ``(n,)``, ``P`` parameter names, float32 of shape ``(n, P)``. Where several models
            were watched, their parameters stand side by side, with NaN where a model was not sampled.

        Raises:
            DLStudioError: the quantity is unknown, or nothing was watched.
        """
        if stat not in LAYER_QUANTITIES:
            raise unknown_name("layer statistic", stat, LAYER_QUANTITIES)
        blocks: dict[str, list[tuple[Ints, list[str], Matrix]]] = {}
        for segment, batch in self._reader.batches():
            if not segment.family.startswith("layers"):
                continue
            block = layer_block(segment.family, batch)
            if stat == "update_ratio":
                with np.errstate(divide="ignore", invalid="ignore"):
                    matrix = block.stats["update_norm"] / block.stats["weight_norm"]
            else:
                matrix = block.stats[stat]
            blocks.setdefault(segment.family, []).append((block.steps, block.names, matrix))
        if not blocks:
            raise DLStudioError(
                "layer statistics in this run", "none", "Call rec.watch(model, optimizer) before training."
            )
        parts = [
            (np.concatenate([s for s, _, _ in found]), found[-1][1], np.concatenate([m for _, _, m in found]))
            for found in blocks.values()
        ]
        if len(parts) == 1:
            return parts[0]
        return _side_by_side(dict(zip(blocks, parts, strict=True)))

    def events(self) -> list[dict[str, Any]]:
        """What happened, in order: ``{"time", "step", "kind", "message", "data"}``."""
        return [event for _, batch in self._reader.batches("events") for event in event_dicts(batch)]

    def machine(self) -> dict[str, tuple[Floats, Floats]]:
        """Machine use by reading: ``(times_s, values)``."""
        parts: dict[str, list[tuple[Floats, Floats]]] = {}
        for _, batch in self._reader.batches("machine"):
            for key, _, values, times in by_key(batch):
                parts.setdefault(key, []).append((times, values))
        return {
            key: (np.concatenate([t for t, _ in found]), np.concatenate([v for _, v in found]))
            for key, found in parts.items()
        }

    def damage(self) -> list[str]:
        """What could not be read of the telemetry, one sentence a file; empty when all is whole."""
        reader = self._reader
        for _ in reader.batches():
            pass
        return reader.damage

    def log_tail(self, n: int = 40) -> str:
        """The last `n` lines that a detached run printed."""
        try:
            with open(self.folder / "log.txt", "rb") as file:
                size = file.seek(0, 2)
                file.seek(max(0, size - 400 * n))
                return "\n".join(file.read().decode("utf-8", "replace").splitlines()[-n:])
        except OSError:
            return ""

    # -- control ------------------------------------------------------------------------------------------------------

    def pause(self) -> None:
        """Ask the run to pause after its current step; it keeps its memory and its device."""
        self._files.command("pause")

    def resume(self) -> None:
        """Ask a paused run to go on. A run that has ended is continued by ``dlstudio.launch(resume=run)``."""
        self._files.command("resume")

    def stop(self) -> None:
        """Ask the run to stop after its current step; it saves a checkpoint and ends as KILLED."""
        self._files.command("stop")

    def checkpoint(self) -> None:
        """Ask the run to save a checkpoint after its current step."""
        self._files.command("checkpoint")

    def set(self, *, lr: float) -> None:
        """Ask the run to go on with learning rate `lr`; a schedule keeps its shape from there.

        Raises:
            DLStudioError: `lr` is not a positive finite number, or the run is over.
        """
        if not is_learning_rate(lr):
            raise DLStudioError("a learning rate above 0", f"lr={lr!r}", "Try lr=1e-4.")
        self._files.command("set", lr=float(lr))


def _side_by_side(parts: dict[str, tuple[Ints, list[str], Matrix]]) -> tuple[Ints, list[str], Matrix]:
    steps = np.unique(np.concatenate([s for s, _, _ in parts.values()]))
    names, columns = [], []
    for number, (part_steps, part_names, matrix) in enumerate(parts.values(), start=1):
        wide = np.full((len(steps), len(part_names)), np.nan, np.float32)
        wide[np.searchsorted(steps, part_steps)] = matrix
        names += part_names if number == 1 else [f"model{number}.{name}" for name in part_names]
        columns.append(wide)
    return steps, names, np.concatenate(columns, axis=1)


def _folders(home: Path) -> list[RunFolder]:
    return [RunFolder(path) for path in (home / "runs").iterdir() if (path / "run.json").exists()]


def open_run(name: str) -> Run:
    """Open a run by its name, its key or its MLflow run id; of several with one name, the latest.

    Raises:
        DLStudioError: there is none; the nearest name is suggested.

    Example:
        >>> dls.open_run("my-run").scalars("loss")
    """
    if isinstance(name, Run):
        return name
    home = find_home()
    direct = home / "runs" / str(name)
    if str(name) and "/" not in str(name) and (direct / "run.json").exists():
        return Run(RunFolder(direct))
    infos = [(folder, folder.info) for folder in _folders(home)]
    named = [(info.get("created", 0.0), folder) for folder, info in infos if info.get("name") == name]
    if named:
        return Run(max(named, key=lambda pair: pair[0])[1])
    for folder, _ in infos:
        if (read_json(folder.path / "catalogue.json").get("entry") or {}).get("run_id") == name:
            return Run(folder)
    raise unknown_name("run", name, {str(info.get("name")) for _, info in infos})


def list_runs(*, status: str | None = None, kind: str | None = None) -> pd.DataFrame:
    """List the runs of the studio home, the newest first.

    Args:
        status: only runs with this status.
        kind: only ``"record"``, ``"fit"`` or ``"launch"``.

    Returns:
        A row per run: ``name, status, kind, created, wall_s, n_steps, reason, key, id``, the settings as ``config.*``
        and the latest value of every metric under its own name.
    """
    import pandas as pd

    rows = []
    for folder in _folders(find_home()):
        info, state = folder.info, Run(folder).state()
        if (status and state.status != status) or (kind and info.get("kind") != kind):
            continue
        begun = state.started or state.created
        until = state.ended or time.time()
        rows.append(
            {
                "name": info.get("name"),
                "status": state.status,
                "kind": info.get("kind"),
                "created": pd.Timestamp(info.get("created", 0), unit="s", tz="UTC"),
                "wall_s": until - begun if begun else math.nan,
                "n_steps": state.step,
                "reason": state.reason,
                "key": folder.key,
                "id": (read_json(folder.path / "catalogue.json").get("entry") or {}).get("run_id"),
                **{f"config.{key}": value for key, value in (info.get("config") or {}).items()},
                **(state.latest or {}),
            }
        )
    columns = ["name", "status", "kind", "created", "wall_s", "n_steps", "reason", "key", "id"]
    if not rows:
        return pd.DataFrame(columns=columns)
    return pd.DataFrame(rows).sort_values("created", ascending=False, ignore_index=True)
