from __future__ import annotations

from pathlib import Path

import pytest

from dlstudio import shipped
from dlstudio.errors import DLStudioError


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package folder to find files from, with one file beside it and one inside it."""
    folder = tmp_path / "dlstudio"
    for place in (tmp_path, folder / "_shipped"):
        (place / "apps").mkdir(parents=True)
        (place / "apps" / "board.py").touch()
    monkeypatch.setattr(shipped, "__file__", str(folder / "shipped.py"))
    return folder


def test_a_checkout_comes_first(package: Path) -> None:
    (package.parent / "pyproject.toml").touch()
    assert shipped.path("apps/board.py") == package.parent / "apps" / "board.py"


def test_an_installed_package_does_not_look_beside_itself(package: Path) -> None:
    assert shipped.path("apps/board.py") == package / "_shipped" / "apps" / "board.py"


def test_a_checkout_without_the_file_falls_back_to_the_package(package: Path) -> None:
    (package.parent / "pyproject.toml").touch()
    (package.parent / "apps" / "board.py").unlink()
    assert shipped.path("apps/board.py") == package / "_shipped" / "apps" / "board.py"


def test_a_missing_file_says_where_it_was_looked_for(package: Path) -> None:
    with pytest.raises(DLStudioError, match="apps/none.py") as caught:
        shipped.path("apps/none.py")
    assert str(package / "_shipped") in caught.value.expected


def test_the_real_checkout_has_its_data() -> None:
    assert shipped.path("datasets/bikes.csv").is_file()


def test_a_package_that_is_not_there_is_named() -> None:
    with pytest.raises(DLStudioError, match="no such package"):
        shipped.package_file("no_such_package_here", "x.csv")
    with pytest.raises(DLStudioError, match="without that file"):
        shipped.package_file("sklearn", "datasets/data/none.csv")
