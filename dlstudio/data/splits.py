"""Training, validation and test rows: 70, 15 and 15 percent, stratified or by group."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from dlstudio.errors import DLStudioError

__all__ = ["SHARES", "distinct", "grouped_splits", "stratified_splits"]

SHARES = {"train": 0.70, "val": 0.15, "test": 0.15}


def stratified_splits(
    classes: np.ndarray | None, n: int, *, seed: int = 0, class_names: Sequence[str] = ()
) -> dict[str, np.ndarray]:
    """Split rows at random so that every part has the same mix of classes.

    Args:
        classes: int (n,) class index of every row, or None to split without regard to classes (regression).
        n: the number of rows.
        seed: the split depends on this and on `classes` only.
        class_names: for the error message.

    Returns:
        ``"train"``, ``"val"``, ``"test"`` to sorted int64 row indices; every row is in exactly one part and
        every class in all three.

    Raises:
        DLStudioError: a class has fewer than three rows.

    Example:
        >>> {name: len(rows) for name, rows in stratified_splits(None, 100).items()}
        {'train': 70, 'val': 15, 'test': 15}
    """
    rng = torch.Generator().manual_seed(seed)  # torch is there; numpy.random would be another import
    pieces: dict[str, list[np.ndarray]] = {name: [] for name in SHARES}
    for index in [None] if classes is None else distinct(classes):
        rows = np.arange(n) if classes is None else np.flatnonzero(classes == index)
        if len(rows) < len(SHARES):
            label = "" if index is None else f" of class {str(class_names[index] if class_names else index)!r}"
            raise DLStudioError(
                "at least three rows of every class, one each to train, validate and test",
                f"{len(rows)}{label}",
                "Collect more rows, or drop or merge rare classes. If this is a quantity, make it float.",
            )
        n_val = max(1, round(SHARES["val"] * len(rows)))
        n_test = max(1, round(SHARES["test"] * len(rows)))
        test, val, train = np.split(rows[torch.randperm(len(rows), generator=rng).numpy()], [n_test, n_test + n_val])
        for name, piece in (("train", train), ("val", val), ("test", test)):
            pieces[name].append(piece)
    return {name: np.sort(np.concatenate(parts)).astype(np.int64) for name, parts in pieces.items()}


def distinct(values: np.ndarray) -> np.ndarray:
    """Return the different values in order, as `np.unique` does; but without importing `numpy.ma`."""
    ordered: np.ndarray = np.sort(values)
    first = np.ones(len(ordered), dtype=bool)
    first[1:] = ordered[1:] != ordered[:-1]
    return ordered[first]


def grouped_splits(groups: np.ndarray, classes: np.ndarray | None = None, *, seed: int = 0) -> dict[str, np.ndarray]:
    """Split rows so that no group is in two parts, with sizes and class mix as near as the groups allow.

    Args:
        groups: (n,) a label per row, such as a patient or a subject.
        classes: int (n,) class index of every row, or None.
        seed: decides between equally good places.

    Returns:
        As `stratified_splits`; whether every class reaches every part depends on the groups.

    Raises:
        DLStudioError: there are fewer than three groups, or a class is missing in the training part.
    """
    labels, group_of_row = np.unique(groups, return_inverse=True)
    if len(labels) < len(SHARES):
        raise DLStudioError(
            "at least three groups, one each to train, validate and test",
            f"{len(labels)} ({', '.join(map(str, labels))})",
            "Choose a column with more groups, or leave groups out for a stratified split.",
        )
    columns = np.zeros(len(groups), dtype=np.int64) if classes is None else classes
    counts = np.zeros((len(labels), int(columns.max()) + 1))
    np.add.at(counts, (group_of_row, columns), 1)
    counts = counts / np.maximum(counts.sum(axis=0), 1)  # share of each class that a group holds

    shares = np.array(list(SHARES.values()))[:, None]
    filled = np.zeros((len(SHARES), counts.shape[1]))
    part_of_group = np.empty(len(labels), dtype=np.int64)
    shuffled = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed)).numpy()
    largest_first = shuffled[np.argsort(-counts[shuffled].sum(axis=1), kind="stable")]
    for position, group in enumerate(largest_first):
        lack = (shares - filled) @ counts[group]
        empty = filled.sum(axis=1) == 0
        if len(labels) - position <= empty.sum():  # the last groups go where there is none yet
            lack[~empty] = -np.inf
        part = int(np.argmax(lack))
        part_of_group[group] = part
        filled[part] += counts[group]

    part_of_row = part_of_group[group_of_row]
    splits = {name: np.flatnonzero(part_of_row == part).astype(np.int64) for part, name in enumerate(SHARES)}
    if classes is not None:
        missing = np.setdiff1d(np.unique(classes), np.unique(classes[splits["train"]]))
        if len(missing):
            raise DLStudioError(
                "every class in the training part",
                f"class indices {missing.tolist()} only in groups that went elsewhere",
                "Try another seed, or choose finer groups: here a class lives in too few of them.",
            )
    return splits
