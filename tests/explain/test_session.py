"""A run explained: its own test rows by their original columns, saved with it and read back."""

from __future__ import annotations

import os
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
from dlstudio.explain.result import Explanation
from dlstudio.explain.session import Session, saved_explanations
from dlstudio.explain.trying import blanked, sentence, try_out, with_text
from dlstudio.explain.words import describe, headline, verdict_line
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


def test_a_look_at_one_row_does_not_take_more_rows_away(run: Run) -> None:
    many = explain(run, [3, 14, 15], method="input_x_gradient", progress=False)
    one = explain(run, [92], method="input_x_gradient", progress=False)
    assert one.rows.tolist() == [92] and saved_explanations(run)["input_x_gradient"] == many
    as_many = explain(run, [65, 35, 89], method="input_x_gradient", progress=False)
    assert saved_explanations(run)["input_x_gradient"] == as_many
    # Of a model that was trained on since, more rows say nothing.
    best = run.folder / "checkpoints" / "best.pt"
    assert best.is_file()
    was = best.stat()
    saved = run.folder / "results" / "explanation-input_x_gradient.json"
    os.utime(best, ns=(was.st_atime_ns, saved.stat().st_mtime_ns + 1))
    try:
        again = explain(run, [92], method="input_x_gradient", progress=False)
    finally:
        os.utime(best, ns=(was.st_atime_ns, was.st_mtime_ns))
    assert saved_explanations(run)["input_x_gradient"] == again


def test_a_session_saves_nothing(run: Run) -> None:
    def files() -> dict[str, int]:
        return {path.name: path.stat().st_mtime_ns for path in (run.folder / "results").iterdir()}

    before, session = files(), Session(run)
    found = session.explain([3], method="saliency", progress=False)
    try_out(session, found, 0, {"loanprc": 0.5})
    assert files() == before


def test_changed_inputs_are_one_a_row_and_nobody_knows_their_truth(run: Run) -> None:
    session = Session(run)
    inputs = session.dataset.inputs[[3, 14]] + 0.25
    found = session.explain([3, 14], inputs=inputs, method="deep_lift", progress=False)
    assert found.y_true is None and found.prediction == pytest.approx(session.outputs(inputs)[:, 1], abs=1e-5)
    wrong: list[tuple[Any, Any]] = [
        ([3], inputs), (None, inputs), ([3, 14], inputs[:1]), ([3, 14], inputs[:, :-1]), ([3, 14], inputs.numpy()),
    ]  # fmt: skip
    for rows, given in wrong:
        with pytest.raises(DLStudioError, match="one a row.*Pass the row that each input was made from"):
            session.explain(rows, inputs=given, method="deep_lift", progress=False)


def test_it_says_what_a_run_was_compared_with(run: Run) -> None:
    session = Session(run)
    told = {
        method: session.explain([3], method=method, progress=False).settings.get("compared_with")
        for method in ("auto", "deep_lift", "saliency")
    }
    assert told == {"auto": "50 training rows", "deep_lift": "the mean training row", "saliency": None}
    given = session.explain([3], method="deep_lift", baselines=0.0, progress=False)
    assert given.settings["compared_with"] == "what the caller gave"


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


@pytest.fixture(scope="module")
def digits() -> Run:
    recipe = dls.Recipe(data="digits", model="cnn", epochs=2, name="digits", device="cpu")
    return dls.fit(recipe, progress=False)


@pytest.fixture(scope="module")
def reviews() -> Run:
    small = {"width": 8, "n_heads": 2, "n_layers": 1}
    recipe = dls.Recipe(
        data="reviews", model="transformer", model_options=small, epochs=1, batch_size=512, name="reviews", device="cpu"
    )
    return dls.fit(recipe, progress=False)


def check_reopened(run: Run, found: Explanation) -> None:
    """Saved, read back whole, and put into words of its own verdict, row by row and over all."""
    assert saved_explanations(run)[found.method] == found
    assert found.verdict in ("ok", "suspect", "refused") and (found.findings or found.verdict == "ok")
    for at in (None, 0):
        told = describe(found, at)
        assert told[0] == verdict_line(found)
        assert (headline(found, at) in told) == (found.verdict != "refused")


@pytest.mark.parametrize("method", ["auto", "grad_cam"])
def test_a_run_on_images_is_explained_by_pixel(digits: Run, method: str) -> None:
    found = explain(digits, [3, 141], method=method, progress=False)
    session = Session(digits)
    images = session.dataset.inputs[[3, 141]]
    with torch.no_grad():
        logits = session.model(images).numpy()
    assert found.modality == "image" and found.inputs == pytest.approx(images.numpy())
    assert found.labels is None and found.class_names == session.dataset.class_names
    assert found.target.tolist() == logits.argmax(axis=1).tolist()
    assert found.prediction == pytest.approx(logits.max(axis=1), abs=1e-5)
    assert found.by_feature.shape[0] == 2 and found.y_true is not None
    assert found.y_true.tolist() == session.dataset.targets[[3, 141]].tolist()
    if method == "auto":
        assert found.why and found.attributions.shape == tuple(images.shape)
        with torch.no_grad():
            black = session.model(torch.zeros_like(images)).numpy()
        change = logits.max(axis=1) - black[[0, 1], found.target]
        assert found.attributions.sum(axis=(1, 2, 3)) == pytest.approx(change, abs=0.02 * found.output_range)
        assert found.settings["compared_with"] == "black"
    else:
        assert (found.attributions >= 0).all() and found.layer in dict(session.model.named_modules())
    check_reopened(digits, found)


def test_a_blanked_image_is_explained_beside_the_whole_one(digits: Run) -> None:
    session = Session(digits)
    found = session.explain([3, 141], method="feature_ablation", progress=False)
    part = blanked(session, 141, (2, 6), (0, 8))
    tried = try_out(session, found, 1, part)
    assert tried.outputs[1] == pytest.approx(session.outputs(part)[0], abs=1e-5)
    # A pixel that is black already cannot be taken away.
    assert tried.attributions[1][part[0].numpy() == 0] == pytest.approx(0, abs=1e-5)
    assert abs(tried.attributions[1]).max() > 1e-3 and tried.verdict != "refused"


@pytest.mark.parametrize("method", ["auto", "feature_ablation"])
def test_a_run_on_texts_is_explained_by_token(reviews: Run, method: str) -> None:
    found = explain(reviews, [5, 6], method=method, progress=False)
    session = Session(reviews)
    ids = session.dataset.inputs[[5, 6]]
    words = session.dataset.vocabulary
    assert found.modality == "text" and found.attributions.shape == tuple(ids.shape)
    np.testing.assert_array_equal(found.inputs, ids.numpy())
    assert found.labels is not None
    assert found.labels.tolist() == [[words[at] for at in row] for row in ids.tolist()]
    with torch.no_grad():
        logits = session.model(ids).numpy()
        nothing = session.model(torch.zeros_like(ids)).numpy() if method == "auto" else None
    assert found.class_names == session.dataset.class_names and len(found.class_names) == 2
    assert found.target.tolist() == [1, 1] and found.prediction == pytest.approx(logits[:, 1], abs=1e-4)
    if nothing is not None:
        change = logits[:, 1] - nothing[:, 1]
        assert found.attributions.sum(axis=1) == pytest.approx(change, abs=0.02 * found.output_range)
    assert found.settings["compared_with"] == "padding"
    assert any(f"“{word}”" in headline(found, 0) for word in sentence(session, 5).split())
    check_reopened(reviews, found)


def test_a_rewritten_text_is_explained_beside_the_old_one(reviews: Run) -> None:
    session = Session(reviews)
    found = session.explain([5, 6], method="saliency", progress=False)
    ids, unknown = with_text(session, "A lovely dress, qqqqq!")
    tried = try_out(session, found, 0, ids)
    assert unknown == ("qqqqq",) and tried.labels is not None
    assert tried.labels[1][:4].tolist() == ["a", "lovely", "dress", "<unknown>"]
    assert tried.outputs[1] == pytest.approx(session.outputs(ids)[0], abs=1e-4)
