"""Whether a parameter matters at all."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import scipy.stats

from dlstudio.tuning.matters import no_effect_p
from dlstudio.tuning.result import SearchResult
from dlstudio.tuning.space import read_space
from dlstudio.tuning.trial_result import TrialResult
from dlstudio.tuning.words import summary_of


def test_the_test_is_that_of_kruskal_and_wallis() -> None:
    rng = np.random.default_rng(0)
    kind, tied = rng.choice(["a", "b", "c"], 40).tolist(), rng.integers(0, 9, 40).astype(float)
    want = scipy.stats.kruskal(*[tied[np.array(kind) == one] for one in "abc"]).pvalue
    assert no_effect_p(kind, tied.tolist()) == pytest.approx(want)
    rate, value = rng.uniform(size=40), rng.normal(size=40)
    quarter = rate.argsort().argsort() // 10
    want = scipy.stats.kruskal(*[value[quarter == one] for one in range(4)]).pvalue
    assert no_effect_p(rate.tolist(), value.tolist()) == pytest.approx(want)
    assert no_effect_p([True, 1, None, [2]] * 5, list(range(20))) > 0.5  # values of any kind
    assert no_effect_p([3] * 9, list(range(9))) == no_effect_p(list(range(9)), [2.0] * 9) == 1.0


@pytest.mark.parametrize("n", [8, 20, 60])
def test_what_does_nothing_is_said_to_matter_as_often_as_the_level_says(n: int) -> None:
    rng = np.random.default_rng(n)
    p = [no_effect_p(rng.uniform(size=n).tolist(), rng.normal(size=n).tolist()) for _ in range(2000)]
    assert np.mean(np.array(p) <= 0.05) <= 0.05 + 2.5 * (0.05 * 0.95 / 2000) ** 0.5


def searched(n: int, of_noise: bool) -> SearchResult:
    rng = np.random.default_rng(n)
    rows = []
    for number in range(n):
        params = {name: float(rng.uniform()) for name in "abcd"}
        value = float(rng.normal()) if of_noise else params["a"]
        rows.append(
            TrialResult(
                number=number, state="complete", values=(value,), params=params, run=None, started=None, wall_s=0.0,
                reason=None, violations={}, reports={},
            )
        )  # fmt: skip
    space = read_space(dict.fromkeys("abcd", (0.0, 1.0)), None).to_json()
    found = SearchResult(
        name="s", run="s", status="FINISHED", metrics=("val/loss",), directions=("min",), space=space, rows=tuple(rows),
        n_trials=n, importances={"val/loss": {"a": 0.9, "b": 0.1, "c": 0.0, "d": 0.0}}, summary=(), findings=(),
    )  # fmt: skip
    return dataclasses.replace(found, summary=summary_of(found))


def test_no_parameter_is_named_as_long_as_chance_would_name_one() -> None:
    assert "a matters most for val/loss: 90% of what tells good trials from others." in searched(30, False).summary
    for few in (searched(6, False), searched(30, True)):
        assert few.summary[-1].startswith("No parameter is shown to matter for val/loss so far")
