"""When long work has to end, and whole numbers that callers gave; reading this needs no torch."""

from __future__ import annotations

import math
import numbers
import operator
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol, TypeVar

from dlstudio.errors import DLStudioError

__all__ = ["OVER", "Cancel", "Halted", "Limit", "counted", "whole_number"]

_T = TypeVar("_T")
OVER = "s allowed were over"
"""Part of every reason that says that time ran out."""


class Cancel(Protocol):
    """Anything with ``is_set()``, such as a `threading.Event`."""

    def is_set(self) -> bool:
        """Whether someone wants the work to end."""


class Halted(Exception):
    """The time is over, or someone cancelled; what was finished is kept."""


class Limit:
    """Says whether work may go on. It is a `Cancel` itself, so that it also holds for work inside other work.

    Args:
        max_seconds: from now on; None for any.
        cancel: an event, or the limit of the work around this.

    Raises:
        DLStudioError: `max_seconds` is no number above 0, or `cancel` no event.

    Example:
        >>> limit = Limit(max_seconds=60)
        >>> explain(model, x, cancel=limit)
    """

    def __init__(self, max_seconds: float | None = None, cancel: Cancel | None = None) -> None:
        given: Any = max_seconds
        if given is not None and (
            isinstance(given, bool) or not isinstance(given, numbers.Real) or not float(given) > 0
        ):
            raise DLStudioError("max_seconds above 0", f"max_seconds={max_seconds!r}", "Try max_seconds=60.")
        if cancel is not None and not callable(getattr(cancel, "is_set", None)):
            raise DLStudioError("an event with is_set()", f"cancel={cancel!r}", "Pass threading.Event().")
        self._cancel = cancel
        self._max_seconds = max_seconds
        self._until = math.inf if max_seconds is None else time.monotonic() + max_seconds

    @property
    def left(self) -> float:
        """Seconds that are left, infinite where any time may be taken."""
        around = self._cancel.left if isinstance(self._cancel, Limit) else math.inf
        return around if self._until == math.inf else min(around, self._until - time.monotonic())

    @property
    def why(self) -> str:
        """Why work has to end; "" while it may go on."""
        if isinstance(self._cancel, Limit):
            if self._cancel.why:
                return self._cancel.why
        elif self._cancel is not None and self._cancel.is_set():
            return "it was cancelled"
        return f"the {self._max_seconds:g} {OVER}" if time.monotonic() >= self._until else ""

    def is_set(self) -> bool:
        """Whether work has to end."""
        return bool(self.why)

    def look(self) -> None:
        """Go on, or not.

        Raises:
            Halted: the time is over or someone cancelled.
        """
        if why := self.why:
            raise Halted(why)


def whole_number(name: str, given: Any, least: int, remedy: str = "Leave it out for the default.") -> int:
    """Return a whole number of any type, numpy's too, as an int.

    Raises:
        DLStudioError: it is none, or below `least`.
    """
    if isinstance(given, bool) or not isinstance(given, numbers.Integral) or given < least:
        raise DLStudioError(f"{name} of {least} or more, a whole number", f"{name}={given!r}", remedy)
    return operator.index(given)


def counted(items: Sequence[_T], progress: bool | Callable[[int, int], None], unit: str) -> Iterator[_T]:
    """Go through items; show a bar once that takes more than a moment, or call `progress` with items done and all.

    Args:
        items: what is gone through.
        progress: whether to show a bar, or the function to call.
        unit: what an item is.
    """
    if callable(progress):
        for done, item in enumerate(items):
            progress(done, len(items))
            yield item
        progress(len(items), len(items))
    elif not progress:
        yield from items
    else:
        from tqdm.auto import tqdm

        yield from tqdm(items, unit=unit, desc="Explaining", delay=1.0, leave=False)
