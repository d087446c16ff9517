"""Adversarial mitigation: a model learns its task while an adversary tries to tell the group from its outputs."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.nn import functional

from dlstudio.data.groups import group_names
from dlstudio.data.values import as_array, in_one_order
from dlstudio.errors import DLStudioError, unknown_name
from dlstudio.limits import bar, number_within, whole_number
from dlstudio.results import Result
from dlstudio.training import rng

if TYPE_CHECKING:
    import pandas as pd

    from dlstudio.runs.recorder import Recorder

__all__ = ["Adversary", "AdversarialTraining", "against", "train_adversarial"]

CRITERIA = ("demographic_parity_difference", "equalized_odds_difference")
HIDDEN = 32
LEAST_RATE = 1e-9


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class AdversarialTraining(Result, schema=2):
    """How an adversarial training went.

    Attributes:
        criterion: what the adversary was held to.
        strength: of the adversary.
        loss, adversary_loss: float64 (epochs,), means of the cross entropies; the second rises as groups get hard to
            tell apart.
        chance_loss: the adversary's loss if it knew only how large groups are.
        sensitive_feature, groups: who the adversary told apart.
        needs_sensitive_feature: whether predictions need the group, as one of its columns is among the inputs of the
            model; None where that is not known, as of tensors. Beside the inputs only training needs it.
        settings: seed, epochs and the like.
    """

    criterion: str
    strength: float
    loss: npt.NDArray[np.float64]
    adversary_loss: npt.NDArray[np.float64]
    chance_loss: float
    sensitive_feature: str
    groups: tuple[str, ...]
    needs_sensitive_feature: bool | None = None
    settings: dict[str, Any] = dataclasses.field(default_factory=dict)

    def frame(self) -> pd.DataFrame:
        """Return a row per epoch: ``epoch, loss, adversary_loss``."""
        import pandas as pd

        epochs = np.arange(1, len(self.loss) + 1)
        return pd.DataFrame({"epoch": epochs, "loss": self.loss, "adversary_loss": self.adversary_loss})


class Adversary(nn.Module):
    """Tells the group from the outputs; for equalised odds it knows the true class as well.

    Args:
        n_classes, n_groups: of the task; to tell apart.
        knows_class: whether it sees the true class: then outputs may still differ between groups as classes do.
    """

    def __init__(self, n_classes: int, n_groups: int, knows_class: bool) -> None:
        super().__init__()
        self.n_classes, self.knows_class = n_classes, knows_class
        width = n_classes * (2 if knows_class else 1)
        self.hidden, self.out = nn.Linear(width, HIDDEN), nn.Linear(HIDDEN, n_groups)

    def forward(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Return logits of groups (n, groups) from logits of classes (n, classes) and true classes (n,)."""
        seen = outputs - outputs.mean(dim=1, keepdim=True)  # a constant added to all logits says nothing
        if self.knows_class:
            seen = torch.cat([seen, functional.one_hot(targets, self.n_classes).to(seen.dtype)], dim=1)
        logits: torch.Tensor = self.out(torch.tanh(self.hidden(seen)))
        return logits


def against(
    own: Sequence[torch.Tensor], adversary: Sequence[torch.Tensor], strength: float
) -> tuple[torch.Tensor, ...]:
    """Return the gradients of the task without what helps the adversary, and against the adversary.

    All weights are one long vector: g - (g·a / a·a) a - strength·a. A small step down along it never lowers the
    adversary's loss. `train_adversarial` hands it to Adam, as gradients of any loss: its momentum and its scale of
    every weight turn the step, so that there this holds on average and not at every step, and `strength` weighs less
    than in proportion. An adversary without a gradient changes nothing.

    Args:
        own: gradients of the task's loss, one tensor a weight.
        adversary: gradients of the adversary's loss by the same weights.
        strength: of the last part.

    References:
        Zhang, Lemoine and Mitchell, Mitigating unwanted biases with adversarial learning (2018), equation 1.
    """
    largest = max((float(a.abs().max()) for a in adversary if a.numel()), default=0.0)
    if largest == 0 or not np.isfinite(largest):
        return tuple(own)
    # Scaled by its largest entry, since squares of small gradients are 0 in float32.
    scaled = [a / largest for a in adversary]
    length = sum((a * a).sum() for a in scaled)
    along = sum((g * a).sum() for g, a in zip(own, scaled, strict=True))
    share = along / length + strength * largest
    return tuple(g - share * a for g, a in zip(own, scaled, strict=True))


def train_adversarial(
    model: nn.Module,
    inputs: Any,
    targets: Any,
    sensitive_features: Any,
    *,
    criterion: str = "demographic_parity_difference",
    strength: float = 1.0,
    epochs: int = 30,
    batch_size: int = 128,
    lr: float = 1e-3,
    adversary_lr: float = 1e-2,
    seed: int = 0,
    progress: bool | Callable[[int, int], None] = True,
    rec: Recorder | None = None,
) -> tuple[nn.Module, AdversarialTraining]:
    """Train a copy of a model so that its outputs tell little of the group. Predictions do not need the
    group, unless it is among the inputs.

    Args:
        model: returns logits (n, classes); with fresh weights, or with trained ones to go on from. It stays as it is.
        inputs, targets: tensors or arrays of the training rows: what the model takes, and classes (n,), numbered from 0
            as the model's outputs.
        sensitive_features: (n,) groups, or several columns, whose combinations are the groups.
        criterion: ``"demographic_parity_difference"``: the outputs shall not tell the group at all; or
            ``"equalized_odds_difference"``: no more than the true class does.
        strength: how hard the model works against the adversary, 0 or more. Compare several with `trade_off`.
        epochs, batch_size, lr: of the training, by Adam with a rate that falls to 0.
        adversary_lr: of the adversary; larger, so that it keeps up.
        seed: of the order of rows, dropout and the adversary's weights. The same seed gives the same model on the
            same machine; the caller's random numbers are left as they were.
        progress: a bar over epochs, or a function called with epochs done and all.
        rec: an open recorder, told ``loss`` and ``adversary/loss`` after every epoch, so that the training can be
            watched and stopped.

    Returns:
        The trained copy in eval mode, and how the training went.

    Raises:
        DLStudioError: lengths differ, an option is out of range, or the loss is no longer finite.

    Example:
        >>> milder, went = train_adversarial(build("mlp", data), x, y, race, strength=2.0)
        >>> t = dls.trade_off(y_test, p_test, sensitive_features=race_test, variants={"adversary": p_milder})

    References:
        Zhang, Lemoine and Mitchell, Mitigating unwanted biases with adversarial learning (2018).
    """
    if not isinstance(model, nn.Module):
        raise DLStudioError("a torch.nn.Module", type(model).__name__, "Pass the module to train.")
    if criterion not in CRITERIA:
        raise unknown_name("criterion", criterion, CRITERIA)
    for name, number, least in (("epochs", epochs, 1), ("batch_size", batch_size, 1), ("seed", seed, 0)):
        whole_number(name, number, least)
    for name, rate in (("lr", lr), ("adversary_lr", adversary_lr)):
        number_within(name, rate, LEAST_RATE)
    number_within("strength", strength, 0)
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    if not weights:
        raise DLStudioError("a model with weights to train", "none that requires a gradient", "Unfreeze some.")
    device = weights[0].device
    if not isinstance(targets, torch.Tensor):
        inputs, targets, sensitive_features = in_one_order(
            inputs=inputs, targets=targets, sensitive_features=sensitive_features
        )
    x, y = _tensor("inputs", inputs), _tensor("targets", targets)
    x = x.to(weights[0].dtype) if x.is_floating_point() else x
    unknown = int((~torch.isfinite(x)).flatten(1).any(dim=1).sum()) if x.ndim > 1 else int((~torch.isfinite(x)).sum())
    if unknown:
        raise DLStudioError(
            "inputs without missing or infinite values", f"some in {unknown:,} of {len(x):,} rows", "Fill them first."
        )
    if y.is_floating_point() or y.ndim != 1 or len(y) != len(x) or not len(y):
        raise DLStudioError(
            f"a class for each of {len(x):,} rows", f"{y.dtype} of shape {tuple(y.shape)}", "Pass y (n,)."
        )
    feature, names = group_names(sensitive_features, len(y))
    groups, codes = np.unique(names, return_inverse=True)
    if len(groups) < 2:
        raise DLStudioError("two groups or more", f"only {groups[0]}", "Pass rows of several groups.")
    share = np.bincount(codes) / len(codes)
    x, y, g = x.to(device), y.long().to(device), torch.from_numpy(codes).to(device)
    with rng.undisturbed():
        rng.seed_all(int(seed))
        trained = copy.deepcopy(model).train()
        work = _Training(trained, x, y, g, len(groups), criterion == CRITERIA[1], float(strength), lr, adversary_lr)
        history = work.run(epochs, batch_size, progress, rec)
    for weight in trained.parameters():
        weight.grad = None
    return trained.eval(), AdversarialTraining(
        criterion=criterion,
        strength=float(strength),
        loss=history[:, 0],
        adversary_loss=history[:, 1],
        chance_loss=float(-(share * np.log(share)).sum()),
        sensitive_feature=feature,
        groups=tuple(map(str, groups)),
        settings={
            "seed": int(seed),
            "epochs": int(epochs),
            "batch_size": int(batch_size),
            "lr": float(lr),
            "adversary_lr": float(adversary_lr),
        },
    )


def _tensor(name: str, given: Any) -> torch.Tensor:
    if isinstance(given, torch.Tensor):
        return given.detach()
    values = as_array(given)
    if values.dtype.kind not in "biuf":
        got = f"{values.dtype} of shape {values.shape}"
        remedy = "Number them from 0, classes for instance by np.unique(y, return_inverse=True)[1]."
        raise DLStudioError(f"numbers as {name}", got, remedy)
    return torch.from_numpy(values.copy())


def _tried(model: nn.Module, x: torch.Tensor) -> Any:
    try:
        return model(x)
    except (RuntimeError, ValueError, TypeError, IndexError) as error:
        if isinstance(error, torch.OutOfMemoryError):
            raise
        raise DLStudioError(
            f"a model that takes {x.dtype} inputs of shape {tuple(x.shape)}",
            f"{type(error).__name__}: {error}",
            "Make its first layer fit the inputs.",
        ) from error


class _Training:
    """Model and adversary, and the step that both take on one batch."""

    def __init__(
        self,
        model: nn.Module,
        x: torch.Tensor,
        y: torch.Tensor,
        g: torch.Tensor,
        n_groups: int,
        knows_class: bool,
        strength: float,
        lr: float,
        adversary_lr: float,
    ) -> None:
        self.model, self.x, self.y, self.g, self.strength = model, x, y, g, strength
        with torch.no_grad():
            outputs = _tried(model.eval(), x[:2])
            model.train()
        if not isinstance(outputs, torch.Tensor) or outputs.ndim != 2 or outputs.shape[1] < 2:
            got = f"shape {tuple(outputs.shape)}" if isinstance(outputs, torch.Tensor) else type(outputs).__name__
            raise DLStudioError("logits (rows, classes) of two classes or more", got, "End with a unit per class.")
        wrong = y[(y < 0) | (y >= outputs.shape[1])]
        if len(wrong):
            got = f"{int(wrong[0])} in {len(wrong):,} rows"
            raise DLStudioError(f"classes from 0 to {outputs.shape[1] - 1}", got, "Number them from 0.")
        self.adversary = Adversary(outputs.shape[1], n_groups, knows_class).to(outputs)
        self.weights = [weight for weight in model.parameters() if weight.requires_grad]
        self.own = torch.optim.Adam(self.weights, lr=lr)
        self.other = torch.optim.Adam(self.adversary.parameters(), lr=adversary_lr)

    def run(
        self, epochs: int, batch_size: int, progress: bool | Callable[[int, int], None], rec: Recorder | None
    ) -> npt.NDArray[np.float64]:
        """Train; return the mean losses of model and adversary, (epochs, 2)."""
        n = len(self.y)
        n_steps = epochs * -(-n // batch_size)
        falls = [
            torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / n_steps)
            for optimizer in (self.own, self.other)
        ]
        history = np.zeros((epochs, 2))
        with bar(progress, epochs, "epoch", "Training") as tell:
            for epoch in range(epochs):
                total = torch.zeros(2, dtype=torch.float64, device=self.y.device)
                for rows in torch.randperm(n, device="cpu").to(self.y.device).split(batch_size):
                    if len(rows) > 1 or n == 1:  # batch normalisation cannot train on a single row
                        total += self._step(rows) * len(rows)
                    for fall in falls:
                        fall.step()
                history[epoch] = (total / n).cpu().numpy()
                if not np.isfinite(history[epoch]).all():
                    raise DLStudioError(
                        "losses that stay finite",
                        f"{history[epoch].tolist()} in epoch {epoch + 1}",
                        "Lower lr or strength.",
                    )
                if rec is not None:
                    own, other = history[epoch].tolist()
                    rec.log({"loss": own, "adversary/loss": other, "epoch": epoch + 1.0}, step=epoch + 1)
                tell(epoch + 1)
        return history

    def _step(self, rows: torch.Tensor) -> torch.Tensor:
        x, y, g = self.x[rows], self.y[rows], self.g[rows]
        outputs = self.model(x)
        # The adversary learns first, from outputs as they are, then says what gives the group away.
        self.other.zero_grad()
        functional.cross_entropy(self.adversary(outputs.detach(), y), g).backward()
        self.other.step()
        loss = functional.cross_entropy(outputs, y)
        told = functional.cross_entropy(self.adversary(outputs, y), g)
        own = torch.autograd.grad(loss, self.weights, retain_graph=True, allow_unused=True)
        other = torch.autograd.grad(told, self.weights, allow_unused=True)
        used = [(w, a, b) for w, a, b in zip(self.weights, own, other, strict=True) if a is not None and b is not None]
        if self.strength > 0:
            changed = against([a for _, a, _ in used], [b for _, _, b in used], self.strength)
        else:
            changed = tuple(a for _, a, _ in used)
        for (weight, _, _), gradient in zip(used, changed, strict=True):
            weight.grad = gradient
        self.own.step()
        return torch.stack([loss.detach(), told.detach()]).double()
