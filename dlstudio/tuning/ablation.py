"""An ablation as its owner holds it: found by name, estimated at any time, ended early where that costs nothing."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dlstudio.errors import DLStudioError
from dlstudio.runs.folder import KILLED, RunFolder, read_json, write_json
from dlstudio.runs.kept import keep
from dlstudio.runs.run import Run
from dlstudio.tuning.ablation_result import (
    CANCELLED,
    COMPLETE,
    FAILED,
    RUNNING,
    UNKNOWN,
    UNTRAINED,
    WAITING,
    AblationResult,
)
from dlstudio.tuning.ablation_summary import summarise
from dlstudio.tuning.ablation_words import never_logged, said_never_logged
from dlstudio.tuning.designs import make_design
from dlstudio.tuning.effects import Judging, still_needed
from dlstudio.tuning.pool import Plan
from dlstudio.tuning.search import open_search
from dlstudio.tuning.tended import ABOUT

__all__ = ["Ablation", "is_ablation", "open_ablation", "write_ablation"]

_RESULT = "ablation"


def write_ablation(folder: Path, about: Mapping[str, Any]) -> None:
    """Write what an ablation is about into the folder of its plan."""
    write_json(folder / ABOUT, dict(about))


def is_ablation(plan: Plan) -> bool:
    """Whether a plan is that of an ablation."""
    return (plan.folder / ABOUT).exists()


class Ablation:
    """One ablation, live or over; all of it can be read and steered from any process.

    Example:
        >>> ablation = dls.open_ablation("mlp-ablation")
        >>> ablation.estimate().effects[["factor", "difference", "low", "high", "verdict", "state"]]
    """

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        about = read_json(plan.folder / ABOUT)
        if not about:
            raise DLStudioError("an ablation", repr(plan), "Start one with dlstudio.ablate.")
        self._about: dict[str, Any] = about
        self._items = [(int(cell), int(seed)) for cell, seed in about["items"]]
        self._measured: dict[int, dict[str, Any]] = {}
        self.design = make_design(about["design"], about["factors"], [len(off) for off in about["off"].values()])

    def __repr__(self) -> str:
        return f"<Ablation {self.name!r} {self.status} {self.plan.key}>"

    # -- what it is, and how it stands ------------------------------------------------------------------------------

    @property
    def name(self) -> str:
        """What people call it."""
        return self.plan.name

    @property
    def folder(self) -> Path:
        """The folder of its own run, the parent of all others."""
        return self.plan.folder

    @property
    def status(self) -> str:
        """QUEUED, RUNNING, PAUSED, FINISHED, FAILED or KILLED."""
        return self.plan.status

    @property
    def reason(self) -> str | None:
        """Why it has its status, in words, where there is something to say."""
        if self.status != KILLED:
            return self.plan.reason
        return said_never_logged(self._about["metric"], self._rows()) or self.plan.reason

    @property
    def runs(self) -> list[Run | None]:
        """The runs, in the order of the plan, seed by seed; None where one has not begun."""
        return self.plan.runs

    def estimate(self) -> AblationResult:
        """Return what its runs show so far.

        Where comparisons may end early (``stop=True``), this may be looked at any time: p-values and intervals hold at
        all looks together. Otherwise an effect is judged when its last seed is there; what is read before is a first
        impression, without a verdict.
        """
        about = self._about
        how = Judging(
            direction=about["direction"], level=about["level"], margin=about["margin"], sequential=about["stop"]
        )
        return summarise(
            design=self.design, labels=about["labels"], off={name: tuple(off) for name, off in about["off"].items()},
            seeds=about["seeds"], runs=self._rows(), metric=about["metric"], how=how, name=self.name, run=self.plan.key,
            status=self.status, settings={"seeds": tuple(about["seeds"]), "stop": about["stop"]},
        )  # fmt: skip

    def wait(self, timeout: float | None = None) -> Ablation:
        """Block until it is over; returns itself. Then the result is saved with its run.

        Raises:
            DLStudioError: it is not over after `timeout` seconds.
        """
        self.plan.wait(timeout)
        keep(self.estimate(), _RESULT, folder=self.folder)
        return self

    # -- steering -----------------------------------------------------------------------------------------------------

    def stop(self) -> None:
        """Stop it now; what is trained stays."""
        self.plan.stop()

    def pause(self) -> None:
        """Pause the runs that are going on after their current step, and begin no other."""
        self.plan.pause()

    def resume(self) -> None:
        """Go on after a pause."""
        self.plan.resume()

    def add_workers(self, count: int = 1) -> None:
        """Have more processes train at once."""
        self.plan.add_workers(count)

    def spare(self) -> int:
        """Cancel the runs that no open comparison needs; returns how many.

        The ablation's own steward calls this after every run.
        """
        result = self.estimate()
        rows = result.rows("runs")
        if not any(row["state"] in (WAITING, RUNNING) for row in rows):
            return 0
        if said_never_logged(self._about["metric"], rows):
            self.stop()
            return 0
        if not self._about["stop"]:
            return 0
        needed = still_needed(self.design, result.rows("effects"))
        idle = [
            item for item, row in enumerate(rows) if row["state"] in (WAITING, RUNNING) and not needed[int(row["cell"])]
        ]
        if idle:
            self.plan.cancel(idle)
        return len(idle)

    # -- reading ------------------------------------------------------------------------------------------------------

    def _rows(self) -> list[dict[str, Any]]:
        """Every planned run, in the order of the plan."""
        runs, states = self.plan.runs, self.plan.states
        is_over = self.plan.state().is_over
        cancelled = self._cancelled()
        rows = []
        for item, (cell, seed) in enumerate(self._items):
            run, state = runs[item], states[item]
            reason, measured = "", {"value": math.nan, "reason": "", **UNKNOWN}
            if state == "COMPLETE" and run is not None:
                measured = self._measure(item, run)
                state, reason = COMPLETE if math.isfinite(measured["value"]) else FAILED, measured["reason"]
            elif item in cancelled:
                state, reason = CANCELLED, "not needed any more"
            elif state in ("WAITING", "RUNNING"):
                state = WAITING if state == "WAITING" else RUNNING
                if is_over:
                    state, reason = UNTRAINED, "the ablation ended before"
            else:
                state, reason = FAILED, (run.reason if run is not None else None) or "it was not trained"
            key = "" if run is None else run.key
            rows.append({**measured, "cell": cell, "seed": seed, "state": state, "run": key, "reason": reason})
        return rows

    def _measure(self, item: int, run: Run) -> dict[str, Any]:
        if item not in self._measured:
            metric, state = self._about["metric"], run.state()
            latest = state.latest or {}
            value = float(latest.get(metric, math.nan))
            reason = "" if math.isfinite(value) else f"its {metric} is {value}"
            self._measured[item] = {
                "value": value,
                "reason": reason if metric in latest else never_logged(metric, latest),
                "data": str(read_json(run.folder / "data.json").get("fingerprint", "")),
                "n_steps": state.step or 0,
                "outcome": repr([value, *sorted(item for item in latest.items() if _is_outcome(item[0]))]),
            }
        return self._measured[item]

    def _cancelled(self) -> set[int]:
        commands, _ = RunFolder(self.folder).commands(0)
        asked = [command["arguments"]["items"] for command in commands if command.get("command") == "cancel"]
        return {int(item) for items in asked for item in items}


def _is_outcome(metric: str) -> bool:
    """Whether a metric says how a run ended, and not how long that took."""
    return metric == "loss" or metric.startswith(("train/", "val/", "test/"))


def open_ablation(name: str | Ablation) -> Ablation:
    """Open an ablation by its name, its key or its MLflow run id; of several with one name, the latest.

    Raises:
        DLStudioError: there is none of that name, or it is a run of another kind.

    Example:
        >>> dls.open_ablation("mlp-ablation").estimate().summary
    """
    if isinstance(name, Ablation):
        return name
    found = open_search(name)
    if not isinstance(found, Plan):
        raise DLStudioError("the name of an ablation", repr(found), "Use dlstudio.open_search.")
    return Ablation(found)


def items_of(n_cells: int, seeds: Sequence[int]) -> list[tuple[int, int]]:
    """Return (cell, seed) of every run in the order of training: seed by seed, so that comparisons fill up together."""
    return [(cell, seed) for seed in seeds for cell in range(n_cells)]
