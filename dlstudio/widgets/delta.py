"""What one browser has of a live view, and the answer that brings the rest."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from dlstudio.widgets.buckets import Array


@dataclass
class Cursor:
    """How far one browser has one series: whole buckets of which generation, and of how many points."""

    generation: int = -1
    n_whole: int = 0
    n_points: int = -1


@dataclass
class Client:
    """What one browser has."""

    seq: int = 0
    series: dict[str, Cursor] = field(default_factory=dict)
    layers: tuple[tuple[str, ...], str] | None = None
    sections: dict[str, str] = field(default_factory=dict)
    event_id: int = 0


class Delta:
    """One answer under construction: a JSON-able part and one binary part, together of bounded size."""

    def __init__(self, limit: int) -> None:
        self.content: dict[str, Any] = {"curves": [], "more": False}
        self.parts: list[bytes] = []
        self.n_bytes = 0
        self.room = limit - 1_024

    def pack(self, array: Array) -> int:
        """Append an array, aligned to 8 bytes; returns where it begins."""
        data = np.ascontiguousarray(array).tobytes()
        data += bytes(-len(data) % 8)
        at = self.n_bytes
        self.parts.append(data)
        self.n_bytes += len(data)
        self.room -= len(data)
        return at


def decode(content: Mapping[str, Any], data: bytes) -> dict[str, Any]:
    """Unpack the arrays of an answer; the twin of what the browser does.

    Returns:
        Under ``"scalar:KEY"``, ``"machine:KEY"`` and ``"layers"``, the arrays that the series' ``points`` and
        ``columns`` gave.
    """

    def array(at: int, dtype: str, *shape: int) -> Array:
        return np.frombuffer(data, dtype, int(np.prod(shape)), at).reshape(shape)

    found: dict[str, Any] = {}
    for entry in content["curves"]:
        n, n_bad = entry["n"], entry["n_bad"]
        x, bad_x, y, bad = entry["at"]
        arrays = (array(x, "<f8", n, 2), array(y, "<f4", n, 3))
        marks = (array(bad_x, "<f8", n_bad), array(bad, "<i4", n_bad, 2))
        found[f"{entry['family']}:{entry['key']}"] = (*arrays, *marks)
    if "layers" in content:
        entry = content["layers"]
        steps, values = entry["at"]
        shape = entry["n"], entry["n_rows"]
        found["layers"] = (array(steps, "<f8", entry["n"], 2), array(values, "<i2", *shape))
    return found
