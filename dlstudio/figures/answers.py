"""Results that need no more than to be read, in words and pictures: what a card, a page and a report show of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import plotly.graph_objects as go

from dlstudio.errors import DLStudioError
from dlstudio.explain.checks import CHECKS
from dlstudio.explain.concepts.explain_concepts import ConceptResult
from dlstudio.explain.concepts.explain_concepts import describe as concept_words
from dlstudio.explain.counterfactuals.result import CounterfactualResult
from dlstudio.explain.counterfactuals.result import describe as counterfactual_words
from dlstudio.explain.influence.result import InfluenceResult
from dlstudio.explain.influence.result import describe as influence_words
from dlstudio.explain.plain import plainly
from dlstudio.explain.quality.agreement_result import AgreementResult
from dlstudio.explain.quality.scores import QualityResult
from dlstudio.fairness.mitigation.trade_off_result import TradeOff
from dlstudio.fairness.result import FairnessAudit
from dlstudio.figures import assessed, fairness
from dlstudio.figures.checked import pictures
from dlstudio.figures.concepts import concepts
from dlstudio.figures.counterfactuals import counterfactuals
from dlstudio.figures.influence import influence, self_influence
from dlstudio.results import Result, load
from dlstudio.runs.run import Run
from dlstudio.trust.assessments import ASSESSMENTS

__all__ = ["KINDS", "Answer", "Kind", "answers_of"]

Pictures: TypeAlias = list[tuple[str, go.Figure]]


@dataclass(frozen=True, kw_only=True)
class Kind:
    """One kind of result.

    Attributes:
        question: that it answers, as a heading.
        words: puts it into sentences.
        pictures: draws it, with what to say above each picture; "" for nothing.
        explains: whether pages and reports show it among further answers to why a model decides as it does.
    """

    question: str
    words: Callable[[Any], Sequence[str]]
    pictures: Callable[[Any], Pictures]
    explains: bool = False


def _each(*draw: Callable[[Any], go.Figure]) -> Callable[[Any], Pictures]:
    return lambda result: [("", picture(result)) for picture in draw]


_AGREEMENT, _QUALITY = CHECKS
KINDS: dict[type[Result], Kind] = {
    AgreementResult: Kind(question=_AGREEMENT.question, words=_AGREEMENT.words, pictures=pictures),
    ConceptResult: Kind(
        question="Which concepts does it use?", words=concept_words, pictures=_each(concepts), explains=True
    ),
    CounterfactualResult: Kind(
        question="What would have to change?",
        words=counterfactual_words,
        pictures=_each(counterfactuals),
        explains=True,
    ),
    FairnessAudit: Kind(
        question="Are groups treated alike?", words=lambda result: result.summary, pictures=fairness.pictures
    ),
    InfluenceResult: Kind(
        question="Which training rows did it learn this from?",
        words=influence_words,
        pictures=_each(influence, self_influence),
        explains=True,
    ),
    QualityResult: Kind(question=_QUALITY.question, words=_QUALITY.words, pictures=pictures),
    TradeOff: Kind(
        question="What would a smaller gap cost?",
        words=lambda result: result.words(assessed.first_point(result)),
        pictures=assessed.traded,
    ),
} | {
    one.kind: Kind(question=one.question, words=assessed.with_findings(one.words), pictures=assessed.pictures)
    for one in ASSESSMENTS
}
"""By the class of the result."""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """A saved result as a page and a report show it.

    Attributes:
        name: of its file, without the ending.
        question: as a heading.
        words: sentences for readers who write no code.
        pictures: figures, with what to say above each; "" for nothing.
    """

    name: str
    question: str
    words: tuple[str, ...]
    pictures: Pictures


def answers_of(run: Run) -> list[Answer]:
    """Return what is saved with a run beside explanations and their checks, such as counterfactuals, by file name.

    Files of another schema, and those of kinds that pages of their own show, are left out.

    Example:
        >>> [answer.question for answer in answers_of(run)]
        ['What would have to change?']
    """
    found = []
    for path in sorted((run.folder / "results").glob("*.json")):
        try:
            result = load(path)
        except DLStudioError:
            continue
        kind = KINDS.get(type(result))
        if kind is not None and kind.explains:
            row = getattr(result, "row", -1)
            found.append(
                Answer(
                    name=path.stem,
                    question=kind.question + (f" Row {row:,} of the data" if row >= 0 else ""),
                    words=tuple(kind.words(plainly(result))),
                    pictures=kind.pictures(result),
                )
            )
    return found
