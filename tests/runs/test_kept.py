"""Results that are kept with a run, and when they count as nothing."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import numpy as np
import pytest

import dlstudio as dls
from dlstudio.runs.kept import keep, kept
from dlstudio.runs.run import Run
from dlstudio.trust.evaluation import evaluate
from dlstudio.trust.evaluation_result import Evaluation
from dlstudio.trust.slice_result import SliceResult


@pytest.fixture
def run(fresh_home: Path) -> Run:
    with dls.record("kept") as rec:
        rec.log({"loss": 1.0}, step=1)
    return rec.run


@pytest.fixture
def result(run: Run) -> Evaluation:
    y = np.tile([0, 1, 1], 20)
    return dataclasses.replace(evaluate(y, np.roll(y, 1)), run=run.key)


def test_what_is_kept_is_found_again_and_replaced(run: Run, result: Evaluation) -> None:
    assert kept(run, "evaluation", Evaluation) is None
    assert keep(result, "evaluation") is result
    assert kept(run, "evaluation", Evaluation) == result
    other = dataclasses.replace(result, data="another")
    keep(other, "evaluation")
    assert kept(run, "evaluation", Evaluation) == other


def test_a_result_of_no_run_is_kept_nowhere(run: Run, result: Evaluation) -> None:
    keep(dataclasses.replace(result, run=""), "evaluation")
    assert not list(run.folder.rglob("evaluation*"))


@pytest.mark.parametrize("why", ["another kind", "damaged", "older than the predictions"])
def test_what_cannot_be_relied_on_counts_as_nothing(run: Run, result: Evaluation, why: str) -> None:
    keep(result, "evaluation")
    path = run.folder / "results" / "evaluation.json"
    if why == "another kind":
        assert kept(run, "evaluation", SliceResult) is None
    elif why == "damaged":
        path.write_text(path.read_text()[:-20])
    else:
        predictions = path.with_name("predictions.npz")
        predictions.write_bytes(b"")
        written = path.stat().st_mtime_ns
        os.utime(predictions, ns=(written - 1, written - 1))
        assert kept(run, "evaluation", Evaluation) == result
        os.utime(predictions, ns=(written + 1, written + 1))
    if why != "another kind":
        assert kept(run, "evaluation", Evaluation) is None
