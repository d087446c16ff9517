"""Curves of many runs: what is drawn lies on the log, bands are Student's, and nothing kept is ever stale."""

from __future__ import annotations

import json

import numpy as np
import pytest
from scipy import stats as reference

import dlstudio as dls
from dlstudio import results
from dlstudio.compare.compare import compare
from dlstudio.compare.curves import overlay, overlay_of
from dlstudio.compare.gather import gather
from dlstudio.compare.read_curves import read_curves
from dlstudio.figures.comparison import curves
from dlstudio.runs.folder import RunFolder
from dlstudio.runs.thinned import EVEN, SHOWN, thin, thinned
from dlstudio.telemetry.writer import TelemetryWriter
from dlstudio.tracking.catalogue import Catalogue
from dlstudio.tracking.home import find_home


def logged(name, values, *, variant="v", steps=None, begun=1000.0, every_s=1.0, epochs=None, key="loss"):
    """A finished run with one scalar, written as a recorder writes it."""
    folder = RunFolder.create(name, kind="record", config={}, tags={"variant": variant})
    steps = np.arange(1, len(values) + 1) if steps is None else steps
    writer = TelemetryWriter(folder.path / "telemetry")
    for start in range(0, len(values), 300):
        rows = []
        for i in range(start, min(start + 300, len(values))):
            more = epochs(steps[i]) if epochs else {}
            rows.append((int(steps[i]), begun + every_s * (i + 1), {key: float(values[i]), **more}))
        writer.scalars(rows)
    writer.close()
    folder.set_status("FINISHED", latest={key: float(values[-1])}, started=begun, step=int(steps[-1]))
    (folder.home / "active" / folder.key).unlink(missing_ok=True)
    return folder


@pytest.fixture
def generator():
    return np.random.default_rng(0)


def test_a_short_curve_is_kept_whole_and_a_long_one_keeps_its_extremes(generator):
    times = np.arange(10_000.0)
    short = thin(np.arange(100), times[:100], times[:100])
    assert short.even.shape == short.shown.shape == (3, 100)
    values = generator.standard_normal(10_000)
    values[1234], values[5678] = 40.0, np.nan
    curve = thin(np.arange(10_000), values, times)
    assert curve.n == 10_000 and curve.even.shape == (3, EVEN) and curve.shown.shape[1] <= SHOWN
    assert 1234.0 in curve.shown[0] and 5678.0 in curve.shown[0]
    for part in (curve.even, curve.shown):
        assert part[0, [0, -1]].tolist() == [0, 9999]
        np.testing.assert_array_equal(part[1], values[part[0].astype(int)])  # nothing is averaged or made up
    assert thin(np.array([3, 1, 2]), np.array([30.0, 10, 20]), times[:3]).even[:2].tolist() == [[1, 2, 3], [10, 20, 30]]


def test_what_is_kept_is_what_would_be_read_and_follows_the_log(fresh_home, generator):
    folder = logged("r", generator.standard_normal(1000))
    first, again = thinned(folder, "loss"), thinned(folder, "loss")
    assert (folder.home / "curves" / f"{folder.key}.bin").exists()
    np.testing.assert_array_equal(first.even, again.even)
    np.testing.assert_array_equal(first.shown, again.shown)
    assert thinned(folder, "nothing") is None
    writer = TelemetryWriter(folder.path / "telemetry", resumed_at=500)  # as a continued run does
    writer.scalars([(501, 1.0, {"loss": 7.0, "new": 1.0})])
    writer.close()
    grown = thinned(folder, "loss")
    assert grown.n == 501 and grown.even[1, -1] == 7.0 and thinned(folder, "new").n == 1
    (folder.home / "curves" / f"{folder.key}.bin").write_bytes(b"damaged")
    np.testing.assert_array_equal(thinned(folder, "loss").even, grown.even)


def test_a_home_that_cannot_be_written_only_costs_time(fresh_home, generator):
    folder = logged("r", generator.standard_normal(10))
    (folder.home / "curves").write_text("a file where the folder should be")
    assert thinned(folder, "loss").n == 10


def test_bands_are_students_intervals_of_the_runs_at_each_place(fresh_home, generator):
    values = generator.standard_normal((5, 50))
    for at, row in enumerate(values):
        logged(f"r{at}", row, variant="A" if at < 3 else "B")
    found = overlay(None, "loss")
    assert found.grid.tolist() == list(range(1, 51)) and len(found) == 5
    bands = found.bands
    for name, rows in (("A", values[:3]), ("B", values[3:])):
        own = bands[bands["variant"] == name]
        np.testing.assert_allclose(own["mean"], rows.mean(axis=0))
        low, high = reference.t.interval(0.95, len(rows) - 1, rows.mean(axis=0), reference.sem(rows, axis=0))
        np.testing.assert_allclose(own["low"], low)
        np.testing.assert_allclose(own["high"], high)
        assert (own["n"] == len(rows)).all()
    frame = found.frame()
    assert list(frame) == ["variant", "run", "key", "x", "y"] and len(frame) == 250
    np.testing.assert_array_equal(found.points(found.keys[0])[1], values[int(found.names[0][1:])])


def test_runs_of_other_lengths_and_steps_take_the_latest_value_they_had(fresh_home):
    logged("a", np.array([1.0, 2.0, 3.0]), steps=np.array([10, 20, 30]))
    logged("b", np.array([5.0, 7.0]), steps=np.array([5, 20]))
    found = overlay(["a", "b"], "loss")
    assert found.grid.tolist() == [5, 10, 20, 30]
    np.testing.assert_array_equal(found.on_grid, [[np.nan, 1, 2, 3], [5, 5, 7, np.nan]])
    assert found.bands["n"].tolist() == [1, 2, 2, 1]
    assert found.bands["low"].isna().tolist() == [True, False, False, True]


def test_long_runs_meet_on_two_hundred_places(fresh_home):
    slope = np.arange(4000.0)
    logged("a", slope)
    logged("b", slope[:2000] + 1)
    found = overlay(["a", "b"], "loss")
    assert len(found.grid) == 200 and found.grid[[0, -1]].tolist() == [1, 4000]
    # The latest kept value is at most one gap between kept points old: 4000 / EVEN steps.
    assert np.abs(found.on_grid[0] - (found.grid - 1)).max() <= 4000 / EVEN + 1
    assert np.isfinite(found.on_grid[1]).sum() == (found.grid <= 2000).sum()


def test_by_epoch_and_by_wall_time(fresh_home):
    def first_of(batches):
        return lambda step: {"epoch": float((step - 1) // batches + 1)} if (step - 1) % batches == 0 else {}

    logged("small", np.arange(40.0), epochs=first_of(10), begun=1000.0, every_s=2.0)
    logged("large", np.arange(20.0), epochs=first_of(5), begun=5000.0, every_s=8.0)
    epochs = overlay(["small", "large"], "loss", align="epoch")
    np.testing.assert_allclose(epochs.points(epochs.keys[0])[0], np.arange(1, 41) / 10)
    np.testing.assert_allclose(epochs.points(epochs.keys[1])[0], np.arange(1, 21) / 5)
    wall = overlay(["small", "large"], "loss", align="wall")
    np.testing.assert_allclose(wall.points(wall.keys[0])[0], np.arange(1, 41) * 2.0)
    np.testing.assert_allclose(wall.points(wall.keys[1])[0], np.arange(1, 21) * 8.0)
    logged("none", np.arange(5.0))
    assert overlay(["small", "none"], "loss", align="epoch").left_out == (("none", "logged no epochs"),)
    with pytest.raises(dls.DLStudioError, match="epoch"):
        overlay(["none"], "loss", align="epoch")


def test_epochs_of_a_real_run_end_at_whole_numbers(fresh_home):
    dls.fit(dls.Recipe(data="mortgage", model="mlp", epochs=3, name="real"), progress=False)
    found = overlay(["real"], "val/loss", align="epoch")
    assert found.points(found.keys[0])[0].tolist() == [1, 2, 3]
    one = dls.fit(dls.Recipe(data="mortgage", model="mlp", epochs=1, name="one"), progress=False)
    assert overlay([one], "val/loss", align="epoch").points(one.key)[0].tolist() == [1]


def test_filters_give_what_an_overlay_of_these_runs_gives(fresh_home, generator):
    for at in range(6):
        logged(f"r{at}", generator.standard_normal(30), variant="AB"[at % 2])
    every = overlay(None, "loss")
    only = every.only(variants=["B"])
    assert only.names == ("r1", "r3", "r5")
    assert only == overlay(["r1", "r3", "r5"], "loss")
    assert every.only(runs=only.keys[:1]).names == ("r1",)
    regrouped = every.regroup({key: name for key, name in zip(every.keys, every.names, strict=True)})
    assert regrouped.bands["variant"].nunique() == 6
    with pytest.raises(dls.DLStudioError, match="variant"):
        every.only(variants=["C"])
    with pytest.raises(dls.DLStudioError, match="every run"):
        every.regroup({})


def test_a_run_that_diverged_is_named_and_not_averaged(fresh_home):
    logged("good", np.ones(10), variant="A")
    logged("bad", np.array([1.0] * 5 + [np.nan] * 3 + [np.inf] * 2), variant="A")
    logged("other", np.ones(10), variant="B")
    found = overlay(["good", "bad", "other"], "loss")
    assert [finding.code for finding in found.findings] == ["DLS513"]
    assert found.findings[0].evidence == {"n_runs": 1, "n_of_variant": 2}
    assert found.bands.query("variant == 'A'")["n"].tolist() == [2] * 5 + [1] * 5
    assert found.only(variants=["B"]).findings == ()
    logged("lost", np.full(10, np.nan), variant="C")
    lost = overlay(["good", "lost"], "loss")
    assert [len(trace.x) for trace in curves(lost).data] == [10, 0] and "C" not in lost.summary[1]


def test_runs_without_the_scalar_are_left_out_and_a_wrong_name_gets_the_nearest(fresh_home, tmp_path):
    logged("a", np.ones(3))
    logged("b", np.ones(3), key="other")
    found = overlay(["a", "b"], "loss")
    assert found.left_out == (("b", "logged nothing as 'loss'"),)
    assert results.load(results.save(found, tmp_path, "overlay")) == found
    with pytest.raises(dls.DLStudioError, match="'loss'"):
        overlay(["a", "b"], "los")
    with pytest.raises(dls.DLStudioError, match="'epoch'"):
        overlay(["a"], "loss", align="epochs")
    with pytest.raises(dls.DLStudioError, match="level"):
        overlay(["a"], "loss", level=95)


def test_a_comparison_brings_its_variants(fresh_home):
    for seed in range(2):
        for name in ("A", "B"):
            logged(f"{name}{seed}", np.full(5, float(seed)), variant=name)
    comparison = compare(None, metric="loss")
    found = overlay(comparison, "loss")
    assert sorted(zip(found.names, found.variants, strict=True)) == [("A0", "A"), ("A1", "A"), ("B0", "B"), ("B1", "B")]
    logged("A9", np.full(5, 9.0), variant="A").set_status("FAILED", reason="broke")
    logged("A2", np.full(5, 1.0), variant="A")
    comparison = compare(None, metric="loss")
    found = overlay(comparison, "loss")
    # A band is of the runs that the table is of.
    assert [found.variants.count(name) for name in "AB"] == [3, 2] and "A9" not in found.names
    assert [comparison[name].n for name in "AB"] == [3, 2] and dict(found.left_out)["A9"] == "failed: broke"
    assert found.bands.query("variant == 'A'")["n"].tolist() == [3] * 5
    with pytest.raises(dls.DLStudioError, match="plain values"):
        overlay(compare({"A": [0.1, 0.2], "B": [0.3, 0.4]}, metric="loss"), "loss")


def test_an_older_run_of_a_seed_is_in_no_band(fresh_home):
    for name, seed, value in (("old", 0, 9.0), ("new", 0, 1.0), ("other", 1, 3.0)):
        folder = logged(name, np.full(5, value), variant="A")
        info = json.loads((folder.path / "run.json").read_text())
        (folder.path / "run.json").write_text(json.dumps(info | {"config": {"seed": seed}}))
    comparison = compare(None, metric="loss")
    found = overlay(comparison, "loss")
    assert found.names == ("new", "other") and comparison["A"].n == 2
    assert found.bands["mean"].tolist() == [comparison["A"].mean] * 5 == [2.0] * 5
    assert "2 runs of 1 variant" in found.summary[0] and "A 2 (n = 2)" in found.summary[1]


def test_curves_that_were_read_serve_every_filter(fresh_home, generator):
    for at in range(6):
        logged(f"r{at}", generator.standard_normal(300 if at < 4 else 30), variant="AB"[at % 2])
    runs = gather(None)[0]
    read = read_curves(runs, "loss")
    for few in (runs, runs[4:], runs[1::2]):
        comparison = compare(few, metric="loss")
        assert overlay_of(comparison, read, "loss") == overlay(comparison, "loss")
    short = overlay_of(compare(runs[4:], metric="loss"), read, "loss")
    assert short.grid.tolist() == list(range(1, 31)), "as fine as if only these had been read"
    with pytest.raises(dls.DLStudioError, match="'loss'"):
        overlay_of(compare(runs, metric="loss"), read_curves(runs, "los"), "los")


def test_a_run_of_anything_in_mlflow(fresh_home):
    client = Catalogue(find_home()).client
    run = client.create_run(client.create_experiment("lightning-like"), run_name="lightning")
    for step in range(5):
        value = np.inf if step == 3 else step / 10
        client.log_metric(run.info.run_id, "val_loss", value, step=step, timestamp=1000 * step)
    client.set_terminated(run.info.run_id)
    found = overlay([run.info.run_id], "val_loss")
    assert found.points(run.info.run_id)[1].tolist() == [0.0, 0.1, 0.2, np.inf, 0.4]
