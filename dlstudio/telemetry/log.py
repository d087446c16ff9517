"""Append-only Arrow IPC streams: the files behind a run's telemetry.

Every family of rows (``scalars``, ``machine``, ``events``, ``layers…``) is a sequence of numbered segments
``FAMILY.000.arrows``, each an ordinary Arrow IPC stream that pyarrow reads alone. One process writes; a process
that continues a run opens the next segment, so nothing that was written is ever touched again.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
from pathlib import Path

import pyarrow as pa

TIME = pa.timestamp("ms", tz="UTC")
SCALARS = pa.schema(
    [("step", pa.int64()), ("key", pa.dictionary(pa.int32(), pa.string())), ("value", pa.float64()), ("time", TIME)]
)
EVENTS = pa.schema(
    [("step", pa.int64()), ("kind", pa.string()), ("message", pa.string()), ("data", pa.string()), ("time", TIME)]
)
LAYER_STATS = ("grad_norm", "weight_norm", "update_norm")

MAX_BATCH_ROWS = 65_536
"""A record batch never holds more rows, so that a reader's memory is bounded by one batch."""
MAX_PENDING_BYTES = 32 * 2**20
"""What a writer keeps in memory while the disk refuses it; beyond that, rows are dropped and counted."""

_SEGMENT = re.compile(r"\w+\.\d{3}\.arrows")
RESUMED_AT = b"resumed_at"
LAYER_NAMES = b"names"


def layers_schema(names: list[str]) -> pa.Schema:
    """Schema of a layer family: one row per sampled step, one fixed-size float32 list per statistic."""
    row = pa.list_(pa.float32(), len(names))
    fields = [("step", pa.int64()), *((stat, row) for stat in LAYER_STATS), ("time", TIME)]
    return pa.schema(fields, metadata={LAYER_NAMES: json.dumps(names).encode()})


def segments(folder: Path, family: str) -> list[Path]:
    """All segments of a family in the order they were written."""
    names = sorted(name for name in os.listdir(folder) if _SEGMENT.fullmatch(name) and name.startswith(f"{family}."))
    return [folder / name for name in names]


class StreamLog:
    """The single writer of one family.

    A failed write never damages the file: it is cut back to its last whole message and the bytes wait in memory
    for the next attempt.

    Args:
        folder: the run's telemetry folder; it must exist.
        family: name of the family, such as ``"scalars"``.
        schema: Arrow schema of its rows.
        resumed_at: the step from which a continued run goes on; earlier segments are valid up to that step.

    Raises:
        OSError: the segment cannot be created.
    """

    def __init__(self, folder: Path, family: str, schema: pa.Schema, *, resumed_at: int | None = None) -> None:
        if resumed_at is not None:
            schema = schema.with_metadata({**(schema.metadata or {}), RESUMED_AT: str(resumed_at).encode()})
        self._folder, self._family, self._schema = folder, family, schema
        self.n_lost = 0
        self._open()

    def _open(self) -> None:
        number = len(segments(self._folder, self._family))
        self._path = self._folder / f"{self._family}.{number:03d}.arrows"
        self._fd = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o644)
        self._inode = os.fstat(self._fd).st_ino
        self._size = 0
        self._sink = io.BytesIO()
        options = pa.ipc.IpcWriteOptions(compression="zstd", unify_dictionaries=False)
        self._writer = pa.ipc.new_stream(self._sink, self._schema, options=options)
        # The schema is written at once, so that a reader sees an empty log and not a broken one.
        self._pending: list[tuple[bytes, int]] = [(self._take(), 0)]
        with contextlib.suppress(OSError):
            self._drain()

    def _take(self) -> bytes:
        written = self._sink.getvalue()
        self._sink.seek(0)
        self._sink.truncate()
        return written

    def append(self, batch: pa.RecordBatch) -> None:
        """Write one batch, or keep it for the next call.

        Raises:
            OSError: the file system refused; the rows are kept unless `MAX_PENDING_BYTES` is exceeded, in which
                case they are counted in `n_lost`.
        """
        if self._fd < 0:
            try:
                self._open()
            except OSError:
                self.n_lost += batch.num_rows
                raise
        for start in range(0, batch.num_rows, MAX_BATCH_ROWS):
            part = batch.slice(start, MAX_BATCH_ROWS)
            self._writer.write_batch(part)
            self._pending.append((self._take(), part.num_rows))
        try:
            self._drain()
        except OSError:
            if sum(len(blob) for blob, _ in self._pending) > MAX_PENDING_BYTES:
                self._drop_pending()
            raise

    def _drop_pending(self) -> None:
        # A dropped message may have carried the dictionary that later ones need: go on in a fresh segment.
        self.n_lost += self.n_pending
        os.close(self._fd)
        self._pending = []
        self._fd = -1

    @property
    def n_pending(self) -> int:
        """Rows that wait in memory because the file system refused them."""
        return sum(n_rows for _, n_rows in self._pending)

    def _drain(self) -> None:
        if os.stat(self._path).st_ino != self._inode:
            raise FileNotFoundError(f"{self._path} was replaced by another file")
        while self._pending:
            blob, _ = self._pending[0]
            try:
                written = 0
                while written < len(blob):
                    written += os.write(self._fd, memoryview(blob)[written:])
            except OSError:
                os.ftruncate(self._fd, self._size)
                raise
            self._size += len(blob)
            self._pending.pop(0)

    def close(self) -> None:
        """Write what is pending and the end-of-stream mark; rows that still cannot be written count as lost."""
        if self._fd < 0:
            return
        try:
            self._writer.close()
            self._pending.append((self._take(), 0))
            self._drain()
        except OSError:
            self.n_lost += self.n_pending
            self._pending = []
        finally:
            os.close(self._fd)
            self._fd = -1
