"""A run explained: its own test rows by their original columns, saved with it and read back."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

import dlstudio as dls
from dlstudio.data.prepare import prepare
from dlstudio.errors import DLStudioError
from dlstudio.explain.columns import edited, read_columns
from dlstudio.explain.explain import explain
from dlstudio.explain.session import Session, saved_explanations
from dlstudio.runs.run import Run


@pytest.fixture(scope="module")
def run() -> Run:
    recipe = dls.Recipe(data="mortgage", model="mlp", epochs=2, name="explained", device="cpu")
    return dls.fit(recipe, progress=False)


def test_columns_of_a_run_add_up_to_its_prediction(run: Run) -> None:
    found = explain(run, [3, 14, 159], progress=False)
    session = Session(run)
    columns = tuple(dict.fromkeys(session.dataset.column_of_feature))
    assert found.attributions.shape == (3, len(columns)) and found.feature_names == columns
    assert len(columns) < session.dataset.inputs.shape[1], "some columns were encoded as several features"
    inputs = session.dataset.inputs[[3, 14, 159]]
    with torch.no_grad():
        logits = session.model(inputs)[:, 1].numpy()
        mean = float(session.model(session.background)[:, 1].mean())
    assert found.prediction == pytest.approx(logits, abs=1e-5)
    assert found.baseline_value == pytest.approx(mean, abs=1e-5)
    assert found.attributions.sum(axis=1) == pytest.approx(logits - mean, abs=1e-5)
    assert found.run == run.key and found.rows.tolist() == [3, 14, 159]
    assert found.class_names == ("denied", "approved") and found.target.tolist() == [1, 1, 1]
    assert found.y_true is not None and found.y_true.tolist() == session.dataset.targets[[3, 14, 159]].tolist()


def test_values_read_as_in_the_original_table(run: Run) -> None:
    found = explain(run, [3, 14, 159], method="integrated_gradients", progress=False)
    session = Session(run)
    frame = session.dataset.frame
    assert frame is not None and found.labels is not None
    for at, name in enumerate(found.feature_names):
        column = session.table[name]
        for place, row in enumerate((3, 14, 159)):
            raw, shown = frame[name].iloc[row], found.labels[place, at]
            if column.labels:
                assert shown == (f"{raw:.12g}" if isinstance(raw, (int, float, np.number)) else str(raw))
            elif pd.notna(raw) and abs(raw) < 9e5:  # beyond are codes for "unknown" in this table
                assert found.inputs[place, at] == pytest.approx(float(raw), abs=1e-3)


def test_it_is_saved_and_found_again(run: Run) -> None:
    found = explain(run.name, [3, 14], method="deep_lift", progress=False)
    assert saved_explanations(run)["deep_lift"] == found
    assert (run.folder / "results" / "explanation-deep_lift.json").exists()
    (run.folder / "results" / "explanation-broken.json").write_text("{")
    assert "deep_lift" in saved_explanations(run)


def test_the_default_is_the_first_hundred_test_rows(run: Run) -> None:
    found = explain(run, method="deep_lift", progress=False)
    assert found.rows.tolist() == Session(run).dataset.splits["test"][:100].tolist()


def test_editing_a_row_changes_that_column_alone(run: Run) -> None:
    session = Session(run)
    number = next(column for column in session.table.values() if not column.labels and len(column.features) == 1)
    category = next(column for column in session.table.values() if column.labels)
    changed = session.edited(3, {number.name: 7, category.name: category.labels[-1]})
    was = session.dataset.inputs[3]
    places = [at for at in range(len(was)) if changed[0, at] != was[at]]
    assert set(places) <= {*number.features, *category.features}
    values, labels = session.raw(changed)
    names = list(session.table)
    assert values[0, names.index(number.name)] == pytest.approx(7, abs=1e-4)
    assert labels[0, names.index(category.name)] == category.labels[-1]
    again = session.explain([3], inputs=changed, method="shapley", progress=False)
    assert again.prediction == pytest.approx(session.outputs(changed)[:, 1], abs=1e-5)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"incom": 3}, "column names"),
        ({"loanamt": "much"}, "a number for 'loanamt'"),
        ({"loanamt": np.nan}, "a number"),
    ],
)
def test_edits_that_do_not_fit(run: Run, changes: dict[str, Any], words: str) -> None:
    with pytest.raises(DLStudioError, match=words):
        Session(run).edited(3, changes)


@pytest.mark.parametrize(
    ("rows", "words"),
    [([99999], "row numbers from 0"), ([-1], "row numbers"), ([0.5], "row numbers"), ([], "row numbers")],
)
def test_rows_that_are_not_there(run: Run, rows: Any, words: str) -> None:
    with pytest.raises(DLStudioError, match=words):
        explain(run, rows, progress=False)


def test_options_that_the_data_decide(run: Run) -> None:
    with pytest.raises(DLStudioError, match="without feature_names, which its data set decides"):
        explain(run, [1], feature_names=("a",), progress=False)


def test_a_run_of_a_module_of_your_own() -> None:
    frame = pd.DataFrame({"x": np.arange(60.0), "y": ["a", "b"] * 30})
    model = torch.nn.Linear(1, 2)
    mine = dls.fit(dls.Recipe(data=frame, target="y", model=model, epochs=1, device="cpu"), progress=False)
    with pytest.raises(DLStudioError, match="named data set.*load_model"):
        explain(mine, progress=False)


def test_columns_of_a_frame_with_missing_values_and_categories() -> None:
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(
        {
            "age": rng.integers(18, 80, 200).astype(float),
            "city": rng.choice(["Bonn", "Köln", "a=b"], 200),
            "rate": rng.normal(size=200),
            "y": rng.integers(0, 2, 200),
        }
    )
    frame.loc[::9, "age"] = np.nan
    dataset = prepare(frame, target="y", missing="impute")
    columns = {column.name: column for column in read_columns(dataset)}  # type: ignore[arg-type]
    assert list(columns) == ["age", "city", "rate"]
    assert columns["city"].labels == ("Bonn", "Köln", "a=b") and len(columns["age"].features) == 2
    inputs = dataset.inputs  # type: ignore[union-attr]
    shown = columns["age"].shown(inputs.double().numpy())
    assert [text == "missing" for text in shown] == frame["age"].isna().tolist()
    assert columns["city"].shown(inputs.double().numpy()) == frame["city"].tolist()
    known = frame["age"].notna().to_numpy()
    assert columns["age"].values(inputs.double().numpy())[known] == pytest.approx(frame["age"][known].to_numpy())
    row = edited(inputs[0], columns, {"age": 33, "city": "a=b"})  # row 0 lacks its age
    assert columns["age"].shown(row[None].double().numpy()) == ["33"]
    assert columns["city"].shown(row[None].double().numpy()) == ["a=b"]


def test_a_sequence_run_is_explained_by_time_and_channel() -> None:
    recipe = dls.Recipe(data="bikes_sequence", model="gru", epochs=1, name="sequence", device="cpu")
    found = explain(dls.fit(recipe, progress=False), [500, 501], method="integrated_gradients", progress=False)
    dataset = dls.load_data("bikes_sequence")
    assert found.attributions.shape == (2, *dataset.input_shape)
    assert found.feature_names == dataset.feature_names and found.gap is not None and found.gap <= 0.01
