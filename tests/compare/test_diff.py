"""Two runs side by side: what was changed on purpose is what is found, and nothing else."""

from __future__ import annotations

import json
import subprocess

import numpy as np
import pytest

import dlstudio as dls
from dlstudio import results
from dlstudio.compare.diff import diff_runs
from dlstudio.compare.diff_facts import facts_of
from dlstudio.runs.folder import RunFolder
from dlstudio.tracking import environment
from dlstudio.tracking.catalogue import Catalogue

GIT = ["git", "-c", "user.name=x", "-c", "user.email=x@example.org"]


def run_of(name, config=None, latest=None, **info):
    """A finished run as a recorder leaves it, without a process."""
    folder = RunFolder.create(name, kind="record", config=config or {}, tags=info.pop("tags", None))
    folder.set_status("FINISHED", latest=latest or {}, started=10.0, ended=12.5, step=7)
    (folder.home / "active" / folder.key).unlink(missing_ok=True)
    for file, content in info.items():
        (folder.path / f"{file}.json").write_text(json.dumps(content))
    return dls.open_run(folder.key)


@pytest.fixture(scope="module")
def trained():
    recipe = dls.Recipe(data="mortgage", model="mlp", epochs=1, name="diff-a")
    other = recipe.replace(name="diff-b", lr=0.01, model_options={"hidden": (8,)})
    return [dls.fit(one, progress=False).wait(60) for one in (recipe, recipe.replace(name="diff-same"), other)]


def test_a_run_differs_from_itself_in_nothing(trained):
    diff = diff_runs(trained[0], trained[0].key)
    assert len(diff) == 0 and diff.sections == () and not diff.frame()["differs"].any()
    assert {"config", "data", "model", "run", "outcome"} <= set(diff.frame()["section"])
    assert diff.findings == () or {finding.code for finding in diff.findings} == {"DLS512"}


def test_what_was_changed_is_what_differs_and_comes_first(trained):
    diff = diff_runs(trained[0], trained[2])
    assert diff.differing("config") == {"lr": ("0.001", "0.01"), "model_options.hidden": (None, "[8]")}
    frame = diff.frame()
    assert list(frame) == ["section", "item", "a", "b", "differs"]
    assert frame["differs"].is_monotonic_decreasing
    assert diff.differing("data") == {}
    # One hidden layer of 8 instead of the default: weights and biases of both shapes by hand.
    import torch

    modules = [dls.load_model(run) for run in (trained[0], trained[2])]
    counts = tuple(sum(p.numel() for p in module.parameters()) for module in modules)
    assert diff.differing("model")["parameters"] == counts
    first = next(iter(modules[1].state_dict().items()))
    assert isinstance(first[1], torch.Tensor)
    assert diff.differing("model")[first[0]][1].startswith("×".join(map(str, first[1].shape)))
    assert any("lr 0.001 → 0.01" in sentence for sentence in diff.summary)


def test_two_runs_of_one_recipe_have_the_same_weights(trained):
    diff = diff_runs(trained[0], trained[1])
    assert diff.differing("config") == {} and "weights" not in diff.differing("outcome")
    assert "weights" in diff_runs(trained[0], trained[2]).differing("outcome")
    assert diff.differing("run") == {"name": ("diff-a", "diff-same")}


def test_it_survives_a_round_trip(trained, tmp_path):
    diff = diff_runs(trained[0], trained[2])
    assert results.load(results.save(diff, tmp_path, "diff")) == diff


def test_other_data_are_not_comparable(trained, tmp_path):
    import torch

    other = run_of("other-data")
    content = torch.load(trained[0].folder / "checkpoints/best.pt", weights_only=True)
    content["data"]["fingerprint"] = "f" * 64
    (other.folder / "checkpoints").mkdir()
    torch.save(content, other.folder / "checkpoints/best.pt")
    finding = diff_runs(trained[0], other).findings[0]
    assert finding.code == "DLS501" and finding.evidence["fingerprint"][1] == "f" * 64


def test_data_are_known_before_the_first_checkpoint(trained):
    young = run_of("young", data={"name": "mortgage", "task": "binary", "fingerprint": "f" * 64})
    diff = diff_runs(trained[0], young)
    assert diff.findings[0].code == "DLS501" and list(diff.differing("data")) == ["fingerprint"]
    twin = run_of("twin", data={"name": "mortgage", "task": "binary", "fingerprint": "f" * 64})
    assert "data" not in diff_runs(young, twin).sections and "data" not in diff_runs(young, twin).unrecorded


def test_a_field_that_a_recipe_did_not_have_yet_counts_as_its_default(trained):
    old = run_of("old")
    info = dict(trained[0].info, key=old.key, name="old")
    del info["config"]["reweigh"]
    (old.folder / "run.json").write_text(json.dumps(info))
    assert diff_runs(trained[0], old.key).differing("config") == {}


def test_uncommitted_changes_are_compared_file_by_file(tmp_path, monkeypatch):
    repo = tmp_path / "repo"
    repo.mkdir()
    monkeypatch.chdir(repo)
    for name in ("train.py", "model.py", "same.py"):
        (repo / name).write_text("x = 1\n")
    for command in (["init", "-q"], ["add", "."], ["commit", "-qm", "first"]):
        subprocess.run([*GIT, *command], check=True)
    runs = [run_of("code-a"), run_of("code-b"), run_of("code-c")]
    (repo / "same.py").write_text("x = 2\n")
    (repo / "train.py").write_text("x = 3\n")
    environment.capture(runs[0].folder)
    (repo / "train.py").write_text("x = 4\n")
    (repo / "new.py").write_text("")
    environment.capture(runs[1].folder)
    subprocess.run([*GIT, "commit", "-qam", "second"], check=True)
    (repo / "train.py").write_text("x = 4\ny = 5\n")
    environment.capture(runs[2].folder)

    diff = diff_runs(runs[0], runs[1])
    differing = diff.differing("code")
    assert set(differing) == {"uncommitted train.py", "new file new.py"}
    assert all(text.startswith("+1 -1 ") for text in differing["uncommitted train.py"])
    assert set(diff.patches) == {"train.py"}
    assert "+x = 3" in diff.patches["train.py"][0] and "+x = 4" in diff.patches["train.py"][1]
    assert [finding.code for finding in diff.findings] == ["DLS512"]

    differing = diff_runs(runs[1], runs[2]).differing("code")
    assert differing["committed train.py"] == differing["committed same.py"] == (None, "+1 -1")
    assert "committed model.py" not in differing and "commit" in differing
    assert differing["uncommitted same.py"][1] is None  # it is committed by then


def test_commits_that_are_none_are_never_given_to_git():
    assert environment.changed_between(".", "--output=x", "HEAD") is None
    assert environment.changed_between(".", "0" * 40, "1" * 40) is None


def test_packages_and_machine():
    one = {"python": "3.11.7", "n_cpus": 2, "packages": {"torch": "2.13.0", "numpy": "2.0"}, "git": None}
    two = {**one, "packages": {"torch": "2.12.0", "numpy": "2.0", "extra": "1"}, "n_cpus": 8}
    a, b = run_of("packages-a", environment=one), run_of("packages-b", environment=two)
    diff = diff_runs(a, b)
    assert diff.differing("packages") == {"torch": ("2.13.0", "2.12.0"), "extra": (None, "1")}
    assert diff.differing("environment") == {"n_cpus": (2, 8)}


def test_what_only_one_run_has_a_record_of_does_not_differ():
    environment_of = {"python": "3", "packages": {"torch": "2"}, "git": None}
    a, b = run_of("known", environment=environment_of), run_of("unknown")
    diff = diff_runs(a, b)
    assert diff.unrecorded == {"code": "a", "environment": "a", "packages": "a"}
    assert diff.differing("packages") == {} and "torch" in diff.frame()["item"].tolist()
    assert any("'unknown' nothing is recorded" in sentence for sentence in diff.summary)


def test_same_everything_and_other_metrics_is_a_finding():
    a, b = (run_of("noise", {"lr": 1}, {"val/auc": value, "nan": np.nan}) for value in (0.8, 0.81))
    diff = diff_runs(a, b)
    assert diff.differing("outcome") == {"val/auc": (0.8, 0.81)}  # NaN equals NaN
    assert [finding.code for finding in diff.findings] == ["DLS511"]
    assert diff_runs(a, run_of("changed", {"lr": 2}, {"val/auc": 0.9})).findings == ()


def test_cells_are_aligned_as_they_were_executed():
    cells = [{"number": i, "source": source} for i, source in enumerate(["import x", "lr = 1", "fit()"])]
    other = [{"number": i, "source": source} for i, source in enumerate(["import x", "y = 0", "lr = 2", "fit()"])]
    diff = diff_runs(run_of("cells-a", cells={"cells": cells}), run_of("cells-b", cells={"cells": other}))
    assert set(diff.differing("notebook").values()) == {("lr = 1", "y = 0"), (None, "lr = 2")}
    same = diff.frame().query("section == 'notebook' and not differs")["a"].tolist()
    assert same == ["import x", "fit()"]


def test_cells_are_captured_in_ipython_only(tmp_path, monkeypatch):
    from IPython.core.interactiveshell import InteractiveShell

    environment.capture_cells(tmp_path)
    assert not (tmp_path / "cells.json").exists()
    shell = InteractiveShell.instance()
    try:
        shell.run_cell("a = 1", store_history=True)
        shell.run_cell("from dlstudio.tracking.environment import capture_cells", store_history=True)
        shell.user_ns["where"] = tmp_path
        assert shell.run_cell("capture_cells(where)  # ünïcode", store_history=True).success
        captured = json.loads((tmp_path / "cells.json").read_text())
        sources = [cell["source"].strip() for cell in captured["cells"]]
        assert sources[0] == "a = 1" and sources[-1] == "capture_cells(where)  # ünïcode"
        assert captured["n_left_out"] == 0
        monkeypatch.setattr(environment, "MAX_CELLS_BYTES", 40)
        environment.capture_cells(tmp_path)
        captured = json.loads((tmp_path / "cells.json").read_text())
        assert len(captured["cells"]) == 1 and captured["n_left_out"] == 2  # the latest stay
    finally:
        InteractiveShell.clear_instance()


def test_runs_of_anything_in_mlflow(studio_home, trained):
    client = Catalogue(studio_home).client
    experiment = client.create_experiment("sklearn-like")
    ids = []
    for depth, auc in ((3, 0.7), (5, 0.75)):
        run = client.create_run(experiment, run_name=f"forest-{depth}", tags={"team": "x"})
        client.log_param(run.info.run_id, "max_depth", depth)
        client.log_metric(run.info.run_id, "val/auc", auc)
        client.set_terminated(run.info.run_id)
        ids.append(run.info.run_id)
    diff = diff_runs(*ids)
    assert (diff.a, diff.b) == ("forest-3", "forest-5") and diff.a_key == ids[0]
    assert diff.differing("config") == {"max_depth": ("3", "5")}
    assert diff.differing("outcome")["val/auc"] == (0.7, 0.75)
    assert diff_runs(client.get_run(ids[0]), ids[0]).differing("config") == {}
    mixed = diff_runs(trained[0], ids[0])
    assert {"data", "model"} <= mixed.unrecorded.keys()


def test_an_unknown_run_is_named_with_the_nearest(trained):
    with pytest.raises(dls.DLStudioError, match="diff-a"):
        facts_of("diff-aa")
    with pytest.raises(dls.DLStudioError, match="section"):
        diff_runs(trained[0], trained[0]).differing("confg")
