"""What a forward pass costs, against counts by hand."""

from __future__ import annotations

import dataclasses
import os

import numpy as np
import pytest
import torch
from torch import nn

import dlstudio as dls
from dlstudio import results
from dlstudio.compare.measure import measure
from dlstudio.compare.measures import Measures
from dlstudio.compare.memory import bytes_of, peak_of_forward
from dlstudio.runs.kept import kept


@pytest.fixture(scope="module")
def run():
    return dls.fit(dls.Recipe(data="mortgage", model="mlp", epochs=1, batch_size=32, name="measured"), progress=False)


def test_the_peak_is_what_is_alive_at_once():
    x = torch.zeros(64, 100)
    wide = nn.Sequential(nn.Linear(100, 1000), nn.ReLU(), nn.Linear(1000, 10))
    weights = 4 * (100 * 1000 + 1000 + 1000 * 10 + 10)
    assert bytes_of(wide) == weights
    # While ReLU writes its result, that of the layer before is still there; the last layer's is smaller than both.
    assert peak_of_forward(wide, x) == weights + 4 * 64 * 100 + 2 * 4 * 64 * 1000
    slim = nn.Sequential(nn.Linear(100, 1000), nn.ReLU(inplace=True), nn.Linear(1000, 10))
    assert peak_of_forward(slim, x) == weights + 4 * 64 * 100 + 4 * 64 * (1000 + 10)
    views = nn.Sequential(nn.Unflatten(1, (10, 10)), nn.Flatten())
    assert peak_of_forward(views, x) == 4 * 64 * 100  # a view takes no memory


def test_shared_weights_count_once():
    layer = nn.Linear(50, 50)
    module = nn.Sequential(layer, nn.ReLU(), layer, nn.BatchNorm1d(50))
    found = measure(module, inputs=torch.zeros(8, 50))
    assert found.n_parameters == 50 * 50 + 50 + 2 * 50
    assert found.size_mib == (4 * found.n_parameters + 4 * 100 + 8) / 2**20  # running statistics, and an int64 count
    assert found.run == "" and found.batch_size == 8


def test_a_run_is_measured_and_the_result_kept(run):
    before = {name: weight.clone() for name, weight in dls.load_model(run).state_dict().items()}
    found = measure(run)
    assert found.n_parameters == sum(p.numel() for p in dls.load_model(run).parameters())
    assert found.batch_size == 32 and found.run == run.key
    assert 0 < found.latency_ms <= found.latency_p95_ms and 0 < found.batch_latency_ms <= found.batch_latency_p95_ms
    assert found.rows_per_s == pytest.approx(32e3 / found.batch_latency_ms)
    assert found.peak_mib > found.size_mib
    assert kept(run, "measures", Measures) == dataclasses.replace(found, found={})
    assert all(torch.equal(weight, before[name]) for name, weight in dls.load_model(run).state_dict().items())
    frame = found.frame().set_index("measure")["value"]
    assert frame["n_parameters"] == found.n_parameters and len(found.summary) >= 3


def test_what_saved_results_know_is_taken_along(run):
    calibration = dls.assess_calibration(run)
    audit = dls.audit_fairness(run, sensitive_features=["black"])
    robustness = dls.assess_robustness(run)
    found = measure(run).found
    assert found["calibration_error"] == calibration.ece
    overall = audit.gaps.query("group == 'overall'").set_index("criterion")["value"]
    assert found["demographic_parity_difference"] == overall["demographic_parity_difference"]
    assert found["robust_accuracy"] == min(curve.value.min() for curve in robustness.curves.values())


def test_comparisons_find_the_measures(run):
    from dlstudio.compare.gather import gather

    found = measure(run)
    assert gather([run])[0][0].measures["latency_ms"] == found.latency_ms


def test_an_audit_after_the_measuring_counts(run):
    """What results say is read when runs are gathered; only costs are kept with the run."""
    from dlstudio.compare.gather import gather

    measure(run)
    calibration = dls.assess_calibration(run)
    assert gather([run])[0][0].measures["calibration_error"] == calibration.ece
    errors = calibration.tables["errors"]
    tables = {**calibration.tables, "errors": {**errors, "ece": np.full_like(errors["ece"], 0.25)}}
    again = results.save(dataclasses.replace(calibration, tables=tables), run.folder / "results", "calibration")
    assert gather([run])[0][0].measures["calibration_error"] == 0.25
    best = (run.folder / "checkpoints" / "best.pt").stat().st_mtime
    os.utime(again, (best - 10, best - 10))
    assert "calibration_error" not in gather([run])[0][0].measures, "that was another model"
    again.unlink()
    assert kept(run, "measures", Measures).found == {}


def test_what_cannot_be_kept_is_returned(run, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(results, "_replace", full)
    assert measure(run).latency_ms > 0


def test_a_module_of_ones_own(fresh_home):
    x, y = torch.randn(60, 4), torch.randint(0, 2, (60,))
    own = nn.Linear(4, 2)
    run = dls.fit(dls.Recipe(data=(x, y), model=own, epochs=1, name="own"), progress=False)
    with pytest.raises(dls.DLStudioError, match="model="):
        measure(run)
    found = measure(run, model=own)
    assert found.n_parameters == 10 and results.load(run.folder / "results" / "measures.json") == found


def test_what_is_missing_is_said(fresh_home):
    with pytest.raises(dls.DLStudioError, match="inputs"):
        measure(nn.Linear(2, 2))
    with pytest.raises(dls.DLStudioError, match="at least one row"):
        measure(nn.Linear(2, 2), inputs=torch.zeros(0, 2))
    with dls.record("bare") as rec:
        rec.log({"x": 1.0})
    with pytest.raises(dls.DLStudioError, match="checkpoint"):
        measure("bare")


def test_inputs_that_do_not_fit_are_said():
    with pytest.raises(dls.DLStudioError, match=r"inputs that fit the model, not of shape \(8, 5\)"):
        measure(nn.Linear(4, 2), inputs=torch.randn(8, 5))
