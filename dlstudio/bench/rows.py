"""What a benchmark finds: figures beside a budget, and what the peers take for the same."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

MET, MISSED, UNKNOWN = "met", "missed", "not measured"
NOT_INSTALLED = "not installed"

Figures = Mapping[str, float]


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What one subject of a comparison gave.

    Attributes:
        rounds: the figures of every repetition by name.
        reason: why there are none, in words; None where there are.
    """

    rounds: Sequence[Figures] = ()
    reason: str | None = None

    def median(self, name: str) -> float | str:
        """The median of a figure over the repetitions, or why there is none."""
        if self.reason is not None:
            return self.reason
        values = [found[name] for found in self.rounds if name in found]
        return statistics.median(values) if values else "no such figure"

    def values(self, name: str) -> list[float]:
        """A figure in every repetition."""
        return [found[name] for found in self.rounds if name in found]


@dataclass(frozen=True, kw_only=True)
class Row:
    """One line of the table.

    Attributes:
        what: what was measured.
        unit: of `value`, `budget` and the peers' figures.
        value: dlstudio's figure; a text says why there is none.
        budget: what it may be at most; None where nothing was promised.
        peers: the same of every peer, or why there is none.
    """

    what: str
    unit: str
    value: float | str
    budget: float | None = None
    peers: Mapping[str, float | str] = field(default_factory=dict)

    @property
    def ratio(self) -> float | None:
        """The figure over its budget; None without either."""
        if self.budget is None or isinstance(self.value, str):
            return None
        return self.value / self.budget

    @property
    def verdict(self) -> str | None:
        """``"met"``, ``"missed"`` or ``"not measured"``; None without a budget."""
        if self.budget is None:
            return None
        if isinstance(self.value, str) or math.isnan(self.value):
            return UNKNOWN
        return MET if self.value <= self.budget else MISSED

    def as_dict(self) -> dict[str, Any]:
        """Return a JSON-able form, with verdict and ratio."""
        return {
            "what": self.what,
            "unit": self.unit,
            "dlstudio": self.value,
            "budget": self.budget,
            "verdict": self.verdict,
            "ratio": self.ratio,
            "peers": dict(self.peers),
        }


def row_of(
    what: str,
    unit: str,
    outcomes: Mapping[str, Outcome],
    name: str,
    *,
    subject: str = "dlstudio",
    budget: float | None = None,
    figure: Callable[[Outcome, str], float | str] = Outcome.median,
) -> Row:
    """Make the row of one figure of a comparison.

    Args:
        what: what was measured.
        unit: of the figure.
        outcomes: what every subject gave; `subject` is dlstudio's, the others are peers.
        name: which figure.
        subject: which of the subjects is dlstudio's.
        budget: what it may be at most.
        figure: gets the figure out of an outcome.
    """
    peers = {who: figure(found, name) for who, found in outcomes.items() if not who.startswith("dlstudio")}
    return Row(what=what, unit=unit, value=figure(outcomes[subject], name), budget=budget, peers=peers)
