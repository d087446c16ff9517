"""Explain inputs of a model: prepare, attribute, judge."""

from __future__ import annotations

import copy
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import nn

from dlstudio.errors import DLStudioError
from dlstudio.explain.attribution import Attributions, attribute
from dlstudio.explain.gate import judge, output_range_of, verdict_of
from dlstudio.explain.inspection.untouched import untouched
from dlstudio.explain.prepare import Prepared, prepare
from dlstudio.explain.result import Explanation
from dlstudio.explain.tokens import read_tokens
from dlstudio.running import Runner, default_batch, no_memory, out_of_memory

__all__ = ["explain_inputs"]

PRECISION = ("n_steps", "n_samples", "seed")
_ONE_AT_A_TIME = threading.RLock()
"""Hooks, global random generators and modes are shared by all threads of a process."""
LIMITS = ("max_seconds", "progress", "cancel")


def explain_inputs(
    model: nn.Module | Callable[..., Any],
    inputs: Any,
    *,
    feature_names: Sequence[str] = (),
    class_names: Sequence[str] = (),
    tokenizer: Any = None,
    max_batch: int | None = None,
    **options: Any,
) -> Explanation:
    """Explain what a model says of inputs; see `dlstudio.explain` for the arguments and what comes back.

    Args:
        model, inputs, feature_names, class_names, tokenizer: what is explained, and what it is called.
        max_batch: the most rows the model is given at once.
        options: the other arguments; each goes to `prepare`, to `attribute` or to the `Runner`.
    """
    if not callable(model):
        raise DLStudioError("a torch.nn.Module, a function or a run", type(model).__name__, "Pass the trained model.")
    if inputs is None:
        raise DLStudioError("inputs to explain", "None", "Pass rows, such as a batch of test inputs.")
    precision = {name: options.pop(name) for name in PRECISION if name in options}
    limits = {name: options.pop(name) for name in LIMITS if name in options}
    started = time.perf_counter()
    counted = 0
    runner: Runner | None = None

    def count(module: nn.Module, given: tuple[Any, ...]) -> None:
        nonlocal counted
        counted += len(given[0])
        if runner is not None:
            runner.tick()

    model = _full_precision(_plain(model))
    with _ONE_AT_A_TIME, _plain_attention(), untouched(*([model] if isinstance(model, nn.Module) else [])):
        try:
            prepared = prepare(model, inputs, class_names=tuple(map(str, class_names)), **options)
        except (RuntimeError, MemoryError) as error:
            if not out_of_memory(error):
                raise
            raise no_memory(error) from error
        before_s = time.perf_counter() - started
        row = prepared.problem.rows(slice(0, 1), paired=False).in_vectors().inputs[0]
        batch = default_batch(row) if max_batch is None else max_batch
        runner = Runner(max_batch=batch, remedy="Allow more max_seconds, or fewer n_samples or n_steps.", **limits)
        counter = prepared.problem.module.register_forward_pre_hook(count)
        try:
            found = attribute(prepared, runner, **precision)
        finally:
            counter.remove()
    name = type(model).__name__ if isinstance(model, nn.Module) else getattr(model, "__name__", "function")
    seed = precision.get("seed", 0)
    return _result(prepared, found, feature_names, class_names, tokenizer, name, seed, counted, started, before_s)


def _plain(model: Any) -> Any:
    """Return the module inside what compiles it or spreads it over devices; hooks and tracing need itself."""
    while isinstance(model, nn.Module):
        if isinstance(model, (nn.DataParallel, nn.parallel.DistributedDataParallel)):
            model = model.module
        elif hasattr(model, "_orig_mod"):  # torch.compile
            model = model._orig_mod
        else:
            break
    return model


def _full_precision(model: Any) -> Any:
    """Return a single-precision copy of a half-precision model: sums of attributions would drown in its rounding."""
    if isinstance(model, nn.Module) and not isinstance(model, torch.jit.ScriptModule):
        kinds = {part.dtype for part in model.parameters() if part.is_floating_point()}
        if kinds and kinds <= {torch.float16, torch.bfloat16}:
            return copy.deepcopy(model).float()
    return model


@contextmanager
def _plain_attention() -> Iterator[None]:
    """Keep PyTorch's transformer layers off their fast path, which hides what runs and fails on rows of padding."""
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)


def _result(
    prepared: Prepared,
    found: Attributions,
    feature_names: Sequence[str],
    class_names: Sequence[str],
    tokenizer: Any,
    model: str,
    seed: int,
    counted: int,
    started: float,
    before_s: float,
) -> Explanation:
    """Judge what was found and put it into the shape that is reported."""
    began = time.perf_counter()
    method, given = prepared.method, prepared.given
    n = len(found.values)
    prediction = found.prediction.double().numpy()
    compared = method.reference != "none"
    baseline = found.baseline_value.double().numpy()
    output_range = output_range_of(prediction, baseline if compared else prediction[:1])
    complete = method.complete or (method.name == "lrp" and not _has_bias(prepared))
    gaps = None
    if complete:
        expected = prediction - (baseline if compared else 0.0)
        gaps = np.abs(found.sums.numpy() - expected) / output_range
    values, errors = found.values, found.errors
    names = tuple(map(str, feature_names)) or given.columns
    shown = given.inputs[:n].cpu()
    shown = shown.float() if shown.is_floating_point() and shown.element_size() < 4 else shown
    shared = None
    if given.mask is not None and method.name != "layer_conductance":
        values, errors, merged = _by_player(values, errors, prepared, names)
        if merged:
            shown = torch.full((n, values.shape[1]), float("nan"))
        else:
            shared = given.mask.cpu().numpy()
    if not names and prepared.modality == "tabular" and values.dim() == 2:
        names = tuple(f"feature {at}" for at in range(values.shape[1]))
    _check_names(names, values, prepared)
    findings = judge(
        method,
        values=values.double().numpy(),
        errors=None if errors is None else errors.double().numpy(),
        gaps=gaps,
        spread=None if found.spread is None else found.spread.numpy(),
        output_range=output_range,
        noticed=(*prepared.findings, *found.findings),
    )
    ended = time.perf_counter()
    return Explanation(
        method=method.name,
        why=prepared.why,
        modality=prepared.modality,
        attributions=values.numpy(),
        standard_error=None if errors is None else errors.numpy(),
        baseline_value=baseline,
        prediction=prediction,
        gap=None if gaps is None else float(gaps.max()),
        gaps=gaps,
        output_range=output_range,
        verdict=verdict_of(findings),
        findings=findings,
        feature_mask=shared,
        inputs=shown.numpy(),
        labels=read_tokens(shown, tokenizer) if prepared.modality == "text" else None,
        feature_names=names,
        class_names=tuple(map(str, class_names)),
        target=prepared.problem.target[:n].cpu().numpy(),
        outputs=found.outputs.numpy(),
        rows=np.arange(n, dtype=np.int64),
        layer=prepared.layer,
        model=model,
        settings={"seed": seed, **found.settings},
        n_evaluations=counted,
        wall_s=ended - started,
        gate_s=before_s + ended - began,
    )


def _has_bias(prepared: Prepared) -> bool:
    """Whether a layer adds a constant, which takes a share of the relevance that LRP hands back."""
    return any(
        bool(torch.any(constant != 0))
        for part in prepared.problem.module.modules()
        for constant in (getattr(part, "bias", None), getattr(part, "running_mean", None))
        if isinstance(constant, torch.Tensor)
    )


def _by_player(
    values: torch.Tensor, errors: torch.Tensor | None, prepared: Prepared, names: Sequence[str]
) -> tuple[torch.Tensor, torch.Tensor | None, bool]:
    """Give every player one value: as a column of its own where players have names, else at each of its members."""
    mask = prepared.given.mask
    assert mask is not None
    flat = mask.flatten().cpu()
    n_players = int(flat.max()) + 1
    members = torch.zeros(len(flat), n_players, dtype=values.dtype)
    members[torch.arange(len(flat)), flat] = 1
    if not prepared.method.differentiates:  # every member already carries its player's value
        members = members / members.sum(dim=0)
    by_player = values.flatten(1) @ members
    its_errors = None if errors is None else ((errors.flatten(1) ** 2) @ members**2).sqrt()
    if errors is not None and not prepared.method.differentiates:
        its_errors = errors.flatten(1) @ members
    merged = prepared.modality == "tabular" and len(names) == n_players != len(flat)
    if merged:
        return by_player, its_errors, True
    spread = None if its_errors is None else its_errors[:, flat].reshape(values.shape)
    return by_player[:, flat].reshape(values.shape), spread, False


def _check_names(names: Sequence[str], values: torch.Tensor, prepared: Prepared) -> None:
    if not names or prepared.method.name == "layer_conductance":
        return
    wanted = values.shape[-1] if prepared.modality in ("tabular", "sequence") else None
    if wanted is not None and len(names) != wanted:
        raise DLStudioError(
            f"{wanted} feature_names", f"{len(names)}", "Give one a feature, or one a player of feature_mask."
        )
