"""The doctor sees what is wrong, says what to do, and leaves nothing behind."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from dlstudio import doctor, results, serving
from dlstudio.cli import main

NAMES = ["Python", "Packages", "Machine", "GPUs", "Studio home", "Port 8888", "Port 8501", "Chromium"]


@pytest.fixture
def check(fresh_home: Path) -> Callable[[str], doctor.Check]:
    def one(name: str) -> doctor.Check:
        return doctor._guarded(name, doctor._CHECKS[name])

    return one


def test_every_check_has_a_verdict_and_all_but_the_good_ones_a_remedy(fresh_home: Path) -> None:
    result = doctor.examine()
    assert [check.name for check in result.checks] == NAMES
    assert {check.verdict for check in result.checks} <= {"ok", "warning", "problem"}
    assert all(check.detail for check in result.checks)
    assert all(check.remedy for check in result.checks if check.verdict != "ok")
    assert result.frame()["name"].tolist() == NAMES
    assert sorted(path.name for path in fresh_home.iterdir()) == ["active", "runs"]


def test_a_result_survives_the_way_through_a_file(tmp_path: Path) -> None:
    result = doctor.DoctorResult(
        checks=(doctor.Check(name="Python", verdict="problem", detail="3.9", remedy="Use 3.11."),)
    )
    assert results.load(results.save(result, tmp_path, "doctor")) == result
    assert result.verdict == "problem"


def test_the_worst_verdict_counts() -> None:
    def verdict(*verdicts: str) -> str:
        return doctor.DoctorResult(
            checks=tuple(doctor.Check(name="x", verdict=v, detail="x") for v in verdicts)
        ).verdict

    assert verdict() == "ok"
    assert verdict("warning", "ok") == "warning"
    assert verdict("warning", "problem", "ok") == "problem"


def test_a_missing_and_an_old_package_are_problems(check, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = ["no-such-package>=1", "numpy>=9999", "pandas>=1", "also-none; extra == 'test'"]
    monkeypatch.setattr(doctor.metadata, "requires", lambda name: wanted)
    found = check("Packages")
    assert found.verdict == "problem"
    assert "no-such-package is missing" in found.detail
    assert "not >=9999" in found.detail
    assert "also-none" not in found.detail
    assert "constraints.txt" in found.remedy


def test_an_untested_version_is_a_warning(check, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_tested_versions", lambda: {"numpy": "0.1"})
    found = check("Packages")
    assert found.verdict == "warning"
    assert "tested: 0.1" in found.detail


def test_the_tested_versions_are_read(repository: Path) -> None:
    tested = doctor._tested_versions()
    assert f"numpy=={tested['numpy']}" in (repository / "constraints.txt").read_text().splitlines()


def test_a_taken_port_names_a_free_one(check) -> None:
    with socket.socket() as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if serving.is_free(8501):
            server.bind(("127.0.0.1", 8501))
            server.listen()
        found = check("Port 8501")
    assert found.verdict == "warning"
    assert "taken" in found.detail
    offered = int(found.remedy.rsplit(maxsplit=1)[1])
    assert offered > 8501
    assert "dlstudio app board --port" in found.remedy


def test_a_home_that_cannot_be_made_is_a_problem(check, tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("DLSTUDIO_HOME", str(tmp_path / "file" / "home"))
    found = check("Studio home")
    assert found.verdict == "problem"
    assert "studio home that can be written" in found.detail


@pytest.mark.parametrize(("free_gib", "verdict"), [(0.1, "problem"), (2, "warning"), (50, "ok")])
def test_little_space_is_said(check, monkeypatch: pytest.MonkeyPatch, free_gib: float, verdict: str) -> None:
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda path: SimpleNamespace(free=free_gib * 2**30))
    monkeypatch.setattr(doctor, "_file_system", lambda path: "ext4")
    found = check("Studio home")
    assert found.verdict == verdict
    assert f"{free_gib:.1f} GiB free" in found.detail


@pytest.mark.parametrize("kind", ["nfs4", "cifs", "fuse.sshfs"])
def test_a_network_file_system_is_a_warning(check, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    monkeypatch.setattr(doctor, "_file_system", lambda path: kind)
    found = check("Studio home")
    assert found.verdict == "warning"
    assert kind in found.detail


def test_the_file_system_is_that_of_the_deepest_mount(monkeypatch: pytest.MonkeyPatch) -> None:
    mounts = [("/", "ext4"), ("/data", "nfs4"), ("/data/local", "xfs"), ("/dat", "tmpfs")]
    partitions = [SimpleNamespace(mountpoint=point, fstype=kind) for point, kind in mounts]
    monkeypatch.setattr(doctor.psutil, "disk_partitions", lambda all: partitions)
    assert doctor._file_system(Path("/data/home")) == "nfs4"
    assert doctor._file_system(Path("/data/local/home")) == "xfs"
    assert doctor._file_system(Path("/database")) == "ext4"


def test_a_gpu_that_torch_cannot_use_is_a_warning(check, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(doctor, "_nvml_gpus", lambda: ["GeForce, 8 of 8 GiB free"])
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    found = check("GPUs")
    assert found.verdict == "warning"
    assert "CUDA build" in found.remedy


def test_a_check_that_fails_itself_does_not_hide_the_others(fresh_home: Path, monkeypatch) -> None:
    def broken(name: str) -> doctor.Check:
        raise RuntimeError("driver says no")

    monkeypatch.setitem(doctor._CHECKS, "GPUs", broken)
    checks = {check.name: check for check in doctor.examine().checks}
    assert list(checks) == NAMES
    assert checks["GPUs"].verdict == "problem"
    assert checks["GPUs"].detail == "RuntimeError: driver says no"
    assert checks["Python"].verdict == "ok"


def test_the_command_prints_a_table_or_json_and_fails_on_a_problem(
    fresh_home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    good = doctor.DoctorResult(checks=(doctor.Check(name="Python", verdict="ok", detail="fine [red]"),))
    bad = doctor.DoctorResult(checks=(*good.checks, doctor._problem("Home", "gone", "Make it.")))
    monkeypatch.setattr(doctor, "examine", lambda: good)
    assert main(["doctor"]) == 0
    assert "fine [red]" in capsys.readouterr().out
    monkeypatch.setattr(doctor, "examine", lambda: bad)
    assert main(["doctor", "--json"]) == 1
    assert json.loads(capsys.readouterr().out)[1] == {
        "name": "Home",
        "verdict": "problem",
        "detail": "gone",
        "remedy": "Make it.",
    }
