"""Run a method over rows within memory and time: batches that shrink, a bar, a way out."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol, TypeVar

import torch

from dlstudio.errors import DLStudioError

__all__ = ["Halted", "Runner", "default_batch", "no_memory", "out_of_memory"]

_T = TypeVar("_T")
ELEMENTS, ELEMENTS_ON_GPU = 2**16, 2**23
"""How many input numbers a batch holds at first: on a CPU so few that a small network's activations stay in cache."""


class Cancel(Protocol):
    """Anything with ``is_set()``, such as a `threading.Event`."""

    def is_set(self) -> bool:
        """Whether someone wants the work to end."""


class Halted(Exception):
    """The time is over, or someone cancelled; rows that were finished are kept."""


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
    """

    def __init__(
        self,
        *,
        max_batch: int,
        max_seconds: float | None = None,
        progress: bool | Callable[[int, int], None] = True,
        cancel: Cancel | None = None,
    ) -> None:
        if not isinstance(max_batch, int) or isinstance(max_batch, bool) or max_batch < 1:
            raise DLStudioError("max_batch of 1 or more", f"max_batch={max_batch!r}", "Try max_batch=1024.")
        if max_seconds is not None and not max_seconds > 0:
            raise DLStudioError("max_seconds above 0", f"max_seconds={max_seconds!r}", "Try max_seconds=60.")
        self.max_batch = max_batch
        self.stopped = ""
        self._progress = progress
        self._cancel = cancel
        self._started = time.monotonic()
        self._deadline = None if max_seconds is None else self._started + max_seconds
        self._max_seconds = max_seconds

    def tick(self, *_: object) -> None:
        """Look whether to stop; called between batches, also from inside a method.

        Raises:
            Halted: the time is over or someone cancelled.
        """
        if self._cancel is not None and self._cancel.is_set():
            raise Halted("it was cancelled")
        if self._deadline is not None and time.monotonic() > self._deadline:
            raise Halted(f"the {self._max_seconds:g} s allowed were over")

    def over_rows(
        self, n_rows: int, width: int, work: Callable[[slice, int], _T], *, least: int = 1, further: bool = False
    ) -> list[_T]:
        """Do `work` on all rows, batch by batch.

        Args:
            n_rows: how many there are.
            width: how many evaluations of the model one row takes at once.
            work: takes the rows and the largest batch the model may be given.
            least: the fewest rows the method can work on.
            further: this makes finished rows better, so that a halt before the first batch loses nothing.

        Returns:
            What `work` returned, batch by batch. After a halt (see `stopped`) it covers the first rows only.

        Raises:
            DLStudioError: memory runs out with single rows, or not one batch was finished in time.
        """
        done: list[_T] = []
        at = 0
        tell = self._bar(n_rows)
        try:
            while at < n_rows:
                size = max(least, self.max_batch // max(1, width))
                if self._deadline is not None:
                    size = min(size, self._affordable(at, least))
                if 0 < n_rows - (at + size) < least:
                    size = n_rows - at
                rows = slice(at, min(n_rows, at + size))
                try:
                    self.tick()
                    done.append(work(rows, self.max_batch))
                except Halted as halt:
                    self.stopped = str(halt)
                    break
                except (RuntimeError, MemoryError) as error:
                    if not out_of_memory(error):
                        raise
                    self._shrink(error)
                    continue
                at = rows.stop
                tell(at, n_rows)
        finally:
            tell(-1, n_rows)
        if self.stopped and not done and not further:
            raise DLStudioError(
                "at least one batch of rows to be finished",
                f"none: {self.stopped}",
                "Allow more max_seconds, or fewer n_samples or n_steps.",
            )
        return done

    def _affordable(self, done: int, least: int) -> int:
        """How many rows fit into half of the time that is left, at the speed so far; a few to begin with."""
        assert self._deadline is not None
        now = time.monotonic()
        if done == 0:
            return max(least, 4)
        rate = done / max(1e-6, now - self._started)
        return max(least, int(rate * (self._deadline - now) / 2))

    def _shrink(self, error: BaseException) -> None:
        if self.max_batch == 1:
            raise no_memory(error) from error
        self.max_batch = max(1, self.max_batch // 2)
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def _bar(self, n_rows: int) -> Callable[[int, int], None]:
        """Return a function that shows rows done; -1 takes the bar away."""
        if callable(self._progress):
            asked = self._progress
            return lambda done, total: asked(done, total) if done >= 0 else None
        if not self._progress:
            return lambda done, total: None
        from tqdm.auto import tqdm

        bar = tqdm(total=n_rows, unit="row", desc="Explaining", delay=1.0, leave=False)

        def show(done: int, total: int) -> None:
            if done < 0:
                bar.close()
            else:
                bar.update(done - bar.n)

        return show


def no_memory(error: BaseException) -> DLStudioError:
    """Build the error for a model that does not even fit a single row."""
    return DLStudioError(
        "memory for a single row",
        (str(error).splitlines() or ["none left"])[0][:200],
        "Explain smaller inputs, take fewer n_steps or n_samples, or use a machine with more memory.",
    )


def out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out."""
    words = str(error).lower()
    return (
        isinstance(error, (torch.OutOfMemoryError, MemoryError))
        or "out of memory" in words
        or "can't allocate" in words
    )
