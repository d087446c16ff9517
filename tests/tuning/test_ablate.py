"""Ablations: factors as people write them, tables of finished runs, stewardship, and one from end to end."""

from __future__ import annotations

import itertools
import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import psutil
import pytest

import dlstudio as dls
from dlstudio import results
from dlstudio.errors import DLStudioError
from dlstudio.training.recipe import Recipe
from dlstudio.tuning.ablate import ablate, ablate_values
from dlstudio.tuning.ablation import Ablation, open_ablation
from dlstudio.tuning.ablation_result import AblationResult
from dlstudio.tuning.factors import cell_label, cell_recipe, read_factors
from dlstudio.widgets.ablation import AblationView
from tests.tuning.staged import Staged, staged, values_of
from tests.waiting import until

RECIPE = Recipe(data="digits", schedule="cosine", clip_norm=1.0, model_options={"dropout": 0.2})


# -- factors -----------------------------------------------------------------------------------------------------------


def test_factors_in_every_way_people_write_them() -> None:
    read = read_factors(
        RECIPE,
        {
            "dropout": {"model_options.dropout": 0.0},
            "schedule": ["constant", "linear"],
            "clip_norm": None,
            "decay and optimiser": {"weight_decay": 0.0, "optimizer": "adam"},
        },
    )
    assert [factor.labels for factor in read] == [
        ("dropout=0.0",), ("constant", "linear"), ("None",), ("weight_decay=0.0, optimizer=adam",),
    ]  # fmt: skip
    made = cell_recipe(RECIPE, read, [1, 2, 0, 1])
    assert (made.model_options["dropout"], made.schedule, made.clip_norm) == (0.0, "linear", 1.0)
    assert (made.weight_decay, made.optimizer) == (0.0, "adam") and RECIPE.model_options == {"dropout": 0.2}
    assert cell_recipe(RECIPE, read, [0, 0, 0, 0]) == RECIPE
    assert (
        cell_label(read, [1, 2, 0, 0]) == "without dropout, schedule (linear)" and cell_label(read, [0] * 4) == "full"
    )


@pytest.mark.parametrize(
    ("factors", "says"),
    [
        ({}, "factors by name"),
        ({"dropout": 0.0}, "Did you mean"),
        ({"schedul": "constant"}, "Did you mean 'schedule'"),
        ({"d": {"model_options.dropuot": 0.0}}, "Did you mean 'dropout'"),
        ({"lr": -1.0}, "lr to be"),
        ({"schedule": "cosine"}, "already"),
        ({"hidden": {"model_options.dropout": 0.2}}, "already"),
        ({"schedule": []}, "an empty list"),
        ({"schedule": ["constant", "constant"]}, "twice"),
        ({"seed": 3}, "repetitions"),
        ({"x": {"lr.x": 3}}, "dots"),
    ],
)
def test_factors_that_cannot_be(factors: dict[str, Any], says: str) -> None:
    with pytest.raises(DLStudioError, match=says):
        read_factors(RECIPE, factors)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"seeds": 0}, "seeds"),
        ({"seeds": [1, 1]}, "different"),
        ({"seeds": 5.0}, "how many seeds"),
        ({"seeds": None}, "how many seeds"),
        ({"seeds": "5"}, "how many seeds"),
        ({"seeds": [1, 2.5]}, "how many seeds"),
        ({"seeds": 10**12}, "up to 1,000"),
        ({"metric": None}, "the name of a metric"),
        ({"factors": None}, "factors by name"),
        ({"resume": "that"}, "only workers for an ablation to resume, but got recipe and factors"),
        ({"level": 95}, "level"),
        ({"margin": 0.0}, "margin"),
        ({"metric": "val/spread"}, "direction"),
        ({"design": "facto"}, "Did you mean 'factorial'"),
        ({"factors": {"a": {"lr": 1e-2}, "b": {"lr": 1e-1}}, "design": "factorial"}, "both of which change 'lr'"),
    ],
)
def test_nothing_starts_with_bad_input(options: dict[str, Any], says: str, fresh_home: Path) -> None:
    given = {"factors": {"schedule": "constant"}, "metric": "val/loss"} | options
    with pytest.raises(DLStudioError, match=says):
        ablate(RECIPE, **given)
    assert not list(fresh_home.glob("runs/*"))


# -- tables of one's own -----------------------------------------------------------------------------------------------


def table(k: int, seeds: int = 4) -> pd.DataFrame:
    """Every combination of k switches; each adds 0.1 times its number, the first two 0.05 more together."""
    rows = []
    for on in itertools.product((True, False), repeat=k):
        for seed in range(seeds):
            noise = 0.001 * math.sin(37 * seed + sum(place * 11 for place, one in enumerate(on) if one))
            value = 0.5 + sum(0.1 * (place + 1) for place, one in enumerate(on) if one) + noise
            value += 0.05 if all(on[:2]) else 0.0
            rows.append({**{f"f{i}": one for i, one in enumerate(on)}, "seed": seed, "auc": value})
    return pd.DataFrame(rows).sample(frac=1, random_state=0)


def test_a_factorial_table() -> None:
    found = ablate_values(table(3), metric="auc", factors=["f0", "f1", "f2"])
    assert found.design.kind == "factorial" and found.is_complete and found.n_saved == 0
    main = found.main.set_index("factor")
    assert main.difference.to_numpy() == pytest.approx([0.125, 0.225, 0.3], abs=2e-3)
    assert set(main.verdict) == {"better"}
    pairs = found.interactions.set_index("factor")
    assert pairs.difference["f0 × f1"] == pytest.approx(0.025, abs=2e-3) and pairs.verdict["f0 × f1"] == "better"
    assert abs(pairs.difference["f0 × f2"]) < 2e-3
    assert {"DLS560", "DLS562"} <= {finding.code for finding in found.findings}
    assert "with f1 than without" in pairs.sentence["f0 × f1"] and "0.05" in pairs.sentence["f0 × f1"]
    low = ablate_values(table(3).rename(columns={"auc": "loss"}), metric="loss", factors=["f0", "f1", "f2"])
    assert set(low.main.verdict) == {"worse"} and "DLS561" in {finding.code for finding in low.findings}


def test_a_one_out_table_of_texts() -> None:
    frame = pd.DataFrame(
        {
            "schedule": ["cosine", "constant", "step", "cosine"] * 6,
            "dropout": [0.2, 0.2, 0.2, 0.0] * 6,
            "seed": np.repeat(np.arange(6), 4),
            "loss": np.tile([0.3, 0.5, 0.4, 0.3], 6) + np.repeat([0.01, 0.02, 0.0, 0.03, 0.05, 0.01], 4),
        }
    )
    frame["loss"] += 0.0001 * np.sin(np.arange(24.0))
    found = ablate_values(frame, metric="loss", factors={"schedule": "cosine", "dropout": 0.2}, margin=0.02)
    effects = found.effects.set_index("without")
    assert effects.verdict.to_dict() == {"constant": "better", "step": "better", "0.0": "equivalent"}
    assert effects.difference["constant"] == pytest.approx(-0.2, abs=1e-3)
    assert found.summary[0] == "schedule helps (24 of 24 planned runs)."
    assert found.cells.schedule.tolist()[0] == "" and len(found.cells) == 4


def test_a_failed_run_is_said(tmp_path: Path) -> None:
    frame = table(2)
    frame.loc[(~frame.f0) & frame.f1 & (frame.seed == 1), "auc"] = math.nan
    found = ablate_values(frame, metric="auc", factors=["f0", "f1"])
    assert set(found.effects.n) == {3} and found.count("failed") == 1
    warning = next(finding for finding in found.findings if finding.code == "DLS564")
    assert "without f0" in warning.sentence and "1 of 16" in warning.sentence
    assert results.load(results.save(found, tmp_path, "ablation")) == found


def test_an_empty_cell_is_a_value_like_any_other() -> None:
    """As `read_csv` gives them: what is off is NaN, which is not equal to itself."""
    whole = table(2).drop_duplicates(["f0", "f1", "seed"])
    written = whole.assign(
        f0=whole.f0.map({True: "cosine", False: None}), f1=whole.f1.map({True: 1.0, False: math.nan})
    )
    found = ablate_values(written, metric="auc", factors={"f0": "cosine", "f1": 1.0})
    want = ablate_values(whole, metric="auc", factors=["f0", "f1"])
    assert found.design.kind == "factorial" and found.off == {"f0": ("None",), "f1": ("None",)}
    assert found.effects.difference.tolist() == want.effects.difference.tolist()
    turned = ablate_values(written, metric="auc", factors={"f0": "cosine", "f1": math.nan})
    assert turned.main.difference[1] == -want.main.difference[1]


def test_tables_that_cannot_be_read() -> None:
    frame = table(2).assign(words="good")
    for change, says in (
        ({"metric": "acu"}, "Did you mean 'auc'"),
        ({"metric": "acu", "direction": None}, "Did you mean 'auc'"),
        ({"factors": ["f3"]}, "column"),
        ({"factors": {"f0": "on"}}, "rows with f0 = 'on'"),
        ({"factors": ["f0"]}, "one row for each"),
        ({"factors": []}, "at least one factor"),
        ({"metric": None}, "column"),
        ({"metric": "words"}, "numbers in the column 'words'"),
    ):
        with pytest.raises(DLStudioError, match=says):
            ablate_values(frame, **{"metric": "auc", "direction": "max", "factors": ["f0", "f1"], **change})
    with pytest.raises(DLStudioError, match=r"pandas.DataFrame\(rows\)"):
        ablate_values(frame.to_dict("records"), metric="auc", factors=["f0", "f1"])  # type: ignore[arg-type]
    with pytest.raises(DLStudioError, match="rows without 'f0'"):
        ablate_values(frame[frame.f0], metric="auc", factors=["f0", "f1"])
    with pytest.raises(DLStudioError, match="none of these"):
        ablate_values(frame[frame.f0 != frame.f1], metric="auc", factors=["f0", "f1"])


# -- stewardship -------------------------------------------------------------------------------------------------------


def see_through(ablation: Ablation, plan: Staged) -> AblationResult:
    while not plan.state().is_over:
        plan.train()
        ablation.spare()
    return ablation.estimate()


def test_what_is_decided_or_hopeless_is_not_trained_on(studio_home: Path) -> None:
    ablation, plan = staged(values_of([0.5, 0.5, 0.0]))
    found = see_through(ablation, plan)
    main = found.main.set_index("factor")
    assert main.verdict[["a", "b"]].tolist() == ["better", "better"] and main.state["a"] == "decided"
    assert main.verdict["c"] not in ("better", "worse")
    assert found.n_saved >= 10 and found.n_planned == 40
    assert found.n_saved == found.count("spared") == 40 - found.count("complete")
    # The whole is trained as long as any comparison is open, and then no longer.
    n_full = int(((found.runs.cell == 0) & (found.runs.state == "complete")).sum())
    assert n_full == main.n.max()
    assert "DLS565" in {finding.code for finding in found.findings}


def test_a_factorial_goes_on_until_all_components_are_decided(studio_home: Path) -> None:
    noise = np.random.default_rng(1).normal(0, 0.01, (4, 8))
    both, one = staged(noise + np.array([1.0, 0.7, 0.5, 0.2])[:, None], design="factorial")
    assert see_through(both, one).main.state.tolist() == ["decided", "decided"]
    assert one.states.count("COMPLETE") <= 4 * 4  # all cells of a few seeds


def test_without_stopping_everything_is_trained_and_judged_once(studio_home: Path) -> None:
    ablation, plan = staged(values_of([0.5, 0.0], 6), stop=False)
    found = see_through(ablation, plan)
    assert found.n_saved == 0 and found.count("complete") == 18 and not found.sequential
    assert found.main.test.tolist() == ["paired t", "paired t"] or "permutation" in found.main.test[0]


def test_what_was_stopped_is_not_complete_and_did_not_fail(studio_home: Path) -> None:
    for stop in (True, False):
        ablation, plan = staged(values_of([0.0, 0.0]), stop=stop)
        plan.train(6)
        assert set(ablation.estimate().main.state) == {"open"}
        plan.status, plan.is_stopped = "KILLED", True
        found = ablation.estimate()
        assert found.count("not trained") == 24 and found.count("failed") == 0 and found.is_complete
        assert set(found.main.state) == {"stopped"} and set(found.main.n) == {2}
        assert {finding.code for finding in found.findings} == {"DLS563", "DLS568"}
        assert "24 were not trained" in found.summary[0]


def test_without_stopping_nothing_is_said_before_the_end(studio_home: Path) -> None:
    ablation, plan = staged(values_of([0.5, 0.0], 8), stop=False)
    plan.train(12)
    found = ablation.estimate()
    assert set(found.main.verdict) == {"not enough data"} and set(found.main.n) == {4} and not found.findings
    assert found.summary[0] == "Nothing is judged so far (12 of 24 runs are done)."
    assert all("not judged before its last seed" in sentence for sentence in found.main.sentence)
    plan.train(12)
    assert ablation.estimate().main.verdict[0] == "better"


def test_a_metric_that_no_run_has_ends_it(studio_home: Path) -> None:
    ablation, plan = staged(values_of([0.1]))
    plan.latest_name = "acu"
    ablation.spare()
    assert not plan.is_stopped
    plan.train(1)
    ablation.spare()
    assert plan.is_stopped
    plan.states, plan.status = ["COMPLETE"] + ["FAIL"] * (len(plan.states) - 1), "KILLED"
    found, said = ablation.estimate(), "'auc' was never logged; did you mean 'acu'?"
    assert found.runs.reason[0] == said == ablation.reason
    assert found.summary == (said, "1 of 20 planned runs had been trained by then.")
    assert [(finding.code, finding.sentence) for finding in found.findings] == [("DLS564", said)]


def test_a_metric_that_some_run_has_ends_nothing(studio_home: Path) -> None:
    values = values_of([0.1])
    values[0, 0] = math.nan
    ablation, plan = staged(values)
    plan.train(1)
    ablation.spare()
    assert not plan.is_stopped  # logged, but no number
    plan.train(1)
    plan.latest_name = "acu"
    assert ablation.estimate().runs.state[1] == "failed"
    other, others_plan = staged(values_of([0.1]))
    others_plan.train(1)
    assert other.estimate().count("complete") == 1
    others_plan.latest_name = "acu"
    others_plan.train(1)
    other.spare()
    assert not others_plan.is_stopped


def test_a_run_with_a_value_that_is_not_finite_counts_as_failed(studio_home: Path) -> None:
    values = values_of([0.1, 0.0], 6)
    values[1, 0] = math.inf
    ablation, plan = staged(values)
    found = see_through(ablation, plan)
    assert found.runs.state[1] == "failed" and "inf" in found.runs.reason[1]
    assert found.main.n[0] <= 5


def test_runs_that_do_not_compare_are_named(studio_home: Path) -> None:
    ablation, plan = staged(values_of([0.1, 0.0], 4), names=["data", "epochs"])  # cells: full, data, epochs; by seed
    for seed in range(4):
        plan.data |= {3 * seed: f"split {seed}", 3 * seed + 1: f"split {seed}", 3 * seed + 2: f"split {seed}"}
    plan.train(3)
    codes = {finding.code for finding in ablation.estimate().findings}
    assert not codes & {"DLS569", "DLS570"}  # each seed has a split of its own, and all runs of it the same
    plan.data |= {4: "other"}
    plan.steps |= {5: 50}
    plan.train(2)
    (data,) = [finding for finding in ablation.estimate().findings if finding.code == "DLS569"]
    assert data.severity == "critical"
    assert "0, 1 and 2 on split 0; 0 on split 1; 1 on other" in data.sentence
    assert "DLS570" not in {finding.code for finding in ablation.estimate().findings}
    plan.train(1)
    codes = {finding.code: finding for finding in ablation.estimate().findings}
    assert codes["DLS570"].sentence.endswith("steps: 0 100, 1 100 and 2 50 to 100.")


def test_equal_values_of_a_coarse_metric_are_no_equal_runs(studio_home: Path) -> None:
    values = np.tile([0.5, 0.75, 0.625, 0.875, 0.75, 0.5], (3, 1))  # accuracies of eight rows
    ablation, plan = staged(values, names=["coarse", "inert"])
    plan.more = {
        item: {"val/loss": 0.5 + (0.01 if item % 3 == 1 else 0.0), "phase/data_ms": item} for item in range(18)
    }
    plan.train(6)
    main = ablation.estimate().main.set_index("factor")
    assert main.same.to_dict() == {"coarse": False, "inert": True}
    assert main.state.to_dict() == {"coarse": "open", "inert": "hopeless"}
    assert "on average what it is without it" in main.sentence["coarse"]
    assert "exactly what it is without it" in main.sentence["inert"]
    warned = [finding for finding in ablation.estimate().findings if finding.code == "DLS566"]
    assert [finding.evidence["factors"] for finding in warned] == [["inert"]] and "coarse" not in warned[0].sentence


# -- from end to end ---------------------------------------------------------------------------------------------------


def processes(home: Path, module: str) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter(["cmdline"]):
        command = process.info["cmdline"] or []
        if f"dlstudio.tuning.{module}" in command and str(home) in " ".join(command):
            found.append(process)
    return found


@pytest.fixture
def leaves_nothing_behind(studio_home: Path) -> Any:
    yield
    left = [process for module in ("steward", "coordinator", "worker") for process in processes(studio_home, module)]
    for process in left:
        process.kill()


@pytest.mark.usefixtures("leaves_nothing_behind")
def test_an_ablation_of_a_recipe_that_loses_its_steward_and_is_stopped(studio_home: Path) -> None:
    recipe = Recipe(data="digits", epochs=1, lr=0.01, clip_norm=1e9, device="cpu", seed=3)
    ablation = ablate(
        recipe,
        {"lr": 1e-7, "clipping": {"clip_norm": None}},
        metric="val/accuracy",
        seeds=7,
        name="end-to-end",
    )
    assert open_ablation("end-to-end").plan == ablation.plan
    with pytest.raises(DLStudioError, match="a search that is over"):
        ablate(resume="end-to-end")
    (steward,) = until(lambda: processes(studio_home, "steward"))
    steward.kill()
    until(lambda: ablation.plan.states.count("COMPLETE") >= 2)
    until(lambda: [one for one in processes(studio_home, "steward") if one.pid != steward.pid])

    ablation.stop()
    assert ablation.wait(60).status == "KILLED"
    stopped = ablation.estimate()
    assert stopped.count("failed") == 0 and stopped.count("not trained") >= 15 and stopped.is_complete
    assert set(stopped.main.state) == {"stopped"}
    codes = {finding.code: finding for finding in stopped.findings}
    assert "DLS564" not in codes and codes["DLS568"].remedy == "Continue it with dlstudio.ablate(resume='end-to-end')."
    assert f"{stopped.count('not trained')} were not trained" in stopped.summary[0]

    # It goes on where it was, with a steward, which spares what is decided and what is hopeless.
    again = ablate(resume="end-to-end", workers=2)
    assert again.plan == ablation.plan
    until(lambda: again.plan.states.count("COMPLETE") >= 10)
    again.pause()  # these runs are quicker than a steward that has to start on a busy machine
    until(lambda: again.plan.states.count("FAIL") >= 3)
    again.resume()
    assert again.wait(180).status == "FINISHED"
    found = open_ablation("end-to-end").estimate()
    main = found.main.set_index("factor")
    assert main.verdict["lr"] == "better" and main.difference["lr"] > 0.5
    assert main.same["clipping"] and "DLS566" in {finding.code for finding in found.findings}
    assert main.state.to_dict() == {"lr": "decided", "clipping": "hopeless"}
    assert found.n_saved >= 3 and found.count("complete") + found.n_saved == found.n_planned == 21
    assert "DLS568" not in {finding.code for finding in found.findings}
    rows = found.runs
    assert set(rows.seed) == set(range(3, 10))
    trained = rows[rows.state == "complete"]
    assert set(trained.data) == {dls.load_data("digits").fingerprint} and trained.n_steps.nunique() == 1
    for row, run in zip(rows.itertuples(), ablation.runs, strict=True):
        if row.state == "complete":
            assert run is not None and run.key == row.run and run.config["seed"] == row.seed
            assert row.value == run.state().latest["val/accuracy"]  # type: ignore[index]
            assert run.info["tags"]["variant"] == row.label
    view = dls.show("end-to-end")
    assert isinstance(view, AblationView) and view.result == found and all(one in repr(view) for one in found.summary)
    path = ablation.folder / "results" / "ablation.json"
    until(lambda: results.load(path).status == "FINISHED")
    assert results.load(path) == found
