"""What a reader takes as one reason: a column with its value, a whole word, a region of an image, a channel's step."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from dlstudio.errors import DLStudioError
from dlstudio.explain.result import Explanation, names_of

__all__ = [
    "REGIONS",
    "Part",
    "aligned",
    "check_row",
    "feature_labels",
    "number",
    "of_inputs",
    "parts",
    "ranking",
    "signed",
]

REGIONS = ("upper left", "top", "upper right", "left", "centre", "right", "lower left", "bottom", "lower right")
"""The ninths of an image, row by row."""
MAX_STEPS, STRETCHES = 24, 12
"""A sequence of more steps is told in stretches."""
PADDING = ("<padding>", "<pad>", "[PAD]")


@dataclass(frozen=True, kw_only=True)
class Part:
    """One reason: what it is called, its value as text ("" for none), its attribution and standard error."""

    name: str
    value: str = ""
    attribution: float
    standard_error: float = math.nan

    @property
    def text(self) -> str:
        """Name and value, such as ``"obrat = 48"``."""
        return f"{self.name} = {self.value}" if self.value else self.name


def number(item: float) -> str:
    """Format a number for people: three significant digits, whole from 100 on, a true minus sign.

    Example:
        >>> number(0.12345), number(-1234.5), number(1e-7)
        ('0.123', '−1,234', '1e-07')
    """
    if not math.isfinite(item):
        return "NaN" if math.isnan(item) else ("∞" if item > 0 else "−∞")
    size = abs(item)
    text = f"{size:,.0f}" if 99.95 <= size < 1e9 else f"{size:.3g}"
    return f"−{text}" if item < 0 and float(text.replace(",", "")) else text


def signed(item: float) -> str:
    """The same with a plus sign on what is above zero."""
    return f"+{number(item)}" if item > 0 else number(item)


def aligned(values: Sequence[float], *, plain: bool = False) -> list[str]:
    """Format numbers that stand below each other: all with the decimals that give the largest three digits.

    Args:
        values: the numbers.
        plain: leave out the plus sign.

    Example:
        >>> aligned([-3.6, 0.5749])
        ['−3.60', '+0.57']
    """
    largest = max((abs(value) for value in values if math.isfinite(value)), default=0.0)
    if not 1e-4 <= largest < 1e9:
        return [number(value) if plain else signed(value) for value in values]
    decimals = max(0, 2 - math.floor(math.log10(largest)))
    shown = []
    for value in values:
        text = f"{abs(value):,.{decimals}f}" if math.isfinite(value) else number(abs(value))
        shown.append(f"−{text}" if value < 0 else text if plain or value == 0 else f"+{text}")
    return shown


def check_row(explanation: Explanation, at: int) -> int:
    """Return `at` if there is such a row.

    Raises:
        DLStudioError: there is none.
    """
    if not 0 <= at < len(explanation):
        expected = f"a row from 0 to {len(explanation) - 1}"
        raise DLStudioError(expected, f"at={at}", "`at` counts the explained rows, not those of the data set.")
    return int(at)


def parts(explanation: Explanation, at: int) -> list[Part]:
    """Return the reasons of one row in reading order; their attributions sum to that of the whole row.

    Columns of a table, words of a text (pieces merged, padding that counts for nothing left out), ninths of an
    image, channels and steps of a sequence (channels and stretches of time of a long one), units of a layer.

    Example:
        >>> [part.text for part in parts(e, 0)][:2]
        ['obrat = 48', 'pubrec = 1']
    """
    at = check_row(explanation, at)
    values = explanation.shares[at].astype(np.float64)
    errors = None if explanation.error_shares is None else explanation.error_shares[at].astype(np.float64)
    whole = of_inputs(explanation)
    if explanation.modality == "text" and whole:
        return _words(explanation, at, values, errors)
    if explanation.modality == "image" and values.ndim >= 2:
        return _regions(values)
    if explanation.modality == "sequence" and whole and len(values) > MAX_STEPS:
        return _stretches(explanation, values)
    names = feature_labels(explanation)
    texts = _values(explanation, at)
    flat = [math.nan] * values.size if errors is None else errors.reshape(-1).tolist()
    return [
        Part(name=name, value=text, attribution=value, standard_error=error)
        for name, text, value, error in zip(names, texts, values.reshape(-1).tolist(), flat, strict=True)
    ]


def ranking(explanation: Explanation) -> list[Part]:
    """Return what matters over all rows, the most important first: mean |attribution| a row in place of attributions.

    A word counts as often as it occurs, under one name whatever its case; a region of an image counts all its pixels.
    """
    n = len(explanation)
    totals: dict[str, float] = {}
    pairs: list[tuple[str, float]] = []
    if explanation.modality == "text" and of_inputs(explanation):
        for at in range(n):
            for part in parts(explanation, at):
                name = part.name.lower()
                totals[name] = totals.get(name, 0.0) + abs(part.attribution) / n
    elif explanation.modality == "image" and explanation.attributions.ndim >= 3:
        size = explanation.attributions.shape[-2:]
        regions = _regions(explanation.importance.astype(np.float64).reshape(size))
        totals = {region.name: region.attribution for region in regions}
    elif (
        explanation.modality == "sequence"
        and of_inputs(explanation)
        and (explanation.attributions.shape[1] > MAX_STEPS)
    ):
        sizes = explanation.importance.astype(np.float64).reshape(explanation.attributions.shape[1:])
        totals = {part.name: part.attribution for part in _stretches(explanation, sizes)}
    else:
        pairs = list(zip(feature_labels(explanation), explanation.importance.astype(np.float64).tolist(), strict=True))
    found = [Part(name=name, attribution=total) for name, total in pairs or totals.items()]
    return sorted(found, key=lambda part: -part.attribution)


def of_inputs(explanation: Explanation) -> bool:
    """Whether attributions are those of the inputs, and not of the units of a layer."""
    return explanation.method != "layer_conductance" and explanation.inputs.shape == explanation.attributions.shape


def feature_labels(explanation: Explanation) -> list[str]:
    """A name for people for every feature of `by_feature`: ``"feature 3"`` or ``"unit 3"`` where nobody named it."""
    shape = explanation.attributions.shape
    if not of_inputs(explanation) or (len(shape) == 2 and len(explanation.feature_names) != shape[1]):
        what = "feature" if of_inputs(explanation) else "unit"
        return [f"{what} {','.join(map(str, place))}" for place in np.ndindex(shape[1:])]
    if explanation.modality == "sequence":
        channels = _channels(explanation, shape[2])
        return [f"{channel} at step {step}" for step in range(shape[1]) for channel in channels]
    return names_of(explanation)


def _channels(explanation: Explanation, n: int) -> tuple[str, ...]:
    names = explanation.feature_names
    return names if len(names) == n else tuple(f"channel {channel}" for channel in range(n))


def _values(explanation: Explanation, at: int) -> list[str]:
    n = explanation.attributions[at].size
    if not of_inputs(explanation):
        return [""] * n
    if explanation.labels is not None and explanation.labels[at].size == n:
        return [str(item) for item in explanation.labels[at].reshape(-1)]
    shown = explanation.inputs[at].reshape(-1).astype(np.float64).tolist()
    return ["" if math.isnan(item) else number(item) for item in shown]


def _stretches(explanation: Explanation, values: npt.NDArray[Any]) -> list[Part]:
    """Sums of a long sequence over stretches of its time, channel by channel."""
    table = values.reshape(len(values), -1)
    names = _channels(explanation, table.shape[1])
    return [
        Part(name=f"{name}, steps {steps[0]} to {steps[-1]}", attribution=float(table[steps, channel].sum()))
        for steps in np.array_split(np.arange(len(table)), STRETCHES)
        for channel, name in enumerate(names)
    ]


def _regions(values: npt.NDArray[Any]) -> list[Part]:
    flat = values.sum(axis=tuple(range(values.ndim - 2)))
    if min(flat.shape) < 3:
        return [
            Part(name=f"pixel {row},{column}", attribution=float(flat[row, column]))
            for row, column in np.ndindex(flat.shape)
        ]
    ninths = [third for band in np.array_split(flat, 3) for third in np.array_split(band, 3, axis=1)]
    return [Part(name=name, attribution=float(ninth.sum())) for name, ninth in zip(REGIONS, ninths, strict=True)]


def _words(explanation: Explanation, at: int, values: npt.NDArray[Any], errors: npt.NDArray[Any] | None) -> list[Part]:
    from dlstudio.explain.tokens import words_of

    if explanation.labels is not None:
        tokens = [str(item) for item in explanation.labels[at]]
    else:
        tokens = [f"#{item}" for item in explanation.inputs[at].tolist()]
    squares = np.full(len(values), np.nan) if errors is None else errors**2
    padding = [place for place, token in enumerate(tokens) if token in PADDING]
    found = [
        Part(
            name=word,
            attribution=float(values[places].sum()),
            standard_error=float(np.sqrt(squares[places].sum())),
        )
        for word, places in words_of(tokens)
        if tokens[places[0]] not in PADDING
    ]
    if padding and np.any(values[padding] != 0):
        error = float(np.sqrt(squares[padding].sum()))
        whole = float(values[padding].sum())
        found.append(Part(name=f"padding ({len(padding)} tokens)", attribution=whole, standard_error=error))
    return found
