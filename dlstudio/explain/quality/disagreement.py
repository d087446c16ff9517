"""Why explanations of one prediction differ: what is known of each method, said only where it applies."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from dlstudio.explain.methods import METHODS
from dlstudio.explain.result import Explanation
from dlstudio.explain.words import UNSIGNED

__all__ = ["known_reasons"]

GRADIENT_ONLY = ("saliency", "smooth_grad", "input_x_gradient")
COARSE = ("grad_cam", "guided_grad_cam")
SHARING = (
    "shapley", "shap_kernel", "kernel_shap", "integrated_gradients", "deep_lift", "deep_lift_shap", "gradient_shap",
    "shap_deep", "shap_gradient",
)  # fmt: skip
ONE_BY_ONE = ("feature_ablation", "occlusion", "feature_permutation")
RESCALING = ("deep_lift", "deep_lift_shap", "shap_deep")
MANY_ZEROS = 0.1
NOISY = 0.1


@dataclass(frozen=True)
class _Rule:
    """Applies where `one` fits a method and `other` its partner, in either order."""

    one: Callable[[Explanation], bool]
    other: Callable[[Explanation], bool]
    sentence: Callable[[Explanation, Explanation], str]


def known_reasons(a: Explanation, b: Explanation) -> tuple[str, ...]:
    """Return why these two explanations of the same rows may differ, the most telling first; () when nothing is known.

    Example:
        >>> known_reasons(saliency, shapley)[0]
        'Saliency says how strongly the output reacts to a tiny change and has no sign; the numbers of ...'
    """
    found: list[str] = []
    for rule in _RULES:
        for one, other in ((a, b), (b, a)):
            if rule.one(one) and rule.other(other):
                sentence = rule.sentence(one, other)
                if sentence and sentence not in found:
                    found.append(sentence)
                break
    return tuple(found)


def _title(explanation: Explanation) -> str:
    return METHODS[explanation.method].title if explanation.method in METHODS else explanation.method


def _is(*names: str) -> Callable[[Explanation], bool]:
    return lambda e: e.method in names


def _not(*names: str) -> Callable[[Explanation], bool]:
    return lambda e: e.method not in names


def _any(explanation: Explanation) -> bool:
    return True


def _reference(kind: str) -> Callable[[Explanation], bool]:
    return lambda e: e.method in METHODS and METHODS[e.method].reference == kind


def _in_patches(explanation: Explanation) -> bool:
    return any(finding.code == "DLS415" for finding in explanation.findings)


def _zeros(one: Explanation, other: Explanation) -> str:
    """Input × gradient gives nothing to a 0; said with how many there are."""
    if one.inputs.dtype.kind != "f":
        return ""
    nothing = float(np.mean(one.attributions == 0))
    if nothing >= MANY_ZEROS:
        return (
            f"{_title(one)} is 0 wherever an input is 0 ({nothing:.0%} of the features here), also where by"
            f" {_title(other)} the 0 itself matters."
        )
    return f"{_title(one)} multiplies by the input, so that small inputs count little whatever they mean."


def _noisy(one: Explanation, other: Explanation) -> str:
    if one.standard_error is None:
        return ""
    size = float(np.abs(one.attributions).max())
    error = float(one.standard_error.max())
    if not error > NOISY * size:
        return ""
    share = f"{error / max(size, 1e-300):.0%}"
    return f"The numbers of {_title(one)} come from random draws: their standard error is up to {share} of the largest."


def _text(words: str) -> Callable[[Explanation, Explanation], str]:
    return lambda one, other: words.format(one=_title(one), other=_title(other))


_RULES = (
    _Rule(_is(*UNSIGNED), _not(*UNSIGNED), _text(
        "{one} says how strongly the output reacts to a tiny change and has no sign; the numbers of {other} say what a"
        " feature added or took off.")),
    _Rule(_is(*COARSE), _not(*COARSE), _text(
        "{one} shows places in a layer's coarse grid and only what speaks for the output; with {other} single inputs"
        " are told apart.")),
    _Rule(_is("input_x_gradient"), _not("input_x_gradient", *UNSIGNED), _zeros),
    _Rule(_is(*GRADIENT_ONLY), _not(*GRADIENT_ONLY), _text(
        "{one} looks at the slope at the input only: where the output is saturated the slope is flat, although by"
        " {other} the feature made a difference.")),
    _Rule(_is(*ONE_BY_ONE), _is(*SHARING), _text(
        "{one} changes one feature at a time: of features that stand in for each other it credits none, and what"
        " several do only together it credits to each in full; with {other} it is shared among them.")),
    _Rule(_is("feature_permutation"), _not("feature_permutation"), _text(
        "{one} puts in values of other rows and so makes rows that may not exist; what it finds depends on which rows"
        " are explained together, which is not so with {other}.")),
    _Rule(_is(*RESCALING), _is("integrated_gradients", "gradient_shap", "shap_gradient"), _text(
        "{one} passes differences through each layer by a rule, with {other} the output is followed along a path: that"
        " differs where inputs interact, as in products, gates and max-pooling.")),
    _Rule(_is("integrated_gradients", "gradient_shap", "shap_gradient", *RESCALING),
          _is("shapley", "shap_kernel", "kernel_shap"), _text(
        "{one} and {other} share out interactions differently: by how the network computes between reference and"
        " input, and by averaging over all orders of features.")),
    _Rule(_reference("baseline"), _reference("background"), _text(
        "The reference of {one} is a single baseline, that of {other} the rows of a background on average, so that they"
        " answer different questions.")),
    _Rule(_reference("none"), lambda e: not _reference("none")(e), _text(
        "There is no reference in {one}, but there is in {other}, where a feature at its reference value gets 0.")),
    _Rule(_is("lime"), _not("lime"), _text(
        "{one} fits one linear model around the input, so that bends and interactions end up in other features or in"
        " its error; with {other} they do not.")),
    _Rule(_is("lrp"), _not("lrp"), _text(
        "{one} hands back the output itself, of which constants of the layers keep a share; with {other} a change or a"
        " slope is explained.")),
    _Rule(_in_patches, lambda e: not _in_patches(e), _text(
        "With {one} patches or stretches are weighed as a whole and all members get one value; with {other} they are"
        " told apart.")),
    _Rule(_any, _any, _noisy),
)  # fmt: skip
