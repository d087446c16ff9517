"""What predictions are kept in, and what they are taken for: floats of 0 and 1, pandas with an index, tensors."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn import metrics

import dlstudio as dls
from dlstudio.errors import DLStudioError


@pytest.mark.parametrize("metric", ["auc", "log_loss", "brier", "loss", None])
@pytest.mark.parametrize("kind", [np.float64, np.int64])
def test_probabilities_that_are_all_0_or_1_are_probabilities(metric: str | None, kind: type) -> None:
    rng = np.random.default_rng(21)
    y = rng.integers(0, 2, 200)
    tree, soft = np.where(rng.random(200) < 0.8, y, 1 - y).astype(np.float64), rng.random(200)
    c = dls.compare({"tree": tree, "soft": soft}, y_true=y.astype(kind), metric=metric)
    expected = {
        "log_loss": metrics.log_loss(y, tree), "loss": metrics.log_loss(y, tree),
        "brier": metrics.brier_score_loss(y, tree),
    }.get(str(metric), metrics.roc_auc_score(y, tree))  # fmt: skip
    assert c["tree"].mean == pytest.approx(expected) and c.metric == (metric or "auc")
    assert {finding.code for finding in c.findings} == {"DLS505"}
    if metric:
        alone = dls.compare({"tree": tree, "other": 1 - tree}, y_true=y, metric=metric)
        assert alone["tree"].mean == pytest.approx(expected)


def test_probabilities_that_do_not_count_are_named() -> None:
    rng = np.random.default_rng(22)
    y = rng.integers(0, 2, 100)
    c = dls.compare({"soft": rng.random(100), "hard": y}, y_true=y)
    notes = [finding.sentence for finding in c.findings if finding.code == "DLS508"]
    assert c.metric == "accuracy" and len(notes) == 1 and "soft gave probabilities, but hard only classes" in notes[0]
    c = dls.compare({"A": y * 1.0, "B": 1 - y}, y_true=y)
    notes = [finding.sentence for finding in c.findings if finding.code == "DLS508"]
    assert c.metric == "accuracy" and len(notes) == 1 and "Only 0.0 and 1.0 are in A" in notes[0]
    for options in ({"metric": "accuracy"}, {}):
        c = dls.compare({"A": y, "B": 1 - y}, y_true=y, **options)
        assert not [finding for finding in c.findings if finding.code == "DLS508"]


def test_floats_of_several_classes_are_classes() -> None:
    y = np.tile([0.0, 1.0, 2.0], 20)
    c = dls.compare({"A": y, "B": np.roll(y, 1)}, y_true=y)
    assert c.metric == "accuracy" and (c["A"].mean, c["B"].mean) == (1, 0)


@pytest.mark.parametrize("two_columns", [False, True])
def test_predictions_are_put_in_the_order_of_the_targets(two_columns: bool) -> None:
    rng = np.random.default_rng(23)
    rows = [f"row {k}" for k in range(100)]
    y = pd.Series(rng.integers(0, 2, 100), index=rows)
    score = pd.Series(np.clip(0.5 * y + 0.6 * rng.random(100), 0, 1), index=rows)
    mixed = rng.permutation(100)
    given = {"A": score, "B": 1 - score}
    expected = dls.compare({name: one.to_numpy() for name, one in given.items()}, y_true=y.to_numpy())
    if two_columns:
        given = {name: pd.DataFrame({0: 1 - one, 1: one}) for name, one in given.items()}
    moved = {"A": given["A"].iloc[mixed], "B": given["B"].iloc[::-1]}
    for c in (dls.compare(moved, y_true=y), dls.compare(given, y_true=y.to_numpy())):
        assert c.metric == "auc" and c["A"].mean == pytest.approx(expected["A"].mean)
        assert c.comparisons[0].p_value == pytest.approx(expected.comparisons[0].p_value)
    plain = y.reset_index(drop=True)  # counts rows: are the numbers of what is moved labels, or left from shuffling?
    by_number = {name: one.set_axis(range(100)).sample(frac=1, random_state=0) for name, one in given.items()}
    with pytest.raises(DLStudioError, match="row numbers in another order"):
        dls.compare(by_number, y_true=plain)


def test_an_index_that_only_counts_is_none() -> None:
    y = pd.Series([0, 1, 1, 0] * 5, index=np.arange(100, 120))
    for given in (pd.Series(y.to_numpy()), y.to_numpy()):
        assert dls.compare({"A": given}, y_true=y)["A"].mean == 1
    assert dls.compare({"A": y}, y_true=pd.Series(y.to_numpy()))["A"].mean == 1


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_tensors_of_any_precision_and_graph_are_predictions(dtype: torch.dtype) -> None:
    rng = np.random.default_rng(24)
    y, score = rng.integers(0, 2, 100), torch.tensor(rng.random(100)).to(dtype)
    rounded = score.double().numpy()
    given = {"A": score.requires_grad_(), "B": torch.stack([score, 1 - score], dim=1)}
    c = dls.compare(given, y_true=torch.tensor(y), metric="auc")
    assert c["A"].mean == pytest.approx(metrics.roc_auc_score(y, rounded))
    assert c["B"].mean == pytest.approx(metrics.roc_auc_score(y, 1 - rounded), abs=0.02)
    listed = dls.compare({"A": list(given["A"])}, y_true=list(torch.tensor(y)), metric="auc")
    assert listed["A"].mean == c["A"].mean

    def of_tensors(y_true: np.ndarray, y_pred: np.ndarray) -> torch.Tensor:
        return torch.tensor(np.abs(y_true - y_pred).mean(), requires_grad=True)

    c = dls.compare({"A": score}, y_true=y, metric=of_tensors, direction="min")
    assert c["A"].mean == pytest.approx(np.abs(y - rounded).mean())
