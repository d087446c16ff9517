"""The methods by name: what each needs from a model, and what it promises of its numbers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from dlstudio.errors import DLStudioError, unknown_name

__all__ = ["ELSEWHERE", "METHODS", "Method", "alternatives", "method_named"]


@dataclass(frozen=True, kw_only=True)
class Method:
    """One attribution method.

    Attributes:
        name, title: as callers write it; as people read it.
        library: who computes it: ``"captum"``, ``"shap"`` or ``"dlstudio"``.
        reference: what inputs are compared with: nothing, one ``"baseline"``, or the rows of a ``"background"``.
        differentiates: it needs gradients of the output with respect to the inputs.
        hooks: it reaches into the model's modules, so that what is no module of its own escapes it.
        complete: attributions promise to add up to the prediction less that of the reference.
        sampled: it draws random numbers, and is repeated to know how much they matter.
        layered: it explains through one layer.
        says: one sentence on what the numbers are.
    """

    name: str
    title: str
    library: Literal["captum", "shap", "dlstudio"]
    reference: Literal["none", "baseline", "background"] = "none"
    differentiates: bool = False
    hooks: bool = False
    complete: bool = False
    sampled: bool = False
    layered: bool = False
    says: str


_ALL = (
    Method(
        name="saliency", title="Saliency", library="captum", differentiates=True,
        says="The size of the gradient: how strongly the output reacts to a tiny change of an input, without a sign.",
    ),
    Method(
        name="input_x_gradient", title="Input × gradient", library="captum", differentiates=True,
        says="Gradient times input: a first guess at contributions, exact for linear models without a constant.",
    ),
    Method(
        name="integrated_gradients", title="Integrated gradients", library="captum", reference="baseline",
        differentiates=True, complete=True,
        says="Gradients averaged on the straight way from the baseline to the input, times the way.",
    ),
    Method(
        name="smooth_grad", title="SmoothGrad", library="captum", differentiates=True, sampled=True,
        says="Saliency averaged over inputs with a little noise.",
    ),
    Method(
        name="deep_lift", title="DeepLift", library="captum", reference="baseline", differentiates=True, hooks=True,
        complete=True, says="Differences from the baseline, passed back through the network by the rescale rule.",
    ),
    Method(
        name="deep_lift_shap", title="DeepLiftShap", library="captum", reference="background", differentiates=True,
        hooks=True, complete=True, says="DeepLift averaged over a background.",
    ),
    Method(
        name="gradient_shap", title="GradientShap", library="captum", reference="background", differentiates=True,
        complete=True, sampled=True,
        says="Gradients at random places between background rows and the input, times their distance.",
    ),
    Method(
        name="grad_cam", title="Grad-CAM", library="captum", differentiates=True, layered=True,
        says="Where the last convolution saw evidence for the class; coarse, and positive only.",
    ),
    Method(
        name="guided_grad_cam", title="Guided Grad-CAM", library="captum", differentiates=True, hooks=True,
        layered=True, says="Grad-CAM times guided backpropagation: sharp edges inside the places Grad-CAM found.",
    ),
    Method(
        name="occlusion", title="Occlusion", library="captum", reference="baseline",
        says="How much the output falls when a sliding window is replaced by the baseline.",
    ),
    Method(
        name="feature_ablation", title="Feature ablation", library="captum", reference="baseline",
        says="How much the output falls when one feature is replaced by the baseline.",
    ),
    Method(
        name="feature_permutation", title="Feature permutation", library="captum", sampled=True,
        says="How much the output changes when a feature's values are shuffled among the rows.",
    ),
    Method(
        name="lime", title="LIME", library="captum", reference="baseline", sampled=True,
        says="Weights of a linear model fitted to the output around the input.",
    ),
    Method(
        name="kernel_shap", title="KernelSHAP", library="captum", reference="baseline", complete=True, sampled=True,
        says="Shapley values against one baseline, estimated by a weighted linear fit.",
    ),
    Method(
        name="lrp", title="LRP (ε rule)", library="captum", differentiates=True, hooks=True,
        says="The output handed back layer by layer in proportion to what each unit contributed.",
    ),
    Method(
        name="layer_conductance", title="Layer conductance", library="captum", reference="baseline",
        differentiates=True, complete=True, layered=True,
        says="Integrated gradients as it flows through the units of one layer.",
    ),
    Method(
        name="neuron_conductance", title="Neuron conductance", library="captum", reference="baseline",
        differentiates=True, layered=True, says="The part of integrated gradients that flows through one unit.",
    ),
    Method(
        name="shap_deep", title="SHAP DeepExplainer", library="shap", reference="background", differentiates=True,
        hooks=True, complete=True, says="DeepLift over a background, as the shap library computes it.",
    ),
    Method(
        name="shap_gradient", title="SHAP GradientExplainer", library="shap", reference="background",
        differentiates=True, complete=True, sampled=True, says="Expected gradients, as the shap library computes them.",
    ),
    Method(
        name="shap_kernel", title="SHAP KernelExplainer", library="shap", reference="background", complete=True,
        sampled=True, says="Shapley values over a background, estimated by a weighted linear fit.",
    ),
    Method(
        name="shapley", title="Shapley values", library="dlstudio", reference="background", complete=True, sampled=True,
        says="Every feature's average effect on the output over all orders in which features become known.",
    ),
)  # fmt: skip
METHODS = {method.name: method for method in _ALL}

ELSEWHERE = {
    "tcav": "dls.explain_concepts(model, inputs, concepts=..., layer=..., target=...)",
    "trac_in_cp": "dls.trace_influence(model, inputs, targets, train=..., checkpoints=...)",
}
"""Methods that explain by concepts and by training rows, not by inputs, and so have verbs of their own."""


def method_named(name: str) -> Method:
    """Return the method of that name.

    Raises:
        DLStudioError: there is none; the nearest name is suggested.
    """
    if name in ELSEWHERE or name == "trac_in":
        verb = ELSEWHERE.get(name, ELSEWHERE["trac_in_cp"])
        raise DLStudioError("a method that attributes to inputs", f"method={name!r}", f"Call {verb}.")
    if name not in METHODS:
        raise unknown_name("explanation method", name, (*METHODS, *ELSEWHERE, "auto"))
    return METHODS[name]


def alternatives(*, hooks: bool = True, but: str = "") -> str:
    """Name methods that work without gradients, or with ``hooks=False`` some that look into no module; not `but`."""
    usual = ("shapley", "feature_ablation", "kernel_shap") + (() if hooks else ("integrated_gradients",))
    return " or ".join(name for name in usual if name != but)
