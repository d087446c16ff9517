"""The figures of one training run. Each takes a `TrainingSummary` and computes nothing but positions."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from dlstudio.figures import theme
from dlstudio.figures.drawing import STEP, crosses, line, marks, or_note
from dlstudio.figures.layers import layers
from dlstudio.figures.machine import machine
from dlstudio.figures.theme import PALETTE, color, escape, xs
from dlstudio.summary.numbers import TrainingSummary
from dlstudio.summary.words import label

__all__ = ["layers", "learning_rate", "loss", "machine", "metrics", "smooth"]


def smooth(values: npt.NDArray[np.float64], smoothing: float) -> npt.NDArray[np.float64]:
    """Moving average without the pull towards zero at the start; non-finite values are passed over.

    Args:
        values: float64, shape ``(n,)``.
        smoothing: weight of the past, from 0 (none) to below 1.

    Returns:
        float64, shape ``(n,)``.

    Example:
        >>> smooth(np.array([1.0, 1.0, 1.0]), 0.9)
        array([1., 1., 1.])
    """
    out = np.empty(len(values))
    total = weight = 0.0
    for at, item in enumerate(values.tolist()):
        if math.isfinite(item):
            total, weight = smoothing * total + item, smoothing * weight + 1.0
        out[at] = total / weight if weight else math.nan
    return out


def loss(summary: TrainingSummary, smoothing: float = 0.0, log: bool = False) -> go.Figure:
    """Training and validation loss over steps, with what happened to the run marked.

    Args:
        summary: the run.
        smoothing: weight of the past in a moving average of the training loss, from 0 to below 1; the raw
            curve stays visible behind it.
        log: draw the loss axis logarithmically.

    Example:
        >>> figures.training.loss(dls.summarize(run), smoothing=0.6).show()
    """
    figure = go.Figure()
    train, val = summary.curves.get("loss"), summary.curves.get("val/loss")
    mean = summary.curves.get("train/loss")
    if train is not None:
        if smoothing > 0:
            line(figure, train, PALETTE[0], name="Training loss, each step", width=1, opacity=0.25)
            line(
                figure,
                train,
                PALETTE[0],
                name="Training loss, smoothed",
                values=smooth(train.values, smoothing),
            )
        else:
            faint = mean is not None and len(mean.x) > 1
            line(
                figure,
                train,
                PALETTE[0],
                name="Training loss, each step" if faint else "Training loss",
                width=1 if faint else 2,
                opacity=0.35 if faint else 1,
            )
    if mean is not None and not (smoothing > 0 and train is not None):
        line(figure, mean, PALETTE[0], name="Training loss, epoch mean")
    if val is not None:
        line(figure, val, PALETTE[1], name="Validation loss", points=True)
    if summary.best_step is not None and "val/loss" in summary.best:
        where = f"epoch {summary.best_epoch:,}, " if summary.best_epoch else ""
        figure.add_scatter(
            x=xs([summary.best_step]),
            y=[summary.best["val/loss"]],
            mode="markers",
            name="Lowest validation loss",
            marker={
                "symbol": "star",
                "size": 13,
                "color": PALETTE[1],
                "line": {"color": "#ffffff", "width": 1},
            },
            hovertemplate=f"lowest validation loss, {where}step %{{x:,}}<br>%{{y:.5g}}<extra></extra>",
        )
    crosses(figure, [curve for curve in (train, val) if curve is not None])
    marks(figure, summary)
    theme.apply(figure, x_title=STEP, y_title="Loss (lower is better)" + (", log scale" if log else ""), height=380)
    if log:
        figure.update_layout(yaxis={"type": "log", "exponentformat": "power"})
    return or_note(figure, summary, "loss")


def learning_rate(summary: TrainingSummary, log: bool = False) -> go.Figure:
    """The learning rate over steps; changes made by hand are marked.

    Args:
        summary: the run.
        log: draw the rate logarithmically.
    """
    figure = go.Figure()
    curve = summary.curves.get("lr")
    if curve is not None:
        line(figure, curve, PALETTE[2], name="Learning rate", shape="hv")
    marks(figure, summary, kinds=("set", "resumed"))
    theme.apply(figure, x_title=STEP, y_title="Learning rate (per step)", height=260)
    figure.update_layout(showlegend=False, yaxis={"exponentformat": "e", "rangemode": "normal" if log else "tozero"})
    if log:
        figure.update_layout(yaxis_type="log")
    return or_note(figure, summary, "learning rate")


def metrics(summary: TrainingSummary) -> go.Figure:
    """Every validation metric except the loss; one panel where all lie between 0 and 1, else a panel each."""
    keys = [key for key in summary.curves if key.startswith("val/") and key != "val/loss"]
    chosen = [summary.curves[key] for key in keys]
    if all(curve.min is None or (curve.min >= 0 and (curve.max or 0) <= 1) for curve in chosen):
        figure = go.Figure()
        for at, curve in enumerate(chosen):
            name = label(curve.key).removeprefix("Validation ")
            line(figure, curve, color(at), name=name[:1].upper() + name[1:], points=True)
        theme.apply(figure, x_title=STEP, y_title="Validation score (0 to 1)", height=320)
    else:
        figure = make_subplots(rows=len(chosen), cols=1, shared_xaxes=True, vertical_spacing=0.06)
        for at, curve in enumerate(chosen):
            line(figure, curve, color(at), name=label(curve.key), points=True, row=at + 1)
            figure.update_yaxes(title_text=escape(_unit(curve.key)), row=at + 1, col=1)
        theme.apply(figure, height=90 + 190 * len(chosen))
        figure.update_xaxes(title_text=STEP, row=len(chosen), col=1)
        figure.update_layout(showlegend=False)
    return or_note(figure, summary, "validation metrics")


def _unit(key: str) -> str:
    name = label(key).removeprefix("Validation ")
    in_target_units = key.rpartition("/")[2] in ("mae", "rmse")
    return f"{name[:1].upper()}{name[1:]}" + (" (target units)" if in_target_units else "")
