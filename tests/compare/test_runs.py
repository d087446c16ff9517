"""Runs compared: those of the home from their files, and any that MLflow knows."""

from __future__ import annotations

import dataclasses
import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import dlstudio as dls
from dlstudio.compare.variants import group, seed_of
from dlstudio.errors import DLStudioError
from dlstudio.runs.run import Run
from dlstudio.training import predicted
from tests.compare.conftest import Write


def two_variants(write: Write, n: int = 7, **options: Any) -> None:
    rng = np.random.default_rng(0)
    for seed in range(n):
        base = 0.8 + rng.normal(0, 0.01)
        for k, variant in enumerate(("narrow", "wide")):
            value = base + 0.03 * k + rng.normal(0, 0.002)
            write(
                f"{variant}-s{seed}", {"val/auc": value, "val/loss": 1 - value}, seed=seed, variant=variant, **options
            )


def test_runs_are_compared_by_variant_over_their_seeds(write: Write) -> None:
    two_variants(write)
    c = dls.compare(metric="val/auc")
    assert c.best == "wide" and c.pairing == "seed" and c["wide"].seeds == tuple(range(7))
    assert c["wide"].n_steps == (100,) and c["wide"].fingerprints == ("d1",) and not c.findings
    assert len(c.runs) == 14 and {"name", "key", "variant", "seed", "status", "value", "config.variant"} <= set(c.runs)
    assert dls.compare().metric == "val/loss" and dls.compare().best == "wide"
    names = [f"{v}-s{s}" for v in ("wide", "narrow") for s in range(7)]
    assert dls.compare(names, metric="val/auc").pairs["p_value"].tolist() == c.pairs["p_value"].tolist()
    handles = [dls.open_run(name) for name in names]
    grouped = dls.compare({"a": handles[:7], "b": handles[7:]}, metric="val/auc")
    assert [v.name for v in grouped.variants] == ["a", "b"] and grouped.best == "a"


def test_without_labels_what_differs_names_a_variant(write: Write) -> None:
    for seed in range(3):
        for lr in (0.001, 0.01):
            write(f"r{lr}-{seed}", {"val/auc": 0.8 + lr + seed / 100}, seed=seed, lr=lr, epochs=3, device="cpu")
    c = dls.compare(metric="val/auc")
    assert [v.name for v in c.variants] == ["lr=0.001", "lr=0.01"] and c["lr=0.01"].seeds == (0, 1, 2)
    assert c["lr=0.01"].config == {"lr": 0.01, "epochs": 3, "device": "cpu"}
    assert [v.name for v in dls.compare(metric="val/auc", by="lr").variants] == ["lr=0.001", "lr=0.01"]
    with pytest.raises(DLStudioError, match="Did you mean 'epochs'"):
        dls.compare(metric="val/auc", by="epoch")


def test_in_a_grid_each_other_setting_is_a_block(write: Write) -> None:
    for seed in range(3):
        for lr in (0.001, 0.01):
            for batch in (32, 64):
                write("r", {"val/auc": 0.8 + 10 * lr + batch / 1e3 + seed / 1e3}, seed=seed, lr=lr, batch_size=batch)
    c = dls.compare(metric="val/auc", by="lr")
    pair = c.comparisons[0]
    assert pair.n == 6 and pair.difference == pytest.approx(0.09) and not c.left_out
    assert "DLS506" in {finding.code for finding in c.findings}


def test_runs_that_cannot_be_used_are_left_out_with_the_reason(write: Write) -> None:
    two_variants(write, n=4)
    write("diverged", {"val/auc": math.nan}, seed=4, variant="wide")
    write("exploded", {"val/auc": math.inf}, seed=5, variant="wide")
    write("young", {"val/auc": 0.5}, seed=6, variant="wide", status="RUNNING", step=3)
    write("broken", {"val/auc": 0.5}, seed=7, variant="wide", status="FAILED")
    write("other", {"val/mae": 0.5}, seed=8, variant="wide")
    old = write("again", {"val/auc": 0.99}, seed=9, variant="wide")
    write("again", {"val/auc": 0.83}, seed=9, variant="wide")
    c = dls.compare(metric="val/auc")
    why = dict(c.left_out)
    assert set(why) == {"diverged", "exploded", "young", "broken", "other", "again"}
    assert "NaN" in why["diverged"] and "infinite" in why["exploded"] and why["other"] == "no val/auc"
    assert why["broken"].startswith("failed") and "same seed" in why["again"]
    assert old not in c["wide"].runs and c["wide"].n == 5
    # What ended without the metric was never one of these; what still goes on or failed lacks its seed.
    assert c["narrow"].missing_seeds == (4, 5, 6, 7, 9) and c["wide"].missing_seeds == (4, 5, 6, 7)
    left = c.runs.set_index("name").loc["broken", "value"]
    assert math.isnan(left)


def test_runs_of_other_data_or_lengths_are_warned_of(write: Write) -> None:
    for seed in range(3):
        write("a", {"val/auc": 0.8 + seed / 100}, seed=seed, variant="a")
        write("b", {"val/auc": 0.8 + seed / 90}, seed=seed, variant="b", fingerprint="d2", step=200)
    findings = {finding.code: finding for finding in dls.compare(metric="val/auc").findings}
    assert findings["DLS501"].severity == "critical" and "d2" in findings["DLS501"].evidence
    assert findings["DLS502"].evidence == {"a": [100], "b": [200]}
    assert any("Not comparable" in said for said in dls.compare(metric="val/auc").recommend().would_change)


def test_a_split_of_its_own_for_every_seed_is_comparable(write: Write) -> None:
    for seed in range(3):
        for variant in "ab":
            write(variant, {"val/auc": 0.8 + seed / 100}, seed=seed, variant=variant, fingerprint=f"split-{seed}")
    assert "DLS501" not in {finding.code for finding in dls.compare(metric="val/auc").findings}


def test_runs_without_the_metric_name_no_variant(write: Write, fresh_home: Path) -> None:
    for seed in range(3):
        for lr in (0.001, 0.01):
            write(f"r{lr}-{seed}", {"val/auc": 0.8 + lr + seed / 100}, seed=seed, lr=lr)
    write("tokens", {"val/ppl": 12.0}, seed=77, depth=3, data="text")
    write("young", {}, seed=78, lr=0.5, status="FAILED")
    parent = write("search", {"val/auc": 0.99}, trials=9)
    info = fresh_home / "runs" / parent / "run.json"
    info.write_text(json.dumps(json.loads(info.read_text()) | {"kind": "search"}))
    c = dls.compare(metric="val/auc")
    assert [v.name for v in c.variants] == ["lr=0.001", "lr=0.01"] and not any(v.missing_seeds for v in c.variants)
    assert dict(c.left_out) == {"tokens": "no val/auc", "young": "failed"}
    write("slow", {}, seed=9, lr=0.01, status="FAILED")
    by = dls.compare(metric="val/auc", by="config.lr")
    assert [v.name for v in by.variants] == ["lr=0.001", "lr=0.01"] and by["lr=0.001"].missing_seeds == (9,)
    with pytest.raises(DLStudioError, match="Did you mean 'val/auc'"):
        dls.compare(metric="auc")


def test_runs_may_be_mapped_by_their_names(write: Write) -> None:
    two_variants(write, n=3)
    names = {v: [f"{v}-s{s}" for s in range(3)] for v in ("narrow", "wide")}
    c = dls.compare(names, metric="val/auc")
    handles = {v: [dls.open_run(name) for name in several] for v, several in names.items()}
    assert c == dls.compare(handles, metric="val/auc") and c["wide"].seeds == (0, 1, 2)
    assert c == dls.compare({v: iter(several) for v, several in handles.items()}, metric="val/auc")
    alone = dls.compare({"narrow": "narrow-s1", "wide": "wide-s1"}, metric="val/auc")
    assert alone["wide"].seeds == (1,) and alone["narrow"].values == c["narrow"].values[1:2]
    with pytest.raises(DLStudioError, match="Did you mean 'wide-s1'"):
        dls.compare({"narrow": "narrow-s1", "wide": "wide-s1x"}, metric="val/auc")


def test_runs_that_are_mapped_lose_none_and_hide_nothing(write: Write) -> None:
    names: dict[str, list[str]] = {"relu": [], "gelu": []}
    for act, several in names.items():
        for lr in (0.001, 0.01):
            for seed in range(2):
                several.append(f"{act}-{lr}-{seed}")
                write(several[-1], {"val/auc": 0.8 + lr + seed / 100}, seed=seed, lr=lr, act=act)
    c = dls.compare(names, metric="val/auc")
    by = dls.compare(metric="val/auc", by="act")
    assert [v.n for v in c.variants] == [4, 4] and not c.left_out and c["relu"].mixed == ("lr",)
    assert [v.values for v in c.variants] == [v.values for v in by.variants]
    assert {finding.code for finding in c.findings} == {finding.code for finding in by.findings} == {"DLS506"}


@pytest.mark.parametrize("metric", ["best/val/loss", "train/loss", "loss", "latency_ms"])
def test_what_is_no_metric_of_stored_rows_is_compared_as_it_was_logged(write: Write, metric: str) -> None:
    for lr in (0.001, 0.01):
        write(f"r{lr}", {metric: 7 + lr}, seed=0, lr=lr)
    c = dls.compare(metric=metric)
    assert c.metric == metric and c.pairing == "none" and [v.mean for v in c.variants] == [7.001, 7.01]
    assert "DLS508" not in {finding.code for finding in c.findings}


def test_runs_that_differ_in_nothing_recorded_can_be_named(write: Write) -> None:
    for name in ("small-0", "small-1", "big-0", "big-1"):
        write(name, {"val/auc": 0.8}, seed=int(name[-1]))
    c = dls.compare(metric="val/auc")
    (left_out,) = [finding for finding in c.findings if finding.code == "DLS504"]
    assert len(c.variants) == 1 and "has the same seed" in left_out.sentence and "compare({" in left_out.remedy
    each = dls.compare(metric="val/auc", by="run")
    assert len(each.variants) == 4
    assert {finding.code for finding in each.findings}.isdisjoint({"DLS503", "DLS504"}), "no run lacks another's seed"


def test_only_rows_whose_predictions_are_stored_can_be_asked_for(write: Write) -> None:
    write("one", {"train/loss": 0.5, "val/loss": 0.5}, seed=0, lr=0.1)
    write("two", {"train/loss": 0.4, "val/loss": 0.4}, seed=0, lr=0.2)
    for metric in ("train/loss", "best/val/loss"):
        with pytest.raises(DLStudioError, match="Try metric='test/loss'"):
            dls.compare(metric=metric, by="example")
    notes = [one.sentence for one in dls.compare(metric="val/loss").findings if one.code == "DLS508"]
    assert len(notes) == 1 and "not compared row by row, which takes a run that stored its predictions" in notes[0]


def test_a_timer_does_not_decide_between_equals(write: Write) -> None:
    for seed in range(5):
        for variant, ms, n in (("a", 0.0435, 900.0), ("b", 0.0431, 1000.0), ("c", 5.0, 10.0)):
            value = 0.8 + seed / 100 + (-1) ** seed * 0.001 * (variant == "b")
            write(variant, {"val/auc": value}, seed=seed, variant=variant,
                  measures={"latency_ms": ms, "n_parameters": n})  # fmt: skip
    c = dls.compare(metric="val/auc")
    assert c.recommend().variant == "a"  # as fast as b, and smaller
    assert c.recommend(prefer="n_parameters").variant == "c"
    r = c.recommend({"n_parameters": (50, None)}, prefer="latency_ms")
    assert "equal in cost" in r.sentence and r.variant == next(v.name for v in c.ranked if v.name != "c")
    least = c.recommend({"val/auc": 0.9})  # of what should be high, the least
    assert least.variant is None and "below 0.9" in least.sentence
    assert c.recommend({"val/auc": 0.5}).variant == "a"


def test_one_seed_each_is_told_to_take_more_seeds() -> None:
    said = dls.compare({"A": [0.8], "B": [0.82]}, metric="auc").recommend().would_change
    assert any("two more seeds of each of" in one for one in said) and not any("margin" in one for one in said)
    several = dls.compare({"A": [0.8, 0.7, 0.9], "B": [0.82, 0.7, 0.85]}, metric="auc").recommend().would_change
    assert any("margin" in one for one in several)


def test_constraints_are_a_mapping() -> None:
    with pytest.raises(DLStudioError, match="constraints as a mapping"):
        dls.compare({"A": [0.8], "B": [0.82]}, metric="auc").recommend("latency_ms")  # type: ignore[arg-type]


def test_means_that_contradict_the_pairs_are_explained() -> None:
    shared = {0: 0.80, 1: 0.81, 2: 0.82}
    b = {seed: value - 0.01 for seed, value in shared.items()} | {3: 0.95, 4: 0.95}
    c = dls.compare({"A": shared, "B": b}, metric="auc")
    assert c.ranked[0].name == "B" and c.comparisons[0].difference < 0
    assert any("Pairs rest on shared seeds only" in finding.sentence for finding in c.findings)
    b = {seed: value - 0.01 for seed, value in shared.items()} | {3: 0.5, 4: 0.5}
    c = dls.compare({"A": shared, "B": b}, metric="auc")
    assert not any("shared seeds only" in finding.sentence for finding in c.findings)


def test_names_that_are_not_there_are_refused(write: Write) -> None:
    two_variants(write, n=2)
    with pytest.raises(DLStudioError, match="Did you mean 'val/auc'"):
        dls.compare(metric="val/acu")
    with pytest.raises(DLStudioError, match="Did you mean 'wide-s1'"):
        dls.compare(["wide-s1x"], metric="val/auc")
    c = dls.compare(["wide-s0", "wide-s0", "narrow-s0"], metric="val/auc")
    assert c.left_out == (("wide-s0", "listed twice"),) and c["wide"].n == 1


def test_an_empty_home_and_runs_that_go_on_are_refused(write: Write) -> None:
    with pytest.raises(DLStudioError, match="runs to compare"):
        dls.compare(metric="val/auc")
    write("young", {"val/auc": 0.5}, status="QUEUED")
    with pytest.raises(DLStudioError, match="without"):
        dls.compare(metric="val/auc")


def test_constraints_and_cost_decide_where_evidence_does_not(write: Write) -> None:
    rng = np.random.default_rng(1)
    latency = {"small": 2.0, "large": 7.0, "weak": 1.0}
    for seed in range(7):
        base = 0.8 + rng.normal(0, 0.01)
        for variant, ms in latency.items():
            value = base - 0.1 * (variant == "weak") + rng.normal(0, 0.003)
            write(variant, {"val/auc": value}, seed=seed, variant=variant, measures={"latency_ms": ms})
    c = dls.compare(metric="val/auc")
    r = c.recommend()
    assert r.variant == "small" and not r.is_shown and r.undecided == ("large",) and "latency_ms" in r.sentence
    assert c.recommend(prefer="val/auc").variant == c.ranked[0].name
    only = c.recommend({"latency_ms": (None, 1.5)})
    assert only.variant == "weak" and dict(only.excluded).keys() == {"small", "large"}
    assert any("would be recommended, but latency_ms is" in said for said in only.would_change)
    none = c.recommend({"latency_ms": 0.5})
    assert none.variant is None and "none meets every constraint" in none.sentence
    frame = c.recommend({"latency_ms": 5}).frame().set_index("variant")
    assert frame.loc["large", "excluded"] == "latency_ms is 7, above 5" and frame.loc["small", "recommended"]
    assert c.runs.set_index("variant").loc["small", "latency_ms"].tolist() == [2.0] * 7


def test_a_thousand_runs_need_neither_mlflow_nor_torch(write: Write, fresh_home: Path) -> None:
    for k in range(1000):
        write(f"r{k}", {"val/auc": 0.8 + (k * 37 % 100) / 1e3}, seed=k // 10, variant=f"v{k % 10}")
    script = (
        "import sys, dlstudio as dls; c = dls.compare(metric='val/auc');"
        "assert len(c.variants) == 10 and c.variants[0].n == 100 and len(c.comparisons) == 45;"
        "print([m for m in ('mlflow', 'torch', 'pandas', 'plotly') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout.strip() == "[]"


@pytest.fixture(scope="module")
def trained() -> dict[str, Run]:
    recipes = {
        "one-lr": dls.Recipe(data="mortgage", epochs=2, lr=1e-3),
        "other-lr": dls.Recipe(data="mortgage", epochs=2, lr=3e-3),
        "other-data": dls.Recipe(data="digits", epochs=1),
    }  # fmt: skip
    return {name: dls.fit(recipe, progress=False, name=name) for name, recipe in recipes.items()}


def test_one_run_each_is_compared_by_its_rows(trained: dict[str, Run]) -> None:
    pair = [trained["one-lr"], trained["other-lr"]]
    c = dls.compare(pair, metric="test/auc")
    assert c.pairing == "example" and c.split == "test" and c.data == "mortgage"
    assert [v.name for v in c.variants] == ["lr=0.001", "lr=0.003"]
    codes = {finding.code for finding in c.findings}
    assert {"DLS505", "DLS508"} <= codes and c.comparisons[0].test == "DeLong"
    assert c["lr=0.001"].mean == pytest.approx(pair[0].state().latest["test/auc"], abs=1e-6)
    bare = dls.compare(pair, metric="auc", by="example")  # no run logged "auc"; its predictions give it
    assert bare.variants[0].mean == pytest.approx(c["lr=0.001"].mean) and not bare.left_out
    assert bare.runs["value"].tolist() == pytest.approx([v.mean for v in bare.variants])
    assert bare.metric == "test/auc" and bare.split == "test"
    named = dls.compare(pair, metric="val/accuracy", by="example")
    assert [v.name for v in named.variants] == ["one-lr", "other-lr"] and named.comparisons[0].test == "McNemar"
    assert trained["one-lr"].folder.joinpath("data.json").exists()
    assert c["lr=0.001"].fingerprints == c["lr=0.003"].fingerprints != ()


def test_scores_that_are_no_probabilities_are_not_compared(
    trained: dict[str, Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those of thresholds by group rank within groups only; the decisions can be compared as any."""
    read = predicted.predictions_of
    monkeypatch.setattr(
        predicted, "predictions_of", lambda *a: dataclasses.replace(read(*a), scores_are_probabilities=False)
    )
    pair = [trained["one-lr"], trained["other-lr"]]
    assert dls.compare(pair, metric="test/accuracy", by="example").comparisons[0].test == "McNemar"
    for metric in ("test/auc", "test/log_loss"):
        with pytest.raises(DLStudioError, match="probabilities of one-lr and other-lr"):
            dls.compare(pair, metric=metric, by="example")


def test_rows_of_other_data_cannot_be_paired(trained: dict[str, Run]) -> None:
    pair = [trained["one-lr"], trained["other-data"]]
    with pytest.raises(DLStudioError, match="predictions of the same rows"):
        dls.compare(pair, metric="test/accuracy", by="example")
    c = dls.compare(pair, metric="test/accuracy")
    assert c.pairing == "none" and c.comparisons[0].verdict == "not enough data"
    assert any("not compared row by row" in finding.sentence for finding in c.findings)
    assert "DLS501" in {finding.code for finding in c.findings}


def test_the_best_value_is_read_where_it_is_asked_for(trained: dict[str, Run]) -> None:
    run = trained["one-lr"]
    c = dls.compare([run], metric="val/loss", value="best")
    assert c.variants[0].values == (float(run.scalars("val/loss")[1].min()),)


def test_runs_of_any_mlflow_experiment(fresh_home: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
    import mlflow
    from sklearn.linear_model import LogisticRegression
    from sklearn.tree import DecisionTreeClassifier

    uri = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(f"sqlite:///{tmp_path / 'mlflow.db'}")
    experiment = mlflow.create_experiment("sklearn", artifact_location=(tmp_path / "artifacts").as_uri())
    rng = np.random.default_rng(0)
    inputs = rng.normal(size=(200, 5))
    targets = (inputs[:, 0] + rng.normal(size=200) > 0).astype(int)
    mlflow.sklearn.autolog(log_models=False, log_datasets=True, silent=True)
    try:
        for seed in range(3):
            for model in (
                LogisticRegression(random_state=seed),
                DecisionTreeClassifier(max_depth=1, random_state=seed),
            ):
                with mlflow.start_run(experiment_id=experiment):
                    model.fit(inputs, targets)
                    mlflow.log_metric("test_auc", 0.8 + seed / 100 + 0.02 * (model.__class__ is LogisticRegression))
        with mlflow.start_run(experiment_id=experiment):
            mlflow.log_metric("test_auc", math.inf)
    finally:
        mlflow.sklearn.autolog(disable=True, silent=True)
        mlflow.set_tracking_uri(uri)
    c = dls.compare("metrics.test_auc > 0", metric="test_auc")
    assert {v.name: v.seeds for v in c.variants} == {
        "LogisticRegression": (0, 1, 2), "DecisionTreeClassifier": (0, 1, 2), "no estimator_name": (),
    }  # fmt: skip
    assert [why for _, why in c.left_out] == ["test_auc is infinite"]  # which MLflow stores as a large number
    assert c.pair("DecisionTreeClassifier", "LogisticRegression").difference == pytest.approx(-0.02)
    assert c["LogisticRegression"].fingerprints and "DLS501" not in {finding.code for finding in c.findings}
    by_id = dls.compare(list(c["LogisticRegression"].runs), metric="test_auc", value="best")
    assert by_id.variants[0].values == c["LogisticRegression"].values
    with pytest.raises(DLStudioError, match="a filter that MLflow reads"):
        dls.compare("params.x == = 3", metric="test_auc")
    with pytest.raises(DLStudioError, match="none by"):
        dls.compare("params.x = 'y'", metric="test_auc")


def test_seeds_are_found_under_their_usual_names() -> None:
    from dlstudio.compare.gather import Gathered

    def run(**config: Any) -> Gathered:
        return Gathered(key=str(config), name="r", status="FINISHED", config=config, tags={}, metrics={})

    assert [seed_of(run(seed=3)), seed_of(run(random_state="4")), seed_of(run(random_state=None)), seed_of(run())] == [
        3, 4, None, None
    ]  # fmt: skip
    runs = [run(model="cnn", depth=d, seed=s) for d in (1, 2) for s in (0, 1)]
    assert [(g.name, len(g.runs)) for g in group(runs)] == [("depth=1", 2), ("depth=2", 2)]
    assert [g.name for g in group(runs[:2])] == ["cnn"]
