"""A result in a notebook as its sentences and its pictures, where it needs no more than to be read."""

from __future__ import annotations

import ipywidgets as widgets

from dlstudio.figures.answers import KINDS
from dlstudio.results import Result
from dlstudio.widgets.chart import Chart
from dlstudio.widgets.markup import caption, paragraphs, table
from dlstudio.widgets.sheets import style

__all__ = ["Card", "Told"]


class Told(widgets.VBox):
    """A result's sentences, pictures and tables, to be put into another widget.

    Args:
        result: of one of `dlstudio.figures.answers.KINDS`.
        lead: what stands above its sentences.

    Attributes:
        result: what is shown.
        words: its sentences.
        charts: its pictures, in order.
    """

    def __init__(self, result: Result, *lead: widgets.Widget) -> None:
        self.result = result
        kind = KINDS[type(result)]
        self.words = tuple(kind.words(result))
        drawn = kind.pictures(result)
        self.charts = [Chart() for _ in drawn]
        parts: list[widgets.Widget] = [widgets.HTML(paragraphs(self.words))]
        for chart, (told, figure) in zip(self.charts, drawn, strict=True):
            chart.draw(figure, told or self.words[0])
            parts += [widgets.HTML(caption(told) if told else ""), chart]
        for rows in kind.tables(result):
            parts += [widgets.HTML(caption(rows.told)), widgets.HTML(table(rows))]
        super().__init__([*lead, *parts])

    def __repr__(self) -> str:
        return "\n".join(self.words)


class Card(Told):
    """A result in words and pictures. Figures travel as messages, so a saved notebook stays small.

    Args:
        result: of one of `dlstudio.figures.answers.KINDS`.
    """

    def __init__(self, result: Result) -> None:
        super().__init__(result, widgets.HTML(style("frame.css", "explorer.css")))
        self.add_class("dls-explorer")
