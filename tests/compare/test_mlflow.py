"""Runs that an MLflow filter finds: which of them are compared, what their data and lengths say, and where from."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from mlflow.entities import Dataset, DatasetInput

import dlstudio as dls
from dlstudio.compare.gather import gather
from dlstudio.compare.words import findings_of
from dlstudio.runs.folder import RunFolder
from dlstudio.tracking import search
from dlstudio.tracking.catalogue import Catalogue


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Two seeds of three variants: one of this home, two that other tools logged; and a search that planned some."""
    with pytest.MonkeyPatch.context() as patch:
        home = tmp_path_factory.mktemp("mlflow") / "home"
        patch.setenv("DLSTUDIO_HOME", str(home))
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        (home / "runs").mkdir(parents=True)
        client = Catalogue(home).client
        experiment = client.get_experiment_by_name("dlstudio").experiment_id
        for seed in range(2):
            tags = {"variant": "own"}
            folder = RunFolder.create(f"own-{seed}", kind="fit", config={"seed": seed}, tags=tags)
            folder.set_status("FINISHED", latest={"val/auc": 0.8 + seed / 100}, step=70)
            (folder.path / "data.json").write_text(json.dumps({"name": "iris", "fingerprint": "ab" * 32}))
            run = client.create_run(experiment, tags={**tags, "team": "x", "dlstudio.key": folder.key})
            (folder.path / "catalogue.json").write_text(json.dumps({"entry": {"run_id": run.info.run_id}}))
            (home / "active" / folder.key).unlink()
            for variant, digest, step in (("keras", "c0ffee", 30), ("torch", "c0ffee", 60)):
                tags = {"variant": variant, "team": "x", "tool": "other"}
                run = client.create_run(experiment, tags=tags, run_name=f"{variant}-{seed}")
                client.log_param(run.info.run_id, "seed", seed)
                client.log_metric(run.info.run_id, "val/auc", 0.7, step=1)
                client.log_metric(run.info.run_id, "val/auc", 0.7 + seed / 100, step=step)
                data = Dataset(name="iris", digest=digest, source_type="local", source="{}")
                client.log_inputs(run.info.run_id, [DatasetInput(data, [])])
                client.set_terminated(run.info.run_id)
        parent = client.create_run(experiment, tags={"dlstudio.kind": "search", "team": "x"}, run_name="my-search")
        client.log_metric(parent.info.run_id, "val/auc", 0.99)
        client.set_terminated(parent.info.run_id)
        yield home


def test_what_only_planned_others_is_left_out_with_the_reason(home: Path) -> None:
    c = dls.compare("tags.team = 'x'", metric="val/auc")
    assert {one.name: one.n for one in c.variants} == {"own": 2, "keras": 2, "torch": 2}
    assert c.left_out == (("my-search", "trained nothing itself: it planned others"),)


def test_fingerprints_of_two_kinds_are_not_compared(home: Path) -> None:
    mixed = dls.compare("tags.team = 'x'", metric="val/auc")
    assert "DLS501" not in {finding.code for finding in mixed.findings}
    (note,) = [one for one in mixed.findings if "cannot be told" in one.sentence]
    assert note.severity == "info" and "keras and torch" in note.sentence
    other = [{**one, "fingerprint": "mlflow:beef"} if one["variant"] == "torch" else one for one in mixed.run_records]
    within = findings_of(dataclasses.replace(mixed, run_records=tuple(other)), n_pairs=3)
    assert "DLS501" in {finding.code for finding in within}, "of one kind they are compared"
    of = {one["variant"]: one["key"] for one in mixed.run_records}
    own, foreign = of["own"], of["keras"]
    diff = dls.diff_runs(own, foreign)
    assert "DLS501" not in {finding.code for finding in diff.findings} and not diff.differing("data")


def test_other_tools_that_trained_longer_are_warned_of(home: Path) -> None:
    c = dls.compare("tags.tool = 'other'", metric="val/auc")
    (finding,) = [one for one in c.findings if one.code == "DLS502"]
    assert finding.evidence == {"keras": [30], "torch": [60]}
    # Steps of another tool may be epochs: beside runs of dlstudio they are not taken for its own.
    mixed = dls.compare("tags.team = 'x'", metric="val/auc")
    assert mixed["own"].n_steps == (70,) and mixed["keras"].n_steps == ()
    assert "DLS502" not in {finding.code for finding in mixed.findings}


def test_a_filter_finds_every_run_however_many_a_page_holds(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    every = [one.key for one in gather("tags.team = 'x'")[0]]
    monkeypatch.setattr(search, "PAGE", 2)
    assert [one.key for one in gather("tags.team = 'x'")[0]] == every and len(every) == 6


def test_a_home_that_cannot_be_written_is_compared_by_names_filter_and_ids(home: Path, tmp_path: Path) -> None:
    there = shutil.copytree(home, tmp_path / "home", ignore=shutil.ignore_patterns("*-shm"))
    drop = [] if os.geteuid() else ["setpriv", "--bounding-set=-dac_override", "--inh-caps=-all"]
    if drop and shutil.which("setpriv") is None:
        pytest.skip("nothing is read-only for this user")
    keys = [one.key for one in gather("tags.team = 'x'")[0] if one.folder is None]
    script = (
        "import dlstudio as dls\n"
        f"for what in (['own-0', 'own-1'], 'tags.team = \"x\"', {keys!r}):\n"
        "    print({one.name: one.n for one in dls.compare(what, metric='val/auc').variants})\n"
        "print(len(dls.overlay([" + repr(keys[0]) + "], 'val/auc').x))"
    )
    paths = [there, *there.rglob("*")]
    try:
        for path in paths:
            if not path.is_symlink():
                path.chmod(path.stat().st_mode & ~0o222)
        done = subprocess.run(
            [*drop, sys.executable, "-c", script], env={**os.environ, "DLSTUDIO_HOME": str(there)}, cwd="/",
            capture_output=True, text=True, timeout=300, check=False,
        )  # fmt: skip
    finally:
        for path in paths:
            if not path.is_symlink():
                path.chmod(path.stat().st_mode | 0o200)
    assert done.returncode == 0, done.stderr
    own, every, others, n_points = done.stdout.splitlines()
    assert own == "{'own': 2}" and n_points == "2"
    assert every == "{'own': 2, 'keras': 2, 'torch': 2}" and others == "{'keras': 2, 'torch': 2}"
