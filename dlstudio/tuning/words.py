"""What a search says about itself."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dlstudio.results import Finding
from dlstudio.tuning.matters import no_effect_p
from dlstudio.tuning.settings import STOPPED

if TYPE_CHECKING:
    from dlstudio.tuning.result import SearchResult
    from dlstudio.tuning.space import Space
    from dlstudio.tuning.trial_result import TrialResult

__all__ = ["all_failed", "all_lost", "findings_of", "out_of_time", "summary_of", "worker_never_started"]

EDGE = 0.02
"""The best value is at the end of a range when it lies within this share of it."""
FEW = 10


def all_failed(reasons: Sequence[str], *, of_all: bool = False) -> str:
    """Why a search ended whose trials all failed: the first ones, or `of_all` there are."""
    each = list(dict.fromkeys(reason or "no reason was left" for reason in reasons))
    if len(reasons) == 1:
        return f"its only trial failed: {each[0]}"
    same = f"each time: {each[0]}" if len(each) == 1 else f"the last time: {each[-1]}"
    return f"{'all' if of_all else 'the first'} {len(reasons)} trials {'' if of_all else 'all '}failed, {same}"


def out_of_time(n_left: int, n_trials: int) -> str:
    """Why a search ended before its trials were trained."""
    return f"its time was up before {n_left:,} of {n_trials:,} trials had begun"


def all_lost(reason: str) -> str:
    """Why a search ended whose workers are killed again and again."""
    guess = "; does a trial need more memory than there is?" if "SIGKILL" in reason else ""
    return f"one worker after the other ended in the middle of a trial ({reason}){guess}"


def worker_never_started(log: Path) -> str:
    """Why a search ended whose workers do not start."""
    try:
        lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
    except OSError:
        lines = []
    return f"its workers could not start: {lines[-1] if lines else 'they left no message'}"


def params_in_words(params: Any) -> str:
    """Parameters as people write them."""
    return ", ".join(
        f"{name}={value:.4g}" if isinstance(value, float) else f"{name}={value}" for name, value in params.items()
    )


def summary_of(result: SearchResult) -> tuple[str, ...]:
    """Say what a search has found so far."""
    if not result.metrics:
        return ()
    found = [_progress(result)]
    best = result.best
    if best is None:
        infeasible = any(row.state == "complete" for row in result.rows)
        found.append("No trial keeps all constraints so far." if infeasible else "No trial has a value so far.")
    elif len(result.metrics) > 1:
        n = len(result.front)
        metrics = " and ".join(result.metrics)
        found.append(f"{n} trial{'s are' if n != 1 else ' is'} not beaten in {metrics} at once by any other.")
    else:
        found.append(_best(result, best))
    if result.importance:
        found.append(_matters(result))
    return tuple(found)


def _matters(result: SearchResult) -> str:
    name, share = next(iter(result.importance.items()))
    complete = [row for row in result.rows if row.state == "complete" and name in row.params]
    p = no_effect_p([row.params[name] for row in complete], [row.value for row in complete])
    if p * len(result.importance) <= 0.05:
        return f"{name} matters most for {result.metrics[0]}: {share:.0%} of what tells good trials from others."
    return f"No parameter is shown to matter for {result.metrics[0]} so far: shares of importance may be chance."


def _progress(result: SearchResult) -> str:
    counts = {
        state: sum(row.state == state for row in result.rows) for state in ("complete", "pruned", "failed", "running")
    }
    over = counts["complete"] + counts["pruned"] + counts["failed"]
    parts = [f"{n} {state}" for state, n in counts.items() if n]
    return f"{over} of {result.n_trials} trials are over" + (f" ({', '.join(parts)})." if parts else ".")


def _best(result: SearchResult, best: TrialResult) -> str:
    metric = result.metrics[0]
    sentence = f"The best {metric} is {best.value:.4g}, of trial {best.number} with {params_in_words(best.params)}"
    first = result.rows[0]
    if first.is_feasible and first.number != best.number:
        return f"{sentence}; the first trial had {first.value:.4g}."
    return f"{sentence}."


def findings_of(result: SearchResult, space: Space) -> tuple[Finding, ...]:
    """Say what is to be minded about a search; `space` has its ranges as they were set last."""
    found = [_on_test_data(result), _data(result), _epochs(result), _failures(result), *_edges(result, space)]
    found.append(_one_seed(result))
    return tuple(finding for finding in found if finding is not None)


def _on_test_data(result: SearchResult) -> Finding | None:
    tested = [metric for metric in result.metrics if metric.startswith("test/")]
    if not tested:
        return None
    return Finding(
        code="DLS522",
        severity="critical",
        sentence=f"The search chose by {tested[0]}, so the test data no longer say how good the choice is.",
        evidence={"metric": tested[0]},
        remedy=f"Search by {tested[0].replace('test/', 'val/', 1)} and look at the test data once, at the end.",
    )


def _data(result: SearchResult) -> Finding | None:
    by_data: dict[str, list[int]] = {}
    for row in result.rows:
        if row.data and row.values:
            by_data.setdefault(row.data, []).append(row.number)
    if len(by_data) < 2:
        return None
    said = "; ".join(f"{len(numbers)} on {data[:12]}" for data, numbers in list(by_data.items())[:FEW])
    return Finding(
        code="DLS525",
        severity="critical",
        sentence=f"Not comparable: trials were trained on different data or splits: {said}. A difference between them"
        " may be one of the data.",
        evidence={data: tuple(numbers[:20]) for data, numbers in by_data.items()},
        remedy="Start a new search on one version of the data.",
    )


def _epochs(result: SearchResult) -> Finding | None:
    found = sorted({row.params["epochs"] for row in result.rows if row.values and "epochs" in row.params})
    if len(found) < 2:
        return None
    return Finding(
        code="DLS526",
        severity="info",
        sentence=f"Trials trained for {found[0]} to {found[-1]} epochs: one that is better may only be trained longer.",
        evidence={"epochs": tuple(found[:20])},
        remedy="To judge the other values, give all trials the same epochs.",
    )


def _failures(result: SearchResult) -> Finding | None:
    over = [row for row in result.rows if row.state in ("complete", "pruned", "failed")]
    failed = [row for row in over if row.state == "failed" and row.reason != STOPPED]
    if not failed:
        return None
    return Finding(
        code="DLS521",
        severity="warning" if len(failed) > len(over) / 4 else "info",
        sentence=f"{len(failed)} of {len(over)} trials failed, the last one because: {failed[-1].reason}",
        evidence={"failed": len(failed), "over": len(over), "numbers": tuple(row.number for row in failed[:20])},
        remedy="Leave values out of the space that cannot be trained.",
    )


def _edges(result: SearchResult, space: Space) -> list[Finding]:
    best = result.best
    n_over = sum(row.state in ("complete", "pruned") for row in result.rows)
    if best is None or len(result.metrics) > 1 or n_over < FEW:
        return []
    found = []
    for name, axis in space.axes.items():
        value = best.params.get(name)
        if not axis.is_range or value is None or axis.low == axis.high:
            continue
        scale = math.log if getattr(axis.distribution, "log", False) else float
        place = (scale(value) - scale(axis.low)) / (scale(axis.high) - scale(axis.low))
        if min(place, 1 - place) < EDGE:
            end = "lower" if place < 0.5 else "upper"
            found.append(
                Finding(
                    code="DLS523",
                    severity="info",
                    sentence=f"The best {name}, {value:.4g}, is at the {end} end of its range.",
                    evidence={"value": value, "low": axis.low, "high": axis.high},
                    remedy=f"Widen the range of {name}.",
                )
            )
    return found


def _one_seed(result: SearchResult) -> Finding | None:
    n = sum(row.state == "complete" for row in result.rows)
    best = result.best
    if best is None or n < 2 or len(result.metrics) > 1 or "seed" in result.space:
        return None
    return Finding(
        code="DLS524",
        severity="info",
        sentence=(
            f"The best of {n} trials, each of one seed, looks better than it is: among many the luckiest is chosen."
        ),
        evidence={"trials": n, "best": best.value},
        remedy="Train the best trials again over several seeds, and compare them with dlstudio.compare.",
    )
