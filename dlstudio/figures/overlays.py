"""Attributions laid over what was explained: an image, a sequence."""

from __future__ import annotations

import base64
import struct
import textwrap
import zlib
from typing import Any

import numpy as np
import numpy.typing as npt
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from dlstudio.errors import DLStudioError
from dlstudio.explain.parts import check_row, number
from dlstudio.explain.result import Explanation
from dlstudio.figures.theme import INK, MUTED, escape, translucent
from dlstudio.figures.verdict import DIVERGING, INK_ON_COLOR, SIZES, axis_title, finish, refusable, short

__all__ = ["average", "heat_strip", "mismatch", "overlay", "pixels", "png"]

Array = npt.NDArray[Any]
SIDE_PX = 330
PALE = 165
"""What black becomes below a map, whose colours would not show on it."""
MAX_CHANNELS = 18
POSITIVE = tuple((2 * place - 1, color) for place, color in DIVERGING[2:])
CLIP = 99.5
"""Percentile of |attribution| from which on colours are full: a few extreme pixels must not bleach all others."""


@refusable
def overlay(explanation: Explanation, at: int, opacity: float = 0.85) -> go.Figure:
    """An image as it is, and beside it the same in pale grey with its attributions laid over.

    Vermilion places push the output up, blue ones pull it down; the map is clear where nothing matters. Colours are
    full from the 99.5th percentile on.

    Args:
        explanation: of images.
        at: the image, counted within the explanation.
        opacity: of the map, 0 to 1; its trace is called ``"attribution"``, for sliders.

    Raises:
        DLStudioError: there is no such row, or these are no images.
    """
    at = check_row(explanation, at)
    heat = _map(explanation, explanation.shares[at])
    shown = pixels(explanation.inputs[at])
    height, width = shown.shape[:2]
    figure = make_subplots(rows=1, cols=2, horizontal_spacing=0.03)
    pale = PALE + (1 - PALE / 255) * shown.mean(axis=2, keepdims=True)
    for column, image in ((1, shown), (2, np.broadcast_to(pale, shown.shape).astype(np.uint8))):
        figure.add_image(source=png(image), hoverinfo="skip", row=1, col=column)
    tall = int(np.clip(SIDE_PX * height / width, 160, 520))
    largest = float(np.percentile(np.abs(heat), CLIP)) or float(np.abs(heat).max()) or 1.0
    signs = bool((heat < 0).any())
    scale = _clear(DIVERGING, 0.5) if signs else _clear((DIVERGING[2], *DIVERGING[3:]), 0.0, start=0.5)
    figure.add_heatmap(
        z=heat.astype(np.float32),
        x0=(width / heat.shape[1] - 1) / 2,
        dx=width / heat.shape[1],
        y0=(height / heat.shape[0] - 1) / 2,
        dy=height / heat.shape[0],
        zmin=-largest if signs else 0,
        zmax=largest,
        colorscale=scale,
        opacity=opacity,
        name="attribution",
        colorbar=_bar(axis_title(explanation, at), tall),
        hovertemplate="row %{y:.0f}, column %{x:.0f}<br>%{z:+.4g}<extra></extra>",
        row=1,
        col=2,
    )
    figure.update_xaxes(visible=False, range=[-0.5, width - 0.5], constrain="domain")
    figure.update_yaxes(visible=False, range=[height - 0.5, -0.5], constrain="domain")
    for column, anchor in ((1, "x"), (2, "x2")):
        figure.update_yaxes(scaleanchor=anchor, col=column, row=1)
    figure.update_layout(margin={"l": 8, "b": 8})
    return finish(figure, explanation, height=tall + 22)


@refusable
def heat_strip(explanation: Explanation, at: int) -> go.Figure:
    """A sequence with its attributions: a strip for every channel over time, the signal drawn on it as a line.

    Every line is scaled to its own strip; values are told on hovering. Of many channels the 18 that matter most are
    shown.

    Args:
        explanation: of sequences.
        at: the sequence, counted within the explanation.

    Raises:
        DLStudioError: there is no such row, or these are no sequences.
    """
    at = check_row(explanation, at)
    heat, names = _channels(explanation, explanation.shares[at])
    signal = explanation.inputs[at].reshape(heat.shape).astype(np.float64)
    order = np.argsort(-np.abs(heat).sum(axis=0), kind="stable")[:MAX_CHANNELS]
    order = np.sort(order)
    title = axis_title(explanation, at)
    figure = _strips(heat[:, order], [names[channel] for channel in order.tolist()], title, signal[:, order])
    steps = np.arange(len(heat), dtype=np.int32)
    for place, channel in enumerate(order.tolist()):
        line = signal[:, channel]
        low, high = float(np.nanmin(line)), float(np.nanmax(line))
        drawn = place - 0.36 * (2 * (line - low) / (high - low) - 1) if high > low else np.full(len(line), place)
        figure.add_scatter(
            x=steps,
            y=drawn,
            mode="lines+markers" if len(line) <= 60 else "lines",
            line={"color": INK_ON_COLOR, "width": 1.6},
            marker={"color": INK_ON_COLOR, "size": 4},
            hoverinfo="skip",
            showlegend=False,
        )
    left = heat.shape[1] - len(order)
    figure.update_xaxes(title_text="Time step" + (f" ({left:,} channels that matter less left out)" if left else ""))
    return finish(figure, explanation, height=_strips_height(len(order)))


@refusable
def average(explanation: Explanation) -> go.Figure:
    """Where all images or sequences matter: mean |attribution| of every pixel, or of every step and channel.

    Raises:
        DLStudioError: these are neither images nor sequences.
    """
    n = len(explanation)
    title = f"{axis_title(explanation, mean=True)}, {n:,} {explanation.modality}{'s' if n > 1 else ''}"
    if explanation.modality == "sequence":
        heat, names = _channels(explanation, np.abs(explanation.shares).mean(axis=0))
        order = np.sort(np.argsort(-heat.sum(axis=0), kind="stable")[:MAX_CHANNELS])
        figure = _strips(heat[:, order], [names[channel] for channel in order.tolist()], title)
        left = heat.shape[1] - len(order)
        figure.update_xaxes(title_text="Time step" + (f" ({left:,} channels left out)" if left else ""))
        return finish(figure, explanation, height=_strips_height(len(order)))
    heat = np.mean([np.abs(_map(explanation, item)) for item in explanation.shares], axis=0)
    figure = go.Figure()
    figure.add_heatmap(
        z=heat.astype(np.float32),
        zmin=0,
        zmax=float(np.percentile(heat, CLIP)) or float(heat.max()) or 1.0,
        colorscale=SIZES,
        colorbar=_bar(title, 340),
        hovertemplate="row %{y}, column %{x}<br>%{z:.4g}<extra></extra>",
    )
    figure.update_xaxes(title_text="Column (pixels)", showgrid=False, constrain="domain")
    figure.update_yaxes(
        title_text="Row (pixels)", showgrid=False, autorange="reversed", scaleanchor="x", constrain="domain"
    )
    return finish(figure, explanation, height=420)


def pixels(image: Array) -> npt.NDArray[np.uint8]:
    """An image as the eye may see it, uint8 (height, width, 3).

    Args:
        image: (channels, height, width) or (height, width). Values within 0 to 1 or 0 to 255 are taken as they are,
            others, such as standardised ones, are stretched from their smallest to their largest. Other than three
            channels are averaged to grey.
    """
    values = np.nan_to_num(image.astype(np.float64))
    values = values[None] if values.ndim == 2 else values
    if len(values) != 3:
        values = values.mean(axis=0, keepdims=True)
    low, high = float(values.min()), float(values.max())
    if low >= 0 and high <= 1:
        low, high = 0.0, 1.0
    elif low >= 0 and 1 < high <= 255 and bool((values == np.round(values)).all()):
        low, high = 0.0, 255.0
    grey = (values - low) / (high - low if high > low else 1.0)
    return np.broadcast_to((grey * 255).round(), (3, *values.shape[1:])).transpose(1, 2, 0).astype(np.uint8)


def png(image: npt.NDArray[np.uint8]) -> str:
    """An image, uint8 (height, width, 3), as a ``data:`` address: plotly writes an array of pixels as a long list."""
    height, width = image.shape[:2]
    lines = np.zeros((height, 1 + 3 * width), dtype=np.uint8)  # each line begins with its filter, 0 for none
    lines[:, 1:] = image.reshape(height, -1)
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = b"\x89PNG\r\n\x1a\n"
    for kind, content in ((b"IHDR", head), (b"IDAT", zlib.compress(lines.tobytes(), 6)), (b"IEND", b"")):
        body += struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
    return "data:image/png;base64," + base64.b64encode(body).decode()


def _map(explanation: Explanation, values: Array) -> Array:
    """Attributions of one image as (height, width), channels added."""
    if explanation.modality != "image" or values.ndim < 2:
        raise mismatch(explanation, "images")
    heat: Array = values.astype(np.float64).sum(axis=tuple(range(values.ndim - 2)))
    return heat


def _channels(explanation: Explanation, values: Array) -> tuple[Array, list[str]]:
    """Attributions of one sequence as (time, channels), and the names of the channels."""
    if explanation.modality != "sequence" or values.ndim not in (1, 2):
        raise mismatch(explanation, "sequences")
    heat = values.astype(np.float64).reshape(len(values), -1)
    names = list(explanation.feature_names)
    if len(names) != heat.shape[1]:
        names = [f"channel {channel}" for channel in range(heat.shape[1])]
    return heat, names


def _strips(heat: Array, names: list[str], title: str, signal: Array | None = None) -> go.Figure:
    """A heat map of channels over time, one strip a channel from the top down."""
    largest = float(np.abs(heat).max()) or 1.0
    signs = signal is not None and bool((heat < 0).any())
    figure = go.Figure()
    for place, name in enumerate(names):
        text = None if signal is None else [[number(item) for item in signal[:, place].tolist()]]
        figure.add_heatmap(
            z=heat[:, place][None].astype(np.float32),
            x0=0,
            dx=1,
            y0=place,
            dy=0.94,
            zmin=-largest if signs else 0,
            zmax=largest,
            colorscale=DIVERGING if signs else (SIZES if signal is None else POSITIVE),
            showscale=not place,
            colorbar=_bar(title, _strips_height(len(names)) - 76),
            text=text,
            name=escape(name),
            hovertemplate="%{fullData.name} at step %{x}"
            + ("" if text is None else " = %{text}")
            + "<br>%{z:+.4g}<extra></extra>",
        )
    figure.update_xaxes(showgrid=False, tickformat="d", dtick=_tick(len(heat)), range=[-0.5, len(heat) - 0.5])
    figure.update_yaxes(
        tickvals=list(range(len(names))),
        ticktext=[short(name, 26) for name in names],
        range=[len(names) - 0.45, -0.55],
        showgrid=False,
        ticks="",
        tickfont={"size": 12, "color": INK},
    )
    return figure


def _strips_height(n: int) -> int:
    return 76 + max(170, n * int(np.interp(n, [1, 4, MAX_CHANNELS], [170, 74, 32])))


def _tick(n: int) -> int:
    """Steps between ticks: 1, 2 or 5 times a power of ten, so that about a dozen fit."""
    sizes = (step * ten for ten in (1, 10, 100, 1_000, 10_000, 100_000) for step in (1, 2, 5))
    return next((size for size in sizes if n <= 14 * size), n)


def _clear(scale: tuple[tuple[float, str], ...], middle: float, start: float = 0.0) -> list[list[Any]]:
    """A colour scale that is clear where nothing matters and soon opaque beside it."""
    most = max(middle, 1 - middle) or 1.0
    shown = []
    for place, color in scale:
        at = (place - start) / (1 - start)
        shown.append([at, translucent(color, min(1.0, 1.6 * abs(at - middle) / most))])
    return shown


def _bar(title: str, height: int) -> dict[str, Any]:
    lines = textwrap.wrap(title, max(18, height // 7))
    return {
        "title": {"text": "<br>".join(map(escape, lines)), "side": "right", "font": {"size": 12, "color": MUTED}},
        "tickfont": {"size": 11, "color": MUTED},
        "thickness": 11,
        "outlinewidth": 0,
        "ticks": "",
    }


def mismatch(explanation: Explanation, wanted: str) -> DLStudioError:
    """The error for a picture of another kind of input."""
    return DLStudioError(
        f"an explanation of {wanted}",
        f"{explanation.modality} attributions of shape {explanation.attributions.shape}",
        "Use figure_of, which draws any explanation.",
    )
