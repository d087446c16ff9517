"""Plain values to compare: seed values by variant, or what each variant says of the same rows."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from dlstudio.compare.examples import Answers
from dlstudio.compare.metrics import ROW_METRICS, base_name
from dlstudio.compare.variants import plain_seed
from dlstudio.errors import DLStudioError, unknown_name

__all__ = ["OF_ROWS", "Repeated", "answers_of", "repeated", "row_metric"]

Array = npt.NDArray[Any]
Repeated = dict[str, dict[Any, float]]
"""By variant the value of every seed."""

OF_ROWS = ("loss", *(name for several in ROW_METRICS.values() for name in several))
"""Metrics that `row_metric` knows."""
SHAPE = "Pass for instance {'A': [0.81, 0.79], 'B': {0: 0.83, 1: 0.85}}."


def repeated(what: Mapping[Any, Any]) -> tuple[Repeated, list[tuple[str, str]], bool]:
    """Return values by variant and seed, what was left out with why, and whether seeds were named.

    A sequence counts its values as seeds 0, 1, 2, ….

    Raises:
        DLStudioError: there is no variant, or a value is no number.
    """
    if not what:
        raise DLStudioError("at least one variant", "an empty mapping", SHAPE)
    found: Repeated = {}
    left_out: list[tuple[str, str]] = []
    kinds = set()
    for name, values in what.items():
        named = isinstance(values, Mapping)
        kinds.add(named)
        if isinstance(values, str | bytes) or not (named or hasattr(values, "__iter__")):
            raise DLStudioError(f"the values of {str(name)!r} by seed", f"{values!r:.80}", SHAPE)
        items = list(values.items()) if named else list(enumerate(values))
        kept = {}
        if len({plain_seed(seed) for seed, _ in items}) < len(items):
            got = f"{[seed for seed, _ in items]!r:.80}, of which some are the same"
            raise DLStudioError(f"seeds of {str(name)!r} that differ", got, "Give each value a seed of its own.")
        for seed, value in items:
            number = _number(name, value)
            if math.isfinite(number):
                kept[plain_seed(seed)] = number
            else:
                left_out.append((f"{name}, seed {seed}", "NaN" if math.isnan(number) else "infinite"))
        if not items:
            left_out.append((str(name), "no values"))
        found[str(name)] = kept
    if len(found) < len(what):
        raise DLStudioError("variants with names of their own", f"{list(what)!r:.80}", "Rename one of them.")
    if len(kinds) > 1:
        raise DLStudioError("values of all variants in one form", "mappings and sequences mixed", SHAPE)
    return found, left_out, kinds == {True}


def _number(name: Any, value: Any) -> float:
    if isinstance(value, str | bytes | bool) or value is None:
        raise DLStudioError(f"numbers as the values of {str(name)!r}", f"{value!r:.80}", SHAPE)
    try:
        return float(value)
    except (TypeError, ValueError):
        got = f"{type(value).__name__} of shape {np.shape(value)}" if np.shape(value) else f"{value!r:.80}"
        remedy = "One number per seed; for predictions of rows pass y_true as well."
        raise DLStudioError(f"numbers as the values of {str(name)!r}", got, remedy) from None


def answers_of(what: Mapping[Any, Any], y_true: Any, metric: Any) -> tuple[Array, dict[str, Answers]]:
    """Return targets and predictions in one coding, classes as their indices.

    Args:
        what: by variant (n,) classes, probabilities of class 1, or quantities; or (n, classes) probabilities, whose
            columns are the classes 0, 1, 2, … of a numeric `y_true`, or its texts in their order.
        y_true: (n,) classes, or quantities where it holds decimals or the metric is one of quantities, or a function
            and a prediction is no probability.
        metric: the name of one, a function, or None.

    Raises:
        DLStudioError: shapes do not match, a prediction is not finite or no probability, or a class is unknown.
    """
    if not what:
        raise DLStudioError("at least one variant", "an empty mapping", "Pass {'A': scores_a, 'B': scores_b}.")
    target = _plain(y_true)
    if target.ndim != 1 or not len(target):
        raise DLStudioError("y_true of shape (n,)", f"shape {target.shape}", "Pass one target per row.")
    _check_finite("y_true", target)
    of_values = (isinstance(metric, str) and base_name(metric) in ROW_METRICS["value"]) or (
        target.dtype.kind == "f" and not np.array_equal(target, np.round(target))
    )
    given = {str(name): _plain(values) for name, values in what.items()}
    of_values |= callable(metric) and target.dtype.kind != "U" and any(map(_is_quantities, given.values()))
    for name, values in given.items():
        if values.ndim not in (1, 2) or len(values) != len(target):
            remedy = "Pass one prediction per row of y_true, in its order."
            raise DLStudioError(f"{len(target):,} predictions of {name!r}", f"shape {values.shape}", remedy)
        _check_finite(f"predictions of {name!r}", values)
    if of_values:
        for name, values in given.items():
            if values.ndim != 1 or values.dtype.kind not in "fiu":
                got = f"{values.dtype} of shape {values.shape}"
                raise DLStudioError(f"quantities as the predictions of {name!r}", got, "Pass one number per row.")
        return target.astype(np.float64), {key: Answers(y_pred=one.astype(np.float64)) for key, one in given.items()}
    texts = {name for name, one in given.items() if (one.dtype.kind == "U") != (target.dtype.kind == "U")}
    if any(given[name].dtype.kind == "U" or given[name].dtype.kind in "iu" for name in texts):
        got = f"{sorted(texts)[0]!r} of another kind than y_true"
        raise DLStudioError("predictions and targets both as text, or both as numbers", got, "Code both alike.")
    labels = [one for one in given.values() if _is_labels(one, target)]
    if callable(metric) and target.dtype.kind != "U" and len(labels) == len(given):
        # A function may mean the numbers themselves.
        return target.astype(np.int64), {name: Answers(y_pred=one.astype(np.int64)) for name, one in given.items()}
    classes = _classes(np.unique(np.concatenate([target, *labels])), {o.shape[1] for o in given.values() if o.ndim > 1})
    coded = np.searchsorted(classes, target)
    return coded.astype(np.int64), {name: _answers(name, one, classes, target, metric) for name, one in given.items()}


def _classes(seen: Array, widths: set[int]) -> Array:
    """All classes in order: those seen, and those that rows without one of them cannot show."""
    if widths:
        width = max(widths)
        numbers = seen.dtype.kind != "U"
        if len(widths) > 1 or (seen.min() < 0 or seen.max() >= width if numbers else len(seen) != width):
            got = f"{' or '.join(map(str, sorted(widths)))} columns for {', '.join(map(str, seen[:8].tolist()))}"
            remedy = "Columns stand for the classes 0, 1, 2, …, or for all texts in order: code classes by column."
            raise DLStudioError("one probability per class and row", got, remedy)
        return np.arange(width).astype(seen.dtype) if numbers else seen
    if seen.dtype.kind != "U" and set(seen.tolist()) <= {0, 1}:
        return np.array([0, 1]).astype(seen.dtype)
    return seen


def _is_quantities(values: Array) -> bool:
    return values.ndim == 1 and values.dtype.kind == "f" and bool(values.min() < 0 or values.max() > 1)


def _plain(values: Any) -> Array:
    """An array of numbers or of text."""
    found = np.asarray(values)
    if found.dtype.kind == "b":
        return found.astype(np.int64)
    return found if found.dtype.kind in "iuf" else found.astype(np.str_)


def _is_labels(values: Array, target: Array) -> bool:
    if values.ndim != 1:
        return False
    return values.dtype.kind not in "f" or (target.dtype.kind != "U" and bool(np.isin(values, target).all()))


def _answers(name: str, values: Array, classes: Array, target: Array, metric: Any) -> Answers:
    if _is_labels(values, target):
        return Answers(y_pred=np.searchsorted(classes, values).astype(np.int64))
    ranks_only = isinstance(metric, str) and base_name(metric) == "auc"
    if not ranks_only and (values.min() < 0 or values.max() > 1):
        got = f"{values.min():.4g} to {values.max():.4g}"
        remedy = "Apply a sigmoid or softmax to logits first; of quantities, name a metric such as 'mae'."
        raise DLStudioError(f"probabilities of {name!r}", got, remedy)
    if values.ndim == 2:
        return Answers(y_pred=values.argmax(axis=1).astype(np.int64), y_score=values.astype(np.float64))
    if len(classes) != 2:
        remedy = "Pass (n, classes) probabilities, or predicted classes."
        raise DLStudioError(f"probabilities of {len(classes)} classes of {name!r}", f"shape {values.shape}", remedy)
    return Answers(y_pred=(values >= 0.5).astype(np.int64), y_score=values.astype(np.float64))


def _check_finite(what: str, values: Array) -> None:
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        n = int((~np.isfinite(values)).sum())
        remedy = "Leave these rows out of y_true and of all variants."
        raise DLStudioError(f"finite {what}", f"{n:,} that are NaN or infinite", remedy)


def row_metric(metric: str | None, task: str, given: Mapping[str, Answers]) -> str:
    """Return the metric of rows that a name means, or a task's own where there is none.

    Args:
        metric: with or without the part of the data before it; ``loss`` is the log loss, or the squared error.
        task: ``"binary"``, ``"multiclass"`` or ``"regression"``.
        given: predictions by variant.

    Raises:
        DLStudioError: predictions like these have no such metric.
    """
    scored = all(one.y_score is not None for one in given.values())
    groups: Sequence[str] = ("value",) if task == "regression" else ("class", "score") if scored else ("class",)
    known = [name for group in groups for name in ROW_METRICS[group]]
    if metric is None:
        return "mae" if task == "regression" else "auc" if scored else "accuracy"
    name = base_name(metric)
    if name == "loss":
        name = "mse" if task == "regression" else "log_loss"
    if name not in known:
        raise unknown_name("metric of rows", name, known)
    return name
