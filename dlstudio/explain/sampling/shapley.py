"""Shapley values of any function: exact for few players, antithetic permutation sampling for many, in big batches."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import ceil, comb

import torch

from dlstudio.errors import DLStudioError
from dlstudio.explain.sampling.mixtures import Function, Mixtures, blocks

__all__ = ["EXACT_PLAYERS", "ShapleyValues", "shapley"]

EXACT_PLAYERS = 12
"""Up to so many players all coalitions are enumerated."""

GOOD_ERROR = 0.01
"""Without `n_samples`, sampling goes on until no standard error exceeds this share of the output's range."""

NOISY = 0.09
"""Nor this share of its row's largest value, or of a tenth of the largest among its neighbours."""

_FIRST_PAIRS, _MOST_ROUNDS = 8, 32
_VALUES_AT_ONCE = 2**18


@dataclass(frozen=True, kw_only=True)
class ShapleyValues:
    """Shapley values of n rows and P players.

    Attributes:
        values: float64 (n, P), on the device of the inputs; each row sums to ``prediction - baseline_value``.
        standard_error: float64 (n, P), the error of sampling in `values`; zeros when exact.
        baseline_value: float64 (n,), the function's mean over the background.
        prediction: float64 (n,), the function at the inputs.
        n_evaluations: rows that the function was given, all in all.
        exact: all coalitions were enumerated.
    """

    values: torch.Tensor
    standard_error: torch.Tensor
    baseline_value: torch.Tensor
    prediction: torch.Tensor
    n_evaluations: int
    exact: bool


def shapley(
    function: Function,
    inputs: torch.Tensor,
    background: torch.Tensor,
    *,
    players: torch.Tensor | None = None,
    n_samples: int | None = None,
    max_batch: int = 16384,
    seed: int = 0,
    tick: Callable[[int, int], object] | None = None,
) -> ShapleyValues:
    """Share ``function(input) - mean function(background)`` among the players of each row.

    A player that has joined brings the values of the input, one that has not those of a background row. Up to 12
    players all coalitions are enumerated. Beyond that, players join in random orders, each order paired with its
    reverse; every background row gets orders of its own, and all get equally many, so that a row's values add up
    exactly. Pairs cancel what lies in interactions of two: a function without higher ones is explained without error.
    The values of a row depend on the seed, not on the other rows nor on `max_batch` (but for when sampling stops
    without `n_samples`, which looks at the output's range over all rows).

    Args:
        function: takes a batch like `inputs`, and int64 ``rows`` that say which input each of its rows was made from,
            for targets and side inputs that differ between rows. Called without gradients.
        inputs: (n, ...) of any trailing shape and dtype, also int64 token ids.
        background: (m, ...) for all rows, or (n, m, ...) for rows with a background of their own, such as (n, 1, ...)
            for one baseline each; dtype and device of `inputs`.
        players: int64 in the shape of one input, the number of the player every element belongs to, from 0 to P - 1;
            None makes every element a player.
        n_samples: orders a row, rounded up to an even multiple of m (and at least 4). Enumeration takes over where it
            costs no more. None samples until every standard error is at most 1 % of the output's range, in at most 32
            rounds of a pair for every background row.
        max_batch: the most rows `function` is given at once.
        seed: of the orders; torch's own generators are left alone.
        tick: called between batches with the evaluations done and those planned so far; may raise to stop.

    Returns:
        Values with standard errors. These come from the spread of the pairs on the same background row; with one pair
        on each, from the spread over all, which is too large rather than too small.

    Raises:
        DLStudioError: shapes, dtypes or players do not fit, or the function returns something other than one finite
            number a row.

    Example:
        >>> found = shapley(lambda batch, rows: batch.prod(1), torch.tensor([[2.0, 3.0, 4.0]]), torch.zeros(1, 3))
        >>> found.values, found.exact
        (tensor([[8., 8., 8.]], dtype=torch.float64), True)
    """
    if n_samples is not None and (not isinstance(n_samples, int) or isinstance(n_samples, bool) or n_samples < 1):
        raise DLStudioError("n_samples of 1 or more", f"n_samples={n_samples!r}", "Try n_samples=1000.")
    with torch.no_grad():
        game = Mixtures(function, inputs, background, players, max_batch, tick)
        m, k = game.n_references, len(game.moving)
        rounds = None if n_samples is None else max(ceil(n_samples / (2 * m)), ceil(2 / m))
        exact = k <= EXACT_PLAYERS if rounds is None else 2**k - 2 <= 2 * rounds * (k - 1) or k <= 1
        prediction, at_background = game.ends()
        if exact:
            values = _enumerate(game, prediction, at_background)
            errors = torch.zeros_like(values)
        else:
            values, errors = _sample(game, prediction, at_background, rounds, seed)
        finite = values.isfinite().all(1) & prediction.isfinite()
        if not finite.all():
            bad = (~finite).nonzero().flatten()
            raise DLStudioError(
                "a finite output at the inputs, the background and every mixture of both",
                f"NaN or infinity in {len(bad)} of {len(values)} rows, first in row {int(bad[0])}",
                "Look at what the model does far from its training data, or choose a closer background.",
            )
        return ShapleyValues(
            values=game.to_all_players(values),
            standard_error=game.to_all_players(errors),
            baseline_value=at_background.mean(1),
            prediction=prediction,
            n_evaluations=game.n_evaluations,
            exact=exact,
        )


def _enumerate(game: Mixtures, prediction: torch.Tensor, at_background: torch.Tensor) -> torch.Tensor:
    """Return exact values (n, k) from the mean output of all 2^k coalitions."""
    k, m = len(game.moving), game.n_references
    if k == 0:
        return prediction.new_zeros(len(prediction), 0)
    coalitions = (torch.arange(2**k)[:, None] >> torch.arange(k)) & 1
    coalitions = coalitions.bool().to(game.device)
    n_inner = 2**k - 2
    game.n_planned += game.n_rows * m * n_inner
    worth = prediction.new_zeros(game.n_rows, 2**k)
    worth[:, 0], worth[:, -1] = at_background.mean(1), prediction
    at_once = max(1, _VALUES_AT_ONCE // max(1, n_inner))
    rows = torch.arange(game.n_rows, device=game.device)
    for part in blocks(game.n_rows if n_inner else 0, max(1, at_once // m)):
        for references in torch.arange(m, device=game.device).split(at_once):
            found = game.values(rows[part], references, n_inner, lambda _, step: coalitions[1:-1][None, step])
            worth[part, 1:-1] += found.sum(1) / m
    size = coalitions.sum(1, keepdim=True).cpu()
    joins = torch.tensor([1 / (k * comb(k - 1, max(0, s - 1))) for s in range(k + 1)], dtype=torch.float64)
    lacks = torch.tensor([1 / (k * comb(k - 1, min(s, k - 1))) for s in range(k + 1)], dtype=torch.float64)
    weights = torch.where(coalitions, joins[size].to(game.device), -lacks[size].to(game.device))
    return worth @ weights


def _sample(
    game: Mixtures, prediction: torch.Tensor, at_background: torch.Tensor, rounds: int | None, seed: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return values and standard errors (n, k) from random orders in antithetic pairs."""
    k, m = len(game.moving), game.n_references
    ends = torch.cat([prediction, at_background.flatten()])
    good = GOOD_ERROR * (ends.max() - ends.min())
    first = rounds or max(2, ceil(_FIRST_PAIRS / m))
    values = prediction.new_zeros(game.n_rows, k)
    errors = torch.zeros_like(values)
    game.n_planned += game.n_rows * 2 * m * first * (k - 1)
    references = torch.arange(m, device=game.device)
    for part in blocks(game.n_rows, max(1, _VALUES_AT_ONCE // (2 * m * first * (k + 1)))):
        # The same orders for every block of rows: a row's values must not depend on where it stands.
        generator = torch.Generator().manual_seed(seed)
        rows = torch.arange(game.n_rows, device=game.device)[part]
        sums, squares = values.new_zeros(2, len(rows), m, k)
        done, more = 0, first
        while True:
            keys = torch.rand(more * m, game.n_players, generator=generator).to(game.device)
            ranks = keys[:, game.moving].argsort(1).argsort(1)
            pairs = _pairs(game, rows, references.repeat(more), ranks, prediction, at_background)
            pairs = pairs.view(len(rows), more, m, k)
            sums += pairs.sum(1)
            squares += pairs.square().sum(1)
            done += more
            values[rows] = sums.sum(1) / (done * m)
            errors[rows] = _standard_error(sums, squares, done)
            largest = values[part].abs().amax(1)
            by_row = NOISY * torch.maximum(values[rows].abs().amax(1), 0.1 * largest.max())
            poor = errors[rows].amax(1) > torch.minimum(by_row, good)
            more = min(done, _MOST_ROUNDS - done)
            if rounds is not None or more <= 0 or not poor.any():
                break
            rows, sums, squares = rows[poor], sums[poor], squares[poor]
            game.n_planned += len(rows) * 2 * m * more * (k - 1)
    return values, errors


def _pairs(
    game: Mixtures,
    rows: torch.Tensor,
    references: torch.Tensor,
    ranks: torch.Tensor,
    prediction: torch.Tensor,
    at_background: torch.Tensor,
) -> torch.Tensor:
    """Return what each player adds on joining, (r, c, k): the mean of an order and its reverse.

    `ranks` (c, k) says when each player joins the background row of `references` (c,).
    """
    k = ranks.shape[1]
    ranks = torch.cat([ranks, k - 1 - ranks])
    references = references.repeat(2)
    small, steps = ranks.int()[:, None], torch.arange(k - 1, dtype=torch.int32, device=game.device)[:, None]
    inner = game.values(rows, references, k - 1, lambda chain, step: small[chain] <= steps[step])
    start = at_background[rows][:, references, None]
    end = prediction[rows, None, None].expand_as(start)
    gains = torch.cat([start, inner, end], dim=2).diff(dim=2)
    by_player = gains.gather(2, ranks.expand(len(rows), -1, -1))
    return by_player.view(len(rows), 2, -1, k).mean(1)


def _standard_error(sums: torch.Tensor, squares: torch.Tensor, rounds: int) -> torch.Tensor:
    """Return the standard error of the mean over background and rounds, (r, k), from sums over rounds (r, m, k)."""
    if rounds == 1:
        spread = sums.var(dim=1)
    else:
        spread = ((squares - sums.square() / rounds) / (rounds - 1)).clamp(min=0).mean(1)
    return (spread / (rounds * sums.shape[1])).sqrt()
