"""The checks themselves: a browser test cannot go missing unseen, and no test writes into a real home."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = """
import os
import pytest
from pathlib import Path

@pytest.mark.browser
def test_in_the_browser():
    pytest.skip("no browser here")

def test_elsewhere():
    pytest.skip("not today")

def test_home(tmp_path_factory):
    assert Path(os.environ["DLSTUDIO_HOME"]).is_relative_to(tmp_path_factory.getbasetemp())
    assert "MLFLOW_TRACKING_URI" not in os.environ
"""


@pytest.mark.parametrize(("ci", "summary"), [("", "1 passed, 2 skipped"), ("1", "1 failed, 1 passed, 1 skipped")])
def test_a_skipped_browser_test_fails_where_ci_is_set(ci: str, summary: str, tmp_path: Path, repository: Path) -> None:
    shutil.copyfile(repository / "tests" / "conftest.py", tmp_path / "conftest.py")
    (tmp_path / "test_some.py").write_text(TESTS)
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers =\n    browser: x\n")
    environment = {**os.environ, "CI": ci, "DLSTUDIO_HOME": "/nowhere", "MLFLOW_TRACKING_URI": "http://team"}
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "."]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert summary in done.stdout.splitlines()[-1]
    assert ("which CI does not allow" in done.stdout) == bool(ci)


def test_the_ci_script_runs_every_check_and_ends_with_the_tests(repository: Path) -> None:
    script = repository / ".ci" / "run"
    assert os.access(script, os.X_OK)
    assert subprocess.run(["bash", "-n", script]).returncode == 0
    lines = script.read_text().splitlines()
    assert "set -euo pipefail" in lines
    assert "export CI=1" in "\n".join(lines)


@pytest.mark.parametrize(
    ("lint", "tests", "code", "last"),
    [(0, 0, 0, "1 passed"), (0, 2, 2, "1 passed"), (1, 0, 1, "a line is too long")],
)
def test_the_ci_script_fails_as_its_checks_do(
    lint: int, tests: int, code: int, last: str, repository: Path, tmp_path: Path
) -> None:
    make = tmp_path / "make"
    make.write_text(
        f"""#!/bin/sh
echo "$1" >> {tmp_path}/calls
case "$1" in
  lint) echo "a line is too long"; exit {lint} ;;
  test) echo "1 passed"; exit {tests} ;;
esac
"""
    )
    make.chmod(0o755)
    (tmp_path / "chromium").symlink_to("/bin/true")
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    done = subprocess.run([repository / ".ci" / "run"], env=environment, capture_output=True, text=True)
    assert done.returncode == code and done.stdout.splitlines()[-1] == last
    calls = (tmp_path / "calls").read_text().split()
    assert calls[0] == ".venv/.installed" and sorted(calls[1:]) == ["lint", "test"]


def test_lint_checks_style_format_and_types(repository: Path) -> None:
    plan = subprocess.run(["make", "-n", "lint"], cwd=repository, capture_output=True, text=True, check=True)
    assert all(check in plan.stdout for check in ("ruff check .", "ruff format --check", "mypy"))
