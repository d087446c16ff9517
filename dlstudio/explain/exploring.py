"""What a reader of an explanation looks at: typical rows, other methods and outputs, and what speaks for the verdict.

Reading this needs no torch.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from dlstudio.explain.methods import METHODS
from dlstudio.explain.parts import check_row, number
from dlstudio.explain.plain import in_plain_words
from dlstudio.explain.result import Explanation
from dlstudio.explain.words import chances, describe

__all__ = [
    "PREDICTED",
    "evidence",
    "offered",
    "outcome",
    "outputs_offered",
    "soundest",
    "story",
    "typical",
]

PREDICTED = -1
"""In the place of a class: in every row the one that the model decides for."""
_NEED_MORE = ("layer_conductance", "neuron_conductance")
_OF_IMAGES = ("grad_cam", "guided_grad_cam", "occlusion")
_OF_TABLES = ("feature_permutation",)
_SLOW_ON_PIXELS = ("kernel_shap", "shap_kernel")


def typical(explanation: Explanation) -> dict[str, int]:
    """Return rows worth a look by what they are, each counted within the explanation and named once.

    Of classes the most certain, the most doubtful and the most certain of the wrong ones; of numbers the highest and
    lowest prediction and the one farthest from the truth.

    Example:
        >>> typical(e)
        {'Most certain': 41, 'Most doubtful': 7, 'Wrong, and most certain': 63}
    """
    likely = [chances(explanation, at) for at in range(len(explanation))]
    truth = explanation.y_true
    found: list[tuple[str, int]] = []
    if len(likely) and likely[0] is not None:
        table = np.stack([row for row in likely if row is not None])
        best = np.sort(table, axis=1)
        margin = best[:, -1] - best[:, -2] if table.shape[1] > 1 else best[:, -1]
        found = [("Most certain", int(margin.argmax())), ("Most doubtful", int(margin.argmin()))]
        if truth is not None and bool((wrong := table.argmax(axis=1) != truth).any()):
            found.append(("Wrong, and most certain", int(np.where(wrong, margin, -1.0).argmax())))
    elif len(explanation):
        values = explanation.prediction.astype(np.float64)
        found = [("Highest prediction", int(values.argmax())), ("Lowest prediction", int(values.argmin()))]
        if truth is not None:
            found.append(("Farthest from the truth", int(np.abs(values - truth).argmax())))
    return {name: at for place, (name, at) in enumerate(found) if at not in [other for _, other in found[:place]]}


def soundest(saved: Mapping[str, Explanation]) -> str:
    """Return which of several explanations to show first: the soundest, of equally sound ones that of the most rows.

    Example:
        >>> soundest(saved_explanations("my-run"))
        'shapley'
    """
    order = ("ok", "suspect", "refused")
    return min(saved, key=lambda name: (order.index(saved[name].verdict), -len(saved[name])))


def offered(modality: str) -> dict[str, str]:
    """Return the methods that suit a kind of input, name by title; those that need a layer or a unit are left out.

    Example:
        >>> offered("tabular")["Shapley values"]
        'shapley'
    """
    left_out = {
        *_NEED_MORE,
        *(() if modality == "image" else _OF_IMAGES),
        *(() if modality == "tabular" else _OF_TABLES),
    }
    left_out |= set(() if modality == "tabular" else _SLOW_ON_PIXELS)
    return {method.title: name for name, method in METHODS.items() if name not in left_out}


def story(explanation: Explanation, at: int | None = None) -> tuple[str, ...]:
    """Tell an explanation in paragraphs as `describe` does, without the verdict and what speaks for it.

    For faces that show these above every picture.
    """
    above = {*explanation.reasons, *(finding.remedy for finding in explanation.findings)}
    return tuple(text for text in describe(explanation, at)[1:] if text not in above)


def evidence(explanation: Explanation, *, code: bool = False) -> tuple[tuple[str, str], ...]:
    """Return what speaks for the verdict as (sentence, remedy), less the sentence that `verdict_line` tells.

    Args:
        explanation: of which.
        code: for readers who write code: remedies as they are, with the arguments to pass; else in plain words.
    """
    grave = [finding for finding in explanation.findings if finding.severity != "info"]
    told = grave[0] if grave and explanation.verdict != "ok" else None
    found = []
    for finding in explanation.findings:
        shown = finding if code else in_plain_words(finding)
        found.append(("" if finding is told else shown.sentence, shown.remedy))
    return tuple(found)


def outputs_offered(explanation: Explanation) -> dict[str, int]:
    """Return what can be explained by name: every class, and of more than two the predicted one (`PREDICTED`)."""
    names = explanation.class_names
    if len(names) != explanation.outputs.shape[1]:
        return {}
    each = {} if len(names) == 2 else {"the predicted class": PREDICTED}
    return each | {name: place for place, name in enumerate(names)}


def outcome(explanation: Explanation, at: int) -> str:
    """Say in a few words what the model makes of a row.

    Example:
        >>> outcome(e, 0)
        'denied, 83.1 %'
    """
    likely = chances(explanation, at)
    if likely is None or len(likely) != len(explanation.class_names):
        return number(float(explanation.prediction[check_row(explanation, at)]))
    decided = int(likely.argmax())
    return f"{explanation.class_names[decided]}, {min(99.9, 100 * float(likely[decided])):.3g} %"
