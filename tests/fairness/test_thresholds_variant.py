"""Thresholds by group of a run are a run like any other: launched, audited, evaluated, compared."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import dlstudio as dls
from dlstudio.errors import DLStudioError
from dlstudio.fairness.mitigation.thresholds_variant import thresholds_variant
from dlstudio.runs.run import Run
from dlstudio.training.predicted import predictions_of


@pytest.fixture(scope="module")
def run() -> Run:
    return dls.fit(dls.Recipe(data="mortgage", epochs=3, name="to-decide", device="cpu"), progress=False)


@pytest.fixture(scope="module")
def fairer(run: Run) -> Run:
    config = {"run": run.name, "sensitive_features": "race", "max_gap": 0.05, "min_denominator": 20}
    launched = dls.launch(dls.thresholds_variant, config=config, name="fairer")
    launched.wait(timeout=120)
    assert launched.status == "FINISHED", launched.reason
    return launched


def test_its_predictions_are_those_of_the_thresholds(run: Run, fairer: Run) -> None:
    val, test = predictions_of(run, "val"), predictions_of(run, "test")
    found = dls.group_thresholds(val.y_true, val.y_score, val.frame[["race"]], max_gap=0.05, min_denominator=20)
    assert not np.isfinite(found.thresholds).all() or len(set(found.thresholds)) > 1
    for before, after in ((val, predictions_of(fairer, "val")), (test, predictions_of(fairer, "test"))):
        decided = found.predict(before.y_score, before.frame[["race"]])
        np.testing.assert_array_equal(after.y_pred, decided)
        np.testing.assert_array_equal(after.y_score >= 0.5, decided == 1)
        np.testing.assert_array_equal(after.rows, before.rows)
        for group in found.groups:  # within a group, rows keep their order
            mine = (before.frame["race"] == group).to_numpy()
            ordered = after.y_score[mine][np.argsort(before.y_score[mine], kind="stable")]
            assert (np.diff(ordered) >= 0).all()
    assert (test.y_pred != predictions_of(fairer, "test").y_pred).any()
    assert fairer.scalars("test/accuracy")[1][-1] == pytest.approx((decided == test.y_true).mean())


def test_it_is_audited_and_compared_like_a_run_and_says_what_it_needs(run: Run, fairer: Run) -> None:
    audit = dls.audit_fairness(fairer, sensitive_features=["race"], intersections=1)
    chosen = predictions_of(fairer).y_pred[(predictions_of(fairer).frame["race"] == "white").to_numpy()].mean()
    assert audit.findings[-1].code == "DLS309" and "no probabilities" in audit.summary[-1]
    assert not audit.by_group.metric.isin(["auc", "mean_score", "calibration_error", "calibration_slope"]).any()
    assert not audit.gaps.criterion.str.startswith("calibration").any()
    before = dls.audit_fairness(run, sensitive_features=["race"], intersections=1)
    assert before.gaps.criterion.str.startswith("calibration").any()
    rates = audit.by_group.query("metric == 'selection_rate' and group == 'white'")
    assert rates["value"].iloc[0] == pytest.approx(chosen)
    assert dls.evaluate(fairer).metric("accuracy")[0] == pytest.approx(fairer.scalars("test/accuracy")[1][-1])
    curve = dls.trade_off(run, sensitive_features="race", variants={"fairer": fairer}, min_denominator=20)
    assert curve.accuracy[-1] == pytest.approx(fairer.scalars("test/accuracy")[1][-1])
    assert curve.needs_sensitive_feature[-1] is True and "need to know race" in curve.words(len(curve) - 1)[-1]
    other = dls.trade_off(run, sensitive_features="sex", variants={"fairer": fairer})
    assert other.needs_sensitive_feature[-1] is False, "its thresholds are not by sex"


def test_it_has_no_weights_and_no_recipe(fairer: Run) -> None:
    for refused in (
        lambda: dls.load_model(fairer),
        lambda: dls.explain(fairer, [3], progress=False),
        lambda: dls.evaluate(fairer, cross_validate=2),
    ):
        with pytest.raises(DLStudioError, match="thresholds by group of the run 'to-decide'"):
            refused()


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"max_gapp": 0.1}, "'max_gap'"),
        ({"sensitive_features": ()}, "the run and the sensitive_features"),
        ({"sensitive_features": "rac"}, "'race'"),
        ({"max_gap": 2.0}, "max_gap from 0 to 1"),
        ({"min_denominator": 1000}, "lower min_denominator"),
    ],
)
def test_what_does_not_fit_is_named(run: Run, changed: dict[str, Any], words: str) -> None:
    config = {"run": run.name, "sensitive_features": ["race"]} | changed
    with pytest.raises(DLStudioError, match=words), dls.record("refused", config=config) as rec:
        thresholds_variant(rec, config)
