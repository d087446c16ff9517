"""What the words say of an explanation: the right reasons, in the right direction, and never more than is known."""

from __future__ import annotations

import dataclasses
import math
import subprocess
import sys

import numpy as np
import pytest

from dlstudio.errors import DLStudioError
from dlstudio.explain.parts import REGIONS, aligned, number, parts, ranking, signed
from dlstudio.explain.result import Explanation
from dlstudio.explain.words import chances, describe, headline, output_name, unit, verdict_line
from dlstudio.results import Finding


def explanation(attributions, **fields) -> Explanation:
    """An explanation of approval (class 1 of two) whose attributions add up exactly."""
    attributions = np.asarray(attributions, dtype=float)
    n = len(attributions)
    prediction = attributions.reshape(n, -1).sum(axis=1)
    given = {
        "method": "shapley",
        "modality": "tabular",
        "attributions": attributions,
        "baseline_value": np.zeros(n),
        "prediction": prediction,
        "gap": 0.002,
        "gaps": np.full(n, 0.002),
        "output_range": 2.0,
        "verdict": "ok",
        "inputs": np.ones(attributions.shape),
        "class_names": ("denied", "approved"),
        "target": np.ones(n, dtype=np.int64),
        "outputs": np.stack([np.zeros(n), prediction], axis=1),
        "rows": np.arange(n) + 17,
    }
    return Explanation(**{**given, **fields})


@pytest.fixture
def loan() -> Explanation:
    """One application that is denied: its obligations and a bankruptcy speak against approval, its income for it."""
    return explanation(
        [[-0.5, 0.25, -1.0]],
        inputs=np.array([[48.0, 5200.0, 1.0]]),
        labels=np.array([["48", "5,200", "yes"]]),
        feature_names=("obrat", "income", "bankrupt"),
        y_true=np.array([1]),
    )


def text(tokens, values, **fields) -> Explanation:
    ids = np.arange(len(tokens))[None]
    return explanation([values], modality="text", inputs=ids, labels=np.array([tokens]), **fields)


def finding(severity: str, sentence: str = "Something is wrong.") -> Finding:
    return Finding(code="DLS401", severity=severity, sentence=sentence, remedy="Do it otherwise.")


def test_of_two_classes_what_speaks_against_one_speaks_for_the_other(loan):
    told = headline(loan, 0)
    assert told.startswith("The strongest reason for denial is bankrupt = yes (−1 logit of approval)")
    assert "followed by obrat = 48 (−0.5)" in told
    assert told.endswith("The strongest reason against it is income = 5,200 (+0.25).")


def test_the_decided_class_keeps_its_signs(loan):
    turned = dataclasses.replace(loan, attributions=-loan.attributions, outputs=-loan.outputs)
    assert headline(turned, 0).startswith("The strongest reason for approval is bankrupt = yes (+1 logit), followed by")


def test_classes_without_a_noun_are_quoted_and_many_classes_are_not_turned_round(loan):
    shoes = dataclasses.replace(loan, class_names=("a", "b", "Sneaker"), target=np.array([2]), outputs=np.eye(3)[:1])
    assert headline(shoes, 0).startswith("The strongest reason for “Sneaker” is income = 5,200 (+0.25 logit).")
    alone = dataclasses.replace(shoes, attributions=-np.abs(loan.attributions))
    assert headline(alone, 0) == (
        "Nothing speaks for “Sneaker”; the strongest reason against it is bankrupt = yes (−1 logit)."
    )


def test_a_number_is_pushed_up_and_down(loan):
    bikes = dataclasses.replace(loan, class_names=(), outputs=np.array([[4.0]]), target=np.array([0]))
    assert (unit(bikes), output_name(bikes, 0)) == ("output units", "the prediction")
    assert headline(bikes, 0).startswith("The strongest push downwards is bankrupt = yes (−1), followed by obrat")
    assert headline(bikes, 0).endswith("The strongest push upwards is income = 5,200 (+0.25).")
    many = dataclasses.replace(bikes, outputs=np.zeros((1, 4)), target=np.array([3]))
    assert output_name(many, 0) == "output 3"


def test_a_tie_within_the_random_error_is_said(loan):
    close = dataclasses.replace(loan, attributions=np.array([[-0.9, 0.25, -1.0]]))
    assert "cannot be told" not in headline(close, 0)
    sure = dataclasses.replace(close, standard_error=np.full((1, 3), 0.03))
    assert "cannot be told" not in headline(sure, 0), "0.1 is more than two standard errors of 0.03·√2"
    unsure = dataclasses.replace(close, standard_error=np.full((1, 3), 0.04))
    assert "cannot be told" in headline(unsure, 0)


def test_unsigned_methods_give_no_direction(loan):
    gradient = dataclasses.replace(loan, method="saliency", attributions=np.abs(loan.attributions), gap=None, gaps=None)
    told = headline(gradient, 0)
    assert told.startswith("The output for approval reacts most strongly to bankrupt = yes, then to obrat = 48")
    assert "reason" not in told
    assert "promises no sum" in verdict_line(gradient)


def test_over_all_rows_the_mean_size_counts(loan):
    both = explanation([[-3.0, 1.0], [3.0, 1.0]], feature_names=("a", "b"))
    assert headline(both).startswith("Over the 2 rows explained, a matters most for approval: it moves the output by 3")
    assert [(part.name, part.attribution) for part in ranking(both)] == [("a", 3.0), ("b", 1.0)]
    mixed = dataclasses.replace(both, target=np.array([0, 1]))
    assert "for the explained class" in headline(mixed)


def test_nothing_is_made_of_nothing(loan):
    nothing = dataclasses.replace(loan, attributions=np.zeros((1, 3)))
    assert headline(nothing, 0) == "Nothing in this row moved the output: every attribution is 0."
    assert headline(nothing).endswith("nothing moved the output: every attribution is 0.")


def test_a_refused_explanation_tells_why_and_no_number(loan):
    refused = dataclasses.replace(loan, verdict="refused", findings=(finding("critical"),))
    assert verdict_line(refused) == "Refused: something is wrong."
    whole = " ".join([headline(refused), headline(refused, 0), *describe(refused, 0), *describe(refused)])
    assert "Do it otherwise." in whole
    assert "bankrupt" not in whole and "0.5" not in whole


def test_a_suspect_explanation_is_told_with_the_warning_first(loan):
    suspect = dataclasses.replace(loan, verdict="suspect", findings=(finding("warning"), finding("warning", "Noise.")))
    assert headline(suspect, 0).startswith("With care, as this explanation is suspect: the strongest reason for denial")
    told = describe(suspect, 0)
    assert told[:3] == ("Suspect: something is wrong.", "Do it otherwise.", "Noise. Do it otherwise.")


def test_the_whole_story_adds_up(loan):
    told = describe(loan, 0)
    assert told[0] == "Sound: the attributions add up to the change of the output, to within 0.2 % of its range."
    share = 100 / (1 + math.exp(-1.25))
    assert told[1] == (
        f"Row 17: the model decides for “denied” with a probability of {share:.3g} %; the true class is “approved”."
    )
    assert told[2] == headline(loan, 0)
    assert told[3] == (
        "Over the background the output averages 0 logit; all that raises it adds 0.25 and all that lowers it takes off"
        " 1.5, which makes the −1.25 logit of this row."
    )
    assert told[4].startswith("Shapley values: every feature's average effect")
    short = dataclasses.replace(loan, prediction=loan.prediction + 0.1)
    assert "+0.1 is left unexplained" in " ".join(describe(short, 0))


def test_chances_are_a_softmax_unless_they_are_probabilities_already(loan):
    np.testing.assert_allclose(chances(loan, 0), np.exp([0, -1.25]) / np.exp([0, -1.25]).sum())
    given = dataclasses.replace(loan, outputs=np.array([[0.3, 0.7]]))
    np.testing.assert_allclose(chances(given, 0), [0.3, 0.7])
    single = dataclasses.replace(loan, outputs=np.array([[0.0]]))
    np.testing.assert_allclose(chances(single, 0), [0.5, 0.5])
    assert chances(dataclasses.replace(loan, class_names=()), 0) is None


def test_pieces_of_a_word_are_one_reason_and_their_errors_add_in_squares():
    e = text(
        ["[CLS]", "un", "##believ", "##able", "!"], [0.0, 1.0, 0.5, 0.5, -0.25], standard_error=np.full((1, 5), 0.1)
    )
    found = parts(e, 0)
    assert [(part.name, part.attribution) for part in found] == [("[CLS]", 0), ("unbelievable", 2.0), ("!", -0.25)]
    assert found[1].standard_error == pytest.approx(0.1 * math.sqrt(3))
    assert "is “unbelievable” (+2 logit)" in headline(e, 0)


def test_padding_is_left_out_unless_it_counts():
    tokens = ["good", "<padding>", "<padding>"]
    assert [part.name for part in parts(text(tokens, [1.0, 0.0, 0.0]), 0)] == ["good"]
    counted = parts(text(tokens, [1.0, 0.25, 0.25]), 0)
    assert (counted[1].name, counted[1].attribution) == ("padding (2 tokens)", 0.5)


def test_a_word_counts_as_often_as_it_occurs():
    found = ranking(text(["Bad", "bad", "fine"], [-1.0, -0.5, 1.0]))
    assert [(part.name, part.attribution) for part in found] == [("bad", 1.5), ("fine", 1.0)]


def test_an_image_is_told_by_where_it_matters():
    values = np.zeros((1, 3, 9, 12))
    values[0, :, 7, 1] = 1.0
    e = explanation(values, modality="image", outputs=np.array([[0.0, 3.0]]))
    assert {part.name: part.attribution for part in parts(e, 0)} == {**dict.fromkeys(REGIONS, 0), "lower left": 3.0}
    assert "is the lower left of the image (+3 logit)" in headline(e, 0)
    assert headline(e).endswith("100 % of all attribution lies there.")
    loose = dataclasses.replace(e, gap=None, gaps=None, method="occlusion")
    assert "+3" not in headline(loose, 0), "windows overlap: their sum is in no unit"


def test_a_long_sequence_is_told_in_stretches():
    values = np.zeros((1, 120, 2))
    values[0, 30:40, 1] = 0.1
    e = explanation(values, modality="sequence", feature_names=("temp", "wind"))
    found = parts(e, 0)
    assert len(found) == 24 and sum(part.attribution for part in found) == pytest.approx(1.0)
    assert "wind, steps 30 to 39 (+1 logit)" in headline(e, 0)
    short = explanation(values[:, 28:40], modality="sequence", feature_names=("temp", "wind"))
    assert parts(short, 0)[5].text == "wind at step 2 = 1"


@pytest.mark.parametrize("modality", ["tabular", "image", "text", "sequence"])
def test_parts_add_up_to_the_row_whatever_it_is(modality):
    shape = {"tabular": (2, 5), "image": (2, 3, 7, 8), "text": (2, 6), "sequence": (2, 50, 3)}[modality]
    e = explanation(np.random.default_rng(0).normal(size=shape), modality=modality)
    for at in range(2):
        assert sum(part.attribution for part in parts(e, at)) == pytest.approx(e.attributions[at].sum())
        assert describe(e, at)


def test_units_of_a_layer_have_numbers_and_no_values():
    e = explanation([[1.0, -2.0]], inputs=np.ones((1, 7)), layer="block.0", method="layer_conductance")
    assert [part.text for part in parts(e, 0)] == ["unit 0", "unit 1"]


def test_numbers_read_well():
    assert [number(item) for item in (0.12345, -1234.5, 1e-7, 0.0, math.nan, -math.inf)] == [
        "0.123",
        "−1,234",
        "1e-07",
        "0",
        "NaN",
        "−∞",
    ]
    assert [signed(item) for item in (2.0, -2.0, 0.0)] == ["+2", "−2", "0"]
    assert aligned([-3.6, 0.5749, 0.0]) == ["−3.60", "+0.57", "0.00"]
    assert aligned([1234.5, 2.0], plain=True) == ["1,234", "2"]


def test_a_row_that_is_not_there_is_refused(loan):
    for tell in (parts, headline, describe, chances):
        with pytest.raises(DLStudioError, match="a row from 0 to 0"):
            tell(loan, 1)


def test_words_need_no_torch():
    code = "import sys, dlstudio.explain.words; print(*{'torch', 'captum', 'shap', 'pandas'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=180)
    assert done.stdout.split() == [], "importing the words loads what only computing needs"
