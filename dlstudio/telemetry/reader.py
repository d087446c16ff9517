"""Tolerant, incremental reading of a run's telemetry.

A reader maps the segments, takes every whole message and stops at the first that is incomplete or unreadable.
What it has read is a *cursor*: a small JSON-able mapping from segment to byte offsets, so that a later read, in this
process or another, pays only for what is new.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from dlstudio.telemetry.log import LAYER_NAMES, LAYER_STATS, MAX_BATCH_ROWS, RESUMED_AT, segments

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float32]
Cursor = dict[str, list[int]]
MAX_SPAN_BYTES = 4 * 2**20
"""At most so much of a file is copied at once to be decoded."""
_IN_THIS_THREAD = pa.ipc.IpcReadOptions(use_threads=False)
"""A flush is small: handing its columns to a thread pool costs more than decoding them."""
Series = tuple[str, Ints, Floats, Floats]
"""``(key, steps, values, times_s)``, all of one length."""


@dataclass(frozen=True, kw_only=True)
class LayerBlock:
    """Layer statistics of ``n`` sampled steps over ``P`` parameters of one watched model.

    Attributes:
        family: tells the watched models of a run apart: ``"layers"``, ``"layers2"``, …
        names: the ``P`` parameter names.
        steps: int64, shape ``(n,)``.
        times_s: float64, shape ``(n,)``, seconds since the epoch.
        stats: float32 matrices of shape ``(n, P)`` under ``"grad_norm"``, ``"weight_norm"``, ``"update_norm"``.
    """

    family: str
    names: list[str]
    steps: Ints
    times_s: Floats
    stats: dict[str, Matrix]


@dataclass(kw_only=True)
class Increment:
    """What was appended since the last read.

    `restarted` says that the run was continued from an earlier step: forget what was read before, this increment
    begins the log anew.
    """

    scalars: list[Series] = field(default_factory=list)
    machine: list[tuple[str, Floats, Floats]] = field(default_factory=list)
    layers: list[LayerBlock] = field(default_factory=list)
    events: list[dict[str, Any]] = field(default_factory=list)
    restarted: bool = False
    more: bool = False

    def __bool__(self) -> bool:
        return bool(self.scalars or self.machine or self.layers or self.events or self.restarted)


class Segment:
    """One file: finds whole messages from an offset on, and decodes them."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.family = path.name.split(".")[0]
        self.damage: str | None = None
        self._head = b""
        self.schema: pa.Schema | None = None

    @property
    def resumed_at(self) -> int | None:
        """The step from which this segment continues the run, if it does."""
        value = (self.schema.metadata or {}).get(RESUMED_AT) if self.schema is not None else None
        return None if value is None else int(value)

    def open(self) -> bool:
        """Read the schema; False while it has not been written yet."""
        if self.schema is None and self.path.stat().st_size:
            with pa.memory_map(str(self.path)) as source:
                try:
                    message = pa.ipc.read_message(source)
                    self.schema = pa.ipc.read_schema(message)
                    self._head = bytes(message.serialize())
                except (pa.ArrowInvalid, OSError, EOFError) as error:
                    self.damage = f"{self.path.name}: no readable beginning ({_reason(error)})"
        return self.schema is not None

    def batches(self, position: list[int]) -> Iterator[pa.RecordBatch]:
        """Yield the rows after `position` in batches of a bounded size, and move it along.

        `position` is ``[offset, dictionary_start, dictionary_end]``; ``[0, 0, 0]`` means from the beginning.
        """
        if self.path.stat().st_size <= position[0] or not self.open():
            return
        with pa.memory_map(str(self.path)) as source:
            data = source.read_buffer()
        self.damage = None
        waiting: list[pa.RecordBatch] = []
        n_rows = 0
        for span in self._spans(data, position):
            stream = None
            for start, end in span.messages:
                try:
                    if stream is None:
                        stream = pa.ipc.open_stream(self._stream_of(data, span), options=_IN_THIS_THREAD)
                    batch = stream.read_next_batch()
                except (pa.ArrowInvalid, OSError, EOFError, StopIteration) as error:
                    self._name_damage(data, start, error)
                    if waiting:
                        yield _combined(waiting)
                    return
                waiting.append(batch)
                n_rows += batch.num_rows
                position[:] = [end, *span.dictionary]
                if n_rows >= MAX_BATCH_ROWS:
                    yield _combined(waiting)
                    waiting, n_rows = [], 0
            if waiting:
                yield _combined(waiting)
                waiting, n_rows = [], 0

    def _spans(self, data: pa.Buffer, position: list[int]) -> list[_Span]:
        """Find whole messages after `position`, grouped by the dictionary that they need."""
        begin = position[0] or len(self._head)
        reader = pa.BufferReader(data.slice(begin))
        spans = [_Span((position[1], position[2]), [])]
        while True:
            start = begin + reader.tell()
            try:
                kind = pa.ipc.read_message(reader).type
            except EOFError:
                if begin + reader.tell() < data.size:
                    self._name_damage(data, start, ValueError("something follows the end of the log"))
                return spans
            except (pa.ArrowInvalid, OSError) as error:
                self._name_damage(data, start, error)
                return spans
            end = begin + reader.tell()
            if kind == "dictionary":
                spans.append(_Span((start, end), []))
            elif kind == "record batch":
                if spans[-1].messages and end - spans[-1].messages[0][0] > MAX_SPAN_BYTES:
                    spans.append(_Span(spans[-1].dictionary, []))
                spans[-1].messages.append((start, end))

    def _stream_of(self, data: pa.Buffer, span: _Span) -> bytes:
        first, last = span.messages[0][0], span.messages[-1][1]
        dictionary = data.slice(span.dictionary[0], span.dictionary[1] - span.dictionary[0])
        return b"".join((self._head, memoryview(dictionary), memoryview(data.slice(first, last - first))))

    def _name_damage(self, data: pa.Buffer, start: int, error: BaseException) -> None:
        self.damage = (
            f"{self.path.name}: {data.size - start} bytes after byte {start} are unreadable ({_reason(error)})"
        )


@dataclass(frozen=True, slots=True)
class _Span:
    """Consecutive record batches, as ``(start, end)`` in bytes, and where the dictionary of their keys lies."""

    dictionary: tuple[int, int]
    messages: list[tuple[int, int]]


def _combined(batches: list[pa.RecordBatch]) -> pa.RecordBatch:
    """Batches of one dictionary as one."""
    if len(batches) == 1:
        return batches[0]
    return pa.Table.from_batches(batches).combine_chunks().to_batches()[0]


def _reason(error: BaseException) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__


def numbers(column: pa.Array, dtype: type[np.generic]) -> npt.NDArray[Any]:
    """An Arrow column without nulls as numpy, over the same memory; `to_numpy` would import pandas."""
    buffer = column.buffers()[1]
    if buffer is None or not len(column):
        return np.empty(0, dtype)
    return np.frombuffer(buffer, dtype, len(column), column.offset * np.dtype(dtype).itemsize)


def times_s(column: pa.Array) -> Floats:
    """Arrow millisecond timestamps as float64 seconds since the epoch."""
    return np.asarray(numbers(column, np.int64) / 1e3)


def by_key(batch: pa.RecordBatch, key: str | None = None) -> Iterator[Series]:
    """Split a batch of scalars into one series per key (or the one asked for), each in the order of logging."""
    column = batch.column("key")
    names = column.dictionary.to_pylist()
    if key is not None and key not in names:
        return
    ids = numbers(column.indices, np.int32)
    steps, values = numbers(batch.column("step"), np.int64), numbers(batch.column("value"), np.float64)
    times = times_s(batch.column("time"))
    if key is not None:
        rows = np.flatnonzero(ids == names.index(key))
        if len(rows):
            yield key, steps[rows], values[rows], times[rows]
        return
    order = np.argsort(ids, kind="stable")
    present, starts = np.unique(ids[order], return_index=True)
    for key_id, rows in zip(present, np.split(order, starts[1:]), strict=True):
        yield names[key_id], steps[rows], values[rows], times[rows]


def layer_block(family: str, batch: pa.RecordBatch) -> LayerBlock:
    """Decode a batch of layer statistics."""
    names = json.loads(batch.schema.metadata[LAYER_NAMES])
    stats = {
        stat: numbers(batch.column(stat).flatten(), np.float32).reshape(batch.num_rows, len(names))
        for stat in LAYER_STATS
    }
    steps = numbers(batch.column("step"), np.int64)
    return LayerBlock(family=family, names=names, steps=steps, times_s=times_s(batch.column("time")), stats=stats)


def event_dicts(batch: pa.RecordBatch) -> list[dict[str, Any]]:
    """Decode a batch of events into ``{"time", "step", "kind", "message", "data"}``."""
    times = times_s(batch.column("time")).tolist()
    rows = batch.drop_columns(["time"]).to_pylist()
    return [{**row, "time": time, "data": json.loads(row["data"])} for row, time in zip(rows, times, strict=True)]


class TelemetryReader:
    """Reads what a run has logged, again and again, each time only what is new.

    Args:
        folder: the run's ``telemetry`` folder; it need not exist yet.
        cursor: where an earlier reader stopped (its `cursor`).

    Example:
        >>> reader = TelemetryReader(run.folder / "telemetry")
        >>> for key, steps, values, times_s in reader.read().scalars: ...
    """

    def __init__(self, folder: Path, cursor: Cursor | None = None) -> None:
        self.folder = Path(folder)
        self.cursor: Cursor = {name: list(position) for name, position in (cursor or {}).items()}
        self._segments: dict[str, Segment] = {}

    @property
    def damage(self) -> list[str]:
        """What could not be read so far, one sentence a file."""
        return [segment.damage for segment in self._segments.values() if segment.damage]

    def _discover(self) -> list[Segment]:
        for path in sorted(self.folder.glob("*.[0-9][0-9][0-9].arrows")):
            if path.name not in self._segments:
                self._segments[path.name] = Segment(path)
        return [segment for _, segment in sorted(self._segments.items()) if segment.open()]

    def valid_until(self, segment: Segment, opened: list[Segment]) -> int | None:
        """The last step of `segment` that a later continuation of the run did not overwrite."""
        later = [
            other.resumed_at
            for other in opened
            if other.family == segment.family and other.path.name > segment.path.name and other.resumed_at is not None
        ]
        return min(later) if later else None

    def batches(self, *families: str, cursor: Cursor | None = None) -> Iterator[tuple[Segment, pa.RecordBatch]]:
        """Yield ``(segment, batch)`` for the named families from `cursor` on (default: the beginning).

        Rows that a continued run has written again are left out. Memory stays bounded by one batch.
        """
        position = {} if cursor is None else cursor
        opened = self._discover()
        for segment in opened:
            if families and segment.family not in families:
                continue
            until = self.valid_until(segment, opened) if segment.family != "machine" else None
            for batch in segment.batches(position.setdefault(segment.path.name, [0, 0, 0])):
                if until is not None:
                    steps = batch.column("step").fill_null(0).to_numpy(zero_copy_only=False)
                    batch = batch.filter(pa.array(steps <= until))
                if batch.num_rows:
                    yield segment, batch

    def read(self, max_rows: int = 1_000_000) -> Increment:
        """Return what is new, at most about `max_rows` rows at once (`more` says that the rest waits)."""
        new = Increment()
        opened = self._discover()
        if self.cursor and any(s.resumed_at is not None and s.path.name not in self.cursor for s in opened):
            new.restarted = True
            self.cursor = {}
        for segment in opened:
            self.cursor.setdefault(segment.path.name, [0, 0, 0])
        n_rows = 0
        scalars: dict[str, list[Series]] = {}
        machine: dict[str, list[Series]] = {}
        for segment, batch in self.batches(cursor=self.cursor):
            if segment.family in ("scalars", "machine"):
                target = scalars if segment.family == "scalars" else machine
                for series in by_key(batch):
                    target.setdefault(series[0], []).append(series)
            elif segment.family == "events":
                new.events.extend(event_dicts(batch))
            else:
                new.layers.append(layer_block(segment.family, batch))
            n_rows += batch.num_rows
            if n_rows >= max_rows:
                new.more = True
                break
        new.scalars = [_join(parts) for parts in scalars.values()]
        new.machine = [(key, times, values) for key, _, values, times in map(_join, machine.values())]
        return new


def _join(parts: list[Series]) -> Series:
    if len(parts) == 1:
        return parts[0]
    columns = zip(*(part[1:] for part in parts), strict=True)
    steps, values, times = (np.concatenate(column) for column in columns)
    return parts[0][0], steps, values, times


__all__ = ["Increment", "LayerBlock", "Segment", "TelemetryReader", "segments"]
