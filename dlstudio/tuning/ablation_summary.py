"""From the runs of a design to the result: estimated, judged and put into words."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from dlstudio import stats
from dlstudio.tuning.ablation_result import CANCELLED, COMPLETE, RUNNING, UNKNOWN, UNTRAINED, WAITING, AblationResult
from dlstudio.tuning.ablation_words import describe, findings_of, sentence
from dlstudio.tuning.designs import Design
from dlstudio.tuning.effects import Judging, estimate

__all__ = ["summarise"]


def summarise(
    *,
    design: Design,
    labels: Sequence[str],
    off: Mapping[str, tuple[str, ...]],
    seeds: Sequence[int],
    runs: Sequence[Mapping[str, Any]],
    metric: str,
    how: Judging,
    **known: Any,
) -> AblationResult:
    """Estimate and put into words what the runs of a design show so far.

    Args:
        design: of the cells.
        labels: of the cells.
        off: by factor, what it is without it, in words.
        seeds: that were planned, in their order.
        runs: ``cell, seed, value, state, run, reason``, and ``data, n_steps, outcome`` where known, of each planned
            run, in any order; runs that ended in the same way have the same outcome.
        metric: that `value` is of.
        how: effects are judged.
        **known: further fields of `AblationResult`.
    """
    values = np.full((design.n_cells, len(seeds)), np.nan)
    pending, spared, untrained = (np.zeros(values.shape, dtype=np.bool_) for _ in range(3))
    outcomes = np.full(values.shape, "", dtype=object)
    place = {seed: i for i, seed in enumerate(seeds)}
    for run in runs:
        at = int(run["cell"]), place[run["seed"]]
        values[at] = run["value"] if run["state"] == COMPLETE else np.nan
        pending[at], spared[at] = run["state"] in (WAITING, RUNNING), run["state"] == CANCELLED
        untrained[at] = run["state"] == UNTRAINED
        outcomes[at] = run.get("outcome") or repr(values[at])
    effects = estimate(design, values, pending, how, spared, untrained, outcomes)
    for row in effects:
        row["without"] = off[row["factor"]][row.pop("off") - 1] if row["kind"] == "main" else ""
        row["sentence"] = sentence(row, metric, how)
    first = ("factor", "without", "kind")
    ordered = [{**{name: row[name] for name in first}, **row} for row in effects]
    result = AblationResult(
        metric=metric, direction=how.direction, design=design, off=off, level=how.level, margin=how.margin,
        sequential=how.sequential,
        tables={
            "effects": _columns(ordered),
            "cells": _columns(_cells(design, labels, off, values, how.level)),
            "runs": _columns([_run(run, labels) for run in runs]),
        },
        **known,
    )  # fmt: skip
    return dataclasses.replace(result, summary=describe(result), findings=tuple(findings_of(result)))


def _run(run: Mapping[str, Any], labels: Sequence[str]) -> dict[str, Any]:
    known = {name: value for name, value in run.items() if name != "outcome"}
    return {"cell": run["cell"], "label": labels[run["cell"]], **UNKNOWN, **known}


def _cells(
    design: Design, labels: Sequence[str], off: Mapping[str, tuple[str, ...]], values: Any, level: float
) -> list[dict[str, Any]]:
    rows = []
    for cell, label in enumerate(labels):
        there = values[cell][np.isfinite(values[cell])]
        mean = float(there.mean()) if len(there) else np.nan
        variance = float(there.var(ddof=1)) if len(there) > 1 else np.nan
        low, high = stats.mean_interval(mean, variance, len(there), level) if len(there) > 1 else (np.nan, np.nan)
        levels = zip(design.factors, design.levels[cell], strict=True)
        parts = {name: off[name][at - 1] if at else "" for name, at in levels}
        rows.append(
            {
                "cell": cell,
                "label": label,
                **parts,
                "n": len(there),
                "mean": mean,
                "low": float(low),
                "high": float(high),
            }
        )
    return rows


def _columns(rows: Sequence[Mapping[str, Any]]) -> dict[str, npt.NDArray[Any]]:
    return {name: np.array([row[name] for row in rows]) for name in (rows[0] if rows else ())}
