"""Stored predictions come back as they were written, with what their rows mean."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from dlstudio.data.load import load
from dlstudio.errors import DLStudioError
from dlstudio.runs.run import Run
from dlstudio.training import checkpoint
from dlstudio.training.fit import fit
from dlstudio.training.predicted import predictions_of
from dlstudio.training.recipe import Recipe


@pytest.fixture(scope="module")
def run() -> Run:
    return fit(Recipe(data="mortgage", epochs=2, sensitive=("black", "male")), progress=False, name="predicted")


def test_predictions_of_a_run_know_their_rows(run: Run) -> None:
    data = load("mortgage")
    for split in ("test", "val"):
        found = predictions_of(run, split)
        assert found.rows.tolist() == data.splits[split].tolist() and len(found) == len(found.rows)
        assert found.y_true.tolist() == data.split(split)[1].tolist()
        assert (found.task, found.class_names, found.data) == ("binary", ("denied", "approved"), "mortgage")
        assert found.y_score is not None and found.y_score.shape == (len(found),)
        assert ((found.y_score > 0.5) == found.y_pred).all(), "the score is that of class 1"
        assert found.frame is not None and data.frame is not None
        assert found.frame["loanamt"].tolist() == data.frame["loanamt"].iloc[found.rows].tolist()
    assert (found.sensitive, found.target_name, found.run) == (("black", "male"), "approve", run.key)


def test_a_run_may_be_named(run: Run) -> None:
    assert predictions_of("predicted").y_pred.tolist() == predictions_of(run).y_pred.tolist()


@pytest.mark.parametrize("task", ["multiclass", "regression"])
def test_data_of_your_own_have_no_frame(dataset: Any, task: str) -> None:
    data = dataset(task)
    found = predictions_of(fit(Recipe(data=data, epochs=1), progress=False))
    assert found.task == task and found.frame is None and found.dataset is None and found.sensitive == ()
    assert found.class_names == data.class_names
    if task == "regression":
        assert found.y_score is None and found.y_pred.dtype == np.float64
    else:
        assert found.y_score is not None and found.y_score.shape == (len(found), 3)
    assert found.y_true == pytest.approx(data.split("test")[1].numpy())


def test_without_predictions_the_error_says_what_to_do(run: Run, tmp_path: Any) -> None:
    with pytest.raises(DLStudioError, match="those of test and val only"):
        predictions_of(run, "train")
    path = run.folder / "results" / "predictions.npz"
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    try:
        with pytest.raises(DLStudioError, match="a damaged"):
            predictions_of(run)
        path.unlink()
        with pytest.raises(DLStudioError, match="stores them when its training ends"):
            predictions_of(run)
    finally:
        path.write_bytes(whole)


def test_without_a_checkpoint_the_numbers_are_still_there(run: Run) -> None:
    folder = run.folder / "checkpoints"
    folder.rename(run.folder / "aside")
    try:
        found = predictions_of(run)
        assert found.class_names == ("0", "1") and found.frame is None and len(found) == 299
    finally:
        (run.folder / "aside").rename(folder)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda arrays: {}, "it holds no predictions"),
        (lambda arrays: {**arrays, "test_y_pred": arrays["test_y_pred"][:-1]}, r"\(299,\), \(298,\), \(299, 2\)"),
        (lambda arrays: {**arrays, "test_row": arrays["test_row"][:0]}, r"\(0,\)"),
        (lambda arrays: {**arrays, "test_y_score": arrays["test_y_score"][0, 0]}, r"\(\)"),
    ],
)
def test_predictions_that_do_not_belong_together_are_refused(run: Run, change: Any, told: str) -> None:
    path = run.folder / "results" / "predictions.npz"
    whole = path.read_bytes()
    with np.load(path) as found:
        arrays = dict(found)
    np.savez(path, **change(arrays))
    try:
        with pytest.raises(DLStudioError, match=told):
            predictions_of(run)
    finally:
        path.write_bytes(whole)


def test_a_checkpoint_that_does_not_say_its_data_gives_numbers_but_no_rows(run: Run) -> None:
    path = checkpoint.path_of(run.folder, "best")
    whole = path.read_bytes()
    content = checkpoint.read(path)
    del content["data"]["fingerprint"]
    checkpoint.write(path, content)
    try:
        found = predictions_of(run)
        assert found.class_names == ("denied", "approved") and len(found) == 299
        with pytest.raises(DLStudioError, match="does not say which 'mortgage'"):
            _ = found.frame
    finally:
        path.write_bytes(whole)
