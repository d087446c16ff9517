"""The numbers of one training run, as plain values that every face reads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dlstudio.results import Result
from dlstudio.summary.curves import Curve, LayerHistory

if TYPE_CHECKING:
    import pandas as pd

LIVE = ("QUEUED", "RUNNING", "PAUSED")
PARTS = {"search": "trial", "ablation": "run", "plan": "run"}
"""What a run of these kinds is made of: other runs, each of which is one of its steps."""
EDITS = ("set", "pause", "resume", "resumed", "stop", "checkpoint", "early_stop", "warning")


@dataclass(frozen=True, kw_only=True, eq=False)
class TrainingSummary(Result, schema=1):
    """Everything that faces say about one training run.

    Attributes:
        name, key, run_id: how people, the studio home and the catalogue call the run; the id is empty until
            the catalogue has taken the run.
        kind: ``"record"``, ``"fit"``, ``"launch"`` or ``"trial"``; ``"search"``, ``"ablation"`` or ``"plan"`` for one
            that is made of other runs, each of which is a step.
        status: QUEUED, RUNNING, PAUSED, FINISHED, FAILED or KILLED.
        reason, traceback: why it is so, if something is to be said.
        config: what the run was asked to do.
        created, started, ended: seconds since the epoch, or None.
        wall_s: seconds from its start to its end, or to now while it is live.
        n_steps, n_epochs: completed optimiser steps and epochs.
        n_steps_planned, n_epochs_planned, n_parameters: from the plan the loop announced, or None.
        throughput_samples_per_s: the last measured one, or None.
        best_step, best_epoch: the evaluation with the lowest validation loss, the first if there are several; None
            for a run that is made of others.
        best: all ``val/…`` metrics of that evaluation.
        final: the last recorded value of every key.
        curves: every recorded scalar.
        layers: statistics of the watched parameters, or None.
        machine: machine use over seconds since the start.
        events: what happened, oldest first: ``time``, ``step``, ``kind``, ``message``, ``data``; at most
            500, and of the ends of epochs and the checkpoints only the last where there are more.
        n_lost: telemetry points that could not be written.
        damage: what could not be read of the telemetry files, in words.
        environment: packages, code state, command, host and device as captured at the start.
    """

    name: str
    key: str
    run_id: str
    kind: str
    status: str
    reason: str | None
    traceback: str | None
    config: Mapping[str, Any]
    created: float | None
    started: float | None
    ended: float | None
    wall_s: float | None
    n_steps: int
    n_steps_planned: int | None
    n_epochs: int
    n_epochs_planned: int | None
    n_parameters: int | None
    throughput_samples_per_s: float | None
    best_step: int | None
    best_epoch: int | None
    best: Mapping[str, float]
    final: Mapping[str, float]
    curves: Mapping[str, Curve]
    layers: LayerHistory | None
    machine: Mapping[str, Curve]
    events: list[dict[str, Any]]
    n_lost: int
    damage: list[str]
    environment: Mapping[str, Any]

    @property
    def live(self) -> bool:
        """Whether the run may still change."""
        return self.status in LIVE

    @property
    def part(self) -> str | None:
        """What the run is made of, ``"trial"`` or ``"run"``; None for one that trains a model itself."""
        return PARTS.get(self.kind)

    @property
    def edits(self) -> list[dict[str, Any]]:
        """The events in which something intervened: pauses, rate changes, checkpoints, warnings."""
        return [event for event in self.events if event["kind"] in EDITS]

    def frame(self) -> pd.DataFrame:
        """The kept points of all scalars: one row a point, columns ``key``, ``step`` and ``value``."""
        import pandas as pd

        parts = [
            pd.DataFrame({"key": key, "step": curve.x, "value": curve.values}) for key, curve in self.curves.items()
        ]
        return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=["key", "step", "value"])
