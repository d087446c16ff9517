"""Comparisons as tables of words, the same on every face: heads and cells to be read, none of them escaped yet."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dlstudio.compare.diff_result import RunDiff
from dlstudio.compare.fronts import ParetoFront
from dlstudio.compare.recommendation import Recommendation
from dlstudio.compare.result import Comparison
from dlstudio.compare.words import number, p_words
from dlstudio.summary.words import label

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Rows", "candidates", "differing", "members", "pairs", "variants"]

MOST_ROWS = 200
_NOTHING = "–"


@dataclass(frozen=True, kw_only=True)
class Rows:
    """A table of words.

    Attributes:
        heads: of the columns.
        cells: row by row, at most 200 rows.
        told: what it shows, with what was left out.
    """

    heads: tuple[str, ...]
    cells: tuple[tuple[str, ...], ...]
    told: str

    def frame(self) -> pd.DataFrame:
        """Return the same as a frame of words."""
        import pandas as pd

        return pd.DataFrame(list(self.cells), columns=list(self.heads))


def variants(comparison: Comparison) -> Rows:
    """Every variant: its mean with the interval, how many runs, and the seeds that it lacks; the best mean first."""
    c = comparison
    rows = c.pairing == "example"
    what = label(c.metric)
    cells = [
        (one.name, number(one.mean), _ends(one.low, one.high), f"{one.n:,}")
        + (() if rows else (", ".join(map(str, one.missing_seeds)) or _NOTHING,))
        for one in c.ranked
    ]
    heads = ("Variant", what if rows else f"{what}, mean", f"{100 * c.level:g} % interval", "Rows" if rows else "Runs")
    return _cut(heads + (() if rows else ("Missing seeds",)), cells, "Variants, the best mean first")


def pairs(comparison: Comparison) -> Rows:
    """Every pair: the difference with its interval, the adjusted p-value, the effect size, and the verdict."""
    c = comparison
    cells = [
        (
            one.variant, one.reference, _signed(one.difference), _ends(one.low, one.high, _signed),
            _NOTHING if math.isnan(one.p_adjusted) else p_words(one.p_adjusted).removeprefix("p ").removeprefix("= "),
            f"{one.effect_size:.2f}" if math.isfinite(one.effect_size) else _NOTHING,
            f"{one.n:,}" if one.n == one.n_reference else f"{one.n:,} and {one.n_reference:,}", one.verdict,
        )
        for one in sorted(c.comparisons, key=lambda one: (math.isnan(one.p_adjusted), one.p_adjusted))
    ]  # fmt: skip
    heads = (
        "Variant", "Against", "Difference", f"{100 * c.level:g} % interval", "p, adjusted", "Effect size",
        "Rows" if c.pairing == "example" else "Runs", "The variant is",
    )  # fmt: skip
    return _cut(heads, cells, "Pairs, the clearest first")


def differing(diff: RunDiff) -> Rows:
    """What differs between two runs, from causes to what came of them."""
    a, b = (diff.a, diff.b) if diff.a != diff.b else (diff.a_key, diff.b_key)
    cells = [(section, item, _side(left), _side(right)) for section, item, left, right, differs in diff.rows if differs]
    return _cut(("Part", "Item", a, b), cells, "What differs")


def members(front: ParetoFront) -> Rows:
    """What is on the front first, then the rest with what beats it."""
    frame = front.frame()
    names = list(front.objectives)
    cells = [
        (row["name"], *(number(row[name]) for name in names), "yes" if row["on_front"] else "no",
         row["dominated_by"] or _NOTHING)
        for row in frame.to_dict(orient="records")
    ]  # fmt: skip
    heads = ("Name", *map(label, names), "On the front", "Beaten by")
    return _cut(heads, cells, "All of them, the front first")


def candidates(recommendation: Recommendation) -> Rows:
    """Every variant with what counted, and why those are out that do not meet the limits."""
    r = recommendation
    names = list(dict.fromkeys(name for values in r.quantities.values() for name in values))
    why = dict(r.excluded)
    cells = [
        (variant, *(number(values.get(name, math.nan)) for name in names), _standing(r, variant, why))
        for variant, values in r.quantities.items()
    ]
    return _cut(("Variant", *map(label, names), "Standing"), cells, "What was weighed")


def _standing(r: Recommendation, variant: str, why: dict[str, str]) -> str:
    if variant == r.variant:
        return "recommended"
    if variant in r.undecided:
        return "not told apart from it"
    return f"out: {why[variant]}" if variant in why else "shown to be worse"


def _cut(heads: tuple[str, ...], cells: Iterable[tuple[str, ...]], told: str) -> Rows:
    every = tuple(cells)
    more = f" ({MOST_ROWS:,} of {len(every):,})" if len(every) > MOST_ROWS else ""
    return Rows(heads=_distinct(heads), cells=every[:MOST_ROWS], told=f"{told}{more}.")


def _distinct(heads: Iterable[str]) -> tuple[str, ...]:
    """Heads that a frame can tell apart, whatever runs and metrics are called."""
    found: list[str] = []
    for head in heads:
        same, name = 1, head
        while name in found:
            same, name = same + 1, f"{head} ({same + 1})"
        found.append(name)
    return tuple(found)


def _signed(difference: float) -> str:
    return _NOTHING if math.isnan(difference) else f"{difference:+.4g}"


def _ends(low: float, high: float, show: Any = number) -> str:
    return _NOTHING if math.isnan(low) or math.isnan(high) else f"{show(low)} to {show(high)}"


def _side(item: Any) -> str:
    return _NOTHING if item is None else f"{item:.6g}" if isinstance(item, float) else str(item)
