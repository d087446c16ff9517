"""Attacks by gradient, through Captum: small changes of the inputs that make a model wrong."""

from __future__ import annotations

import contextlib
import dataclasses
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import torch
from captum.robust import FGSM, PGD
from torch import nn

from dlstudio.errors import DLStudioError
from dlstudio.training import rng
from dlstudio.training.evaluate import evaluating

__all__ = ["ATTACKS", "Answer", "Attacked", "answer_of", "attack", "left_alone", "no_gradient"]

ATTACKS = ("fgsm", "pgd")
OVERSHOOT = 2.5
"""How far the steps of a search could go in all, in units of the radius (Madry et al. 2018)."""


@dataclasses.dataclass(frozen=True)
class Answer:
    """How a model's outputs are read.

    `kind` is ``"logits"`` or ``"probabilities"`` (n, classes), ``"logit"`` or ``"probability"`` (n,) of class 1 of
    two, or ``"value"`` (n,).
    """

    kind: str

    @property
    def is_value(self) -> bool:
        """Whether the model predicts a quantity and no class."""
        return self.kind == "value"

    def predicted(self, outputs: torch.Tensor) -> torch.Tensor:
        """Return classes int64 (n,), or values (n,)."""
        if self.kind in ("logits", "probabilities"):
            return outputs.argmax(dim=1)
        flat = outputs.reshape(len(outputs))
        return flat if self.is_value else (flat > (0.5 if self.kind == "probability" else 0.0)).long()

    def error(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Return 1 where a class is wrong and else 0, or the absolute error of a value: float (n,)."""
        said = self.predicted(outputs)
        if self.is_value:
            return (said - targets).abs()
        broken = ~torch.isfinite(outputs).reshape(len(outputs), -1).all(dim=1)
        return ((said != targets) | broken).to(outputs.dtype)

    def badness(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Return what an attack makes larger, (n,).

        For classes it is the log-odds against the right one. The cross entropy is log(1 + exp) of that, so the two
        rise in the same direction; but the gradient of the cross entropy rounds to nothing, or to a wrong direction,
        where a model is confident, and a model that cannot be attacked for that reason only would pass as robust.
        """
        if self.is_value:
            return (outputs.reshape(len(outputs)) - targets).abs()
        if self.kind in ("logit", "probability"):
            flat = outputs.reshape(len(outputs))
            odds = flat if self.kind == "logit" else flat.log() - torch.log1p(-flat)
            return odds * (1 - 2 * targets).to(odds.dtype)
        scores = outputs if self.kind == "logits" else outputs.log()
        right = nn.functional.one_hot(targets, scores.shape[1]).bool()
        return scores.masked_fill(right, -torch.inf).logsumexp(dim=1) - scores[right]


def answer_of(outputs: Any, targets: torch.Tensor) -> Answer:
    """Judge from the outputs for clean inputs and the targets how outputs are read.

    Raises:
        DLStudioError: they do not fit.
    """
    if not isinstance(outputs, torch.Tensor):
        raise DLStudioError("one tensor as the model's output", type(outputs).__name__, "Return the logits only.")
    n, got = len(targets), f"outputs of shape {tuple(outputs.shape)} for {len(targets):,} targets"
    single = tuple(outputs.shape) in ((n,), (n, 1))
    if targets.is_floating_point():
        if not single:
            raise DLStudioError("one output a row, as the targets are quantities", got, "Pass class numbers as ints.")
        return Answer("value")
    if not single and (outputs.ndim != 2 or len(outputs) != n):
        raise DLStudioError("logits (rows, classes), or one logit a row", got, "Pass a model that classifies rows.")
    n_classes = 2 if single else outputs.shape[1]
    bad = targets[(targets < 0) | (targets >= n_classes)]
    if len(bad):
        remedy = "Number the classes from 0 as the outputs are, or pass floats as targets of a regression."
        raise DLStudioError(f"targets from 0 to {n_classes - 1}", f"{int(bad[0])}", remedy)
    finite = outputs.double()
    between = bool(((finite >= 0) & (finite <= 1)).all())
    if single:
        return Answer("probability" if between else "logit")
    whole = bool(((finite.sum(dim=1) - 1).abs() < 1e-3).all())
    return Answer("probabilities" if between and whole else "logits")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Attacked:
    """What is attacked, in raw units.

    Attributes:
        forward: takes raw inputs and returns the model's outputs.
        answer: how these are read.
        norm: ``"linf"`` or ``"l2"``.
        bounds: the smallest and the largest raw value.
        mask: bool, of one row's shape: which inputs may change; None for all.
        n_steps: of a search.
    """

    forward: Callable[[torch.Tensor], torch.Tensor]
    answer: Answer
    norm: str
    bounds: tuple[float, float]
    mask: torch.Tensor | None
    n_steps: int


def attack(name: str, subject: Attacked, raw: torch.Tensor, targets: torch.Tensor, epsilon: float) -> torch.Tensor:
    """Return inputs within `epsilon` of `raw`, changed to make the model wrong.

    Args:
        name: ``"fgsm"``, one step; ``"pgd"``, a search by steps.
        subject: what is attacked.
        raw, targets: rows, and what is right for them.
        epsilon: the largest change, in the subject's norm.
    """
    low, high = subject.bounds
    mask = None if subject.mask is None else subject.mask.to(raw.device, raw.dtype).expand_as(raw)

    def loss(outputs: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
        return subject.answer.badness(outputs, wanted).sum().reshape(1)  # Captum takes (n,) apart row by row

    step = _Steepest(subject.forward, loss, low, high, norm=subject.norm)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Captum says that it makes inputs require gradients
        if name == "fgsm":
            changed: torch.Tensor = step.perturb(raw, epsilon, targets, mask=mask)
            return changed.detach()
        search = PGD(subject.forward, loss, low, high)
        search.fgsm = step
        norm = {"linf": "Linf", "l2": "L2"}[subject.norm]
        size = OVERSHOOT * epsilon / subject.n_steps
        changed = search.perturb(raw, epsilon, size, subject.n_steps, targets, norm=norm, mask=mask)
    return changed.detach()


class _Steepest(FGSM):
    """Captum's step, in the direction that is steepest in the norm, for gradients of any size.

    Captum goes along the signs in the L2 ball too, which ends beside the worst point; and it takes gradients below
    1e-6 for zero, which lets confident models pass as robust.
    """

    def __init__(self, forward: Any, loss: Any, low: float, high: float, *, norm: str) -> None:
        super().__init__(forward, loss, low, high)
        self.zero_thresh = 0.0
        self.norm = norm

    def _perturb(self, inputs: Any, grads: Any, epsilon: float, targeted: bool, masks: Any) -> Any:
        if self.norm == "linf":
            return super()._perturb(inputs, grads, epsilon, targeted, masks)
        return tuple(
            given + epsilon * _unit(torch.nan_to_num(grad) * mask)
            for given, grad, mask in zip(inputs, grads, masks, strict=True)
        )


def _unit(direction: torch.Tensor) -> torch.Tensor:
    """Each row at length 1, or 0 where it is 0; divided by the largest first, whose square cannot underflow."""
    flat = direction.flatten(1)
    largest = flat.abs().amax(dim=1, keepdim=True)
    flat = flat / torch.where(largest > 0, largest, 1.0)
    length = flat.norm(dim=1, keepdim=True)
    return (flat / torch.where(length > 0, length, 1.0)).view_as(direction)


def no_gradient(subject: Attacked, raw: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Return which rows have no gradient to follow, bool (n,): attacks by gradient say nothing about them.

    Raises:
        DLStudioError: the outputs do not depend on the inputs in a way that PyTorch can differentiate.
    """
    given = raw.detach().clone().requires_grad_()
    outputs = subject.forward(given)
    if not outputs.requires_grad:
        raise DLStudioError(
            "a model that PyTorch can differentiate",
            "outputs without a gradient",
            "Attack a torch module; corruptions need no gradient.",
        )
    (grad,) = torch.autograd.grad(
        subject.answer.badness(outputs, targets).sum(), given, allow_unused=True, materialize_grads=True
    )
    if subject.mask is not None:
        grad = grad * subject.mask.to(grad.device, grad.dtype)
    flat = grad.flatten(1)
    return ~(torch.isfinite(flat) & (flat != 0)).any(dim=1)


@contextlib.contextmanager
def left_alone(model: Any) -> Iterator[None]:
    """Lend a model, in eval mode and with gradients on; its modes and all random numbers are then as before."""
    modules = model if isinstance(model, nn.Module) else nn.Module()
    # cuDNN refuses the backward pass of recurrent layers in eval mode.
    recurrent = any(isinstance(part, nn.RNNBase) for part in modules.modules())
    before = torch.backends.cudnn.enabled
    with rng.undisturbed(), evaluating(modules), torch.inference_mode(False), torch.enable_grad():
        torch.backends.cudnn.enabled = before and not recurrent
        try:
            yield
        finally:
            torch.backends.cudnn.enabled = before
