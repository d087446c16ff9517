"""Explain again after a change that should matter, or should not: of inputs, of weights, of where zero lies."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from dlstudio.errors import DLStudioError
from dlstudio.explain.inspection.untouched import untouched
from dlstudio.explain.quality.ranks import rank_correlation
from dlstudio.explain.quality.subject import Subject
from dlstudio.explain.result import Explanation

__all__ = ["input_invariance", "max_sensitivity", "moves_with_data", "parameter_randomisation", "scale_of"]

Array = npt.NDArray[Any]
Again = Callable[..., Explanation]
"""``again(model=None, inputs=None, baselines=None)`` explains as before but for what is given."""

MAX_STAGES = 12


def scale_of(subject: Subject, modality: str) -> torch.Tensor:
    """Return what counts as one unit of change: the standard deviation of every column, or of all other inputs."""
    inputs = subject.given.inputs
    if modality == "tabular" and len(inputs) > 1:
        return inputs.std(dim=0)
    return inputs.std().expand(inputs.shape[1:])


def max_sensitivity(
    again: Again, subject: Subject, explanation: Explanation, *, radius: float, n_draws: int, seed: int
) -> Array:
    """Return how much attributions change at most when inputs change a little, relative to their size, float64 (n,).

    Yeh et al. (2019), as ``captum.metrics.sensitivity_max``: the largest ‖φ(x') − φ(x)‖ / ‖φ(x)‖ over draws of x'
    around x, here within `radius` units of `scale_of`.
    """
    inputs = subject.given.inputs
    generator = torch.Generator().manual_seed(seed)
    reach = radius * scale_of(subject, explanation.modality)
    worst = np.zeros(len(explanation))
    for _ in range(n_draws):
        noise = 2 * torch.rand(inputs.shape, generator=generator, dtype=inputs.dtype).to(inputs.device) - 1
        worst = np.maximum(worst, _change(again(inputs=inputs + reach * noise), explanation))
    return worst


def input_invariance(again: Again, subject: Subject, explanation: Explanation) -> Array:
    """Return how much attributions change when all inputs are shifted and the model takes the shift back.

    The two models say the same of the same things (Kindermans et al. 2019), so that nothing should change. A baseline
    made of data moves along; a fixed one, such as black, stays where it is. Float64 (n,), relative to their size.
    """
    shift = scale_of(subject, explanation.modality)
    baselines = subject.references(explanation.method)
    if moves_with_data(baselines):
        baselines = torch.as_tensor(baselines).to(subject.given.inputs) + shift
    moved = again(model=_shifted(subject.model, shift), inputs=subject.given.inputs + shift, baselines=baselines)
    return _change(moved, explanation)


def moves_with_data(baselines: Any) -> bool:
    """Whether a reference was made from data: not a number, and not one number everywhere."""
    if baselines is None:
        return False
    values = np.asarray(baselines.detach().cpu() if isinstance(baselines, torch.Tensor) else baselines)
    return bool(values.size > 1 and values.min() != values.max())


def parameter_randomisation(
    again: Again, subject: Subject, explanation: Explanation, *, seed: int
) -> tuple[tuple[str, ...], Array]:
    """Replace the weights by random ones, layer after layer from the output on, and compare explanations.

    Adebayo et al. (2018), cascading. Weights get random numbers of their own mean and spread. The similarity is
    Spearman's correlation of |attributions|, which should fall: an explanation that stays shows the inputs, not what
    the model learned.

    Returns:
        Names of the layers, the last one first, and similarities (layers, n); NaN where a row has too few features
        or nothing is attributed any more. Models of many layers lose several at a time.

    Raises:
        DLStudioError: the model cannot be copied.
    """
    clone = _copied(subject.model)
    generator = torch.Generator().manual_seed(seed)
    names, similarities = [], []
    before = np.abs(explanation.by_feature).astype(np.float64)
    for name, layers in _stages(clone, subject):
        for layer in layers:
            _randomise(layer, generator)
        try:
            after = np.abs(again(model=clone).by_feature).astype(np.float64)
        except DLStudioError:  # such as outputs that overflow
            break
        names.append(name)
        similarities.append(rank_correlation(before, after))
    return tuple(names), np.stack(similarities) if similarities else np.zeros((0, len(explanation)))


def _change(after: Explanation, before: Explanation) -> Array:
    was, now = (e.attributions.reshape(len(before), -1).astype(np.float64) for e in (before, after))
    difference, size = np.linalg.norm(now - was, axis=1), np.linalg.norm(was, axis=1)
    scale = np.maximum(size, 1e-6 * size.max())
    return np.divide(difference, scale, out=np.where(difference > 0, np.inf, 0.0), where=scale > 0)  # type: ignore[no-any-return]


def _stages(model: nn.Module, subject: Subject) -> Iterator[tuple[str, list[nn.Module]]]:
    """Layers with weights of their own in the reverse order of their first call, in at most `MAX_STAGES` groups."""
    called: dict[nn.Module, int] = {}
    parts = dict(model.named_modules())
    given = subject.given
    few = (given.inputs[:1], *(item[:1] for item in given.extra))

    def note(part: nn.Module, _: Any) -> None:
        called.setdefault(part, len(called))

    with untouched(model), torch.no_grad():
        for part in parts.values():
            part.register_forward_pre_hook(note)
        _ = model(**dict(zip(given.names, few, strict=True))) if given.names else model(*few)

    def moment(name: str) -> int:
        # A layer whose weights its parent uses itself, as attention does, counts where the parent was called.
        while name and parts[name] not in called:
            name = name.rpartition(".")[0]
        return called.get(parts[name], 0)

    with_weights = [name for name, part in parts.items() if any(True for _ in part.parameters(recurse=False))]
    ordered = sorted(with_weights, key=moment, reverse=True)
    for group in np.array_split(np.array(ordered, dtype=object), min(MAX_STAGES, max(1, len(ordered)))):
        if len(group):
            yield str(group[-1]) or type(model).__name__, [parts[name] for name in group]


def _copied(model: nn.Module) -> nn.Module:
    try:
        with untouched(model):
            return copy.deepcopy(model)
    except (RuntimeError, TypeError) as error:
        got = f"{type(error).__name__}: {error}"
        raise DLStudioError("a model that can be copied", got, "Leave this out.") from error


def _randomise(layer: nn.Module, generator: torch.Generator) -> None:
    with torch.no_grad():
        for weights in layer.parameters(recurse=False):
            spread = weights.std(correction=0)
            drawn = torch.randn(weights.shape, generator=generator, dtype=weights.dtype).to(weights.device)
            weights.copy_(weights.mean() + spread * drawn)


def _shifted(model: Any, shift: torch.Tensor) -> Any:
    """Return the same function of inputs that lie `shift` higher."""

    def lower(
        first: tuple[torch.Tensor, ...], named: dict[str, torch.Tensor]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Shift the first input, which may come by position or by name."""
        if first:
            return (first[0] - shift, *first[1:]), named
        explained = next(iter(named))
        return (), {**named, explained: named[explained] - shift}

    if not isinstance(model, nn.Module):
        return lambda inputs, *extra: model(inputs - shift, *extra)
    kind = type(model)

    def forward(self: nn.Module, *given: torch.Tensor, **named: torch.Tensor) -> Any:
        given, named = lower(given, named)
        return kind.forward(self, *given, **named)

    # Of the same class, so that layers keep their names and the model can be traced and repaired as before.
    clone = _copied(model)
    clone.__class__ = type(kind.__name__, (kind,), {"forward": forward})
    return clone
