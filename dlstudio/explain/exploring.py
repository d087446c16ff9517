"""What a reader of an explanation looks at and tries: typical rows, other methods, and rows with something changed.

Reading this needs no torch; what changes a row imports it when it is called.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from dlstudio.errors import DLStudioError
from dlstudio.explain.methods import METHODS
from dlstudio.explain.parts import check_row, number
from dlstudio.explain.result import Explanation
from dlstudio.explain.words import chances, describe

if TYPE_CHECKING:
    import torch

    from dlstudio.explain.session import Session

__all__ = [
    "PREDICTED",
    "Field",
    "blanked",
    "evidence",
    "fields",
    "offered",
    "outcome",
    "outcomes",
    "outputs_offered",
    "sentence",
    "story",
    "try_out",
    "typical",
    "with_text",
]

PREDICTED = -1
"""In the place of a class: in every row the one that the model decides for."""
_NEED_MORE = ("layer_conductance", "neuron_conductance")
_OF_IMAGES = ("grad_cam", "guided_grad_cam", "occlusion")
_OF_TABLES = ("feature_permutation",)
_SLOW_ON_PIXELS = ("kernel_shap", "shap_kernel")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Field:
    """A column of a table as a form offers it.

    Attributes:
        name: of the column.
        value: what the row has: a category, or a number; None where it is missing.
        choices: the categories; () for numbers.
        low, high: of the numbers in the data; NaN for categories.
        step: 1 where all numbers are whole, else 0.
    """

    name: str
    value: str | float | None
    choices: tuple[str, ...] = ()
    low: float = math.nan
    high: float = math.nan
    step: float = 0.0


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


def evidence(explanation: Explanation) -> tuple[tuple[str, str], ...]:
    """Return what speaks for the verdict as (sentence, remedy), less the sentence that `verdict_line` tells."""
    grave = [finding for finding in explanation.findings if finding.severity != "info"]
    told = grave[0] if grave and explanation.verdict != "ok" else None
    return tuple(("" if finding is told else finding.sentence, finding.remedy) for finding in explanation.findings)


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


def outcomes(tried: Explanation) -> list[tuple[str, str, str]]:
    """Return what the model says before and after a change: (class or prediction, before, after), likeliest first.

    Args:
        tried: what `try_out` returned.
    """
    before, after = chances(tried, 0), chances(tried, 1)
    if before is None or after is None or len(after) != len(tried.class_names):
        return [("Prediction", number(float(tried.prediction[0])), number(float(tried.prediction[1])))]
    order = np.argsort(-np.maximum(before, after), kind="stable")[:5].tolist()
    return [(tried.class_names[at], f"{100 * before[at]:.1f} %", f"{100 * after[at]:.1f} %") for at in order]


def fields(session: Session, row: int) -> tuple[Field, ...]:
    """Return the columns of a table row as a form offers them.

    Raises:
        DLStudioError: the data set is no table, or has no such row.
    """
    numbers, texts = session.raw(_inputs(session, row))
    found = []
    for place, (name, column) in enumerate(session.table.items()):
        if column.labels:
            found.append(Field(name=name, value=str(texts[0, place]), choices=column.labels))
            continue
        known = column.numbers[np.isfinite(column.numbers)] if column.numbers is not None else np.zeros(1)
        value = None if texts[0, place] == "missing" else float(f"{numbers[0, place]:.6g}")
        low, high = (float(known.min()), float(known.max())) if len(known) else (math.nan, math.nan)
        found.append(Field(name=name, value=value, low=low, high=high, step=column.step))
    return tuple(found)


def sentence(session: Session, row: int) -> str:
    """Return a text as the model reads it: its words, without padding."""
    ids = _inputs(session, row)[0].tolist()
    words = session.dataset.vocabulary
    return " ".join(words[at] for at in ids if at)


def with_text(session: Session, text: str) -> tuple[torch.Tensor, tuple[str, ...]]:
    """Return another text as the model takes it, int64 (1, length), and the words that it does not know.

    Raises:
        DLStudioError: it holds no word.
    """
    import torch

    from dlstudio.data.text import _WORD, UNKNOWN

    index = {word: place for place, word in enumerate(session.dataset.vocabulary)}
    words = [word for word in text.lower().replace("<unknown>", " \0 ").split() if word]
    found = [part for word in words for part in (["<unknown>"] if word == "\0" else _WORD.findall(word))]
    if not found:
        raise DLStudioError("a text with a word in it", repr(text), "Write a sentence.")
    length = session.dataset.inputs.shape[1]
    ids = torch.zeros(1, length, dtype=torch.int64)
    ids[0, : len(found)] = torch.tensor([index.get(word, UNKNOWN) for word in found[:length]])
    unknown = dict.fromkeys(word for word in found[:length] if word not in index)
    return ids, tuple(unknown)


def blanked(
    session: Session, row: int, first: tuple[int, int], second: tuple[int, int] | str | None = None
) -> torch.Tensor:
    """Return an image or a sequence with a part replaced by what stands for 'nothing known', (1, ...).

    Args:
        session, row: the run and the row of its data set.
        first: lines of the image, or steps of the sequence, from and up to but without.
        second: columns of the image; of a sequence the name of a channel, None for all.

    Raises:
        DLStudioError: there is no such channel or row.
    """
    inputs = _inputs(session, row).clone()
    baseline = session.baseline
    if isinstance(second, tuple):
        part: Any = (..., slice(*first), slice(*second))
    elif second is None:
        part = (slice(*first),)
    else:
        names = session.dataset.feature_names
        if second not in names:
            raise DLStudioError(f"one of {', '.join(names)}", repr(second), "Choose a channel.")
        part = (slice(*first), names.index(second))
    inputs[0][part] = baseline[part]
    return inputs


def try_out(
    session: Session, explanation: Explanation, at: int, changed: torch.Tensor | Mapping[str, Any]
) -> Explanation:
    """Explain a row as it is and as it was changed, side by side and by the method of `explanation`.

    Args:
        session: the explained run.
        explanation: of rows of that run.
        at: the row, counted within the explanation.
        changed: new raw values of table columns, or the changed row as the model takes it, (1, ...).

    Returns:
        An explanation of two rows: the first as it is, the second as changed.

    Raises:
        DLStudioError: a column is unknown, a value does not fit, or the method fails on these two rows.
    """
    import torch

    row = int(explanation.rows[check_row(explanation, at)])
    edited = session.edited(row, changed) if isinstance(changed, Mapping) else changed
    pair = torch.cat([_inputs(session, row), edited])
    target = int(explanation.target[at])
    layer = {"layer": explanation.layer} if explanation.layer else {}
    found = session.explain([row, row], inputs=pair, method=explanation.method, target=target, progress=False, **layer)
    return dataclasses.replace(found, y_true=None)  # nobody knows what would be true of a row that never was


def _inputs(session: Session, row: int) -> torch.Tensor:
    n = len(session.dataset)
    if not 0 <= row < n:
        raise DLStudioError(f"a row number from 0 to {n - 1:,}", f"{row}", "Choose a row of the data set.")
    return session.dataset.inputs[row : row + 1]
