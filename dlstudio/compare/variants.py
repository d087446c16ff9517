"""Which runs repeat one variant: by a label, a setting, or whatever differs between configs beside the seed."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from dlstudio.compare.compared import Variant
from dlstudio.compare.gather import Gathered, names_of
from dlstudio.errors import unknown_name

__all__ = [
    "Group", "group", "in_order", "joined", "labelled", "plain_seed", "record_of", "repetitions_of", "seed_of",
    "variant_of",
]  # fmt: skip

SEEDS = ("seed", "random_seed", "random_state", "seed_everything", "data_seed")
ABOUT = (
    *SEEDS, "name", "variant", "run_name", "device", "devices", "watch_every", "output_dir", "logging_dir", "n_jobs",
    "verbose", "num_workers",
)  # fmt: skip
"""Settings that say how a run is called, where it runs or how it is watched: no variant differs by them alone."""
FIRST = ("estimator_name", "model", "data", "optimizer", "lr")
"""What names a variant best, where it differs."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Group:
    """Runs of one variant; `mixed` are settings beside the seed in which they differ, as a label can hide."""

    name: str
    runs: tuple[Gathered, ...]
    mixed: tuple[str, ...] = ()


def group(runs: Sequence[Gathered], by: str | None = None) -> list[Group]:
    """Group runs into variants, in the order in which they first appear.

    Args:
        runs: to group.
        by: the name of a setting (also as ``"config.lr"``) or a tag; None or ``"variant"`` for the label `variant` of
            the recipe, and for runs without one, for the settings in which they differ (seeds and the like aside).

    Raises:
        DLStudioError: no run has a setting or tag of that name.

    Example:
        >>> [g.name for g in group(runs, by="lr")]
        ['lr=0.001', 'lr=0.01']
    """
    known = {*names_of(runs, "config"), *names_of(runs, "tags"), "variant", "example", "run"}
    by = _setting(by, known)
    if by in (None, "variant"):
        labels = _labels(runs)
    else:
        if by == "run":
            names = [run.name for run in runs]
            labels = [run.name if names.count(run.name) == 1 else run.key for run in runs]
        elif by not in known:
            raise unknown_name("setting or tag", by, known)
        else:
            labels = [_label(run, by) for run in runs]
    members: dict[str, list[Gathered]] = {}
    for label, run in zip(labels, runs, strict=True):
        members.setdefault(label, []).append(run)
    return labelled(members, by)


def labelled(members: Mapping[str, Sequence[Gathered]], by: str | None = None) -> list[Group]:
    """Return variants of the runs that are given by name, with the settings beside the seed and `by` that they mix."""
    return [
        Group(name=name, runs=tuple(found), mixed=tuple(k for k in _differing(found) if k != by))
        for name, found in members.items()
    ]


def joined(groups: Sequence[Group], runs: Sequence[Gathered], by: str | None) -> list[Group]:
    """Return the groups, each with those of further runs that bear its label; the others of them name no variant."""
    more: dict[str, list[Gathered]] = {}
    for run in runs:
        given = run.tags.get("variant") or run.config.get("variant")
        by = _setting(by, {*run.config, *run.tags})
        more.setdefault(str(given) if by in (None, "variant") else _label(run, str(by)), []).append(run)
    return [dataclasses.replace(one, runs=(*one.runs, *more.get(one.name, ()))) for one in groups]


def _setting(by: str | None, known: Collection[str]) -> str | None:
    """A setting by its own name, where it was called as in the frame of runs."""
    own = (by or "").removeprefix("config.")
    return own if by not in known and own in known else by


def _label(run: Gathered, by: str) -> str:
    return f"{by}={_short(run.config.get(by, run.tags.get(by)))}"


def seed_of(run: Gathered) -> int | str | None:
    """Return the seed of a run, as a whole number where it is one; None where none was logged."""
    for name in SEEDS:
        value = run.config.get(name, run.tags.get(name))
        if value is not None and str(value) not in ("", "None"):
            return plain_seed(value)
    return None


def plain_seed(seed: Any) -> int | str:
    """Return a seed as the whole number that it is or spells, and as text where it is none.

    Example:
        >>> plain_seed("3"), plain_seed(3.0), plain_seed(0.3)
        (3, 3, '0.3')
    """
    try:
        number = int(seed)
    except (TypeError, ValueError, OverflowError):
        return str(seed)
    return number if number == seed or str(number) == str(seed) else str(seed)


def repetitions_of(groups: Sequence[Group]) -> dict[str, int | str | None]:
    """Return what each run repeats, by its key: its seed, as equal ones are paired.

    Where a variant has several runs of one seed that differ in other settings, as in a grid, each combination of these
    settings and a seed is a repetition of its own.
    """
    found = {run.key: seed_of(run) for one in groups for run in one.runs}
    several = sorted({name for one in groups for name in one.mixed if _repeats(one)})
    if not several:
        return found
    return {
        run.key: None if (seed := found[run.key]) is None
        else ", ".join([f"seed {seed}", *(f"{name}={_short(run.config.get(name))}" for name in several)])
        for one in groups for run in one.runs
    }  # fmt: skip


def in_order(seeds: Iterable[int | str]) -> list[int | str]:
    """Return each seed once: numbers by their size, then texts."""
    return sorted(set(seeds), key=lambda seed: (isinstance(seed, str), seed if isinstance(seed, int) else 0, str(seed)))


def variant_of(
    one: Group, values: Mapping[str, float], repeats: Mapping[str, int | str | None], every: Sequence[int | str]
) -> Variant:
    """Return the variant of a group whose runs all have a value; of `every` seed it names those that it lacks."""
    seeds = tuple(repeats[run.key] for run in one.runs)
    shared = {}
    if one.runs:
        first = one.runs[0].config
        shared = {name: v for name, v in first.items() if all(run.config.get(name) == v for run in one.runs[1:])}
    steps = sorted({run.n_steps for run in one.runs if run.n_steps is not None})
    return Variant(
        name=one.name, seeds=seeds, values=tuple(values[run.key] for run in one.runs),
        runs=tuple(run.key for run in one.runs), n=len(one.runs), config=shared, mixed=one.mixed,
        missing_seeds=tuple(seed for seed in every if seed not in seeds), n_steps=tuple(steps),
        fingerprints=tuple(sorted({run.fingerprint for run in one.runs if run.fingerprint})),
    )  # fmt: skip


def record_of(variant: str, run: Gathered, seed: int | str | None, value: float) -> dict[str, Any]:
    """Return what a comparison keeps of a run."""
    return {
        "name": run.name, "key": run.key, "variant": variant, "seed": seed, "status": run.status,
        "value": value, "config": dict(run.config), "metrics": dict(run.metrics), "measures": dict(run.measures),
        "data": run.data, "fingerprint": run.fingerprint,
    }  # fmt: skip


def _repeats(one: Group) -> bool:
    seeds = [seed for run in one.runs if (seed := seed_of(run)) is not None]
    return len(set(seeds)) < len(seeds)


def _labels(runs: Sequence[Gathered]) -> list[str]:
    given = [run.tags.get("variant") or run.config.get("variant") for run in runs]
    unnamed = [run for run, label in zip(runs, given, strict=True) if not label]
    made = iter(_by_settings(unnamed))
    return [str(label) if label else next(made) for label in given]


def _by_settings(runs: Sequence[Gathered]) -> list[str]:
    """Name runs by the fewest settings that tell apart all whose settings differ."""
    if not runs:
        return []
    differing = _differing(runs)
    differing.sort(key=lambda name: FIRST.index(name) if name in FIRST else len(FIRST))
    signatures = [tuple(_short(run.config.get(name)) for name in differing) for run in runs]
    chosen: list[int] = []
    told, wanted = 1, len(set(signatures))
    while told < wanted:
        for at in range(len(differing)):
            apart = len({tuple(signature[k] for k in (*chosen, at)) for signature in signatures})
            if apart > told:
                chosen.append(at)
                told = apart
                break
    if not chosen:
        known = [str(runs[0].config[name]) for name in FIRST[:3] if runs[0].config.get(name)]
        return ["-".join(dict.fromkeys(known)) or "all runs"] * len(runs)
    full = [", ".join(f"{differing[k]}={signature[k]}" for k in chosen) for signature in signatures]
    short = [_said([(differing[k], signature[k]) for k in chosen]) for signature in signatures]
    return short if len(set(short)) == len(set(full)) else full


def _said(parts: Sequence[tuple[str, str]]) -> str:
    """What a run has of the settings that tell variants apart: models by their names alone."""
    there = [value if name in FIRST[:2] else f"{name}={value}" for name, value in parts if value != "None"]
    return ", ".join(there) or f"no {parts[0][0]}"


def _differing(runs: Sequence[Gathered]) -> list[str]:
    found = []
    for name in names_of(runs, "config"):
        if name.rsplit(".", 1)[-1] not in ABOUT and len({_short(run.config.get(name)) for run in runs}) > 1:
            found.append(name)
    return found


def _short(value: Any) -> str:
    text = f"{value:g}" if isinstance(value, float) else str(value)
    return text if len(text) <= 40 else text[:39] + "…"
