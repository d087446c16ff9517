"""Thresholds by group: decisions from the same scores, with a limit on the gap between groups."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from dlstudio.data.groups import group_names
from dlstudio.data.values import as_array, in_one_order
from dlstudio.errors import DLStudioError
from dlstudio.fairness.mitigation.rates import (
    POSITIVE,
    SELECTED,
    TRUE,
    N,
    binary,
    check_options,
    counts_of,
    gap_of,
    scores_of,
)
from dlstudio.fairness.mitigation.rates import rates as rates_of
from dlstudio.fairness.mitigation.search import MIN_DENOMINATOR, Search
from dlstudio.results import Result

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["GroupThresholds", "accuracy_of", "group_thresholds"]

Array = npt.NDArray[np.float64]

UNNAMED = "sensitive_feature_"
"""In the name of a column that came without one."""


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class GroupThresholds(Result, schema=1):
    """A threshold for every group: scores at or above it are decided as class 1. Nothing in it is random.

    Attributes:
        criterion: whose gap is limited.
        max_gap: the limit that was set.
        sensitive_feature: the column, or several joined by " × ".
        groups: names.
        thresholds: float64 (groups,), 0 to 1; infinite where everybody or nobody is chosen.
        shared: bool (groups,), groups too small for a threshold of their own, which keep the common one.
        counts: int64 (groups, 4), rows, class 1, chosen, and both, of the data they were found on.
        gap, accuracy: on these data.
        gap_before, accuracy_before: with the common threshold.
        threshold: the common one.
        needs_sensitive_feature: that decisions need to know the group; always.
    """

    criterion: str
    max_gap: float
    sensitive_feature: str
    groups: tuple[str, ...]
    thresholds: Array
    shared: npt.NDArray[np.bool_]
    counts: npt.NDArray[np.int64]
    gap: float
    accuracy: float
    gap_before: float
    accuracy_before: float
    threshold: float = 0.5
    needs_sensitive_feature: bool = True

    def frame(self) -> pd.DataFrame:
        """Return a row per group: ``group, threshold, shared, n, selection_rate, true_positive_rate,
        false_positive_rate``.
        """
        import pandas as pd

        found: dict[str, Any] = {
            "group": self.groups,
            "threshold": self.thresholds,
            "shared": self.shared,
            "n": self.counts[:, N],
        }
        with np.errstate(invalid="ignore", divide="ignore"):
            for rate in ("selection_rate", "true_positive_rate", "false_positive_rate"):
                count, n = rates_of(self.counts, rate)
                found[rate] = count / n
        return pd.DataFrame(found)

    def predict(self, y_score: Any, sensitive_features: Any) -> npt.NDArray[np.int64]:
        """Decide: 1 where a row's score reaches the threshold of its group, else 0; the same every time.

        Args:
            y_score: (n,) probabilities of class 1.
            sensitive_features: (n,) or several columns, as `group_thresholds` was given.

        Raises:
            DLStudioError: columns have other names than those by which the thresholds were found, a group was not there
                then, lengths differ, or a score is missing or not from 0 to 1: then nothing is decided.
        """
        y_score, sensitive_features = in_one_order(y_score=y_score, sensitive_features=sensitive_features)
        y_score = as_array(y_score)
        scores = scores_of(y_score, y_score.size)
        decided: npt.NDArray[np.int64] = (scores >= self.of(sensitive_features, len(scores))).astype(np.int64)
        return decided

    def of(self, sensitive_features: Any, n: int) -> Array:
        """Return the threshold of each of `n` rows, float64 (n,).

        Raises:
            DLStudioError: as `predict`.
        """
        places = {name: place for place, name in enumerate(self.groups)}
        feature, names = group_names(sensitive_features, n)
        if feature != self.sensitive_feature and not any(UNNAMED in one for one in (feature, self.sensitive_feature)):
            raise DLStudioError(
                f"the groups of {self.sensitive_feature!r}",
                f"those of {feature!r}",
                "Pass the column by which thresholds were found; an array, if it has another name now.",
            )
        unknown = sorted(set(names.tolist()) - places.keys())
        if unknown:
            raise DLStudioError(
                f"one of the groups {', '.join(self.groups)}",
                f"{unknown[0]!r}",
                "These have no threshold: find thresholds again on data that hold the group.",
            )
        return self.thresholds[[places[name] for name in names.tolist()]]


def group_thresholds(
    y_true: Any,
    y_score: Any,
    sensitive_features: Any,
    criterion: str = "demographic_parity_difference",
    *,
    max_gap: float = 0.02,
    threshold: float = 0.5,
    min_denominator: int = MIN_DENOMINATOR,
) -> GroupThresholds:
    """Find a threshold for every group: the most accurate ones whose gap is at most `max_gap`.

    On the rows given no other thresholds that keep the limit are right more often, groups aside that are too small for
    one of their own; of those that are right as often, the ones nearest to the common threshold are taken. Decisions
    then need the sensitive feature of every row, but no chance: the same row is decided the same way every time. Find
    thresholds on rows that the model was not trained on, and judge them on yet others (`trade_off` does).

    Args:
        y_true: (n,) of 0 and 1.
        y_score: (n,) probabilities of class 1.
        sensitive_features: (n,) groups, or several columns, whose combinations are the groups.
        criterion: ``"demographic_parity_difference"``, ``"equal_opportunity_difference"`` or
            ``"equalized_odds_difference"``.
        max_gap: the limit, 0 to 1. At 0 often nothing is left but to choose everybody or nobody.
        threshold: the common one, which groups keep that are too small for their own.
        min_denominator: how many rows every rate of a group needs for a threshold of its own, and to count in the gap.

    Raises:
        DLStudioError: something does not fit, or fewer than two groups are large enough.

    Example:
        >>> t = group_thresholds(y_val, p_val, race_val, max_gap=0.05)
        >>> y_pred = t.predict(p_test, race_test)

    References:
        Hardt, Price and Srebro, Equality of opportunity in supervised learning (2016), without their randomisation.
    """
    check_options(threshold, min_denominator, max_gap)
    y_true, y_score, sensitive_features = in_one_order(
        y_true=y_true, y_score=y_score, sensitive_features=sensitive_features
    )
    y, scores = binary(y_true, y_score)
    feature, labels = group_names(sensitive_features, len(y))
    names, codes = np.unique(labels, return_inverse=True)
    search = Search(y, scores, codes, len(names), criterion, threshold=threshold, min_denominator=min_denominator)
    search.need_two(names)
    thresholds = search.best(max_gap)
    counts = counts_of(y, scores >= thresholds[codes], codes, len(names))
    before = counts_of(y, scores >= threshold, codes, len(names))
    return GroupThresholds(
        criterion=criterion,
        max_gap=float(max_gap),
        sensitive_feature=feature,
        groups=tuple(map(str, names)),
        thresholds=thresholds,
        shared=search.shared,
        counts=counts,
        gap=gap_of(search.compared(counts), criterion, 0.95, min_denominator)[0],
        accuracy=accuracy_of(counts),
        gap_before=gap_of(search.compared(before), criterion, 0.95, min_denominator)[0],
        accuracy_before=accuracy_of(before),
        threshold=float(threshold),
    )


def accuracy_of(counts: npt.NDArray[np.int64]) -> float:
    """Return the share of right decisions, from counts (groups, 4)."""
    total = counts.sum(axis=0)
    return float((total[N] - total[POSITIVE] - total[SELECTED] + 2 * total[TRUE]) / total[N])
