"""A click on a picture puts in a value that the search takes."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from optuna.distributions import FloatDistribution, IntDistribution

from dlstudio.tuning.space import Space, read_space
from dlstudio.widgets.point_form import ParameterField, PointForm

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


CHOICES = {
    "clip": [None, 0.5, 1.0],
    "flag": [True, 1, False, 0],
    "hidden": [[8], [16, 16], None],
    "rate": [1, 1.5, "1"],
    "text": ["a", "None", "<b>a</b>"],
}


@pytest.mark.parametrize("name", list(CHOICES))
def test_every_choice_is_tried_as_it_is(name: str) -> None:
    asked: list[dict[str, Any]] = []
    search: Any = SimpleNamespace(space=read_space(CHOICES, None), enqueue=asked.append)
    form = PointForm(search)
    for choice in CHOICES[name]:
        form.fill({name: choice})
        form.enqueue()
    assert list(map(repr, asked)) == [
        repr({name: choice}) for choice in CHOICES[name]
    ]  # 1 == True, and None is a value
    labels = [label for label, _ in form.fields[name].control.options]
    assert len(set(labels)) == 1 + len(CHOICES[name])  # no two read the same
    form.fill({})
    form.enqueue()
    assert len(asked) == len(CHOICES[name]) and "at least one value" in form.message.value


def test_between_choices_on_a_scale_the_nearest_is_taken_and_elsewhere_none() -> None:
    space: Space = read_space({"batch": [32, 64, 256], "opt": ["sgd", 1]}, None)
    batch, opt = (ParameterField(axis, lambda _: None) for axis in space.axes.values())
    assert [batch.fill_place(place, False) and batch.value() for place in (7.5, 45, 51, 10_000)] == [32, 32, 64, 256]
    assert not opt.fill_place(0.9, False) and opt.is_open
    assert opt.fill_place("1", False) and opt.value() == 1
    assert not batch.fill_place(None, False) and batch.value() == 256
