"""Score an explanation: whether it foresees what the model does, is steady, and depends on what was learned."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from dlstudio.errors import DLStudioError, unknown_name
from dlstudio.explain.quality.scores import QualityResult, findings_of
from dlstudio.explain.result import Explanation
from dlstudio.limits import Cancel, Halted, Limit, counted, whole_number
from dlstudio.runs.kept import keep

if TYPE_CHECKING:
    from dlstudio.explain.quality.subject import Subject

__all__ = ["SCORES", "score_explanation"]

SCORES = ("infidelity", "removal", "input_invariance", "parameter_randomisation", "max_sensitivity")
"""What is scored unless the caller says otherwise; what takes longest comes last."""
RADIUS = 0.02


def score_explanation(
    model: Any,
    explanation: Explanation,
    inputs: Any = None,
    *,
    scores: Sequence[str] = SCORES,
    baselines: Any = None,
    n_draws: int = 50,
    n_random: int = 10,
    n_repeats: int = 10,
    seed: int = 0,
    max_batch: int | None = None,
    max_seconds: float | None = None,
    progress: bool | Callable[[int, int], None] = True,
    cancel: Cancel | None = None,
    **options: Any,
) -> QualityResult:
    """Score an explanation against the model it explains. The model is left as found.

    Three scores explain again after a change, so that they take as long as many explanations; score a few rows first.

    Args:
        model: what was explained: a module or function, or a run (or its name) whose rows were.
        explanation: what `dlstudio.explain` returned.
        inputs: the inputs that were explained; None for a run.
        scores: which ones, of `SCORES`, in the order in which they are computed.
        baselines: as they were given to `dlstudio.explain`.
        n_draws: sets of features taken away for infidelity.
        n_random: random orders that removal is compared with.
        n_repeats: changed inputs a row for max-sensitivity.
        seed: of all of these, and of the random weights.
        max_batch: the most rows the model is given at once; halved when memory runs out.
        max_seconds, cancel: when to stop, of all scores together; those that were finished by then are returned.
        progress: a bar over scores, or a function called with scores done and all.
        options: further arguments that were given to `dlstudio.explain`, such as ``feature_mask=`` or ``n_samples=``.

    Returns:
        The scores; `skipped` says which make no sense here, could not be computed or not in time. Those of a run's
        explanation are saved with it as ``results/quality-METHOD.json``.

    Raises:
        DLStudioError: model, inputs or arguments are not those of the explanation; a score has no such name; or not
            one could be computed, or finished in time.

    Example:
        >>> e = dls.explain(model, x, target=1, method="integrated_gradients")
        >>> quality = dls.score_explanation(model, e, x)
        >>> quality.infidelity.mean(), quality.deletion_area.mean()

    References:
        Yeh et al., On the (in)fidelity and sensitivity of explanations (2019); Petsiuk et al., RISE (2018); Adebayo et
        al., Sanity checks for saliency maps (2018); Kindermans et al., The (un)reliability of saliency methods (2019).
    """
    from dlstudio.explain.quality.subject import OtherArguments, subject_of

    limit = Limit(max_seconds, cancel)
    if not isinstance(explanation, Explanation):
        raise DLStudioError("what dls.explain returned", type(explanation).__name__, "Pass e = dls.explain(...).")
    names = (scores,) if isinstance(scores, str) else tuple(scores)
    for name in names:
        if name not in SCORES:
            raise unknown_name("score", name, SCORES)
    if not names:
        raise DLStudioError("one score or more", "none", "Leave scores out for all of them.")
    n_draws, n_repeats = whole_number("n_draws", n_draws, 1), whole_number("n_repeats", n_repeats, 1)
    n_random, seed = whole_number("n_random", n_random, 2), whole_number("seed", seed, 0)
    if max_batch is not None:
        max_batch = whole_number("max_batch", max_batch, 1)
    if explanation.run and inputs is None:
        inputs = explanation.rows
    if inputs is None:
        raise DLStudioError("the inputs that were explained", "inputs=None", "Pass what dls.explain was given.")
    settings = _settings_of(explanation)
    subject = subject_of(
        model,
        inputs,
        target=explanation.target,
        baselines=baselines,
        options={**settings, "max_batch": max_batch, **options, "cancel": limit},
    )
    n = len(subject.given.inputs)
    if n != len(explanation):
        raise DLStudioError(
            f"the {len(explanation):,} rows that were explained", f"{n:,} rows of inputs", "Pass the same rows."
        )
    work = _Work(
        subject=subject, explanation=explanation, limit=limit, max_batch=max_batch,
        n_draws=n_draws, n_random=n_random, n_repeats=n_repeats, seed=seed,
    )  # fmt: skip
    found: dict[str, Any] = {}
    skipped: dict[str, str] = {}
    seconds: dict[str, float] = {}
    failed: list[Exception] = []
    for name in counted(names, progress, "score", "Scoring"):
        started = time.perf_counter()
        try:
            limit.look()
            why = work.misfit(name)
            if not why:
                found |= getattr(work, name)()
                seconds[name] = time.perf_counter() - started
        except OtherArguments:  # then the other scores are not those of this explanation either
            raise
        except Halted as halt:
            why = str(halt)
            failed.append(
                DLStudioError("time for at least one score", f"none: {why}", "Allow more, or score fewer rows.")
            )
        except (DLStudioError, RuntimeError, ValueError) as error:
            why = error.got if isinstance(error, DLStudioError) else str(error)
            failed.append(error)
        if why:
            skipped[name] = why
    if failed and not seconds:
        raise failed[0]
    result = QualityResult(
        method=explanation.method,
        **{"shares": np.zeros(0), **found},
        rows=explanation.rows,
        skipped=skipped,
        model=explanation.model,
        run=explanation.run,
        settings={
            "seed": seed,
            "n_draws": n_draws,
            "n_random": n_random,
            "n_repeats": n_repeats,
            "target": explanation.target.tolist(),
        },
        seconds=seconds,
    )
    result = dataclasses.replace(result, findings=tuple(findings_of(result)))
    if subject.folder is not None:
        name = f"quality-{result.method}"
        keep(result, name, folder=subject.folder, n_rows=lambda found: len(found.settings["target"]))
    return result


@dataclasses.dataclass(kw_only=True, eq=False)
class _Work:
    """The scores of one explanation, each computed when asked for; they raise `Halted` at the limit."""

    subject: Subject
    explanation: Explanation
    limit: Limit
    max_batch: int | None
    n_draws: int
    n_random: int
    n_repeats: int
    seed: int
    _compared: bool = False
    _removal: Any = None

    def misfit(self, name: str) -> str:
        """Why a score makes no sense here; "" where it does."""
        from torch import nn

        ids = not self.subject.given.inputs.is_floating_point()
        if name == "max_sensitivity" and ids:
            return "a token cannot change a little"
        if name == "input_invariance" and ids:
            return "token ids cannot be shifted"
        if name == "parameter_randomisation" and not (
            isinstance(self.subject.model, nn.Module) and any(True for _ in self.subject.model.parameters())
        ):
            return "the model has no weights to make random"
        if name in ("infidelity", "removal") and not self._removable():
            return "the attributions are those of a layer, not of the inputs"
        return ""

    def infidelity(self) -> dict[str, Any]:
        from dlstudio.explain.inspection.untouched import untouched

        with untouched(*self._modules()):
            return {"infidelity": self._removal.infidelity(self.n_draws, self.seed)}

    def removal(self) -> dict[str, Any]:
        from dlstudio.explain.inspection.untouched import untouched

        with untouched(*self._modules()):
            curves: dict[str, Any] = self._removal.curves(self.n_random, self.seed)
        for name in ("random_deletion", "random_insertion"):
            curves[name] = curves[name].mean(axis=1)
        return curves

    def max_sensitivity(self) -> dict[str, Any]:
        from dlstudio.explain.quality import sanity

        return {
            "max_sensitivity": sanity.max_sensitivity(
                self._again(), self.subject, self.explanation, radius=RADIUS, n_draws=self.n_repeats, seed=self.seed
            )
        }

    def parameter_randomisation(self) -> dict[str, Any]:
        from dlstudio.explain.quality import sanity

        layers, similarity = sanity.parameter_randomisation(
            self._again(), self.subject, self.explanation, seed=self.seed
        )
        return {"layers": layers, "similarity": similarity}

    def input_invariance(self) -> dict[str, Any]:
        from dlstudio.explain.quality import sanity

        return {"input_invariance": sanity.input_invariance(self._again(), self.subject, self.explanation)}

    def _again(self) -> Callable[..., Explanation]:
        """The explanation as a function of what changes, after a look that without any change it is the same."""

        from dlstudio.explain.quality.subject import OtherArguments

        def again(**changes: Any) -> Explanation:
            try:
                found = self.subject.explain(self.explanation.method, **changes)
            except DLStudioError as error:
                if isinstance(error.__cause__, Halted):
                    raise Halted(str(error.__cause__)) from error
                raise
            self.limit.look()  # what was cut short has fewer rows, or is less exact
            return found

        if not self._compared:
            was, now = self.explanation.attributions, again().attributions
            largest = float(np.abs(was).max())
            apart = float(np.abs(was - now).max()) if was.shape == now.shape else np.inf
            if apart > 0.05 * max(largest, 1e-12):
                raise OtherArguments(
                    "the arguments that this explanation was made with",
                    f"others: explained again, attributions differ by up to {apart:.3g} where the largest is"
                    f" {largest:.3g}",
                    "Pass the same baselines, feature_mask, layer, seed, n_steps or n_samples as to dls.explain.",
                )
            self._compared = True
        return again

    def _modules(self) -> tuple[Any, ...]:
        from torch import nn

        return (self.subject.model,) if isinstance(self.subject.model, nn.Module) else ()

    def _removable(self) -> bool:
        from dlstudio.explain.inspection.untouched import untouched
        from dlstudio.explain.quality.removal import removal_of
        from dlstudio.running import Runner, default_batch, memory_named

        if self._removal is None:
            batch = default_batch(self.subject.given.inputs[0]) if self.max_batch is None else self.max_batch
            runner = Runner(max_batch=batch, progress=False, cancel=self.limit)
            with memory_named(), untouched(*self._modules()):
                self._removal = removal_of(self.subject, self.explanation, runner) or False
        return self._removal is not False


def _settings_of(explanation: Explanation) -> dict[str, Any]:
    """The arguments of `explain` that an explanation tells."""
    known = explanation.settings
    found: dict[str, Any] = {"modality": explanation.modality, "seed": known.get("seed", 0)}
    if explanation.feature_names:
        found["feature_names"] = explanation.feature_names
    if explanation.layer:
        found["layer"] = explanation.layer
    if "n_samples" in known:
        found["n_samples"] = known["n_samples"]
    return found
