"""A pair (X, y) of tensors or arrays to a `Dataset`, taken as it is: what is in X is what the model sees."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from dlstudio.data.dataset import Dataset
from dlstudio.data.splits import grouped_splits, stratified_splits
from dlstudio.data.targets import encode_target
from dlstudio.errors import DLStudioError

__all__ = ["as_inputs", "from_arrays", "modality_of", "split_rows"]

_SHAPES = (
    "X as float (n, features), (n, time, channels) or (n, channels, height, width), "
    "uint8 images (n, height, width), or integer token ids (n, length)"
)


def from_arrays(x: Any, y: Any, *, groups: Any = None, seed: int = 0, name: str = "arrays") -> Dataset:
    """Check, type and split a pair of arrays or tensors.

    Args:
        x: see `as_inputs`.
        y: (n,) or (n, 1): integers, booleans or strings are classes, floats are quantities.
        groups: (n,) labels that must not be in two parts, or None.
        seed: of the split.
        name: the data set's name.

    Raises:
        DLStudioError: shapes that do not fit, empty or not finite data, a single class, or too few rows of
            one.
    """
    inputs, modality = as_inputs(x)
    column = y.detach().cpu().numpy() if isinstance(y, torch.Tensor) else np.asarray(y)
    if column.ndim == 2 and column.shape[1] == 1:
        column = column[:, 0]
    if column.ndim != 1:
        raise DLStudioError(
            "one target per row, y of shape (n,)",
            f"shape {column.shape}",
            "For one-hot rows pass y.argmax(1); several targets at once need a model and a loop of your own.",
        )
    if len(column) != len(inputs):
        raise DLStudioError(
            "as many targets as inputs",
            f"{len(inputs):,} inputs and {len(column):,} targets",
            "Align X and y.",
        )
    target = encode_target(column)
    tabular = modality == "tabular"
    names = tuple(f"x{index}" for index in range(inputs.shape[1])) if tabular else ()
    return Dataset(
        name=name,
        modality=modality,
        task=target.task,
        inputs=inputs,
        targets=target.values,
        splits=split_rows(target.classes, len(column), groups=groups, seed=seed, class_names=target.class_names),
        feature_names=names,
        class_names=target.class_names,
        column_of_feature=names,
    )


def as_inputs(x: Any) -> tuple[torch.Tensor, str]:
    """Return X as a tensor of the type that models take, and its modality.

    Floats (n, features) are tabular, (n, time, channels) a sequence, (n, channels, height, width) images;
    they become float32 and are not copied where they are already. uint8 (n, height, width) or (n, channels,
    height, width) are images and scaled to 0..1. Two-dimensional integers are token ids, with 0 for padding.

    Raises:
        DLStudioError: another shape or type, no rows, NaN or infinite values (with count and columns).
    """
    try:
        raw = x.detach().cpu() if isinstance(x, torch.Tensor) else torch.as_tensor(np.asarray(x))
    except (TypeError, ValueError) as error:
        got = f"{type(x).__name__} that torch cannot read ({error})"
        raise DLStudioError(_SHAPES, got, "Pass numbers; put text and categories in a DataFrame.") from error
    if len(raw.shape) == 0 or raw.numel() == 0:
        raise DLStudioError("at least one row and one value", f"X of shape {tuple(raw.shape)}", "Check its source.")
    if raw.is_complex():
        raise DLStudioError("real numbers", str(raw.dtype), "Pass real and imaginary parts as two channels.")
    modality = modality_of(raw)
    if modality == "text":
        if int(raw.min()) < 0:
            raise DLStudioError(
                "token ids of 0 or more (integers in two dimensions are token ids)",
                f"{int(raw.min())} in X",
                "If the columns are features, pass them as float.",
            )
        return raw.long(), modality
    inputs = raw.float() / 255 if raw.dtype == torch.uint8 and modality == "image" else raw.float()
    if modality == "image" and inputs.ndim == 3:
        inputs = inputs.unsqueeze(1)
    bad = ~torch.isfinite(inputs)
    if bad.any():
        place = f"{int(bad.sum()):,} NaN or infinite values"
        if modality == "tabular":
            counts = bad.sum(dim=0)
            columns = counts.nonzero().flatten().tolist()
            shown = ", ".join(f"{column} ({int(counts[column]):,})" for column in columns[:8])
            place += f" in columns {shown}" + (f" and {len(columns) - 8} more" if len(columns) > 8 else "")
        else:
            place += f" in {int(bad.flatten(1).any(dim=1).sum()):,} of {len(inputs):,} rows"
        raise DLStudioError("finite inputs", place, "Drop those rows, or fill them from the training rows.")
    return inputs, modality


def modality_of(raw: torch.Tensor) -> str:
    """Judge a batch of inputs by its shape and type.

    Raises:
        DLStudioError: a shape that no modality has.
    """
    n_dims, whole = raw.ndim, not raw.is_floating_point()
    if n_dims == 2:
        return "text" if whole and raw.dtype not in (torch.uint8, torch.bool) else "tabular"
    if n_dims == 3:
        return "image" if raw.dtype == torch.uint8 else "sequence"
    if n_dims == 4 and (raw.shape[1] <= 4 or raw.shape[3] > 4):
        return "image"
    remedy = {
        1: "For a single feature pass X.reshape(-1, 1).",
        4: "Put the channels second: numpy.moveaxis(X, 3, 1).",
    }.get(n_dims, "Reshape X, or pass torch Datasets and a model of your own.")
    raise DLStudioError(_SHAPES, f"shape {tuple(raw.shape)}", remedy)


def split_rows(
    classes: np.ndarray | None, n: int, *, groups: Any, seed: int, class_names: tuple[str, ...]
) -> dict[str, np.ndarray]:
    """Split by group where groups are given, stratified otherwise."""
    if groups is None:
        return stratified_splits(classes, n, seed=seed, class_names=class_names)
    labels = np.asarray(groups)
    if labels.shape != (n,):
        raise DLStudioError(f"one group per row, shape ({n},)", f"shape {labels.shape}", "Align groups with the rows.")
    if labels.dtype.kind == "O":
        labels = labels.astype(str)
    return grouped_splits(labels, classes, seed=seed)
