"""Small random networks, each with a note of which methods it fools and how; the notes follow from how it was built.

The notes are the published rules of Captum's and SHAP's hooks applied to the recipe, not to the model: the code under
test, which looks at the model, has no part in them. `tests/explain/test_tracing.py` proves the notes on numbers.
"""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import nn

RESCALED = ("relu", "elu", "leaky_relu", "sigmoid", "tanh", "softplus")
"""Activations that DeepLift has a rule for; SHAP's has two more."""
RULES = {"deep_lift": RESCALED, "deep_lift_shap": RESCALED, "shap_deep": (*RESCALED, "gelu", "selu")}
MODULES = {
    "relu": nn.ReLU,
    "elu": nn.ELU,
    "leaky_relu": nn.LeakyReLU,
    "sigmoid": nn.Sigmoid,
    "tanh": nn.Tanh,
    "softplus": nn.Softplus,
    "gelu": nn.GELU,
    "selu": nn.SELU,
    "silu": nn.SiLU,
}
STYLES = ("registered", "functional", "in-line", "reused", "in-place")
METHODS = (*RULES, "lrp", "guided_grad_cam", "integrated_gradients", "saliency", "shapley", "feature_ablation")
CURABLE = {"functional", "in-line", "reused", "in-place", "shared", "adjacent", "overlapping", "linear"}
"""Kinds of problem that `repair` has to cure, where the activation itself has a rule."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recipe:
    """How a network is built: ``family`` is mlp, cnn, gru or attention; the rest varies what may fool a method."""

    family: str
    activation: str
    style: str
    branch: str = "none"  # "after": a skip over a layer; "before": a skip that leaves before the activation
    norm: str = "none"  # "batch" or "layer"
    pool: str = "average"  # "adjacent", "functional" or "overlapping" windows of maxima; cnn only
    flatten: bool = False  # by a module
    dropout: bool = False
    softmax: str = "none"  # "module" or "functional"
    rough: bool = False  # rounds on the way


@dataclasses.dataclass(frozen=True, kw_only=True)
class Case:
    """A network with inputs and baselines (5 rows), and the kinds of problem by method: an empty set is sound.

    ``planted`` is of the model as it is, ``left`` of what remains after its softmax is taken off and it is repaired.
    """

    name: str
    recipe: Recipe
    module: nn.Module
    inputs: torch.Tensor
    baselines: torch.Tensor
    planted: dict[str, frozenset[str]]
    left: dict[str, frozenset[str]]


class Network(nn.Module):
    """A network after a recipe; (n, 6), (n, 1, 8, 8) or (n, 5, 3) inputs, 3 outputs."""

    def __init__(self, recipe: Recipe) -> None:
        super().__init__()
        self.recipe = recipe
        kind = MODULES[recipe.activation]
        if recipe.style == "registered":
            self.first_act, self.second_act = kind(), kind()
        elif recipe.style == "in-place":
            self.first_act, self.second_act = kind(inplace=True), kind(inplace=True)
        elif recipe.style == "reused":
            self.act = kind()
        if recipe.family == "cnn":
            self.first, self.middle = nn.Conv2d(1, 4, 3, padding=1), nn.Conv2d(4, 8, 3, padding=1)
            self.norm = {"batch": nn.BatchNorm2d(4), "layer": nn.GroupNorm(1, 4)}.get(recipe.norm)
            pools = {"average": nn.AvgPool2d(2), "adjacent": nn.MaxPool2d(2), "overlapping": nn.MaxPool2d(3, 2, 1)}
            self.pool = pools.get(recipe.pool)
            self.mean = nn.AdaptiveAvgPool2d(2)
            self.last = nn.Linear(32, 3)
        else:
            self.middle, self.last = nn.Linear(8, 8), nn.Linear(8, 3)
            self.norm = {"batch": nn.BatchNorm1d(8), "layer": nn.LayerNorm(8)}.get(recipe.norm)
            self.first = nn.Linear(6 if recipe.family == "mlp" else 3, 8)
            if recipe.family == "gru":
                self.first = nn.GRU(3, 8, batch_first=True)
            elif recipe.family == "attention":
                self.key, self.value = nn.Linear(3, 8), nn.Linear(3, 8)
        if isinstance(self.norm, (nn.BatchNorm1d, nn.BatchNorm2d)):
            nn.init.uniform_(self.norm.running_mean, -0.5, 0.5)
            nn.init.uniform_(self.norm.running_var, 0.5, 1.5)
        self.flatten = nn.Flatten() if recipe.flatten else None
        self.dropout = nn.Dropout() if recipe.dropout else None
        self.softmax = nn.Softmax(dim=1) if recipe.softmax == "module" else None

    def activate(self, place: str, values: torch.Tensor) -> torch.Tensor:
        name, style = self.recipe.activation, self.recipe.style
        if style == "functional":
            return getattr(F, name)(values)
        if style == "in-line":
            return MODULES[name]()(values)
        return self.act(values) if style == "reused" else getattr(self, f"{place}_act")(values)

    def read(self, inputs: torch.Tensor) -> torch.Tensor:
        if self.recipe.family == "gru":
            return self.first(inputs)[0][:, -1]
        if self.recipe.family == "attention":
            weights = F.softmax(self.first(inputs) @ self.key(inputs).transpose(1, 2), dim=-1)
            return (weights @ self.value(inputs)).mean(dim=1)
        return self.first(inputs)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        recipe = self.recipe
        hidden = self.read(inputs)
        if self.norm is not None:
            hidden = self.norm(hidden)
        if recipe.branch == "before":
            hidden = self.activate("first", hidden) + self.middle(hidden)
        else:
            hidden = self.activate("first", hidden)
            if recipe.family == "cnn":
                hidden = F.max_pool2d(hidden, 2) if self.pool is None else self.pool(hidden)
            hidden = hidden + self.middle(hidden) if recipe.branch == "after" else self.middle(hidden)
        if self.dropout is not None:
            hidden = self.dropout(hidden)
        hidden = self.activate("second", hidden)
        if recipe.rough:
            hidden = hidden + (10 * hidden).round()
        if recipe.family == "cnn":
            hidden = self.mean(hidden)
            hidden = hidden.flatten(1) if self.flatten is None else self.flatten(hidden)
        outputs = self.last(hidden)
        if self.softmax is not None:
            return self.softmax(outputs)
        return F.softmax(outputs, dim=1) if recipe.softmax == "functional" else outputs


def planted(recipe: Recipe, method: str) -> frozenset[str]:
    """Which kinds of problem a recipe plants for a method."""
    kinds: set[str] = set()
    by_gradient = method not in {"shapley", "feature_ablation"}
    if recipe.rough and by_gradient:
        kinds.add("non-differentiable")
    if method in RULES:
        kinds |= _for_rescale(recipe, method)
    elif method == "lrp":
        kinds |= _for_relevance(recipe)
    elif method == "guided_grad_cam" and recipe.activation == "relu":
        if recipe.style in {"functional", "in-line"}:
            kinds.add(recipe.style)
        elif recipe.branch == "before":
            kinds.add("shared")
    return frozenset(kinds)


def _for_rescale(recipe: Recipe, method: str) -> set[str]:
    kinds: set[str] = set()
    captum = method != "shap_deep"
    hooked = recipe.activation in RULES[method]
    if not hooked or recipe.norm == "layer" or recipe.family == "gru":
        kinds.add("unsupported")
    if recipe.family == "attention":
        kinds |= {"interaction", "softmax"}
    if recipe.softmax != "none":
        kinds.add("softmax")
    if hooked and (recipe.style in {"functional", "in-line", "reused"} or (recipe.style == "in-place" and not captum)):
        kinds.add(recipe.style)
    seen = hooked and recipe.style in {"registered", "in-place"}
    if captum and seen and recipe.branch == "before":
        kinds.add("shared")
    if recipe.family == "cnn":
        if recipe.pool in {"functional", "overlapping"}:
            kinds.add(recipe.pool)
        elif recipe.pool == "adjacent" and captum and seen:
            kinds.add("adjacent")
    return kinds


def _for_relevance(recipe: Recipe) -> set[str]:
    kinds: set[str] = set()
    bare = recipe.activation == "relu" and recipe.style in {"functional", "in-line"}  # a mask drops no relevance
    if recipe.activation not in {"relu", "tanh"} or recipe.norm == "layer" or recipe.family == "gru":
        kinds.add("unsupported")
    elif not bare and recipe.style in {"functional", "in-line"}:
        kinds.add(recipe.style)
    if (recipe.norm == "batch" and recipe.family != "cnn") or recipe.flatten or recipe.softmax != "none":
        kinds.add("unsupported")
    if recipe.activation == "tanh" and recipe.dropout and recipe.style in {"registered", "reused"}:
        kinds.add("adjacent")
    if recipe.family == "attention":
        kinds.add("interaction")
    if recipe.branch != "none":
        kinds.add("linear")
    return kinds


def left(recipe: Recipe, method: str) -> frozenset[str]:
    """Which of them no repair can cure."""
    logits = dataclasses.replace(recipe, softmax="none", flatten=False)
    return frozenset(kind for kind in planted(logits, method) if kind not in CURABLE)


def recipes(n: int, seed: int = 0) -> Iterator[Recipe]:
    """Yield n different recipes, the plain ones of every activation and style first."""
    draw = random.Random(seed)
    seen: set[Recipe] = set()
    plain = [Recipe(family="mlp", activation=name, style=style) for name in MODULES for style in STYLES]
    while len(seen) < n:
        if plain:
            recipe = plain.pop(0)
        else:
            family = draw.choice(("mlp", "mlp", "cnn", "cnn", "cnn", "gru", "attention"))
            recipe = Recipe(
                family=family,
                activation=draw.choice(("relu", "relu", "tanh", *MODULES)),
                style=draw.choice(("registered",) * 4 + STYLES),
                branch=draw.choice(("none", "after", "before")) if family == "mlp" else "none",
                norm=draw.choice(("none", "none", "batch", "layer")) if family in {"mlp", "cnn"} else "none",
                pool=draw.choice(("average", "adjacent", "functional", "overlapping"))
                if family == "cnn"
                else "average",
                flatten=family == "cnn" and draw.random() < 0.3,
                dropout=draw.random() < 0.3,
                softmax=draw.choice(("none",) * 6 + ("module", "functional")),
                rough=draw.random() < 0.05,
            )
        in_place = recipe.activation in {"relu", "elu", "leaky_relu", "selu"} and recipe.branch != "before"
        if recipe in seen or (recipe.style == "in-place" and not in_place):
            continue
        seen.add(recipe)
        yield recipe


def generated(n: int = 120, seed: int = 0) -> list[Case]:
    """Build n networks in eval mode, float32, the same for the same seed."""
    cases = []
    for number, recipe in enumerate(recipes(n, seed)):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(1000 * seed + number)
            module = Network(recipe).eval()
            shape = {"mlp": (6,), "cnn": (1, 8, 8)}.get(recipe.family, (5, 3))
            inputs, baselines = 2 * torch.randn(5, *shape), torch.randn(5, *shape)
        words = [str(value) for value in dataclasses.astuple(recipe) if value not in {"none", "average", False}]
        cases.append(
            Case(
                name=f"{number:03d}-" + "-".join(words),
                recipe=recipe,
                module=module,
                inputs=inputs,
                baselines=baselines,
                planted={method: planted(recipe, method) for method in METHODS},
                left={method: left(recipe, method) for method in METHODS},
            )
        )
    return cases
