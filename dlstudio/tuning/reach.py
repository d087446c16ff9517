"""Whether the storage of a study can be reached: how long it is waited for, and what is said where it cannot."""

from __future__ import annotations

import contextlib
import random
import re
import time
from collections.abc import Callable, Iterator
from typing import TypeVar
from urllib.parse import urlparse

import optuna

from dlstudio.errors import DLStudioError

__all__ = ["StorageAway", "answering", "is_url", "patiently", "unusable", "without_password"]

_T = TypeVar("_T")

PATIENCE_S = 60.0
"""So long a search waits for a storage that is away."""
_NOT_AWAY = (
    DLStudioError, ArithmeticError, AttributeError, LookupError, TypeError, ValueError,
    optuna.exceptions.UpdateFinishedTrialError,
)  # fmt: skip


class StorageAway(DLStudioError):
    """A server or database does not answer; it may in a moment."""


def is_url(storage: str) -> bool:
    """Whether a storage is the address of a server or database, and not the path of a journal file."""
    return "://" in storage


def without_password(storage: str) -> str:
    """Return a storage as anyone may read it."""
    if not is_url(storage):
        return storage
    password = urlparse(storage).password
    shown = storage.replace(f":{password}@", ":…@") if password else storage
    return re.sub(r"(?i)([?&](?:password|passwd|pwd)=)[^&]*", r"\1…", shown)


def unusable(expected: str, storage: str, error: Exception, remedy: str) -> DLStudioError:
    """Build the error for a storage that failed with an exception of its own."""
    kind = StorageAway if is_url(storage) else DLStudioError
    return kind(expected, f"{without_password(storage)} ({_in_a_line(error)})", remedy)


@contextlib.contextmanager
def answering(storage: str) -> Iterator[None]:
    """Read from a storage; what it raises while it is away is said as everything else is.

    Raises:
        StorageAway: it does not answer.
    """
    try:
        yield
    except _NOT_AWAY:
        raise
    except Exception as error:
        # Every storage fails with exceptions of its own.
        remedy = f"See that it runs; a search that goes on waits for it for {PATIENCE_S:g} seconds."
        raise unusable("a study storage that answers", storage, error, remedy) from error


def patiently(do: Callable[[], _T]) -> _T:
    """Do something with a storage, again and again while it is away; `do` may have been done in part before.

    Raises:
        Exception: what the storage raised after `PATIENCE_S` seconds still, or at once what no waiting would mend.
    """
    deadline, pause = time.monotonic() + PATIENCE_S, 0.2
    while True:
        try:
            return do()
        except Exception as error:
            # Every storage fails with exceptions of its own.
            if isinstance(error, _NOT_AWAY) and not isinstance(error, StorageAway):
                raise
            if time.monotonic() > deadline:
                raise
            print(f"the study's storage is away, trying again: {_in_a_line(error)}", flush=True)
            time.sleep(pause * random.uniform(0.5, 1.0))
            pause = min(2 * pause, 5.0)


def _in_a_line(error: Exception) -> str:
    said = str(error).splitlines() or ["it says no more"]
    return f"{type(error).__name__}: {said[0][:200]}"
