"""What a model runs, and which of it a method does not understand: the rules of Captum's and SHAP's hooks."""

from __future__ import annotations

import dataclasses
from typing import Literal

from torch import nn

from dlstudio.explain.inspection.functions import ACTIVATIONS, PRODUCTS
from dlstudio.explain.inspection.operation import Operation, Operations
from dlstudio.explain.inspection.recording import operations
from dlstudio.explain.methods import METHODS, alternatives, method_named

__all__ = ["Operation", "Operations", "Problem", "operations", "problems"]

Kind = Literal[
    "functional", "in-line", "reused", "in-place", "scripted", "softmax", "unsupported", "interaction", "linear",
    "overlapping", "shared", "adjacent", "non-differentiable",
]  # fmt: skip

_RESCALED = (
    *(nn.ReLU, nn.ELU, nn.LeakyReLU, nn.Sigmoid, nn.Tanh, nn.Softplus),
    *(nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d),
)
"""What both DeepLifts have a rule for. Captum's compares classes exactly, SHAP's by the name of the class."""
_SHAP_ALSO = (nn.SELU, nn.GELU)
_LRP_LAYERS = {
    *("MaxPool1d", "MaxPool2d", "MaxPool3d", "Conv2d", "AvgPool2d", "AdaptiveAvgPool2d"),
    *("Linear", "BatchNorm2d", "Addition_Module"),
}
_INTERACTIONS = PRODUCTS | {"attention"}
_LRP_PASSED = {"ReLU", "Dropout", "Tanh"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Problem:
    """Why a method's numbers cannot be trusted on a model.

    Attributes:
        kind: what is wrong with the operations.
        sentence, remedy: for readers; what to do.
        severity: ``"critical"``: the numbers are wrong, or the method stops with an error; ``"warning"``: they may be.
        repairable: `dlstudio.explain.inspection.repair.repair` may cure it.
        operations: which they are.
    """

    kind: Kind
    sentence: str
    remedy: str
    severity: Literal["warning", "critical"]
    repairable: bool
    operations: tuple[Operation, ...]


def problems(operations: Operations, method: str) -> list[Problem]:
    """Return what in a model a method does not understand, one problem a kind; empty where all is understood.

    Args:
        operations: what `dlstudio.explain.inspection.tracing.operations` saw.
        method: the name of a method, such as ``"deep_lift"``.

    Raises:
        DLStudioError: there is no such method.

    Example:
        >>> [p.kind for p in problems(operations(net, x), "deep_lift")]
        ['functional']
    """
    known = method_named(method)
    found: dict[Kind, list[Operation]] = {}

    def note(kind: Kind | None, operation: Operation) -> None:
        if kind is not None:
            found.setdefault(kind, []).append(operation)

    for operation in operations.cuts if known.differentiates else ():
        note("non-differentiable", operation)
    if method in {"deep_lift", "deep_lift_shap"}:
        for operation in operations.nonlinear:
            note(_rescale(operation, exact=True), operation)
    elif method == "shap_deep":
        for operation in operations.nonlinear:
            note(_rescale(operation, exact=False), operation)
        for operation in operations.linear:
            note("in-place" if operation.in_place else None, operation)
    elif method == "guided_grad_cam":
        for operation in operations.nonlinear:
            note(_guided(operation), operation)
    elif method == "lrp":
        for operation in (*operations.nonlinear, *operations.linear):
            note(_relevance(operation), operation)
        for name, module in operations.leaves:
            if module.__name__ not in _LRP_LAYERS | _LRP_PASSED:
                note("unsupported", Operation(op=module.__name__, where=name, how="module", module=module))
    return [_problem(kind, tuple(which), method) for kind, which in sorted(found.items(), key=lambda item: item[0])]


def _rescale(operation: Operation, *, exact: bool) -> Kind | None:
    """DeepLift replaces the gradient of modules it knows; all else it takes for linear."""
    if operation.how == "scripted":
        return "scripted"
    if "softmax" in operation.op:
        return "softmax"
    known = _RESCALED if exact else (*_RESCALED, *_SHAP_ALSO)
    if operation.module is not None:
        ruled = operation.module in known if exact else operation.module.__name__ in {rule.__name__ for rule in known}
        if not ruled:
            return "unsupported"
        if operation.how in {"in-line", "reused"}:
            return operation.how
        if operation.in_place and not exact:
            return "in-place"
        if operation.overlapping:
            return "overlapping"
        if exact and operation.beside:
            return "shared"
        return "adjacent" if exact and set(operation.after) & set(known) else None
    if ACTIVATIONS.get(operation.op) in known:
        return "functional"
    return "interaction" if operation.op in _INTERACTIONS else "unsupported"


def _guided(operation: Operation) -> Kind | None:
    """Guided backpropagation changes the gradient of ReLU modules, and of nothing else."""
    if operation.how == "scripted":
        return "scripted"
    if operation.op == "relu" and not (operation.module is not None and issubclass(operation.module, nn.ReLU)):
        return "functional"
    if operation.op == "relu" and operation.how == "in-line":
        return "in-line"
    return "shared" if operation.op == "relu" and operation.beside else None


def _relevance(operation: Operation) -> Kind | None:
    """LRP has rules for a few layers; what runs between them bends relevance as if it were a gradient.

    That is right for what passes a number on or drops it: a ReLU, or a maximum.
    """
    if operation.how == "scripted":
        return "scripted"
    if operation.module is not None and operation.how != "in-line":
        name = operation.module.__name__
        if name in _LRP_LAYERS:
            if operation.how == "reused":
                return "reused"
            return "shared" if set(operation.beside) - _LRP_LAYERS else None
        if name in _LRP_PASSED:
            if operation.beside:
                return "shared"
            # What stands before a tanh is handed its gradient in place of its relevance; a ReLU's are the same.
            return "adjacent" if name == "Tanh" and _LRP_PASSED & {kind.__name__ for kind in operation.after} else None
        return None  # such a leaf is named from the list of all leaves
    if operation.op in {"relu", "amax", "max"} or "max_pool" in operation.op:
        return None
    if operation.effect == "linear":
        return "linear"
    if operation.op == "tanh":
        return "in-line" if operation.how == "in-line" else "functional"
    return "interaction" if operation.op in _INTERACTIONS else "unsupported"


_SENTENCES: dict[Kind, str] = {
    "functional": "The model calls {names} as a function, where {method} cannot see it and takes it for linear.",
    "in-line": "The model makes {names} while it runs, so {method} finds no module to put its rule on.",
    "reused": "The model runs {names} more than once; {method} can tell only one call of a module.",
    "in-place": "{names} overwrites its own input, which {method} still needs.",
    "scripted": "Part of the model is compiled ({names}), and {method} cannot look into it.",
    "softmax": "{method} has no sound rule for softmax ({names}).",
    "unsupported": "{method} has no rule for {names}.",
    "interaction": "Two things that depend on the inputs are multiplied ({names}); {method} has no rule for that.",
    "linear": "The model runs {names} outside modules, where {method} cannot share relevance out.",
    "overlapping": "Windows of {names} overlap or have holes; {method} then loses part of what flows back.",
    "shared": "What {names} reads is read elsewhere too; {method} then drops or bends the other path.",
    "adjacent": "{names} follows right on a module with a rule of its own; {method} then loses one of the two rules.",
    "non-differentiable": "Part of the output depends on the inputs through {names}, which has no gradient.",
}
_REPAIRABLE = frozenset({"functional", "in-line", "reused", "in-place", "overlapping", "shared", "adjacent", "linear"})


def _problem(kind: Kind, which: tuple[Operation, ...], method: str) -> Problem:
    title = METHODS[method].title
    names = list(dict.fromkeys(f"{o.op} in {o.where}" if o.where else o.op for o in which))
    shown = ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")
    other = f"a method that looks into no module: {alternatives(hooks=False)}."
    if kind == "softmax":
        remedy = "Explain the numbers before the softmax."
    elif kind == "non-differentiable":
        remedy = f"Choose a method that needs no gradients: {alternatives()}."
    else:
        remedy = f"Choose {other}"
    sentence = _SENTENCES[kind].format(names=shown, method=title)
    return Problem(
        kind=kind, sentence=sentence[0].upper() + sentence[1:], remedy=remedy, severity="critical",
        repairable=kind in _REPAIRABLE, operations=which,
    )  # fmt: skip
