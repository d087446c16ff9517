"""A function on mixtures of inputs and background: the game whose players Shapley values are shared among."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Protocol

import torch

from dlstudio.errors import DLStudioError

__all__ = ["Function", "Mixtures", "blocks"]

_BITS = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


class Function(Protocol):
    """What is explained: one number for every row of a batch."""

    def __call__(self, batch: torch.Tensor, rows: torch.Tensor, /) -> torch.Tensor:
        """Map a batch like the inputs to shape (len(batch),); `rows` says which input each row was made from."""


class Mixtures:
    """The function on mixtures of inputs and background, for the players whose joining changes anything.

    A player whose values are those of the background in every row, such as padding, is worth 0 without being played.

    Args:
        function, inputs, background, players, max_batch, tick: as for `dlstudio.explain.sampling.shapley.shapley`.

    Attributes:
        n_rows, n_references, n_players: rows explained; background rows of each; players, moving or not.
        moving: int64 (k,), the players who differ from the background somewhere.
        n_evaluations, n_planned: rows the function was given so far; rows it will have been given in the end.

    Raises:
        DLStudioError: shapes, dtypes or players do not fit.
    """

    def __init__(
        self,
        function: Function,
        inputs: torch.Tensor,
        background: torch.Tensor,
        players: torch.Tensor | None,
        max_batch: int,
        tick: Callable[[int, int], object] | None,
    ) -> None:
        _check(inputs, background, players, max_batch)
        self.function, self.max_batch, self.tick = function, max_batch, tick
        self.shape = inputs.shape[1:]
        self.dtype, self.bits = inputs.dtype, _BITS[inputs.element_size()]
        own = background.ndim > inputs.ndim
        self.inputs = inputs.detach().flatten(1)
        self.background = background.detach().flatten(2 if own else 1)
        if not own:
            self.background = self.background[None]  # (n or 1, m, elements)
        self.n_rows, n_elements = self.inputs.shape
        self.n_references = self.background.shape[1]
        self.device = inputs.device
        owner = torch.arange(n_elements, device=self.device) if players is None else players.to(self.device).flatten()
        self.n_players = int(owner.max()) + 1
        constant = (self.background == self.background[:, :1]).all(1)
        still = (constant & (self.inputs == self.background[:, 0])).all(0)
        self.inputs, self.background = self.inputs.view(self.bits), self.background.view(self.bits)
        self.moving = owner[~still].unique()
        self.owner: torch.Tensor | None = None
        if players is not None or len(self.moving) < self.n_players:
            place = torch.zeros(self.n_players, dtype=torch.int64, device=self.device)
            place[self.moving] = torch.arange(len(self.moving), device=self.device)
            self.owner = place[owner]
        self.n_evaluations = 0
        self.n_planned = 0

    def call(self, batch: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        """Return the function of a batch, given as bits whose rows lie one after the other, (len(rows),)."""
        batch = batch.view(self.dtype).view(-1, *self.shape)
        outputs = self.function(batch, rows)
        if not isinstance(outputs, torch.Tensor) or outputs.shape != (len(batch),):
            came = f"shape {tuple(outputs.shape)}" if isinstance(outputs, torch.Tensor) else type(outputs).__name__
            raise DLStudioError(
                f"one number for each of the {len(batch)} rows of a batch, shape ({len(batch)},)",
                came,
                "Return one output, such as model(batch)[:, 1].",
            )
        self.n_evaluations += len(batch)
        if self.tick is not None:
            self.tick(self.n_evaluations, max(self.n_planned, self.n_evaluations))
        return outputs

    def ends(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the function at the inputs (n,) and at their backgrounds (n, m), float64."""
        rows = torch.arange(self.n_rows, device=self.device)
        self.n_planned += self.n_rows * (1 + self.n_references)
        prediction = [self.call(self.inputs[part].clone(), rows[part]) for part in blocks(self.n_rows, self.max_batch)]
        nobody = torch.zeros(1, 1, max(1, len(self.moving)), dtype=torch.bool, device=self.device)
        references = torch.arange(self.n_references, device=self.device)
        return torch.cat(prediction).double(), self.values(rows, references, 1, lambda *_: nobody)[:, :, 0]

    def values(
        self,
        rows: torch.Tensor,
        references: torch.Tensor,
        n_steps: int,
        joined: Callable[[slice, slice], torch.Tensor],
    ) -> torch.Tensor:
        """Evaluate mixtures of rows and background.

        Args:
            rows: int64 (r,).
            references: int64 (c,), background rows.
            n_steps: how many coalitions each pair of a row and a background row is mixed by.
            joined: takes a part of `references` and one of the steps, and returns which players have joined there,
                bool (part of c or 1, part of n_steps, moving players). The same for all rows.

        Returns:
            Float64 (r, c, n_steps).
        """
        steps = min(n_steps, self.max_batch)
        chains = min(len(references), self.max_batch // steps)
        together = max(1, self.max_batch // (steps * chains))
        own = len(self.background) > 1
        found = torch.empty(len(rows), len(references), n_steps, dtype=torch.float64, device=self.device)
        for chain in blocks(len(references), chains):
            for step in blocks(n_steps, steps):
                taken = joined(chain, step)
                width = taken.shape[1]
                # Both sides are laid out step by step and mixed as bits: along lines much longer than a row, and
                # without the branches of `torch.where`, which take longer than a small network.
                bits = -(taken if self.owner is None else taken[..., self.owner]).flatten(1).to(self.bits)
                bits = bits.expand(chain.stop - chain.start, -1)
                for part in blocks(len(rows), together):
                    new = self.inputs[rows[part], None].repeat(1, 1, width)
                    if own or part.start == 0:
                        old = self.background[rows[part] if own else slice(None)][:, references[chain]]
                        old = old.repeat(1, 1, width) & ~bits
                    mixed = (new & bits).bitwise_or_(old)
                    into = found[part, chain, step]
                    whose = rows[part].repeat_interleave(into[0].numel())
                    into.copy_(self.call(mixed, whose).view(into.shape))
        return found

    def to_all_players(self, values: torch.Tensor) -> torch.Tensor:
        """Put values of the moving players (n, k) among zeros for the others."""
        if len(self.moving) == self.n_players:
            return values
        return values.new_zeros(len(values), self.n_players).index_copy_(1, self.moving, values)


def blocks(n: int, size: int) -> Iterator[slice]:
    """Cut `n` places into slices of `size`; the last may be shorter."""
    return (slice(start, min(n, start + size)) for start in range(0, n, size))


def _check(inputs: torch.Tensor, background: torch.Tensor, players: torch.Tensor | None, max_batch: int) -> None:
    shape = tuple(inputs.shape)
    if inputs.ndim < 2 or inputs.numel() == 0:
        raise DLStudioError(
            "inputs with at least one row and one element", f"shape {shape}", "Add the first axis: inputs[None]."
        )
    got = tuple(background.shape)
    shared = background.ndim == inputs.ndim and got[1:] == shape[1:]
    own = background.ndim == inputs.ndim + 1 and got[:1] == shape[:1] and got[2:] == shape[1:]
    if not (shared or own) or background.numel() == 0:
        sizes = ", ".join(map(str, shape[1:]))
        raise DLStudioError(
            f"a background of shape (m, {sizes}), or ({shape[0]}, m, {sizes}) with one for each row",
            f"shape {got}",
            "Take some rows like the inputs, such as training rows.",
        )
    if background.dtype != inputs.dtype or background.device != inputs.device:
        raise DLStudioError(
            f"a background of {inputs.dtype} on {inputs.device}, as the inputs",
            f"{background.dtype} on {background.device}",
            "Use background.to(inputs).",
        )
    if players is not None:
        if tuple(players.shape) != shape[1:] or players.dtype != torch.int64:
            raise DLStudioError(
                f"int64 players in the shape of one input, {shape[1:]}",
                f"{players.dtype} of shape {tuple(players.shape)}",
                "Give every element the number of its player, 0 to P - 1.",
            )
        numbers = players.unique()
        if not torch.equal(numbers.cpu(), torch.arange(len(numbers))):
            raise DLStudioError(
                "players numbered from 0 to P - 1, each with an element",
                f"{len(numbers)} numbers from {int(numbers[0])} to {int(numbers[-1])}",
                "Number them anew: players = players.unique(return_inverse=True)[1].",
            )
    if not isinstance(max_batch, int) or isinstance(max_batch, bool) or max_batch < 1:
        raise DLStudioError("max_batch of 1 or more", f"max_batch={max_batch!r}", "Try max_batch=1024.")
