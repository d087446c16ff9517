"""The search for the nearest rows that a model decides otherwise; the model is only ever asked, never looked into."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from dlstudio.explain.counterfactuals.approach import Approach, Judge
from dlstudio.explain.counterfactuals.diversity import choose
from dlstudio.explain.counterfactuals.space import Array, Space
from dlstudio.limits import Halted, counted

if TYPE_CHECKING:
    from dlstudio.running import Runner

__all__ = ["Search"]

MAX_ENUMERATED = 100_000
SWEEP = 33
KEPT = 2_000
SPREADS = 16


class Search:
    """Finds rows with the wanted decision, near the row that a space was made for.

    Where the allowed rows can be counted, all are tried. Otherwise rows found by sweeps of one column, by steps of
    several, among the background and at random are drawn towards the start as far as the decision lasts.

    Args:
        space: what may change.
        judge: asks the model.
        norm: of the distance, ``"l1"`` or ``"l2"``.
        max_changes: how many columns may differ at once.
        seed: of the random rows.
        runner: keeps memory and time.

    Attributes:
        n_evaluations: allowed rows that were tried so far.
        stopped: why the search was cut short; "" where it was not.
    """

    def __init__(self, space: Space, judge: Judge, *, norm: str, max_changes: int, seed: int, runner: Runner) -> None:
        self.space = space
        self.norm = norm
        self.limit = min(max_changes, len(space.free))
        self.n_evaluations = 0
        self.stopped = ""
        self._judge = judge
        self._runner = runner
        self._rng = np.random.default_rng(seed)
        self._pool: dict[bytes, tuple[float, Array]] = {}
        self._approach = Approach(space, self.judge, norm=norm, limit=self.limit)

    def run(self, background: Array | None, progress: bool | Callable[[int, int], None] = False) -> bool:
        """Search; returns whether every allowed row was tried.

        Args:
            background: points (m, columns) to start from, or None.
            progress: a bar over steps, or a function called with steps done and all.
        """
        if not self.space.free or self.limit == 0:
            return True
        few = self._count() <= MAX_ENUMERATED
        tries = [functools.partial(self.judge, points) for points in self._all_points()] if few else []
        try:
            for step in counted(tries or self._steps(background), progress, "step", "Searching"):
                step()
        except Halted as halt:
            self.stopped = str(halt)
        return few and not self.stopped

    def _steps(self, background: Array | None) -> Sequence[Callable[[], object]]:
        return (
            self._sweep,
            self._climb,
            lambda: self._neighbours(background),
            self._at_random,
            self._descend,
            *(self._refine,) * 3,
            lambda: self._spread(self.found()[:4]),
        )

    def found(self) -> Array:
        """Return the nearest point of every way to change columns, (k, columns), the nearest first."""
        ordered = sorted(
            self._pool.values(), key=lambda pair: (round(pair[0], 9), np.count_nonzero(pair[1] != self.space.start))
        )
        return np.array([point for _, point in ordered]).reshape(-1, len(self.space.columns))

    def judge(self, points: Array) -> tuple[Array, Array]:
        """Ask the model about allowed points (k, columns); remember the nearest that it decides as wanted.

        Raises:
            Halted: the time is over or someone cancelled; what was found by then is remembered.
        """

        def ask(rows: slice, limit: int) -> tuple[Array, Array]:
            part = points[rows]
            margins, reached = self._judge(self.space.encode(part))
            self.n_evaluations += len(part)
            n_changed = (part != self.space.start).sum(axis=1)
            self._remember(part[reached & (n_changed > 0) & (n_changed <= self.limit)])
            return margins, reached

        if not len(points):
            return np.empty(0), np.empty(0, dtype=bool)
        parts = self._runner.every_row(len(points), 1, ask)
        return np.concatenate([part[0] for part in parts]), np.concatenate([part[1] for part in parts])

    def _remember(self, points: Array) -> None:
        if not len(points):
            return
        distances = self.space.distance(points, self.norm)
        order = np.argsort(distances, kind="stable")
        signs = self.space.signature(points)[order]
        _, first = np.unique(signs, axis=0, return_index=True)
        for at in first:
            key, distance = signs[at].tobytes(), float(distances[order[at]])
            if key not in self._pool or distance < self._pool[key][0]:
                self._pool[key] = (distance, points[order[at]])
        if len(self._pool) > 2 * KEPT:
            self._pool = dict(sorted(self._pool.items(), key=lambda item: item[1][0])[:KEPT])

    # -- all of them --------------------------------------------------------------------------------------------------

    def _count(self) -> float:
        """How many allowed points there are, infinite where a column takes any number."""
        counts = [1.0] + [0.0] * self.limit  # of points with 0, 1, 2, ... columns changed
        for at in self.space.free:
            choices = self.space.columns[at].choices
            n_choices = math.inf if choices is None else len(choices)
            for n_changed in range(self.limit, 0, -1):
                if counts[n_changed - 1]:
                    counts[n_changed] += counts[n_changed - 1] * n_choices
        return sum(counts)

    def _all_points(self) -> Iterator[Array]:
        waiting: list[Array] = []
        for n_changed in range(1, self.limit + 1):
            for chosen in itertools.combinations(self.space.free, n_changed):
                values = [self.space.columns[at].choices for at in chosen]
                grid = np.stack(np.meshgrid(*map(np.asarray, values), indexing="ij"), axis=-1).reshape(-1, n_changed)
                points = np.tile(self.space.start, (len(grid), 1))
                points[:, list(chosen)] = grid
                waiting.append(points)
                if sum(map(len, waiting)) >= 4096:
                    yield np.concatenate(waiting)
                    waiting = []
        if waiting:
            yield np.concatenate(waiting)

    # -- where to begin -----------------------------------------------------------------------------------------------

    def _values(self, at: int, n: int) -> Array:
        """Values of a column to try, at most `n` of a column of numbers."""
        column = self.space.columns[at]
        if column.choices is not None:
            spread = np.linspace(0, len(column.choices) - 1, min(n, len(column.choices))).round().astype(np.int64)
            return column.choices if column.labels else column.choices[spread]
        reach = column.unit * 2.0 ** np.linspace(-6, 14, n // 2 + 1)
        either = np.concatenate([column.current - reach, column.current + reach])
        ends = np.array([end for end in (column.low, column.high) if math.isfinite(end)])
        if len(ends) == 2:
            inside = either[(either > ends[0]) & (either < ends[1])]
            either = np.concatenate([np.linspace(ends[0], ends[1], n), inside])
        values: Array = np.unique(column.snap(np.concatenate([either, ends])))
        return values[values != column.current]  # type: ignore[no-any-return]

    def _moves(self, points: Array, n: int) -> Array:
        """All points that differ from one of these in one column."""
        moved = []
        for at in self.space.free:
            values = self._values(at, n)
            block = np.repeat(points, len(values), axis=0)
            block[:, at] = np.tile(values, len(points))
            moved.append(block)
        return np.concatenate(moved)

    def _sweep(self) -> None:
        self.judge(self._moves(self.space.start[None], 200))

    def _climb(self) -> None:
        """Change one column after the other, keeping the few points that got closest, and got there cheapest."""
        beam = self.space.start[None]
        margins, _ = self.judge(beam)
        first = float(margins[0])
        for _ in range(min(self.limit, 6)):
            points = self._moves(beam, 9)
            points = points[(points != self.space.start).sum(axis=1) <= self.limit]
            if not len(points):
                return
            margins, reached = self.judge(points)
            rate = (margins - first) / np.maximum(self.space.distance(points, self.norm), 1e-12)
            open_ = np.flatnonzero(~reached)
            if not len(open_):
                return
            by_margin, by_rate = open_[np.argsort(-margins[open_])[:4]], open_[np.argsort(-rate[open_])[:8]]
            beam = np.unique(points[np.concatenate([by_margin, by_rate])], axis=0)

    def _neighbours(self, background: Array | None) -> None:
        """Start from real rows that the model decides as wanted, as far as they may be copied."""
        if background is None or not len(background):
            return
        points = np.unique(self.space.snap(background), axis=0)
        points = points[np.argsort(self.space.distance(points, self.norm), kind="stable")[:4096]]
        _, reached = self.judge(points)
        self._approach.thin_out(points[reached][:32])

    def _at_random(self) -> None:
        n, free = 1024, self.space.free
        points = np.tile(self.space.start, (n, 1))
        sizes = np.minimum(self._rng.integers(1, 5, n), self.limit)
        sizes[: n // 4] = self.limit
        changed = self._rng.random((n, len(free))).argsort(axis=1) < sizes[:, None]
        for place, at in enumerate(free):
            values = self._values(at, SWEEP)
            points[changed[:, place], at] = self._rng.choice(values, int(changed[:, place].sum()))
        _, reached = self.judge(points)
        points = points[reached]
        points = points[np.argsort(self.space.distance(points, self.norm), kind="stable")[:256]]
        self._approach.thin_out(points[:32])
        points = self._approach.pull(points, rounds=16)
        self._spread(points[np.argsort(self.space.distance(points, self.norm), kind="stable")[:8]])

    # -- drawing near -------------------------------------------------------------------------------------------------

    def _refine(self) -> None:
        """Draw near and different points closer: by all columns, by those they changed, and by fewer of them."""
        found = self.found()
        n = max(4, min(24, 1024 // len(self.space.free)))
        signatures, shifts = self.space.signature(found), self.space.shifts(found)
        best = found[choose(signatures, shifts, self.space.distance(found, self.norm), n)]
        if not len(best):
            return
        best = self._approach.slide(self._approach.pull(self._approach.thin_out(best)))
        if len(self._approach.numeric):
            own = (best != self.space.start)[:, self._approach.numeric]
            both = np.concatenate([own, np.ones_like(own)])
            best = self._approach.slide(self._approach.descend(np.concatenate([best, best]), both, rounds=6))
            self._approach.pull(self._approach.thin_out(best, slack=0.1))

    def _spread(self, points: Array) -> None:
        """Look around points at random, closer and closer, moving to whatever proves nearer.

        Slopes lead astray where the decision's edge has corners or the model has steps.
        """
        numeric = self._approach.numeric
        if not len(points) or not len(numeric):
            return
        width = 0.5 * self.space.distance(points, self.norm)
        for _ in range(SPREADS):
            around = np.repeat(points, 16, axis=0)
            changed = (around != self.space.start)[:, numeric]
            steps = self._rng.normal(size=changed.shape) * np.repeat(width, 16)[:, None] * self.space.unit[numeric]
            around[:, numeric] += np.where(changed, steps / np.sqrt(np.maximum(1, changed.sum(axis=1)))[:, None], 0.0)
            around = self.space.snap(around)
            _, reached = self.judge(around)
            around[~reached] = np.repeat(points, 16, axis=0)[~reached]
            around = self._approach.pull(around, rounds=16).reshape(len(points), 16, -1)
            lengths = self.space.distance(around.reshape(-1, around.shape[2]), self.norm).reshape(len(points), 16)
            best = lengths.argmin(axis=1)
            nearer = lengths.min(axis=1) < self.space.distance(points, self.norm) * (1 - 1e-9)
            points = np.where(nearer[:, None], around[np.arange(len(points)), best], points)
            width = np.where(nearer, width, width / 2)

    def _descend(self) -> None:
        masks = self._masks()
        self._approach.descend(np.tile(self.space.start, (len(masks), 1)), masks, rounds=12)

    def _masks(self) -> Array:
        """Sets of numeric columns (k, numeric) to step along: all, all but one, and random ones."""
        n = len(self._approach.numeric)
        leave_one = ~np.eye(n, dtype=bool)[:16]
        random = self._rng.random((16, n)) < 0.5
        return np.concatenate([np.ones((1, n), dtype=bool), leave_one, random])
