"""Batch sizes: a model whose memory ends at a known size, and the reading of known timings."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import nn

from dlstudio import results
from dlstudio.errors import DLStudioError
from dlstudio.training.recipe import Recipe
from dlstudio.tuning.batch_sizes import read_sizes
from dlstudio.tuning.find_batch_size import find_batch_size


@pytest.fixture(autouse=True)
def short_spells(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test here is about how exact a timing is."""
    monkeypatch.setattr("dlstudio.tuning.find_batch_size.SPELL_S", 1e-3)


class Full(nn.Module):
    """Takes `most` rows and no more."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self.most, self.linear = most, nn.Linear(3, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if len(x) > self.most:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 GiB")
        return self.linear(x)


def of_full(most: int, **options: Any) -> Any:
    batch = torch.randn(16, 3), torch.randn(16, 1)
    return find_batch_size(Full(most), loader=[batch], loss=nn.functional.mse_loss, **options)


@pytest.mark.parametrize("most", [1, 5, 16, 100, 777])
def test_the_end_of_memory_is_found_to_within_three_percent(most: int) -> None:
    found = of_full(most)
    assert found.limited_by == "memory"
    assert found.largest is not None and most / (1 + 1 / 32) - 1 <= found.largest <= most
    sizes = found.frame()
    assert (sizes.fits == (sizes.batch_size <= most)).all()
    assert found.suggestion in sizes.batch_size[sizes.rows_per_s.notna()].tolist()
    assert found.suggestion <= found.largest


def test_nothing_fits() -> None:
    found = of_full(0)
    assert found.largest is None and found.suggestion is None
    assert [finding.code for finding in found.findings] == ["DLS550"]


def test_other_errors_are_not_taken_for_memory() -> None:
    batch = torch.randn(4, 5), torch.randn(4, 1)
    with pytest.raises(DLStudioError, match=r"shapes cannot be multiplied.*inputs \(8, 5\), targets \(8, 1\)"):
        find_batch_size(Full(10), loader=[batch], loss=nn.functional.mse_loss)


def test_batch_normalisation_cannot_train_a_single_row() -> None:
    model = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2), nn.Linear(2, 1))
    batch = torch.randn(16, 3), torch.randn(16, 1)
    with pytest.raises(DLStudioError, match="two rows or more.*smallest=2"):
        find_batch_size(model, loader=[batch], loss=nn.functional.mse_loss, smallest=1, largest=4)
    found = find_batch_size(model, loader=[batch], loss=nn.functional.mse_loss, smallest=2, largest=4)
    assert found.largest == 4


def timings(speeds: dict[int, float]) -> list[dict[str, Any]]:
    return [
        {"batch_size": size, "fits": True, "step_ms": 1e3 * size / speed, "rows_per_s": speed, "memory_mib": 0.0}
        for size, speed in speeds.items()
    ]


def test_the_smallest_within_five_percent_is_suggested() -> None:
    found = read_sizes(timings({8: 100.0, 16: 190.0, 32: 286.0, 64: 300.0, 128: 299.0}), "data", 5000)
    assert (found["suggestion"], found["largest"]) == (32, 128)
    assert "within 5 %" in found["reason"] and found["findings"] == ()
    assert "only" not in found["reason"] and "only 4 steps" in read_sizes(timings({32: 1.0}), "data", 100)["reason"]


def test_an_epoch_keeps_twenty_steps() -> None:
    rising = timings({size: float(size) for size in (8, 100, 110, 2000)})
    found = read_sizes(rising, "data", 2200)  # 20 steps of 110
    assert (found["suggestion"], found["largest"]) == (110, 2000) and "in 2 steps an epoch" in found["reason"]
    assert read_sizes(rising, "data", 2090)["suggestion"] == 100  # 19 steps of 110, 21 of 100
    assert read_sizes(rising, "data")["suggestion"] == 2000


def test_memory_that_did_not_grow_is_not_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dlstudio.tuning.find_batch_size._peak_bytes", lambda: 2**30)
    assert of_full(100, smallest=4, largest=8).frame().memory_mib.isna().all()
    peaks = iter(range(0, 2**40, 2**25))
    monkeypatch.setattr("dlstudio.tuning.find_batch_size._peak_bytes", lambda: next(peaks))
    assert of_full(100, smallest=4, largest=8).frame().memory_mib.tolist() == [32.0, 32.0]


def test_a_search_that_ended_while_it_got_faster_says_so() -> None:
    rising = timings({8: 100.0, 16: 200.0})
    assert [finding.code for finding in read_sizes(rising, "time")["findings"]] == ["DLS551"]
    assert read_sizes(rising, "memory")["findings"] == ()


def test_a_recipe_up_to_all_of_its_rows(tmp_path: Any) -> None:
    state = torch.get_rng_state()
    found = find_batch_size(Recipe(data="digits"), smallest=300)
    assert torch.equal(torch.get_rng_state(), state)
    assert found.limited_by == "data" and found.largest == found.n_rows
    assert found.frame().batch_size.tolist()[:3] == [300, 600, 1200]
    assert all(math.isfinite(speed) for speed in found.sizes["rows_per_s"])
    assert results.load(results.save(found, tmp_path, "sizes")) == found


def test_an_end_that_was_asked_for() -> None:
    found = of_full(10**6, smallest=4, largest=24)
    assert found.limited_by == "asked" and found.frame().batch_size.tolist() == [4, 8, 16, 24]
    assert of_full(10**6, smallest=4, max_seconds=1e-9).limited_by == "time"


@pytest.mark.parametrize("options", [{"smallest": 0}, {"smallest": 8, "largest": 4}, {"max_seconds": 0}])
def test_bad_input(options: dict[str, Any]) -> None:
    with pytest.raises(DLStudioError):
        of_full(10, **options)
