"""The curves of trials that did not report to their study, from what their runs recorded."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping

import numpy as np

from dlstudio.figures.trials import thinned
from dlstudio.runs.folder import RunFolder
from dlstudio.runs.run import Run
from dlstudio.tuning.result import SearchResult
from dlstudio.tuning.search import Search
from dlstudio.tuning.trial_result import TrialResult

__all__ = ["TrialCurves"]

MOST_READ, MOST_POINTS = 60, 200


class TrialCurves:
    """Reads the curves of a search's trials; those of trials that are over are read once.

    Trials report to the study only where they may be pruned. Of more than 60 others the best and the latest are read.

    Args:
        search: the search.
    """

    def __init__(self, search: Search) -> None:
        self._search = search
        self._over: dict[tuple[int, int], Mapping[int, float]] = {}

    def of(self, result: SearchResult, metric: int = 0) -> SearchResult:
        """Return the result with the reports filled in of trials that have none.

        Args:
            result: what the search has found.
            metric: place of the metric among those of the search.
        """
        if metric == 0 and any(row.reports for row in result.rows):
            return result
        chosen = {row.number for row in thinned(result, MOST_READ)}
        rows = [
            dataclasses.replace(row, reports=self._read(result, row, metric) if row.number in chosen else {})
            for row in result.rows
        ]
        return dataclasses.replace(result, rows=tuple(rows))

    def _read(self, result: SearchResult, row: TrialResult, metric: int) -> Mapping[int, float]:
        known = self._over.get((row.number, metric))
        if known is not None:
            return known
        folder = None if row.run is None else self._search.folder.parent / row.run
        if folder is None or not (folder / "run.json").exists():
            return {}  # not begun, or on another machine
        run, name = Run(RunFolder(folder)), result.metrics[metric].removeprefix("best/")
        # Of a number of the run as a whole, and of a trial that has logged nothing so far, there is no curve.
        values = run.scalars(name)[1] if name in run.keys() else np.empty(0)  # noqa: SIM118 - a method of Run
        kept = np.unique(np.linspace(0, len(values) - 1, min(len(values), MOST_POINTS)).astype(int))
        found = {int(at) + 1: float(values[at]) for at in kept if math.isfinite(values[at])}
        if row.state not in ("running", "waiting"):
            self._over[row.number, metric] = found
        return found
