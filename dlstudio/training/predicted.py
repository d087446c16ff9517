"""What a run stored of its predictions, read back with what the rows mean: the way in of every audit of a run."""

from __future__ import annotations

import dataclasses
import zipfile
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from dlstudio.errors import DLStudioError

if TYPE_CHECKING:
    import pandas as pd

    from dlstudio.data.dataset import Dataset
    from dlstudio.runs.run import Run

__all__ = ["Predicted", "predictions_of"]

Array = npt.NDArray[Any]

KEYS = ("y_true", "y_pred", "y_score", "row")
DIMENSIONS = ([1, 1, 1, 1], [1, 1, 2, 1])
"""Of these, for quantities and for classes."""


def _no_dataset() -> Dataset | None:
    return None


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Predicted:
    """What a model said of one part of its data.

    Attributes:
        task: ``"binary"``, ``"multiclass"`` or ``"regression"``.
        rows: int64 (n,), row numbers in the data set.
        y_true, y_pred: (n,), int64 class indices, or float64 values in the unit of the target.
        y_score: float64 (n,), the probability of class 1 of two; (n, classes) of more; None for regression. Any score
            of class 1 that decides at 0.5 where `scores_are_probabilities` is False.
        class_names: one per class; () for regression.
        data: the name of the data set; "" where unknown.
        split: which part: ``"val"`` or ``"test"``.
        run: the run's key.
        scores_are_probabilities: False for scores that only rank and decide, such as those of thresholds by group.
        read_dataset: reads the whole data set; it gives None where the run's data were objects, not a bundled name.
    """

    task: str
    rows: npt.NDArray[np.int64]
    y_true: Array
    y_pred: Array
    y_score: Array | None = None
    class_names: tuple[str, ...] = ()
    data: str = ""
    split: str = "test"
    run: str = ""
    scores_are_probabilities: bool = True
    read_dataset: Callable[[], Dataset | None] = dataclasses.field(default=_no_dataset, repr=False)

    def __len__(self) -> int:
        return len(self.rows)

    @cached_property
    def dataset(self) -> Dataset | None:
        """The whole data set, read on first use; row i of these predictions is its row ``rows[i]``.

        Raises:
            DLStudioError: the data have changed since the run was trained, or nothing says which they were.
        """
        return self.read_dataset()

    @cached_property
    def frame(self) -> pd.DataFrame | None:
        """The raw rows of this part, in the order of `rows` and numbered from 0; None where a row is only an array."""
        frame: Any = None if self.dataset is None else self.dataset.frame
        return None if frame is None else frame.iloc[self.rows].reset_index(drop=True)

    @property
    def sensitive(self) -> tuple[str, ...]:
        """Columns of `frame` to assess fairness by."""
        return () if self.dataset is None else tuple(self.dataset.sensitive)

    @property
    def target_name(self) -> str:
        """The column that is predicted."""
        return "target" if self.dataset is None else self.dataset.target_name


def predictions_of(run: Run | str, split: str = "test") -> Predicted:
    """Read what a run stored of its predictions, those of its best weights.

    Args:
        run: the run, or its name, key or id.
        split: ``"test"`` or ``"val"``.

    Raises:
        DLStudioError: the run stored no predictions, or none of this part, or the file is damaged.

    Example:
        >>> p = predictions_of("my-run")
        >>> (p.y_true == p.y_pred).mean(), p.frame["black"].value_counts()
    """
    from dlstudio.runs.run import open_run

    run = open_run(run) if isinstance(run, str) else run
    path = run.folder / "results" / "predictions.npz"
    y_true, y_pred, scores, rows = _arrays(path, split, run.name)
    task = "regression" if scores.ndim == 1 else "binary" if scores.shape[1] == 2 else "multiclass"
    n_classes = 0 if scores.ndim == 1 else scores.shape[1]
    content = _checkpoint_of(run)
    described, recipe = content.get("data", {}), content.get("recipe", {})
    names = tuple(described.get("class_names", ()))
    return Predicted(
        task=task,
        rows=rows.astype(np.int64),
        y_true=y_true.astype(np.int64 if n_classes else np.float64),
        y_pred=y_pred.astype(np.int64 if n_classes else np.float64),
        y_score=None if not n_classes else scores[:, 1].astype(np.float64) if n_classes == 2 else scores.astype(float),
        class_names=names if len(names) == n_classes else tuple(map(str, range(n_classes))),
        data=str(described.get("name", "")),
        split=split,
        run=run.key,
        scores_are_probabilities=bool(content.get("scores_are_probabilities", True)),
        read_dataset=lambda: _dataset(run.name, described, recipe),
    )


def _arrays(path: Path, split: str, name: str) -> tuple[Array, Array, Array, Array]:
    if not path.exists():
        raise DLStudioError(
            "a run that stored its predictions",
            f"{name!r} without {path}",
            "A run of dls.fit or dls.launch stores them when its training ends; or pass y_true and y_pred as arrays.",
        )
    try:
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as found:
            parts = sorted({key.removesuffix("_row") for key in found.files if key.endswith("_row")})
            if not parts:
                raise ValueError("it holds no predictions")
            if split in parts:
                y_true, y_pred, scores, rows = arrays = tuple(found[f"{split}_{key}"] for key in KEYS)
                shapes = [array.shape for array in arrays]
                if len({shape[:1] for shape in shapes}) > 1 or [len(shape) for shape in shapes] not in DIMENSIONS:
                    raise ValueError(f"its arrays have the shapes {', '.join(map(str, shapes))}")
                return y_true, y_pred, scores, rows
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise DLStudioError(
            "a whole file of predictions", f"a damaged {path} ({str(error)[:120]})", "Train the run again."
        ) from error
    raise DLStudioError(
        f"stored predictions of the {split!r} part", f"those of {' and '.join(parts)} only", f"Use split={parts[-1]!r}."
    )


def _checkpoint_of(run: Run) -> dict[str, Any]:
    """What the best checkpoint tells of data and recipe; nothing where there is none: the numbers need no names."""
    from dlstudio.training import checkpoint

    for which in ("best", "last"):
        try:
            return checkpoint.read(checkpoint.path_of(run.folder, which))
        except DLStudioError:
            continue
    return {}


def _dataset(name: str, described: dict[str, Any], recipe: dict[str, Any]) -> Dataset | None:
    from dlstudio.data.dataset import Dataset
    from dlstudio.data.load import available
    from dlstudio.data.prepare import prepare

    if recipe.get("data") not in available():
        return None
    dataset = prepare(recipe["data"], target=recipe.get("target"), sensitive=tuple(recipe.get("sensitive") or ()))
    if "fingerprint" not in described:
        raise DLStudioError(
            f"the data that {name!r} was trained on",
            f"a checkpoint that does not say which {dataset.name!r} that was",
            "Train again; or pass y_true, y_pred and the columns that you need as arrays.",
        )
    if dataset.fingerprint != described["fingerprint"]:
        raise DLStudioError(
            f"the data that {name!r} was trained on",
            f"another version of {dataset.name!r}",
            "Train again, or use the dlstudio version that trained it.",
        )
    assert isinstance(dataset, Dataset)
    return dataset
