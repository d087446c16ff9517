"""What `find_label_errors` returns, and its words."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from dlstudio.results import Finding, Result
from dlstudio.stats import wilson
from dlstudio.wording import percent, span

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["LabelErrors", "findings_of", "words"]

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

UNSURE = 0.9
"""Below this share of given labels that are the likeliest, suspects are as often hard rows as wrong labels."""


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class LabelErrors(Result, schema=2):
    """Labels of n rows, the most suspect first: those that confident learning flags, then the others.

    Attributes:
        rows: int64 (n,), row numbers in the data set, or 0, 1, 2, … of what was passed.
        given, suggested: int64 (n,), the label's class, and the likeliest by a model that did not see the label.
        quality: float64 (n,), 0 to 1, the probability of the given label by that model; low is suspect.
        probability: float64 (n,), that of the suggested one.
        n_flagged: how many of the rows are flagged; they come first.
        class_names: one per class.
        details: of the flagged rows, raw columns by name, (n_flagged,).
        images: of the first flagged rows, their inputs (m, channels, height, width); None where rows are no images.
        method: how the probabilities were come by, in words.
        n_dropped: rows left out as they have no label.
        part: what was checked: ``"all"`` rows, or the ``"test"`` part of a run.
        level, seed: of the interval; of the folds.
        data, run: the data set's name and the run's key, empty without.
        options: everything that `find_label_errors` was given beside the run, by name, so that
            ``find_label_errors(run, **result.options)`` does the same again.
        findings: what follows; codes DLS340 to DLS344.

    References:
        Northcutt, Jiang and Chuang, Confident learning: estimating uncertainty in dataset labels (2021).
    """

    rows: Ints
    given: Ints
    suggested: Ints
    quality: Floats
    probability: Floats
    n_flagged: int
    class_names: tuple[str, ...]
    details: Mapping[str, npt.NDArray[Any]] = dataclasses.field(default_factory=dict)
    images: npt.NDArray[Any] | None = None
    method: str
    n_dropped: int = 0
    part: str = "all"
    level: float
    seed: int
    data: str = ""
    run: str = ""
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    findings: tuple[Finding, ...] = ()

    def __len__(self) -> int:
        return self.n_flagged

    @property
    def verdict(self) -> str:
        """``"label errors suspected"`` or ``"none suspected"``."""
        return "label errors suspected" if self.n_flagged else "none suspected"

    @property
    def agreement(self) -> float:
        """The share of rows whose given label is the likeliest one, 0 to 1."""
        return float((self.given == self.suggested).mean())

    @property
    def confusion(self) -> Ints:
        """How many flagged rows of each given class (rows) are likely of each other one (columns), int64 (k, k)."""
        k, n = len(self.class_names), self.n_flagged
        return np.bincount(self.given[:n] * k + self.suggested[:n], minlength=k * k).reshape(k, k).astype(np.int64)

    def frame(self) -> pd.DataFrame:
        """Return a row per flagged label, the most suspect first.

        Columns are ``row, given, suggested, quality, probability`` and the raw columns of the row.
        """
        import pandas as pd

        n, names = self.n_flagged, np.array(self.class_names, dtype=object)
        found = {
            "row": self.rows[:n],
            "given": names[self.given[:n]],
            "suggested": names[self.suggested[:n]],
            "quality": self.quality[:n],
            "probability": self.probability[:n],
        }
        return pd.DataFrame(found | {name: values for name, values in self.details.items() if name not in found})


def findings_of(result: LabelErrors) -> tuple[Finding, ...]:
    """Return what follows, each with its numbers."""
    n, flagged, agreement = len(result.rows), result.n_flagged, result.agreement
    checked = f"{n:,} {'test ' if result.part == 'test' else ''}labels{f' of {result.data}' if result.data else ''}"
    found = []
    if flagged:
        low, high = (float(end) for end in wilson(flagged, n, result.level))
        place = int(result.confusion.argmax())
        was, seems = (result.class_names[code] for code in divmod(place, len(result.class_names)))
        count = int(result.confusion.ravel()[place])
        found.append(
            Finding(
                code="DLS340",
                severity="warning",
                sentence=(
                    f"{flagged:,} of {checked} {'is' if flagged == 1 else 'are'} suspect: {percent(flagged / n)}"
                    f" ({span(percent(low), percent(high), result.level)}); most often {was!r} where {seems!r} is"
                    f" likelier ({count:,} {'row' if count == 1 else 'rows'})."
                ),
                evidence={"n_flagged": flagged, "n_rows": n, "low": low, "high": high, "given": was, "likelier": seems},
                remedy="Look at them before changing any, the most suspect first.",
            )
        )
    else:
        found.append(
            Finding(
                code="DLS341",
                severity="info",
                sentence=(
                    f"None of {checked} is suspect: where the model does not expect the given label, it is not sure of"
                    " another one either."
                ),
                evidence={"n_flagged": 0, "n_rows": n},
            )
        )
    if flagged and agreement < UNSURE:
        found.append(
            Finding(
                code="DLS342",
                severity="warning",
                sentence=(
                    "The model, without having seen it, finds the given label the likeliest for"
                    f" {percent(agreement)} of rows only. Then many suspects may be hard rows, or outcomes that were"
                    " unlikely and yet happened."
                ),
                evidence={"agreement": agreement},
                remedy="Use probabilities of a better model where there is one.",
            )
        )
    if result.method == GIVEN and agreement > 0.999:
        found.append(
            Finding(
                code="DLS343",
                severity="warning",
                sentence=(
                    f"The given label is the likeliest for {percent(agreement, 2)} of rows. If the model was trained on"
                    " these rows, it has learned wrong labels too, and nothing can be found."
                ),
                evidence={"agreement": agreement},
                remedy="Pass probabilities for rows that the model was not trained on, or features= to have them made.",
            )
        )
    limits = []
    if result.part == "test":
        limits.append("the rows that the run was trained on (part='all' trains anew without each in turn)")
    if result.n_dropped:
        limits.append(f"{result.n_dropped:,} {'row' if result.n_dropped == 1 else 'rows'} without a label")
    if limits:
        found.append(
            Finding(
                code="DLS344",
                severity="info",
                sentence=f"Not checked: {' and '.join(limits)}.",
                evidence={"part": result.part, "n_dropped": result.n_dropped},
            )
        )
    return tuple(found)


GIVEN = "probabilities as they were given"


def words(result: LabelErrors) -> tuple[str, ...]:
    """Return the result in plain sentences, the summary first, then the three most suspect rows."""
    found = [f"{finding.sentence} {finding.remedy}".strip() for finding in result.findings]
    rows = [
        f"Row {result.rows[place]} is labelled {result.class_names[result.given[place]]!r}, which has a probability of"
        f" {_share(result.quality[place])}; {result.class_names[result.suggested[place]]!r} has"
        f" {_share(result.probability[place])}."
        for place in range(min(3, result.n_flagged))
    ]
    return (found[0], *rows, f"Probabilities: {result.method}.", *found[1:])


def _share(value: float) -> str:
    return percent(value) if value >= 0.001 else "under 0.1 %"
