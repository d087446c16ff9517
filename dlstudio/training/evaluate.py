"""Evaluation: a model's outputs on one part of the data, their loss and metrics, and a file of
predictions."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.nn import functional

from dlstudio.errors import DLStudioError
from dlstudio.training.alone import Alone
from dlstudio.training.batches import Batches
from dlstudio.training.metrics import predictions

__all__ = ["Criterion", "check_outputs", "evaluating", "make_criterion", "outputs_of", "write_predictions"]

Criterion = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Switch a module to eval mode without gradients; afterwards every part is in the mode it was in."""
    modes = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        with torch.no_grad():  # not inference_mode: a cache filled there could not be used in training
            yield
    finally:
        for part, training in modes:
            part.training = training


def make_criterion(task: str, weights: torch.Tensor | None) -> Criterion:
    """Return the loss of a task: cross entropy over classes, or the mean squared error."""
    if task == "regression":
        return lambda outputs, targets: functional.mse_loss(outputs.float().view_as(targets), targets)
    return lambda outputs, targets: functional.cross_entropy(outputs.float(), targets, weights)


def check_outputs(module: nn.Module, batches: Batches, task: str, n_classes: int) -> None:
    """Check on two rows that a model's outputs fit the targets.

    Raises:
        DLStudioError: they have another shape, with what to change; or the model cannot take the inputs.
    """
    inputs, targets = next(iter(batches.evaluation("train")))
    inputs, targets = inputs[:2], targets[:2]
    shape = f"inputs of shape {tuple(inputs.shape)}"
    with evaluating(module):
        try:
            outputs = module(inputs)
        except (RuntimeError, ValueError, TypeError, IndexError) as error:
            if isinstance(error, torch.OutOfMemoryError):
                raise
            raise DLStudioError(
                f"a model that takes {inputs.dtype} {shape}",
                f"{type(error).__name__}: {error}",
                "Make its first layer fit the data.",
            ) from error
    n_rows = len(inputs)
    if not isinstance(outputs, torch.Tensor):
        raise DLStudioError("one tensor as the model's output", type(outputs).__name__, "Return the logits only.")
    got = f"outputs of shape {tuple(outputs.shape)} for {shape} and targets of shape {tuple(targets.shape)}"
    if task == "regression":
        if tuple(outputs.shape) not in ((n_rows,), (n_rows, 1)):
            raise DLStudioError(f"outputs of shape ({n_rows},) or ({n_rows}, 1)", got, "End with one output unit.")
    elif tuple(outputs.shape) != (n_rows, n_classes):
        hint = " Two classes have two logits here, trained by cross entropy." if n_classes == 2 else ""
        raise DLStudioError(
            f"logits of shape ({n_rows}, {n_classes}), one per class",
            got,
            f"End with {n_classes} output units.{hint}",
        )


def outputs_of(
    module: nn.Module, batches: Batches, split: str, autocast: AbstractContextManager[Any], ranks: Alone
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return ``(outputs, targets)`` of a whole part on the device, in its order; the same on every rank.

    Outputs are float32 (n, classes), or (n,) for regression.
    """
    outputs, targets = [], []
    with evaluating(module):
        for inputs, wanted in batches.evaluation(split):
            with autocast:
                given = module(inputs)
            outputs.append(given.float().view_as(wanted) if wanted.is_floating_point() else given.float())
            targets.append(wanted)
    n_rows = len(batches.rows[split])
    return ranks.gather(torch.cat(outputs))[:n_rows], ranks.gather(torch.cat(targets))[:n_rows]


def write_predictions(
    path: Path,
    task: str,
    parts: Mapping[str, tuple[npt.NDArray[Any], npt.NDArray[Any], npt.NDArray[np.int64]]],
) -> None:
    """Write what a model says of whole parts, for later audits.

    Args:
        path: of the ``.npz``; replaced whole. For each part it holds ``{part}_y_true``, ``{part}_y_pred``,
            ``{part}_y_score`` (probabilities (n, classes), or the predicted values) and ``{part}_row``, the
            row index in the data set.
        task: ``"binary"``, ``"multiclass"`` or ``"regression"``.
        parts: outputs, targets and rows by the name of the part.
    """
    arrays: dict[str, npt.NDArray[Any]] = {}
    for name, (outputs, targets, rows) in parts.items():
        y_pred, y_score = predictions(task, outputs)
        arrays |= {
            f"{name}_y_true": targets,
            f"{name}_y_pred": y_pred,
            f"{name}_y_score": y_score,
            f"{name}_row": rows,
        }
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with open(temporary, "wb") as file:
        np.savez_compressed(file, allow_pickle=False, **arrays)
    os.replace(temporary, path)
