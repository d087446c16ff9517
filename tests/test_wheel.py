"""The wheel: built from a clean clone, compared with what git tracks, installed elsewhere, used there."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

SHIPPED = ("apps/", "datasets/", "notebooks/")


def run(*command: str | Path, cwd: Path, **environment: str) -> str:
    """Run a command; return what it prints, or show everything it said."""
    kept = {key: value for key, value in os.environ.items() if key not in ("DLSTUDIO_HOME", "PYTHONPATH")}
    done = subprocess.run(
        [str(word) for word in command], cwd=cwd, env=kept | environment, capture_output=True, text=True
    )
    assert done.returncode == 0, f"{command} ended with {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory, repository: Path) -> Path:
    folder = tmp_path_factory.mktemp("clone") / "dlstudio"
    run("git", "clone", "--quiet", "--no-hardlinks", repository, folder, cwd=folder.parent)
    return folder


@pytest.fixture(scope="module")
def wheel(clone: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("wheel")
    run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", out, ".", cwd=clone)
    (built,) = out.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def site(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    install = ("-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target", folder, wheel)
    run(sys.executable, *install, cwd=folder)
    return folder


def test_the_wheel_holds_what_git_tracks_and_nothing_else(clone: Path, wheel: Path) -> None:
    tracked = run("git", "ls-files", cwd=clone).splitlines()
    expected = {path for path in tracked if path.startswith("dlstudio/")}
    expected |= {f"dlstudio/_shipped/{path}" for path in tracked if path.startswith(SHIPPED)}
    with zipfile.ZipFile(wheel) as archive:
        members = {name for name in archive.namelist() if not name.endswith("/")}
        information = {name for name in members if ".dist-info/" in name}
        metadata = next(name for name in information if name.endswith("METADATA"))
        described = archive.read(metadata).decode()
    assert members - information == expected
    assert any(name.endswith((".js", ".css")) for name in expected), "the live view's files are missing"
    assert any("licenses/LICENSE" in name for name in information)
    assert "Requires-Python: >=3.11" in described
    assert "Requires-Dist: torch>=" in described


def test_nothing_that_is_tracked_is_of_this_machine(clone: Path) -> None:
    tracked = run("git", "ls-files", cwd=clone).splitlines()
    wrong = ("/__pycache__/", ".pyc", ".ipynb_checkpoints", ".dlstudio/", ".venv/", ".egg-info")
    assert [path for path in tracked if any(part in path for part in wrong)] == []


def test_the_demo_runs_from_the_installed_wheel(site: Path, tmp_path: Path) -> None:
    here = {"PYTHONPATH": str(site)}
    where = run(sys.executable, "-c", "import dlstudio; print(dlstudio.__file__)", cwd=tmp_path, **here)
    assert Path(where.strip()).is_relative_to(site)

    said = run(sys.executable, "-m", "dlstudio", "demo", "--no-serve", "--epochs", "2", cwd=tmp_path, **here)
    assert "What to open next" in said
    listed = run(sys.executable, "-m", "dlstudio", "runs", "--json", cwd=tmp_path, **here)
    rows = json.loads(listed)
    assert sorted(row["name"] for row in rows) == [
        "demo-dropout-0",
        "demo-dropout-1",
        "demo-plain-0",
        "demo-plain-1",
    ]
    assert {row["status"] for row in rows} == {"FINISHED"}
    assert {row["config.epochs"] for row in rows} == {2}
    assert [path.name for path in tmp_path.iterdir()] == [".dlstudio"]
    (report,) = tmp_path.rglob("*.html")
    assert report.stat().st_size > 100_000
    source = run(
        sys.executable, "-c", "from dlstudio import serving; print(serving.app_command('board', 1))",
        cwd=tmp_path, **here,
    )  # fmt: skip
    assert str(site / "dlstudio" / "_shipped" / "apps" / "board.py") in source
