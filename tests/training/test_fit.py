from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from dlstudio.data.load import load
from dlstudio.errors import DLStudioError
from dlstudio.runs.run import open_run
from dlstudio.training.checkpoint import load_model, path_of
from dlstudio.training.fit import fit
from dlstudio.training.recipe import Recipe


def test_fit_records_a_run_that_can_be_opened_and_its_model_loaded(capsys: pytest.CaptureFixture[str]) -> None:
    run = fit(Recipe(data="mortgage", epochs=3, clip_norm=1.0, name="fit-one", variant="small"))
    assert run.status == "FINISHED" and run.name == "fit-one" and open_run("fit-one") == run
    assert run.config["clip_norm"] == 1.0 and run.info["kind"] == "fit" and run.info["tags"]["variant"] == "small"
    steps, losses = run.scalars("loss")
    assert steps.tolist() == list(range(1, 67)) and np.isfinite(losses).all()
    norms = dict(zip(*run.scalars("grad_norm"), strict=True))
    for step, coefficient in zip(*run.scalars("clip_coefficient"), strict=True):
        assert coefficient == pytest.approx(min(1.0, 1.0 / (norms[step] + 1e-6)), rel=1e-6)
    assert len(norms) == 66
    assert {"plan", "epoch", "checkpoint"} <= {event["kind"] for event in run.events()}
    steps, names, matrix = run.layers("update_ratio")
    assert 1 in steps and len(names) == matrix.shape[1] == 6
    assert "epoch 3/3" in capsys.readouterr().err

    model = load_model(run)
    x, y = load("mortgage").split("test")
    with torch.no_grad():
        found = nn.functional.cross_entropy(model(x), y).item()
    assert not model.training and found == pytest.approx(run.scalars("test/loss")[1][0], rel=1e-5)
    assert isinstance(load_model("fit-one", "last"), nn.Module)
    with pytest.raises(DLStudioError, match="Did you mean 'best'"):
        load_model(run, "bets")


def test_a_module_is_trained_in_place_and_loaded_into_another(dataset: Any) -> None:
    model = nn.Linear(5, 3)
    before = model.weight.detach().clone()
    run = fit(Recipe(data=dataset(), model=model, epochs=2, name="in-place"), progress=False)
    assert not torch.equal(model.weight, before)
    loaded = load_model(run, model=nn.Linear(5, 3))
    assert torch.equal(loaded.weight, model.weight)  # type: ignore[arg-type]
    with pytest.raises(DLStudioError, match="load_model\\(run, model=MyModule"):
        load_model(run)
    with pytest.raises(DLStudioError, match="same shape"):
        load_model(run, model=nn.Linear(4, 3))


@pytest.mark.parametrize("data", ["digits", "bikes", "bikes_sequence", "reviews"])
def test_named_models_of_every_modality_load_again(data: str, dataset: Any) -> None:
    model = {"digits": "cnn", "bikes": "mlp", "bikes_sequence": "gru", "reviews": "transformer"}[data]
    whole = load(data)
    few = {name: rows[:64] for name, rows in whole.splits.items()}
    object.__setattr__(whole, "splits", few)
    run = fit(Recipe(data=whole, model=model, epochs=1), progress=False)
    x, y = whole.split("test")
    with torch.no_grad():
        outputs = load_model(run)(x)
    function = nn.functional.mse_loss if whole.task == "regression" else nn.functional.cross_entropy
    assert function(outputs, y).item() == pytest.approx(run.scalars("test/loss")[1][0], rel=1e-4)


def test_a_run_stopped_from_elsewhere_is_resumed_where_it_was() -> None:
    recipe = Recipe(data="mortgage", epochs=6, model_options={"dropout": 0.3}, schedule="cosine")
    straight = fit(recipe, progress=False)

    def stop() -> None:
        while True:
            try:
                run = open_run("stop-me")
                if run.scalars("loss")[0][-1] > 30:
                    return run.stop()
            except DLStudioError:
                pass
            time.sleep(0.02)

    slow = recipe.replace(name="stop-me", model=_slow, model_options={})
    threading.Thread(target=stop, daemon=True).start()
    run = fit(slow, progress=False)
    assert run.status == "KILLED" and path_of(run.folder, "last").exists()
    with pytest.raises(DLStudioError, match="Pass it again"):
        fit(resume=run)
    reached = int(torch.load(path_of(run.folder, "last"), weights_only=True)["step"])
    assert 30 < reached < 132
    again = fit(recipe.replace(model=_fast, model_options={}), resume="stop-me", progress=False)
    assert again == run and again.status == "FINISHED"
    wanted, found = straight.scalars("loss"), again.scalars("loss")
    assert found[0].tolist() == wanted[0].tolist() and found[1].tolist() == wanted[1].tolist()
    assert {"stop", "resumed"} <= {event["kind"] for event in again.events()}


def _fast(dataset: Any) -> nn.Module:
    from dlstudio.models.build import build

    return build("mlp", dataset, dropout=0.3)


def _slow(dataset: Any) -> nn.Module:
    model = _fast(dataset)
    model.register_forward_pre_hook(lambda module, inputs: time.sleep(0.05 if module.training else 0))
    return model


def test_a_plain_run_needs_no_recipe_to_go_on() -> None:
    run = fit(Recipe(data="mortgage", epochs=1), progress=False)
    again = fit(Recipe(data="mortgage", epochs=2), resume=run, progress=False)
    assert again == run and again.scalars("epoch")[1].tolist() == [1.0, 2.0]
    assert fit(resume=run, progress=False).status == "FINISHED"


def test_a_run_without_a_checkpoint_cannot_be_resumed(dataset: Any) -> None:
    class Breaks(nn.Linear):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            if self.training:
                raise RuntimeError("broken on purpose")
            return super().forward(x)

    with pytest.raises(RuntimeError, match="on purpose"):
        fit(Recipe(data=dataset(), model=Breaks(5, 3), name="broken"), progress=False)
    run = open_run("broken")
    assert run.status == "FAILED" and "broken on purpose" in str(run.reason)
    with pytest.raises(DLStudioError, match="last.pt"):
        fit(Recipe(data=dataset(), model=nn.Linear(5, 3)), resume=run)


def test_what_fit_refuses_leaves_no_run(fresh_home: Path) -> None:
    for recipe, words in (
        (Recipe(devices=2, device="cpu"), "dls.launch"),
        ({"epochs": 3}, "a Recipe"),
    ):
        with pytest.raises(DLStudioError, match=words):
            fit(recipe)  # type: ignore[arg-type]
    assert not fresh_home.exists()
