"""From what the caller passed to a `Problem`: inputs checked, method chosen, model repaired where a method needs it."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from dlstudio.errors import DLStudioError, unknown_name
from dlstudio.explain.behaviour import (
    calls_of,
    differentiable,
    gives_probabilities,
    reads_channels_first,
    steadiness,
)
from dlstudio.explain.inputs import Given, read_inputs
from dlstudio.explain.inspection import repair as repairing
from dlstudio.explain.inspection import tracing
from dlstudio.explain.inspection.tracing import operations, problems
from dlstudio.explain.layers import layer_of, neuron_of
from dlstudio.explain.methods import METHODS, Method, alternatives, method_named
from dlstudio.explain.problem import (
    FromEmbeddings,
    Problem,
    embedding_of,
    target_of,
    try_model,
)
from dlstudio.explain.references import players_of, references_of, remarks_on
from dlstudio.explain.sampling.superpixels import superpixels, windows
from dlstudio.results import Finding

__all__ = ["Prepared", "prepare"]

MODALITIES = ("tabular", "image", "text", "sequence")
EXACT_FEATURES = 12
MANY_PLAYERS = 200
PATCHES = 49


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Prepared:
    """A problem with everything that goes into its result.

    Attributes:
        problem, method, why: what to compute, how, and why so.
        given: the caller's inputs.
        modality: ``"tabular"``, ``"image"``, ``"text"`` or ``"sequence"``.
        layer: its name, for layered methods.
        findings: what was noticed on the way.
    """

    problem: Problem
    method: Method
    why: str
    given: Given
    modality: str
    layer: str
    findings: tuple[Finding, ...]


def prepare(
    model: Any,
    inputs: Any,
    *,
    class_names: Sequence[str] = (),
    target: Any = None,
    method: str = "auto",
    baselines: Any = None,
    feature_mask: Any = None,
    modality: str | None = None,
    layer: str | nn.Module | None = None,
    neuron: int | tuple[int, ...] = (),
    output: str | int | None = None,
    repair: bool = True,
) -> Prepared:
    """Check everything that can be checked before the first attribution; see `dlstudio.explain` for the arguments.

    Raises:
        DLStudioError: something does not fit, with what to do.
    """
    if modality not in (None, *MODALITIES):
        raise unknown_name("modality", modality, MODALITIES)
    given = read_inputs(model, inputs)
    wrapped, shape = try_model(model, given.inputs, given.extra, given.names, output)
    findings: list[Finding] = []
    module: nn.Module = wrapped
    bare = repairing.without_softmax(wrapped, given.inputs[:8], tuple(item[:8] for item in given.extra))
    if bare.changes:
        module = bare.module
        words = f"The model ends with a softmax; its logits are explained ({_list(bare.changes)})."
        findings.append(_note("DLS407", words))
    elif gives_probabilities(module, given):
        findings.append(
            Finding(
                code="DLS407",
                severity="warning",
                sentence="The outputs are probabilities, as after a softmax, which could not be taken off.",
                remedy="Let the model return its logits: a probability also moves with the scores of other classes.",
            )
        )
    with torch.no_grad():
        n_outputs = module(given.inputs[:1], *(item[:1] for item in given.extra)).shape[1]
    if class_names and len(class_names) != n_outputs:
        raise DLStudioError(
            f"{n_outputs} class_names, one an output", f"{len(class_names)}", "Name every output once, in order."
        )
    chosen_target = target_of(target, len(given.inputs), n_outputs, class_names, shape).to(given.inputs.device)
    findings += steadiness(module, given)
    embedding = None
    if not given.inputs.is_floating_point():
        embedding = embedding_of(module, given.inputs, given.extra)
    kind = modality or _modality(given.inputs, embedding)
    if kind == "sequence" and reads_channels_first(module, given):
        words = "The model reads these sequences channels first: what is called time here are its channels."
        findings.append(_note("DLS417", words, "Explain lambda x: model(x.transpose(1, 2)), time steps first."))
    smooth = differentiable(module, given, embedding)
    mask = players_of(feature_mask, given.inputs)
    n_players = given.inputs[0].numel() if mask is None else int(mask.max()) + 1
    why = ""
    if method == "auto":
        compared = references_of(baselines, given.inputs, METHODS["shapley"], given.columns)
        many = len(compared) > 1
        method, why = _choose(kind, n_players, smooth, len(given.inputs), many)
    spec = method_named(method)
    if not spec.layered and (layer is not None or neuron != ()):
        layered = [name for name, known in METHODS.items() if known.layered]
        raise DLStudioError(
            f"layer= and neuron= for methods that explain through a layer ({', '.join(layered)})",
            f"method={spec.name!r}",
            "Leave them out, or choose one of these methods.",
        )
    _check_method(spec, module, given, embedding, smooth)
    if mask is None and kind in ("image", "sequence") and n_players > MANY_PLAYERS and _counts_players(spec):
        mask, words = _patches(given.inputs, kind)
        findings.append(_note("DLS415", words))
    if spec.hooks:
        module, more = _mend(spec, module, given, repair)
        findings += more
    elif spec.differentiates:
        findings += [_finding(item) for item in problems(operations(module, given.inputs[:2], _few(given)), spec.name)]
    references = references_of(baselines, given.inputs, spec, given.columns)
    findings += remarks_on(spec, given.inputs, references, baselines)
    if spec.name == "feature_permutation":
        references = given.inputs  # values are shuffled among the rows
    # Looked for again, as the model may have been repaired.
    table = embedding_of(module, given.inputs, given.extra) if embedding is not None and spec.differentiates else None
    if table is not None:
        module = FromEmbeddings(module, table)
    problem = Problem(
        module=module,
        inputs=given.inputs,
        extra=given.extra,
        target=chosen_target,
        references=references,
        embedding=table,
        mask=mask if table is None else None,
        spread=_spread(given.inputs, table),
    )
    name = ""
    if spec.layered:
        name, found = layer_of(module, model, layer, spec)
        findings += calls_of(problem.rows(slice(0, 1), paired=False).in_vectors(), found, name)
        problem = dataclasses.replace(problem, layer=found, neuron=neuron_of(neuron, spec))
    return Prepared(
        problem=problem,
        method=spec,
        why=why,
        given=dataclasses.replace(given, mask=mask),
        modality=kind,
        layer=name,
        findings=tuple(findings),
    )


def _note(code: str, sentence: str, remedy: str = "") -> Finding:
    return Finding(code=code, severity="info", sentence=sentence, remedy=remedy)


def _list(items: Sequence[str]) -> str:
    shown = list(items)[:4]
    return ", ".join(shown) + (f" and {len(items) - 4} more" if len(items) > 4 else "")


def _few(given: Given) -> tuple[torch.Tensor, ...]:
    return tuple(item[:2] for item in given.extra)


def _finding(item: tracing.Problem, first: str = "") -> Finding:
    """Build a finding; `first` takes the place of the remedy's first letter."""
    code = {
        "functional": "DLS403",
        "in-line": "DLS403",
        "reused": "DLS404",
        "in-place": "DLS406",
        "softmax": "DLS407",
        "scripted": "DLS416",
    }.get(item.kind, "DLS405")
    remedy = first + item.remedy[1:] if first else item.remedy
    return Finding(code=code, severity=item.severity, sentence=_own(item.sentence), remedy=_own(remedy))


def _own(words: str) -> str:
    """Name modules as the caller's model does, without the wrapper around it."""
    return re.sub(r"(?<![\w.])model\.(?=\w)", "", words)


def _mend(spec: Method, module: nn.Module, given: Given, repair: bool) -> tuple[nn.Module, list[Finding]]:
    """Make what the method's hooks cannot see into modules of their own, if that keeps the outputs."""
    few = given.inputs[:8]
    extra = tuple(item[:8] for item in given.extra)
    found = problems(operations(module, few, extra), spec.name)
    if not found:
        return module, []
    if not repair:
        return module, [_finding(item, "Leave repair on, or c" if item.repairable else "") for item in found]
    mended = repairing.repair(module, few, extra)
    if not mended.changes:
        return module, [_finding(item) for item in found]
    left = problems(operations(mended.module, few, extra), spec.name)
    words = (
        f"Repaired before explaining: {_own(_list(mended.changes))}. The outputs are equal"
        f" (largest difference {mended.max_difference:.1g})."
    )
    return mended.module, [_note("DLS408", words), *(_finding(item) for item in left)]


def _modality(inputs: torch.Tensor, embedding: nn.Module | None) -> str:
    if embedding is not None:
        return "text"
    return {2: "tabular", 3: "sequence", 4: "image"}.get(inputs.dim(), "tabular")


@torch.no_grad()
def _spread(inputs: torch.Tensor, table: nn.Module | None) -> float:
    """Return the largest input less the smallest, over all rows; of token ids, over their vectors."""
    if table is not None:
        inputs = table(inputs.unique())
    return float(inputs.max() - inputs.min()) if inputs.is_floating_point() else 1.0


def _choose(modality: str, n_players: int, smooth: bool, n_rows: int, many: bool) -> tuple[str, str]:
    """Return the method that suits, and why; `many` rows to compare with leave out those of one baseline."""
    if modality == "tabular" and n_players <= EXACT_FEATURES:
        return "shapley", f"{n_players} features are few enough to compute Shapley values exactly, for any model."
    if modality == "tabular" and (not smooth or many or n_rows <= 2000):
        return "shapley", "Shapley values treat a table's features fairly and depend on no property of the model."
    if smooth and many:
        return "gradient_shap", "the model is differentiable, and there are several rows to compare with."
    if smooth:
        what = {"text": "tokens", "image": "pixels", "sequence": "time steps"}.get(modality, "features")
        return (
            "integrated_gradients",
            f"the model is differentiable, and integrated gradients add up over many {what} at a moderate cost.",
        )
    return "shapley", "the model gives no gradients, and Shapley values need none."


def _check_method(spec: Method, module: nn.Module, given: Given, embedding: nn.Module | None, smooth: bool) -> None:
    if "grad_cam" in spec.name and given.inputs.dim() != 4:
        raise DLStudioError(
            f"images of shape (rows, channels, height, width) for {spec.name}",
            f"inputs of shape {tuple(given.inputs.shape)}",
            "Use integrated_gradients or occlusion.",
        )
    if spec.hooks or spec.layered:
        scripted = [type(part).__name__ for part in module.modules() if isinstance(part, torch.jit.ScriptModule)]
        if scripted:
            raise DLStudioError(
                f"a model whose modules {spec.name} can look into",
                "a scripted one",
                f"Load the Python module instead, or use {alternatives(hooks=False, but=spec.name)}.",
            )
    if not spec.differentiates:
        return
    if not given.inputs.is_floating_point() and embedding is None:
        raise DLStudioError(
            f"floating-point inputs for {spec.name}, which differentiates",
            f"{given.inputs.dtype} inputs that no embedding layer takes",
            f"Pass inputs.float(), or use a method without gradients: {alternatives()}.",
        )
    if not smooth:
        raise DLStudioError(
            f"a model whose output can be differentiated, for {spec.name}",
            "one that gives no gradient to its inputs",
            f"Use a method without gradients: {alternatives()}.",
        )


def _counts_players(spec: Method) -> bool:
    return spec.name in ("shapley", "shap_kernel", "kernel_shap", "lime")


def _patches(inputs: torch.Tensor, kind: str) -> tuple[torch.Tensor, str]:
    shape = tuple(inputs.shape[1:])
    if kind == "image":
        mask = superpixels(shape, PATCHES)
        words = "patches of pixels are explained as one, as single pixels are too many to weigh against each other."
    else:
        mask = windows(shape[0], shape[1], PATCHES)
        words = "stretches of time of one channel are explained as one, as single steps are too many."
    return mask.to(inputs.device), f"{int(mask.max()) + 1} {words}"
