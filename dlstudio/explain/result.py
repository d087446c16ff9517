"""What `explain` returns: attributions, what they add up to, and whether they hold."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from dlstudio.results import Finding, Result

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Explanation", "names_of"]


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Explanation(Result, schema=1):
    """Attributions of a model's output to its inputs, for n rows, with the evidence for and against them.

    Every attribution is in the unit of the explained output: a logit for classes, the target's own unit for a
    regression. A positive one pushed the output up.

    Attributes:
        method, why: how it was computed, such as ``"integrated_gradients"``; why that method was chosen, empty
            where the caller chose it.
        modality: ``"tabular"``, ``"image"``, ``"text"`` or ``"sequence"``.
        attributions: float (n, ...) in the shape of the inputs; tabular (n, columns), one per original column where
            columns were encoded; text (n, length), one per token; the layer's shape for a layer's own attributions.
            Numbers that are one player of `feature_mask` all carry the value of that player.
        standard_error: of the attributions, same shape, from repeats with other random numbers; None where nothing
            is random.
        baseline_value: float (n,), the explained output at the baseline, or its mean over the background.
        prediction: float (n,), the explained output at the inputs.
        gap: the largest completeness gap, ``|sum(attributions) - (prediction - baseline_value)|`` over the range of
            the output; None for a method that promises no completeness.
        gaps: the same row by row, float (n,); None as `gap`.
        output_range: the range of the explained output over inputs and baselines.
        verdict: ``"ok"``, ``"suspect"`` or ``"refused"``; refused numbers are kept for inspection, and no face draws
            them.
        findings: what speaks for the verdict, with remedies; codes DLS401 to DLS419.
        feature_mask: int64 in the shape of one input, the player that every number belongs to; None where each is its
            own.
        inputs: what was explained, in the shape of `attributions`: raw numbers of tabular columns (the code of a
            category), pixels, values over time, or int64 token ids.
        labels: text (n, columns) or (n, length): what tabular values and tokens read as; None otherwise.
        feature_names: columns, or channels; () for images and text.
        class_names: one per output; () for a regression.
        target: int64 (n,), the output explained in each row.
        outputs: float (n, k), all outputs of the model at the inputs (logits for classes).
        rows: int64 (n,), the row numbers in the data set, or 0 to n - 1.
        y_true: (n,) the true targets of a run's rows; None otherwise, also of changed rows.
        layer: name of the layer whose activations were used; empty for none.
        model, run: the model's class; the run's key, empty without a run.
        settings: seed, numbers of steps and samples; of a run's rows ``"compared_with"``, in words, where the method
            compares them with anything.
        n_evaluations: rows that the model was given, all in all.
        wall_s, gate_s: seconds in all; seconds of these that the checks took.

    Example:
        >>> e = dls.explain(model, inputs, target=1, method="integrated_gradients")
        >>> e.verdict, e.gap, e.attributions.shape
        ('ok', 0.0021, (100, 20))
    """

    method: str
    why: str = ""
    modality: str
    attributions: npt.NDArray[Any]
    standard_error: npt.NDArray[Any] | None = None
    baseline_value: npt.NDArray[Any]
    prediction: npt.NDArray[Any]
    gap: float | None
    gaps: npt.NDArray[Any] | None
    output_range: float
    verdict: str
    findings: tuple[Finding, ...] = ()
    feature_mask: npt.NDArray[np.int64] | None = None
    inputs: npt.NDArray[Any]
    labels: npt.NDArray[Any] | None = None
    feature_names: tuple[str, ...] = ()
    class_names: tuple[str, ...] = ()
    target: npt.NDArray[np.int64]
    outputs: npt.NDArray[Any]
    rows: npt.NDArray[np.int64]
    y_true: npt.NDArray[Any] | None = None
    layer: str = ""
    model: str = ""
    run: str = ""
    settings: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    n_evaluations: int = 0
    wall_s: float = 0.0
    gate_s: float = 0.0

    def __len__(self) -> int:
        return len(self.attributions)

    @property
    def reasons(self) -> tuple[str, ...]:
        """Why the verdict is what it is, one sentence with its remedy each."""
        return tuple(f"{finding.sentence} {finding.remedy}".strip() for finding in self.findings)

    @property
    def shares(self) -> npt.NDArray[Any]:
        """The attributions with the value of a player shared among its members, so that all of a row add up."""
        return self.attributions / self._members if self.feature_mask is not None else self.attributions

    @property
    def error_shares(self) -> npt.NDArray[Any] | None:
        """The standard errors of `shares`."""
        if self.standard_error is None or self.feature_mask is None:
            return self.standard_error
        return self.standard_error / self._members

    @property
    def _members(self) -> npt.NDArray[np.int64]:
        mask = self.feature_mask
        assert mask is not None
        return np.bincount(mask.reshape(-1))[mask]

    @property
    def by_feature(self) -> npt.NDArray[Any]:
        """`shares` as (n, features): columns, tokens, pixels (summed over channels), or time steps × channels."""
        values = self.shares
        if self.modality == "image" and values.ndim == 4:
            values = values.sum(axis=1)
        flat: npt.NDArray[Any] = values.reshape(len(values), -1)
        return flat

    @property
    def importance(self) -> npt.NDArray[Any]:
        """Mean |attribution| of every feature of `by_feature`, float (features,)."""
        mean: npt.NDArray[Any] = np.abs(self.by_feature).mean(axis=0)
        return mean

    def frame(self) -> pd.DataFrame:
        """Return a row per explained row and feature: ``row, feature, value, attribution, standard_error``.

        Features of images and sequences are named by their place, such as ``"12,7"``.
        """
        import pandas as pd

        values = self.by_feature
        n, k = values.shape
        error = None if self.error_shares is None else _like(self.error_shares, self)
        shown = self.labels if self.labels is not None else _inputs_by_feature(self)
        return pd.DataFrame(
            {
                "row": np.repeat(self.rows, k),
                "feature": np.tile(np.array(names_of(self), dtype=object), n),
                "value": shown.reshape(-1) if shown.shape == values.shape else None,
                "attribution": values.reshape(-1),
                "standard_error": np.nan if error is None else error.reshape(-1),
            }
        )


def names_of(explanation: Explanation) -> list[str]:
    """Return a name for every feature of ``explanation.by_feature``."""
    values = explanation.attributions
    names = explanation.feature_names
    if explanation.modality == "image" and values.ndim == 4:
        return [f"{row},{column}" for row in range(values.shape[2]) for column in range(values.shape[3])]
    if explanation.modality == "sequence" and values.ndim == 3 and len(names) == values.shape[2]:
        return [f"{name} at {step}" for step in range(values.shape[1]) for name in names]
    if values.ndim == 2 and len(names) == values.shape[1]:
        return list(names)
    if explanation.modality == "text":
        return [f"token {place}" for place in range(values.shape[1])]
    return [",".join(map(str, place)) for place in np.ndindex(values.shape[1:])]


def _like(errors: npt.NDArray[Any], explanation: Explanation) -> npt.NDArray[Any]:
    """Standard errors in the shape of `by_feature`; those of summed channels add in squares."""
    if explanation.modality == "image" and errors.ndim == 4:
        errors = np.sqrt((errors**2).sum(axis=1))
    return errors.reshape(len(errors), -1)


def _inputs_by_feature(explanation: Explanation) -> npt.NDArray[Any]:
    inputs = explanation.inputs
    if explanation.modality == "image" and inputs.ndim == 4:
        inputs = inputs.mean(axis=1)
    return inputs.reshape(len(inputs), -1)
