"""Plain values to compare: seed values by variant, or what each variant says of the same rows."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from dlstudio.compare.examples import Answers
from dlstudio.compare.given import are_labelled, pairs_of
from dlstudio.compare.metrics import ROW_METRICS, base_name
from dlstudio.compare.variants import plain_seed
from dlstudio.data.tasks import sum_to_one
from dlstudio.data.values import as_array, in_one_order
from dlstudio.errors import DLStudioError, unknown_name
from dlstudio.wording import listed

__all__ = ["OF_ROWS", "Repeated", "answers_of", "of_scores", "repeated", "row_metric"]

Array = npt.NDArray[Any]
Repeated = dict[str, dict[Any, float]]
"""By variant the value of every seed."""

OF_ROWS = ("loss", *(name for several in ROW_METRICS.values() for name in several))
"""Metrics that `row_metric` knows."""
SHAPE = "Pass for instance {'A': [0.81, 0.79], 'B': {0: 0.83, 1: 0.85}}."


def repeated(what: Mapping[Any, Any]) -> tuple[Repeated, list[tuple[str, str]], bool]:
    """Return values by variant and seed, what was left out with why, and whether seeds were named.

    A sequence counts its values as seeds 0, 1, 2, …; a Series names them by its index, if that is its own.

    Raises:
        DLStudioError: there is no variant, or a value is no number.
    """
    if not what:
        raise DLStudioError("at least one variant", "an empty mapping", SHAPE)
    found: Repeated = {}
    left_out: list[tuple[str, str]] = []
    kinds = set()
    labelled = are_labelled(what) or any(isinstance(values, Mapping) for values in what.values())
    for name, values in what.items():
        pairs = pairs_of(values, labelled)
        kinds.add(pairs is not None)
        if isinstance(values, str | bytes) or not (pairs is not None or hasattr(values, "__iter__")):
            raise DLStudioError(f"the values of {str(name)!r} by seed", f"{values!r:.80}", SHAPE)
        items: list[tuple[Any, Any]] = list(enumerate(values)) if pairs is None else pairs
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
    value = as_array(value)[()] if hasattr(value, "requires_grad") else value
    if isinstance(value, str | bytes | bool | np.bool_) or value is None or np.iscomplexobj(value):
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
            columns are the classes 0, 1, 2, … of a numeric `y_true`, or its texts in their order. Floats that are all 0
            or 1 are probabilities where the metric needs some, or another variant gave some; else classes. What has an
            index, as `y_true` has, is put in its order.
        y_true: (n,) classes, or quantities where it holds decimals or the metric is one of quantities, or a function
            and a prediction is no probability.
        metric: the name of one, a function, or None.

    Raises:
        DLStudioError: shapes or rows do not match, a prediction is not finite or no probability, or a class is
            unknown.
    """
    if not what:
        raise DLStudioError("at least one variant", "an empty mapping", "Pass {'A': scores_a, 'B': scores_b}.")
    y_true, predictions = in_one_order(y_true=y_true, predictions=what)
    target = _plain("y_true", y_true)
    if target.ndim != 1 or not len(target):
        raise DLStudioError("y_true of shape (n,)", f"shape {target.shape}", "Pass one target per row.")
    _check_finite("y_true", target)
    of_values = (isinstance(metric, str) and base_name(metric) in ROW_METRICS["value"]) or (
        target.dtype.kind == "f" and not np.array_equal(target, np.round(target))
    )
    given = {str(name): _plain(repr(str(name)), values) for name, values in predictions.items()}
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
    labels = _labels(given, target, metric)
    if callable(metric) and target.dtype.kind != "U" and len(labels) == len(given):
        # A function may mean the numbers themselves.
        return target.astype(np.int64), {name: Answers(y_pred=one.astype(np.int64)) for name, one in given.items()}
    seen = np.unique(np.concatenate([target, *labels.values()]))
    classes = _classes(seen, {one.shape[1] for one in given.values() if one.ndim > 1})
    answers = {name: Answers(y_pred=np.searchsorted(classes, one).astype(np.int64)) for name, one in labels.items()}
    answers = {name: answers.get(name) or _scored(name, one, len(classes), metric) for name, one in given.items()}
    return np.searchsorted(classes, target).astype(np.int64), answers


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
    if _binary(seen):
        return np.array([0, 1]).astype(seen.dtype)
    return seen


def _is_quantities(values: Array) -> bool:
    return values.ndim == 1 and values.dtype.kind == "f" and bool(values.min() < 0 or values.max() > 1)


def _plain(what: str, values: Any) -> Array:
    """An array of numbers or of text."""
    found = as_array(values)
    if found.dtype.kind == "c":
        raise DLStudioError(f"real numbers in {what}", "complex ones", "Pass what is meant of them, such as .real.")
    if found.dtype.kind == "b":
        return found.astype(np.int64)
    return found if found.dtype.kind in "iuf" else found.astype(np.str_)


def _labels(given: Mapping[str, Array], target: Array, metric: Any) -> dict[str, Array]:
    """Those of the predictions that are classes."""

    def are_classes(values: Array) -> bool:
        whole = values.dtype.kind != "f" or (target.dtype.kind != "U" and bool(np.isin(values, target).all()))
        return values.ndim == 1 and whole

    found = {name: one for name, one in given.items() if are_classes(one)}
    wanted = isinstance(metric, str) and base_name(metric) in ("loss", *ROW_METRICS["score"])
    if _binary(target) and (wanted or len(found) < len(given)):
        # A fully grown tree gives probabilities that are all exactly 0 or 1.
        found = {name: one for name, one in found.items() if one.dtype.kind != "f"}
    return found


def _scored(name: str, values: Array, n_classes: int, metric: Any) -> Answers:
    ranks_only = isinstance(metric, str) and base_name(metric) == "auc"
    if not (ranks_only and values.ndim == 1) and (values.min() < 0 or values.max() > 1):
        got = f"{values.min():.4g} to {values.max():.4g}"
        remedy = "Apply a sigmoid or softmax to logits first; of quantities, name a metric such as 'mae'."
        raise DLStudioError(f"probabilities of {name!r}", got, remedy)
    if values.ndim == 2:
        try:
            sum_to_one(values)
        except DLStudioError as error:
            raise DLStudioError(f"{error.expected} of {name!r}", error.got, error.remedy) from None
        return Answers(y_pred=values.argmax(axis=1).astype(np.int64), y_score=values.astype(np.float64))
    if n_classes != 2:
        remedy = "Pass (n, classes) probabilities, or predicted classes."
        raise DLStudioError(f"probabilities of {n_classes} classes of {name!r}", f"shape {values.shape}", remedy)
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
    if name in ROW_METRICS["score"] and groups == ("class",):
        without = listed(key for key, one in given.items() if one.y_score is None)
        remedy = "Pass probabilities, or name a metric of classes, such as 'accuracy'."
        raise DLStudioError(f"probabilities of {without} for {name}", "none", remedy)
    if name not in known:
        raise unknown_name("metric of rows", name, known)
    return name


def of_scores(what: Mapping[Any, Any], given: Mapping[str, Answers]) -> list[str]:
    """Say which probabilities do not count where no metric was named, or what may be some and was taken for classes."""
    scored = [name for name, one in given.items() if one.y_score is not None]
    if scored:
        others = [name for name in given if name not in scored]
        said = f"{listed(scored)} gave probabilities, but {listed(others)} only classes: all were compared by classes."
        return [said] if others else []
    plain = {str(name): _plain(str(name), one) for name, one in what.items()}
    floats = [name for name, one in plain.items() if one.dtype.kind == "f" and _binary(one)]
    said = f"Only 0.0 and 1.0 are in {listed(floats)}, which were taken for classes: where they are probabilities, name"
    return [f"{said} a metric of these, such as 'auc'."] if floats else []


def _binary(values: Array) -> bool:
    return values.dtype.kind != "U" and bool(np.isin(values, (0, 1)).all())
