"""What every picture owes its readers."""

from __future__ import annotations

import json

import plotly.graph_objects as go

from dlstudio.figures import theme


def is_readable_and_inert(figure: go.Figure) -> None:
    """Expect axes with words, the studio's colours, no markup of users, and numbers that travel in binary."""
    for axis in figure.select_yaxes():
        assert axis.title.text or axis.visible is False or axis.matches
    assert any(axis.title.text for axis in figure.select_xaxes())
    assert figure.layout.template.layout.colorway[0] == theme.ACCENT
    spec = figure.to_json()
    assert "<script" not in spec and "<b>" not in spec
    for trace in json.loads(spec)["data"]:
        for axis in ("x", "y", "z"):
            assert not (isinstance(trace.get(axis), list) and len(trace[axis]) > 3), f"{axis} went as a JSON list"
