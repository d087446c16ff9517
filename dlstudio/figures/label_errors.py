"""Labels that are probably wrong: the most suspect, what they are taken for, and what their images look like."""

from __future__ import annotations

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from dlstudio.errors import DLStudioError
from dlstudio.figures import theme
from dlstudio.figures.overlays import pixels, png
from dlstudio.figures.theme import ACCENT, INK, LINE, PALETTE, escape, note, short
from dlstudio.trust.label_result import LabelErrors
from dlstudio.wording import percent

__all__ = ["label_confusion", "suspect_images", "suspects"]

LABEL = 22
MAX_CLASSES = 25
IMAGES_A_LINE = 6
IMAGE_PX = 128


def suspects(result: LabelErrors, top: int = 15) -> go.Figure:
    """Draw the most suspect labels: the probability of the given label (diamond) and of the likeliest one (circle).

    Args:
        result: what `dlstudio.find_label_errors` returned.
        top: how many to draw.
    """
    n = min(top, result.n_flagged)
    figure = go.Figure()
    places = np.arange(n, dtype=np.int32)
    for place in places.tolist():
        ends = {"x0": result.quality[place], "x1": result.probability[place], "y0": place, "y1": place}
        figure.add_shape(type="line", line={"color": LINE, "width": 3}, layer="below", **ends)
    for name, values, codes, paint, symbol in (
        ("given label", result.quality, result.given, PALETTE[1], "diamond"),
        ("likeliest label", result.probability, result.suggested, ACCENT, "circle"),
    ):
        if n:
            figure.add_scatter(
                x=values[:n].astype(np.float64),
                y=places,
                mode="markers",
                name=name,
                marker={"size": 10, "color": paint, "symbol": symbol},
                text=[escape(f"row {result.rows[at]}: {result.class_names[codes[at]]}") for at in places],
                hovertemplate=f"%{{text}} ({name})<br>probability %{{x:.1%}}<extra></extra>",
                cliponaxis=False,
            )
    theme.apply(
        figure,
        x_title="Probability by a model that did not see the label",
        y_title="Row: given label → likeliest",
        height=130 + 24 * max(n, 4),
    )
    names = [short(name, LABEL) for name in result.class_names]
    labels = [f"{result.rows[at]}: {names[result.given[at]]} → {names[result.suggested[at]]}" for at in places]
    figure.update_yaxes(
        tickvals=places, ticktext=[escape(label) for label in labels], range=[max(n, 1) - 0.5, -0.5], showgrid=False
    )
    figure.update_xaxes(range=[-0.02, 1.02], tickformat=".0%")
    figure.update_layout(margin_t=48, showlegend=True)
    if not n:
        note(figure, "No label is suspect")
    return figure


def label_confusion(result: LabelErrors) -> go.Figure:
    """Draw how many suspects of each given class (down) are likely of each other class (across).

    Args:
        result: what `dlstudio.find_label_errors` returned.

    Raises:
        DLStudioError: there are more than 25 classes.
    """
    k = len(result.class_names)
    if k > MAX_CLASSES:
        raise DLStudioError(f"at most {MAX_CLASSES} classes", f"{k}", "Draw the suspects instead.")
    counts = result.confusion
    names = [escape(short(name, LABEL)) for name in result.class_names]
    largest = max(int(counts.max()), 1)
    figure = go.Figure()
    figure.add_heatmap(
        z=counts.astype(np.float32),
        zmin=0,
        zmax=largest,
        colorscale=[[0, "#ffffff"], [1, ACCENT]],
        showscale=False,
        xgap=1,
        ygap=1,
        text=[[f"{down} given, {across} likelier" for across in names] for down in names],
        hovertemplate="%{text}: %{z:.0f} rows<extra></extra>",
    )
    for down, across in np.argwhere(counts):
        figure.add_annotation(
            x=int(across),
            y=int(down),
            text=f"{counts[down, across]:,}",
            showarrow=False,
            font={"size": 12, "color": "#ffffff" if counts[down, across] > 0.55 * largest else INK},
        )
    theme.apply(figure, x_title="Likeliest label", y_title="Given label", height=150 + 30 * max(k, 4))
    ticks = np.arange(k, dtype=np.int32)
    figure.update_xaxes(tickvals=ticks, ticktext=names, showgrid=False, range=[-0.5, k - 0.5])
    figure.update_yaxes(tickvals=ticks, ticktext=names, showgrid=False, range=[k - 0.5, -0.5])
    if not result.n_flagged:
        note(figure, "No label is suspect")
    return figure


def suspect_images(result: LabelErrors) -> go.Figure:
    """Draw the images of the most suspect labels, each with its given and its likeliest label.

    Args:
        result: what `dlstudio.find_label_errors` returned for images.

    Raises:
        DLStudioError: the rows are no images, or no label is suspect.
    """
    if result.images is None:
        why = "rows that are none" if result.n_flagged else "no suspect label"
        raise DLStudioError("images of suspect labels", why, "Draw suspects(result), or see frame().")
    n = len(result.images)
    columns = min(IMAGES_A_LINE, n)
    lines = -(-n // columns)
    names = [short(name, LABEL) for name in result.class_names]
    titles = [escape(f"{names[result.given[at]]} → {names[result.suggested[at]]}") for at in range(n)]
    # Of numbers such as 0 to 16 the largest of all images is white.
    largest = float(result.images.max()) if result.images.min() >= 0 else 0.0
    images = result.images / largest if largest > 1 else result.images
    figure = make_subplots(
        rows=lines, cols=columns, subplot_titles=titles, horizontal_spacing=0.02, vertical_spacing=0.3 / lines
    )
    for at, image in enumerate(images):
        shown = pixels(image)
        row, column = at // columns + 1, at % columns + 1
        hover = escape(f"row {result.rows[at]}, probability of the given label {percent(result.quality[at])}")
        figure.add_image(source=png(shown), hovertemplate=f"{hover}<extra></extra>", row=row, col=column)
        figure.update_xaxes(visible=False, constrain="domain", row=row, col=column)
        axis = "x" if not at else f"x{at + 1}"
        figure.update_yaxes(visible=False, scaleanchor=axis, constrain="domain", row=row, col=column)
    figure.update_annotations(font={"size": 12, "color": INK})
    theme.apply(figure, title="Given label → likeliest label", height=70 + (IMAGE_PX + 28) * lines)
    figure.update_layout(margin={"l": 8, "r": 8, "t": 64, "b": 8})
    return figure
