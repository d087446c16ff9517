"""Tutorials run from top to bottom, and are stored without output."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nbformat
import papermill
import pytest

from dlstudio import shipped
from dlstudio.runs.run import list_runs, open_run

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


def outputs_of(name: str, folder: Path) -> list[Any]:
    """Run a tutorial with few epochs in a folder; return what its cells put out."""
    (source,) = (path for path in TUTORIALS if path.stem == name)
    done = papermill.execute_notebook(
        source,
        folder / "done.ipynb",
        parameters={"epochs": 3},
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
