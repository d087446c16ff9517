"""A comparison in plain language: what each pair shows, and what has to be known before it is believed."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from dlstudio.compare.compared import Compared, Pair, Variant
from dlstudio.compare.gather import MLFLOW, NEWER, TWICE
from dlstudio.repetitions import BETTER, EQUIVALENT, NOT_ENOUGH, WORSE
from dlstudio.results import Finding
from dlstudio.wording import listed, p_words

__all__ = [
    "findings_of", "is_shown", "listed", "noun", "number", "p_words", "sentence_of", "summary_of", "without_scatter"
]  # fmt: skip

FEW = 4
MOST_SENTENCES = 10


def number(value: float) -> str:
    """Return a value with the digits that people read.

    Example:
        >>> number(0.783214), number(12345.6)
        ('0.7832', '1.235e+04')
    """
    return "unknown" if math.isnan(value) else f"{value:.4g}"


def is_shown(pair: Pair, level: float) -> bool:
    """Return whether a pair is shown to differ at all, be it by too little to matter."""
    return pair.p_adjusted <= 1 - level and pair.difference != 0


def sentence_of(pair: Pair, comparison: Compared, n_tested: int, least: float = 0.0) -> str:
    """Say what a pair shows: the verdict, the numbers it rests on, and what is missing.

    Args:
        pair: judged, without a sentence.
        comparison: that it is of.
        n_tested: pairs that p-values are adjusted for.
        least: the spread that was taken where the values showed less, 0 where they did not.
    """
    c, unit = comparison, "rows" if comparison.pairing == "example" else "seeds"
    a, b, margin = pair.variant, pair.reference, comparison.margin
    within = "" if margin is None else number(margin)
    alpha = f"{100 * c.level:g} %"
    if math.isnan(pair.difference):
        return f"{a} cannot be compared with {b}: {c.metric} was not measured of both."
    rests = f"{pair.difference:+.4g} in {c.metric}"
    if not math.isnan(pair.low):
        alone = " of this pair alone" if n_tested > 1 else ""
        rests += f" ({alpha} interval{alone} {pair.low:+.4g} to {pair.high:+.4g}; {p_words(pair.p_adjusted)}"
        rests += f", adjusted for {n_tested:,} comparisons" if n_tested > 1 else ""
        rests += f"; {_basis(pair, unit)}"
        if least and pair.test != "paired permutation":  # which counts signs
            rests += f", taken to scatter by {number(least)}, as differences so alike say nothing of chance"
        rests += ")"
    if pair.verdict in (BETTER, WORSE):
        return f"{a} is {pair.verdict} than {b}: {rests}."
    if pair.verdict == EQUIVALENT:
        small = f"{a} and {b} are equivalent: they differ by less than {within}, {rests}."
        if is_shown(pair, c.level):
            small += " A difference is shown, but it is too small to matter."
        return small
    more = without_scatter(pair, c) or _more(pair, unit, margin)
    if pair.verdict == NOT_ENOUGH:
        said = f"Not enough data to tell {a} from {b}: {rests}.{more}"
    else:
        said = f"No difference between {a} and {b} is shown: {rests}.{more}"
    if margin is not None and pair.p_no_worse <= 1 - c.level:
        said += f" But {a} is shown to be no worse than {b} by {within} or more."
    return said


def _basis(pair: Pair, unit: str) -> str:
    if unit == "rows":
        return f"{pair.test}, {pair.n:,} rows"
    if pair.test.startswith("paired"):
        return f"{pair.test}, {pair.n} pairs"
    return f"{pair.test}, {pair.n} and {pair.n_reference} {unit}"


def without_scatter(pair: Pair, comparison: Compared) -> str:
    """Say that neither variant's values vary with the seed, as then more seeds are no help; "" where they do."""
    both = [comparison[name] for name in (pair.variant, pair.reference)]
    if comparison.pairing == "example" or any(one.n < 2 or len(set(one.values)) > 1 for one in both):
        return ""
    return " The values of neither vary with the seed, so more seeds would say nothing more: is the seed used?"


def _more(pair: Pair, unit: str, margin: float | None) -> str:
    """What would be needed to see a difference."""
    size = "a difference like the one seen" if margin is None else f"a difference of {number(margin)}"
    least = min(pair.n, pair.n_reference)
    if pair.n_needed is None:
        if math.isnan(pair.p_value) and least < 2:
            return f" At least {2 - least} more {noun(2 - least, unit)} of each would be needed to judge at all."
        if math.isnan(pair.p_value) or (pair.difference == 0 and (margin is None or unit == "rows")):
            return ""
        most = "100 seeds of each" if unit == "seeds" else "10 million rows"
        return f" More than {most} would be needed to show {size}."
    missing = pair.n_needed - least
    if missing <= 0:
        return f" There are enough {unit} to show {size} four times in five; this time it is not shown."
    of_each = " of each" if unit == "seeds" else ""
    return f" About {missing:,} more {noun(missing, unit)}{of_each} would be needed to show {size}."


def noun(n: int, unit: str) -> str:
    """Return what is counted, such as ``"seeds"``, as its number wants it."""
    return unit.removesuffix("s") if n == 1 else unit


def findings_of(comparison: Compared, n_pairs: int, notes: Sequence[str] = ()) -> Iterator[Finding]:
    """Yield what has to be known before the verdicts are believed.

    Args:
        comparison: without findings.
        n_pairs: how many pairs there are, compared or not.
        notes: further sentences on how the comparison was made.
    """
    variants = comparison.variants
    yield from _data(comparison)
    yield from _steps(variants)
    yield from _mixed(variants)
    missing = {one.name: one.missing_seeds for one in variants if one.missing_seeds}
    if missing and comparison.pairing != "example" and any(one.n > 1 for one in variants):
        said = "; ".join(f"{name} lacks {listed(map(str, seeds), 10)}" for name, seeds in list(missing.items())[:FEW])
        rest = f"; so do {len(missing) - FEW} more variants" if len(missing) > FEW else ""
        yield Finding(
            code="DLS503", severity="info", sentence=f"Seeds are missing: {said}{rest}.",
            evidence={name: list(seeds) for name, seeds in missing.items()},
            remedy="Train the variants with these seeds, so that every pair can be compared seed by seed.",
        )  # fmt: skip
    if comparison.left_out:
        records = comparison.run_records
        reasons: dict[str, list[str]] = {}
        for name, why in comparison.left_out:
            reasons.setdefault(why, []).append(name)
        n = len(comparison.left_out)
        said = "; ".join(f"{listed(names)} ({why})" for why, names in list(reasons.items())[: 2 * FEW])
        remedy = ""
        if any(NEWER in why for why in reasons):
            remedy = "Where these are variants of their own, say so: compare({'A': [...], 'B': [...]}), or by=."
        if any(why != TWICE and NEWER not in why for why in reasons):
            remedy = (
                "See whether runs fail or miss the metric more often for one variant than for another: then what is"
                " left flatters it."
            )
        unit = "runs" if not records or any(one["key"] for one in records) else "values"
        yield Finding(
            code="DLS504", severity="warning",
            sentence=f"{n:,} {noun(n, unit)} {'was' if n == 1 else 'were'} left out: {said}.",
            evidence={why: names for why, names in reasons.items()},
            remedy=remedy,
        )  # fmt: skip
    single = [one.name for one in variants if one.n == 1]
    if comparison.pairing == "example":
        yield Finding(
            code="DLS505", severity="info",
            sentence="One trained model of each was compared on the same rows. That says how these models differ on"
            " rows like these; it does not say that training a variant again would give the same, as no seed was"
            " repeated.",
            evidence={"variants": [one.name for one in variants]},
            remedy="Train each variant with several seeds to compare the variants themselves.",
        )  # fmt: skip
    elif single:
        yield Finding(
            code="DLS505", severity="warning",
            sentence=f"{listed(single)} {'has' if len(single) == 1 else 'have'} one seed only: whether another would"
            " give the same is unknown.",
            evidence={"variants": single}, remedy="Train at least two more seeds of each.",
        )  # fmt: skip
    if n_pairs > len(comparison.comparisons):
        yield Finding(
            code="DLS507", severity="info",
            sentence=f"Of {n_pairs:,} pairs only those with the best mean, {comparison.ranked[0].name}, were compared;"
            " p-values are adjusted for all of them.",
            evidence={"n_pairs": n_pairs}, remedy="Name a reference, or compare fewer variants.",
        )  # fmt: skip
    for note in notes:
        yield Finding(code="DLS508", severity="info", sentence=note)


def _data(comparison: Compared) -> Iterator[Finding]:
    records = [one for one in comparison.run_records if not math.isnan(one["value"])]
    part = "fingerprint" if len({one["fingerprint"] for one in records if one["fingerprint"]}) > 1 else "data"
    found: dict[str, list[str]] = {}
    by_seed: dict[tuple[object, bool], set[str]] = {}
    for one in records:
        if one[part]:
            found.setdefault(one[part], []).append(one["variant"])
            by_seed.setdefault((one["seed"], one[part].startswith(MLFLOW)), set()).add(one[part])
    # Every seed may have its own split, as long as all variants share it: then pairs are of the same data.
    unpaired = [one for one in comparison.comparisons if one.test and not one.test.startswith("paired")]
    shared = comparison.pairing == "seed" and not unpaired and all(len(several) == 1 for several in by_seed.values())
    foreign = [data for data in found if data.startswith(MLFLOW)]
    if foreign and len(foreign) < len(found):
        others = listed(dict.fromkeys(name for data in foreign for name in found[data]))
        yield Finding(
            code="DLS508", severity="info",
            sentence=f"Whether {others} saw the same data as the others cannot be told: MLflow knows data by other"
            " fingerprints than dlstudio.",
        )  # fmt: skip
    if max(len(foreign), len(found) - len(foreign)) > 1 and not shared:
        said = "; ".join(
            f"{listed(dict.fromkeys(members))} on {data[:12]}" for data, members in list(found.items())[:FEW]
        )
        more = f"; and {len(found) - FEW} more" if len(found) > FEW else ""
        yield Finding(
            code="DLS501", severity="critical",
            sentence=f"Not comparable: runs were trained on different data or splits: {said}{more}. A difference"
            " between them may be one of the data.",
            evidence={data: list(dict.fromkeys(members)) for data, members in found.items()},
            remedy="Compare runs of the same data, or train them again on one version.",
        )  # fmt: skip


def _steps(variants: Sequence[Variant]) -> Iterator[Finding]:
    known = {one.name: one.n_steps for one in variants if one.n_steps}
    if len({step for steps in known.values() for step in steps}) > 1:
        said = listed(
            f"{name} {steps[0]:,}" + (f" to {steps[-1]:,}" if steps[0] != steps[-1] else "")
            for name, steps in known.items()
        )
        yield Finding(
            code="DLS502", severity="warning", sentence=f"Runs trained for different numbers of steps: {said}.",
            evidence={name: list(steps) for name, steps in known.items()},
            remedy="Where that is not what is compared, train all of them equally long.",
        )  # fmt: skip


def _mixed(variants: Sequence[Variant]) -> Iterator[Finding]:
    mixed = [one for one in variants if one.mixed]
    if mixed:
        said = "; ".join(f"{one.name} in {listed(one.mixed)}" for one in mixed[:FEW])
        yield Finding(
            code="DLS506", severity="warning",
            sentence=f"Runs of one variant differ in more than their seeds: {said}.",
            evidence={one.name: list(one.mixed) for one in mixed},
            remedy="Compare by one of these settings, or give each config a variant of its own.",
        )  # fmt: skip


def summary_of(comparison: Compared) -> tuple[str, ...]:
    """Say what was compared, who is best, every pair, and every finding."""
    c = comparison
    order = "more" if c.direction == "max" else "less"
    means = listed((_of_variant(one, c) for one in c.ranked), 8)
    n = len(c.variants)
    counted = "One variant was" if n == 1 else f"{n:,} variants were"
    first = f"{counted} compared by {c.metric}, of which {order} is better: {means}."
    if c.best is not None:
        first += f" {c.best} is shown to be better than {'the other' if len(c.variants) == 2 else 'every other'}."
    elif len(c.variants) > 1:
        first += " No variant is shown to be better than every other."
    rank = {one.name: place for place, one in enumerate(c.ranked)}
    ordered = sorted(c.comparisons, key=lambda pair: (min(rank[pair.variant], rank[pair.reference]), pair.p_value))
    said = [first, *(pair.sentence for pair in ordered[:MOST_SENTENCES])]
    if len(ordered) > MOST_SENTENCES:
        said.append(f"{len(ordered) - MOST_SENTENCES:,} more pairs are in the table.")
    said += [f"{finding.sentence} {finding.remedy}".rstrip() for finding in c.findings]
    return tuple(said)


def _of_variant(one: Variant, comparison: Compared) -> str:
    ends = "" if math.isnan(one.low) else f", {number(one.low)} to {number(one.high)}"
    n = f"{one.n:,} rows" if comparison.pairing == "example" else f"n = {one.n}"
    return f"{one.name} {number(one.mean)} ({n}{ends})"
