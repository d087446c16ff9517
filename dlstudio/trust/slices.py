"""Find where a model is worse than elsewhere: in which values of the features, or which cluster of embeddings."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from dlstudio.data.values import off_torch
from dlstudio.errors import DLStudioError
from dlstudio.limits import level_of_confidence, number_within, whole_number
from dlstudio.runs.kept import keep
from dlstudio.runs.run import Run, open_run
from dlstudio.trust.asked import asked
from dlstudio.trust.embeddings import embeddings_of
from dlstudio.trust.given import small_enough
from dlstudio.trust.slice_evidence import Floats, Ints
from dlstudio.trust.slice_result import RATE, SliceResult, findings_of
from dlstudio.trust.slice_search import Search
from dlstudio.trust.slicing import Cut, clusters, cut_columns

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["find_slices"]

DEEPEST = 3


def find_slices(
    data: pd.DataFrame | Run | str | None,
    y_true: Any = None,
    y_pred: Any = None,
    *,
    loss: Any = None,
    columns: Sequence[str] | None = None,
    depth: int = 2,
    bins: int = 4,
    embeddings: Any = None,
    n_clusters: int = 10,
    min_rows: int = 30,
    threshold: float = 0.0,
    level: float = 0.95,
    max_slices: int = 20,
    seed: int = 0,
) -> SliceResult:
    """Find slices of the rows where the model's loss is larger than elsewhere, with evidence that it is no chance.

    Rows are taken as independent: where several are of one person, chance looks like evidence. Pass one of each then.

    A slice is a value of a column, an intersection of several, or a cluster of embeddings. All of at least `min_rows`
    rows are tested against the rows outside. The p-values are corrected for their number by Holm's method, with equal
    parts for single values and for intersections, so that the chance of any false alarm is at most ``1 - level``. A
    slice that is worse only by rows it has in common with a listed one is left out, and counted.

    Args:
        data: the rows as people know them; or a run (or its name), whose test part is searched by the columns that the
            model sees and the sensitive ones, and by clusters of what the model makes of the rows before its last
            layer; None with embeddings.
        y_true, y_pred: (n,) classes, or values (where either has fractions); the loss is then whether they differ, or
            their absolute difference.
        loss: (n,) instead of them, or of the predictions of a run: any loss; one of only 0 and 1 is an error rate.
        columns: of the rows, to slice by; None takes all that can be sliced, and of a run also clusters.
        depth: the most columns of an intersection, 1 to 3.
        bins: how many parts a column of many numbers is cut into, at its quantiles.
        embeddings: (n, d), such as a layer's outputs; clusters of them are slices too. Those of a run come from its
            model.
        n_clusters: how many.
        min_rows: of a slice, and of the rows elsewhere.
        threshold: how much worse a slice has to be, in the unit of the loss, before it is shown.
        level: of confidence, of the family of all slices.
        max_slices: the most to list.
        seed: of the clusters.

    Returns:
        The slices; `frame` lists them, `rows_of` gives the rows behind one.

    Raises:
        DLStudioError: lengths differ, a loss is infinite or has no number, a column is unknown or has too many values,
            there is nothing to slice by, or a run has no stored predictions.

    Example:
        >>> found = dls.find_slices(frame, y_true, y_pred)
        >>> found.frame().head()
        >>> frame.iloc[found.rows_of(0)]

    References:
        Chung et al., Automated data slicing for model validation (2019); Holm, A simple
        sequentially rejective multiple test procedure (1979).
    """
    limits: tuple[tuple[str, Any, int], ...] = (
        ("depth", depth, 1), ("bins", bins, 2), ("n_clusters", n_clusters, 2), ("min_rows", min_rows, 2),
        ("max_slices", max_slices, 1), ("seed", seed, 0),
    )  # fmt: skip
    for name, number, least in limits:
        whole_number(name, number, least)
    if depth > DEEPEST:
        raise DLStudioError(f"depth up to {DEEPEST}", f"depth={depth}", "Deeper slices are too many and too small.")
    level_of_confidence(level)
    number_within("threshold", threshold, 0, remedy="Try threshold=0.05.")
    given = _Given.of(data, y_true, y_pred, loss, embeddings, named=columns is not None)
    known = np.flatnonzero(~np.isnan(given.loss))
    losses = given.loss[known]
    cuts: list[Cut] = []
    skipped: dict[str, str] = {}
    if given.frame is not None:
        wanted = given.columns if columns is None else [columns] if isinstance(columns, str) else list(columns)
        cuts, skipped = cut_columns(given.frame.iloc[known], wanted, bins, min_rows, strict=columns is not None)
    elif columns is not None:
        raise DLStudioError("rows with named columns", f"columns={columns!r} without any", "Pass a DataFrame.")
    if given.points is not None:
        points = np.asarray(off_torch(given.points))
        if points.ndim < 2 or points.dtype.kind not in "biuf":
            got = f"{points.dtype} of shape {points.shape}"
            raise DLStudioError("embeddings of numbers, of shape (n, d)", got, "Pass for instance a layer's outputs.")
        if len(points) != len(given.loss):
            raise _lengths(len(given.loss), f"{len(points):,} embeddings")
        try:
            cuts.append(clusters(points[known], len(known), n_clusters, min_rows, seed, given.kind_of_points))
        except DLStudioError as error:
            if embeddings is not None or not cuts:
                raise
            skipped["embeddings"] = f"{error.got}, where {error.expected} are needed"
    if not cuts:
        why = "; ".join(f"{name}: {reason}" for name, reason in list(skipped.items())[:4])
        raise DLStudioError("something to slice by", why or "no column", "Pass columns= or embeddings=.")
    search = Search(cuts, losses, depth=depth, min_rows=min_rows, threshold=threshold, level=level)
    listed = search.listed(max_slices)
    grid = search.grid
    value, elsewhere = search.means(listed.places)
    members = [grid.rows_of(place) for place in listed.places]
    result = SliceResult(
        conditions=tuple(grid.conditions_of(place) for place in listed.places),
        n=grid.tally.n[listed.places],
        value=value,
        elsewhere=elsewhere,
        low=search.low[listed.places],
        high=search.high[listed.places],
        p_value=search.p[listed.places],
        p_adjusted=search.adjusted[listed.places],
        shown=search.shown[listed.places],
        within=listed.within,
        members=tuple(given.rows[known[own[np.argsort(-losses[own], kind="stable")]]] for own in members),
        measure=given.measure,
        overall=float(losses.mean()),
        n_rows=len(losses),
        n_dropped=len(given.loss) - len(losses),
        n_tested=len(grid),
        n_small=grid.n_small,
        n_redundant=listed.n_redundant,
        n_unlisted=listed.n_unlisted,
        largest_high=float(search.high.max(initial=-np.inf)) if len(grid) else np.nan,
        skipped=skipped,
        depth=depth,
        min_rows=min_rows,
        threshold=float(threshold),
        level=level,
        seed=seed,
        data=given.data,
        run=given.run,
        options=asked(
            loss=loss,
            columns=columns,
            depth=depth,
            bins=bins,
            embeddings=embeddings,
            n_clusters=n_clusters,
            min_rows=min_rows,
            threshold=threshold,
            level=level,
            max_slices=max_slices,
            seed=seed,
        ),
    )
    return keep(dataclasses.replace(result, findings=findings_of(result)), "slices")


@dataclasses.dataclass(kw_only=True, eq=False)
class _Given:
    """The rows, their losses and what they can be sliced by."""

    loss: Floats
    measure: str
    rows: Ints
    frame: pd.DataFrame | None = None
    columns: list[str] | None = None
    points: Any = None
    kind_of_points: str = "embedding"
    data: str = ""
    run: str = ""

    @classmethod
    def of(cls, data: Any, y_true: Any, y_pred: Any, loss: Any, embeddings: Any, *, named: bool) -> _Given:
        if isinstance(data, (Run, str)):
            return cls._of_run(data, y_true, y_pred, loss, embeddings, named)
        if data is not None and not (hasattr(data, "columns") and hasattr(data, "iloc")):
            raise DLStudioError("a DataFrame, a run, or None with embeddings", type(data).__name__, "Pass one of them.")
        found, measure = _losses(y_true, y_pred, loss)
        if data is not None and len(data) != len(found):
            raise _lengths(len(data), f"{len(found):,} losses")
        return cls(loss=found, measure=measure, rows=np.arange(len(found)), frame=data, points=embeddings)

    @classmethod
    def _of_run(cls, run: Run | str, y_true: Any, y_pred: Any, loss: Any, embeddings: Any, named: bool) -> _Given:
        from dlstudio.training.predicted import predictions_of

        if y_true is not None or y_pred is not None:
            raise DLStudioError("a run alone", "a run and y_true or y_pred", "A run brings its own; leave these out.")
        predicted = predictions_of(run)
        if loss is None:
            found, measure = _losses(predicted.y_true, predicted.y_pred, None, predicted.task == "regression")
        else:
            found, measure = _losses(None, None, loss)
        if len(found) != len(predicted):
            raise _lengths(len(predicted), f"{len(found):,} losses")
        frame, dataset, columns = predicted.frame, predicted.dataset, None
        kind = "embedding"
        if frame is not None and dataset is not None and dataset.modality == "tabular":
            known = dict.fromkeys((*dataset.column_of_feature, *dataset.sensitive))
            columns = [name for name in known if name in frame.columns] or None
        if frame is not None and columns is None:
            columns = [name for name in frame.columns if name != predicted.target_name]
        if embeddings is None and dataset is not None and not named:
            embeddings = embeddings_of(open_run(predicted.run), dataset, predicted.rows)
            if embeddings is None and dataset.modality in ("image", "sequence"):
                embeddings, kind = dataset.inputs[predicted.rows].flatten(1).numpy(), "input"
        if frame is None and embeddings is None:
            raise DLStudioError(
                "a run of rows with columns, or of images or sequences",
                f"{predicted.run} on data that are not there any more",
                "Pass its rows: dls.find_slices(frame, loss=…), or embeddings=.",
            )
        return cls(
            loss=found, measure=measure, rows=predicted.rows, frame=frame, columns=columns, points=embeddings,
            kind_of_points=kind, data=predicted.data, run=predicted.run,
        )  # fmt: skip


def _losses(y_true: Any, y_pred: Any, loss: Any, regression: bool | None = None) -> tuple[Floats, str]:
    """Return the loss of every row and what to call its mean; a missing target, prediction or loss is NaN."""
    import pandas as pd

    found: Floats

    if (loss is None) == (y_true is None) or (y_true is None) != (y_pred is None):
        raise DLStudioError("y_true and y_pred, or loss", "neither or parts of both", "Pass y_true and y_pred.")
    if loss is not None:
        try:
            found = np.asarray(_one_a_row("loss", loss), dtype=np.float64)
        except (TypeError, ValueError) as error:
            raise DLStudioError("a number for every row as its loss", str(error), "Pass loss of shape (n,).") from error
        measure = RATE if np.isin(found[~np.isnan(found)], (0.0, 1.0)).all() else "mean loss"
    else:
        truth, said = (_one_a_row(name, given) for name, given in (("y_true", y_true), ("y_pred", y_pred)))
        if len(truth) != len(said):
            raise _lengths(len(truth), f"{len(said):,} predictions")
        numeric = [pd.api.types.is_numeric_dtype(item.infer_objects()) for item in (truth, said)]
        if len(truth) and numeric[0] != numeric[1]:
            got = ["numbers" if one else "none" for one in numeric]
            raise DLStudioError(
                "y_true and y_pred of one kind", f"{got[0]} in y_true, {got[1]} in y_pred", "Pass classes of one kind."
            )
        if regression is None:
            regression = numeric[0] and any(
                item.dtype.kind == "f" and (item.dropna() % 1 != 0).any() for item in (truth, said)
            )
        if regression:
            found, measure = (truth - said).abs().to_numpy(dtype=np.float64), "mean absolute error"
        else:
            found, measure = (truth != said).to_numpy().astype(np.float64), RATE
            found[(truth.isna() | said.isna()).to_numpy()] = np.nan
    if np.isinf(found).any():
        n = int(np.isinf(found).sum())
        raise DLStudioError("finite losses", f"{n:,} infinite ones", "Clip them, or pass NaN to leave rows out.")
    small_enough("losses", found)
    if not (~np.isnan(found)).any():
        raise DLStudioError("rows with a loss", "none", "Check y_true, y_pred or loss for missing values.")
    return found, measure


def _one_a_row(name: str, given: Any) -> pd.Series[Any]:
    import pandas as pd

    values = np.asarray(off_torch(given))
    if values.ndim != 1:
        raise DLStudioError(f"{name} of shape (n,)", f"shape {values.shape}", "Pass one value a row.")
    return pd.Series(values)


def _lengths(expected: int, got: str) -> DLStudioError:
    return DLStudioError(f"one for each of {expected:,} rows", got, "Pass the same rows in the same order.")
