"""What the pictures are held to can be missed."""

from __future__ import annotations

import numpy as np
import plotly.graph_objects as go

from dlstudio.figures import theme
from tests.figures.reading import faults


def test_every_fault_of_a_picture_is_found() -> None:
    figure = go.Figure(go.Scatter(x=[1, 2, 3, 4], y=np.arange(4.0), name="<b>bold</b>"))
    theme.apply(figure, x_title="", y_title="")
    assert faults(figure) == [
        "yaxis has no words", "no x axis has words", "<b> is markup", "x of a scatter went as a JSON list",
    ]  # fmt: skip
    plain = go.Figure(go.Scatter(x=np.arange(4.0), y=np.arange(4.0), name="bold"))
    plain.update_layout(xaxis_title="Step", yaxis_title="Loss", template="plotly")
    assert faults(plain) == ["not drawn with the theme"]
    theme.apply(plain, x_title="Step", y_title="Loss")
    assert faults(plain) == []
