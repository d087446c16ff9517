"""How far explanations agree, and what follows in words."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from dlstudio.explain.methods import METHODS
from dlstudio.results import Finding, Result

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["AGREE", "AgreementResult", "describe", "findings_of", "mean_of_pairs"]

Array = npt.NDArray[Any]

AGREE, DISAGREE = 0.7, 0.4
"""Rank correlations: from the first on two methods agree; below the second they contradict each other."""
NAMED = 4
"""For how many pairs the reasons go into the text; `frame` has all."""


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class AgreementResult(Result, schema=1):
    """How far m methods agree on n rows.

    Attributes:
        methods, titles: as callers write them; as people read them.
        verdicts: of the gate: ``"ok"``, ``"suspect"`` or ``"refused"``.
        verdict_reasons: one text a method, "" where there is nothing to say.
        shares: float64 (m, n, features): attributions as shares of the row's sum of |attributions|, so that they can
            be compared whatever their units.
        rank_correlation: float64 (m, m), Spearman's correlation of attributions, mean over rows; of their sizes where
            one of the two methods has no sign. NaN where a method gives all features the same.
        row_correlation: float64 (n,), the mean over pairs of methods that were not refused.
        top_overlap: float64 (m, m), the share of the `k` largest |attributions| that two methods have in common, mean
            over rows.
        k: how many are the largest.
        reasons: for pairs that do not agree, ``(method, method, sentences)``.
        failed: methods that could not explain, and why.
        modality: of the inputs.
        shape: of the features of one row, such as (28, 28).
        feature_names: one a feature of `shares`.
        rows: int64 (n,), row numbers in the data set, or 0 to n - 1.
        target: int64 (n,), the explained outputs.
        class_names: one per output; () for a regression.
        findings: what follows; codes DLS435 to DLS438.
        model, run: the model's class; the run's key, empty without a run.
        settings: seed.
        seconds: of every method.
    """

    methods: tuple[str, ...]
    titles: tuple[str, ...]
    verdicts: tuple[str, ...]
    verdict_reasons: tuple[str, ...]
    shares: Array
    rank_correlation: Array
    row_correlation: Array
    top_overlap: Array
    k: int
    reasons: tuple[tuple[str, str, tuple[str, ...]], ...]
    failed: Mapping[str, str]
    modality: str
    shape: tuple[int, ...]
    feature_names: tuple[str, ...]
    rows: npt.NDArray[np.int64]
    target: npt.NDArray[np.int64]
    class_names: tuple[str, ...] = ()
    findings: tuple[Finding, ...] = ()
    model: str = ""
    run: str = ""
    settings: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    seconds: Mapping[str, float] = dataclasses.field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def sound(self) -> npt.NDArray[np.bool_]:
        """Which methods were not refused, bool (m,)."""
        return np.array([verdict != "refused" for verdict in self.verdicts])

    @property
    def agreement(self) -> float:
        """Mean rank correlation over pairs of methods that were not refused; NaN with fewer than two."""
        return mean_of_pairs(self.rank_correlation, self.sound)

    def frame(self) -> pd.DataFrame:
        """Return a row per pair of methods: ``method, other, rank_correlation, top_overlap, reason``."""
        import pandas as pd

        why = {frozenset(pair): " ".join(sentences) for *pair, sentences in self.reasons}
        pairs = [(i, j) for i in range(len(self.methods)) for j in range(i + 1, len(self.methods))]
        return pd.DataFrame(
            {
                "method": [self.methods[i] for i, _ in pairs],
                "other": [self.methods[j] for _, j in pairs],
                "rank_correlation": [float(self.rank_correlation[pair]) for pair in pairs],
                "top_overlap": [float(self.top_overlap[pair]) for pair in pairs],
                "reason": [why.get(frozenset((self.methods[i], self.methods[j])), "") for i, j in pairs],
            }
        )


def describe(result: AgreementResult) -> tuple[str, ...]:
    """Return the result in plain sentences, the summary first and the known reasons last."""
    sentences = [f"{finding.sentence} {finding.remedy}".strip() for finding in result.findings]
    title = dict(zip(result.methods, result.titles, strict=True))
    for one, other, why in result.reasons[:NAMED]:
        known = " ".join(why[:2]) or "No general reason is known; compare them on single rows."
        sentences.append(f"{title[one]} and {title[other]} (rank correlation {_pair(result, one, other):.2f}): {known}")
    return tuple(sentences)


def _pair(result: AgreementResult, one: str, other: str) -> float:
    return float(result.rank_correlation[result.methods.index(one), result.methods.index(other)])


def mean_of_pairs(correlation: Array, sound: npt.NDArray[np.bool_]) -> float:
    """Return the mean of a matrix (m, m) over pairs of methods that are `sound`; NaN where no pair is known."""
    pairs = correlation[np.ix_(sound, sound)][np.triu_indices(int(sound.sum()), 1)]
    pairs = pairs[np.isfinite(pairs)]
    return float(pairs.mean()) if len(pairs) else math.nan


def findings_of(result: AgreementResult) -> list[Finding]:
    """Say how far methods agree, and which do not count."""
    mean = result.agreement
    n_sound = int(result.sound.sum())
    found = []
    if math.isfinite(mean):
        words = "agree" if mean >= AGREE else "contradict each other" if mean < DISAGREE else "agree in part"
        rows = "1 row" if len(result) == 1 else f"{len(result):,} rows"
        found.append(
            Finding(
                code="DLS435",
                severity="warning" if mean < DISAGREE else "info",
                sentence=f"{n_sound} methods {words} on {rows}: their mean rank correlation is {mean:.2f}.",
                evidence={"rank_correlation": mean},
                remedy=""
                if mean >= AGREE
                else "Ask which question you have, and take the method that answers it; the reasons below help.",
            )
        )
    for name, title, verdict, why in zip(
        result.methods, result.titles, result.verdicts, result.verdict_reasons, strict=True
    ):
        if verdict == "refused":
            words = f"{title} was refused and does not count: {why}"
            found.append(Finding(code="DLS436", severity="warning", sentence=words, evidence={"method": name}))
    for name, why in result.failed.items():
        words = f"{METHODS[name].title} is left out. {why}"
        found.append(Finding(code="DLS437", severity="info", sentence=words, evidence={"method": name}))
    return found
