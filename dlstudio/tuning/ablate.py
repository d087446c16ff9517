"""Which components of a recipe matter? Each is taken out, over several seeds, and judged."""

from __future__ import annotations

import inspect
import math
import numbers
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from dlstudio.errors import DLStudioError, unknown_name
from dlstudio.training.directions import Direction, direction_of
from dlstudio.training.fields import describe
from dlstudio.training.naming import run_name
from dlstudio.training.recipe import Recipe
from dlstudio.tuning.ablation_result import COMPLETE, FAILED, AblationResult
from dlstudio.tuning.ablation_summary import summarise
from dlstudio.tuning.designs import make_design, read_design
from dlstudio.tuning.effects import Judging
from dlstudio.tuning.factors import cell_label, cell_recipe, read_factors

if TYPE_CHECKING:
    import pandas as pd

    from dlstudio.tuning.ablation import Ablation

__all__ = ["ablate", "ablate_values"]


def ablate(
    recipe: Recipe | None = None,
    factors: Mapping[str, Any] | None = None,
    *,
    metric: str = "val/loss",
    direction: str | None = None,
    design: str = "one-out",
    seeds: int | Sequence[int] = 5,
    workers: int | None = None,
    margin: float | None = None,
    level: float = 0.95,
    stop: bool = True,
    name: str | None = None,
    resume: str | Ablation | None = None,
) -> Ablation:
    """Train a recipe with and without its components over several seeds, in the background, and return at once.

    Afterwards every run is a run like any other, grouped under one parent, and survives this process. Seeds are trained
    one after the other, so that estimates come early; a comparison ends when it is decided or hopeless. One that was
    stopped or killed goes on with ``ablate(resume=name)``.

    Args:
        recipe: with all components on.
        factors: by name what takes a component out: a mapping of recipe fields, dotted for options, to values; or,
            under the name of a field, its value without it; or a list of several such ways, for ``"one-out"``.
        metric: that every run logs; its last value counts. The first finished run without it ends the ablation.
        direction: ``"max"`` or ``"min"``; told from the metric's name when None.
        design: ``"one-out"`` takes out one at a time; ``"factorial"`` trains every combination and finds interactions
            of pairs; ``"fractional"`` a balanced part of them, for 4 to 16 components.
        seeds: how many, counted from the recipe's; or which.
        workers: processes that train at once; 1 if None.
        margin: the largest difference that does not matter; with one, "equivalent" is an answer.
        level: of confidence: of each interval, of all verdicts of main effects together, and of all of interactions.
        stop: end comparisons early, and let estimates be looked at any time without more false alarms; the price is a
            slightly smaller power at the end. False judges once, when all is trained, and says nothing before.
        name: what to call it.
        resume: an ablation that is over, to train what it has not trained; then only `workers` may be given.

    Returns:
        A handle with ``.estimate() .wait() .stop() .pause() .resume() .runs``.

    Raises:
        DLStudioError: a factor names an unknown field or changes nothing, a combination cannot be trained, the design
            does not fit, or the ablation to resume is going on.

    Example:
        >>> recipe = Recipe(data="digits", schedule="cosine", clip_norm=1.0, model_options={"dropout": 0.2})
        >>> a = ablate(recipe, {"dropout": {"model_options.dropout": 0.0}, "schedule": "constant", "clip_norm": None},
        ...            metric="val/accuracy", seeds=5, workers=2)
        >>> a.wait().estimate().summary

    References:
        Maurer and Bretz, Multiple testing in group sequential trials using graphical approaches (2013).
    """
    if resume is not None:
        _check_kept(
            recipe=recipe, factors=factors, metric=metric, direction=direction, design=design, seeds=seeds,
            margin=margin, level=level, stop=stop, name=name,
        )  # fmt: skip
        return _resume(resume, workers)
    if not isinstance(recipe, Recipe):
        raise DLStudioError("a Recipe", describe(recipe), "For results of your own use ablate_values(table, …).")
    _check_numbers(level, margin)
    towards = _direction(metric, direction)
    chosen_seeds = _seeds(seeds, recipe)
    read = read_factors(recipe, {} if factors is None else factors)
    chosen = make_design(design, [factor.name for factor in read], [len(factor.off) for factor in read])
    cells = [[int(level) for level in levels] for levels in chosen.levels]
    labels = [cell_label(read, levels) for levels in cells]
    made = [cell_recipe(recipe, read, levels) for levels in cells]
    from dlstudio.tuning.ablation import Ablation, items_of, write_ablation
    from dlstudio.tuning.pool import start_plan

    title = name or f"{run_name(recipe).removesuffix(f'-s{recipe.seed}')}-ablation"
    items = items_of(len(cells), chosen_seeds)
    about = {
        "metric": metric, "direction": towards, "design": chosen.kind, "factors": list(chosen.factors),
        "off": {factor.name: list(factor.labels) for factor in read}, "labels": labels, "seeds": chosen_seeds,
        "level": level, "margin": margin, "stop": bool(stop), "items": items,
    }  # fmt: skip
    plan = start_plan(
        [
            made[cell].replace(seed=seed, variant=labels[cell], name=f"{title[:60]}: {labels[cell][:100]}, seed {seed}")
            for cell, seed in items
        ],
        name=title,
        workers=1 if workers is None else workers,
        kind="ablation",
        config={**recipe.to_dict(), "ablation": {key: about[key] for key in ("metric", "design", "off", "seeds")}},
    )
    write_ablation(plan.folder, about)
    return Ablation(plan)


def _resume(which: str | Ablation, workers: int | None) -> Ablation:
    from dlstudio.tuning.ablation import Ablation, open_ablation
    from dlstudio.tuning.pool import continue_plan

    return Ablation(continue_plan(open_ablation(which).plan, workers=workers))


def _check_kept(**given: Any) -> None:
    """Check that nothing is asked of an ablation to resume that it would not do."""
    default = inspect.signature(ablate).parameters
    other = [name for name, value in given.items() if value != default[name].default]
    if other:
        remedy = "It keeps the rest; start a new ablation for other settings."
        raise DLStudioError("only workers for an ablation to resume", " and ".join(other), remedy)


def ablate_values(
    table: pd.DataFrame,
    *,
    metric: str,
    factors: Sequence[str] | Mapping[str, Any],
    seed: str = "seed",
    direction: str | None = None,
    margin: float | None = None,
    level: float = 0.95,
) -> AblationResult:
    """Estimate effects of components from a table of finished runs.

    Args:
        table: a row per run.
        metric: the column with its value; NaN where the run failed.
        factors: columns of components that are true where a component is on; or a mapping of columns to the value they
            have where it is on.
        seed: the column that says which runs belong together.
        direction: ``"max"`` or ``"min"``; told from the metric's name when None.
        margin: the largest difference that does not matter.
        level: of confidence, of all main effects together.

    Returns:
        Effects, judged once over all seeds.

    Raises:
        DLStudioError: it is no table, a column is missing, a combination is there twice for a seed, or the combinations
            are no design in which effects can be told apart.

    Example:
        >>> ablate_values(frame, metric="auc", factors={"dropout": True, "schedule": "cosine"}).effects
    """
    import pandas as pd

    if not isinstance(table, pd.DataFrame):
        raise DLStudioError("a pandas.DataFrame", describe(table), "Write ablate_values(pandas.DataFrame(rows), …).")
    _check_numbers(level, margin)
    on = dict(factors) if isinstance(factors, Mapping) else dict.fromkeys(factors, True)
    if not on:
        raise DLStudioError("at least one factor", repr(factors), "Name the columns that say which components are on.")
    for column in (metric, seed, *on):
        if column not in table.columns:
            raise unknown_name("column", column, map(str, table.columns))
    towards = _direction(metric, direction)
    ways: dict[str, list[Any]] = {}
    columns = []
    for column, value in on.items():
        # An empty cell is a value like any other, and NaN is not even equal to itself.
        given = [None if one is pd.NA or one != one else one for one in table[column].tolist()]
        value = None if value is pd.NA or value != value else value
        if value not in given:
            raise DLStudioError(
                f"rows with {column} = {value!r}, where it is on",
                f"{', '.join(sorted({repr(one) for one in given})[:5])} only",
                f"Pass factors={{{column!r}: …}} with its value.",
            )
        ways[column] = sorted({one for one in given if one != value}, key=repr)
        if not ways[column]:
            raise DLStudioError(f"rows without {column!r}", f"{value!r} in every row", "Leave this factor out.")
        columns.append([0 if one == value else 1 + ways[column].index(one) for one in given])
    rows = [tuple(levels) for levels in zip(*columns, strict=True)]
    cells = sorted(set(rows), key=lambda levels: (sum(level > 0 for level in levels), [-level for level in levels]))
    design = read_design(list(on), np.array(cells, dtype=np.int8))
    chosen_seeds = list(dict.fromkeys(table[seed].tolist()))
    try:
        measured = table[metric].astype(float).tolist()
    except (TypeError, ValueError) as error:
        raise DLStudioError(f"numbers in the column {metric!r}", str(error), "Write NaN where a run failed.") from error
    there: dict[tuple[int, Any], float] = {}
    for levels, number, value in zip(rows, table[seed].tolist(), measured, strict=True):
        key = cells.index(levels), number
        if key in there:
            raise DLStudioError(
                "one row for each combination and seed", f"two of seed {number!r}", "Average them, or number the seeds."
            )
        there[key] = value
    runs = []
    for cell, number in ((cell, number) for number in chosen_seeds for cell in range(len(cells))):
        value = there.get((cell, number), math.nan)
        reason = "" if math.isfinite(value) else "it is not in the table" if (cell, number) not in there else f"{value}"
        state = COMPLETE if math.isfinite(value) else FAILED
        runs.append({"cell": cell, "seed": number, "value": value, "state": state, "run": "", "reason": reason})
    names = [_label(list(on), ways, levels) for levels in cells]
    off = {column: tuple(str(one) for one in values) for column, values in ways.items()}
    how = Judging(direction=towards, level=level, margin=margin)
    return summarise(design=design, labels=names, off=off, seeds=chosen_seeds, runs=runs, metric=metric, how=how)


def _label(columns: Sequence[str], ways: Mapping[str, Sequence[Any]], levels: Sequence[int]) -> str:
    without = [
        f"{column} ({ways[column][level - 1]})" if len(ways[column]) > 1 else column
        for column, level in zip(columns, levels, strict=True)
        if level
    ]
    return "without " + ", ".join(without) if without else "full"


def _direction(metric: str, direction: str | None) -> Direction:
    if not isinstance(metric, str) or not metric:
        raise DLStudioError("the name of a metric of every run", repr(metric), "For example metric='val/loss'.")
    return direction_of(metric, direction)


def _seeds(seeds: Any, recipe: Recipe) -> list[int]:
    if isinstance(seeds, int) and not isinstance(seeds, bool):
        chosen: list[Any] = list(range(recipe.seed, recipe.seed + min(seeds, 1001)))
    else:
        chosen = list(seeds) if isinstance(seeds, Iterable) and not isinstance(seeds, str) else []
    whole = all(isinstance(number, numbers.Integral) and not isinstance(number, bool) for number in chosen)
    if not whole or not 1 <= len(chosen) <= 1000 or len(set(chosen)) < len(chosen):
        raise DLStudioError("how many seeds, up to 1,000, or different ones", f"seeds={seeds!r}", "Try seeds=5.")
    return [recipe.replace(seed=int(number)).seed for number in chosen]


def _check_numbers(level: float, margin: float | None) -> None:
    if not isinstance(level, int | float) or not 0 < level < 1:
        raise DLStudioError("a level of confidence between 0 and 1", f"level={level!r}", "Try level=0.95.")
    if margin is not None and not (isinstance(margin, int | float) and math.isfinite(margin) and margin > 0):
        raise DLStudioError(
            "a margin above 0", f"margin={margin!r}", "Give the largest difference that does not matter."
        )
