"""Findings for readers who write no code: methods by their titles, and whom to ask in place of arguments to pass."""

from __future__ import annotations

import dataclasses
import re
from typing import TypeVar

from dlstudio import wording
from dlstudio.explain.methods import METHODS
from dlstudio.results import Finding, Result
from dlstudio.wording import ASK, CODE

__all__ = ["in_plain_words", "plainly", "told", "uncoded"]

_R = TypeVar("_R", bound=Result)

_ASK = {
    "DLS401": "Ask the engineer to compute it more exactly, or by another method such as Shapley values.",
    "DLS402": "Ask the engineer to compute it with more random draws.",
    "DLS403": "Ask the engineer to explain the model by another method.",
    "DLS404": "Ask the engineer to explain the model by another method.",
    "DLS405": "Ask the engineer to explain the model by another method.",
    "DLS406": "Ask the engineer to explain the model by another method.",
    "DLS407": "Ask the engineer to explain the model's scores before they become probabilities.",
    "DLS409": "Ask the engineer whether that comparison makes sense here.",
    "DLS410": "Ask the engineer to switch off what is random in the model.",
    "DLS411": "Ask the engineer to allow it more time.",
    "DLS414": "Ask the engineer to have the model judge every row on its own.",
    "DLS416": "Ask the engineer to explain the model by another method.",
    "DLS428": "Ask the engineer to say how fast the model learned at each checkpoint.",
}
"""Codes whose remedies are for engineers, however they are worded."""
_NAMES = {name: method.title for name, method in METHODS.items() if "_" in name or name == "shapley"}
_NAME = re.compile(r"(?<![\w'\"=])(" + "|".join(sorted(_NAMES, key=len, reverse=True)) + r")(?![\w=(])")
_BETWEEN = re.compile(r"(?<=[.!?]) (?=[A-Z“])")


def in_plain_words(finding: Finding) -> Finding:
    """Return a finding without names of arguments: a remedy that needs code says what to ask the engineer for.

    What is measured stays: code, severity, evidence and the first sentence.

    Example:
        >>> in_plain_words(finding).remedy  # it was "Raise n_steps, or use shapley if the model jumps."
        'Ask the engineer to compute it more exactly, or by another method such as Shapley values.'
    """
    remedy = _titled(finding.remedy)
    if finding.remedy:
        remedy = _ASK.get(finding.code) or (ASK if CODE.search(remedy) else remedy)
    return dataclasses.replace(finding, sentence=uncoded(finding.sentence), remedy=remedy)


def plainly(result: _R) -> _R:
    """Return a result whose findings are in plain words, so that what puts it into sentences needs no code either."""
    findings = tuple(map(in_plain_words, getattr(result, "findings", ())))
    return dataclasses.replace(result, findings=findings) if findings else result  # type: ignore[type-var]


def uncoded(text: str) -> str:
    """Return a text with methods by their titles, less all sentences after the first that hold code."""
    first, *others = _BETWEEN.split(_titled(text))
    return " ".join([first, *(other for other in others if not CODE.search(other))])


def told(error: Exception) -> str:
    """Return what went wrong in words, with what to ask for where only code would help."""
    return wording.told(error, _titled)


def _titled(text: str) -> str:
    """Methods by their titles, where they stand as names and not in code."""
    return _NAME.sub(lambda found: _NAMES[found[1]], text)
