"""What attacks and corruptions show, in words, for readers without code."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from dlstudio.results import Finding
from dlstudio.trust.robustness_result import TOLERANCE, RobustnessCurve, RobustnessResult, spoken
from dlstudio.wording import percent

__all__ = ["describe", "findings_of"]


def findings_of(result: RobustnessResult, answers: str) -> list[Finding]:
    """Return what follows from a result; `answers` says how the outputs were read."""
    found = [_of_curve(result, one) for one in result.curves.values()]
    stuck = int((result.no_gradient & _right(result)).sum())
    if stuck:
        found.append(
            Finding(
                code="DLS352",
                severity="warning",
                sentence=(
                    f"For {stuck:,} of {int(_right(result).sum()):,} rows that could be attacked, no gradient says"
                    " where to go: they count as robust here, but nobody has shown that they are."
                ),
                evidence={"n_rows": stuck, "n_right": int(_right(result).sum())},
                remedy="Attack the logits, before any softmax, sigmoid or rounding.",
            )
        )
    if answers in ("probability", "probabilities"):
        found.append(
            Finding(
                code="DLS353",
                severity="info",
                sentence="All outputs lie between 0 and 1 and are read as probabilities.",
                evidence={"outputs": answers},
                remedy="If they are logits, pass a model that returns (rows, classes); else attack its logits, where"
                " gradients do not vanish.",
            )
        )
    if {"fgsm", "pgd"} <= result.curves.keys():
        one, many = (np.nansum(result.curves[name].lost) for name in ("fgsm", "pgd"))
        worse = result.curves["fgsm"].lost - result.curves["pgd"].lost
        if one > many and np.nanmax(worse) > 0.02:
            found.append(
                Finding(
                    code="DLS354",
                    severity="warning",
                    sentence=(
                        "One step finds more errors than the search does (up to"
                        f" {percent(np.nanmax(worse), 0)} more): the gradient misleads the search, so that attacks by"
                        " gradient show less than there is."
                    ),
                    evidence={"largest_difference": float(np.nanmax(worse))},
                    remedy="Read the lower of the two curves, and search longer: n_steps=100.",
                )
            )
    if len(result) < result.n_asked:
        found.append(
            Finding(
                code="DLS355",
                severity="info",
                sentence=f"Time was over after the first {len(result):,} of {result.n_asked:,} rows.",
                evidence={"n_rows": len(result), "n_asked": result.n_asked},
                remedy="Allow more max_seconds for narrower intervals.",
            )
        )
    if known := result.rows_of_part.get("train"):
        found.append(
            Finding(
                code="DLS356",
                severity="warning",
                sentence=f"{known:,} of these {len(result):,} rows were trained on: on others the model may do worse.",
                evidence={"n_trained_on": known, "n_rows": len(result)},
                remedy="Leave out rows=, which takes test rows.",
            )
        )
    return found


def describe(result: RobustnessResult) -> tuple[str, ...]:
    """Return plain sentences for people who decide, the summary first."""
    first = next(iter(result.curves.values()))
    measured = f"{_quantity(result, first.value[0])} ({100 * result.level:g} % interval {_span(result, first, 0)})"
    what = "the accuracy is" if result.metric == "accuracy" else "the mean absolute error is"
    within, beyond = _bounds(result)
    words = {
        "holds": f"At every strength that was tested {within}.",
        "weakens": "The model weakens as inputs change.",
        "fragile": f"Already the smallest change that was tested {beyond}.",
        "not enough data": "These rows are too few to tell whether the model weakens as inputs change.",
    }
    return (
        f"On {_rows(result)} as they are, {what} {measured}. {words[result.verdict]}",
        *(f"{finding.sentence} {finding.remedy}".strip() for finding in result.findings),
        *(f"{spoken(name)[:1].upper()}{spoken(name)[1:]} was left out: {why}." for name, why in result.skipped.items()),
    )


def _of_curve(result: RobustnessResult, one: RobustnessCurve) -> Finding:
    at = next((i for i in range(1, len(one.strengths)) if one.lost_low[i] > TOLERANCE), len(one.strengths) - 1)
    if one.kind == "attack":
        size = "no input by more than" if result.norm == "linf" else "by a length of at most"
        change = f"Changed on purpose, {size} {one.strengths[at]:.3g} ({one.unit}), by {spoken(one.name)}"
    elif one.name == "missing":
        change = f"With {percent(one.strengths[at], 0)} of the {one.unit.removeprefix('share of ')} missing"
    else:
        change = f"With {spoken(one.name)} of {one.strengths[at]:.3g} ({one.unit})"
    within, _ = _bounds(result)
    tail = " More than this was not tested." if one.verdict == "holds" else ""
    if one.verdict in ("weakens", "not enough data") and one.holds_to > 0:
        upper = percent(one.holds_to, 0) if one.name == "missing" else f"{one.holds_to:.3g}"
        tail = f" Up to {upper} {within}."
    remedy = ""
    if one.verdict == "not enough data":
        tail += f" Whether {within} {'beyond that ' if one.holds_to > 0 else ''}cannot be told from so few rows."
        remedy = "Assess it on more rows."
    elif one.verdict != "holds" and _costs(result, one, at):
        remedy = (
            "Train with attacked examples (adversarial training), or limit who can change the inputs."
            if one.kind == "attack"
            else "Train with inputs changed in this way (augmentation), or check inputs before they are used."
        )
    return Finding(
        code="DLS350" if one.kind == "attack" else "DLS351",
        severity="warning" if one.verdict == "fragile" else "info",
        sentence=f"{change}, {_measured(result, one, at)}.{tail}",
        evidence={
            "name": one.name,
            "strength": float(one.strengths[at]),
            "value": float(one.value[at]),
            "low": float(one.low[at]),
            "high": float(one.high[at]),
            "lost": float(one.lost[at]),
            "lost_low": float(one.lost_low[at]),
            "lost_high": float(one.lost_high[at]),
            "holds_to": one.holds_to,
        },
        remedy=remedy,
    )


def _measured(result: RobustnessResult, one: RobustnessCurve, at: int) -> str:
    """What a change does: to the rows that were right, by which a curve is judged, and to all rows."""
    interval = f"{100 * result.level:g} % interval"
    span = f"{_quantity(result, one.value[at])} ({interval} {_span(result, one, at)}, {len(result):,} rows)"
    if result.metric != "accuracy":
        return f"the mean absolute error is {span} instead of {_quantity(result, one.value[0])}"
    measured = f"accuracy is {span} instead of {percent(one.value[0])}"
    if not (n_right := int(_right(result).sum())):
        return f"{measured}: no row was right that could be lost"
    lost = f"{percent(one.lost[at])} ({interval} {percent(one.lost_low[at])} to {percent(one.lost_high[at])})"
    others = "" if _costs(result, one, at) or not one.lost[at] else "as many others or more are right instead, and "
    return f"{lost} of the {n_right:,} rows that were right are wrong; {others}{measured}"


def _costs(result: RobustnessResult, one: RobustnessCurve, at: int) -> bool:
    """Whether a change does any harm over all rows: of a poor model it may turn as many right as wrong."""
    return bool((one.value[at] < one.value[0]) == (result.metric == "accuracy"))


def _bounds(result: RobustnessResult) -> tuple[str, str]:
    """What is within the tolerance, and what is beyond it."""
    if result.metric == "accuracy":
        return "no more than a tenth of the right answers is lost", "costs more than a tenth of the right answers"
    return "the error grows by a tenth at most", "makes the error grow by more than a tenth"


def _rows(result: RobustnessResult) -> str:
    parts = result.rows_of_part
    which = f"{next(iter(parts))} rows" if len(parts) == 1 else "rows"
    of = f" of {result.data}" if result.data else ""
    each = ", ".join(f"{n:,} {part}" for part, n in parts.items()) if len(parts) > 1 else ""
    return f"{len(result):,} {which}{of}" + (f" ({each})" if each else "")


def _right(result: RobustnessResult) -> npt.NDArray[np.bool_]:
    right: npt.NDArray[np.bool_] = next(iter(result.curves.values())).errors[:, 0] == 0
    # An attack on a quantity always has somewhere to go: every row counts.
    return right if result.metric == "accuracy" else np.ones(len(result), dtype=np.bool_)


def _quantity(result: RobustnessResult, number: float) -> str:
    return percent(number) if result.metric == "accuracy" else f"{number:.4g}"


def _span(result: RobustnessResult, one: RobustnessCurve, at: int) -> str:
    return f"{_quantity(result, one.low[at])} to {_quantity(result, one.high[at])}"
