"""What if: a row with something changed, beside the row as it is.

A face draws the controls; what they offer, what their values mean and what comes out is the same for all of them.
Nothing tried is ever saved. Reading this needs no torch; what changes a row imports it when it is called.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from dlstudio.errors import DLStudioError
from dlstudio.explain.parts import check_row, number
from dlstudio.explain.result import Explanation
from dlstudio.explain.words import chances

if TYPE_CHECKING:
    import torch

    from dlstudio.explain.session import Session

__all__ = [
    "INTRO",
    "UNCHANGED",
    "Field",
    "blanked",
    "change",
    "fields",
    "outcomes",
    "sentence",
    "spans",
    "try_out",
    "with_text",
]

Changed: TypeAlias = "torch.Tensor | Mapping[str, Any]"

INTRO = {
    "tabular": "Change what you like about this row. The columns that mattered most are offered first.",
    "text": "Rewrite the text. The model reads lower-case words; those it has never seen count as unknown.",
    "image": "Blank out a part of the image: it becomes as dark as nothing at all.",
    "sequence": "Blank out a stretch of time: its values become the average of the training data.",
}
"""What a reader can change, by modality."""
UNCHANGED = "Nothing was changed."


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


def fields(session: Session, row: int, explanation: Explanation | None = None) -> tuple[Field, ...]:
    """Return the columns of a table row as a form offers them, those that mattered most to an explanation first.

    Args:
        session, row: the run and the row of its data set.
        explanation: of rows of that run, this one among them; None keeps the order of the table.

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
    if explanation is None:
        return tuple(found)
    sizes = abs(explanation.by_feature[explanation.rows.tolist().index(row)]).tolist()
    weight = dict(zip(explanation.feature_names, sizes, strict=False))
    return tuple(sorted(found, key=lambda field: -weight.get(field.name, 0.0)))


def spans(session: Session) -> dict[str, int]:
    """Return what of an image or a sequence can be blanked out, name by size.

    Example:
        >>> spans(session)
        {'lines': 28, 'columns': 28}
    """
    shape = session.dataset.input_shape
    return {"lines": shape[-2], "columns": shape[-1]} if session.dataset.modality == "image" else {"steps": shape[0]}


def change(session: Session, row: int, values: Mapping[str, Any]) -> tuple[Changed, str]:
    """Return a row as a form has it, fit for `try_out`, and what there is to say of it.

    Args:
        session, row: the run and the row of its data set.
        values: by column; ``"text"`` of a text; ``"lines"`` and ``"columns"`` of an image, ``"steps"`` and
            ``"channel"`` of a sequence, as `blanked` takes them. None and "" leave a column as it is.

    Raises:
        DLStudioError: a column is unknown, or a value does not fit.
    """
    modality = session.dataset.modality
    if modality == "image":
        return blanked(session, row, values["lines"], values["columns"]), ""
    if modality == "sequence":
        return blanked(session, row, values["steps"], values["channel"]), ""
    if modality == "text":
        if values["text"] == sentence(session, row):
            return _inputs(session, row), UNCHANGED
        ids, unknown = with_text(session, values["text"])
        return ids, f"Unknown to the model: {', '.join(unknown)}." if unknown else ""
    offered = {field.name: field for field in fields(session, row)}
    changes = {
        name: value
        for name, value in values.items()
        if value not in (None, "") and not (name in offered and value == offered[name].value)
    }
    beyond = [name for name, value in changes.items() if name in offered and _outside(offered[name], value)]
    if not changes:
        return changes, UNCHANGED
    return changes, f"Beyond anything in the data: {', '.join(beyond)}." if beyond else ""


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

    from dlstudio.data.text import UNKNOWN, words_in

    index = {word: place for place, word in enumerate(session.dataset.vocabulary)}
    words = [word for word in text.lower().replace("<unknown>", " \0 ").split() if word]
    found = [part for word in words for part in (["<unknown>"] if word == "\0" else words_in(word))]
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


def try_out(session: Session, explanation: Explanation, at: int, changed: Changed) -> Explanation:
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
    return session.explain([row, row], inputs=pair, method=explanation.method, target=target, progress=False, **layer)


def _outside(field: Field, value: Any) -> bool:
    """Whether a number lies beyond the data; text that is no number is complained of when it is written."""
    try:
        return not field.choices and not field.low <= float(value) <= field.high
    except ValueError:
        return False


def _inputs(session: Session, row: int) -> torch.Tensor:
    n = len(session.dataset)
    if not 0 <= row < n:
        raise DLStudioError(f"a row number from 0 to {n - 1:,}", f"{row}", "Choose a row of the data set.")
    return session.dataset.inputs[row : row + 1]
