"""What a recorder hands over, turned into record batches; no file system error ever reaches the training loop."""

from __future__ import annotations

import itertools
import json
import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from dlstudio.telemetry.log import EVENTS, LAYER_STATS, SCALARS, TIME, StreamLog, layers_schema

ScalarRow = tuple[int, float, Mapping[str, float]]
"""``(step, time in seconds since the epoch, values by key)``."""


def column(values: npt.NDArray[Any], kind: pa.DataType) -> pa.Array:
    """A numpy array as an Arrow array over the same memory; `pa.array` would import pandas."""
    return pa.Array.from_buffers(kind, len(values), [None, pa.py_buffer(np.ascontiguousarray(values))])


def strings(texts: Sequence[str]) -> pa.Array:
    """Texts as an Arrow array; `pa.array` would import pandas."""
    encoded = [text.encode("utf-8", "replace") for text in texts]
    offsets = np.zeros(len(encoded) + 1, np.int32)
    np.cumsum([len(text) for text in encoded], out=offsets[1:])
    buffers = [None, pa.py_buffer(offsets), pa.py_buffer(b"".join(encoded))]
    return pa.Array.from_buffers(pa.string(), len(encoded), buffers)


def _optional_steps(steps: Sequence[int | None]) -> pa.Array:
    known = np.array([step is not None for step in steps])
    values = np.array([step or 0 for step in steps], np.int64)
    bits = pa.py_buffer(np.packbits(known, bitorder="little").tobytes())
    return pa.Array.from_buffers(pa.int64(), len(steps), [bits, pa.py_buffer(values)])


class ScalarColumns:
    """Builds scalar batches; remembers keys, so that a key costs its text once."""

    def __init__(self) -> None:
        self._index: dict[str, int] = {}
        self._ids: dict[tuple[str, ...], npt.NDArray[np.int32]] = {}
        self._dictionary = strings([])

    def _ids_of(self, keys: tuple[str, ...]) -> npt.NDArray[np.int32]:
        ids = self._ids.get(keys)
        if ids is None:
            ids = np.array([self._index.setdefault(key, len(self._index)) for key in keys], np.int32)
            if len(self._ids) < 4096:
                self._ids[keys] = ids
        return ids

    def batch(self, rows: Sequence[ScalarRow]) -> pa.RecordBatch:
        """One row per scalar, in the order of logging."""
        ids = [self._ids_of(tuple(values)) for _, _, values in rows]
        lengths = np.fromiter(map(len, ids), np.int64, len(ids))
        n = int(lengths.sum())
        if len(self._dictionary) != len(self._index):
            self._dictionary = strings(list(self._index))
        steps = np.fromiter((step for step, _, _ in rows), np.int64, len(rows))
        times = np.fromiter((time * 1e3 for _, time, _ in rows), np.float64, len(rows)).astype(np.int64)
        values = np.fromiter(itertools.chain.from_iterable(v.values() for _, _, v in rows), np.float64, n)
        indices = column(np.concatenate(ids), pa.int32())
        columns = [
            column(np.repeat(steps, lengths), pa.int64()),
            pa.DictionaryArray.from_arrays(indices, self._dictionary),
            column(values, pa.float64()),
            column(np.repeat(times, lengths), TIME),
        ]
        return pa.RecordBatch.from_arrays(columns, schema=SCALARS)


class TelemetryWriter:
    """The one writer of a run's telemetry.

    Afterwards the rows are on disk, or wait in memory for the next attempt, or are counted in `n_lost`; a file
    system error is warned of once and never raised.

    Args:
        folder: the run's telemetry folder; made if it is not there.
        resumed_at: the step from which a continued run goes on.
    """

    def __init__(self, folder: Path, *, resumed_at: int | None = None) -> None:
        self._folder, self._resumed_at = folder, resumed_at
        self._logs: dict[str, StreamLog] = {}
        self._columns = {"scalars": ScalarColumns(), "machine": ScalarColumns()}
        self._unopened = 0
        self.warned = False
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._logs["scalars"] = StreamLog(folder, "scalars", SCALARS, resumed_at=resumed_at)
        except OSError as error:
            self.warn(error)

    @property
    def n_lost(self) -> int:
        """Rows that could not be written so far and are gone."""
        return self._unopened + sum(log.n_lost for log in self._logs.values())

    @property
    def n_pending(self) -> int:
        """Rows that wait in memory because the file system refused them."""
        return sum(log.n_pending for log in self._logs.values())

    def scalars(self, rows: Sequence[ScalarRow]) -> None:
        """Append scalar rows."""
        if rows:
            self._append("scalars", SCALARS, self._columns["scalars"].batch(rows))

    def machine(self, rows: Sequence[ScalarRow]) -> None:
        """Append readings of the machine monitor."""
        if rows:
            self._append("machine", SCALARS, self._columns["machine"].batch(rows))

    def events(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Append events ``{"step", "kind", "message", "data", "time"}``."""
        listed = list(rows)
        if listed:
            columns = [
                _optional_steps([row["step"] for row in listed]),
                strings([row["kind"] for row in listed]),
                strings([row["message"] for row in listed]),
                strings([json.dumps(row["data"], default=str) for row in listed]),
                column(np.array([int(row["time"] * 1e3) for row in listed], np.int64), TIME),
            ]
            self._append("events", EVENTS, pa.RecordBatch.from_arrays(columns, schema=EVENTS))

    def layers(self, family: str, names: list[str], rows: Sequence[tuple[int, float, npt.NDArray[np.float32]]]) -> None:
        """Append layer statistics: ``(step, time, matrix of shape (3, P))`` per sampled step."""
        if not rows:
            return
        steps = column(np.fromiter((step for step, _, _ in rows), np.int64, len(rows)), pa.int64())
        times = column(np.fromiter((int(time * 1e3) for _, time, _ in rows), np.int64, len(rows)), TIME)
        stats = np.stack([matrix for _, _, matrix in rows], axis=1).astype(np.float32, copy=False)
        lists = [
            pa.FixedSizeListArray.from_arrays(column(stats[i].reshape(-1), pa.float32()), len(names))
            for i in range(len(LAYER_STATS))
        ]
        schema = layers_schema(names)
        self._append(family, schema, pa.RecordBatch.from_arrays([steps, *lists, times], schema=schema))

    def _append(self, family: str, schema: pa.Schema, batch: pa.RecordBatch) -> None:
        try:
            log = self._logs.get(family)
            if log is None:
                try:
                    log = StreamLog(self._folder, family, schema, resumed_at=self._resumed_at)
                except OSError:
                    self._unopened += batch.num_rows
                    raise
                self._logs[family] = log
            log.append(batch)
        except OSError as error:
            self.warn(error)

    def warn(self, error: Exception) -> None:
        """Warn, the first time only, that telemetry cannot be written."""
        if not self.warned:
            self.warned = True
            warnings.warn(
                f"dlstudio cannot write telemetry to {self._folder} ({error}). Training goes on; what is lost is "
                "counted and shown with the run. Free or restore the disk to go on recording.",
                RuntimeWarning,
                stacklevel=3,
            )

    def close(self) -> None:
        """Write what is pending and close all files."""
        for log in self._logs.values():
            log.close()
