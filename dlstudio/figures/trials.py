"""The trials of a search as it goes on: every one of them, the best so far, and the curves of their training."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import plotly.graph_objects as go

from dlstudio.figures import theme
from dlstudio.figures.theme import ACCENT, MUTED, PALETTE, escape, or_note, xs
from dlstudio.summary.words import label
from dlstudio.tuning.result import SearchResult
from dlstudio.tuning.trial_result import TrialResult
from dlstudio.tuning.words import params_in_words

__all__ = ["curves", "focus", "history", "hover", "spoken", "thinned"]

MOST_CURVES = 300
_STATES = {
    "complete": ("complete", ACCENT, "circle"),
    "pruned": ("pruned: the last value it had", MUTED, "x-thin-open"),
    "infeasible": ("breaks a constraint", PALETTE[4], "x"),
}


def spoken(result: SearchResult, metric: int = 0) -> str:
    """A metric of the search as people write it, with the direction that is better."""
    return f"{label(result.metrics[metric])} ({'lower' if result.directions[metric] == 'min' else 'higher'} is better)"


def history(result: SearchResult, metric: int = 0) -> go.Figure:
    """Draw the value of every trial in the order of asking, and the best so far as a step line.

    Args:
        result: what the search has found.
        metric: place of the metric among those of the search.
    """
    figure = go.Figure()
    at: dict[str, list[TrialResult]] = {name: [] for name in _STATES}
    for row in result.rows:
        state = "infeasible" if row.state == "complete" and not row.is_feasible else row.state
        if state in at and len(row.values) > metric:
            at[state].append(row)
    for state, (name, paint, symbol) in _STATES.items():
        rows = at[state]
        if rows:
            figure.add_scatter(
                x=xs([row.number for row in rows]),
                y=[row.values[metric] for row in rows],
                mode="markers",
                name=name,
                marker={"color": paint, "size": 8, "symbol": symbol, "opacity": 0.8, "line": {"width": 1.5}},
                customdata=[row.number for row in rows],
                text=[hover(row) for row in rows],
                hovertemplate="%{text}<br>%{y:.5g}<extra></extra>",
            )
    best = min if result.directions[metric] == "min" else max
    so_far: list[float] = []
    for row in at["complete"]:
        so_far.append(best(so_far[-1], row.values[metric]) if so_far else row.values[metric])
    if so_far:
        last = max(row.number for row in result.rows)
        figure.add_scatter(
            x=xs([*(row.number for row in at["complete"]), last]),
            y=[*so_far, so_far[-1]],
            mode="lines",
            name="best so far",
            line={"color": PALETTE[1], "width": 2, "shape": "hv"},
            hoverinfo="skip",
        )
    theme.apply(figure, x_title="Trial", y_title=spoken(result, metric), height=400)
    focus(figure, [row.values[metric] for row in at["complete"]], result.directions[metric])
    return or_note(figure.update_layout(showlegend=True), "No trial has a value so far.")


def curves(result: SearchResult, metric: int = 0) -> go.Figure:
    """Draw the reports of every trial while it trained; the best one and those going on stand out.

    Beyond 300 trials the best and the latest ones are drawn.

    Args:
        result: what the search has found.
        metric: place of the metric that was reported among those of the search.
    """
    best = result.best
    rows = [row for row in thinned(result, MOST_CURVES) if row.reports]
    kinds: list[tuple[str, str, float, Callable[[TrialResult], bool]]] = [
        ("pruned", MUTED, 0.45, lambda row: row.state == "pruned"),
        ("failed", PALETTE[4], 0.6, lambda row: row.state in ("failed", "lost")),
        ("complete", ACCENT, 0.4, lambda row: row.state == "complete" and row is not best),
        ("going on", PALETTE[2], 0.95, lambda row: row.state == "running"),
        ("best", PALETTE[1], 1.0, lambda row: row is best),
    ]
    figure = go.Figure()
    for name, paint, opacity, belongs in kinds:
        some = [row for row in rows if belongs(row)]
        # One line with gaps: hundreds of traces would take the browser seconds.
        x: list[float] = []
        y: list[float] = []
        numbers: list[int] = []
        for row in some:
            steps = sorted(row.reports)
            x += [*map(float, steps), math.nan]
            y += [*(row.reports[step] for step in steps), math.nan]
            numbers += [row.number] * (len(steps) + 1)
        if x:
            figure.add_scatter(
                x=x,
                y=[value if math.isfinite(value) else None for value in y],
                mode="lines+markers",
                name=name,
                opacity=opacity,
                line={"color": paint, "width": 2.5 if name in ("best", "going on") else 1.2},
                marker={"color": paint, "size": 6 if name in ("best", "going on") else 4},
                connectgaps=False,
                customdata=numbers,
                hovertemplate="trial %{customdata}, evaluation %{x}<br>%{y:.5g}<extra></extra>",
            )
    theme.apply(figure, x_title="Evaluation", y_title=spoken(result, metric), height=400)
    last = [row.reports[max(row.reports)] for row in rows]
    every = [value for row in rows for value in row.reports.values()]
    focus(figure, every, result.directions[metric], always=last)
    return or_note(figure.update_layout(showlegend=True), "No trial has reported a value while it trained.")


def thinned(result: SearchResult, most: int) -> list[TrialResult]:
    """The trials by number, or, where there are more, the better half and the latest."""
    rows = [row for row in result.rows if row.state != "waiting"]
    if len(rows) <= most:
        return rows
    sign = 1.0 if result.direction == "min" else -1.0
    complete = sorted((row for row in rows if row.state == "complete"), key=lambda row: sign * row.value)
    chosen = {row.number for row in complete[: most // 2]}
    for row in reversed(rows):
        if len(chosen) >= most:
            break
        chosen.add(row.number)
    return [row for row in rows if row.number in chosen]


def focus(figure: go.Figure, values: Sequence[float], direction: str, always: Sequence[float] = ()) -> None:
    """Leave what lies far on the worse side to zooming, so that it does not flatten the rest."""
    finite = sorted(value for value in values if math.isfinite(value))
    if len(finite) < 10:
        return
    low, high = finite[0], finite[-1]
    quarter = (finite[len(finite) // 4], finite[3 * len(finite) // 4])
    reach = 3 * (quarter[1] - quarter[0])
    if not reach:
        return
    if direction == "min":
        high = min(high, quarter[1] + reach)
    else:
        low = max(low, quarter[0] - reach)
    room = 0.06 * (high - low)
    figure.update_yaxes(range=[low - room, high + room])


def hover(row: TrialResult) -> str:
    """What is written beside a trial that is pointed at: its number and its values."""
    return f"trial {row.number}<br>{escape(params_in_words(row.params))}"
