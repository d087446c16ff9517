"""When long work has to end, how far it is, and whether numbers that callers gave are some; this needs no torch."""

from __future__ import annotations

import math
import numbers
import operator
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Protocol, TypeVar

from dlstudio.errors import DLStudioError

__all__ = [
    "OVER", "Cancel", "Halted", "Limit", "bar", "counted", "level_of_confidence", "mapping", "named", "number_within",
    "whole_number",
]  # fmt: skip

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


def number_within(
    name: str, given: Any, least: float, most: float = math.inf, remedy: str = "Leave it out for the default."
) -> float:
    """Return a number of any type, numpy's too, as a float.

    Raises:
        DLStudioError: it is none, missing or infinite, below `least` or above `most`.
    """
    some = isinstance(given, numbers.Real) and not isinstance(given, bool)
    if not some or not math.isfinite(given) or not least <= given <= most:
        among = f" of {least:g} or more" if most == math.inf else f" from {least:g} to {most:g}"
        among = "" if least == -math.inf else among
        raise DLStudioError(f"{name}{among}, a finite number", f"{name}={given!r}"[:120], remedy)
    return float(given)


def level_of_confidence(given: Any) -> float:
    """Return a level of confidence, above 0 and below 1.

    Raises:
        DLStudioError: it is none.
    """
    if isinstance(given, bool) or not isinstance(given, numbers.Real) or not 0 < float(given) < 1:
        raise DLStudioError("a level of confidence between 0 and 1", f"level={given!r}", "Try level=0.95.")
    return float(given)


def named(name: str, given: Any) -> tuple[str, ...]:
    """Return one name or several as a tuple, each once.

    Raises:
        DLStudioError: they are no names.
    """
    try:
        found = (given,) if isinstance(given, str) else tuple(dict.fromkeys(given))
    except TypeError:
        found = (None,)
    if not all(isinstance(one, str) for one in found):
        raise DLStudioError(f"{name} to be a name or several", f"{name}={given!r}"[:120], "Pass () for none.")
    return found


def mapping(name: str, given: Any, remedy: str) -> Mapping[Any, Any]:
    """Return what was given if it names its values.

    Raises:
        DLStudioError: it is no mapping.
    """
    if not isinstance(given, Mapping):
        raise DLStudioError(f"{name} that names its values, such as a dict", f"{name}={given!r}"[:120], remedy)
    return given


@contextmanager
def bar(
    progress: bool | Callable[[int, int], None], total: int, unit: str, doing: str
) -> Iterator[Callable[[int], object]]:
    """Show how far work is once it takes more than a moment, or call `progress` with what is done and all.

    Args:
        progress: whether to show a bar, or the function to call.
        total: how many there are.
        unit: of what.
        doing: what is done with them, the bar's title.

    Yields:
        A function to call with how many are done.

    Example:
        >>> with bar(progress, len(epochs), "epoch", "Training") as tell:
        ...     for done, epoch in enumerate(epochs, start=1):
        ...         train(epoch)
        ...         tell(done)
    """
    if callable(progress):
        yield lambda done: progress(done, total)
    elif not progress:
        yield lambda done: None
    else:
        from tqdm.auto import tqdm

        with tqdm(total=total, unit=unit, desc=doing, delay=1.0, leave=False) as shown:
            yield lambda done: shown.update(done - shown.n)


def counted(items: Sequence[_T], progress: bool | Callable[[int, int], None], unit: str, doing: str) -> Iterator[_T]:
    """Go through items behind a `bar`, told before each item and at the end."""
    with bar(progress, len(items), unit, doing) as tell:
        for done, item in enumerate(items):
            tell(done)
            yield item
        tell(len(items))
