"""Runs to compare that were written and not trained, and three variants of seven seeds."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import dlstudio as dls
from dlstudio.compare.result import Comparison

Write = Callable[..., str]
A = [0.800, 0.790, 0.811, 0.805, 0.796, 0.808, 0.803]


@pytest.fixture(scope="session")
def three() -> Comparison:
    """B is better than A, and C is equivalent to it."""
    rng = np.random.default_rng(0)
    b = [value + 0.03 + rng.normal(0, 0.003) for value in A]
    c = [value + rng.normal(0, 0.003) for value in A]
    return dls.compare({"A": A, "B": b, "C": c}, metric="val/auc", margin=0.01)


@pytest.fixture
def write(fresh_home: Path) -> Write:
    """Writes the small files of a run."""
    (fresh_home / "active").mkdir(parents=True)
    made: list[str] = []

    def write(
        name: str, metrics: dict[str, float] | None = None, *, status: str = "FINISHED", fingerprint: str = "d1",
        step: int = 100, tags: dict[str, str] | None = None, measures: dict[str, float] | None = None, **config: Any,
    ) -> str:  # fmt: skip
        key = f"run-{len(made):04d}"
        folder = fresh_home / "runs" / key
        (folder / "results").mkdir(parents=True)
        info = {"name": name, "key": key, "created": 1e9 + len(made), "config": config, "tags": tags or {}}
        (folder / "run.json").write_text(json.dumps(info))
        state = {"status": status, "step": step, "latest": metrics or {}, "reason": None}
        (folder / "status.json").write_text(json.dumps(state))
        (folder / "data.json").write_text(json.dumps({"name": "mortgage", "fingerprint": fingerprint}))
        if measures:
            (folder / "results" / "measures.json").write_text(json.dumps({"fields": measures}))
        made.append(key)
        return key

    return write
