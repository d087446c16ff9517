"""What a caller may pass as inputs: tensors, arrays, frames, or several of them by name."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import nn

from dlstudio.errors import DLStudioError

__all__ = ["Given", "read_inputs"]


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Given:
    """The caller's inputs as tensors on the model's device.

    Attributes:
        inputs: (n, ...), what is explained.
        extra: further inputs with one row a row, such as an attention mask; passed along.
        names: keyword names of all of them; () by position.
        columns: of a DataFrame; () otherwise.
        mask: which player every number of an input belongs to; None where each is its own.
    """

    inputs: torch.Tensor
    extra: tuple[torch.Tensor, ...] = ()
    names: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()
    mask: torch.Tensor | None = None


def read_inputs(model: Any, inputs: Any) -> Given:
    """Turn what came into tensors, in the floating type of the model.

    Args:
        model: a module, or a function of tensors.
        inputs: a tensor, an array or a DataFrame of numbers; a tuple whose first item is explained and whose others
            go along; or a mapping by keyword, of which ``"input_ids"``, else the first, is explained.

    Raises:
        DLStudioError: no rows, no numbers, NaN, or another device than the model's.
    """
    names: tuple[str, ...] = ()
    parts = [inputs]
    if isinstance(inputs, Mapping):
        names = tuple(map(str, inputs))
        if "input_ids" in names:
            names = ("input_ids", *(name for name in names if name != "input_ids"))
        parts = [inputs[name] for name in names]
    elif isinstance(inputs, tuple) and inputs and all(hasattr(item, "shape") for item in inputs):
        parts = list(inputs)
    if not parts:
        raise DLStudioError("inputs to explain", "an empty collection", "Pass a tensor of rows.")
    columns = tuple(map(str, parts[0].columns)) if hasattr(parts[0], "columns") else ()
    device, dtype = _home(model)
    tensors = []
    for part in parts:
        tensor = _tensor(part)
        if tensor.device.type == "cpu" and not isinstance(part, torch.Tensor):
            tensor = tensor.to(device)  # an array has no device of its own to be kept
        if tensor.device != device and tensor.device.type != device.type:
            raise DLStudioError(
                f"inputs on {device}, where the model is",
                f"inputs on {tensor.device}",
                f"Move one of them: inputs.to({str(device)!r}).",
            )
        if tensor.layout != torch.strided:
            raise DLStudioError("dense inputs", f"a {tensor.layout} tensor", "Pass inputs.to_dense().")
        # A copy: models that work in place on their input must not reach the caller's.
        tensors.append(tensor.detach().to(dtype if tensor.is_floating_point() else tensor.dtype, copy=True))
    first = tensors[0]
    if first.dim() < 2 or len(first) == 0:
        raise DLStudioError(
            "inputs of shape (rows, ...), one row or more",
            f"shape {tuple(first.shape)}",
            "For a single row pass inputs.unsqueeze(0).",
        )
    for extra in tensors[1:]:
        if extra.dim() == 0 or len(extra) != len(first):
            raise DLStudioError(
                f"{len(first):,} rows in every input", f"shape {tuple(extra.shape)}", "Align them row by row."
            )
    if first.dtype == torch.bool:
        tensors[0] = first = first.to(dtype)
    _check_finite(first, columns)
    return Given(inputs=first.detach(), extra=tuple(tensors[1:]), names=names, columns=columns)


def _tensor(part: Any) -> torch.Tensor:
    if isinstance(part, torch.Tensor):
        return part
    if hasattr(part, "columns") and hasattr(part, "select_dtypes"):
        text = part.select_dtypes(exclude=["number", "bool"]).columns
        if len(text):
            raise DLStudioError(
                "a DataFrame of numbers, encoded as the model takes them",
                f"text or categories in {', '.join(map(repr, list(text)[:5]))}",
                "Encode them, or explain a run: dls.explain(run), which knows its columns.",
            )
        part = part.to_numpy(dtype=np.float64)
    try:
        array = np.asarray(part)
        if array.dtype.kind == "u" and array.dtype != np.uint8:
            array = array.astype(np.int64)
        return torch.from_numpy(array if array.flags.writeable else array.copy())
    except (TypeError, ValueError) as error:
        raise DLStudioError(
            "a tensor, an array or a DataFrame of inputs",
            f"{type(part).__name__} ({error})",
            "Pass numbers, rows first.",
        ) from None


def _home(model: Any) -> tuple[torch.device, torch.dtype]:
    """Return the device and the floating type of the model's weights; the defaults for a model without any."""
    if isinstance(model, nn.Module):
        for weights in (*model.parameters(), *model.buffers()):
            if weights.is_floating_point():
                return weights.device, weights.dtype
    return torch.device("cpu"), torch.get_default_dtype()


def _check_finite(inputs: torch.Tensor, columns: tuple[str, ...]) -> None:
    if not inputs.is_floating_point():
        return
    bad = ~torch.isfinite(inputs)
    if not bad.any():
        return
    counts = bad.flatten(1).sum(dim=0)
    at = counts.nonzero().flatten().tolist()
    names = [repr(columns[i]) if len(columns) == len(counts) else f"feature {i}" for i in at[:6]]
    rows = int(bad.flatten(1).any(dim=1).sum())
    raise DLStudioError(
        "finite inputs",
        f"{int(bad.sum()):,} NaN or infinite values in {rows:,} of {len(inputs):,} rows ({', '.join(names)}"
        + (" and more)" if len(at) > 6 else ")"),
        "Drop those rows, or fill them as the training data were filled.",
    )
