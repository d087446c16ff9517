"""Baselines and backgrounds: what inputs are compared with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from dlstudio.errors import DLStudioError
from dlstudio.explain.methods import Method
from dlstudio.results import Finding

__all__ = ["players_of", "references_of", "remarks_on"]


def references_of(given: Any, inputs: torch.Tensor, method: Method, columns: Sequence[str] = ()) -> torch.Tensor:
    """Return what `inputs` are compared with, in their type and on their device.

    Args:
        given: None for zeros (padding, for token ids), a number, one input without or with a row dimension, one a
            row, or for methods of a background any number of rows.
        inputs: (n, ...).
        method: whose reference it is.
        columns: names of the inputs' columns, which a DataFrame of references has to have too.

    Returns:
        (1, ...), (n, ...) or, for a background, (m, ...).

    Raises:
        DLStudioError: the shape does not fit, a value is not finite, or a background is needed and missing or of one
            row only.
    """
    what, shape = "baselines", tuple(inputs.shape[1:])
    many = method.reference == "background"
    averages = method.name in ("deep_lift_shap", "gradient_shap", "shap_deep", "shap_gradient")
    if given is None:
        if averages:
            raise DLStudioError(
                f"a background for {method.name}: rows that stand for the data",
                f"{what}=None",
                f"Pass {what}=training_inputs[:50], or compare with one baseline by method='integrated_gradients'.",
            )
        return torch.zeros((1, *shape), dtype=inputs.dtype, device=inputs.device)
    if isinstance(given, (tuple, list)) and any(isinstance(item, (torch.Tensor, np.ndarray)) for item in given):
        if len(given) != 1:
            raise DLStudioError(
                f"one tensor of {what} for the one tensor of inputs",
                f"{len(given)} of them",
                f"Stack them into one background: {what}=torch.cat([...]).",
            )
        given = given[0]
    names = getattr(given, "columns", getattr(given, "index", ()) if hasattr(given, "to_numpy") else ())
    if len(columns) and len(names) == len(columns) and list(map(str, names)) != list(columns):
        if sorted(map(str, names)) != sorted(columns):
            other = sorted(set(map(str, names)) - set(columns))
            raise DLStudioError(f"{what} with the columns of the inputs", f"columns {other[:5]}", "Align them by name.")
        places = [list(map(str, names)).index(column) for column in columns]
        given = given.iloc[:, places] if hasattr(given, "columns") else given.iloc[places]
    try:
        rows = torch.as_tensor(np.array(given)) if not isinstance(given, torch.Tensor) else given.detach()
    except (TypeError, ValueError) as error:
        raise DLStudioError(
            f"numbers as {what}", f"{type(given).__name__} ({error})", "Encode them as the inputs are."
        ) from None
    if not inputs.is_floating_point() and rows.is_floating_point():
        raise DLStudioError(
            f"whole numbers as {what}, as the inputs are",
            f"{rows.dtype} values",
            "Pass for instance the id of padding.",
        )
    if not torch.isfinite(rows).all():
        bad = int((~torch.isfinite(rows)).sum())
        raise DLStudioError(f"finite {what}", f"{bad:,} NaN or infinite values", "Fill them first.")
    rows = rows.to(dtype=inputs.dtype, device=inputs.device)
    if rows.dim() == 0:
        rows = rows.expand((1, *shape)).clone()
    elif tuple(rows.shape) == shape:
        rows = rows.unsqueeze(0)
    if tuple(rows.shape[1:]) != shape or len(rows) == 0:
        wanted = f"(m, {', '.join(map(str, shape))})" if many else f"(1 or {len(inputs)}, {', '.join(map(str, shape))})"
        raise DLStudioError(
            f"{what} of shape {wanted} for inputs of shape {tuple(inputs.shape)}",
            f"shape {tuple(rows.shape)}",
            "Give every feature of an input a baseline.",
        )
    if not many and len(rows) not in (1, len(inputs)):
        raise DLStudioError(
            f"one baseline, or one for each of {len(inputs):,} rows, for {method.name}",
            f"{len(rows):,} rows",
            f"Average them ({what}.mean(0)), or use a method of a background, such as shapley or deep_lift_shap.",
        )
    if averages and len(rows) < 2:
        single = {"shap_gradient": "integrated_gradients", "gradient_shap": "integrated_gradients"}.get(
            method.name, "deep_lift"
        )
        raise DLStudioError(
            f"a background of two rows or more for {method.name}",
            "one row",
            f"Pass training rows, or use method={single!r}, which compares with one baseline.",
        )
    return rows


def players_of(mask: Any, inputs: torch.Tensor) -> torch.Tensor | None:
    """Return which player each number of an input belongs to, int64 in the shape of one input.

    Raises:
        DLStudioError: the shape does not fit, or players are not numbered 0, 1, 2, …
    """
    if mask is None:
        return None
    players = torch.as_tensor(mask)
    shape = tuple(inputs.shape[1:])
    if players.dim() == len(shape) + 1 and len(players) == 1:
        players = players[0]
    try:
        players = players.expand(shape)
    except RuntimeError:
        raise DLStudioError(
            f"a feature_mask of shape {shape}", f"shape {tuple(players.shape)}", "Number the player of every feature."
        ) from None
    if players.is_floating_point() or players.dtype == torch.bool:
        raise DLStudioError("whole numbers in feature_mask", f"{players.dtype}", "Number the players 0, 1, 2, …")
    players = players.long().contiguous()
    found = torch.unique(players).tolist()
    if found != list(range(len(found))):
        raise DLStudioError(
            "players numbered 0, 1, 2, … without a gap",
            f"{found[:10]}",
            "Renumber: torch.unique(mask, return_inverse=True)[1].",
        )
    return players.to(inputs.device)


def remarks_on(spec: Method, inputs: torch.Tensor, references: torch.Tensor, baselines: Any) -> list[Finding]:
    """Say of references what may not have been meant: pairs, rows equal to them, features that never vary, zeros."""
    if spec.reference == "none":
        return []
    found = []
    if spec.reference == "baseline" and len(references) == len(inputs) > 1:
        found.append(
            _remark(
                "DLS409",
                "As many baselines as rows came: every row is compared with the baseline of the same number.",
                "If they were meant as a background, use deep_lift_shap, gradient_shap or shapley.",
            )
        )
    if spec.reference == "baseline":
        same = int((inputs == references).flatten(1).all(dim=1).sum())
        if same:
            words = f"{same:,} of {len(inputs):,} rows equal their baseline, so that nothing is left to attribute."
            found.append(_remark("DLS409", words, "Choose a baseline that means 'nothing known'."))
    if len(references) > 1 and spec.reference == "background":
        flat = references.flatten(1)
        constant = int((flat == flat[0]).all(dim=0).sum())
        if constant > 0:
            words = f"{constant:,} of {flat.shape[1]:,} features never vary in the background."
            found.append(_remark("DLS413", words, "A row that shares their value gets an attribution of 0 there."))
    if baselines is None and not inputs.is_floating_point():
        found.append(
            _remark("DLS409", "Tokens are compared with token 0, taken as padding.", "Pass baselines= its id.")
        )
    elif baselines is None:
        found.append(
            _remark("DLS409", "Inputs are compared with zeros.", "Pass baselines= what stands for 'nothing known'.")
        )
    return found


def _remark(code: str, sentence: str, remedy: str) -> Finding:
    return Finding(code=code, severity="info", sentence=sentence, remedy=remedy)
