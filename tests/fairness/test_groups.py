"""Groups and targets of an audit: nasty values, and the same names wherever groups are spoken of."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from dlstudio.data.weights import row_weights
from dlstudio.errors import DLStudioError
from dlstudio.fairness.audit import audit_fairness
from dlstudio.fairness.gaps import OVERALL
from dlstudio.fairness.groups import grouped
from dlstudio.fairness.mitigation.reweighing import reweigh
from dlstudio.fairness.mitigation.thresholds import group_thresholds
from dlstudio.fairness.mitigation.trade_off import trade_off
from dlstudio.fairness.tables import EVERYBODY
from dlstudio.trust.calibration import assess_calibration

NASTY = [1, 1.0, "1", True, None, "missing", float("nan"), "a × b", "", 1234567.0, 1234568.0, 0.1, "missing (group)"]
NAMES = {
    "1",
    "True",
    "missing",
    "missing (group)",
    "a x b",
    "''",
    "1234567",
    "1234568",
    "0.1",
    "missing (group) (group)",
}
N = 3900
OTHER = np.where(np.arange(N) % 7 < 3, "left", "right")


@pytest.fixture(scope="module")
def nasty() -> dict[str, Any]:
    generator = np.random.default_rng(0)
    score = generator.uniform(0, 1, N).round(2)
    group = pd.Series([NASTY[row % len(NASTY)] for row in range(N)], dtype=object, name="who")
    return {"y": (generator.random(N) < score).astype(int), "score": score, "group": group}


def test_audit_thresholds_trade_off_and_calibration_name_the_same_groups(nasty: dict[str, Any]) -> None:
    y, score, group = nasty["y"], nasty["score"], nasty["group"]
    audit = audit_fairness(y, score > 0.5, sensitive_features=group)
    thresholds = group_thresholds(y, score, group)
    calibration = assess_calibration(y, score, groups=group, n_resamples=100, fix=())
    assert (
        set(audit.group_names[0])
        == set(thresholds.groups)
        == set(trade_off(y, score, sensitive_features=group).groups)
        == NAMES
    )
    table = calibration.errors[calibration.errors.column == "who"]
    assert set(table.group) == NAMES
    sizes = dict(zip(thresholds.groups, thresholds.counts[:, 0].tolist(), strict=True))
    assert sizes == table.set_index("group").n.to_dict()
    assert sizes == {name: len(audit.rows_of("who", name)) for name in NAMES}
    assert sizes["1"] == 3 * sizes["True"] == 3 * N // len(NASTY)


def test_weights_of_both_kinds_are_of_the_groups_of_the_audit(nasty: dict[str, Any]) -> None:
    frame, y = pd.DataFrame({"who": nasty["group"], "side": OTHER}), nasty["y"]
    train = np.random.default_rng(3).permutation(N)[: N - 500]
    data: Any = SimpleNamespace(
        frame=frame, task="binary", splits={"train": train}, targets=torch.from_numpy(y), class_names=("no", "yes")
    )
    audit = audit_fairness(y, y, sensitive_features=frame)
    for columns in (["who"], ["who", "side"]):
        found = row_weights(data, columns)
        assert found == pytest.approx(reweigh(y[train], frame.iloc[train][columns]))
        expected = np.full(N, np.nan)
        names = set(audit.intersections.group) if len(columns) == 2 else audit.group_names[0]
        for name in names:
            rows = np.intersect1d(audit.rows_of(" × ".join(columns), name), train)
            for outcome in (0, 1):
                cell = rows[y[rows] == outcome]
                expected[cell] = len(rows) * (y[train] == outcome).sum() / (len(train) * len(cell))
        assert found == pytest.approx(expected[train])


def test_a_row_alone_is_decided_with_the_threshold_of_its_group(nasty: dict[str, Any]) -> None:
    found = group_thresholds(nasty["y"], nasty["score"], nasty["group"], max_gap=0.0)
    group = nasty["group"]
    together = found.predict(nasty["score"], group)
    for row in range(len(NASTY)):
        assert found.predict(nasty["score"][row : row + 1], group[row : row + 1]).tolist() == [together[row]]


@pytest.mark.parametrize("name", [OVERALL, EVERYBODY])
def test_a_group_called_as_rows_of_tables_has_one_name_everywhere(nasty: dict[str, Any], name: str) -> None:
    y, score, group = nasty["y"], nasty["score"], np.where(np.arange(N) % 3 == 0, name, "b")
    audit = audit_fairness(y, score > 0.5, sensitive_features=group)
    assert set(audit.group_names[0]) == set(group_thresholds(y, score, group).groups) == {"b", f"{name} (group)"}


def test_a_reference_may_be_a_name_or_a_value(nasty: dict[str, Any]) -> None:
    for reference, name in (
        (1.0, "1"),
        ("missing (group)", "missing (group)"),
        ("missing", "missing"),
        ("a × b", "a x b"),
    ):
        audit = audit_fairness(nasty["y"], nasty["score"] > 0.5, sensitive_features=nasty["group"], reference=reference)
        assert set(audit.gaps.query("group != 'overall'").reference) == {name}


def test_numbers_of_seven_digits_stay_apart() -> None:
    ids = np.repeat([1234567.0, 1234568.0, 0.1 + 0.2, 0.3], 5)
    assert grouped("id", ids).names == ("0.3", "0.30000000000000004", "1234567", "1234568")
    bins = grouped("pay", np.arange(1_000_000.0, 1_000_006), [1_000_001, 1_000_002, 1_000_003])
    assert bins.names == ("under 1000001", "1000001 to under 1000002", "1000002 to 1000003", "over 1000003")
    assert bins.codes.tolist() == [0, 1, 2, 2, 3, 3]
    assert len(set(grouped("pay", 1e6 + np.arange(100.0) / 1000, 20).names)) == 20


def test_bins_hold_numbers_of_a_list_missing_and_infinite_ones() -> None:
    found = grouped("age", [20, 30, None, 40, float("inf"), float("-inf")], 2)
    assert found.names == ("under 20", "20 to under 30", "30 to 40", "over 40", "missing")
    assert found.codes.tolist() == [1, 2, 4, 2, 3, 0]


@pytest.mark.parametrize("bins", [51, 1000, 40_000, range(60), np.arange(40_000)])
def test_bins_are_held_to_the_limit_of_groups(bins: Any) -> None:
    with pytest.raises(DLStudioError, match="2 to 50 bins|at most 50 groups in 'age'"):
        audit_fairness([0, 1] * 20_000, [0, 1] * 20_000, sensitive_features={"age": range(40_000)}, bins={"age": bins})
    assert len(grouped("age", np.arange(40_000), 50).names) == 50


def test_labels_beside_a_missing_one_are_still_classes() -> None:
    y = np.arange(120) % 2 + 1.0
    y[5] = np.nan
    group = {"g": np.arange(120) % 3}
    with pytest.raises(DLStudioError, match="positive=2"):
        audit_fairness(y, np.ones(120, dtype=int), sensitive_features=group)
    audit = audit_fairness(y, np.ones(120, dtype=int), sensitive_features=group, positive=2)
    assert (audit.task, audit.positive, audit.dropped) == ("binary", "2", {"y_true is missing": 1})
    more = np.arange(120) % 4 * 1.0
    more[5] = np.nan
    assert set(audit_fairness(more, more, sensitive_features=group).gaps.outcome) == set("0123")
    text = ["yes", "no"] * 59 + ["yes", float("nan")]
    audit = audit_fairness(text, ["yes"] * 120, sensitive_features=group, positive="yes")
    assert audit.dropped == {"y_true is missing": 1}


def test_infinite_values_are_left_out_and_counted() -> None:
    generator = np.random.default_rng(1)
    y_true, y_pred = generator.normal(size=(2, 120))
    y_true[0], y_pred[:3], y_true[7] = np.inf, -np.inf, np.nan
    group = np.arange(120) % 2
    audit = audit_fairness(y_true, y_pred, sensitive_features={"g": group})
    kept = np.isfinite(y_true) & np.isfinite(y_pred)
    assert audit.dropped == {"y_true is missing": 1, "y_true is infinite": 1, "y_pred is infinite": 2}
    assert audit.rows.tolist() == np.flatnonzero(kept).tolist()
    same = audit_fairness(y_true[kept], y_pred[kept], sensitive_features={"g": group[kept]})
    pd.testing.assert_frame_equal(audit.gaps, same.gaps)
    assert any("y_pred is infinite in 2" in sentence for sentence in audit.summary)
    assert not any("nan" in sentence for sentence in audit.summary)


def test_of_two_columns_of_scores_the_positive_one_is_taken() -> None:
    generator = np.random.default_rng(2)
    score = generator.uniform(0, 1, 300)
    y = (generator.random(300) < score).astype(int)
    both, group = np.stack([1 - score, score], axis=1), {"g": np.arange(300) % 2}
    given = {"sensitive_features": group, "n_resamples": 100}
    one = audit_fairness(y, score > 0.5, y_score=score, **given)
    pd.testing.assert_frame_equal(audit_fairness(y, score > 0.5, y_score=both, **given).gaps, one.gaps)
    named = np.array(["no", "yes"])
    text = audit_fairness(named[y], named[(score > 0.5) * 1], y_score=both, positive="yes", **given)
    pd.testing.assert_frame_equal(text.gaps, one.gaps)
    other = audit_fairness(y, score > 0.5, y_score=both, positive=0, **given).by_group
    mean = other.query("metric == 'mean_score' and group == 'overall'").value.item()
    assert mean == pytest.approx((1 - score).mean())
