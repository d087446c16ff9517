"""Fewer points, but every extreme and everything non-finite stays."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dlstudio.errors import DLStudioError
from dlstudio.telemetry.downsample import minmax


@settings(deadline=None, max_examples=50)
@given(st.lists(st.floats(allow_nan=True, allow_infinity=True), min_size=0, max_size=500), st.integers(4, 60))
def test_points_are_a_subset_with_the_extremes(values, n_out):
    values = np.array(values, np.float64)
    steps = np.arange(len(values))
    x, y = minmax(steps, values, n_out)
    assert len(x) <= max(n_out, 2 * n_out + 2) and (np.diff(x) > 0).all()
    np.testing.assert_array_equal(y, values[x])
    finite = values[np.isfinite(values)]
    if len(finite):
        assert finite.min() in y and finite.max() in y
    n_odd = (~np.isfinite(values)).sum()
    if n_odd <= n_out:
        assert (~np.isfinite(y)).sum() == n_odd
    if len(values):
        assert x[0] == 0 and x[-1] == len(values) - 1


def test_a_single_spike_in_a_hundred_thousand_points_survives():
    values = np.random.default_rng(0).normal(size=100_000)
    values[54_321] = 1e6
    _, y = minmax(np.arange(100_000), values, 2_000)
    assert y.max() == 1e6 and len(y) <= 2_002


def test_bad_input():
    with pytest.raises(DLStudioError, match="n_out"):
        minmax(np.arange(3), np.arange(3.0), 2)
    with pytest.raises(DLStudioError, match="one length"):
        minmax(np.arange(3), np.arange(4.0), 10)
