"""One scalar of many runs as it was logged, thinned, with its places on a common axis."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from dlstudio.compare.gather import Gathered
from dlstudio.runs.folder import RunFolder
from dlstudio.runs.thinned import Thinned, thin, thinned
from dlstudio.tracking.home import find_home

__all__ = ["NO_EPOCHS", "Align", "Read", "read_curves"]

Array: TypeAlias = npt.NDArray[np.float64]
Align = Literal["step", "epoch", "wall"]
Read: TypeAlias = tuple[Array, Array] | str
"""Places and values of the points to show, and of those to average; or why there are none."""

NO_EPOCHS = "logged no epochs"


def read_curves(runs: Sequence[Gathered], key: str, align: Align = "step") -> dict[str, Read]:
    """Read a scalar of every run, by the keys of the runs.

    Args:
        runs: to read.
        key: what was logged.
        align: by ``"step"``, ``"epoch"`` (1 is the end of the first) or ``"wall"``, seconds since each run's beginning.

    Example:
        >>> shown, even = read_curves(gather(None)[0], "loss")["my-run-1a2b3c4d"]
        >>> shown.shape  # places, values
        (2, 200)
    """
    logged = _logged(runs, [key, "epoch"] if align == "epoch" else [key])
    # Decoding leaves the interpreter free, so threads share the work where a log is read for the first time.
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        read = pool.map(lambda run: _read(run, key, align, logged), runs)
        return {run.key: one for run, one in zip(runs, read, strict=True)}


def _logged(runs: Sequence[Gathered], keys: Sequence[str]) -> dict[tuple[str, str], Thinned]:
    """What other programs logged, by run and name."""
    elsewhere = [run.key for run in runs if run.folder is None]
    if not elsewhere:
        return {}
    from dlstudio.tracking.search import histories

    home = find_home()
    return {
        (run, key): thin(points.steps, points.values, points.times)
        for key in keys
        for run, points in histories(home, elsewhere, key).items()
    }


def _read(run: Gathered, key: str, align: str, logged: Mapping[tuple[str, str], Thinned]) -> Read:
    curve = _curve(run, key, logged)
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
    epochs = _curve(run, "epoch", logged)
    if epochs is None:
        return NO_EPOCHS
    steps, over = _ends(epochs.even[0], epochs.even[1], float(curve.even[0, -1]))
    shown, even = (np.stack([np.interp(part[0], steps, over), part[1]]) for part in both)
    return shown, even


def _curve(run: Gathered, key: str, logged: Mapping[tuple[str, str], Thinned]) -> Thinned | None:
    return logged.get((run.key, key)) if run.folder is None else thinned(RunFolder(run.folder), key)


def _ends(first_steps: Array, epochs: Array, last: float) -> tuple[Array, Array]:
    """Steps, and how many epochs were over by then, from the first step of each; `last` is the latest step known."""
    if np.any(epochs != np.round(epochs)):
        return first_steps, epochs  # a logger that writes fractions says how much is over
    before, over = first_steps - 1, epochs - epochs[0]
    # The last epoch is as long as the others; of one alone, it was over with the run.
    length = (before[-1] - before[0]) / (over[-1] - over[0]) if over[-1] > over[0] else max(last - before[0], 1.0)
    return np.append(before, before[-1] + length), np.append(over, over[-1] + 1)
