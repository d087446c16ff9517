"""What `assess_calibration` returns, and its words."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy.typing as npt

from dlstudio.results import Finding, Result, records
from dlstudio.trust.rescaling import Rescaling
from dlstudio.wording import listed, percent, points, rows_in, span

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["FIXES", "CalibrationResult", "describe", "findings_of"]

FIXES = {"temperature": "Temperature scaling", "platt": "Platt scaling", "isotonic": "Isotonic regression"}
"""The methods as people read them."""


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class CalibrationResult(Result, schema=2):
    """How far probabilities are from what happened.

    In all tables `column` and `group` say which rows (``""`` and ``"all"``: every row), and `outcome` whose probability
    it is: of a class by name, or ``""`` for class 1 of two and, of more, for the class predicted.

    Attributes:
        task, class_names: of the model.
        n, n_dropped: rows assessed, and rows left out because a value was missing or infinite.
        n_clusters: how many clusters of rows there are; 0 where rows were taken as independent.
        adaptive: whether interval, test and diagram use bins of equally many rows.
        threshold, level: the calibration error that does not matter; the level of confidence.
        tables: columns of `errors`, `reliability` and `fixes`, by name.
        rescalings: the fitted fixes by name, to call with further scores.
        skipped: fixes that could not be judged, and why.
        data, split, run: what was assessed; "" for arrays.
        settings: bins, draws, seed.
        options: everything that `assess_calibration` was given beside the run, by name, so that
            ``assess_calibration(run, **result.options)`` does the same again.
        findings: what follows; codes DLS310 to DLS315.
        wall_s: seconds it took.
    """

    task: str
    class_names: tuple[str, ...]
    n: int
    n_dropped: int = 0
    n_clusters: int = 0
    adaptive: bool = True
    threshold: float = 0.0
    level: float = 0.95
    tables: Mapping[str, Mapping[str, npt.NDArray[Any]]]
    rescalings: Mapping[str, Rescaling] = dataclasses.field(default_factory=dict)
    skipped: Mapping[str, str] = dataclasses.field(default_factory=dict)
    data: str = ""
    split: str = ""
    run: str = ""
    settings: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    findings: tuple[Finding, ...] = ()
    wall_s: float = 0.0

    def frame(self) -> pd.DataFrame:
        """Return `errors`."""
        return self.errors

    @property
    def errors(self) -> pd.DataFrame:
        """A row per group of rows and outcome.

        Columns are ``column, group, outcome, n, n_clusters, n_positive, mean_score, rate``; ``bias`` (rate minus mean
        score) with ``bias_low, bias_high``; the calibration error ``ece`` with ``low, high``, the mean ``by_chance`` of
        exactly right scores, ``p_value, p_adjusted`` (Holm's, over all rows of this table) and ``verdict``; with the
        two kinds of bins ``ece_adaptive, ece_fixed``, and the largest and the root mean square gap ``mce, rmsce``; the
        Brier score ``brier`` with ``brier_low, brier_high``, which is ``reliability - resolution + uncertainty +
        within_bins``.
        """
        return self._table("errors")

    @property
    def reliability(self) -> pd.DataFrame:
        """The reliability diagram: a row per bin.

        Columns are ``scores, column, group, outcome, bin_low, bin_high, n, n_positive, mean_score, rate, low, high``,
        the last two Wilson's interval of the rate. `scores` is ``"given"``; or, for the half of the rows that fixes
        are judged on, ``"before"`` or the name of a fix.
        """
        return self._table("reliability")

    @property
    def fixes(self) -> pd.DataFrame:
        """A row per fix and metric (``ece``, ``brier``, ``log_loss``), on rows that the fix was not fitted on.

        Columns are ``method, metric, n_fitted, n, before, before_low, before_high, after, after_low, after_high,
        change`` and, save for `ece`, its interval ``low, high`` over the same rows before and after, which holds for
        all methods together, and ``verdict``: better, worse or no change shown.
        """
        return self._table("fixes")

    @property
    def ece(self) -> float:
        """The calibration error of all rows."""
        return float(self.tables["errors"]["ece"][0])

    @property
    def verdict(self) -> str:
        """Of all rows: ``"miscalibration shown"``, ``"no miscalibration shown"`` or ``"not enough data"``."""
        return str(self.tables["errors"]["verdict"][0])

    @property
    def summary(self) -> tuple[str, ...]:
        """Plain sentences, each with its number, interval and rows."""
        return describe(self)

    def _table(self, name: str) -> pd.DataFrame:
        import pandas as pd

        return pd.DataFrame(dict(self.tables[name]))


def describe(result: CalibrationResult) -> tuple[str, ...]:
    """Return plain sentences on all rows, on every group and on the fixes."""
    words = []
    for row in records(result.tables["errors"]):
        if row["outcome"]:
            continue
        words.append(_sentence(result, row))
        if not row["column"]:
            low, high = points(row["bias_low"]), points(row["bias_high"])
            words.append(
                f"They promise {percent(row['mean_score'])} on average and {percent(row['rate'])} happened "
                f"(difference {points(row['bias'])} points, {span(low, high, result.level)})."
            )
    words += [_fix_sentence(result, row) for row in records(result.tables["fixes"]) if row["metric"] == "log_loss"]
    words += [f"{FIXES[name]} was left out: {why}." for name, why in result.skipped.items()]
    if result.n_clusters:
        parts = f"Rows of each of {result.n_clusters:,} clusters may be alike"
        words.append(f"{parts}: intervals allow for that, save those of bins.")
    if result.n_dropped:
        words.append(_dropped(result))
    return tuple(words)


def findings_of(result: CalibrationResult) -> list[Finding]:
    """Return what follows from a result."""
    found = []
    rows = list(records(result.tables["errors"]))
    shown = [row for row in rows if row["verdict"] == "miscalibration shown"]
    for row in shown:
        if row["outcome"]:
            continue
        names = ("column", "group", "n", "ece", "low", "high", "by_chance", "p_adjusted")
        found.append(
            Finding(
                code="DLS311" if row["column"] else "DLS310",
                severity="warning",
                sentence=f"{_sentence(result, row)} {_direction(result, row)}".strip(),
                evidence={name: row[name] for name in names},
                remedy="Judge groups by rates and not by these scores until they agree."
                if row["column"]
                else "Rescale the scores, or do not read them as probabilities.",
            )
        )
    if classes := sorted((row for row in shown if row["outcome"]), key=lambda row: -float(row["ece"])):
        n = sum(bool(row["outcome"]) for row in rows)
        words = f"Miscalibration is shown for {len(classes):,} of {n:,} classes, most for {classes[0]['outcome']!r}."
        found.append(
            Finding(
                code="DLS315",
                severity="warning",
                sentence=f"{words} {_sentence(result, classes[0])}",
                evidence={row["outcome"]: row["ece"] for row in classes},
                remedy="Rescale the scores, or do not read them as probabilities.",
            )
        )
    unsure = [_who(row) for row in rows if row["verdict"] == "not enough data"]
    if unsure:
        words = f"Too few rows to tell how far probabilities are off for {listed(unsure)}."
        found.append(
            Finding(
                code="DLS312", severity="info", sentence=words, evidence={"groups": unsure}, remedy="Collect more rows."
            )
        )
    fixes = (row for row in records(result.tables["fixes"]) if row["metric"] == "log_loss")
    helps = [row for row in fixes if row["verdict"] == "better"]
    if helps:
        best = min(helps, key=lambda row: float(row["after"]))
        found.append(
            Finding(
                code="DLS313",
                severity="info",
                sentence=_fix_sentence(result, best),
                evidence={name: best[name] for name in ("method", "n_fitted", "n", "before", "after", "low", "high")},
                remedy="Apply it to scores before they are read as probabilities.",
            )
        )
    if result.n_dropped:
        evidence = {"n_dropped": result.n_dropped, "n": result.n}
        found.append(Finding(code="DLS314", severity="info", sentence=_dropped(result), evidence=evidence))
    return found


def _who(row: dict[str, Any]) -> str:
    if row["column"]:
        return f"{row['column']} = {row['group']} ({row['n']:,} rows)"
    return f"class {row['outcome']!r}" if row["outcome"] else f"all {row['n']:,} rows"


def _sentence(result: CalibrationResult, row: dict[str, Any]) -> str:
    where = rows_in(row["n"], result.split, result.data)
    whom = f"Among {row['column']} = {row['group']} ({row['n']:,} rows)" if row["column"] else f"On {where}"
    if row["outcome"] or result.task == "binary":
        whose = f"probabilities of {row['outcome'] or result.class_names[1]!r}"
    else:
        whose = "probabilities of the predicted class"
    words = (
        f"{whom}, {whose} are off by {points(row['ece'])} points on average "
        f"({span(points(row['low']), points(row['high']), result.level)}); exactly right ones would look off by "
        f"{points(row['by_chance'])} on as many rows"
    )
    beyond = f" beyond {points(result.threshold)} points" if result.threshold else ""
    said = str(row["verdict"])
    return f"{words}: {said}{beyond if said.endswith('shown') else ''}."


def _direction(result: CalibrationResult, row: dict[str, Any]) -> str:
    words = []
    if row["bias_high"] < 0 or row["bias_low"] > 0:
        words.append(f"They promise too {'much' if row['bias'] < 0 else 'little'} on average.")
    fixes = {(fix["method"], fix["metric"]): fix["verdict"] for fix in records(result.tables["fixes"])}
    if fixes.get(("temperature", "log_loss")) == "better" and not row["column"] and not row["outcome"]:
        words.append(f"They are too {'sure' if result.rescalings['temperature'].temperature > 1 else 'unsure'}.")
    return " ".join(words)


def _fix_sentence(result: CalibrationResult, row: dict[str, Any]) -> str:
    name = FIXES[row["method"]]
    if row["method"] == "temperature":
        name += f" (T = {result.rescalings['temperature'].temperature:.2f})"
    low, high = f"{row['low']:+.3f}", f"{row['high']:+.3f}"
    verb = {"better": "lowers", "worse": "raises"}.get(row["verdict"], "is not shown to change")
    return (
        f"{name}, fitted on {row['n_fitted']:,} rows and judged on {row['n']:,} others, {verb} the log loss: "
        f"{row['before']:.3f} before, {row['after']:.3f} after (change {row['change']:+.3f}, "
        f"{span(low, high, result.level)})."
    )


def _dropped(result: CalibrationResult) -> str:
    given = result.n + result.n_dropped
    return f"{result.n_dropped:,} of {given:,} rows were left out: a value was missing or infinite."
