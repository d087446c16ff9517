"""Which operations a model runs on its inputs, and where: seen in one run of any Python model."""

from __future__ import annotations

import dataclasses
import warnings
from collections import Counter
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from torch.nn.modules import module as nn_module
from torch.overrides import TorchFunctionMode

from dlstudio.explain.inspection import functions
from dlstudio.explain.inspection.functions import Effect
from dlstudio.explain.inspection.operation import How, Operation, Operations, tensors
from dlstudio.explain.inspection.untouched import untouched

__all__ = ["operations"]


def operations(module: nn.Module, inputs: Any, extra: tuple[Any, ...] = ()) -> Operations:
    """Run a model once and say which operations lie between its inputs and its outputs.

    Operations whose results reach no output are left out. The model is left as it was.

    Args:
        module: any model that runs in Python; the parts of it that are scripted count as one operation each.
        inputs: a tensor or a tuple of tensors, floating or token ids; a row or two are enough.
        extra: further positional arguments, which nothing is attributed to.

    Example:
        >>> [(o.op, o.how, o.where) for o in operations(net, torch.zeros(1, 4))]
        [('relu', 'functional', 'block.0')]
    """
    module = getattr(module, "_orig_mod", module)  # what torch.compile wraps
    with untouched(module):
        for parameter in module.parameters():
            parameter.requires_grad_(False)
        recorder = _Recorder(module)
        arguments = tuple(map(recorder.enter, inputs if isinstance(inputs, tuple) else (inputs,)))
        with warnings.catch_warnings(), recorder.watching_modules(), recorder:
            warnings.simplefilter("ignore")  # what a model warns of when it runs belongs to where it is really run
            result = module(*arguments, *extra)
        return recorder.seen(result)


@dataclasses.dataclass
class _Mark:
    """What is known of a tensor that depends on the inputs.

    ``kind`` is ``"live"`` (the gradient follows), ``"ids"`` (integers that came in), ``"choice"`` (a mask or index) or
    ``"rough"`` (numbers without a gradient); ``through`` has a bit for every recorded operation on the way.
    """

    tensor: torch.Tensor
    kind: str
    through: int


@dataclasses.dataclass
class _Place:
    """Where an operation was seen, while the run is under way."""

    operation: Operation
    label: str
    calls: set[int] = dataclasses.field(default_factory=set)
    counted: int = 0
    readers: list[list[str]] = dataclasses.field(default_factory=list)


class _Recorder(TorchFunctionMode):
    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.names = {id(part): name for name, part in model.named_modules()}
        self.leaves = tuple(
            (name, type(part)) for name, part in model.named_modules() if name and next(part.children(), None) is None
        )
        self.running: list[tuple[nn.Module, int]] = []
        self.n_calls: Counter[int] = Counter()
        self.kept: list[nn.Module] = []  # in-line modules: an id must not be given away twice
        self.marks: dict[int, _Mark] = {}
        self.places: dict[tuple[Any, ...], int] = {}
        self.records: list[_Place] = []
        self.always = 0
        self.readers: dict[int, list[str]] = {}
        self.makers: dict[int, tuple[type[nn.Module], ...]] = {}

    def enter(self, value: Any) -> Any:
        """Give an input a mark of its own. A differentiable one is no leaf, as some models write into theirs."""
        if not isinstance(value, torch.Tensor):
            return value
        if value.is_floating_point() or value.is_complex():
            value = value.detach().requires_grad_().clone()
        else:
            value = value.detach().clone()
        self.marks[id(value)] = _Mark(value, "live" if value.requires_grad else "ids", 0)
        return value

    def watching_modules(self) -> Any:
        return _ModuleHooks(self)

    # -- modules -------------------------------------------------------------------------------------------------

    def before_module(self, part: nn.Module, _: Any) -> None:
        self.n_calls[id(part)] += 1
        if id(part) not in self.names:
            self.kept.append(part)
        self.running.append((part, self.n_calls[id(part)]))

    def after_module(self, part: nn.Module, arguments: Any, result: Any) -> None:
        if isinstance(part, torch.jit.ScriptModule):
            marks = [mark for tensor in tensors(arguments) if (mark := self.mark_of(tensor))]
            if marks:
                bit = self.record("scripted", "non-linear", None, how="scripted")
                for tensor in tensors(result):
                    self.marks[id(tensor)] = _Mark(tensor, _kind(tensor), _union(marks) | bit)
        self.running.pop()

    # -- functions -----------------------------------------------------------------------------------------------

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        raw = getattr(func, "__name__", "")
        if raw == "__get__":
            raw = getattr(getattr(func, "__self__", None), "__name__", "")
        if raw == "__iter__" and isinstance(args[0], torch.Tensor):
            parts = args[0].unbind(0)
            self.follow("unbind", False, (args[0],), {}, parts)
            return iter(parts)
        marks = {id(tensor): mark for tensor in tensors((args, kwargs)) if (mark := self.mark_of(tensor))}
        result = func(*args, **kwargs)
        if marks and raw not in functions.CONSTANT:
            name, in_place = functions.plain_name(raw)
            self.follow(name, in_place or bool(kwargs.get("inplace")), args, kwargs, result, marks)
        return result

    def follow(
        self,
        name: str,
        in_place: bool,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        result: Any,
        marks: Mapping[int, _Mark] | None = None,
    ) -> None:
        """Mark what came out of one function call, and record the call where it matters."""
        if marks is None:
            marks = {id(tensor): mark for tensor in tensors(args) if (mark := self.mark_of(tensor))}
        outcome = [args[0]] if name == "setitem" else list(tensors(result))
        if not outcome or not marks:
            return
        through, kinds = _union(marks.values()), {mark.kind for mark in marks.values()}
        if kinds == {"ids"}:
            self.follow_ids(name, outcome, through)
            return
        if name in functions.SELECTING:
            bit = self.record(name, "cut", None)
            kind: str | None = "choice"
        else:
            found = [marks.get(id(tensor)) for tensor in tensors((args, kwargs))]
            chooses = [mark is not None and mark.kind == "choice" for mark in found]
            effect = functions.effect_of(name, args, kwargs, [mark is not None for mark in found], chooses)
            bit = self.record(name, effect, args, in_place=in_place, kwargs=kwargs) if effect else 0
            kind = None
            if name in functions.ROUGH:
                bit, kind = bit | self.record(name, "cut", None), "rough"
        through |= bit
        if in_place:
            self.always |= bit  # a view of it may go on under another name
        self.note_flow(marks, outcome, name, bit, in_place)
        for tensor in outcome:
            self.marks[id(tensor)] = self.outcome_mark(tensor, name, kind, kinds, through)

    def note_flow(
        self, marks: Mapping[int, _Mark], outcome: list[torch.Tensor], name: str, bit: int, in_place: bool
    ) -> None:
        """Keep who reads and who made a tensor: hooks on it see the gradients of all its readers added up."""
        owner = self.running[-1][0] if self.running else None
        module = type(owner) if owner is not None and _is_atomic(owner) else None
        place = self.records[bit.bit_length() - 1] if bit else None
        same = {id(tensor) for tensor in outcome}
        for number, mark in marks.items():
            if (number in same and not in_place) or not any(tensor.requires_grad for tensor in outcome):
                continue  # what comes out is what went in, such as from a dropout that is off
            readers = self.readers.setdefault(number, [])
            readers.append(module.__name__ if module else name)
            if place is not None and place.operation.module is not None and mark.kind == "live":
                place.readers.append(readers)
                after = tuple(dict.fromkeys((*place.operation.after, *self.makers.get(number, ()))))
                place.operation = dataclasses.replace(place.operation, after=after)
        for tensor in outcome:
            handed_on = id(tensor) in marks and not in_place
            if in_place:
                self.readers[id(tensor)] = []
            before = self.makers.get(id(tensor), ()) if handed_on else ()
            self.makers[id(tensor)] = (*before, module) if module is not None else before

    def follow_ids(self, name: str, outcome: list[torch.Tensor], through: int) -> None:
        """Integers stay ids; what is looked up with them is where gradients begin; masks made of them are fixed."""
        for tensor in outcome:
            if tensor.dtype == torch.bool or name in functions.SELECTING:
                continue
            if tensor.is_floating_point():
                if not tensor.requires_grad and tensor.is_leaf:
                    tensor.requires_grad_()
                self.marks[id(tensor)] = _Mark(tensor, "live", through)
            else:
                self.marks[id(tensor)] = _Mark(tensor, "ids", through)

    def outcome_mark(self, tensor: torch.Tensor, name: str, kind: str | None, kinds: set[str], through: int) -> _Mark:
        """Say whether the gradient follows to a result.

        It does when it followed to an operand, save where numbers without one were mixed in. A mask or an index only
        chooses, so it spoils nothing it is multiplied with; added as a number of its own it does.
        """
        if kind is None:
            spoiled = "rough" in kinds or ("choice" in kinds and name in {"add", "sub", "cat", "stack"})
            if "live" not in kinds or spoiled:
                kind = "rough" if "rough" in kinds or spoiled else "choice"
            elif not tensor.requires_grad and (tensor.is_floating_point() or name in {"to", "int", "long", "type"}):
                through |= self.record(name, "cut", None)
                kind = "rough"
            elif not (tensor.is_floating_point() or tensor.is_complex()):
                kind = "choice"  # the indices that max, sort or topk return beside the values
        return _Mark(tensor, kind or "live", through)

    # -- records -------------------------------------------------------------------------------------------------

    def mark_of(self, tensor: torch.Tensor) -> _Mark | None:
        """Return what is known of a tensor; one with a gradient that nobody saw made came out of hidden code."""
        mark = self.marks.get(id(tensor))
        custom = isinstance(tensor.grad_fn, torch.autograd.function.BackwardCFunction)
        hidden = tensor.requires_grad and (mark is None or (mark.kind == "rough" and custom))
        if not hidden:
            return mark
        if custom:
            bit = self.record(
                type(tensor.grad_fn).__name__.removesuffix("Backward"), "non-linear", None, how="functional"
            )
        else:
            bit = self.record("scripted", "non-linear", None, how="scripted")
        before = mark.through if mark else (1 << len(self.records)) - 1
        self.marks[id(tensor)] = _Mark(tensor, "live", before | bit)
        return self.marks[id(tensor)]

    def record(
        self,
        name: str,
        effect: Effect,
        args: tuple[Any, ...] | None,
        *,
        how: How | None = None,
        in_place: bool = False,
        kwargs: Mapping[str, Any] | None = None,
    ) -> int:
        """Note an operation and return its bit; the same one at the same place is one operation with more calls."""
        owner, call = self.running[-1] if self.running else (None, 0)
        itself = how is None and owner is not None and _is_atomic(owner)
        inside = self.running if itself else [pair for pair in self.running if not _is_atomic(pair[0])]
        named = next((self.names[id(part)] for part, _ in reversed(inside) if id(part) in self.names), "")
        if how is None:
            how = "functional"
            if itself:
                how = "in-line" if id(owner) not in self.names else "module"
        key = (name, effect, named, how, id(owner) if itself else None)
        if key not in self.places:
            self.places[key] = len(self.records)
            operation = Operation(
                op=name,
                where=named,
                how=how,
                module=type(owner) if itself and owner is not None else None,
                in_place=in_place,
                overlapping=functions.overlaps(name, args, kwargs),
                effect=effect,
            )
            self.records.append(_Place(operation, type(owner).__name__ if itself else name))
        place = self.records[self.places[key]]
        place.calls.add(call)
        place.counted += 1
        return 1 << self.places[key]

    def seen(self, result: Any) -> Operations:
        """Keep what reaches the outputs."""
        outputs = [tensor for tensor in tensors(result) if tensor.is_floating_point()] or list(tensors(result))
        marks = [mark for tensor in outputs if (mark := self.mark_of(tensor))]
        reached = _union(marks) | self.always
        found = [_counted(place) for index, place in enumerate(self.records) if reached >> index & 1]
        cuts = tuple(operation for operation in found if operation.effect == "cut")
        if any(mark.kind == "live" for mark in marks):
            cuts = ()
        elif not marks:
            cuts = (Operation(op="numbers outside PyTorch", where="", how="functional", effect="cut"),)
        return Operations(
            nonlinear=tuple(operation for operation in found if operation.effect == "non-linear"),
            linear=tuple(operation for operation in found if operation.effect == "linear"),
            cuts=cuts,
            leaves=self.leaves,
        )


class _ModuleHooks:
    """Global hooks, as in-line modules are in no list that hooks could be put on."""

    def __init__(self, recorder: _Recorder) -> None:
        self.recorder = recorder

    def __enter__(self) -> None:
        before = nn_module.register_module_forward_pre_hook(self.recorder.before_module)
        self.handles = [before, nn_module.register_module_forward_hook(self.recorder.after_module)]

    def __exit__(self, *_: object) -> None:
        for handle in self.handles:
            handle.remove()


def _is_atomic(part: nn.Module) -> bool:
    return isinstance(part, functions.ATOMIC) or type(part).__name__ == "Addition_Module"


def _counted(place: _Place) -> Operation:
    operation = place.operation
    if operation.module is None:
        return dataclasses.replace(operation, n_calls=place.counted)
    n_calls = len(place.calls)
    others: list[str] = []
    for readers in place.readers:
        rest = list(readers)
        rest.remove(place.label)
        others += rest
    operation = dataclasses.replace(operation, beside=tuple(dict.fromkeys(others)))
    how: How = operation.how
    if how == "module":
        how = "reused" if n_calls > 1 else "in-place" if operation.in_place else "module"
    return dataclasses.replace(operation, n_calls=n_calls, how=how)


def _kind(tensor: torch.Tensor) -> str:
    return "live" if tensor.requires_grad else "rough"


def _union(marks: Any) -> int:
    through = 0
    for mark in marks:
        through |= mark.through
    return through
