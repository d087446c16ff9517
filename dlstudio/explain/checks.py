"""What faces ask of a run's explanation: whether other methods agree with it, and whether it stands up to tests.

Reading this needs no torch; a check imports it when it is made.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from dlstudio.errors import DLStudioError
from dlstudio.explain.checking import LATE, MOST_S, N_ROWS, check_agreement, check_quality
from dlstudio.explain.exploring import outcome
from dlstudio.explain.plain import plainly, told, uncoded
from dlstudio.explain.quality import agreement_result, scores
from dlstudio.explain.quality.agreement_result import AgreementResult
from dlstudio.explain.quality.scores import QualityResult
from dlstudio.explain.result import Explanation
from dlstudio.results import load, save
from dlstudio.runs.run import Run

if TYPE_CHECKING:
    from dlstudio.explain.session import Session

__all__ = ["CHECKS", "Check", "Checked", "checks_of", "row_names"]

Checked: TypeAlias = AgreementResult | QualityResult


@dataclasses.dataclass(frozen=True, kw_only=True)
class Check:
    """A question to an explanation, and how it is answered.

    Attributes:
        name: ``"agreement"`` or ``"quality"``.
        question, intro: as a heading; what the answer looks at, in plain words.
        button: what it says on a button that begins the check.
        steps: what is counted while it is made.
        make: `check_agreement` or `check_quality`.
        words: puts its result into sentences, with arguments to pass; `plain_words` does so for other readers.
    """

    name: str
    question: str
    intro: str
    button: str
    steps: str
    make: Callable[..., Checked]
    words: Callable[[Any], Sequence[str]]

    def saved(self, explanation: Explanation, run: Run) -> Checked | None:
        """Return what is saved with the run if it is of this explanation's rows, method and outputs, else None."""
        try:
            found = load(_place(run) / f"{self._file(explanation)}.json")
        except DLStudioError:  # not there, or of another version
            return None
        return found if self.fits(found, explanation) else None

    def fits(self, result: Any, explanation: Explanation) -> bool:
        """Whether a result is of this explanation's run, method, rows and outputs, as far as it tells them."""
        if not isinstance(result, AgreementResult | QualityResult) or result.run != explanation.run:
            return False
        target = dict(zip(explanation.rows.tolist(), explanation.target.tolist(), strict=True))
        if isinstance(result, AgreementResult):
            known = (*result.methods, *result.failed)
            if explanation.method not in known and not explanation.method.endswith("_conductance"):
                return False
            of = result.target.tolist()
        else:
            if result.method != explanation.method or explanation.verdict == "refused":
                return False
            of = result.settings.get("target") or [target.get(row) for row in result.rows.tolist()]
        return all(target.get(row, math.nan) == output for row, output in zip(result.rows.tolist(), of, strict=True))

    def keep(self, result: Checked, explanation: Explanation, run: Run) -> None:
        """Save a result with the run, where `saved` and the other faces find it."""
        save(result, _place(run), self._file(explanation))

    def plain_words(self, result: Checked) -> Sequence[str]:
        """Put a result into sentences for readers who write no code."""
        plain = plainly(result)
        if isinstance(plain, QualityResult):
            plain = dataclasses.replace(plain, skipped={name: uncoded(why) for name, why in plain.skipped.items()})
        return self.words(plain)

    def misfit(self, explanation: Explanation) -> str:
        """Why the check makes no sense for this explanation; "" where it does."""
        refused = self.name == "quality" and explanation.verdict == "refused"
        return "This explanation was refused, so its numbers are not tested." if refused else ""

    def cost(self, explanation: Explanation) -> str:
        """Say what making it looks at, and how long it may take."""
        n = min(N_ROWS, len(explanation))
        which = (
            "the one row" if len(explanation) == 1 else f"the first {n} rows" if n < len(explanation) else "all rows"
        )
        return f"Looks at {which}; takes some seconds, at most about {MOST_S:.0f}."

    def unfinished(self, result: Checked) -> bool:
        """Whether there was no time for a part of it, so that it is worth being made again."""
        left_out = result.failed if isinstance(result, AgreementResult) else result.skipped
        return any(LATE in why.lower() for why in left_out.values())

    def _file(self, explanation: Explanation) -> str:
        return self.name if self.name == "agreement" else f"{self.name}-{explanation.method}"


CHECKS = (
    Check(
        name="agreement",
        question="Do other methods agree?",
        intro="Other methods explain the same decisions in their own way. Where they put the reasons in the same order,"
        " the reasons do not hang on the choice of a method. A rank correlation of 1 means the same order, 0 no"
        " relation, -1 the opposite order.",
        button="Compare methods",
        steps="methods",
        make=check_agreement,
        words=agreement_result.describe,
    ),
    Check(
        name="quality",
        question="Does it stand up to tests?",
        intro="The model itself is asked: whether its answer changes when the reasons are taken away, whether the"
        " reasons stay the same for almost the same row, and whether they depend on what the model has learned.",
        button="Test this explanation",
        steps="tests",
        make=check_quality,
        words=scores.describe,
    ),
)


def checks_of(
    explanation: Explanation, run: Run, *, n_rows: int = N_ROWS, max_seconds: float = MOST_S
) -> list[tuple[Check, Checked | None, str]]:
    """Return both checks of a saved explanation with their results; what is not saved yet is made and saved.

    Returns:
        The check; its result or None; and why there is none.
    """
    from dlstudio.explain.session import Session

    session: Session | None = None
    found: list[tuple[Check, Checked | None, str]] = []
    for check in CHECKS:
        result, why = check.saved(explanation, run), check.misfit(explanation)
        if result is None and not why:
            try:
                session = session or Session(run)
                result = check.make(session, explanation, n_rows=n_rows, max_seconds=max_seconds)
                check.keep(result, explanation, run)
            except (DLStudioError, RuntimeError, ValueError) as error:
                why = f"This was not tested. {told(error)}"
        found.append((check, result, why))
    return found


def row_names(result: Checked, explanation: Explanation) -> list[str]:
    """Return what every row of a result is called: its number, and what the model makes of it."""
    place = {row: at for at, row in enumerate(explanation.rows.tolist())}
    return [f"Row {row:,} of the data: {outcome(explanation, place[row])}" for row in result.rows.tolist()]


def _place(run: Run) -> Path:
    return run.folder / "results"
