"""Who may import whom, read from the source: nothing upward, sideways or circular, in functions neither."""

from __future__ import annotations

import ast
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

# Lowest first. A unit is a module or package right under dlstudio/; it may import the layers before its own.
# Units that share a layer are siblings and never import each other, save inside one of the groups below.
LAYERS = (
    {"errors", "shipped"},
    {"results", "stats", "limits", "wording", "repetitions", "arrangements"},
    {"tracking", "telemetry", "data", "models", "running", "scoring"},
    {"runs"},
    {"training"},
    {"summary", "diagnosis", "tuning", "explain", "fairness", "trust", "compare", "review"},
    {"figures", "serving", "terminal"},
    {"widgets", "reports", "app", "doctor"},
    {"demo", "bench"},
    {"cli", "__init__", "__main__"},
)
GROUPS = ({"errors", "shipped"}, {"results", "stats", "repetitions", "arrangements"}, {"cli", "__init__", "__main__"})
RANK = {unit: rank for rank, layer in enumerate(LAYERS) for unit in layer}


def module_name(path: Path, root: Path) -> str:
    parts = path.relative_to(root.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported(path: Path, root: Path, modules: set[str]) -> Iterator[tuple[int, str]]:
    """Yield (line, module of the package) for every import in a file, wherever and however it is written."""
    package = root.name
    own = module_name(path, root).split(".")
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        targets: list[str] = []
        if isinstance(node, ast.Import):
            targets = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parent = own if path.name == "__init__.py" else own[:-1]
                parent = parent[: len(parent) - node.level + 1]
                base = ".".join([*parent, *filter(None, [base])])
            targets = [f"{base}.{alias.name}" if f"{base}.{alias.name}" in modules else base for alias in node.names]
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if called in {"import_module", "__import__"} and isinstance(node.args[0].value, str):
                targets = [node.args[0].value]
        for target in targets:
            if target == package or target.startswith(f"{package}."):
                yield node.lineno, target


def unit_of(module: str) -> str:
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else "__init__"


def violations(root: Path) -> list[str]:
    """Read every module under `root` and say which imports break the layers."""
    files = sorted(root.rglob("*.py"))
    modules = {module_name(path, root) for path in files}
    found: list[str] = []
    graph: dict[str, set[str]] = {}
    for path in files:
        name = module_name(path, root)
        own = unit_of(name)
        if own not in RANK:
            found.append(f"{name}: {own!r} is in no layer; give it a place in LAYERS")
            continue
        for line, target in imported(path, root, modules):
            other = unit_of(target)
            where = f"{name}:{line} imports {target}"
            if target != name:
                graph.setdefault(name, set()).add(target)
            if other == own:
                continue
            if other not in RANK:
                found.append(f"{where}: {other!r} is in no layer")
            elif RANK[other] > RANK[own]:
                found.append(f"{where}: upward")
            elif RANK[other] == RANK[own] and not any({own, other} <= group for group in GROUPS):
                found.append(f"{where}: sideways")
    return found + [f"{' -> '.join(cycle)}: circular" for cycle in cycles(graph)]


def cycles(graph: dict[str, set[str]]) -> list[list[str]]:
    """Every import cycle that a depth-first walk closes, each as the modules on the way round."""
    done: set[str] = set()
    found: list[list[str]] = []

    def walk(module: str, trail: list[str]) -> None:
        if module in trail:
            found.append([*trail[trail.index(module) :], module])
        elif module not in done:
            for target in sorted(graph.get(module, ())):
                walk(target, [*trail, module])
            done.add(module)

    for module in sorted(graph):
        walk(module, [])
    return found


def test_no_import_breaks_the_layers(repository: Path) -> None:
    assert violations(repository / "dlstudio") == []


def test_only_tracking_imports_mlflow(repository: Path) -> None:
    guilty = [
        f"{path.relative_to(repository)}:{line}"
        for path in sorted((repository / "dlstudio").rglob("*.py"))
        if "tracking" not in path.parts
        for line, target in third_party(path)
        if target.split(".")[0] == "mlflow"
    ]
    assert guilty == []


def test_apps_use_no_private_name_of_the_package(repository: Path) -> None:
    pages = sorted((repository / "apps").rglob("*.py"))
    guilty = [
        f"{path.name}:{node.lineno}"
        for path in pages
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("dlstudio")
        if any(alias.name.startswith("_") for alias in node.names)
    ]
    assert pages and guilty == []


def third_party(path: Path) -> Iterator[tuple[int, str]]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.lineno, node.module


@pytest.mark.parametrize(
    ("where", "source", "complaint"),
    [
        ("telemetry/log.py", "from dlstudio.training import loop", "upward"),
        ("telemetry/log.py", "import dlstudio.training.loop", "upward"),
        ("telemetry/log.py", "from ..training.loop import step", "upward"),
        ("telemetry/log.py", "def late():\n    from dlstudio.training.loop import step", "upward"),
        ("telemetry/log.py", "import importlib as i\ni.import_module('dlstudio.training.loop')", "upward"),
        ("telemetry/log.py", "import dlstudio", "upward"),
        ("telemetry/log.py", "from dlstudio import load_data", "upward"),
        ("telemetry/log.py", "from dlstudio.data.load import load", "sideways"),
        ("widgets/show.py", "def late():\n    from dlstudio import reports", "sideways"),
        ("telemetry/log.py", "from dlstudio.telemetry.reader import read", "circular"),
        ("telemetry/log.py", "from dlstudio.telemtry.reader import read", "in no layer"),
        ("training/loop.py", "from dlstudio.telemetry.log import write\nfrom dlstudio.errors import E", None),
        ("widgets/show.py", "from dlstudio.telemetry.reader import read", None),
        ("results.py", "from dlstudio.stats import interval", None),
    ],
)  # fmt: skip
def test_the_checker_sees(tmp_path: Path, where: str, source: str, complaint: str | None) -> None:
    root = tmp_path / "dlstudio"
    clean = {
        "__init__.py": "",
        "errors.py": "",
        "results.py": "",
        "stats.py": "",
        "reports.py": "",
        "telemetry/__init__.py": "",
        "telemetry/log.py": "",
        "telemetry/reader.py": "def later():\n    from dlstudio.telemetry import log",
        "data/load.py": "",
        "training/__init__.py": "",
        "training/loop.py": "",
        "widgets/show.py": "",
    }
    for name, text in (clean | {where: source}).items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text))
    found = violations(root)
    if complaint is None:
        assert found == []
    else:
        assert len(found) == 1 and complaint in found[0]
