"""The demo's own parts; the whole of it runs from an installed wheel in test_wheel.py."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import pandas as pd
import pytest
from rich.console import Console

from dlstudio import demo
from dlstudio.fairness.audit import audit_fairness
from dlstudio.runs.recorder import record
from dlstudio.stats import difference_interval
from dlstudio.summary.summarize import TrainingSummary
from dlstudio.terminal import run_table


def summary(**changes: object) -> TrainingSummary:
    empty = {
        field.name: None
        for field in dataclasses.fields(TrainingSummary)
        if field.name not in ("events", "damage", "curves", "final", "best", "config", "machine", "environment")
    }
    base = {"events": [], "damage": [], "curves": {}, "final": {}, "best": {}, "config": {}, "machine": {}}
    named = {"name": "demo-plain-0", "status": "RUNNING", "n_steps": 0, "n_epochs": 0, "n_lost": 0}
    return TrainingSummary(**{**empty, **base, "environment": {}, **named, **changes})  # type: ignore[arg-type]


def text_of(renderable: object) -> str:
    console = Console(width=160)
    with console.capture() as capture:
        console.print(renderable)
    return capture.get()


def test_the_recipes_are_two_variants_with_two_seeds() -> None:
    planned = demo.recipes(3)
    assert len({recipe.name for recipe in planned}) == 4
    assert len({recipe.variant for recipe in planned}) == 2
    assert {recipe.seed for recipe in planned} == {0, 1}
    assert {(recipe.data, recipe.model, recipe.epochs) for recipe in planned} == {("mortgage", "mlp", 3)}
    assert all(recipe.is_plain for recipe in planned)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"n_steps": 250, "n_steps_planned": 1000, "wall_s": 10.0}, 30.0),
        ({"n_steps": 1000, "n_steps_planned": 1000, "wall_s": 10.0}, 0.0),
        ({"n_steps": 0, "n_steps_planned": 1000, "wall_s": 1.0}, None),
        ({"n_steps": 10, "n_steps_planned": None, "wall_s": 1.0}, None),
        ({"n_steps": 10, "n_steps_planned": 20, "wall_s": 1.0, "status": "PAUSED"}, None),
    ],
)
def test_time_left_goes_on_at_the_pace_so_far(changes: dict[str, object], expected: float | None) -> None:
    assert demo.time_left_s(summary(**changes)) == expected


def test_progress_shows_where_each_run_is() -> None:
    going = summary(
        n_epochs=3,
        n_epochs_planned=12,
        n_steps=66,
        n_steps_planned=264,
        wall_s=2.0,
        final={"loss": 0.25, "val/loss": math.nan},
    )
    waiting = summary(name="demo-dropout-1", status="QUEUED")
    table = text_of(demo.progress_table([going, waiting]))
    assert "3 of 12" in table
    assert "0.25" in table
    assert "NaN" in table
    assert "6.0 s" in table
    assert demo.progress_line([going, waiting]) == "demo-plain-0 RUNNING 25 % · demo-dropout-1 QUEUED"


def test_the_best_is_the_lowest_finite_loss() -> None:
    assert demo._best_loss(summary(best={"val/loss": 0.2})) == 0.2
    assert demo._best_loss(summary(best={"val/loss": math.nan})) == math.inf
    assert demo._best_loss(summary()) == math.inf


def test_two_seeds_of_each_variant_are_too_few_to_tell_them_apart(fresh_home: Path) -> None:
    aucs = {"demo-plain-0": 0.80, "demo-plain-1": 0.82, "demo-dropout-0": 0.85, "demo-dropout-1": 0.86}
    runs = []
    for recipe in demo.recipes(1):
        tags = {"variant": str(recipe.variant), "seed": str(recipe.seed)}
        with record(str(recipe.name), config=recipe.to_dict(), tags=tags) as rec:
            rec.log({demo.METRIC: aucs[str(recipe.name)]}, step=1)
        runs.append(rec.run)
    found = demo.comparison(runs)
    assert {one.name: one.n for one in found.variants} == {"plain": 2, "dropout": 2}
    assert found["plain"].mean == pytest.approx(0.81) and found.best is None
    (pair,) = found.comparisons
    assert abs(pair.difference) == pytest.approx(0.045) and pair.verdict == "not enough data"
    assert "more seed" in pair.sentence and pair.sentence in found.summary


def test_the_gap_is_shown_with_its_interval() -> None:
    race = ["black"] * 30 + ["white"] * 100
    approved = [1] * 24 + [0] * 6 + [1] * 90 + [0] * 10
    audit = audit_fairness(approved, approved, sensitive_features={demo.RACE: race}, intersections=1)
    low, high = difference_interval(24, 30, 90, 100)
    lines = text_of(demo.gap_table({"[bold]x[/]": audit})).splitlines()
    assert "Black approved" in lines[0]
    for part in (
        "[bold]x[/]",
        "80.0 % (24 of 30)",
        "90.0 % (90 of 100)",
        "-10.0",
        f"{100 * low:+.1f} to {100 * high:+.1f}",
    ):
        assert part in lines[1], lines
    assert lines[1].rstrip().endswith(audit.gaps.query("group == 'black'")["verdict"].iloc[0])


def test_a_run_table_shows_any_name_as_it_is_and_a_gap_as_a_dash() -> None:
    frame = pd.DataFrame(
        {
            "name": ["[bold red]x[/]", "b"],
            "status": ["FINISHED", "QUEUED"],
            "kind": ["fit", "launch"],
            "created": [pd.Timestamp("2026-01-02 03:04", tz="UTC"), pd.NaT],
            "wall_s": [65.0, math.nan],
            "n_steps": [1234, None],
            "loss": [0.5, None],
            "val/loss": [None, None],
        }
    )
    lines = text_of(run_table(frame)).splitlines()
    assert "Training loss" in lines[0]
    assert "Validation loss" not in lines[0]
    assert lines[1].split("  ")[0] == "[bold red]x[/]"
    for part in ("2026-01-02 03:04", "1 min 5 s", "1,234", "0.5"):
        assert part in lines[1]
    assert lines[2].count("–") == 4
