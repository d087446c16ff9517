"""What a run is asked to do while it goes on: commands from its journal, carried out by its loop between two steps."""

from __future__ import annotations

import sys
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dlstudio.errors import RunStopped
from dlstudio.runs.folder import PAUSED, RUNNING, RunFolder

if TYPE_CHECKING:
    from dlstudio.runs.watching import Watch

COMMANDS: dict[str, set[str]] = {"pause": set(), "resume": set(), "stop": set(), "checkpoint": set(), "set": {"lr"}}
"""What a run can be asked for, and what has to be said with it."""


def is_learning_rate(value: Any) -> bool:
    """Tell whether a value is a finite number above 0."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value <= sys.float_info.max


@dataclass(frozen=True, slots=True)
class Command:
    """A command from the journal, such as ``Command("set", {"lr": 1e-4})``."""

    name: str
    arguments: dict[str, Any]

    @classmethod
    def read(cls, line: dict[str, Any]) -> Command:
        """Read a line of the journal, which anyone may have written.

        Raises:
            ValueError: it is no command, or its arguments are not what the command takes.
        """
        name, arguments = line.get("command"), line.get("arguments") or {}
        if not isinstance(name, str) or name not in COMMANDS:
            raise ValueError(f"there is no command {str(line.get('line', name))[:80]!r}")
        if not isinstance(arguments, dict) or set(arguments) != COMMANDS[name]:
            takes = " and ".join(COMMANDS[name]) or "nothing"
            raise ValueError(f"{name} takes {takes}, not {str(arguments)[:80]}")
        if name == "set" and not is_learning_rate(arguments["lr"]):
            raise ValueError(f"a learning rate is a number above 0, not {str(arguments['lr'])[:80]}")
        return cls(name, arguments)


class Steered(ABC):
    """The side of a recorder that listens: reads the commands to its run and carries them out between two steps.

    This is a base and no part of the recorder: a part that calls back would make a circle of references, and the
    watched model and its optimiser would stay in memory until the garbage collector comes round.

    Args:
        files: the folder with the journal.
    """

    def __init__(self, files: RunFolder) -> None:
        self._files = files
        self._watches: list[Watch] = []
        self.defer_control = False
        """True leaves commands to the loop, which asks with `take_commands` (distributed training)."""
        self._handlers: dict[str, Callable[..., Any]] = {}
        self._commands: deque[Command] = deque()
        self._control_offset = 0

    @abstractmethod
    def event(self, kind: str, message: str = "", *, step: int | None = None, **data: Any) -> None:
        """Record that something happened; `data` is any JSON-able detail."""

    @abstractmethod
    def _set_status(self, status: str | None = None, **changes: Any) -> None:
        """Write the run's status; never raises."""

    def on(self, command: str, handler: Callable[..., Any]) -> None:
        """Call ``handler(**arguments)`` for ``"checkpoint"`` or ``"set"`` instead of the default."""
        self._handlers[command] = handler

    def _skip_old_commands(self) -> None:
        """Leave out what was asked before the run was continued."""
        self._control_offset = int(self._files.status.get("control_offset", 0))

    def _poll_commands(self) -> None:
        """Read what was journaled since the last call; called in the background."""
        found, self._control_offset = self._files.commands(self._control_offset)
        for line in found:
            try:
                self._commands.append(Command.read(line))
            except ValueError as error:
                self.event("warning", f"a line of control.jsonl was left out: {error}")

    def take_commands(self) -> Iterator[Command]:
        """Hand out the commands that wait, for loops that set `defer_control`.

        One at a time: a pause finds the resume that was asked for in the same moment.
        """
        while self._commands:
            yield self._commands.popleft()

    def _execute(self, step: int) -> None:
        for command in self.take_commands():
            self.carry_out(command, step)

    def carry_out(self, command: Command, step: int) -> None:
        """Do what a command asks and journal it as an event.

        Raises:
            RunStopped: the command is a stop.
        """
        if command.name == "pause":
            self._pause(step)
        elif command.name == "stop":
            self.event("stop", "stopped on request", step=step)
            raise RunStopped("stopped on request")
        elif command.name == "set":
            self._set(step, **command.arguments)
        elif command.name == "checkpoint":
            handler = self._handlers.get("checkpoint")
            if handler is None:
                self.event("warning", "this loop saves no checkpoints: rec.on('checkpoint', save) would", step=step)
            else:
                handler(**command.arguments)

    def _pause(self, step: int) -> None:
        save = self._handlers.get("checkpoint")
        if save is not None:
            save()  # who pauses may be about to switch the machine off
        self.event("pause", "paused on request", step=step)
        self._set_status(PAUSED)
        while True:
            for command in self.take_commands():
                if command.name == "resume":
                    self.event("resume", "resumed on request", step=step)
                    self._set_status(RUNNING)
                    return
                if command.name != "pause":
                    self.carry_out(command, step)
            time.sleep(0.05)

    def _set(self, step: int, lr: float) -> None:
        groups = [group for watch in self._watches for opt in watch.optimizers for group in opt.param_groups]
        old = float(groups[0]["lr"]) if groups else None
        handler = self._handlers.get("set")
        if handler is not None:
            handler(lr=lr)
        elif groups:
            for group in groups:
                if hasattr(group["lr"], "fill_"):
                    group["lr"].fill_(lr)
                else:
                    group["lr"] = lr
        else:
            self.event("warning", "no optimiser to set lr on: call rec.watch(model, optimizer)", step=step)
            return
        self.event("set", f"learning rate set to {lr:g}", step=step, lr=lr, old=old)
