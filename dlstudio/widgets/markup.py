"""Pieces of HTML that the explorer's pages share; every text in them is escaped."""

from __future__ import annotations

import html
from collections.abc import Iterable

from dlstudio.errors import DLStudioError
from dlstudio.explain.exploring import evidence
from dlstudio.explain.result import Explanation
from dlstudio.explain.words import VERDICT_WORDS, method_title, verdict_line
from dlstudio.figures.tables import Rows
from dlstudio.results import Finding

__all__ = ["caption", "complaint", "head", "note", "paragraphs", "table"]


def head(explanation: Explanation, name: str) -> str:
    """What is explained and how, and whether it can be believed; remedies name the arguments to pass."""
    n = len(explanation)
    about = f"{method_title(explanation)} · {n:,} row{'' if n == 1 else 's'}"
    findings = "".join(
        f'<div class="dls-finding">{html.escape(sentence)} <i>{html.escape(remedy)}</i></div>'
        for sentence, remedy in evidence(explanation, code=True)
    )
    verdict = explanation.verdict
    return (
        f'<div class="dls-title"><span class="dls-name">{html.escape(name)}</span>'
        f'<span class="dls-what">{html.escape(about)}</span>'
        f'<span class="dls-verdict" data-verdict="{verdict}">{VERDICT_WORDS[verdict]}</span></div>'
        f'<div class="dls-band" data-verdict="{verdict}">{html.escape(verdict_line(explanation))}{findings}</div>'
    )


def standing(
    name: str, status: str, about: str, share: float, words: Iterable[str], findings: Iterable[Finding]
) -> str:
    """How something that goes on in the background stands: its name and status, its progress from 0 to 1, its words."""
    percent = min(100.0, 100 * share)
    told = "".join(
        f'<div class="dls-finding">{html.escape(one.sentence)} <i>{html.escape(one.remedy)}</i></div>'
        for one in findings
    )
    return (
        f'<div class="dls-title"><span class="dls-name">{html.escape(name)}</span>'
        f'<span class="dls-status" data-status="{html.escape(status)}">{html.escape(status)}</span>'
        f'<span class="dls-what">{html.escape(about)}</span></div>'
        f'<div class="dls-progress" role="progressbar" aria-label="How far it is" aria-valuemin="0"'
        f' aria-valuemax="100" aria-valuenow="{percent:.0f}"><span style="width:{percent:.1f}%"></span></div>'
        f"{paragraphs(words)}{told}"
    )


def caption(words: str) -> str:
    """What a picture shows, above it."""
    return f'<p class="dls-caption">{html.escape(words)}</p>'


def paragraphs(texts: Iterable[str]) -> str:
    """Plain paragraphs."""
    return '<div class="dls-words">' + "".join(f"<p>{html.escape(text)}</p>" for text in texts) + "</div>"


def table(rows: Rows) -> str:
    """A table of words."""
    head = "".join(f"<th>{html.escape(one)}</th>" for one in rows.heads)
    body = "".join("<tr>" + "".join(f"<td>{html.escape(one)}</td>" for one in row) + "</tr>" for row in rows.cells)
    return f'<div class="dls-scroll"><table class="dls-rows"><tr>{head}</tr>{body}</table></div>'


def note(words: str) -> str:
    """A quiet line."""
    return f'<span class="dls-said" role="status">{html.escape(words)}</span>'


def complaint(error: Exception) -> str:
    """What went wrong, for those who saw no cell fail."""
    words = str(error) if isinstance(error, DLStudioError) else repr(error)
    return f'<span class="dls-error" role="alert">{html.escape(words)}</span>'
