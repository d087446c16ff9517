"""`compare`: which variant is better, and whether that is more than a lucky seed."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from numbers import Real
from typing import Any

from dlstudio.compare.examples import Answers, assess_rows
from dlstudio.compare.gather import Gathered, gather, names_of
from dlstudio.compare.given import are_labelled
from dlstudio.compare.of_runs import default_metric, has, measured, rows_of, same_rows, unknown_metric, why_not
from dlstudio.compare.pairs import chosen_pairs, concluded, contrast_seeds, of_pairing, with_interval
from dlstudio.compare.result import Comparison, Variant
from dlstudio.compare.values import OF_ROWS, answers_of, of_scores, repeated, row_metric
from dlstudio.compare.variants import (
    Group,
    group,
    in_order,
    joined,
    labelled,
    record_of,
    repetitions_of,
    variant_of,
)
from dlstudio.errors import DLStudioError, unknown_name
from dlstudio.runs.run import Run
from dlstudio.training.directions import direction_of

__all__ = ["compare"]

PARTS = ("val", "test")
"""Of the data, those whose predictions a run stores."""
MOST_BY_EXAMPLE = 20
"""Variants of one run each up to which their predictions are read without being asked for."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Asked:
    """The options of `compare`, as given."""

    metric: Any
    by: Any
    direction: str | None
    margin: Any
    level: Any
    reference: str | None
    value: str
    seed: int

    def __post_init__(self) -> None:
        value, margin, level, by = self.value, self.margin, self.level, self.by
        if value not in ("last", "best"):
            raise unknown_name("value", value, ("last", "best"))
        if margin is not None and not (isinstance(margin, Real) and 0 < float(margin) < math.inf):
            raise DLStudioError("a margin above 0", f"{margin=}", "Give the largest difference that does not matter.")
        if not (isinstance(level, Real) and 0 < float(level) < 1):
            raise DLStudioError("a level of confidence between 0 and 1", f"{level=}", "Try level=0.95.")
        if not isinstance(by, str):
            remedy = "Pass by=None for whatever differs, or give each config a variant of its own."
            raise DLStudioError("one setting or tag to compare by", f"{by!r:.80}", remedy)

    def comparison(self, metric: str, variants: Sequence[Variant], pairing: str, **more: Any) -> Comparison:
        return Comparison(
            metric=metric, direction=direction_of(metric, self.direction), level=float(self.level),
            margin=None if self.margin is None else float(self.margin), by=self.by, reference=self.reference,
            value=self.value, seed=self.seed, variants=tuple(variants), comparisons=(), pairing=pairing, **more,
        )  # fmt: skip


def compare(
    what: Any = None,
    *,
    metric: str | Callable[[Any, Any], float] | None = None,
    by: str | None = None,
    y_true: Any = None,
    direction: str | None = None,
    margin: float | None = None,
    level: float = 0.95,
    reference: str | None = None,
    value: str = "last",
    seed: int = 0,
) -> Comparison:
    """Compare variants over their seeds, or models on the same rows, and say what is shown and what is not.

    Two variants that share seeds are compared seed by seed: by every way to flip the signs of the differences where
    there are enough of them, else by Student's t. p-values are adjusted for all pairs by Holm's method.

    Args:
        what: a mapping of variant to its seeds' values (a sequence, or a mapping or Series of seed to value), to its
            runs or their names, or, with `y_true`, to its predictions (floats are probabilities or quantities); a
            sequence of runs, names or MLflow ids; an MLflow filter such as ``"params.model = 'mlp'"``, over all
            experiments; None for all runs of the home.
        metric: what to compare, such as ``"val/auc"``; with `y_true` also a function of (y_true, predictions). None
            takes the validation loss of runs, and what suits the predictions.
        by: what makes a variant: None for the recipe's `variant` or else whatever settings differ beside the seed; a
            setting, tag or parameter; ``"example"`` to compare runs with each other, row by row of their stored
            predictions. Variants of one run each are compared so unasked where all stored predictions of the same rows
            and `metric` is one of rows, such as ``"val/auc"`` or ``"test/loss"``.
        y_true: (n,) targets of the predictions in `what`, which are put in the order of its index where they have one.
        direction: ``"max"`` or ``"min"``, which is better; None infers it from the metric's name.
        margin: the largest difference that does not matter. With it variants can be shown to be equivalent.
        level: of confidence, of all verdicts of a difference together; with a margin of all of equivalence as well.
        reference: a variant to compare all others with; None compares all pairs.
        value: of a run, the ``"last"`` or the ``"best"`` value of the metric. The best of many is a lucky one: compare
            by it only what was evaluated equally often.
        seed: of whatever is drawn.

    Returns:
        The comparison; runs that could not be used are named in `left_out` with the reason.

    Raises:
        DLStudioError: there is nothing to compare, a name is unknown (the nearest is suggested), a value is no number,
            or the metric's name does not say which way is better.

    Example:
        >>> c = dls.compare(metric="val/auc", by="variant")
        >>> c.pairs.query("verdict == 'better'")
        >>> dls.compare({"A": scores_a, "B": scores_b}, y_true=y, metric="auc").pairs.p_value
    """
    asked = _Asked(
        metric=metric, by=by or "variant", direction=direction, margin=margin, level=level, reference=reference,
        value=value, seed=seed,
    )  # fmt: skip
    if named := isinstance(what, Mapping):
        what = {name: list(one) if isinstance(one, Iterator) else one for name, one in what.items()}
    if y_true is not None:
        if not named:
            raise DLStudioError("a mapping of variant to predictions beside y_true", f"{what!r:.80}", "Name them.")
        return _of_predictions(what, y_true, asked)
    if callable(metric):
        raise DLStudioError("the name of a metric", f"{metric!r:.80}", "A function needs predictions and y_true.")
    if named and not _hold_runs(what.values()):
        return _of_values(what, asked)
    if named:
        return _of_runs([run for runs in what.values() for run in _listed(runs)], asked, what)
    return _of_runs(what, asked)


def _hold_runs(items: Collection[Any]) -> bool:
    """Whether these are of runs, or of their names, rather than of values."""
    listed = [_listed(one) for one in items if isinstance(one, Run | str | list | tuple)]
    if any(isinstance(one, Run) for several in listed for one in several):
        return True
    return 0 < len(listed) == len(items) and all(one and isinstance(one[0], str) for one in listed)


def _listed(item: Any) -> list[Any]:
    return [item] if isinstance(item, Run | str) else list(item)


def _labelled(runs: Sequence[Gathered], labels: Mapping[Any, Any]) -> list[Group]:
    at = {one.key: one for one in runs}
    members = {}
    for name, given in labels.items():
        keys = [one.key for one in gather(_listed(given))[0]] if _listed(given) else []
        members[str(name)] = [at.pop(key) for key in keys if key in at]
    return labelled(members)


def _of_values(what: Mapping[Any, Any], asked: _Asked) -> Comparison:
    found, left_out, named = repeated(what)
    metric = str(asked.metric or "value")
    if asked.metric is None and asked.direction is None:
        asked = dataclasses.replace(asked, direction="max")
    variants = [
        Variant(name=name, seeds=tuple(values), values=tuple(values.values()), n=len(values), runs=("",) * len(values))
        for name, values in found.items()
    ]
    notes = ["The index of each Series was taken for the seeds of its values."] if are_labelled(what) else []
    lengths = {len(list(one)) for one in what.values()}
    if len(found) > 1 and not named:
        if len(lengths) == 1:
            notes.append("Values were compared place by place: those at one place are taken to be of the same seed.")
        else:
            unknown = {one.name: dataclasses.replace(one, seeds=(None,) * one.n) for one in variants}
            variants = list(unknown.values())
            notes.append("There are different numbers of values, so they were compared without pairing seeds.")
    records: list[dict[str, Any]] = [
        {"name": one.name, "key": "", "variant": one.name, "seed": s, "status": "", "value": v, "config": {},
         "metrics": {}, "measures": {}, "data": "", "fingerprint": ""}
        for one in variants for s, v in zip(one.seeds, one.values, strict=True)
    ]  # fmt: skip
    if asked.metric is None:
        notes.append("More was taken to be better: pass direction='min' where it is not.")
    return _by_seeds(metric, variants, asked, notes, left_out=tuple(left_out), run_records=tuple(records))


def _of_predictions(what: Mapping[Any, Any], y_true: Any, asked: _Asked) -> Comparison:
    target, given = answers_of(what, y_true, asked.metric)
    task = "regression" if target.dtype.kind == "f" else "binary" if target.max() < 2 else "multiclass"
    if callable(asked.metric):
        name = getattr(asked.metric, "__name__", "metric")
        return _by_rows(name, asked.metric, target, given, [Variant(name=key) for key in given], asked)
    metric = row_metric(asked.metric, task, given)
    notes = of_scores(what, given) if asked.metric is None and metric == "accuracy" else []
    return _by_rows(asked.metric or metric, metric, target, given, [Variant(name=key) for key in given], asked, notes)


def _of_runs(what: Any, asked: _Asked, labels: Mapping[Any, Any] | None = None) -> Comparison:
    runs, skipped = gather(what)
    metric = str(asked.metric) if asked.metric is not None else default_metric(runs)
    known = {*names_of(runs, "metrics"), *names_of(runs, "measures")}
    of_rows = asked.by == "example" and asked.metric is not None
    part, _, bare = metric.rpartition("/")
    if asked.by == "example" and part not in (*PARTS, ""):
        remedy = f"Try metric='test/{bare}'."
        raise DLStudioError("a metric of the val or test rows, of which predictions are stored", repr(metric), remedy)
    if metric not in known and not of_rows:
        raise unknown_metric(metric, known)
    direction_of(metric, asked.direction)  # before anything slow
    if labels is not None:
        groups = _labelled(runs, labels)
    elif asked.by == "example":
        groups = group(runs, "run")
    else:
        # Runs without the metric must not name variants: what they differ in is nothing that is compared.
        groups = group([run for run in runs if has(run, metric)], asked.by)
        going = [run for run in runs if not has(run, metric) and run.status != "FINISHED"]
        groups = joined(groups, going, asked.by)
        members = {run.key for one in groups for run in one.runs}
        skipped += [(run.name, why_not(run, metric) or "") for run in runs if run.key not in members]
    repeats = repetitions_of(groups)
    values, left_out = measured(groups, repeats, metric, asked.value, asked.direction, needed=not of_rows)
    left_out = [*skipped, *left_out]
    usable = [dataclasses.replace(one, runs=tuple(r for r in one.runs if r.key in values)) for one in groups]
    if not values and asked.by != "example":
        why = "; ".join(f"{name}: {reason}" for name, reason in left_out[:3])
        raise DLStudioError(f"runs with {metric}", f"{len(runs)} without ({why})", "Wait for them, or choose a metric.")
    every = in_order(seed for seed in repeats.values() if seed is not None)
    variants = [variant_of(one, values, repeats, every) for one in usable]
    records = tuple(
        record_of(one.name, run, repeats[run.key], values.get(run.key, math.nan)) for one in groups for run in one.runs
    )
    more: dict[str, Any] = {"left_out": tuple(left_out), "run_records": records}
    alone = 1 < len(usable) <= MOST_BY_EXAMPLE and all(len(one.runs) == 1 for one in usable)
    notes: list[str] = []
    if asked.by == "example" or (alone and asked.by == "variant" and part in PARTS and bare in OF_ROWS):
        try:
            return _same_rows(metric, usable, variants, asked, more)
        except DLStudioError as error:
            if asked.by == "example":
                raise
            notes.append(f"They were not compared row by row, which takes {error.expected}: there is {error.got}.")
    return _by_seeds(metric, variants, asked, notes, **more)


def _same_rows(
    metric: str, groups: Sequence[Group], variants: Sequence[Variant], asked: _Asked, more: Mapping[str, Any]
) -> Comparison:
    if any(len(one.runs) != 1 for one in groups):
        empty = next(one.name for one in groups if len(one.runs) != 1)
        why = next((reason for name, reason in more["left_out"] if name == empty), "no run of it can be used")
        raise DLStudioError("one run of each variant", f"{empty!r} ({why})", "Leave it out.")
    part, _, bare = metric.rpartition("/")
    split = part or "test"
    stored = {one.name: rows_of(one.runs[0], split) for one in groups}
    first = same_rows(stored)
    given = {name: Answers(y_pred=one.y_pred, y_score=one.y_score) for name, one in stored.items()}
    of_rows = row_metric(metric, first.task, given)
    notes = [
        f"They were compared row by row, by their stored predictions of the {len(first.rows):,} {split} rows of"
        f" {first.data or 'the data'}, which are those of each run's best weights."
    ]
    more = {**more, "data": first.data, "split": split}
    return _by_rows(f"{split}/{bare}", of_rows, first.y_true, given, variants, asked, notes, **more)


def _by_seeds(
    metric: str, variants: Sequence[Variant], asked: _Asked, notes: Sequence[str] = (), **more: Any
) -> Comparison:
    variants = [with_interval(one, asked.level) for one in variants]
    if all(None not in one.seeds for one in variants):
        every = in_order(seed for one in variants for seed in (*one.seeds, *one.missing_seeds) if seed is not None)
        variants = [
            dataclasses.replace(one, missing_seeds=tuple(seed for seed in every if seed not in one.seeds))
            for one in variants
        ]  # fmt: skip
    pairs, n_pairs = chosen_pairs(variants, asked.reference, direction_of(metric, asked.direction))
    contrasts = contrast_seeds(variants, pairs, level=asked.level, n_comparisons=max(n_pairs, 1), seed=asked.seed)
    paired = any(one.paired for one in contrasts)
    comparison = asked.comparison(metric, variants, "seed" if paired else "none", **more)
    notes = [*notes, *of_pairing(variants, pairs, contrasts), *_alone(variants)]
    return concluded(comparison, pairs, contrasts, n_pairs, notes)


def _by_rows(
    name: str, metric: Any, y_true: Any, given: Mapping[str, Answers], variants: Sequence[Variant], asked: _Asked,
    notes: Sequence[str] = (), **more: Any,
) -> Comparison:  # fmt: skip
    direction = direction_of(name, asked.direction)  # before anything slow
    assessed, contrast = assess_rows(metric, y_true, given, level=asked.level, seed=asked.seed)
    variants = [
        dataclasses.replace(
            one, values=(assessed[one.name].value,), seeds=one.seeds[:1] or (None,), mean=assessed[one.name].value,
            low=assessed[one.name].low, high=assessed[one.name].high, n=len(y_true), missing_seeds=(),
        )
        for one in variants
    ]  # fmt: skip
    read = {key: one.mean for one in variants for key in one.runs}
    records = [  # a run that logged no such metric has what its rows give
        {**record, "value": read[record["key"]]} if math.isnan(record["value"]) and record["key"] in read else record
        for record in more.pop("run_records", ())
    ]
    comparison = asked.comparison(name, variants, "example", run_records=tuple(records), **more)
    pairs, n_pairs = chosen_pairs(variants, asked.reference, direction)
    return concluded(comparison, pairs, [contrast(*pair) for pair in pairs], n_pairs, [*notes, *_alone(variants)])


def _alone(variants: Sequence[Variant]) -> list[str]:
    return [f"There is one variant only, {variants[0].name}: nothing to compare it with."] if len(variants) == 1 else []
