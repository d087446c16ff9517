from __future__ import annotations

from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from dlstudio.errors import DLStudioError
from dlstudio.models.build import available, build, options
from dlstudio.models.cnn import CNN
from dlstudio.models.parts import Rescale


@dataclass
class Data:
    """As much of a data set as a model is built from."""

    modality: str
    input_shape: tuple[int, ...]
    task: str = "multiclass"
    n_classes: int = 3
    vocabulary: tuple[str, ...] = ()
    extra: dict[str, Any] = field(default_factory=dict)

    def batch(self, n: int) -> torch.Tensor:
        if self.modality == "text":
            return torch.randint(0, len(self.vocabulary), (n, *self.input_shape))
        return torch.randn(n, *self.input_shape)


TABULAR = Data("tabular", (20,))
SEQUENCE = Data("sequence", (14, 5))
TEXT = Data("text", (12,), vocabulary=tuple("abcdefgh"))
IMAGES = [Data("image", shape) for shape in ((1, 28, 28), (1, 8, 8), (3, 32, 48), (2, 1, 5))]
PAIRS = [
    ("mlp", TABULAR),
    ("mlp", SEQUENCE),
    ("mlp", IMAGES[0]),
    *(("cnn", image) for image in IMAGES),
    ("gru", SEQUENCE),
    ("gru", TEXT),
    ("transformer", SEQUENCE),
    ("transformer", TEXT),
]


@pytest.mark.parametrize("task", ["binary", "multiclass", "regression"])
@pytest.mark.parametrize(("name", "data"), PAIRS)
def test_every_model_runs_forward_and_backward_on_its_data(name: str, data: Data, task: str) -> None:
    torch.manual_seed(0)
    data = Data(data.modality, data.input_shape, task, {"binary": 2, "multiclass": 3}.get(task, 0), data.vocabulary)
    model = build(name, data, **({"dropout": 0.1}))
    for n in (7, 1):
        outputs = model(data.batch(n))
        assert outputs.shape == ((n,) if task == "regression" else (n, data.n_classes))
    outputs = model(data.batch(32))
    outputs.square().mean().backward()
    for parameter_name, parameter in model.named_parameters():
        assert parameter.grad is not None, parameter_name
        assert torch.isfinite(parameter.grad).all(), parameter_name
        assert parameter.grad.abs().sum() > 0, parameter_name


@pytest.mark.parametrize(("name", "data"), PAIRS)
def test_every_small_module_is_called_once_a_pass(name: str, data: Data) -> None:
    # Explanation methods hook activations: one module used twice, or a functional one, would break them.
    model = build(name, data)
    calls: dict[str, int] = {}
    for path, module in model.named_modules():
        if not list(module.children()):
            module.register_forward_hook(lambda *_, path=path: calls.update({path: calls.get(path, 0) + 1}))
    model(data.batch(2))
    leaves = [path for path, module in model.named_modules() if not list(module.children())]
    assert calls == dict.fromkeys(leaves, 1)


@pytest.mark.parametrize("name", ["gru", "transformer"])
def test_padding_does_not_change_the_answer(name: str) -> None:
    torch.manual_seed(0)
    model = build(name, TEXT).eval()
    tokens = torch.randint(1, 8, (5, 12))
    tokens[:, 7:] = 0
    inputs = {"full": tokens, "short": tokens[:, :7]}
    torch.testing.assert_close(model(inputs["full"]), model(inputs["short"]), atol=1e-6, rtol=1e-5)
    changed = tokens.clone()
    changed[:, 6] = torch.where(tokens[:, 6] == 1, 2, 1)
    assert (model(changed) - model(tokens)).abs().max() > 1e-4


@pytest.mark.parametrize("name", ["gru", "transformer"])
def test_a_text_without_words_gives_a_finite_answer_and_gradient(name: str) -> None:
    model = build(name, TEXT)
    outputs = model(torch.zeros(3, 12, dtype=torch.int64))
    outputs.sum().backward()
    assert torch.isfinite(outputs).all()
    assert all(torch.isfinite(parameter.grad).all() for parameter in model.parameters() if parameter.grad is not None)


@pytest.mark.parametrize("name", ["gru", "transformer"])
def test_rows_of_a_batch_do_not_see_each_other(name: str) -> None:
    torch.manual_seed(0)
    model = build(name, SEQUENCE).eval()
    batch = SEQUENCE.batch(6)
    torch.testing.assert_close(model(batch)[2], model(batch[2:3])[0], atol=1e-6, rtol=1e-5)


def test_the_transformer_tells_the_order_of_steps() -> None:
    torch.manual_seed(0)
    model = build("transformer", SEQUENCE).eval()
    batch = SEQUENCE.batch(4)
    assert (model(batch) - model(batch.flip(1))).abs().max() > 1e-4


def test_a_regression_starts_at_the_scale_of_its_training_targets() -> None:
    torch.manual_seed(0)
    targets = torch.cat([torch.full((50,), 3000.0), torch.full((50,), 5000.0), torch.full((100,), 1e9)])
    data = SimpleNamespace(
        modality="tabular",
        task="regression",
        n_classes=0,
        input_shape=(20,),
        targets=targets,
        splits={"train": np.arange(100)},
    )
    model = build("mlp", data)
    (rescale,) = (module for module in model.modules() if isinstance(module, Rescale))
    assert (float(rescale.mean), float(rescale.scale)) == (4000.0, 1000.0)
    assert 2000 < model(torch.randn(64, 20)).mean() < 6000
    assert set(model.state_dict()) >= {"2.mean", "2.scale"}


def test_defaults_and_options() -> None:
    assert options("mlp") == {"hidden": (64, 64), "dropout": 0.0}
    widths = [m.out_features for m in build("mlp", TABULAR, hidden=[8]).modules() if isinstance(m, nn.Linear)]
    assert widths == [8, 3]
    assert [m.out_features for m in build("mlp", TABULAR, hidden=8).modules() if isinstance(m, nn.Linear)] == [8, 3]
    assert [m.out_features for m in build("mlp", TABULAR, hidden=()).modules() if isinstance(m, nn.Linear)] == [3]
    assert not any(isinstance(module, nn.Dropout) for module in build("mlp", TABULAR).modules())
    assert set(available()) == {"mlp", "cnn", "gru", "transformer"}
    assert all("tabular" in text or "image" in text or "text" in text for text in available().values())


def test_the_same_seed_gives_the_same_weights() -> None:
    torch.manual_seed(4)
    one = build("transformer", TEXT)
    torch.manual_seed(4)
    other = build("transformer", TEXT)
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))


def test_large_images_are_averaged_to_a_bounded_head() -> None:
    small, large = CNN((1, 28, 28), 2), CNN((1, 224, 224), 2)
    assert sum(p.numel() for p in small.parameters()) == sum(p.numel() for p in large.parameters())


def test_token_ids_without_a_vocabulary() -> None:
    inputs = torch.tensor([[1, 9, 0], [2, 4, 0]])
    data = SimpleNamespace(modality="text", task="binary", n_classes=2, input_shape=(3,), inputs=inputs)
    embedding = next(m for m in build("gru", data).modules() if isinstance(m, nn.Embedding))
    assert embedding.num_embeddings == 10
    streamed = SimpleNamespace(modality="text", task="binary", n_classes=2, input_shape=(3,))
    with pytest.raises(DLStudioError, match="n_tokens"):
        build("gru", streamed)
    embedding = next(m for m in build("gru", streamed, n_tokens=30).modules() if isinstance(m, nn.Embedding))
    assert embedding.num_embeddings == 30


@pytest.mark.parametrize(
    ("name", "data", "chosen", "message"),
    [
        ("mpl", TABULAR, {}, "Did you mean 'mlp'"),
        ("mlp", TABULAR, {"hiden": (3,)}, "Did you mean 'hidden'"),
        ("mlp", TABULAR, {"n_tokens": 4}, "mlp option"),
        ("cnn", TABULAR, {}, "image data for the model 'cnn'.*tabular data.*'mlp'"),
        ("gru", IMAGES[0], {}, "Choose 'mlp' or 'cnn'"),
        ("mlp", TEXT, {}, "'gru' or 'transformer'.*token ids"),
        ("mlp", TABULAR, {"hidden": (64, 0)}, r"at least 1 for 'hidden', but got \(64, 0\)"),
        ("mlp", TABULAR, {"hidden": "64"}, "hidden"),
        ("mlp", TABULAR, {"dropout": 1.5}, "probability"),
        ("gru", TEXT, {"n_layers": 0}, "n_layers"),
        ("gru", TEXT, {"width": 6.5}, "width"),
        ("transformer", TEXT, {"width": 30, "n_heads": 4}, "multiple of n_heads"),
    ],
)
def test_wrong_names_and_options(name: str, data: Data, chosen: dict[str, Any], message: str) -> None:
    with pytest.raises(DLStudioError, match=message):
        build(name, data, **chosen)
