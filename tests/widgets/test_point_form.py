"""A click on a picture puts in a value that the search takes."""

from __future__ import annotations

import pytest
from optuna.distributions import FloatDistribution, IntDistribution

from dlstudio.tuning.space import read_space
from dlstudio.widgets.point_form import ParameterField

AXES = read_space(
    {
        "lr": (1.2345e-4, 0.98765, "log"),
        "rate": (0.33333, 0.66666),
        "width": (8, 64),
        "wide": IntDistribution(8, 128, step=8),
        "drop": FloatDistribution(0.0, 0.5, step=0.125),
    },
    None,
).axes


@pytest.mark.parametrize("name", list(AXES))
@pytest.mark.parametrize("exact", [False, True])
def test_wherever_it_is_clicked_the_value_lies_in_the_range(name: str, exact: bool) -> None:
    axis = AXES[name]
    field = ParameterField(axis, lambda _: None)
    places = [axis.low, axis.high, axis.low - 1, axis.high + 1e6, (axis.low + axis.high) / 2 + 0.01234]
    for place in places:
        field.fill_place(place, exact)
        value = field.value()
        assert axis.known(value) == value  # nothing is refused
        room = (axis.step or 0) / 2 + (0 if exact or axis.step else 0.005 * axis.high)
        assert abs(value - min(max(place, axis.low), axis.high)) <= room


def test_a_click_between_the_dots_is_rounded_and_one_on_a_dot_is_not() -> None:
    field = ParameterField(AXES["rate"], lambda _: None)
    field.fill_place(0.456789, False)
    assert field.value() == 0.457
    field.fill_place(0.456789, True)
    assert field.value() == 0.456789
