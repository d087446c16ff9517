"""What an ablation says, in sentences and findings."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from dlstudio.results import Finding
from dlstudio.tuning.ablation_result import COMPLETE, UNTRAINED, AblationResult
from dlstudio.tuning.effects import HOPELESS, OPEN, Judging

__all__ = ["describe", "findings_of", "never_logged", "said_never_logged", "sentence"]

FEW = 10
_HELPS = {"better": "it helps", "worse": "it hurts", "no difference shown": "no difference is shown"}


def never_logged(metric: str, known: Iterable[str]) -> str:
    """Say that a run has no such metric, and which one was meant."""
    names = sorted(known)
    near = difflib.get_close_matches(metric, names, n=1, cutoff=0.5)
    if near:
        return f"{_never(metric)}; did you mean {near[0]!r}?"
    return f"{_never(metric)}; there is {_joined(names) if names else 'nothing'}."


def said_never_logged(metric: str, runs: Iterable[Mapping[str, Any]]) -> str:
    """Return what `never_logged` said of a finished run, or "" where a run has the metric or none is finished."""
    rows = list(runs)
    if any(row["state"] == "complete" for row in rows):
        return ""
    return next((str(row["reason"]) for row in rows if str(row["reason"]).startswith(_never(metric))), "")


def _never(metric: str) -> str:
    return f"{metric!r} was never logged"


def sentence(row: Mapping[str, Any], metric: str, how: Judging) -> str:
    """Say what one effect is, with its interval and seeds, and what follows."""
    name, n = row["factor"], row["n"]
    if not n:
        return f"{name}: not enough data, as no seed has all the runs it takes."
    if row["kind"] == "interaction":
        one, other = name.split(" × ")
        size, more = 2 * abs(row["difference"]), "more" if row["difference"] > 0 else "less"
        words = f"{one} adds {size:.3g} {more} to {metric} with {other} than without it"
        scale, verdicts = 2, {"better": "together they do better", "worse": "together they do worse"}
    else:
        without = f"without it ({row['without']})"
        if row["same"]:
            return f"With {name}, {metric} is exactly what it is {without}, {_seeds(n)}."
        scale, verdicts = 1, _HELPS
        if row["difference"]:
            more = "higher" if row["difference"] > 0 else "lower"
            words = f"With {name}, {metric} is {abs(row['difference']):.3g} {more} than {without}"
        else:
            words = f"With {name}, {metric} is on average what it is {without}"
    if not math.isnan(row["low"]):
        words += (
            f" ({how.level * 100:g} % interval {scale * row['low']:+.3g} to {scale * row['high']:+.3g}, {_seeds(n)})"
        )
    else:
        words += f" ({_seeds(n)})"
    said = row["verdict"]
    if said == "equivalent":
        assert how.margin is not None
        return f"{words}: a difference of {scale * how.margin:g} or more is ruled out."
    if row["state"] == OPEN and not how.sequential:
        return f"{words}: not judged before its last seed."
    if said == "not enough data":
        return f"{words}: not enough data{_needed(row, how)}."
    return f"{words}: {(_HELPS | verdicts)[said]}."


def _needed(row: Mapping[str, Any], how: Judging) -> str:
    more = row["n_needed"] - row["n"]
    if math.isnan(more):
        return ""
    what = f"a difference of {how.margin:g}" if how.margin is not None else "a difference of this size"
    if more <= 0:
        return ""
    return f"; {more:.0f} more seed{'s' * (more > 1)} would show {what} four times in five"


def _seeds(n: int) -> str:
    return f"{n} seed{'s' * (n != 1)}"


def describe(result: AblationResult) -> tuple[str, ...]:
    """Return plain sentences: how far it is, what matters most, and the rest."""
    runs = result.rows("runs")
    missing = said_never_logged(result.metric, runs)
    if missing:
        n_trained = sum(row["reason"] == missing for row in runs)
        return (missing, f"{n_trained} of {result.n_planned} planned runs had been trained by then.")
    rows = result.rows("effects")
    mains = [row for row in rows if row["kind"] == "main"]
    shown = [row for row in mains if row["verdict"] in ("better", "worse")]
    ordered = sorted(shown, key=lambda row: -abs(row["difference"])) + [row for row in mains if row not in shown]
    others = [row for row in rows if row["kind"] != "main" and row["verdict"] in ("better", "worse", "equivalent")]
    return (_progress(result, mains), *(row["sentence"] for row in ordered + others))


def _progress(result: AblationResult, mains: Sequence[Mapping[str, Any]]) -> str:
    helps = _names(row for row in mains if row["verdict"] == "better")
    hurts = _names(row for row in mains if row["verdict"] == "worse")
    said = "; ".join(f"{names} {verb}{_s(names)}" for names, verb in ((helps, "help"), (hurts, "hurt")) if names)
    done, planned = result.count("complete"), result.n_planned
    over = f"{done} of {planned} runs are done" if not result.is_complete else f"{done} of {planned} planned runs"
    saved = f", {result.n_saved} were not needed" if result.n_saved else ""
    left = f", {result.count(UNTRAINED)} were not trained" if result.count(UNTRAINED) else ""
    waits = not result.sequential and not result.is_complete
    said = said or ("Nothing is judged so far" if waits else "No component is shown to matter")
    return f"{said} ({over}{saved}{left})."


def _s(names: str) -> str:
    return "" if " and " in names else "s"


def _names(rows: Any) -> str:
    names = list(dict.fromkeys(row["factor"] for row in rows))
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def findings_of(result: AblationResult) -> list[Finding]:
    """Return what a reader of the effects has to know."""
    missing = said_never_logged(result.metric, result.rows("runs"))
    if missing:
        remedy = "Start it again with a metric that every run logs."
        evidence = {"metric": result.metric}
        return [Finding(code="DLS564", severity="warning", sentence=missing, evidence=evidence, remedy=remedy)]
    rows = result.rows("effects")
    mains = [row for row in rows if row["kind"] == "main"]
    found = [_effect(row) for row in mains if row["verdict"] in ("better", "worse")]
    mixed = [row for row in rows if row["kind"] != "main" and row["verdict"] in ("better", "worse")]
    found += [_interaction(row) for row in mixed]
    found += (
        _data(result)
        + _steps(result)
        + _unknown(result, mains)
        + _failures(result)
        + _stopped(result)
        + _saved(result, mains)
    )
    found += _aliases(result, mains, mixed)
    same = [row["factor"] for row in mains if row["same"]]
    if same:
        if result.run:
            words = f"Runs with and without {_joined(same)} ended in exactly the same way: it does nothing here."
        else:
            words = f"{result.metric} is exactly the same with and without {_joined(same)}."
        remedy = "See whether it is switched on, and reaches the model."
        found.append(
            Finding(code="DLS566", severity="warning", sentence=words, evidence={"factors": same}, remedy=remedy)
        )
    return found


def _effect(row: Mapping[str, Any]) -> Finding:
    names = ("difference", "low", "high", "p_adjusted", "n")
    hurts = row["verdict"] == "worse"
    return Finding(
        code="DLS561" if hurts else "DLS560",
        severity="warning" if hurts else "info",
        sentence=row["sentence"],
        evidence={name: row[name] for name in names},
        remedy=f"Leave {row['factor']} out." if hurts else "",
    )


def _interaction(row: Mapping[str, Any]) -> Finding:
    one, other = row["factor"].split(" × ")
    aliases = f" It cannot be told from {row['aliases']}." if row["aliases"] else ""
    return Finding(
        code="DLS562",
        severity="warning",
        sentence=f"{row['sentence']}{aliases}",
        evidence={name: row[name] for name in ("difference", "low", "high", "p_adjusted", "n")},
        remedy=f"Do not read the effect of {one} or {other} alone: it depends on the other.",
    )


def _data(result: AblationResult) -> list[Finding]:
    trained = [row for row in result.rows("runs") if row["state"] == COMPLETE and row["data"]]
    by_seed: dict[Any, set[str]] = {}
    for row in trained:
        by_seed.setdefault(row["seed"], set()).add(row["data"])
    if all(len(several) == 1 for several in by_seed.values()):
        return []  # a split of its own for each seed is fair, as effects are differences within seeds
    by_data: dict[str, list[str]] = {}
    for row in trained:
        by_data.setdefault(row["data"], []).append(row["label"])
    said = "; ".join(f"{_joined(list(dict.fromkeys(by_data[data])))} on {data[:12]}" for data in list(by_data)[:FEW])
    return [
        Finding(
            code="DLS569",
            severity="critical",
            sentence=f"Not comparable: runs of one seed were trained on different data or splits: {said}. A difference"
            " between them may be one of the data.",
            evidence={data: tuple(dict.fromkeys(labels)) for data, labels in by_data.items()},
            remedy="Take apart what changes the data, or measure all runs on the same examples.",
        )
    ]


def _steps(result: AblationResult) -> list[Finding]:
    by_label: dict[str, list[int]] = {}
    for row in result.rows("runs"):
        if row["state"] == COMPLETE and row["n_steps"]:
            by_label.setdefault(row["label"], []).append(row["n_steps"])
    if len({n for steps in by_label.values() for n in steps}) < 2:
        return []
    each = [
        f"{label} {min(steps):,}" + (f" to {max(steps):,}" if min(steps) < max(steps) else "")
        for label, steps in by_label.items()
    ]
    return [
        Finding(
            code="DLS570",
            severity="warning",
            sentence=f"Runs trained for different numbers of steps: {_joined(each)}.",
            evidence={label: (min(steps), max(steps)) for label, steps in by_label.items()},
            remedy="Where that is not what is taken out, train all of them equally long.",
        )
    ]


def _unknown(result: AblationResult, mains: Sequence[Mapping[str, Any]]) -> list[Finding]:
    unsure = [row for row in mains if row["verdict"] == "not enough data" and not row["same"]]
    if not unsure or not result.is_complete:
        return []
    needed = [row["n_needed"] for row in unsure if not math.isnan(row["n_needed"])]
    remedy = f"Take {max(needed):.0f} seeds." if needed and max(needed) > unsure[0]["n"] else "Take more seeds."
    names = list(dict.fromkeys(row["factor"] for row in unsure))
    return [
        Finding(
            code="DLS563",
            severity="info",
            sentence=f"Too few seeds to tell what {_joined(names)} {'do' if len(names) > 1 else 'does'}.",
            evidence={row["factor"]: row["n"] for row in unsure},
            remedy=remedy,
        )
    ]


def _failures(result: AblationResult) -> list[Finding]:
    failed = [row for row in result.rows("runs") if row["state"] == "failed"]
    if not failed:
        return []
    labels = list(dict.fromkeys(row["label"] for row in failed))
    words = (
        f"{len(failed)} of {result.n_planned} runs have no value of {result.metric} ({_joined(labels)}; the last one"
        f" because: {failed[-1]['reason'] or 'no reason was left'}). Their seeds are left out of the effects that need"
        " them."
    )
    remedy = "A component whose runs fail without it matters, whatever the table says."
    return [
        Finding(
            code="DLS564",
            severity="warning",
            sentence=words,
            evidence={"runs": [f"{row['label']}, seed {row['seed']}" for row in failed[:20]]},
            remedy=remedy,
        )
    ]


def _stopped(result: AblationResult) -> list[Finding]:
    left = result.count(UNTRAINED)
    if not left:
        return []
    return [
        Finding(
            code="DLS568",
            severity="warning",
            sentence=f"It ended before {left} of {result.n_planned} runs were trained.",
            evidence={"not trained": left},
            remedy=f"Continue it with dlstudio.ablate(resume={result.name!r}).",
        )
    ]


def _saved(result: AblationResult, mains: Sequence[Mapping[str, Any]]) -> list[Finding]:
    if not result.n_saved:
        return []
    hopeless = [row["factor"] for row in mains if row["state"] == HOPELESS]
    why = f" For {_joined(hopeless)} the seeds left would hardly have told." if hopeless else ""
    return [
        Finding(
            code="DLS565",
            severity="info",
            sentence=f"{result.n_saved} of {result.n_planned} runs were not needed.{why}",
            evidence={"saved": result.n_saved, "hopeless": hopeless},
        )
    ]


def _aliases(
    result: AblationResult, mains: Sequence[Mapping[str, Any]], mixed: Sequence[Mapping[str, Any]]
) -> list[Finding]:
    if result.design.kind != "fractional":
        return []
    words = (
        f"The design is a fraction of resolution {result.design.resolution}: main effects hold as long as three"
        " components together do nothing that fewer of them do not."
    )
    evidence = {row["factor"]: row["aliases"] for row in [*mains, *mixed] if row["aliases"]}
    return [Finding(code="DLS567", severity="info", sentence=words, evidence=evidence)]


def _joined(names: Sequence[str]) -> str:
    shown = list(names[:4]) + ([f"{len(names) - 4} more"] if len(names) > 4 else [])
    return " and ".join([", ".join(shown[:-1]), shown[-1]] if len(shown) > 1 else shown)
