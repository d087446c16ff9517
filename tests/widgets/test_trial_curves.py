"""Curves of trials come from what their runs recorded; where a run has no such series, there is none."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from dlstudio.figures import trials
from dlstudio.tuning.result import SearchResult
from dlstudio.tuning.space import read_space
from dlstudio.tuning.trial_result import TrialResult
from dlstudio.widgets.trial_curves import TrialCurves
from tests.widgets.conftest import WrittenRun


@pytest.mark.parametrize("state", ["running", "failed", "complete"])
def test_a_trial_that_has_not_logged_the_metric_has_no_curve(written: Callable[..., WrittenRun], state: str) -> None:
    some, none = written("some"), written("none")
    some.scalars({"val/loss": [3.0, 2.0, 1.0]})
    if state != "running":
        none.scalars({"train/loss": [1.0, 1.0]})
    values: dict[str, tuple[float, ...]] = {"complete": (1.0, 7.0)}
    rows = tuple(
        TrialResult(
            number=number, state=how, values=values.get(how, ()), params={"x": 0.5}, run=files.key, started=1.7e9,
            wall_s=1.0, reason=None, violations={}, reports={},
        )
        for number, (files, how) in enumerate([(some.files, "complete"), (none.files, state)])
    )  # fmt: skip
    result = SearchResult(
        name="made", run="made-1", status="RUNNING", metrics=("val/loss", "n_parameters"), directions=("min", "min"),
        space=read_space({"x": (0.0, 1.0)}, None).to_json(), rows=rows, n_trials=2, importances={}, summary=("Now.",),
        findings=(),
    )  # fmt: skip
    search: Any = SimpleNamespace(folder=some.files.path)
    curves = TrialCurves(search)
    assert [dict(row.reports) for row in curves.of(result).rows] == [{1: 3.0, 2: 2.0, 3: 1.0}, {}]
    # A number of the whole run has no curve at all, and that is said.
    assert [dict(row.reports) for row in curves.of(result, 1).rows] == [{}, {}]
    (said,) = trials.curves(curves.of(result, 1), 1).layout.annotations
    assert "No trial has reported" in said.text
    if state == "running":  # what it logs later is drawn
        none.scalars({"val/loss": [5.0]})
        assert [dict(row.reports) for row in curves.of(result).rows][1] == {1: 5.0}
