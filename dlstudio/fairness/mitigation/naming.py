"""The name of every row's group, also of a single row that is decided on alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from dlstudio.errors import DLStudioError
from dlstudio.fairness.groups import AND, MISSING, MOST_GROUPS, columns_of

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["group_names"]


def group_names(given: Any, n: int, frame: pd.DataFrame | None = None) -> tuple[str, npt.NDArray[np.str_]]:
    """Return what groups are told apart by, and the group of every row, (n,).

    Values of several columns are joined by " × "; missing values are a group named "missing".

    Args:
        given, n, frame: as for `dlstudio.fairness.groups.columns_of`.

    Raises:
        DLStudioError: as `columns_of`, or there are more than 50 groups.
    """
    import pandas as pd

    columns = columns_of(given, n, frame)
    joint: npt.NDArray[np.str_] | None = None
    for column in columns.values():
        codes, values = pd.factorize(column if isinstance(column, pd.Series) else np.asarray(column, dtype=object))
        if len(values) > MOST_GROUPS:
            joint = None
            break
        shown = [f"{value:g}" if isinstance(value, (float, np.floating)) else str(value) for value in values]
        names = np.array([*shown, MISSING])[codes]
        joint = names if joint is None else np.char.add(np.char.add(joint, AND), names)
    n_groups = 0 if joint is None else len(np.unique(joint))
    if joint is None or n_groups > MOST_GROUPS:
        found = f"{n_groups:,}" if n_groups else "a column of more"
        raise DLStudioError(f"at most {MOST_GROUPS} groups", found, "Join rare values, or make bins of numbers first.")
    return AND.join(columns), joint
