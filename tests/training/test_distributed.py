"""Two gloo ranks through torchrun against one process with the same global batches."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from dlstudio.training import checkpoint
from dlstudio.training.loop import train

SCRIPT = Path(__file__).with_name("two_ranks.py")


def _script() -> Any:
    spec = importlib.util.spec_from_file_location("two_ranks", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = sys.modules["two_ranks"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def two_ranks(
    tmp_path_factory: pytest.TempPathFactory, repository: Path
) -> tuple[Path, dict[str, list[dict[str, Any]]]]:
    """The folder of the runs, and what rank 0 recorded by case and part."""
    out = tmp_path_factory.mktemp("ranks")
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command = [*torchrun, str(SCRIPT), str(out)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(repository)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr[-4000:]
    return out, json.loads((out / "found.json").read_text())


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The same training in one process."""
    script = _script()
    recorder = script.Recorder(tmp_path_factory.mktemp("alone"), {})
    train(script.recipe("single", devices=1), recorder)
    return recorder


def _floats(series: dict[str, float]) -> dict[int, float]:
    return {int(step): value for step, value in series.items()}


@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_two_ranks_train_as_one_process_does(two_ranks: Any, alone: Any, strategy: str) -> None:
    (found,) = two_ranks[1][strategy]
    assert _floats(found["loss"]) == pytest.approx(alone.loss, rel=1e-5)
    assert set(found["other"]) == set(alone.other)
    for key in ("val/loss", "val/auc", "train/loss", "test/loss", "test/accuracy", "lr"):
        assert _floats(found["other"][key]) == pytest.approx(alone.other[key], rel=1e-5), key


@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_layer_norms_are_those_of_the_whole_parameters(two_ranks: Any, alone: Any, strategy: str) -> None:
    (found,) = two_ranks[1][strategy]
    assert len(found["norms"]) == len(alone.norms) == 12
    for mine, whole in zip(found["norms"], alone.norms, strict=True):
        assert mine == pytest.approx(whole, rel=1e-3, abs=1e-6)


@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_a_stopped_run_of_two_ranks_goes_on_bit_by_bit(two_ranks: Any, strategy: str) -> None:
    (straight,) = two_ranks[1][strategy]
    first, second = two_ranks[1][f"{strategy}-stop"]
    assert [name for name, _ in first["done"]] == ["stop"] and 5 <= len(first["loss"]) < 12
    assert {**first["loss"], **second["loss"]} == straight["loss"]
    assert second["other"]["test/loss"] == straight["other"]["test/loss"]


def test_a_rate_set_on_rank_0_reaches_all(two_ranks: Any, alone: Any) -> None:
    (found,) = two_ranks[1]["ddp-set"]
    (_, saved), (name, step) = found["done"]
    assert name == "set" and 2 <= saved <= step
    lr, loss = _floats(found["other"]["lr"]), _floats(found["loss"])
    assert lr[step + 1] == pytest.approx(0.1) and lr[step] == pytest.approx(alone.other["lr"][step])
    assert loss[12] != pytest.approx(alone.loss[12], rel=1e-3)
    # Ranks with different rates would have different weights, and their mean loss would not be that of either.
    best = torch.load(two_ranks[0] / "ddp-set" / "checkpoints" / "best.pt", weights_only=True)
    model = _script().make_model()
    model.load_state_dict(best["model"])
    x, y = _script().make_dataset().split("val")
    with torch.no_grad():
        value = torch.nn.functional.cross_entropy(model(x), y).item()
    assert value == pytest.approx(_floats(found["other"]["val/loss"])[best["step"]], rel=1e-5)


@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_a_checkpoint_of_two_ranks_goes_on_in_one_process(
    two_ranks: Any, alone: Any, strategy: str, tmp_path: Path
) -> None:
    script = _script()
    source = two_ranks[0] / strategy / "checkpoints"
    path = checkpoint.path_of(tmp_path, "last")
    last = torch.load(source / "last.pt", weights_only=True)
    assert sorted(last["optimizer"]["state"]) == [0, 1, 2, 3] and len(last["rng"]) == 2
    assert last["model"]["0.weight"].shape == (16, 5)
    checkpoint.write(path, last)
    recorder = script.Recorder(tmp_path, {}, resume_step=12)
    train(script.recipe("single", devices=1).replace(epochs=6, schedule="constant"), recorder)
    assert list(recorder.loss) == list(range(13, 19))

    longer = script.Recorder(tmp_path / "alone", {}, resume_step=12)
    theirs = torch.load(checkpoint.path_of(alone.folder, "last"), weights_only=True)
    checkpoint.write(checkpoint.path_of(longer.folder, "last"), theirs)
    train(script.recipe("single", devices=1).replace(epochs=6, schedule="constant"), longer)
    assert recorder.loss == pytest.approx(longer.loss, rel=1e-4)
