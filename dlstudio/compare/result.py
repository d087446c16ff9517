"""What `compare` returns."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from dlstudio.compare.compared import Compared, Pair, Variant
from dlstudio.compare.recommend import recommend
from dlstudio.compare.recommendation import Recommendation
from dlstudio.compare.words import summary_of
from dlstudio.results import Result

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Comparison", "Pair", "Variant"]

FIRST_COLUMNS = (
    "variant", "reference", "difference", "low", "high", "p_value", "p_adjusted", "effect_size", "n", "verdict"
)  # fmt: skip


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Comparison(Compared, Result, schema=1):
    """Variants compared over their seeds, or on the same rows.

    Attributes:
        metric, direction: what was compared, and whether ``"max"`` or ``"min"`` is better.
        level: of confidence, of all verdicts together.
        margin: the largest difference that does not matter; None where none was given.
        pairing: ``"seed"`` (the same seeds, or places in a list; pairs that share too few are compared without, as
            their `test` says), ``"example"`` (the same rows) or ``"none"``.
        by: what makes a variant.
        reference: the variant that all others are compared with; None for all pairs.
        value: ``"last"`` or ``"best"`` of each run.
        variants: in the order given.
        comparisons: the pairs; `pairs` is their frame.
        left_out: (run, or variant and seed; why) of what could not be used.
        run_records: of every run its name, key, variant, seed, status, value, config, metrics and measures.
        findings: what has to be known before the verdicts are believed, codes DLS501 to DLS508.
        data, split: what the rows of a comparison by example are; "" otherwise.
        seed: of whatever was drawn.

    Example:
        >>> c = dls.compare({"A": [0.81, 0.79, 0.80], "B": [0.84, 0.86, 0.85]}, metric="accuracy")
        >>> c.pairs[["variant", "reference", "difference", "low", "high", "p_adjusted", "verdict"]]
        >>> print(*c.summary, sep="\\n")
        >>> c.recommend({"latency_ms": 5}).sentence
    """

    @property
    def pairs(self) -> pd.DataFrame:
        """One row per pair, columns as the attributes of `Pair`, from ``variant`` to ``sentence``."""
        import pandas as pd

        names = [field.name for field in dataclasses.fields(Pair)]
        assert tuple(names[: len(FIRST_COLUMNS)]) == FIRST_COLUMNS
        return pd.DataFrame([[getattr(pair, name) for name in names] for pair in self.comparisons], columns=names)

    @property
    def runs(self) -> pd.DataFrame:
        """One row per run: name, key, variant, seed, status, value, ``config.*``, every metric and every measure.

        ``value`` is NaN where the run was left out. Plain values have a row each too, without a key.
        """
        import pandas as pd

        first = ("name", "key", "variant", "seed", "status", "value")
        rows = [
            {name: record[name] for name in first}
            | {f"config.{name}": one for name, one in record["config"].items()}
            | dict(record["metrics"])
            | dict(record["measures"])
            for record in self.run_records
        ]
        return pd.DataFrame(rows) if rows else pd.DataFrame(columns=list(first))

    @property
    def table(self) -> pd.DataFrame:
        """One row per variant: ``variant``, ``mean``, ``low``, ``high``, ``n``, ``missing_seeds``; best mean first."""
        import pandas as pd

        names = ("mean", "low", "high", "n", "missing_seeds")
        rows = [{"variant": one.name, **{name: getattr(one, name) for name in names}} for one in self.ranked]
        return pd.DataFrame(rows, columns=["variant", *names])

    @property
    def summary(self) -> tuple[str, ...]:
        """Plain sentences: what was compared, every pair, and what has to be known beside it."""
        return summary_of(self)

    def frame(self) -> pd.DataFrame:
        """Return `pairs`."""
        return self.pairs

    def recommend(
        self, constraints: Mapping[str, float | tuple[float | None, float | None]] | None = None, *,
        prefer: str | Sequence[str] | None = None,
    ) -> Recommendation:  # fmt: skip
        """Say which variant to ship, on what evidence, and what would change the answer.

        Args:
            constraints: by metric, measure or setting the most it may be, or the least where its name tells that more
                is better; ``(low, high)`` bounds it on both sides, None in place of a limit on one. A variant is judged
                by the mean of its runs.
            prefer: what decides where the evidence does not: names of quantities of which less is better (more, where
                the name tells so), the first that differs; timings, by more than 10 %. By default latency, parameters,
                memory and size.

        Raises:
            DLStudioError: a quantity is unknown, a limit is no number, or the constraints are no mapping.

        Example:
            >>> c.recommend({"latency_ms": 5, "val/ece": 0.1}).variant
            'small'
        """
        return recommend(self, {} if constraints is None else constraints, prefer)
