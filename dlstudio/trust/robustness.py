"""Assess robustness: how right a model stays while its inputs are attacked or corrupted."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from dlstudio.errors import DLStudioError, unknown_name
from dlstudio.limits import level_of_confidence, named, whole_number
from dlstudio.runs.kept import keep
from dlstudio.trust.asked import asked
from dlstudio.trust.robustness_result import RobustnessResult, curve
from dlstudio.trust.robustness_words import findings_of

if TYPE_CHECKING:
    import torch

    from dlstudio.trust.corruptions import Corruption
    from dlstudio.trust.robustness_inputs import Given

__all__ = ["assess_robustness"]

N_ROWS = 1000
ELEMENTS, ELEMENTS_ON_GPU = 2**18, 2**23
"""How many input numbers the model is given at once when the caller did not say."""


def assess_robustness(
    model: Any,
    inputs: Any = None,
    targets: Any = None,
    *,
    rows: Any = None,
    attacks: Sequence[str] = ("fgsm", "pgd"),
    norm: str = "linf",
    epsilons: Sequence[float] | None = None,
    corruptions: Sequence[str] | Mapping[str, Sequence[float]] = ("noise", "blur", "missing"),
    mean: Any = None,
    std: Any = None,
    bounds: tuple[float, float] | None = None,
    mask: Any = None,
    column_of_feature: Sequence[str] = (),
    n_steps: int = 20,
    level: float = 0.95,
    seed: int = 0,
    max_batch: int | None = None,
    max_seconds: float | None = None,
    progress: bool | Callable[[int, int], None] = True,
) -> RobustnessResult:
    """Measure how right a model stays while its inputs are attacked or corrupted. The model is left as found.

    Attacks know the model and follow its gradient: FGSM takes one step, PGD searches by steps. What they do not find
    may exist all the same: their curves are upper limits of what holds against an adversary. Intervals take rows as
    independent: where several are of one person, they are too narrow. Pass one of each then.

    Args:
        model: a module or function that takes a batch and returns logits (rows, classes), one logit or probability of
            class 1 a row, or one value a row; or a run (or its name), whose test rows are taken.
        inputs, targets: what the model takes, (n, …), and what is right, (n,): class numbers as integers, or floats of
            a regression. None for a run.
        rows: of a run's data set; None takes the first 1,000 of its test part.
        attacks: of ``"fgsm"`` and ``"pgd"``; () for none.
        norm: ``"linf"`` limits every input's change, ``"l2"`` the length of the change.
        epsilons: these limits, in raw units. None takes 1/255 to 16/255 of the range of images, else 5, 10, 20 and 50
            hundredths of the inputs' median standard deviation; for ``"l2"`` times the root of the number of inputs.
        corruptions: of ``"noise"``, ``"blur"`` (images and sequences) and ``"missing"``, or with their strengths:
            ``{"noise": (0.1, 0.2), "missing": (0.3,)}``. Noise is in raw units, blur in pixels or time steps.
        mean, std: when inputs were normalised by (raw - mean) / std: a number, or one per channel or feature. Limits,
            bounds and noise are then in raw units.
        bounds: the smallest and largest raw value. None judges: images within 0 to 1 or 0 to 255 stay there.
        mask: bool, one row's shape: which inputs attacks and noise may change. None allows all; of a run's table, the
            columns of numbers with more than two values.
        column_of_feature: of a table, the column each feature was made from: those go missing together.
        n_steps: of PGD.
        level: of confidence of the intervals.
        seed: of the random numbers of corruptions.
        max_batch: the most rows the model is given at once; halved when memory runs out.
        max_seconds: when to stop; the result then covers the first rows only, and says so.
        progress: a bar over rows, or a function called with rows done and all.

    Returns:
        Curves of accuracy (or the mean absolute error) over strength with intervals, and what follows from them.

    Raises:
        DLStudioError: inputs, targets or options do not fit, not one batch was finished in time, or nothing that was
            asked for makes sense here.

    Example:
        >>> r = dls.assess_robustness(model, x, y, epsilons=(0.1, 0.2))
        >>> r.curves["pgd"].value, r.rows_of("pgd", 0.1)

    References:
        Goodfellow, Shlens and Szegedy, Explaining and harnessing adversarial examples (2015); Madry et al., Towards
        deep learning models resistant to adversarial attacks (2018); Hendrycks and Dietterich, Benchmarking neural
        network robustness to common corruptions and perturbations (2019).
    """
    from dlstudio.running import Runner
    from dlstudio.trust.attacks import ATTACKS, left_alone
    from dlstudio.trust.robustness_inputs import given_of

    started = time.perf_counter()
    attacks = _names("attack", attacks, ATTACKS)
    if norm not in ("linf", "l2"):
        raise unknown_name("norm", norm, ("linf", "l2"))
    level_of_confidence(level)
    n_steps, seed = whole_number("n_steps", n_steps, 1), whole_number("seed", seed, 0)
    given = given_of(
        model, inputs, targets, rows=rows, n_rows=N_ROWS, mean=mean, std=std, bounds=bounds, mask=mask,
        column_of_feature=column_of_feature,
    )  # fmt: skip
    work = _Work(given, attacks, _epsilons(epsilons, given, norm), norm, _strengths(corruptions, given), n_steps, seed)
    if not work.errors:
        reasons = "; ".join(f"{name}: {why}" for name, why in work.skipped.items()) or "none was asked for"
        raise DLStudioError("an attack or corruption that makes sense here", reasons, "Choose others.")
    if max_batch is None:
        elements = ELEMENTS_ON_GPU if given.raw.is_cuda else ELEMENTS
        max_batch = max(16, min(4096, elements // max(1, given.raw[0].numel())))
    runner = Runner(
        max_batch=max_batch, max_seconds=max_seconds, progress=progress, doing="Attacking",
        remedy="Allow more max_seconds, or fewer n_steps or strengths.",
    )  # fmt: skip
    with left_alone(given.model):
        n = sum(runner.over_rows(len(given.raw), 1, lambda rows, _: work.batch(rows)))
    units = {"noise": given.unit, "blur": given.blur_unit, "missing": f"share of {given.parts}"}
    metric = "mean_absolute_error" if work.answer.is_value else "accuracy"
    result = RobustnessResult(
        metric=metric,
        curves={
            name: curve(
                name,
                "attack" if name in attacks else "corruption",
                units.get(name, given.unit),
                np.array([0.0, *work.strengths[name]]),
                np.concatenate(found)[:n],
                metric,
                level,
            )
            for name, found in work.errors.items()
        },
        norm=norm,
        rows=given.rows[:n],
        y_true=given.targets[:n].cpu().numpy(),
        y_pred=np.concatenate(work.said)[:n],
        no_gradient=np.concatenate(work.stuck)[:n] if work.stuck else np.zeros(n, dtype=np.bool_),
        rows_of_part={
            part: found for part, of in given.splits.items() if (found := int(np.isin(given.rows[:n], of).sum()))
        },
        n_asked=len(given.rows),
        skipped=work.skipped,
        data=given.data,
        run=given.run,
        model=type(given.model).__name__,
        level=level,
        settings={"n_steps": n_steps, "seed": seed, "bounds": list(given.bounds), "outputs": work.answer.kind},
        options=asked(
            rows=rows,
            attacks=attacks,
            norm=norm,
            epsilons=epsilons,
            corruptions=corruptions,
            mean=mean,
            std=std,
            bounds=bounds,
            mask=mask,
            column_of_feature=column_of_feature,
            n_steps=n_steps,
            level=level,
            seed=seed,
        ),
        wall_s=time.perf_counter() - started,
    )
    result = dataclasses.replace(result, findings=tuple(findings_of(result, work.answer.kind)))
    return keep(result, "robustness", n_rows=len)


class _Work:
    """All attacks and corruptions of one model; every batch of rows goes through all of them."""

    def __init__(
        self,
        given: Given,
        attacks: tuple[str, ...],
        epsilons: tuple[float, ...],
        norm: str,
        strengths: Mapping[str, tuple[float, ...]],
        n_steps: int,
        seed: int,
    ) -> None:
        from dlstudio.trust.attacks import Attacked, left_alone, no_gradient
        from dlstudio.trust.corruptions import Corruption, fits

        self.given = given
        self.skipped: dict[str, str] = {}
        with left_alone(given.model):
            self.answer = given.answer()
            self.subject = Attacked(
                forward=given.forward, answer=self.answer, norm=norm, bounds=given.bounds, mask=given.mask,
                n_steps=n_steps,
            )  # fmt: skip
            for name in attacks:
                if given.modality == "text":
                    self.skipped[name] = "tokens are names and cannot change a little"
                    continue
                try:
                    no_gradient(self.subject, given.raw[:2], given.targets[:2])
                except (DLStudioError, RuntimeError) as error:
                    self.skipped[name] = error.got if isinstance(error, DLStudioError) else str(error).splitlines()[0]
        self.corruptions: list[Corruption] = []
        for name in strengths:
            if why := fits(name, given.modality):
                self.skipped[name] = why
                continue
            self.corruptions.append(
                Corruption(
                    name=name,
                    modality=given.modality,
                    fill=given.fill,
                    bounds=given.bounds,
                    mask=given.mask,
                    column_of_feature=given.column_of_feature,
                    seed=seed,
                )  # fmt: skip
            )
        self.strengths = {name: epsilons for name in attacks} | dict(strengths)
        names = [*attacks, *strengths]
        self.errors: dict[str, list[npt.NDArray[np.float32]]] = {n: [] for n in names if n not in self.skipped}
        self.said: list[npt.NDArray[Any]] = []
        self.stuck: list[npt.NDArray[np.bool_]] = []

    def batch(self, rows: slice) -> int:
        """Put rows through everything; return how many they were."""
        import torch

        from dlstudio.trust.attacks import ATTACKS, no_gradient

        raw, targets = self.given.raw[rows], self.given.targets[rows]
        with torch.no_grad():
            outputs = self.given.forward(raw)
            first = self.answer.error(outputs, targets)
            said = self.answer.predicted(outputs).cpu().numpy()
        attacked = [name for name in self.errors if name in ATTACKS]
        found = {name: self._attacked(name, raw, targets, first) for name in attacked}
        stuck = [no_gradient(self.subject, raw, targets).cpu().numpy()] if attacked else []
        before = [corruption.state for corruption in self.corruptions]
        try:
            with torch.no_grad():
                for corruption in self.corruptions:
                    found[corruption.name] = self._corrupted(corruption, raw, targets, first)
        except BaseException:
            for corruption, state in zip(self.corruptions, before, strict=True):
                corruption.state = state  # the batch may be tried again, with fewer rows
            raise
        self.stuck += stuck
        self.said.append(said)
        for name, errors in found.items():
            self.errors[name].append(errors)
        return len(said)

    def _corrupted(
        self, corruption: Corruption, raw: torch.Tensor, targets: torch.Tensor, first: torch.Tensor
    ) -> npt.NDArray[np.float32]:
        drawn = corruption.draw(raw)
        columns = [first]
        for strength in self.strengths[corruption.name]:
            outputs = self.given.forward(corruption.apply(raw, strength, drawn))
            columns.append(self.answer.error(outputs, targets))
        return _columns(columns)

    def _attacked(
        self, name: str, raw: torch.Tensor, targets: torch.Tensor, first: torch.Tensor
    ) -> npt.NDArray[np.float32]:
        import torch

        from dlstudio.trust.attacks import attack

        columns, worst = [first], first
        for epsilon in self.strengths[name]:
            # What is wrong already stays wrong; an error of a quantity can always grow.
            left = torch.arange(len(raw), device=raw.device) if self.answer.is_value else (worst == 0).nonzero()[:, 0]
            if len(left):
                changed = attack(name, self.subject, raw[left], targets[left], epsilon)
                with torch.no_grad():
                    errors = self.answer.error(self.given.forward(changed), targets[left])
                worst = worst.index_put((left,), torch.maximum(worst[left], errors))
            columns.append(worst)
        return _columns(columns)


def _columns(columns: list[torch.Tensor]) -> npt.NDArray[np.float32]:
    import torch

    stacked: npt.NDArray[np.float32] = torch.stack(columns, dim=1).float().cpu().numpy()
    return stacked


def _names(kind: str, given: Any, known: tuple[str, ...]) -> tuple[str, ...]:
    names = named(kind, given)
    for name in names:
        if name not in known:
            raise unknown_name(kind, name, known)
    return names


def _rising(name: str, given: Any, most: float = np.inf) -> tuple[float, ...]:
    try:
        found = tuple(sorted({float(item) for item in np.atleast_1d(np.asarray(given, dtype=np.float64))}))
    except (TypeError, ValueError):
        found = ()
    if not found or not all(0 < item <= most and np.isfinite(item) for item in found):
        limit = f" and at most {most:g}" if np.isfinite(most) else ""
        raise DLStudioError(f"strengths of {name} above 0{limit}", f"{given!r}", "Strength 0 is always measured.")
    return found


def _epsilons(given: Sequence[float] | None, inputs: Given, norm: str) -> tuple[float, ...]:
    if given is not None:
        return _rising("an attack (epsilons)", given)
    free = inputs.raw[0].numel() if inputs.mask is None else int(inputs.mask.sum())
    length = float(np.sqrt(free)) if norm == "l2" else 1.0
    if inputs.modality == "image" and np.isfinite(inputs.bounds[1]):
        span = inputs.bounds[1] - inputs.bounds[0]
        return tuple(span * share / 255 * length for share in (1, 2, 4, 8, 16))
    return tuple(share * inputs.spread * length for share in (0.05, 0.1, 0.2, 0.5))


def _strengths(given: Any, inputs: Given) -> dict[str, tuple[float, ...]]:
    from dlstudio.trust.corruptions import CORRUPTIONS

    names = _names("corruption", given, CORRUPTIONS)
    if isinstance(given, Mapping):
        return {name: _rising(name, given[name], 1.0 if name == "missing" else np.inf) for name in names}
    image = inputs.modality == "image"
    usual = {
        "noise": tuple(share * inputs.spread for share in (0.1, 0.2, 0.5, 1.0)),
        "blur": (0.5, 1.0, 1.5, 2.0) if image else (1.0, 2.0, 4.0),
        "missing": (0.05, 0.1, 0.2, 0.4),
    }
    return {name: usual[name] for name in names}
