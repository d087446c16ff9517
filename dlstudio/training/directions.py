"""Which way a metric is better, told from its name."""

from __future__ import annotations

import re
from typing import Literal

from dlstudio.errors import DLStudioError, unknown_name

__all__ = ["Direction", "direction_of"]

Direction = Literal["max", "min"]

LESS = (
    "loss", "error", "err", "mae", "mse", "rmse", "mape", "brier", "ece", "nll", "perplexity", "ppl", "latency", "wer",
    "cer", "eer", "fid", "deviance", "hinge", "gap", "difference", "rmsle", "regret", "time", "memory", "size",
    "parameters", "cost", "misclassification", "entropy", "divergence", "ms", "mib",
)  # fmt: skip
MORE = (
    "auc", "auroc", "auprc", "accuracy", "acc", "f1", "precision", "recall", "sensitivity", "specificity", "r2", "map",
    "score", "iou", "dice", "bleu", "rouge", "ndcg", "mrr", "mcc", "kappa", "likelihood", "elbo", "psnr", "ssim",
    "throughput", "reward", "return", "correlation", "spearman", "pearson", "top1", "top5",
)  # fmt: skip


def direction_of(metric: str, direction: str | None = None) -> Direction:
    """Return whether more of a metric is better (``"max"``) or less (``"min"``).

    Args:
        metric: its name; words in it tell, ``loss`` before ``score``.
        direction: as given; None to infer it.

    Raises:
        DLStudioError: the direction is unknown, or the name does not tell.

    Example:
        >>> direction_of("val/loss"), direction_of("test/f1_macro")
        ('min', 'max')
    """
    if direction is not None:
        if direction not in ("max", "min"):
            raise unknown_name("direction", direction, ("max", "min"))
        return "max" if direction == "max" else "min"
    words = re.split(r"[^a-z0-9]+", re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", metric).lower())
    if any(word in LESS for word in words):
        # scikit-learn's scorers of losses are negated, so that more is better.
        return "max" if "neg" in words else "min"
    if any(word in MORE for word in words):
        return "max"
    raise DLStudioError(
        "a metric whose name tells which way is better", repr(metric), 'Pass direction="max" or direction="min".'
    )
