"""What `measure` returns."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING

from dlstudio.results import Result

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Measures"]

UNITS = {
    "latency_ms": "ms", "latency_p95_ms": "ms", "batch_latency_ms": "ms", "batch_latency_p95_ms": "ms",
    "rows_per_s": "rows/s", "n_parameters": "", "size_mib": "MiB", "peak_mib": "MiB",
}  # fmt: skip


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Measures(Result, schema=1):
    """What a model costs, and what saved results of its run know of it.

    Attributes:
        latency_ms, latency_p95_ms: of a forward pass of one row, median and 95th percentile; milliseconds.
        batch_latency_ms, batch_latency_p95_ms: of a forward pass of `batch_size` rows.
        rows_per_s: rows over time in batches of `batch_size`, by the median.
        batch_size: that of the run's recipe.
        n_parameters: numbers that can be trained or are frozen; what is shared counts once.
        size_mib: of parameters and buffers in memory.
        peak_mib: weights, inputs and results alive at once in a forward pass of `batch_size` rows.
        found: by name, what results say that had been saved with the run by then: ``calibration_error``; the largest
            gaps of an audit, such as ``demographic_parity_difference``; the worst ``robust_accuracy`` of the strengths
            tried. It is not kept with the costs: comparisons read the latest results.
        device: the measurements were made on.
        run: the run's key; "" for a module.

    Example:
        >>> dls.measure("my-run").latency_ms
        0.08
    """

    latency_ms: float
    latency_p95_ms: float
    batch_latency_ms: float
    batch_latency_p95_ms: float
    rows_per_s: float
    batch_size: int
    n_parameters: int
    size_mib: float
    peak_mib: float
    found: Mapping[str, float] = dataclasses.field(default_factory=dict)
    device: str = "cpu"
    run: str = ""

    def frame(self) -> pd.DataFrame:
        """Return a row per quantity: ``measure, value, unit``."""
        import pandas as pd

        rows = [(name, float(getattr(self, name)), unit) for name, unit in UNITS.items()]
        rows += [(name, value, "") for name, value in self.found.items()]
        return pd.DataFrame(rows, columns=["measure", "value", "unit"])

    @property
    def summary(self) -> tuple[str, ...]:
        """The costs in sentences."""
        return (
            f"{self.n_parameters:,} parameters in {self.size_mib:.3g} MiB.",
            f"A row takes {self.latency_ms:.3g} ms (95 % of them up to {self.latency_p95_ms:.3g} ms), a batch of "
            f"{self.batch_size} {self.batch_latency_ms:.3g} ms, on {self.device}.",
            f"A forward pass of such a batch needs {self.peak_mib:.3g} MiB.",
            *(f"{name.replace('_', ' ')}: {value:.3g}." for name, value in self.found.items()),
        )
