from __future__ import annotations

import errno
import os
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from dlstudio.errors import DLStudioError, RunStopped
from dlstudio.training import checkpoint
from dlstudio.training.loop import train
from dlstudio.training.recipe import Recipe

_TIMED = ("phase/", "throughput")


class Restless(nn.Module):
    """Draws from every global generator in its forward pass, and has a buffer."""

    def __init__(self, n_outputs: int = 3) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(5, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.5), nn.Linear(16, n_outputs)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.training:
            x = x * (1 + 0.1 * random.random() + 0.1 * float(np.random.rand()))
        return self.layers(x)  # type: ignore[no-any-return]


def _stop() -> None:
    raise RunStopped("stopped on request")


def _exact(*recorders: Any) -> list[tuple[int, str, float]]:
    return [
        (step, key, value)
        for kept in recorders
        for step, values in kept.logged
        for key, value in values.items()
        if not key.startswith(_TIMED)
    ]


# 75 rows in steps of 2 x 10: 4 a epoch, so that steps 6 and 11 are in the middle of one, step 8 at the end.
@pytest.mark.parametrize("stops", [[6], [8], [1, 11, 12], [23], [24]])
@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_a_stopped_run_goes_on_bit_by_bit(recorder: Any, dataset: Any, stops: list[int], optimizer: str) -> None:
    recipe = Recipe(
        data=dataset(), model=Restless, epochs=6, batch_size=10, accumulate=2, schedule="cosine", warmup_steps=3,
        optimizer=optimizer, lr=0.05, clip_norm=1.0, seed=3,
    )  # fmt: skip
    straight = recorder()
    wanted = train(recipe, straight)
    parts = [recorder()]
    for step in stops:
        parts[-1].when[step] = _stop
        with pytest.raises(RunStopped):
            train(recipe, parts[-1])
        random.seed(step)
        parts.append(recorder(resume=parts[-1]))
        assert parts[-1].resume_step == step
    model = train(recipe, parts[-1])
    assert _exact(*parts) == _exact(straight)
    for name, value in wanted.state_dict().items():
        assert torch.equal(value, model.state_dict()[name]), name


def test_what_an_evaluation_draws_changes_nothing(recorder: Any, dataset: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from dlstudio.training import loop

    recipe = Recipe(data=dataset(), model=Restless, epochs=3)
    quiet, drawing = recorder(), recorder()
    train(recipe, quiet)
    original = loop.score

    def draws(*arguments: Any) -> dict[str, float]:
        random.random()
        np.random.rand()
        torch.rand(())
        return original(*arguments)

    monkeypatch.setattr(loop, "score", draws)
    train(recipe, drawing)
    assert _exact(drawing) == _exact(quiet)


def test_a_run_killed_without_warning_repeats_from_its_last_epoch(recorder: Any, dataset: Any) -> None:
    recipe = Recipe(data=dataset(), model=Restless, epochs=4, batch_size=10, balanced_sampler=True, lr=0.05)
    straight, killed = recorder(), recorder()
    train(recipe, straight)

    def die() -> None:
        raise SystemError("as good as kill -9: nothing is saved on the way out")

    killed.when[13] = die
    with pytest.raises(SystemError):
        train(recipe, killed)
    resumed = recorder(resume=killed)
    assert resumed.resume_step == 8
    train(recipe, resumed)
    assert _exact(resumed) == [row for row in _exact(straight) if row[0] > 8]


def test_streamed_data_resume_in_the_middle_of_an_epoch(recorder: Any, dataset: Any) -> None:
    class Noisy(torch.utils.data.Dataset[Any]):
        def __init__(self, part: str) -> None:
            self.x, self.y = dataset().split(part)

        def __len__(self) -> int:
            return len(self.y)

        def __getitem__(self, i: int) -> tuple[torch.Tensor, torch.Tensor]:
            return self.x[i] + 0.1 * torch.randn(5), self.y[i]

    parts = {"train": Noisy("train"), "val": Noisy("val")}
    recipe = Recipe(data=parts, model=Restless, epochs=3, batch_size=20, balanced_sampler=True)
    straight, first = recorder(), recorder()
    train(recipe, straight)
    first.when[6] = _stop
    with pytest.raises(RunStopped):
        train(recipe, first)
    torch.manual_seed(99)  # another process would have other random numbers before it begins
    second = recorder(resume=first)
    train(recipe, second)
    assert _exact(first, second) == _exact(straight)


def test_patience_best_and_a_rate_set_by_hand_survive_a_resume(recorder: Any, dataset: Any) -> None:
    recipe = Recipe(
        data=dataset("regression"), model=lambda: Restless(1), epochs=40, batch_size=25, optimizer="sgd", lr=0.01,
        early_stopping=3, schedule="linear",
    )  # fmt: skip

    def run(stop: bool) -> tuple[list[Any], int]:
        first = recorder()
        first.when[4] = lambda: first.handlers["set"](lr=1e-9)  # from here on nothing gets better but by luck
        if not stop:
            train(recipe, first)
            return _exact(first), first.kinds()["epoch"]
        first.when[11] = _stop
        with pytest.raises(RunStopped):
            train(recipe, first)
        second = recorder(resume=first)
        train(recipe, second)
        return _exact(first, second), first.kinds()["epoch"] + second.kinds()["epoch"]

    (straight, n_epochs), resumed = run(False), run(True)
    assert resumed == (straight, n_epochs) and n_epochs < 40


def test_a_finished_run_resumes_to_nothing_but_its_test(recorder: Any, dataset: Any) -> None:
    recipe = Recipe(data=dataset(), model=Restless, epochs=2)
    first = recorder()
    train(recipe, first)
    again = recorder(resume=first)
    train(recipe, again)
    assert not again.series("loss") and again.logged[-1] == first.logged[-1]
    longer = recorder(resume=first)
    train(recipe.replace(epochs=3), longer)
    assert list(longer.series("loss")) == [5, 6]


def test_other_data_are_refused_on_resume(recorder: Any, dataset: Any) -> None:
    first = recorder()
    train(Recipe(data=dataset(seed=0), model=Restless, epochs=1), first)
    with pytest.raises(DLStudioError, match="the data the run began with"):
        train(Recipe(data=dataset(seed=1), model=Restless, epochs=2), recorder(resume=first))


def test_checkpoint_on_command_and_what_is_in_it(recorder: Any, dataset: Any) -> None:
    kept = recorder()
    seen: list[int] = []

    def save() -> None:
        kept.handlers["checkpoint"]()
        seen.append(torch.load(kept.folder / "checkpoints" / "last.pt", weights_only=True)["step"])

    kept.when[7] = save
    train(Recipe(data=dataset(), model=Restless, epochs=3, batch_size=20, schedule="cosine"), kept)
    assert seen == [7]
    assert [e["step"] for e in kept.events if e["kind"] == "checkpoint"] == [4, 7, 8, 12]
    last = torch.load(kept.folder / "checkpoints" / "last.pt", weights_only=True)
    best = torch.load(kept.folder / "checkpoints" / "best.pt", weights_only=True)
    assert last["position"]["epoch"] == 3 and last["recipe"]["schedule"] == "cosine"
    assert last["data"]["class_names"] == ["class 0", "class 1", "class 2"]
    losses = kept.series("val/loss")
    evaluated = {step: losses[step] for step in (4, 8, 12)}
    assert best["step"] == min(evaluated, key=evaluated.__getitem__) and "optimizer" not in best
    assert sorted(p.name for p in (kept.folder / "checkpoints").iterdir()) == ["best.pt", "last.pt"]


@pytest.mark.parametrize("damage", ["truncated", "garbage", "empty", "flipped", "other"])
def test_a_damaged_checkpoint_is_named(recorder: Any, dataset: Any, damage: str) -> None:
    kept = recorder()
    recipe = Recipe(data=dataset(), model=Restless, epochs=1)
    train(recipe, kept)
    resumed = recorder(resume=kept)
    path = kept.folder / "checkpoints" / "last.pt"
    whole = path.read_bytes()
    middle = whole.index(b"data/0") + 200
    if damage == "other":
        torch.save({"weights": 1}, path)
    else:
        path.write_bytes(
            {
                "truncated": whole[: len(whole) // 2],
                "garbage": os.urandom(5000),
                "empty": b"",
                "flipped": whole[:middle] + bytes(255 - b for b in whole[middle : middle + 50]) + whole[middle + 50 :],
            }[damage]
        )
    with pytest.raises(DLStudioError) as caught:
        train(recipe, resumed)
    assert str(path) in str(caught.value)
    if damage != "other":
        assert "best.pt beside it may be whole" in str(caught.value)


def test_code_in_a_checkpoint_is_never_run(tmp_path: Path) -> None:
    path = tmp_path / "last.pt"

    class Evil:
        def __reduce__(self) -> Any:
            return (Path.touch, (tmp_path / "touched",))

    torch.save({"format": 1, "step": Evil()}, path)
    with pytest.raises(DLStudioError, match="damaged"):
        checkpoint.read(path)
    assert not (tmp_path / "touched").exists()


def test_a_write_that_fails_leaves_the_old_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "checkpoints" / "last.pt"
    checkpoint.write(path, {"step": 1})

    def full(fd: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(checkpoint.os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        checkpoint.write(path, {"step": 2})
    assert checkpoint.saved_step(path) == 1 and [p.name for p in path.parent.iterdir()] == ["last.pt"]


def test_training_goes_on_when_checkpoints_cannot_be_written(recorder: Any, dataset: Any) -> None:
    kept = recorder()
    (kept.folder / "checkpoints").write_text("a file where the folder should be")
    (kept.folder / "results").write_text("another")
    train(Recipe(data=dataset(), model=Restless, epochs=3), kept)
    assert len(kept.series("loss")) == 6 and kept.last("test/loss") > 0
    warnings = [event["message"] for event in kept.events if event["kind"] == "warning"]
    assert len(warnings) == 2 and "could not write" in warnings[0] and "last weights" in warnings[1]


def test_full_disk_while_torch_writes_is_an_os_error(tmp_path: Path) -> None:
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(OSError):
            checkpoint.write(tmp_path / "last.pt", {"model": torch.zeros(100_000)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list(tmp_path.iterdir()) == []
