"""The layer and the unit that a layered method explains by."""

from __future__ import annotations

from typing import Any

from torch import nn

from dlstudio.errors import DLStudioError, unknown_name
from dlstudio.explain.methods import Method

__all__ = ["layer_of", "neuron_of"]


def layer_of(module: nn.Module, model: Any, layer: str | nn.Module | None, spec: Method) -> tuple[str, nn.Module]:
    """Find the layer in the module that is explained, which may be a repaired copy of the caller's model.

    Returns:
        Its name, and the layer itself; the last convolution where Grad-CAM was given none.

    Raises:
        DLStudioError: there is no such layer, or none was named.
    """
    if not isinstance(model, nn.Module):
        raise DLStudioError(f"a torch.nn.Module for {spec.name}", type(model).__name__, "Pass the module itself.")
    known = dict(model.named_modules())
    known.pop("", None)
    if isinstance(layer, nn.Module):
        names = [name for name, part in known.items() if part is layer]
        if not names:
            raise DLStudioError("a layer of this model", f"a {type(layer).__name__} that is none", "Pass its name.")
        name = names[0]
    elif layer is None and "grad_cam" in spec.name:
        maps = [name for name, part in known.items() if isinstance(part, (nn.Conv1d, nn.Conv2d, nn.Conv3d))]
        if not maps:
            raise DLStudioError(
                f"a convolution for {spec.name}",
                f"none in {type(model).__name__}",
                "Use integrated_gradients or occlusion.",
            )
        name = maps[-1]
    elif layer is None:
        raise DLStudioError(
            f"a layer for {spec.name}", "layer=None", f"Pass layer= one of {', '.join(list(known)[:20])}."
        )
    else:
        name = layer
    if name not in known:
        raise unknown_name("layer", name, known)
    within = dict(module.named_modules())
    for place in (f"model.{name}", f"module.model.{name}"):  # inside `Outputs`, and inside `FromEmbeddings` of it
        if place in within:
            return name, within[place]
    raise DLStudioError(
        f"the layer {name!r} to be called as a module",
        "one that the repaired model does not call",
        "Choose a layer inside it, such as the last convolution.",
    )


def neuron_of(neuron: int | tuple[int, ...], spec: Method) -> tuple[int, ...]:
    """Return the index of a unit in its layer; neuron conductance cannot do without."""
    chosen = (neuron,) if isinstance(neuron, int) else tuple(neuron)
    if spec.name == "neuron_conductance" and not chosen:
        raise DLStudioError("a neuron for neuron_conductance", "none", "Pass neuron= its index in the layer.")
    return chosen
