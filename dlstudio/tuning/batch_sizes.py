"""What `find_batch_size` returns: what fits, how fast each size trains, and what that suggests."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from dlstudio.results import Finding, Result

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["BatchSizes", "read_sizes"]

CLOSE = 0.95
"""The suggestion trains at least this share of the rows a second that the fastest size does."""
FEW_STEPS = 20
"""Steps of an epoch below which the fastest batch is hardly the one that learns fastest."""
COLUMNS = ("batch_size", "fits", "step_ms", "rows_per_s", "memory_mib")
_LIMITS = {
    "memory": "a larger one was refused for want of memory",
    "data": "that is all of the training data",
    "asked": "no larger one was asked for",
    "time": "the time for trying was over",
}


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class BatchSizes(Result, schema=1):
    """Batch sizes that were tried.

    Attributes:
        sizes: columns by name, in the order of sizes: ``batch_size`` int64; ``fits`` bool; the median time of a step
            ``step_ms`` and ``rows_per_s``, NaN where it was not timed; ``memory_mib``, the peak on a GPU, on a CPU by
            how much the process grew while it was tried, NaN where that is too little to tell.
        largest: that was shown to fit; None where not even the smallest did.
        limited_by: ``"memory"``, ``"data"``, ``"asked"`` or ``"time"``: why `largest` is not larger.
        suggestion: the smallest that trains within 5 % of the fastest, of those that leave an epoch 20 steps or more;
            None where nothing fits.
        reason: why, in plain sentences.
        device, model, data, optimizer, n_rows: what was trained, and where; n_rows None where a loader does not say.
        findings: DLS550 where nothing fits, DLS551 where larger ones might be faster yet.
        settings: smallest, largest, max_seconds, seed.
        wall_s: seconds it took.
    """

    sizes: Mapping[str, npt.NDArray[Any]]
    largest: int | None
    limited_by: str
    suggestion: int | None
    reason: str
    device: str = ""
    model: str = ""
    data: str = ""
    optimizer: str = ""
    n_rows: int | None = None
    settings: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    findings: tuple[Finding, ...] = ()
    wall_s: float = 0.0

    def frame(self) -> pd.DataFrame:
        """Return a row per size: ``batch_size, fits, step_ms, rows_per_s, memory_mib``."""
        import pandas as pd

        return pd.DataFrame(dict(self.sizes))

    @property
    def summary(self) -> tuple[str, ...]:
        """Plain sentences: what to use, and why."""
        if self.suggestion is None:
            return ("No batch size can be suggested.", self.reason)
        return (f"Train with batches of {self.suggestion:,} rows.", self.reason)


def read_sizes(tried: list[dict[str, Any]], limited_by: str, n_rows: int | None = None) -> dict[str, Any]:
    """Read what was tried.

    Args:
        tried: rows of `COLUMNS`, in any order.
        limited_by: why no larger size was tried.
        n_rows: of the training data, where that is known.

    Returns:
        The fields of `BatchSizes` that follow from them.
    """
    rows = sorted(tried, key=lambda row: int(row["batch_size"]))
    sizes: dict[str, npt.NDArray[Any]] = {
        name: np.array([row[name] for row in rows], dtype={"batch_size": np.int64, "fits": np.bool_}.get(name, float))
        for name in COLUMNS
    }
    fitting = [row for row in rows if row["fits"]]
    timed = [row for row in fitting if np.isfinite(row["rows_per_s"])]
    found: dict[str, Any] = {"sizes": sizes, "limited_by": limited_by}
    if not timed:
        size = rows[0]["batch_size"] if rows else 1
        why = f"Not even a batch of {size:,} fits into memory: take a smaller model or smaller inputs."
        finding = Finding(code="DLS550", severity="critical", sentence=why, remedy="Use a machine with more memory.")
        return found | {"largest": None, "suggestion": None, "reason": why, "findings": (finding,)}
    largest = max(int(row["batch_size"]) for row in fitting)
    fastest = max(timed, key=lambda row: float(row["rows_per_s"]))
    usable = [row for row in timed if _n_steps(n_rows, row) >= FEW_STEPS] or timed[:1]
    best = max(usable, key=lambda row: float(row["rows_per_s"]))
    chosen = next(row for row in usable if row["rows_per_s"] >= CLOSE * best["rows_per_s"])
    why = f"It trains {chosen['rows_per_s']:,.0f} rows a second, "
    if chosen is fastest:
        why += "more than every other size. "
    elif best is fastest:
        why += (
            f"within 5 % of the most, {fastest['rows_per_s']:,.0f} with {fastest['batch_size']:,};"
            " smaller batches make more steps of the same rows. "
        )
    else:
        n_steps = _n_steps(n_rows, fastest)
        why += (
            f"{fastest['batch_size']:,} trains {fastest['rows_per_s']:,.0f}, but in {_steps(n_steps)} an epoch:"
            " smaller batches learn more from the same rows. "
        )
    if _n_steps(n_rows, chosen) < FEW_STEPS:
        why += f"But an epoch has only {_steps(_n_steps(n_rows, chosen))} then: try a smaller `smallest`. "
    why += f"The largest that is known to fit has {largest:,} rows: {_LIMITS[limited_by]}. "
    why += "Another batch size wants another learning rate: see find_lr."
    findings: tuple[Finding, ...] = ()
    rising = best is timed[-1] and len(timed) > 1 and fastest["rows_per_s"] > timed[-2]["rows_per_s"] / CLOSE
    if rising and limited_by in ("asked", "time"):
        words = "The largest batch was the fastest one: larger ones may be faster yet."
        remedy = "Allow a larger `largest` or more `max_seconds`."
        evidence = {"batch_size": fastest["batch_size"], "rows_per_s": fastest["rows_per_s"]}
        findings = (Finding(code="DLS551", severity="info", sentence=words, evidence=evidence, remedy=remedy),)
    return found | {
        "largest": largest, "suggestion": int(chosen["batch_size"]), "reason": why, "findings": findings,
    }  # fmt: skip


def _n_steps(n_rows: int | None, row: dict[str, Any]) -> float:
    """Steps of an epoch; infinitely many where the rows are not known."""
    return math.inf if n_rows is None else math.ceil(n_rows / row["batch_size"])


def _steps(n_steps: float) -> str:
    return f"{n_steps:.0f} step{'s' * (n_steps != 1)}"
