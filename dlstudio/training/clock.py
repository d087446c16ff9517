"""Where the time of a step goes, without making the device wait."""

from __future__ import annotations

import time

import torch

__all__ = ["PAUSE_S", "Clock"]

REPORT_S = 0.5
PAUSE_S = 1.0
"""Recording that takes longer than this was a pause or a checkpoint."""


class Clock:
    """Splits the time of training steps into phases and counts rows a second.

    On the CPU every step counts. A GPU works behind the program's back, so there one step of each report is
    timed by events on the device, read when they have passed.

    Args:
        device: where the work is done.
    """

    def __init__(self, device: torch.device) -> None:
        self._on_cuda = device.type == "cuda"
        self._events: list[tuple[str, torch.cuda.Event]] = []
        self._sampling = False
        self.has_reported = False
        self._begin()

    def _begin(self) -> None:
        self._last = self._start = time.perf_counter()
        self._spent: dict[str, float] = {}
        self._n_steps = self._n_rows = 0
        self._excluded_s = 0.0

    def skip(self, at_least_s: float = 0.0) -> None:
        """Leave out the time since the last call: an evaluation, or a pause or checkpoint while recording."""
        now = time.perf_counter()
        if now - self._last >= at_least_s:
            self._excluded_s += now - self._last
        self._last = now

    def lap(self, phase: str) -> None:
        """Count the time since the last call for `phase`."""
        now = time.perf_counter()
        self._spent[phase] = self._spent.get(phase, 0.0) + now - self._last
        self._last = now
        if self._sampling:
            self._mark(phase)

    def step(self, n_rows: int) -> bool:
        """Count a step; whether a report is due."""
        self._n_steps += 1
        self._n_rows += n_rows
        self._sampling = False
        return self._last - self._start >= REPORT_S

    def report(self) -> dict[str, float]:
        """Return mean phase times in ms and the throughput since the last report, and begin anew."""
        wall_s = max(self._last - self._start - self._excluded_s, 1e-9)
        values = {"throughput_samples_per_s": self._n_rows / wall_s}
        if not self._on_cuda:
            for phase, spent in self._spent.items():
                values[f"phase/{phase}_ms"] = spent / self._n_steps * 1e3
        elif self._events and self._events[-1][1].query():
            for (_, before), (phase, after) in zip(self._events, self._events[1:], strict=False):
                values[f"phase/{phase}_ms"] = values.get(f"phase/{phase}_ms", 0.0) + before.elapsed_time(after)
            self._events = []
        self._begin()
        self.has_reported = True
        if self._on_cuda and not self._events:
            self._sampling = True
            self._mark("start")
        return values

    def _mark(self, phase: str) -> None:
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        self._events.append((phase, event))
