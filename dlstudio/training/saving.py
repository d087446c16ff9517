"""What of a running loop goes into its checkpoints, and how it comes back."""

from __future__ import annotations

import contextlib
import dataclasses
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from dlstudio.errors import DLStudioError
from dlstudio.runs.folder import write_json
from dlstudio.training import checkpoint, rng
from dlstudio.training.alone import Alone
from dlstudio.training.recipe import Recipe
from dlstudio.training.setup import Parts

__all__ = ["Position", "Saver"]

FACTS = ("name", "task", "fingerprint", "n_parameters")
"""Of data and model, what ``data.json`` in the run's folder tells."""


@dataclasses.dataclass
class Position:
    """How far a run has come; with the weights and the random states all that a checkpoint needs.

    `step` counts optimiser steps of the run, `batch` those of the running `epoch`, whose losses sum to
    `loss_sum` over `n_rows` rows. `best` is the lowest validation loss so far, `stale` counts the evaluations
    since. `lr` is the learning rate that the schedule scales.
    """

    lr: float
    step: int = 0
    epoch: int = 0
    batch: int = 0
    n_rows: int = 0
    loss_sum: float = 0.0
    best: float = math.inf
    best_step: int = 0
    stale: int = 0


class Saver:
    """Saves and loads the checkpoints of one run; with several ranks, all of them call together.

    A file that cannot be written is warned of once and never ends a training.

    Args:
        folder: of the run.
        recipe: what is trained.
        parts: what the loop works with.
        ranks: the processes.
        recorder: is told of checkpoints and warnings.
    """

    def __init__(self, folder: Path, recipe: Recipe, parts: Parts, ranks: Alone, recorder: Any) -> None:
        self._folder, self._parts, self._ranks, self._recorder = folder, parts, ranks, recorder
        self._could_write = True
        data = checkpoint.describe_data(parts.dataset)
        self._description = {
            "recipe": recipe.to_dict(),
            "plain_recipe": recipe.is_plain,
            "named_model": isinstance(recipe.model, str),
            "data": data,
            "torch": str(torch.__version__),
        }
        if ranks.rank == 0:
            n_parameters = sum(parameter.numel() for parameter in parts.module.parameters())
            with contextlib.suppress(OSError):  # the first checkpoint warns of the same disk
                # Beside the checkpoints: whoever compares a thousand runs cannot open them for this.
                facts = {**data, "n_parameters": n_parameters}
                write_json(folder / "data.json", {k: v for k, v in facts.items() if k in FACTS})

    def save_best(self, at: Position, metrics: Mapping[str, float]) -> None:
        """Save the weights alone, with the metrics they reached."""
        self._write("best", at, {"metrics": dict(metrics)})

    def save_last(self, at: Position) -> None:
        """Save all that is needed to go on from here bit by bit."""
        parts, ranks = self._parts, self._ranks
        content = {
            "position": dataclasses.asdict(at),
            "optimizer": ranks.optimizer_state(parts.module, parts.optimizer),
            "scaler": None if parts.scaler is None else parts.scaler.state_dict(),
            "rng": ranks.gather_objects(rng.capture()),
        }
        path = self._write("last", at, content)
        if path is not None:
            self._recorder.event("checkpoint", f"saved {path.name}", step=at.step, path=str(path))

    def _write(self, which: str, at: Position, content: dict[str, Any]) -> Path | None:
        model = self._ranks.model_state(self._parts.module)
        content = {**self._description, "step": at.step, "epoch": at.epoch, "model": model, **content}
        path = checkpoint.path_of(self._folder, which)
        self._recorder.flush()  # a run that goes on from here must not miss what was logged before
        written = self._ranks.rank == 0 and self.guarded(path, lambda: checkpoint.write(path, content))
        self._ranks.barrier()
        return path if written else None

    def guarded(self, path: Path, write: Callable[[], None]) -> bool:
        """Write a file of the run if the file system lets; whether it did."""
        try:
            write()
        except OSError as error:
            if self._could_write:
                self._recorder.event("warning", f"could not write {path}: {error}")
            self._could_write = False
            return False
        self._could_write = True
        return True

    def load(self) -> tuple[Position, dict[str, Any] | None]:
        """Put model, optimiser and scaler where the last checkpoint left them.

        Returns:
            The position, and the random state of this rank to restore when training begins; None if there were
            fewer ranks then.

        Raises:
            DLStudioError: there is none, it is damaged, or the data are others than then.
        """
        parts, ranks = self._parts, self._ranks
        content = checkpoint.read(checkpoint.path_of(self._folder, "last"))
        here, there = parts.dataset.fingerprint, content["data"]["fingerprint"]
        if here != there:
            raise DLStudioError(
                "the data the run began with",
                f"data with fingerprint {here[:12]}, not {there[:12]}",
                "Start a new run on the new data.",
            )
        ranks.load_model(parts.module, content["model"])
        ranks.load_optimizer(parts.module, parts.optimizer, content["optimizer"])
        if parts.scaler is not None and content["scaler"] is not None:
            parts.scaler.load_state_dict(content["scaler"])
        states = content["rng"]
        return Position(**content["position"]), states[ranks.rank] if ranks.rank < len(states) else None
