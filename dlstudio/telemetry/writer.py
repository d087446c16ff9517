"""What a recorder hands over, turned into record batches; a file system that refuses never reaches the training loop."""

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


class ScalarColumns:
    """Builds scalar batches; remembers keys, so that a key costs its text once."""

    def __init__(self) -> None:
        self._index: dict[str, int] = {}
        self._ids: dict[tuple[str, ...], npt.NDArray[np.int32]] = {}
        self._dictionary = pa.array([], pa.string())

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
            self._dictionary = pa.array(list(self._index), pa.string())
        steps = np.fromiter((step for step, _, _ in rows), np.int64, len(rows))
        times = np.fromiter((time * 1e3 for _, time, _ in rows), np.float64, len(rows)).astype(np.int64)
        values = np.fromiter(itertools.chain.from_iterable(v.values() for _, _, v in rows), np.float64, n)
        keys = pa.DictionaryArray.from_arrays(pa.array(np.concatenate(ids)), self._dictionary)
        columns = [
            pa.array(np.repeat(steps, lengths)),
            keys,
            pa.array(values),
            pa.array(np.repeat(times, lengths)).cast(TIME),
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
        except OSError as error:
            self._warn(error)

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
        listed = [
            {**row, "data": json.dumps(row["data"], default=str), "time": int(row["time"] * 1e3)} for row in rows
        ]
        if listed:
            self._append("events", EVENTS, pa.RecordBatch.from_pylist(listed, schema=EVENTS))

    def layers(
        self, family: str, names: list[str], rows: Sequence[tuple[int, float, npt.NDArray[np.float32]]]
    ) -> None:
        """Append layer statistics: ``(step, time, matrix of shape (3, P))`` per sampled step."""
        if not rows:
            return
        steps = pa.array(np.fromiter((step for step, _, _ in rows), np.int64, len(rows)))
        times = pa.array(np.fromiter((int(time * 1e3) for _, time, _ in rows), np.int64, len(rows))).cast(TIME)
        stats = np.stack([matrix for _, _, matrix in rows], axis=1).astype(np.float32, copy=False)
        lists = [
            pa.FixedSizeListArray.from_arrays(pa.array(stats[i].reshape(-1)), len(names))
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
            self._warn(error)

    def _warn(self, error: OSError) -> None:
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
