"""What the terminal faces share: a console and the table of runs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from dlstudio.summary.words import duration, label, number

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["STATUS_STYLES", "console", "run_table", "status_text", "words_table"]

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
