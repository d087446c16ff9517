from __future__ import annotations

import math
import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import TensorDataset

from dlstudio.errors import DLStudioError
from dlstudio.training.loop import train
from dlstudio.training.recipe import Recipe
from dlstudio.training.schedule import factor


class Net(nn.Module):
    def __init__(self, n_features: int = 5, n_outputs: int = 3, dropout: float = 0.0) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(n_features, 16), nn.ReLU(), nn.Dropout(dropout), nn.Linear(16, n_outputs))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layers(x)  # type: ignore[no-any-return]


def _linear(n_outputs: int = 3) -> nn.Module:
    layer = nn.Linear(5, n_outputs)
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


def test_the_loop_is_the_textbook_one(recorder: Any, dataset: Any) -> None:
    """Every loss against a hand-written loop over the same batches."""
    data = dataset()
    kept = recorder()
    train(Recipe(data=data, model=_linear(), epochs=3, batch_size=20, optimizer="sgd", lr=0.1, weight_decay=0), kept)

    from dlstudio.training.batches import batches_of

    model = _linear()
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
    losses = []
    for epoch in range(3):
        for x, y, _, _ in batches_of(data, Recipe(batch_size=20), torch.device("cpu")).epoch(epoch):
            loss = nn.functional.cross_entropy(model(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
    assert losses[0] == pytest.approx(math.log(3))
    assert list(kept.series("loss").values()) == pytest.approx(losses, rel=1e-5)
    assert list(kept.series("loss")) == list(range(1, 13))


@pytest.mark.parametrize("task", ["binary", "multiclass", "regression"])
@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw", "rmsprop"])
def test_every_optimiser_learns_every_task(recorder: Any, dataset: Any, task: str, optimizer: str) -> None:
    kept = recorder()
    n_outputs = {"binary": 2, "multiclass": 3, "regression": 1}[task]
    train(Recipe(data=dataset(task, n=300), model=_linear(n_outputs), epochs=30, optimizer=optimizer, lr=0.03), kept)
    if task == "regression":
        assert kept.last("test/r2") > 0.95
        assert kept.last("val/rmse") == pytest.approx(math.sqrt(kept.last("val/loss")), rel=1e-4)
    else:
        assert kept.last("test/accuracy") > 0.8 and kept.last("test/auc") > 0.9
        assert set(kept.logged[-1][1]) == {f"test/{m}" for m in ("loss", "accuracy", "balanced_accuracy", "auc", "f1")}


def test_named_model_on_bundled_data(recorder: Any) -> None:
    kept = recorder()
    train(Recipe(data="mortgage", model="mlp", epochs=2), kept)
    assert kept.kinds() == {"plan": 1, "epoch": 2, "checkpoint": 2}
    plan = kept.events[0]["data"]
    assert plan["n_steps"] == 2 * plan["steps_per_epoch"] == len(kept.series("loss")) and plan["n_epochs"] == 2
    assert kept.series("epoch") == {1: 1.0, plan["steps_per_epoch"] + 1: 2.0}
    assert kept.last("test/auc") > 0.6
    assert {"throughput_samples_per_s", "phase/forward_ms", "phase/eval_ms", "best/val/loss"} <= {
        key for _, values in kept.logged for key in values
    }


def test_same_seed_same_bits_and_the_callers_random_numbers_stay(recorder: Any, dataset: Any) -> None:
    recipe = Recipe(data=dataset(), model=lambda: Net(dropout=0.5), epochs=3, batch_size=16, seed=4)
    curves, draws = [], []
    for disturb in (1, 2):
        random.seed(disturb)
        np.random.seed(disturb)
        torch.manual_seed(disturb)
        kept = recorder()
        train(recipe, kept)
        curves.append(kept.logged)
        draws.append((random.random(), np.random.rand(), torch.rand(()).item()))
        random.seed(disturb)
        np.random.seed(disturb)
        torch.manual_seed(disturb)
        assert draws[-1] == (random.random(), np.random.rand(), torch.rand(()).item())

    def exact(logged: list[tuple[int, dict[str, float]]]) -> list[tuple[int, str, float]]:
        timed = ("phase/", "throughput")
        return [(step, k, v) for step, values in logged for k, v in values.items() if not k.startswith(timed)]

    assert exact(curves[0]) == exact(curves[1])
    kept = recorder()
    train(recipe.replace(seed=5), kept)
    assert kept.last("loss") != curves[0][-1][1].get("loss")


def test_accumulation_is_the_larger_batch(recorder: Any, dataset: Any) -> None:
    data, curves = dataset(n=150), []
    for size, accumulate in ((24, 1), (8, 3)):  # 75 rows: the last step has three
        kept = recorder()
        train(Recipe(data=data, model=_linear(), epochs=4, batch_size=size, accumulate=accumulate), kept)
        curves.append(kept.series("loss"))
    assert curves[0] == pytest.approx(curves[1], rel=1e-5) and len(curves[0]) == 16


def test_clipping_bounds_the_step(recorder: Any, dataset: Any) -> None:
    recipe = Recipe(
        data=dataset("regression"), model=_linear(1), epochs=1, batch_size=1000, optimizer="sgd", lr=1.0, weight_decay=0
    )
    moved = {}
    for clip_norm in (None, 0.25):
        model = train(recipe.replace(model=_linear(1), clip_norm=clip_norm), recorder())
        moved[clip_norm] = math.sqrt(sum(float(p.detach().square().sum()) for p in model.parameters()))
    assert moved[None] > 1 and moved[0.25] == pytest.approx(0.25, rel=1e-4)


@pytest.mark.parametrize("schedule", ["constant", "cosine", "linear", "step", "one_cycle"])
def test_the_logged_rate_is_the_scheduled_one(recorder: Any, dataset: Any, schedule: str) -> None:
    kept = recorder()
    recipe = Recipe(
        data=dataset(), model=_linear(), epochs=4, batch_size=16, schedule=schedule, warmup_steps=3, lr=0.02
    )
    train(recipe, kept)
    wanted = {s + 1: 0.02 * factor(schedule, s, 20, 3) for s in range(20)}
    assert kept.series("lr") == pytest.approx(wanted) and list(kept.series("epoch")) == [1, 6, 11, 16]


def test_a_constant_rate_is_logged_once_an_epoch_and_when_it_changes(recorder: Any, dataset: Any) -> None:
    kept = recorder()
    kept.when[7] = lambda: kept.handlers["set"](lr=0.5)
    train(Recipe(data=dataset(), model=_linear(), epochs=3, batch_size=16, lr=0.02), kept)
    assert kept.series("lr") == {1: 0.02, 6: 0.02, 8: 0.5, 11: 0.5}


def test_a_rate_set_by_hand_holds_and_the_shape_goes_on(recorder: Any, dataset: Any) -> None:
    kept = recorder()
    kept.when[7] = lambda: kept.handlers["set"](lr=0.5)
    train(Recipe(data=dataset(), model=_linear(), epochs=4, batch_size=16, schedule="cosine", lr=0.02), kept)
    lr = kept.series("lr")
    assert lr[7] == pytest.approx(0.02 * factor("cosine", 6, 20)) and lr[8] == pytest.approx(0.5)
    ratio = 0.5 / factor("cosine", 7, 20)
    assert [lr[s + 1] for s in range(8, 20)] == pytest.approx([ratio * factor("cosine", s, 20) for s in range(8, 20)])


def test_early_stopping_counts_evaluations_without_a_better_loss(recorder: Any, dataset: Any) -> None:
    kept = recorder()
    # The rate makes the loss grow from the first epoch on.
    train(
        Recipe(data=dataset("regression"), model=_linear(1), epochs=50, optimizer="sgd", lr=5.0, early_stopping=3), kept
    )
    losses = list(kept.series("val/loss").values())[:-1]
    best = int(np.nanargmin(losses))
    epochs = [event["data"]["epoch"] for event in kept.events if event["kind"] == "epoch"]
    assert len(epochs) == best + 1 + 3 < 50
    assert kept.kinds()["early_stop"] == 1


def test_the_model_ends_with_its_best_weights_and_their_test_figures(recorder: Any, dataset: Any) -> None:
    data, kept, model = dataset("regression"), recorder(), _linear(1)
    returned = train(Recipe(data=data, model=model, epochs=6, optimizer="sgd", lr=0.6, batch_size=8), kept)
    assert returned is model and not model.training
    x, y = data.split("val")
    with torch.no_grad():
        loss = nn.functional.mse_loss(model(x).flatten(), y).item()
    assert loss == pytest.approx(min(kept.series("val/loss").values()), rel=1e-5)
    assert loss == pytest.approx(kept.last("best/val/loss"), rel=1e-5)
    x, y = data.split("test")
    with torch.no_grad():
        assert kept.last("test/mae") == pytest.approx((model(x).flatten() - y).abs().mean().item(), rel=1e-5)


def test_predictions_of_val_and_test_are_kept(recorder: Any, dataset: Any) -> None:
    data, kept = dataset("binary"), recorder()
    model = train(Recipe(data=data, model=lambda: Net(n_outputs=2), epochs=2), kept)
    with np.load(kept.folder / "results" / "predictions.npz") as found:
        for part in ("val", "test"):
            rows = found[f"{part}_row"]
            assert rows.tolist() == data.splits[part].tolist()
            assert found[f"{part}_y_true"].tolist() == data.targets[rows].tolist()
            with torch.no_grad():
                score = torch.softmax(model(data.inputs[rows]), 1).numpy()
            assert found[f"{part}_y_score"] == pytest.approx(score, abs=1e-6)
            assert found[f"{part}_y_pred"].tolist() == score.argmax(1).tolist()


def test_class_weights_are_those_of_a_balanced_set(recorder: Any, dataset: Any) -> None:
    data = dataset("binary", n=400)
    train_rows = np.concatenate([np.flatnonzero(data.targets == 0), np.flatnonzero(data.targets == 1)[:20]])
    object.__setattr__(data, "splits", {"train": train_rows, "val": train_rows})
    kept = recorder()
    train(Recipe(data=data, model=_linear(2), epochs=1, batch_size=1000, class_weights=True, lr=1e-12), kept)
    from sklearn.utils.class_weight import compute_class_weight

    weights = compute_class_weight("balanced", classes=np.array([0, 1]), y=data.targets[train_rows].numpy())
    wanted = nn.functional.cross_entropy(
        torch.zeros(len(train_rows), 2), data.targets[train_rows], torch.tensor(weights).float()
    )
    assert kept.last("loss") == pytest.approx(wanted.item()) and weights[1] / weights[0] == pytest.approx(10)


def test_evaluation_is_in_eval_mode_and_training_modes_come_back(recorder: Any, dataset: Any) -> None:
    modes: list[tuple[bool, bool, bool]] = []

    class Watching(Net):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            modes.append((self.training, self.layers[2].training, torch.is_grad_enabled()))
            return super().forward(x)

    model = Watching()
    model.layers[2].eval()  # frozen on purpose, as one freezes a batch normalisation
    train(Recipe(data=dataset(), model=model, epochs=2, batch_size=25), recorder())
    assert (
        modes
        == [(False, False, False)]
        + ([(True, False, True)] * 3 + [(False, False, False)]) * 2
        + [(False, False, False)] * 2
    )


def test_bfloat16_trains_close_to_float32(recorder: Any, dataset: Any) -> None:
    data, curves = dataset(n=300), []
    for precision in ("32-true", "bf16-mixed"):
        kept = recorder()
        train(Recipe(data=data, model=_linear(), epochs=5, precision=precision, lr=0.02), kept)
        curves.append(list(kept.series("loss").values()))
    assert curves[0] != curves[1] and curves[0] == pytest.approx(curves[1], abs=0.02)


def test_half_precision_needs_a_gpu(recorder: Any, dataset: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    with pytest.raises(DLStudioError, match="bf16-mixed"):
        train(Recipe(data=dataset(), model=_linear(), precision="16-mixed"), recorder())


def test_cuda_that_is_not_there_is_refused_with_what_is(monkeypatch: pytest.MonkeyPatch) -> None:
    from dlstudio.training.device import check_device

    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    with pytest.raises(DLStudioError, match="no CUDA device, only the CPU.*dlstudio doctor"):
        check_device(Recipe(device="cuda"))
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda i: f"GPU {i}")
    check_device(Recipe(device="cuda:1"))
    check_device(Recipe(devices=2))
    for recipe in (Recipe(device="cuda:2"), Recipe(devices=3)):
        with pytest.raises(DLStudioError, match="cuda:0 GPU 0, cuda:1 GPU 1"):
            check_device(recipe)


def test_data_in_batches_from_torch_datasets(recorder: Any, dataset: Any) -> None:
    data, kept, streamed = dataset(n=300), recorder(), recorder()
    parts = {name: TensorDataset(*data.split(name)) for name in ("train", "val", "test")}
    train(Recipe(data=parts, model=_linear(), epochs=8, lr=0.05), streamed)
    train(Recipe(data=data, model=_linear(), epochs=8, lr=0.05), kept)
    assert streamed.last("test/accuracy") == pytest.approx(kept.last("test/accuracy"), abs=0.1)
    with np.load(streamed.folder / "results" / "predictions.npz") as found:
        assert found["test_row"].tolist() == list(range(75))


def test_a_batch_larger_than_the_data_is_one_step(recorder: Any, dataset: Any) -> None:
    kept = recorder()
    train(Recipe(data=dataset(n=40), model=_linear(), epochs=3, batch_size=5000, accumulate=4), kept)
    assert len(kept.series("loss")) == 3


def test_nan_losses_are_recorded_and_end_nothing(recorder: Any, dataset: Any) -> None:
    model = _linear(1)
    nn.init.constant_(model.weight, math.nan)  # type: ignore[arg-type]
    kept = recorder()
    train(Recipe(data=dataset("regression"), model=model, epochs=2), kept)
    assert all(math.isnan(v) for v in kept.series("loss").values()) and len(kept.series("loss")) == 4
    assert math.isnan(kept.last("val/loss")) and math.isnan(kept.last("test/r2"))


def test_compiled_models_train_to_the_same_losses(recorder: Any, dataset: Any) -> None:
    # The eager backend takes the compiler's whole path without a C++ toolchain.
    data, curves = dataset(), []
    original = torch.compile
    for compiled in (False, True):
        kept = recorder()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(torch, "compile", lambda m: original(m, backend="eager"))
            model = train(Recipe(data=data, model=_linear(), epochs=2, compile=compiled), kept)
        assert list(model.state_dict()) == ["weight", "bias"]
        curves.append(kept.series("loss"))
    assert curves[0] == pytest.approx(curves[1], rel=1e-6)


@pytest.mark.parametrize(
    ("task", "model", "words"),
    [
        ("multiclass", lambda: nn.Linear(5, 4), ["(2, 3)", "(2, 4)", "3 output units"]),
        ("binary", lambda: nn.Linear(5, 1), ["(2, 2)", "(2, 1)", "two logits|Two classes"]),
        ("regression", lambda: nn.Linear(5, 2), ["(2,)", "(2, 2)", "one output unit"]),
        ("multiclass", lambda: nn.Linear(6, 3), ["(2, 5)", "first layer"]),
        ("multiclass", lambda: nn.GRU(5, 3), ["one tensor", "tuple", "logits only"]),
    ],
)
def test_shapes_that_do_not_fit(recorder: Any, dataset: Any, task: str, model: Any, words: list[str]) -> None:
    with pytest.raises(DLStudioError) as caught:
        train(Recipe(data=dataset(task), model=model), recorder())
    for word in words:
        assert any(option in str(caught.value) for option in word.split("|")), (word, str(caught.value))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"model": nn.Flatten(), "data_features": 3}, "without any that require a gradient"),
        ({"model": 3}, "a model name, a torch.nn.Module"),
        ({"model": lambda: 3}, "that returned 3"),
        ({"model": Net, "model_options": {"hiden": 3}}, "hiden"),
        ({"model": "mpl"}, "Did you mean 'mlp'"),
        ({"data": "mortage"}, "Did you mean 'mortgage'"),
        ({"devices": 2, "device": "cpu"}, "dls.launch"),
    ],
)
def test_recipes_that_cannot_be_trained(recorder: Any, dataset: Any, changes: dict[str, Any], words: str) -> None:
    data = dataset(n_features=changes.pop("data_features", 5))
    with pytest.raises(DLStudioError, match=words):
        train(Recipe(**{"data": data, "model": Net, **changes}), recorder())


def test_class_remedies_are_refused_for_quantities(recorder: Any, dataset: Any) -> None:
    for name in ("class_weights", "balanced_sampler"):
        with pytest.raises(DLStudioError, match=f"{name}=False"):
            train(Recipe(data=dataset("regression"), model=_linear(1), **{name: True}), recorder())


def test_a_model_function_may_take_the_data_set(recorder: Any, dataset: Any) -> None:
    def make(dataset: Any, width: int) -> nn.Module:
        return nn.Sequential(nn.Linear(dataset.input_shape[0], width), nn.Linear(width, dataset.n_classes))

    model = train(Recipe(data=dataset(), model=make, model_options={"width": 7}, epochs=1), recorder())
    assert sum(p.numel() for p in model.parameters()) == 5 * 7 + 7 + 7 * 3 + 3


@pytest.fixture
def silent_clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """A clock that only moves when told."""
    from dlstudio.training import clock

    now = 0.0

    def move(seconds: float) -> None:
        nonlocal now
        now += seconds

    monkeypatch.setattr(clock.time, "perf_counter", lambda: now)
    return move


def test_the_clock_splits_time_and_leaves_pauses_out(silent_clock: Callable[[float], None]) -> None:
    from dlstudio.training.clock import PAUSE_S, Clock

    clock = Clock(torch.device("cpu"))
    for number in range(4):
        for phase, spent in (("data", 0.01), ("forward", 0.02), ("backward", 0.04), ("optimizer", 0.03)):
            silent_clock(spent)
            clock.lap(phase)
        due = clock.step(32)
        silent_clock(100.0 if number == 1 else 0.025)  # recording; once a pause
        clock.skip(PAUSE_S)
    assert due
    found = clock.report()
    assert found["throughput_samples_per_s"] == pytest.approx(4 * 32 / (4 * 0.1 + 3 * 0.025))
    assert [found[f"phase/{p}_ms"] for p in ("data", "forward", "backward", "optimizer")] == pytest.approx(
        [10, 20, 40, 30]
    )
