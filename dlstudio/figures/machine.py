"""What the machine did while a run trained."""

from __future__ import annotations

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from dlstudio.figures import theme
from dlstudio.figures.drawing import line, or_note
from dlstudio.figures.theme import color
from dlstudio.summary.numbers import TrainingSummary

_LEFT_OUT = ("ram_available_mib",)  # says the same as ram_percent, on a scale that hides the rest


def machine(summary: TrainingSummary) -> go.Figure:
    """What the machine did over the time of the run: shares in percent, memory in MiB, power in watt."""
    panels = {"Use (%)": "_percent", "Memory (MiB)": "_mib", "Power (W)": "_w"}
    found = {
        title: curves
        for title, ending in panels.items()
        if (curves := [c for key, c in summary.machine.items() if key.endswith(ending) and key not in _LEFT_OUT])
    }
    figure = make_subplots(rows=max(1, len(found)), cols=1, shared_xaxes=True, vertical_spacing=0.1)
    position = 0
    for row, (title, curves) in enumerate(found.items(), 1):
        for curve in curves:
            line(figure, curve, color(position), name=_machine_label(curve.key), row=row, x_text="%{x:.0f} s")
            position += 1
        figure.update_yaxes(title_text=title, rangemode="tozero", row=row, col=1)
    theme.apply(figure, height=90 + 170 * max(1, len(found)))
    figure.update_xaxes(title_text="Time since the start (s)", row=max(1, len(found)), col=1)
    return or_note(figure, summary, "machine use")


_LABELS = {
    "cpu_percent": "Processor",
    "process_cpu_percent": "Processor, this run (100 % is one core)",
    "ram_percent": "Memory of the machine",
    "rss_mib": "Memory of this run",
}


def _machine_label(key: str) -> str:
    for ending in ("_percent", "_mib", "_w"):
        plain = key.removesuffix(ending)
        if plain != key:
            break
    return _LABELS.get(key, plain.replace("gpu", "GPU ").replace("_", " "))
