"""Check an explanation of a run within a minute: compare its first rows with other methods, and score them."""

from __future__ import annotations

import contextlib
import copy
import math
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from dlstudio.errors import DLStudioError
from dlstudio.explain.methods import method_named
from dlstudio.explain.quality.agreement_result import AgreementResult
from dlstudio.explain.quality.compare import COMPARED, MANY, compare_explanations
from dlstudio.explain.quality.score import score_explanation
from dlstudio.explain.quality.scores import QualityResult
from dlstudio.explain.result import Explanation
from dlstudio.limits import OVER, Cancel, Limit
from dlstudio.runs.folder import RunFolder
from dlstudio.runs.run import Run

if TYPE_CHECKING:
    from dlstudio.explain.session import Session

__all__ = ["LATE", "MOST_S", "N_ROWS", "CheckStopped", "check_agreement", "check_quality"]

Tell: TypeAlias = Callable[[int, int], None]

N_ROWS = 20
"""The most rows that a check looks at unless it was made with more: it explains them many times."""
MOST_S = 60.0
LATE = OVER
"""Part of why a method or a score is left out for which there was no time."""
PLAYERS = 256
"""Features from which on Shapley values take too long, or are too unsure, to be compared unasked."""
UNLIKE, UNLIKE_AT_RANDOM = 0.05, 0.5
"""Shares of the largest attribution that an explanation made again may differ by; the second if it draws at random."""


class CheckStopped(Exception):
    """Someone stopped a check; nothing of it is kept."""


def check_agreement(
    session: Session,
    explanation: Explanation,
    *,
    n_rows: int = N_ROWS,
    max_seconds: float = MOST_S,
    progress: Tell | None = None,
    cancel: Cancel | None = None,
) -> AgreementResult:
    """Explain the first rows of an explanation by its own method and one of every family; see `compare_explanations`.

    Nothing is saved. A method that takes more than half of the time covers fewer rows, as do all then, or is left out.

    Args:
        session: the explained run.
        explanation: of rows of that run.
        n_rows, max_seconds: the most rows, and the most time.
        progress: called with methods done and all.
        cancel: an event; once set, the check ends.

    Raises:
        DLStudioError: no method explains this model.
        CheckStopped: `cancel` was set.
    """
    rows, target = explanation.rows[:n_rows], explanation.target[:n_rows]
    numbers = session.dataset.inputs[0].numel() if session.mask is None else len(session.columns)
    slow = {"shapley"} if explanation.modality == "text" or numbers > PLAYERS else set()
    slow |= {"feature_ablation"} if numbers > MANY else set()
    own = () if explanation.method.endswith("_conductance") else (explanation.method,)
    # The quick ones before the slow ones, which have to make do with fewer rows when the time runs out.
    methods = tuple(dict.fromkeys((*own, *(name for name in reversed(COMPARED) if name not in slow))))
    with _aside(session, cancel) as kept_apart:
        return compare_explanations(
            kept_apart, rows, methods=methods, target=target,
            max_seconds=max_seconds, progress=progress or False, cancel=cancel,
        )  # fmt: skip


def check_quality(
    session: Session,
    explanation: Explanation,
    *,
    n_rows: int = N_ROWS,
    max_seconds: float = MOST_S,
    progress: Tell | None = None,
    cancel: Cancel | None = None,
) -> QualityResult:
    """Score the first rows of an explanation; see `score_explanation`. Nothing is saved.

    Explaining the rows once more takes at most half of the time, so that fewer are scored where that is slow.

    Args:
        session, explanation, n_rows, max_seconds, cancel: as in `check_agreement`.
        progress: called with scores done and all.

    Raises:
        DLStudioError: the explanation was refused, or made with settings that are not known here; or no score could be
            computed.
        CheckStopped: `cancel` was set.
    """
    if explanation.verdict == "refused":
        raise DLStudioError("an explanation that was not refused", "a refused one", "Choose another method.")
    limit = Limit(max_seconds, cancel)
    with _aside(session, cancel) as kept_apart:
        sample = _again(kept_apart, explanation, n_rows, max_seconds / 2, limit)
        return score_explanation(kept_apart, sample, progress=progress or False, cancel=limit)


def _again(session: Session, explanation: Explanation, n_rows: int, max_seconds: float, limit: Limit) -> Explanation:
    """The first rows, as far as time allows, explained once more by what is known of how they were explained.

    Raises:
        DLStudioError: they come out otherwise.
    """
    method = method_named(explanation.method)
    known = {name: explanation.settings[name] for name in ("n_samples", "seed") if name in explanation.settings}
    chosen: dict[str, Any] = known | ({"layer": explanation.layer} if explanation.layer else {})
    found = session.explain(
        explanation.rows[:n_rows], method=method.name, target=explanation.target[:n_rows], progress=False,
        max_seconds=max_seconds, cancel=limit, **chosen,
    )  # fmt: skip
    was, now = explanation.attributions[: len(found)], found.attributions
    apart = float(np.abs(was - now).max()) if was.shape == now.shape else math.inf
    drawn = method.sampled and method.reference == "none"  # noise, and values shuffled among rows: never the same
    allowed = UNLIKE_AT_RANDOM if method.sampled else UNLIKE
    if not drawn and apart > allowed * max(float(np.abs(was).max()), 1e-12):
        raise DLStudioError(
            "an explanation made with the run's own references and the usual settings",
            "one that comes out otherwise when these rows are explained again",
            "Explain the run again, or score it where it was made: dls.score_explanation(run, e, baselines=...).",
        )
    return found


@contextlib.contextmanager
def _aside(session: Session, cancel: Cancel | None) -> Iterator[Session]:
    """Lend the same model and data with a folder for results that goes away, as does all of a check that is stopped."""
    with tempfile.TemporaryDirectory(prefix="dlstudio-check-") as folder:
        apart = copy.copy(session)
        apart.run = Run(RunFolder(Path(folder) / session.run.key))
        try:
            yield apart
        except DLStudioError:
            _look(cancel)
            raise
        _look(cancel)


def _look(cancel: Cancel | None) -> None:
    if cancel is not None and cancel.is_set():
        raise CheckStopped
