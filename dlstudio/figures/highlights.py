"""A text with the words highlighted that moved the model, as HTML that any face can take in."""

from __future__ import annotations

import html

import numpy as np

from dlstudio.explain.parts import check_row, number, parts, signed
from dlstudio.explain.plain import in_plain_words
from dlstudio.explain.result import Explanation
from dlstudio.explain.words import UNSIGNED, output_name, unit, verdict_line
from dlstudio.figures.overlays import mismatch
from dlstudio.figures.theme import FONT, MUTED, SEVERITY_COLORS, translucent
from dlstudio.figures.verdict import AGAINST, FOR

__all__ = ["tokens"]


def tokens(explanation: Explanation, at: int) -> str:
    """A text with its words highlighted, as a piece of HTML; every text in it is escaped.

    Pieces of words are put together and their attributions added. Vermilion words push the output up, blue ones pull
    it down, the stronger the darker; the number appears on hovering. A refused explanation gives its reasons.

    Args:
        explanation: of texts.
        at: the text, counted within the explanation.

    Returns:
        One ``<div>`` with inline styles, no script and no class; in the page's own ink, on its own ground.

    Raises:
        DLStudioError: there is no such row, or these are no texts.
    """
    at = check_row(explanation, at)
    if explanation.modality != "text":
        raise mismatch(explanation, "texts")
    outer = (
        f"font-family:{html.escape(FONT)};font-size:16px;line-height:2.1;"
        f"border:1px solid {translucent(MUTED, 0.35)};border-radius:6px;padding:14px 16px;overflow-wrap:anywhere"
    )
    if explanation.verdict == "refused":
        told = (in_plain_words(finding) for finding in explanation.findings)
        reasons = "".join(f"<li>{html.escape(f'{one.sentence} {one.remedy}'.strip())}</li>" for one in told)
        edge = SEVERITY_COLORS["critical"]
        return (
            f'<div style="{outer};border-color:{edge};line-height:1.5">'
            f"<b>This explanation is not shown: it was refused.</b><ul>{reasons}</ul></div>"
        )
    words = parts(explanation, at)
    largest = max((abs(part.attribution) for part in words), default=0.0)
    # A text in which nothing much matters stays pale beside the others.
    usual = float(np.median(np.abs(explanation.attributions).reshape(len(explanation), -1).max(axis=1)))
    full = max(largest, usual) or 1.0
    marked = " ".join(_word(part.name, part.attribution, part.standard_error, full) for part in words)
    about = html.escape(output_name(explanation, at))
    small = "font-size:12.5px;line-height:1.5;opacity:0.8;margin-top:8px"
    if explanation.method in UNSIGNED:
        meaning = f"{_swatch(FOR)} the output for {about} reacts to it"
    else:
        meaning = f"{_swatch(FOR)} speaks for {about} &ensp; {_swatch(AGAINST)} speaks against it"
    legend = (
        f'<div style="{small}">{meaning} &ensp; strongest: {html.escape(number(largest))} {unit(explanation)}</div>'
    )
    band = ""
    if explanation.verdict == "suspect":
        color = SEVERITY_COLORS["warning"]
        band = (
            f'<div style="background:{translucent(color, 0.16)};border:1px solid {color};border-radius:4px;'
            f'font-size:13px;line-height:1.5;padding:6px 10px;margin-bottom:8px">'
            f"{html.escape(verdict_line(explanation))}</div>"
        )
    return f'<div style="{outer}">{band}<div>{marked}</div>{legend}</div>'


def _word(word: str, value: float, error: float, full: float) -> str:
    strength = min(1.0, abs(value) / full)
    told = signed(value) + (f" ± {number(error)}" if error == error else "")
    style = "border-radius:3px;padding:2px 3px"
    if strength >= 0.02:
        color = AGAINST if value < 0 else FOR
        style += f";background:{translucent(color, round(0.08 + 0.52 * strength, 3))}"
        style += ";font-weight:600" if strength >= 0.5 else ""
    return f'<span style="{style}" title="{html.escape(told)}">{html.escape(word)}</span>'


def _swatch(color: str) -> str:
    style = f"display:inline-block;width:11px;height:11px;border-radius:2px;background:{translucent(color, 0.6)}"
    return f'<span style="{style}"></span>'
