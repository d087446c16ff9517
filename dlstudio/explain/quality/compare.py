"""Several methods on the same rows, on one scale: where they agree, where they do not, and why."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from dlstudio.errors import DLStudioError
from dlstudio.explain.methods import METHODS, method_named
from dlstudio.explain.quality.agreement_result import AGREE, AgreementResult, findings_of, mean_of_pairs
from dlstudio.explain.quality.ranks import centred_ranks, top_overlap
from dlstudio.explain.result import Explanation, names_of
from dlstudio.explain.words import UNSIGNED
from dlstudio.limits import Cancel, Halted, Limit, counted, whole_number
from dlstudio.results import Finding
from dlstudio.runs.kept import keep

if TYPE_CHECKING:
    from dlstudio.explain.quality.subject import Subject

__all__ = ["COMPARED", "compare_explanations", "shares_of"]

Array = npt.NDArray[Any]

COMPARED = ("shapley", "integrated_gradients", "deep_lift", "feature_ablation", "input_x_gradient", "saliency")
"""What is compared unless the caller says otherwise: one of every family."""
MANY = 2000
"""Features from which on ablating them one by one takes too long to be done unasked."""


def compare_explanations(
    model: Any,
    inputs: Any = None,
    *,
    methods: Sequence[str] | None = None,
    target: Any = None,
    baselines: Any = None,
    k: int | None = None,
    max_seconds: float | None = None,
    progress: bool | Callable[[int, int], None] = True,
    cancel: Cancel | None = None,
    **options: Any,
) -> AgreementResult:
    """Explain rows by several methods and say how far they agree. The model is left as found.

    Agreement is no proof: methods of one family share their errors. Disagreement has reasons, and those that are known
    are named. A method that cannot explain this model is left out, and the reason is kept.

    Args:
        model: a module or function, or a run (or its name).
        inputs: rows; for a run row numbers of its data set, None for the first 100 test rows.
        methods: two or more names of `dlstudio.explain.methods.METHODS`; None takes `COMPARED`, but for what takes very
            long: Shapley values of tokens, and the ablation of thousands of features.
        target: which output, as in `dlstudio.explain`.
        baselines: as in `dlstudio.explain`; of the rows of a background, methods that take one baseline get the mean.
            For a run None takes its own.
        k: how many of the strongest features are compared; None takes a tenth of them, at least 3.
        max_seconds, cancel: when to stop, of all methods together. No method takes more than half of the time; one that
            does covers fewer rows, as do all in the comparison then, and one that is not begun, or has not finished a
            row, is left out.
        progress: a bar over methods, or a function called with methods done and all.
        options: further arguments of `dlstudio.explain`, such as ``feature_mask=``, ``seed=`` or ``max_batch=``.

    Returns:
        Shares, correlations and reasons. Those of a run are saved with it as ``results/agreement.json``.

    Raises:
        DLStudioError: fewer than two methods, an unknown one, or none that can explain this model, or in this time.

    Example:
        >>> board = dls.compare_explanations(model, x, target=1, methods=("shapley", "saliency"))
        >>> board.agreement, board.frame()[["method", "other", "rank_correlation", "reason"]]
    """
    from dlstudio.explain.quality.subject import subject_of

    limit = Limit(max_seconds, cancel)
    asked = COMPARED if methods is None else (methods,) if isinstance(methods, str) else methods
    names = list(dict.fromkeys(method_named(name).name for name in asked))
    if len(names) < 2:
        raise DLStudioError("two methods or more", ", ".join(names) or "none", f"Try methods={COMPARED[:3]}.")
    if k is not None:
        k = whole_number("k", k, 1, "Leave it out for a tenth of the features.")
    seed = whole_number("seed", options.get("seed", 0), 0)
    options = {**options, "seed": seed, "cancel": limit}
    subject = subject_of(model, inputs, target=target, baselines=baselines, options=options)
    if methods is None:
        names = [name for name in names if name not in _slow(subject)]
    found: list[Explanation] = []
    failed: dict[str, str] = {}
    seconds: dict[str, float] = {}
    for name in counted(names, progress, "method", "Comparing"):
        started = time.perf_counter()
        try:
            found.append(_explained(subject, name, limit, max_seconds))
        except DLStudioError as error:
            if name == names[-1] and not found:  # not one works: most likely not for reasons of the method
                raise
            halt = error.__cause__
            failed[name] = f"{halt}.".capitalize() if isinstance(halt, Halted) else str(error)
        seconds[name] = time.perf_counter() - started
    sizes = [e.by_feature.shape[1] for e in found]
    n_features = max(sizes, key=sizes.count)
    for other in [e for e in found if e.by_feature.shape[1] != n_features]:
        failed[other.method] = f"It explains {other.by_feature.shape[1]:,} units of a layer, not the inputs."
    found = [e for e in found if e.method not in failed]
    n = min(map(len, found))
    values = np.stack([e.by_feature[:n].astype(np.float64) for e in found])
    chosen_k = min(n_features, k or max(3, n_features // 10))
    correlation = _correlations(values, [e.method in UNSIGNED for e in found])
    mean = _mean(correlation)
    sound = np.array([e.verdict != "refused" for e in found])
    first = found[0]
    result = AgreementResult(
        methods=tuple(e.method for e in found),
        titles=tuple(METHODS[e.method].title for e in found),
        verdicts=tuple(e.verdict for e in found),
        verdict_reasons=tuple(" ".join(e.reasons[:1]) if e.verdict != "ok" else "" for e in found),
        shares=shares_of(values),
        rank_correlation=mean,
        row_correlation=np.array([mean_of_pairs(correlation[row], sound) for row in range(n)]),
        top_overlap=np.array([[top_overlap(a, b, chosen_k).mean() for b in values] for a in values]),
        k=chosen_k,
        reasons=_reasons(found, mean),
        failed=failed,
        modality=first.modality,
        shape=_shape(first),
        feature_names=tuple(names_of(first)) if first.modality != "image" else (),
        rows=subject.rows[:n],
        target=first.target[:n],
        class_names=first.class_names,
        model=first.model,
        run=subject.key,
        settings={"seed": seed},
        seconds=seconds,
    )
    cut = () if n == len(subject.rows) else (_cut_short(n, len(subject.rows)),)
    result = dataclasses.replace(result, findings=(*findings_of(result), *cut))
    if subject.folder is not None:
        keep(result, "agreement", folder=subject.folder, n_rows=lambda found: len(found.rows))
    return result


def _explained(subject: Subject, name: str, limit: Limit, max_seconds: float | None) -> Explanation:
    try:
        limit.look()
    except Halted as halt:
        raise DLStudioError(
            "time for at least one method", f"none: {halt}", "Allow more, or pass fewer rows."
        ) from halt
    return subject.explain(name, max_seconds=None if max_seconds is None else max_seconds / 2)


def _cut_short(n: int, n_asked: int) -> Finding:
    return Finding(
        code="DLS438",
        severity="info",
        sentence=f"Only the first {n:,} of {n_asked:,} rows are compared: there was no time for more by every method.",
        evidence={"n_rows": n, "n_asked": n_asked},
        remedy="Allow more max_seconds, or leave out the slowest method.",
    )


def _slow(subject: Subject) -> set[str]:
    inputs = subject.given.inputs
    slow = set() if inputs.is_floating_point() else {"shapley"}
    return slow | (
        {"feature_ablation"} if inputs[0].numel() > MANY and "feature_mask" not in subject.options else set()
    )


def shares_of(values: Array) -> Array:
    """Return attributions (..., features) as shares of the sum of their sizes; 0 where nothing is attributed."""
    total = np.abs(values).sum(axis=-1, keepdims=True)
    shares: Array = np.divide(values, total, out=np.zeros_like(values), where=total > 0)
    return shares


def _correlations(values: Array, unsigned: Sequence[bool]) -> Array:
    """Rank correlations (n, m, m) of attributions (m, n, features), or of their sizes where one has no sign."""
    signed, sizes = centred_ranks(values), centred_ranks(np.abs(values))
    by_value, by_size = (np.einsum("anf,bnf->nab", ranks, ranks) for ranks in (signed, sizes))
    either = np.logical_or.outer(np.array(unsigned), np.array(unsigned))
    found = np.where(either, by_size, by_value)
    clipped: Array = np.clip(found, -1.0, 1.0)
    return clipped


def _mean(correlation: Array) -> Array:
    """Mean over the first axis of what is known; NaN where nothing is."""
    known = np.isfinite(correlation)
    count = known.sum(axis=0)
    total = np.where(known, correlation, 0.0).sum(axis=0)
    mean: Array = np.divide(total, count, out=np.full(total.shape, np.nan), where=count > 0)
    return mean


def _shape(explanation: Explanation) -> tuple[int, ...]:
    shape = explanation.attributions.shape[1:]
    return shape[1:] if explanation.modality == "image" and len(shape) == 3 else shape


def _reasons(found: Sequence[Explanation], correlation: Array) -> tuple[tuple[str, str, tuple[str, ...]], ...]:
    from dlstudio.explain.quality.disagreement import known_reasons

    sound = [i for i, e in enumerate(found) if e.verdict != "refused"]
    pairs = [(i, j) for i in sound for j in sound if i < j and correlation[i, j] < AGREE]
    pairs.sort(key=lambda pair: float(correlation[pair]))
    return tuple((found[i].method, found[j].method, known_reasons(found[i], found[j])) for i, j in pairs)
