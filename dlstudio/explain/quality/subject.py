"""A model with rows and references, or a run with its own, as the verbs that explain again and again need it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from dlstudio.errors import DLStudioError
from dlstudio.explain.explaining import explain_inputs
from dlstudio.explain.inputs import Given, read_inputs
from dlstudio.explain.methods import METHODS, method_named
from dlstudio.explain.result import Explanation
from dlstudio.explain.session import Session
from dlstudio.runs.run import Run

__all__ = ["OtherArguments", "Subject", "subject_of"]


class OtherArguments(DLStudioError):
    """Model, inputs or arguments are not those that an explanation was made with."""


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Subject:
    """What is explained, ready to be explained again with other methods, inputs or weights.

    Attributes:
        model: a module or a function of tensors.
        given: its inputs as tensors.
        target: which output.
        rows: int64 (n,), row numbers in a run's data set.
        background, baseline: what inputs are compared with, by methods that average and by those that do not.
        options: further arguments of `explain`.
        y_true: true targets of a run's rows, or None.
        key, folder: the run's key, and its folder; "" and None without a run.
    """

    model: Any
    given: Given
    target: Any
    rows: npt.NDArray[np.int64]
    background: Any
    baseline: Any
    options: Mapping[str, Any]
    y_true: npt.NDArray[Any] | None = None
    key: str = ""
    folder: Path | None = None

    def references(self, method: str) -> Any:
        """Return what goes into ``baselines=`` for this method."""
        return self.background if METHODS[method].reference == "background" else self.baseline

    def inputs(self, changed: torch.Tensor | None = None) -> Any:
        """Return the inputs as `explain` takes them, with the explained one changed."""
        parts = (self.given.inputs if changed is None else changed, *self.given.extra)
        if self.given.names:
            return dict(zip(self.given.names, parts, strict=True))
        return parts if self.given.extra else parts[0]

    def explain(
        self,
        method: str,
        *,
        model: Any = None,
        inputs: torch.Tensor | None = None,
        baselines: Any = None,
        **options: Any,
    ) -> Explanation:
        """Explain these rows, or changed copies of them, by one method; None leaves things as they are."""
        return explain_inputs(
            self.model if model is None else model,
            self.inputs(inputs),
            target=self.target,
            method=method_named(method).name,
            baselines=self.references(method) if baselines is None else baselines,
            progress=False,
            **{**self.options, **options},
        )


def subject_of(model: Any, inputs: Any, *, target: Any, baselines: Any, options: Mapping[str, Any]) -> Subject:
    """Read a model and its inputs, or a run (or its name, or a `Session`) and row numbers.

    Args:
        model, inputs, target: as in `dlstudio.explain`.
        baselines: one baseline, or the rows of a background, whose mean the methods of one baseline take. For a run
            None takes its own.
        options: further arguments of `explain`; for a run those that describe its data are filled in.

    Raises:
        DLStudioError: as `dlstudio.explain`.
    """
    if isinstance(model, (str, Run, Session)):
        return _of_run(model, inputs, target, baselines, options)
    given = read_inputs(model, inputs)
    options = {"feature_names": given.columns, **options} if given.columns else dict(options)
    return Subject(
        model=model,
        given=given,
        target=target,
        rows=np.arange(len(given.inputs), dtype=np.int64),
        background=baselines,
        baseline=_one_baseline(baselines, given.inputs),
        options=options,
    )


def _of_run(run: Any, rows: Any, target: Any, baselines: Any, options: Mapping[str, Any]) -> Subject:
    session = run if isinstance(run, Session) else Session(run)
    dataset = session.dataset
    chosen = session.checked_rows(rows)
    given = read_inputs(session.model, dataset.inputs[torch.from_numpy(chosen)])
    its_own = {
        "feature_names": session.columns,
        "feature_mask": session.mask,
        "class_names": dataset.class_names,
        "modality": dataset.modality,
        "tokenizer": dataset.vocabulary or None,
    }
    return Subject(
        model=session.model,
        given=given,
        target=session.default_target(given.inputs) if target is None else target,
        rows=chosen,
        background=session.background if baselines is None else baselines,
        baseline=session.baseline if baselines is None else _one_baseline(baselines, given.inputs),
        options={**its_own, **options},
        y_true=dataset.targets[torch.from_numpy(chosen)].numpy(),
        key=session.run.key,
        folder=session.run.folder,
    )


def _one_baseline(baselines: Any, inputs: torch.Tensor) -> Any:
    """Return the mean of a background; of token ids, which have no mean, None, which stands for padding."""
    if baselines is None or np.ndim(baselines) == 0:
        return baselines
    rows = torch.as_tensor(np.asarray(baselines.detach().cpu() if isinstance(baselines, torch.Tensor) else baselines))
    if rows.dim() < inputs.dim() or len(rows) in (1, len(inputs)):
        return baselines
    return rows.to(inputs).mean(dim=0) if inputs.is_floating_point() else None
