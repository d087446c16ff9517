"""Values in pandas objects, whose index tells which seed or row each is of."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

from dlstudio.data.values import counts_rows

__all__ = ["are_labelled", "pairs_of"]


def are_labelled(what: Mapping[Any, Any]) -> bool:
    """Return whether the index of a Series among these names seeds: one that only counts from 0 names nothing."""
    return any(_is_series(one) and not counts_rows(one.index) for one in what.values())


def pairs_of(values: Any, labelled: bool) -> list[tuple[Any, Any]] | None:
    """Return (seed, value) of a mapping, or where they are `labelled` of a Series; None of a sequence."""
    return list(values.items()) if isinstance(values, Mapping) or (labelled and _is_series(values)) else None


def _is_series(values: Any) -> bool:
    pandas = sys.modules.get("pandas")  # whoever has a Series has imported it
    return pandas is not None and isinstance(values, pandas.Series)
