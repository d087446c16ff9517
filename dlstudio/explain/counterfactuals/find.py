"""The verb: find counterfactuals of a row."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from dlstudio.errors import DLStudioError, unknown_name
from dlstudio.explain.counterfactuals.constraints import Constraints
from dlstudio.explain.counterfactuals.decision import Decision, asked
from dlstudio.explain.counterfactuals.diversity import choose
from dlstudio.explain.counterfactuals.nearest import Search
from dlstudio.explain.counterfactuals.result import CounterfactualResult, findings
from dlstudio.explain.counterfactuals.space import Array, Space
from dlstudio.explain.counterfactuals.tables import points_of, space_of_array, space_of_dataset
from dlstudio.limits import Cancel, Limit, whole_number
from dlstudio.results import save

if TYPE_CHECKING:
    from dlstudio.data.dataset import Dataset
    from dlstudio.explain.session import Session

__all__ = ["find_counterfactuals"]

NORMS = ("l1", "l2")
N_BACKGROUND = 5_000
BATCH = 8192
BEYOND = (0.0, 1e-12, 1e-9, 1e-6, 1e-5, 1e-4, 1e-3)
"""How much further to go where the model answers in the last digit otherwise to one row than to many."""


def find_counterfactuals(
    model: Any,
    row: Any,
    *,
    data: Dataset | None = None,
    background: Any = None,
    constraints: Constraints | None = None,
    target: int | float | str | tuple[float, float] | None = None,
    n: int = 4,
    max_changes: int | None = None,
    norm: str = "l1",
    seed: int = 0,
    feature_names: Sequence[str] = (),
    column_of_feature: Sequence[str] = (),
    class_names: Sequence[str] = (),
    output: str | int | None = None,
    max_batch: int | None = None,
    max_seconds: float | None = None,
    progress: bool | Callable[[int, int], None] = True,
    cancel: Cancel | None = None,
) -> CounterfactualResult:
    """Find the nearest rows that flip a model's decision on a table row.

    Works on any model that can be asked about many rows. Afterwards every returned row satisfies the constraints and
    was put to the model once more, alone; the model is as it was. Several ones differ in the columns that they change
    or in the way they change them. Numbers keep the decimals of the data: whole ones stay whole.

    Args:
        model: a module, a function of rows such as ``classifier.predict_proba``, or a run or its name. A module or
            function returns (m, k) scores of classes, class labels, or (m,) or (m, 1) values.
        row: (features,) array or tensor; with `data`, or for a run, the number of a row of the data set or an
            encoded row.
        data: the table that a module or function was trained on: rows are then changed in their original columns
            and units, a category as a whole.
        background: (m, features) rows like `row`; they give ranges, units and decimals. With `data` its training rows.
        constraints: what may change; without them, any column within the values of the background.
        target: the class to reach, by index or name, None for any other; of a model that returns values, the value
            to reach or an interval ``(low, high)``.
        n: how many to return at most.
        max_changes: how many columns may differ at once; None for any number.
        norm: ``"l1"``, the sum of the shifts, which prefers few changes, or ``"l2"``, their Euclidean length.
        seed: of the random part of the search.
        feature_names, column_of_feature: see `dlstudio.explain.counterfactuals.tables.space_of_array`; not with `data`.
        class_names: what the classes are called; not with `data`.
        output: the field to read where a module returns a tuple or a dict.
        max_batch: the most rows the model is given at once; halved when memory runs out. None for 8,192.
        max_seconds, cancel: when to stop; what was found by then is returned, with a finding that the search was cut
            short.
        progress: a bar over the steps of a long search, or a function called with steps done and all.

    Returns:
        What was found. That of a row of a run's data set is saved with it as ``results/counterfactuals-ROW.json``.

    Raises:
        DLStudioError: rows, names, constraints or targets that do not fit.

    Example:
        >>> limits = Constraints(immutable=("age",), directions={"income": "up"})
        >>> result = find_counterfactuals(model, x[0], background=x, constraints=limits, feature_names=names)
        >>> result.values[0], result.distance[0]
    """
    from dlstudio.running import Runner, memory_named

    started = time.perf_counter()
    limit = Limit(max_seconds, cancel)
    n, seed = whole_number("n", n, 1, "Try n=4."), whole_number("seed", seed, 0, "Try seed=0.")
    if max_changes is not None:
        max_changes = whole_number("max_changes", max_changes, 1, "Try max_changes=4.")
    if norm not in NORMS:
        raise unknown_name("norm", norm, NORMS)
    constraints = _constraints(constraints)
    run, session = "", None
    if isinstance(model, str) or hasattr(model, "scalars"):
        session = _of_run(model, data)
        model, data, run = session.model, session.dataset, session.run.key
    if data is not None:
        space, at = _from_dataset(data, row, constraints, background, (*feature_names, *column_of_feature))
        class_names = data.class_names
        known: Array | None = data.inputs[data.splits["train"][:N_BACKGROUND]].numpy()
    else:
        at = -1
        start, known = _array(row, "row"), None if background is None else _array(background, "background")
        if known is not None and (known.ndim != 2 or known.shape[1] != len(start)):
            raise DLStudioError(
                f"a background of shape (m, {len(start)})", f"shape {known.shape}", "Pass rows like the one to change."
            )
        space = space_of_array(start, known, feature_names, column_of_feature, constraints)
    as_tensor = data is not None or hasattr(row, "detach")
    runner = Runner(max_batch=BATCH if max_batch is None else max_batch, progress=False, cancel=limit)
    with memory_named(), asked(model, space.row, output, as_tensor) as ask:
        decision = Decision(ask, space.row, target=target, class_names=class_names)
        most = len(space.columns) if max_changes is None else max_changes
        search = Search(space, decision.judge, norm=norm, max_changes=most, seed=seed, runner=runner)
        exhaustive = search.run(None if known is None else points_of(space, known[:N_BACKGROUND]), progress)
        points, outputs = _pick(search, decision, n)
    distance = space.distance(points, norm)
    reason = _reason(len(points), n, exhaustive, search, decision)
    result = CounterfactualResult(
        columns=tuple(column.name for column in space.columns),
        original=tuple(column.shown for column in space.columns),
        values=tuple(
            tuple(column.shows(item) for column, item in zip(space.columns, point, strict=True))
            for point in points.tolist()
        ),
        changed=points != space.start,
        shifts=space.shifts(points),
        units=space.unit,
        distance=distance,
        decision=decision.name,
        decisions=tuple(decision.names(outputs[1:])),
        outputs=outputs.reshape(len(outputs), -1).astype(np.float64)
        if outputs.dtype.kind in "biuf"
        else np.empty((0, 0)),
        inputs=space.encode(np.concatenate([space.start[None], points])),
        exhaustive=exhaustive,
        reason=reason,
        norm=norm,
        max_changes=max_changes,
        constraints=constraints,
        seed=seed,
        row=at,
        run=run,
        n_evaluations=decision.n_evaluations,
    )
    result = dataclasses.replace(
        result, findings=findings(result, search.stopped), wall_s=time.perf_counter() - started
    )
    if session is not None and at >= 0:
        save(result, session.run.folder / "results", f"counterfactuals-{at}")
    return result


def _constraints(given: Any) -> Constraints:
    if given is None:
        return Constraints()
    if not isinstance(given, Constraints):
        got = type(given).__name__
        raise DLStudioError("dls.Constraints", got, "Write for instance dls.Constraints(immutable=('age',)).")
    return given


def _of_run(run: Any, data: Any) -> Session:
    from dlstudio.explain.session import Session

    if data is not None:
        raise DLStudioError("a run, which has its own data", "data= beside it", "Leave data out.")
    return Session(run)


def _array(given: Any, what: str) -> Array:
    """Return a row (features,) or a background (m, features) as finite numbers in its own type."""
    array = np.asarray(given.detach().cpu() if hasattr(given, "detach") else given)
    if what == "row" and array.ndim == 2 and len(array) == 1:
        array = array[0]
    if array.dtype.kind == "b":
        array = array.astype(np.int64)
    n_dims = 1 if what == "row" else 2
    if array.dtype.kind not in "iuf" or array.ndim != n_dims or not array.size:
        shape = "(features,)" if what == "row" else "(m, features)"
        raise DLStudioError(
            f"a {what} of numbers, shape {shape}",
            f"{array.dtype} of shape {array.shape}",
            "Pass one row, encoded as the model reads it, or data= and the number of a row.",
        )
    if not np.isfinite(array).all():
        where = np.flatnonzero(~np.isfinite(array).reshape(-1, array.shape[-1]).all(axis=0)).tolist()
        raise DLStudioError(
            f"finite numbers in the {what}", f"NaN or infinite values in features {where[:8]}", "Fill them first."
        )
    return array


def _from_dataset(
    data: Dataset, row: Any, constraints: Constraints, background: Any, names: Sequence[str]
) -> tuple[Space, int]:
    if not hasattr(data, "modality"):
        raise DLStudioError(
            "a data set as data", type(data).__name__, "Pass for instance data=dls.load_data('mortgage')."
        )
    if data.modality != "tabular":
        raise DLStudioError("a table", f"{data.modality} data", "Counterfactuals change the columns of a table.")
    if background is not None or names:
        raise DLStudioError(
            "background and names from the data set",
            "background, feature_names or column_of_feature",
            "Leave them out.",
        )
    if isinstance(row, int | np.integer) and not isinstance(row, bool):
        if not 0 <= row < len(data):
            raise DLStudioError(f"a row number from 0 to {len(data) - 1:,}", f"row={row}", "Choose a row of the data.")
        return space_of_dataset(data, data.inputs[int(row)].numpy(), int(row), constraints), int(row)
    start = _array(row, "row").astype(np.float32)
    if len(start) != len(data.feature_names):
        raise DLStudioError(
            f"the number of a row, or an encoded row of {len(data.feature_names)} features",
            f"a row of {len(start)}",
            "Pass row=0, for instance.",
        )
    return space_of_dataset(data, start, None, constraints), -1


def _pick(search: Search, decision: Decision, n: int) -> tuple[Array, Array]:
    """Choose up to n points, each put to the model again, alone; return them and all outputs, the row's own first."""
    space, found = search.space, search.found()
    points, outputs = [], []

    def accept(at: int) -> bool:
        for beyond in BEYOND:
            further = np.where(space.nominal, found[at], space.start + (1 + beyond) * (found[at] - space.start))
            point = space.snap(further[None])
            answer, reached = decision.ask_one(space.encode(point))
            if reached:
                points.append(point[0])
                outputs.append(answer[0])
                return True
        return False

    choose(space.signature(found), space.shifts(found), space.distance(found, search.norm), n, accept)
    chosen = np.array(points).reshape(-1, len(space.start))
    order = np.argsort(space.distance(chosen, search.norm), kind="stable")
    return chosen[order], np.stack([decision.outputs[0], *(outputs[at] for at in order)])


def _reason(n_found: int, n: int, exhaustive: bool, search: Search, decision: Decision) -> str:
    tried = f"{decision.n_evaluations:,} rows were tried"
    if n_found and search.stopped:
        return f"There may be nearer ones and others, as the search was cut short: {search.stopped}."
    if n_found >= n:
        return ""
    if n_found:
        return f"Only {n_found} of {n} differ in what they change."
    if not search.space.free:
        return "The constraints leave no column that may change."
    if exhaustive:
        return f"None exists within the constraints: all {search.n_evaluations:,} allowed rows were tried."
    end = f", then the search was cut short: {search.stopped}" if search.stopped else ", not all"
    return f"None was found within the constraints. That is no proof that none exists: {tried}{end}."
