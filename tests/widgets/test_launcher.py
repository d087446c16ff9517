"""The form against the schema it is made from, and the code it shows against the recipe it starts."""

from __future__ import annotations

import html
import re
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from dlstudio.errors import DLStudioError
from dlstudio.training.recipe import Recipe
from dlstudio.widgets import form
from dlstudio.widgets import launcher as launchers
from dlstudio.widgets.launcher import Launcher, launcher
from dlstudio.widgets.live import LiveView


def words(markup: str) -> str:
    return html.unescape(re.sub(r"<[^>]+>", "", markup))


def shown_recipe(built: Launcher) -> Any:
    """Run the code that the form shows, with a `launch` that only hands the recipe back."""
    source = words(built.code.value).removeprefix("The same in code")
    return eval(source, {"dls": SimpleNamespace(Recipe=Recipe, launch=lambda recipe: recipe)})


def test_every_field_of_a_recipe_has_a_control_at_its_default() -> None:
    built = launcher()
    assert list(built.fields) == [field.name for field in Recipe.schema()]
    assert built.recipe() == Recipe()
    assert not built.start.disabled


@pytest.mark.parametrize(
    ("name", "typed", "value"),
    [
        ("data", "digits", "digits"),
        ("model", "cnn", "cnn"),
        ("epochs", "7", 7),
        ("lr", "3e-4", 3e-4),
        ("clip_norm", "1.5", 1.5),
        ("clip_norm", " ", None),
        ("sensitive", "race, sex", ("race", "sex")),
        ("model_options", "hidden=128, dropout=0.1, norm='layer'", {"hidden": 128, "dropout": 0.1, "norm": "layer"}),
        ("class_weights", True, True),
        ("schedule", "cosine", "cosine"),
        ("name", "o'hara <b>", "o'hara <b>"),
        ("device", "cpu", "cpu"),
    ],
)
def test_what_is_typed_is_in_the_recipe_and_in_the_code(name: str, typed: Any, value: Any) -> None:
    built = launcher()
    built.fields[name].control.value = typed
    assert built.recipe() == Recipe(**{name: value})
    assert shown_recipe(built) == Recipe(**{name: value})


@pytest.mark.parametrize(
    ("name", "typed", "complaint"),
    [
        ("epochs", "0", "epochs to be a whole number of at least 1"),
        ("epochs", "", "epochs"),
        ("lr", "fast", "lr to be a number above 0"),
        ("seed", "1.5", "seed to be a whole number"),
        ("model_options", "hidden:128", "options as name=value"),
        ("model_options", "hidden=__import__('os')", "options as name=value"),
    ],
)
def test_a_wrong_value_is_said_beside_its_field(name: str, typed: str, complaint: str) -> None:
    built = launcher()
    before = built.code.value
    built.fields[name].control.value = typed
    assert complaint in words(built.fields[name].note.value)
    assert built.start.disabled
    assert built.fields[name].field.label in words(built.message.value)
    assert built.code.value == before
    control = built.fields[name].control
    control.value = "" if built.fields[name].field.kind == "options" else "3"
    assert not built.start.disabled
    assert words(built.message.value) == ""


def test_a_contradiction_between_fields_is_said_beside_the_button() -> None:
    built = launcher()
    built.fields["class_weights"].control.value = True
    built.fields["balanced_sampler"].control.value = True
    assert "one remedy against class imbalance" in words(built.message.value)
    assert built.start.disabled


def test_start_launches_and_shows_the_run(written: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[Recipe] = []
    runs = [written("one"), written("two")]

    def launch(recipe: Recipe) -> Any:
        started.append(recipe)
        return runs[len(started) - 1].run

    monkeypatch.setattr(launchers, "launch", launch)
    built = launcher()
    built.fields["epochs"].control.value = "3"
    built.start.click()
    assert started == [Recipe(epochs=3)]
    (view,) = built.view.children
    assert isinstance(view, LiveView) and view.run == built.run == runs[0].run
    assert "Started one" in words(built.message.value)
    built.start.click()
    (view,) = built.view.children
    assert view.run == runs[1].run
    assert "Started before: one" in words(built.message.value)


@pytest.mark.parametrize(
    "error", [DLStudioError("a CUDA device", "none", "Use device='cpu'."), RuntimeError("no more processes")]
)
def test_a_launch_that_fails_says_why(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    def launch(recipe: Recipe) -> None:
        raise error

    monkeypatch.setattr(launchers, "launch", launch)
    built = launcher()
    built.start.click()
    assert error.args[0] in words(built.message.value)
    assert built.run is None and built.view.children == ()


def test_devices_come_with_their_free_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        form, "gpus", lambda: [{"index": 0, "name": "NVIDIA H100", "total_mib": 81_920, "free_mib": 40_960}]
    )
    assert form.device_options()["cuda:0"] == "NVIDIA H100: 40.0 of 80.0 GiB free."
    monkeypatch.setattr(form, "gpus", list)
    assert list(form.device_options()) == ["auto", "cpu"]
    assert "no NVIDIA GPU" in form.device_options()["auto"]


def test_data_sets_and_models_come_with_a_description() -> None:
    built = launcher()
    for name in ("data", "model"):
        field = built.fields[name]
        assert set(field.options) >= {"mortgage", "digits"} if name == "data" else {"mlp", "cnn", "gru", "transformer"}
        assert words(field.note.value) == field.options[field.control.value]
        assert all(len(text) > 20 for text in field.options.values())
