"""What a loop shows and to whom: a progress bar, and a recorder that records nothing for the other ranks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

__all__ = ["Bar", "Silent"]


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
            names = {
                "train/loss": "loss",
                "val/loss": "val loss",
                "val/accuracy": "val accuracy",
                "val/r2": "val R²",
            }
            shown = {name: f"{values[key]:.4g}" for key, name in names.items() if key in values}
            self._bar.set_description(f"epoch {epoch}/{n_epochs}", refresh=False)
            self._bar.set_postfix(shown, refresh=False)
            self.show(step)

    def close(self) -> None:
        """Leave the bar as it stands."""
        if self._bar is not None:
            self._bar.close()


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
