"""What may be searched, and what is refused before anything starts."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from dlstudio.errors import DLStudioError
from dlstudio.training.recipe import Recipe
from dlstudio.tuning.begin import grid_points, grid_size, starting_point
from dlstudio.tuning.paths import changed
from dlstudio.tuning.space import Space, read_space


def test_every_way_to_write_a_range() -> None:
    space = read_space(
        {
            "lr": (1e-4, 1e-1, "log"),
            "epochs": (5, 20),
            "weight_decay": (0.0, 0.1),
            "batch_size": [32, 64],
            "model_options.dropout": FloatDistribution(0.0, 0.5),
        },
        Recipe(),
    )
    assert space.distributions == {
        "lr": FloatDistribution(1e-4, 1e-1, log=True),
        "epochs": IntDistribution(5, 20),
        "weight_decay": FloatDistribution(0.0, 0.1),
        "batch_size": CategoricalDistribution([32, 64]),
        "model_options.dropout": FloatDistribution(0.0, 0.5),
    }
    assert Space.from_json(space.to_json()) == space


@pytest.mark.parametrize(
    ("space", "complaint"),
    [
        ({"lrr": (0.1, 0.2)}, "Did you mean 'lr'"),
        ({"model_option.dropout": (0.1, 0.2)}, "recipe field"),
        ({"lr.x": (0.1, 0.2)}, "dots only inside"),
        ({"lr": (0.0, 0.1)}, "lr to be a number above 0"),
        ({"lr": (-1.0, 0.1, "log")}, "above 0"),
        ({"lr": (0.2, 0.1)}, "the lower one first"),
        ({"lr": (0.1, float("nan"))}, "finite"),
        ({"lr": 0.1}, "a list of choices"),
        ({"lr": (0.1, 0.2, "lin")}, "a list of choices"),
        ({"batch_size": (16, 128, 16)}, r"IntDistribution\(16, 128, step=16\)"),
        ({"optimizer": ("sgd", "adamw")}, r"For example 'optimizer': \['sgd', 'adamw'\]"),
        ({"epochs": (5,)}, r"For example 'epochs': \(16, 128\)"),
        ({"learning_rate": (0.1, 0.2)}, "Choose a recipe field|Did you mean 'gradient|Did you mean 'lr"),
        ({"epochs": (1.0, 5.0)}, "whole numbers"),
        ({"epochs": (0, 5)}, "at least 1"),
        ({"seed": (0, 2**33)}, "at most"),
        ({"optimizer": ["adam", "adamm"]}, "Did you mean 'adam"),
        ({"optimizer": (1, 2)}, "choices for 'optimizer'"),
        ({"model": ["mlp", "mpl"]}, "Did you mean 'mlp'"),
        ({"data": ["mortgages"]}, "Did you mean 'mortgage'"),
        ({"model": [object()]}, "Tune a function"),
        ({"batch_size": []}, "empty list"),
        ({"batch_size": [32, 32]}, "that differ"),
        ({"name": ["a", "b"]}, "changes what is learned"),
        ({"devices": [1, 2]}, "changes what is learned"),
        ({}, "at least one parameter"),
        ({1: [2]}, "text as the name"),
    ],
)
def test_what_cannot_be_searched_is_refused(space: Any, complaint: str) -> None:
    with pytest.raises(DLStudioError, match=complaint):
        read_space(space, Recipe())


def test_choices_may_be_lists_and_booleans_beside_numbers() -> None:
    space = read_space({"model_options.hidden": [[4], [8, 8]], "x": [True, 1, "1.5", 1.5]}, None)
    hidden, x = space.axes["model_options.hidden"], space.axes["x"]
    for axis in (hidden, x):
        for value in axis.choices:
            back = axis.meaning(axis.known(value))
            assert back == value and type(back) is type(value)
            assert axis.label(value) == axis.known(value)
    assert space.meanings({"model_options.hidden": hidden.known([8, 8])}) == {"model_options.hidden": [8, 8]}


def test_choices_that_are_equal_but_not_alike_are_told_apart() -> None:
    axis = read_space({"x": [1, 1.0, True, [1], [True]]}, None).axes["x"]
    for value in axis.choices:
        assert repr(axis.meaning(axis.known(value))) == repr(value)
    assert read_space({"x": [1, 2]}, None).axes["x"].known(2.0) == 2  # as long as only one can be meant


def test_numbers_of_numpy_and_tuples_are_what_they_stand_for() -> None:
    sizes, hidden = list(np.array([16, 32])), [(8,), (16, 16)]
    space = read_space({"batch_size": sizes, "lr": (np.float32(0.25), np.float64(0.5)), "h": hidden}, None)
    assert space.axes["batch_size"].choices == (16, 32) and space.axes["h"].choices == ([8], [16, 16])
    assert Space.from_json(json.loads(json.dumps(space.to_json()))) == space
    assert space.known({"lr": np.float32(0.375), "batch_size": np.int64(32)}) == {"lr": 0.375, "batch_size": 32}
    assert space.meanings(space.known({"h": (16, 16)})) == {"h": [16, 16]}


def test_values_asked_for_are_checked() -> None:
    space = read_space({"lr": (1e-3, 1e-1), "epochs": (1, 5), "batch_size": [32]}, Recipe())
    assert space.known({"lr": 1e-3, "epochs": 5.0}) == {"lr": 1e-3, "epochs": 5}
    for wrong, complaint in (
        ({"lr": 1.0}, "Widen"),
        ({"epochs": 2.5}, "whole number"),
        ({"epochs": True}, "whole number"),
        ({"batch_size": 64}, "one of"),
        ({"lrr": 0.01}, "Did you mean 'lr'"),
    ):
        with pytest.raises(DLStudioError, match=complaint):
            space.known(wrong)


def test_ranges_become_narrower_and_wider_but_keep_their_kind() -> None:
    space = read_space({"lr": (1e-3, 1e-1, "log"), "epochs": (1, 5), "batch_size": [32]}, Recipe())
    assert space.within({"lr": (1, 2)}).distributions["lr"] == FloatDistribution(1.0, 2.0, log=True)
    assert space.within({"epochs": (2, 50)}).distributions["epochs"] == IntDistribution(2, 50)
    for ranges in ({"epochs": (1.5, 2.5)}, {"batch_size": (1, 2)}, {"lr": (0.0, 1.0)}, {"no": (1, 2)}):
        with pytest.raises(DLStudioError):
            space.within(ranges)


def test_a_range_with_a_step_keeps_it() -> None:
    space = read_space(
        {"batch_size": IntDistribution(8, 128, step=8), "lr": FloatDistribution(0.1, 0.9, step=0.1)}, Recipe()
    )
    assert space.known({"batch_size": 24, "lr": 0.3}) == {"batch_size": 24, "lr": 0.3}
    assert space.described() == {"batch_size": "8 to 128 in steps of 8", "lr": "0.1 to 0.9 in steps of 0.1"}
    for wrong in ({"batch_size": 13}, {"lr": 0.35}):
        with pytest.raises(DLStudioError, match="plus a multiple"):
            space.known(wrong)
    made = space.within({"batch_size": (12, 300), "lr": (0.25, 0.75)}).distributions
    assert made["batch_size"] == IntDistribution(16, 296, step=8)
    assert made["lr"] == FloatDistribution(0.3, 0.7, step=0.1)
    with pytest.raises(DLStudioError, match="step is 8"):
        space.within({"batch_size": (9, 15)})


def test_whole_numbers_of_a_field_of_floats_are_a_range_of_floats() -> None:
    space = {"weight_decay": (0, 1), "lr": (1, 2, "log"), "epochs": (1, 2)}
    assert read_space(space, Recipe()).distributions == {
        "weight_decay": FloatDistribution(0.0, 1.0), "lr": FloatDistribution(1.0, 2.0, log=True),
        "epochs": IntDistribution(1, 2),
    }  # fmt: skip
    assert read_space(space, None).distributions["weight_decay"] == IntDistribution(0, 1)


def test_a_changed_recipe_leaves_the_other_options_and_the_first_recipe_alone() -> None:
    recipe = Recipe(model_options={"hidden": [4], "deep": {"a": 1, "b": 2}})
    made = changed(recipe, {"lr": 0.5, "model_options.hidden": [8], "model_options.deep.a": 3})
    assert made.lr == 0.5 and made.model_options == {"hidden": [8], "deep": {"a": 3, "b": 2}}
    assert recipe.model_options == {"hidden": [4], "deep": {"a": 1, "b": 2}}


def test_a_search_begins_with_the_recipe_itself_where_it_lies_in_the_space() -> None:
    recipe = Recipe(lr=0.01, model_options={"hidden": [4]})
    space = read_space({"lr": (1e-3, 1e-1), "model_options.hidden": [[4], [8]]}, recipe)
    point = starting_point(space, recipe)
    assert point is not None and space.meanings(point) == {"lr": 0.01, "model_options.hidden": [4]}
    assert starting_point(read_space({"lr": (0.1, 0.2)}, recipe), recipe) is None
    assert starting_point(read_space({"model_options.dropout": (0.1, 0.2)}, recipe), recipe) is None
    implied = read_space({"lr": (1e-3, 1e-1), "model_options.dropout": (0.0, 0.5)}, recipe)
    assert starting_point(implied, recipe) == {"lr": 0.01, "model_options.dropout": 0.0}  # the network's own


def test_a_grid_is_every_combination() -> None:
    space = read_space({"a": [1, 2], "b": (3, 5)}, None)
    assert grid_points(space) == [{"a": a, "b": b} for a in (1, 2) for b in (3, 4, 5)]
    assert grid_size(space) == 6 and grid_points(space, 4) == grid_points(space)[:4]
    huge = read_space({"a": (1, 10**9), "b": [1, 2]}, None)
    assert grid_size(huge) == 2 * 10**9 and grid_points(huge, 3)[-1] == {"a": 2, "b": 1}
    with pytest.raises(DLStudioError, match="list of values for 'lr' in a grid"):
        grid_points(read_space({"lr": (0.1, 0.2)}, None))
