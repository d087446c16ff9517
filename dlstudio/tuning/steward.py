"""The steward of one ablation: a small detached process that ends comparisons early and saves what was found."""

from __future__ import annotations

import contextlib
import sys
import time
from pathlib import Path

from dlstudio.errors import DLStudioError
from dlstudio.runs.folder import RunFolder
from dlstudio.runs.run import Run
from dlstudio.tuning.ablation import Ablation
from dlstudio.tuning.pool import Plan

__all__ = ["main"]

TICK_S = 0.5


def main(folder: Path) -> None:
    """Look after the ablation in a folder until it is over."""
    ablation = Ablation(Plan(Run(RunFolder(folder))))
    seen: list[str] = []
    while not ablation.plan.state().is_over:
        states = ablation.plan.states
        if states != seen:
            with contextlib.suppress(DLStudioError):  # it ended in this moment
                ablation.spare()
            seen = states
        time.sleep(TICK_S)
    ablation.wait()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
