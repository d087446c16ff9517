"""Out-of-fold predictions: every row by a model that never saw it, nothing recorded, nothing of the caller changed."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from dlstudio.data.dataset import Dataset
from dlstudio.data.prepare import prepare
from dlstudio.errors import DLStudioError
from dlstudio.training.fit import fit
from dlstudio.training.folds import fold_of_rows, out_of_fold
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


@pytest.mark.parametrize(("n_folds", "said"), [(1, "n_folds of 2"), (2.5, "n_folds of 2"), (40, "40 rows or more")])
def test_folds_that_cannot_be_made_are_refused(n_folds, said):
    x, y = coins(60)
    with pytest.raises(DLStudioError, match=said):
        out_of_fold(Recipe(model="mlp"), prepare((x, y)), n_folds=n_folds, progress=False)


def small(classes: np.ndarray, names: tuple[str, ...], modality: str = "tabular") -> Dataset:
    n = len(classes)
    inputs = torch.randn(n, 3, 2) if modality == "sequence" else torch.randn(n, 3)
    splits = {"train": np.arange(n - 2), "val": np.array([n - 2]), "test": np.array([n - 1])}
    return Dataset(
        name="small", modality=modality, task="multiclass", inputs=inputs, targets=torch.from_numpy(classes),
        splits=splits, class_names=names,
    )  # fmt: skip


@pytest.mark.parametrize("n_folds", [2, 3])
def test_a_class_with_too_few_rows_is_named(n_folds):
    """Three rows are enough for three folds, but leave none to validate with: scikit-learn's error names nothing."""
    dataset = small(np.repeat([0, 1, 2], [30, n_folds, 30]), ("cat", "lynx", "dog"))
    with pytest.raises(DLStudioError, match=f"{n_folds} of class 'lynx'"):
        out_of_fold(Recipe(model="mlp"), dataset, n_folds=n_folds, progress=False)


def test_many_small_classes_all_validate():
    """15 percent of the rows outside a fold are fewer than the classes, of which each has to validate."""
    dataset = small(np.repeat(np.arange(40), 4), tuple(map(str, range(40))))
    found = out_of_fold(Recipe(model="mlp", epochs=1), dataset, n_folds=2, progress=False)
    assert found.shape == (160, 40) and np.isfinite(found).all()


def test_sequences_are_not_dealt_out_at_random():
    dataset = small(np.arange(60) % 2, ("up", "down"), "sequence")
    with pytest.raises(DLStudioError, match="rows that can be shuffled"):
        out_of_fold(Recipe(model="gru"), dataset, progress=False)


def test_rows_of_one_class_are_shared_out_evenly():
    classes = np.repeat([0, 1], [31, 12])
    fold = fold_of_rows(small(classes, ("a", "b")), 4, seed=3)
    assert all(np.bincount(fold[classes == 1]) == 3) and set(np.bincount(fold[classes == 0])) == {7, 8}


def test_clusters_are_in_one_fold_whole():
    generator = np.random.default_rng(0)
    person = np.repeat(np.arange(40), 5)
    classes = generator.integers(0, 2, 200)
    fold = fold_of_rows(small(classes, ("a", "b")), 4, seed=3, clusters=person)
    assert set(fold) == {0, 1, 2, 3} and (fold.reshape(40, 5) == fold.reshape(40, 5)[:, :1]).all()
    with pytest.raises(DLStudioError, match="4 clusters or more"):
        fold_of_rows(small(classes, ("a", "b")), 4, clusters=np.arange(200) % 3)
    one = np.where(np.arange(200) < 100, 0, np.arange(200))  # one person is all there is of class a
    with pytest.raises(DLStudioError, match="0 of class 'a'"):
        fold_of_rows(small((np.arange(200) >= 100).astype(int), ("a", "b")), 4, clusters=one)
