"""Tensors of any kind are read as numbers are, and quantities too large to square are told, by all verbs alike."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from dlstudio.data.values import off_torch
from dlstudio.errors import DLStudioError
from dlstudio.trust.calibration import assess_calibration
from dlstudio.trust.evaluation import evaluate
from dlstudio.trust.given import LARGEST
from dlstudio.trust.label_errors import find_label_errors
from dlstudio.trust.slices import find_slices

N = 200
GENERATOR = np.random.default_rng(0)
FRAME = pd.DataFrame({"place": GENERATOR.choice(list("abc"), N)})
LABELS = GENERATOR.integers(0, 2, N)
SCORES = (GENERATOR.integers(0, 65, N) / 64).astype(np.float32)
"""As bfloat16 has them too."""
POINTS = GENERATOR.integers(-9, 9, (N, 3)).astype(np.float32)

VERBS: dict[str, Callable[[Callable[[Any], Any]], Any]] = {
    "evaluate": lambda as_: evaluate(as_(LABELS), y_score=as_(SCORES)),
    "calibration": lambda as_: assess_calibration(as_(LABELS), as_(SCORES), n_resamples=100, fix=()),
    "loss": lambda as_: find_slices(FRAME, loss=as_(SCORES)),
    "classes": lambda as_: find_slices(FRAME, as_(LABELS), as_((SCORES > 0.5).astype(np.float32))),
    "embeddings": lambda as_: find_slices(None, loss=as_(SCORES), embeddings=as_(POINTS)),
    "label errors": lambda as_: find_label_errors(as_(LABELS), as_(SCORES)),
    "label errors of features": lambda as_: find_label_errors(as_(LABELS), features=as_(POINTS)),
}
TENSORS: dict[str, Callable[[Any], torch.Tensor]] = {
    "bfloat16": lambda given: torch.as_tensor(given).to(torch.bfloat16),
    "with a gradient": lambda given: torch.as_tensor(given).float().requires_grad_(),
    "both": lambda given: torch.as_tensor(given).to(torch.bfloat16).requires_grad_(),
}


@pytest.mark.parametrize("kind", TENSORS)
@pytest.mark.parametrize("verb", VERBS)
def test_tensors_are_read_as_arrays_are(verb: str, kind: str) -> None:
    found, expected = VERBS[verb](TENSORS[kind]), VERBS[verb](np.asarray)
    pd.testing.assert_frame_equal(found.frame(), expected.frame())


def test_what_is_no_tensor_stays_as_it_is() -> None:
    assert off_torch(FRAME) is FRAME and off_torch(None) is None and off_torch("a") == "a"
    assert off_torch(torch.ones(2, dtype=torch.bfloat16)).dtype == np.float32
    assert off_torch(torch.ones(2, dtype=torch.float64)).dtype == np.float64


def test_text_as_scores_gets_advice_on_scores() -> None:
    with pytest.raises(DLStudioError, match="numbers in y_score.*Pass probabilities"):
        evaluate(LABELS, y_score=["a"] * N)


def test_quantities_too_large_to_square_are_told_without_a_warning_before() -> None:
    values = GENERATOR.normal(size=N)
    for y_true, y_pred in ((values * 1e200, values), (values, values * 1e200)):
        with pytest.raises(DLStudioError, match="up to 1e.60 in size.*divide"):
            evaluate(y_true, y_pred, task="regression")
    with pytest.raises(DLStudioError, match="task='regression' for amounts"):  # all are whole numbers
        evaluate(np.abs(values) * 1e200, np.abs(values) * 1e200)


def test_the_largest_quantities_have_right_numbers() -> None:
    y, off = GENERATOR.uniform(-0.9, 0.9, N), 0.01 * GENERATOR.normal(size=N)
    large, small = (evaluate(y * by, (y + off) * by, task="regression").frame() for by in (LARGEST, 1.0))
    by = np.where(small["metric"] == "r2", 1, LARGEST)
    for name in ("value", "low", "high"):
        np.testing.assert_allclose(large[name], small[name] * by, rtol=1e-9)
    large, small = (find_slices(FRAME, loss=np.abs(y) * by).frame() for by in (LARGEST, 1.0))
    np.testing.assert_allclose(large["p_value"], small["p_value"], rtol=1e-6)
    np.testing.assert_allclose(large["low"], small["low"] * LARGEST, rtol=1e-6)
