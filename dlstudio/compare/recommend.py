"""From a comparison to a decision: constraints first, then evidence, then cost."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from dlstudio.compare.compared import Compared
from dlstudio.compare.pairs import mean_of
from dlstudio.compare.recommendation import Recommendation
from dlstudio.compare.words import listed, number
from dlstudio.errors import DLStudioError, unknown_name
from dlstudio.repetitions import BETTER, EQUIVALENT
from dlstudio.training.directions import direction_of

__all__ = ["recommend"]

COSTS = ("latency_ms", "n_parameters", "peak_mib", "size_mib")
"""What decides where the evidence does not, unless something else is preferred; less is better."""

Limits = dict[str, tuple[float, float]]
Mean = tuple[float, float, float]
"""Of the runs of a variant, with its interval."""
Known = Mapping[str, Mapping[str, Mean]]
"""By variant and quantity."""


def recommend(
    comparison: Compared, constraints: Mapping[str, Any], prefer: str | Sequence[str] | None
) -> Recommendation:
    """See `Comparison.recommend`."""
    c = comparison
    limits = {str(name): _limits(name, limit) for name, limit in constraints.items()}
    costs = COSTS if prefer is None else (prefer,) if isinstance(prefer, str) else tuple(prefer)
    known = _known(c, [*limits, *costs], asked=[*limits, *(() if prefer is None else costs)])
    excluded = {one.name: why for one in c.variants if (why := _broken(known[one.name], limits))}
    for one in c.variants:
        if math.isnan(one.mean):
            excluded.setdefault(one.name, "nothing was measured")
    allowed = [one for one in c.ranked if one.name not in excluded]
    shared: dict[str, Any] = {
        "excluded": tuple(excluded.items()), "constraints": limits,
        "quantities": {
            one.name: {c.metric: one.mean, **{name: part[0] for name, part in known[one.name].items()}}
            for one in c.variants
        },
    }  # fmt: skip
    if not allowed:
        near = "; ".join(f"{name}: {why}" for name, why in list(excluded.items())[:4])
        return Recommendation(
            variant=None, is_shown=False, sentence=f"None can be recommended: none meets every constraint ({near}).",
            would_change=("A wider limit, or a variant that keeps to it, would change this.",), **shared,
        )  # fmt: skip
    top = allowed[0].name
    others = [one.name for one in allowed[1:]]
    open_ = [name for name in others if c.verdict(top, name) != BETTER]
    among = " among those that meet the constraints" if limits else ""
    if not others:
        chosen, shown = top, False
        sentence = f"Ship {top}: it is the only variant{' that meets the constraints' if excluded else ''}."
    elif not open_:
        chosen, shown = top, True
        sentence = f"Ship {top}: it is shown to be better in {c.metric} than {listed(others)}{among}."
    else:
        chosen, shown = _cheapest(c, [top, *open_], known, costs)
        sentence = _undecided(c, chosen, [top, *open_], known, costs, among)
        shown = False
    rest = tuple(name for name in (top, *open_) if name != chosen)
    evidence = [pair.sentence for name in others + [top] if name != chosen and (pair := c.pair(chosen, name))]
    evidence += _close(chosen, known[chosen], limits)
    return Recommendation(
        variant=chosen, is_shown=shown, sentence=sentence, evidence=tuple(evidence),
        would_change=tuple(_changes(c, chosen, rest, excluded)), undecided=rest, **shared,
    )  # fmt: skip


def _limits(name: Any, limit: Any) -> tuple[float, float]:
    low, high = limit if isinstance(limit, tuple | list) and len(limit) == 2 else (None, limit)
    try:
        found = -math.inf if low is None else float(low), math.inf if high is None else float(high)
    except (TypeError, ValueError):
        found = (math.nan, math.nan)
    if not found[0] <= found[1]:
        remedy = "Give the most it may be, or (low, high) with None for no limit."
        raise DLStudioError(f"a limit of {name!r} as a number", f"{limit!r:.80}", remedy)
    return found


def _known(c: Compared, names: Sequence[str], asked: Sequence[str]) -> dict[str, dict[str, Mean]]:
    """What the runs of each variant tell of quantities; those that no run has are an error if they were asked for."""
    values: dict[str, dict[str, list[float]]] = {one.name: {} for one in c.variants}
    every: set[str] = {c.metric}
    for record in c.run_records:
        numbers = {**record["config"], **record["metrics"], **record["measures"]}
        every |= {key for key, value in numbers.items() if type(value) in (int, float)}
        if math.isnan(record["value"]) and c.pairing != "example":
            continue  # left out
        for name in names:
            if type(numbers.get(name)) in (int, float):
                values[record["variant"]].setdefault(name, []).append(float(numbers[name]))
    for name in asked:
        if name not in every:
            raise unknown_name("quantity", name, every)
    found = {}
    for one in c.variants:
        found[one.name] = {name: mean_of(parts, c.level) for name, parts in values[one.name].items()}
        if c.metric in names:
            found[one.name][c.metric] = (one.mean, one.low, one.high)
    return found


def _broken(known: Mapping[str, Mean], limits: Limits) -> str:
    """Why a variant does not meet the constraints; empty where it does."""
    why = []
    for name, (low, high) in limits.items():
        value = known.get(name, (math.nan,))[0]
        if math.isnan(value):
            why.append(f"{name} is unknown")
        elif not low <= value <= high:
            beyond = f"above {number(high)}" if value > high else f"below {number(low)}"
            why.append(f"{name} is {number(value)}, {beyond}")
    return " and ".join(why)


def _cheapest(c: Compared, names: Sequence[str], known: Known, costs: Sequence[str]) -> tuple[str, bool]:
    """The variant that costs least by the first cost that tells; else the one with the best mean."""
    cost = _telling(names, known, costs)
    if cost is None:
        return names[0], False
    return min(names, key=lambda name: _cost(cost) * known[name][cost][0]), True


def _telling(names: Sequence[str], known: Known, costs: Sequence[str]) -> str | None:
    for cost in costs:
        values = [known[name].get(cost, (math.nan,))[0] for name in names]
        if not any(map(math.isnan, values)) and max(values) - min(values) > 1e-9 * max(map(abs, values)):
            return cost
    return None


def _cost(name: str) -> int:
    """-1 where more of it is better."""
    if name in COSTS:
        return 1
    try:
        return -1 if direction_of(name) == "max" else 1
    except DLStudioError:
        return 1


def _undecided(
    c: Compared, chosen: str, names: Sequence[str], known: Known, costs: Sequence[str], among: str
) -> str:  # fmt: skip
    others = [name for name in names if name != chosen]
    all_same = all(c.verdict(chosen, name) == EQUIVALENT for name in others)
    how = "are equivalent" if all_same else "are not told apart"
    cost = _telling(names, known, costs)
    start = f"{listed([chosen, *others])} {how} in {c.metric}{among}."
    if cost is None:
        return f"{start} {chosen} has the best mean, which may be chance: ship it only if either would do."
    more = "most" if _cost(cost) < 0 else "least"
    told = listed(f"{name} {number(known[name][cost][0])}" for name in names)
    return f"{start} Ship {chosen}, which has the {more} {cost} ({told})."


def _close(chosen: str, known: Mapping[str, Mean], limits: Limits) -> list[str]:
    """Constraints that the chosen variant meets on average, but not surely."""
    said = []
    for name, (low, high) in limits.items():
        value, first, last = known[name]
        if (first < low or last > high) and not math.isnan(first):
            said.append(
                f"{chosen} meets the limit of {name} on average ({number(value)}), but the interval of the mean"
                f" ({number(first)} to {number(last)}) reaches beyond it."
            )
    return said


def _changes(c: Compared, chosen: str, rest: Sequence[str], excluded: Mapping[str, str]) -> list[str]:
    said = []
    unit = "rows" if c.pairing == "example" else "seeds"
    for name in rest:
        pair = c.pair(chosen, name)
        if pair is None or pair.verdict == EQUIVALENT:
            continue
        missing = None if pair.n_needed is None else pair.n_needed - min(pair.n, pair.n_reference)
        size = "a difference like the one seen" if c.margin is None else f"a difference of {number(c.margin)}"
        if missing is not None and missing > 0:
            said.append(f"About {missing:,} more {unit} of {chosen} and {name} would show {size}, if there is one.")
    if rest and c.margin is None:
        said.append("A margin, the largest difference that does not matter, could show that they are equivalent.")
    for one in c.ranked:
        if one.name in excluded and c.verdict(one.name, chosen) == BETTER:
            why = excluded[one.name]
            said.append(f"{one.name} is shown to be better in {c.metric} and would be recommended, but {why}.")
    serious = [finding for finding in c.findings if finding.code in ("DLS501", "DLS502", "DLS506")]
    said += [f"First see to this: {finding.sentence}" for finding in serious]
    if c.pairing == "example":
        said.append("More seeds of each: one trained model of each says little about the next training.")
    return said
