"""Curves of many runs in one picture: aligned, thinned, and a band for every variant."""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias, get_args

import numpy as np
import numpy.typing as npt

from dlstudio.compare.gather import gather
from dlstudio.compare.read_curves import NO_EPOCHS, Align, Read, read_curves
from dlstudio.compare.result import Comparison
from dlstudio.compare.variants import group
from dlstudio.compare.words import listed, number
from dlstudio.errors import DLStudioError, unknown_name
from dlstudio.results import Finding, Result
from dlstudio.stats import mean_interval

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Overlay", "overlay", "overlay_of"]

Array: TypeAlias = npt.NDArray[np.float64]

GRID = 200
"""Most places at which the runs of a variant are averaged."""
FEW = 8
AXES = {"step": "optimiser step", "epoch": "epoch", "wall": "seconds since each run began"}


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Overlay(Result, schema=1):
    """One scalar of many runs over a common axis.

    Attributes:
        key: what was logged.
        align: the axis: ``"step"``, ``"epoch"`` (1 is the end of the first) or ``"wall"``, seconds since the run began.
        level: of confidence of the bands.
        names, keys, variants: of each run.
        starts: int64 (runs + 1,), where each run's points begin in `x` and `y`.
        x, y: float64 (points,), at most 200 points a run: its extremes, its ends and what is not finite.
        grid: float64 (g,), at most 200 places on the axis.
        on_grid: float64 (runs, g), the latest value that each run had logged by then; NaN before its first and after
            its last, where it was not finite as it was logged.
        left_out: (run, why) of runs without this curve, and of those that the comparison left out.
        findings: what has to be known of the bands; code DLS513.

    Example:
        >>> o = dls.overlay(["wide-0", "wide-1", "narrow-0", "narrow-1"], "val/loss", align="epoch")
        >>> o.bands.query("variant == 'wide'")[["x", "mean", "low", "high", "n"]]
        >>> o.only(variants=["wide"]).frame()
    """

    key: str
    align: str
    level: float
    names: tuple[str, ...]
    keys: tuple[str, ...]
    variants: tuple[str, ...]
    starts: npt.NDArray[np.int64]
    x: Array
    y: Array
    grid: Array
    on_grid: Array
    left_out: tuple[tuple[str, str], ...] = ()
    findings: tuple[Finding, ...] = ()

    def __len__(self) -> int:
        return len(self.keys)

    def frame(self) -> pd.DataFrame:
        """Return a row per point: ``variant, run, key, x, y``."""
        import pandas as pd

        lengths = np.diff(self.starts)
        columns = {"variant": self.variants, "run": self.names, "key": self.keys}
        named = {name: np.repeat(np.array(column, dtype=object), lengths) for name, column in columns.items()}
        return pd.DataFrame({**named, "x": self.x, "y": self.y})

    @property
    def bands(self) -> pd.DataFrame:
        """A row per variant and place: ``variant, x, mean, low, high, n``.

        The interval is Student's, of the mean of the n runs that go on there; NaN for one run alone.
        """
        import pandas as pd

        order = list(dict.fromkeys(self.variants))
        parts = []
        of_run = np.array([order.index(variant) for variant in self.variants], dtype=np.int64)
        for code, name in enumerate(order):
            values = self.on_grid[of_run == code]
            there = np.isfinite(values)
            n = there.sum(axis=0)
            with np.errstate(divide="ignore", invalid="ignore"):
                mean = np.where(there, values, 0).sum(axis=0) / n
                variance = np.where(there, (values - mean) ** 2, 0).sum(axis=0) / (n - 1)
            low, high = mean_interval(mean, variance, n, self.level)
            some = n > 0
            parts.append(
                pd.DataFrame({"variant": name, "x": self.grid, "mean": mean, "low": low, "high": high, "n": n})[some]
            )
        columns = ["variant", "x", "mean", "low", "high", "n"]
        return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=columns)

    @property
    def summary(self) -> tuple[str, ...]:
        """What is laid over each other, and where the variants come to at the end, in sentences."""
        order = list(dict.fromkeys(self.variants))
        n, of = len(self), len(order)
        runs = f"{n:,} {'run' if n == 1 else 'runs'} of {of:,} {'variant' if of == 1 else 'variants'}"
        band = f"a band is the {100 * self.level:g} % interval of a mean"
        said = [f"{self.key} of {runs}, by {AXES[self.align]}; {band}."]
        bands = self.bands
        ends = bands.dropna(subset=["mean"]).groupby("variant", sort=False).last()
        counted = [f"{name} {number(float(ends['mean'][name]))} (n = {int(ends['n'][name])})" for name in ends.index]
        if counted:
            said.append(f"The means where their curves end: {listed(counted, FEW)}.")
        if self.left_out:
            name, why = self.left_out[0]
            said.append(f"{len(self.left_out):,} left out, for instance {name}: {why}.")
        return tuple(said)

    def points(self, run: str) -> tuple[Array, Array]:
        """Return ``(x, y)`` of one run, by its key.

        Raises:
            DLStudioError: it is not among these.
        """
        if run not in self.keys:
            raise unknown_name("run", run, self.keys)
        at = self.keys.index(run)
        rows = slice(self.starts[at], self.starts[at + 1])
        return self.x[rows], self.y[rows]

    def only(self, *, variants: Iterable[str] | None = None, runs: Iterable[str] | None = None) -> Overlay:
        """Return the curves of some variants, or of some runs by their keys; nothing is read anew.

        Raises:
            DLStudioError: there is no such variant or run.
        """
        chosen = np.ones(len(self), dtype=bool)
        for kind, asked, there in (("variant", variants, self.variants), ("run", runs, self.keys)):
            if asked is None:
                continue
            wanted = set(asked)
            for name in wanted - set(there):
                raise unknown_name(kind, name, set(there))
            chosen &= np.array([name in wanted for name in there], dtype=bool)
        rows = np.flatnonzero(chosen)
        points = np.repeat(chosen, np.diff(self.starts))
        return _with_findings(
            dataclasses.replace(
                self,
                names=tuple(self.names[i] for i in rows),
                keys=tuple(self.keys[i] for i in rows),
                variants=tuple(self.variants[i] for i in rows),
                starts=np.concatenate([[0], np.cumsum(np.diff(self.starts)[rows])]).astype(np.int64),
                x=self.x[points],
                y=self.y[points],
                on_grid=self.on_grid[rows],
            )
        )

    def regroup(self, variants: Mapping[str, str]) -> Overlay:
        """Return the same curves as other variants, named by the key of the run."""
        for key in self.keys:
            if key not in variants:
                raise DLStudioError("a variant for every run", f"none for {key!r}", "Name the variant of each key.")
        return _with_findings(dataclasses.replace(self, variants=tuple(str(variants[key]) for key in self.keys)))


def overlay(what: Any, key: str, *, align: Align = "step", by: str | None = None, level: float = 0.95) -> Overlay:
    """Read one scalar of many runs, thinned, over a common axis.

    Afterwards thinned curves of the runs lie in the home (``curves/``), so that the next look is many times faster.
    Runs that other programs logged to MLflow are asked for one by one.

    Args:
        what: a comparison, of whose runs those are read that count in it; or runs, as `dls.compare` takes them: a list,
            an MLflow filter, None for all of the home.
        key: what was logged, such as ``"val/loss"``.
        align: by ``"step"``, ``"epoch"`` or ``"wall"`` time since each run's beginning.
        by: what makes a variant, as of `dls.compare`; None takes the comparison's variants.
        level: of confidence of the bands.

    Raises:
        DLStudioError: no run has logged `key`, or there are no runs.

    Example:
        >>> dls.overlay(dls.compare(metric="val/auc"), "val/loss", align="epoch").bands
    """
    if align not in get_args(Align):
        raise unknown_name("alignment", align, get_args(Align))
    mean_interval(0.0, 1.0, 2, level)  # an impossible level is named before a thousand runs are read
    if isinstance(what, Comparison):
        variants = _counted(what)
        runs, left_out = gather(list(variants))[0], list(what.left_out)
        if by is not None:
            variants = {run.key: part.name for part in group(runs, by) for run in part.runs}
    else:
        runs, left_out = gather(what)
        variants = {run.key: part.name for part in group(runs, by) for run in part.runs}
    metrics = [run.metrics for run in runs]
    read = read_curves(runs, key, align)
    return _laid_over({run.key: run.name for run in runs}, variants, read, key, align, level, left_out, metrics)


def overlay_of(comparison: Comparison, read: Mapping[str, Read], key: str, align: Align = "step") -> Overlay:
    """Lay the curves of what a comparison counts over each other, of curves that were read before, maybe of more runs.

    Args:
        comparison: of runs.
        read: what `read_curves` returned, of all these runs at least.
        key, align: as they were read.

    Raises:
        DLStudioError: none of these runs has the curve, or the comparison is one of plain values.

    Example:
        >>> read = read_curves(runs, "val/loss", "step")
        >>> overlay_of(compare(runs[:100], metric="val/auc"), read, "val/loss")
    """
    variants = _counted(comparison)
    records = [record for record in comparison.run_records if record["key"] in variants]
    names, metrics = {str(one["key"]): str(one["name"]) for one in records}, [one["metrics"] for one in records]
    return _laid_over(names, variants, read, key, align, comparison.level, comparison.left_out, metrics)


def _counted(comparison: Comparison) -> dict[str, str]:
    """The variant of every run that counts, by its key: a band is of the runs that the table is of."""
    if not any(record["key"] for record in comparison.run_records):
        raise DLStudioError("a comparison of runs", "one of plain values", "Plain values have no curves.")
    return {
        str(record["key"]): str(record["variant"])
        for record in comparison.run_records
        if record["key"] and not math.isnan(record["value"])
    }


def _laid_over(
    names: Mapping[str, str], variants: Mapping[str, str], read: Mapping[str, Read], key: str, align: str,
    level: float, left_out: Sequence[tuple[str, str]], metrics: Iterable[Mapping[str, float]],
) -> Overlay:  # fmt: skip
    keys = [run for run in names if isinstance(read[run], tuple)]
    found = [one for run in keys if isinstance(one := read[run], tuple)]
    why = [(names[run], one) for run in names if isinstance(one := read[run], str)]
    if not found:
        if any(reason == NO_EPOCHS for _, reason in why):
            raise DLStudioError("runs that logged 'epoch'", "none", "Use align='step' or 'wall'.")
        raise unknown_name("scalar", key, {name for one in metrics for name in one})
    shown = [part for part, _ in found]
    grid = _grid([even[0] for _, even in found])
    return _with_findings(
        Overlay(
            key=key,
            align=align,
            level=level,
            names=tuple(names[run] for run in keys),
            keys=tuple(keys),
            variants=tuple(variants[run] for run in keys),
            starts=np.concatenate([[0], np.cumsum([part.shape[1] for part in shown])]).astype(np.int64),
            x=np.concatenate([part[0] for part in shown]),
            y=np.concatenate([part[1] for part in shown]),
            grid=grid,
            on_grid=np.stack([_latest(even, grid) for _, even in found]),
            left_out=(*left_out, *why),
        )
    )


def _grid(places: Sequence[Array]) -> Array:
    """The places themselves where there are few; else evenly far apart."""
    if max(len(part) for part in places) <= GRID:
        every = np.unique(np.concatenate(places))
        if len(every) <= GRID:
            return every
    low, high = (float(pick(part[end] for part in places)) for pick, end in ((min, 0), (max, -1)))
    return np.linspace(low, high, GRID)


def _latest(points: Array, grid: Array) -> Array:
    x, y = points
    at = np.searchsorted(x, grid, side="right") - 1
    return np.where((at >= 0) & (grid <= x[-1]), y[np.maximum(at, 0)], np.nan)


def _with_findings(found: Overlay) -> Overlay:
    """Say which variants have runs whose values the bands cannot hold."""
    odd = Counter(
        variant
        for at, variant in enumerate(found.variants)
        if not np.isfinite(found.y[found.starts[at] : found.starts[at + 1]]).all()
    )
    findings = []
    for variant, n in odd.items():
        total = found.variants.count(variant)
        findings.append(
            Finding(
                code="DLS513",
                severity="warning",
                sentence=f"{n} of {total} runs of {variant} logged values of {found.key} that are not finite: the band "
                "leaves these out, so it shows the variant better than it is.",
                evidence={"n_runs": n, "n_of_variant": total},
                remedy="Count these runs as failures of the variant, or find out why they diverged.",
            )
        )
    return dataclasses.replace(found, findings=tuple(findings))
