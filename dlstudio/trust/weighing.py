"""Another threshold, and what mistakes cost: weighed into an evaluation that is there, of which the rest stays."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np

from dlstudio.errors import DLStudioError
from dlstudio.trust.evaluation_result import Evaluation
from dlstudio.trust.evaluation_words import describe, findings_of
from dlstudio.trust.thresholds import cheapest, checked_costs
from dlstudio.wording import percent, span

__all__ = ["RATES", "TOLD", "weigh", "words_at"]

RATES = {
    "accuracy": ("Right", "right", "The share of rows that are decided rightly."),
    "selection_rate": ("Said yes to", "given the class", "The share of rows that are given the class."),
    "true_positive_rate": (
        "Found", "found of those that are of the class",
        "Of the rows that are of the class, the share that is given it.",
    ),
    "false_positive_rate": (
        "False alarms", "false alarms among those that are not",
        "Of the rows that are not of the class, the share that is given it.",
    ),
    "precision": (
        "Right when it says yes", "right among those given the class",
        "Of the rows that are given the class, the share that are of it.",
    ),
}  # fmt: skip
"""Rates at a threshold: as a heading, after a percentage, and what they mean."""
TOLD = ("accuracy", "true_positive_rate", "false_positive_rate", "precision")
"""Of these, those that are told and drawn beside each other; what is said yes to follows from them."""


def weigh(result: Evaluation, costs: Mapping[str, float] | None) -> Evaluation:
    """Return an evaluation with these costs in place of its own; its metrics, folds and curves stay.

    Args:
        result: what `dlstudio.evaluate` returned.
        costs: as for `dlstudio.evaluate`; None or {} for none.

    Raises:
        DLStudioError: costs fit no outcome, or come with an evaluation without scores of two classes.

    Example:
        >>> weigh(dls.evaluate("my-run"), {"false_positive": 5, "false_negative": 1}).cheapest.threshold
    """
    checked = checked_costs(costs or None)
    best = None
    if checked:
        if result.positive_scores is None or result.negative_scores is None:
            got = result.task if result.task != "binary" else "classes without scores"
            raise DLStudioError("two classes with scores, for costs", got, "Leave costs out, or pass y_score=.")
        scores = np.concatenate([result.positive_scores, result.negative_scores])
        positive = np.arange(len(scores)) < len(result.positive_scores)
        generator = np.random.default_rng(result.settings["seed"])
        best = cheapest(positive, scores, checked, result.level, int(result.settings["n_resamples"]), generator)
    options = {**result.options, "costs": checked or None}
    weighed = dataclasses.replace(result, costs=checked, cheapest=best, options=options)
    return dataclasses.replace(weighed, summary=describe(weighed), findings=tuple(findings_of(weighed)))


def words_at(result: Evaluation, threshold: float) -> tuple[str, ...]:
    """Return sentences on what a threshold does, and with costs what a row then costs.

    Args:
        result: of two classes with scores.
        threshold: rows with this score or more are given class 1.

    Raises:
        DLStudioError: as `Evaluation.at`.
    """
    point = result.at(threshold)
    counts = {name: f"{count:,}" for name, count in point.counts.items()}
    rates = []
    for name in TOLD:
        value, low, high = point.rates[name]
        if value == value:
            rates.append(f"{percent(value)} {RATES[name][1]} ({span(percent(low), percent(high), point.level)})")
    what = "probability" if result.scores_are_probabilities else "score"
    said = [
        f"From a {what} of {threshold:.2f} on, {result.class_names[1]!r} is said. Of {point.n:,} rows:"
        f" {counts['true_positive']} found, {counts['false_negative']} missed, {counts['false_positive']} false alarms,"
        f" {counts['true_negative']} rightly left.",
        f"That is {'; '.join(rates)}.",
    ]
    if result.costs:
        value, low, high = point.cost
        said.append(f"A row costs {value:.3g} on average ({span(f'{low:.3g}', f'{high:.3g}', point.level)}).")
    return tuple(said)
