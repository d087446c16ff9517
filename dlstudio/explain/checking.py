"""Check an explanation of a run within a minute: compare its first rows with other methods, and score them."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import math
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from dlstudio.errors import DLStudioError
from dlstudio.explain.methods import method_named
from dlstudio.explain.quality import agreement_result, scores
from dlstudio.explain.quality.agreement_result import AgreementResult
from dlstudio.explain.quality.compare import COMPARED, MANY, compare_explanations
from dlstudio.explain.quality.score import score_explanation
from dlstudio.explain.quality.scores import QualityResult
from dlstudio.explain.result import Explanation
from dlstudio.runs.folder import RunFolder
from dlstudio.runs.run import Run

if TYPE_CHECKING:
    from dlstudio.explain.running import Cancel
    from dlstudio.explain.session import Session

__all__ = ["LATE", "MOST_S", "N_ROWS", "CheckStopped", "check_agreement", "check_quality"]

Tell: TypeAlias = Callable[[int, int], None]

N_ROWS = 20
"""The most rows that a check looks at unless it was made with more: it explains them many times."""
MOST_S = 60.0
LATE = "it took too long here"
"""Why a method or a score is left out for which there was no time."""
PLAYERS = 256
"""Features from which on Shapley values take too long, or are too unsure, to be compared unasked."""
UNLIKE, UNLIKE_AT_RANDOM = 0.05, 0.5
"""Shares of the largest attribution that an explanation made again may differ by; the second if it draws at random."""
SCORES_BY_TIME = ("infidelity", "removal", "input_invariance", "parameter_randomisation", "max_sensitivity")
"""All scores; those that take longest come last."""
_SCORED = (
    "infidelity", "max_sensitivity", "shares", "deletion", "insertion", "random_deletion", "random_insertion",
    "layers", "similarity", "input_invariance",
)  # fmt: skip


class CheckStopped(Exception):
    """Someone stopped a check; nothing of it is kept."""


class _Limit:
    """Set once the time is over or someone cancelled."""

    def __init__(self, seconds: float, cancel: Cancel | None) -> None:
        self._cancel = cancel
        self._until = time.monotonic() + seconds

    @property
    def over(self) -> bool:
        return time.monotonic() > self._until

    def is_set(self) -> bool:
        return self.over or (self._cancel is not None and self._cancel.is_set())

    def look(self) -> None:
        if self._cancel is not None and self._cancel.is_set():
            raise CheckStopped


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
    limit, each = _Limit(max_seconds, cancel), max_seconds / 2

    def tell(done: int, of: int) -> None:
        limit.look()
        if progress is not None:
            progress(done, of)

    with _aside(session) as kept_apart:
        found = compare_explanations(
            kept_apart, rows, methods=methods, target=target, progress=tell, max_seconds=each, cancel=limit
        )
    late = [name for name in found.failed if found.seconds[name] >= each or limit.over]
    if late:
        failed = {**found.failed, **{name: f"{LATE.capitalize()}." for name in late}}
        found = dataclasses.replace(found, failed=failed)
        found = dataclasses.replace(found, findings=tuple(agreement_result.findings_of(found)))
    return found


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

    A score that cannot be computed, or not in time, is left out with the reason.

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
    limit = _Limit(max_seconds, cancel)
    sample = _again(session, explanation, n_rows, limit)
    found: list[QualityResult] = []
    failed: dict[str, str] = {}
    with _aside(session) as kept_apart:
        for done, name in enumerate(SCORES_BY_TIME):
            limit.look()
            if progress is not None:
                progress(done, len(SCORES_BY_TIME))
            if limit.over:
                failed[name] = LATE
                continue
            try:
                found.append(score_explanation(kept_apart, sample, scores=(name,), progress=False, cancel=limit))
            except (DLStudioError, RuntimeError, ValueError) as error:
                limit.look()
                told = error.got if isinstance(error, DLStudioError) else str(error)
                failed[name] = LATE if limit.over else told
    if not found:
        raise DLStudioError("a score that can be computed", "; ".join(failed.values()), "Try another method.")
    if progress is not None:
        progress(len(SCORES_BY_TIME), len(SCORES_BY_TIME))
    result = dataclasses.replace(
        found[0],
        **{name: getattr(part, name) for part in found for name in _SCORED if _given(getattr(part, name))},
        skipped={name: why for part in found for name, why in part.skipped.items()} | failed,
        settings={**found[0].settings, "target": sample.target.tolist()},
        seconds={name: took for part in found for name, took in part.seconds.items()},
    )
    return dataclasses.replace(result, findings=tuple(scores.findings_of(result)))


def _again(session: Session, explanation: Explanation, n_rows: int, limit: _Limit) -> Explanation:
    """The first rows explained once more by what is known of how they were explained.

    Raises:
        DLStudioError: they come out otherwise.
    """
    method = method_named(explanation.method)
    chosen: dict[str, Any] = {"layer": explanation.layer} if explanation.layer else {}
    try:
        found = session.explain(
            explanation.rows[:n_rows], method=method.name, target=explanation.target[:n_rows], progress=False,
            cancel=limit, seed=explanation.settings.get("seed", 0), **chosen, **_known(explanation),
        )  # fmt: skip
    except DLStudioError:
        limit.look()
        raise
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


def _known(explanation: Explanation) -> dict[str, Any]:
    return {name: explanation.settings[name] for name in ("n_samples",) if name in explanation.settings}


@contextlib.contextmanager
def _aside(session: Session) -> Iterator[Session]:
    """The same model and data, with a folder for results that goes away."""
    with tempfile.TemporaryDirectory(prefix="dlstudio-check-") as folder:
        apart = copy.copy(session)
        apart.run = Run(RunFolder(Path(folder) / session.run.key))
        yield apart


def _given(value: Any) -> bool:
    return value is not None and len(value) > 0
