"""Quantities as they were given: none too large to square."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from dlstudio.errors import DLStudioError

__all__ = ["LARGEST", "small_enough"]

LARGEST = 1e60
"""Fourth powers of it, summed up, are numbers still."""


def small_enough(name: str, values: npt.NDArray[Any]) -> None:
    """Refuse quantities (n,) that are too large to be squared and summed; NaN passes.

    Raises:
        DLStudioError: one is beyond 1e60.
    """
    beyond = np.abs(values) > LARGEST
    if beyond.any():
        raise DLStudioError(
            f"{name} up to {LARGEST:g} in size", f"{values[beyond][0]:g}",
            "Use a larger unit: divide all of them by the same number.",
        )  # fmt: skip
