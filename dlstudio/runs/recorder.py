"""Recording a run: any loop hands over its numbers, a background thread does the rest."""

from __future__ import annotations

import atexit
import threading
import time
import traceback
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from dlstudio.errors import DLStudioError, RunStopped
from dlstudio.runs import folder as states
from dlstudio.runs import process, registrar
from dlstudio.runs.control import Command, Steered
from dlstudio.runs.folder import RunFolder
from dlstudio.runs.outcome import describe_error
from dlstudio.runs.values import PendingRow, plain, scalar_row, whole_step
from dlstudio.telemetry.machine import MachineMonitor
from dlstudio.telemetry.writer import ScalarRow, TelemetryWriter
from dlstudio.tracking import environment

if TYPE_CHECKING:
    import torch

    from dlstudio.runs.run import Run

FLUSH_S = 0.4
"""At most so much telemetry is in memory alone; a killed process loses no more."""
POLL_S = 0.2
MACHINE_S = 1.0
REGISTRAR_CHECK_S = 5.0
MAX_LATEST = 100
"""So many metrics at most are kept in ``status.json`` and mirrored to MLflow."""


class Recorder(Steered):
    """Writes one run; use it as a context manager.

    Afterwards the run has a terminal status: FINISHED, FAILED with the exception, or KILLED when it was stopped. All
    methods return at once: disk, catalogue and device are never waited for, and their failures never reach the loop.

    Args:
        folder: the folder of a run that exists already (see `record`, which makes one).
        resume_step: for a continued run, the step its checkpoint was taken at.
    """

    def __init__(self, folder: RunFolder, *, resume_step: int | None = None) -> None:
        super().__init__(folder)
        self.resume_step = resume_step
        self._rows: list[ScalarRow | PendingRow] = []
        self._events: list[dict[str, Any]] = []
        self._next_step = 0 if resume_step is None else resume_step + 1
        self._latest: dict[str, float] = {}
        self._stop = threading.Event()
        self._flushing = threading.Lock()
        self._status_lock = threading.Lock()
        self._open = False

    # -- life -----------------------------------------------------------------------------------------------------

    def __enter__(self) -> Self:
        self._writer = TelemetryWriter(self._files.path / "telemetry", resumed_at=self.resume_step)
        self._machine = MachineMonitor()
        self._skip_old_commands()
        self._set_status(states.RUNNING, worker=process.identity(), started=time.time(), reason=None, ended=None)
        self._open = True
        if self.resume_step is not None:
            self.event("resumed", f"continued from step {self.resume_step}", step=self.resume_step)
        self._thread = threading.Thread(target=self._background, name="dlstudio-recorder", daemon=True)
        self._thread.start()
        self._files.activate()
        registrar.remember(self._files)
        registrar.ensure(self._files.home)
        _settle_at_exit()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> bool:
        if kind is None:
            self._close(states.FINISHED, None)
        elif issubclass(kind, RunStopped):
            self._close(states.KILLED, str(error) or "stopped on request")
            return True
        elif issubclass(kind, SystemExit) and getattr(error, "code", 1) in (None, 0):
            self._close(states.FINISHED, None)
        elif issubclass(kind, KeyboardInterrupt):
            self._close(states.KILLED, "interrupted from the keyboard")
        else:
            text = "".join(traceback.format_exception(kind, error, tb))
            self._close(states.FAILED, describe_error(error), traceback=text)
        return False

    def _close(self, status: str, reason: str | None, **changes: Any) -> None:
        if not self._open:
            return
        self._open = False
        self._stop.set()
        self._thread.join()
        for watch in self._watches:
            watch.probe.close()
        self._flush(wait=True)
        self._writer.close()
        n_lost = self._writer.n_lost
        self._set_status(
            status,
            reason=reason,
            ended=time.time(),
            n_lost=n_lost,
            step=self._step,
            latest=self._latest,
            **changes,
        )
        registrar.ensure(self._files.home)

    def _set_status(self, status: str | None = None, **changes: Any) -> None:
        try:
            with self._status_lock:  # the background thread and a pause both write it
                self._files.set_status(status, **changes)
        except OSError as error:
            self._writer.warn(error)

    # -- what a loop calls ------------------------------------------------------------------------------------------

    @property
    def run(self) -> Run:
        """The run being recorded, as any reader sees it."""
        from dlstudio.runs.run import Run

        return Run(self._files)

    @property
    def folder(self) -> Path:
        """The run's folder; files put here are artifacts of the run."""
        return self._files.path

    @property
    def _step(self) -> int | None:
        return self._next_step - 1 if self._next_step else None

    @property
    def n_lost(self) -> int:
        """Telemetry rows that could not be written."""
        return self._writer.n_lost

    def log(self, values: Mapping[str, float | torch.Tensor], step: int | None = None) -> None:
        """Record scalars of one step, and carry out what was asked of the run meanwhile.

        A pause blocks here, a stop raises `RunStopped` here.

        Args:
            values: numbers, or one-element tensors on any device; a tensor's value is that at the time of the call,
                and the device is not waited for. NaN and ±inf are recorded as such.
            step: the optimiser step; one more than in the last call when None.

        Raises:
            DLStudioError: a value is no number or a tensor of several elements.
            RunStopped: someone stopped the run.

        Example:
            >>> rec.log({"loss": loss, "lr": 1e-3}, step=step)
        """
        if not self._open:
            raise DLStudioError("an open recorder", "one that is closed", "Log inside `with dls.record(...) as rec:`.")
        if step is None:
            step = self._next_step
        elif step.__class__ is not int:
            step = whole_step(step)
        self._next_step = step + 1
        row: ScalarRow | PendingRow | None = None
        for key, value in values.items():
            if value.__class__ is not float or key.__class__ is not str:
                row = scalar_row(values, step)
                break
        self._rows.append((step, time.time(), dict(values)) if row is None else row)  # type: ignore[arg-type]
        for watch in self._watches:
            watch.logged(step)
        if self._commands and not self.defer_control:
            self._execute(step)

    def watch(
        self,
        model: torch.nn.Module,
        optimizer: torch.optim.Optimizer | None = None,
        *,
        every: int | None = None,
    ) -> None:
        """Record gradient, weight and update norms of every parameter from now on.

        Args:
            model: the module being trained; compiled and wrapped ones included.
            optimizer: the optimiser that steps it; found at its first step when None.
            every: sample every so many optimiser steps. None samples the first steps all and then as often as
                1 % of the training time allows.

        Raises:
            DLStudioError: `model` has no parameters or `every` is below 1.
        """
        from dlstudio.runs.watching import Watch

        if not hasattr(model, "named_parameters") or not any(True for _ in model.parameters()):
            raise DLStudioError(
                "a torch.nn.Module with parameters", type(model).__name__, "Pass the model that is trained."
            )
        if every is not None and (not isinstance(every, int) or every < 1):
            raise DLStudioError("every to be a whole number of 1 or more", f"every={every!r}", "Use 1 for every step.")
        family = "layers" if not self._watches else f"layers{len(self._watches) + 1}"
        self._watches.append(Watch(model, optimizer, every, family))

    def event(self, kind: str, message: str = "", *, step: int | None = None, **data: Any) -> None:
        """Record that something happened; `data` is any JSON-able detail."""
        row = {"step": step, "kind": kind, "message": message, "data": data, "time": time.time()}
        self._events.append(row)

    # -- background ---------------------------------------------------------------------------------------------------

    def _background(self) -> None:
        due = dict.fromkeys(("flush", "machine", "registrar"), time.monotonic())
        while not self._stop.wait(POLL_S):
            try:
                self._tick(due)
            except Exception as error:
                # Whatever goes wrong in here is ours: the user's loop goes on, and the next tick tries again.
                self._writer.warn(error)

    def _tick(self, due: dict[str, float]) -> None:
        self._poll_commands()
        now = time.monotonic()
        if now >= due["flush"]:
            due["flush"] = now + FLUSH_S - POLL_S / 2
            machine = None
            if now >= due["machine"]:
                due["machine"] = now + MACHINE_S - POLL_S / 2
                machine = self._machine.read()
            self._flush(machine=machine)
        if now >= due["registrar"]:
            due["registrar"] = now + REGISTRAR_CHECK_S
            registrar.ensure(self._files.home)

    def flush(self) -> None:
        """Write what has arrived so far; a checkpoint calls this, so that no continued run has a hole before it."""
        self._flush(wait=True)

    def _flush(self, *, wait: bool = False, machine: dict[str, float] | None = None) -> None:
        """Hand everything that has arrived to the writer; `wait` for the device too."""
        with self._flushing:
            rows = self._collect_rows(wait)
            for watch in self._watches:
                layers, norms = watch.sample_rows(final=wait)
                self._writer.layers(watch.family, watch.probe.names, layers)
                rows += [*watch.clip_rows(final=wait), *norms]
            self._writer.scalars(rows)
            for _, _, values in rows:
                self._latest.update(values)
            if len(self._latest) > MAX_LATEST:
                self._latest = dict(list(self._latest.items())[:MAX_LATEST])
            n_events = len(self._events)
            events = self._events[:n_events]
            del self._events[:n_events]
            self._writer.events(events)
            if machine is not None:
                self._writer.machine([(self._next_step - 1, time.time(), machine)])
                self._set_status(step=self._step, latest=self._latest, n_lost=self._writer.n_lost)

    def _collect_rows(self, wait: bool) -> list[ScalarRow]:
        count = len(self._rows)
        taken: list[ScalarRow] = []
        for row in self._rows[:count]:
            if isinstance(row, PendingRow):
                if wait:
                    row.copy.wait()
                elif not row.copy.ready:
                    break
                row = row.arrived()
            taken.append(row)
        del self._rows[: len(taken)]
        return taken


def record(
    name: str | None = None,
    *,
    config: Mapping[str, Any] | None = None,
    tags: Mapping[str, str] | None = None,
) -> Recorder:
    """Record a run from any hand-written loop.

    Afterwards (at the end of the ``with`` block) the run is in the catalogue as a plain MLflow run with its
    parameters, headline metrics, artifacts and final status, and can be opened by its name.

    Args:
        name: what to call the run; names may repeat, the latest is found first.
        config: settings of the run; become MLflow parameters.
        tags: words about the run; become MLflow tags.

    Raises:
        DLStudioError: the name is not usable, or the studio home cannot be written.

    Example:
        >>> with dls.record("my-run", config={"lr": 1e-3}) as rec:
        ...     rec.watch(model, optimizer)
        ...     for step, batch in enumerate(batches):
        ...         rec.log({"loss": train_step(batch)}, step=step)
    """
    config = plain(config or {})
    folder = RunFolder.create(name, kind="record", config=config, tags=tags)
    environment.capture_in_background(folder.path)
    return Recorder(folder)


_waiting = False


def _settle_at_exit() -> None:
    """Have a script that ends wait shortly for the catalogue, so that whoever comes next sees its runs there."""
    global _waiting
    if not _waiting:
        _waiting = True
        atexit.register(registrar.wait_until_catalogued)


__all__ = ["Command", "Recorder", "record"]
