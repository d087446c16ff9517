"""Curves of many runs in one picture: aligned, thinned, and a band for every variant."""

from __future__ import annotations

import dataclasses
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args

import numpy as np
import numpy.typing as npt

from dlstudio.compare.gather import Gathered, gather
from dlstudio.compare.result import Comparison
from dlstudio.compare.variants import group
from dlstudio.errors import DLStudioError, unknown_name
from dlstudio.results import Finding, Result
from dlstudio.runs.folder import RunFolder
from dlstudio.runs.thinned import Thinned, thin, thinned
from dlstudio.stats import mean_interval
from dlstudio.tracking.catalogue import Catalogue
from dlstudio.tracking.home import find_home
from dlstudio.tracking.search import BEYOND

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Overlay", "overlay"]

Array: TypeAlias = npt.NDArray[np.float64]
Align = Literal["step", "epoch", "wall"]

GRID = 200
"""Most places at which the runs of a variant are averaged."""
NO_EPOCHS = "logged no epochs"


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
        left_out: (run, why) of runs without this curve.
        findings: what has to be known of the bands; code DLS513.

    Example:
        >>> o = overlay(["wide-0", "wide-1", "narrow-0", "narrow-1"], "val/loss", align="epoch")
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
        for number, name in enumerate(order):
            values = self.on_grid[of_run == number]
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
        what: a comparison; or runs, as `dls.compare` takes them: a list, an MLflow filter, None for all of the home.
        key: what was logged, such as ``"val/loss"``.
        align: by ``"step"``, ``"epoch"`` or ``"wall"`` time since each run's beginning.
        by: what makes a variant, as of `dls.compare`; None takes the comparison's variants.
        level: of confidence of the bands.

    Raises:
        DLStudioError: no run has logged `key`, or there are no runs.

    Example:
        >>> overlay(dls.compare(None, metric="val/auc"), "val/loss", align="epoch").bands
    """
    if align not in get_args(Align):
        raise unknown_name("alignment", align, get_args(Align))
    mean_interval(0.0, 1.0, 2, level)  # an impossible level is named before a thousand runs are read
    runs, variants, left_out = _chosen(what, by)
    catalogue = Catalogue(find_home())
    if any(run.folder is None for run in runs):
        _ = catalogue.client  # connected once, and not by every thread
    found: list[tuple[Gathered, str, Array, Array]] = []
    # Decoding leaves the interpreter free, so threads share the work where a log is read for the first time.
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        read = pool.map(lambda run: _read(run, key, align, catalogue), runs)
        for run, variant, curve in zip(runs, variants, read, strict=True):
            if isinstance(curve, str):
                left_out.append((run.name, curve))
            else:
                found.append((run, variant, *curve))
    if not found:
        raise _nothing(key, align, runs, left_out)
    grid = _grid([even[0] for _, _, _, even in found])
    shown = [part for _, _, part, _ in found]
    return _with_findings(
        Overlay(
            key=key,
            align=align,
            level=level,
            names=tuple(run.name for run, _, _, _ in found),
            keys=tuple(run.key for run, _, _, _ in found),
            variants=tuple(variant for _, variant, _, _ in found),
            starts=np.concatenate([[0], np.cumsum([part.shape[1] for part in shown])]).astype(np.int64),
            x=np.concatenate([part[0] for part in shown]),
            y=np.concatenate([part[1] for part in shown]),
            grid=grid,
            on_grid=np.stack([_latest(even, grid) for _, _, _, even in found]),
            left_out=tuple(left_out),
        )
    )


def _chosen(what: Any, by: str | None) -> tuple[list[Gathered], list[str], list[tuple[str, str]]]:
    if isinstance(what, Comparison):
        named = {str(record["key"]): str(record["variant"]) for record in what.run_records if record["key"]}
        if not named:
            raise DLStudioError("a comparison of runs", "one of plain values", "Plain values have no curves.")
        runs, left_out = gather(list(named))
        if by is None:
            return runs, [named[run.key] for run in runs], left_out
    else:
        runs, left_out = gather(what)
    of_run = {run.key: part.name for part in group(runs, by) for run in part.runs}
    return runs, [of_run[run.key] for run in runs], left_out


def _read(run: Gathered, key: str, align: str, catalogue: Catalogue) -> tuple[Array, Array] | str:
    """Places and values of the points to show and to average; or why there are none."""
    curve = _curve(run, key, catalogue)
    if curve is None:
        return f"logged nothing as {key!r}"
    both = (curve.shown, curve.even)
    if align == "step":
        return both[0][:2], both[1][:2]
    if align == "wall":
        status = RunFolder(run.folder).status if run.folder is not None else {}
        # A run that was continued had begun before it was last started.
        begin = min(float(status.get("started") or run.created), float(curve.even[2].min()))
        shown, even = (np.stack([part[2] - begin, part[1]]) for part in both)
        return shown, even
    epochs = _curve(run, "epoch", catalogue)
    if epochs is None:
        return NO_EPOCHS
    steps, over = _ends(epochs.even[0], epochs.even[1], float(curve.even[0, -1]))
    shown, even = (np.stack([np.interp(part[0], steps, over), part[1]]) for part in both)
    return shown, even


def _curve(run: Gathered, key: str, catalogue: Catalogue) -> Thinned | None:
    if run.folder is not None:
        return thinned(RunFolder(run.folder), key)
    points = catalogue.client.get_metric_history(run.key, key)
    if not points:
        return None
    steps, values, times = np.array([(p.step, p.value, p.timestamp / 1e3) for p in points], dtype=np.float64).T
    # MLflow stores infinities as the largest float.
    return thin(steps, np.where(np.abs(values) > BEYOND, np.copysign(np.inf, values), values), times)


def _ends(first_steps: Array, epochs: Array, last: float) -> tuple[Array, Array]:
    """Steps, and how many epochs were over by then, from the first step of each; `last` is the latest step known."""
    if np.any(epochs != np.round(epochs)):
        return first_steps, epochs  # a logger that writes fractions says how much is over
    before, over = first_steps - 1, epochs - epochs[0]
    # The last epoch is as long as the others; of one alone, it was over with the run.
    length = (before[-1] - before[0]) / (over[-1] - over[0]) if over[-1] > over[0] else max(last - before[0], 1.0)
    return np.append(before, before[-1] + length), np.append(over, over[-1] + 1)


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


def _nothing(key: str, align: str, runs: Sequence[Gathered], left_out: Sequence[tuple[str, str]]) -> DLStudioError:
    if any(reason == NO_EPOCHS for _, reason in left_out):
        return DLStudioError("runs that logged 'epoch'", "none", "Use align='step' or 'wall'.")
    return unknown_name("scalar", key, {name for run in runs for name in run.metrics})
