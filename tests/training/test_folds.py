"""Out-of-fold predictions: every row by a model that never saw it, nothing recorded, nothing of the caller changed."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from dlstudio.data.prepare import prepare
from dlstudio.errors import DLStudioError
from dlstudio.training.fit import fit
from dlstudio.training.folds import out_of_fold
from dlstudio.training.predicted import predictions_of
from dlstudio.training.recipe import Recipe


def coins(n: int = 240) -> tuple[np.ndarray, np.ndarray]:
    """Rows that can be told apart, with labels that nothing about them foretells."""
    rng = np.random.default_rng(0)
    return rng.normal(size=(n, 30)).astype(np.float32), rng.permutation(np.arange(n) % 2)


def test_no_row_is_predicted_by_a_model_that_learned_it():
    x, y = coins()
    recipe = Recipe(model="mlp", epochs=20, lr=0.01, weight_decay=0.0, batch_size=32)
    dataset = prepare((x, y))
    found = out_of_fold(recipe, dataset, n_folds=3, progress=False)
    assert found.shape == (240, 2) and np.abs(found.sum(axis=1) - 1).max() < 1e-5
    # Coins: 240 of them agree by chance with probability 1/2, give or take 3.5 standard deviations.
    assert abs((found.argmax(axis=1) == y).mean() - 0.5) < 3.5 * np.sqrt(0.25 / 240)
    run = fit(recipe.replace(data=(np.concatenate([x, x, x]), np.concatenate([y, y, y]))), progress=False)
    learned = predictions_of(run)
    assert (learned.y_true == learned.y_pred).mean() > 0.8, "where its copies are learned, it is known"


def test_folds_are_those_of_the_seed_and_leave_no_trace():
    x, y = coins(90)
    recipe, dataset = Recipe(model="mlp", epochs=1), prepare((x, y))
    before, splits = torch.random.get_rng_state(), {name: rows.copy() for name, rows in dataset.splits.items()}
    first = out_of_fold(recipe, dataset, n_folds=2, progress=False)
    np.testing.assert_array_equal(first, out_of_fold(recipe, dataset, n_folds=2, progress=False))
    assert not np.array_equal(first, out_of_fold(recipe, dataset, n_folds=2, seed=1, progress=False))
    assert torch.equal(before, torch.random.get_rng_state())
    for name, rows in splits.items():
        np.testing.assert_array_equal(dataset.splits[name], rows)


def test_values_are_predicted_too():
    x, _ = coins(120)
    dataset = prepare((x, (3 * x[:, 0]).astype(np.float32)))
    found = out_of_fold(Recipe(model="mlp", epochs=15, lr=0.01), dataset, n_folds=3, progress=False)
    assert found.shape == (120,)
    assert np.corrcoef(found, x[:, 0])[0, 1] > 0.5


@pytest.mark.parametrize("n_folds", [1, 40])
def test_more_folds_than_rows_of_a_class_are_refused(n_folds):
    x, y = coins(60)
    with pytest.raises(DLStudioError, match="from 2 to 30 folds"):
        out_of_fold(Recipe(model="mlp"), prepare((x, y)), n_folds=n_folds, progress=False)
