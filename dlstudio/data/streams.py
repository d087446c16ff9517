"""Torch Datasets that stay where they are: checked, described and read in batches."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset as TorchDataset
from torch.utils.data import IterableDataset, Subset, TensorDataset

from dlstudio.data.arrays import modality_of, split_rows
from dlstudio.data.dataset import StreamedDataset
from dlstudio.errors import DLStudioError, unknown_name

__all__ = ["from_datasets", "split_dataset"]


def from_datasets(parts: Mapping[str, Any], *, name: str = "datasets") -> StreamedDataset:
    """Describe torch Datasets given as ``{"train": …, "val": …, "test": …}``; ``"test"`` may be left out.

    Targets are read once, to know the classes and to find missing values: from a `TensorDataset` or an
    attribute ``targets`` where there is one, item by item otherwise.

    Raises:
        DLStudioError: a part is missing, unknown, empty or no map-style Dataset of ``(input, target)`` pairs;
            targets are not finite, of one class only, or classes that are not numbered from 0.
    """
    for part in parts:
        if part not in ("train", "val", "test"):
            raise unknown_name("part", part, ("train", "val", "test"))
    for part in ("train", "val"):
        if parts.get(part) is None:
            raise DLStudioError(
                "Datasets for 'train' and 'val'",
                f"no {part!r}",
                "Pass both, or the training Dataset alone to have it split 70, 15 and 15 percent.",
            )
    given = {part: dataset for part, dataset in parts.items() if dataset is not None}
    labels = {part: _labels(dataset, part) for part, dataset in given.items()}
    train = labels["train"]
    if len(np.unique(train)) < 2:
        raise DLStudioError("at least two different targets in 'train'", f"only {train[0]}", "Check the labels.")
    n_classes = 0 if train.dtype.kind == "f" else int(max(values.max() for values in labels.values())) + 1
    if n_classes and min(int(values.min()) for values in labels.values()) < 0:
        raise DLStudioError(
            "class indices from 0", f"{min(map(np.min, labels.values()))}", "Number the classes from 0."
        )
    shapes = {part: tuple(_input(dataset, 0).shape) for part, dataset in given.items()}
    if len(set(shapes.values())) > 1:
        raise DLStudioError("inputs of one shape in all parts", str(shapes), "Apply the same transform to all parts.")
    digest = hashlib.sha256()
    for part in sorted(given):
        digest.update(f"{part} {labels[part].dtype.str} {len(labels[part])} {shapes[part]}\n".encode())
        digest.update(np.ascontiguousarray(labels[part]).data)
        for index in (0, len(labels[part]) - 1):
            digest.update(np.ascontiguousarray(_input(given[part], index).numpy(force=True)).data)
    task = "regression" if not n_classes else "binary" if n_classes == 2 else "multiclass"
    return StreamedDataset(
        train=given["train"],
        val=given["val"],
        test=given.get("test"),
        task=task,
        n_classes=n_classes,
        input_shape=shapes["train"],
        name=name,
        fingerprint=digest.hexdigest(),
        modality=modality_of(_input(given["train"], 0).unsqueeze(0)),
    )


def split_dataset(dataset: Any, *, groups: Any = None, seed: int = 0, name: str = "dataset") -> StreamedDataset:
    """Split one map-style torch Dataset into training, validation and test parts, stratified by its
    targets."""
    labels = _labels(dataset, "the Dataset")
    classes = None if labels.dtype.kind == "f" else labels
    rows = split_rows(classes, len(labels), groups=groups, seed=seed, class_names=())
    return from_datasets({part: Subset(dataset, index.tolist()) for part, index in rows.items()}, name=name)


def _labels(dataset: Any, part: str) -> np.ndarray:
    if isinstance(dataset, IterableDataset) or not (hasattr(dataset, "__len__") and hasattr(dataset, "__getitem__")):
        raise DLStudioError(
            f"a map-style torch Dataset for {part!r}, with len() and an index",
            type(dataset).__name__,
            "Give it __len__ and __getitem__, or write the loop yourself with dlstudio.record.",
        )
    if len(dataset) == 0:
        raise DLStudioError(f"at least one item in {part!r}", "an empty Dataset", "Check where it reads from.")
    first = dataset[0]
    if not isinstance(first, (tuple, list)) or len(first) != 2:
        raise DLStudioError(
            f"items (input, target) in {part!r}",
            f"{type(first).__name__}" + (f" of {len(first)}" if isinstance(first, (tuple, list)) else ""),
            "Wrap the Dataset so that dataset[i] gives one input and one target.",
        )
    if not isinstance(first[0], (torch.Tensor, np.ndarray)):
        raise DLStudioError(
            f"tensors as inputs in {part!r}", type(first[0]).__name__, "Add a transform that makes tensors."
        )
    labels = np.asarray(_read_labels(dataset))
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim != 1 or labels.dtype.kind not in "biuf":
        raise DLStudioError(
            f"one number as the target of every item in {part!r}",
            f"targets of shape {labels.shape[1:]} and type {labels.dtype}",
            "Give class indices from 0, or a float to regress.",
        )
    if labels.dtype.kind == "f":
        if bad := int((~np.isfinite(labels)).sum()):
            raise DLStudioError(
                f"finite targets in {part!r}",
                f"{bad:,} of {len(labels):,} NaN or infinite",
                "Drop those items.",
            )
        return labels.astype(np.float64)
    return labels.astype(np.int64)


def _read_labels(dataset: Any) -> Any:
    if isinstance(dataset, TensorDataset):
        return dataset.tensors[-1].numpy(force=True)
    if isinstance(dataset, Subset):
        return np.asarray(_read_labels(dataset.dataset))[np.asarray(dataset.indices)]
    targets = getattr(dataset, "targets", None)
    if targets is not None and len(targets) == len(dataset) and getattr(dataset, "target_transform", None) is None:
        return targets.numpy(force=True) if isinstance(targets, torch.Tensor) else np.asarray(targets)
    return np.stack([np.asarray(dataset[index][1]) for index in range(len(dataset))])


def _input(dataset: TorchDataset[Any], index: int) -> torch.Tensor:
    return torch.as_tensor(dataset[index][0])
