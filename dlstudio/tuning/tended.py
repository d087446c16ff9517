"""An ablation has a steward as long as its coordinator lives, whatever happens to that one."""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path

from dlstudio.tracking import detached

__all__ = ["ABOUT", "Tended"]

ABOUT = "ablation.json"
"""The file in the folder of a plan that says what an ablation is about."""
PAUSE_S = 3.0
"""So long after a steward was started none is started in its place, in case it cannot live here."""


class Tended:
    """The folder of a search, of which an ablation has a steward at all times, and any other none.

    Args:
        folder: of the search.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._pid: int | None = None
        self._started = 0.0

    def tend(self) -> None:
        """Start the steward, and start it again where somebody has killed it."""
        if self._is_alive() or time.monotonic() - self._started < PAUSE_S or not (self._folder / ABOUT).exists():
            return
        self._started = time.monotonic()
        with contextlib.suppress(OSError):  # no memory for it now; perhaps later
            log = self._folder / "steward.log"
            self._pid = detached.start("dlstudio.tuning.steward", str(self._folder), log=log)

    def _is_alive(self) -> bool:
        if self._pid is not None:
            try:
                if os.waitpid(self._pid, os.WNOHANG) == (0, 0):
                    return True
            except ChildProcessError:
                pass
            self._pid = None
        return False
