"""What a live view costs the kernel: time and bytes of a tick, while it catches up and while it follows."""

from __future__ import annotations

import json
import statistics
import time

from dlstudio.bench.rows import Row
from dlstudio.bench.session import Session

N_CURVES, N_POINTS, N_PARAMETERS, N_SAMPLES = 8, 100_000, 200, 2_000
TICK_MS_BUDGET, TICK_KIB_BUDGET = 50.0, 64.0
STEPS_PER_TICK = 50
"""Half a second at 100 steps a second."""
N_TICKS = 40


def rows(session: Session) -> list[Row]:
    """Measure the feed of a live view of 8 curves of 100,000 points and 200 watched parameters."""
    n_points = session.n(N_POINTS, least=500)
    size = f"{N_CURVES} curves × {n_points:,} points, {N_PARAMETERS} layers"
    shape = {"n_points": n_points, "n_samples": session.n(N_SAMPLES, least=20)}
    found = session.compare("live", {"dlstudio": shape}, label=f"live, {size}")["dlstudio"]
    lines: tuple[tuple[str, str, str, float | None], ...] = (
        ("a tick that follows, median", "ms", "follow_ms", TICK_MS_BUDGET),
        ("a tick that follows, largest", "KiB", "follow_kib", TICK_KIB_BUDGET),
        ("a tick that catches up, median", "ms", "catch_up_ms", TICK_MS_BUDGET),
        ("a tick that catches up, slowest", "ms", "catch_up_worst_ms", None),
        ("a tick that catches up, largest", "KiB", "catch_up_kib", TICK_KIB_BUDGET),
        ("from opening to the whole picture", "ms", "whole_ms", None),
        ("ticks from opening to the whole picture", "ticks", "n_catch_up", None),
    )
    return [
        Row(what=f"{size}: {what}", unit=unit, value=found.median(name), budget=budget)
        for what, unit, name, budget in lines
    ]


def measure(n_points: int, n_samples: int) -> dict[str, float]:
    """Open a feed on a run that has logged already, and follow it while it goes on.

    Returns:
        Time in ms and size in KiB of the answers, text and arrays together, while catching up and while following,
        and the number of points the feed holds.
    """
    from dlstudio.bench.logs import WrittenRun
    from dlstudio.widgets.feed import Feed

    keys = [f"loss/{number}" for number in range(N_CURVES)]
    run = WrittenRun(keys, N_PARAMETERS)
    run.write(n_points, per_flush=STEPS_PER_TICK)
    every = max(1, n_points // n_samples)
    run.write_layers(n_samples, per_flush=max(1, STEPS_PER_TICK // every), every=every)
    acknowledged = 0

    def tick(feed: Feed) -> tuple[float, float, bool]:
        nonlocal acknowledged
        start = time.perf_counter()
        content, data = feed.tick(client="bench", ack=acknowledged, want=keys)
        elapsed_ms = (time.perf_counter() - start) * 1e3
        acknowledged = content["seq"]
        return elapsed_ms, (len(json.dumps(content)) + len(data)) / 1024, bool(content["more"])

    begin = time.perf_counter()
    feed = Feed(run.run)
    catch_up = [tick(feed)]
    while catch_up[-1][2]:
        catch_up.append(tick(feed))
    whole_ms = (time.perf_counter() - begin) * 1e3
    follow = []
    for _ in range(N_TICKS):
        run.write(STEPS_PER_TICK)
        run.write_layers(max(1, STEPS_PER_TICK // every), per_flush=STEPS_PER_TICK, every=every)
        follow.append(tick(feed))
        while follow[-1][2]:
            follow.append(tick(feed))
    held = {key: curve.n_points for key, curve in feed.curves.items()}
    if set(held.values()) != {run.n_steps}:
        raise AssertionError(f"the feed holds {held} of {run.n_steps} points")
    return {
        "follow_ms": statistics.median(ms for ms, _, _ in follow),
        "follow_kib": max(kib for _, kib, _ in follow),
        "catch_up_ms": statistics.median(ms for ms, _, _ in catch_up),
        "catch_up_worst_ms": max(ms for ms, _, _ in catch_up),
        "catch_up_kib": max(kib for _, kib, _ in catch_up),
        "whole_ms": whole_ms,
        "n_catch_up": float(len(catch_up)),
        "n_points": float(run.n_steps),
    }
