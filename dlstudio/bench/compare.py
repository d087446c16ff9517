"""What comparing a thousand long runs costs: their table and verdicts, their curves, a filter, a front."""

from __future__ import annotations

import shutil
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from dlstudio.bench.rows import Row
from dlstudio.bench.session import Session

N_RUNS, N_POINTS, N_VARIANTS = 1_000, 10_000, 20
N_LOGS, PER_FLUSH = 10, 200
"""How many different logs there are, each copied to many runs; and how many points came with a flush."""
OPEN_S, FILTER_S = 2.0, 0.3
REPEAT = 3


def rows(session: Session) -> list[Row]:
    """Measure a comparison of many runs, from nothing to a filtered picture."""
    n_runs, n_points = session.n(N_RUNS, least=40), session.n(N_POINTS, least=300)
    found = session.compare("compare", {"dlstudio": {"n_runs": n_runs, "n_points": n_points}})["dlstudio"]
    case = f"{n_runs:,} runs × {n_points:,} points"
    budgets = [
        ("opened for the first time: table, verdicts and curves with bands", "first_s", OPEN_S),
        ("opened another time", "open_s", OPEN_S),
        ("of that, the table and the verdicts", "table_s", None),
        ("filtered to half of the runs: table, verdicts and curves with bands", "filter_s", FILTER_S),
        ("grouped by another setting", "group_s", OPEN_S),
        ("the front of two objectives, every run on its own", "front_s", None),
        ("opened where no curves were kept, every log decoded", "decoded_s", None),
    ]
    return [
        Row(what=f"{case}: {what}", unit="s", value=found.median(name), budget=budget) for what, name, budget in budgets
    ]


def measure(n_runs: int, n_points: int) -> dict[str, float]:
    """Write runs, and compare them as the board does, after a first comparison that imports what it needs.

    Returns:
        ``first_s``, the table and the curves of runs as they are left when they are over, which nobody has looked at
        before; ``open_s``, the same another time, of which ``table_s`` is the table; ``filter_s``, both for half of the
        runs that are open already; ``group_s``, ``front_s``; and ``decoded_s``, the first look without kept curves.
    """
    from dlstudio.compare.compare import compare
    from dlstudio.compare.curves import overlay_of
    from dlstudio.compare.fronts import pareto
    from dlstudio.compare.gather import gather
    from dlstudio.compare.read_curves import read_curves
    from dlstudio.stats import mean_interval

    home = _write(n_runs, n_points)
    _ = compare({"A": [1.0, 2.0, 3.0], "B": [2.0, 3.0, 5.0]}).pairs
    mean_interval(0.0, 1.0, 2, 0.95)

    def table() -> Any:
        found = compare(None, metric="val/auc")
        if (len(found.runs), len(found.table)) != (n_runs, min(N_VARIANTS, n_runs)):
            raise AssertionError(f"{len(found.runs)} of {n_runs} runs were compared")
        return found

    def opened() -> Any:
        runs = gather(None)[0]
        read = read_curves(runs, "loss")
        shown(runs, read)
        return runs, read

    def shown(runs: Any, read: Any) -> None:
        found = compare(runs, metric="val/auc")
        curves = overlay_of(found, read, "loss")
        if not len(curves) == len(found.runs) == len(runs) or found.table.empty or curves.bands.empty:
            raise AssertionError(f"{len(curves)} of {len(runs)} curves were read")

    first_s, (runs, read) = _timed(opened)
    times = {
        "first_s": first_s,
        "open_s": _median_s(opened),
        "table_s": _median_s(table),
        "filter_s": _median_s(lambda: shown(runs[: n_runs // 2], read)),
        "group_s": _median_s(lambda: compare(None, metric="val/auc", by="lr").table),
    }
    comparison = table()
    front = _timed(lambda: pareto(comparison, {"val/auc": "max", "wall": "min"}, by="key").frame())[0]
    shutil.rmtree(home / "curves")
    return {**times, "front_s": front, "decoded_s": _timed(opened)[0]}


def _median_s(look: Callable[[], Any]) -> float:
    return statistics.median(_timed(look)[0] for _ in range(REPEAT))


def _timed(look: Callable[[], Any]) -> tuple[float, Any]:
    start = time.perf_counter()
    found = look()
    return time.perf_counter() - start, found


def _write(n_runs: int, n_points: int) -> Path:
    """Write runs of a few variants over many seeds, as they are on disk when they are over; returns the home."""
    import numpy as np

    from dlstudio.bench.logs import WrittenRun
    from dlstudio.runs.folder import FINISHED, RunFolder, write_json
    from dlstudio.runs.thinned import thinned

    logs = [WrittenRun(["loss"]) for _ in range(min(N_LOGS, n_runs))]
    for log in logs:
        log.write(n_points, per_flush=PER_FLUSH)
    rng = np.random.default_rng(0)
    for number in range(n_runs):
        variant, seed = number % N_VARIANTS, number // N_VARIANTS
        config = {"data": "mortgage", "model": "mlp", "lr": 10.0 ** -(1 + variant % 4), "seed": seed}
        folder = RunFolder.create(f"run-{number}", kind="launch", config=config, tags={"variant": f"variant {variant}"})
        shutil.copytree(logs[number % len(logs)].path, folder.path / "telemetry", dirs_exist_ok=True)
        latest = {
            "loss": 0.3, "val/auc": float(0.8 + 0.002 * variant + 0.01 * rng.standard_normal()),
            "wall": float(rng.uniform(10, 20)),
        }  # fmt: skip
        began = time.time()
        folder.set_status(FINISHED, worker=None, started=began, ended=began + 20, step=n_points, latest=latest)
        write_json(folder.path / "data.json", {"fingerprint": "0" * 16, "name": "mortgage"})
        write_json(folder.path / "catalogue.json", {"entry": {"run_id": f"{number:032x}"}})
        thinned(folder, "loss")  # as the registrar does when it enters a run that is over
    for log in logs:
        shutil.rmtree(log.folder.path)
    return folder.home
