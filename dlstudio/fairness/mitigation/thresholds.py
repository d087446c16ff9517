"""Thresholds by group: decisions from the same scores, with a limit on the gap between groups."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from dlstudio.data.groups import group_names
from dlstudio.errors import DLStudioError
from dlstudio.fairness.mitigation.rates import (
    POSITIVE,
    SELECTED,
    TRUE,
    N,
    binary,
    check_options,
    counts_of,
    criterion_named,
    gap_of,
    scores_of,
)
from dlstudio.fairness.mitigation.rates import rates as rates_of
from dlstudio.results import Result

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["GroupThresholds", "Search", "group_thresholds"]

Array = npt.NDArray[np.float64]

MAX_CANDIDATES = 400
MAX_PLACES, MAX_PLACES_OF_TWO = 400, 30
"""How many thresholds of a group, and how many levels of a rate, are tried at most; of two rates at once, fewer."""
UNNAMED = "sensitive_feature_"
"""In the name of a column that came without one."""
MIN_DENOMINATOR = 30
"""A threshold found on fewer rows follows their chance."""


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
        scores = scores_of(y_score, np.size(y_score))
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

    Decisions then need the sensitive feature of every row, but no chance: the same row is decided the same way every
    time. Find thresholds on rows that the model was not trained on, and judge them on yet others (`trade_off` does).

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


class Search:
    """All thresholds of all groups, ready to be searched for any limit of the gap.

    Where the lowest rate of all groups is known, every group can choose for itself among the thresholds that lead to
    at most `max_gap` more; so the best choice over all lowest rates is the best of all. It is found exactly where
    there are few enough scores and rates, else among evenly chosen ones.
    """

    def __init__(
        self,
        y: npt.NDArray[np.int64],
        scores: Array,
        codes: npt.NDArray[np.intp],
        n_groups: int,
        criterion: str,
        *,
        threshold: float = 0.5,
        min_denominator: int = MIN_DENOMINATOR,
    ) -> None:
        self.names = criterion_named(criterion)
        self.threshold = threshold
        self.thresholds, self.merits, self.rates = [], [], []
        self.shared = np.zeros(n_groups, dtype=np.bool_)
        for group in range(n_groups):
            mine = codes == group
            candidates, counts = _candidates(y[mine], scores[mine], threshold)
            fractions = [rates_of(counts, name) for name in self.names]
            if any(denominator[0] < max(1, min_denominator) for _, denominator in fractions):
                self.shared[group] = True
                candidates = np.array([threshold])
                fractions = [(np.zeros(1, dtype=np.int64), np.ones(1, dtype=np.int64)) for _ in self.names]
                counts = counts[:1]
            right = counts[:, N] - counts[:, POSITIVE] - counts[:, SELECTED] + 2 * counts[:, TRUE]
            # Of thresholds that are equally right, the one nearest to the common one.
            away = np.minimum(np.abs(candidates - threshold), 1.0)
            self.thresholds.append(candidates)
            self.merits.append(right - 1e-3 * away)
            self.rates.append(np.stack([count / n for count, n in fractions]))
        self.large = np.flatnonzero(~self.shared)
        self._floors = self._places()

    def need_two(self, names: Any) -> None:
        """Check that there are groups to be compared.

        Raises:
            DLStudioError: fewer than two groups are large enough.
        """
        if len(self.large) < 2:
            said = ", ".join(str(names[place]) for place in self.large) or "none"
            raise DLStudioError(
                "two groups with enough rows of each kind", said, "Merge small groups, or lower min_denominator."
            )

    def compared(self, counts: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Return counts (groups, 4) without those of groups that are too small to count in the gap."""
        return np.where(self.shared[:, None], 0, counts)

    def best(self, max_gap: float) -> Array:
        """Return the most accurate thresholds (groups,) whose gap is at most `max_gap`."""
        found = np.full(len(self.shared), self.threshold)
        total = np.zeros(len(self._floors))
        choices = []
        for group in self.large:
            rate, merit = self.rates[group], self.merits[group]
            fits = np.ones((len(self._floors), len(merit)), dtype=np.bool_)
            for place in range(len(self.names)):
                floor = self._floors[:, place, None]
                # Floors are rates themselves, and sums of fractions round.
                fits &= (rate[place] >= floor - 1e-12) & (rate[place] <= floor + max_gap + 1e-12)
            values = np.where(fits, merit, -np.inf)
            choice = values.argmax(axis=1)
            total += values[np.arange(len(choice)), choice]
            choices.append(choice)
        chosen = int(total.argmax())
        for group, choice in zip(self.large, choices, strict=True):
            found[group] = self.thresholds[group][choice[chosen]]
        return found

    def _places(self) -> Array:
        """Levels that the lowest rates may have, (places, rates)."""
        most = MAX_PLACES if len(self.names) == 1 else MAX_PLACES_OF_TWO
        floors = []
        for place in range(len(self.names)):
            levels = np.unique(np.concatenate([np.zeros(1), *(self.rates[group][place] for group in self.large)]))
            floors.append(levels if len(levels) <= most else levels[_evenly(len(levels), most)])
        return np.stack(np.meshgrid(*floors, indexing="ij"), axis=-1).reshape(-1, len(self.names))


def _candidates(y: npt.NDArray[np.int64], scores: Array, threshold: float) -> tuple[Array, npt.NDArray[np.int64]]:
    """Thresholds of one group that decide differently, each with counts (thresholds, 4)."""
    order = np.argsort(-scores, kind="stable")
    scores, positive = scores[order], np.concatenate([[0], np.cumsum(y[order])])
    ends = np.flatnonzero(np.diff(scores, append=-np.inf) < 0) + 1  # how many are chosen by each distinct score
    between = (scores[ends[:-1] - 1] + scores[ends[:-1]]) / 2
    if len(between) > MAX_CANDIDATES:
        between = between[_evenly(len(between), MAX_CANDIDATES)]
    candidates = np.unique(np.concatenate([[-np.inf, np.inf, threshold], between]))
    selected = np.searchsorted(-scores, -candidates, side="right")
    columns = (np.full(len(candidates), len(y)), np.full(len(candidates), positive[-1]), selected, positive[selected])
    return candidates, np.stack(columns, axis=-1).astype(np.int64)


def _evenly(n: int, most: int) -> npt.NDArray[np.int64]:
    return np.unique(np.linspace(0, n - 1, most).round().astype(np.int64))
