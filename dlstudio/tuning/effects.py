"""From the values of a design's cells, seed by seed, to what each factor does; arrays in, plain rows out."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from dlstudio import stats
from dlstudio.arrangements import least_spread
from dlstudio.repetitions import (
    Contrast,
    Direction,
    equivalence_p,
    paired_contrast,
    repetitions_needed,
    resolution,
    verdict,
)
from dlstudio.tuning.designs import Design, Effect
from dlstudio.tuning.stopping import chance_to_decide, sequential_contrast, sequential_equivalence_p

__all__ = ["DECIDED", "HOPELESS", "OPEN", "SEEN", "STOPPED", "Judging", "adjusted", "estimate", "still_needed"]

Array = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]

OPEN, DECIDED, HOPELESS, SEEN, STOPPED = "open", "decided", "hopeless", "complete", "stopped"
"""How an effect stands: more seeds will tell; shown, or shown not to matter; the seeds left will hardly show it; all
seeds are there; it ended before they were."""
HOPE = 0.1
"""An effect is hopeless below this chance that the seeds that are left decide it."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Judging:
    """How effects are judged.

    Attributes:
        direction: ``"max"`` where more is better.
        level: of confidence, of each interval; of all verdicts of main effects together, and of all of interactions.
        margin: the largest difference that does not matter; None for none.
        sequential: whether one may look and stop at any time; else an effect is judged once, when no seed is left.
    """

    direction: Direction
    level: float = 0.95
    margin: float | None = None
    sequential: bool = False


def estimate(
    design: Design,
    values: Array,
    pending: Flags,
    how: Judging,
    spared: Flags | None = None,
    untrained: Flags | None = None,
    outcomes: npt.NDArray[np.str_] | None = None,
) -> list[dict[str, Any]]:
    """Estimate every effect of a design from the values there are.

    A seed counts for an effect where all cells that the effect weighs have a value of it, because runs of one seed
    belong together; nothing is supposed of how they do.

    Args:
        design: of the cells.
        values: float64 (n_cells, n_seeds), NaN where there is none.
        pending: bool of that shape: a value may still come.
        how: to judge.
        spared: bool of that shape: not trained, because nothing needed it any more.
        untrained: bool of that shape: not trained, because all of it was stopped.
        outcomes: of that shape, what tells runs apart that have the same value; None where nothing does.

    Returns:
        A row per effect: ``factor`` (both, of an interaction), ``off, kind, difference, low, high, p_value, p_adjusted,
        effect_size, n, verdict, mean_with, mean_without, effect_low, effect_high, test, n_needed, p_equivalent, state,
        chance, same, aliases``.
    """
    effects = design.effects()
    families = [[one for one in effects if one.is_main], [one for one in effects if not one.is_main]]
    none = np.zeros(values.shape, dtype=np.bool_)
    left_out = (none if spared is None else spared, none if untrained is None else untrained)
    told = values.astype(str) if outcomes is None else outcomes
    return [row for family in families if family for row in _family(family, values, pending, left_out, told, how)]


def still_needed(design: Design, rows: Sequence[dict[str, Any]]) -> Flags:
    """Return which cells, bool (n_cells,), some main effect that is open weighs; the others need no further seed.

    Args:
        design: of the cells.
        rows: of `estimate`.
    """
    mains = [one for one in design.effects() if one.is_main]
    needed = np.zeros(design.n_cells, dtype=np.bool_)
    for effect, row in zip(mains, rows, strict=False):
        if row["state"] == OPEN:
            needed |= effect.weights != 0
    return needed


@dataclasses.dataclass(kw_only=True)
class _Seen:
    """What there is of one effect."""

    effect: Effect
    differences: Array
    n_left: int
    step: float
    mean_with: float
    mean_without: float
    contrast: Contrast | None
    same: bool


def _family(
    effects: Sequence[Effect],
    values: Array,
    pending: Flags,
    left_out: tuple[Flags, Flags],
    outcomes: npt.NDArray[np.str_],
    how: Judging,
) -> list[dict[str, Any]]:
    """Judge the effects of a family together."""
    n_planned, m = values.shape[1], len(effects)
    seen = [_see(effect, values, pending, outcomes, how, m) for effect in effects]
    judged = [one.contrast is not None and (how.sequential or not one.n_left) for one in seen]
    p = [
        float(one.contrast.p_value) if one.contrast and now else math.nan for one, now in zip(seen, judged, strict=True)
    ]
    same = [_equivalence(one, n_planned, how) if now else math.nan for one, now in zip(seen, judged, strict=True)]
    p_adjusted, p_equivalent = adjusted(p, None if how.margin is None else same)
    rows = []
    for one, now, unlikely, equivalent in zip(seen, judged, p_adjusted, p_equivalent, strict=True):
        said = (
            "not enough data"
            if one.contrast is None or not now
            else verdict(
                one.contrast, unlikely, equivalent, direction=how.direction, level=how.level, margin=how.margin
            )
        )
        rows.append(_row(one, unlikely, equivalent, said, how, m))
    for row in rows:
        row["state"] = DECIDED if row["verdict"] in ("better", "worse", "equivalent") and how.sequential else OPEN
    n_open = max(1, sum(row["state"] == OPEN for row in rows)) if how.margin is None else m  # see `adjusted`
    spared, untrained = left_out
    for one, row in zip(seen, rows, strict=True):
        if row["state"] == DECIDED:
            continue
        if not one.n_left:
            used = one.effect.weights != 0
            given_up = one.effect.is_main and spared[used].any()
            row["state"] = HOPELESS if given_up else STOPPED if untrained[used].any() else SEEN
            row["chance"] = 0.0
        elif how.sequential:
            row["chance"] = chance_to_decide(
                one.differences, n_planned, n_left=one.n_left, step=one.step, level=how.level, n_comparisons=n_open,
                margin=how.margin,
            )  # fmt: skip
            row["state"] = HOPELESS if row["chance"] < HOPE or row["same"] else OPEN
    return rows


def _see(effect: Effect, values: Array, pending: Flags, outcomes: npt.NDArray[np.str_], how: Judging, m: int) -> _Seen:
    used = effect.weights != 0
    there, weights = values[used], effect.weights[used]
    known = np.isfinite(there)
    taken, gone = known.all(axis=0), (~known & ~pending[used]).any(axis=0)
    waits = np.flatnonzero(~taken & ~gone)
    if how.sequential and len(waits):
        taken[waits[0] :] = False  # in the order of the plan: what comes first must not depend on which runs are quick
    columns = there[:, taken]
    differences = weights @ columns
    n_left = int((~gone).sum()) - len(differences)
    # Values of several cells are counted in finer steps together.
    step = float(resolution(columns.ravel())) * math.sqrt((weights**2).sum() / 2) if columns.size else 0.0
    contrast: Contrast | None = None
    if len(differences):
        step = float(least_spread(differences, step))
        if how.sequential:
            contrast = sequential_contrast(differences, values.shape[1], step=step, level=how.level)
        else:
            contrast = paired_contrast(differences, step=step, level=how.level, n_comparisons=m)
    plus, minus = np.maximum(weights, 0), np.maximum(-weights, 0)
    sides = [float(np.mean(side @ columns) / side.sum()) if columns.size else math.nan for side in (plus, minus)]
    return _Seen(
        effect=effect, differences=differences, n_left=n_left, step=step, mean_with=sides[0], mean_without=sides[1],
        contrast=contrast, same=len(differences) > 1 and _same(outcomes[used][:, taken], weights),
    )  # fmt: skip


def _same(outcomes: npt.NDArray[np.str_], weights: Array) -> bool:
    """Whether the runs with a component ended as those without it, seed by seed; a metric alone may be too coarse."""
    return bool((np.sort(outcomes[weights > 0], axis=0) == np.sort(outcomes[weights < 0], axis=0)).all())


def _equivalence(one: _Seen, n_planned: int, how: Judging) -> float:
    if how.margin is None or one.contrast is None:
        return math.nan
    if how.sequential:
        return sequential_equivalence_p(one.differences, n_planned, how.margin, step=one.step)
    return float(equivalence_p(one.contrast, how.margin))


def adjusted(p: Sequence[float], same: Sequence[float] | None = None) -> tuple[list[float], list[float]]:
    """Adjust p-values by Holm's method for all hypotheses together, those without data so far included.

    Args:
        p: that each effect is nothing, NaN without data.
        same: that each is as large as the margin; None without one.

    Returns:
        Both adjusted; NaN where they were, and all of the second without a margin.
    """
    first, other = (np.asarray(one, dtype=np.float64) for one in (p, [math.nan] * len(p) if same is None else same))
    due = [np.where(np.isnan(one), 1.0, one) for one in (first, other)]  # their data are still to come
    both = (stats.holm(due[0]), other) if same is None else stats.holm_of_both(*due)
    rows = [np.where(np.isnan(one), np.nan, found).tolist() for one, found in zip((first, other), both, strict=True)]
    return rows[0], rows[1]


def _row(one: _Seen, adjusted: float, equivalent: float, said: str, how: Judging, m: int) -> dict[str, Any]:
    c, effect = one.contrast, one.effect
    number = {
        name: math.nan if c is None else float(getattr(c, name))
        for name in ("difference", "low", "high", "p_value", "effect_size", "effect_low", "effect_high")
    }
    needed = None if c is None else repetitions_needed(c, how.margin, level=how.level, n_comparisons=m)
    return {
        "factor": " × ".join(effect.factors), "off": effect.off if effect.is_main else 0,
        "kind": "main" if effect.is_main else "interaction",
        "difference": number["difference"], "low": number["low"], "high": number["high"],
        "p_value": number["p_value"], "p_adjusted": adjusted, "effect_size": number["effect_size"],
        "n": len(one.differences), "verdict": said, "mean_with": one.mean_with, "mean_without": one.mean_without,
        "effect_low": number["effect_low"], "effect_high": number["effect_high"],
        "test": "" if c is None else c.test, "n_needed": math.nan if needed is None else float(needed),
        "p_equivalent": equivalent, "state": OPEN, "chance": math.nan,
        "same": one.same,
        "aliases": "; ".join(" × ".join(names) for names in effect.aliases),
    }  # fmt: skip
