"""From a comparison to a decision: constraints first, then evidence, then cost."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from dlstudio.compare.compared import Compared
from dlstudio.compare.pairs import mean_of
from dlstudio.compare.recommendation import Recommendation
from dlstudio.compare.words import is_shown, listed, noun, number, without_scatter
from dlstudio.errors import DLStudioError, unknown_name
from dlstudio.repetitions import BETTER, EQUIVALENT, WORSE
from dlstudio.training.directions import direction_of

__all__ = ["recommend"]

SAME_TIME = 0.1
"""Timings no further apart than by this share are equal: a clock does not repeat itself more exactly."""
COSTS = ("latency_ms", "n_parameters", "peak_mib", "size_mib")
"""What decides where the evidence does not, unless something else is preferred; less is better."""

Limits = dict[str, tuple[float, float]]
Mean = tuple[float, float, float]
"""Of the runs of a variant, with its interval."""
Known = Mapping[str, Mapping[str, Mean]]
"""By variant and quantity."""


def recommend(comparison: Compared, constraints: Any, prefer: str | Sequence[str] | None) -> Recommendation:
    """See `Comparison.recommend`."""
    c = comparison
    if not isinstance(constraints, Mapping):
        got = f"{constraints!r:.80}"
        raise DLStudioError("constraints as a mapping of quantity to limit", got, "Try {'latency_ms': 5}.")
    limits = {str(name): _limits(name, limit, _sign(c, str(name))) for name, limit in constraints.items()}
    costs = _costs(prefer)
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
        none, change = f"{c.metric} was measured of none", f"A value of {c.metric}"
        if limits:
            none, change = f"none meets every constraint ({near})", "A wider limit, or a variant that keeps to it,"
        return Recommendation(
            variant=None, is_shown=False, sentence=f"None can be recommended: {none}.",
            would_change=(f"{change} would change this.",), **shared,
        )  # fmt: skip
    names = [one.name for one in allowed]
    beaten: dict[str, list[str]] = {}
    for better, worse in c.decided:
        if better in names and worse in names:
            beaten.setdefault(worse, []).append(better)
    # Pairs that rest on different seeds can go round in a circle, in which all are beaten: then none is out.
    left = [name for name in names if name not in beaten] or names
    among = " among those that meet the constraints" if limits else ""
    decided = _cheapest(c, left, known, costs)
    chosen = decided.left[0]
    shown = len(names) > 1 and all(chosen in beaten.get(name, ()) for name in names if name != chosen)
    if len(names) == 1:
        only = "" if not excluded else " that meets the constraints" if limits else " that was measured"
        sentence = f"Ship {chosen}: it is the only variant{only}."
    elif shown:
        others = listed(name for name in names if name != chosen)
        sentence = f"Ship {chosen}: it is shown to be better in {c.metric} than {others}{among}."
    elif len(left) == 1:
        sentence = f"Ship {chosen}: of each of the others some variant is shown to be better in {c.metric}{among}."
    else:
        sentence = _undecided(c, decided, left, known, among)
    rest = tuple(name for name in left if name != chosen)
    evidence = [pair.sentence for name in names if name != chosen and (pair := c.pair(chosen, name))]
    out = [(by[0], name) for name, by in beaten.items() if name not in left and chosen not in by]
    evidence += [pair.sentence for one, name in out if (pair := c.pair(one, name))]
    evidence += _close(chosen, known[chosen], limits)
    return Recommendation(
        variant=chosen, is_shown=shown, sentence=sentence, evidence=tuple(evidence),
        would_change=tuple(_changes(c, chosen, rest, excluded)), undecided=rest, **shared,
    )  # fmt: skip


def _costs(prefer: Any) -> tuple[str, ...]:
    costs = COSTS if prefer is None else prefer
    costs = (costs,) if isinstance(costs, str) or not isinstance(costs, Iterable) else tuple(costs)
    if not all(isinstance(one, str) for one in costs):
        raise DLStudioError("names of quantities to prefer", f"{prefer!r:.80}", "Try prefer='latency_ms'.")
    return costs


def _limits(name: Any, limit: Any, sign: int) -> tuple[float, float]:
    """Low and high; a number alone is the least of what should be high (`sign` -1), else the most."""
    alone = (limit, None) if sign < 0 else (None, limit)
    low, high = limit if isinstance(limit, tuple | list) and len(limit) == 2 else alone
    try:
        found = -math.inf if low is None else float(low), math.inf if high is None else float(high)
    except (TypeError, ValueError):
        found = (math.nan, math.nan)
    if not found[0] <= found[1]:
        word = "least" if sign < 0 else "most"
        remedy = f"Give the {word} it may be, or (low, high) with None for no limit."
        raise DLStudioError(f"a limit of {name!r} as a number", f"{limit!r:.80}", remedy)
    return found


def _known(c: Compared, names: Sequence[str], asked: Sequence[str]) -> dict[str, dict[str, Mean]]:
    """What the runs of each variant tell of quantities; those that no run has are an error if they were asked for."""
    values: dict[str, dict[str, list[float]]] = {one.name: {} for one in c.variants}
    every: set[str] = {c.metric}
    for record in c.run_records:
        numbers = {**record["config"], **record["metrics"], **record["measures"]}
        every |= {key for key, value in numbers.items() if type(value) in (int, float)}
        if math.isnan(record["value"]):
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


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Decided:
    """Variants that cost no more than any other, the best mean first; costs that are equal, and those that told."""

    left: list[str]
    equal: list[str]
    told: list[str]


def _cheapest(c: Compared, names: Sequence[str], known: Known, costs: Sequence[str]) -> _Decided:
    """Keep, cost by cost, the variants that cost least, until one is left."""
    left = list(names)
    equal: list[str] = []
    told: list[str] = []
    for cost in costs:
        values = {name: _sign(c, cost) * known[name].get(cost, (math.nan,))[0] for name in left}
        if len(left) == 1 or any(map(math.isnan, values.values())):
            continue
        least, size = min(values.values()), max(map(abs, values.values()))
        near = [name for name in left if values[name] - least <= (SAME_TIME if _is_timing(cost) else 1e-9) * size]
        (equal if len(near) == len(left) else told).append(cost)
        left = near
    return _Decided(left=left, equal=equal, told=told)


def _is_timing(name: str) -> bool:
    """Whether a quantity was measured with a clock, and is another the next time."""
    words = set(re.split(r"[^a-z0-9]+", name.lower()))
    return bool(words & {"ms", "s", "latency", "time", "seconds", "second", "throughput"})


def _sign(c: Compared, name: str) -> int:
    """-1 where more of it is better."""
    if name in COSTS:
        return 1
    try:
        best = c.direction if name == c.metric else direction_of(name)
    except DLStudioError:
        return 1
    return -1 if best == "max" else 1


def _undecided(c: Compared, decided: _Decided, names: Sequence[str], known: Known, among: str) -> str:
    chosen, *rest = decided.left
    others = [name for name in names if name != chosen]
    found = {c.verdict(chosen, name) for name in others}
    how = "are equivalent" if found == {EQUIVALENT} else "are not told apart"
    if found == {None}:
        how = "were not compared with each other"
    elif found & {BETTER, WORSE}:
        how = "beat each other in turn, on the seeds that each two share,"
    said = f"{listed([chosen, *others])} {how} in {c.metric}{among}."

    def numbers(cost: str) -> str:
        return f"{cost} ({listed(f'{name} {number(known[name][cost][0])}' for name in names)})"

    if not decided.told:
        if decided.equal:
            said += f" They are equal in cost, or nearly: {listed(map(numbers, decided.equal))}."
        return f"{said} {chosen} has the best mean, {_by_chance(c, chosen, others)}: ship it only if either would do."
    amount = [f"the {'most' if _sign(c, cost) < 0 else 'least'} {numbers(cost)}" for cost in decided.told]
    if not rest:
        return f"{said} Ship {chosen}, which has {', then '.join(amount)}."
    near = f" Ship {chosen}, which with {listed(rest)} has about {', then '.join(amount)}"
    return f"{said}{near}; of these it has the best mean, {_by_chance(c, chosen, rest)}."


def _by_chance(c: Compared, chosen: str, others: Sequence[str]) -> str:
    """Whether the best mean is more than chance beside others that are not called worse."""

    def is_told(name: str) -> bool:
        pair = c.pair(chosen, name)
        if pair is None or pair.verdict != EQUIVALENT or not is_shown(pair, c.level):
            return False
        return (pair.difference > 0) == ((pair.variant == chosen) == (c.direction == "max"))

    left = [name for name in others if not is_told(name)]
    if not left:
        return "which is shown, but by too little to matter"
    return "which may be chance" + (f" beside {listed(left)}" if len(left) < len(others) else "")


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
        if pair is None:
            said.append(f"{chosen} and {name} were not compared with each other: a comparison of all pairs could tell.")
            continue
        if pair.verdict == EQUIVALENT:
            continue
        if constant := without_scatter(pair, c):
            said.append(f"{chosen} and {name}:{constant}")
            continue
        missing = None if pair.n_needed is None else pair.n_needed - min(pair.n, pair.n_reference)
        size = "a difference like the one seen" if c.margin is None else f"a difference of {number(c.margin)}"
        if missing is not None and missing > 0:
            more = f"About {missing:,} more {noun(missing, unit)} of {chosen} and {name}"
            said.append(f"{more} would show {size}, if there is one.")
    single = [name for name in (chosen, *rest) if c[name].n < 2]
    if rest and single and c.pairing != "example":
        each = "each of " if len(single) > 1 else ""
        said.append(f"At least two more seeds of {each}{listed(single)}: from one alone nothing can be told apart.")
    elif rest and c.margin is None:
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
