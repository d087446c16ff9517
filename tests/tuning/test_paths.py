"""What a search and an ablation may change in a recipe: one check for both, before anything starts."""

from __future__ import annotations

from typing import Any

import pytest
from torch import nn

from dlstudio.errors import DLStudioError
from dlstudio.training.recipe import Recipe
from dlstudio.tuning.factors import cell_recipe, read_factors
from dlstudio.tuning.paths import changed
from dlstudio.tuning.space import read_space

RECIPE = Recipe(data="digits", model="mlp", model_options={"dropout": 0.2, "hidden": [64, 32]})


class Own(nn.Module):
    pass


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("model_options.dropuot", 0.5, "Did you mean 'dropout'"),
        ("model_options.dropout", -3.0, "a probability"),
        ("model_options.hidden", [0], "whole numbers of at least 1"),
        ("model_options", {"dropuot": 0.5}, "Did you mean 'dropout'"),
        ("model_options.hidden.0", 8, r"dots only where there are names inside, but got 'model_options.hidden.0'"),
        ("device", "cpu", "changes what is learned"),
        ("devices", 2, "changes what is learned"),
        ("strategy", "ddp", "changes what is learned"),
        ("variant", "b", "changes what is learned"),
        ("model", "mpl", "Did you mean 'mlp'"),
        ("data", "digit", "Did you mean 'digits'"),
        ("lr.x", 1.0, "dots only inside the recipe's options"),
    ],
)
def test_what_a_recipe_does_not_allow_is_refused_of_axes_and_factors_alike(name: str, value: Any, says: str) -> None:
    with pytest.raises(DLStudioError, match=says):
        read_space({name: [value]}, RECIPE)
    with pytest.raises(DLStudioError, match=says):
        read_factors(RECIPE, {"it": {name: value}})


def test_both_ends_of_an_options_range_are_tried() -> None:
    for ends in ((-3.0, 0.5), (0.0, 5.0)):
        with pytest.raises(DLStudioError, match="a probability"):
            read_space({"model_options.dropout": ends}, RECIPE)
    assert read_space({"model_options.dropout": (0.0, 0.5)}, RECIPE).axes["model_options.dropout"].high == 0.5
    # What a network of one's own takes is not known before it is made.
    assert read_space({"model_options.anything": (-3.0, 5.0)}, RECIPE.replace(model=Own, model_options={}))


def test_options_of_any_network_that_may_be_chosen() -> None:
    models = {"model": ["mlp", "gru"]}
    assert read_space({**models, "model_options.width": (8, 64)}, RECIPE)  # the one has it, the other has not
    with pytest.raises(DLStudioError, match="Did you mean 'width'"):
        read_space({**models, "model_options.widht": (8, 64)}, RECIPE)
    assert read_factors(RECIPE, {"depth": {"model": "gru", "model_options": {"width": 8}}})


def test_names_inside_each_other_are_refused_in_either_order() -> None:
    whole = {"hidden": [8]}
    parts = {"model_options": whole, "model_options.dropout": 0.0}
    for params in (parts, dict(reversed(parts.items()))):
        with pytest.raises(DLStudioError, match="not inside each other"):
            changed(RECIPE, params)
    assert whole == {"hidden": [8]}
    with pytest.raises(DLStudioError, match="not inside each other"):
        read_space({"model_options": [whole], "model_options.dropout": (0.0, 0.5)}, RECIPE)
    factors = read_factors(RECIPE, {"width": {"model_options": whole}, "drop": {"model_options.dropout": 0.0}})
    with pytest.raises(DLStudioError, match="not inside each other"):
        cell_recipe(RECIPE, factors, [1, 1])
    alone = [cell_recipe(RECIPE, factors, levels).model_options for levels in ([1, 0], [0, 1])]  # one out: either
    assert alone == [{"hidden": [8]}, {"dropout": 0.0, "hidden": [64, 32]}]
