from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
import torch

from dlstudio.training import rng


def _draw() -> tuple[float, float, float, float, float]:
    return (
        random.random(),
        random.gauss(0, 1),
        float(np.random.rand()),
        float(np.random.randn()),
        float(torch.rand(())),
    )


def test_restore_gives_the_same_numbers_after_a_weights_only_load(tmp_path: Path) -> None:
    rng.seed_all(3)
    _draw()  # leaves a second Gaussian waiting in Python and numpy
    torch.save(rng.capture(), tmp_path / "state.pt")
    wanted = [_draw() for _ in range(3)]
    rng.restore(torch.load(tmp_path / "state.pt", weights_only=True))
    assert [_draw() for _ in range(3)] == wanted


def test_an_undisturbed_block_leaves_the_callers_alone() -> None:
    rng.seed_all(1)
    wanted = [_draw(), _draw()]
    rng.seed_all(1)
    first = _draw()
    with rng.undisturbed():
        rng.seed_all(9)
        inside = _draw()
    with pytest.raises(ZeroDivisionError), rng.undisturbed():
        rng.seed_all(9)
        again = _draw()
        raise ZeroDivisionError
    assert [first, _draw()] == wanted and inside == again


def test_orders_differ_by_seed_and_epoch_and_never_by_global_state() -> None:
    def order(seed: int, epoch: int) -> list[int]:
        return torch.randperm(50, generator=rng.own_generator(seed, epoch)).tolist()

    torch.manual_seed(5)
    wanted = order(0, 1)
    torch.manual_seed(6)
    assert order(0, 1) == wanted
    assert len({tuple(order(seed, epoch)) for seed in range(5) for epoch in range(5)}) == 25
