"""The pure function against PyTorch's own schedulers."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch.optim import SGD, lr_scheduler

from dlstudio.training.schedule import factor

N = 40


def _of_torch(make: object, n: int = N) -> list[float]:
    optimizer = SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler = make(optimizer)  # type: ignore[operator]
    values = []
    for _ in range(n):
        values.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return values


def test_cosine_is_torchs() -> None:
    wanted = _of_torch(lambda o: lr_scheduler.CosineAnnealingLR(o, T_max=N))
    assert [factor("cosine", s, N) for s in range(N)] == pytest.approx(wanted, abs=1e-12)


def test_linear_is_torchs() -> None:
    wanted = _of_torch(lambda o: lr_scheduler.LinearLR(o, start_factor=1, end_factor=1e-20, total_iters=N))
    assert [factor("linear", s, N) for s in range(N)] == pytest.approx(wanted, abs=1e-12)


def test_one_cycle_is_torchs() -> None:
    wanted = _of_torch(lambda o: lr_scheduler.OneCycleLR(o, 1.0, total_steps=N, cycle_momentum=False), N - 1)
    assert [factor("one_cycle", s, N) for s in range(N - 1)] == pytest.approx(wanted, abs=1e-12)


def test_step_is_torchs_multistep() -> None:
    wanted = _of_torch(lambda o: lr_scheduler.MultiStepLR(o, [20, 30], gamma=0.1))
    assert [factor("step", s, N) for s in range(N)] == pytest.approx(wanted)


def test_warm_up_rises_in_equal_parts_and_then_the_shape_begins() -> None:
    assert [factor("constant", s, 10, 4) for s in range(6)] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1, 1])
    after = [factor("cosine", s, 30, 10) for s in range(10, 30)]
    assert after == pytest.approx([factor("cosine", s, 20) for s in range(20)])


@pytest.mark.parametrize("schedule", ["constant", "cosine", "linear", "step", "one_cycle"])
def test_always_above_zero_and_at_most_one(schedule: str) -> None:
    for n, warmup in itertools.product((1, 2, 3, 7, 100), (0, 1, 5, 200)):
        values = [factor(schedule, s, n, warmup) for s in range(n + 3)]
        assert all(0 < v <= 1 and math.isfinite(v) for v in values), (n, warmup, values)
