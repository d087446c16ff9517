"""A result in a notebook as its sentences and its pictures, where it needs no more than to be read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib import resources
from typing import Any

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
from dlstudio.figures import agreement, concepts, counterfactuals, influence, quality
from dlstudio.results import Result
from dlstudio.widgets.chart import Chart
from dlstudio.widgets.markup import paragraphs

__all__ = ["KINDS", "Card"]

KINDS: dict[type[Result], tuple[Callable[[Any], Sequence[str]], tuple[Callable[[Any], go.Figure], ...]]] = {
    AgreementResult: (agreement_words, (agreement.agreement, agreement.side_by_side)),
    ConceptResult: (concept_words, (concepts.concepts,)),
    CounterfactualResult: (counterfactual_words, (counterfactuals.counterfactuals,)),
    InfluenceResult: (influence_words, (influence.influence, influence.self_influence)),
    QualityResult: (quality_words, (quality.removal, quality.randomisation)),
}
"""What kinds of results there are: who puts them into words, and who draws them."""


class Card(widgets.VBox):
    """A result in words and pictures. Figures travel as messages, so a saved notebook stays small.

    Args:
        result: of one of `KINDS`.

    Attributes:
        result: what is shown.
        charts: its pictures, in order.
    """

    def __init__(self, result: Result) -> None:
        self.result = result
        words, pictures = KINDS[type(result)]
        self._words = tuple(words(result))
        self.charts = [Chart() for _ in pictures]
        for chart, picture in zip(self.charts, pictures, strict=True):
            chart.draw(picture(result), (picture.__doc__ or "").strip().splitlines()[0])
        style = (resources.files("dlstudio.widgets") / "static" / "explorer.css").read_text(encoding="utf-8")
        super().__init__([widgets.HTML(f"<style>{style}</style>{paragraphs(self._words)}"), *self.charts])
        self.add_class("dls-explorer")

    def __repr__(self) -> str:
        return "\n".join(self._words)
