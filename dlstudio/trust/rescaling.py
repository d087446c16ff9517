"""Better probabilities from those a model gives: temperature, Platt's and isotonic rescaling."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import numpy.typing as npt

from dlstudio.errors import DLStudioError, unknown_name
from dlstudio.results import value
from dlstudio.scoring import every_class

__all__ = ["METHODS", "Rescaling", "fit_rescaling"]

Array = npt.NDArray[np.float64]

METHODS = ("temperature", "platt", "isotonic")
TINY = 1e-12
"""Probabilities nearer to 0 or 1 have no logit of use."""
TEMPERATURES = (1e-2, 1e2)


@value
@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Rescaling:
    """What turns given probabilities into calibrated ones; call it with scores of the same kind as it was fitted on.

    Attributes:
        method: ``"temperature"``, ``"platt"`` or ``"isotonic"``.
        n_rows: rows it was fitted on.
        temperature: what logits are divided by; above 1 the scores were too sure. NaN for the other methods.
        slope, intercept: float64, one a class (of two, class 1 alone): Platt's line through logits; () otherwise.
        knots: one a class: float64 (2, points), scores and what they become, linear in between; () otherwise.

    Example:
        >>> calibrated = result.rescalings["temperature"](y_score)
    """

    method: str
    n_rows: int
    temperature: float = float("nan")
    slope: Array = dataclasses.field(default_factory=lambda: np.zeros(0))
    intercept: Array = dataclasses.field(default_factory=lambda: np.zeros(0))
    knots: tuple[Array, ...] = ()

    def __call__(self, y_score: Any) -> Array:
        """Return calibrated probabilities of the shape of `y_score`, (n,) of class 1 or (n, classes)."""
        scores = np.asarray(y_score, dtype=np.float64)
        if self.method == "temperature":
            return _softened(scores, self.temperature)
        columns = scores[:, None] if scores.ndim == 1 else scores
        n_columns = len(self.slope) if self.method == "platt" else len(self.knots)
        if columns.shape[1] != n_columns:
            raise DLStudioError(
                f"y_score of {n_columns} columns", f"shape {scores.shape}", "Pass scores of the kind it was fitted on."
            )
        if self.method == "platt":
            found = _sigmoid(self.slope * _logit(columns) + self.intercept)
        else:
            found = np.stack([np.interp(columns[:, k], *knots) for k, knots in enumerate(self.knots)], axis=1)
        if scores.ndim == 1:
            return found[:, 0]
        rescaled: Array = found / found.sum(axis=1, keepdims=True)
        return rescaled


def fit_rescaling(method: str, y: npt.NDArray[np.int64], scores: Array) -> Rescaling:
    """Fit one method.

    Args:
        method: one of `METHODS`.
        y: (n,) class indices.
        scores: (n,) probabilities of class 1, or (n, classes).

    Raises:
        DLStudioError: there is no such method, or a class has no rows to learn from.

    References:
        Guo et al., On calibration of modern neural networks (2017); Platt, Probabilistic outputs for support vector
        machines (1999); Zadrozny and Elkan, Transforming classifier scores into accurate multiclass probability
        estimates (2002).
    """
    if method not in METHODS:
        raise unknown_name("fix", method, METHODS)
    classes = np.arange(scores.shape[1]) if scores.ndim == 2 else np.array([1])
    counts = np.bincount(y, minlength=2 if scores.ndim == 1 else len(classes))
    if (counts == 0).any():
        raise DLStudioError(
            "rows of every class to fit on", f"none of class {int(np.argmin(counts))}", "Use more rows."
        )
    if method == "temperature":
        return Rescaling(method=method, n_rows=len(y), temperature=_temperature(y, scores))
    columns = scores[:, None] if scores.ndim == 1 else scores
    each = [((y == label).astype(np.float64), columns[:, k]) for k, label in enumerate(classes)]
    if method == "platt":
        lines = np.array([_platt(happened, _logit(column)) for happened, column in each])
        return Rescaling(method=method, n_rows=len(y), slope=lines[:, 0], intercept=lines[:, 1])
    knots = tuple(_isotonic(happened, column) for happened, column in each)
    return Rescaling(method=method, n_rows=len(y), knots=knots)


def _temperature(y: npt.NDArray[np.int64], scores: Array) -> float:
    from scipy.optimize import minimize_scalar

    logits = np.log(np.maximum(every_class(scores), TINY))
    of_truth = logits[np.arange(len(y)), y]

    def loss(log_temperature: float) -> float:
        scaled = logits / np.exp(log_temperature)
        top = scaled.max(axis=1)
        total = top + np.log(np.exp(scaled - top[:, None]).sum(axis=1))
        return float((total - of_truth / np.exp(log_temperature)).mean())

    # The loss is convex in 1 / temperature: it has one lowest point, wherever the search begins.
    found = minimize_scalar(loss, bounds=np.log(TEMPERATURES), method="bounded", options={"xatol": 1e-6})
    return float(np.exp(found.x))


def _platt(happened: Array, logits: Array) -> tuple[float, float]:
    from scipy.optimize import minimize

    positives, negatives = happened.sum(), (1 - happened).sum()
    # Platt's targets: without them a line that separates all rows would have no finite slope.
    wanted = np.where(happened > 0, (positives + 1) / (positives + 2), 1 / (negatives + 2))

    def loss(line: Array) -> tuple[float, Array]:
        z = line[0] * logits + line[1]
        off = _sigmoid(z) - wanted
        return float((np.logaddexp(0, z) - wanted * z).mean()), np.array([(off * logits).mean(), off.mean()])

    found = minimize(loss, np.array([1.0, 0.0]), jac=True, method="BFGS", options={"gtol": 1e-8})
    return float(found.x[0]), float(found.x[1])


def _isotonic(happened: Array, column: Array) -> Array:
    from sklearn.isotonic import IsotonicRegression

    # No score becomes exactly 0 or 1: so few rows cannot tell that something never happens.
    edge = 1 / (len(happened) + 2)
    fitted = IsotonicRegression(y_min=edge, y_max=1 - edge, out_of_bounds="clip").fit(column, happened)
    return np.stack([fitted.X_thresholds_, fitted.y_thresholds_]).astype(np.float64)


def _softened(scores: Array, temperature: float) -> Array:
    if scores.ndim == 1:
        return _sigmoid(_logit(scores) / temperature)
    scaled = np.log(np.maximum(scores, TINY)) / temperature
    found = np.exp(scaled - scaled.max(axis=1, keepdims=True))
    softened: Array = found / found.sum(axis=1, keepdims=True)
    return softened


def _logit(scores: Array) -> Array:
    inside = np.clip(scores, TINY, 1 - TINY)
    found: Array = np.log(inside) - np.log1p(-inside)
    return found


def _sigmoid(z: Array) -> Array:
    found: Array = np.exp(-np.logaddexp(0, -z))
    return found
