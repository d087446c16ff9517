"""What `Comparison.recommend` returns."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING

from dlstudio.results import Result

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Recommendation"]


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Recommendation(Result, schema=1):
    """Which variant to ship, on what evidence, and what would change the answer.

    Attributes:
        variant: the one to ship; None where none meets the constraints, or nothing was measured.
        is_shown: whether it is shown to be better than every other that meets the constraints.
        sentence: the recommendation with its reason.
        evidence: sentences on the pairs it rests on.
        would_change: sentences on what would change it.
        undecided: variants that meet the constraints, that none of these is shown to beat, and that are not told apart
            from `variant`.
        excluded: (variant, why) of those that do not meet them.
        constraints: (low, high) by quantity.
        quantities: by variant, the mean of every quantity that counted; NaN where unknown.

    Example:
        >>> r = c.recommend({"latency_ms": 5})
        >>> r.variant, r.is_shown
        ('small', False)
        >>> print(r.sentence, *r.would_change, sep="\\n")
    """

    variant: str | None
    is_shown: bool
    sentence: str
    evidence: tuple[str, ...] = ()
    would_change: tuple[str, ...] = ()
    undecided: tuple[str, ...] = ()
    excluded: tuple[tuple[str, str], ...] = ()
    constraints: Mapping[str, tuple[float, float]] = dataclasses.field(default_factory=dict)
    quantities: Mapping[str, Mapping[str, float]] = dataclasses.field(default_factory=dict)

    @property
    def summary(self) -> tuple[str, ...]:
        """All sentences: the recommendation, its evidence, what would change it."""
        return (self.sentence, *self.evidence, *self.would_change)

    def frame(self) -> pd.DataFrame:
        """Return one row per variant: ``variant``, ``recommended``, ``undecided``, ``excluded`` and every quantity."""
        import pandas as pd

        why = dict(self.excluded)
        rows = [
            {"variant": name, "recommended": name == self.variant, "undecided": name in self.undecided,
             "excluded": why.get(name, ""), **values}
            for name, values in self.quantities.items()
        ]  # fmt: skip
        return pd.DataFrame(rows)
