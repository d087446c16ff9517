"""A result in a notebook as its sentences and its pictures, where it needs no more than to be read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import ipywidgets as widgets
import plotly.graph_objects as go

from dlstudio.explain.concepts.explain_concepts import ConceptResult
from dlstudio.explain.concepts.explain_concepts import describe as concept_words
from dlstudio.explain.counterfactuals import CounterfactualResult
from dlstudio.explain.counterfactuals.result import describe as counterfactual_words
from dlstudio.explain.influence.result import InfluenceResult
from dlstudio.explain.influence.result import describe as influence_words
from dlstudio.explain.quality.agreement_result import AgreementResult
from dlstudio.explain.quality.agreement_result import describe as agreement_words
from dlstudio.explain.quality.scores import QualityResult
from dlstudio.explain.quality.scores import describe as quality_words
from dlstudio.figures import concepts, counterfactuals, influence
from dlstudio.figures.checked import pictures
from dlstudio.results import Result
from dlstudio.widgets.chart import Chart
from dlstudio.widgets.markup import caption, paragraphs, style

__all__ = ["KINDS", "Card", "Told"]

Pictures: TypeAlias = list[tuple[str, go.Figure]]

KINDS: dict[type[Result], tuple[Callable[[Any], Sequence[str]], Callable[[Any], Pictures]]] = {
    AgreementResult: (agreement_words, pictures),
    ConceptResult: (concept_words, lambda result: _plain(result, concepts.concepts)),
    CounterfactualResult: (counterfactual_words, lambda result: _plain(result, counterfactuals.counterfactuals)),
    InfluenceResult: (influence_words, lambda result: _plain(result, influence.influence, influence.self_influence)),
    QualityResult: (quality_words, pictures),
}
"""What kinds of results there are: who puts them into words, and who draws them with words above."""


class Told(widgets.VBox):
    """A result's sentences and pictures, to be put into another widget.

    Args:
        result: of one of `KINDS`.
        lead: what stands above its sentences.

    Attributes:
        result: what is shown.
        words: its sentences.
        charts: its pictures, in order.
    """

    def __init__(self, result: Result, *lead: widgets.Widget) -> None:
        self.result = result
        say, draw = KINDS[type(result)]
        self.words = tuple(say(result))
        drawn = draw(result)
        self.charts = [Chart() for _ in drawn]
        parts: list[widgets.Widget] = [widgets.HTML(paragraphs(self.words))]
        for chart, (told, figure) in zip(self.charts, drawn, strict=True):
            chart.draw(figure, told or self.words[0])
            parts += [widgets.HTML(caption(told) if told else ""), chart]
        super().__init__([*lead, *parts])

    def __repr__(self) -> str:
        return "\n".join(self.words)


class Card(Told):
    """A result in words and pictures. Figures travel as messages, so a saved notebook stays small.

    Args:
        result: of one of `KINDS`.
    """

    def __init__(self, result: Result) -> None:
        super().__init__(result, widgets.HTML(style()))
        self.add_class("dls-explorer")


def _plain(result: Result, *draw: Callable[[Any], go.Figure]) -> Pictures:
    return [("", picture(result)) for picture in draw]
