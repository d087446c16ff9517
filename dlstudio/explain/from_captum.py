"""Captum's methods, each as ``method(problem, limit, tick) -> attributions``.

`limit` is the most rows the model may be given at once, `tick` is called between batches and may raise to stop. Random
numbers come from torch's and numpy's global generators, as Captum takes no seed: the caller seeds and restores them.
"""

from __future__ import annotations

import copy
import functools
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

from dlstudio.errors import DLStudioError
from dlstudio.explain.problem import Problem
from dlstudio.explain.sampling.coalitions import all_coalitions, paired_coalitions, shapley_kernel

__all__ = ["CAPTUM", "width_of"]

Tick = Callable[[], None]
NOISE = 0.15  # SmoothGrad's noise as a share of the inputs' range; its paper finds 10 to 20 percent best
LIME_WIDTH = 0.25


def _arguments(problem: Problem) -> dict[str, Any]:
    return {"target": problem.target, "additional_forward_args": problem.extra or None}


def _baselines(problem: Problem) -> torch.Tensor:
    return problem.references.expand_as(problem.inputs) if len(problem.references) == 1 else problem.references


def _mask(problem: Problem) -> torch.Tensor | None:
    return None if problem.mask is None else problem.mask.unsqueeze(0)


def _gradients(
    forward_fn: Callable[..., torch.Tensor],
    inputs: tuple[torch.Tensor, ...],
    target_ind: torch.Tensor,
    additional_forward_args: tuple[Any, ...] | None = None,
) -> tuple[torch.Tensor, ...]:
    """Return the gradients of each row's output, as Captum's function of this name does.

    Captum takes a batch apart into one number a row, which costs several times a small network's own time. Rows do not
    depend on each other, so the gradient of their sum is the same.
    """
    with torch.enable_grad():
        outputs = forward_fn(*inputs, *(additional_forward_args or ()))
        target = target_ind.expand(len(outputs))  # that of a single row comes as one, however many steps it takes
        return torch.autograd.grad(outputs.gather(1, target.unsqueeze(1)).sum(), inputs)


def _with_gradients(method: Any) -> Any:
    method.gradient_func = _gradients
    return method


@contextmanager
def _quiet() -> Iterator[None]:
    """Captum warns of the hooks it sets and of inputs it makes require gradients; both are its own affair."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def saliency(problem: Problem, limit: int, tick: Tick) -> torch.Tensor:
    from captum.attr import Saliency

    return _with_gradients(Saliency(problem.module)).attribute(problem.inputs, abs=True, **_arguments(problem))  # type: ignore[no-any-return]


def input_x_gradient(problem: Problem, limit: int, tick: Tick) -> torch.Tensor:
    from captum.attr import InputXGradient

    return _with_gradients(InputXGradient(problem.module)).attribute(problem.inputs, **_arguments(problem))  # type: ignore[no-any-return]


def integrated_gradients(problem: Problem, limit: int, tick: Tick) -> torch.Tensor:
    from captum.attr import IntegratedGradients

    method = _with_gradients(IntegratedGradients(problem.module))
    weights, places = _nodes(problem.n_steps)
    baselines = _baselines(problem)
    total = torch.zeros_like(problem.inputs)
    size = max(1, limit // len(problem))
    for at in range(0, problem.n_steps, size):
        tick()
        # As `attribute` does, which computes the nodes anew in every call: for 800 steps that takes seconds.
        (part,) = method._attribute(
            inputs=(problem.inputs,),
            baselines=(baselines,),
            target=problem.target,
            additional_forward_args=problem.extra or None,
            n_steps=len(weights[at : at + size]),
            step_sizes_and_alphas=(weights[at : at + size], places[at : at + size]),
        )
        total += part
    return total


@functools.lru_cache(maxsize=8)
def _nodes(n_steps: int) -> tuple[list[float], list[float]]:
    """Return weights and places of Gauss-Legendre quadrature on 0 to 1."""
    from captum.attr._utils.approximation_methods import approximation_parameters

    weights, places = approximation_parameters("gausslegendre")
    return list(weights(n_steps)), list(places(n_steps))


def _internal(problem: Problem, limit: int) -> int | None:
    return None if len(problem) * problem.n_steps <= limit else max(limit, len(problem))


def smooth_grad(problem: Problem, limit: int, tick: Tick) -> torch.Tensor:
    from captum.attr import NoiseTunnel, Saliency

    tunnel = NoiseTunnel(_with_gradients(Saliency(problem.module)))
    total = torch.zeros_like(problem.inputs)
    for size in _parts(problem.n_samples, limit // len(problem)):
        tick()
        total += size * tunnel.attribute(
            problem.inputs,
            nt_type="smoothgrad",
            nt_samples=size,
            stdevs=NOISE * problem.spread,
            abs=True,
            **_arguments(problem),
        )
    return total / problem.n_samples


def deep_lift(problem: Problem, limit: int, tick: Tick) -> torch.Tensor:
    from captum.attr import DeepLift

    return DeepLift(problem.module).attribute(  # type: ignore[no-any-return]
        problem.inputs, baselines=_baselines(problem), **_arguments(problem)
    )


def deep_lift_shap(problem: Problem, limit: int, tick: Tick) -> torch.Tensor:
    from captum.attr import DeepLiftShap

    # It has no batch size of its own: the background is taken in parts, of two rows at least as it demands.
    total = torch.zeros_like(problem.inputs)
    lift = DeepLiftShap(problem.module)
    at = 0
    n = len(problem.references)
    for size in _parts(n, max(2, limit // (2 * len(problem))), least=2):
        tick()
        total += size * lift.attribute(
            problem.inputs, baselines=problem.references[at : at + size], **_arguments(problem)
        )
        at += size
    return total / n


def gradient_shap(problem: Problem, limit: int, tick: Tick) -> torch.Tensor:
    from captum.attr import GradientShap

    method = GradientShap(problem.module)
    total = torch.zeros_like(problem.inputs)
    for size in _parts(problem.n_samples, limit // len(problem)):
        tick()
        total += size * method.attribute(
            problem.inputs, baselines=problem.references, n_samples=size, stdevs=0.0, **_arguments(problem)
        )
    return total / problem.n_samples


def grad_cam(problem: Problem, limit: int, tick: Tick) -> torch.Tensor:
    from captum.attr import LayerAttribution, LayerGradCam

    coarse = LayerGradCam(problem.module, problem.layer).attribute(
        problem.inputs, relu_attributions=True, **_arguments(problem)
    )
    size = tuple(problem.inputs.shape[2:])
    _check_map(coarse, size)
    fine = LayerAttribution.interpolate(coarse, size, interpolate_mode="bilinear" if len(size) == 2 else "linear")
    # One map for all channels, which share it: their sum is the map.
    shared: torch.Tensor = fine.expand_as(problem.inputs) / problem.inputs.shape[1]
    return shared


def guided_grad_cam(problem: Problem, limit: int, tick: Tick) -> torch.Tensor:
    from captum.attr import GuidedGradCam

    size = tuple(problem.inputs.shape[2:])
    mode = "bilinear" if len(size) == 2 else "linear"
    return GuidedGradCam(problem.module, problem.layer).attribute(  # type: ignore[no-any-return]
        problem.inputs, interpolate_mode=mode, **_arguments(problem)
    )


def _check_map(coarse: torch.Tensor, size: tuple[int, ...]) -> None:
    if not size or coarse.dim() != len(size) + 2:
        raise DLStudioError(
            "a layer that gives a map over the image, such as the last convolution",
            f"one that gives {tuple(coarse.shape)} for inputs of {len(size)} spatial dimensions",
            "Pass layer= the name of a convolution.",
        )


def occlusion(problem: Problem, limit: int, tick: Tick) -> torch.Tensor:
    from captum.attr import Occlusion

    shape = tuple(problem.inputs.shape[1:])
    if len(shape) == 1 or problem.mask is not None:  # a window of one feature is an ablation
        return feature_ablation(problem, limit, tick)
    window: tuple[int, ...]
    if len(shape) == 3:
        window = (shape[0], max(1, shape[1] // 7), max(1, shape[2] // 7))
    else:
        window = (max(1, shape[0] // 12), *(1 for _ in shape[1:]))
    strides = tuple(max(1, (size + 1) // 2) if size < full else size for size, full in zip(window, shape, strict=True))
    tick()
    return Occlusion(problem.module).attribute(  # type: ignore[no-any-return]
        problem.inputs,
        sliding_window_shapes=window,
        strides=strides,
        baselines=_baselines(problem),
        perturbations_per_eval=max(1, limit // len(problem)),
        **_arguments(problem),
    )


def feature_ablation(problem: Problem, limit: int, tick: Tick) -> torch.Tensor:
    from captum.attr import FeatureAblation

    tick()
    return FeatureAblation(problem.module).attribute(  # type: ignore[no-any-return]
        problem.inputs,
        baselines=_baselines(problem),
        feature_mask=_mask(problem),
        perturbations_per_eval=max(1, min(problem.n_players, limit // len(problem))),
        **_arguments(problem),
    )


def feature_permutation(problem: Problem, limit: int, tick: Tick) -> torch.Tensor:
    from captum.attr import FeaturePermutation

    # Captum shuffles within a batch. Values of chosen rows instead, the same for all, leave the batches out of it; with
    # every row chosen once nothing is random. A row's own values change nothing, so that the mean is over the others.
    total: torch.Tensor | None = None
    n = len(problem.references)
    for row in torch.randperm(n)[: problem.n_samples].tolist():
        tick()
        values = problem.references[row]
        method = FeaturePermutation(
            problem.module, perm_func=lambda inputs, chosen, values=values: torch.where(chosen, values, inputs)
        )
        found = method.attribute(
            problem.inputs,
            feature_mask=_mask(problem),
            perturbations_per_eval=max(1, min(problem.n_players, limit // len(problem))),
            **_arguments(problem),
        )
        total = found if total is None else total + found
    assert total is not None
    return total / min(n, problem.n_samples) * (n / (n - 1))


def lime(problem: Problem, limit: int, tick: Tick) -> torch.Tensor:
    """Least squares instead of Captum's default Lasso, which is not faithful even to a linear model."""
    from captum._utils.models.linear_model import SkLearnLinearRegression
    from captum.attr import Lime

    method = Lime(problem.module, interpretable_model=SkLearnLinearRegression(), similarity_func=_nearness)
    return _row_by_row(method, problem, limit, tick)


def _nearness(original: Any, perturbed: Any, kept: torch.Tensor, **_: Any) -> torch.Tensor:
    """Weight a sample by the share of features it kept, by LIME's exponential kernel of the cosine distance."""
    distance = 1 - kept.float().mean().sqrt()
    return torch.exp(-((distance / LIME_WIDTH) ** 2) / 2)


def kernel_shap(problem: Problem, limit: int, tick: Tick) -> torch.Tensor:
    from captum.attr import KernelShap

    if problem.n_players == 1:  # nothing to weigh against each other, and Captum's sampling needs two
        rows = torch.arange(len(problem), device=problem.inputs.device)
        change = problem.values(problem.inputs, rows) - problem.values(_baselines(problem), rows)
        return change.reshape(-1, *(1 for _ in problem.inputs.shape[1:])).expand(problem.inputs.shape).clone()
    method = KernelShap(problem.module)
    if problem.n_samples == 2**problem.n_players:
        method.perturb_func, method.similarity_func = all_coalitions, shapley_kernel
    else:
        method.perturb_func = paired_coalitions
    return _row_by_row(method, problem, limit, tick)


def _row_by_row(method: Any, problem: Problem, limit: int, tick: Tick) -> torch.Tensor:
    parts = []
    for at in range(len(problem)):
        tick()
        row = problem.rows(slice(at, at + 1), paired=True)
        parts.append(
            method.attribute(
                row.inputs,
                baselines=row.references,
                feature_mask=_mask(row),
                n_samples=problem.n_samples,
                perturbations_per_eval=max(1, min(limit, problem.n_samples)),
                **_arguments(row),
            )
        )
    return torch.cat(parts)


def lrp(problem: Problem, limit: int, tick: Tick) -> torch.Tensor:
    from captum.attr import LRP

    # It leaves rules and changed weights behind when it fails midway, so it gets a copy.
    return LRP(copy.deepcopy(problem.module)).attribute(problem.inputs, **_arguments(problem))  # type: ignore[no-any-return]


def layer_conductance(problem: Problem, limit: int, tick: Tick) -> torch.Tensor:
    from captum.attr import LayerConductance

    tick()
    found = LayerConductance(problem.module, problem.layer).attribute(
        problem.inputs,
        baselines=_baselines(problem),
        n_steps=problem.n_steps,
        internal_batch_size=_internal(problem, limit),
        **_arguments(problem),
    )
    first: torch.Tensor = found[0] if isinstance(found, tuple) else found
    return first


def neuron_conductance(problem: Problem, limit: int, tick: Tick) -> torch.Tensor:
    from captum.attr import NeuronConductance

    tick()
    return NeuronConductance(problem.module, problem.layer).attribute(  # type: ignore[no-any-return]
        problem.inputs,
        problem.neuron,
        baselines=_baselines(problem),
        n_steps=problem.n_steps,
        internal_batch_size=_internal(problem, limit),
        **_arguments(problem),
    )


def _parts(n: int, size: int, *, least: int = 1) -> Iterator[int]:
    """Split `n` into parts of at most `size`, none smaller than `least`."""
    size = max(least, size)
    while n > 0:
        part = min(size, n)
        if 0 < n - part < least:
            part = n - least if n - least >= least else n
        yield part
        n -= part


def _wrapped(function: Callable[[Problem, int, Tick], torch.Tensor]) -> Callable[[Problem, int, Tick], torch.Tensor]:
    def run(problem: Problem, limit: int, tick: Tick) -> torch.Tensor:
        with _quiet():
            return function(problem, limit, tick).detach()

    return run


CAPTUM = {
    function.__name__: _wrapped(function)
    for function in (
        saliency, input_x_gradient, integrated_gradients, smooth_grad, deep_lift, deep_lift_shap, gradient_shap,
        grad_cam, guided_grad_cam, occlusion, feature_ablation, feature_permutation, lime, kernel_shap, lrp,
        layer_conductance, neuron_conductance,
    )
}  # fmt: skip


def width_of(name: str, problem: Problem) -> int:
    """Return how many rows of the model one row to explain takes at once."""
    if name in ("integrated_gradients", "layer_conductance", "neuron_conductance"):
        return problem.n_steps
    if name in ("smooth_grad", "gradient_shap"):
        return problem.n_samples
    if name in ("deep_lift_shap",):
        return 2 * len(problem.references)
    if name in ("lime", "kernel_shap", "shap_kernel"):
        return sys.maxsize  # one row at a time, each with random numbers of its own
    return {"deep_lift": 2, "feature_ablation": problem.n_players}.get(name, 1)
