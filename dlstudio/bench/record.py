"""What one call that logs the scalars of a step costs, until it is on disk, and how much disk."""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Iterable
from pathlib import Path

from dlstudio.bench.loggers import REQUIRES, Close, Log, open_logger
from dlstudio.bench.rows import Row, row_of
from dlstudio.bench.session import Session

CASES = ((5, 1_000, 3.0, 2.0), (200, 300, 20.0, 0.5))
"""Scalars a call, calls, and the budgets: µs a call, µs a scalar until all is on disk."""
BYTES_BUDGET = 10.0


def rows(session: Session) -> list[Row]:
    """Measure dlstudio and every installed logger."""
    found: list[Row] = []
    for n_keys, n_calls, call_budget, scalar_budget in CASES:
        case = f"{n_keys} scalars a call"
        shape = {"n_keys": n_keys, "n_calls": session.n(n_calls, least=20)}
        subjects = {name: {"peer": name, **shape} for name in ("dlstudio", *REQUIRES)}
        outcomes = session.compare("record", subjects, REQUIRES, f"record, {case}")
        own = outcomes["dlstudio"]
        different = session.measure("record", peer="dlstudio", repeating=False, **shape)
        in_log = f"{case}: a scalar in the telemetry log"
        in_log_different = f"{in_log}, every value different"
        found += [
            row_of(f"{case}: the call, median", "µs", outcomes, "call_us", budget=call_budget),
            row_of(f"{case}: the call, 99th percentile", "µs", outcomes, "call_p99_us"),
            row_of(f"{case}: a scalar, all in until closed", "µs", outcomes, "scalar_us", budget=scalar_budget),
            Row(what=in_log, unit="bytes", value=own.median("log_bytes"), budget=BYTES_BUDGET),
            Row(what=in_log_different, unit="bytes", value=different.median("log_bytes"), budget=BYTES_BUDGET),
            row_of(f"{case}: a scalar, of all files the logger left", "bytes", outcomes, "home_bytes"),
        ]
    return found


def measure(peer: str, n_keys: int, n_calls: int, repeating: bool = True) -> dict[str, float]:
    """Log `n_calls` steps of `n_keys` scalars and close.

    Args:
        peer: ``"dlstudio"`` or a key of `loggers.REQUIRES`.
        n_keys: scalars of one step.
        n_calls: steps.
        repeating: 16 rows of random numbers in turn, as the loggers are compared; False makes every number
            different, which no log can compress.

    Returns:
        ``call_us`` (median), ``call_p99_us``, ``scalar_us`` (everything from the first call until closed, over
        the scalars), ``home_bytes`` and for dlstudio ``log_bytes`` (a scalar).
    """
    home = Path.cwd()
    keys = [f"grad_norm/layer{number}" for number in range(n_keys)]
    kept = [{key: random.random() for key in keys} for _ in range(16 if repeating else n_calls)]
    log, close = _open_dlstudio() if peer == "dlstudio" else open_logger(peer, home)
    times_s = []
    begin = time.perf_counter()
    for step in range(n_calls):
        values = kept[step % len(kept)]
        start = time.perf_counter()
        log(step, values)
        times_s.append(time.perf_counter() - start)
    close()
    total_s = time.perf_counter() - begin
    n_scalars = n_keys * n_calls
    times_s.sort()
    figures = {
        "call_us": statistics.median(times_s) * 1e6,
        "call_p99_us": times_s[int(n_calls * 0.99)] * 1e6,
        "scalar_us": total_s / n_scalars * 1e6,
    }
    if peer == "dlstudio":
        from dlstudio.runs import registrar

        # The catalogue is part of what dlstudio leaves behind, though another process writes it.
        registrar.wait_until_catalogued()
        figures["log_bytes"] = _size(home.glob(".dlstudio/runs/*/telemetry/scalars.*")) / n_scalars
    figures["home_bytes"] = _size(home.rglob("*")) / n_scalars
    return figures


def _open_dlstudio() -> tuple[Log, Close]:
    from dlstudio.runs.recorder import record

    recorder = record("bench").__enter__()
    return lambda step, values: recorder.log(values, step=step), lambda: recorder.__exit__(None, None, None)


def _size(files: Iterable[Path]) -> int:
    total = 0
    for path in files:
        try:
            total += path.stat().st_size if path.is_file() else 0
        except FileNotFoundError:
            continue  # a journal of SQLite that has just been folded in
    return total
