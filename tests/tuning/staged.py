"""An ablation of which no run is trained: a test says when each ends, and with which value."""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from dlstudio.runs.folder import RunFolder, write_json
from dlstudio.tuning.ablation import Ablation, items_of, write_ablation


class Staged:
    """A plan whose runs end when the test says so, with the values of a table."""

    def __init__(self, folder: Path, values: Any) -> None:
        self.folder, self.key, self.name, self.status, self.reason = folder, folder.name, "staged", "RUNNING", None
        self.values = np.asarray(values, dtype=float).T.ravel()  # seed by seed
        self.states = ["WAITING"] * len(self.values)
        self.latest_name, self.is_stopped = "auc", False
        self.data: dict[int, str] = {}  # by item, else "one"
        self.steps: dict[int, int] = {}  # by item, else 100
        self.more: dict[int, dict[str, float]] = {}  # what else was measured, by item

    @property
    def runs(self) -> list[Any]:
        def run(item: int) -> Any:
            state = SimpleNamespace(
                latest={self.latest_name: self.values[item], **self.more.get(item, {})}, step=self.steps.get(item, 100)
            )
            folder = self.folder / f"run{item}"
            folder.mkdir(exist_ok=True)
            write_json(folder / "data.json", {"fingerprint": self.data.get(item, "one")})
            return SimpleNamespace(key=f"run{item}", reason="", folder=folder, state=lambda: state)

        return [None if state == "WAITING" else run(item) for item, state in enumerate(self.states)]

    def state(self) -> Any:
        return SimpleNamespace(is_over="WAITING" not in self.states or self.is_stopped)

    def cancel(self, items: list[int]) -> None:
        RunFolder(self.folder).command("cancel", items=items)
        for item in items:
            self.states[item] = "FAIL"

    def stop(self) -> None:
        self.is_stopped = True

    def train(self, n: int = 1) -> None:
        for item in [item for item, state in enumerate(self.states) if state == "WAITING"][:n]:
            self.states[item] = "COMPLETE"


def staged(
    values: Any, *, stop: bool = True, design: str = "one-out", names: list[str] | None = None
) -> tuple[Ablation, Staged]:
    """An ablation whose values, (n_cells, n_seeds), are known, and the plan that pretends to train them."""
    folder = RunFolder.create("staged", kind="ablation", config={}).path
    plan = Staged(folder, values)
    n_cells, n_seeds = np.shape(values)
    names = names or ["a", "b", "c", "d"][: n_cells - 1 if design == "one-out" else int(math.log2(n_cells))]
    seeds = list(range(n_seeds))
    about = {
        "metric": "auc", "direction": "max", "design": design, "factors": names, "off": dict.fromkeys(names, ["off"]),
        "labels": [str(cell) for cell in range(n_cells)], "seeds": seeds, "level": 0.95, "margin": None, "stop": stop,
        "items": items_of(n_cells, seeds),
    }  # fmt: skip
    write_ablation(folder, about)
    return Ablation(plan), plan  # type: ignore[arg-type]


def values_of(shifts: list[float], n_seeds: int = 10, seed: int = 0) -> Any:
    """Values of a whole that is at 0.9, and of the cells that lack as much as each of the shifts."""
    noise = np.random.default_rng(seed).normal(0, 0.01, (len(shifts) + 1, n_seeds))
    return noise + 0.9 - np.array([0.0, *shifts])[:, None]
