"""What is to be explained, checked and on one device: a model of (n, k) outputs, its inputs, targets and references."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from dlstudio.errors import DLStudioError, unknown_name
from dlstudio.running import out_of_memory

__all__ = ["FromEmbeddings", "Outputs", "Problem", "Reading", "embedding_of", "target_of", "try_model"]


class Reading(nn.Module):
    """One field of what a model returns, flat but for the rows; its subclasses differ in how many inputs it takes.

    Args:
        model: a module, or any function of tensors.
        output: the field, where the model returns a tuple or a dict.
        names: keyword names of the inputs; () to pass them by position.
        n_dims: of the field.
        named: the field is an attribute, as of a dataclass or a named tuple.
        copies: hand the model copies, as it works in place on its inputs.
    """

    def __init__(
        self,
        model: nn.Module | Callable[..., Any],
        output: str | int | None,
        names: Sequence[str],
        n_dims: int,
        named: bool = False,
        copies: bool = False,
    ) -> None:
        super().__init__()
        self.model = model
        self.output = output
        self.names = tuple(names)
        self.n_dims = n_dims
        self.named = named
        self.copies = copies

    def _read(self, inputs: tuple[torch.Tensor, ...]) -> torch.Tensor:
        if self.copies:
            inputs = tuple(item.clone() for item in inputs)
        given = self.model(**dict(zip(self.names, inputs, strict=True))) if self.names else self.model(*inputs)
        if self.output is not None:
            given = getattr(given, str(self.output)) if self.named else given[self.output]
        # From what was seen once, not from `given`: a tracer cannot ask a symbol for its number of dimensions.
        outputs: torch.Tensor = torch.from_numpy(given) if isinstance(given, np.ndarray) else given
        if self.n_dims != 2:
            outputs = given.unsqueeze(1) if self.n_dims == 1 else given.flatten(1)
        return outputs


class Outputs(Reading):
    """A model seen as ``forward(inputs) -> (n, k)``."""

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return self._read((inputs,))


class OutputsOfTwo(Reading):
    """The same for a model of two inputs; with a plain signature, as a tracer follows no others."""

    def forward(self, inputs: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
        return self._read((inputs, second))


class OutputsOfMany(Reading):
    """The same for a model of several inputs: ``forward(inputs, *extra) -> (n, k)``."""

    def forward(self, inputs: torch.Tensor, *extra: torch.Tensor) -> torch.Tensor:
        return self._read((inputs, *extra))


class FromEmbeddings(nn.Module):
    """A text model as a function of the embeddings of its tokens; the token ids themselves come along.

    Ids still decide what the model derives from them, such as which places are padding.
    """

    def __init__(self, module: nn.Module, embedding: nn.Module) -> None:
        super().__init__()
        self.module = module
        self._embedding = [embedding]  # in a list: not registered twice

    def forward(self, embeddings: torch.Tensor, ids: torch.Tensor, *extra: torch.Tensor) -> torch.Tensor:
        handle = self._embedding[0].register_forward_hook(lambda module, inputs, output: embeddings)
        try:
            outputs: torch.Tensor = self.module(ids, *extra)
        finally:
            handle.remove()
        return outputs


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Problem:
    """Everything a method works on; all tensors on the model's device.

    Attributes:
        module: ``forward(inputs, *extra) -> (n, k)`` outputs, in eval mode.
        inputs: (n, ...), floating for methods that differentiate, unless `embedding` is there.
        embedding: turns token ids into the vectors that are explained, see `in_vectors`; None where there are none.
        extra: further inputs, one row a row, that are passed along and not explained.
        target: int64 (n,), which output.
        references: (1, ...), (n, ...) for one baseline a row, or (m, ...) for a background.
        mask: int64, shape of one input: which player (feature, column, superpixel, word) every number belongs to;
            None where each is its own.
        layer: the layer of a layered method.
        neuron: index of a unit in that layer.
        n_steps, n_samples: the precision of the methods that integrate or sample.
        spread: largest input less the smallest, over all rows.
    """

    module: nn.Module
    inputs: torch.Tensor
    extra: tuple[torch.Tensor, ...] = ()
    target: torch.Tensor
    references: torch.Tensor
    embedding: nn.Module | None = None
    mask: torch.Tensor | None = None
    layer: nn.Module | None = None
    neuron: tuple[int, ...] = ()
    n_steps: int = 50
    n_samples: int = 0
    spread: float = 1.0

    def __len__(self) -> int:
        return len(self.inputs)

    @property
    def n_players(self) -> int:
        """How many features are told apart."""
        return self.inputs[0].numel() if self.mask is None else int(self.mask.max()) + 1

    @property
    def paired(self) -> bool:
        """Whether every row has a baseline of its own."""
        return len(self.references) == len(self.inputs) > 1

    def rows(self, rows: slice | torch.Tensor, *, paired: bool) -> Problem:
        """Return the part of the problem that concerns these rows; with `paired`, of the references too."""
        return dataclasses.replace(
            self,
            inputs=self.inputs[rows],
            extra=tuple(item[rows] for item in self.extra),
            target=self.target[rows],
            references=self.references[rows] if paired and self.paired else self.references,
        )

    def in_vectors(self) -> Problem:
        """Return the same with its tokens embedded, for a few rows at a time: vectors take hundreds of times the room.

        The ids themselves become the first of the further inputs.
        """
        if self.embedding is None:
            return self
        with torch.no_grad():
            inputs, references = self.embedding(self.inputs), self.embedding(self.references)
        return dataclasses.replace(
            self, inputs=inputs, references=references, extra=(self.inputs, *self.extra), embedding=None
        )

    def outputs(self) -> torch.Tensor:
        """Return all outputs (n, k) at the inputs.

        Raises:
            DLStudioError: some are not finite.
        """
        with torch.no_grad():
            outputs: torch.Tensor = self.module(self.inputs, *self.extra)
        bad = (~torch.isfinite(outputs)).any(dim=1)
        if bad.any():
            raise DLStudioError(
                "finite outputs of the model",
                f"NaN or infinity in {int(bad.sum()):,} of {len(bad):,} rows",
                "Repair the model, or leave those rows out.",
            )
        return outputs

    def values(self, batch: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        """Return the explained output (b,) of a batch (b, ...) whose rows stand in for these rows of the inputs."""
        with torch.no_grad():
            outputs: torch.Tensor = self.module(batch, *(item[rows] for item in self.extra))
        return outputs.gather(1, self.target[rows].unsqueeze(1)).squeeze(1)


def try_model(
    model: Any, inputs: torch.Tensor, extra: tuple[torch.Tensor, ...], names: Sequence[str], output: str | int | None
) -> tuple[Reading, tuple[int, ...]]:
    """Run the model on two rows; return it as `Outputs`, and the shape of one row of the outputs explained.

    Raises:
        DLStudioError: it cannot take the inputs, returns several things and `output` names none of them, or returns
            no row of numbers a row of inputs.
    """
    where = f"inputs of shape {tuple(inputs.shape)} and type {inputs.dtype}"
    few = tuple(item[:2].clone() for item in (inputs, *extra))
    with torch.no_grad():
        try:
            given = model(**dict(zip(names, few, strict=True))) if names else model(*few)
        except Exception as error:  # whatever the model raises
            if out_of_memory(error):
                raise
            whole = not inputs.is_floating_point() and "dtype" in str(error)
            raise DLStudioError(
                f"a model that takes {where}",
                f"{type(error).__name__}: {(str(error).strip().splitlines() or [''])[0][:300]}",
                "Pass inputs.float()." if whole else "Pass inputs as the model was trained on, rows first.",
            ) from error
    copies = not all(torch.equal(item, used[:2]) for item, used in zip(few, (inputs, *extra), strict=True))
    given, named = _field(given, output)
    if isinstance(given, np.ndarray):
        given = torch.from_numpy(given)
    if not isinstance(given, torch.Tensor) or not given.is_floating_point():
        kind = f"a {given.dtype} tensor" if isinstance(given, torch.Tensor) else type(given).__name__
        raise DLStudioError(
            "floating-point outputs, such as logits",
            kind,
            "Let the model return its scores, not the class it decides for.",
        )
    if given.dim() == 0 or len(given) != len(few[0]):
        raise DLStudioError(
            f"one row of outputs for each of {len(few[0])} rows",
            f"outputs of shape {tuple(given.shape)} for {where}",
            "Put the rows first; for a single row pass inputs.unsqueeze(0).",
        )
    kind_of = (Outputs, OutputsOfTwo, OutputsOfMany)[min(len(extra), 2)]
    return kind_of(model, output, names, given.dim(), named, copies), tuple(given.shape[1:])


def _field(given: Any, output: str | int | None) -> tuple[Any, bool]:
    """Take one field of what a model returned; say whether it is an attribute."""
    fields: list[Any]
    named = False
    if isinstance(given, Mapping):
        fields = list(given)
    elif isinstance(given, tuple) and hasattr(given, "_fields") and not isinstance(output, int):
        fields, named = list(given._fields), True
    elif dataclasses.is_dataclass(given) and not isinstance(given, type):
        fields, named = [field.name for field in dataclasses.fields(given)], True
    elif isinstance(given, (tuple, list)):
        fields = list(range(len(given)))
    elif output is None:
        return given, False
    else:
        raise DLStudioError("output=None for a model that returns one tensor", f"output={output!r}", "Leave it out.")
    values = {key: getattr(given, key) if named else given[key] for key in fields}
    if output is None:
        shapes = {
            key: tuple(value.shape) if isinstance(value, torch.Tensor) else type(value).__name__
            for key, value in values.items()
        }
        raise DLStudioError(
            "one tensor as the model's output, or the name of the field to explain",
            f"a {type(given).__name__} with {shapes}",
            f"Pass output={fields[0]!r}." if fields else "Let the model return its logits.",
        )
    if output not in fields:
        raise unknown_name("output", output, map(str, fields))
    return values[output], named


def target_of(
    target: Any, n_rows: int, n_outputs: int, class_names: Sequence[str], shape: tuple[int, ...]
) -> torch.Tensor:
    """Return the explained output of every row, int64 (n,).

    Args:
        target: None (one output only), an index, a class name, a tuple of indices for outputs of more dimensions, or
            one index a row.
        n_rows, n_outputs: of the outputs.
        class_names: what the outputs are called.
        shape: of one row of the outputs as the model gave them.

    Raises:
        DLStudioError: a target is missing, no integer or out of range, or there is not one a row.
    """
    names = f", called {', '.join(map(str, class_names))}" if class_names else ""
    if target is None:
        if n_outputs != 1:
            raise DLStudioError(
                f"a target, as the model has {n_outputs} outputs a row{names}",
                "target=None",
                f"Pass target=0 to {n_outputs - 1}, or one index a row, such as the predicted classes.",
            )
        target = 0
    if isinstance(target, str) or (isinstance(target, (list, tuple)) and all(isinstance(item, str) for item in target)):
        asked = [target] if isinstance(target, str) else list(target)
        for name in asked:
            if name not in class_names:
                raise unknown_name("class", name, class_names)
        places = [list(class_names).index(name) for name in asked]
        target = places[0] if isinstance(target, str) else places
    if isinstance(target, tuple) and len(target) == len(shape) and len(shape) > 1:
        if any(not 0 <= int(at) < size for at, size in zip(target, shape, strict=True)):
            raise DLStudioError(f"a target inside outputs of shape {shape}", f"target={target}", "Choose one inside.")
        target = int(np.ravel_multi_index(tuple(int(at) for at in target), shape))
    chosen = torch.as_tensor(np.asarray(target.detach().cpu() if isinstance(target, torch.Tensor) else target))
    if chosen.is_floating_point() or chosen.is_complex() or chosen.dtype == torch.bool:
        raise DLStudioError("whole numbers as targets", f"{chosen.dtype}", "Pass class indices as integers.")
    if chosen.dim() == 2 and chosen.shape[1] == 1:
        chosen = chosen[:, 0]
    if chosen.dim() > 1 or (chosen.dim() == 1 and len(chosen) not in (1, n_rows)):
        raise DLStudioError(
            f"one target, or one for each of {n_rows:,} rows", f"targets of shape {tuple(chosen.shape)}", "Align them."
        )
    chosen = chosen.long().expand(n_rows).clone()
    bad = (chosen < 0) | (chosen >= n_outputs)
    if bad.any():
        raise DLStudioError(
            f"targets from 0 to {n_outputs - 1}, as the model has {n_outputs} outputs a row{names}",
            f"target={int(chosen[bad][0])}",
            "Choose one of these." if n_outputs > 1 else "Leave target out.",
        )
    return chosen


def embedding_of(module: nn.Module, ids: torch.Tensor, extra: Sequence[torch.Tensor]) -> nn.Module | None:
    """Return the layer that turns these token ids into vectors, or None where no layer takes them."""
    found: list[nn.Module] = []

    def look(layer: nn.Module, inputs: tuple[Any, ...]) -> None:
        given = inputs[0] if inputs else None
        if isinstance(given, torch.Tensor) and given.shape == few.shape and torch.equal(given, few):
            found.append(layer)

    few = ids[:2]
    handles = [layer.register_forward_pre_hook(look) for layer in module.modules() if isinstance(layer, nn.Embedding)]
    try:
        with torch.no_grad():
            module(few, *(item[:2] for item in extra))
    finally:
        for handle in handles:
            handle.remove()
    return found[0] if found else None
