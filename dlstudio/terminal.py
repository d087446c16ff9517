"""What the terminal faces share: a console, the table of runs, and a run in words."""

from __future__ import annotations

import shlex
from collections import deque
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from dlstudio.errors import DLStudioError
from dlstudio.summary.words import describe, duration, label, number

if TYPE_CHECKING:
    import pandas as pd

    from dlstudio.results import Finding
    from dlstudio.runs.run import Run

__all__ = ["STATUS_STYLES", "console", "run_table", "run_words", "status_text", "words_table"]

STATUS_STYLES = {
    "QUEUED": "dim",
    "RUNNING": "blue",
    "PAUSED": "yellow",
    "FINISHED": "green",
    "FAILED": "bold red",
    "KILLED": "magenta",
}
METRICS = ("loss", "val/loss", "val/balanced_accuracy", "val/accuracy", "val/auc", "val/rmse", "val/r2")
MAX_METRICS = 4


def console() -> Console:
    """The console of standard output; wide where output goes to a file, so that no table is cut there."""
    screen = Console(highlight=False)
    return screen if screen.is_terminal else Console(highlight=False, width=140)


def status_text(status: str) -> Text:
    """A run's status in its colour."""
    return Text(status, style=STATUS_STYLES.get(status, ""))


def run_table(frame: pd.DataFrame) -> Table:
    """Lay out the run table for the terminal.

    Args:
        frame: rows and columns as `list_runs` returns them.
    """
    metrics = [key for key in METRICS if key in frame and frame[key].notna().any()][:MAX_METRICS]
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("Run", overflow="fold")
    for heading in ("Status", "Kind", "Created (UTC)"):
        table.add_column(heading, no_wrap=True)
    for heading in ("Duration", "Steps", *map(label, metrics)):
        table.add_column(heading, justify="right")
    for row in frame.to_dict(orient="records"):
        created = row["created"].strftime("%Y-%m-%d %H:%M") if _is_there(row["created"]) else "–"
        wall_s = float(row["wall_s"]) if _is_there(row["wall_s"]) else None
        n_steps = int(row["n_steps"]) if _is_there(row["n_steps"]) else None
        table.add_row(
            Text(str(row["name"])),  # a Text is never read as markup, whatever a run is called
            status_text(str(row["status"])),
            Text(str(row["kind"])),
            created,
            duration(wall_s),
            number(n_steps),
            *(number(float(row[key])) if _is_there(row[key]) else "–" for key in metrics),
        )
    return table


def run_words(run: Run, n_lines: int = 0) -> str:
    """Say how a run is doing; of a search or an ablation, what its runs show together.

    Args:
        run: the run.
        n_lines: with the last so many lines that it printed, and the traceback where an exception ended it.
    """
    from dlstudio.summary.summarize import summarize

    summary = summarize(run)
    text = describe(summary, *_found(run))
    if n_lines > 0:
        return f"{text}\n\n{_printed(run, n_lines, summary.traceback)}"
    if summary.traceback:
        text += f"\n\n  Its traceback: dlstudio show {shlex.quote(run.name)} --log 20"
    return text


def _found(run: Run) -> tuple[Sequence[str], Sequence[Finding]]:
    """What a search or an ablation has found, in sentences, and what to mind about that."""
    kind = run.info.get("kind")
    try:
        if kind == "search":
            from dlstudio.tuning.search import open_search

            search = open_search(run.key).result()
            return search.summary, search.findings
        if kind == "ablation":
            from dlstudio.tuning.ablation import open_ablation

            ablation = open_ablation(run.key).estimate()
            return ablation.summary, ablation.findings
    except DLStudioError as error:  # its study lies where nobody answers now; how it stands is known all the same
        return [f"What it has found cannot be read: {error}"], ()
    return (), ()


def _printed(run: Run, n_lines: int, traceback: str | None) -> str:
    parts = [run.log_tail(n_lines), _tail(run.folder / "workers.log", n_lines)]
    if traceback and traceback.strip() not in parts[0]:  # a launched run has printed it
        parts.append(traceback.strip())
    shared = run.folder.parent / str((run.info.get("tags") or {}).get("parent")) / "workers.log"
    if shared.exists():
        parts.append(f"What it printed is in {shared}, among what other trials printed.")
    return "\n\n".join(filter(None, parts)) or "It has left no output."


def _tail(path: Path, n_lines: int) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return "".join(deque(file, n_lines)).rstrip("\n")
    except OSError:
        return ""


def words_table(heads: Sequence[str], cells: Iterable[Sequence[str]]) -> Table:
    """Lay out a table of words; whatever they are, they are shown and never read as markup."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for head in heads:
        table.add_column(Text(head), overflow="fold")
    for row in cells:
        table.add_row(*map(Text, row))
    return table


def _is_there(item: Any) -> bool:
    return item is not None and item == item  # NaN and NaT differ from themselves
