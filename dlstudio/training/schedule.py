"""Learning rate schedules as one pure function of the step."""

from __future__ import annotations

import math

__all__ = ["factor"]

_MILESTONES, _DROP = (0.5, 0.75), 0.1
_CYCLE_RISE, _CYCLE_START, _CYCLE_END = 0.3, 1 / 25, 1 / 25e4


def factor(schedule: str, step: int, n_steps: int, warmup_steps: int = 0) -> float:
    """Return what the learning rate is multiplied by at one step; above 0 and at most 1.

    After a linear warm-up: ``constant`` stays at 1; ``cosine`` and ``linear`` fall from 1 to just above 0 at
    the last step; ``step`` drops to a tenth after half of the remaining steps and again after three quarters;
    ``one_cycle`` rises from 1/25 to 1 over `warmup_steps` (by default three tenths of all steps) and falls to
    1/250,000, both along a half cosine.

    Args:
        schedule: its name.
        step: number of optimiser steps done before this one, from 0.
        n_steps: number of steps of the whole run.
        warmup_steps: steps of the rise.

    Example:
        >>> [round(factor("cosine", s, 4), 3) for s in range(4)]
        [1.0, 0.854, 0.5, 0.146]
    """
    if schedule == "one_cycle":
        return _one_cycle(step, n_steps, warmup_steps)
    if step < warmup_steps:
        return (step + 1) / (warmup_steps + 1)
    progress = min(max(step - warmup_steps, 0) / max(n_steps - warmup_steps, 1), 1.0)
    if schedule == "cosine":
        return max(0.5 * (1 + math.cos(math.pi * progress)), 1e-8)
    if schedule == "linear":
        return max(1 - progress, 1e-8)
    if schedule == "step":
        return _DROP ** sum(progress >= milestone for milestone in _MILESTONES)
    return 1.0


def _one_cycle(step: int, n_steps: int, warmup_steps: int) -> float:
    peak = warmup_steps if warmup_steps else max(_CYCLE_RISE * n_steps - 1, 1e-9)
    if step <= peak:
        start, end, progress = _CYCLE_START, 1.0, step / peak
    else:
        start, end, progress = 1.0, _CYCLE_END, min((step - peak) / max(n_steps - 1 - peak, 1e-9), 1.0)
    return end + (start - end) * 0.5 * (1 + math.cos(math.pi * progress))
