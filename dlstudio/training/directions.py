"""Which way a metric is better, told from its name."""

from __future__ import annotations

import re
from typing import Literal

from dlstudio.errors import DLStudioError, unknown_name

__all__ = ["Direction", "direction_of"]

Direction = Literal["max", "min"]

LESS = (
    "loss", "error", "err", "mae", "mse", "rmse", "mape", "smape", "mase", "msle", "rmsle", "crps", "brier", "ece",
    "mce", "nll", "perplexity", "ppl", "bpb", "bpc", "bpd", "bits", "latency", "wer", "cer", "ter", "eer", "fid", "kid",
    "lpips", "deviance", "hinge", "gap", "difference", "distance", "regret", "time", "walltime", "duration", "seconds",
    "sec", "memory", "size", "parameters", "params", "flops", "macs", "bytes", "cost", "misclassification", "mismatch",
    "entropy", "crossentropy", "divergence", "kl", "ms", "mb", "gb", "mib", "gib", "davies", "bouldin", "fpr", "fnr",
    "fdr", "false",
)  # fmt: skip
MORE = (
    "auc", "auroc", "auprc", "aucpr", "accuracy", "acc", "f1", "fbeta", "fscore", "precision", "recall", "sensitivity",
    "specificity", "r2", "map", "ap", "score", "iou", "dice", "jaccard", "bleu", "rouge", "meteor", "ndcg", "mrr",
    "mcc", "kappa", "likelihood", "elbo", "psnr", "ssim", "snr", "throughput", "fps", "speedup", "reward", "return",
    "correlation", "spearman", "pearson", "similarity", "top", "pass", "match", "explained", "predictive",
    "silhouette", "tpr", "tnr", "ppv", "npv", "true", "hit", "win", "success",
)  # fmt: skip
ALWAYS_MORE = ("skill", "saving", "saved", "improvement", "gain", "lift", "uplift")
"""Of whatever they are: the skill of a Brier score, savings of cost."""
FLIPPED = ("drop", "decrease", "reduction", "decline", "degradation")
"""A drop of what should be high is bad, one of what should be low is good."""
NEGATED = ("neg", "negative", "minus")
PER_TIME = re.compile(r" per (s|secs?|seconds?|mins?|minutes?|hours?|h)( |$)")


def direction_of(metric: str, direction: str | None = None) -> Direction:
    """Return whether more of a metric is better (``"max"``) or less (``"min"``).

    Args:
        metric: its name; words in it tell, those after the last slash first, ``loss`` before ``score``. Words such as
            ``neg`` and ``drop`` turn the others round.
        direction: as given; None to infer it.

    Raises:
        DLStudioError: the direction is unknown, or the name does not tell.

    Example:
        >>> direction_of("val/loss"), direction_of("test/f1_macro"), direction_of("accuracy_drop")
        ('min', 'max', 'min')
    """
    if direction is not None:
        if direction not in ("max", "min"):
            raise unknown_name("direction", direction, ("max", "min"))
        return "max" if direction == "max" else "min"
    for part in reversed(metric.split("/")):
        found = _of_words(_words(part))
        if found is not None:
            return found
    raise DLStudioError(
        "a metric whose name tells which way is better", repr(metric), 'Pass direction="max" or direction="min".'
    )


def _words(part: str) -> list[str]:
    return [word for word in re.split(r"[^a-z0-9]+", re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", part).lower()) if word]


def _of_words(words: list[str]) -> Direction | None:
    text, n_times = PER_TIME.subn(" ", " ".join(words))
    words = text.split()
    if any(_is(word, ALWAYS_MORE) for word in words):
        return "max"
    # As the last of several words, s is seconds: wall_s.
    less = any(_is(word, LESS) or word.endswith(("loss", "error")) for word in words) or words[1:][-1:] == ["s"]
    if not less and not any(_is(word, MORE) or word.endswith(("auc", "accuracy")) for word in words):
        return "max" if n_times else None  # whatever is done in a second
    # scikit-learn's scorers of losses are negated, so that more is better; a negative predictive value is not.
    turned = (words[0] in NEGATED and "predictive" not in words) + any(_is(word, FLIPPED) for word in words)
    return "min" if less != (turned % 2 == 1) else "max"


def _is(word: str, known: tuple[str, ...]) -> bool:
    """Whether a word is known, in the plural or with a number behind it too."""
    return any(form in known for form in (word, word.rstrip("0123456789"), word.removesuffix("s")))
