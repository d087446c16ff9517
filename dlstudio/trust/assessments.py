"""The questions of trust that pages and reports ask of every run, each with the verb that answers it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from dlstudio.errors import DLStudioError
from dlstudio.runs.kept import kept
from dlstudio.runs.run import Run
from dlstudio.training.predicted import predictions_of
from dlstudio.trust import calibration_result, label_result, robustness_words, slice_result
from dlstudio.trust.calibration_result import CalibrationResult
from dlstudio.trust.evaluation_result import Evaluation
from dlstudio.trust.label_result import LabelErrors
from dlstudio.trust.robustness_result import RobustnessResult
from dlstudio.trust.slice_result import SliceResult

__all__ = ["ASSESSMENTS", "Assessed", "Assessment"]

MAX_GROUPS = 50

Assessed: TypeAlias = CalibrationResult | Evaluation | LabelErrors | RobustnessResult | SliceResult


@dataclass(frozen=True, kw_only=True)
class Assessment:
    """One question, and how it is answered.

    Attributes:
        name: of the file that its answer is kept in.
        title: in two words.
        question, intro: as a heading; what the answer looks at, in plain words.
        button: what a button says that begins it.
        kind: the class of its result.
        words: puts the result into sentences.
        answer: computes it for a run within some seconds, with options of the verb, which keeps it with the run.
    """

    name: str
    title: str
    question: str
    intro: str
    button: str
    kind: type[Assessed]
    words: Callable[[Any], Sequence[str]]
    answer: Callable[..., Assessed]

    def saved(self, run: Run) -> Assessed | None:
        """Return the answer that is kept with a run, or None."""
        return kept(run, self.name, self.kind)

    def anew(self, run: Run, max_seconds: float) -> Assessed:
        """Compute the answer: as the kept one was asked for, where there is one, so that no care taken is lost.

        Args:
            run, max_seconds: as for `asked`; folds that were asked for take the time that they take.

        Raises:
            DLStudioError: as the verb.
        """
        before = self.saved(run)
        return self.answer(run, max_seconds, **({} if before is None else before.options))

    def asked(self, run: Run, max_seconds: float) -> tuple[Assessed | None, str]:
        """Return the kept answer, else a new one; or None and why there is none.

        Args:
            run: which stored its predictions.
            max_seconds: for what can be cut short: robustness then looks at fewer rows.
        """
        try:
            saved = self.saved(run)
            return self.answer(run, max_seconds) if saved is None else saved, ""
        except DLStudioError as error:
            return None, f"Expected {error.expected}, but got {error.got}."
        except (RuntimeError, ValueError) as error:  # such as no memory: the other questions have answers still
            return None, f"This could not be assessed: {error}"


def _evaluated(run: Run, max_seconds: float, **options: Any) -> Evaluation:
    from dlstudio.trust.evaluation import evaluate

    return evaluate(run, **options)


def _calibrated(run: Run, max_seconds: float, **options: Any) -> CalibrationResult:
    from dlstudio.trust.calibration import assess_calibration

    return assess_calibration(run, **{"groups": _sensitive(run), **options})


def _sensitive(run: Run) -> list[str]:
    """Sensitive columns of a run's test part with two groups or more, as far as there are not too many to assess."""
    predicted = predictions_of(run)
    try:
        frame = predicted.frame
    except DLStudioError:  # data that have changed since: the stored numbers still stand
        return []
    known = [] if frame is None else [name for name in predicted.sensitive if name in frame.columns]
    return [name for name in known if 2 <= frame[name].nunique(dropna=False) <= MAX_GROUPS]  # type: ignore[index]


def _sliced(run: Run, max_seconds: float, **options: Any) -> SliceResult:
    from dlstudio.trust.slices import find_slices

    return find_slices(run, **options)


def _labels(run: Run, max_seconds: float, **options: Any) -> LabelErrors:
    from dlstudio.trust.label_errors import find_label_errors

    return find_label_errors(run, **options, progress=False)


def _attacked(run: Run, max_seconds: float, **options: Any) -> RobustnessResult:
    from dlstudio.trust.robustness import assess_robustness

    return assess_robustness(run, **options, max_seconds=max_seconds, progress=False)


ASSESSMENTS = (
    Assessment(
        name="evaluation",
        title="Evaluation",
        question="How good is it?",
        intro="How often the model is right on rows that it has never seen, beside what guessing would reach.",
        button="Evaluate",
        kind=Evaluation,
        words=lambda result: result.summary,
        answer=_evaluated,
    ),
    Assessment(
        name="calibration",
        title="Calibration",
        question="Are its probabilities right?",
        intro="Whether of the rows that it gives 80 %, about 80 in 100 turn out so.",
        button="Assess calibration",
        kind=CalibrationResult,
        words=calibration_result.describe,
        answer=_calibrated,
    ),
    Assessment(
        name="robustness",
        title="Robustness",
        question="Does it stand small changes?",
        intro="How often it is still right when somebody changes its inputs on purpose, and when they are noisy,"
        " blurred or missing.",
        button="Assess robustness",
        kind=RobustnessResult,
        words=robustness_words.describe,
        answer=_attacked,
    ),
    Assessment(
        name="slices",
        title="Weak spots",
        question="Where is it worse than elsewhere?",
        intro="Every group of rows that a value, two values together or a cluster makes, tested for more errors than"
        " elsewhere; all tests are corrected for how many they are.",
        button="Find weak spots",
        kind=SliceResult,
        words=slice_result.words,
        answer=_sliced,
    ),
    Assessment(
        name="label-errors",
        title="Labels",
        question="Are the labels right?",
        intro="Rows whose label the model, which has not seen it, finds unlikely: the label may be wrong.",
        button="Check the labels",
        kind=LabelErrors,
        words=label_result.words,
        answer=_labels,
    ),
)
"""In the order in which people ask."""
