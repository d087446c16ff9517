"""What is recorded of a run, whoever recorded it, as sections of named values that two runs are compared by."""

from __future__ import annotations

import dataclasses
import hashlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dlstudio.errors import DLStudioError
from dlstudio.runs.folder import read_json
from dlstudio.runs.run import Run, open_run
from dlstudio.tracking.catalogue import flatten
from dlstudio.tracking.home import find_home
from dlstudio.tracking.search import logged_runs

__all__ = ["SECTIONS", "Facts", "Value", "facts_of"]

Value = str | float | None

SECTIONS = ("config", "data", "model", "code", "notebook", "environment", "packages", "run", "outcome")
"""From causes to what came of them; a run lacks the sections that nothing was recorded of."""

_LABELS = ("name", "variant")
_COUNTED_BY_NORMALISATION = (".running_mean", ".running_var", ".num_batches_tracked")
_MAX_PATCH = 200_000


@dataclasses.dataclass(frozen=True, kw_only=True)
class Facts:
    """One side of a diff.

    Attributes:
        name, key: what the run is called; the name of its folder, or its MLflow id.
        sections: what is recorded, by section and item; of data, where a run never reached a checkpoint, the name and
            the fingerprint alone.
        cells: sources of the notebook cells executed before the run began.
        patches: uncommitted changes by file, as git shows them.
        commit, cwd: of the code; "" where unknown.
    """

    name: str
    key: str
    sections: Mapping[str, Mapping[str, Value]]
    cells: tuple[str, ...] = ()
    patches: Mapping[str, str] = dataclasses.field(default_factory=dict)
    commit: str = ""
    cwd: str = ""


def facts_of(run: Any) -> Facts:
    """Read one run.

    Args:
        run: a run, its name, key or MLflow id; or MLflow's own object of a run.

    Raises:
        DLStudioError: there is none; the nearest name is suggested.
    """
    if isinstance(run, Run):
        return _recorded(run)
    name = str(getattr(getattr(run, "info", None), "run_id", run))
    try:
        return _recorded(open_run(name))
    except DLStudioError:
        facts = _logged(name)
        if facts is None:
            raise
        return facts


# -- a run of dlstudio ------------------------------------------------------------------------------------------------


def _recorded(run: Run) -> Facts:
    info, state = run.info, run.state()
    environment = read_json(run.folder / "environment.json")
    git = environment.get("git") or {}
    patches = _patches(run.folder / "code.diff")
    cells = read_json(run.folder / "cells.json").get("cells")
    content = _checkpoint(run.folder)
    plan = _plan(run)
    config = flatten(_with_defaults(run.config, str(info.get("kind"))))
    began, ended = state.started or state.created, state.ended
    outcome: dict[str, Value] = {"status": state.status, "reason": state.reason, "steps": state.step}
    if began and ended:
        outcome["wall_s"] = ended - began
    if "model" in content:
        outcome["weights"] = _digest(content["model"])
    sections: dict[str, Mapping[str, Value]] = {
        "config": {key: value for key, value in config.items() if key not in _LABELS and value != "{}"},
        "run": {
            "name": run.name,
            "kind": str(info.get("kind")),
            **({"variant": config["variant"]} if "variant" in config else {}),
            "user": info.get("user"),
            **{f"tag {key}": str(value) for key, value in (info.get("tags") or {}).items()},
        },
        "outcome": {**outcome, **(state.latest or {})},
    }
    if "data" in content:
        sections["data"] = _data(content["data"])
    elif described := read_json(run.folder / "data.json"):  # written before the first checkpoint
        sections["data"] = {key: str(described[key]) for key in ("name", "fingerprint") if key in described}
    if "model" in content:
        sections["model"] = _structure(content["model"], plan)
    if environment:
        sections["environment"] = _machine(environment, info, plan)
        sections["packages"] = environment.get("packages") or {}
        sections["code"] = _code(git, patches, info)
    if isinstance(cells, list):
        sections["notebook"] = {}
    return Facts(
        name=run.name,
        key=run.key,
        sections=sections,
        cells=tuple(str(cell.get("source", "")) for cell in cells or ()),
        patches=patches,
        commit=str(git.get("commit") or ""),
        cwd=str(info.get("cwd") or ""),
    )


def _with_defaults(config: Mapping[str, Any], kind: str) -> dict[str, Any]:
    """The settings; a field of the recipe that came after the run was recorded has its default."""
    if kind in ("fit", "launch") and {"data", "model", "epochs"} <= config.keys():
        from dlstudio.training.recipe import Recipe

        return {**Recipe().to_dict(), **config}
    return dict(config)


def _checkpoint(folder: Path) -> dict[str, Any]:
    if not (folder / "checkpoints").is_dir():
        return {}  # and torch is not imported
    from dlstudio.training import checkpoint

    for which in ("best", "last"):
        try:
            return checkpoint.read(checkpoint.path_of(folder, which))
        except DLStudioError:
            continue
    return {}


def _plan(run: Run) -> dict[str, Any]:
    plans = [event["data"] for event in run.events() if event["kind"] == "plan"]
    return dict(plans[-1]) if plans else {}


def _data(described: Mapping[str, Any]) -> dict[str, Value]:
    found: dict[str, Value] = {
        key: str(described[key]) for key in ("name", "fingerprint", "modality", "task", "n_classes", "input_shape")
    }
    if described.get("n_tokens") is not None:
        found["n_tokens"] = described["n_tokens"]
    for kind in ("class", "feature"):
        found |= {f"{kind} {name}": "there" for name in described.get(f"{kind}_names", ())}
    return found


def _structure(weights: Mapping[str, Any], plan: Mapping[str, Any]) -> dict[str, Value]:
    shapes: dict[str, Value] = {
        name: f"{'×'.join(map(str, tensor.shape)) or 'one number'} {str(tensor.dtype).removeprefix('torch.')}"
        for name, tensor in weights.items()
    }
    counted = sum(t.numel() for name, t in weights.items() if not name.endswith(_COUNTED_BY_NORMALISATION))
    return {"parameters": int(plan.get("n_params", counted)), **shapes}


def _digest(weights: Mapping[str, Any]) -> str:
    import torch

    digest = hashlib.sha256()
    for name, tensor in weights.items():
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        if tensor.numel():
            digest.update(memoryview(tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy()))
    return digest.hexdigest()[:12]


def _machine(environment: Mapping[str, Any], info: Mapping[str, Any], plan: Mapping[str, Any]) -> dict[str, Value]:
    found: dict[str, Value] = {key: environment.get(key) for key in ("python", "platform", "n_cpus")}
    found |= {"host": info.get("host"), "executable": environment.get("executable")}
    return found | {key: plan[key] for key in ("device", "devices") if key in plan}


def _code(git: Mapping[str, Any], patches: Mapping[str, str], info: Mapping[str, Any]) -> dict[str, Value]:
    command = " ".join(map(str, info.get("command", [])[1:]))
    found: dict[str, Value] = {"commit": git.get("commit"), "branch": git.get("branch"), "command": command}
    untracked = (line[3:] for line in git.get("changed", ()) if line.startswith("??"))
    return found | {f"new file {path}": "not in git" for path in untracked} | _sizes(patches)


def _patches(path: Path) -> dict[str, str]:
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return {}
    found = {}
    for part in re.split(r"(?m)^(?=diff --git )", text):
        named = re.match(r'diff --git "?a/.* "?b/([^"\n]*)', part)
        if named:
            found[named[1]] = part[:_MAX_PATCH]
    return found


def _sizes(patches: Mapping[str, str]) -> dict[str, Value]:
    """Uncommitted changes in a line each, with a digest so that two of one size differ."""
    found: dict[str, Value] = {}
    for path, patch in patches.items():
        body = [line for line in patch.splitlines() if not line.startswith(("+++", "---"))]
        more, less = (sum(line.startswith(sign) for line in body) for sign in "+-")
        found[f"uncommitted {path}"] = f"+{more} -{less} ({hashlib.sha256(patch.encode()).hexdigest()[:6]})"
    return found


# -- any other run in MLflow ------------------------------------------------------------------------------------------


def _logged(run_id: str) -> Facts | None:
    home = find_home()
    found = logged_runs(home, [run_id]).get(run_id) if re.fullmatch(r"[0-9a-f]{32}", run_id) else None
    if found is None:
        return None
    commit = found.tags.get("mlflow.source.git.commit", "")
    own = {f"tag {key}": value for key, value in found.tags.items() if not key.startswith(("mlflow.", "dlstudio."))}
    outcome: dict[str, Value] = {"status": found.status, **found.metrics}
    if found.ended:
        outcome["wall_s"] = found.ended - found.created
    sections: dict[str, Mapping[str, Value]] = {
        "config": {key: value for key, value in found.params.items() if key not in _LABELS},
        "run": {"name": found.name, "user": found.tags.get("mlflow.user"), **own},
        "outcome": outcome,
    }
    if commit:
        sections["code"] = {"commit": commit, "command": found.tags.get("mlflow.source.name")}
    if found.digests:
        sections["data"] = {"MLflow fingerprint": "+".join(found.digests)}  # of another kind than those of dlstudio
    return Facts(name=found.name, key=run_id, sections=sections, commit=commit)
