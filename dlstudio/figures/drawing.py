"""What several figures draw alike: curves, crosses for broken values, marks for what happened to a run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import plotly.graph_objects as go

from dlstudio.figures import theme
from dlstudio.figures.theme import PALETTE, STATUS_COLORS, escape, xs
from dlstudio.summary.curves import Curve
from dlstudio.summary.numbers import TrainingSummary
from dlstudio.summary.words import label, number

STEP = "Step (optimiser updates)"
MAX_MARKS = 60
MAX_CHECKPOINTS = 5
MAX_CROSSES = 400

MARKS = {
    "set": (PALETTE[4], "learning rate changed"),
    "pause": (STATUS_COLORS["PAUSED"], "paused"),
    "resume": (STATUS_COLORS["RUNNING"], "resumed"),
    "resumed": (STATUS_COLORS["RUNNING"], "continued from a checkpoint"),
    "stop": (STATUS_COLORS["KILLED"], "stopped"),
    "early_stop": (STATUS_COLORS["KILLED"], "stopped early"),
    "warning": (STATUS_COLORS["FAILED"], "warning"),
    "checkpoint": ("#8a97a5", "checkpoint"),
}


def line(
    figure: go.Figure,
    curve: Curve,
    line_color: str,
    *,
    name: str,
    values: npt.NDArray[np.float64] | None = None,
    width: float = 2,
    opacity: float = 1,
    points: bool = False,
    shape: str = "linear",
    row: int | None = None,
    x_text: str = "step %{x:,}",
) -> None:
    shown = curve.values if values is None else values
    # A single point has no line to show it.
    mode = "lines+markers" if points and len(shown) <= 200 or len(shown) == 1 else "lines"
    place = {} if row is None else {"row": row, "col": 1}
    figure.add_scatter(
        x=xs(curve.x),
        y=np.where(np.isfinite(shown), shown, np.nan),
        mode=mode,
        name=escape(name),
        opacity=opacity,
        line={"color": line_color, "width": width, "shape": shape},
        marker={"color": line_color, "size": 5},
        hovertemplate=f"{x_text}<br>%{{y:.5g}}<extra>%{{fullData.name}}</extra>",
        connectgaps=False,
        **place,
    )


def crosses(figure: go.Figure, curves: Sequence[Curve]) -> None:
    """Mark the steps whose value is NaN or infinite: at the top of what can be drawn, saying what it was."""
    top = max((curve.max for curve in curves if curve.max is not None), default=1.0)
    x: list[float] = []
    text: list[str] = []
    for curve in curves:
        odd = np.flatnonzero(~np.isfinite(curve.values))[:MAX_CROSSES]
        x += curve.x[odd].tolist()
        text += [f"{label(curve.key)} is {number(item)}" for item in curve.values[odd].tolist()]
    if x:
        figure.add_scatter(
            x=xs(x),
            y=np.full(len(x), top),
            text=text,
            mode="markers",
            name="Not a finite number",
            cliponaxis=False,
            marker={"symbol": "x", "size": 8, "color": STATUS_COLORS["FAILED"]},
            hovertemplate="step %{x:,}<br>%{text}<extra></extra>",
        )


def marks(figure: go.Figure, summary: TrainingSummary, kinds: Sequence[str] = tuple(MARKS)) -> None:
    """Draw a line where something intervened; its words appear on hovering over the mark at the top."""
    chosen = [event for event in summary.edits if event["kind"] in kinds and event.get("step") is not None]
    saved = [event for event in chosen if event["kind"] == "checkpoint"]
    if len(saved) > MAX_CHECKPOINTS:  # saved at every epoch: the last one says it all
        chosen = [event for event in chosen if event["kind"] != "checkpoint"] + saved[-1:]
    chosen = chosen[-MAX_MARKS:]
    shapes: list[dict[str, Any]] = []
    by_kind: dict[str, list[dict[str, Any]]] = {}
    for event in chosen:
        by_kind.setdefault(event["kind"], []).append(event)
    for kind, events in by_kind.items():
        mark_color, words = MARKS[kind]
        quiet = kind == "checkpoint"
        shapes += [
            {
                "type": "line",
                "xref": "x",
                "yref": "paper",
                "x0": event["step"],
                "x1": event["step"],
                "y0": 0,
                "y1": 1,
                "line": {"color": mark_color, "width": 1 if quiet else 1.5, "dash": "dot"},
                "opacity": 0.45 if quiet else 0.9,
                "layer": "below",
            }
            for event in events
        ]
        figure.add_scatter(
            x=xs([event["step"] for event in events]),
            y=np.ones(len(events)),
            yaxis="y2",
            mode="markers",
            text=[escape(event.get("message") or words) for event in events],
            name=words[:1].upper() + words[1:],
            marker={"symbol": "triangle-down", "size": 7 if quiet else 10, "color": mark_color},
            cliponaxis=False,
            hovertemplate="step %{x:,}<br>%{text}<extra></extra>",
            showlegend=not quiet,
        )
    if shapes:
        hidden = {
            "overlaying": "y",
            "range": [0, 1],
            "visible": False,
            "fixedrange": True,
            "tickmode": "auto",
        }
        figure.update_layout(shapes=shapes, yaxis2=hidden)


def or_note(figure: go.Figure, summary: TrainingSummary, what: str) -> go.Figure:
    """Say in an empty figure why it is empty."""
    why = "nothing was recorded yet" if summary.live else "nothing was recorded"
    return theme.or_note(figure, f"No {what}: {why}")
