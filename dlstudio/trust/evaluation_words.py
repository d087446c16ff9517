"""An evaluation in words, for readers without code."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from dlstudio.results import Finding, records
from dlstudio.trust.evaluation_result import Evaluation
from dlstudio.wording import listed, percent, rows_in, span

__all__ = ["METRICS", "describe", "findings_of"]

METRICS = {
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "precision": "precision",
    "recall": "recall",
    "specificity": "specificity",
    "f1": "F1",
    "auc": "AUC",
    "average_precision": "average precision",
    "log_loss": "log loss",
    "brier": "Brier score",
    "bias": "mean error",
    "mae": "mean absolute error",
    "rmse": "root mean square error",
    "r2": "R²",
}
"""Metrics as people read them."""
SHARES = ("accuracy", "balanced_accuracy", "precision", "recall", "specificity")
LOWER_IS_BETTER = ("log_loss", "brier", "mae", "rmse")
SAID = 4
"""Of more classes only the one found most and the one found least often are told of."""
MIN_CLASS = 10
"""Below this many rows, what is said of a class rests on too few."""


def describe(result: Evaluation) -> tuple[str, ...]:
    """Return plain sentences on what matters most, then on the threshold and the folds."""
    where = rows_in(result.n, result.split, result.data)
    words = _values(result, where) if result.task == "regression" else _classes(result, where)
    if result.cheapest is not None:
        words += _costs(result)
    means = list(records(result.tables.get("cross_validation", {})))
    if means:
        first = next((row for row in means if row["metric"] in ("auc", "r2")), means[0])
        trained = max(row["fold"] for row in records(result.tables.get("folds", {})))
        some = "" if first["n_folds"] == trained else f" of the {first['n_folds']} where it is defined"
        words.append(
            f"Trained {trained} times on other parts of the data, {METRICS[first['metric']]} is "
            f"{first['value']:.3f} on average{some} ({_span(first, result)})."
        )
    if result.n_clusters:
        words.append(
            f"Rows of each of {result.n_clusters:,} clusters may be alike: intervals allow for that, save those of"
            " thresholds and costs."
        )
    if result.n_dropped:
        words.append(_dropped(result))
    return tuple(words)


def findings_of(result: Evaluation) -> list[Finding]:
    """Return what follows from a result."""
    found = []

    def add(code: str, severity: str, sentence: str, remedy: str = "", **evidence: Any) -> None:
        found.append(Finding(code=code, severity=severity, sentence=sentence, evidence=evidence, remedy=remedy))

    metrics = {row["metric"]: row for row in records(result.tables["metrics"])}
    name = "r2" if result.task == "regression" else "auc" if "auc" in metrics else "balanced_accuracy"
    row = metrics[name]
    if math.isfinite(row["low"]) and row["low"] <= row["baseline"]:
        add(
            "DLS320", "warning",
            f"{_first(METRICS[name])} is {row['value']:.3f} ({_span(row, result)}): the model is not shown to be "
            f"better than one that knows nothing of the row ({row['baseline']:.3f}).",
            "Collect more rows to test on, or train a better model.",
            **{key: row[key] for key in ("metric", "value", "low", "high", "baseline", "n")},
        )  # fmt: skip
    if result.task != "regression":
        accuracy, most = metrics["accuracy"], _most_common(result)
        if accuracy["high"] < accuracy["baseline"]:
            add(
                "DLS321", "warning",
                f"Always answering {most!r} would be right more often: {percent(accuracy['baseline'])} against "
                f"{percent(accuracy['value'])} ({_span(accuracy, result, percent)}).",
                "Look at recall and precision of the rarer classes: accuracy alone may not be what matters.",
                accuracy=accuracy["value"], baseline=accuracy["baseline"],
            )  # fmt: skip
        classes = list(records(result.tables["per_class"]))
        if few := [row["class"] for row in classes if 0 < row["n"] < MIN_CLASS]:
            add("DLS322", "info", f"Fewer than {MIN_CLASS} rows are truly {listed(few)}: too few to judge by.",
                "Collect more rows of them.", classes=few)  # fmt: skip
        if none := [row["class"] for row in classes if not row["n"]]:
            add("DLS323", "warning", f"No row is truly {listed(none)}: nothing can be said of them.",
                "Test on rows of every class.", classes=none)  # fmt: skip
        if never := [row["class"] for row in classes if row["n"] >= MIN_CLASS and not row["n_predicted"]]:
            add("DLS324", "warning", f"The model never predicts {listed(never)}.",
                "Weigh the classes in training, or choose another threshold.", classes=never)  # fmt: skip
    elif metrics["bias"]["low"] > 0 or metrics["bias"]["high"] < 0:
        row = metrics["bias"]
        add(
            "DLS325", "warning",
            f"Predictions are too {'high' if row['value'] > 0 else 'low'} on average, by {abs(row['value']):.4g} "
            f"({_span(row, result, _number)}).",
            "Check whether the rows tested on differ from those trained on.",
            **{key: row[key] for key in ("value", "low", "high", "n")},
        )  # fmt: skip
    best = result.cheapest
    if best is not None and best.saving_low > 0:
        add(
            "DLS326", "info", " ".join(_costs(result)), "Check it on fresh rows before using it.",
            threshold=best.threshold, saving=best.saving, low=best.saving_low, high=best.saving_high, n=best.n_held,
        )  # fmt: skip
    if result.tables.get("folds"):
        add("DLS327", "info", "Folds keep the encoding of the inputs that was learnt from the run's own training rows.")
    if result.n_dropped:
        add("DLS328", "info", _dropped(result), n_dropped=result.n_dropped, n=result.n)
    return found


def _classes(result: Evaluation, where: str) -> list[str]:
    metrics = {row["metric"]: row for row in records(result.tables["metrics"])}
    row = metrics["accuracy"]
    words = [
        f"On {where}, {percent(row['value'])} of the predictions are right ({_span(row, result, percent)}); always "
        f"answering {_most_common(result)!r} would be right in {percent(row['baseline'])}."
    ]
    there = (row for row in records(result.tables["per_class"]) if row["n"])
    classes = sorted(there, key=lambda row: -float(row["recall"]))
    for row in classes if len(classes) <= SAID else [classes[0], classes[-1]]:
        limits = {"low": row["recall_low"], "high": row["recall_high"]}
        words.append(
            f"Of {row['n']:,} rows that are {row['class']!r}, {percent(row['recall'])} are found "
            f"({_span(limits, result, percent)})."
        )
    if "auc" in metrics and math.isfinite(metrics["auc"]["value"]):
        row = metrics["auc"]
        pair = "of two rows of different classes" if result.task == "multiclass" else (
            f"of a row that is {result.class_names[1]!r} and one that is not"
        )  # fmt: skip
        words.append(
            f"AUC is {row['value']:.3f} ({_span(row, result)}): {pair}, the model ranks that share of pairs "
            "rightly; 0.5 is chance."
        )
    return words


def _values(result: Evaluation, where: str) -> list[str]:
    metrics = {row["metric"]: row for row in records(result.tables["metrics"])}
    of = f" of {result.target}" if result.target else ""
    mae, r2 = metrics["mae"], metrics["r2"]
    words = [
        f"On {where}, predictions{of} are off by {mae['value']:.4g} on average ({_span(mae, result, _number)}); always "
        f"predicting the median would be off by {mae['baseline']:.4g}."
    ]
    if math.isfinite(r2["value"]):
        words.append(
            f"The model explains {percent(r2['value'])} of the variance ({_span(r2, result, percent)}); predicting the "
            "mean explains none."
        )
    return words


def _costs(result: Evaluation) -> list[str]:
    best = result.cheapest
    assert best is not None
    at = "saying no to every row" if math.isinf(best.threshold) else f"a threshold of {best.threshold:.3f}"
    low, high = (_number(value) if math.isfinite(value) else "none at all" for value in (best.low, best.high))
    costs = ", ".join(f"{name.replace('_', ' ')} {cost:g}" for name, cost in result.costs.items() if cost)
    words = [f"With costs of {costs or 'nothing'}, {at} is cheapest ({span(low, high, result.level)})."]
    if math.isfinite(best.saving_low):
        limits = span(_number(best.saving_low), _number(best.saving_high), result.level)
        words.append(
            f"Chosen on one half of the rows and judged on the {best.n_held:,} others, it saves {_number(best.saving)} "
            f"a row against 0.5 ({limits})."
        )
    return words


def _most_common(result: Evaluation) -> str:
    assert result.confusion is not None
    return result.class_names[int(np.argmax(result.confusion.sum(axis=1)))]


def _span(row: dict[str, Any], result: Evaluation, shown: Any = None) -> str:
    shown = shown or (lambda value: f"{value:.3f}")
    return span(shown(row["low"]), shown(row["high"]), result.level)


def _number(value: float) -> str:
    return f"{value:.4g}"


def _first(words: str) -> str:
    return words[:1].upper() + words[1:]


def _dropped(result: Evaluation) -> str:
    given = result.n + result.n_dropped
    return f"{result.n_dropped:,} of {given:,} rows were left out: a value was missing or infinite."
