"""One row of an array or of a data set, as columns that may change."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from dlstudio.errors import DLStudioError
from dlstudio.explain.columns import line_of
from dlstudio.explain.counterfactuals.constraints import Constraints, category_column, check_names, number_column
from dlstudio.explain.counterfactuals.space import Array, Column, Space

if TYPE_CHECKING:
    from dlstudio.data.dataset import Dataset

__all__ = ["points_of", "space_of_array", "space_of_dataset"]


def space_of_array(
    row: Array,
    background: Array | None,
    feature_names: Sequence[str],
    column_of_feature: Sequence[str],
    constraints: Constraints,
) -> Space:
    """Describe a row (features,) as it is: every feature a column of numbers, or one category of a column.

    Args:
        row: what the model is given; of an integer type, all its columns are whole numbers.
        background: (m, features) rows that give ranges and units, or None.
        feature_names: one a feature, or () for ``x0, x1, ...``.
        column_of_feature: the column that each feature belongs to, or (). Several features of one column are its
            categories, 0 and 1, named ``"COLUMN=CATEGORY"``.
        constraints: what may change.

    Raises:
        DLStudioError: names that do not fit the row, or constraints on what is not there.
    """
    names = tuple(map(str, feature_names)) or tuple(f"x{at}" for at in range(len(row)))
    sources = tuple(map(str, column_of_feature)) or names
    for what, given in (("feature_names", names), ("column_of_feature", sources)):
        if len(given) != len(row):
            raise DLStudioError(f"{len(row)} {what}, one a feature", f"{len(given)}", "Name every feature once.")
    groups = _groups(sources)
    if len(groups) < len(row) and not column_of_feature:
        raise DLStudioError("names that differ", f"{len(groups)} different ones of {len(row)}", "Name every one once.")
    check_names(constraints, list(groups))
    columns = []
    for name, features in groups.items():
        if len(features) > 1 and names[features[0]] != name:
            columns.append(_one_hot(row, name, features, names, constraints))
            continue
        known = None if background is None else np.asarray(background[:, features[0]], dtype=np.float64)
        missing = len(features) > 1 and row[features[1]] != 0
        columns.append(
            number_column(
                name, features, float(row[features[0]]), known, constraints, whole=row.dtype.kind in "iu", fixed=missing
            )
        )
    return Space(row, columns)


def space_of_dataset(dataset: Dataset, row: Array, at: int | None, constraints: Constraints) -> Space:
    """Describe an encoded row (features,) of a data set in its original columns and units.

    Ranges, units and decimals are those of the training rows. A column whose value is missing may not change.

    Args:
        dataset: a table.
        row: the encoded row.
        at: its number in the data set, to read its raw values; None for a row from elsewhere.
        constraints: what may change.
    """
    names, groups = dataset.feature_names, _groups(dataset.column_of_feature or dataset.feature_names)
    check_names(constraints, list(groups))
    train = np.asarray(dataset.splits["train"])
    frame = dataset.frame
    columns: list[Column] = []
    for name, features in groups.items():
        raw = frame[name] if frame is not None and name in frame.columns else None
        if names[features[0]] != name:
            shown = None if raw is None or at is None else str(raw.iloc[at])
            columns.append(_one_hot(row, name, features, names, constraints, shown=shown))
            continue
        encoded = dataset.inputs[:, features[0]].numpy().astype(np.float64)
        offset, slope, numbers = line_of(raw, encoded)
        current = float(numbers[at]) if at is not None else _near(row[features[0]] * slope + offset, numbers, slope)
        lacking = bool(np.isnan(current)) or (len(features) > 1 and row[features[1]] != 0)
        known = numbers[train]
        columns.append(
            number_column(
                name,
                features,
                0.0 if lacking else current,
                known[np.isfinite(known)],
                constraints,
                fixed=lacking,
                offset=offset,
                slope=slope,
                shown="missing" if lacking else None,
            )  # fmt: skip
        )
    return Space(row, columns)


def points_of(space: Space, rows: Array) -> Array:
    """Return encoded rows (m, features) as points (m, columns); what a column cannot hold is the start's own value."""
    points = np.tile(space.start, (len(rows), 1))
    for at in space.free:
        column = space.columns[at]
        found = rows[:, list(column.features)].astype(np.float64)
        if column.codes is None:
            points[:, at] = found[:, 0] * column.slope + column.offset
        else:
            gaps = np.abs(found[:, None] - column.codes[None]).sum(axis=2)
            points[:, at] = np.where(gaps.min(axis=1) < 1e-5, gaps.argmin(axis=1), points[:, at])
    return points


def _groups(sources: Sequence[str]) -> dict[str, tuple[int, ...]]:
    groups: dict[str, tuple[int, ...]] = {}
    for at, name in enumerate(sources):
        groups[name] = (*groups.get(name, ()), at)
    return groups


def _one_hot(
    row: Array,
    name: str,
    features: tuple[int, ...],
    names: Sequence[str],
    constraints: Constraints,
    *,
    shown: str | None = None,
) -> Column:
    own = row[list(features)]
    if not np.isin(own, (0, 1)).all() or own.sum() > 1:
        raise DLStudioError(
            f"the features of {name!r} to be 0 but for a single 1", f"{own.tolist()}", "Encode one category a row."
        )
    current = int(own.argmax()) if own.any() else -1
    labels = [names[at].removeprefix(f"{name}=") for at in features]
    return category_column(
        name, features, labels, np.eye(len(features)), current, constraints, shown=shown if current < 0 else None
    )


def _near(number: float, known: Array, slope: float) -> float:
    """The known number that single precision cannot tell from this one, or the number itself."""
    gaps = np.abs(known - number)
    if np.isfinite(gaps).any() and np.nanmin(gaps) <= 1e-5 * abs(slope):
        return float(known[np.nanargmin(gaps)])
    return float(number)
