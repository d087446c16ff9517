"""Layers of a model by name, and the layer and the unit that a layered method explains by."""

from __future__ import annotations

import numbers
from collections.abc import Iterable
from typing import Any

from torch import nn

from dlstudio.errors import DLStudioError, unknown_name
from dlstudio.explain.methods import Method

__all__ = ["layer_of", "named_layer", "neuron_of"]


def named_layer(model: Any, layer: Any) -> tuple[str, nn.Module]:
    """Return name and module of a layer, given as either.

    Raises:
        DLStudioError: the model is no module, or has no such layer.
    """
    known = _layers(model)
    if isinstance(layer, nn.Module):
        for name, part in known.items():
            if part is layer:
                return name, part
        raise DLStudioError("a layer of this model", f"a {type(layer).__name__} that is none", "Pass its name.")
    if not isinstance(layer, str) or layer not in known:
        raise unknown_name("layer", layer, known)
    return layer, known[layer]


def _layers(model: Any) -> dict[str, nn.Module]:
    if not isinstance(model, nn.Module):
        raise DLStudioError("a torch.nn.Module with layers", type(model).__name__, "Pass the module itself.")
    return {name: part for name, part in model.named_modules() if name}


def layer_of(module: nn.Module, model: Any, layer: str | nn.Module | None, spec: Method) -> tuple[str, nn.Module]:
    """Find the layer in the module that is explained, which may be a repaired copy of the caller's model.

    Returns:
        Its name, and the layer itself; the last convolution where Grad-CAM was given none.

    Raises:
        DLStudioError: there is no such layer, or none was named.
    """
    known = _layers(model)
    if layer is None and "grad_cam" in spec.name:
        maps = [name for name, part in known.items() if isinstance(part, (nn.Conv1d, nn.Conv2d, nn.Conv3d))]
        if not maps:
            raise DLStudioError(
                f"a convolution for {spec.name}",
                f"none in {type(model).__name__}",
                "Use integrated_gradients or occlusion.",
            )
        layer = maps[-1]
    elif layer is None:
        raise DLStudioError(
            f"a layer for {spec.name}", "layer=None", f"Pass layer= one of {', '.join(list(known)[:20])}."
        )
    name, _ = named_layer(model, layer)
    within = dict(module.named_modules())
    for place in (f"model.{name}", f"module.model.{name}"):  # inside `Outputs`, and inside `FromEmbeddings` of it
        if place in within:
            return name, within[place]
    raise DLStudioError(
        f"the layer {name!r} to be called as a module",
        "one that the repaired model does not call",
        "Choose a layer inside it, such as the last convolution.",
    )


def neuron_of(neuron: Any, spec: Method) -> tuple[int, ...]:
    """Return the index of a unit in its layer; neuron conductance cannot do without."""
    chosen = (neuron,) if not isinstance(neuron, Iterable) or isinstance(neuron, str) else tuple(neuron)
    if not all(isinstance(at, numbers.Integral) for at in chosen):
        raise DLStudioError("the index of a neuron in its layer", f"neuron={neuron!r}", "Pass for instance neuron=3.")
    if spec.name == "neuron_conductance" and not chosen:
        raise DLStudioError("a neuron for neuron_conductance", "none", "Pass neuron= its index in the layer.")
    return tuple(map(int, chosen))
