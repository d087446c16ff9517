"""Weights at moments of a training, read without running any code."""

from __future__ import annotations

import numbers
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeAlias

import torch
from torch import nn

from dlstudio.errors import DLStudioError

__all__ = ["Checkpoint", "Weights", "read_checkpoint"]

Weights: TypeAlias = dict[str, torch.Tensor]


class Checkpoint:
    """Weights at one moment of a training.

    Attributes:
        label: what it is called.
        weights: name to tensor, all that a model's ``state_dict`` has; shared ones under their first name.
        lr: the learning rate then; None where nobody said.
    """

    def __init__(self, label: str, weights: Weights, lr: float | None) -> None:
        self.label, self.weights, self.lr = label, weights, lr


def read_checkpoint(given: Any, number: int, model: nn.Module) -> Checkpoint:
    """Read what a caller passed as a checkpoint, without unpickling any code.

    Args:
        given: the path of a file, a state dict or a dict that holds one, or a pair of these and a learning rate.
        number: its place in the caller's list.
        model: whose weights they are.

    Raises:
        DLStudioError: it cannot be read, or does not fit the model.
    """
    label, lr = f"checkpoint {number}", None
    if isinstance(given, tuple) and len(given) == 2:
        given, lr = given
        if isinstance(lr, bool) or not isinstance(lr, numbers.Real) or not 0 < float(lr) < float("inf"):
            raise DLStudioError(f"a learning rate above 0 with {label}", f"{lr!r}", "Pass (path, 1e-3).")
    if isinstance(given, (str, Path)):
        label, given = Path(given).name, _load(Path(given))
    if not isinstance(given, Mapping):
        raise DLStudioError("a path or a state dict as a checkpoint", type(given).__name__, "Pass model.state_dict().")
    inside = next((given[key] for key in ("model", "state_dict", "model_state_dict") if key in given), given)
    wanted = {name: item for name, item in model.state_dict().items() if isinstance(item, torch.Tensor)}
    if not isinstance(inside, Mapping) or set(inside) != set(wanted):
        keys = set(inside) if isinstance(inside, Mapping) else set()
        odd = [f"{name!r} missing" for name in sorted(set(wanted) - keys)]
        odd += [f"{name!r} unknown" for name in sorted(keys - set(wanted))]
        raise DLStudioError(
            f"weights of this {type(model).__name__} in {label}",
            ", ".join(odd[:4]) + (f" and {len(odd) - 4} more" if len(odd) > 4 else ""),
            "Build the model with the options it was trained with.",
        )
    weights = {}
    names = {name for name, _ in model.named_parameters()}
    shared = {name for name, _ in model.named_parameters(remove_duplicate=False)} - names
    for name, tensor in wanted.items():
        if inside[name].shape != tensor.shape:
            raise DLStudioError(
                f"{name!r} of shape {tuple(tensor.shape)} in {label}",
                f"shape {tuple(inside[name].shape)}",
                "Build the model with the options it was trained with.",
            )
        if name not in shared:  # functional_call wants one name of weights that have several
            weights[name] = inside[name].detach().to(tensor)
    return Checkpoint(label, weights, float(lr) if lr is not None else _learning_rate(given))


def _load(path: Path) -> Any:
    if not path.exists():
        raise DLStudioError("the file of a checkpoint", f"{path}, which is not there", "Check the path.")
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, ValueError, KeyError, pickle.UnpicklingError) as error:
        raise DLStudioError(
            "a checkpoint of tensors and plain values",
            f"{path} ({(str(error).strip() or repr(error)).splitlines()[0][:160]})",
            "Save model.state_dict() with torch.save.",
        ) from error


def _learning_rate(content: Mapping[str, Any]) -> float | None:
    """The learning rate that a checkpoint tells: its own, its optimiser's, or its recipe's."""
    optimizer = content.get("optimizer", content.get("optimizer_state_dict"))
    groups = optimizer.get("param_groups") if isinstance(optimizer, Mapping) else None
    recipe = content.get("recipe")
    for place in (content, groups[0] if groups else None, recipe):
        for key in ("lr", "learning_rate"):
            rate = place.get(key) if isinstance(place, Mapping) else None
            if isinstance(rate, numbers.Real) and float(rate) > 0:
                return float(rate)
    return None
