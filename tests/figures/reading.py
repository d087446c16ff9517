"""What every picture owes its readers."""

from __future__ import annotations

import json

import plotly.graph_objects as go

from dlstudio.figures import theme


def text_of(figure: go.Figure) -> str:
    """A picture as text in which markup is found: plotly's own writes "<" as a number."""
    return json.dumps(json.loads(figure.to_json()), ensure_ascii=False)


def faults(figure: go.Figure) -> list[str]:
    """What a picture lacks: axes with words, the studio's colours, names as text, numbers that travel in binary."""
    said = text_of(figure)
    found = [
        f"{axis.plotly_name} has no words"
        for axis in figure.select_yaxes()
        if not (axis.title.text or axis.visible is False or axis.matches)  # panels side by side share the first one's
    ]
    if not any(axis.title.text for axis in figure.select_xaxes()):
        found.append("no x axis has words")
    if figure.layout.template.layout.colorway[0] != theme.ACCENT:
        found.append("not drawn with the theme")
    found += [f"{markup} is markup" for markup in ("<script", "<b>") if markup in said]
    for trace in json.loads(said)["data"]:
        lists = (axis for axis in "xyz" if isinstance(trace.get(axis), list) and len(trace[axis]) > 3)
        found += [f"{axis} of a {trace['type']} went as a JSON list" for axis in lists]
    return found
