"""What reading back costs: the whole of a run, what is new of it, and how much memory a very long run takes."""

from __future__ import annotations

import resource
import statistics
import sys
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

from dlstudio.bench.loggers import open_logger
from dlstudio.bench.rows import Row, row_of
from dlstudio.bench.session import Session

N_POINTS, N_KEYS = 50_000, 5
N_LONG, N_HUGE = 1_000_000, 10_000_000
N_NEW = 100
READ_BUDGET_MS, MEMORY_BUDGET_MIB = 20.0, 300.0
REQUIRES = {"mlflow": "mlflow", "tensorboard": "tensorboard", "tensorboardX": "tensorboardX"}
"""Peers whose numbers can be read back at once, without a server or an index that is built later."""
REPEAT = 5


def rows(session: Session) -> list[Row]:
    """Measure dlstudio and every installed peer that can read what it has logged."""
    n_points = session.n(N_POINTS, least=50 * N_KEYS)
    whole = session.compare(
        "read",
        {name: {"what": name, "n_points": n_points} for name in ("dlstudio", *REQUIRES)},
        REQUIRES,
        f"read {n_points:,} points",
    )
    own = whole["dlstudio"]
    flushed = f"{n_points:,} points written by {n_points // 200:,} flushes"
    one_curve = f"{n_points:,} points of one curve, run.scalars"
    found = [
        row_of(f"{n_points:,} points of {N_KEYS} curves", "ms", whole, "read_ms", budget=READ_BUDGET_MS),
        Row(what=flushed, unit="ms", value=own.median("flushed_ms"), budget=READ_BUDGET_MS),
        Row(what=one_curve, unit="ms", value=own.median("curve_ms"), budget=READ_BUDGET_MS),
    ]
    n_long = session.n(N_LONG, least=100 * N_KEYS)
    new = session.compare(
        "read",
        {str(n): {"what": "new", "n_points": n} for n in (n_points, n_long)},
        label=f"read {N_NEW} new points",
    )
    for n in (n_points, n_long):
        what = f"{N_NEW} new points behind a cursor at {n:,}"
        found.append(Row(what=what, unit="ms", value=new[str(n)].median("read_ms")))
    n_huge = session.n(N_HUGE, least=100 * N_KEYS)
    session.tell(f"read: memory on {n_huge:,} points")
    memory = session.measure("read", what="memory", n_points=n_huge)
    for name, what in (
        ("base_mib", "the imports alone"),
        ("follow_mib", "following"),
        ("curve_mib", "one of 10 curves"),
    ):
        found.append(
            Row(
                what=f"peak memory on {n_huge:,} points, {what}",
                unit="MiB",
                value=memory.median(name),
                budget=None if name == "base_mib" else MEMORY_BUDGET_MIB,
            )
        )
    return found


def measure(what: str, n_points: int) -> dict[str, float]:
    """Write `n_points` and read them.

    Args:
        what: ``"dlstudio"`` or a peer: all points; ``"new"``: what was appended behind a cursor; ``"memory"``: peak
            memory of fresh reading processes.
        n_points: how many scalars the run has.

    Returns:
        ``read_ms``; for dlstudio also ``flushed_ms`` and ``curve_ms``; for ``"memory"`` the peaks in MiB.
    """
    if what == "dlstudio":
        return _measure_whole(n_points)
    if what == "new":
        return _measure_new(n_points)
    if what == "memory":
        return _measure_memory(n_points)
    if what in ("follow", "curve", "base"):
        return _peak_of(what, n_points)
    return _measure_peer(what, n_points)


def _read_ms(read: Callable[[], int], n_expected: int) -> float:
    """Time of a reading that must find so many points."""
    start = time.perf_counter()
    n_found = read()
    elapsed_ms = (time.perf_counter() - start) * 1e3
    if n_found != n_expected:
        raise AssertionError(f"{n_found} of {n_expected} points were read")
    return elapsed_ms


def _median_ms(read: Callable[[], int], n_expected: int) -> float:
    """Median time of a reading that is repeated and must find so many points each time."""
    return statistics.median(_read_ms(read, n_expected) for _ in range(REPEAT))


def _keys(n: int) -> list[str]:
    return [f"metric/{number}" for number in range(n)]


def _measure_whole(n_points: int) -> dict[str, float]:
    from dlstudio.bench.logs import WrittenRun
    from dlstudio.telemetry.reader import TelemetryReader

    n_steps = n_points // N_KEYS
    at_once, flushed, one = WrittenRun(_keys(N_KEYS)), WrittenRun(_keys(N_KEYS)), WrittenRun(_keys(1))
    at_once.write(n_steps)
    flushed.write(n_steps, per_flush=200 // N_KEYS)
    one.write(n_points, per_flush=200)

    def all_of(path: Path) -> int:
        return sum(len(values) for _, _, values, _ in TelemetryReader(path).read().scalars)

    return {
        "read_ms": _median_ms(lambda: all_of(at_once.path), n_steps * N_KEYS),
        "flushed_ms": _median_ms(lambda: all_of(flushed.path), n_steps * N_KEYS),
        "curve_ms": _median_ms(lambda: len(one.run.scalars("metric/0")[1]), n_points),
    }


def _measure_new(n_points: int) -> dict[str, float]:
    from dlstudio.bench.logs import WrittenRun
    from dlstudio.telemetry.reader import TelemetryReader

    run = WrittenRun(_keys(N_KEYS))
    run.write(n_points // N_KEYS, per_flush=1_000)
    reader = TelemetryReader(run.path)
    while reader.read().more:
        pass

    def new() -> int:
        return sum(len(values) for _, _, values, _ in reader.read().scalars)

    times_ms = []
    for _ in range(4 * REPEAT):
        run.write(N_NEW // N_KEYS)
        times_ms.append(_read_ms(new, N_NEW))
    return {"read_ms": statistics.median(times_ms)}


def _measure_memory(n_points: int) -> dict[str, float]:
    """Write the run in this process and read it in others: what writing took is not theirs."""
    import json
    import os
    import subprocess

    from dlstudio.bench.logs import WrittenRun
    from dlstudio.bench.session import MARK

    run = WrittenRun(_keys(10))
    run.write(n_points // 10, per_flush=1_000)
    figures: dict[str, float] = {}
    for what in ("base", "follow", "curve"):
        done = subprocess.run(
            [sys.executable, "-m", "dlstudio.bench.worker", "read", json.dumps({"what": what, "n_points": n_points})],
            capture_output=True,
            text=True,
            check=True,
            env=os.environ | {"DLSTUDIO_BENCH_RUN": str(run.folder.path)},
        )
        line = next(line for line in done.stdout.splitlines() if line.startswith(MARK))
        figures |= json.loads(line.removeprefix(MARK))
    return figures


def _peak_of(what: str, n_points: int) -> dict[str, float]:
    import os

    from dlstudio.runs.folder import RunFolder
    from dlstudio.runs.run import Run
    from dlstudio.telemetry.downsample import minmax
    from dlstudio.telemetry.reader import TelemetryReader

    run = Run(RunFolder(Path(os.environ["DLSTUDIO_BENCH_RUN"])))
    n_found = 0
    if what == "follow":
        reader, more = TelemetryReader(run.folder / "telemetry"), True
        while more:
            new = reader.read()
            n_found += sum(len(minmax(steps, values, 2_000)[0]) and len(values) for _, steps, values, _ in new.scalars)
            more = new.more
    elif what == "curve":
        n_found = 10 * len(run.scalars("metric/7")[1])
    if what != "base" and n_found != n_points // 10 * 10:
        raise AssertionError(f"{n_found} of {n_points} points were read")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {f"{what}_mib": peak / (1024 if sys.platform != "darwin" else 2**20)}


def _measure_peer(name: str, n_points: int) -> dict[str, float]:
    import random

    home, keys, n_steps = Path.cwd(), _keys(N_KEYS), n_points // N_KEYS
    if name == "mlflow":
        return {"read_ms": _median_ms(_written_to_mlflow(home, keys, n_steps), n_steps * N_KEYS)}
    log, close = open_logger(name, home)
    for step in range(n_steps):
        log(step, {key: random.random() for key in keys})
    close()
    return {"read_ms": _median_ms(lambda: _read_tensorboard(home), n_steps * N_KEYS)}


def _written_to_mlflow(home: Path, keys: list[str], n_steps: int) -> Callable[[], int]:
    """Log in the largest batches MLflow takes: its writing is measured elsewhere."""
    mlflow: Any = import_module("mlflow")
    entities: Any = import_module("mlflow.entities")
    mlflow.set_tracking_uri(f"sqlite:///{home}/mlflow.db")
    client = mlflow.MlflowClient()
    run_id = client.create_run(client.create_experiment("bench")).info.run_id
    points = [entities.Metric(key, step / 7, 1, step) for step in range(n_steps) for key in keys]
    for start in range(0, len(points), 1_000):
        client.log_batch(run_id, metrics=points[start : start + 1_000])
    return lambda: sum(len(client.get_metric_history(run_id, key)) for key in keys)


def _read_tensorboard(home: Path) -> int:
    accumulator: Any = import_module("tensorboard.backend.event_processing.event_accumulator")
    events = accumulator.EventAccumulator(str(home), size_guidance={accumulator.SCALARS: 0})
    events.Reload()
    return sum(len(events.Scalars(key)) for key in events.Tags()["scalars"])
