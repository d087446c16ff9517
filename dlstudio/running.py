"""Run work over rows within memory and time: batches that shrink, a bar, a way out."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import torch

from dlstudio.errors import DLStudioError
from dlstudio.limits import Cancel, Halted, Limit, bar, whole_number

__all__ = ["Cancel", "Halted", "Runner", "default_batch", "memory_named", "no_memory", "out_of_memory"]

_T = TypeVar("_T")
ELEMENTS, ELEMENTS_ON_GPU = 2**16, 2**23
"""How many input numbers a batch holds at first: on a CPU so few that a small network's activations stay in cache."""


def default_batch(row: torch.Tensor) -> int:
    """Return how many rows like this one to evaluate at once when the caller did not say."""
    elements = ELEMENTS_ON_GPU if row.is_cuda else ELEMENTS
    return max(16, min(65536, elements // max(1, row.numel())))


class Runner:
    """Runs work in batches of rows.

    Args:
        max_batch: the most rows the model is given at once. It is halved whenever memory runs out.
        max_seconds: stop after this time; what is finished by then is kept.
        progress: show a bar when the work takes longer than a moment, or a function called with rows done and all.
        cancel: an event; once set, the work ends after the batch under way.
        doing: the title of the bar.
        remedy: what to do where not one batch is finished in time.
    """

    def __init__(
        self,
        *,
        max_batch: int,
        max_seconds: float | None = None,
        progress: bool | Callable[[int, int], None] = True,
        cancel: Cancel | None = None,
        doing: str = "Explaining",
        remedy: str = "Allow more max_seconds.",
    ) -> None:
        self.max_batch = whole_number("max_batch", max_batch, 1, "Try max_batch=1024.")
        self.stopped = ""
        self._progress, self._doing, self._remedy = progress, doing, remedy
        self._limit = Limit(max_seconds, cancel)
        self._rate: float | None = None
        """Evaluations a second of the batch before; None to begin with."""

    def tick(self, *_: object) -> None:
        """Look whether to stop; called between batches, also from inside a method.

        Raises:
            Halted: the time is over or someone cancelled.
        """
        self._limit.look()

    def every_row(self, n_rows: int, width: int, work: Callable[[slice, int], _T]) -> list[_T]:
        """Do what `over_rows` does for work that is of no use before it is whole.

        Raises:
            Halted: the time is over or someone cancelled.
            DLStudioError: memory runs out with single rows.
        """
        done = self.over_rows(n_rows, width, work, further=True)
        if self.stopped:
            raise Halted(self.stopped)
        return done

    def over_rows(
        self, n_rows: int, width: int, work: Callable[[slice, int], _T], *, further: bool = False
    ) -> list[_T]:
        """Do `work` on all rows, batch by batch.

        Args:
            n_rows: how many there are.
            width: how many evaluations of the model one row takes at once.
            work: takes the rows and the largest batch the model may be given.
            further: this makes finished rows better, so that a halt before the first batch loses nothing.

        Returns:
            What `work` returned, batch by batch. After a halt (see `stopped`) it covers the first rows only.

        Raises:
            DLStudioError: memory runs out with single rows, or not one batch was finished in time.
        """
        done: list[_T] = []
        at = 0
        halted: Halted | None = None
        with bar(self._progress, n_rows, "row", self._doing) as tell:
            while at < n_rows:
                size = min(max(1, self.max_batch // max(1, width)), self._affordable(width))
                rows = slice(at, min(n_rows, at + size))
                started = time.monotonic()
                try:
                    self.tick()
                    done.append(work(rows, self.max_batch))
                except Halted as halt:
                    halted, self.stopped = halt, str(halt)
                    break
                except (RuntimeError, MemoryError) as error:
                    if not out_of_memory(error):
                        raise
                    self._shrink(error)
                    continue
                self._rate = (rows.stop - at) * width / max(1e-6, time.monotonic() - started)
                at = rows.stop
                tell(at)
        if halted is not None and not done and not further:
            raise DLStudioError(
                "at least one batch of rows to be finished",
                f"none: {halted}",
                self._remedy,
            ) from halted
        return done

    def _affordable(self, width: int) -> int:
        """How many rows fit into half of the time that is left, at the speed so far; a few to begin with."""
        left = self._limit.left
        if left == math.inf:
            return sys.maxsize
        if self._rate is None:
            return 4
        return max(1, int(self._rate / max(1, width) * left / 2))

    def _shrink(self, error: BaseException) -> None:
        if self.max_batch == 1:
            raise no_memory(error) from error
        self.max_batch = max(1, self.max_batch // 2)
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def no_memory(error: BaseException) -> DLStudioError:
    """Build the error for a model that does not even fit a single row."""
    return DLStudioError(
        "memory for a single row",
        (str(error).splitlines() or ["none left"])[0][:200],
        "Take smaller inputs, or a machine with more memory.",
    )


@contextmanager
def memory_named() -> Iterator[None]:
    """Say in words that memory ran out, where smaller batches do not help any more.

    Raises:
        DLStudioError: it did.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not out_of_memory(error):
            raise
        raise no_memory(error) from error


def out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out."""
    words = str(error).lower()
    return (
        isinstance(error, (torch.OutOfMemoryError, MemoryError))
        or "out of memory" in words
        or "can't allocate" in words
    )
