"""A summary states what was recorded, exactly, however it was recorded and however long it was."""

from __future__ import annotations

import math
import tracemalloc

import numpy as np
import pandas as pd
import pytest

from dlstudio import results
from dlstudio.runs.recorder import record
from dlstudio.runs.run import open_run
from dlstudio.summary.curves import CurveBuilder, LayersBuilder
from dlstudio.summary.summarize import Summarizer, describe, findings, key_numbers, summarize, verdict
from dlstudio.summary.words import duration, label, moment, number
from dlstudio.telemetry.reader import LayerBlock, TelemetryReader
from dlstudio.telemetry.writer import TelemetryWriter

VAL_LOSS = [0.9, 0.5, 0.3, 0.3, 0.7]
ACCURACY = [0.5, 0.6, 0.8, 0.7, 0.75]


def trained(name: str = "first", *, nan_at: int | None = None, fail: bool = False):
    """Five epochs of four steps; the loss of step s is 1/s."""
    config = {"data": "mortgage", "model": "mlp", "epochs": 6, "lr": 1e-3}
    try:
        with record(name, config=config) as rec:
            rec.event("plan", n_steps=24, n_epochs=6, steps_per_epoch=4, n_params=1234)
            for epoch, (val, accuracy) in enumerate(zip(VAL_LOSS, ACCURACY, strict=True), 1):
                for step in range(4 * epoch - 3, 4 * epoch + 1):
                    rec.log({"loss": math.nan if step == nan_at else 1 / step, "lr": 1e-3, "epoch": epoch}, step=step)
                rec.log(
                    {"val/loss": val, "val/accuracy": accuracy, "throughput_samples_per_s": 100.0 * epoch}, step=step
                )
                rec.event("epoch", step=step, epoch=epoch)
            rec.event("set", "learning rate set to 0.0001", step=9, lr=1e-4, old=1e-3)
            if fail:
                raise ValueError("the data ran out")
    except ValueError:
        pass
    return rec.run


@pytest.fixture(scope="module")
def run():
    return trained()


def test_the_numbers_are_those_that_were_recorded(run):
    summary = summarize(run)
    assert (summary.name, summary.key, summary.kind, summary.status) == ("first", run.key, "record", "FINISHED")
    assert (summary.n_steps, summary.n_steps_planned) == (20, 24)
    assert (summary.n_epochs, summary.n_epochs_planned, summary.n_parameters) == (5, 6, 1234)
    assert summary.final["loss"] == 1 / 20
    assert (summary.best_step, summary.best_epoch) == (12, 3), "the first of two equal minima"
    assert summary.best == {"val/loss": 0.3, "val/accuracy": 0.8}
    assert summary.throughput_samples_per_s == 500.0
    curve = summary.curves["loss"]
    assert (curve.n, curve.first, curve.last, curve.min, curve.min_x, curve.max, curve.max_x) == (
        20,
        1.0,
        0.05,
        0.05,
        20,
        1.0,
        1,
    )
    np.testing.assert_array_equal(curve.x, np.arange(1, 21))
    np.testing.assert_array_equal(curve.values, 1 / np.arange(1, 21))
    assert summary.wall_s == pytest.approx(summary.ended - summary.started)
    assert [event["kind"] for event in summary.edits] == ["set"]


def test_it_agrees_with_the_run_itself(run):
    summary = summarize(run)
    assert set(summary.curves) == set(run.keys())
    for key, curve in summary.curves.items():
        steps, values = run.scalars(key)
        np.testing.assert_array_equal(curve.x, steps)
        np.testing.assert_array_equal(curve.values, values)


def test_a_round_trip_keeps_everything(run, tmp_path):
    summary = summarize(run)
    back = results.load(results.save(summary, tmp_path, "training"))
    assert back == summary
    pd.testing.assert_frame_equal(back.frame(), summary.frame())
    assert verdict(back) == verdict(summary) and findings(back) == findings(summary)


def test_the_frame_is_tidy(run):
    frame = summarize(run).frame()
    assert list(frame) == ["key", "step", "value"]
    assert frame.query("key == 'val/accuracy'")["value"].tolist() == ACCURACY


def test_a_failed_run_with_nan_is_told_in_words():
    run = trained("broken", nan_at=7, fail=True)
    summary = summarize(run)
    found = {finding.code: finding for finding in findings(summary)}
    assert summary.status == "FAILED" and "the data ran out" in summary.reason
    assert "ValueError" in summary.traceback
    assert found["DLS100"].severity == "critical" and "the data ran out" in found["DLS100"].sentence
    assert found["DLS101"].evidence == {"key": "loss", "first_step": 7, "n": 1}
    assert "step 7 for the first time (1 of 20 values)" in found["DLS101"].sentence
    curve = summary.curves["loss"]
    assert (curve.n_nonfinite, curve.first_nonfinite_x, curve.min) == (1, 7, 0.05)
    assert "Training failed after 5 of 6 epochs" in verdict(summary)
    text = describe(summary)
    assert "broken  [FAILED]" in text and "DLS101" in text


def test_a_healthy_run_has_nothing_to_complain_of(run):
    assert [finding.code for finding in findings(summarize(run))] == ["DLS105"]
    assert "epoch 3 of 5" in findings(summarize(run))[0].sentence
    numbers = {item.label: item.text for item in key_numbers(summarize(run))}
    assert numbers["Epochs"] == "5 of 6" and numbers["Steps"] == "20 of 24"
    assert numbers["Best validation loss"] == "0.3" and numbers["Validation accuracy"] == "0.8"


def test_an_empty_run_has_a_summary():
    with record("empty") as rec:
        pass
    summary = summarize(rec.run)
    assert summary.curves == {} and summary.n_steps == 0 and summary.layers is None and summary.best == {}
    assert summary.frame().empty
    assert verdict(summary).startswith("Training finished after")
    assert "empty  [FINISHED]" in describe(summary)


def test_a_live_run_is_followed_and_reads_only_what_is_new():
    with record("followed") as rec:
        follower = Summarizer(rec.run)
        assert follower.update().live
        for step in range(1, 11):
            rec.log({"loss": float(step)}, step=step)
    summary = follower.update()
    assert (summary.status, summary.curves["loss"].n, summary.final["loss"]) == ("FINISHED", 10, 10.0)
    assert not follower._reader.read(), "everything was read"
    assert follower.update().curves["loss"] == summary.curves["loss"]


def test_an_evaluation_that_comes_in_two_reads_is_one():
    with record("split") as rec:
        follower = Summarizer(rec.run)
        for step, values in [
            (4, {"val/loss": 0.5, "val/accuracy": 0.6}),
            (8, {"val/accuracy": 0.9}),
            (8, {"val/loss": 0.1}),
            (8, {"val/auc": 0.95}),
            (12, {"val/loss": math.nan, "val/accuracy": 0.1, "val/auc": 0.2}),
        ]:
            rec.log(values, step=step)
            rec._flush()
            follower.update()
    summary = follower.update()
    assert summary.best == {"val/loss": 0.1, "val/accuracy": 0.9, "val/auc": 0.95} and summary.best_step == 8
    assert summarize(rec.run).best == summary.best


def test_lost_points_and_damage_are_told():
    with record("damaged") as rec:
        for step in range(1, 200):
            rec.log({"loss": 1.0}, step=step)
        rec.event("lost", "disk full", n_points=17)
    path = rec.folder / "telemetry" / "scalars.000.arrows"
    path.write_bytes(path.read_bytes()[:-8] + b"garbage at the end of the file")  # 8: the end-of-stream mark
    summary = summarize(open_run(rec.run.key))
    codes = {finding.code: finding.sentence for finding in findings(summary)}
    assert summary.n_lost == 17 and codes["DLS102"].startswith("17 recorded points could not be written")
    assert summary.damage == rec.run.damage() and len(summary.damage) == 1 and "DLS103" in codes
    assert summary.curves["loss"].n == 199


def test_layers_have_bounded_columns_that_keep_the_extremes(tmp_path):
    folder = tmp_path / "telemetry"
    folder.mkdir()
    rng = np.random.default_rng(0)
    n, names = 5000, ["a.weight", "b.weight"]
    matrix = rng.random((n, 3, 2)).astype(np.float32)
    matrix[1234, 0, 1] = 99.0
    matrix[4321, 0, 0] = np.nan
    writer = TelemetryWriter(folder)
    writer.layers("layers", names, [(step + 1, 0.0, matrix[step]) for step in range(n)])
    writer.close()
    builder = LayersBuilder(240)
    for block in TelemetryReader(folder).read().layers:
        builder.add(block)
    history = builder.history()
    assert history.names == names and history.n_steps == n
    assert len(history.steps) <= 240 and history.steps[-1] == n and np.all(np.diff(history.steps) > 0)
    grad = history.stats["grad_norm"]
    assert grad.shape == (len(history.steps), 2) and grad.dtype == np.float32
    assert np.nanmax(grad[:, 1]) == 99.0 and np.isnan(grad[:, 0]).sum() == 1
    ratio = history.stats["update_ratio"]
    np.testing.assert_allclose(ratio[:, 1].max(), (matrix[:, 2, 1] / matrix[:, 1, 1]).max(), rtol=1e-6)


def test_two_watched_models_stand_side_by_side():
    builder = LayersBuilder(240)
    for family, steps in (("layers", [1, 2]), ("layers2", [2, 3])):
        stats = {stat: np.full((2, 1), len(family), np.float32) for stat in ("grad_norm", "weight_norm", "update_norm")}
        names = ["weight"] if family == "layers" else ["bias"]
        builder.add(LayerBlock(family="layers", names=names, steps=np.array(steps), times_s=np.zeros(2), stats=stats))
    history = builder.history()
    assert history.names == ["weight", "model2.bias"] and history.steps.tolist() == [1, 2, 3]
    np.testing.assert_array_equal(history.stats["grad_norm"], np.array([[6, np.nan], [6, 7], [np.nan, 7]], np.float32))


def test_a_long_series_keeps_its_facts_in_little_memory():
    builder = CurveBuilder("loss", 1000)
    rng = np.random.default_rng(0)
    lowest, highest = math.inf, -math.inf
    tracemalloc.start()
    for part in range(100):
        values = rng.standard_normal(50_000)
        if part == 61:
            values[77] = 50.0
        if part == 62:
            values[5] = np.nan
        lowest, highest = min(lowest, np.nanmin(values)), max(highest, np.nanmax(values))
        builder.add(np.arange(part * 50_000, (part + 1) * 50_000), values)
    peak_mib = tracemalloc.get_traced_memory()[1] / 2**20
    tracemalloc.stop()
    curve = builder.curve()
    assert peak_mib < 20
    assert (curve.n, curve.min, curve.max, curve.last) == (5_000_000, lowest, highest, values[-1])
    assert (curve.max_x, curve.n_nonfinite, curve.first_nonfinite_x) == (61 * 50_000 + 77, 1, 62 * 50_000 + 5)
    assert len(curve.x) <= 2002 and 50.0 in curve.values and np.isnan(curve.values).any()


@pytest.mark.parametrize(
    ("item", "text"),
    [
        (None, "–"),
        (0.123456, "0.1235"),
        (1234567, "1,234,567"),
        (math.nan, "NaN"),
        (-math.inf, "−∞"),
        (1e-7, "1.000e-07"),
        (123456.7, "123,457"),
        (0.0, "0"),
    ],
)
def test_numbers_are_written_for_people(item, text):
    assert number(item) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "–"),
        (0.84, "0.8 s"),
        (42, "42 s"),
        (59.97, "1 min"),
        (185, "3 min 5 s"),
        (7800, "2 h 10 min"),
        (273600, "3 d 4 h"),
    ],
)
def test_time_spans_are_written_for_people(seconds, text):
    assert duration(seconds) == text


def test_moments_and_labels():
    assert moment(0) == "1970-01-01 00:00 UTC"
    assert label("val/balanced_accuracy") == "Validation balanced accuracy"
    assert label("my own key") == "my own key"
