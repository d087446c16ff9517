"""What several reads of the telemetry brought, before it goes into buckets."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from dlstudio.summary.words import label
from dlstudio.telemetry.reader import Increment, LayerBlock
from dlstudio.widgets.buckets import Array


class Gathered:
    """What several reads brought, to be put into buckets at once."""

    def __init__(self) -> None:
        self.scalars: dict[str, list[tuple[Array, Array]]] = {}
        self.machine: dict[str, list[tuple[Array, Array]]] = {}
        self.layers: dict[tuple[str, ...], list[LayerBlock]] = {}

    def add(self, new: Increment) -> None:
        """Keep the parts of one read, in order."""
        for key, steps, values, _ in new.scalars:
            self.scalars.setdefault(key, []).append((steps, values))
        for key, times, values in new.machine:
            self.machine.setdefault(key, []).append((times, values))
        for block in new.layers:
            self.layers.setdefault(tuple(block.names), []).append(block)


def joined(parts: dict[str, list[tuple[Array, Array]]]) -> Iterator[tuple[str, Array, Array]]:
    """Yield ``(key, x, values)`` for series that came in parts."""
    for key, pieces in parts.items():
        x, values = zip(*pieces, strict=True)
        yield key, np.concatenate(x), np.concatenate(values)


def named(keys: list[str]) -> list[list[str]]:
    """Pair every key with its plain name, told apart by the key where two would read the same."""
    taken: dict[str, str] = {}
    for key in keys:
        taken.setdefault(label(key), key)
    return [[key, label(key) if taken[label(key)] == key else f"{label(key)} ({key})"] for key in keys]
