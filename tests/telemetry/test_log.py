"""The log on disk: pyarrow alone reads it, and nothing that a crash or a full disk does damages what was written."""

import errno
import os
import random
import subprocess
import sys
import time

import numpy as np
import pyarrow as pa
import pytest

from dlstudio.telemetry.log import SCALARS, StreamLog
from dlstudio.telemetry.reader import TelemetryReader
from dlstudio.telemetry.writer import ScalarColumns, TelemetryWriter


def rows(n, keys=("a", "b"), start=0):
    return [(start + i, time.time(), {key: float(start + i) for key in keys}) for i in range(n)]


def read_all(folder, key="a"):
    found = [series for series in TelemetryReader(folder).read().scalars if series[0] == key]
    return found[0][1].tolist() if found else []


def test_pyarrow_alone_reads_the_scalars(tmp_path):
    writer = TelemetryWriter(tmp_path)
    writer.scalars(rows(3))
    writer.scalars(rows(2, keys=("a", "late"), start=3))
    writer.close()
    table = pa.ipc.open_stream(tmp_path / "scalars.000.arrows").read_all()
    assert table.column_names == ["step", "key", "value", "time"]
    listed = list(zip(table["step"].to_pylist(), table["key"].to_pylist(), table["value"].to_pylist(), strict=True))
    assert listed[:2] == [(0, "a", 0.0), (0, "b", 0.0)]
    assert listed[-2:] == [(4, "a", 4.0), (4, "late", 4.0)]


def test_nan_and_infinities_are_stored_as_such(tmp_path):
    writer = TelemetryWriter(tmp_path)
    writer.scalars([(0, 0.0, {"a": float("nan"), "b": float("inf"), "c": float("-inf")})])
    values = {key: value[0] for key, _, value, _ in TelemetryReader(tmp_path).read().scalars}
    assert np.isnan(values["a"]) and values["b"] == np.inf and values["c"] == -np.inf


def test_layers_are_matrices_with_names(tmp_path):
    writer = TelemetryWriter(tmp_path)
    matrix = np.arange(6, dtype=np.float32).reshape(3, 2)
    writer.layers("layers", ["w", "b"], [(7, 1.5, matrix), (8, 2.5, matrix + 10)])
    (block,) = TelemetryReader(tmp_path).read().layers
    assert block.names == ["w", "b"] and block.steps.tolist() == [7, 8]
    np.testing.assert_array_equal(block.stats["grad_norm"], [[0, 1], [10, 11]])
    np.testing.assert_array_equal(block.stats["update_norm"], [[4, 5], [14, 15]])
    table = pa.ipc.open_stream(tmp_path / "layers.000.arrows").read_all()
    assert table["weight_norm"].to_pylist() == [[2.0, 3.0], [12.0, 13.0]]


@pytest.mark.parametrize("seed", range(20))
def test_every_truncation_leaves_all_whole_records(tmp_path, seed):
    writer = TelemetryWriter(tmp_path)
    ends = []
    for start in range(0, 50, 10):
        writer.scalars(rows(10, start=start))
        ends.append((tmp_path / "scalars.000.arrows").stat().st_size)
    path = tmp_path / "scalars.000.arrows"
    cut = random.Random(seed).randrange(1, ends[-1] + 1)
    os.truncate(path, cut)
    whole = 10 * sum(end <= cut for end in ends)
    reader = TelemetryReader(tmp_path)
    found = [series for series in reader.read().scalars if series[0] == "a"]
    assert (found[0][1].tolist() if found else []) == list(range(whole))
    if cut not in ends and cut > ends[0]:
        assert any("scalars.000.arrows" in sentence and "unreadable" in sentence for sentence in reader.damage)


@pytest.mark.parametrize("garbage", [b"\0" * 64, b"\xff" * 64, b"hello", os.urandom(200)])
def test_garbage_at_the_end_is_named_and_the_rest_is_read(tmp_path, garbage):
    writer = TelemetryWriter(tmp_path)
    writer.scalars(rows(10))
    with open(tmp_path / "scalars.000.arrows", "ab") as file:
        file.write(garbage)
    reader = TelemetryReader(tmp_path)
    assert [s[1].tolist() for s in reader.read().scalars] == [list(range(10))] * 2
    assert not reader.read()
    if garbage[:8] != b"\0" * 8:  # eight zeros are Arrow's own end-of-stream mark
        assert len(reader.damage) == 1


def test_a_continued_run_replaces_what_came_after_its_checkpoint(tmp_path):
    first = TelemetryWriter(tmp_path)
    first.scalars(rows(10, keys=("a",)))
    reader = TelemetryReader(tmp_path)
    assert reader.read().scalars[0][1].tolist() == list(range(10))
    second = TelemetryWriter(tmp_path, resumed_at=6)
    second.scalars([(step, 0.0, {"a": 100.0 + step}) for step in (7, 8)])
    again = reader.read()
    assert again.restarted
    (series,) = again.scalars
    assert series[1].tolist() == [0, 1, 2, 3, 4, 5, 6, 7, 8]
    assert series[2].tolist() == [0, 1, 2, 3, 4, 5, 6, 107, 108]
    assert not reader.read().restarted


READ = """
import sys
from pathlib import Path
from dlstudio.telemetry.reader import TelemetryReader
print([steps.tolist() for _, steps, _, _ in TelemetryReader(Path(sys.argv[1])).read().scalars])
assert "pandas" not in sys.modules
"""


def test_a_continued_run_is_read_where_nobody_has_imported_pandas(tmp_path):
    for resumed_at, start in ((None, 0), (2, 3)):
        writer = TelemetryWriter(tmp_path, resumed_at=resumed_at)
        writer.scalars(rows(4, keys=("a",), start=start))
        writer.close()
    done = subprocess.run([sys.executable, "-c", READ, str(tmp_path)], capture_output=True, text=True, timeout=180)
    assert done.stdout.strip() == "[[0, 1, 2, 3, 4, 5, 6]]", done.stderr


def test_a_cursor_goes_to_another_process_as_json_and_pays_only_for_what_is_new(tmp_path):
    import json

    writer = TelemetryWriter(tmp_path)
    writer.scalars(rows(5))
    reader = TelemetryReader(tmp_path)
    reader.read()
    cursor = json.loads(json.dumps(reader.cursor))
    writer.scalars(rows(2, start=5))
    elsewhere = TelemetryReader(tmp_path, cursor).read()
    assert not elsewhere.restarted
    assert {key: steps.tolist() for key, steps, _, _ in elsewhere.scalars} == {"a": [5, 6], "b": [5, 6]}


def batch(start, n=10):
    return ScalarColumns().batch(rows(n, keys=("a",), start=start))


def test_a_full_disk_damages_nothing_and_what_waits_is_written_when_there_is_room(tmp_path, monkeypatch):
    log = StreamLog(tmp_path, "scalars", SCALARS)
    log.append(batch(0))
    write = os.write

    def full(fd, data):
        write(fd, bytes(data)[: len(data) // 2])  # the disk takes a part, then refuses
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    for start in (10, 20):
        with pytest.raises(OSError, match="No space"):
            log.append(batch(start))
    assert read_all(tmp_path) == list(range(10))
    assert TelemetryReader(tmp_path).damage == []
    monkeypatch.undo()
    log.append(batch(30))
    assert read_all(tmp_path) == list(range(40)) and log.n_lost == 0


def test_what_no_longer_fits_into_memory_is_counted_and_recording_goes_on_in_a_new_segment(tmp_path, monkeypatch):
    monkeypatch.setattr("dlstudio.telemetry.log.MAX_PENDING_BYTES", 1500)
    log = StreamLog(tmp_path, "scalars", SCALARS)
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", lambda *_: (_ for _ in ()).throw(OSError(errno.ENOSPC, "full")))
        n_failed = 0
        while log.n_lost == 0:
            with pytest.raises(OSError):
                log.append(batch(0))
            n_failed += 1
    assert log.n_lost == 10 * n_failed
    log.append(batch(100))
    log.append(batch(110))
    log.close()
    found = read_all(tmp_path)
    assert found[-10:] == list(range(110, 120)) and log.n_lost + len(found) == 10 * (n_failed + 2)


def test_a_writer_never_raises_warns_once_and_counts(tmp_path):
    folder = tmp_path / "telemetry"
    writer = TelemetryWriter(folder)
    writer.scalars(rows(5, keys=("a",)))
    (folder / "scalars.000.arrows").unlink()
    folder.rmdir()
    with pytest.warns(RuntimeWarning, match="Training goes on") as caught:
        writer.scalars(rows(5, keys=("a",)))
        writer.scalars(rows(5, keys=("a",)))
        writer.events([{"step": 0, "kind": "x", "message": "", "data": {}, "time": 0.0}])
        writer.close()
    assert len(caught) == 1
    assert writer.n_lost == 11


def test_many_rows_are_split_into_bounded_batches(tmp_path):
    log = StreamLog(tmp_path, "scalars", SCALARS)
    log.append(batch(0, n=150_000))
    sizes = [b.num_rows for _, b in TelemetryReader(tmp_path).batches("scalars")]
    assert sum(sizes) == 150_000 and max(sizes) <= 65_536
