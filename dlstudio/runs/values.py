"""What a user may log and configure, as plain numbers and JSON; nothing else gets into a run's files."""

from __future__ import annotations

import operator
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dlstudio.errors import DLStudioError
from dlstudio.telemetry.writer import ScalarRow

if TYPE_CHECKING:
    from dlstudio.telemetry.hostcopy import HostCopy


@dataclass(slots=True)
class PendingRow:
    """A logged row of which some values are still on their way from the device."""

    step: int
    time_s: float
    values: dict[str, float]
    keys: list[str]
    copy: HostCopy

    def arrived(self) -> ScalarRow:
        """The row with the values that the device has delivered."""
        found = dict(zip(self.keys, self.copy.numpy().tolist(), strict=True))
        return self.step, self.time_s, {key: found.get(key, value) for key, value in self.values.items()}


def scalar_row(values: Mapping[str, Any], step: int) -> ScalarRow | PendingRow:
    """One row of numbers from whatever counts as one; device tensors are copied without waiting for them.

    Raises:
        DLStudioError: a value is no number, or a key no text.
    """
    converted: dict[str, float] = {}
    keys, tensors = [], []
    for key, value in values.items():
        if hasattr(value, "detach"):
            if value.numel() != 1 or value.is_complex():
                raise _no_number(key, f"a {value.dtype} tensor of shape {tuple(value.shape)}")
            if value.device.type == "cpu":
                converted[key] = float(value.item())
            else:
                keys.append(key)
                tensors.append(value)
                converted[key] = float("nan")
        else:
            try:
                converted[key] = float(value)
            except (TypeError, ValueError) as error:
                raise _no_number(key, f"{value!r} of type {type(value).__name__}") from error
        if not isinstance(key, str):
            raise DLStudioError("text as the name of a metric", repr(key), "Use a string key.")
    if not tensors:
        return step, time.time(), converted
    from dlstudio.telemetry.hostcopy import stack_scalars

    return PendingRow(step, time.time(), converted, keys, stack_scalars(tensors))


def whole_step(step: Any) -> int:
    """A step as an int, from any type that holds a whole number."""
    try:
        return operator.index(step)
    except TypeError:
        if isinstance(step, float) and step.is_integer():
            return int(step)
        raise DLStudioError("a whole number as the step", repr(step), "Count optimiser steps.") from None


def _no_number(key: object, got: str) -> DLStudioError:
    return DLStudioError(
        f"a number or a one-element tensor for {key!r}", got, "Reduce it first, for instance with .mean()."
    )


def plain(value: Any) -> Any:
    """A JSON-able stand-in for any value of a config: itself where possible, else its description."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return [plain(item) for item in list(value)[:1000]]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if hasattr(value, "item") and getattr(value, "size", 0) == 1 and not callable(getattr(value, "size", None)):
        return plain(value.item())
    text = getattr(value, "__name__", None) or repr(value)
    return text if len(text) <= 500 else text[:497] + "…"
