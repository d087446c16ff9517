"""What `evaluate` returns."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from dlstudio.errors import DLStudioError, unknown_name
from dlstudio.results import Finding, Result
from dlstudio.trust.thresholds import CheapestThreshold, OperatingPoint, operating_point

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Evaluation"]

Array = npt.NDArray[Any]


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Evaluation(Result, schema=2):
    """How good predictions are, and how sure that is.

    Attributes:
        task, class_names: of the model; () for regression.
        n, n_dropped: rows evaluated, and rows left out because a value was missing or infinite.
        n_clusters: how many clusters of rows there are; 0 where rows were taken as independent.
        level: of confidence.
        tables: columns of `frame()`, `curves`, `per_class`, `points`, `folds` and `cross_validation`, by name.
        confusion: int64 (classes, classes), rows by true (down) and predicted class (across); None for regression.
        positive_scores, negative_scores: float64, sorted scores of class 1 by true class; None save for two classes.
        costs: of one row, by outcome; {} where none were given.
        cheapest: the threshold of the lowest cost; None without costs.
        data, split, run, target: what was evaluated; "" for arrays.
        settings: draws, seed.
        scores_are_probabilities: False for scores that only rank and decide, of which there is no log loss and no Brier
            score.
        options: everything that `evaluate` was given beside the run, by name, so that
            ``evaluate(run, **result.options)`` does the same again.
        summary: plain sentences, each with its number, interval and rows.
        findings: what follows; codes DLS320 to DLS328.
        wall_s: seconds it took.
    """

    task: str
    class_names: tuple[str, ...] = ()
    n: int
    n_dropped: int = 0
    n_clusters: int = 0
    level: float = 0.95
    tables: Mapping[str, Mapping[str, Array]]
    confusion: npt.NDArray[np.int64] | None = None
    positive_scores: npt.NDArray[np.float64] | None = None
    negative_scores: npt.NDArray[np.float64] | None = None
    costs: Mapping[str, float] = dataclasses.field(default_factory=dict)
    cheapest: CheapestThreshold | None = None
    data: str = ""
    split: str = ""
    run: str = ""
    target: str = ""
    settings: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    scores_are_probabilities: bool = True
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    summary: tuple[str, ...] = ()
    findings: tuple[Finding, ...] = ()
    wall_s: float = 0.0

    def frame(self) -> pd.DataFrame:
        """Return a row per metric: ``metric, value, low, high, baseline, n, interval``.

        `baseline` is what a model gets that knows the shares of the classes (or the mean) and nothing else, `n` the
        rows that the metric rests on, `interval` the kind of interval.
        """
        return self._table("metrics")

    @property
    def curves(self) -> pd.DataFrame:
        """Points ``curve, outcome, x, y, low, high``.

        A curve is ``"roc"`` (false and true positive rate) or ``"precision_recall"`` (recall and precision); the
        outcome is ``""`` for class 1 of two, else a class against the rest.
        """
        return self._table("curves")

    @property
    def per_class(self) -> pd.DataFrame:
        """A row per class: ``class, n, n_predicted``; ``precision, recall, f1``, each with ``_low`` and ``_high``."""
        return self._table("per_class")

    @property
    def points(self) -> pd.DataFrame:
        """Up to 2,000 rows of a regression: ``row, y_true, y_pred``."""
        return self._table("points")

    @property
    def folds(self) -> pd.DataFrame:
        """A row per fold and metric: ``fold, n, metric, value``; empty without cross-validation."""
        return self._table("folds")

    @property
    def cross_validation(self) -> pd.DataFrame:
        """Means over folds: ``metric, value, low, high, n_folds``; empty without cross-validation.

        `n_folds` counts those where the metric is defined, as AUC is not where all rows are of one class.
        """
        return self._table("cross_validation")

    def metric(self, name: str) -> tuple[float, float, float]:
        """Return value, lower and upper limit of a metric.

        Raises:
            DLStudioError: it was not measured.
        """
        names = self.tables["metrics"]["metric"].tolist()
        if name not in names:
            raise unknown_name("metric", name, names)
        at = names.index(name)
        value, low, high = (float(self.tables["metrics"][column][at]) for column in ("value", "low", "high"))
        return value, low, high

    def at(self, threshold: float) -> OperatingPoint:
        """Return what happens if rows with this score or more are predicted positive: counts, rates, cost.

        At 0.5 this is what the model does, save for rows that score exactly that. Intervals are of independent rows.

        Raises:
            DLStudioError: there are no scores of two classes.

        Example:
            >>> point = result.at(0.7)
            >>> point.counts["false_positive"], point.rates["true_positive_rate"], point.cost
        """
        if self.positive_scores is None or self.negative_scores is None:
            raise DLStudioError("scores of two classes", f"an evaluation of {self.task}", "Pass y_score= to evaluate.")
        if not isinstance(threshold, (int, float, np.number)) or np.isnan(threshold):
            raise DLStudioError("a threshold, usually from 0 to 1", repr(threshold), "Try 0.5.")
        return operating_point(self.positive_scores, self.negative_scores, float(threshold), self.level, self.costs)

    def thresholds(self, n: int = 101) -> pd.DataFrame:
        """Return what `n` thresholds from 0 to 1 would do, one a row: counts, rates and cost, each with its interval.

        Intervals are of independent rows.

        Raises:
            DLStudioError: there are no scores of two classes.
        """
        import pandas as pd

        rows = []
        for threshold in np.linspace(0, 1, n).tolist():
            point = self.at(threshold)
            row: dict[str, Any] = {"threshold": threshold, **point.counts}
            for name, (value, low, high) in {**point.rates, "cost": point.cost}.items():
                row |= {name: value, f"{name}_low": low, f"{name}_high": high}
            rows.append(row)
        return pd.DataFrame(rows)

    def _table(self, name: str) -> pd.DataFrame:
        import pandas as pd

        return pd.DataFrame(dict(self.tables.get(name, {})))
