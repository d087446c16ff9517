"""The threshold slider: from which score on to say yes, what that does and costs, in words and pictures."""

from __future__ import annotations

from typing import Any

import ipywidgets as widgets

from dlstudio.figures import assessed
from dlstudio.trust.evaluation_result import Evaluation
from dlstudio.trust.weighing import weigh, words_at
from dlstudio.widgets.card import Told
from dlstudio.widgets.markup import paragraphs
from dlstudio.widgets.sheets import style

__all__ = ["ThresholdSlider"]


class ThresholdSlider(Told):
    """An evaluation of two classes with a slider over thresholds, and fields for what mistakes cost.

    Costs entered here change what is shown, not what is saved.

    Args:
        result: what `dlstudio.evaluate` returned, with scores of two classes.

    Attributes:
        evaluation: what is shown, with the costs entered.
        threshold, false_alarm, miss: the slider and both costs.
        point: the sentences on the threshold.

    Example:
        >>> slider = ThresholdSlider(dls.evaluate("my-run"))
        >>> slider.false_alarm.value, slider.threshold.value = 5.0, 0.7
    """

    children: Any

    def __init__(self, result: Evaluation) -> None:
        super().__init__(result, widgets.HTML(style("frame.css", "explorer.css")))
        self.add_class("dls-explorer")
        self.evaluation = result
        self.threshold = widgets.FloatSlider(
            value=0.5, min=0.0, max=1.0, step=0.01, description="Threshold", continuous_update=False,
            tooltip="The probability from which on to say yes",
        )  # fmt: skip
        self.threshold.add_class("dls-threshold")
        self.false_alarm, self.miss = (
            widgets.FloatText(value=result.costs.get(name, 0.0), description=label)
            for name, label in (("false_positive", "False alarm"), ("false_negative", "Miss"))
        )
        pick = widgets.HBox([self.threshold, self.false_alarm, self.miss])
        pick.add_class("dls-pick")
        self.point = widgets.HTML(paragraphs(words_at(result, 0.5)))
        *above, caption, chart = self.children
        self.children = (*above, pick, self.point, caption, chart)
        self.threshold.observe(lambda _: self._draw(), "value")
        for cost in (self.false_alarm, self.miss):
            cost.observe(lambda _: self._weigh(), "value")

    def _weigh(self) -> None:
        entered = {"false_positive": self.false_alarm.value, "false_negative": self.miss.value}
        costs = {**self.evaluation.costs, **entered}
        self.evaluation = weigh(self.evaluation, costs if any(costs.values()) else None)
        self._draw()

    def _draw(self) -> None:
        at = float(self.threshold.value)
        self.point.value = paragraphs(words_at(self.evaluation, at))
        told, figure = assessed.decided(self.evaluation, at)
        self.charts[-1].draw(figure, told)
