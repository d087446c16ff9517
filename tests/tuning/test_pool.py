"""A fixed list of recipes, trained by the engine of a search."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from torch import nn

from dlstudio.errors import DLStudioError
from dlstudio.training.recipe import Recipe
from dlstudio.tuning.pool import Plan, continue_plan, start_plan
from dlstudio.tuning.search import open_search
from dlstudio.tuning.tune import tune
from tests.tuning.conftest import ended, processes_of
from tests.waiting import until

TINY = Recipe(data="mortgage", model="mlp", epochs=1, model_options={"hidden": [4]}, device="cpu")
LONG = TINY.replace(epochs=10_000)


@pytest.fixture
def plans(studio_home: Path) -> Iterator[list[Plan]]:
    started: list[Plan] = []
    yield started
    left = [p for plan in started for module in ("coordinator", "worker") for p in processes_of(plan, module)]
    for process in left:
        process.kill()
    psutil.wait_procs(left, timeout=5)


def test_recipes_are_trained_cancelled_and_tried_again(plans: list[Plan]) -> None:
    recipes = [LONG, LONG.replace(seed=1), TINY.replace(seed=2, variant="a"), TINY.replace(seed=3)]
    plan = start_plan(recipes, name="list", workers=1, config={"design": "mine"})
    plans.append(plan)
    assert plan.run.info["kind"] == "ablation" and plan.run.config == {"design": "mine"}
    plan.cancel([1, 3])
    until(lambda: plan.states[1] == plan.states[3] == "FAIL")
    first = until(lambda: plan.runs[0])
    until(lambda: first.status == "RUNNING")
    os.kill(processes_of(plan, "worker")[0].pid, signal.SIGKILL)  # an accident costs a recipe nothing but time
    until(lambda: plan.runs[0] not in (None, first) and plan.states[0] == "RUNNING")
    plan.cancel([0])
    ended(plan)
    assert plan.status == "FINISHED" and plan.states == ["FAIL", "FAIL", "COMPLETE", "FAIL"]
    again, none, trained, _ = plan.runs
    assert none is None and again is not None and again.status == "KILLED" and first.status == "FAILED"
    assert trained is not None and trained.status == "FINISHED" and trained.name == "a-s2"
    assert trained.info["tags"] == {
        "seed": "2", "variant": "a", "item": "2", "search": "list", "parent": plan.key, "trial": "2"
    }  # fmt: skip
    assert open_search("list") == plan and isinstance(open_search("list"), Plan)
    with pytest.raises(DLStudioError, match="ablate"):
        tune(resume="list")
    with pytest.raises(DLStudioError, match="fixed list"):
        plan.enqueue({"item": 1})


class Line(nn.Module):
    def __init__(self, n_features: int = 1) -> None:
        super().__init__()
        self.line = nn.Linear(n_features, 2)

    def forward(self, inputs):  # type: ignore[no-untyped-def]
        return self.line(inputs)


def test_a_plan_of_own_objects_that_was_stopped_goes_on(plans: list[Plan]) -> None:
    import numpy as np

    x = np.random.default_rng(0).normal(size=(60, 1)).astype(np.float32)
    data = (x, (x[:, 0] > 0).astype(np.int64))
    recipes = [Recipe(data=data, model=Line, epochs=n, seed=n, device="cpu") for n in (1, 2)]
    plan = start_plan(recipes, name="own", config={})
    plans.append(plan)
    plan.stop()
    ended(plan)
    assert plan.status == "KILLED" and set(plan.states) <= {"WAITING", "FAIL", "COMPLETE"}
    assert (plan.folder / "job.pkl").stat().st_size < 3 * x.nbytes + 20_000  # the data are in it once
    ended(continue_plan(plan, workers=1))
    assert plan.states == ["COMPLETE", "COMPLETE"]
    assert [len(run.scalars("val/loss")[0]) for run in plan.runs if run is not None] == [1, 2]


def test_what_is_tried_again_keeps_its_place(plans: list[Plan]) -> None:
    plan = start_plan([LONG, *(TINY.replace(seed=seed) for seed in (1, 2, 3))], name="order")
    plans.append(plan)
    until(lambda: plan.states[0] == "RUNNING" and processes_of(plan, "worker"))
    os.kill(processes_of(plan, "worker")[0].pid, signal.SIGKILL)
    first = plan.runs[0]
    until(lambda: plan.states[0] == "RUNNING" and plan.runs[0] != first)
    assert plan.states[1:] == ["WAITING"] * 3
    plan.stop()


def test_what_cannot_be_planned(fresh_home: Path) -> None:
    for recipes, complaint in (
        ([], "at least one Recipe"),
        ([1], "at least one Recipe"),
        ([Recipe(model="mpl")], "Did you mean 'mlp'"),
        ([Recipe(devices=2)], "devices"),
    ):
        with pytest.raises(DLStudioError, match=complaint):
            start_plan(recipes, name="none")  # type: ignore[arg-type]
    with pytest.raises(DLStudioError, match="workers"):
        start_plan([TINY], name="none", workers=0)
    assert not fresh_home.exists() or not list((fresh_home / "runs").iterdir())
