"""Work ends when it has to, keeps what is finished, and fits into the memory there is."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from dlstudio.errors import DLStudioError
from dlstudio.limits import OVER, Halted, Limit, counted, whole_number
from dlstudio.running import Runner, memory_named


class Clock:
    """A clock that only goes when someone works."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        monkeypatch.setattr("time.monotonic", lambda: self.now)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def working(clock: Clock, seconds_a_row: float, seen: list[int]) -> Callable[[slice, int], int]:
    def work(rows: slice, limit: int) -> int:
        clock.now += seconds_a_row * (rows.stop - rows.start)
        seen.append(rows.stop - rows.start)
        return seen[-1]

    return work


def test_a_limit_runs_out(clock: Clock) -> None:
    limit = Limit(10)
    assert limit.left == 10 and not limit.is_set() and limit.why == ""
    clock.now += 11
    assert limit.is_set() and limit.why == f"the 10 {OVER}" and limit.left == -1
    with pytest.raises(Halted, match="the 10 s allowed were over"):
        limit.look()
    assert Limit().left == math.inf and not Limit().is_set()


def test_the_limit_of_the_work_around_holds_within(clock: Clock) -> None:
    event = threading.Event()
    around = Limit(10, event)
    within = Limit(60, around)
    assert within.left == 10 and Limit(None, around).left == 10 and Limit(5, around).left == 5
    clock.now += 11
    assert within.why == f"the 10 {OVER}", "of the two the one that ran out is named"
    event.set()
    assert within.why == around.why == "it was cancelled"


def test_batches_never_take_more_than_half_of_the_time_left(clock: Clock) -> None:
    seen: list[int] = []
    runner = Runner(max_batch=1000, max_seconds=100, progress=False)
    done = runner.over_rows(1000, 1, working(clock, 0.5, seen))
    # Four rows leave 98 s, which is time for 98 more within half of that, and so on.
    assert seen[:5] == [4, 98, 49, 24, 12] and sum(done) == 200 and runner.stopped == f"the 100 {OVER}"


def test_the_speed_is_known_in_the_next_call(clock: Clock) -> None:
    seen: list[int] = []
    runner = Runner(max_batch=50, max_seconds=1000, progress=False)
    for width in (1, 10):
        runner.over_rows(100, width, working(clock, 0.01 * width, seen))
    assert seen == [4, 50, 46, *[5] * 20]


def test_work_that_has_to_be_whole_is_whole_or_nothing(clock: Clock) -> None:
    seen: list[int] = []
    assert sum(Runner(max_batch=7, progress=False).every_row(30, 1, working(clock, 1, seen))) == 30
    with pytest.raises(Halted, match="the 20 s allowed were over"):
        Runner(max_batch=7, max_seconds=20, progress=False).every_row(30, 1, working(clock, 1, seen))


def test_nothing_finished_is_an_error_that_knows_why() -> None:
    event = threading.Event()
    event.set()
    with pytest.raises(DLStudioError, match="none: it was cancelled") as caught:
        Runner(max_batch=7, cancel=event, progress=False).over_rows(3, 1, lambda rows, limit: 1)
    assert isinstance(caught.value.__cause__, Halted)


def test_memory_that_runs_out_halves_the_batch_and_loses_no_row() -> None:
    seen: list[tuple[int, int]] = []

    def work(rows: slice, limit: int) -> int:
        if rows.stop - rows.start > 9:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 GiB")
        seen.append((rows.start, rows.stop))
        return rows.stop - rows.start

    runner = Runner(max_batch=64, progress=False)
    assert sum(runner.over_rows(30, 1, work)) == 30 and runner.max_batch == 8
    assert [start for start, _ in seen] == [0, *(stop for _, stop in seen[:-1])]

    def never(rows: slice, limit: int) -> int:
        raise MemoryError

    with pytest.raises(DLStudioError, match="memory for a single row"):
        runner.over_rows(30, 1, never)


def test_memory_is_named_and_other_errors_stay_as_they_are() -> None:
    with pytest.raises(DLStudioError, match="memory for a single row"), memory_named():
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8000000000 bytes")
    with pytest.raises(RuntimeError, match="shapes"), memory_named():
        raise RuntimeError("shapes do not match")


@pytest.mark.parametrize("given", [np.int64(64), np.uint8(64), 64])
def test_whole_numbers_of_any_type_are_taken(given: Any) -> None:
    assert Runner(max_batch=given, progress=False).max_batch == 64
    assert type(whole_number("n", given, 1)) is int


@pytest.mark.parametrize("given", [0, -1, True, np.bool_(True), 2.0, np.float64(2), "2", None, np.array([2])])
def test_other_batches_are_refused(given: Any) -> None:
    with pytest.raises(DLStudioError, match="max_batch of 1 or more"):
        Runner(max_batch=given)


@pytest.mark.parametrize("given", [0, -1, math.nan, True, "60", (1,)])
def test_other_times_are_refused(given: Any) -> None:
    with pytest.raises(DLStudioError, match="max_seconds above 0"):
        Runner(max_batch=1, max_seconds=given)


def test_what_is_no_event_is_refused() -> None:
    with pytest.raises(DLStudioError, match=r"an event with is_set\(\)"):
        Runner(max_batch=1, cancel=True)  # type: ignore[arg-type]


def test_steps_are_counted_before_each_and_at_the_end() -> None:
    told: list[tuple[int, int]] = []
    assert list(counted("ab", lambda *at: told.append(at), "letter", "Reading")) == ["a", "b"]
    assert told == [(0, 2), (1, 2), (2, 2)]
    for shown in (True, False):
        assert list(counted("ab", shown, "letter", "Reading")) == ["a", "b"]
