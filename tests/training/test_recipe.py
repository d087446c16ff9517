from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from dlstudio.data.load import available as available_data
from dlstudio.errors import DLStudioError
from dlstudio.models.build import available as available_models
from dlstudio.training.recipe import Recipe


def test_recipe_module_imports_no_framework() -> None:
    code = (
        "import sys; from dlstudio.training.recipe import Recipe; Recipe();"
        "from dlstudio.training.device import check_device; check_device(Recipe(device='cpu'));"
        "print([m for m in ('torch', 'pandas', 'yaml', 'numpy', 'mlflow') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_dict_round_trip_keeps_every_field() -> None:
    recipe = Recipe(
        data="digits", model="cnn", model_options={"channels": [8, 16]}, epochs=3, clip_norm=1, sensitive=["sex"],
        early_stopping=4, schedule="one_cycle", name="a", variant="b", watch_every=5, accumulate=2, seed=7,
    )  # fmt: skip
    assert Recipe.from_dict(recipe.to_dict()) == recipe
    assert recipe.sensitive == ("sex",) and recipe.clip_norm == 1.0 and isinstance(recipe.clip_norm, float)


def test_yaml_round_trip_and_text_numbers(tmp_path: Path) -> None:
    file = tmp_path / "recipe.yaml"
    file.write_text("model: mlp\nlr: 1e-3\nmodel_options:\n  hidden: [8]\n")  # YAML 1.1 reads 1e-3 as text
    recipe = Recipe.from_yaml(file)
    assert recipe.lr == 1e-3 and recipe.model_options == {"hidden": [8]}
    file.write_text(recipe.replace(epochs=3, schedule="cosine").to_yaml())
    assert Recipe.from_yaml(file) == recipe.replace(epochs=3, schedule="cosine")
    file.write_text("")
    assert Recipe.from_yaml(file) == Recipe()


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"epochs": 0}, ["epochs", "at least 1", "epochs=0"]),
        ({"batch_size": -1}, ["batch_size", "at least 1"]),
        ({"lr": 0}, ["lr", "above 0"]),
        ({"lr": float("nan")}, ["lr", "a number above 0"]),
        ({"lr": "fast"}, ["lr", "'fast'"]),
        ({"seed": 2.5}, ["seed", "whole number"]),
        ({"seed": 2**32}, ["seed", "4294967295"]),
        ({"epochs": True}, ["epochs=True"]),
        ({"clip_norm": 0}, ["clip_norm", "above 0 or None"]),
        ({"early_stopping": 0}, ["early_stopping", "at least 1 or None"]),
        ({"optimizer": "adamv"}, ["optimizer", "Did you mean 'adam"]),
        ({"schedule": 3}, ["schedule", "'cosine'"]),
        ({"precision": "bf16"}, ["precision", "bf16-mixed"]),
        ({"device": "cude"}, ["device", "Did you mean 'cuda'"]),
        ({"model_options": 3}, ["model_options", "mapping"]),
        ({"compile": "yes"}, ["compile", "true or false"]),
        ({"data": " "}, ["data"]),
        ({"model": None}, ["model"]),
        ({"name": ""}, ["name"]),
        ({"devices": 2, "strategy": "single"}, ["devices=2", "ddp"]),
        ({"devices": 2, "device": "cuda:1"}, ["devices=2", "cuda:1"]),
        ({"device": "cpu", "precision": "16-mixed"}, ["16-mixed", "bf16-mixed"]),
        ({"class_weights": True, "balanced_sampler": True}, ["class_weights and balanced_sampler"]),
    ],
)
def test_values_out_of_range_are_named_with_their_range(values: dict[str, object], words: list[str]) -> None:
    with pytest.raises(DLStudioError) as caught:
        Recipe(**values)  # type: ignore[arg-type]
    assert all(word in str(caught.value) for word in words), str(caught.value)


def test_unknown_fields_get_the_nearest_name() -> None:
    for make in (lambda: Recipe.from_dict({"epoch": 3}), lambda: Recipe().replace(epoch=3)):
        with pytest.raises(DLStudioError, match="Did you mean 'epochs'"):
            make()


@pytest.mark.parametrize(("text", "words"), [("- 1\n- 2\n", "mapping"), ("a: [", "YAML"), (None, "No such file")])
def test_files_that_are_no_recipe(tmp_path: Path, text: str | None, words: str) -> None:
    file = tmp_path / "recipe.yaml"
    if text is not None:
        file.write_text(text)
    with pytest.raises(DLStudioError, match=words):
        Recipe.from_yaml(file)


def test_objects_are_described_in_words() -> None:
    import pandas as pd
    from torch import nn

    frame = pd.DataFrame({"a": [1, 2], "b": [3, 4]})
    recipe = Recipe(data=frame, model=nn.Linear(2, 2), model_options={"activation": nn.ReLU})
    described = recipe.to_dict()
    assert not recipe.is_plain and Recipe().is_plain
    assert described["data"] == "DataFrame (2 x 2)" and described["model"] == "Linear"
    assert described["model_options"] == {"activation": "ReLU"}
    assert Recipe(data=(frame, frame)).to_dict()["data"] == "(DataFrame (2 x 2), DataFrame (2 x 2))"
    with pytest.raises(DLStudioError, match="Keep this recipe in Python"):
        recipe.to_yaml()


def test_schema_describes_every_field_for_a_form() -> None:
    schema = {field.name: field for field in Recipe.schema()}
    assert list(schema) == list(Recipe.__dataclass_fields__)
    assert all(field.label and field.help and field.group for field in schema.values())
    assert schema["optimizer"].choices == ("sgd", "adam", "adamw", "rmsprop")
    assert schema["lr"].above and schema["lr"].minimum == 0 and schema["clip_norm"].optional
    assert all(getattr(Recipe(), name) == field.default for name, field in schema.items())


def test_suggested_names_exist() -> None:
    schema = {field.name: field for field in Recipe.schema()}
    assert set(schema["data"].suggestions) <= set(available_data())
    assert set(schema["model"].suggestions) == set(available_models())


def test_a_misspelt_field_is_suggested_at_once():
    with pytest.raises(DLStudioError, match="Did you mean 'optimizer'"):
        Recipe(optimiser="sgd")
