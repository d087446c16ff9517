"""An explanation in plain words, for readers who read no code: the verdict, the strongest reasons, how to read them."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from dlstudio.explain.methods import METHODS
from dlstudio.explain.parts import Part, check_row, number, parts, ranking, signed
from dlstudio.explain.result import Explanation

__all__ = [
    "ROW_NAMES",
    "UNSIGNED",
    "VERDICT_WORDS",
    "chances",
    "class_noun",
    "describe",
    "headline",
    "method_title",
    "output_name",
    "unit",
    "verdict_line",
]

UNSIGNED = ("saliency", "smooth_grad")
"""Methods whose numbers say how much the output reacts, and not in which direction."""

_NOUNS = {
    "accepted": "acceptance",
    "approved": "approval",
    "declined": "refusal",
    "denied": "denial",
    "employed": "employment",
    "granted": "approval",
    "negative": "a negative verdict",
    "positive": "a positive verdict",
    "rejected": "rejection",
}
VERDICT_WORDS = {"ok": "Sound", "suspect": "Suspect", "refused": "Refused"}
"""Verdicts as readers know them."""
ROW_NAMES = {"tabular": "row", "image": "image", "text": "text", "sequence": "sequence"}
"""What one explained thing is called."""
TOLD_APART = 2.0
"""Standard errors that two reasons must lie apart to be put in an order."""
WORTH_NAMING = 0.1
"""Share of the strongest reason that another needs to be named beside it."""


def unit(explanation: Explanation) -> str:
    """The unit of the explained output: ``"logit"`` for classes, ``"output units"`` otherwise."""
    return "logit" if explanation.class_names else "output units"


def class_noun(explanation: Explanation, output: int) -> str:
    """What stands for a class after *for*: ``"denial"`` where it has a noun, else its name in quotes."""
    names = explanation.class_names
    name = names[output if len(names) == explanation.outputs.shape[1] else -1]
    return _NOUNS.get(name.lower(), f"“{name}”")


def output_name(explanation: Explanation, at: int | None = None) -> str:
    """What is explained, fit to follow *for*: ``"denial"``, ``"“Sneaker”"``, ``"output 3"``, ``"the prediction"``.

    With ``at=None`` it is ``"the explained class"`` where rows differ in theirs.
    """
    targets = explanation.target if at is None else explanation.target[check_row(explanation, at)][None]
    several = len(np.unique(targets)) > 1
    if explanation.class_names:
        return "the explained class" if several else class_noun(explanation, int(targets[0]))
    if explanation.outputs.shape[1] == 1:
        return "the prediction"
    return "the explained output" if several else f"output {int(targets[0])}"


def chances(explanation: Explanation, at: int) -> npt.NDArray[np.float64] | None:
    """Return the model's own probability of every class in one row, float64 (classes,); None without class names."""
    check_row(explanation, at)
    if not explanation.class_names:
        return None
    outputs: npt.NDArray[np.float64] = explanation.outputs[at].astype(np.float64)
    if outputs.size == 1 and len(explanation.class_names) == 2:  # one logit for two classes
        outputs = np.array([0.0, outputs[0]])
    elif bool((outputs >= 0).all()) and math.isclose(float(outputs.sum()), 1.0, abs_tol=1e-4):
        return outputs
    weights = np.exp(outputs - outputs.max())
    return np.asarray(weights / weights.sum(), dtype=np.float64)


def method_title(explanation: Explanation) -> str:
    """The method as people read it, such as ``"Integrated gradients"``."""
    return METHODS[explanation.method].title if explanation.method in METHODS else explanation.method


def verdict_line(explanation: Explanation) -> str:
    """Say in a sentence whether the explanation can be believed.

    Example:
        >>> verdict_line(e)
        'Sound: the attributions add up to the change of the output, to within 0.2 % of its range.'
    """
    word = VERDICT_WORDS[explanation.verdict]
    grave = [finding.sentence for finding in explanation.findings if finding.severity != "info"]
    if explanation.verdict != "ok":
        return f"{word}: {_inside(grave[0])}" if grave else f"{word}."
    if explanation.gap is None:
        return (
            f"{word} as far as can be checked: nothing speaks against it, but {method_title(explanation)} promises no"
            " sum to hold its numbers against."
        )
    share = f"{max(0.1, 100 * explanation.gap):.2g}"
    return f"{word}: the attributions add up to the change of the output, to within {share} % of its range."


def headline(explanation: Explanation, at: int | None = None) -> str:
    """Name the strongest reasons of one row, or with ``at=None`` what matters over all rows.

    A refused explanation gives no reasons; a suspect one begins with a warning. Reasons that the random error of the
    method cannot tell apart are said to be so.

    Example:
        >>> headline(e, at=0)
        'The strongest reason for denial is pubrec = 1 (−0.93 logit of approval). …'
    """
    if at is not None:
        check_row(explanation, at)
    if explanation.verdict == "refused":
        return "No reasons are given, as this explanation cannot be believed."
    text = _over_all(explanation) if at is None else _of_row(explanation, at)
    return f"With care, as this explanation is suspect: {_inside(text)}" if explanation.verdict == "suspect" else text


def describe(explanation: Explanation, at: int | None = None) -> tuple[str, ...]:
    """Tell an explanation in paragraphs of plain text, for one row or for all.

    The verdict comes first; then what the model decided, the reasons, how they add up, and what the method's numbers
    mean. A refused explanation tells why instead.
    """
    if at is not None:
        check_row(explanation, at)
    told = [verdict_line(explanation)]
    told += _reasons(explanation)
    if at is not None:
        told.append(_decision(explanation, at))
    if explanation.verdict != "refused":
        told.append(headline(explanation, at))
        if at is not None and explanation.gap is not None:
            told.append(_sum(explanation, at))
        told.append(_method(explanation))
    return tuple(told)


def _reasons(explanation: Explanation) -> list[str]:
    """What the findings say beyond the verdict line, which already tells the first of them."""
    reasons = [finding for finding in explanation.findings if finding.severity != "info"]
    told = [f"{finding.sentence} {finding.remedy}".strip() for finding in reasons[1:]]
    if reasons and explanation.verdict != "ok":
        told = [reasons[0].remedy, *told]
    told += [
        f"{finding.sentence} {finding.remedy}".strip() for finding in explanation.findings if finding not in reasons
    ]
    return [text for text in told if text]


def _of_row(explanation: Explanation, at: int) -> str:
    found = sorted(parts(explanation, at), key=lambda part: -abs(part.attribution))
    if not any(part.attribution for part in found):
        return f"Nothing in this {ROW_NAMES[explanation.modality]} moved the output: every attribution is 0."
    about = output_name(explanation, at)
    if explanation.method in UNSIGNED:
        then = [_named(explanation, part) for part in found[1:3] if part.attribution]
        text = f"The output for {about} reacts most strongly to {_named(explanation, found[0])}"
        text += f", then to {' and '.join(then)}" if then else ""
        return f"{text}. This tells how much it reacts, not in which direction."
    raising = [part for part in found if part.attribution > 0]
    lowering = [part for part in found if part.attribution < 0]
    of = f" {unit(explanation)}" if explanation.class_names else ""
    if about == "the prediction":
        sides = [("The strongest push upwards", raising), ("the strongest push downwards", lowering)]
        if found[0].attribution < 0:
            sides = [("The strongest push downwards", lowering), ("the strongest push upwards", raising)]
    else:
        other = _other_class(explanation, at)
        if other:
            about, of, raising, lowering = other, f"{of} of {about}", lowering, raising
        sides = [(f"The strongest reason for {about}", raising), ("the strongest reason against it", lowering)]
    (lead, leading), (rest, resting) = sides
    if not leading:
        return f"Nothing speaks for {about}; {rest} is {_amount(explanation, resting[0], of)}."
    text = f"{lead} is {_amount(explanation, leading[0], of)}{_followed(explanation, leading, 'followed by')}."
    text += _tied(leading)
    return text + (f" {_start(rest)} is {_amount(explanation, resting[0], '')}." if resting else "")


def _over_all(explanation: Explanation) -> str:
    n, row = len(explanation), ROW_NAMES[explanation.modality]
    over = f"In the one {row} explained" if n == 1 else f"Over the {n:,} {row}s explained"
    found = ranking(explanation)
    total = sum(part.attribution for part in found)
    if not total:
        return f"{over}, nothing moved the output: every attribution is 0."
    about = output_name(explanation)
    first = _named(explanation, found[0])
    if explanation.modality == "image" and first.startswith("the "):
        share = f"{found[0].attribution / total:.0%}".replace("%", " %")
        return f"{over}, {first} matters most for {about}: {share} of all attribution lies there."
    amount = f"{number(found[0].attribution)} {unit(explanation)}"
    then = [f"{_named(explanation, part)} ({number(part.attribution)})" for part in found[1:3] if part.attribution]
    text = f"{over}, {first} matters most for {about}: "
    if explanation.method in UNSIGNED:
        text += f"a change of 1 in it moves the output by {amount}"
    else:
        text += f"it moves the output by {amount}"
    return f"{text} on average{', ahead of ' + ' and '.join(then) if then else ''}."


def _other_class(explanation: Explanation, at: int) -> str:
    """Of two classes the one that the model decided for, where the other is explained; else empty."""
    likely = chances(explanation, at)
    if likely is None or len(likely) != 2 or explanation.outputs.shape[1] != 2:
        return ""
    decided = int(likely.argmax())
    return class_noun(explanation, decided) if decided != int(explanation.target[at]) else ""


def _named(explanation: Explanation, part: Part) -> str:
    if explanation.modality == "image" and not part.name.startswith(("pixel", "unit")):
        return f"the {part.name} of the image"
    if explanation.modality == "text" and not part.value and not part.name.startswith(("padding (", "unit ")):
        return f"“{part.name}”"
    return part.text


def _amount(explanation: Explanation, part: Part, of: str) -> str:
    if explanation.modality == "image" and explanation.gap is None:
        return _named(explanation, part)  # pixels of windows and maps overlap: their sum is in no unit
    return f"{_named(explanation, part)} ({signed(part.attribution)}{of})"


def _followed(explanation: Explanation, leading: Sequence[Part], by: str) -> str:
    floor = WORTH_NAMING * abs(leading[0].attribution)
    then = [_amount(explanation, part, "") for part in leading[1:3] if abs(part.attribution) >= floor]
    return f", {by} {' and '.join(then)}" if then else ""


def _tied(leading: Sequence[Part]) -> str:
    if len(leading) < 2:
        return ""
    first, second = leading[:2]
    apart = abs(first.attribution) - abs(second.attribution)
    if not apart <= TOLD_APART * math.hypot(first.standard_error, second.standard_error):
        return ""  # also where nothing is random: NaN compares as false
    return " Which of the first two is stronger cannot be told: they differ by less than the random error."


def _decision(explanation: Explanation, at: int) -> str:
    row = f"{_start(ROW_NAMES[explanation.modality])} {int(explanation.rows[at]):,}"
    true = None if explanation.y_true is None else explanation.y_true[at]
    likely = chances(explanation, at)
    if likely is not None and len(likely) == len(explanation.class_names):
        decided = int(likely.argmax())
        share = min(99.9, 100 * float(likely[decided]))
        text = f"{row}: the model decides for “{explanation.class_names[decided]}” with a probability of {share:.3g} %"
        if true is None:
            return f"{text}."
        if int(true) == decided:
            return f"{text}, which is right."
        return f"{text}; the true class is “{explanation.class_names[int(true)]}”."
    text = f"{row}: {output_name(explanation, at)} is {number(float(explanation.prediction[at]))}"
    return f"{text}." if true is None else f"{text}; the true value is {number(float(true))}."


def _sum(explanation: Explanation, at: int) -> str:
    values = explanation.by_feature[at].astype(np.float64)
    start, end = float(explanation.baseline_value[at]), float(explanation.prediction[at])
    reference = METHODS[explanation.method].reference if explanation.method in METHODS else "none"
    compared = {"baseline": "At the baseline the output is", "background": "Over the background the output averages"}
    begin = f"{compared[reference]} {number(start)} {unit(explanation)}" if reference in compared else "Starting from 0"
    up, down = float(values[values > 0].sum()), float(values[values < 0].sum())
    text = f"{begin}; all that raises it adds {number(up)} and all that lowers it takes off {number(-down)}, "
    left = end - (start if reference in compared else 0.0) - up - down
    if abs(left) > 0.01 * explanation.output_range:
        text += f"and {signed(left)} is left unexplained, "
    return f"{text}which makes the {number(end)} {unit(explanation)} of this {ROW_NAMES[explanation.modality]}."


def _method(explanation: Explanation) -> str:
    text = "The numbers tell what this model used, not what causes what in the world."
    if explanation.why:
        text = f"{_start(explanation.why).rstrip('.')}. {text}"
    if explanation.method not in METHODS:
        return text
    return f"{method_title(explanation)}: {_inside(METHODS[explanation.method].says)} {text}"


def _inside(sentence: str) -> str:
    """A sentence to go on after a colon: its first letter small, unless that word is a name or an abbreviation."""
    first = sentence.split(" ", 1)[0]
    common = first[1:].islower() or first in ("A", "I")
    return sentence[:1].lower() + sentence[1:] if common else sentence


def _start(text: str) -> str:
    return text[:1].upper() + text[1:]
