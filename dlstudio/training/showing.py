"""What a loop shows and to whom: a bar, lines for a log, and a recorder that records nothing for the other ranks."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

__all__ = ["Bar", "Lines", "Silent"]

_SHOWN = {"train/loss": "loss", "val/loss": "val loss", "val/accuracy": "val accuracy", "val/r2": "val R²"}
LINE_S = 0.5


def _in_short(values: Mapping[str, float]) -> dict[str, str]:
    return {name: f"{values[key]:.4g}" for key, name in _SHOWN.items() if key in values}


class Bar:
    """A tqdm bar over the steps of a run, in a notebook or a terminal; nothing when not `shown`."""

    def __init__(self, n_steps: int, step: int, *, shown: bool) -> None:
        self._bar: Any = None
        if shown:
            from tqdm.auto import tqdm

            self._bar = tqdm(total=n_steps, initial=step, unit="step", mininterval=0.2)

    def show(self, step: int) -> None:
        """Move on to `step`."""
        if self._bar is not None:
            self._bar.update(step - self._bar.n)

    def epoch(self, step: int, epoch: int, n_epochs: int, values: Mapping[str, float]) -> None:
        """Show what an epoch came to."""
        if self._bar is not None:
            self._bar.set_description(f"epoch {epoch}/{n_epochs}", refresh=False)
            self._bar.set_postfix(_in_short(values), refresh=False)
            self.show(step)

    def close(self) -> None:
        """Leave the bar as it stands."""
        if self._bar is not None:
            self._bar.close()


class Lines:
    """A printed line an epoch, at most one in `LINE_S` seconds: the log of a detached run."""

    def __init__(self) -> None:
        self._printed = 0.0

    def show(self, step: int) -> None:
        """Print nothing between epochs."""

    def epoch(self, step: int, epoch: int, n_epochs: int, values: Mapping[str, float]) -> None:
        """Print what an epoch came to."""
        if epoch == n_epochs or time.monotonic() - self._printed >= LINE_S:
            self._printed = time.monotonic()
            told = "  ".join(f"{name} {value}" for name, value in _in_short(values).items())
            print(f"epoch {epoch} of {n_epochs}  step {step}  {told}", flush=True)

    def close(self) -> None:
        """Nothing is left open."""


class Silent:
    """Stands where the recorder is on rank 0."""

    folder = ""
    resume_step = None

    def log(self, values: Mapping[str, Any], step: int | None = None) -> None:
        """Record nothing."""

    def flush(self) -> None:
        """Write nothing."""

    def event(self, kind: str, message: str = "", *, step: int | None = None, **data: Any) -> None:
        """Record nothing."""

    def on(self, command: str, handler: Callable[..., Any]) -> None:
        """Take no commands; rank 0 passes them on."""

    def watch(self, model: Any, optimizer: Any = None, *, every: int | None = None) -> None:
        """Watch nothing."""
