"""What is said of a run, and what to do about it, fits what kind of run it is."""

from __future__ import annotations

import time
from typing import Any

import pytest

from dlstudio.runs.folder import FAILED, FINISHED, KILLED, RUNNING, RunFolder, write_json
from dlstudio.runs.recorder import Recorder
from dlstudio.runs.run import Run
from dlstudio.summary.summarize import describe, findings, key_numbers, summarize, verdict

KINDS = ("record", "fit", "launch", "trial", "search", "ablation", "plan")
GROUPS = ("search", "ablation", "plan")


def made(kind: str, status: str, *, metrics: tuple[str, ...] = ("val/loss",), **changes: Any) -> Run:
    """A run of a kind that has logged what the coordinator of a search logs, at eight trials of twelve."""
    folder = RunFolder.create(f"my {kind}", kind=kind, config={"epochs": 2})
    if kind in GROUPS:
        write_json(folder.path / "search.json", {"n_trials": 12})
    with Recorder(folder) as rec:
        for step in range(1, 9):
            values = {metric: 1.0 + abs(step - 5) for metric in metrics}
            best = {f"best/{metric}": 1.0 + max(0, 5 - step) for metric in metrics}
            rec.log({"trial": step - 1, **values, **best} if kind in GROUPS else values, step=step)
    folder.set_status(status, **changes)
    return Run(folder)


@pytest.mark.parametrize("kind", GROUPS)
@pytest.mark.parametrize("status", [FINISHED, FAILED, KILLED])
def test_what_is_made_of_other_runs_is_not_told_as_one_training(kind: str, status: str) -> None:
    summary = summarize(made(kind, status, reason="so it is"))
    part = "trial" if kind == "search" else "run"
    numbers = {item.label: item.text for item in key_numbers(summary)}
    assert numbers[f"{part.capitalize()}s"] == "8 of 12" and numbers["Best validation loss"] == "1"
    assert f"after 8 of 12 {part}s" in verdict(summary) and "The best val/loss was 1." in verdict(summary)
    text = describe(summary) + " ".join(finding.sentence for finding in findings(summary))
    for word in ("Training", "Epoch", "epoch", "Steps", "step", "lowest validation loss", "checkpoint"):
        assert word not in text
    assert summary.best == {} and summary.best_step is None and summary.n_epochs_planned is None


def test_a_search_over_several_metrics_names_the_best_of_each() -> None:
    summary = summarize(made("search", FINISHED, metrics=("my/err<b>", "val/auc")))
    assert "The best my/err<b> was 1." in verdict(summary) and "The best val/auc was 1." in verdict(summary)
    labels = [item.label for item in key_numbers(summary)]
    assert labels == ["Trials", "Duration", "Best my/err<b>", "Best validation AUC"]


def test_sentences_on_what_was_found_take_the_place_of_counts() -> None:
    summary = summarize(made("search", FINISHED))
    lines = describe(summary, ["7 of 12 trials are over.", "The best val/loss is 1."]).splitlines()
    assert lines[0] == "my search  [FINISHED]" and lines[1].startswith("The search finished after")
    assert lines[2:4] == ["7 of 12 trials are over.", "The best val/loss is 1."]
    assert "8" not in lines[1] and not any(line.strip().startswith("Trials") for line in lines)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("traceback", [None, "Traceback (most recent call last): …"], ids=["killed", "raised"])
def test_the_remedy_of_a_failure_can_be_followed(kind: str, traceback: str | None) -> None:
    run = made(kind, FAILED, reason="it broke", traceback=traceback)
    (failed,) = (finding for finding in findings(summarize(run)) if finding.code == "DLS100")
    has_log = kind == "launch"
    assert ("the log" in failed.remedy) == has_log  # others have none
    assert ("checkpoint" in failed.remedy) == (kind in ("fit", "launch"))
    assert ("traceback" in failed.remedy) == (kind in ("record", "fit", "trial") and traceback is not None)
    assert ("workers.log" in failed.remedy) == (kind in ("trial", *GROUPS))
    assert ("dlstudio resume" in failed.remedy) == (kind in ("trial", "search", "ablation"))
    if kind in ("search", "ablation"):
        assert f"dlstudio resume 'my {kind}'" in failed.remedy  # as a shell wants it


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_whose_process_is_gone_says_how_its_kind_goes_on(kind: str) -> None:
    run = made(kind, RUNNING)
    folder = RunFolder(run.folder)
    gone = folder.status["worker"] | {"pid": 2**22 - 3}
    folder.set_status(RUNNING, worker=gone, ended=None)
    write_json(folder.path / "status.json", folder.status | {"heartbeat": time.time() - 100})
    state = run.state()
    assert state.status == FAILED and state.reason is not None
    how = {"fit": "checkpoint", "launch": "checkpoint", "search": "trials left", "ablation": "runs left"}
    for words in ("checkpoint", "trials left", "runs left"):
        assert (words in state.reason) == (how.get(kind) == words)
