"""What a reader of a trade-off has to know of its points."""

from __future__ import annotations

import numpy as np

from dlstudio.fairness.mitigation.rates import POSITIVE, SELECTED, N
from dlstudio.fairness.mitigation.trade_off_result import SPOKEN, TradeOff, opened
from dlstudio.results import Finding

__all__ = ["findings_of"]


def findings_of(result: TradeOff) -> list[Finding]:
    """Return what a reader of the points has to know."""
    found = []
    thresholds = np.flatnonzero(np.array(result.kinds) == "thresholds")
    if len(thresholds):
        at = int(thresholds[-1])
        found.append(
            Finding(
                code="DLS360",
                severity="info",
                sentence=" ".join(result.words(at)),
                evidence={
                    "point": at,
                    "gap": float(result.gap[at]),
                    "accuracy": float(result.accuracy[at]),
                    "accuracy_change": float(result.accuracy_change[at, 0]),
                },
                remedy="Choose a point whose cost you can answer for; smaller gaps are not free.",
            )
        )
    if result.shared.any():
        small = [name for name, shared in zip(result.groups, result.shared, strict=True) if shared]
        found.append(
            Finding(
                code="DLS361",
                severity="warning",
                sentence=f"{', '.join(small)}: too few rows for a threshold of their own; they keep the common one"
                " and do not count in the gap.",
                evidence={"groups": small},
                remedy="Gather more rows of these groups, or merge them where that makes sense.",
            )
        )
    if not np.isfinite(result.gap[0]):
        found.append(
            Finding(
                code="DLS364",
                severity="warning",
                sentence=f"No {SPOKEN[result.criterion]} can be judged: fewer than two groups have enough of the"
                f" {result.n_rows:,} judged rows.",
                evidence={"n_rows": result.n_rows},
                remedy="Judge on more rows, or set a smaller min_denominator and mind the wide intervals.",
            )
        )
    if result.exceeded.any():
        at = int(np.flatnonzero(result.exceeded)[-1])
        found.append(
            Finding(
                code="DLS362",
                severity="warning",
                sentence=(
                    f"Limits did not carry over: thresholds found for a gap of at most {result.limits[at]:.3f} on"
                    f" {result.n_fit:,} rows leave {result.gap[at]:.3f} ({100 * result.level:g} % interval"
                    f" {result.gap_low[at]:.3f} to {result.gap_high[at]:.3f}) on the {result.n_rows:,} others."
                ),
                evidence={"points": np.flatnonzero(result.exceeded).tolist()},
                remedy="Read the judged gap, not the limit, and find thresholds on more rows.",
            )
        )
    n, selected = result.counts[..., N], result.counts[..., SELECTED]
    one_sided = [
        int(at)
        for at in range(1, len(result))
        if selected[at].sum() in (0, n[at].sum()) and 0 < selected[0].sum() < n[0].sum()
    ]
    if one_sided:
        at = one_sided[-1]
        whom = "nobody" if selected[at].sum() == 0 else "everybody"
        found.append(
            Finding(
                code="DLS363",
                severity="warning",
                sentence=f"{opened(result.names[at])}: gives {result.positive!r} to {whom}. No gap is left because"
                " nothing is decided.",
                evidence={
                    "points": one_sided,
                    "share_of_class_1": float(result.counts[0, :, POSITIVE].sum() / n[0].sum()),
                },
                remedy="Choose a point with a larger gap, or a better model.",
            )
        )
    return found
