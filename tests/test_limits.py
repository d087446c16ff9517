"""Numbers, levels, names and mappings that callers gave, checked in words."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from dlstudio.errors import DLStudioError
from dlstudio.limits import level_of_confidence, mapping, named, number_within, whole_number


def test_numbers_of_any_type_pass() -> None:
    assert (whole_number("n", np.int64(3), 1), number_within("x", np.float32(0.5), 0, 1)) == (3, 0.5)
    assert number_within("x", -7, -np.inf) == -7 and level_of_confidence(np.float64(0.9)) == 0.9
    assert (named("fix", "platt"), named("fix", ["a", "b", "a"]), named("fix", ())) == (("platt",), ("a", "b"), ())
    assert mapping("costs", {"a": 1}, "") == {"a": 1}


@pytest.mark.parametrize(
    ("check", "said"),
    [
        (lambda: whole_number("seed", -1, 0), "seed of 0 or more, a whole number, but got seed=-1"),
        (lambda: whole_number("seed", True, 0), "but got seed=True"),
        (lambda: number_within("threshold", 5, 0, 1), "threshold from 0 to 1, a finite number, but got threshold=5"),
        (lambda: number_within("threshold", np.nan, 0, 1), "but got threshold=nan"),
        (lambda: number_within("gap", -0.1, 0), "gap of 0 or more, a finite number"),
        (lambda: number_within("cost", np.inf, -np.inf), "cost, a finite number"),
        (lambda: number_within("gap", "0.1", 0), "but got gap='0.1'"),
        (lambda: level_of_confidence(95), "between 0 and 1, but got level=95"),
        (lambda: level_of_confidence("0.95"), "between 0 and 1, but got level='0.95'"),
        (lambda: level_of_confidence(np.nan), "between 0 and 1"),
        (lambda: named("fix", None), "but got fix=None"),
        (lambda: named("fix", [3]), re.escape("but got fix=[3]")),
        (lambda: mapping("costs", [1], "Name them."), "Name them."),
    ],
)
def test_others_are_told(check: Callable[[], Any], said: str) -> None:
    with pytest.raises(DLStudioError, match=said):
        check()
