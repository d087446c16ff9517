"""Checks of a run's explanation end in time or when they are stopped, and keep nothing of a run changed."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import dlstudio as dls
from dlstudio.errors import DLStudioError
from dlstudio.explain.checking import LATE, CheckStopped, check_agreement, check_quality
from dlstudio.explain.checks import CHECKS
from dlstudio.explain.quality.compare import compare_explanations
from dlstudio.explain.quality.score import SCORES, score_explanation
from dlstudio.explain.result import Explanation
from dlstudio.explain.session import Session


@pytest.fixture
def session() -> Session:
    run = dls.fit(dls.Recipe(data="mortgage", epochs=1, name="checked-run", device="cpu"), progress=False)
    return Session(run)


@pytest.fixture
def explained(session: Session) -> Explanation:
    return session.explain(session.test_rows(6), method="integrated_gradients", progress=False)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[float]]:
    """A clock that stands still until a test sets it."""
    now = [1000.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    return now


def files(session: Session) -> list[Path]:
    return sorted((session.run.folder / "results").glob("*"))


def test_a_check_is_what_the_verbs_say_of_the_first_rows(session: Session, explained: Explanation) -> None:
    before = files(session)
    told: list[tuple[int, int]] = []
    quality = check_quality(session, explained, n_rows=4, progress=lambda *at: told.append(at))
    assert told == [(at, len(SCORES)) for at in range(len(SCORES) + 1)]
    agreement = check_agreement(session, explained, n_rows=4)
    assert files(session) == before, "nothing is saved"
    first = session.explain(explained.rows[:4], method="integrated_gradients", progress=False)
    expected = score_explanation(session, first, progress=False)
    assert quality.infidelity == pytest.approx(expected.infidelity)
    assert quality.max_sensitivity == pytest.approx(expected.max_sensitivity, rel=1e-3)
    assert list(quality.rows) == list(agreement.rows) == list(explained.rows[:4])
    assert agreement.methods[0] == "integrated_gradients" and not agreement.failed and not quality.skipped
    for check, result in zip(CHECKS, (agreement, quality), strict=True):
        assert check.fits(result, explained) and not check.unfinished(result)


def test_a_stopped_check_keeps_nothing(session: Session, explained: Explanation) -> None:
    for check in (check_agreement, check_quality):
        event = threading.Event()
        started: list[int] = []

        def stop(done: int, of: int, event: threading.Event = event, started: list[int] = started) -> None:
            started.append(done)
            if done == 1:
                event.set()

        with pytest.raises(CheckStopped):
            check(session, explained, progress=stop, cancel=event)
        assert started[:2] == [0, 1]
        with pytest.raises(CheckStopped):
            check(session, explained, cancel=event)


def test_what_there_is_no_time_for_is_left_out(session: Session, explained: Explanation, clock: list[float]) -> None:
    def late(done: int, of: int) -> None:
        if done == 2:
            clock[0] += 61

    quality = check_quality(session, explained, max_seconds=60, progress=late)
    assert set(quality.seconds) == set(SCORES[:2]) and set(quality.skipped) == set(SCORES[2:])
    assert all(LATE in why for why in quality.skipped.values()) and CHECKS[1].unfinished(quality)
    agreement = check_agreement(session, explained, max_seconds=60, progress=late)
    assert len(agreement.methods) == 2 and CHECKS[0].unfinished(agreement)
    assert {finding.code for finding in agreement.findings} >= {"DLS437"}
    assert all(why == f"The 60 {LATE}." for why in agreement.failed.values())


def test_a_slow_explanation_leaves_time_to_score_fewer_rows(
    session: Session, explained: Explanation, clock: list[float]
) -> None:
    many = session.explain(np.concatenate([explained.rows] * 5), method="saliency", progress=False)

    def slow(module: torch.nn.Module, inputs: Any, outputs: Any) -> None:
        if inputs[0].requires_grad and clock[0] < 1000.3:
            clock[0] += 0.01 * len(inputs[0])

    session.model.register_forward_hook(slow)
    quality = check_quality(session, many, n_rows=30, max_seconds=0.4)
    assert 0 < len(quality.rows) < 30 and set(quality.seconds) == set(SCORES)


def test_a_refused_explanation_is_not_scored(session: Session, explained: Explanation) -> None:
    with pytest.raises(DLStudioError, match="an explanation that was not refused"):
        check_quality(session, dataclasses.replace(explained, verdict="refused"))
    other = dataclasses.replace(explained, attributions=-explained.attributions)
    with pytest.raises(DLStudioError, match="made with the run's own references"):
        check_quality(session, other)


def test_comparing_a_run_by_the_verb_is_saved(session: Session, explained: Explanation) -> None:
    compare_explanations(session, explained.rows, methods=("shapley", "saliency"), progress=False)
    assert session.run.folder / "results" / "agreement.json" in files(session)
