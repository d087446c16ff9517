"""Influence: which training rows made a model say what it says of a row (TracIn, Pruthi et al. 2020)."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dlstudio.errors import DLStudioError
from dlstudio.explain.influence.result import InfluenceResult, findings_of
from dlstudio.limits import Cancel, Halted, Limit, whole_number

if TYPE_CHECKING:
    import torch
    from torch import nn

    from dlstudio.explain.session import Session
    from dlstudio.runs.run import Run

__all__ = ["InfluenceResult", "trace_influence"]

ROWS_OF_A_RUN = 20


def trace_influence(
    model: nn.Module | Run | str,
    inputs: Any = None,
    targets: Any = None,
    *,
    train: tuple[Any, Any] | None = None,
    checkpoints: Sequence[Any] = (),
    rows: Sequence[int] | None = None,
    loss: Callable[[Any, torch.Tensor], torch.Tensor] | None = None,
    layers: Sequence[str] | None = None,
    top: int = 10,
    class_names: Sequence[str] = (),
    max_batch: int | None = None,
    max_seconds: float | None = None,
    progress: bool | Callable[[int, int], None] = True,
    cancel: Cancel | None = None,
) -> InfluenceResult:
    """Find the training rows that lowered or raised the loss of the rows in question (TracInCP).

    The model is left as found: weights of checkpoints are never loaded into it. ``len(inputs)`` times the number of
    training rows numbers are held in memory.

    Args:
        model: the module that was trained; or a run or its name, whose data and checkpoints are then used.
        inputs, targets: (n, ...) rows and their (n,) targets: class indices, or values. None with a run.
        train: training inputs and targets.
        checkpoints: of the training: paths (read without unpickling code), state dicts, or pairs of these and the
            learning rate then. Several, spread over the training, say more than the last.
        rows: with a run, row numbers of its data set; its first 20 test rows by default.
        loss: of the model's output and target of one row; None for cross entropy, or the squared error of values.
        layers: names of modules whose weights count, such as the last ones of a large model; None for all.
        top: how many training rows to keep a row.
        class_names: names of the classes.
        max_batch, max_seconds, progress, cancel: as in `dlstudio.explain`; there is no partial result.

    Returns:
        Proponents and opponents of every row, and the self-influence of every training row. Those of a run are saved
        with it as ``results/influence.json``, unless that is there for more rows.

    Raises:
        DLStudioError: checkpoints that do not fit the model, rows and targets that do not match, unknown layers.

    Example:
        >>> found = dls.trace_influence(model, x, y, train=(x_train, y_train), checkpoints=[("epoch-3.pt", 1e-3)])
        >>> found.suspects(5)
        >>> dls.trace_influence("my-run", rows=[17]).frame()
    """
    import torch

    from dlstudio.explain.influence.checkpoints import read_checkpoint
    from dlstudio.explain.influence.row_gradients import (
        BATCH_NUMBERS,
        RowGradients,
        check_default_loss,
        default_loss,
        few_outputs,
        predict,
        trace,
    )
    from dlstudio.explain.inspection.untouched import untouched
    from dlstudio.running import Runner, memory_named
    from dlstudio.runs.kept import keep
    from dlstudio.runs.run import Run

    started = time.perf_counter()
    limit = Limit(max_seconds, cancel)
    top = whole_number("top", top, 1, "Try top=10.")
    most_rows = 1024 if max_batch is None else whole_number("max_batch", max_batch, 1, "Try max_batch=1024.")
    layers = (layers,) if isinstance(layers, str) else layers
    key, numbers, train_numbers, folder = "", None, None, None
    if not isinstance(model, torch.nn.Module):
        if not isinstance(model, (str, Run)):
            raise DLStudioError("a torch.nn.Module or a run", type(model).__name__, "Pass the module itself.")
        session, paths = _of_run(model)
        data, key, folder = session.dataset, session.run.key, session.run.folder
        asked = rows if rows is not None else inputs  # the second argument of a run is row numbers, as in `explain`
        numbers = session.test_rows(ROWS_OF_A_RUN) if asked is None else session.checked_rows(asked)
        train_numbers, train = data.splits["train"], data.split("train")
        inputs, targets = data.inputs[numbers], data.targets[numbers]
        model, checkpoints, class_names = session.model, checkpoints or paths, class_names or data.class_names
    if train is None or len(train) != 2:
        raise DLStudioError("train=(inputs, targets) of the training", repr(type(train).__name__), "Pass both.")
    if not isinstance(checkpoints, (list, tuple)) or not checkpoints:
        raise DLStudioError("a list of one checkpoint or more", repr(checkpoints)[:80], "Pass [model.state_dict()].")
    with memory_named(), untouched(model):
        x, y = _pair(model, inputs, targets, "rows")
        x_train, y_train = _pair(model, *train, "training rows")
        if y.is_floating_point() != y_train.is_floating_point() or x.shape[1:] != x_train.shape[1:]:
            raise DLStudioError(
                f"rows like the training rows {tuple(x_train.shape[1:])} with {y_train.dtype} targets",
                f"{tuple(x.shape[1:])} with {y.dtype} targets",
                "Pass both in the same form.",
            )
        outputs = few_outputs(model, x)
        if loss is None:
            check_default_loss(outputs, min(2, len(x)), torch.cat([y, y_train]))
        moments = [read_checkpoint(given, number, model) for number, given in enumerate(checkpoints, 1)]
        gradients = RowGradients(model, loss or default_loss, layers)
        batch = max(1, min(most_rows, BATCH_NUMBERS // gradients.n_weights))
        runner = Runner(max_batch=batch, progress=progress, cancel=limit)
        quiet = Runner(max_batch=most_rows, progress=False, cancel=limit)
        try:
            influence, own_influence = trace(gradients, moments, (x, y), (x_train, y_train), runner)
            y_pred = predict(model, moments[-1].weights, (x, y), quiet)
        except Halted as halt:
            raise DLStudioError("time for all checkpoints and rows", str(halt), "Allow more max_seconds.") from halt
    top = min(top, len(x_train))
    most, least = influence.topk(top, dim=1), influence.topk(top, dim=1, largest=False)
    result = InfluenceResult(
        rows=np.arange(len(x)) if numbers is None else numbers,
        train_rows=np.arange(len(x_train)) if train_numbers is None else train_numbers,
        proponents=most.indices.numpy(),
        proponent_influence=most.values.numpy(),
        opponents=least.indices.numpy(),
        opponent_influence=least.values.numpy(),
        self_influence=own_influence.numpy(),
        y_true=y.cpu().numpy(),
        y_pred=y_pred,
        y_train=y_train.cpu().numpy(),
        class_names=tuple(map(str, class_names)),
        checkpoints=tuple(moment.label for moment in moments),
        learning_rates=np.array([1.0 if moment.lr is None else moment.lr for moment in moments]),
        layers=tuple(layers or ()),
        n_weights=gradients.n_weights,
        model=type(model).__name__,
        run=key,
        wall_s=time.perf_counter() - started,
    )
    guessed = [moment.label for moment in moments if moment.lr is None]
    result = dataclasses.replace(result, findings=tuple(findings_of(result, guessed)))
    if folder is not None:
        keep(result, "influence", folder=folder, n_rows=lambda found: len(found.rows))
    return result


def _pair(model: nn.Module, inputs: Any, targets: Any, what: str) -> tuple[torch.Tensor, torch.Tensor]:
    import torch

    from dlstudio.explain.inputs import read_inputs

    if inputs is None or targets is None:
        raise DLStudioError(f"inputs and targets of the {what}", "None", "Pass both, or a run.")
    x = read_inputs(model, inputs).inputs
    try:
        y = torch.as_tensor(targets)
    except (TypeError, ValueError, RuntimeError):
        got = f"targets like {np.asarray(targets).ravel()[:1].tolist()}"
        raise DLStudioError(f"class indices or values as targets of the {what}", got, "Number the classes.") from None
    if y.dim() != 1 or len(y) != len(x):
        raise DLStudioError(
            f"one target for each of {len(x):,} {what}", f"targets of shape {tuple(y.shape)}", "Align them."
        )
    if y.is_complex():
        raise DLStudioError(f"class indices or values as targets of the {what}", f"{y.dtype}", "Pass real numbers.")
    if y.is_floating_point() and not torch.isfinite(y).all():
        raise DLStudioError(f"finite targets of the {what}", "NaN or infinite ones", "Leave those rows out.")
    if not y.is_floating_point():
        return x, y.to(x.device, torch.int64)
    return x, y.to(x.device, x.dtype if x.is_floating_point() else torch.get_default_dtype())


def _of_run(run: Run | str) -> tuple[Session, list[Path]]:
    """The run's model and data, and the paths of its checkpoints, the older first."""
    from dlstudio.explain.session import Session
    from dlstudio.training.checkpoint import path_of, saved_step

    session = Session(run)
    best, last = (path_of(session.run.folder, which) for which in ("best", "last"))
    if not last.exists() or saved_step(last) == saved_step(best):
        return session, [best]
    return session, [best, last]
