"""What an ablation found: which components matter, and how sure that is."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy.typing as npt

from dlstudio.results import Finding, Result
from dlstudio.tuning.designs import Design

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["AblationResult", "CANCELLED", "COMPLETE", "FAILED", "RUNNING", "UNKNOWN", "UNTRAINED", "WAITING"]

WAITING, RUNNING, COMPLETE, FAILED, CANCELLED, UNTRAINED = (
    "waiting", "running", "complete", "failed", "spared", "not trained",
)  # fmt: skip
"""How a run stands; spared ones were not trained to the end, because their effects were decided or hopeless."""
UNKNOWN: Mapping[str, Any] = {"data": "", "n_steps": 0}
"""What is noted of a run, where it is not known: the fingerprint of its data, and for how many steps it was trained."""
Columns = Mapping[str, npt.NDArray[Any]]


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class AblationResult(Result, schema=1):
    """Effects of the components of a recipe.

    A main effect is the mean of the metric with a component minus that without it: *better* says that the component
    helps. An interaction is half of what one component brings more with the other than without it. In `fractional`
    designs an effect has `aliases`, which it cannot be told from.

    Attributes:
        name, run: of the ablation and the key of its run; "" for values of your own.
        status: of its run when this was read; "" for values of your own.
        metric, direction: what is compared; ``"max"`` where more is better.
        design: which combinations are trained.
        off: by factor, what it is without it, in words.
        level, margin: of confidence, of each interval and of all verdicts of main effects together; the largest
            difference that does not matter.
        sequential: whether p-values and intervals hold at every look, and comparisons may end early; else nothing is
            judged before its last seed is there.
        tables: columns of `effects`, `cells` and `runs`, by name.
        summary: plain sentences: what matters, what does not, and what is not known.
        findings: what follows; codes DLS560 to DLS570.
        settings: seeds and what else decided how it went.
    """

    metric: str
    direction: str
    design: Design
    off: Mapping[str, tuple[str, ...]]
    level: float = 0.95
    margin: float | None = None
    sequential: bool = False
    tables: Mapping[str, Columns]
    name: str = ""
    run: str = ""
    status: str = ""
    summary: tuple[str, ...] = ()
    findings: tuple[Finding, ...] = ()
    settings: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def frame(self) -> pd.DataFrame:
        """Return `effects`."""
        return self.effects

    @property
    def effects(self) -> pd.DataFrame:
        """A row per effect, main effects first.

        Columns are ``factor, without, kind`` (``"main"`` or ``"interaction"``), ``difference`` (with minus without)
        with ``low, high``, ``p_value, p_adjusted`` (Holm's, main effects and interactions each, with a margin
        together with ``p_equivalent``), ``effect_size``
        (Hedges' g of the differences of seeds), ``n`` (seeds), ``verdict`` (better, worse, equivalent, no difference
        shown, not enough data), ``mean_with, mean_without, effect_low, effect_high, test``, ``n_needed`` (seeds in all;
        NaN above 100 and where unknown), ``p_equivalent``, ``state`` (``"open"``, ``"decided"``, ``"hopeless"``,
        ``"complete"`` or ``"stopped"`` before it was that), ``chance`` that the seeds left decide it, ``same`` (runs
        without it are exactly the same), ``aliases`` and ``sentence``.
        """
        return self._table("effects")

    @property
    def main(self) -> pd.DataFrame:
        """The rows of `effects` that are of one component."""
        effects = self.effects
        return effects[effects["kind"] == "main"].reset_index(drop=True)

    @property
    def interactions(self) -> pd.DataFrame:
        """The rows of `effects` that are of two components together."""
        effects = self.effects
        return effects[effects["kind"] == "interaction"].reset_index(drop=True)

    @property
    def cells(self) -> pd.DataFrame:
        """A row per combination: ``cell, label``, a column per factor ("" where it is on), ``n, mean, low, high``."""
        return self._table("cells")

    @property
    def runs(self) -> pd.DataFrame:
        """A row per combination and seed: ``cell, label, seed, value, state, run, reason, data, n_steps``.

        States are ``"waiting"``, ``"running"``, ``"complete"``, ``"failed"`` (no finite value, see `reason`),
        ``"spared"`` (not needed any more) and ``"not trained"`` (it was stopped before). `data` is the fingerprint of
        what it was trained on, "" where unknown; `n_steps` for how many steps, 0 where unknown.
        """
        return self._table("runs")

    @property
    def n_planned(self) -> int:
        """How many runs were planned."""
        return len(self.tables["runs"]["state"])

    @property
    def n_saved(self) -> int:
        """How many of them were not needed."""
        return self.count(CANCELLED)

    def count(self, state: str) -> int:
        """How many runs have a state."""
        return int((self.tables["runs"]["state"] == state).sum())

    @property
    def is_complete(self) -> bool:
        """Whether nothing is waiting or running any more."""
        return not self.count(WAITING) and not self.count(RUNNING)

    def rows(self, name: str) -> list[dict[str, Any]]:
        """The rows of one of `tables` as plain values."""
        table = self.tables[name]
        columns = [values.tolist() for values in table.values()]
        return [dict(zip(table, cells, strict=True)) for cells in zip(*columns, strict=True)]

    def _table(self, name: str) -> pd.DataFrame:
        import pandas as pd

        return pd.DataFrame(dict(self.tables[name]))
