"""The numbers of a run, computed once: board, report and terminal all read them from here."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from dlstudio.runs.folder import read_json
from dlstudio.summary.curves import Array, CurveBuilder, LayersBuilder
from dlstudio.summary.numbers import PARTS, TrainingSummary
from dlstudio.summary.words import describe, findings, key_numbers, verdict
from dlstudio.telemetry.reader import TelemetryReader

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
        self._best_loss = np.inf
        self._best_step: int | None = None
        self._best: dict[str, float] = {}
        self._latest: dict[str, tuple[int, float]] = {}

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
            self._take_evaluations(
                {key: (steps, values) for key, steps, values, _ in new.scalars if key.startswith("val/")}
            )
            for key, times, values in new.machine:
                builder = self._machine.setdefault(key, CurveBuilder(key, self._points // 2))
                builder.add(times - (state.started or state.created or 0.0), values)
            for block in new.layers:
                self._layers.add(block)
            self._take_events(new.events)
            more = new.more
        return self._summary(state)

    def _take_events(self, events: list[dict[str, Any]]) -> None:
        for event in events:
            if event["kind"] == "epoch" and event.get("step") is not None:
                self._epochs.append((int(event["step"]), int(_data(event).get("epoch", len(self._epochs) + 1))))
        self._events.extend(events)
        for kind in ("epoch", "checkpoint"):  # routine goes first, so that what someone did stays
            if len(self._events) > MAX_EVENTS:
                routine = [event for event in self._events if event["kind"] == kind]
                recent = {id(event) for event in routine[-50:]}
                self._events = [e for e in self._events if e["kind"] != kind or id(e) in recent]
        if len(self._events) > MAX_EVENTS:
            self._events = self._events[:100] + self._events[100 - MAX_EVENTS :]

    def _take_evaluations(self, metrics: Mapping[str, tuple[Array, Array]]) -> None:
        """Keep the metrics of the evaluation with the lowest finite loss so far, and the latest ones.

        The metrics of one evaluation may come in two reads, hence the latest: their step may turn out to be the best.
        """
        if "val/loss" in metrics:
            steps, losses = metrics["val/loss"]
            at = int(np.argmin(np.where(np.isfinite(losses), losses, np.inf)))
            if losses[at] < self._best_loss:
                self._best_loss, self._best_step = float(losses[at]), int(steps[at])
                self._best = {key: value for key, (step, value) in self._latest.items() if step == self._best_step}
        for key, (steps, values) in metrics.items():
            found = np.flatnonzero(steps == self._best_step)
            if len(found):
                self._best[key] = float(values[found[-1]])
            self._latest[key] = (int(steps[-1]), float(values[-1]))

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
        is_group = info.get("kind") in PARTS
        if is_group:  # epochs in its config are those of each of its runs
            plan = {"n_steps": read_json(run.folder / "search.json").get("n_trials")}
        lost = sum(_data(event).get("n_points", 0) for event in self._events if event["kind"] == "lost")
        best_step = None if is_group else self._best_step
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
            n_epochs_planned=_integer(plan.get("n_epochs") or (None if is_group else run.config.get("epochs"))),
            n_parameters=_integer(plan.get("n_params")),
            throughput_samples_per_s=final.get("throughput_samples_per_s"),
            best_step=best_step,
            best_epoch=self._epoch_at(best_step, _integer(plan.get("steps_per_epoch"))),
            best={} if is_group else dict(self._best),
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
