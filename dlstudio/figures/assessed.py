"""What results of fairness and trust are drawn as, with what to say above each picture, and in whose words."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np
import plotly.graph_objects as go

from dlstudio.errors import DLStudioError
from dlstudio.fairness.mitigation.trade_off_result import TradeOff
from dlstudio.figures import calibration, evaluation, label_errors, robustness, trade_off
from dlstudio.figures.slices import slices
from dlstudio.figures.theme import ACCENT, PALETTE
from dlstudio.results import Finding, Result
from dlstudio.trust.assessments import Assessed
from dlstudio.trust.calibration_result import CalibrationResult
from dlstudio.trust.evaluation_result import Evaluation
from dlstudio.trust.label_result import LabelErrors
from dlstudio.trust.robustness_result import RobustnessResult
from dlstudio.wording import ASK, CODE

__all__ = ["decided", "edge", "first_point", "labels", "pictures", "reviewed", "traded", "with_findings"]

Pictures: TypeAlias = list[tuple[str, go.Figure]]

_EDGES = {
    "gap shown": PALETTE[1],
    "miscalibration shown": PALETTE[1],
    "fragile": PALETTE[1],
    "slices shown": PALETTE[1],
    "label errors suspected": PALETTE[4],
    "weakens": PALETTE[4],
    "not enough data": PALETTE[4],
}
MOST_ALONE = 3
"""Classes of several whose curves are drawn alone too, with their bands."""
AIM = 0.05
"""The gap that a reader's first look at a trade-off aims at."""
_ASIDE = re.compile(r" \([^()]*(?:rows_of|\w=\S)[^()]*\)")
_ASK = {
    "DLS313": "Ask the engineer to apply it before the probabilities are used.",
    "DLS332": "Ask the engineer for more rows to test on.",
    "DLS343": "Ask the engineer for probabilities of a model that was not trained on these rows.",
    "DLS354": "Read the lower of the two curves, and ask the engineer for a longer search.",
    "DLS355": "Ask the engineer to allow it more time.",
}


def reviewed(result: Result) -> Any:
    """Return a result whose findings hold no code: their remedies say what to ask the engineer for."""
    findings = getattr(result, "findings", ())
    return dataclasses.replace(result, findings=tuple(map(_plain, findings))) if findings else result  # type: ignore[type-var]


def edge(result: Result) -> str:
    """Return the colour beside what is said first of a result: red where something was found, blue where nothing was.

    Yellow is for what is to be looked into, or not known for want of data.
    """
    return _EDGES.get(str(getattr(result, "verdict", "")), ACCENT)


def with_findings(words: Callable[[Any], Sequence[str]]) -> Callable[[Any], tuple[str, ...]]:
    """Return what puts a result into sentences, with its findings and remedies where they are not among them."""

    def say(result: Any) -> tuple[str, ...]:
        said = list(words(result))
        for finding in result.findings:
            at = next((i for i, one in enumerate(said) if one in finding.sentence or finding.sentence in one), None)
            if at is None:
                said.append(f"{finding.sentence} {finding.remedy}".strip())
            elif finding.remedy and not any(finding.remedy in one for one in said):
                longer = max(said[at], finding.sentence, key=len)
                said[at] = f"{longer} {finding.remedy}"
        return tuple(said)

    return say


def pictures(result: Assessed) -> Pictures:
    """Draw the result of an assessment of trust: captions and figures, as far as there are numbers for them."""
    if isinstance(result, Evaluation):
        return _evaluated(result)
    if isinstance(result, CalibrationResult):
        return _calibrated(result)
    if isinstance(result, RobustnessResult):
        return _attacked(result)
    if isinstance(result, LabelErrors):
        return _suspect(result)
    if not len(result):
        return []
    words = (
        "How much worse the model is in a part of the rows than elsewhere. Orange diamonds are shown to be worse; the"
        " others may be chance."
    )
    return [(words, slices(result))]


def traded(result: TradeOff, at: int | None = None) -> Pictures:
    """Draw a trade-off with one of its points, and what that point does to every group.

    Args:
        result: what `dlstudio.trade_off` returned.
        at: the point; None for `first_point`.
    """
    at = first_point(result) if at is None else at
    words = "What the chosen point gives every group, beside the model as it is."
    groups = (words, trade_off.operating_point(result, at))
    if not np.isfinite(result.gap).any():
        return [groups]
    words = "Every point is a way to decide: to the left the gap is smaller, upwards more is right."
    return [(words, trade_off.trade_off(result, at)), groups]


def first_point(result: TradeOff) -> int:
    """Return the point that a reader sees first: the most accurate with a gap of at most five points."""
    return result.choose(AIM)


def labels(result: TradeOff) -> tuple[str, ...]:
    """Return a short name for every point of a trade-off, each another one, as a slider shows it."""
    found: list[str] = []
    for name, kind, limit in zip(result.names, result.kinds, result.limits, strict=True):
        label = f"gap at most {limit:.3f}" if kind == "thresholds" else name
        n = sum(one == label or one.startswith(f"{label} (") for one in found)
        found.append(f"{label} ({n + 1})" if n else label)
    return tuple(found)


def decided(result: Evaluation, at: float = 0.5) -> tuple[str, go.Figure]:
    """Draw what thresholds do, the last picture of an evaluation of two classes with scores.

    Args:
        result: what `dlstudio.evaluate` returned.
        at: the threshold to mark.
    """
    words = "What other thresholds would do; the dashed line is the one that is looked at."
    return words, evaluation.thresholds(result, at)


def _evaluated(result: Evaluation) -> Pictures:
    found = [("Every measure with its interval; grey ticks are what guessing reaches.", evaluation.metrics(result))]
    if result.task == "regression":
        return [*found, ("Predicted against true values; on the line is right.", evaluation.predicted(result))]
    found.append(("Which classes are taken for which.", evaluation.confusion(result)))
    curves = set(result.tables.get("curves", {}).get("curve", np.zeros(0, dtype=str)).tolist())
    if "roc" in curves:
        found.append(("How many are found at the price of how many false alarms.", evaluation.roc(result)))
    if "precision_recall" in curves:
        found.append(("How many of those found are right.", evaluation.precision_recall(result)))
    if curves and result.task == "multiclass":
        for name in _found_least(result):
            whom = f"of {name!r} alone, which is among those found least often; the band is what chance leaves open."
            found.append((f"Found at the price of false alarms, {whom}", evaluation.roc(result, name)))
            found.append((f"Right of those found, {whom}", evaluation.precision_recall(result, name)))
    if result.positive_scores is not None:
        found.append(decided(result))
    return found


def _found_least(result: Evaluation) -> list[str]:
    """Return the classes with the lowest recall, of those that have curves of their own."""
    drawn = set(result.tables["curves"]["outcome"].tolist())
    recall, names = result.tables["per_class"]["recall"], result.tables["per_class"]["class"].tolist()
    rising = [names[at] for at in np.argsort(recall, kind="stable") if np.isfinite(recall[at])]
    return [name for name in rising if name in drawn][:MOST_ALONE]


def _calibrated(result: CalibrationResult) -> Pictures:
    found = [
        (
            "What happened against what was promised; on the line is right. Below it too much was promised.",
            calibration.reliability(result),
        )
    ]
    columns = result.tables["errors"]["column"]
    found += [
        (
            f"The same for every group of {column}, the six largest of more.",
            calibration.reliability(result, column=column),
        )
        for column in dict.fromkeys(columns[columns != ""].tolist())
    ]
    if len(result.tables["errors"]["ece"]) > 1:
        found.append(
            (
                "How far off probabilities are on average; grey ticks are what chance alone brings.",
                calibration.calibration_errors(result),
            )
        )
    if len(result.tables["fixes"].get("method", ())):
        found.append(("The same before and after each way to set them right.", calibration.calibration_fixes(result)))
    return found


def _attacked(result: RobustnessResult) -> Pictures:
    kinds = {one.kind for one in result.curves.values()}
    found = []
    if "attack" in kinds:
        found.append(("How often it is right while inputs are changed on purpose.", robustness.attacks(result)))
    if "corruption" in kinds:
        found.append(("How often it is right while inputs are spoilt by chance.", robustness.corruptions(result)))
    return found


def _suspect(result: LabelErrors) -> Pictures:
    if not len(result):
        return []
    found = [("The most suspect labels: how likely the given label is, and the likeliest one.",
              label_errors.suspects(result))]  # fmt: skip
    for words, draw in (
        ("Their images.", label_errors.suspect_images),
        ("Which labels are suspect, and what is likelier.", label_errors.label_confusion),
    ):
        try:
            found.append((words, draw(result)))
        except DLStudioError:
            continue  # no images, or too many classes for a table
    return found


def _plain(finding: Finding) -> Finding:
    remedy = _ASIDE.sub("", finding.remedy)
    if finding.code in _ASK:
        remedy = _ASK[finding.code]
    elif CODE.search(remedy):
        remedy = ASK
    return dataclasses.replace(finding, sentence=_ASIDE.sub("", finding.sentence), remedy=remedy)
