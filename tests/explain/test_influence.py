"""Influence equals its closed form, Captum's, and what one step of training really does."""

from __future__ import annotations

import copy
import threading
import warnings

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from dlstudio import results
from dlstudio.errors import DLStudioError
from dlstudio.explain.influence.result import describe
from dlstudio.explain.influence.row_gradients import RowGradients, default_loss
from dlstudio.explain.influence.trace import trace_influence


def rows(n: int, d: int = 6, n_classes: int = 3, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, d, generator=generator), torch.randint(n_classes, (n,), generator=generator)


def mlp(seed: int = 0, d: int = 6, n_classes: int = 3) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(d, 16), nn.Tanh(), nn.Dropout(0.5), nn.Linear(16, n_classes))


def full(result) -> np.ndarray:
    """The whole matrix (n, m) of a result with ``top`` = m."""
    matrix = np.empty(result.proponents.shape)
    np.put_along_axis(matrix, result.proponents, result.proponent_influence, axis=1)
    return matrix


def test_one_checkpoint_is_rate_times_inner_product_in_closed_form():
    """Logistic regression: the gradient is (p - y) by (x, 1)."""
    model = nn.Linear(6, 3).double()
    (x, y), (a, b) = rows(5), rows(40, seed=1)
    found = trace_influence(model, x, y, train=(a, b), checkpoints=[(model.state_dict(), 0.3)], top=40)
    weight, bias = (part.detach().numpy() for part in model.parameters())

    def residual(inputs, targets):
        scores = inputs.double().numpy() @ weight.T + bias
        p = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
        return p - np.eye(3)[targets]

    inner = x.double().numpy() @ a.double().numpy().T + 1
    np.testing.assert_allclose(full(found), 0.3 * inner * (residual(x, y) @ residual(a, b).T), rtol=1e-9, atol=1e-12)
    own = 0.3 * (residual(a, b) ** 2).sum(axis=1) * ((a.double() ** 2).sum(dim=1).numpy() + 1)
    np.testing.assert_allclose(found.self_influence, own, rtol=1e-9)


def test_least_squares_in_closed_form():
    model = nn.Sequential(nn.Linear(4, 1), nn.Flatten(0)).double()
    generator = torch.Generator().manual_seed(0)
    x, a = torch.randn(3, 4, generator=generator).double(), torch.randn(9, 4, generator=generator).double()
    y, b = torch.randn(3, generator=generator).double(), torch.randn(9, generator=generator).double()
    found = trace_influence(model, x, y, train=(a, b), checkpoints=[(model.state_dict(), 1.0)], top=9)
    with torch.no_grad():
        expected = 4 * torch.outer(model(x) - y, model(a) - b) * (x @ a.T + 1)
        np.testing.assert_allclose(found.y_pred, model(x).numpy())
    np.testing.assert_allclose(full(found), expected.numpy(), rtol=1e-9)


def test_it_predicts_what_a_step_of_training_does():
    """The loss of a row falls by its influence when a training row is learned from, to first order."""
    model = mlp().double().eval()
    (x, y), (a, b) = rows(4), rows(12, seed=1)
    rate = 1e-5
    found = full(trace_influence(model, x, y, train=(a, b), checkpoints=[(model.state_dict(), rate)], top=12))
    for at in range(12):
        trained = copy.deepcopy(model)
        functional.cross_entropy(trained(a[at : at + 1].double()), b[at : at + 1]).backward()
        torch.optim.SGD(trained.parameters(), rate).step()
        with torch.no_grad():
            losses = [functional.cross_entropy(net(x.double()), y, reduction="none") for net in (model, trained)]
        np.testing.assert_allclose(found[:, at], (losses[0] - losses[1]).numpy(), rtol=2e-3, atol=1e-10)


@pytest.mark.parametrize("layers", [None, ("3",)])
def test_several_checkpoints_equal_captums(layers, tmp_path):
    from captum.influence import TracInCP
    from torch.utils.data import TensorDataset

    states, rates = [mlp(seed).state_dict() for seed in (1, 2, 3)], [0.1, 0.05, 0.01]
    model = mlp().eval()
    (x, y), (a, b) = rows(5), rows(30, seed=1)
    found = trace_influence(
        model, x, y, train=(a, b), checkpoints=list(zip(states, rates, strict=True)), layers=layers, top=30
    )
    paths = [str(tmp_path / f"{at}.pt") for at in range(3)]
    for state, path in zip(states, paths, strict=True):
        torch.save(state, path)

    def put(net, path):
        net.load_state_dict(torch.load(path, weights_only=True))
        return rates[paths.index(path)]

    peer = TracInCP(
        model, TensorDataset(a, b), paths, put,
        layers=None if layers is None else list(layers), loss_fn=nn.CrossEntropyLoss(reduction="none"), batch_size=8,
    )  # fmt: skip
    with warnings.catch_warnings(action="ignore"):  # Captum makes inputs require gradients and says so
        matrix, own = peer.influence((x, y)), peer.self_influence()
    np.testing.assert_allclose(full(found), matrix.detach().numpy(), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(found.self_influence, own.detach().numpy(), rtol=1e-4)


@pytest.fixture(scope="module")
def flipped():
    """Handwritten digits, every twentieth training label moved, learned until most of those are known by heart."""
    from sklearn.datasets import load_digits

    data = load_digits()
    order = torch.randperm(len(data.target), generator=torch.Generator().manual_seed(0))
    x, y = torch.tensor(data.data / 16).float()[order], torch.tensor(data.target)[order]
    x, y = x[:1000], y[:1000].clone()
    wrong = np.arange(0, 1000, 20)
    y[wrong] = (y[wrong] + 1 + torch.from_numpy(wrong) % 9) % 10
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
    generator = torch.Generator().manual_seed(1)
    checkpoints = []
    for epoch in range(10):
        for batch in torch.randperm(1000, generator=generator).split(50):
            optimizer.zero_grad()
            functional.cross_entropy(model(x[batch]), y[batch]).backward()
            optimizer.step()
        if epoch in (3, 9):
            checkpoints.append((copy.deepcopy(model.state_dict()), 0.1))
    found = trace_influence(model, x[1:3], y[1:3], train=(x, y), checkpoints=checkpoints)
    return found, wrong


def test_wrong_labels_top_self_influence(flipped):
    found, wrong = flipped
    first = set(found.suspects(len(wrong))["train_row"])
    assert len(first & set(wrong)) >= 0.8 * len(wrong), "by chance one in twenty would be among them"
    assert found.suspects(10)["train_row"].isin(wrong).all()


def test_the_frame_ranks_helpers_and_hinderers(flipped):
    found, _ = flipped
    frame = found.frame()
    assert (frame.loc[frame["kind"] == "proponent", "influence"] > 0).all()
    assert (frame.loc[frame["kind"] == "opponent", "influence"] < 0).all()
    for _, group in frame.groupby(["row", "kind"]):
        assert group["influence"].abs().is_monotonic_decreasing and list(group["rank"]) == list(
            range(1, len(group) + 1)
        )
    assert len(found) == 2 and found.proponents.shape == (2, 10)


def test_the_result_survives_saving(flipped, tmp_path):
    found, _ = flipped
    assert results.load(results.save(found, tmp_path, "influence")) == found


def test_words(flipped):
    found, _ = flipped
    assert [finding.code for finding in found.findings] == ["DLS425"]
    assert describe(found)[0].startswith("The training rows with the largest influence on themselves are")
    row, rank = found.train_rows[found.proponents[0, 0]], found.y_train[found.proponents[0, 0]]
    assert f"Training on row {row} ({rank}) lowered its loss the most." in describe(found, 0)


def test_chunks_do_not_matter(monkeypatch):
    model, states = mlp().eval(), [mlp(1).state_dict(), mlp(2).state_dict()]
    (x, y), (a, b) = rows(7), rows(23, seed=1)
    once = trace_influence(model, x, y, train=(a, b), checkpoints=states, top=23)
    from dlstudio.explain.influence import row_gradients

    n_weights = sum(weight.numel() for weight in model.parameters())
    monkeypatch.setattr(row_gradients, "BATCH_NUMBERS", n_weights // 2 + 1)  # two rows in question at a time
    seen: list[tuple[int, int]] = []
    again = trace_influence(
        model, x, y, train=(a, b), checkpoints=states, top=23, max_batch=5, progress=lambda *at: seen.append(at)
    )
    np.testing.assert_allclose(full(once), full(again), atol=1e-6)
    np.testing.assert_allclose(once.self_influence, again.self_influence, rtol=1e-5)
    assert seen[-1][0] == seen[-1][1] == 4 * 2 * 23


def test_running_out_of_memory_halves_the_batch(monkeypatch):
    model = mlp().eval()
    (x, y), (a, b) = rows(7), rows(23, seed=1)
    options = {"train": (a, b), "checkpoints": [mlp(1).state_dict(), mlp(2).state_dict()], "top": 23}
    expected = full(trace_influence(model, x, y, **options))
    whole = RowGradients.__call__

    def tight(self, weights, inputs, targets):
        if len(inputs) > 3:
            raise torch.OutOfMemoryError("out of memory")
        return whole(self, weights, inputs, targets)

    monkeypatch.setattr(RowGradients, "__call__", tight)
    np.testing.assert_allclose(full(trace_influence(model, x, y, **options)), expected, atol=1e-6)


class Deciding(nn.Module):
    """Control flow that depends on the data cannot be vectorised over rows."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(6, 3), nn.Linear(6, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.a(x) if float(x.sum()) > 0 else self.b(x)


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.reads, self.middle, self.writes = nn.Linear(6, 6), nn.BatchNorm1d(6), nn.Linear(6, 6)
        self.writes.weight = self.reads.weight

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.writes(self.middle(self.reads(x)).tanh())


@pytest.mark.parametrize("kind", ["deciding", "tied", "gru", "cnn", "text"])
def test_gradients_of_rows_are_those_of_plain_backward(kind):
    torch.manual_seed(0)
    x, y = rows(5)
    if kind == "deciding":
        model: nn.Module = Deciding()
    elif kind == "tied":
        model = Tied()
    elif kind == "gru":
        from dlstudio.models.gru import GRU

        model, x = GRU(3, n_channels=2), torch.randn(5, 4, 2)
    elif kind == "cnn":
        model = nn.Sequential(
            nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(32, 3)
        )
        x = torch.randn(5, 1, 6, 6)
    else:
        from dlstudio.models.transformer import Transformer

        model, x = Transformer(3, n_tokens=20, length=4), torch.randint(1, 20, (5, 4))
    model.eval()
    found = trace_influence(model, x, y, train=(x, y), checkpoints=[(model.state_dict(), 1.0)], top=5)
    gradients = []
    for at in range(5):
        model.zero_grad()
        functional.cross_entropy(model(x[at : at + 1]), y[at : at + 1]).backward()
        parts = [torch.zeros_like(p) if p.grad is None else p.grad for p in model.parameters()]
        gradients.append(torch.cat([part.flatten() for part in parts]))
    expected = torch.stack(gradients)
    np.testing.assert_allclose(full(found), (expected @ expected.T).numpy(), rtol=1e-3, atol=1e-5)


def test_only_layers_that_are_trained_count():
    model = mlp().eval()
    model[0].requires_grad_(False)
    assert RowGradients(model, default_loss, None).names == ["3.weight", "3.bias"]
    model.requires_grad_(False)
    assert len(RowGradients(model, default_loss, None).names) == 4, "all of a model that was frozen for use"


def test_checkpoints_come_as_paths_dicts_and_pairs(tmp_path):
    model = mlp().eval()
    state = mlp(1).state_dict()
    optimizer = torch.optim.SGD(model.parameters(), 0.05)
    torch.save(state, tmp_path / "plain.pt")
    torch.save({"model_state_dict": state, "optimizer_state_dict": optimizer.state_dict()}, tmp_path / "full.pt")
    (x, y), (a, b) = rows(2), rows(9, seed=1)
    checkpoints = [state, (state, 0.5), tmp_path / "plain.pt", str(tmp_path / "full.pt"), (tmp_path / "full.pt", 0.2)]
    found = [full(trace_influence(model, x, y, train=(a, b), checkpoints=[one], top=9)) for one in checkpoints]
    for one, rate in zip(found, [1, 0.5, 1, 0.05, 0.2], strict=True):
        np.testing.assert_allclose(one, rate * found[0], rtol=1e-5, atol=1e-8)
    whole = trace_influence(model, x, y, train=(a, b), checkpoints=checkpoints, top=9)
    np.testing.assert_allclose(full(whole), sum(found), rtol=1e-4, atol=1e-6)
    assert whole.checkpoints == ("checkpoint 1", "checkpoint 2", "plain.pt", "full.pt", "full.pt")
    guessed = next(finding for finding in whole.findings if finding.code == "DLS428")
    assert "checkpoint 1, plain.pt" in guessed.sentence


def test_a_checkpoint_runs_no_code(tmp_path):
    class Evil:
        def __reduce__(self):
            return (open, (str(tmp_path / "written"), "w"))

    torch.save({"model": Evil()}, tmp_path / "evil.pt")
    (x, y) = rows(3)
    with pytest.raises(DLStudioError, match="a checkpoint of tensors and plain values"):
        trace_influence(mlp(), x, y, train=(x, y), checkpoints=[tmp_path / "evil.pt"])
    assert not (tmp_path / "written").exists()


def test_the_model_is_left_as_found():
    model, earlier = mlp(), mlp(1).state_dict()
    x, y = rows(4)
    functional.cross_entropy(model(x), y).backward()
    before, grad, state = copy.deepcopy(model.state_dict()), model[0].weight.grad, torch.get_rng_state()
    kept = grad.clone()
    trace_influence(model, x, y, train=(x, y), checkpoints=[earlier])
    assert model.training and model[0].weight.grad is grad and torch.equal(kept, grad)
    assert all(torch.equal(before[name], item) for name, item in model.state_dict().items())
    assert torch.equal(state, torch.get_rng_state())


def test_rows_without_a_gradient_are_told():
    model = nn.Linear(6, 3)
    with torch.no_grad():
        model.weight.zero_()
        model.bias.copy_(torch.tensor([1e4, 0, 0]))
    x, _ = rows(3)
    found = trace_influence(
        model, x, torch.zeros(3).long(), train=(x, torch.ones(3).long()), checkpoints=[model.state_dict()]
    )
    assert "DLS426" in [finding.code for finding in found.findings]
    assert found.frame().empty


def test_a_loss_of_ones_own_and_dict_outputs():
    class Named(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = nn.Linear(6, 3)

        def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
            return {"logits": self.net(x)}

    model = Named()
    (x, y), (a, b) = rows(3), rows(8, seed=1)
    with pytest.raises(DLStudioError, match="Pass loss="):
        trace_influence(model, x, y, train=(a, b), checkpoints=[model.state_dict()])
    found = trace_influence(
        model, x, y, train=(a, b), checkpoints=[model.state_dict()], top=8,
        loss=lambda outputs, targets: functional.cross_entropy(outputs["logits"], targets),
    )  # fmt: skip
    plain = trace_influence(model.net, x, y, train=(a, b), checkpoints=[model.net.state_dict()], top=8)
    np.testing.assert_allclose(full(found), full(plain), rtol=1e-5)
    assert found.y_pred is None and plain.y_pred is not None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"train": None}, r"train=\(inputs, targets\)"),
        ({"targets": None}, "inputs and targets of the rows"),
        ({"targets": torch.zeros(9).long()}, "one target for each of 3 rows"),
        ({"targets": torch.tensor([0, 1, 3])}, "targets from 0 to 2"),
        ({"targets": torch.tensor([0.0, 1, 2])}, "Pass both in the same form"),
        ({"checkpoints": []}, "a list of one checkpoint or more"),
        ({"checkpoints": ["missing.pt"]}, "which is not there"),
        ({"checkpoints": [nn.Linear(2, 2).state_dict()]}, "missing"),
        ({"checkpoints": [mlp(0, 6, 4).state_dict()]}, "of shape"),
        ({"checkpoints": [(mlp().state_dict(), -1)]}, "a learning rate above 0"),
        ({"layers": ["head"]}, "known layer names"),
        ({"layers": ["1"]}, "layers with weights"),
        ({"top": 0}, "top of 1 or more"),
        ({"max_seconds": 1e-9}, "Allow more max_seconds"),
        ({"max_seconds": True}, "max_seconds above 0"),
        ({"max_batch": 0}, "max_batch of 1 or more"),
        ({"top": 2.5}, "top of 1 or more"),
        ({"inputs": torch.zeros(3, 5), "train": (torch.zeros(8, 5), torch.zeros(8).long())}, "a model that takes"),
        ({"inputs": torch.full((3, 6), torch.nan)}, "finite inputs"),
        ({"targets": ["a", "b", "c"]}, "class indices or values as targets"),
        ({"targets": torch.zeros(3, dtype=torch.complex64)}, "complex64"),
        ({"targets": torch.tensor([0.0, torch.nan, 1])}, "finite targets"),
        ({"train": (torch.zeros(0, 6), torch.zeros(0).long())}, "one row or more"),
        ({"train": torch.zeros(8, 6)}, r"train=\(inputs, targets\)"),
    ],
)
def test_bad_input_is_answered(change, message):
    x, y = rows(3)
    options = {"inputs": x, "targets": y, "train": rows(8, seed=1), "checkpoints": [mlp().state_dict()]} | change
    with pytest.raises(DLStudioError, match=message):
        trace_influence(mlp(), **options)


def test_a_run_brings_its_data_and_checkpoints():
    from dlstudio.training.fit import fit
    from dlstudio.training.recipe import Recipe

    run = fit(Recipe(data="mortgage", model="mlp", epochs=2, name="influence", lr=0.01, model_options={"hidden": (8,)}))
    from dlstudio.data.load import load

    data = load("mortgage")
    row = int(data.splits["test"][3])
    found = trace_influence(run, rows=[row], top=3)
    assert found.run == run.key and list(found.rows) == [row]
    assert set(found.train_rows[found.proponents[0]]) <= set(data.splits["train"])
    assert found.class_names == ("denied", "approved") and found.y_true[0] == data.targets[row]
    np.testing.assert_allclose(found.learning_rates, 0.01)
    assert describe(found, 0)[0].startswith(f"Row {row} is {data.class_names[int(data.targets[row])]}, predicted ")
    kept = run.folder / "results" / "influence.json"
    assert results.load(kept) == found
    many = trace_influence(run.name)
    assert len(many) == 20 and results.load(kept) == many
    trace_influence(run, rows=[row])
    assert results.load(kept) == many  # a look at one row takes nothing away
    with pytest.raises(DLStudioError, match="row numbers from 0 to"):
        trace_influence(run, rows=[10**6])


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated")
def test_what_is_no_module_or_a_scripted_one_is_refused():
    x, y = rows(3)
    model = mlp().eval()
    options = {"train": (x, y), "checkpoints": [model.state_dict()]}
    with pytest.raises(DLStudioError, match="a torch.nn.Module or a run"):
        trace_influence(lambda given: given, x, y, **options)
    with pytest.raises(DLStudioError, match="a scripted one"):
        trace_influence(torch.jit.script(model), x, y, **options)


def test_numpys_numbers_a_single_row_and_one_layer_are_fine():
    (x, y), model = rows(1), mlp().eval()
    numbers = {"top": np.int64(1), "max_batch": np.uint8(1)}
    found = trace_influence(model, x, y, train=(x, y), checkpoints=[(model.state_dict(), np.float32(0.5))], **numbers)
    assert found.proponents.tolist() == [[0]] and found.learning_rates.tolist() == [0.5]
    np.testing.assert_allclose(found.proponent_influence[0], found.self_influence, rtol=1e-6)
    last = trace_influence(model, x, y, train=(x, y), checkpoints=[model.state_dict()], layers="3")
    assert last.layers == ("3",) and last.n_weights == 16 * 3 + 3


def test_gradients_of_sparse_embeddings_count():
    torch.manual_seed(0)
    words, (_, y) = torch.randint(1, 20, (5, 4)), rows(5)
    model = nn.Sequential(nn.Embedding(20, 3), nn.Flatten(), nn.Linear(12, 3))
    options = {"train": (words, y), "checkpoints": [model.state_dict()], "top": 5}
    dense = trace_influence(model, words, y, **options)
    model[0].sparse = True
    np.testing.assert_allclose(full(trace_influence(model, words, y, **options)), full(dense), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("calls", [1, 5])
def test_it_ends_when_it_is_cancelled(calls):
    event, seen, model = threading.Event(), [], mlp().eval()

    def count(*_):
        seen.append(1)
        if len(seen) >= calls:
            event.set()

    model.register_forward_hook(count)
    x, y = rows(20)
    with pytest.raises(DLStudioError, match="time for all checkpoints and rows, but got it was cancelled"):
        trace_influence(
            model, x, y, train=(x, y), checkpoints=[model.state_dict()] * 9, max_batch=4, cancel=event, progress=False
        )
    assert len(seen) <= calls + 12, "after the batch under way, and the look whether rows can go together"


def test_predictions_fit_into_the_memory_there_is(monkeypatch):
    model, sizes = mlp().eval(), []
    x, y = rows(23)
    options = {"train": (x, y), "checkpoints": [mlp(1).state_dict()], "top": 3, "progress": False}
    expected = trace_influence(model, x, y, **options)

    def tight(module, inputs):
        if len(inputs[0]) > 5:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes")
        sizes.append(len(inputs[0]))

    model.register_forward_pre_hook(tight)
    assert trace_influence(model, x, y, **options).y_pred.tolist() == expected.y_pred.tolist()
    assert max(sizes) <= 5
