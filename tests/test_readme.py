"""What the README tells people to type is there."""

from __future__ import annotations

import ast
import re
import shlex
from pathlib import Path

import pytest
import yaml

import dlstudio
from dlstudio.cli import _parser

SHELLS = ("bash", "sh", "shell", "console")
README = Path(__file__).parents[1] / "README.md"
TEXT = README.read_text(encoding="utf-8")


def blocks(*languages: str) -> list[str]:
    found = re.findall(r"^```(\w+)\n(.*?)^```$", TEXT, re.M | re.S)
    return [code for language, code in found if language in languages]


def commands() -> list[list[str]]:
    lines = [line for block in blocks(*SHELLS) for line in block.splitlines()]
    parts = [part for line in lines for part in line.split("&&")]
    words = [shlex.split(part.removeprefix("$ "), comments=True) for part in parts]
    return [line for line in words if line]


def make_targets() -> set[str]:
    makefile = (README.parent / "Makefile").read_text()
    return set(re.search(r"^\.PHONY: (.+)$", makefile, re.M).group(1).split())


def test_there_are_commands_and_python() -> None:
    assert len(commands()) >= 8
    assert blocks("python")


@pytest.mark.parametrize("words", commands(), ids=" ".join)
def test_a_command_of_the_readme_exists(words: list[str]) -> None:
    match words:
        case ["make", target, *_]:
            assert target in make_targets()
        case ["dlstudio", *rest]:
            assert _parser().parse_args(rest).command
        case ["pip", "install", *rest]:
            assert rest[:2] == ["-c", "constraints.txt"]
        case ["conda", "env", "create", "-f", path]:
            assert (README.parent / path).is_file()
        case ["conda", "activate", "dlstudio"] | ["mlflow", "ui", *_]:
            pass
        case _:
            pytest.fail(f"nobody checks {words[0]!r}")


@pytest.mark.parametrize("code", blocks("python"), ids=lambda code: code.strip().splitlines()[0])
def test_python_of_the_readme_uses_names_that_are_there(code: str) -> None:
    tree = ast.parse(code)
    used = {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "dls"
    }
    assert used <= set(dlstudio.__all__)


def test_a_recipe_of_the_readme_is_one() -> None:
    from dlstudio.training.recipe import Recipe

    for text in blocks("yaml"):
        assert Recipe.from_dict(yaml.safe_load(text)).is_plain


def test_every_local_link_leads_somewhere() -> None:
    targets = re.findall(r"\]\(([^)#\s]+)\)", TEXT) + re.findall(r'src="([^"]+)"', TEXT)
    local = [target for target in targets if "://" not in target]
    assert local
    assert [target for target in local if not (README.parent / target).exists()] == []


def test_every_public_verb_is_mentioned() -> None:
    verbs = set(dlstudio.__all__) - {"__version__", "DLStudioError", "RunStopped"}
    assert [verb for verb in sorted(verbs) if f"dls.{verb}" not in TEXT] == []


def test_conda_installs_the_same_set(repository: Path) -> None:
    environment = yaml.safe_load((repository / "environment.yml").read_text())
    (pip,) = [part["pip"] for part in environment["dependencies"] if isinstance(part, dict)]
    assert pip == ["-c constraints.txt", "-e .[test]"]


def test_make_help_lists_every_target(repository: Path) -> None:
    described = set(re.findall(r"^([a-z]+):.*## ", (repository / "Makefile").read_text(), re.M))
    assert described == make_targets()
