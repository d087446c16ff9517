"""An audit of a run is the audit of its stored predictions and its data's columns."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from dlstudio.errors import DLStudioError
from dlstudio.fairness.audit import audit_fairness
from dlstudio.runs.run import Run
from dlstudio.training.fit import fit
from dlstudio.training.predicted import predictions_of
from dlstudio.training.recipe import Recipe


@pytest.fixture(scope="module")
def run() -> Run:
    return fit(Recipe(data="mortgage", epochs=2), progress=False, name="audited")


def test_a_run_is_audited_like_its_arrays(run: Run) -> None:
    found = predictions_of(run)
    assert found.frame is not None
    by_run = audit_fairness(run, sensitive_features=["black", "male"], n_resamples=200)
    by_arrays = audit_fairness(
        found.y_true,
        found.y_pred,
        y_score=found.y_score,
        sensitive_features=found.frame[["black", "male"]],
        n_resamples=200,
    )
    pd.testing.assert_frame_equal(by_run.by_group, by_arrays.by_group)
    pd.testing.assert_frame_equal(by_run.gaps, by_arrays.gaps)
    pd.testing.assert_frame_equal(by_run.intersections, by_arrays.intersections)
    assert (by_run.run, by_run.data, by_run.split, by_run.positive) == (run.key, "mortgage", "test", "approved")
    assert set(by_run.rows_of("black", "1")) <= set(found.rows)
    assert "missing" in by_run.group_names[1], "some applicants' sex is not known"


def test_a_run_knows_its_sensitive_columns(run: Run) -> None:
    audit = audit_fairness("audited", intersections=1, split="val", n_resamples=100)
    assert audit.features == predictions_of(run).sensitive and not len(audit.intersections) and audit.split == "val"


def test_the_other_class_may_be_the_positive_one(run: Run) -> None:
    denied, approved = (
        audit_fairness(run, sensitive_features="black", positive=name, intersections=1, n_resamples=100)
        for name in ("denied", "approved")
    )
    one, other = (audit.by_group.set_index(["metric", "group"])["value"].sort_index() for audit in (denied, approved))
    assert one["true_positive_rate"].to_numpy() == pytest.approx(other["true_negative_rate"].to_numpy())
    assert one["mean_score"].to_numpy() == pytest.approx(1 - other["mean_score"].to_numpy())
    assert one["auc"].to_numpy() == pytest.approx(other["auc"].to_numpy())


def test_a_column_of_the_run_names_clusters(run: Run) -> None:
    audit = audit_fairness(run, sensitive_features=["black"], clusters="loanamt", intersections=1, n_resamples=100)
    frame = predictions_of(run).frame
    assert frame is not None and audit.n_clusters == frame["loanamt"].nunique()


def test_what_a_run_lacks_is_said(run: Run) -> None:
    with pytest.raises(DLStudioError, match="Did you mean 'black'"):
        audit_fairness(run, sensitive_features=["blak"])
    with pytest.raises(DLStudioError, match="a run with y_pred"):
        audit_fairness(run, np.zeros(3))
    with pytest.raises(DLStudioError, match="town"):
        audit_fairness(run, sensitive_features=["black"], clusters="town")
