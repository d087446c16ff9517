"""Are the probabilities of a model what happens? Measured, with what chance explains, and mitigated."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from dlstudio import scoring, stats
from dlstudio.data.clusters import clusters_of
from dlstudio.data.groups import columns_of
from dlstudio.errors import DLStudioError, unknown_name
from dlstudio.limits import level_of_confidence, named, number_within, whole_number
from dlstudio.runs.kept import keep
from dlstudio.scoring import N_BINS, Bins, binned, calibration_bins, mean_interval
from dlstudio.trust.asked import asked
from dlstudio.trust.binning import brier_parts, by_chance
from dlstudio.trust.calibration_result import CalibrationResult, findings_of
from dlstudio.trust.rescaling import METHODS, Rescaling, fit_rescaling
from dlstudio.trust.scored import Scored, as_columns, label_groups, read_scored
from dlstudio.trust.thresholds import halves

__all__ = ["assess_calibration"]

Array = npt.NDArray[Any]

MIN_ROWS = 30
UNSURE = 0.1
"""Where the error may be this much above the threshold, nothing shown does not mean nothing there."""
FEW = 10
"""With fewer draws than this beyond what was observed, a curve through all of them says more than their number."""


def assess_calibration(
    y_true: Any,
    y_score: Any = None,
    *,
    groups: Any = None,
    clusters: Any = None,
    n_bins: int = N_BINS,
    adaptive: bool = True,
    fix: Sequence[str] = METHODS,
    threshold: float = 0.0,
    level: float = 0.95,
    n_resamples: int = 1000,
    seed: int = 0,
    split: str = "test",
) -> CalibrationResult:
    """Compare the probabilities of a model with what happened.

    Every calibration error comes with an interval and with the error that exactly right probabilities would show on as
    many rows, because chance alone never leaves it at 0.

    Args:
        y_true: class indices (n,), 0 and 1 for two classes; or a run, or its name.
        y_score: the probability of class 1 (n,), or of every class (n, classes); None for a run.
        groups: to assess separately as well: names of columns of a run's data, or a DataFrame, Series or array of as
            many rows. A missing value is a group of its own.
        clusters: (n,) which rows belong together, such as those of one person, or the name of a run's column. None
            takes all rows as independent. Intervals of the diagram's bins do so in any case.
        n_bins: bins of the reliability diagram, at most.
        adaptive: bins of equally many rows, at least ten; otherwise equally wide ones. Errors of both kinds are
            returned; interval, test and diagram are of this one.
        fix: ways to rescale the scores, each fitted on one half of the rows and judged on the other; () for none.
        threshold: a calibration error that does not matter, 0 to 1.
        level: of confidence.
        n_resamples: draws behind p-values and intervals.
        seed: of the draws and the halves.
        split: ``"test"`` or ``"val"`` of a run.

    Returns:
        Errors overall, by class and by group, each with a verdict; the diagram; what the fixes bring. If all scores are
        right, or off by the threshold at most, the probability that miscalibration is shown for anything is at most
        1 - level (Holm, over all rows, classes and groups together).

    Raises:
        DLStudioError: lengths differ, labels are no class indices, scores are outside 0 to 1, a group column has one
            value or more than 50, or the run is a regression or stored no predictions.

    Example:
        >>> c = assess_calibration("my-run", groups=["black"])
        >>> c.errors[["column", "group", "ece", "low", "high", "by_chance", "verdict"]]

    References:
        Naeini et al., Obtaining well calibrated probabilities using Bayesian binning (2015); Nixon et al., Measuring
        calibration in deep learning (2019).
    """
    started = time.perf_counter()
    names = named("fix", fix)
    for name in names:
        if name not in METHODS:
            raise unknown_name("fix", name, METHODS)
    whole_number("n_bins", n_bins, 1)
    whole_number("n_resamples", n_resamples, 100)
    whole_number("seed", seed, 0)
    number_within("threshold", threshold, 0, 1, "Try threshold=0.02.")
    level_of_confidence(level)
    scored = read_scored(y_true, None, y_score, split=split)
    if scored.y_score is None:
        got = "a regression" if scored.task == "regression" else "classes alone"
        raise DLStudioError("probabilities of classes", got, "Calibration is of probabilities: pass y_score=.")
    if not scored.scores_are_probabilities:
        got = "scores of thresholds by group, which decide and rank only"
        raise DLStudioError("probabilities of classes", got, "Assess the run that they came from.")
    columns = label_groups(groups, scored)
    together = clusters_of(clusters, len(scored.kept), scored.kept, lambda: scored.frame)
    subjects = _subjects(scored, columns, together)
    work = _Work(
        n_bins=n_bins, adaptive=adaptive, level=level, threshold=threshold, n_draws=n_resamples, seed=seed,
        generator=np.random.default_rng(seed),
    )  # fmt: skip
    errors = [work.error(*subject) for subject in subjects]
    work.adjust(errors)
    fixes: list[dict[str, Any]] = []
    rescalings: dict[str, Rescaling] = {}
    skipped: dict[str, str] = {}
    if names:
        fixes, rescalings, skipped = work.judge(names, scored, together)
    result = CalibrationResult(
        task=scored.task,
        class_names=scored.class_names,
        n=len(scored),
        n_dropped=scored.n_dropped,
        n_clusters=0 if together is None else int(together.max()) + 1,
        adaptive=adaptive,
        threshold=threshold,
        level=level,
        data=scored.data,
        split=scored.split,
        run=scored.run,
        tables={"errors": as_columns(errors), "reliability": as_columns(work.diagram), "fixes": as_columns(fixes)},
        rescalings=rescalings,
        skipped=skipped,
        settings={"n_bins": n_bins, "n_resamples": n_resamples, "seed": seed},
        options=asked(
            groups=_of_rows(groups),
            clusters=clusters,
            n_bins=n_bins,
            adaptive=adaptive,
            fix=names,
            threshold=threshold,
            level=level,
            n_resamples=n_resamples,
            seed=seed,
            split=split,
        ),
        wall_s=time.perf_counter() - started,
    )
    return keep(dataclasses.replace(result, findings=tuple(findings_of(result))), "calibration")


def _tail(drawn: Array, seen: float) -> float:
    """How likely an error as large as the one seen is, by errors drawn.

    The curve is of Pearson's type III, with mean, variance and skewness of the draws. Its tail is heavier than that
    of sums of binomial errors, so that it says too little rather than too much.
    """
    from scipy.stats import pearson3, skew

    beyond = int((drawn >= seen * (1 - 1e-12)).sum())
    mean, spread, p = float(drawn.mean()), float(drawn.std(ddof=1)), (1 + beyond) / (1 + len(drawn))
    return min(p, float(pearson3.sf(seen, skew(drawn), mean, spread))) if beyond < FEW and spread > 0 else p


def _of_rows(groups: Any) -> Any:
    """Groups as they can be kept: names of columns, or columns by name."""
    if groups is None or isinstance(groups, (str, list, tuple)) or hasattr(groups, "columns"):
        return groups
    return groups if isinstance(groups, Mapping) else columns_of(groups, len(groups))


_Subject = tuple[str, str, str, Array, Array, Array | None]
"""Column, group, outcome; what happened, 0 or 1; the probability of 1; clusters."""


def _top(scored: Scored, y_score: Array) -> tuple[Array, Array]:
    """Class 1 of two; else whether the most likely class was right, with its probability."""
    if y_score.ndim == 1:
        return scored.y_true, y_score
    top = y_score.argmax(axis=1)
    return (top == scored.y_true).astype(np.int64), y_score[np.arange(len(top)), top]


def _subjects(scored: Scored, columns: dict[str, npt.NDArray[np.str_]], together: Array | None) -> list[_Subject]:
    assert scored.y_score is not None
    y, score = _top(scored, scored.y_score)
    found: list[_Subject] = [("", "all", "", y, score, together)]
    if scored.y_score.ndim == 2:
        found += [
            ("", "all", name, (scored.y_true == k).astype(np.int64), scored.y_score[:, k], together)
            for k, name in enumerate(scored.class_names)
        ]
    for column, labels in columns.items():
        for group in np.unique(labels):
            chosen = labels == group
            own = None if together is None else together[chosen]
            found.append((column, str(group), "", y[chosen], score[chosen], own))
    return found


@dataclasses.dataclass(kw_only=True, eq=False)
class _Work:
    """One assessment under way; `diagram` gathers the bins."""

    n_bins: int
    adaptive: bool
    level: float
    threshold: float
    n_draws: int
    seed: int
    generator: np.random.Generator
    diagram: list[dict[str, Any]] = dataclasses.field(default_factory=list)

    def bins(self, y: Array, scores: Array) -> Bins:
        return calibration_bins(y, scores, self.n_bins, adaptive=self.adaptive)

    def chance(self, bins: Bins, y: Array, scores: Array, together: Array | None) -> tuple[float, float]:
        """Return the mean error of exactly right scores, and how likely one as large as the observed is.

        With a threshold, how likely it is of scores that are off by so much.
        """
        drawn = by_chance(bins, y, scores, self.n_draws, self.generator, together)
        p = _tail(drawn, bins.ece)
        if self.threshold:
            off = self.threshold
            drawn_off = scoring.errors_around(off, bins, y, scores, self.level, self.n_draws, self.seed, together)
            p = max(p, _tail(drawn_off, bins.ece))
        return float(drawn.mean()), p

    def interval(self, bins: Bins, y: Array, scores: Array, together: Array | None) -> tuple[float, float]:
        return scoring.error_interval(bins, y, scores, self.level, self.n_draws, self.seed, together)

    def error(
        self, column: str, group: str, outcome: str, y: Array, scores: Array, together: Array | None
    ) -> dict[str, Any]:
        bins = self.bins(y, scores)
        self.draw("given", column, group, outcome, bins)
        other = calibration_bins(y, scores, self.n_bins).ece
        usual, one_sided = self.chance(bins, y, scores, together)
        low, high = self.interval(bins, y, scores, together)
        off = y - scores
        bias_low, bias_high = mean_interval(off, self.level, together)
        brier = brier_parts(y, scores, bins, self.level, together)
        return {
            "column": column, "group": group, "outcome": outcome,
            "n": len(y), "n_clusters": 0 if together is None else len(np.unique(together)),
            "n_positive": int(y.sum()), "mean_score": float(scores.mean()), "rate": float(y.mean()),
            "bias": float(off.mean()), "bias_low": bias_low, "bias_high": bias_high,
            "ece": bins.ece, "low": low, "high": high, "by_chance": usual,
            # Doubled, so that it is small where the interval, which has two sides, leaves out 0.
            "p_value": min(1.0, 2 * one_sided), "p_adjusted": np.nan, "verdict": "not enough data",
            "ece_adaptive": bins.ece if self.adaptive else other,
            "ece_fixed": binned(y, scores, self.n_bins, adaptive=False).ece,
            "mce": bins.mce, "rmsce": bins.rmsce,
            "brier": brier.score, "brier_low": brier.low, "brier_high": brier.high,
            "reliability": brier.reliability, "resolution": brier.resolution,
            "uncertainty": brier.uncertainty, "within_bins": brier.within_bins,
        }  # fmt: skip

    def adjust(self, errors: list[dict[str, Any]]) -> None:
        """Adjust p-values for being many, all rows, classes and groups together, and give verdicts."""
        for row, p in zip(errors, stats.holm([row["p_value"] for row in errors]), strict=True):
            row["p_adjusted"] = float(p)
            shown = p <= 1 - self.level and row["low"] > self.threshold
            unsure = (row["n_clusters"] or row["n"]) < MIN_ROWS or row["high"] > self.threshold + UNSURE
            row["verdict"] = (
                "miscalibration shown" if shown else "not enough data" if unsure else "no miscalibration shown"
            )

    def draw(self, scores: str, column: str, group: str, outcome: str, bins: Bins) -> None:
        low, high = stats.wilson(bins.positives, bins.n, self.level)
        columns = (bins.low, bins.high, bins.n, bins.positives, bins.mean_score, bins.rate, low, high)
        names = ("bin_low", "bin_high", "n", "n_positive", "mean_score", "rate", "low", "high")
        for cells in zip(*columns, strict=True):
            where = {"scores": scores, "column": column, "group": group, "outcome": outcome}
            self.diagram.append({**where, **dict(zip(names, cells, strict=True))})

    def judge(
        self, names: Sequence[str], scored: Scored, together: Array | None
    ) -> tuple[list[dict[str, Any]], dict[str, Rescaling], dict[str, str]]:
        """Fit every method on one half of the rows and judge it on the other."""
        assert scored.y_score is not None
        n, parts = (len(scored), "rows") if together is None else (int(together.max()) + 1, "clusters")
        if n < 2 * MIN_ROWS:
            why = f"{n:,} {parts} are too few to fit on one half and judge on the other"
            return [], {}, dict.fromkeys(names, why)
        fitting, judging = halves(scored.y_true, self.generator, together)
        own = None if together is None else together[judging]
        held = dataclasses.replace(scored, y_true=scored.y_true[judging], y_score=scored.y_score[judging])
        assert held.y_score is not None
        before = self._worth(held, held.y_score, "before", own)
        table, rescalings, skipped = [], {}, {}
        level = 1 - (1 - self.level) / len(names)
        for name in names:
            try:
                rescaling = fit_rescaling(name, scored.y_true[fitting], scored.y_score[fitting])
            except DLStudioError as error:
                skipped[name] = f"{error.got} in the half to fit on"
                continue
            rescalings[name] = rescaling
            after = self._worth(held, rescaling(held.y_score), name, own)
            for metric, (value, low, high, each) in after.items():
                given, given_low, given_high, given_each = before[metric]
                change = each - given_each
                edges = mean_interval(change, level, own) if len(each) else ()
                change_low, change_high = edges or (np.nan, np.nan)
                said = "better" if change_high < 0 else "worse" if change_low > 0 else "no change shown"
                table.append({
                    "method": name, "metric": metric, "n_fitted": len(fitting), "n": len(judging),
                    "before": given, "before_low": given_low, "before_high": given_high,
                    "after": value, "after_low": low, "after_high": high,
                    "change": value - given, "low": change_low, "high": change_high,
                    "verdict": said if edges else "",
                })  # fmt: skip
        return table, rescalings, skipped

    def _worth(
        self, held: Scored, y_score: Array, name: str, together: Array | None
    ) -> dict[str, tuple[float, float, float, Array]]:
        """Calibration error, Brier score and log loss, with interval and, for the last two, their value a row."""
        y, top = _top(held, y_score)
        bins = self.bins(y, top)
        self.draw(name, "", "all", "", bins)
        both = scoring.every_class(y_score)
        of_truth = both[np.arange(len(both)), held.y_true]
        happened = np.eye(both.shape[1])[held.y_true]
        squares = ((both - happened) ** 2).sum(axis=1) / (2 if y_score.ndim == 1 else 1)
        found = {"ece": (bins.ece, *self.interval(bins, y, top, together), np.zeros(0))}
        for metric, each in (("brier", squares), ("log_loss", -np.log(np.maximum(of_truth, 1e-12)))):
            low, high = mean_interval(each, self.level, together)
            found[metric] = (float(each.mean()), max(low, 0.0), high, each)
        return found
