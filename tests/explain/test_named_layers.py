"""Layers by name or as they are, and the index of a unit in one."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from torch import nn

from dlstudio.errors import DLStudioError
from dlstudio.explain.layers import named_layer, neuron_of
from dlstudio.explain.methods import METHODS

from .models import network


def test_a_layer_is_found_by_its_name_or_itself() -> None:
    model = network(6, 8, 2)
    assert named_layer(model, "1") == ("1", model[1]) == named_layer(model, model[1])


@pytest.mark.parametrize(
    ("layer", "message"),
    [("7", "known layer names"), (1, "Did you mean '1'"), (["1"], "known layer names"), (nn.ReLU(), "that is none")],
)
def test_what_is_no_layer_of_the_model_is_refused(layer: Any, message: str) -> None:
    with pytest.raises(DLStudioError, match=message):
        named_layer(network(6, 8, 2), layer)


def test_a_unit_is_named_by_whole_numbers_of_any_type() -> None:
    spec = METHODS["neuron_conductance"]
    assert neuron_of(3, spec) == neuron_of(np.int64(3), spec) == neuron_of([np.int8(3)], spec) == (3,)
    assert neuron_of((0, np.int64(2)), spec) == (0, 2)
    for wrong in ("3", 1.5, (0, "a"), None):
        with pytest.raises(DLStudioError, match="the index of a neuron"):
            neuron_of(wrong, spec)
    with pytest.raises(DLStudioError, match="a neuron for neuron_conductance"):
        neuron_of((), spec)
