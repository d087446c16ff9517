"""Results that need no more than to be read, in words and pictures: what a card, a page and a report show of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import plotly.graph_objects as go

from dlstudio.compare.curves import Overlay
from dlstudio.compare.diff_result import RunDiff
from dlstudio.compare.fronts import ParetoFront
from dlstudio.compare.measures import Measures
from dlstudio.compare.planning import ABPlan
from dlstudio.compare.recommendation import Recommendation
from dlstudio.compare.result import Comparison
from dlstudio.compare.sequential import SequentialTest
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
from dlstudio.figures import ab_test, ablation, assessed, comparison, fairness, finders, tables
from dlstudio.figures.checked import pictures
from dlstudio.figures.concepts import concepts
from dlstudio.figures.counterfactuals import counterfactuals
from dlstudio.figures.fronts import front
from dlstudio.figures.influence import influence, self_influence
from dlstudio.results import Result, load
from dlstudio.runs.run import Run
from dlstudio.trust.assessments import ASSESSMENTS
from dlstudio.tuning.ablation_result import AblationResult
from dlstudio.tuning.batch_sizes import BatchSizes
from dlstudio.tuning.learning_rates import LearningRates
from dlstudio.tuning.result import SearchResult

__all__ = ["KINDS", "Answer", "Kind", "answers_of"]

Pictures: TypeAlias = list[tuple[str, go.Figure]]


@dataclass(frozen=True, kw_only=True)
class Kind:
    """One kind of result.

    Attributes:
        question: that it answers, as a heading.
        words: puts it into sentences.
        pictures: draws it, with what to say above each picture; "" for nothing.
        tables: lays it out in words, below the pictures.
        explains: whether pages and reports show it among further answers to why a model decides as it does.
    """

    question: str
    words: Callable[[Any], Sequence[str]]
    pictures: Callable[[Any], Pictures]
    tables: Callable[[Any], list[tables.Rows]] = lambda _: []
    explains: bool = False


def _each(*draw: Callable[[Any], go.Figure]) -> Callable[[Any], Pictures]:
    return lambda result: [("", picture(result)) for picture in draw]


def _said(result: Any) -> Sequence[str]:
    return tuple(result.summary)


def _searched(result: SearchResult) -> Pictures:
    from dlstudio.figures import tuning  # Optuna, which nothing else here takes

    return tuning.pictures(result)


def _compared(result: Comparison) -> list[tables.Rows]:
    return [tables.variants(result), *([tables.pairs(result)] if result.comparisons else [])]


_AGREEMENT, _QUALITY = CHECKS
KINDS: dict[type[Result], Kind] = {
    ABPlan: Kind(question="How many rows does the test need?", words=_said, pictures=_each(ab_test.plan)),
    AblationResult: Kind(
        question="Which components matter?",
        words=assessed.with_findings(_said),
        pictures=_each(ablation.effects, ablation.cells),
    ),
    AgreementResult: Kind(question=_AGREEMENT.question, words=_AGREEMENT.words, pictures=pictures),
    BatchSizes: Kind(
        question="Which batch size?", words=assessed.with_findings(_said), pictures=_each(finders.batch_sizes)
    ),
    Comparison: Kind(question="Which variant is better?", words=_said, pictures=comparison.in_full, tables=_compared),
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
    LearningRates: Kind(
        question="Which learning rate?", words=assessed.with_findings(_said), pictures=_each(finders.learning_rates)
    ),
    Measures: Kind(question="What does it cost?", words=_said, pictures=_each()),
    Overlay: Kind(
        question="How did they get there?", words=assessed.with_findings(_said), pictures=_each(comparison.curves)
    ),
    ParetoFront: Kind(
        question="What is beaten by none in everything?",
        words=_said,
        pictures=_each(front),
        tables=lambda result: [tables.members(result)],
    ),
    QualityResult: Kind(question=_QUALITY.question, words=_QUALITY.words, pictures=pictures),
    Recommendation: Kind(
        question="Which variant should be shipped?",
        words=_said,
        pictures=_each(),
        tables=lambda result: [tables.candidates(result)],
    ),
    RunDiff: Kind(
        question="What differs between two runs?",
        words=assessed.with_findings(_said),
        pictures=_each(),
        tables=lambda result: [tables.differing(result)],
    ),
    SearchResult: Kind(question="Which values train best?", words=assessed.with_findings(_said), pictures=_searched),
    SequentialTest: Kind(
        question="What does the test show so far?",
        words=assessed.with_findings(_said),
        pictures=_each(ab_test.monitored),
    ),
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
