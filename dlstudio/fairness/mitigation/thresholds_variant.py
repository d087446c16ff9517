"""Thresholds by group of a run, as a run of its own that can be launched, audited and compared."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from dlstudio.errors import DLStudioError
from dlstudio.fairness.mitigation.parent import parent_of
from dlstudio.fairness.mitigation.thresholds import GroupThresholds, group_thresholds
from dlstudio.results import save
from dlstudio.training.evaluate import write_predictions
from dlstudio.training.metrics import score
from dlstudio.training.predicted import Predicted, predictions_of

if TYPE_CHECKING:
    from dlstudio.runs.recorder import Recorder

__all__ = ["thresholds_variant"]

OPTIONS = ("criterion", "max_gap", "threshold", "min_denominator")
FARTHEST = 30.0
"""Logits as far as this from 0 are decided for certain, in float32 as well."""


def thresholds_variant(rec: Recorder, config: Mapping[str, Any]) -> None:
    """Decide what a run predicts by thresholds by group, see `group_thresholds`; a function to launch.

    Thresholds are found on the validation part. Afterwards the new run has predictions of its own, so that it can be
    audited, evaluated and compared like the run it came from, which stays as it is. Its scores are that run's, moved so
    that 0.5 is the threshold of a row's group: they rank the rows of a group as before, but are no probabilities any
    more. It has no weights: decisions need the sensitive feature, which no model is given here.

    Args:
        rec: the recorder of the new run.
        config: ``"run"``, the name or key of a run of two classes on a bundled table; ``"sensitive_features"``, the
            name of a column, or several; and options of `group_thresholds` (criterion, max_gap, threshold,
            min_denominator).

    Raises:
        DLStudioError: a setting is missing or unknown, the run has no columns to tell groups by, fewer than two groups
            are large enough, or one of the test part is not in the validation part.

    Example:
        >>> fairer = dls.launch(
        ...     dls.thresholds_variant, config={"run": "my-run", "sensitive_features": ["race"], "max_gap": 0.05}
        ... )
        >>> dls.audit_fairness(fairer, sensitive_features=["race"])
    """
    parent = parent_of(config, OPTIONS)
    if parent.task != "binary":
        raise DLStudioError("a run of two classes", f"a {parent.task} run", "Thresholds decide between two classes.")
    val, test = (predictions_of(parent.run, split) for split in ("val", "test"))
    options = {name: config[name] for name in OPTIONS if name in config}
    found = group_thresholds(val.y_true, val.y_score, _groups(val, parent.columns), **options)
    parts = {}
    for split, part in (("val", val), ("test", test)):
        parts[split] = (_outputs(found, part, parent.columns), part.y_true, part.rows)
        metrics = score("binary", part.y_true, parts[split][0])
        rec.log({f"{split}/{name}": value for name, value in metrics.items()}, step=1)
    folder = rec.run.folder
    parent.write_checkpoint(folder, "thresholds by group", scores_are_probabilities=False)
    write_predictions(folder / "results" / "predictions.npz", "binary", parts)
    save(found, folder / "results", "group-thresholds")


def _groups(part: Predicted, columns: tuple[str, ...]) -> Any:
    assert part.frame is not None
    return part.frame[list(columns)]


def _outputs(found: GroupThresholds, part: Predicted, columns: tuple[str, ...]) -> npt.NDArray[np.float64]:
    """Logits of both classes, float64 (n, 2), that decide as the thresholds do."""
    groups = _groups(part, columns)
    decided = found.predict(part.y_score, groups) == 1
    with np.errstate(divide="ignore", invalid="ignore"):
        away = _logit(np.asarray(part.y_score, dtype=np.float64)) - _logit(found.of(groups, len(part)))
    away = np.clip(np.nan_to_num(away, nan=0.0), -FARTHEST, FARTHEST)
    # A score at its threshold is decided as class 1, and rounding must not decide otherwise.
    away = np.where(decided, np.maximum(away, 1e-6), np.minimum(away, -1e-6))
    return np.stack([np.zeros(len(away)), away], axis=1)


def _logit(share: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    inside = np.clip(share, 0, 1)
    logits: npt.NDArray[np.float64] = np.where(np.isinf(share), np.sign(share) * np.inf, np.log(inside / (1 - inside)))
    return logits
