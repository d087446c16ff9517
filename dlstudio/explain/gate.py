"""The faithfulness gate: from evidence to a verdict, with reasons and remedies."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from dlstudio.explain.methods import Method
from dlstudio.results import SEVERITIES, Finding

__all__ = ["GAP_OK", "GAP_REFUSED", "completeness", "judge", "noise_by_row", "output_range_of", "verdict_of"]

GAP_OK, GAP_REFUSED = 0.01, 0.10
"""Shares of the output range: up to the first an explanation adds up, from the second on it is refused."""
NOISE_OK, NOISE_REFUSED = 0.10, 1.0
"""Standard error over the row's largest |attribution|."""

Array = npt.NDArray[np.float64]


def output_range_of(prediction: Array, baseline_value: Array) -> float:
    """Return the range of the explained output over inputs and references; never 0.

    Where inputs and references give one output, the size of the output stands in, so that rounding is no gap.
    """
    values = np.concatenate([prediction, baseline_value])
    found = float(values.max() - values.min())
    return max(found, 1e-3 * float(np.abs(values).max()), 1e-12)


def noise_by_row(values: Array, errors: Array) -> Array:
    """Return each row's largest standard error as a share of its largest |attribution|.

    Rows in which nothing matters are measured by the attributions of all rows: their noise shows in no picture.
    """
    largest = np.abs(values).reshape(len(values), -1).max(axis=1)
    worst = errors.reshape(len(errors), -1).max(axis=1)
    scale = np.maximum(largest, 0.1 * largest.max())
    return np.where(scale > 0, worst / np.maximum(scale, 1e-300), 0.0)


def verdict_of(findings: Sequence[Finding]) -> str:
    """Return ``"refused"`` with a critical finding, ``"suspect"`` with a warning, ``"ok"`` otherwise."""
    severities = {finding.severity for finding in findings}
    return "refused" if "critical" in severities else "suspect" if "warning" in severities else "ok"


def completeness(method: Method, gaps: Array | None, spread: Array | None, output_range: float) -> list[Finding]:
    """Judge whether attributions add up.

    Args:
        method: which one.
        gaps: of every row, as shares of `output_range`; None where nothing is promised.
        spread: how far off chance may put every row's sum, in output units; None where nothing is random.
        output_range: what gaps are shares of.
    """
    if gaps is None:
        return []
    # A sum that is off by its own random error is noise, up to a limit. Where the error, known from a few repeats only,
    # is small by chance, the average over rows stands in.
    by_chance = np.zeros_like(gaps)
    if spread is not None:
        by_chance = np.maximum(spread, np.sqrt(np.mean(spread**2))) / output_range
    allowed = np.clip(by_chance, GAP_OK, GAP_REFUSED)
    worst = float(np.max(gaps))
    if not math.isfinite(worst):
        return [
            Finding(
                code="DLS401",
                severity="critical",
                sentence="Some attributions are not finite numbers.",
                evidence={"gap": worst},
                remedy="Look for divisions by zero or overflow in the model, or use shapley, which needs no gradients.",
            )
        ]
    if not np.any(gaps > allowed):
        return []
    share = float(np.mean(gaps > allowed))
    remedy = {
        "integrated_gradients": "Raise n_steps, or use shapley if the model jumps.",
        "layer_conductance": "Raise n_steps.",
        "gradient_shap": "Raise n_samples.",
        "shap_gradient": "Raise n_samples.",
        "kernel_shap": "Raise n_samples.",
    }.get(method.name, "Use integrated_gradients or shapley, which depend on no rule for each layer.")
    return [
        Finding(
            code="DLS401",
            severity="critical" if np.any(gaps > np.maximum(GAP_REFUSED, by_chance)) else "warning",
            sentence=(
                f"The attributions do not add up: they miss the change of the output by up to {worst:.1%} of its range"
                f" ({share:.0%} of the rows by more than {GAP_OK:.0%})."
            ),
            evidence={"gap": worst, "share_of_rows": share, "output_range": output_range},
            remedy=remedy,
        )
    ]


def judge(
    method: Method,
    *,
    values: Array,
    errors: Array | None,
    gaps: Array | None,
    spread: Array | None,
    output_range: float,
    noticed: Sequence[Finding],
) -> tuple[Finding, ...]:
    """Put all evidence together, the gravest first.

    Args:
        method: which one.
        values, errors: attributions (n, features) and their standard errors, or None where nothing is random.
        gaps, spread, output_range: see `completeness`.
        noticed: what was found before anything was computed.
    """
    found = list(noticed)
    if not np.isfinite(values).all():
        gaps = np.full(len(values), np.inf) if gaps is None else np.where(np.isfinite(gaps), gaps, np.inf)
        errors = None
    found += completeness(method, gaps, spread, output_range)
    if errors is not None and errors.size:
        worst = float(noise_by_row(values, errors).max())
        if worst > NOISE_OK:
            found.append(
                Finding(
                    code="DLS402",
                    severity="critical" if worst > NOISE_REFUSED else "warning",
                    sentence=(
                        f"Another draw of random numbers would give other attributions: the standard error is up to"
                        f" {worst:.0%} of the largest attribution in its row."
                    ),
                    evidence={"noise": worst},
                    remedy=f"Raise n_samples {max(2, math.ceil((worst / NOISE_OK) ** 2)):,} times"
                    + (", or group features by feature_mask." if method.reference == "background" else "."),
                )
            )
    nothing = ~np.any(values.reshape(len(values), -1) != 0, axis=1)
    if nothing.any():
        gap_says_so = any(finding.code == "DLS401" for finding in found)
        every = bool(nothing.all())
        found.append(
            Finding(
                code="DLS412",
                severity="warning" if every and not gap_says_so and "grad_cam" not in method.name else "info",
                sentence=f"In {int(nothing.sum()):,} of {len(nothing):,} rows every attribution is 0.",
                evidence={"rows": int(nothing.sum())},
                remedy="The row may equal its baseline, the unit be saturated, or the output not depend on the inputs.",
            )
        )
    return tuple(sorted(found, key=lambda finding: SEVERITIES.index(finding.severity), reverse=True))
