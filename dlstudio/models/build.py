"""Reference networks by name, made to fit a data set."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import nn

from dlstudio.errors import DLStudioError, unknown_name
from dlstudio.models.cnn import CNN
from dlstudio.models.gru import GRU
from dlstudio.models.mlp import MLP
from dlstudio.models.parts import Rescale
from dlstudio.models.transformer import Transformer

__all__ = ["available", "build", "check_option", "options"]


class DatasetLike(Protocol):
    """What `build` reads of a data set; inputs, targets, splits and vocabulary besides, where it has them."""

    @property
    def modality(self) -> str: ...
    @property
    def task(self) -> str: ...
    @property
    def n_classes(self) -> int: ...
    @property
    def input_shape(self) -> tuple[int, ...]: ...


_MODELS: dict[str, tuple[Callable[..., nn.Module], tuple[str, ...]]] = {
    "mlp": (MLP, ("tabular", "image", "sequence")),
    "cnn": (CNN, ("image",)),
    "gru": (GRU, ("sequence", "text")),
    "transformer": (Transformer, ("text", "sequence")),
}


def available() -> dict[str, str]:
    """Return the names that `build` knows, each with a line that describes it."""
    return {
        name: f"{inspect.getdoc(model).splitlines()[0].rstrip('.')} ({', '.join(modalities)})."  # type: ignore[union-attr]
        for name, (model, modalities) in _MODELS.items()
    }


def options(name: str) -> dict[str, Any]:
    """Return the options of a model with their defaults."""
    model, _ = _lookup(name)
    fixed = {"length", "n_channels", "n_tokens"}
    return {
        key: parameter.default
        for key, parameter in inspect.signature(model).parameters.items()
        if parameter.kind is parameter.KEYWORD_ONLY and key not in fixed
    }


def check_option(name: str, option: str, value: Any) -> Any:
    """Return the value of a model's option in the type of its default.

    Raises:
        DLStudioError: the model or the option is unknown, or the value out of range.
    """
    known = options(name)
    if option not in known:
        raise unknown_name(f"{name} option", option, known)
    return _checked(option, value, known[option])


def build(name: str, dataset: DatasetLike, **chosen: Any) -> nn.Module:
    """Build a freshly initialised network for a data set; torch's global seed decides its weights.

    Args:
        name: one of `available`.
        dataset: what the network shall read: its shapes, its task and, for text, its vocabulary.
        **chosen: the model's own options, see `options`; ``n_tokens`` for text whose vocabulary is not known.

    Returns:
        A module in training mode. Output: (batch, n_classes) logits for binary and multiclass, (batch,) in
        the target's unit for regression, where the last layer starts at mean and scale of the training
        targets.

    Raises:
        DLStudioError: an unknown model or option, an option out of range, or a modality the model cannot
            take.

    Example:
        >>> build("mlp", load("mortgage"), hidden=(32,))
    """
    model, modalities = _lookup(name)
    if dataset.modality not in modalities:
        able = [other for other, (_, known) in _MODELS.items() if dataset.modality in known]
        hint = " Integer inputs are read as token ids: make features float." if dataset.modality == "text" else ""
        raise DLStudioError(
            f"{' or '.join(modalities)} data for the model {name!r}",
            f"{dataset.modality} data of shape {tuple(dataset.input_shape)}",
            f"Choose {' or '.join(map(repr, able))}, or pass your own nn.Module.{hint}",
        )
    known = options(name)
    n_tokens = chosen.pop("n_tokens", None) if dataset.modality == "text" else None
    arguments = _shape_arguments(name, dataset, n_tokens)
    for key, value in chosen.items():
        arguments[key] = check_option(name, key, value)
    try:
        network = model(**arguments)
    except ValueError as error:  # options that do not go together
        raise DLStudioError(f"options that fit each other for {name!r}", str(error), f"Defaults: {known}.") from error
    if dataset.task != "regression":
        return network
    return nn.Sequential(network, nn.Flatten(0), Rescale(*_target_scale(dataset)))


def _checked(key: str, value: Any, default: Any) -> Any:
    if isinstance(default, float):
        if isinstance(value, (int, float)) and 0 <= value < 1:
            return float(value)
        expected = "a probability of at least 0 and below 1"
    else:
        listed = isinstance(default, tuple)
        values = list(value) if listed and isinstance(value, (list, tuple)) else [value]
        if all(isinstance(size, int) and not isinstance(size, bool) and size >= 1 for size in values):
            return tuple(values) if listed else value
        expected = "whole numbers of at least 1" if listed else "a whole number of at least 1"
    raise DLStudioError(f"{expected} for {key!r}", repr(value), f"The default is {default!r}.")


def _lookup(name: str) -> tuple[Callable[..., nn.Module], tuple[str, ...]]:
    if name not in _MODELS:
        raise unknown_name("model", name, _MODELS)
    return _MODELS[name]


def _shape_arguments(name: str, dataset: DatasetLike, n_tokens: int | None) -> dict[str, Any]:
    arguments: dict[str, Any] = {"n_outputs": 1 if dataset.task == "regression" else dataset.n_classes}
    if name in ("mlp", "cnn"):
        return arguments | {"input_shape": tuple(dataset.input_shape)}
    if name == "transformer":
        arguments["length"] = dataset.input_shape[0]
    if dataset.modality == "sequence":
        return arguments | {"n_channels": dataset.input_shape[-1]}
    inputs = getattr(dataset, "inputs", None)
    n_tokens = n_tokens or len(getattr(dataset, "vocabulary", ())) or None
    if n_tokens is None and isinstance(inputs, torch.Tensor):
        n_tokens = int(inputs.max()) + 1
    if n_tokens is None:
        raise DLStudioError(
            "the number of different token ids",
            "streamed text without a vocabulary",
            "Pass n_tokens=… as an option.",
        )
    return arguments | {"n_tokens": n_tokens}


def _target_scale(dataset: DatasetLike) -> tuple[float, float]:
    """Return mean and standard deviation of the training targets; 0 and 1 where they are not in memory."""
    targets, splits = getattr(dataset, "targets", None), getattr(dataset, "splits", None)
    if not isinstance(targets, torch.Tensor) or splits is None:
        return 0.0, 1.0
    known = targets[torch.as_tensor(splits["train"])].double()
    return float(known.mean()), float(known.std(correction=0)) or 1.0
