"""Tutorials run from top to bottom, and are stored without output."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import nbformat
import papermill
import pytest

from dlstudio import shipped
from dlstudio.results import load
from dlstudio.runs.run import list_runs, open_run
from dlstudio.tuning.ablation_result import AblationResult
from dlstudio.tuning.search import open_search

TUTORIALS = sorted(shipped.path("notebooks/tutorials").glob("*.ipynb"))


def test_the_first_tutorial_runs(tmp_path: Path, fresh_home: Path) -> None:
    (source,) = (path for path in TUTORIALS if path.name == "01-train-and-watch.ipynb")
    done = papermill.execute_notebook(
        source,
        tmp_path / "done.ipynb",
        parameters={"epochs": 2, "long_epochs": 2000},
        cwd=tmp_path,
        progress_bar=False,
        kernel_name="python3",
        execution_timeout=240,
    )
    outputs = [output for cell in done.cells for output in cell.get("outputs", ())]
    views = [output for output in outputs if "application/vnd.jupyter.widget-view+json" in output.get("data", {})]
    assert len(views) == 4  # the launcher and three live views

    statuses = dict(zip(*(list_runs()[column] for column in ("name", "status")), strict=True))
    assert statuses == {
        "tutorial-first": "FINISHED",
        "tutorial-steered": "KILLED",
        "tutorial-own-loop": "FINISHED",
        "tutorial-own-function": "FINISHED",
    }
    kinds = [event["kind"] for event in open_run("tutorial-steered").events()]
    assert [kind for kind in kinds if kind in ("set", "pause", "resume", "stop")] == [
        "set",
        "pause",
        "resume",
        "stop",
    ]
    assert len(open_run("tutorial-own-function").scalars("loss")[0]) == 300
    assert list(fresh_home.rglob("*.html"))


def outputs_of(name: str, folder: Path, **parameters: Any) -> list[Any]:
    """Run a tutorial with few epochs in a folder; return what its cells put out."""
    (source,) = (path for path in TUTORIALS if path.stem == name)
    done = papermill.execute_notebook(
        source,
        folder / "done.ipynb",
        parameters={"epochs": 3, **parameters},
        cwd=folder,
        progress_bar=False,
        kernel_name="python3",
        execution_timeout=240,
    )
    return [output for cell in done.cells for output in cell.get("outputs", ())]


def test_the_second_tutorial_runs(tmp_path: Path, fresh_home: Path) -> None:
    outputs = outputs_of("03-explain", tmp_path)
    shown = [output for output in outputs if output.output_type == "execute_result"]  # bars are displayed meanwhile
    views = [output for output in shown if "application/vnd.jupyter.widget-view+json" in output.get("data", {})]
    assert len(views) == 4  # the explorer, agreement, scores, counterfactuals
    printed = "".join(output.get("text", "") for output in outputs if output.output_type == "stream")
    assert "refused - misses the output by" in printed and "Repaired before explaining" in printed
    assert {path.name for path in fresh_home.rglob("results/*.json")} >= {
        "explanation-shapley.json",
        "agreement.json",
        "quality-shapley.json",
    }
    assert list(fresh_home.rglob("explain.html"))


@pytest.mark.parametrize(
    ("name", "views", "printed", "files", "report"),
    [
        ("04-fairness", 3, "277,677 people", {"fairness.json", "trade-off.json"}, "fairness.html"),
        (
            "05-trust",
            5,
            "most suspect labels were changed",
            {"evaluation.json", "calibration.json", "robustness.json", "slices.json", "label-errors.json"},
            "trust.html",
        ),
    ],
)
def test_the_tutorials_of_fairness_and_trust_run(
    name: str, views: int, printed: str, files: set[str], report: str, tmp_path: Path, fresh_home: Path
) -> None:
    outputs = outputs_of(name, tmp_path)
    shown = [output for output in outputs if output.output_type == "execute_result"]
    assert sum("application/vnd.jupyter.widget-view+json" in output.get("data", {}) for output in shown) == views
    assert printed in "".join(output.get("text", "") for output in outputs if output.output_type == "stream")
    assert {path.name for path in fresh_home.rglob("results/*.json")} >= files
    assert list(fresh_home.rglob(report))


def test_the_tutorial_of_comparisons_runs(tmp_path: Path, fresh_home: Path) -> None:
    outputs = outputs_of("06-compare", tmp_path)
    assert n_views(outputs) == 7  # three comparisons, a front, a recommendation, a plan and a running test
    printed = printed_by(outputs)
    assert "Not enough data to tell B from A" in printed and "decided after" in printed
    tables = "".join(output["data"].get("text/html", "") for output in outputs if "data" in output)
    assert "ExtraTreesClassifier" in tables and "model_options.hidden" in tables
    runs = list_runs()
    assert (len(runs), set(runs["status"])) == (15, {"FINISHED"})
    assert len(list(fresh_home.rglob("results/measures.json"))) == 15
    assert list(fresh_home.rglob("reports/compare-*.html"))


def test_the_tutorial_of_ablations_runs(tmp_path: Path, fresh_home: Path) -> None:
    outputs = outputs_of("08-ablate", tmp_path)
    assert n_views(outputs) == 2  # the estimates while it runs, and the result
    assert "of 20 planned runs were not needed" in printed_by(outputs)
    assert any("application/vnd.plotly.v1+json" in output.get("data", {}) for output in outputs)
    assert open_run("tutorial-ablation").status == "FINISHED"
    (kept,) = fresh_home.rglob("results/ablation.json")
    effects = cast(AblationResult, load(kept)).effects.set_index("factor")
    assert effects.loc["adaptive steps", "verdict"] == "better" and effects.loc["dropout", "verdict"] != "worse"


@pytest.mark.timeout(600)
def test_the_tutorial_of_tuning_runs(tmp_path: Path, fresh_home: Path) -> None:
    outputs = outputs_of("07-tune", tmp_path, n_trials=3)
    assert n_views(outputs) == 5  # learning rates, the cockpit, the result, the best run, the comparison
    assert "3 of 3 trials are over" in printed_by(outputs) and "tuned" in printed_by(outputs)
    search = open_search("tutorial-search")
    kinds = [event["kind"] for event in search.run.events()]
    assert [kind for kind in kinds if kind in ("enqueue", "set_range")] == ["enqueue", "set_range"]
    assert search.status == "FINISHED" and search.result().best is not None


def n_views(outputs: list[Any]) -> int:
    """Count the widgets that cells return; bars are displayed meanwhile."""
    shown = [output for output in outputs if output.output_type == "execute_result"]
    return sum("application/vnd.jupyter.widget-view+json" in output.get("data", {}) for output in shown)


def printed_by(outputs: list[Any]) -> str:
    """Everything that cells printed."""
    return "".join(output.get("text", "") for output in outputs if output.output_type == "stream")


@pytest.mark.parametrize("path", TUTORIALS, ids=lambda path: path.stem)
def test_a_tutorial_is_stored_without_output(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    stored = [
        cell["id"]
        for cell in notebook.cells
        if cell.cell_type == "code" and (cell.outputs or cell.execution_count is not None)
    ]
    assert stored == []
    assert "widgets" not in notebook.metadata
