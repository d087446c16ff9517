"""The run that a variant comes from, as the configuration of the variant names it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dlstudio.data.dataset import Dataset
from dlstudio.errors import DLStudioError, unknown_name
from dlstudio.runs.run import Run, open_run
from dlstudio.training import checkpoint
from dlstudio.training.predicted import predictions_of

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Parent", "parent_of"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Parent:
    """A run of classes on a table: what it predicts, its data, and the columns that tell its groups."""

    run: Run
    columns: tuple[str, ...]
    task: str
    dataset: Dataset
    frame: pd.DataFrame

    def write_checkpoint(self, folder: Path, by: str, **content: Any) -> None:
        """Write the best checkpoint of the variant: data and model as of this run, and what the weights come from."""
        told = checkpoint.read(checkpoint.path_of(self.run.folder, "best"))
        described = {name: told[name] for name in checkpoint.DESCRIBED}
        trained_by = f"{by} of the run {self.run.name!r}"
        checkpoint.write(checkpoint.path_of(folder, "best"), {**described, "trained_by": trained_by, **content})


def parent_of(config: Mapping[str, Any], options: Sequence[str]) -> Parent:
    """Read the settings ``"run"`` and ``"sensitive_features"`` of a variant.

    Raises:
        DLStudioError: one of them is missing, another setting is not among `options`, or the run does not tell classes
            on a table that has these columns.
    """
    for name in config:
        if name not in ("run", "sensitive_features", *options):
            raise unknown_name("setting", name, ("run", "sensitive_features", *options))
    given = config.get("sensitive_features")
    if not config.get("run") or not given:
        raise DLStudioError(
            "the run and the sensitive_features of a variant",
            f"config={dict(config)}",
            "Write config={'run': 'my-run', 'sensitive_features': ['race']}.",
        )
    run = open_run(config["run"])
    known = predictions_of(run)
    dataset = known.dataset
    if known.task == "regression" or dataset is None or dataset.frame is None:
        got = "a regression" if known.task == "regression" else "data without columns"
        raise DLStudioError(
            "a run that tells classes, on a bundled table", got, "Use train_adversarial or group_thresholds on arrays."
        )
    columns = (given,) if isinstance(given, str) else tuple(given)
    for column in columns:
        if column not in dataset.frame.columns:
            raise unknown_name("column", column, map(str, dataset.frame.columns))
    return Parent(run=run, columns=columns, task=known.task, dataset=dataset, frame=dataset.frame)
