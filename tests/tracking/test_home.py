"""The home is found the way git finds its repository."""

import pytest

from dlstudio.errors import DLStudioError
from dlstudio.tracking.home import find_home


@pytest.fixture
def nowhere(tmp_path, monkeypatch):
    monkeypatch.delenv("DLSTUDIO_HOME")
    deep = tmp_path / "project" / "notebooks"
    deep.mkdir(parents=True)
    monkeypatch.chdir(deep)
    return tmp_path


def test_the_environment_comes_first(tmp_path, monkeypatch):
    monkeypatch.setenv("DLSTUDIO_HOME", str(tmp_path / "named"))
    assert find_home() == tmp_path / "named" and (tmp_path / "named" / "runs").is_dir()


def test_then_the_nearest_folder_above(nowhere):
    (nowhere / ".dlstudio").mkdir()
    (nowhere / "project" / ".dlstudio").mkdir()
    assert find_home() == nowhere / "project" / ".dlstudio"


def test_then_one_is_made_here(nowhere):
    assert find_home() == nowhere / "project" / "notebooks" / ".dlstudio"


def test_a_relative_name_becomes_absolute(nowhere, monkeypatch):
    monkeypatch.setenv("DLSTUDIO_HOME", "studio")
    assert find_home() == nowhere / "project" / "notebooks" / "studio" and find_home().is_absolute()


def test_a_folder_that_cannot_be_made(monkeypatch):
    monkeypatch.setenv("DLSTUDIO_HOME", "/proc/dlstudio")
    with pytest.raises(DLStudioError, match="Set DLSTUDIO_HOME to a writable folder"):
        find_home()
