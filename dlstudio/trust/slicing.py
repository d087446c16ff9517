"""Rows cut into slices by their values, for `find_slices`."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from dlstudio.data.groups import name_of, written
from dlstudio.errors import DLStudioError, unknown_name
from dlstudio.trust.slice_evidence import Floats, Ints, Tally

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Cut", "Grid", "clusters", "cut_columns"]

AS_THEY_ARE = 10
"""A column of numbers with more distinct values than this is cut at its quantiles."""
MOST_VALUES = 50
FIT_ROWS = 20_000


@dataclasses.dataclass(frozen=True, kw_only=True)
class Cut:
    """A column cut into values.

    Attributes:
        name: of the column.
        codes: int64 (n,), which value every row has: 1, 2, …; 0 for a value too rare to be a slice.
        labels: what each value says of its rows, such as ``"age > 52"``; the label of code 1 comes first.
        alone: whether it takes part in no intersections.
        n_rare: how many values are too rare.
    """

    name: str
    codes: Ints
    labels: tuple[str, ...]
    alone: bool = False
    n_rare: int = 0


def cut_columns(
    frame: pd.DataFrame, columns: Sequence[str] | None, bins: int, min_rows: int, *, strict: bool
) -> tuple[list[Cut], dict[str, str]]:
    """Cut columns into values, numbers of many values at their quantiles; None takes all columns.

    Returns:
        The cuts, and why columns were left out, by name.

    Raises:
        DLStudioError: a column is not there, or, if `strict`, cannot be cut.
    """
    names = list(frame.columns) if columns is None else list(columns)
    cuts: list[Cut] = []
    skipped: dict[str, str] = {}
    for name in dict.fromkeys(names):
        if name not in frame.columns:
            raise unknown_name("column", name, map(str, frame.columns))
        if names.count(name) > 1 or list(frame.columns).count(name) > 1:
            raise DLStudioError("columns of different names", f"{name!r} twice", "Rename or drop one of them.")
        found = _cut(str(name), frame[name], bins, min_rows)
        if isinstance(found, Cut):
            cuts.append(found)
        elif not strict:
            skipped[str(name)] = found
        else:
            raise DLStudioError(
                f"a column of at most {MOST_VALUES} values, or of numbers",
                f"{name!r}: {found}",
                "Leave it out, or put it into groups first.",
            )
    return cuts, skipped


def clusters(points: Any, n_rows: int, n_clusters: int, min_rows: int, seed: int, name: str) -> Cut:
    """Cut rows into clusters of points (n, d), by k-means; `name` says what the points are.

    Raises:
        DLStudioError: they are no finite numbers (n, d), or there are fewer different ones than clusters.
    """
    from sklearn.cluster import KMeans

    points = np.asarray(points, dtype=np.float64)
    if points.ndim != 2 or len(points) != n_rows or not np.isfinite(points).all():
        raise DLStudioError(
            f"finite embeddings of shape ({n_rows}, d)", f"shape {points.shape}", "Pass one vector for every row."
        )
    sample = points
    if n_rows > FIT_ROWS:
        sample = points[np.random.default_rng(seed).choice(n_rows, FIT_ROWS, replace=False)]
    if len(np.unique(sample, axis=0)) < n_clusters:
        raise DLStudioError(
            f"{n_clusters} different embeddings or more", "fewer", "Choose a smaller n_clusters, or other embeddings."
        )
    codes = KMeans(n_clusters, n_init=3, random_state=seed).fit(sample).predict(points)
    labels = tuple(f"{name} cluster {number}" for number in range(n_clusters))
    return dataclasses.replace(_without_rare(f"{name} cluster", codes, labels, min_rows), alone=True)


def _cut(name: str, column: pd.Series[Any], bins: int, min_rows: int) -> Cut | str:
    """Cut one column; a string says why that is not possible."""
    import pandas as pd

    missing = column.isna().to_numpy()
    known = column[~missing]
    mixed = pd.api.types.infer_dtype(known) in ("mixed", "mixed-integer")
    if mixed:  # named before they are compared: lists cannot be, and to Python True is 1
        known = known.map(name_of)
    kind = known.dtype.kind if isinstance(known.dtype, np.dtype) else ""
    numeric = pd.api.types.is_numeric_dtype(known) and not pd.api.types.is_bool_dtype(known) and kind != "c"
    if kind in "mM" and kind:
        return "dates or times, which have to be put into groups first"
    if not missing.any() and (known == known.iloc[0]).all():
        return "every row has the same value"
    codes = np.empty(len(column), dtype=np.int64)
    labels: tuple[str, ...]
    if numeric and known.nunique() > AS_THEY_ARE:
        values = known.to_numpy(dtype=np.float64)
        edges = np.unique(np.quantile(values, np.arange(1, bins) / bins, method="inverted_cdf"))
        edges = edges[edges < values.max()]
        codes[~missing] = np.searchsorted(edges, values)
        ends = written(edges, 3)
        middle = [f"{low} < {name} ≤ {high}" for low, high in itertools.pairwise(ends)]
        labels = (f"{name} ≤ {ends[0]}", *middle, f"{name} > {ends[-1]}") if ends else (f"{name} is known",)
    else:
        found, kinds = pd.factorize(known, sort=numeric)
        if len(kinds) > MOST_VALUES:
            return f"{len(kinds):,} different values"
        each = [f"{name} = {value if mixed else name_of(value)}" for value in kinds]
        labels = tuple(dict.fromkeys(each))
        codes[~missing] = np.array([labels.index(label) for label in each], dtype=np.int64)[found]
    codes[missing] = len(labels)
    return _without_rare(name, codes, (*labels, f"{name} is missing"), min_rows)


def _without_rare(name: str, codes: Ints, labels: Sequence[str], min_rows: int) -> Cut:
    counts = np.bincount(codes, minlength=len(labels))
    kept = np.flatnonzero(counts >= min_rows)
    new = np.zeros(len(labels), dtype=np.int64)
    new[kept] = np.arange(1, len(kept) + 1)
    n_rare = int(((counts > 0) & (counts < min_rows)).sum())
    return Cut(name=name, codes=new[codes], labels=tuple(labels[place] for place in kept.tolist()), n_rare=n_rare)


class Grid:
    """All slices of at least `min_rows` rows, with as many elsewhere: single values, and intersections up to a depth.

    Args:
        cuts: the columns.
        loss: float64 (n,).
        depth: the most columns of an intersection.
        min_rows: of a slice.

    Attributes:
        conditions: of every slice, pairs of a cut's place and a code.
        tally: of all rows.
        n_small: how many slices have rows, but too few.
    """

    def __init__(self, cuts: Sequence[Cut], loss: Floats, depth: int, min_rows: int) -> None:
        self.cuts, self.loss = cuts, loss
        self._counts_only = bool(np.isin(loss, (0.0, 1.0)).all())
        self.conditions: list[tuple[tuple[int, int], ...]] = []
        self.n_small = sum(cut.n_rare for cut in cuts)
        self._first: dict[tuple[int, ...], tuple[int, Ints]] = {}
        counts: dict[tuple[int, ...], Ints] = {}
        for size in range(1, depth + 1):
            for places in itertools.combinations(range(len(cuts)), size):
                if size == 1 or not any(cuts[place].alone for place in places):
                    self._add(places, counts, min_rows)
        self.tally = self.of(None)

    def _add(self, places: tuple[int, ...], counts: dict[tuple[int, ...], Ints], min_rows: int) -> None:
        shape = tuple(len(self.cuts[place].labels) + 1 for place in places)
        count = np.bincount(
            self._codes(places, [cut.codes for cut in self.cuts]), minlength=int(np.prod(shape))
        ).reshape(shape)
        counts[places] = count
        inside = np.zeros(shape, dtype=bool)
        inside[(slice(1, None),) * len(places)] = True
        big = inside & (count >= min_rows) & (len(self.loss) - count >= min_rows)
        if len(places) > 1:
            self.n_small += int((inside & (count > 0) & (count < min_rows)).sum())
            for axis in range(len(places)):  # a condition that all rows of the others meet adds nothing
                parent = counts[places[:axis] + places[axis + 1 :]]
                big &= count < np.expand_dims(parent, axis)
        found = np.argwhere(big)
        self._first[places] = (len(self.conditions), np.flatnonzero(big))
        self.conditions += [tuple(zip(places, map(int, codes), strict=True)) for codes in found]

    def _codes(self, places: tuple[int, ...], parts: Sequence[Ints]) -> Ints:
        """Number the cells of an intersection, from the codes of every cut."""
        code = parts[places[0]]
        for place in places[1:]:
            code = code * (len(self.cuts[place].labels) + 1) + parts[place]
        return code

    def __len__(self) -> int:
        return len(self.conditions)

    def of(self, rows: Ints | None, which: Ints | None = None) -> Tally:
        """Tally slices among `rows`; None for all. Those of `which`, in its order; None for all."""
        wanted = np.ones(len(self), dtype=bool)
        if which is not None:
            wanted = np.zeros(len(self), dtype=bool)
            wanted[which] = True
        n = np.zeros(len(self), dtype=np.int64)
        total, squares = np.zeros(len(self)), np.zeros(len(self))
        loss = self.loss if rows is None else self.loss[rows]
        parts = [cut.codes if rows is None else cut.codes[rows] for cut in self.cuts]
        ones = np.flatnonzero(loss == 1)
        few = [codes[ones] for codes in parts]
        for places, (first, cells) in self._first.items():
            own = slice(first, first + len(cells))
            if not wanted[own].any():
                continue
            codes, size = self._codes(places, parts), int(cells[-1]) + 1
            n[own] = np.bincount(codes, minlength=size)[cells]
            if self._counts_only:
                total[own] = np.bincount(self._codes(places, few), minlength=size)[cells]
            else:
                total[own] = np.bincount(codes, loss, minlength=size)[cells]
                squares[own] = np.bincount(codes, loss**2, minlength=size)[cells]
        found = Tally(n, total, total.copy() if self._counts_only else squares)
        return found if which is None else found[which]

    def rows_of(self, slice_: int) -> Ints:
        """Return the places of a slice's rows."""
        return np.flatnonzero(self.meets(slice_, np.arange(len(self.loss))))

    def meets(self, slice_: int, rows: Ints) -> npt.NDArray[np.bool_]:
        """Return which of `rows` belong to a slice."""
        inside = np.ones(len(rows), dtype=bool)
        for place, code in self.conditions[slice_]:
            inside &= self.cuts[place].codes[rows] == code
        return inside

    def conditions_of(self, slice_: int) -> tuple[str, ...]:
        """Return what is true of a slice's rows, such as ``("race = black", "age > 52")``."""
        return tuple(self.cuts[place].labels[code - 1] for place, code in self.conditions[slice_])
