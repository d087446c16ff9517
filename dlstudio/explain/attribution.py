"""Compute the attributions of a prepared problem: in batches, repeated where random, refined where they miss."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

from dlstudio.errors import DLStudioError
from dlstudio.explain.from_captum import CAPTUM, width_of
from dlstudio.explain.from_shap import SHAP
from dlstudio.explain.gate import GAP_OK, NOISE_OK, noise_by_row, output_range_of
from dlstudio.explain.methods import Method, alternatives
from dlstudio.explain.prepare import Prepared
from dlstudio.explain.problem import Problem
from dlstudio.explain.sampling.shapley import shapley
from dlstudio.limits import whole_number
from dlstudio.results import Finding
from dlstudio.running import Runner, out_of_memory

__all__ = ["Attributions", "attribute"]

REPEATS = 4
STUDENT = {2: 127.3, 3: 14.1, 4: 7.45}
"""By repeats: 99.5 percent of sums are nearer to the truth than so many standard errors (Student's t)."""
N_STEPS = 50
ROUNDS, HARDER = 2, 4
"""Where the caller left the precision open, rows that need it get four times the steps or samples, twice at most."""
PATHS = ("integrated_gradients", "layer_conductance", "neuron_conductance")
FITTED = ("lime", "kernel_shap", "shap_kernel")


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Attributions:
    """What a method found of the first m of n rows, on the CPU.

    Attributes:
        values: (m, ...) in the shape of the inputs, or the layer's; (m, length) where tokens were embedded.
        errors: their standard errors, or None where nothing is random.
        sums, spread: (m,), what a row's attributions add up to, every player counted once, and how far off chance may
            put that; None where nothing is random.
        outputs: (m, k), all outputs at the inputs.
        prediction, baseline_value: (m,), the explained output at the inputs, and at what they are compared with.
        settings: the precision that was used.
        findings: what was noticed.
    """

    values: torch.Tensor
    errors: torch.Tensor | None
    sums: torch.Tensor
    spread: torch.Tensor | None
    outputs: torch.Tensor
    prediction: torch.Tensor
    baseline_value: torch.Tensor
    settings: dict[str, int]
    findings: tuple[Finding, ...]


def attribute(
    prepared: Prepared, runner: Runner, *, n_steps: int | None = None, n_samples: int | None = None, seed: int = 0
) -> Attributions:
    """Run the method on all rows that time allows.

    Args:
        prepared: the problem.
        runner: keeps memory and time.
        n_steps: of a path; None refines rows that do not add up.
        n_samples: evaluations a row in all, orders of features for Shapley values; None takes a default.
        seed: of all random numbers.

    Raises:
        DLStudioError: `n_steps` or `n_samples` is too small to compute anything.
    """
    seed = whole_number("seed", seed, 0)
    n_steps = n_steps if n_steps is None else whole_number("n_steps", n_steps, 1)
    n_samples = n_samples if n_samples is None else whole_number("n_samples", n_samples, 1)
    problem, method = prepared.problem, prepared.method
    if method.name == "shapley":
        found = _shapley(prepared, runner, n_samples, seed)
    else:
        found = _by_library(prepared, runner, n_steps, n_samples, seed)
    if not runner.stopped:
        return found
    if len(found.values) == len(problem):
        words, remedy = "All rows were explained, but not every one as exactly as it could be", ""
    else:
        words = f"Only the first {len(found.values):,} of {len(problem):,} rows were explained"
        remedy = ", or explain fewer rows"
    halted = Finding(
        code="DLS411",
        severity="info",
        sentence=f"{words}: {runner.stopped}.",
        remedy=f"Allow more max_seconds{remedy}.",
    )
    return dataclasses.replace(found, findings=(*found.findings, halted))


def _shapley(prepared: Prepared, runner: Runner, n_samples: int | None, seed: int) -> Attributions:
    problem = prepared.problem

    def work(rows: slice, limit: int) -> tuple[torch.Tensor, ...]:
        part = problem.rows(rows, paired=False)
        with _their_errors(prepared):
            found = shapley(
                part.values,
                part.inputs,
                part.references,
                players=part.mask,
                n_samples=n_samples,
                max_batch=limit,
                seed=seed,
                tick=runner.tick,
            )
        exact.append(found.exact)
        return found.values, found.standard_error, _plain(part.outputs()), found.prediction, found.baseline_value

    exact: list[bool] = []
    parts = runner.over_rows(len(problem), 1, work)
    values, errors, outputs, prediction, baseline = (torch.cat(column).cpu() for column in zip(*parts, strict=True))
    spread = None if all(exact) else torch.zeros(len(values))  # a chain of orders adds up whatever the order
    shape = problem.inputs.shape[1:]
    mask = torch.arange(problem.n_players) if problem.mask is None else problem.mask.flatten().cpu()
    return Attributions(
        values=values[:, mask].reshape(-1, *shape),
        errors=errors[:, mask].reshape(-1, *shape),
        sums=values.double().sum(dim=1),
        spread=spread,
        outputs=outputs,
        prediction=prediction,
        baseline_value=baseline,
        settings={"n_samples": n_samples} if n_samples else {},
        findings=(),
    )


def _by_library(
    prepared: Prepared, runner: Runner, n_steps: int | None, n_samples: int | None, seed: int
) -> Attributions:
    method = prepared.method
    problem = dataclasses.replace(prepared.problem, n_steps=n_steps or N_STEPS)
    repeats = 1
    noticed: list[Finding] = []
    if method.sampled:
        repeats, per_repeat, noticed = _samples(method, problem, n_samples)
        problem = dataclasses.replace(problem, n_samples=per_repeat)
    if method.name == "feature_permutation" and len(problem) < 2:
        raise DLStudioError(
            "two rows or more for feature_permutation, which shuffles values among rows",
            "one row",
            "Use feature_ablation.",
        )
    first = _draw(prepared, problem, runner, repeats, seed)
    assert first is not None
    drawn, baseline, outputs = first
    prediction = outputs.gather(1, problem.target[: len(outputs)].cpu().unsqueeze(1)).squeeze(1)
    mask = prepared.given.mask if not method.differentiates else None
    change = prediction - baseline
    times = repeats
    for _ in range(ROUNDS):
        given = n_samples if method.sampled else n_steps
        if any(finding.severity == "critical" for finding in prepared.findings):
            break  # no precision helps where the method does not fit
        lacking = _lacking(method, drawn, change, mask) if given is None and not runner.stopped else ()
        if not len(lacking):
            break
        problem = dataclasses.replace(problem, n_steps=problem.n_steps * HARDER, n_samples=problem.n_samples * HARDER)
        everything = _all_there_is(method, problem)
        if times * problem.n_samples >= everything:
            times, problem = 1, dataclasses.replace(problem, n_samples=int(everything))
        part = problem.rows(torch.as_tensor(lacking).to(problem.inputs.device), paired=method.reference == "baseline")
        better = _draw(prepared, part, runner, times, seed, further=True)
        if better is not None:
            drawn[:, lacking[: better[0].shape[1]]] = better[0]
    sums = torch.stack([_sums(values, mask) for values in drawn])
    errors = drawn.std(dim=0) / repeats**0.5 if repeats > 1 else None
    if errors is None and method.sampled and problem.n_samples == _all_there_is(method, problem):
        errors = torch.zeros_like(drawn[0])
    settings = {"n_steps": problem.n_steps} if method.name in PATHS else {}
    return Attributions(
        values=drawn.mean(dim=0),
        errors=errors,
        sums=sums.mean(dim=0),
        spread=STUDENT[repeats] * sums.std(dim=0) / repeats**0.5 if repeats > 1 else None,
        outputs=outputs,
        prediction=prediction,
        baseline_value=baseline,
        settings=settings | ({"n_samples": times * problem.n_samples} if method.sampled else {}),
        findings=tuple(noticed),
    )


def _draw(
    prepared: Prepared, problem: Problem, runner: Runner, repeats: int, seed: int, *, further: bool = False
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor] | None:
    """Run the method on all rows: attributions (repeats, m, ...), outputs at the references (m,) and inputs (m, k).

    With `further`, None where a halt came before the first batch.
    """
    method = prepared.method
    compute = (CAPTUM | SHAP)[method.name]

    def work(rows: slice, limit: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        part = problem.rows(rows, paired=method.reference == "baseline").in_vectors()
        drawn = []
        for repeat in range(repeats):
            _seed(seed, 0 if shuffled else rows.start, repeat)
            with _their_errors(prepared):
                drawn.append(_plain(_by_token(compute(part, limit, runner.tick), prepared)))
        return torch.stack(drawn), _plain(_reference_values(part, method, limit)), _plain(part.outputs())

    shuffled = method.name == "feature_permutation"  # every row gets the values of the same others
    parts = runner.over_rows(len(problem), width_of(method.name, problem), work, further=further)
    if not parts:
        return None
    drawn, baseline, outputs = zip(*parts, strict=True)
    return torch.cat(drawn, dim=1), torch.cat(baseline), torch.cat(outputs)


@contextmanager
def _their_errors(prepared: Prepared) -> Iterator[None]:
    """Say in one form what Captum and SHAP complain of, which they do by assertions and many kinds of errors.

    What was seen in the model beforehand says more than the error it leads to.
    """
    method = prepared.method
    try:
        yield
    except (AssertionError, AttributeError, IndexError, RuntimeError, TypeError, ValueError) as error:
        if out_of_memory(error):
            raise
        got = f"{type(error).__name__}: {(str(error).strip().splitlines() or ['no message'])[0][:200]}"
        critical = [finding for finding in prepared.findings if finding.severity == "critical"]
        if critical:
            got, remedy = " ".join(finding.sentence for finding in critical), critical[0].remedy
        elif method.reference == "none" or method.hooks:
            remedy = f"Something in the model does not suit it; use {alternatives(hooks=False, but=method.name)}."
        else:
            remedy = (
                "The model may not take what lies between inputs and baselines, such as a row of padding alone: pass"
                " other baselines, or use saliency."
            )
        raise DLStudioError(f"a model that {method.title} can explain", got, remedy) from error


def _lacking(method: Method, drawn: torch.Tensor, change: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
    """Return the rows that more steps or samples may help: those that do not add up, or are too noisy."""
    if method.sampled and len(drawn) == 1:  # all there is
        return torch.empty(0, dtype=torch.int64)
    if method.sampled:
        noise = noise_by_row(drawn.mean(dim=0).numpy(), (drawn.std(dim=0) / len(drawn) ** 0.5).numpy())
        return torch.from_numpy(noise > 0.9 * NOISE_OK).nonzero().flatten()
    if method.name not in PATHS or not method.complete:
        return torch.empty(0, dtype=torch.int64)
    scale = output_range_of(change.double().numpy(), np.zeros(1))
    return ((_sums(drawn[0], mask) - change).abs() > 0.9 * GAP_OK * scale).nonzero().flatten()


def _samples(method: Method, problem: Problem, n_samples: int | None) -> tuple[int, int, list[Finding]]:
    """Return repeats, samples of each, and whether these are too few to say anything."""
    players = problem.n_players
    most = n_samples or REPEATS * _default_samples(method.name, players)
    if most >= _all_there_is(method, problem):
        return 1, int(_all_there_is(method, problem)), []
    # A linear fit has one unknown a player: below twice as many samples it says nothing.
    needed = 2 * players + 4 if method.name in FITTED else 1
    if n_samples is None:
        return REPEATS, _default_samples(method.name, players), []
    repeats = max(1, min(REPEATS, n_samples // needed))
    if repeats >= 2:
        return repeats, n_samples // repeats, []
    words = f"{n_samples:,} samples are too few"
    words += f" for {players:,} features" if needed > 1 else " to know how much chance is in the attributions"
    few = Finding(
        code="DLS402",
        severity="warning",
        sentence=f"{words}.",
        evidence={"n_samples": n_samples, "features": players},
        remedy=f"Pass n_samples={REPEATS * _default_samples(method.name, players):,}, or leave it out.",
    )
    return 1, n_samples, [few]


def _all_there_is(method: Method, problem: Problem) -> float:
    """Return how many samples leave nothing to chance: every row to take values from, every coalition."""
    if method.name == "feature_permutation":
        return len(problem.references)
    return 2**problem.n_players if method.name in ("kernel_shap", "shap_kernel") else math.inf


def _default_samples(name: str, players: int) -> int:
    return {
        "smooth_grad": 12,
        "gradient_shap": 200,
        "feature_permutation": max(5, min(100, 2000 // players)),
        "lime": max(512, 8 * players),
        "kernel_shap": max(512, 8 * players),
        "shap_gradient": 200,
        "shap_kernel": 2 * players + 512,
    }[name]


def _seed(seed: int, row: int, repeat: int) -> None:
    """Seed the global generators that Captum and SHAP draw from; the caller restores them afterwards."""
    number = (seed * 1_000_003 + row * 7919 + repeat) % 2**32
    torch.default_generator.manual_seed(number)
    if torch.cuda.is_initialized():
        torch.cuda.manual_seed_all(number)
    np.random.seed(number)


def _by_token(values: torch.Tensor, prepared: Prepared) -> torch.Tensor:
    return values.sum(dim=-1) if prepared.problem.embedding is not None and values.dim() == 3 else values


def _plain(values: torch.Tensor) -> torch.Tensor:
    """Bring a tensor to the CPU, in a type that numpy has."""
    values = values.detach().cpu()
    return values.float() if values.dtype in (torch.bfloat16, torch.float16) else values


def _sums(values: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
    """Add up every row, in float64; of a player that several numbers belong to, its value is counted once."""
    flat = values.flatten(1).double()
    if mask is not None:
        flat = flat[:, _first_members(mask)]
    return flat.sum(dim=1)


def _first_members(mask: torch.Tensor) -> torch.Tensor:
    flat = mask.flatten().cpu()
    first = torch.full((int(flat.max()) + 1,), len(flat))
    return first.scatter_reduce(0, flat, torch.arange(len(flat)), reduce="amin")


@torch.no_grad()
def _reference_values(part: Problem, method: Method, limit: int) -> torch.Tensor:
    """Return the explained output at every row's reference; NaN where the method compares with nothing."""
    n = len(part)
    device = part.inputs.device
    if method.reference == "none":
        return torch.full((n,), float("nan"), device=device)
    rows = torch.arange(n, device=device)
    if method.reference == "baseline" or len(part.references) == 1:
        return part.values(part.references.expand_as(part.inputs), rows)
    if not part.extra:
        at_background = [part.module(part.references[at : at + limit]) for at in range(0, len(part.references), limit)]
        return torch.cat(at_background).mean(dim=0)[part.target]
    total = torch.zeros(n, device=device)
    for reference in part.references:
        total += part.values(reference.expand_as(part.inputs), rows)
    return total / len(part.references)
