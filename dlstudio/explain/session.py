"""A run made ready to be explained: its model, its rows, and what they are compared with."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from dlstudio import results
from dlstudio.data.dataset import Dataset
from dlstudio.data.prepare import prepare
from dlstudio.errors import DLStudioError
from dlstudio.explain.columns import TableColumn, edited, read_columns
from dlstudio.explain.explaining import explain_inputs
from dlstudio.explain.methods import METHODS
from dlstudio.explain.result import Explanation
from dlstudio.runs.kept import keep
from dlstudio.runs.run import Run, open_run
from dlstudio.training import checkpoint
from dlstudio.training.recipe import Recipe

__all__ = ["N_ROWS", "PREFIX", "Session", "explain_run", "saved_explanations"]

N_ROWS = 100
N_BACKGROUND = 50
AT_ONCE = 512
PREFIX = "explanation-"
"""What the files of saved explanations begin with; the method follows."""


class Session:
    """Everything needed to explain rows of a run again and again; the model and the data are read once.

    Args:
        run: the run, or its name, key or id.

    Attributes:
        run, model, dataset: the run, its best model in eval mode on the CPU, and its data.

    Raises:
        DLStudioError: the run has no checkpoint, was trained on data or a module of your own, or its data have changed.

    Example:
        >>> session = Session("my-run")
        >>> session.explain([17], method="shapley").verdict
        'ok'
    """

    run: Run
    model: nn.Module
    dataset: Dataset

    def __init__(self, run: Run | str) -> None:
        self.run = open_run(run) if isinstance(run, str) else run
        path = checkpoint.path_of(self.run.folder, "best")
        content = checkpoint.read(path)
        if not content["plain_recipe"] or not content["named_model"]:
            raise DLStudioError(
                "a run of a named data set and a named model",
                f"{self.run.name!r} with {content['recipe']['data']} and {content['recipe']['model']}",
                "Explain the module itself: dls.explain(dls.load_model(run, model=MyModule()), inputs, target=...).",
            )
        self.model = checkpoint.load_model(self.run)
        recipe = Recipe.from_dict(content["recipe"])
        dataset = prepare(recipe.data, target=recipe.target, sensitive=recipe.sensitive)
        if dataset.fingerprint != content["data"]["fingerprint"]:
            raise DLStudioError(
                f"the data that {self.run.name!r} was trained on",
                f"another version of {dataset.name!r}",
                "Train again, or use the dlstudio version that trained it.",
            )
        assert isinstance(dataset, Dataset)
        self.dataset = dataset

    @cached_property
    def background(self) -> torch.Tensor:
        """Up to 50 training rows, the same every time, that stand for the data."""
        rows = np.sort(np.random.default_rng(0).permutation(self.dataset.splits["train"])[:N_BACKGROUND])
        return self.dataset.inputs[torch.from_numpy(rows)]

    @cached_property
    def baseline(self) -> torch.Tensor:
        """One input that stands for 'nothing known': the mean training row, black, or padding."""
        if self.dataset.modality in ("image", "text"):
            return torch.zeros_like(self.dataset.inputs[0])
        return self.dataset.inputs[torch.from_numpy(self.dataset.splits["train"])].mean(dim=0)

    @cached_property
    def columns(self) -> tuple[str, ...]:
        """Names of what gets an attribution: original columns of a table, channels of a sequence."""
        if self.dataset.modality != "tabular":
            return self.dataset.feature_names
        return tuple(dict.fromkeys(self.dataset.column_of_feature)) or self.dataset.feature_names

    @cached_property
    def mask(self) -> torch.Tensor | None:
        """Which column every encoded feature belongs to, where some column became several features."""
        made_from = self.dataset.column_of_feature
        if self.dataset.modality != "tabular" or len(self.columns) == len(made_from) or not made_from:
            return None
        return torch.tensor([self.columns.index(column) for column in made_from])

    def test_rows(self, n: int = N_ROWS) -> npt.NDArray[np.int64]:
        """Return the first `n` rows of the test part."""
        return self.dataset.splits["test"][:n].astype(np.int64)

    def outputs(self, inputs: torch.Tensor) -> npt.NDArray[np.float64]:
        """Return the model's outputs (n, k) for encoded inputs: logits of classes, or the predicted value."""
        with torch.no_grad():
            found = torch.cat([self.model(part) for part in inputs.split(AT_ONCE)])
        return found.reshape(len(inputs), -1).double().numpy()

    def probabilities(self, inputs: torch.Tensor) -> npt.NDArray[np.float64]:
        """Return the probability of every class (n, k), or the predicted value (n, 1) of a regression."""
        outputs = torch.from_numpy(self.outputs(inputs))
        return (outputs if self.dataset.task == "regression" else outputs.softmax(dim=1)).numpy()

    def default_target(self, inputs: torch.Tensor) -> npt.NDArray[np.int64]:
        """Return class 1 of two for every row, else the predicted class; 0 for a regression."""
        if self.dataset.task == "binary":
            return np.ones(len(inputs), dtype=np.int64)
        predicted: npt.NDArray[np.int64] = self.outputs(inputs).argmax(axis=1)
        return predicted

    def explain(
        self,
        rows: Sequence[int] | npt.NDArray[np.int64] | None = None,
        *,
        inputs: torch.Tensor | None = None,
        target: Any = None,
        method: str = "auto",
        baselines: Any = None,
        **options: Any,
    ) -> Explanation:
        """Explain rows of the data set, or edited copies of them.

        Args:
            rows: row numbers in the data set; None takes the first 100 test rows.
            inputs: changed copies of these rows as the model takes them, (rows, ...), one a row, to be explained in
                their place. Nobody knows what would be true of them, so `y_true` is None.
            target, method, baselines, options: as in `dlstudio.explain`.

        Returns:
            The explanation. It is not saved; `explain_run` does that.

        Raises:
            DLStudioError: a row number is out of range, `inputs` are not as many or of another shape, and as
                `dlstudio.explain`.
        """
        chosen = self.checked_rows(rows)
        given = self.dataset.inputs[torch.from_numpy(chosen)] if inputs is None else inputs
        self._check_shape(given, len(chosen))
        target = self.default_target(given) if target is None else target
        compared_with = "what the caller gave"
        if baselines is None:
            background = method == "auto" or (method in METHODS and METHODS[method].reference == "background")
            if method == "auto" and self.dataset.modality != "tabular":
                background = False
            baselines = self.background if background else self.baseline
            compared_with = f"{len(self.background)} training rows" if background else self._baseline_name
        found = explain_inputs(
            self.model,
            given,
            target=target,
            method=method,
            baselines=baselines,
            feature_names=self.columns,
            feature_mask=self.mask,
            class_names=self.dataset.class_names,
            modality=self.dataset.modality,
            tokenizer=self.dataset.vocabulary or None,
            **options,
        )
        n = len(found)
        values, labels = found.inputs, found.labels
        if self.dataset.modality == "tabular" and found.method != "layer_conductance":
            values, labels = self.raw(given[:n])
        truth = self.dataset.targets[torch.from_numpy(chosen[:n])].numpy() if inputs is None else None
        compares = METHODS[found.method].reference != "none"
        return dataclasses.replace(
            found,
            run=self.run.key,
            rows=chosen[:n],
            y_true=truth,
            inputs=values,
            labels=labels,
            settings={**found.settings, "compared_with": compared_with} if compares else found.settings,
        )

    @property
    def _baseline_name(self) -> str:
        return {"image": "black", "text": "padding"}.get(self.dataset.modality, "the mean training row")

    def _check_shape(self, inputs: Any, n: int) -> None:
        wanted = (n, *self.dataset.inputs.shape[1:])
        if not isinstance(inputs, torch.Tensor) or tuple(inputs.shape) != wanted:
            shape = f"shape {tuple(inputs.shape)}" if isinstance(inputs, torch.Tensor) else type(inputs).__name__
            raise DLStudioError(
                f"a tensor of inputs of shape {wanted}, one a row",
                shape,
                "Pass the row that each input was made from: session.explain([17], inputs=session.edited(17, {...})).",
            )

    @cached_property
    def table(self) -> dict[str, TableColumn]:
        """The columns of a table by name, with what they can be edited to."""
        return {column.name: column for column in read_columns(self.dataset)}

    def edited(self, row: int, changes: Mapping[str, Any]) -> torch.Tensor:
        """Return a copy of a table row as the model takes it, (1, features), with raw values written into columns.

        Raises:
            DLStudioError: a column is unknown, or a value does not fit it.

        Example:
            >>> session.explain([17], inputs=session.edited(17, {"loan_to_value": 0.8}))
        """
        at = int(self.checked_rows([row])[0])
        return edited(self.dataset.inputs[at], self.table, changes).unsqueeze(0)

    def raw(self, inputs: torch.Tensor) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.str_]]:
        """Return encoded table rows as people know them, (n, columns): numbers (a category's place), and text."""
        encoded = inputs.double().numpy()
        columns = self.table.values()
        numbers = np.stack([column.values(encoded) for column in columns], axis=1)
        return numbers, np.array([column.shown(encoded) for column in columns], dtype=np.str_).T

    def checked_rows(self, rows: Any) -> npt.NDArray[np.int64]:
        """Return row numbers of the data set; None takes the first 100 test rows.

        Raises:
            DLStudioError: they are no whole numbers, or out of range.
        """
        if rows is None:
            return self.test_rows()
        chosen = np.atleast_1d(np.asarray(rows))
        if chosen.ndim != 1 or chosen.dtype.kind not in "iu" or not len(chosen):
            raise DLStudioError(
                "row numbers of the data set",
                f"{chosen.dtype} of shape {chosen.shape}",
                "Pass for instance [0, 5, 17].",
            )
        bad = chosen[(chosen < 0) | (chosen >= len(self.dataset))]
        if len(bad):
            raise DLStudioError(
                f"row numbers from 0 to {len(self.dataset) - 1:,}", f"{int(bad[0])}", "Choose rows of the data set."
            )
        return chosen.astype(np.int64)


def explain_run(run: Run | str, rows: Any = None, **options: Any) -> Explanation:
    """Explain rows of a run, see `dlstudio.explain`, and save the result as ``results/explanation-METHOD.json``.

    A saved explanation of more rows by the same method and of the same model stays, so that a look at one row does not
    take away what page and report show; the result is returned all the same. One of as many rows or more, or of a
    model that has been trained on since, replaces it.
    """
    session = Session(run)
    found = session.explain(rows, **options)
    keep(found, f"{PREFIX}{found.method}", folder=session.run.folder, n_rows=len)
    return found


def saved_explanations(run: Run | str) -> dict[str, Explanation]:
    """Return the explanations saved with a run, by method; those of another schema are left out."""
    run = open_run(run) if isinstance(run, str) else run
    found = {}
    for path in sorted((run.folder / "results").glob(f"{PREFIX}*.json")):
        try:
            explanation = results.load(path)
        except DLStudioError:
            continue
        if isinstance(explanation, Explanation):
            found[explanation.method] = explanation
    return found
