"""Every curve of a run with fewer points, kept beside the runs: a thousand of them are read in a fraction of a second.

Decoding a log costs by the number of its batches, up to tens of milliseconds a run; what is kept here costs a tenth of
one. It is only ever a copy: it is made anew whenever the log has grown, and may be deleted at any time.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt

from dlstudio.runs.folder import RunFolder
from dlstudio.telemetry.downsample import minmax
from dlstudio.telemetry.reader import TelemetryReader, by_key

__all__ = ["EVEN", "SHOWN", "Thinned", "thin", "thinned"]

Array = npt.NDArray[np.float64]

EVEN, SHOWN = 500, 200
"""Most points of either form of a curve."""
FORMAT = 1


@dataclass(frozen=True, kw_only=True)
class Thinned:
    """One curve in two forms, each the rows steps, values and times in seconds since the epoch.

    Attributes:
        even: float64 (3, m), at most `EVEN` points evenly far apart in the log, the first and the last among them:
            values as they were logged, to average over runs.
        shown: float64 (3, k), at most `SHOWN` points: to be drawn, with the extremes of every stretch and what is not
            finite.
        n: how many points were logged.
    """

    even: Array
    shown: Array
    n: int


def thin(steps: npt.NDArray[np.generic], values: npt.NDArray[np.floating], times: Array) -> Thinned:
    """Thin one curve, given in the order of logging; it comes back in the order of steps."""
    whole = np.stack([np.asarray(column, dtype=np.float64) for column in (steps, values, times)])
    if np.any(np.diff(whole[0]) < 0):
        whole = whole[:, np.argsort(whole[0], kind="stable")]
    n = whole.shape[1]
    even = whole if n <= EVEN else whole[:, np.linspace(0, n - 1, EVEN).round().astype(np.int64)]
    shown = whole
    if n > SHOWN:
        # minmax gives up to twice what it is asked for, and keeps as many that are not finite besides.
        odd = not np.isfinite(whole[1]).all()
        rows, _ = minmax(np.arange(n), whole[1], SHOWN // 2 - 2 if odd else SHOWN - 2)
        shown = whole[:, rows.astype(np.int64)]
    return Thinned(even=even, shown=shown, n=n)


def thinned(folder: RunFolder, key: str) -> Thinned | None:
    """Return one curve of a run; None where nothing was logged under `key`.

    Afterwards all curves of the run are kept in the home, as far as it can be written.

    Args:
        folder: of the run.
        key: name of the scalar; ``"epoch"`` has the first step of every epoch among its points.

    Example:
        >>> thinned(RunFolder(run.folder), "loss").shown.shape
        (3, 200)
    """
    store = folder.home / "curves" / f"{folder.key}.bin"
    state = _state(folder.path / "telemetry")
    try:
        with open(store, "rb") as file:
            head = json.loads(file.readline())
            if head["format"] == FORMAT and head["state"] == state:
                return _read(file, head["curves"].get(key))
    except (OSError, ValueError, KeyError):
        pass
    curves = _all(folder.path / "telemetry")
    with contextlib.suppress(OSError):  # a disk that is full or read-only only costs time
        _keep(store, state, curves)
    return curves.get(key)


def _state(telemetry: Path) -> list[list[str | int]]:
    """The segments and their sizes: what was written is never touched again, so these say whether there is more."""
    try:
        with os.scandir(telemetry) as entries:
            return sorted([entry.name, entry.stat().st_size] for entry in entries if entry.name.startswith("scalars."))
    except OSError:
        return []


def _all(telemetry: Path) -> dict[str, Thinned]:
    parts: dict[str, list[tuple[npt.NDArray[np.generic], ...]]] = {}
    for _, batch in TelemetryReader(telemetry).batches("scalars"):
        for key, *columns in by_key(batch):
            parts.setdefault(key, []).append(tuple(columns))
    curves = {}
    for key, found in parts.items():
        steps, values, times = (np.concatenate(column) for column in zip(*found, strict=True))
        if key == "epoch":
            new = np.concatenate([[True], np.diff(values) != 0])
            steps, values, times = steps[new], values[new], times[new]
        curves[key] = thin(steps, values, times)
    return curves


def _keep(store: Path, state: list[list[str | int]], curves: dict[str, Thinned]) -> None:
    places, blocks, at = {}, [], 0
    for key, curve in curves.items():
        places[key] = [at, curve.n, curve.even.shape[1], curve.shown.shape[1]]
        for part in (curve.even, curve.shown):
            blocks.append(np.ascontiguousarray(part).tobytes())
            at += part.nbytes
    store.parent.mkdir(exist_ok=True)
    temporary = store.with_name(f".{store.name}.{os.getpid()}.{secrets.token_hex(2)}")
    try:
        with open(temporary, "wb") as file:
            head = {"format": FORMAT, "state": state, "curves": places}
            file.writelines([json.dumps(head).encode(), b"\n", *blocks])
        os.replace(temporary, store)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise


def _read(file: BinaryIO, place: list[int] | None) -> Thinned | None:
    if place is None:
        return None
    at, n, n_even, n_shown = place
    file.seek(at, os.SEEK_CUR)
    numbers = np.frombuffer(file.read(24 * (n_even + n_shown)), np.float64)
    even, shown = np.split(numbers, [3 * n_even])
    return Thinned(even=even.reshape(3, n_even), shown=shown.reshape(3, n_shown), n=n)
