"""What importing dlstudio costs and offers."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import dlstudio

HEAVY = (
    "torch",
    "mlflow",
    "plotly",
    "captum",
    "shap",
    "streamlit",
    "pandas",
    "pyarrow",
    "numpy",
    "sklearn",
    "rich",
)


def after(statement: str) -> Any:
    """Run a statement in a fresh interpreter; it prints JSON."""
    command = [sys.executable, "-c", statement]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    return json.loads(done.stdout)


@pytest.mark.parametrize("module", ["dlstudio", "dlstudio.cli", "dlstudio.errors"])
def test_importing_loads_nothing_heavy(module: str) -> None:
    loaded = after(f"import sys, json, {module}; print(json.dumps([m for m in {HEAVY} if m in sys.modules]))")
    assert loaded == []


def test_looking_at_the_names_loads_nothing_heavy() -> None:
    code = (
        "import sys, json, dlstudio; dir(dlstudio); hasattr(dlstudio, 'nothing'); dlstudio.DLStudioError;"
        f"print(json.dumps([m for m in {HEAVY} if m in sys.modules]))"
    )
    assert after(code) == []


def test_every_public_name_resolves_in_a_fresh_interpreter() -> None:
    code = (
        "import json, dlstudio as d;"
        "texts = {n: getattr(getattr(d, n), '__doc__', None) or '' for n in d.__all__};"
        "print(json.dumps(texts))"
    )
    documented = after(code)
    assert sorted(documented) == sorted(dlstudio.__all__)
    assert [name for name, text in documented.items() if not text.strip()] == []


def test_all_equals_reality() -> None:
    assert dir(dlstudio) == sorted(dlstudio.__all__)
    assert set(dlstudio.__all__) == set(dlstudio._WHERE) | {"__version__"}
    assert {
        "record",
        "Recipe",
        "fit",
        "launch",
        "open_run",
        "list_runs",
        "show",
        "launcher",
        "report",
    } <= set(dlstudio.__all__)


def test_editors_see_what_runs(repository: Path) -> None:
    """The imports under TYPE_CHECKING and the table that is used at run time say the same."""
    tree = ast.parse((repository / "dlstudio" / "__init__.py").read_text())
    guarded = next(node for node in tree.body if isinstance(node, ast.If))
    seen = {
        alias.asname or alias.name: f"{node.module}:{alias.name}"
        for node in guarded.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert seen == dlstudio._WHERE


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'lunch'.*launch"):
        _ = dlstudio.lunch
    with pytest.raises(ImportError):
        exec("from dlstudio import lunch")


def test_a_room_says_only_what_it_is(repository: Path) -> None:
    rooms = sorted((repository / "dlstudio").glob("*/__init__.py"))
    chatty = [
        path.parent.name
        for path in rooms
        if len(body := ast.parse(path.read_text()).body) != 1
        or not isinstance(body[0], ast.Expr)
        or not isinstance(body[0].value, ast.Constant)
    ]
    assert rooms and chatty == []


def test_versions_agree(repository: Path) -> None:
    changelog = (repository / "CHANGELOG.md").read_text()
    assert f"## [{dlstudio.__version__}]" in changelog or "## [Unreleased]" in changelog


def test_every_library_imported_is_a_declared_dependency(repository: Path) -> None:
    project = tomllib.loads((repository / "pyproject.toml").read_text())["project"]
    declared = {canonicalize_name(Requirement(line).name) for line in project["dependencies"]}
    providers = packages_distributions()
    imported: dict[str, str] = {}
    for path in sorted([*(repository / "dlstudio").rglob("*.py"), *(repository / "apps").rglob("*.py")]):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.module and not node.level:
                names = [node.module]
            for name in names:
                imported.setdefault(name.split(".")[0], path.relative_to(repository).as_posix())
    ours = {"dlstudio"} | PEERS
    undeclared = {
        name: where
        for name, where in imported.items()
        if name not in sys.stdlib_module_names and name not in ours
        if not declared & {canonicalize_name(dist) for dist in providers.get(name, [name])}
    }
    assert undeclared == {}


# What `dlstudio bench` measures itself against, where it happens to be installed.
PEERS = {
    "tensorboard",
    "tensorboardX",
    "wandb",
    "aim",
    "trackio",
    "lightning",
    "lightning_fabric",
    "accelerate",
}


def test_every_dependency_is_pinned_to_a_version_that_fits(repository: Path) -> None:
    project = tomllib.loads((repository / "pyproject.toml").read_text())["project"]
    pins = {}
    for line in (repository / "constraints.txt").read_text().splitlines():
        if line and not line.startswith("#"):
            pin = Requirement(line)
            assert str(pin.specifier).startswith("=="), f"{line} is no exact version"
            assert pin.url is None and "+" not in line, f"{line} names a place or a build"
            pins[canonicalize_name(pin.name)] = str(pin.specifier)[2:]
    for line in [*project["dependencies"], *project["optional-dependencies"]["test"]]:
        wanted = Requirement(line)
        assert str(wanted.specifier).startswith(">="), f"{line} has no lower bound"
        assert pins[canonicalize_name(wanted.name)] in wanted.specifier, f"{line} is not met by constraints.txt"


@pytest.mark.parametrize("name", ["explain", "show", "compare_explanations", "find_counterfactuals", "trace_influence"])
def test_verbs_stay_verbs_whatever_was_used_first(name: str) -> None:
    """A room and its verb may share a name; importing the room must not put it in the verb's place."""
    code = (
        f"import dlstudio; dlstudio.{name}; from dlstudio.explain.methods import METHODS; import dlstudio.explain.gate;"
        "import json; print(json.dumps([callable(dlstudio.explain), dlstudio.explain.__name__]))"
    )
    assert after(code) == [True, "explain"], f"after dlstudio.{name}, dlstudio.explain is no longer the verb"
