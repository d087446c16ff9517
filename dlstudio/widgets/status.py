"""How a live run stands, in plain values: progress, pace, time left, and what was done to it."""

from __future__ import annotations

import math
import time
from collections import deque
from typing import Any

from dlstudio.runs.run import RunState

PACE_WINDOW_S = 60.0
MAX_EVENTS = 500
PACE_BREAKS = ("pause", "resume", "resumed")


class Progress:
    """Gathers from telemetry what the head of a live view says about progress.

    Attributes:
        step: the highest step seen.
        n_epochs: completed epochs.
        plan: what the loop announced (``n_steps``, ``n_epochs`` and so on); empty when it announced nothing.
        events: what was done to the run, oldest first, each with a growing ``id``; at most `MAX_EVENTS`. Ends of
            epochs are left out, and of checkpoints in a row only the last is kept, so that edits never go under.
    """

    def __init__(self) -> None:
        self.step = 0
        self.n_epochs = 0
        self.plan: dict[str, Any] = {}
        self.events: list[dict[str, Any]] = []
        self._n_events = 0
        self.n_lost = 0
        self._pace: deque[tuple[float, int]] = deque()

    def saw_step(self, step: int, time_s: float) -> None:
        """Note a step and when it was recorded; earlier ones than seen before do not count."""
        if step <= self.step:
            return
        self.step = step
        self._pace.append((time_s, step))
        while len(self._pace) > 2 and self._pace[0][0] < time_s - PACE_WINDOW_S:
            self._pace.popleft()

    def saw_event(self, event: dict[str, Any]) -> None:
        """Note one event."""
        kind, data = event["kind"], event["data"] if isinstance(event["data"], dict) else {}
        if kind == "epoch":
            self.n_epochs = max(self.n_epochs, int(data.get("epoch") or self.n_epochs + 1))
            return
        if kind == "plan":
            self.plan = data
            return
        if kind == "lost":
            self.n_lost += int(data.get("n_points") or 0)
        if kind in PACE_BREAKS:
            self._pace.clear()
        if kind == "checkpoint" and self.events and self.events[-1]["kind"] == "checkpoint":
            self.events.pop()
        self._n_events += 1
        self.events.append({**event, "data": data, "id": self._n_events})
        self.events = self.events[-MAX_EVENTS:]

    def steps_per_s(self) -> float | None:
        """The pace over the last minute of recording; None before there is one."""
        if len(self._pace) < 2:
            return None
        (first_time, first), (last_time, last) = self._pace[0], self._pace[-1]
        return (last - first) / (last_time - first_time) if last_time > first_time else None

    def head(self, state: RunState, throughput: float | None) -> dict[str, Any]:
        """The values at the head of the view; seconds and counts, None where nothing is known."""
        until = state.ended or time.time()
        pace = self.steps_per_s()
        planned = _whole(self.plan.get("n_steps"))
        left = None
        if state.status == "RUNNING" and planned and pace:
            left = max(0.0, (planned - self.step) / pace)
        return {
            "status": state.status,
            "reason": state.reason,
            "live": not state.is_over,
            "step": max(self.step, state.step or 0),
            "n_steps": planned,
            "epoch": self.n_epochs,
            "n_epochs": _whole(self.plan.get("n_epochs")),
            "n_params": _whole(self.plan.get("n_params")),
            "samples_per_s": throughput,
            "steps_per_s": pace if not state.is_over else None,
            "left_s": left,
            "elapsed_s": max(0.0, until - state.started) if state.started else None,
            "started": state.started,
            "ended": state.ended,
            "n_lost": max(self.n_lost, state.n_lost or 0),
        }


def plain(value: Any) -> Any:
    """Return `value` fit for strict JSON: NaN and infinities become texts that JavaScript can read."""
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else ("Infinity" if value > 0 else "-Infinity")
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value


def _whole(value: Any) -> int | None:
    return int(value) if isinstance(value, int | float) and math.isfinite(value) and value > 0 else None
