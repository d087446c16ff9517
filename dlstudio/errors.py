"""The one error of dlstudio: what was expected, what came, what to do next."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

__all__ = ["DLStudioError", "RunStopped", "unknown_name"]


class DLStudioError(Exception):
    """An input, a file or a machine is not as it has to be.

    Args:
        expected: what would have been right, as a noun phrase.
        got: what came instead.
        remedy: one sentence on what to do next.

    Example:
        >>> raise DLStudioError("a learning rate above 0", "lr=-1.0", "Try lr=1e-3.")
        Traceback (most recent call last):
        dlstudio.errors.DLStudioError: Expected a learning rate above 0, but got lr=-1.0. Try lr=1e-3.
    """

    def __init__(self, expected: str, got: str, remedy: str) -> None:
        super().__init__(expected, got, remedy)
        self.expected = expected
        self.got = got
        self.remedy = remedy

    def __str__(self) -> str:
        return f"Expected {self.expected}, but got {self.got}. {self.remedy}"


class RunStopped(BaseException):
    """Raised inside a training loop when someone asked the run to stop.

    It is no `Exception`, as `KeyboardInterrupt` is none: a loop's own ``except Exception`` must not swallow it.
    `dlstudio.record` catches it at the end of its ``with`` block.
    """


def unknown_name(kind: str, name: object, known: Iterable[str]) -> DLStudioError:
    """Build the error for a name that is not there, with the nearest match as the remedy.

    Args:
        kind: what the name should have named, such as ``"model"``.
        name: what came.
        known: the names that exist.
    """
    names = sorted(known)
    near = difflib.get_close_matches(str(name), names, n=1, cutoff=0.5)
    shown = ", ".join(names[:12]) + (f" and {len(names) - 12} more" if len(names) > 12 else "")
    expected = f"one of the known {kind} names ({shown})" if names else f"the name of a {kind} (there is none yet)"
    article = "an" if kind[:1] in "aeiou" else "a"
    remedy = f"Did you mean {near[0]!r}?" if near else f"Choose {article} {kind} that exists."
    return DLStudioError(expected, repr(name), remedy)
