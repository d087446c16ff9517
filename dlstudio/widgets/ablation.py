"""An ablation as it goes on: what its runs show so far, in words and pictures, and every run in a table."""

from __future__ import annotations

import math
import threading
from typing import Any

import ipywidgets as widgets

from dlstudio.figures.answers import KINDS
from dlstudio.tuning.ablation import Ablation
from dlstudio.tuning.ablation_result import CANCELLED, COMPLETE, FAILED, UNTRAINED, AblationResult
from dlstudio.widgets.chart import Chart
from dlstudio.widgets.markup import standing
from dlstudio.widgets.sheets import style
from dlstudio.widgets.trial_table import TrialTable

__all__ = ["AblationView"]


class AblationView(widgets.VBox):
    """Estimates of an ablation, live while it runs; the browser asks for news twice a second, and no thread runs here.

    Args:
        ablation: what to show, live or over.

    Attributes:
        ablation: what is shown.
        result: what its runs show, as last read.
        charts: the effects, and the combinations that were trained.
        runs: the table.

    Example:
        >>> AblationView(dls.open_ablation("my-ablation"))
    """

    def __init__(self, ablation: Ablation) -> None:
        self.ablation = ablation
        self._lock = threading.RLock()
        self._version = 0
        self._seen: tuple[Any, ...] = ()
        self.head = widgets.HTML()
        self.charts = [Chart(), Chart()]
        self.refresh()
        self.runs = TrialTable(self._news, lambda what, number: None)
        look = widgets.HTML(style("frame.css", "explorer.css", "cockpit.css"))
        super().__init__([look, self.head, *self.charts, self.runs])
        self.add_class("dls-explorer")
        self.add_class("dls-cockpit")

    def __repr__(self) -> str:
        return "\n".join([repr(self.ablation), *self.result.summary])

    def refresh(self) -> None:
        """Read what is new, and show it."""
        with self._lock:
            # Until a run begins or ends there is nothing else to estimate.
            seen = (self.ablation.status, *self.ablation.plan.states)
            if seen == self._seen:
                return
            self.result: AblationResult = self.ablation.estimate()
            self.head.value = _head(self.result, self.ablation.reason)
            for chart, (_, figure) in zip(self.charts, KINDS[AblationResult].pictures(self.result), strict=True):
                chart.draw(figure, " ".join(self.result.summary))
            self._seen, self._version = seen, self._version + 1

    def _news(self) -> tuple[int, dict[str, Any], bool]:
        with self._lock:
            self.refresh()
            return self._version, _told(self.result), self.ablation.plan.state().is_over


def _head(result: AblationResult, reason: str | None) -> str:
    over = sum(result.count(state) for state in (COMPLETE, FAILED, CANCELLED, UNTRAINED))
    about = f"{result.count(COMPLETE):,} of {result.n_planned:,} runs trained · {len(result.design.factors)} components"
    why = [reason] if reason and result.status != "FINISHED" else []
    return standing(
        result.name, result.status, about, over / max(1, result.n_planned), [*why, *result.summary], result.findings
    )


def _told(result: AblationResult) -> dict[str, Any]:
    """What the table shows: every run, in the order of the plan."""
    rows = [
        {
            "number": number,
            "state": row["state"],
            "reason": row["reason"],
            "rank": None,
            "best": False,
            "kept": True,
            "cells": [row["label"], row["state"], str(row["seed"]), _value(row["value"])],
        }
        for number, row in enumerate(result.rows("runs"))
    ]
    columns = ["Combination", "State", "Seed", result.metric]
    return {"title": "Runs", "columns": columns, "rows": rows, "n": len(rows), "live": False}


def _value(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.5g}"
