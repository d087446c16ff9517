"""Variants, their pairs, and what was found of them: what words and decisions are made from."""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from collections.abc import Mapping
from typing import Any

from dlstudio.errors import unknown_name
from dlstudio.repetitions import BETTER, WORSE
from dlstudio.results import Finding, value

__all__ = ["Compared", "Pair", "Variant"]


@value
@dataclasses.dataclass(frozen=True, kw_only=True)
class Variant:
    """One variant: a config, and its repetitions.

    Attributes:
        name: as `compare` was given it, or as its runs are labelled or differ.
        seeds, values, runs: of each repetition its seed (None where unknown), its value and its run's key ("" for plain
            values), in one order. Of a comparison by rows there is one value.
        mean, low, high: of the values, with Student's interval; of rows, the metric and its interval.
        n: repetitions; of a comparison by rows, the rows.
        config: settings that all its runs share, by name.
        mixed: settings beside the seed in which its runs differ.
        missing_seeds: that another variant has and this one lacks.
        n_steps: of training, the least and the most of its runs; () where unknown.
        fingerprints: of the data its runs were trained on.
    """

    name: str
    seeds: tuple[int | str | None, ...] = ()
    values: tuple[float, ...] = ()
    runs: tuple[str, ...] = ()
    mean: float = math.nan
    low: float = math.nan
    high: float = math.nan
    n: int = 0
    config: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    mixed: tuple[str, ...] = ()
    missing_seeds: tuple[int | str, ...] = ()
    n_steps: tuple[int, ...] = ()
    fingerprints: tuple[str, ...] = ()


@value
@dataclasses.dataclass(frozen=True, kw_only=True)
class Pair:
    """One variant against a reference.

    Attributes:
        variant, reference: their names.
        difference: of the means, variant less reference; low, high: its interval, for this pair alone.
        p_value, p_adjusted: of no difference; by Holm's method over all pairs.
        effect_size, effect_low, effect_high: Hedges' g; for rows, in units of the spread that one row adds.
        n, n_reference: repetitions (or rows) the difference rests on, on either side.
        verdict: *better*, *worse*, *equivalent*, *no difference shown* or *not enough data*, of the variant.
        test: what `p_value` is from.
        p_equivalent, p_no_worse: adjusted p-values of being apart, or worse, by the margin; NaN without a margin.
        n_needed: repetitions of each (or rows) that would show the margin, or the observed difference, with 80 % power;
            None where it is too many or unknown.
        sentence: all this in words.
    """

    variant: str
    reference: str
    difference: float
    low: float
    high: float
    p_value: float
    p_adjusted: float
    effect_size: float
    n: int
    verdict: str
    effect_low: float
    effect_high: float
    n_reference: int
    test: str
    p_equivalent: float
    p_no_worse: float
    n_needed: int | None
    sentence: str = ""


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Compared:
    """Variants that were compared; `dlstudio.compare.result.Comparison` says what each attribute is."""

    metric: str
    direction: str
    level: float
    margin: float | None = None
    pairing: str
    by: str = "variant"
    reference: str | None = None
    value: str = "last"
    variants: tuple[Variant, ...]
    comparisons: tuple[Pair, ...]
    left_out: tuple[tuple[str, str], ...] = ()
    run_records: tuple[Mapping[str, Any], ...] = ()
    findings: tuple[Finding, ...] = ()
    data: str = ""
    split: str = ""
    seed: int = 0

    def __len__(self) -> int:
        return len(self.variants)

    def __getitem__(self, name: str) -> Variant:
        """Return a variant by its name.

        Raises:
            DLStudioError: there is none; the nearest is suggested.
        """
        for variant in self.variants:
            if variant.name == name:
                return variant
        raise unknown_name("variant", name, [variant.name for variant in self.variants])

    @property
    def ranked(self) -> tuple[Variant, ...]:
        """Variants by their means, the best first; an order, not evidence."""
        sign = -1 if self.direction == "max" else 1
        return tuple(sorted(self.variants, key=lambda one: math.inf if math.isnan(one.mean) else sign * one.mean))

    @property
    def best(self) -> str | None:
        """The variant that is shown to be better than every other; None where none is."""
        wins = Counter(better for better, _ in self.decided)
        return next((name for name, n in wins.items() if n == len(self.variants) - 1), None)

    @property
    def decided(self) -> tuple[tuple[str, str], ...]:
        """(better, worse) of every pair that is told apart."""
        return tuple(
            (pair.variant, pair.reference) if pair.verdict == BETTER else (pair.reference, pair.variant)
            for pair in self.comparisons
            if pair.verdict in (BETTER, WORSE)
        )

    def verdict(self, variant: str, reference: str) -> str | None:
        """Return the verdict on one variant against another, whichever way it was compared; None where it was not."""
        pair = self.pair(variant, reference)
        if pair is None:
            return None
        if pair.variant == variant or pair.verdict not in (BETTER, WORSE):
            return pair.verdict
        return WORSE if pair.verdict == BETTER else BETTER

    def pair(self, variant: str, reference: str) -> Pair | None:
        """Return the pair of two variants, in whichever order they were compared; None where they were not."""
        for name in (variant, reference):
            self[name]
        return next((pair for pair in self.comparisons if {pair.variant, pair.reference} == {variant, reference}), None)
