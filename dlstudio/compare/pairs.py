"""Every pair of variants, contrasted by what they repeat and judged together."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Sequence
from typing import Any, TypeVar

import numpy as np

from dlstudio.compare.compared import Compared, Pair, Variant
from dlstudio.compare.examples import rows_needed
from dlstudio.compare.words import findings_of, listed, sentence_of
from dlstudio.errors import unknown_name
from dlstudio.repetitions import EQUIVALENT, Contrast, Judged, judge, paired_contrast, resolution, unpaired_contrast
from dlstudio.stats import mean_interval

__all__ = ["chosen_pairs", "concluded", "contrast_seeds", "mean_of", "of_pairing", "with_interval"]

MOST_PAIRS = 1_225
"""All pairs of 50 variants; of more, only those with the best mean are compared."""

_C = TypeVar("_C", bound=Compared)
Chosen = list[tuple[str, str]]


def chosen_pairs(variants: Sequence[Variant], reference: str | None, direction: str) -> tuple[Chosen, int]:
    """Return the (variant, reference) to compare, and how many pairs there are to adjust for.

    Raises:
        DLStudioError: no variant is called `reference`.
    """
    names = [one.name for one in variants]
    if reference is not None:
        if reference not in names:
            raise unknown_name("variant", reference, names)
        found = [(name, reference) for name in names if name != reference]
        return found, len(found)
    n = math.comb(len(names), 2)
    if n <= MOST_PAIRS:
        return [(b, a) for a, b in itertools.combinations(names, 2)], n
    sign = 1 if direction == "max" else -1
    best = max(variants, key=lambda one: -math.inf if math.isnan(one.mean) else sign * one.mean).name
    return [(name, best) for name in names if name != best], n


def contrast_seeds(
    variants: Sequence[Variant], pairs: Chosen, *, level: float, n_comparisons: int, seed: int
) -> list[Contrast]:
    """Contrast variants by their seeds: in pairs of equal ones where two variants share at least two and half of the
    fewer, else as independent repetitions. Which of both rests on seeds alone, not on values.
    """
    by_name = {one.name: one for one in variants}
    by_seed = {one.name: dict(zip(one.seeds, one.values, strict=True)) for one in variants}
    n_open = max(n_comparisons - sum(min(by_name[a].n, by_name[b].n) < 2 for a, b in pairs), 1)
    options: dict[str, Any] = {"level": level, "n_comparisons": n_open, "seed": seed}
    found: list[Contrast | None] = [None] * len(pairs)
    # Problems of one size are one call: a thousand pairs cost little more than one.
    alike: dict[tuple[int, int], list[tuple[int, Any, Any]]] = {}
    for at, (a, b) in enumerate(pairs):
        one, other = by_name[a], by_name[b]
        common = [s for s in one.seeds if s in by_seed[b]]
        if None not in (*one.seeds, *other.seeds) and len(common) >= max(2, min(one.n, other.n) / 2):
            mine, theirs = ([by_seed[name][s] for s in common] for name in (a, b))
            alike.setdefault((len(common), 0), []).append((at, mine, theirs))
        elif one.values and other.values:
            alike.setdefault((one.n, other.n), []).append((at, one.values, other.values))
    for (_, unpaired), problems in alike.items():
        left, right = (np.array([problem[k] for problem in problems], dtype=np.float64) for k in (1, 2))
        step = resolution(np.concatenate([left, right], axis=-1))
        several = (
            unpaired_contrast(left, right, step=step, **options) if unpaired
            else paired_contrast(left - right, step=step, **options)
        )  # fmt: skip
        for place, (at, _, _) in enumerate(problems):
            found[at] = _one(several, place)
    nothing = paired_contrast([0.0])
    empty = dataclasses.replace(nothing, difference=np.asarray(np.nan), n=0, n_other=0)
    return [empty if one is None else one for one in found]


def of_pairing(variants: Sequence[Variant], pairs: Chosen, contrasts: Sequence[Contrast]) -> list[str]:
    """Say which pairs share too few seeds where others are paired, and where shared seeds contradict the means."""
    mean = {one.name: one.mean for one in variants}
    said = []
    apart = [f"{a} with {b}" for (a, b), one in zip(pairs, contrasts, strict=True) if one.test and not one.paired]
    if apart and any(one.paired for one in contrasts):
        said.append(
            f"Compared without pairing seeds, as they share too few: {listed(apart)}. Training these with the same"
            " seeds would show smaller differences."
        )
    for (a, b), one in zip(pairs, contrasts, strict=True):
        if (mean[a] - mean[b]) * float(one.difference) < 0:
            said.append(
                f"Pairs rest on shared seeds only, means on all: {a} less {b} is {float(one.difference):+.4g} on the"
                f" seeds of both, and {mean[a] - mean[b]:+.4g} by their means. Believe the pairs."
            )
            break
    return said


def with_interval(variant: Variant, level: float) -> Variant:
    """Return a variant with the mean of its values and Student's interval."""
    mean, low, high = mean_of(variant.values, level)
    return dataclasses.replace(variant, mean=mean, low=low, high=high, n=len(variant.values))


def mean_of(values: Sequence[float], level: float) -> tuple[float, float, float]:
    """Return the mean of the finite values with Student's interval; NaN where there are too few."""
    known = np.asarray(values, dtype=np.float64)
    known = known[np.isfinite(known)]
    if not len(known):
        return math.nan, math.nan, math.nan
    mean, variance = float(known.mean()), known.var(ddof=1) if len(known) > 1 else math.nan
    low, high = mean_interval(mean, variance, len(known), level)
    return mean, float(low), float(high)


def concluded(
    comparison: _C, pairs: Chosen, contrasts: Sequence[Contrast], n_pairs: int, notes: Sequence[str] = ()
) -> _C:
    """Return a comparison with its pairs judged and in words, and its findings."""
    c = comparison
    direction: Any = c.direction
    # What could not be tested is no hypothesis, and nothing is adjusted for it.
    n_tested = n_pairs - sum(math.isnan(float(one.p_value)) for one in contrasts)
    judged = judge(
        contrasts, direction=direction, level=c.level, margin=c.margin, n_more=n_pairs - len(pairs)
    )  # fmt: skip
    made = []
    for (variant, reference), contrast, one in zip(pairs, contrasts, judged, strict=True):
        pair = _pair(variant, reference, contrast, one)
        if c.pairing == "example":
            needed = rows_needed(contrast, c.margin, c.level, max(n_tested, 1))
            pair = dataclasses.replace(pair, n_needed=needed)
            if c.margin is not None and contrast.error == contrast.difference == 0:  # on no row do they differ
                pair = dataclasses.replace(pair, verdict=EQUIVALENT, p_equivalent=0.0, p_no_worse=0.0)
        made.append(dataclasses.replace(pair, sentence=sentence_of(pair, c, n_tested, float(contrast.least))))
    c = dataclasses.replace(c, comparisons=tuple(made))
    return dataclasses.replace(c, findings=tuple(findings_of(c, n_pairs, notes)))


def _pair(variant: str, reference: str, contrast: Contrast, judged: Judged) -> Pair:
    numbers: dict[str, Any] = {
        name: float(getattr(contrast, name))
        for name in ("difference", "low", "high", "p_value", "effect_size", "effect_low", "effect_high")
    }
    return Pair(
        variant=variant, reference=reference, **numbers, n=contrast.n, n_reference=contrast.n_other, test=contrast.test,
        p_adjusted=judged.p_adjusted, p_equivalent=judged.p_equivalent, p_no_worse=judged.p_no_worse,
        verdict=judged.verdict, n_needed=judged.n_needed,
    )  # fmt: skip


def _one(several: Contrast, place: int) -> Contrast:
    arrays: dict[str, Any] = {
        field.name: np.asarray(value[place])
        for field in dataclasses.fields(several)
        if isinstance(value := getattr(several, field.name), np.ndarray)
    }
    return dataclasses.replace(several, **arrays)
