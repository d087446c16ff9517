"""What to ship: constraints, then evidence, then cost; and what would change the answer."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest

import dlstudio as dls
from dlstudio.compare.result import Comparison
from dlstudio.errors import DLStudioError
from tests.compare.conftest import A


def costing(comparison: Comparison, latency: dict[str, float]) -> Comparison:
    """The same with a latency of each variant."""
    records = [{**one, "measures": {"latency_ms": latency[one["variant"]]}} for one in comparison.run_records]
    return dataclasses.replace(comparison, run_records=tuple(records))


def noisy(**options: str) -> Comparison:
    """A has the best mean and scatters, B and C are precise, and C is worse than B."""
    base = 0.8 + 0.02 * np.cos(np.arange(8))
    a = base + 0.012 + 0.08 * (-1.0) ** np.arange(8) * (1 + 0.1 * np.arange(8))
    c = base - 0.02 - 0.001 * (np.arange(8) % 3)
    return dls.compare({"A": a, "B": base + 0.005, "C": c}, metric="auc", **options)


def test_recommending_what_is_shown(three: Comparison) -> None:
    r = three.recommend()
    assert r.variant == "B" and r.is_shown and r.undecided == () and "shown to be better" in r.sentence
    assert any("B is better than A" in sentence for sentence in r.evidence)


def test_recommending_does_not_claim_what_is_not_shown() -> None:
    c = dls.compare({"A": A, "B": [value + 0.0005 * (-1) ** k for k, value in enumerate(A)]}, metric="auc")
    r = c.recommend()
    assert not r.is_shown and r.variant in ("A", "B") and "may be chance" in r.sentence
    assert "best" not in r.sentence.replace("best mean", "")
    assert any("margin" in sentence for sentence in r.would_change)


@pytest.mark.parametrize("limit", ["0.5", None, (1, 2, 3), (5, 1), math.nan])
def test_a_limit_is_a_number(three: Comparison, limit: object) -> None:
    if limit in ("0.5", None):  # text that is a number is one; no limit excludes nobody
        assert three.recommend({"val/auc": limit}).variant == "B"
        return
    with pytest.raises(DLStudioError, match="limit of 'val/auc'"):
        three.recommend({"val/auc": limit})


def test_an_unknown_quantity_is_refused(three: Comparison) -> None:
    with pytest.raises(DLStudioError, match="'val/auc'"):
        three.recommend({"val/acu": 1})


def test_what_is_shown_to_be_worse_is_not_shipped_for_its_mean() -> None:
    shared = {seed: 0.80 + 0.01 * seed for seed in range(7)}
    lucky = {seed: value - 0.01 - 0.001 * (seed % 3) for seed, value in shared.items()}
    c = dls.compare({"A": shared, "B": lucky | dict.fromkeys(range(7, 13), 0.99)}, metric="auc")
    assert c.ranked[0].name == "B" and c.verdict("B", "A") == "worse" and c.best == "A"
    for costs in ({"A": 9.0, "B": 1.0}, {"A": 1.0, "B": 9.0}):
        r = costing(c, costs).recommend()
        assert r.variant == "A" and r.is_shown and r.undecided == () and "shown to be better" in r.sentence


def test_what_is_shown_to_be_worse_is_not_shipped_for_its_cost() -> None:
    c = noisy()
    assert [c.verdict("C", "B"), c.verdict("A", "B"), c.verdict("C", "A")] == ["worse", *["no difference shown"] * 2]
    r = costing(c, {"A": 9.0, "B": 5.0, "C": 1.0}).recommend()
    assert r.variant == "B" and not r.is_shown and r.undecided == ("A",) and "C" not in r.sentence
    assert any("C is worse than B" in said for said in r.evidence)
    r = costing(c, {"A": 1.0, "B": 5.0, "C": 0.5}).recommend()
    assert r.variant == "A" and not r.is_shown and any("C is worse than B" in said for said in r.evidence)
    without = costing(c, {"A": 9.0, "B": 5.0, "C": 1.0}).recommend({"latency_ms": 4})  # what is out beats nobody
    assert without.variant == "C" and any("B is shown to be better" in said for said in without.would_change)


def test_the_only_one_that_none_beats_is_shipped_and_no_more_is_claimed() -> None:
    base = 0.8 + 0.02 * np.cos(np.arange(8))
    c = base - 0.01 + 0.03 * (-1.0) ** np.arange(8)
    values = {"A": base + 0.01, "B": base + 0.0001 * np.arange(8), "C": c}
    found = dls.compare(values, metric="auc", reference="B")
    decided = dataclasses.replace(found, comparisons=(
        *found.comparisons[:1], dataclasses.replace(found.comparisons[1], verdict="worse"),
    ))  # fmt: skip
    r = decided.recommend()
    assert r.variant == "A" and not r.is_shown and r.undecided == ()
    assert "some variant is shown to be better" in r.sentence and "told apart" not in r.sentence


def test_pairs_that_were_not_compared_are_not_called_undecided_by_evidence() -> None:
    r = noisy(reference="C").recommend()
    assert "A and B were not compared with each other" in r.sentence and "told apart" not in r.sentence
    assert any("a comparison of all pairs could tell" in said for said in r.would_change)


def test_wins_that_go_round_in_a_circle_are_called_so() -> None:
    def pairs_of(*seeds: int) -> dict[int, float]:
        return {seed: 0.8 + 0.01 * (seed % 7) for seed in seeds}

    one, two, three = (range(10 * k, 10 * k + 8) for k in range(3))
    a = pairs_of(*one, *two)
    b = {seed: value - 0.02 - 0.0001 * (seed % 3) for seed, value in pairs_of(*one).items()} | pairs_of(*three)
    c = {seed: value + 0.02 + 0.0001 * (seed % 3) for seed, value in pairs_of(*two).items()}
    c |= {seed: value - 0.02 - 0.0001 * (seed % 3) for seed, value in pairs_of(*three).items()}
    found = dls.compare({"A": a, "B": b, "C": c}, metric="auc")
    assert sorted(found.decided) == [("A", "B"), ("B", "C"), ("C", "A")] and found.best is None
    r = found.recommend()
    assert not r.is_shown and set(r.undecided) | {r.variant} == set("ABC") and "beat each other in turn" in r.sentence


def test_constraints_are_named_only_where_there_are_some(three: Comparison) -> None:
    alone = dls.compare({"A": A, "B": [math.nan]}, metric="auc")
    assert alone.recommend().sentence == "Ship A: it is the only variant that was measured."
    none = dls.compare({"A": [math.nan], "B": [math.inf]}, metric="auc").recommend()
    assert none.variant is None and "constraint" not in none.sentence and "auc was measured of none" in none.sentence
    assert not any("limit" in said for said in none.would_change)
    assert dls.compare({"A": A}, metric="auc").recommend().sentence == "Ship A: it is the only variant."
    only = costing(three, {"A": 9.0, "B": 9.0, "C": 1.0})
    assert "only variant that meets the constraints" in only.recommend({"latency_ms": 5}).sentence
    limited = only.recommend({"latency_ms": 0.5})
    assert "none meets every constraint" in limited.sentence and "A wider limit" in limited.would_change[0]


def test_a_difference_that_is_shown_is_not_called_chance() -> None:
    b = [value + 0.003 + 0.0001 * (k % 3) for k, value in enumerate(A)]
    c = dls.compare({"A": A, "B": b}, metric="auc", margin=0.02)
    assert c.verdict("B", "A") == "equivalent" and "A difference is shown" in c.comparisons[0].sentence
    said = c.recommend().sentence
    assert "B has the best mean, which is shown, but by too little to matter" in said and "chance" not in said
    turned = dls.compare({"B": b, "A": A}, metric="loss", margin=0.02).recommend().sentence
    assert "A has the best mean, which is shown" in turned
    equal = [value - 0.0005 * (-1) ** k for k, value in enumerate(b)]
    among = dls.compare({"A": A, "B": b, "C": equal}, metric="auc", margin=0.02)
    assert "which may be chance beside C" in among.recommend().sentence
    priced = costing(among, {"A": 1.0, "B": 1.0, "C": 9.0}).recommend().sentence
    assert "of these it has the best mean, which is shown" in priced and "chance" not in priced
    unlike = dls.compare({"A": A, "B": [v + 0.0005 * (-1) ** k for k, v in enumerate(A)]}, metric="auc", margin=0.02)
    assert unlike.comparisons[0].verdict == "equivalent" and "which may be chance" in unlike.recommend().sentence


def test_no_more_seeds_are_asked_for_where_they_say_nothing() -> None:
    c = dls.compare({"A": [0.8] * 6, "B": [0.8] * 6, "C": [0.9] * 6}, metric="auc")
    changes = c.recommend().would_change
    assert not any("would show" in said for said in changes) and any("is the seed used?" in said for said in changes)


def test_one_more_seed_is_one() -> None:
    c = dls.compare({"A": A[:4], "B": [0.85, 0.79, 0.86, 0.80]}, metric="auc")
    one = dataclasses.replace(c, comparisons=(dataclasses.replace(c.comparisons[0], n_needed=5),))
    assert any("About 1 more seed of" in said for said in one.recommend().would_change)
    two = dataclasses.replace(c, comparisons=(dataclasses.replace(c.comparisons[0], n_needed=6),))
    assert any("About 2 more seeds of" in said for said in two.recommend().would_change)


@pytest.mark.parametrize("prefer", [3, ["latency_ms", None], [3], True])
def test_what_is_preferred_are_names(three: Comparison, prefer: object) -> None:
    with pytest.raises(DLStudioError, match="names of quantities to prefer"):
        three.recommend(prefer=prefer)
    with pytest.raises(DLStudioError, match="latency_ms"):
        costing(three, dict.fromkeys("ABC", 1.0)).recommend(prefer="latency")
