"""Take features away and look at the output: whether attributions foresee what happens."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from dlstudio.explain.gate import output_range_of
from dlstudio.explain.methods import METHODS
from dlstudio.explain.prepare import prepare
from dlstudio.explain.problem import Problem
from dlstudio.explain.quality.subject import OtherArguments, Subject
from dlstudio.explain.result import Explanation
from dlstudio.explain.words import UNSIGNED
from dlstudio.running import Runner

__all__ = ["Removal", "removal_of"]

Array = npt.NDArray[Any]

MAX_REFERENCES = 50
MAX_STEPS = 32
BLOCK = 2**24
"""The most marks of removed features that are held at once."""


class Removal:
    """The explained output while players are replaced by the reference, averaged over the rows of a background.

    Args:
        problem: the model as it was explained, with inputs and references.
        players: int64, which player every number of an input belongs to, flat.
        values: float64 (n, players), what orders them.
        effects: float64 (n, players), by how much each should lower the output when it is taken away, up to a scale.
        runner: keeps memory and time.
    """

    def __init__(self, problem: Problem, players: torch.Tensor, values: Array, effects: Array, runner: Runner) -> None:
        self.problem = problem
        self.players = players
        self.values = values
        self.effects = effects
        references = problem.references
        self._paired = problem.paired and len(references) == len(problem)
        if not self._paired and len(references) > MAX_REFERENCES:
            references = references[:: -(-len(references) // MAX_REFERENCES)]
        self._references = references
        self._runner = runner

    @property
    def n_players(self) -> int:
        """How many features can be taken away one by one."""
        return int(self.values.shape[1])

    def outputs(self, removed: npt.NDArray[np.bool_], rows: npt.NDArray[np.int64]) -> Array:
        """Return the output, float64 (b,), of these rows without the players that `removed` (b, players) marks.

        Raises:
            Halted: there was no time for all of them, or someone cancelled.
        """
        width = 1 if self._paired else len(self._references)
        inputs = self.problem.inputs
        shape = inputs.shape[1:]

        def work(part: slice, limit: int) -> torch.Tensor:
            at = torch.from_numpy(rows[part]).to(inputs.device)
            gone = torch.from_numpy(removed[part]).to(inputs.device)[:, self.players].reshape(-1, 1, *shape)
            reference = self._references[at].unsqueeze(1) if self._paired else self._references.unsqueeze(0)
            changed = torch.where(gone, reference, inputs[at].unsqueeze(1)).flatten(0, 1)
            owners = at.repeat_interleave(width)
            found = [
                self.problem.values(changed[low : low + limit], owners[low : low + limit])
                for low in range(0, len(changed), limit)
            ]
            return torch.cat(found).double().view(-1, width).mean(dim=1)

        return torch.cat(self._runner.every_row(len(rows), width, work)).cpu().numpy()

    def infidelity(self, n_draws: int, seed: int) -> Array:
        """Return the share of the output's changes that attributions miss, at their best scale, float64 (n,).

        Random players of random number are taken away; the change should be the sum of their attributions. 0 is
        exact, 1 no better than attributions of 0. Captum's ``infidelity(..., normalize=True)`` over the mean squared
        change, but for attributions of the wrong sign, which are not turned around.
        """
        n, p = self.values.shape
        generator = np.random.default_rng(seed)
        shares = np.empty(n)
        size = max(1, BLOCK // (n_draws * p))
        whole = self.outputs(np.zeros((n, p), dtype=bool), np.arange(n))
        for low in range(0, n, size):
            rows = np.arange(low, min(n, low + size))
            removed = self.draws(generator, len(rows), n_draws)
            outputs = self.outputs(removed.reshape(-1, p), np.repeat(rows, n_draws)).reshape(len(rows), n_draws)
            actual = whole[rows, None] - outputs
            foreseen = np.einsum("rdp,rp->rd", removed, self.effects[rows], optimize=True)
            shares[rows] = _missed(foreseen, actual)
        return shares

    def draws(self, generator: np.random.Generator, n_rows: int, n_draws: int) -> npt.NDArray[np.bool_]:
        """Draw players to take away, bool (rows, draws, players): every number of them from 1 to all is as likely."""
        p = self.n_players
        numbers = generator.integers(1, p + 1, size=(n_rows, n_draws, 1))
        places = np.argsort(generator.random((n_rows, n_draws, p), dtype=np.float32), axis=2)
        return np.argsort(places, axis=2) < numbers

    def curves(self, n_random: int, seed: int) -> dict[str, Array]:
        """Take players away one after another, the largest attribution first, and put them back in that order.

        Returns:
            ``"shares"`` (steps,) of the players concerned; ``"deletion"`` and ``"insertion"`` (n, steps); and
            ``"random_deletion"``, ``"random_insertion"`` (orders, n, steps) of random orders. All as shares of the
            range of the output above the output without any player.
        """
        n, p = self.values.shape
        counts = np.unique(np.round(np.linspace(0, p, min(p, MAX_STEPS) + 1)).astype(np.int64))
        generator = np.random.default_rng(seed)
        orders = [np.argsort(-self.values, axis=1, kind="stable")]
        orders += [np.argsort(generator.random((n, p)), axis=1) for _ in range(n_random)]
        deletion, insertion = [], []
        for order in orders:
            place = np.argsort(order, axis=1)
            deletion.append(self._walk(place, counts))
            # Put back in an order is taken away in the opposite one, read from its end.
            insertion.append(self._walk(p - 1 - place, p - counts))
        start, end = deletion[0][:, 0], deletion[0][:, -1]
        scale = output_range_of(start, end)
        gone, back = ((np.stack(walks) - end[None, :, None]) / scale for walks in (deletion, insertion))
        return {
            "shares": counts / p,
            "deletion": gone[0],
            "insertion": back[0],
            "random_deletion": gone[1:],
            "random_insertion": back[1:],
        }

    def _walk(self, place: npt.NDArray[np.int64], counts: npt.NDArray[np.int64]) -> Array:
        """Outputs (n, steps) without the first so many players of an order."""
        n, p = place.shape
        size = max(1, BLOCK // (len(counts) * p))
        found = []
        for low in range(0, n, size):
            rows = np.arange(low, min(n, low + size))
            removed = place[rows, None, :] < counts[None, :, None]
            outputs = self.outputs(removed.reshape(-1, p), np.repeat(rows, len(counts)))
            found.append(outputs.reshape(len(rows), -1))
        return np.concatenate(found)


def _missed(foreseen: Array, actual: Array) -> Array:
    size, change = (foreseen**2).mean(axis=1), (actual**2).mean(axis=1)
    both = np.maximum((foreseen * actual).mean(axis=1), 0.0)
    known = np.divide(both**2, size * change, out=np.zeros_like(both), where=(size > 0) & (change > 0))
    return np.where(change > 0, np.clip(1.0 - known, 0.0, 1.0), (size > 0).astype(np.float64))  # type: ignore[no-any-return]


def removal_of(subject: Subject, explanation: Explanation, runner: Runner) -> Removal | None:
    """Prepare to take away what `explanation` attributes to; None where that is no part of the inputs.

    Call it, and what it returns, within `untouched`.

    Raises:
        OtherArguments: the model gives other outputs than the explained ones.
        Halted: there was no time for it, or someone cancelled.
    """
    method = METHODS[explanation.method]
    options = {name: subject.options.get(name) for name in ("feature_mask", "output")}
    inputs = subject.given.inputs
    stand_in = explanation.method
    if method.differentiates or method.reference == "none":
        stand_in = "shapley" if method.reference == "background" else "feature_ablation"
        if options["feature_mask"] is None:
            options["feature_mask"] = _single(inputs, explanation)
    elif options["feature_mask"] is None and stand_in in ("feature_ablation", "occlusion"):
        options["feature_mask"] = _single(inputs, explanation)
    prepared = prepare(
        subject.model,
        subject.inputs(),
        target=explanation.target,
        method=stand_in,
        baselines=subject.references(explanation.method),
        class_names=(),
        modality=explanation.modality,
        layer=None,
        neuron=(),
        repair=False,
        **options,
    )
    problem = prepared.problem
    mask = prepared.given.mask
    players = (torch.arange(inputs[0].numel(), device=inputs.device) if mask is None else mask).flatten()
    values = _by_player(explanation, players.cpu().numpy(), tuple(inputs.shape))
    if values is None:
        return None
    effects = values
    if explanation.method in UNSIGNED and inputs.is_floating_point():
        effects = _per_unit(explanation, players, problem, values)
    removal = Removal(problem, players, values, effects, runner)
    found = removal.outputs(np.zeros(values.shape, dtype=bool), np.arange(len(values)))
    apart = float(np.abs(found - explanation.prediction).max())
    if apart > 1e-3 * explanation.output_range:
        raise OtherArguments(
            "the model, inputs and target that were explained",
            f"outputs that differ by up to {apart:.3g}",
            "Pass the same model and the same rows in the same order.",
        )
    return removal


def _single(inputs: torch.Tensor, explanation: Explanation) -> torch.Tensor | None:
    """Every pixel with all its channels as a player; None leaves every number its own."""
    if explanation.modality != "image" or inputs.dim() != 4:
        return None
    pixels = torch.arange(inputs[0, 0].numel()).reshape(inputs.shape[2:])
    return pixels.expand(inputs.shape[1:])


def _by_player(explanation: Explanation, players: Array, shape: tuple[int, ...]) -> Array | None:
    n, n_players = len(explanation), int(players.max()) + 1
    values = explanation.attributions.astype(np.float64)
    by_feature = explanation.by_feature.astype(np.float64)
    if by_feature.shape == (n, n_players):
        return by_feature
    if values.shape != shape:
        return None
    _, first = np.unique(players, return_index=True)  # every member carries the value of its player
    picked: Array = values.reshape(n, -1)[:, first]
    return picked


def _per_unit(explanation: Explanation, players: torch.Tensor, problem: Problem, values: Array) -> Array:
    """Slopes times the way to the reference: what a change of 1 does is no effect of taking a feature away."""
    inputs = problem.inputs
    reference = problem.references if problem.paired else problem.references.mean(dim=0, keepdim=True)
    way = (inputs - reference).flatten(1).double().cpu().numpy()
    if explanation.attributions.shape != tuple(inputs.shape):
        return values
    effect = explanation.attributions.reshape(len(way), -1).astype(np.float64) * way
    summed = torch.zeros(values.shape, dtype=torch.float64)
    return summed.index_add_(1, players.cpu(), torch.from_numpy(effect)).numpy()
