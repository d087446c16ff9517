"""``dlstudio bench``: every budget beside what was measured, and beside every peer that is installed."""

from __future__ import annotations

import json
import os
import platform
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from importlib import import_module, metadata
from types import FrameType
from typing import Any

from dlstudio.bench.rows import MET, MISSED, Row
from dlstudio.bench.session import Session, n_threads
from dlstudio.errors import DLStudioError, unknown_name

__all__ = ["BENCHMARKS", "run"]

BENCHMARKS = {
    "record": "Recording the scalars of a step",
    "layers": "Watching every parameter",
    "loop": "The training loop: 32-64-2 MLP, batch 64, 64,000 rows, 3 epochs",
    "read": "Reading back",
    "live": "The kernel's part of a live view",
    "start": "Starting",
    "explain": "Explaining",
    "fairness": "Auditing fairness",
    "compare": "Comparing a thousand runs",
    "tune": "Tuning",
}
"""Name to heading; each is a module of this package with ``rows(session)`` and ``measure(...)``."""
PACKAGES = (
    "torch", "mlflow", "tensorboard", "tensorboardX", "wandb", "aim", "trackio", "lightning", "accelerate", "captum",
    "shap", "fairlearn", "optuna",
)  # fmt: skip


def run(which: str = "all", as_json: bool = False, *, scale: float = 1.0, rounds: int = 3) -> int:
    """Measure, and print a table or JSON.

    Every measurement runs in a process and a home of its own; medians over `rounds` are printed. Peers that are not
    installed are named as such.

    Args:
        which: one of `BENCHMARKS`, or ``"all"``.
        as_json: print one JSON object instead of tables.
        scale: share of the full number of steps and points; below 1 for a quick look, whose figures prove nothing.
        rounds: how often each measurement is repeated.

    Returns:
        0 if every measurement came about, whatever the verdicts; 1 otherwise.

    Raises:
        DLStudioError: the benchmark is unknown, or `scale` or `rounds` is out of range.

    Example:
        >>> run("record")
        0
    """
    if which not in (*BENCHMARKS, "all"):
        raise unknown_name("benchmark", which, (*BENCHMARKS, "all"))
    if not 0 < scale <= 1:
        raise DLStudioError("a scale above 0 and up to 1", f"scale={scale!r}", "Use 1 for figures that count.")
    if not isinstance(rounds, int) or rounds < 1:
        raise DLStudioError("rounds of 1 or more", f"rounds={rounds!r}", "Use 3.")
    names = list(BENCHMARKS) if which == "all" else [which]
    session = Session(scale=scale, rounds=rounds, tell=_tell)
    found: dict[str, list[Row]] = {}
    before = signal.signal(signal.SIGTERM, _end)
    try:
        for name in names:
            found[name] = import_module(f"dlstudio.bench.{name}").rows(session)
    finally:
        signal.signal(signal.SIGTERM, before)
        _tell("")
    where = describe_machine() | {"scale": scale, "rounds": rounds}
    if as_json:
        results = {name: [row.as_dict() for row in rows] for name, rows in found.items()}
        print(json.dumps(where | {"benchmarks": results}, indent=1, ensure_ascii=False))
    else:
        _print_tables(where, found)
    return 1 if any(isinstance(row.value, str) for rows in found.values() for row in rows) else 0


def _end(number: int, frame: FrameType | None) -> None:
    """Turn a termination into an exit, so that the measurement under way is ended too."""
    raise SystemExit(128 + number)


def _tell(what: str) -> None:
    """Keep one line on a terminal's standard error up to date."""
    if sys.stderr.isatty():
        print(f"\r\033[2K{what[:120]}", end="", file=sys.stderr, flush=True)


def describe_machine() -> dict[str, Any]:
    """Return when and on what was measured, with the versions of the peers that are installed."""
    import psutil

    from dlstudio.telemetry.machine import gpus

    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return {
        "date": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        "machine": f"{platform.machine()}, {os.cpu_count()} CPUs, {psutil.virtual_memory().total / 2**30:.0f} GiB",
        "processor": _processor(),
        "gpus": [str(gpu["name"]) for gpu in gpus()],
        "threads": n_threads(),
        "load": os.getloadavg()[0],
        "python": platform.python_version(),
        "packages": versions,
    }


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            return next(line.split(":", 1)[1].strip() for line in file if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor()


def figure(value: float | str | None) -> str:
    """A figure with three digits that count, or the words that stand for it."""
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    if abs(value) >= 100 or value == round(value):
        return f"{value:,.0f}"
    return f"{value:.3g}"


def _print_tables(where: Mapping[str, Any], found: Mapping[str, Sequence[Row]]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    plain = Console()
    console = (
        plain if plain.is_terminal else Console(width=400)
    )  # lines of a file may be long, and Markdown allows no breaks
    look = box.SIMPLE_HEAD if plain.is_terminal else box.MARKDOWN
    styles = {MET: "green", MISSED: "bold red"}
    versions = ", ".join(f"{name} {version}" for name, version in where["packages"].items())
    console.print(
        f"{where['date']}, {where['machine']}"
        + "".join(f", {gpu}" for gpu in where["gpus"])
        + f", {where['threads']} threads, Python {where['python']}, {versions}. Medians of {where['rounds']} rounds."
        + ("" if where["scale"] == 1 else f" Scale {where['scale']:g}: a quick look, the budgets are for 1."),
        soft_wrap=True,
        highlight=False,
    )
    for name, rows in found.items():
        console.print(f"\n### {BENCHMARKS[name]}\n", highlight=False)
        table = Table(box=look)
        table.add_column("What")
        for heading in ("Unit", "dlstudio", "Budget"):
            table.add_column(heading, justify="left" if heading == "Unit" else "right")
        table.add_column("Verdict")
        for row in rows:
            ratio = f" ({row.ratio:.2f} of it)" if row.ratio is not None else ""
            verdict = Text(f"{row.verdict or ''}{ratio}", style=styles.get(row.verdict or "", ""))
            budget = "" if row.budget is None else f"≤ {figure(row.budget)}"
            table.add_row(Text(row.what), row.unit, Text(figure(row.value)), budget, verdict)
        console.print(table)
        _print_peers(console, look, rows)


def _print_peers(console: Any, look: Any, rows: Sequence[Row]) -> None:
    from rich.table import Table
    from rich.text import Text

    cases: dict[str, list[tuple[str, Row]]] = {}
    for row in rows:
        if row.peers:
            case, _, what = row.what.rpartition(": ")
            cases.setdefault(case, []).append((what, row))
    for case, compared in cases.items():
        table = Table(box=look)
        table.add_column(Text(case or "Peers"), no_wrap=True)
        for what, row in compared:
            table.add_column(Text(f"{what}, {row.unit}"), justify="right")
        table.add_row(Text("dlstudio"), *(Text(figure(row.value)) for _, row in compared))
        for name in dict.fromkeys(name for _, row in compared for name in row.peers):
            given = [_beside(row.peers.get(name), row) for _, row in compared]
            if len(given) > 1 and len(set(given)) == 1 and isinstance(compared[0][1].peers.get(name), str):
                given[1:] = [""] * (len(given) - 1)  # the reason once is enough
            table.add_row(Text(name), *map(Text, given))
        console.print(table)


def _beside(value: float | str | None, row: Row) -> str:
    """A peer's figure, and how many times dlstudio's it is where that says something."""
    comparable = isinstance(value, float | int) and isinstance(row.value, float | int) and row.value > 0
    if comparable and row.unit not in ("%", "ratio"):
        return f"{figure(value)} (×{figure(value / row.value)})"  # type: ignore[operator]
    return figure(value)
