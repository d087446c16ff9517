"""The trials of a search as a table in which each can be used again, stopped and kept."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection
from importlib import resources
from typing import Any

import anywidget

from dlstudio.summary.words import duration, label
from dlstudio.tuning.result import SearchResult
from dlstudio.tuning.trial_result import TrialResult

__all__ = ["TrialTable", "told"]

_STATIC = resources.files("dlstudio.widgets") / "static"
MOST_NEWEST = MOST_BEST = 100


class TrialTable(anywidget.AnyWidget):
    """Asks for news twice a second while it can be seen and the search is live, and tells what is clicked.

    Rows travel as messages and are never widget state, so a saved notebook stays small.

    Args:
        news: returns the version of what is known, what the table shows, and whether the search is over.
        act: called with ``"use"``, ``"stop"`` or ``"keep"`` and the number of a trial.
    """

    _esm = (_STATIC / "cockpit.js").read_text(encoding="utf-8")

    def __init__(self, news: Callable[[], tuple[int, dict[str, Any], bool]], act: Callable[[str, int], None]) -> None:
        super().__init__()
        self._news, self._act = news, act
        self.on_msg(self._receive)

    def _receive(self, _: Any, content: dict[str, Any], buffers: list[Any]) -> None:
        kind = content.get("type")
        if kind == "tick":
            answer: dict[str, Any] = {"type": "news", "client": str(content.get("client", ""))}
            try:
                version, news, over = self._news()
                answer |= {"version": version, "over": over, "news": None if content.get("seen") == version else news}
            except Exception as error:
                # Whatever it is, the viewer has to see it: an exception here would vanish in the kernel's own log.
                answer |= {"over": False, "fault": f"{type(error).__name__}: {error}"}
            self.send(answer)
        elif kind in ("use", "stop", "keep") and isinstance(content.get("number"), int):
            self._act(str(kind), int(content["number"]))


def told(result: SearchResult, kept: Collection[int], live: bool) -> dict[str, Any]:
    """What the table shows: the newest and the best trials, every cell as text.

    Args:
        result: what the search has found.
        kept: numbers of the trials that are not pruned.
        live: whether trials can be stopped and kept.
    """
    sign = 1.0 if result.direction == "min" else -1.0
    best = sorted((row for row in result.rows if row.is_feasible), key=lambda row: sign * row.value)
    rank = {row.number: at for at, row in enumerate(best)}
    chosen = {row.number for row in [*best[:MOST_BEST], *result.rows[-MOST_NEWEST:]]}
    chosen |= {row.number for row in result.rows if row.state == "running"}
    return {
        "columns": ["Trial", "State", *map(label, result.metrics), *result.space, "Time"],
        "rows": [
            {
                "number": row.number,
                "state": row.state,
                "reason": row.reason,
                "rank": rank.get(row.number),
                "best": rank.get(row.number) == 0,
                "kept": row.number in kept,
                "cells": _cells(result, row, row.number in kept),
            }
            for row in result.rows
            if row.number in chosen
        ],
        "n": len(result.rows),
        "live": live,
    }


def _cells(result: SearchResult, row: TrialResult, kept: bool) -> list[str]:
    values = [f"{row.values[at]:.5g}" if at < len(row.values) else "" for at in range(len(result.metrics))]
    if not row.values and row.reports and len(values) == 1:
        values = [f"{row.reports[max(row.reports)]:.5g} so far"]
    params = [_text(row.params[name]) if name in row.params else "" for name in result.space]
    state = "complete, breaks a constraint" if row.state == "complete" and not row.is_feasible else row.state
    state += ", kept" if kept and row.state == "running" else ""
    return [str(row.number), state, *values, *params, "" if math.isnan(row.wall_s) else duration(row.wall_s)]


def _text(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
