"""From a row that a model decides as wanted, straight towards the row to be explained, while the decision lasts."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from dlstudio.explain.counterfactuals.space import Array, Space

__all__ = ["Approach", "Judge"]

ON = np.array([0.25, 0.5, 1.0])
BEYOND = 1 + np.array([1e-9, 1e-6, 1e-3, 0.03, 0.2, 0.6])
"""How far to go towards an aim: parts of the way from where a search stands, and of the way from the start."""

Judge = Callable[[Array], tuple[Array, Array]]
"""Rows to margins float64 (k,), the higher the closer to what is wanted, and whether that is reached, bool (k,)."""


class Approach:
    """Draws points (k, columns) towards the start of a space.

    Args:
        space: what may change.
        judge: asks the model about points.
        norm: of the distance, ``"l1"`` or ``"l2"``.
        limit: how many columns may differ at once.
    """

    def __init__(self, space: Space, judge: Judge, *, norm: str, limit: int) -> None:
        self.space = space
        self.judge = judge
        self.norm = norm
        self.limit = limit
        self.numeric = np.array([at for at in space.free if not space.nominal[at]], dtype=np.int64)

    def thin_out(self, points: Array, slack: float = 0.0) -> Array:
        """Put columns back to the row's own value, one after the other, while decisions last.

        Args:
            points: (k, columns).
            slack: how much further numbers go first, so that others can make up for one that is put back.
        """
        further = np.where(self.space.nominal, points, self.space.start + (1 + slack) * (points - self.space.start))
        points = self.space.snap(further)
        if slack:
            points = points[self.judge(points)[1]]
        active = np.arange(len(points))
        while len(active):
            changed = points[active] != self.space.start
            several = changed.sum(axis=1, keepdims=True) > 1
            owner, at = np.nonzero(changed & several)
            if not len(owner):
                break
            tried = points[active][owner]
            tried[np.arange(len(owner)), at] = self.space.start[at]
            _, reached = self.judge(tried)
            distances = np.where(reached, self.space.distance(tried, self.norm), np.inf)
            still = []
            for place, row in enumerate(active):
                mine = np.flatnonzero(owner == place)
                if len(mine) and np.isfinite(distances[mine]).any():
                    points[row] = tried[mine[np.argmin(distances[mine])]]
                    still.append(row)
            active = np.array(still, dtype=np.int64)
        return points

    def pull(self, points: Array, columns: Array | None = None, rounds: int = 36) -> Array:
        """Move numbers straight towards the row's own as far as the decision lasts; the points have it to begin with.

        Args:
            points: (k, columns).
            columns: one column for each point to move alone; None for all at once.
            rounds: how often the way is halved.
        """
        if not len(self.numeric):
            return points
        moving = np.zeros((len(points), len(self.space.columns)), dtype=bool)
        if columns is None:
            moving[:, self.numeric] = True
        else:
            moving[np.arange(len(points)), columns] = True
            moving &= ~self.space.nominal
        best, failed = points.copy(), np.full_like(points, np.nan)
        low, high = np.zeros(len(points)), np.ones(len(points))
        way = np.where(moving, points - self.space.start, 0.0)
        for _ in range(rounds):
            middle = (low + high) / 2
            tried = self.space.snap(np.where(moving, self.space.start + middle[:, None] * way, points))
            reached = (tried == best).all(axis=1)
            new = ~reached & ~(tried == failed).all(axis=1)  # steps of whole numbers come by the same place again
            reached[new] = self.judge(tried[new])[1]
            high, low = np.where(reached, middle, high), np.where(reached, low, middle)
            best[reached], failed[~reached] = tried[reached], tried[~reached]
        return best

    def slide(self, points: Array) -> Array:
        """Pull column after column, the furthest first."""
        furthest = np.argsort(-np.abs(self.space.shifts(points)), axis=1)
        for place in range(min(self.limit, 4)):
            points = self.pull(points, furthest[:, place], rounds=24)
        return points

    def descend(self, points: Array, masks: Array, rounds: int) -> Array:
        """Step to the nearest point that the model's slope promises, again and again.

        Args:
            points: (k, columns), with the wanted decision or not.
            masks: bool (k, numeric), the columns that may move.
            rounds: how many steps.

        Returns:
            Points with the wanted decision, at most k.
        """
        points, masks = points[masks.any(axis=1)], masks[masks.any(axis=1)]
        if not len(points):
            return points
        best = points.copy()
        margins, reached = self.judge(points)
        lengths = self._lengths(points, reached)
        each = np.arange(len(points))
        for _ in range(rounds):
            aim = self._aim(points, margins, masks)
            on = points[:, None] + ON[:, None] * (aim - points)[:, None]
            further = self.space.start + BEYOND[:, None] * (aim - self.space.start)[:, None]
            beyond = np.where(self.space.nominal, points[:, None], further)
            tried = np.concatenate([on, beyond], axis=1)
            flat = self.space.snap(tried.reshape(-1, points.shape[1]))
            found, reached = self.judge(flat)
            far = self._lengths(flat, reached).reshape(tried.shape[:2])
            # Where nothing on the way has the wanted decision, go on from its end.
            chosen = np.where(np.isfinite(far.min(axis=1)), far.argmin(axis=1), len(ON) - 1)
            points = flat.reshape(tried.shape)[each, chosen]
            margins = found.reshape(tried.shape[:2])[each, chosen]
            held = np.isfinite(far[each, chosen])
            if held.any():
                points[held] = self.pull(points[held], rounds=24)
                margins[held], _ = self.judge(points[held])
                now = self._lengths(points, held)
                better = now < lengths
                best[better], lengths[better] = points[better], now[better]
        return self.pull(best[np.isfinite(lengths)])

    def _lengths(self, points: Array, reached: Array) -> Array:
        """Distances (k,), infinite without the wanted decision or with too many changes."""
        counted = reached & ((points != self.space.start).sum(axis=1) <= self.limit)
        lengths: Array = np.where(counted, self.space.distance(points, self.norm), np.inf)
        return lengths

    def _aim(self, points: Array, margins: Array, masks: Array) -> Array:
        """The nearest points to the start at which the linearised margin is zero, within the columns' ends."""
        numeric = self.numeric
        columns = [self.space.columns[at] for at in numeric]
        unit, start = self.space.unit[numeric], self.space.start[numeric]
        ends = np.array([column.ends for column in columns])
        low, high = ((ends - start[:, None]) / unit[:, None]).T
        slopes = self._slopes(points, masks)
        here = (points[:, numeric] - start) / unit
        n_other = (points != self.space.start).sum(axis=1) - (points[:, numeric] != start).sum(axis=1)
        needed = (slopes * here).sum(axis=1) - margins
        rank = np.argsort(np.argsort(-np.abs(slopes), axis=1), axis=1)
        slopes = np.where(rank < (self.limit - n_other)[:, None], slopes, 0.0)
        step = _knapsack if self.norm == "l1" else _clipped
        shifts = step(slopes, needed, low, high)
        aim = points.copy()
        aim[:, numeric] = start + shifts * unit
        return aim

    def _slopes(self, points: Array, masks: Array) -> Array:
        """The change of the margin per unit of every numeric column (k, numeric), by differences."""
        k, numeric = len(points), self.numeric
        slopes = np.zeros((k, len(numeric)))
        owner, place = np.nonzero(masks)
        at = numeric[place]
        steps = np.array([max(column.step, 1e-2 * column.unit) for column in self.space.columns])[at]
        ahead, behind = points[owner], points[owner]
        rows = np.arange(len(owner))
        ahead[rows, at] += steps
        behind[rows, at] -= steps
        ahead, behind = self.space.snap(ahead), self.space.snap(behind)
        both, _ = self.judge(np.concatenate([ahead, behind]))
        width = (ahead[rows, at] - behind[rows, at]) / self.space.unit[at]
        rise = both[: len(owner)] - both[len(owner) :]
        slopes[owner, place] = np.divide(rise, width, out=np.zeros_like(rise), where=width > 0)
        return np.nan_to_num(slopes, nan=0.0, posinf=0.0, neginf=0.0)


def _clipped(slopes: Array, needed: Array, low: Array, high: Array) -> Array:
    """The shortest u (k, n) in Euclidean length with slopes · u >= needed and low <= u <= high, or the furthest."""
    least, top = np.zeros(len(slopes)), np.ones(len(slopes))

    def enough(factor: Array) -> Array:
        reached: Array = (slopes * np.clip(factor[:, None] * slopes, low, high)).sum(axis=1) >= needed
        return reached

    for _ in range(60):
        top = np.where(enough(top), top, 2 * top)
    for _ in range(100):
        middle = (least + top) / 2
        holds = enough(middle)
        top, least = np.where(holds, middle, top), np.where(holds, least, middle)
    shifts: Array = np.where(slopes != 0, np.clip(top[:, None] * slopes, low, high), 0.0)
    return shifts


def _knapsack(slopes: Array, needed: Array, low: Array, high: Array) -> Array:
    """The shortest u (k, n) in city blocks with slopes · u >= needed and low <= u <= high, or the furthest."""
    reach = np.where(slopes > 0, np.maximum(high, 0.0), np.where(slopes < 0, -np.minimum(low, 0.0), 0.0))
    order = np.argsort(-np.abs(slopes) * (reach > 0), axis=1)
    rate, room = np.take_along_axis(np.abs(slopes), order, 1), np.take_along_axis(reach, order, 1)
    left = needed.copy()
    taken = np.zeros_like(room)
    for place in range(room.shape[1]):
        share = np.divide(left, rate[:, place], out=np.zeros_like(left), where=rate[:, place] > 0)
        taken[:, place] = np.clip(share, 0.0, room[:, place])
        left = left - taken[:, place] * rate[:, place]
    shifts = np.zeros_like(slopes)
    np.put_along_axis(shifts, order, taken, axis=1)
    return shifts * np.sign(slopes)
