"""An adversarial variant of a run is a run like any other: launched, watched, audited, explained, compared."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import dlstudio as dls
from dlstudio import results
from dlstudio.errors import DLStudioError
from dlstudio.fairness.mitigation.adversarial import train_adversarial
from dlstudio.fairness.mitigation.adversarial_variant import adversarial_variant
from dlstudio.runs.run import Run
from dlstudio.training import checkpoint
from dlstudio.training.predicted import predictions_of


@pytest.fixture(scope="module")
def run() -> Run:
    return dls.fit(dls.Recipe(data="mortgage", epochs=3, name="to-mitigate", device="cpu"), progress=False)


def test_a_launched_variant_is_a_run_like_any_other(run: Run) -> None:
    before = (run.folder / "checkpoints" / "best.pt").read_bytes()
    config = {"run": run.name, "sensitive_features": ["race"], "strength": 1.0, "epochs": 4, "seed": 3}
    milder = dls.launch(dls.adversarial_variant, config=config, name="milder")
    milder.wait(timeout=120)
    assert milder.status == "FINISHED", milder.reason
    steps, losses = milder.scalars("adversary/loss")
    data = dls.load_data("mortgage")
    race = data.frame["race"].to_numpy()[data.splits["train"]]
    expected, went = train_adversarial(
        dls.load_model(run), *data.split("train"), race, strength=1.0, epochs=4, seed=3, progress=False
    )
    assert list(steps) == [1, 2, 3, 4] and losses == pytest.approx(went.adversary_loss)
    inputs, targets = data.split("test")
    with torch.no_grad():
        here, there = expected(inputs).softmax(1)[:, 1].numpy(), dls.load_model(milder)(inputs).softmax(1)[:, 1].numpy()
    stored = predictions_of(milder)
    assert there == pytest.approx(here, abs=1e-6) and stored.y_score == pytest.approx(here, abs=1e-6)
    assert (stored.rows == data.splits["test"]).all() and (stored.y_true == targets.numpy()).all()
    assert milder.scalars("test/accuracy")[1][-1] == pytest.approx(np.mean((here > 0.5) == targets.numpy()))
    assert (run.folder / "checkpoints" / "best.pt").read_bytes() == before
    audit = dls.audit_fairness(milder, sensitive_features=["race"], intersections=1)
    assert audit.run == milder.key and len(audit) == len(inputs)
    curve = dls.trade_off(run, sensitive_features=["race"], variants={"milder": milder}, min_denominator=10)
    points = curve.frame().query("name == 'milder'")
    assert not points["needs_sensitive_feature"].any()
    assert points["accuracy"].iloc[0] == pytest.approx(np.mean((here >= 0.5) == targets.numpy()))
    assert dls.explain(milder, [3], progress=False).run == milder.key
    kept = results.load(milder.folder / "results" / "adversarial-training.json")
    assert kept.needs_sensitive_feature is False
    # To train the recipe of its parent again would not give it.
    content, of_parent = (checkpoint.read(checkpoint.path_of(one.folder, "best")) for one in (milder, run))
    assert content.keys() == {"format", *checkpoint.DESCRIBED, "model", "step", "epoch", "trained_by"}
    assert content["epoch"] == 4 and "metrics" in of_parent and "trained_by" not in of_parent
    for again in (lambda: dls.evaluate(milder, cross_validate=2), lambda: dls.find_label_errors(milder, part="all")):
        with pytest.raises(DLStudioError, match="adversarial training of the run 'to-mitigate'"):
            again()
    assert dls.evaluate(milder).run == milder.key


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"strengh": 1.0}, "'strength'"),
        ({"run": ""}, "the run and the sensitive_features"),
        ({"sensitive_features": []}, "the run and the sensitive_features"),
        ({"sensitive_features": ["rac"]}, "'race'"),
        ({"sensitive_features": "rac"}, "'race'"),
        ({"run": "nowhere"}, "run names"),
        ({"strength": -1.0}, "strength of 0 or more"),
    ],
)
def test_what_does_not_fit_is_named(run: Run, changed: dict[str, Any], words: str) -> None:
    config = {"run": run.name, "sensitive_features": ["race"], "epochs": 1} | changed
    with pytest.raises(DLStudioError, match=words), dls.record("refused", config=config) as rec:
        adversarial_variant(rec, config)


def test_one_column_may_be_named_alone_and_is_said_to_be_needed_where_the_model_takes_it(run: Run) -> None:
    config = {"run": run.name, "sensitive_features": "self", "epochs": 1}
    with dls.record("against one", config=config) as rec:
        adversarial_variant(rec, config)
    went = results.load(rec.run.folder / "results" / "adversarial-training.json")
    assert went.sensitive_feature == "self" and went.needs_sensitive_feature is True
