"""What saved results of a run know of its model: its calibration, its largest gaps, its worst value under strain."""

from __future__ import annotations

import functools
import math
from pathlib import Path
from typing import Any

from dlstudio.results import Result
from dlstudio.runs.folder import RunFolder
from dlstudio.runs.kept import kept
from dlstudio.runs.run import Run

__all__ = ["found_of"]

RESULTS = ("calibration", "fairness", "robustness")
WEIGHTS = ("checkpoints/best.pt", "results/predictions.npz")


def found_of(folder: Path) -> dict[str, float]:
    """Return by name what the latest results say that were saved with a run, as far as they are of its model as it is.

    ``calibration_error``; the largest gaps of an audit, such as ``demographic_parity_difference``; the worst
    ``robust_accuracy`` of the strengths tried.

    Example:
        >>> found_of(run.folder)["calibration_error"]
        0.031
    """
    paths = [path for name in RESULTS if (path := folder / "results" / f"{name}.json").exists()]
    if not paths:
        return {}
    paths += [path for part in WEIGHTS if (path := folder / part).exists()]
    return dict(_read(folder, tuple((path, path.stat().st_mtime_ns) for path in paths)))


@functools.lru_cache(maxsize=10_000)
def _read(folder: Path, stamps: tuple[tuple[Path, int], ...]) -> dict[str, float]:
    """Read by what the results have, so that this room needs none of theirs; `stamps` say when to read anew."""
    run = Run(RunFolder(folder))
    found: dict[str, float] = {}
    calibration: Any = kept(run, "calibration", Result)
    if calibration is not None:
        found["calibration_error"] = float(calibration.ece)
    audit: Any = kept(run, "fairness", Result)
    if audit is not None:
        overall = audit.gaps.query("group == 'overall' and criterion.str.endswith('_difference')")
        found |= {str(name): float(value) for name, value in overall.groupby("criterion")["value"].max().items()}
    robustness: Any = kept(run, "robustness", Result)
    if robustness is not None and robustness.curves:
        values = [float(value) for one in robustness.curves.values() for value in one.value]
        worst = min if robustness.metric == "accuracy" else max
        found[f"robust_{robustness.metric}"] = worst(values)
    return {name: value for name, value in found.items() if math.isfinite(value)}
