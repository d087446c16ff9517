"""What the checks of an explanation are drawn as, with what to say above each picture."""

from __future__ import annotations

import numpy as np
import plotly.graph_objects as go

from dlstudio.explain.checks import Checked
from dlstudio.explain.quality.agreement_result import AgreementResult
from dlstudio.figures.agreement import agreement, side_by_side
from dlstudio.figures.quality import randomisation, removal

__all__ = ["compared", "pictures"]


def pictures(result: Checked) -> list[tuple[str, go.Figure]]:
    """Draw the result of a check: captions and figures, as far as there are numbers for them.

    Of several methods the last picture shows the first row; `compared` shows others.
    """
    if isinstance(result, AgreementResult):
        words = "Left: how alike each two methods order the reasons. Right: how many of the strongest they share."
        found = [(words, agreement(result))] if len(result.methods) > 1 else []
        return [*found, compared(result)] if result.sound.any() else found
    found = []
    if result.deletion is not None:
        words = (
            "The model's answer while features are taken away (left) and put back (right), the strongest first. The"
            " line should leave the grey band, which is chance: downwards on the left, upwards on the right."
        )
        found.append((words, removal(result)))
    if result.similarity is not None and np.isfinite(result.similarity).any():
        words = (
            "How much of the order of reasons is left while the model forgets what it learned, layer by layer. The line"
            " should fall."
        )
        found.append((words, randomisation(result)))
    return found


def compared(result: AgreementResult, place: int = 0, row: str = "") -> tuple[str, go.Figure]:
    """Draw one row by every method, as a caption and a figure.

    Args:
        result: of methods, not all of them refused.
        place: of the row, counted within the result.
        row: what the row is called; empty for its number.
    """
    number = f"{int(result.rows[place]):,}"
    name = row or (f"Row {number} of the data" if result.run else f"Row {number}")
    return f"{name}, by every method on one scale.", side_by_side(result, place)
