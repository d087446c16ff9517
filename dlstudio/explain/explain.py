"""The verb: attributions for any model or run, with a verdict on whether they hold."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import nn

from dlstudio.errors import DLStudioError
from dlstudio.explain.explaining import explain_inputs
from dlstudio.explain.result import Explanation
from dlstudio.explain.session import explain_run
from dlstudio.running import Cancel
from dlstudio.runs.run import Run

__all__ = ["explain"]


def explain(
    model: nn.Module | Callable[..., Any] | Run | str,
    inputs: Any = None,
    *,
    target: Any = None,
    method: str = "auto",
    baselines: Any = None,
    feature_names: Sequence[str] = (),
    feature_mask: Any = None,
    class_names: Sequence[str] = (),
    modality: str | None = None,
    layer: str | nn.Module | None = None,
    neuron: int | tuple[int, ...] = (),
    output: str | int | None = None,
    tokenizer: Any = None,
    n_steps: int | None = None,
    n_samples: int | None = None,
    repair: bool = True,
    max_batch: int | None = None,
    max_seconds: float | None = None,
    progress: bool | Callable[[int, int], None] = True,
    cancel: Cancel | None = None,
    seed: int = 0,
) -> Explanation:
    """Explain what a model says of inputs, and check whether the explanation can be believed.

    Afterwards the model, its gradients and hooks and all random generators are exactly as before. The model is
    explained in eval mode, on its own device, and on its logits where it ends with a softmax. For methods that work by
    hooks, activations that hooks cannot see (functional, made in ``forward``, reused, in place) are made into modules
    of a copy first, and the copy is proven to give equal outputs.

    Args:
        model: a module or a function of tensors; or a run (or its name), whose test rows are explained.
        inputs: (n, ...) rows: a tensor, array or DataFrame of numbers; token ids for text. A tuple or mapping of
            several inputs explains the first, or ``"input_ids"``. For a run: row numbers of its data set; None takes
            the first 100 test rows.
        target: which output: an index, a class name, one index a row; a tuple of indices for outputs of more
            dimensions. For a run None takes class 1 of two, or the predicted class.
        method: one of `dlstudio.explain.methods.METHODS`, or ``"auto"``, which says why it chose.
        baselines: what inputs are compared with: a number, one input, one a row, or the rows of a background for
            methods that average over one. None takes zeros, or training rows of a run.
        feature_names: one a feature or channel; one a player of `feature_mask` reports per player.
        feature_mask: integers in the shape of one input: features with one number are one player (one-hot columns,
            superpixels).
        class_names: one an output.
        modality: ``"tabular"``, ``"image"``, ``"text"`` or ``"sequence"``; None judges by shape and type.
        layer, neuron: for layered methods, a layer or its name and an index in it.
        output: the field to explain of a model that returns a tuple or a dict.
        tokenizer: names token ids: an object with ``convert_ids_to_tokens``, a sequence, or a mapping.
        n_steps: on the path of integrated gradients and conductance; None starts with 50 and takes more for rows that
            do not add up.
        n_samples: evaluations a row of sampling methods in all repeats; orders of features for ``"shapley"``.
        repair: False explains the model as it is and lets the gate say what is wrong.
        max_batch: the most rows the model is given at once; halved when memory runs out.
        max_seconds, cancel: when to stop; the rows finished by then are returned.
        progress: a bar on long work, or a function called with rows done and all.
        seed: of everything random.

    Returns:
        The explanation. Its verdict is ``"ok"``, ``"suspect"`` or ``"refused"``, with `reasons`. That of a run is saved
        with it as ``results/explanation-METHOD.json``, unless that is there for more rows.

    Raises:
        DLStudioError: says what was expected, what came and what to do: a target that is missing or out of range, NaN,
            whole numbers or a model without gradients for a method that differentiates, baselines of another shape.

    Example:
        >>> e = dls.explain(model, x, target=1, method="integrated_gradients", baselines=x_train.mean(0))
        >>> e.verdict, e.attributions.shape
        ('ok', (100, 20))

    References:
        Sundararajan et al., Axiomatic attribution for deep networks (2017); Lundberg and Lee, A unified approach to
        interpreting model predictions (2017); Adebayo et al., Sanity checks for saliency maps (2018).
    """
    how: dict[str, Any] = {
        "target": target,
        "method": method,
        "baselines": baselines,
        "layer": layer,
        "neuron": neuron,
        "repair": repair,
        "n_steps": n_steps,
        "n_samples": n_samples,
        "max_batch": max_batch,
        "max_seconds": max_seconds,
        "progress": progress,
        "cancel": cancel,
        "seed": seed,
    }
    what: dict[str, Any] = {
        "feature_names": feature_names,
        "feature_mask": feature_mask,
        "class_names": class_names,
        "modality": modality,
        "output": output,
        "tokenizer": tokenizer,
    }
    if not isinstance(model, (Run, str)):
        return explain_inputs(model, inputs, **how, **what)
    for name, value in what.items():
        if value is not None and not (isinstance(value, (tuple, list)) and not value):
            raise DLStudioError(
                f"a run without {name}, which its data set decides",
                f"{name}={value!r}",
                "Leave it out, or explain the model: dls.explain(dls.load_model(run), inputs, ...).",
            )
    return explain_run(model, inputs, **how)
