"""Buckets against the same reduction done point by point."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dlstudio.widgets.buckets import (
    INFINITE,
    LAYER_STATS,
    NAN,
    NEGATIVE_INFINITY,
    NOT_A_NUMBER,
    POSITIVE_INFINITY,
    ZERO,
    CurveBuckets,
    LayerBuckets,
    quantise,
)

numbers = st.one_of(st.floats(-1e6, 1e6), st.sampled_from([math.nan, math.inf, -math.inf, 0.0]))


def by_hand(x: list[float], values: list[float], size: int) -> list[tuple[list, list, float | None, int]]:
    """Every bucket as (two places, two values and the mean, place of the first non-finite value, its kinds)."""
    buckets = []
    for start in range(0, len(values), size):
        part = list(zip(x[start : start + size], values[start : start + size], strict=True))
        finite = [(v, p) for p, v in part if math.isfinite(v)]
        odd = [(p, v) for p, v in part if not math.isfinite(v)]
        if finite:
            low = min(v for v, _ in finite)
            high = max(v for v, _ in finite)
            pair = sorted(
                [(next(p for v, p in finite if v == low), low), (next(p for v, p in finite if v == high), high)],
                key=lambda item: item[0],
            )
            mean = sum(v for v, _ in finite) / len(finite)
        else:
            pair, mean = [(part[0][0], math.nan)] * 2, math.nan
        flags = 0
        for _, value in odd:
            flags |= NAN if math.isnan(value) else (POSITIVE_INFINITY if value > 0 else NEGATIVE_INFINITY)
        buckets.append(([p for p, _ in pair], [*(v for _, v in pair), mean], odd[0][0] if odd else None, flags))
    return buckets


def assert_same(curve: CurveBuckets, x: list[float], values: list[float]) -> None:
    places, levels, bad_x, bad = curve.points()
    expected = by_hand(x, values, curve.size)
    assert len(places) == len(expected) == curve.n
    np.testing.assert_array_equal(places, np.reshape([bucket[0] for bucket in expected], (-1, 2)))
    wanted = np.reshape([bucket[1] for bucket in expected], (-1, 3))
    np.testing.assert_allclose(levels[:, :2], wanted[:, :2].astype(np.float32))
    np.testing.assert_allclose(levels[:, 2], wanted[:, 2], rtol=1e-5, atol=1e-4)
    marked = [(i, b[2], b[3]) for i, b in enumerate(expected) if b[3]]
    assert list(zip(bad[:, 0].tolist(), bad_x.tolist(), bad[:, 1].tolist(), strict=True)) == marked


@settings(deadline=None, max_examples=150)
@given(st.lists(st.lists(numbers, max_size=40), max_size=12), st.sampled_from([4, 8, 16]))
def test_a_curve_is_what_counting_by_hand_gives(parts: list[list[float]], capacity: int) -> None:
    curve = CurveBuckets(capacity)
    values: list[float] = []
    for part in parts:
        curve.add(np.arange(len(values), len(values) + len(part)), np.array(part))
        values += part
    assert curve.n <= capacity
    assert curve.n_nonfinite == sum(not math.isfinite(value) for value in values)
    assert_same(curve, [float(i) for i in range(len(values))], values)


def test_one_spike_in_a_long_run_stays() -> None:
    values = np.random.default_rng(0).normal(size=1_000_000)
    values[777_777], values[3] = 99.0, -77.0
    curve = CurveBuckets(400)
    for part in np.array_split(np.arange(1_000_000), 37):
        curve.add(part, values[part])
    places, levels, _, _ = curve.points()
    assert levels[:, :2].max() == 99.0
    assert places[levels[:, :2] == np.float32(99.0)].tolist() == [777_777.0]
    assert levels[:, :2].min() == -77.0
    assert 200 <= curve.n <= 400


def test_one_nan_in_a_long_run_is_marked_where_it_was() -> None:
    values = np.ones(300_000)
    values[123_456] = np.nan
    curve = CurveBuckets(400)
    curve.add(np.arange(300_000), values)
    _, _, bad_x, bad = curve.points()
    assert bad_x.tolist() == [123_456.0]
    assert bad[:, 1].tolist() == [NAN]


def test_a_whole_bucket_never_changes_within_a_generation() -> None:
    rng = np.random.default_rng(1)
    curve, seen, step = CurveBuckets(16), {}, 0
    for _ in range(400):
        n = int(rng.integers(1, 9))
        curve.add(np.arange(step, step + n), rng.normal(size=n))
        step += n
        for number in range(curve.n_whole):
            row = tuple(curve.points(number, number + 1)[1].ravel().tolist())
            assert seen.setdefault((curve.generation, number), row) == row


def test_values_beyond_float32_stay_finite() -> None:
    curve = CurveBuckets(4)
    curve.add(np.arange(2), np.array([1e300, -1e300]))
    assert np.isfinite(curve.points()[1]).all()


@pytest.mark.parametrize("n", [1, 7, 200, 201, 1234])
def test_layers_keep_the_highest_of_their_steps(n: int) -> None:
    rng = np.random.default_rng(n)
    names = [f"layer{i}" for i in range(5)]
    norms = {stat: rng.random((n, 5)).astype(np.float32) + 0.1 for stat in ("grad_norm", "weight_norm", "update_norm")}
    norms["grad_norm"][n // 2, 3] = np.nan
    layers = LayerBuckets(names, capacity=20)
    at = 0
    while at < n:
        k = int(rng.integers(1, 30))
        layers.add(np.arange(at, min(at + k, n)), {stat: matrix[at : at + k] for stat, matrix in norms.items()})
        at += k
    norms["update_ratio"] = norms["update_norm"] / norms["weight_norm"]
    for stat in LAYER_STATS:
        steps, values = layers.columns(stat)
        parts = [norms[stat][start : start + layers.size] for start in range(0, n, layers.size)]
        np.testing.assert_array_equal(values, np.stack([part.max(axis=0) for part in parts]))
    assert steps[:, 0].tolist() == list(range(0, n, layers.size))
    assert steps[:, 1].tolist() == [min(start + layers.size, n) - 1 for start in range(0, n, layers.size)]
    assert np.isnan(layers.columns("grad_norm")[1]).sum() == 1


def test_more_layers_than_rows_share_rows() -> None:
    layers = LayerBuckets([f"p{i}" for i in range(1000)], max_rows=400)
    norms = np.arange(1000, dtype=np.float32)[None] + 1
    layers.add(np.array([1]), dict.fromkeys(("grad_norm", "weight_norm", "update_norm"), norms))
    assert len(layers.rows) == 334
    assert layers.rows[0] == "p0 … p2"
    assert layers.rows[-1] == "p999"
    assert layers.columns("grad_norm")[1][0, :2].tolist() == [3.0, 6.0]


def test_norms_survive_quantising() -> None:
    values = np.array([1e-30, 3.2e-7, 1.0, 123.456, 1e30], np.float32)
    np.testing.assert_allclose(10 ** (quantise(values) / 1000.0), values, rtol=1.3e-3)
    odd = quantise(np.array([0.0, np.nan, np.inf], np.float32))
    assert odd.tolist() == [ZERO, NOT_A_NUMBER, INFINITE]
