"""What is attacked and corrupted, read from arrays or from a run: inputs in raw units, and their limits."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from dlstudio.errors import DLStudioError
from dlstudio.running import no_memory, out_of_memory
from dlstudio.trust.attacks import Answer, answer_of
from dlstudio.trust.corruptions import MODALITIES

__all__ = ["Given", "given_of"]


@dataclasses.dataclass(kw_only=True, eq=False)
class Given:
    """A model with rows in raw units, on the model's device.

    Attributes:
        model: called with what `to_model` makes of raw rows.
        raw, targets: (n, …) and (n,).
        rows: int64 (n,), their numbers.
        modality: ``"tabular"``, ``"sequence"``, ``"image"`` or ``"text"``.
        bounds: the smallest and largest raw value.
        spread: the typical standard deviation of an input, in raw units.
        fill: what stands where an input is missing.
        unit: of raw inputs, in words.
        splits: the rows of every part of a run's data.
    """

    model: Any
    raw: torch.Tensor
    targets: torch.Tensor
    rows: npt.NDArray[np.int64]
    modality: str
    mean: torch.Tensor | None = None
    std: torch.Tensor | None = None
    bounds: tuple[float, float] = (-math.inf, math.inf)
    spread: float = 1.0
    fill: torch.Tensor
    mask: torch.Tensor | None = None
    column_of_feature: tuple[str, ...] = ()
    unit: str = "units of the inputs"
    splits: Mapping[str, npt.NDArray[np.int64]] = dataclasses.field(default_factory=dict)
    data: str = ""
    run: str = ""

    @property
    def parts(self) -> str:
        """What goes missing."""
        return {"tabular": "columns", "sequence": "time steps", "image": "pixels", "text": "tokens"}[self.modality]

    @property
    def blur_unit(self) -> str:
        """Of the strength of a blur."""
        return "time steps" if self.modality == "sequence" else "pixels"

    def forward(self, raw: torch.Tensor) -> torch.Tensor:
        """Return the model's outputs for raw rows."""
        given = raw
        if self.mean is not None:
            given = given - self.mean
        if self.std is not None:
            given = given / self.std
        outputs: torch.Tensor = self.model(given)
        return outputs

    def answer(self, at_most: int = 256) -> Answer:
        """Judge from the first rows, fewer where memory runs out, how the model answers.

        Raises:
            DLStudioError: it cannot take the inputs, or its outputs do not fit the targets or are not finite.
        """
        n = min(len(self.raw), at_most)
        try:
            with torch.no_grad():
                outputs = self.forward(self.raw[:n])
        except (RuntimeError, ValueError, TypeError, IndexError) as error:
            if out_of_memory(error):
                if n == 1:
                    raise no_memory(error) from error
                return self.answer(n // 2)
            shape = f"{self.raw.dtype} of shape {tuple(self.raw.shape)}"
            raise DLStudioError(
                f"a model that takes {shape}",
                f"{type(error).__name__}: {error}",
                "Pass inputs as the model takes them.",
            ) from error
        answer = answer_of(outputs, self.targets[:n])
        if not bool(torch.isfinite(outputs).all()):
            raise DLStudioError("finite outputs for inputs as they are", "NaN or infinity", "Check model and inputs.")
        return answer


def given_of(
    model: Any,
    inputs: Any,
    targets: Any,
    *,
    rows: Any,
    n_rows: int,
    mean: Any,
    std: Any,
    bounds: tuple[float, float] | None,
    mask: Any,
    column_of_feature: Sequence[str],
) -> Given:
    """Read what was given to `assess_robustness`, and check it.

    Raises:
        DLStudioError: something is missing or does not fit.
    """
    from dlstudio.runs.run import Run

    unit, data, run, fill = "units of the inputs", "", "", None
    splits: Mapping[str, npt.NDArray[np.int64]] = {}
    if isinstance(model, (str, Run)):
        if inputs is not None or targets is not None:
            raise DLStudioError("a run alone", "inputs or targets beside it", "Choose rows of its data with rows=[…].")
        found = _of_run(model, rows, n_rows)
        model, inputs, targets, numbers = found.model, found.inputs, found.targets, found.rows
        data, run, fill = found.data, found.run, found.fill
        column_of_feature = column_of_feature or found.column_of_feature
        mask = found.mask if mask is None else mask
        unit, splits = found.unit, found.splits
    else:
        if not callable(model):
            raise DLStudioError("a module, a function or a run", type(model).__name__, "Pass what gives outputs.")
        if inputs is None or targets is None:
            raise DLStudioError("inputs and targets beside a model", "none", "Pass assess_robustness(model, x, y).")
        if rows is not None:
            raise DLStudioError("rows= for a run only", "rows beside inputs", "Pass the rows themselves as inputs.")
        numbers = np.zeros(0, dtype=np.int64)
    like = next(iter(model.parameters()), None) if isinstance(model, nn.Module) else None
    taken = _tensor(inputs, like)
    numbers = numbers if run else np.arange(len(taken), dtype=np.int64)
    wanted = _targets(targets, len(taken), taken)
    modality = "text" if not taken.is_floating_point() else MODALITIES.get(taken.ndim, "")
    if not modality or (modality == "text" and taken.ndim != 2):
        shapes = "float inputs (n, features), (n, time, channels) or (n, channels, height, width), or token ids"
        raise DLStudioError(shapes, f"{taken.dtype} of shape {tuple(taken.shape)}", "Reshape the inputs.")
    middle, scale = _per_channel("mean", mean, taken, modality), _per_channel("std", std, taken, modality)
    if scale is not None and bool((scale <= 0).any()):
        raise DLStudioError("std above 0", f"std={std!r}", "Leave constant inputs at std=1.")
    raw = taken if scale is None else taken * scale
    raw = raw if middle is None else raw + middle
    limits = _bounds(bounds, raw, modality)
    if modality == "image" and math.isfinite(limits[1]) and limits == (0.0, 1.0):
        unit = "of the pixel range 0 to 1"
    elif modality == "image" and math.isfinite(limits[1]):
        unit = f"of the pixel range {limits[0]:g} to {limits[1]:g}"
    columns = tuple(column_of_feature) if modality == "tabular" else ()
    if columns and len(columns) != raw.shape[1]:
        raise DLStudioError(
            f"a column for each of {raw.shape[1]} features", f"{len(columns)} column_of_feature", "Name all of them."
        )
    changeable = _mask(mask, raw)
    return Given(
        model=model,
        raw=raw,
        targets=wanted,
        rows=numbers,
        modality=modality,
        mean=middle,
        std=scale,
        bounds=limits,
        spread=_spread(raw, changeable),
        fill=_fill(raw, modality) if fill is None else fill.to(raw),
        mask=changeable,
        column_of_feature=columns,
        unit=unit,
        splits=splits,
        data=data,
        run=run,
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class _OfRun:
    model: nn.Module
    inputs: torch.Tensor
    targets: torch.Tensor
    rows: npt.NDArray[np.int64]
    fill: torch.Tensor | None
    mask: torch.Tensor | None
    column_of_feature: tuple[str, ...]
    unit: str
    splits: Mapping[str, npt.NDArray[np.int64]]
    data: str
    run: str


def _of_run(run: Any, rows: Any, n_rows: int) -> _OfRun:
    from dlstudio.runs.run import open_run
    from dlstudio.training.checkpoint import load_model
    from dlstudio.training.predicted import predictions_of

    run = open_run(run) if isinstance(run, str) else run
    predicted = predictions_of(run)
    dataset = predicted.dataset
    if dataset is None:
        raise DLStudioError(
            "a run of a named data set",
            f"{run.name!r}, trained on data of your own",
            "Pass model and data: assess_robustness(dls.load_model(run), x, y).",
        )
    chosen = predicted.rows[:n_rows] if rows is None else np.atleast_1d(np.asarray(rows))
    if chosen.dtype.kind not in "iu" or chosen.ndim != 1 or not len(chosen):
        raise DLStudioError("row numbers of the data set", repr(rows), "Pass for instance [0, 5, 17].")
    bad = chosen[(chosen < 0) | (chosen >= len(dataset))]
    if len(bad):
        raise DLStudioError(f"row numbers from 0 to {len(dataset) - 1:,}", f"{int(bad[0])}", "Choose rows of the data.")
    fill, mask, unit = None, None, "units of the inputs"
    train = dataset.inputs[torch.from_numpy(dataset.splits["train"])]
    if dataset.modality == "tabular":
        # Yes-or-no and one-hot columns cannot change a little: there is nothing between their values.
        mask = torch.tensor([len(column.unique()) > 2 for column in train.T])
        unit = "standard deviations of the columns"
        fill = train.mean(dim=0)
    return _OfRun(
        model=load_model(run),
        inputs=dataset.inputs[torch.from_numpy(chosen)],
        targets=dataset.targets[torch.from_numpy(chosen)],
        rows=chosen.astype(np.int64),
        fill=fill,
        mask=mask,
        column_of_feature=tuple(dataset.column_of_feature),
        unit=unit,
        splits=dataset.splits,
        data=dataset.name,
        run=run.key,
    )


def _tensor(given: Any, like: torch.Tensor | None) -> torch.Tensor:
    try:
        array = given.to_numpy() if hasattr(given, "columns") else given
        tensor = array.detach() if isinstance(array, torch.Tensor) else torch.as_tensor(np.asarray(array))
    except (TypeError, ValueError) as error:
        raise DLStudioError("inputs as numbers", str(error), "Encode text and categories first.") from error
    if tensor.ndim < 2 or not len(tensor):
        raise DLStudioError("at least one row of inputs", f"shape {tuple(tensor.shape)}", "Pass inputs (n, …).")
    if tensor.is_floating_point() and like is not None and like.is_floating_point():
        tensor = tensor.to(like.dtype)
    if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
        raise DLStudioError("finite inputs", "NaN or infinity", "Fill or drop those rows first.")
    # A copy: inputs of inference mode could not be followed by gradients.
    with torch.inference_mode(False):
        return tensor.to(tensor.device if like is None else like.device).clone()


def _numbers(name: str, given: Any) -> torch.Tensor:
    try:
        return given if isinstance(given, torch.Tensor) else torch.as_tensor(np.asarray(given))
    except (TypeError, ValueError) as error:
        raise DLStudioError(f"{name} as numbers", f"{name}={given!r}"[:120], "Encode text first.") from error


def _targets(given: Any, n: int, like: torch.Tensor) -> torch.Tensor:
    array = _numbers("targets", given)
    with torch.inference_mode(False):
        array = array.detach().reshape(-1).clone()
    if len(array) != n:
        raise DLStudioError(f"{n:,} targets, one a row", f"{len(array):,}", "Align inputs and targets.")
    if array.is_floating_point():
        if not bool(torch.isfinite(array).all()):
            raise DLStudioError("finite targets", "NaN or infinity", "Drop those rows first.")
        return array.to(like.device, like.dtype if like.is_floating_point() else torch.float32)
    return array.long().to(like.device)


def _per_channel(name: str, given: Any, inputs: torch.Tensor, modality: str) -> torch.Tensor | None:
    if given is None:
        return None
    values = _numbers(name, given).to(inputs)
    if modality == "image" and values.ndim == 1 and len(values) > 1:
        values = values.view(-1, 1, 1)
    try:
        torch.broadcast_shapes(values.shape, inputs.shape[1:])
    except RuntimeError:
        raise DLStudioError(
            f"{name} as a number, or one per channel or feature",
            f"shape {tuple(values.shape)} for inputs of shape {tuple(inputs.shape[1:])}",
            "Pass the values that inputs were normalised with.",
        ) from None
    return values


def _bounds(given: Any, raw: torch.Tensor, modality: str) -> tuple[float, float]:
    least, most = (float(raw.min()), float(raw.max())) if raw.is_floating_point() else (0.0, 0.0)
    slack = 1e-4 * max(1.0, abs(most))  # normalising and back rounds
    if given is None:
        if modality != "image" or least < -slack:
            return -math.inf, math.inf
        return next(((0.0, top) for top in (1.0, 255.0) if most <= top + slack), (-math.inf, math.inf))
    try:
        low, high = (float(side) for side in given)
    except (TypeError, ValueError) as error:
        raise DLStudioError("bounds of two numbers", f"bounds={given!r}"[:120], "Pass (0.0, 1.0), say.") from error
    if not low < high or least < low - slack or most > high + slack:
        raise DLStudioError(
            f"bounds around the raw inputs, which go from {least:g} to {most:g}", f"bounds={given!r}", "Widen them."
        )
    return low, high


def _spread(raw: torch.Tensor, mask: torch.Tensor | None) -> float:
    """The median standard deviation of an input, of those that vary and may change; 1 where none does."""
    if not raw.is_floating_point() or len(raw) < 2:
        return 1.0
    spreads = raw.double().std(dim=0)
    spreads = spreads.flatten() if mask is None else spreads[mask]
    spreads = spreads[spreads > 0]
    return float(f"{float(spreads.median()):.2g}") if len(spreads) else 1.0


def _fill(raw: torch.Tensor, modality: str) -> torch.Tensor:
    if modality == "text":
        return torch.zeros((), dtype=raw.dtype)
    if modality == "image":
        return raw.mean(dim=(0, 2, 3), keepdim=True)[0]
    return raw.mean(dim=(0, 1) if modality == "sequence" else 0)


def _mask(given: Any, raw: torch.Tensor) -> torch.Tensor | None:
    if given is None:
        return None
    mask = _numbers("mask", given)
    try:
        whole = mask.bool().expand(raw.shape[1:])
    except RuntimeError:
        raise DLStudioError(
            f"a mask of one row's shape {tuple(raw.shape[1:])}", f"{tuple(mask.shape)}", "Pass a bool per input."
        ) from None
    if not bool(whole.any()):
        raise DLStudioError("an input that may change", "a mask that allows none", "Allow some, or attacks=().")
    return whole.to(raw.device)
