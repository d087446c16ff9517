"""What faces offer a reader: notable rows, methods, words of a text, blanked parts."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from dlstudio.data.text import encode_texts
from dlstudio.errors import DLStudioError
from dlstudio.explain.exploring import evidence, offered, outcome, outputs_offered, soundest, story, typical
from dlstudio.explain.methods import METHODS
from dlstudio.explain.result import Explanation
from dlstudio.explain.trying import UNCHANGED, blanked, change, outcomes, sentence, spans, with_text
from dlstudio.results import Finding


class _Data:
    """A data set with no more than its inputs, channels and words."""

    def __init__(self, inputs: torch.Tensor, names: tuple[str, ...] = (), vocabulary: tuple[str, ...] = ()) -> None:
        self.inputs, self.feature_names, self.vocabulary = inputs, names, vocabulary

    def __len__(self) -> int:
        return len(self.inputs)


def explanation(outputs: Any, **changes: Any) -> Explanation:
    outputs = np.asarray(outputs, dtype=np.float64)
    n = len(outputs)
    plain: dict[str, Any] = {
        "method": "shapley", "modality": "tabular", "attributions": np.ones((n, 1)), "baseline_value": np.zeros(n),
        "prediction": outputs[:, 0], "gap": 0.0, "gaps": np.zeros(n), "output_range": 1.0, "verdict": "ok",
        "inputs": np.zeros((n, 1)), "feature_names": ("height",), "class_names": (), "rows": np.arange(n),
        "target": np.zeros(n, dtype=np.int64), "outputs": outputs,
    }  # fmt: skip
    return Explanation(**(plain | changes))


def test_notable_rows_of_classes() -> None:
    logits = [[3, 0, 0], [0.1, 0, 0], [0, 9, 0], [0, 0, 2], [5, 0, 0]]
    found = explanation(logits, class_names=("a", "b", "c"), y_true=np.array([0, 0, 1, 0, 1]))
    assert typical(found) == {"Most certain": 2, "Most doubtful": 1, "Wrong, and most certain": 4}
    right = explanation(logits, class_names=("a", "b", "c"), y_true=np.array([0, 0, 1, 2, 0]))
    assert typical(right) == {"Most certain": 2, "Most doubtful": 1}


def test_notable_rows_of_numbers_are_named_once() -> None:
    found = explanation([[1.0], [7.0], [-2.0], [4.0]], y_true=np.array([1.0, 6.5, -2.0, 9.0]))
    assert typical(found) == {"Highest prediction": 1, "Lowest prediction": 2, "Farthest from the truth": 3}
    same = explanation([[1.0], [7.0], [-2.0]], y_true=np.array([1.0, 0.0, -2.0]))
    assert typical(same) == {"Highest prediction": 1, "Lowest prediction": 2}
    assert len(typical(explanation([[1.0]]))) == 1


def test_outcomes_are_the_softmax_of_the_outputs() -> None:
    found = explanation([[0.0, np.log(3)], [np.log(4), 0.0]], class_names=("no", "yes"))
    assert outcome(found, 0) == "yes, 75 %" and outcome(found, 1) == "no, 80 %"
    assert outcomes(found) == [("no", "25.0 %", "80.0 %"), ("yes", "75.0 %", "20.0 %")]
    assert outcomes(explanation([[1.5], [2.5]])) == [("Prediction", "1.5", "2.5")]


def test_what_can_be_explained() -> None:
    two = explanation([[0, 1]], class_names=("no", "yes"))
    assert outputs_offered(two) == {"no": 0, "yes": 1}
    three = explanation([[0, 1, 2]], class_names=("a", "b", "c"))
    assert outputs_offered(three) == {"the predicted class": -1, "a": 0, "b": 1, "c": 2}
    assert outputs_offered(explanation([[1.0]])) == {}


def test_the_soundest_comes_first_and_of_these_the_one_of_most_rows() -> None:
    one, two = explanation([[1.0]]), explanation([[1.0], [2.0]])
    doubtful = explanation([[1.0], [2.0], [3.0]], verdict="suspect")
    assert soundest({"a": doubtful, "b": one, "c": two}) == "c" and soundest({"a": doubtful}) == "a"


@pytest.mark.parametrize("modality", ["tabular", "image", "text", "sequence"])
def test_methods_on_offer_need_nothing_more(modality: str) -> None:
    names = offered(modality)
    assert set(names.values()) <= set(METHODS) and not any("conductance" in name for name in names.values())
    assert ("grad_cam" in names.values()) == (modality == "image")


def test_the_story_leaves_out_what_stands_above() -> None:
    grave = Finding(code="DLS401", severity="warning", sentence="It misses 3 %.", remedy="Raise n_steps.")
    small = Finding(code="DLS402", severity="info", sentence="One column never varies.", remedy="")
    found = explanation([[0.0, 1.0]], class_names=("no", "yes"), verdict="suspect", findings=(grave, small))
    assert evidence(found, code=True) == (("", "Raise n_steps."), ("One column never varies.", ""))
    (_, asked), (second, _) = evidence(found)
    assert asked.startswith("Ask the engineer") and second == "One column never varies."
    told = " ".join(story(found, 0))
    assert "Raise n_steps" not in told and "never varies" not in told and "the model decides for" in told


@pytest.fixture
def texts() -> Any:
    train = np.arange(2)
    inputs, vocabulary = encode_texts(["a good dress good", "a bad dress bad a dress"], train, length=6)
    return SimpleNamespace(dataset=_Data(inputs, vocabulary=vocabulary))


def test_a_text_is_encoded_as_the_data_set_was(texts: Any) -> None:
    for row in range(2):
        again, unknown = with_text(texts, sentence(texts, row))
        torch.testing.assert_close(again, texts.dataset.inputs[row : row + 1])
        assert unknown == ()
    ids, unknown = with_text(texts, "A GOOD, shiny <unknown> dress! good good dress")
    words = [texts.dataset.vocabulary[at] for at in ids[0].tolist()]
    assert words == ["a", "good", "<unknown>", "<unknown>", "dress", "good"] and unknown == ("shiny",)
    with pytest.raises(DLStudioError, match="a text with a word in it"):
        with_text(texts, " ?! ")


def test_a_part_is_blanked_and_nothing_else() -> None:
    images = torch.arange(32.0).reshape(2, 1, 4, 4) + 1
    pictures: Any = SimpleNamespace(dataset=_Data(images), baseline=torch.zeros(1, 4, 4))
    found = blanked(pictures, 1, (0, 2), (1, 3))
    expected = images[1:2].clone()
    expected[0, 0, 0:2, 1:3] = 0
    assert torch.equal(found, expected) and images.min() == 1

    waves = torch.arange(12.0).reshape(1, 4, 3)
    data = _Data(waves, names=("x", "y", "z"))
    sequences: Any = SimpleNamespace(dataset=data, baseline=torch.full((4, 3), -1.0))
    one = blanked(sequences, 0, (1, 3), "y")
    assert torch.equal(one[0, 1:3, 1], torch.full((2,), -1.0)) and int((one != waves).sum()) == 2
    assert int((blanked(sequences, 0, (1, 3)) != waves).sum()) == 6
    with pytest.raises(DLStudioError, match="one of x, y, z"):
        blanked(sequences, 0, (1, 3), "w")
    with pytest.raises(DLStudioError, match="a row number from 0 to 0"):
        blanked(sequences, 1, (1, 3))


def test_what_a_form_says_is_what_is_changed(texts: Any) -> None:
    texts.dataset.modality = "text"
    ids, said = change(texts, 0, {"text": sentence(texts, 0)})
    assert torch.equal(ids, texts.dataset.inputs[:1]) and said == UNCHANGED
    ids, said = change(texts, 0, {"text": "shiny dress"})
    assert torch.equal(ids, with_text(texts, "shiny dress")[0]) and said == "Unknown to the model: shiny."

    images = _Data(torch.ones(1, 1, 6, 9))
    images.modality, images.input_shape = "image", (1, 6, 9)  # type: ignore[attr-defined]
    pictures: Any = SimpleNamespace(dataset=images, baseline=torch.zeros(1, 6, 9))
    assert spans(pictures) == {"lines": 6, "columns": 9}
    found, said = change(pictures, 0, {"lines": (0, 2), "columns": (3, 9)})
    assert torch.equal(found, blanked(pictures, 0, (0, 2), (3, 9))) and float((found == 0).sum()) == 12 and said == ""

    waves = _Data(torch.ones(1, 5, 2), names=("x", "y"))
    waves.modality, waves.input_shape = "sequence", (5, 2)  # type: ignore[attr-defined]
    sequences: Any = SimpleNamespace(dataset=waves, baseline=torch.zeros(5, 2))
    assert spans(sequences) == {"steps": 5}
    found, _ = change(sequences, 0, {"steps": (1, 4), "channel": "y"})
    assert found.sum() == 7 and found[0, :, 0].sum() == 5
