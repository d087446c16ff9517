"""The trade-off slider: what a smaller gap between groups costs in accuracy, point by point and in words."""

from __future__ import annotations

import ipywidgets as widgets

from dlstudio.fairness.mitigation.trade_off_result import TradeOff
from dlstudio.figures import assessed
from dlstudio.widgets.card import Told
from dlstudio.widgets.markup import paragraphs
from dlstudio.widgets.sheets import style

__all__ = ["TradeOffSlider"]


class TradeOffSlider(Told):
    """A trade-off with a slider over its operating points, and the chosen one's cost in words.

    Args:
        result: what `dlstudio.trade_off` returned.

    Attributes:
        points: what is shown.
        point: the slider; its value is the place of the chosen point.
        cost: the sentences on it.

    Example:
        >>> slider = TradeOffSlider(dls.trade_off("my-run", sensitive_features=["black"]))
        >>> slider.choose(0.02)
    """

    def __init__(self, result: TradeOff) -> None:
        self.points = result
        self.point = widgets.SelectionSlider(
            options=list(zip(assessed.labels(result), range(len(result)), strict=True)),
            value=assessed.first_point(result),
            description="Operating point",
            tooltip="How to decide, from the model as it is to the smallest gap",
        )
        self.point.add_class("dls-point")
        pick = widgets.HBox([self.point])
        pick.add_class("dls-pick")
        super().__init__(result, widgets.HTML(style("frame.css", "explorer.css")), pick)
        self.add_class("dls-explorer")
        self.cost = self.children[2]
        self.point.observe(lambda _: self._draw(), "value")

    def choose(self, max_gap: float) -> None:
        """Move to the most accurate point with at most this gap, from 0 to 1.

        Raises:
            DLStudioError: it is no such number.
        """
        self.point.value = self.points.choose(max_gap)

    def _draw(self) -> None:
        at = int(self.point.value)
        self.words = self.points.words(at)
        self.cost.value = paragraphs(self.words)
        for chart, (told, figure) in zip(self.charts, assessed.traded(self.points, at), strict=True):
            chart.draw(figure, told)
