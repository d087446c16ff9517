"""The numbers of a run, computed once: board, report and terminal all read them from here."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from dlstudio.runs.folder import read_json
from dlstudio.telemetry.reader import TelemetryReader
from dlstudio.training.curves import CurveBuilder, LayersBuilder
from dlstudio.training.numbers import TrainingSummary
from dlstudio.training.words import describe, findings, key_numbers, verdict

if TYPE_CHECKING:
    from dlstudio.runs.run import Run

__all__ = [
    "Summarizer",
    "TrainingSummary",
    "describe",
    "findings",
    "key_numbers",
    "summarize",
    "verdict",
]

LAYER_COLUMNS = 240
MAX_EVENTS = 500


def summarize(run: Run, *, points: int = 1000) -> TrainingSummary:
    """Read a run and say what it did.

    Memory stays bounded by the number of keys and parameters, however long the run.

    Args:
        run: a run, live or over.
        points: how many points of each curve to keep; at most about twice as many are.

    Returns:
        A frozen summary; ``results.save`` writes it, `findings` and `describe` put it into words.

    Example:
        >>> summary = summarize(dls.open_run("first"))
        >>> summary.final["loss"], summary.best_epoch
        (0.2431, 14)
    """
    return Summarizer(run, points=points).update()


class Summarizer:
    """Follows a run: every `update` reads only what is new since the last.

    Args:
        run: the run to follow.
        points: as in `summarize`.
    """

    def __init__(self, run: Run, *, points: int = 1000) -> None:
        self.run = run
        self._points = points
        self._reader = TelemetryReader(run.folder / "telemetry")
        self._forget()

    def _forget(self) -> None:
        self._scalars: dict[str, CurveBuilder] = {}
        self._machine: dict[str, CurveBuilder] = {}
        self._layers = LayersBuilder(LAYER_COLUMNS)
        self._events: list[dict[str, Any]] = []
        self._epochs: list[tuple[int, int]] = []
        self._evaluations: dict[int, dict[str, float]] = {}
        self._best_step: int | None = None

    def update(self) -> TrainingSummary:
        """Read what is new and return the summary as it is now."""
        run = self.run
        state = run.state()
        more = True
        while more:
            new = self._reader.read()
            if new.restarted:
                self._forget()
            for key, steps, values, _ in new.scalars:
                self._scalars.setdefault(key, CurveBuilder(key, self._points)).add(steps, values)
                if key.startswith("val/"):
                    for step, metric in zip(steps.tolist(), values.tolist(), strict=True):
                        self._evaluations.setdefault(step, {})[key] = metric
            for key, times, values in new.machine:
                builder = self._machine.setdefault(key, CurveBuilder(key, self._points // 2))
                builder.add(times - (state.started or state.created or 0.0), values)
            for block in new.layers:
                self._layers.add(block)
            self._take_events(new.events)
            more = new.more
        self._keep_best()
        return self._summary(state)

    def _take_events(self, events: list[dict[str, Any]]) -> None:
        for event in events:
            if event["kind"] == "epoch" and event.get("step") is not None:
                self._epochs.append((int(event["step"]), int(_data(event).get("epoch", len(self._epochs) + 1))))
        self._events.extend(events)
        if len(self._events) > MAX_EVENTS:
            self._events = [event for event in self._events if event["kind"] != "epoch"]
            self._events = self._events[:50] + self._events[50:][-(MAX_EVENTS - 50) :]

    def _keep_best(self) -> None:
        """Forget evaluations that can be neither the best nor the last, so that memory stays bounded."""
        losses = {
            step: metrics["val/loss"]
            for step, metrics in self._evaluations.items()
            if np.isfinite(metrics.get("val/loss", np.nan))
        }
        if losses:
            self._best_step = min(losses, key=lambda step: (losses[step], step))
        if self._evaluations:
            keep = {max(self._evaluations), self._best_step or 0} & self._evaluations.keys()
            self._evaluations = {step: self._evaluations[step] for step in keep}

    def _epoch_at(self, step: int | None, steps_per_epoch: int | None) -> int | None:
        if step is None:
            return None
        for at, epoch in self._epochs:
            if at >= step:
                return epoch
        return -(-step // steps_per_epoch) if steps_per_epoch else None

    def _summary(self, state: Any) -> TrainingSummary:
        run, info = self.run, self.run.info
        curves = {key: builder.curve() for key, builder in self._scalars.items()}
        final = {key: curve.last for key, curve in curves.items()}
        plan: dict[str, Any] = {}
        for event in self._events:
            if event["kind"] == "plan":
                plan = _data(event)
        lost = sum(_data(event).get("n_points", 0) for event in self._events if event["kind"] == "lost")
        until = state.ended or time.time()
        return TrainingSummary(
            name=run.name,
            key=run.key,
            run_id=str((read_json(run.folder / "catalogue.json").get("entry") or {}).get("run_id", "")),
            kind=str(info.get("kind", "")),
            status=state.status,
            reason=state.reason,
            traceback=state.traceback,
            config=dict(run.config),
            created=state.created,
            started=state.started,
            ended=state.ended,
            wall_s=max(0.0, until - state.started) if state.started else None,
            n_steps=int(max((curve.last_x for curve in curves.values()), default=0)),
            n_steps_planned=_integer(plan.get("n_steps")),
            n_epochs=max((epoch for _, epoch in self._epochs), default=0),
            n_epochs_planned=_integer(plan.get("n_epochs") or run.config.get("epochs")),
            n_parameters=_integer(plan.get("n_params")),
            throughput_samples_per_s=final.get("throughput_samples_per_s"),
            best_step=self._best_step,
            best_epoch=self._epoch_at(self._best_step, _integer(plan.get("steps_per_epoch"))),
            best=dict(self._evaluations.get(self._best_step, {})) if self._best_step is not None else {},
            final=final,
            curves=curves,
            layers=self._layers.history(),
            machine={key: builder.curve() for key, builder in self._machine.items()},
            events=list(self._events),
            n_lost=max(int(lost), int(state.n_lost or 0)),
            damage=list(self._reader.damage),
            environment={key: item for key, item in info.items() if key in ("command", "host", "user", "cwd")}
            | read_json(run.folder / "environment.json"),
        )


def _integer(item: Any) -> int | None:
    return int(item) if isinstance(item, (int, float)) and not isinstance(item, bool) else None


def _data(event: Mapping[str, Any]) -> dict[str, Any]:
    return dict(event.get("data") or {})
