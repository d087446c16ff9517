"""What the faces draw beside single rows: views of all rows, and a row before and after a change."""

from __future__ import annotations

import numpy as np
import plotly.graph_objects as go

from dlstudio.errors import unknown_name
from dlstudio.explain.parts import feature_labels, number, parts, signed
from dlstudio.explain.result import Explanation
from dlstudio.explain.words import output_name, unit
from dlstudio.figures.explanation import average, beeswarm, dependence, figure_of, importance
from dlstudio.figures.theme import INK, PALETTE, SEVERITY_COLORS, escape, translucent
from dlstudio.figures.verdict import finish, refusable, short, sign_color

__all__ = ["VERDICT_COLORS", "changed", "features_of", "overall", "views"]

VERDICT_COLORS = {"ok": PALETTE[2], "suspect": SEVERITY_COLORS["warning"], "refused": SEVERITY_COLORS["critical"]}

MAX_FEATURES = 60


def views(explanation: Explanation) -> tuple[str, ...]:
    """Names of the pictures that all rows together can be drawn as, the most telling first.

    Example:
        >>> views(e)
        ('Spread', 'Importance', 'One feature')
    """
    like_inputs = explanation.attributions.shape == explanation.inputs.shape
    shared = explanation.modality in ("tabular", "sequence") and like_inputs and len(explanation) > 1
    mapped = explanation.modality in ("image", "sequence") and explanation.attributions.ndim >= 3
    tabular = explanation.modality == "tabular"
    found = (("Map", mapped), ("Importance", True), ("Spread", shared and tabular), ("One feature", shared))
    return tuple(name for name, fits in found if fits)


def features_of(explanation: Explanation) -> list[str]:
    """Names of the features that `overall` can draw one by one, the most important first; at most 60."""
    names = feature_labels(explanation)
    order = np.argsort(-explanation.importance, kind="stable")[:MAX_FEATURES]
    return [names[place] for place in order.tolist()]


def overall(explanation: Explanation, view: str, feature: str | None = None) -> go.Figure:
    """Draw one of the `views`.

    Args:
        explanation: what to draw.
        view: its name.
        feature: for ``"One feature"``; None takes the most important.

    Raises:
        DLStudioError: this explanation has no such view or feature.
    """
    if view not in views(explanation):
        raise unknown_name("view", view, views(explanation))
    if view == "One feature":
        return dependence(explanation, feature if feature is not None else features_of(explanation)[0])
    return {"Map": average, "Importance": importance, "Spread": beeswarm}[view](explanation)


@refusable
def changed(tried: Explanation, top: int = 12) -> go.Figure:
    """A row before and after a change: pairs of bars for tables, else the picture of the changed row.

    Columns that were changed come first, then those whose attribution moved most.

    Args:
        tried: two rows, as it was and as it would be; see `dlstudio.explain.exploring.try_out`.
        top: how many columns are shown.
    """
    before, after = parts(tried, 0), parts(tried, 1)
    if tried.modality != "tabular" or [part.name for part in before] != [part.name for part in after]:
        return figure_of(tried, 1)
    order = sorted(
        range(len(after)),
        key=lambda at: (
            before[at].value == after[at].value,
            -abs(after[at].attribution - before[at].attribution),
            -abs(after[at].attribution),
        ),
    )
    shown = [at for at in order[:top] if before[at].attribution or after[at].attribution] or order[:1]
    rows = np.arange(len(shown))
    figure = go.Figure()
    for name, side, shift, strength in (("as it is", before, -0.2, 0.38), ("as changed", after, 0.2, 1.0)):
        values = [side[at].attribution for at in shown]
        figure.add_bar(
            x=values,
            y=rows + shift,
            orientation="h",
            width=0.36,
            name=name,
            marker_color=[translucent(sign_color(value), strength) for value in values],
            customdata=[[short(side[at].text, 80), signed(side[at].attribution)] for at in shown],
            hovertemplate=f"%{{customdata[0]}} ({name})<br>%{{customdata[1]}}<extra></extra>",
            showlegend=False,
        )
    names = [
        f"<b>{short(before[at].name, 22)} = {short(before[at].value, 10)} → {short(after[at].value, 10)}</b>"
        if before[at].value != after[at].value
        else short(after[at].text)
        for at in shown
    ]
    figure.update_yaxes(
        tickvals=rows, ticktext=names, range=[len(shown) - 0.4, -0.6], showgrid=False, ticks="",
        tickfont={"size": 12, "color": INK},
    )  # fmt: skip
    first, last = (number(float(tried.prediction[at])) for at in (0, 1))
    ends = f"pale: as it is ({first}), full: as changed ({last})"
    figure.update_xaxes(
        title_text=escape(f"Attribution for {output_name(tried, 1)} ({unit(tried)}); {ends}"),
        zeroline=True, zerolinecolor="#8a97a5", zerolinewidth=1,
    )  # fmt: skip
    figure.update_layout(barmode="overlay")
    return finish(figure, tried, height=76 + 34 * max(len(shown), 2))
