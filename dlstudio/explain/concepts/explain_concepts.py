"""Concepts: whether a direction that examples name, such as "striped", moves what a model says.

Testing with concept activation vectors (Kim et al. 2018), with one change that makes its test hold: every repeat
learns from examples of its own, of the concept as of random ones. Repeats that share the concept's examples agree
with each other by chance, and a test that takes them for independent finds concepts that are not there.
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from dlstudio.errors import DLStudioError
from dlstudio.limits import Cancel, Halted, Limit, whole_number
from dlstudio.results import Finding, Result
from dlstudio.stats import holm

if TYPE_CHECKING:
    import pandas as pd
    from torch import nn

    from dlstudio.explain.concepts.directions import Products

__all__ = ["ConceptResult", "describe", "explain_concepts"]

Array = npt.NDArray[Any]

ALPHA = 0.05
N_CONTROLS = 200
N_DRAWS = 9_999
LEAST_REPEATS = 6
RECOGNISED = 0.6


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class ConceptResult(Result, schema=1):
    """How moving a layer towards each of K concepts moves one output of a model.

    Attributes:
        concepts: their names.
        scores: float64 (K, repeats), the share of rows whose output rises as the layer's activations move towards
            the concept, 0 to 1; a row that does not move counts half. Repeats share no examples.
        random_scores: float64 (controls,), the same for random examples against other random ones.
        chance: between which two shares the mean of as many repeats of random examples stays 95 times in 100.
        p_value: float64 (K,), two-sided: how often as many repeats of random examples are as far from one half.
        p_adjusted: the same, corrected for testing K concepts (Holm).
        accuracy: float64 (K,), how well the layer tells unseen examples of the concept from random ones; 0.5 is
            guessing.
        layer, target: name of the layer; the explained output in words.
        n_rows, n_examples: rows explained; examples of each kind that one repeat learned from.
        model: its class.
        findings: what follows; codes DLS420 to DLS422.
        settings: seed.
        wall_s: seconds it took.
    """

    concepts: tuple[str, ...]
    scores: Array
    random_scores: Array
    chance: tuple[float, float]
    p_value: Array
    p_adjusted: Array
    accuracy: Array
    layer: str
    target: str
    n_rows: int
    n_examples: int
    model: str = ""
    findings: tuple[Finding, ...] = ()
    settings: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    wall_s: float = 0.0

    @property
    def score(self) -> Array:
        """Mean score of every concept, float64 (K,)."""
        mean: Array = self.scores.mean(axis=1)
        return mean

    @property
    def used(self) -> npt.NDArray[np.bool_]:
        """Whether each concept moves the output more consistently than random examples do, bool (K,)."""
        used: npt.NDArray[np.bool_] = self.p_adjusted < ALPHA
        return used

    def frame(self) -> pd.DataFrame:
        """Return a row per concept.

        Columns are ``concept, score, standard_error, accuracy, p_value, p_adjusted, used``.
        """
        import pandas as pd

        return pd.DataFrame(
            {
                "concept": list(self.concepts),
                "score": self.score,
                "standard_error": self.scores.std(axis=1, ddof=1) / math.sqrt(self.scores.shape[1]),
                "accuracy": self.accuracy,
                "p_value": self.p_value,
                "p_adjusted": self.p_adjusted,
                "used": self.used,
            }
        )


def explain_concepts(
    model: nn.Module,
    inputs: Any,
    *,
    concepts: Mapping[str, Any],
    layer: str | nn.Module,
    target: Any = None,
    random: Any = None,
    n_random: int = 10,
    seed: int = 0,
    output: str | int | None = None,
    class_names: Sequence[str] = (),
    max_batch: int | None = None,
    max_seconds: float | None = None,
    progress: bool | Callable[[int, int], None] = True,
    cancel: Cancel | None = None,
) -> ConceptResult:
    """Test whether concepts, each given by examples, move an output of a model.

    A linear classifier tells the layer's activations of a concept's examples from those of random examples; its
    normal is the concept's direction. The score is the share of rows whose output rises in that direction. This is
    repeated `n_random` times with other examples. A concept counts as used when its mean score is farther from one
    half than that of random examples, at a level of 5 % over all concepts together. The model is left as found.

    What examples of a concept share, counts as the concept: show it on varied examples.

    Args:
        model: any module.
        inputs: (n, ...) rows whose output is explained, such as test rows of one class.
        concepts: name to examples (any number, ...) in the shape of `inputs`, at least ``2 * n_random`` of each.
        layer: a layer, or its name in ``model.named_modules()``; it is called once per forward pass.
        target: the output to explain: an index, a class name, one index a row; None for a single output.
        random: (any number, ...) examples that show nothing in particular; None to take `inputs`, which is right
            where these are mixed rows. At least ``2 * n_random``.
        n_random: repeats, 6 or more: with fewer not even a perfect concept is told from chance.
        seed: decides which examples go into which repeat.
        output: the field to explain, where the model returns a tuple or a dict.
        class_names: names of the outputs.
        max_batch, max_seconds, progress, cancel: as in `dlstudio.explain`; there is no partial result.

    Returns:
        Scores, p values and findings of every concept.

    Raises:
        DLStudioError: too few examples, an unknown layer, or one that the output does not depend on.

    Example:
        >>> result = dls.explain_concepts(
        ...     model, zebras, concepts={"striped": striped}, layer="features.4", target=3, random=other
        ... )
        >>> result.frame()[["concept", "score", "p_adjusted", "used"]]
    """
    from dlstudio.explain.concepts.directions import products_of
    from dlstudio.explain.layers import named_layer

    started = time.perf_counter()
    limit = Limit(max_seconds, cancel)
    found = named_layer(model, layer)
    n_random = whole_number("n_random", n_random, LEAST_REPEATS, "Try n_random=10.")
    seed = whole_number("seed", seed, 0, "Try seed=0.")
    if not isinstance(concepts, Mapping) or not concepts:
        got = "none" if isinstance(concepts, Mapping) else type(concepts).__name__
        raise DLStudioError("one concept or more, name to examples", got, "Pass concepts={'striped': examples}.")
    try:
        products = products_of(
            model, inputs, concepts, random, found,
            target=target, output=output, class_names=class_names, n_repeats=n_random,
            max_batch=max_batch, progress=progress, cancel=limit,
        )  # fmt: skip
        scores, random_scores, accuracy = _scores(products, n_random, seed, limit)
    except Halted as halt:
        raise DLStudioError("time for all rows and examples", str(halt), "Allow more max_seconds.") from halt
    p_value, chance = _compare(scores, random_scores, seed)
    result = ConceptResult(
        concepts=tuple(map(str, concepts)),
        scores=scores,
        random_scores=random_scores,
        chance=chance,
        p_value=p_value,
        p_adjusted=holm(p_value),
        accuracy=accuracy,
        layer=found[0],
        target=_target_words(products.target, products.n_outputs, class_names),
        n_rows=len(products.target),
        n_examples=products.n_examples,
        model=type(model).__name__,
        settings={"seed": seed},
        wall_s=time.perf_counter() - started,
    )
    return dataclasses.replace(result, findings=tuple(_findings(result)))


def _scores(products: Products, n_random: int, seed: int, limit: Limit) -> tuple[Array, Array, Array]:
    """Scores of concepts (K, repeats), of random examples (controls,), and how well concepts are told apart (K,)."""
    from dlstudio.explain.concepts.directions import learn, unseen_accuracy

    m = products.n_examples
    *own, common = products.places
    shuffle = np.random.default_rng(seed).permutation
    random_scores, _ = learn(products, np.stack([shuffle(common)[: 2 * m] for _ in range(N_CONTROLS)]))
    scores, accuracy = [], []
    for at, places in enumerate(own):
        limit.look()
        shuffle = np.random.default_rng([seed, at]).permutation
        halves = [shuffle(kind)[: n_random * m].reshape(n_random, m) for kind in (places, common)]
        shares, decisions = learn(products, np.concatenate(halves, axis=1))
        scores.append(shares)
        accuracy.append(unseen_accuracy(decisions, halves, (places, common)))
    return np.stack(scores), random_scores, np.array(accuracy)


def describe(result: ConceptResult) -> tuple[str, ...]:
    """Return the result in plain sentences, the summary first."""
    used = [name for name, yes in zip(result.concepts, result.used, strict=True) if yes]
    if not used:
        first = f"None of {len(result.concepts)} concepts is shown to move {result.target} at {result.layer}."
    else:
        verb = "moves" if len(used) == 1 else "move"
        first = f"{', '.join(used)} {verb} {result.target} at {result.layer}, beyond what random examples do."
    return (first, *(f"{finding.sentence} {finding.remedy}".strip() for finding in result.findings))


def _compare(scores: Array, random_scores: Array, seed: int) -> tuple[Array, tuple[float, float]]:
    """Compare mean scores (K,) with means of as many scores of random examples: p values, and where these lie."""
    # Either half of a control may be called the concept, which turns its score s into 1 - s.
    either = np.concatenate([random_scores, 1 - random_scores])
    draws = np.random.default_rng(seed).choice(either, size=(N_DRAWS, scores.shape[1])).mean(axis=1)
    distance = np.abs(scores.mean(axis=1) - 0.5)[:, None]
    as_far = (np.abs(draws - 0.5)[None] >= distance - 1e-9).sum(axis=1)
    half_width = float(np.quantile(np.abs(draws - 0.5), 1 - ALPHA))
    return (1 + as_far) / (1 + N_DRAWS), (0.5 - half_width, 0.5 + half_width)


def _target_words(chosen: list[int], n_outputs: int, class_names: Sequence[str]) -> str:
    if len(set(chosen)) > 1:
        return "the target of each row"
    if n_outputs == 1:
        return "the output"
    at = chosen[0]
    return f"the output for {class_names[at]!r}" if len(class_names) == n_outputs else f"output {at}"


def _findings(result: ConceptResult) -> list[Finding]:
    found = []
    low, high = result.chance
    for at, name in enumerate(result.concepts):
        score, p = float(result.score[at]), float(result.p_adjusted[at])
        evidence = {"score": score, "p_adjusted": p, "accuracy": float(result.accuracy[at])}
        verb, share = ("raises", score) if score >= 0.5 else ("lowers", 1 - score)
        effect = f"moving {result.layer} towards {name!r} {verb} {result.target} in {share:.0%} of the rows"
        against = f"random examples stay between {low:.0%} and {high:.0%}"
        if result.used[at]:
            words = f"{effect[:1].upper()}{effect[1:]}; {against} (p = {p:.2g})."
            found.append(Finding(code="DLS420", severity="info", sentence=words, evidence=evidence))
        else:
            words = f"{name!r} cannot be told from random examples: {effect}; {against} (p = {p:.2g})."
            remedy = f"Give more examples ({result.n_examples} of each kind went into a repeat), or try another layer."
            found.append(Finding(code="DLS421", severity="info", sentence=words, evidence=evidence, remedy=remedy))
        if result.accuracy[at] < RECOGNISED:
            words = (
                f"The layer {result.layer} hardly knows {name!r}: {result.accuracy[at]:.0%} of unseen examples are told"
                " from random ones, where guessing gives 50%."
            )
            remedy = "Give clearer or more examples, or try another layer; absence of an effect here means little."
            found.append(Finding(code="DLS422", severity="warning", sentence=words, evidence=evidence, remedy=remedy))
    return found
