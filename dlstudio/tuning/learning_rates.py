"""What `find_lr` returns: the loss over the learning rate, what it suggests, and why."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from dlstudio.results import Finding, Result

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["LearningRates", "read_curve"]

Array = npt.NDArray[np.float64]

SAFETY = 10.0
"""The suggestion is at most the rate of the lowest loss over this."""
RISE = 2.0
"""A loss that rose above where it began by so many times what it had fallen has diverged."""
CLEAR = 2.0
"""A fall counts where it is so many times the loss's own scatter from batch to batch."""


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class LearningRates(Result, schema=1):
    """A learning-rate range test.

    Attributes:
        lr, loss, smoothed: per step (n,) float64: the rate; the loss of the next batch after a step with it, as it came
            and smoothed over neighbouring steps.
        first_loss: smoothed, before the first step.
        suggestion: a rate to train with; None where nothing can be said.
        reason: why, in plain sentences.
        steepest, lowest, diverged_at: the rates at which the loss fell fastest, was lowest, and had left for good;
            None where it did not.
        model, data, optimizer, batch_size: what was trained.
        settings: low, high, n_steps, seed.
        findings: DLS540 where there is no suggestion, DLS541 where a wider range would tell more.
        wall_s: seconds it took.
    """

    lr: Array
    loss: Array
    smoothed: Array
    first_loss: float
    suggestion: float | None
    reason: str
    steepest: float | None = None
    lowest: float | None = None
    diverged_at: float | None = None
    model: str = ""
    data: str = ""
    optimizer: str = ""
    batch_size: int = 0
    settings: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    findings: tuple[Finding, ...] = ()
    wall_s: float = 0.0

    def frame(self) -> pd.DataFrame:
        """Return a row per step: ``lr, loss, smoothed``."""
        import pandas as pd

        return pd.DataFrame({"lr": self.lr, "loss": self.loss, "smoothed": self.smoothed})

    @property
    def summary(self) -> tuple[str, ...]:
        """Plain sentences: what to use, and why."""
        if self.suggestion is None:
            return ("No learning rate can be suggested.", self.reason)
        return (f"Train with a learning rate of {self.suggestion:.2g}.", self.reason)


def has_diverged(losses: Array, n_steps: int) -> bool:
    """Whether the loss, told step by step, has left for good."""
    if not np.isfinite(losses[-1]):
        return True
    n_first = _n_first(n_steps)
    if len(losses) <= n_first:
        return False
    start, scatter = losses[:n_first].mean(), _scatter(losses, n_steps)
    recent = losses[-2:].min()  # one bad batch is no divergence
    fallen = start - min(start, _smooth(losses, n_steps).min())
    return bool(recent > start + RISE * max(fallen, 5 * scatter, 0.1 * abs(start)))


def read_curve(lr: Array, loss: Array, first: Array, n_steps: int) -> dict[str, Any]:
    """Read a range test.

    Args:
        lr, loss: (n,), n up to `n_steps`; the last loss may be infinite or NaN.
        first: losses before any step was made, at least one.
        n_steps: that were asked for.

    Returns:
        The fields of `LearningRates` that follow from them.
    """
    losses = np.concatenate([first, loss])
    if not np.isfinite(losses[:1]).all():
        return _nothing(loss, float("nan"), "The loss is not finite before the first step: look at the data and model.")
    n_first = min(_n_first(n_steps), max(1, len(losses) // 4))
    diverged = bool(len(loss) and has_diverged(losses, n_steps))
    beginning = losses[:n_first]
    start = float(beginning[np.isfinite(beginning)].mean())
    # What comes after the end must not colour the smoothed steps before it.
    finite = losses[np.isfinite(losses)]
    ceiling = max(float(finite[: max(len(finite) - 2, 1)].max()), start) if diverged else float(finite.max())
    smoothed = _smooth(np.where(np.isfinite(losses), np.minimum(losses, ceiling), ceiling), n_steps)[len(first) :]
    scatter = _scatter(losses, n_steps)
    found: dict[str, Any] = {
        "smoothed": smoothed,
        "first_loss": start,
        "diverged_at": float(lr[-1]) if diverged else None,
    }
    fallen = start - float(smoothed.min())
    if fallen <= max(CLEAR * scatter, 1e-6 * abs(start)):
        if diverged and lr[-1] < 1e3 * lr[0]:
            why = f"The loss rises almost from the lowest rate on, {lr[0]:.2g}: try a lower `low`."
        elif diverged:
            why = (
                "The loss never falls beyond its scatter from batch to batch before it diverges: a larger batch or more"
                " steps would tell more."
            )
        else:
            why = (
                f"The loss never falls beyond its scatter from batch to batch ({scatter:.2g}) up to a rate of"
                f" {lr[-1]:.2g}: try a higher `high`, more steps or a larger batch; or there is nothing to learn."
            )
        return found | {"suggestion": None, "reason": why}
    slope = np.gradient(smoothed, np.log10(lr)) if len(lr) > 1 else np.zeros(1)
    # On a floor that is as good as flat, the lowest point is anywhere: the first step on it is meant.
    low = int(np.flatnonzero(start - smoothed >= 0.99 * fallen)[0])
    before = np.flatnonzero(start - smoothed[: low + 1] < 0.1 * fallen)
    begin = int(before[-1]) if len(before) else 0
    steep = begin + int(slope[begin : low + 1].argmin())
    steepest, lowest = float(lr[steep]), float(lr[low])
    rises = diverged or low < len(lr) - 1 - n_steps // 20
    suggestion = min(steepest, lowest / SAFETY) if rises else steepest
    read = {"steepest": steepest, "lowest": lowest, "rises": rises}
    if suggestion < lr[0]:
        why = f"The loss is lowest at {lowest:.2g} already, less than ten times the lowest rate: try a lower `low`."
        return found | read | {"suggestion": None, "reason": why}
    why = (
        f"The loss falls fastest around {steepest:.2g} and is lowest at {lowest:.2g}, from {start:.3g} down to"
        f" {smoothed[low]:.3g}"
    )
    why += f", and diverges at {lr[-1]:.2g}. " if diverged else ". "
    if not rises:
        why += "It still falls at the highest rate: a higher `high` would tell where that ends."
    elif suggestion < steepest:
        why += (
            "A tenth of the rate of the lowest loss is taken, for safety: a whole training meets sharper places than"
            f" {len(lr)} steps."
        )
    else:
        why += "The rate where it falls fastest is taken, which is at least ten times below that of the lowest loss."
    return found | read | {"suggestion": float(suggestion), "reason": why}


def _nothing(loss: Array, start: float, why: str) -> dict[str, Any]:
    return {"smoothed": np.full(len(loss), np.nan), "first_loss": start, "suggestion": None, "reason": why}


def _n_first(n_steps: int) -> int:
    return max(3, n_steps // 10)


def _scatter(losses: Array, n_steps: int) -> float:
    """The loss's standard deviation from batch to batch, from its second differences, which a trend leaves alone."""
    calm = losses[: max(_n_first(n_steps) * 3, 8)]
    calm = calm[np.isfinite(calm)]
    if len(calm) < 4:
        return 0.0
    bends = np.abs(calm[2:] - 2 * calm[1:-1] + calm[:-2]) / 6**0.5
    return float(np.median(bends) / 0.6745)  # of a normal distribution; single jumps do not count


def _smooth(values: Array, n_steps: int) -> Array:
    """Average over neighbours, a Gaussian of a fortieth of the range wide; nothing lags behind."""
    width = max(1.0, n_steps / 40)
    places = np.arange(len(values))
    weights = np.exp(-0.5 * ((places[:, None] - places) / width) ** 2)
    return np.asarray(weights @ values / weights.sum(axis=1))
