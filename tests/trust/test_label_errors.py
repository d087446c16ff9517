"""Label errors: flipped labels come first, probabilities are by models that did not see the label."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.datasets import load_digits

from dlstudio.data import load as loading
from dlstudio.data.dataset import Dataset
from dlstudio.data.prepare import prepare
from dlstudio.errors import DLStudioError
from dlstudio.results import load, save
from dlstudio.runs.kept import kept
from dlstudio.runs.run import Run
from dlstudio.stats import wilson
from dlstudio.training.checkpoint import load_model
from dlstudio.training.fit import fit
from dlstudio.training.predicted import predictions_of
from dlstudio.training.recipe import Recipe
from dlstudio.trust.label_errors import find_label_errors
from dlstudio.trust.label_result import LabelErrors, words

PIXELS, DIGITS = load_digits(return_X_y=True)


def flipped(labels: np.ndarray, share: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Labels of which a share is another class, and which those are."""
    rng = np.random.default_rng(seed)
    wrong = rng.choice(len(labels), int(share * len(labels)), replace=False)
    noisy = labels.copy()
    noisy[wrong] = (labels[wrong] + rng.integers(1, 10, len(wrong))) % 10
    return noisy, wrong


@pytest.mark.parametrize(("share", "seed"), [(0.05, 0), (0.075, 1), (0.10, 2)])
def test_flipped_digits_come_first(share, seed):
    noisy, wrong = flipped(DIGITS, share, seed)
    result = find_label_errors(noisy, features=PIXELS, seed=seed)
    hit = np.isin(result.rows, wrong)
    assert hit[:50].mean() >= 0.92, "precision at 50"
    assert hit[: len(wrong)].mean() >= 0.85, "precision at the number of flips"
    assert hit[: result.n_flagged].mean() >= 0.9, "precision of those flagged"
    assert hit[: result.n_flagged].sum() >= 0.7 * len(wrong), "and most are flagged"
    right = result.suggested[: result.n_flagged] == DIGITS[result.rows[: result.n_flagged]]
    assert right[hit[: result.n_flagged]].mean() >= 0.85, "the likeliest class is the true one"


def test_every_row_is_there_once_the_most_suspect_first():
    noisy, _ = flipped(DIGITS, 0.05)
    result = find_label_errors(noisy, features=PIXELS)
    assert sorted(result.rows) == list(range(len(noisy)))
    np.testing.assert_array_equal(result.given, noisy[result.rows])
    assert (np.diff(result.quality[: result.n_flagged]) >= 0).all()
    assert (np.diff(result.quality[result.n_flagged :]) >= 0).all()
    assert (result.given != result.suggested)[: result.n_flagged].all()
    assert result.confusion.sum() == result.n_flagged == len(result) and not np.diag(result.confusion).any()
    assert result == find_label_errors(noisy, features=PIXELS)


def sure(labels: np.ndarray, k: int, wrong: np.ndarray, certainty: float = 0.9) -> np.ndarray:
    """Probabilities that expect each label, save those of `wrong` rows, for which they expect the next class."""
    expected = labels.copy()
    expected[wrong] = (labels[wrong] + 1) % k
    found = np.full((len(labels), k), (1 - certainty) / (k - 1))
    found[np.arange(len(labels)), expected] = certainty
    return found


def test_given_probabilities_that_are_sure_of_another_class():
    labels, wrong = np.arange(300) % 3, np.array([7, 100, 299])
    result = find_label_errors(labels, sure(labels, 3, wrong))
    assert sorted(result.rows[: result.n_flagged]) == sorted(wrong)
    assert result.quality[:3] == pytest.approx([0.05] * 3) and result.probability[:3] == pytest.approx([0.9] * 3)
    np.testing.assert_array_equal(result.suggested[:3], (result.given[:3] + 1) % 3)
    assert result.agreement == pytest.approx(297 / 300) and result.verdict == "label errors suspected"


def test_no_label_is_suspect_where_all_are_expected():
    labels = np.arange(300) % 3
    result = find_label_errors(labels, sure(labels, 3, np.array([], dtype=int)))
    assert result.verdict == "none suspected" and not len(result) and result.frame().empty
    assert [finding.code for finding in result.findings] == ["DLS341", "DLS343"]
    assert "trained on these rows" in result.findings[1].sentence


def test_names_of_classes_and_the_order_of_columns():
    labels, wrong = np.arange(200) % 2, np.array([3, 50])
    names = np.array(["no", "yes"])[labels]
    chance = sure(labels, 2, wrong)
    by_name = find_label_errors(names, chance)
    assert by_name.class_names == ("no", "yes")
    assert find_label_errors(pd.Series(names, dtype="category"), chance[:, 1]) == by_name, "(n,): of the second"
    swapped = find_label_errors(names, chance[:, ::-1], class_names=["yes", "no"])
    assert sorted(swapped.rows[:2]) == sorted(by_name.rows[:2]) == sorted(wrong)
    assert set(swapped.frame()["given"]) == set(by_name.frame()["given"])
    numbered = find_label_errors(labels, chance, class_names=["denied", "approved"])
    assert numbered.class_names == ("denied", "approved")
    assert set(find_label_errors(labels.astype(bool), chance).class_names) == {"False", "True"}


def test_a_class_without_rows_is_allowed():
    labels = np.arange(200) % 2
    result = find_label_errors(labels, sure(labels, 3, np.array([4])))
    assert result.class_names == ("0", "1", "2") and result.rows[: result.n_flagged].tolist() == [4]


def test_a_table_of_words_and_gaps_is_learned_from():
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 2, 600)
    frame = pd.DataFrame(
        {
            "kind": np.where(truth == 1, "b", "a"),
            "size": truth + rng.normal(0, 0.3, 600),
            "name": [f"row {row}" for row in range(600)],
            "note": [None, "x"] * 300,
        }
    )
    frame.loc[::7, "size"] = np.nan
    labels = truth.astype(object)
    labels[:30] = 1 - truth[:30]
    labels[590:] = None
    result = find_label_errors(labels, features=frame)
    assert set(result.rows[: result.n_flagged]) == set(range(30))
    assert result.n_dropped == 10 and not np.isin(np.arange(590, 600), result.rows).any()
    table = result.frame()
    assert list(table) == ["row", "given", "suggested", "quality", "probability", "kind", "size", "name", "note"]
    assert (table["name"] == [f"row {row}" for row in table["row"]]).all()
    assert "10 rows without a label" in " ".join(words(result))


def test_a_column_that_only_names_rows_is_not_learned_from():
    with pytest.raises(DLStudioError, match="columns of numbers or of few values"):
        find_label_errors([0, 1] * 100, features=pd.DataFrame({"name": [f"row {row}" for row in range(200)]}))


def test_images_of_suspects_are_kept():
    noisy, _ = flipped(DIGITS, 0.05)
    result = find_label_errors(noisy, features=PIXELS.reshape(-1, 1, 8, 8))
    assert result.images.shape == (24, 1, 8, 8)
    np.testing.assert_array_equal(result.images[3].ravel(), PIXELS[result.rows[3]])


def test_words_hold_the_numbers():
    noisy, _ = flipped(DIGITS, 0.10)
    result = find_label_errors(noisy, features=PIXELS)
    low, high = wilson(result.n_flagged, len(noisy))
    said = words(result)
    assert said[0].startswith(f"{result.n_flagged} of 1,797 labels are suspect: {100 * result.n_flagged / 1797:.1f} %")
    assert f"95 % interval {100 * low:.1f} % to {100 * high:.1f} %" in said[0]
    assert f"Row {result.rows[0]} is labelled '{result.given[0]}'" in said[1]
    assert any("hard rows" in sentence for sentence in said), "a tenth of labels is not expected"


def test_a_result_is_saved_and_read_back(tmp_path):
    frame = pd.DataFrame({"x": np.arange(200.0), "when": pd.date_range("2020", periods=200), "text": ["a", None] * 100})
    labels = np.arange(200) % 2
    result = find_label_errors(labels, sure(labels, 2, np.array([3, 50])), features=frame)
    again = load(save(result, tmp_path, "labels"))
    assert isinstance(again, LabelErrors) and again == result
    assert list(again.frame()["text"]) == ["a" if row % 2 == 0 else "" for row in result.rows[:2]]


LABELS = np.arange(100) % 2
CHANCE = np.full((100, 2), 0.5)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"data": LABELS}, "y_prob or features"),
        ({"data": LABELS, "y_prob": CHANCE[:99]}, "99 rows of y_prob"),
        ({"data": LABELS, "features": np.zeros((90, 3))}, "90 rows of features"),
        ({"data": LABELS, "y_prob": CHANCE * 2}, "add up to 1"),
        ({"data": LABELS, "y_prob": np.where(np.arange(200).reshape(100, 2) == 5, np.nan, 0.5)}, "missing ones"),
        ({"data": LABELS, "y_prob": np.stack([np.full(100, 1.5), np.full(100, -0.5)], 1)}, "probabilities from 0 to 1"),
        ({"data": LABELS + 1, "y_prob": np.full((100, 3), 1 / 3), "class_names": "abc"[:2]}, "labels from 0 to 1"),
        ({"data": LABELS + 5, "y_prob": np.full((100, 3), 1 / 3)}, "Pass class_names="),
        ({"data": ["no", "yse"] * 50, "y_prob": CHANCE, "class_names": ["no", "yes"]}, "Did you mean 'yes'"),
        ({"data": LABELS * 0, "y_prob": CHANCE}, "two classes or more"),
        ({"data": LABELS + 0.5, "y_prob": CHANCE}, "numbers with fractions"),
        ({"data": LABELS * 0, "features": np.zeros((100, 2))}, "two classes or more"),
        ({"data": np.full(100, np.nan), "features": np.zeros((100, 2))}, "two classes or more"),
        ({"data": [0] * 97 + [1] * 3, "features": np.zeros((100, 2))}, "a class of 3"),
        ({"data": LABELS, "y_prob": CHANCE, "part": "train"}, "part"),
        ({"data": LABELS, "y_prob": CHANCE, "n_folds": 1}, "n_folds of 2 or more"),
        ({"data": LABELS, "y_prob": CHANCE, "seed": -1}, "seed of 0 or more"),
        ({"data": LABELS, "y_prob": CHANCE, "level": "0.95"}, "between 0 and 1"),
        ({"data": LABELS, "y_prob": 0.5}, "a row of y_prob for every label"),
        ({"data": LABELS, "y_prob": ["a"] * 100}, "probabilities as numbers"),
    ],
)
def test_bad_input_is_refused(arguments, said):
    with pytest.raises(DLStudioError, match=said):
        find_label_errors(**arguments)


@pytest.fixture(scope="module")
def mortgage() -> Run:
    return fit(Recipe(data="mortgage", epochs=1, name="labels-mortgage"), progress=False)


def test_a_run_is_checked_by_its_stored_predictions(mortgage):
    predicted = predictions_of(mortgage)
    result = find_label_errors(mortgage)
    assert sorted(result.rows) == sorted(predicted.rows) and result.part == "test"
    assert (result.class_names, result.data, result.run) == (("denied", "approved"), "mortgage", mortgage.key)
    order = np.argsort(predicted.rows)
    place = order[np.searchsorted(predicted.rows[order], result.rows)]
    np.testing.assert_array_equal(result.given, predicted.y_true[place])
    of_class_one = np.where(result.given == 1, result.quality, 1 - result.quality)
    np.testing.assert_allclose(of_class_one, predicted.y_score[place])
    approved = {"denied": 0, "approved": 1}
    table = result.frame()
    assert len(table) and (table["given"].map(approved) == table["approve"]).all(), "the raw row stands beside it"
    assert "trains anew" in " ".join(words(result))


def test_all_rows_of_a_run_are_checked(mortgage):
    result = find_label_errors(mortgage, part="all", n_folds=2, progress=False)
    assert len(result.rows) == 1989 and result.part == "all" and "trained 2 times" in result.method
    assert sorted(result.rows) == list(range(1989))
    find_label_errors(mortgage)
    assert kept(mortgage, "label-errors", LabelErrors) == result, "a look at the test part took it away"


def test_labels_are_judged_by_models_that_did_not_see_them(monkeypatch):
    """Labels by the toss of a coin can only be learned by heart: models that did not see them are right by chance."""
    rng = np.random.default_rng(0)
    coins = rng.permutation(np.arange(240) % 2)
    frame = pd.DataFrame(rng.normal(size=(240, 30)), columns=[f"x{i}" for i in range(30)]).assign(
        side=np.array(["heads", "tails"])[coins]
    )

    def tosses(seed: int) -> Dataset:
        """Tosses of a coin."""
        return prepare(frame, target="side", seed=seed, name="mortgage")

    monkeypatch.setitem(loading._LOADERS, "mortgage", tosses)
    run = fit(Recipe(data="mortgage", epochs=40, lr=0.01, weight_decay=0.0, name="labels-coins"), progress=False)
    dataset = predictions_of(run).dataset
    known = dataset.splits["train"]
    with torch.no_grad():
        said = load_model(run, "last")(dataset.inputs[known]).argmax(dim=1)
    assert (said == dataset.targets[known]).float().mean() > 0.8, "what it was trained on it knows by heart"
    result = find_label_errors(run, part="all", n_folds=3, progress=False)
    assert abs(result.agreement - 0.5) < 3.5 * np.sqrt(0.25 / 240)


def test_a_regression_has_no_labels_to_check():
    run = fit(Recipe(data="bikes", epochs=1, name="labels-bikes"), progress=False)
    with pytest.raises(DLStudioError, match="a regression"):
        find_label_errors(run)
    with pytest.raises(DLStudioError, match="a run alone"):
        find_label_errors(run, CHANCE)
